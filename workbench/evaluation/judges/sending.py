"""Requests to an endpoint: how many a minute, when again, and what may be shown of a failure."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from ...core.provenance import redact
from ...core.seeds import numpy_rng
from .base import EndpointFailed, EndpointRefused, WorkbenchError

MINUTE = 60.0


class Stopped(WorkbenchError):
    """Another request of the same run failed for good, or the run was interrupted."""


class RateLimit:
    """Lets at most so many requests begin in any minute, and none during a pause that a server asked for.

    Args:
        per_minute: Requests; `None` for no limit.
        sleep: Waits so many seconds.
        clock: Seconds, never running back.
    """

    def __init__(self, per_minute: int | None, sleep: Callable[[float], object], clock: Callable[[], float]) -> None:
        self.sleep, self.clock = sleep, clock
        self._begun: deque[float] | None = None if per_minute is None else deque(maxlen=per_minute)
        self._free = -math.inf
        self._lock = threading.Lock()

    def wait(self) -> None:
        """Return when a request may begin."""
        with self._lock:
            now = self.clock()
            start = max(now, self._free)
            if self._begun is not None:
                if len(self._begun) == self._begun.maxlen:
                    start = max(start, self._begun[0] + MINUTE)
                self._begun.append(start)
        if start > now:
            self.sleep(start - now)

    def hold(self, seconds: float) -> None:
        """Let no request begin for so long."""
        with self._lock:
            self._free = max(self._free, self.clock() + seconds)


@dataclass(frozen=True, kw_only=True)
class Patience:
    """When to try again.

    Attributes:
        retries: Further tries after the first.
        backoff: Seconds before the second try; doubled each time, times a factor between 0.5 and 1.
        longest: Seconds; no pause of ours is longer, and a server that asks for a longer one is not waited for.
        seed: Draws the factors.
    """

    retries: int
    backoff: float
    longest: float
    seed: int


@dataclass(kw_only=True, eq=False)
class Sender:
    """Sends requests of one run, from several threads.

    Attributes:
        client: Carries the key in its headers.
        url: Where to.
        secret: The key, to be kept out of whatever is shown.
        limit, patience: When to send.
        stop: Set when the run ends early: nothing is sent any more.
        sleep: Waits so many seconds.
        sent: Requests so far.
    """

    client: httpx.Client = field(repr=False)
    url: str
    secret: str = field(repr=False)
    limit: RateLimit
    patience: Patience
    stop: threading.Event
    sleep: Callable[[float], object]
    sent: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def send(self, body: dict[str, Any], what: str) -> str:
        """Send one request until it is answered, and return the response's text.

        Args:
            body: What to post, as JSON.
            what: Names the request, so that its pauses are its own.

        Raises:
            EndpointRefused: The answer is a status that asking again would not change.
            EndpointFailed: No good answer after all tries.
            Stopped: The run has ended.
        """
        rng = numpy_rng(self.patience.seed, "retry", what)
        trouble = ""
        for attempt in range(self.patience.retries + 1):
            self.limit.wait()
            if self.stop.is_set():
                raise Stopped("the run has ended")
            with self._lock:
                self.sent += 1
            asked: float | None = None
            busy = False
            try:
                response = self.client.post(self.url, json=body)
            except httpx.RequestError as error:
                trouble = f"{type(error).__name__}: {self.shown(str(error))}"
            else:
                if response.is_success:
                    return response.text
                code = response.status_code
                trouble = f"status {code}: {self.shown(_message(response))}"
                if code != 429 and code < 500:
                    self.stop.set()
                    raise EndpointRefused(f"{self.url} refused the request with {trouble}. {_advice(code)}")
                busy, asked = code == 429, retry_after(response.headers.get("retry-after", ""))
            if attempt == self.patience.retries:
                break
            pause = min(self.patience.longest, self.patience.backoff * 2**attempt) * rng.uniform(0.5, 1.0)
            if asked is not None and asked > self.patience.longest:
                self.stop.set()
                raise EndpointFailed(
                    f"{self.url} asks for a pause of {asked:.0f} s, longer than the {self.patience.longest:g} s of longest_pause "
                    f"({trouble}). Come back later: what is in the cache is not sent again"
                )
            pause = max(pause, asked or 0.0)
            if busy:
                self.limit.hold(pause)  # the other threads would be turned away as well
            else:
                self.sleep(pause)
        self.stop.set()
        raise EndpointFailed(
            f"{self.url} gave no answer in {self.patience.retries + 1} tries; the last: {trouble}. Run it again: what is in the "
            "cache is not sent again"
        )

    def shown(self, text: str) -> str:
        """Return a text of the server's as it may be shown: one short line without the key."""
        clean = text.replace(self.secret, "[redacted]") if self.secret else text
        return " ".join(str(redact(clean)).split())[:300]


def retry_after(header: str, now: datetime | None = None) -> float | None:
    """Return the seconds that a Retry-After header asks for, as a number or a date; `None` for none that can be read."""
    try:
        seconds = float(header)
    except ValueError:
        try:
            date = parsedate_to_datetime(header)
        except (TypeError, ValueError):
            return None
        aware = date if date.tzinfo else date.replace(tzinfo=UTC)
        seconds = (aware - (now or datetime.now(UTC))).total_seconds()
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _message(response: httpx.Response) -> str:
    """The server's own words."""
    try:
        data = response.json()
        error = data.get("error", data)
        return str(error.get("message", error) if isinstance(error, dict) else error)
    except (ValueError, AttributeError, RecursionError):
        return response.text


def _advice(code: int) -> str:
    if code in (401, 403):
        return "Check the key in the environment and what it may use"
    if code == 404:
        return "Check the address and the name of the model"
    if 300 <= code < 400:
        return "It points elsewhere, and the key is not sent after it; give the final address"
    return "Check the request: model, max_tokens, extra"
