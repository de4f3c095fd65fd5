"""Requests to an endpoint: how many a minute, when again, how long in all, and what may be shown of a failure."""

from __future__ import annotations

import json
import math
import threading
import urllib.request
from collections import deque
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

import httpx2
import numpy as np
import openai

from ...core.errors import WorkbenchError
from ...core.seeds import numpy_rng
from .address import TAIL
from .base import EndpointFailed, EndpointRefused
from .rubric import MalformedReply
from .secret import Secret
from .transport import MOST, Connections

if tuple(map(int, openai.__version__.split(".")[:2])) < (3, 57):
    raise ImportError("earlier versions take no client of httpx2, or write the texts into their log")
MINUTE = 60.0
_AGAIN = "Run it again: what is in the cache is not sent again"


class Stopped(WorkbenchError):
    """Another request of the same run failed for good, or the run was interrupted."""


class Ended(openai.OpenAIError):
    """Carries an error of ours through the client, which tries again after any other but its own."""

    def __init__(self, error: WorkbenchError) -> None:
        super().__init__()
        self.error = error


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


@dataclass
class _Asking:
    """What a thread is sending."""

    rng: np.random.Generator
    _: KW_ONLY
    tries: int = 0
    until: float = math.inf
    trouble: str = ""


class _Client(openai.OpenAI):
    """The client, with our pauses between its tries: they end with the run, and they can be replaced in a test."""

    def __init__(self, pause: Callable[[int, httpx2.Response | None], None], **how: Any) -> None:
        super().__init__(**how)
        self._pause = pause

    def _sleep_for_retry(self, *, retries_taken: int, response: httpx2.Response | None, **_: Any) -> None:
        self._pause(retries_taken, response)

    def asked(self, response: httpx2.Response | None) -> float:
        """The pause that a server asks for, in seconds; 0 for none that can be read."""
        seconds = None if response is None else self._parse_retry_after_header(response.headers)
        return seconds if seconds is not None and 0 < seconds < math.inf else 0.0


