"""How much a step has to do, and about how long that takes where nobody has measured it: for `--plan`.

A step that runs the model has an amount of tokens. A step that does not is taken to grow with what the study has read before it, rows x
layers. Where neither was ever timed on this machine, two rules stand in: a forward pass takes 2 x parameters x tokens operations, at nine
tenths of the rate at which this processor multiplies matrices; and of what was read, a row of a layer takes 5 microseconds in a model of
the bundled one's size, and more with the width.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..prompts import ContrastPair, PromptSet

CHARACTERS = 4  # of a token, about
TOKENS = 40  # of a prompt, where no prompts were read yet
PER_ROW = 5e-6  # seconds per row and layer, bundled model
BUNDLED = 1.5e6  # its parameters
BUSY = 0.9  # share of the matrix rate that forward passes reach
CONTROL = re.compile(r"<[^<> ]{1,20}>")  # what a chat template writes: one token each


@dataclass(frozen=True, kw_only=True)
class Amount:
    """What a step has to do.

    Attributes:
        tokens: Tokens that the model computes for it, about; 0 where it does not run the model.
        read: Rows x layers that the study has read before it.
    """

    tokens: float = 0.0
    read: float = 0.0

    def times(self, tokens: float, read: float) -> float | None:
        """How many times as much this is as another amount; `None` where the two cannot be compared."""
        if self.tokens or tokens:
            return self.tokens / tokens if self.tokens and tokens else None
        if self.read or read:
            return self.read / read if self.read and read else None
        return 1.0

    def scale(self, size: float, other: float) -> float:
        """How many times as long it takes in a model of so many parameters as in another.

        Passes grow with the parameters, what is made of activations with the width, which grows about as their root.
        """
        ratio = max(1.0, size) / max(1.0, other)
        return ratio**0.5 if self.read and not self.tokens else ratio

    def by_rule(self, size: float) -> tuple[float, str]:
        """Seconds by one of the two rules for a model of so many parameters, and which; `nan` where there is nothing to go by."""
        if self.tokens:
            return 2 * size * self.tokens / (BUSY * rate()), "a rule: parameters x tokens, at this processor's rate"
        if self.read:
            return self.read * PER_ROW * self.scale(size, BUNDLED), "a rule: rows x layers that were read"
        return float("nan"), "never run before, and nothing says how much it does"


class Tally:
    """What a study has read so far, by which later steps are judged."""

    def __init__(self) -> None:
        self.items, self.tokens, self.values = 0, 0.0, 0.0
        self._seen: set[tuple[str, str, str, str]] = set()

    def declared(self, items: int = 0, tokens: float = 0) -> Amount:
        """Return the amount of a step that declares its items or its tokens, or neither."""
        length = self.tokens / self.items if self.items else TOKENS
        return Amount(tokens=tokens or items * length, read=self.values)

    def reads(self, prompts: PromptSet, layers: Sequence[int] | None, store: str = "") -> Amount:
        """Return the amount of reading prompts into a store, which keeps those that it holds already, and count it."""
        names = {(store, p.stem, p.negative, p.positive): p for p in prompts}
        fresh = [p for name, p in names.items() if name not in self._seen]
        self._seen |= set(names)
        amount = Amount(tokens=tokens_of(fresh), read=self.values)
        self.items, self.tokens = self.items + len(fresh), self.tokens + amount.tokens
        self.values += len(prompts) * (1 if layers is None else len(layers))
        return amount


def tokens_of(prompts: Iterable[ContrastPair]) -> float:
    """Return about how many tokens a model computes for prompts: what they begin with alike once, and both endings.

    Args:
        prompts: The prompts.

    Returns:
        Tokens, from the number of characters.
    """
    from ..models.tokens import shared  # and with it torch: where a plan or a run counts, not where a run is opened

    total, before = 0, ""
    for stem in sorted({CONTROL.sub("    ", p.stem) for p in prompts}):
        total += len(stem) - shared(before, stem)
        before = stem
    return total / CHARACTERS + 2 * sum(1 for _ in prompts)


@cache
def rate() -> float:
    """Measure at which rate this processor multiplies matrices.

    Returns:
        Operations per second, the best of 20 trials of a few milliseconds: other work on the machine disturbs most of them.
    """
    import torch  # a run is opened and drawn again without it

    a, b = torch.ones(256, 1024), torch.ones(1024, 1024)
    took = []
    for _ in range(20):
        start = time.perf_counter()
        torch.mm(a, b)
        took.append(time.perf_counter() - start)
    return 2 * 256 * 1024 * 1024 / max(min(took), 1e-9)
