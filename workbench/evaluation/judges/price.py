"""What a judge behind an endpoint would cost, and what it has cost."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .base import BudgetExceeded

_MOST = 10**9  # tokens of one reply that can be true


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

    def check(self, budget: float | None, model: str) -> None:
        """Make sure that judging fits a budget.

        Args:
            budget: In the currency of the prices; `None` for no limit.
            model: The model that would be asked.

        Raises:
            BudgetExceeded: It would cost more, or the cost is unknown.
        """
        if budget is None:
            return
        if math.isnan(self.cost):
            raise BudgetExceeded(f"a budget of {budget:g} cannot be kept: {self.note}; nothing was sent")
        if self.cost > budget:
            raise BudgetExceeded(
                f"{self.requests} requests to {model!r} are estimated at {self.cost:.4g}, above the budget of {budget:g} "
                f"({self.prompt_tokens} tokens of prompt, at most {self.completion_tokens} of completion); nothing was sent. "
                "Raise budget=, lower max_tokens=, or judge fewer answers"
            )


@dataclass(kw_only=True, eq=False)
class Spent:
    """What the endpoint reports as used so far.

    Attributes:
        prices: Of a million tokens of prompt and of completion.
        prompt, completion: Tokens of the replies that say it.
        unknown: Replies that do not say it, or not in a way that can be true.
    """

    prices: tuple[float, float]
    prompt: int = 0
    completion: int = 0
    unknown: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, usage: Any) -> None:
        """Count what a reply says of itself, as the JSON value that it is."""
        read = usage if isinstance(usage, Mapping) else {}
        prompt, completion = (_tokens(read.get(name)) for name in ("prompt_tokens", "completion_tokens"))
        with self.lock:
            if prompt is None or completion is None:
                self.unknown += 1
            else:
                self.prompt += prompt
                self.completion += completion

    @property
    def cost(self) -> float:
        """In the currency of the prices; `nan` where a price, or what a reply took, is unknown."""
        if self.unknown and self.prices != (0, 0):
            return math.nan
        return cost_of(self.prices, self.prompt, self.completion)

    @property
    def note(self) -> str:
        """How many replies do not say what they took, or ""."""
        return f"{self.unknown} replies do not say how many tokens they took, or nothing that can be true" if self.unknown else ""

    def over(self, budget: float | None) -> BudgetExceeded | None:
        """The error of a budget that is used up or, with a cost that is unknown, cannot be kept; `None` while it is."""
        if budget is None or self.cost <= budget:
            return None
        if math.isnan(self.cost):
            why = f"a budget of {budget:g} cannot be kept: {self.note}"
        else:
            why = (
                f"the endpoint reports {self.prompt} tokens of prompt and {self.completion} of completion, {self.cost:.4g} in all, "
                f"above the budget of {budget:g}"
            )
        return BudgetExceeded(f"{why}. What was rated is in the cache; raise budget= (None for no limit) to go on")


def cost_of(prices: tuple[float, float], prompt: int, completion: int) -> float:
    """Return the cost of tokens at prices per million; 0 for none, even where a price is unknown."""
    return (prices[0] * prompt + prices[1] * completion) / 1e6 if prompt or completion else 0.0


def _tokens(value: Any) -> int | None:
    """A number of tokens, `None` for what is none."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    return value if whole and 0 <= value <= _MOST else None
