"""A page in a real browser, driven over the DevTools protocol: what it asks for, what it complains of, what it shows, keys and clicks.

One headless Chromium per test process (starting one takes a second), one tab per page.
"""

from __future__ import annotations

import atexit
import base64
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from choreographer.browsers import Chromium
from choreographer.channels import Pipe

from workbench.figures import browser

PATIENCE = 30.0
KEYS = {"Enter": ("Enter", 13, "\r"), "Space": (" ", 32, " "), "Tab": ("Tab", 9, ""), "Escape": ("Escape", 27, "")}


class Browser:
    """The program and the pipe to it."""

    def __init__(self, path: str) -> None:
        self._pipe = Pipe()
        self._program = Chromium(self._pipe, path, enable_sandbox=False)
        self._program.pre_open()
        self._process = subprocess.Popen(
            self._program.get_cli(), stderr=subprocess.DEVNULL, env=self._program.get_env(), **self._program.get_popen_args()
        )
        self._pipe.open()
        self._last = 0
        self.events: list[dict[str, Any]] = []

    def _read(self, end: float, waiting_for: str) -> list[dict[str, Any]]:
        messages, _ = self._pipe.read_jsons(blocking=False)
        if not messages:
            if time.monotonic() > end:
                raise TimeoutError(f"the browser did not answer {waiting_for} in {PATIENCE:g} s")
            time.sleep(0.003)
        self.events += [m for m in messages if "method" in m]
        return [m for m in messages if "id" in m]

    def send(self, method: str, session: str = "", **params: Any) -> dict[str, Any]:
        """Send a command and return its result."""
        self._last += 1
        message: dict[str, Any] = {"id": self._last, "method": method, "params": params}
        self._pipe.write_json({**message, "sessionId": session} if session else message)
        end = time.monotonic() + PATIENCE
        while True:
            for answer in self._read(end, method):
                if answer["id"] == self._last:
                    assert "error" not in answer, f"{method}: {answer.get('error')}"
                    return answer["result"]

    def wait(self, method: str, session: str) -> None:
        """Wait for an event of a session."""
        end = time.monotonic() + PATIENCE
        while not any(e["method"] == method and e.get("sessionId") == session for e in self.events):
            self._read(end, method)

    def close(self) -> None:
        """End the program."""
        try:
            self.send("Browser.close")
        except Exception:  # it may be gone already
            self._process.kill()
        self._process.wait(10)
        self._pipe.close()
        self._program.clean()


@cache
def _running(path: str) -> Browser:
    out = Browser(path)
    atexit.register(out.close)
    return out


class Page:
    """A tab."""

    def __init__(self, program: Browser, session: str) -> None:
        self._browser, self._session = program, session

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command to this tab."""
        return self._browser.send(method, self._session, **params)

    def _events(self, method: str) -> list[dict[str, Any]]:
        return [e["params"] for e in self._browser.events if e["method"] == method and e.get("sessionId") == self._session]

    @property
    def requests(self) -> list[str]:
        """Addresses asked for, in order, without those that are data themselves or that the page's policy held back (those are errors)."""
        held = {e["requestId"] for e in self._events("Network.loadingFailed") if e.get("blockedReason") == "csp"}
        urls = [e["request"]["url"] for e in self._events("Network.requestWillBeSent") if e["requestId"] not in held]
        return [u for u in urls if not u.startswith(("data:", "blob:"))]

    @property
    def errors(self) -> list[str]:
        """Uncaught exceptions, errors on the console and what the browser itself reports (refused requests, refused scripts)."""
        thrown = [str(e["exceptionDetails"].get("exception", e["exceptionDetails"])) for e in self._events("Runtime.exceptionThrown")]
        said = [str(e["args"]) for e in self._events("Runtime.consoleAPICalled") if e["type"] in ("error", "assert")]
        return thrown + said + [e["entry"]["text"] for e in self._events("Log.entryAdded") if e["entry"]["level"] == "error"]

    def evaluate(self, script: str) -> Any:
        """Return the value of an expression; a promise is awaited."""
        out = self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in out, out["exceptionDetails"]
        return out["result"].get("value")

    def press(self, key: str) -> None:
        """Press a key: "Enter", "Space", "Tab", "Escape"."""
        name, code, text = KEYS[key]
        common = {"key": name, "code": key, "windowsVirtualKeyCode": code}
        self.send("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", text=text, **common)
        self.send("Input.dispatchKeyEvent", type="keyUp", **common)
        self.settle()

    def write(self, text: str) -> None:
        """Type a text where the keyboard is."""
        self.send("Input.insertText", text=text)
        self.settle()

    def click(self, css: str) -> None:
        """Click in the middle of the first element of a selector."""
        x, y = self.evaluate(
            f"(() => {{ const e = document.querySelector({css!r}); e.scrollIntoView({{block: 'center', behavior: 'instant'}});"
            " const r = e.getClientRects()[0]; return [r.x + r.width / 2, r.y + r.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)
        self.settle()

    def settle(self) -> None:
        """Let timers and one repaint pass."""
        self.evaluate("new Promise((done) => setTimeout(() => requestAnimationFrame(() => setTimeout(done)), 20))")

    def resize(self, width: int, height: int = 900) -> None:
        """Give the window another width."""
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.settle()

    def media(self, kind: str = "", **features: str) -> None:
        """Pretend to be a medium ("print") or a preference (prefers_color_scheme="dark")."""
        wanted = [{"name": k.replace("_", "-"), "value": v} for k, v in features.items()]
        self.send("Emulation.setEmulatedMedia", media=kind, features=wanted)
        self.settle()

    def screenshot(self, file: str | Path, *, full: bool = False) -> None:
        """Write what is seen, or the whole page, as png."""
        out = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=full)
        Path(file).write_bytes(base64.b64decode(out["data"]))

    def pdf(self, file: str | Path) -> None:
        """Print to a pdf."""
        out = self.send("Page.printToPDF", preferCSSPageSize=True, printBackground=True)
        Path(file).write_bytes(base64.b64decode(out["data"]))


@contextmanager
def page(path: str | Path, *, width: int = 1280, height: int = 900, bypass_policy: bool = False, anchor: str = "") -> Iterator[Page]:
    """Open a file in a tab of its own.

    Args:
        path: The html file.
        width, height: Of the window.
        bypass_policy: Run scripts that the page's content security policy forbids: shows whether escaping holds without it.
        anchor: Where to go in the page.
    """
    found = browser()
    assert found is not None, "skip before this where no browser is found"
    program = _running(found)
    target = program.send("Target.createTarget", url="about:blank")["targetId"]
    session = program.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
    tab = Page(program, session)
    for domain in ("Page", "Runtime", "Log", "Network"):
        tab.send(f"{domain}.enable")
    tab.send("Page.setBypassCSP", enabled=bypass_policy)
    tab.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
    tab.send("Emulation.setEmulatedMedia", media="", features=[{"name": "prefers-reduced-motion", "value": "reduce"}])
    tab.send("Page.navigate", url=Path(path).resolve().as_uri() + (f"#{anchor}" if anchor else ""))
    program.wait("Page.loadEventFired", session)
    tab.settle()
    try:
        yield tab
    finally:
        program.send("Target.closeTarget", targetId=target)
        program.events = [e for e in program.events if e.get("sessionId") != session]
