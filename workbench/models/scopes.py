"""Which tokens an edit changes, in any forward pass: padded on either side, with or without a cache of keys and values.

A scope is a value. It is applied at each forward pass to the mask of that pass, so that one edit fits a scored batch and
every step of generation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..core.errors import BadInput, UnknownName, unknown
from ..core.show import Shown

KINDS = {
    "content": "every token of the text and its continuation, without the first, other attention sinks, and what a chat template writes",
    "all": "every token, the beginning-of-text token, other attention sinks and a chat template's own included",
    "body": "every token and its continuation, without the first and other attention sinks; what a chat template writes included",
    "prompt": "every token of the prompt",
    "after_instruction": "every token after the instruction's last, the continuation included",
    "generated": "the prompt's last token, from which the first new one is written, and all that follows (generated or scored)",
    "last": "the last k tokens of the prompt",
    "marker": "from the last token of a text in the prompt on, the continuation included",
}

DEFAULT = "content"


@dataclass(frozen=True, repr=False)
class Scope(Shown):
    """A rule for choosing tokens. All kinds but "all" leave out attention sinks: the beginning-of-text token, and those found in a prompt.

    A token of the prompt is a sink where its stream is more than `sinks.TIMES` times as long as the median of the prompt's tokens that
    the rule selects, at the place of the edit. A first token that the model always makes a sink is left out at every place.

    "content", which pushes have unless they are told otherwise, leaves out the first token of every prompt in any model: it sees
    nothing but itself, and most models keep a sink there. It also leaves out what the chat template writes around the texts of the
    user and the assistant (control tokens, names of roles, the system's turn).

    Attributes:
        kind: One of `KINDS`.
        k: Number of tokens, for "last"; at least 1.
        text: The marker, for "marker"; its last occurrence in the prompt counts.
    """

    kind: str = DEFAULT
    k: int = 1
    text: str = ""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise unknown(UnknownName, "scope", self.kind, KINDS)
        if self.k < 1:
            raise BadInput(f"a scope of the last {self.k} tokens selects none")
        if (self.kind == "marker") != bool(self.text):
            raise BadInput("the scope 'marker' needs a text, and no other takes one: Scope('marker', text=' Answer:')")

    @classmethod
    def of(cls, scope: Scope | str | tuple[str, int] | tuple[str, str] | None) -> Scope:
        """Return the scope that is meant by a name, ("last", 3), ("marker", " Answer:") or a scope; `None` is "content"."""
        if scope is None:
            return cls()
        if isinstance(scope, Scope):
            return scope
        if isinstance(scope, str):
            return cls(scope)
        kind, more = scope
        return cls(kind, k=more) if isinstance(more, int) else cls(kind, text=more)

    @property
    def whole(self) -> bool:
        """Whether the rule selects every token of every pass."""
        return self.kind == "all"

    def _shown(self) -> tuple[str, dict[str, Any]]:
        return str(self), {"selects": KINDS[self.kind], "k": self.k if self.kind == "last" else "", "marker": self.text}

    def __str__(self) -> str:
        return f"last {self.k}" if self.kind == "last" else f"from {self.text!r}" if self.kind == "marker" else self.kind
