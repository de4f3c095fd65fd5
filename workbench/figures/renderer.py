"""Still pictures of figures, drawn by a browser that reaches no network and is ended when it does not answer.

kaleido drives the browser. What it lacks is added here: no network (flags, a content security policy, no MathJax from a server), a limit of
time for each thing that is waited for, and an end of the browser with all its processes whatever happens.
"""

from __future__ import annotations

import asyncio
import logging
import os
import queue
import secrets
import signal
import threading
from collections.abc import Callable, Coroutine, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import kaleido
from choreographer.browsers import Chromium

from .page import policy

START = 40.0  # seconds until a browser must have started; it takes two, on a busy machine ten
END = 5.0  # seconds until it must have closed
_NO_NETWORK = (
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--proxy-server=http://no-network.invalid:9",
    "--proxy-bypass-list=<-loopback>",
    "--disable-background-networking",
)


class Ended(Exception):
    """The browser did not start, did not answer in time, or ended by itself."""


@dataclass(frozen=True, kw_only=True)
class Still:
    """A picture to be drawn.

    Attributes:
        path: Its file.
        figure: Data and layout.
        kind: "png", "svg" or "pdf".
        scale: Pixels per point.
    """

    path: Path
    figure: dict[str, Any]
    kind: str
    scale: float


class _Offline(Chromium):
    """A browser without a network."""

    def get_cli(self) -> Sequence[str]:
        """Return the command line."""
        return [*super().get_cli(), *_NO_NETWORK]


class _Page(kaleido.PageGenerator):
    """The page that kaleido draws in: its own scripts run, and nothing is fetched."""

    def __init__(self) -> None:
        super().__init__(mathjax=False)

    def generate_index(self) -> str:
        """Return the page."""
        key = secrets.token_hex(16)
        allowed = policy(f"'nonce-{key}'", images="data: blob:")
        page = super().generate_index().replace("<script ", f'<script nonce="{key}" ')
        return page.replace("<head>", f'<head><meta http-equiv="Content-Security-Policy" content="{allowed}">', 1)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what kaleido says of a dead browser for itself: it is raised."""
    loggers = [logging.getLogger(name) for name in ("choreographer", "kaleido")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def draw(stills: Sequence[Still], path: str, seconds: float) -> Generator[tuple[Still, bytes], None, None]:
    """Draw pictures one after the other.

    Args:
        stills: What to draw.
        path: The browser.
        seconds: How long one picture may take.

    Yields:
        Each still with its bytes, as soon as it is drawn.

    Raises:
        Ended: A picture could not be drawn, and those after it neither. No process of the browser is left.
    """
    answers: queue.Queue[tuple[Still, bytes] | BaseException | None] = queue.Queue()
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda *_: None)  # tasks that a dead browser leaves behind
    main = loop.create_task(_drawn(stills, path, seconds, answers.put))

    def run() -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_until_complete(main)
            answers.put(None)
        except BaseException as error:  # handed to the thread that waits
            answers.put(error)
        finally:
            loop.close()

    # a thread, because a notebook's own thread has a loop that runs already
    thread = threading.Thread(target=run, name="figures", daemon=True)
    with _quiet():
        thread.start()
        try:
            while (answer := answers.get()) is not None:
                if isinstance(answer, BaseException):
                    raise answer
                yield answer
        finally:  # Ctrl-C and a full disk, too: the browser is ended first
            if thread.is_alive():
                with suppress(RuntimeError):  # the loop has ended in between
                    loop.call_soon_threadsafe(main.cancel)
                thread.join(4 * END)


async def _drawn(stills: Sequence[Still], path: str, seconds: float, give: Callable[[tuple[Still, bytes]], None]) -> None:
    doing, limit, good, program = "start", START, False, None
    try:
        program = kaleido.Kaleido(path=path, browser_cls=_Offline, page_generator=_Page(), timeout=None, enable_sandbox=False)
        await _within(program.open(), START)
        for still in stills:
            doing, limit = f"draw {still.path.name}", seconds
            picture = program.calc_fig(still.figure, opts=cast(Any, {"format": still.kind, "scale": still.scale}))
            give((still, await _within(picture, seconds)))
        good = True
    except TimeoutError:
        raise Ended(f"the browser {path} did not {doing} in {limit:g} s and was ended") from None
    except Exception as error:
        why = " ".join(" ".join(map(str, error.args)).split())[:120]
        raise Ended(f"the browser {path} did not {doing}: {type(error).__name__}: {why}") from error
    finally:
        if program is not None:
            await _end(program, good)


async def _within(work: Coroutine[Any, Any, Any], seconds: float) -> Any:
    """Wait for something; unlike `asyncio.wait_for` do not wait until it has noticed that nobody waits any more."""
    task = asyncio.ensure_future(work)
    done, _ = await asyncio.wait({task}, timeout=seconds)
    if not done:
        raise TimeoutError
    return task.result()


async def _end(program: kaleido.Kaleido, good: bool) -> None:
    """Close the browser; if it does not close, or something went wrong before, end it with all its processes."""
    closing = asyncio.ensure_future(program.close())
    done, _ = await asyncio.wait({closing}, timeout=END if good else END / 5)
    if not (done and good):
        _kill(program)
        await asyncio.wait({closing}, timeout=END / 5)
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    for task in rest:
        task.cancel()
    if rest:
        await asyncio.wait(rest, timeout=END / 5)
    program._browser_impl.clean()


def _kill(program: kaleido.Kaleido) -> None:
    started = getattr(program, "subprocess", None)
    with suppress(OSError):  # it has ended
        if started is not None and hasattr(os, "killpg"):
            os.killpg(started.pid, signal.SIGKILL)  # it leads a group of its own
        elif started is not None:
            started.kill()
