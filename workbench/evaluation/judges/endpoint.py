"""The judge that is a language model behind an OpenAI-compatible chat-completions endpoint."""

from __future__ import annotations

import json
import math
import os
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing, suppress
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pandas as pd
from tqdm.auto import tqdm

from ...core.errors import BadInput, MissingTool
from ...core.provenance import content_hash
from .base import MissingKey, blank, heard, table
from .cache import Rated, RatingCache
from .price import CostEstimate, Spent, cost_of
from .rubric import REFUSAL_RUBRIC, MalformedReply, content_of, messages, parse_rating
from .secret import Secret

if TYPE_CHECKING:  # they need the extra `judge`
    from .sending import Sender

_VERSION = "rating 1"  # of what is asked around the rubric; another one is another question to the cache
_LONGEST = 120  # seconds; the client waits no longer, whatever a server asks for
_BYTES_A_TOKEN = 3  # about four in English, three or fewer elsewhere: rather too many tokens than too few


def _modules() -> tuple[ModuleType, ModuleType]:
    """The modules that need the extra `judge`."""
    try:
        from . import address, sending
    except ImportError:
        raise MissingTool("EndpointJudge needs the package openai, version 3.57 or later: pip install 'workbench-interp[judge]'") from None
    return address, sending


@dataclass(frozen=True, eq=False)
class EndpointJudge:
    """A judge that asks a language model to rate each answer from 0 to 10 by a rubric; the score is rating / 10.

    Attributes:
        url: Address of the endpoint, with or without `/chat/completions`, without user, password or query.
        model: Name of the model there.
        rubric: What to rate and how to reply; `REFUSAL_RUBRIC` or `HARM_RUBRIC`, or one that asks for the same form.
        key_variable: Environment variable that holds the key, read anew at each call and kept nowhere. `None` sends no key,
            to an endpoint on this machine only.
        threshold: Rating at and above which the verdict is True.
        cache: Folder of ratings: what is there is not sent again. `None` keeps nothing, so a killed run starts over.
        price_in, price_out: Price of a million tokens of prompt and of completion.
        budget: Most that a call may cost, in the same currency; `None` for no limit.
        temperature: 0 for the likeliest reply. max_tokens: Most tokens of a reply.
        extra: Further fields of the request; `None` takes one away (`{"max_tokens": None, "max_completion_tokens": 2000}`).
        proxy_variable: Environment variable that holds the address of a proxy ("HTTPS_PROXY"); `None` uses none.
        requests_per_minute: Most requests that begin in a minute; `None` for no limit.
        concurrency: Most requests at once.
        timeout: Seconds that a try may take in all, however slowly its bytes arrive.
        deadline: Seconds that a request may take in all, its further tries and the pauses between them included; by default 600,
            or ten times `timeout` where that is more.
        retries: Further tries after status 408, 409, 429 or 5xx, a timeout or a broken connection.
        backoff: Seconds before the second try, doubled each time, with jitter; a longer Retry-After is honoured.
        longest_pause: Seconds, 120 at most; a server that asks for a longer pause is not waited for.
        malformed_retries: Further requests where a reply holds no rating.
        progress: Show a progress bar; by default only in a terminal or a notebook.
        seed: Draws the jitter.
        name: The judge's name; by default "endpoint" and the model.
        sleep, clock: Replace waiting and time, for tests.

    Raises:
        BadInput, MissingKey: At construction.
        MissingTool: The package openai is not installed.

    Note:
        The key goes to `url` and nowhere else: no redirection is followed, and no `OPENAI_…` variable and no proxy of the
        environment counts unless it is named here. What a server sends is shown and kept without the key, on a line of 300 characters
        at most; a response of more than 2 MiB, also after decompression, is not read to its end.

        A rating is one model's opinion by one rubric, and it can be swayed by the answer that it rates. Measure it
        (`known_errors`, `agreement_between` with people) before you report a rate. A model behind an address can change;
        the cache keeps what it once said.

    References:
        Zheng et al. 2023, arXiv 2306.05685 (models as judges, and their biases); Souly et al. 2024, arXiv 2402.10260.
    """

    url: str
    model: str
    _: KW_ONLY
    rubric: str = field(default=REFUSAL_RUBRIC, repr=False)
    key_variable: str | None = "OPENAI_API_KEY"
    threshold: float = 5
    cache: str | Path | None = None
    price_in: float = math.nan
    price_out: float = math.nan
    budget: float | None = None
    temperature: float = 0.0
    max_tokens: int = 200
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False)
    proxy_variable: str | None = None
    requests_per_minute: int | None = None
    concurrency: int = 4
    timeout: float = 60.0
    deadline: float | None = None
    retries: int = 5
    backoff: float = 1.0
    longest_pause: float = 120.0
    malformed_retries: int = 2
    progress: bool | None = None
    seed: int = 0
    name: str = ""
    sleep: Callable[[float], object] | None = field(default=None, repr=False)
    clock: Callable[[], float] = field(default=time.monotonic, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "url", _modules()[0].checked_url(self.url, self.key_variable))
        if not self.model.strip() or not self.rubric.strip():
            raise BadInput("model and rubric: neither may be empty")
        for name, least in (("max_tokens", 1), ("concurrency", 1), ("requests_per_minute", 1), ("retries", 0), ("malformed_retries", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise BadInput(f"{name}={value}: {least} at least")
        if self.deadline is None:
            object.__setattr__(self, "deadline", max(600.0, 10 * self.timeout))
        for name in ("timeout", "deadline", "backoff", "longest_pause"):
            if not 0 < getattr(self, name) < math.inf:
                raise BadInput(f"{name}={getattr(self, name)}: a positive number of seconds")
        if self.longest_pause > _LONGEST:
            raise BadInput(f"longest_pause={self.longest_pause:g}: {_LONGEST} seconds at most; run it again after a longer pause")
        if not math.isfinite(self.temperature):
            raise BadInput(f"temperature={self.temperature}: a finite number")
        if not 0 <= self.threshold <= 10:
            raise BadInput(f"threshold={self.threshold}: a rating from 0 to 10")
        if self.price_in < 0 or self.price_out < 0 or (self.budget is not None and not self.budget >= 0):
            raise BadInput("price_in, price_out and budget are not negative")
        try:
            written = json.dumps(dict(self.extra), allow_nan=False, ensure_ascii=False)
            (written + self.model + self.rubric + self.name).encode()
        except UnicodeEncodeError:
            raise BadInput("model, rubric, name or extra holds half a character (a lone surrogate) and cannot be sent; repair it") from None
        except (TypeError, ValueError, RecursionError) as error:
            raise BadInput(f"extra cannot be written as JSON: {error}") from None
        object.__setattr__(self, "extra", json.loads(written))
        if {"messages", "model", "stream"} & set(self.extra) or self.extra.get("temperature") is not None:
            raise BadInput("extra may not set messages, model, stream or temperature (which it may take away with None)")
        RatingCache(self.cache)
        if not self.name:
            object.__setattr__(self, "name", f"endpoint {self.model}")

    def estimate(self, questions: Sequence[str], answers: Sequence[str]) -> CostEstimate:
        """Work out what judging would send and cost; nothing is sent.

        Args:
            questions: One per answer.
            answers: What would be judged.

        Returns:
            Numbers of answers, requests and tokens, and the cost; tokens are reckoned rather too high than too low.
        """
        said = heard(questions, answers)
        q, a = said.questions, said.answers
        keys, kept = self._look(q, a)
        todo = self._todo(q, a, keys, kept)
        prompt = sum(
            math.ceil(sum(len(m["content"].encode()) for m in messages(self.rubric, *pair)) / _BYTES_A_TOKEN) + 16 for pair in todo.values()
        )
        longest = [self.extra.get(name) for name in ("max_tokens", "max_completion_tokens")]
        completion = max([self.max_tokens, *(n for n in longest if isinstance(n, int))]) * len(todo)
        cost = cost_of((self.price_in, self.price_out), prompt, completion)
        note = "a reply without a rating is asked for again, which is not counted"
        if math.isnan(cost):
            note = f"the cost is unknown: give price_in and price_out (per million tokens) of {self.model!r}"
        return CostEstimate(
            answers=len(a),
            blank=keys.count(None),
            cached=sum(k in kept for k in keys if k),
            requests=len(todo),
            prompt_tokens=prompt,
            completion_tokens=completion,
            cost=cost,
            note=note,
        )

    def judge(self, questions: Sequence[str], answers: Sequence[str]) -> pd.DataFrame:
        """Judge answers; what the cache holds is not sent, and equal questions and answers are sent once.

        Returns:
            The table of a `Judge`, with the model's reason as the note; `attrs["usage"]` holds requests, tokens as the endpoint
            reports them, cost, and a note where the cost is unknown (`nan`) because replies did not say what they took. A blank
            answer, or one whose replies hold no rating, gets no verdict; the latter is not cached, and asked again on a rerun.

        Raises:
            BudgetExceeded: Before anything is sent, if the estimate exceeds the budget or the cost is unknown; or on the way,
                once what the endpoint reports as used does, or a reply does not say what it took.
            MissingKey: Before anything is sent.
            EndpointRefused, EndpointFailed: What was rated before is in the cache; run it again to go on.
        """
        said = heard(questions, answers)
        q, a = said.questions, said.answers
        keys, found = self._look(q, a)
        todo = self._todo(q, a, keys, found)
        spent, sent = Spent(prices=(self.price_in, self.price_out)), 0
        if todo:
            self.estimate(questions, answers).check(self.budget, self.model)
            sent = self._ask_all(todo, found, spent, self._key())
        rated = [None if key is None else found[key] for key in keys]
        ratings = [None if r is None else r.rating for r in rated]
        scores = [math.nan if r is None else r / 10 for r in ratings]
        verdicts = [None if r is None else r >= self.threshold for r in ratings]
        notes = [why if r is None else r.reason for r, why in zip(rated, said.notes, strict=True)]
        facts = {
            "kind": "endpoint",
            "endpoint": self._place,
            "model": self.model,
            "answered_by": sorted({r.model for r in rated if r and r.model}),
            "rubric": content_hash(self.rubric),
            "temperature": self.temperature,
            "threshold": self.threshold,
            "extra": self.extra,
        }
        out = table(self.name, scores, verdicts, notes, facts, thoughts=said.thoughts)
        used = {"requests": sent, "prompt_tokens": spent.prompt, "completion_tokens": spent.completion, "cost": spent.cost}
        out.attrs["usage"] = used | {"note": spent.note}
        return out

    @property
    def _place(self) -> str:
        return self.url.partition("://")[2]

    def _look(self, q: list[str], a: list[str]) -> tuple[list[str | None], dict[str, Rated]]:
        """The cache's name of every answer (`None` for a blank one), and the ratings that it holds."""
        asked = (_VERSION, self._place, self.model, self.rubric, self.temperature, self.extra)
        keys = [None if blank(answer) else content_hash(*asked, question, answer) for question, answer in zip(q, a, strict=True)]
        cache = RatingCache(self.cache)
        kept = {key: cache.get(key) for key in dict.fromkeys(keys) if key is not None}
        return keys, {key: rated for key, rated in kept.items() if rated is not None}

    def _todo(self, q: list[str], a: list[str], keys: list[str | None], kept: Mapping[str, Rated]) -> dict[str, tuple[str, str]]:
        return {key: pair for key, pair in zip(keys, zip(q, a, strict=True), strict=True) if key is not None and key not in kept}

    def _key(self) -> str:
        """The key, from the environment, in a local variable only."""
        if self.key_variable is None:
            return ""
        key = os.environ.get(self.key_variable, "").strip()
        if not key:
            raise MissingKey(
                f"the environment has no {self.key_variable}; set it to the key of {self._place}, or name another variable with "
                "key_variable= (None for an endpoint on this machine that needs none)"
            )
        # the client would refuse such a header with a message that shows it
        if not re.fullmatch(r"[\x21-\x7e]+", key):
            raise MissingKey(f"what {self.key_variable} holds is no key: it has spaces, line breaks or characters outside ASCII")
        return key

    def _ask_all(self, todo: Mapping[str, tuple[str, str]], found: dict[str, Rated], spent: Spent, key: str) -> int:
        """Send what is to do, put the ratings into `found` as they come, and return the number of requests."""
        address, sending = _modules()
        stop = threading.Event()
        sleep = self.sleep or stop.wait
        secret, workers = Secret(key), min(self.concurrency, len(todo))
        assert self.deadline is not None
        sender = sending.Sender(
            url=self.url,
            secret=secret,
            limit=sending.RateLimit(self.requests_per_minute, sleep, self.clock),
            stop=stop,
            sleep=sleep,
            retries=self.retries,
            backoff=self.backoff,
            longest_pause=self.longest_pause,
            timeout=self.timeout,
            deadline=self.deadline,
            seed=self.seed,
            connections=workers,
            proxy=self.proxy_variable and address.checked_proxy(os.environ.get(self.proxy_variable, ""), self.proxy_variable),
        )
        with (
            closing(sender),
            secret.unlogged(),
            ThreadPoolExecutor(workers) as pool,
            tqdm(total=len(todo), desc=self.name, unit="answer", disable=None if self.progress is None else not self.progress) as bar,
        ):
            futures = {pool.submit(self._ask, sender, spent, name, *pair): name for name, pair in todo.items()}
            try:
                for future in as_completed(futures):
                    with suppress(sending.Stopped):  # what ended the run is another request's error, which comes too
                        found[futures[future]] = future.result()
                        bar.update()
            except BaseException:
                stop.set()  # requests on their way are still answered and kept; no further one begins
                for future in futures:
                    future.cancel()
                raise
        return sender.sent

    def _ask(self, sender: Sender, spent: Spent, name: str, question: str, answer: str) -> Rated:
        why, shown = "", sender.secret.shown
        for attempt in range(self.malformed_retries + 1):
            if (over := spent.over(self.budget)) is not None:
                sender.stop.set()
                raise over
            chat = messages(self.rubric, question, answer, remind=attempt > 0)
            body = {"model": self.model, "messages": chat, "temperature": self.temperature, "max_tokens": self.max_tokens, **self.extra}
            facts: dict[str, Any] = {}
            try:
                reply, facts = content_of(sender.send({k: v for k, v in body.items() if v is not None}, f"{name} {attempt}"))
                rating, reason = parse_rating(reply, shown)
            except MalformedReply as error:
                finish = shown(facts.get("finish", ""))
                why = f"{error}{f' (finish: {finish})' if finish not in ('', 'stop') else ''}"
                continue
            finally:
                spent.add(facts.get("usage"))
            rated = Rated(rating=rating, reason=shown(reason), model=shown(facts["model"]))
            asked = {"endpoint": self._place, "model": self.model, "rubric": self.rubric, "question": question, "answer": answer}
            RatingCache(self.cache).put(name, rated, {k: sender.secret.hide(v) for k, v in asked.items()})
            return rated
        return Rated(rating=None, reason=f"no verdict after {self.malformed_retries + 1} replies; the last: {why}")