@dataclass(kw_only=True, eq=False)
class Sender(httpx2.BaseTransport):
    """Sends requests of one run, from several threads.

    The client of `openai` decides what is tried again. Each of its tries passes `handle_request`, which alone knows the key, and
    which sends to one address with headers of its own: neither the environment nor a redirection changes where the key or the
    texts go, and the client's errors and logs hold no key.

    Attributes:
        url: Where to.
        secret: The key.
        limit: When to send.
        stop: Set when the run ends early: nothing is sent any more.
        sleep: Waits so many seconds.
        retries: Further tries after the first.
        backoff: Seconds before the second try; doubled each time, times a factor between 0.5 and 1.
        longest_pause: Seconds; no pause of ours is longer, and a server that asks for a longer one is not waited for.
        timeout: Seconds that a try may take.
        deadline: Seconds that all tries of a request and the pauses between them may take.
        seed: Draws the factors.
        connections: Requests at once.
        proxy: Address of a proxy.
        sent: Tries so far.
    """

    url: str
    secret: Secret
    limit: RateLimit
    stop: threading.Event
    sleep: Callable[[float], object]
    retries: int
    backoff: float
    longest_pause: float
    timeout: float
    deadline: float
    seed: int
    connections: int
    proxy: str | None = field(default=None, repr=False)
    sent: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _thread: threading.local = field(default_factory=threading.local, repr=False)

    def __post_init__(self) -> None:
        self._line = Connections(self.connections, self.proxy)
        self._client = _Client(
            self._pause,
            api_key="none",  # it must have one
            base_url=self.url.removesuffix(TAIL),
            max_retries=self.retries,
            http_client=httpx2.Client(transport=self, trust_env=False),
        )

    def close(self) -> None:
        """Close the connections."""
        self._line.close()

    def send(self, body: dict[str, Any], what: str) -> str:
        """Send one request until it is answered, and return the response's text, which may hold the key.

        Args:
            body: What to post, as JSON.
            what: Names the request, so that its pauses are its own.

        Raises:
            EndpointRefused: The answer is a status that asking again would not change.
            EndpointFailed: No good answer after all tries, or in time.
            MalformedReply: The response is too large.
            Stopped: The run has ended.
        """
        self._thread.asking = _Asking(numpy_rng(self.seed, "retry", what))
        try:
            response = self._client.post(TAIL, cast_to=httpx2.Response, body=body)
        except openai.OpenAIError as error:
            failure = error.error if isinstance(error, Ended) else self._failure(error)
        else:
            return response.content.decode("utf-8-sig", "replace")
        if not isinstance(failure, MalformedReply):
            self.stop.set()
        raise failure  # here, and not where the client's error would become its context

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send one try of the client's, in its turn; of a response that is no success the client gets the status and the pause."""
        asking: _Asking = self._thread.asking
        self.limit.wait()
        if self.stop.is_set():
            raise Ended(Stopped("the run has ended"))
        now = self.limit.clock()
        if not asking.tries:
            asking.until = now + self.deadline
        if now >= asking.until:
            raise Ended(self._late(asking))
        asking.tries += 1
        with self._lock:
            self.sent += 1
        headers = {"Content-Type": "application/json", "Accept": "application/json", "Accept-Encoding": "identity"}
        if self.secret.key:
            headers["Authorization"] = f"Bearer {self.secret.key}"
        own = httpx2.Request("POST", self.url, headers=headers, content=request.read())
        try:
            status, got, body, whole = self._line.fetch(own, min(self.timeout, asking.until - now))
        except httpx2.RequestError as error:
            asking.trouble = f"{type(error).__name__}: {self.secret.shown(str(error))}"
            failure = type(error)(asking.trouble)
        else:
            if 200 <= status < 300:
                if not whole:
                    raise Ended(MalformedReply(f"a response of more than {MOST >> 20} MiB"))
                return httpx2.Response(status, content=body)
            asking.trouble = f"status {status}: {self.secret.shown(_message(body.decode(errors='replace')))}"
            return httpx2.Response(status, headers={k: v for k, v in got.items() if k in ("retry-after", "retry-after-ms")})
        raise failure

    def _pause(self, retry: int, response: httpx2.Response | None) -> None:
        asking: _Asking = self._thread.asking
        asked = self._client.asked(response)
        if asked > self.longest_pause:
            raise Ended(self._long(asked, asking))
        pause = max(asked, min(self.longest_pause, self.backoff * 2 ** min(retry, 60)) * asking.rng.uniform(0.5, 1.0))
        if self.limit.clock() + pause >= asking.until:
            raise Ended(self._late(asking))
        if response is not None and response.status_code == 429:
            self.limit.hold(pause)  # the other threads would be turned away as well
        else:
            self.sleep(pause)

    def _failure(self, error: openai.OpenAIError) -> WorkbenchError:
        """What the client gave up on, in our words."""
        asking: _Asking = self._thread.asking
        if isinstance(error, openai.APIStatusError):
            code, asked = error.status_code, self._client.asked(error.response)
            if asked > self.longest_pause:
                return self._long(asked, asking)
            if code < 500 and code not in (408, 409, 429):
                return EndpointRefused(f"{self.url} refused the request with {asking.trouble}. {_advice(code)}")
        hint = ""
        if isinstance(error, openai.APIConnectionError) and not self.proxy and urllib.request.getproxies():
            hint = "The proxy that the environment names is not used: name its variable with proxy_variable=. "
        return EndpointFailed(f"{self.url} gave no answer in {asking.tries} tries; the last: {asking.trouble}. {hint}{_AGAIN}")

    def _long(self, asked: float, asking: _Asking) -> EndpointFailed:
        return EndpointFailed(
            f"{self.url} asks for a pause of {asked:.0f} s, longer than the {self.longest_pause:g} s of longest_pause "
            f"({asking.trouble}). Come back later: what is in the cache is not sent again"
        )

    def _late(self, asking: _Asking) -> EndpointFailed:
        return EndpointFailed(
            f"{self.url} gave no answer within the {self.deadline:g} s of deadline, in {asking.tries} tries; the last: "
            f"{asking.trouble}. {_AGAIN}"
        )


def _message(body: str) -> str:
    """The server's own words."""
    try:
        data = json.loads(body)
        error = data.get("error", data)
        return str(error.get("message", error) if isinstance(error, dict) else error)
    except (ValueError, AttributeError, RecursionError):
        return body


def _advice(code: int) -> str:
    if code in (401, 403):
        return "Check the key in the environment and what it may use"
    if code == 404:
        return "Check the address and the name of the model"
    if 300 <= code < 400:
        return "It points elsewhere, and the key is not sent after it; give the final address"
    return "Check the request: model, max_tokens, extra"
