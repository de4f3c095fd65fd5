"""Words that were found, or written, to be put into prompts: what they are, where they go, how they came about."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from ..core.errors import BadInput, DamagedStore, UnknownName, unknown
from ..core.show import Shown, number, short
from ..core.whole import write_whole, writing
from ..prompts import PromptSet
from .placing import WHERE, put

FILES = ("prefix.json", "history.csv")


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Prefix(Shown):
    """Words, and where they go.

    Attributes:
        text: The words, white space included.
        where: "before" the question, "after" it, or "system".
        towards: What they were searched for: "safe", "harm", or a text; "" for words that somebody wrote.
        ids: Their tokens in place, by name of the model; each model reads exactly these.
        loss: On validation prompts, in nats (0: every prompt is won); `nan` for words that somebody wrote.
        history: One row per step of the search: `restart, step, lead` (the model whose gradient proposed), `text`, `tokens` (of the lead),
            `train` and `validation` (losses), `won` (share of validation prompts on which what is wanted is likelier than not),
            `evaluations` (pairs of a text and a prompt so far), `computed` and `plain` (tokens so far, with and without sharing).
        provenance: Models, prompts, settings, versions.
    """

    text: str
    where: str = "before"
    towards: str = ""
    ids: Mapping[str, Sequence[int]] = field(default_factory=dict)
    loss: float = float("nan")
    history: pd.DataFrame = field(default_factory=pd.DataFrame)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.text, str):
            raise BadInput(f"a prefix is a text, got {type(self.text).__name__}")
        if self.where not in WHERE:
            raise unknown(UnknownName, "place of a prefix", self.where, WHERE)
        object.__setattr__(self, "ids", {k: tuple(map(int, v)) for k, v in self.ids.items()})

    def put(self, prompts: PromptSet, *, model: Any = None, name: str = "") -> PromptSet:
        """Return prompts with these words put into them.

        Args:
            prompts: Contrast pairs.
            model: The model whose chat template the prompts were asked through; `None` for plain text.
            name: What the words are called, for the column `prefix`; by default the words themselves.
        """
        return put(prompts, self.text, self.where, model=model, name=name)

    def on(self, model: Any) -> Acting:
        """Return the words as an intervention on a model, as `wb.survival` takes one.

        Args:
            model: The model whose chat template the prompts were asked through; `None` for plain text.
        """
        return Acting(prefix=self, model=model)

    def save(self, folder: str | Path) -> None:
        """Write `prefix.json` and `history.csv` into a folder."""
        folder = Path(folder)
        facts = {k: getattr(self, k) for k in ("text", "where", "towards", "ids", "loss", "provenance")}
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            write_whole(folder / FILES[1], self.history.to_csv(index=False))
            write_whole(folder / FILES[0], json.dumps(facts, ensure_ascii=False, indent=1, default=str))

    @classmethod
    def load(cls, folder: str | Path) -> Prefix:
        """Return what `save` wrote.

        Raises:
            DamagedStore: The folder does not hold it.
        """
        folder = Path(folder)
        try:
            facts = json.loads((folder / FILES[0]).read_text(encoding="utf-8"))
            raw = (folder / FILES[1]).read_text(encoding="utf-8")
            history = (
                pd.read_csv(io.StringIO(raw), keep_default_na=False, na_values={"train": [""], "validation": [""]})
                if raw.strip()
                else pd.DataFrame()
            )
            return cls(**facts, history=history)
        except (OSError, ValueError, TypeError) as error:
            raise DamagedStore(
                f"{folder} holds no prefix that can be read ({type(error).__name__}): make it with prefix.save(folder)"
            ) from error

    def _shown(self) -> tuple[str, Mapping[str, Any]]:
        sizes = ", ".join(f"{len(v)} for {k}" for k, v in self.ids.items())
        line = f"{short(repr(self.text), 100)} ({self.where}{f', towards {short(self.towards, 40)}' if self.towards else ''})"
        spent = "" if self.history.empty else f"{int(self.history['evaluations'].iloc[-1]):,} pairs of a text and a prompt"
        return line, {
            "text": repr(self.text),
            "where": self.where,
            "towards": self.towards or "written, not searched",
            "tokens": sizes,
            "loss on validation prompts": number(self.loss),
            "scored": spent,
        }


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Acting:
    """Words that act on a model's prompts.

    Attributes:
        prefix: The words.
        model: Whose chat template the prompts were asked through.
    """

    prefix: Prefix
    model: Any

    def apply(self, prompts: PromptSet) -> PromptSet:
        """Return the prompts with the words in them."""
        return self.prefix.put(prompts, model=self.model)
