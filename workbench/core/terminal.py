"""What is written to a terminal: no text of a model, a file or a stranger steers it, and nothing that it cannot take ends a run."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from .show import visible

# how a progress bar begins its line and goes back to it
_BAR = re.compile(r"(?:[\r\n ]|\x1b\[A)*")


class Screen:
    """A stream of text that stands for another one.

    What cannot be seen but acts (terminal escapes, other control characters, overrides of writing direction) is written out; characters
    that the encoding lacks are written as escapes; where nobody reads any longer, nothing is written.

    Args:
        stream: The stream; `None` for one that was closed before Python began.
        bars: Whether progress bars may move the cursor.

    Attributes:
        failed: Why a text was lost, unless nobody wanted it: a full disk.
    """

    def __init__(self, stream: Any, *, bars: bool = False) -> None:
        self._stream = stream
        self._bars = bars
        self._lost = stream is None
        self.failed: OSError | None = None

    def write(self, text: str) -> int:
        """Write a text; returns its length."""
        head = _BAR.match(text)[0] if self._bars else ""  # type: ignore[index]
        self._try(lambda: self._stream.write(head + _within(visible(text[len(head) :]), self.encoding)))
        return len(text)

    def flush(self) -> None:
        """Pass on what waits to be written."""
        self._try(lambda: self._stream.flush())

    def _try(self, do: Callable[[], Any]) -> None:
        if self._lost:
            return
        try:
            do()
        except (OSError, ValueError) as error:  # a pipe that nobody reads, a closed stream, a full disk
            self._lost = True
            self.failed = None if isinstance(error, BrokenPipeError) or not isinstance(error, OSError) else error
            with suppress(OSError, ValueError, AttributeError):  # what still waits in it must not fail when Python ends
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, self._stream.fileno())
                os.close(nowhere)

    @property
    def encoding(self) -> str:
        """How the stream encodes texts."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    def isatty(self) -> bool:
        """Whether a person looks on."""
        with suppress(ValueError, AttributeError):
            return not self._lost and self._stream.isatty()
        return False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _within(text: str, encoding: str) -> str:
    with suppress(LookupError):
        return text.encode(encoding, "backslashreplace").decode(encoding)
    return text


@contextmanager
def screens() -> Iterator[Screen]:
    """Put a `Screen` in the place of standard output and of standard error, for everything that is printed meanwhile.

    Yields:
        That of standard output.
    """
    before = sys.stdout, sys.stderr
    sys.stdout = out = Screen(sys.stdout)
    sys.stderr = Screen(sys.stderr, bars=True)
    try:
        yield out
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stdout, sys.stderr = before


def heard(say: Callable[[str], None] | None) -> Callable[[str], None]:
    """Return a function that passes lines on to another one, whatever becomes of its output.

    Args:
        say: Receives lines; often `print`. `None` for nobody.

    Returns:
        The function. It writes out what cannot be seen but acts. A line that cannot be encoded is passed on in ASCII, one that cannot be
        written is lost; other errors of `say` are its own.
    """

    def passed_on(line: str) -> None:
        if say is None:
            return
        text = visible(line)
        try:
            try:
                say(text)
            except UnicodeEncodeError:
                say(_within(text, "ascii"))
        except BrokenPipeError:
            pass
        except ValueError as error:
            if "closed file" not in str(error):
                raise

    return passed_on
