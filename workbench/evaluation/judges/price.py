"""What a judge behind an endpoint would cost, and what it has cost."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class CostEstimate:
    """What judging would send and cost.

    Attributes:
        answers, blank, cached: Answers in all, those not sent because they are blank, and those that the cache holds.
        requests: What remains, each distinct question and answer once.
        prompt_tokens: Of all requests together, reckoned at one token per three bytes of text.
        completion_tokens: An upper bound: `max_tokens` for each request.
        cost: In the currency of the prices; `nan` where a price is unknown.
        note: What the number leaves out, or why there is none.
    """

    answers: int
    blank: int
    cached: int
    requests: int
    prompt_tokens: int
    completion_tokens: int
    cost: float
    note: str


@dataclass(kw_only=True, eq=False)
class Spent:
    """What the endpoint reports as used so far."""

    prices: tuple[float, float]
    prompt: int = 0
    completion: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, facts: Mapping[str, Any]) -> None:
        with self.lock:
            self.prompt += facts["prompt_tokens"]
            self.completion += facts["completion_tokens"]

    @property
    def cost(self) -> float:
        return cost_of(self.prices, self.prompt, self.completion)


def cost_of(prices: tuple[float, float], prompt: int, completion: int) -> float:
    """Return the cost of tokens at prices per million; 0 for none, even where a price is unknown."""
    return (prices[0] * prompt + prices[1] * completion) / 1e6 if prompt or completion else 0.0
