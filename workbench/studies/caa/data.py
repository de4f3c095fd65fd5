"""What the CAA study reads: questions that fit the model, in both letter orders, and how many were left out."""

from __future__ import annotations

from typing import Any

from ...core.errors import PromptTooLong
from ...core.seeds import numpy_rng
from ...models import info
from ...models.tokens import encode_pairs
from ...prompts import ContrastPair, PromptSet, choices_to_prompts, to_ab
from ...prompts.chat import Chat
from .source import open_questions_of, questions_of


class CaaData:
    """The prompts of the study, from a folder in the CAA layout.

    Attributes:
        counts: Per behaviour and split, what was in the file and what is used.
    """

    def __init__(self, model: Any, settings: Any) -> None:
        self.model, self.set, self.info = model, settings, info(model)
        self.counts: list[dict[str, Any]] = []

    def prompts(self, behaviour: str, split: str, most: int, system: str | None = None, note: bool = True) -> PromptSet:
        """Return a behaviour's questions as contrast pairs, those that fit the model's context."""
        items = questions_of(self.set.data, behaviour, split, self.set.seed)
        whole = len(items)
        if self.set.orders == "both":
            items = to_ab([c for c in items if not c.raw], self.set.seed)
        if most and len(items) > most:
            picked = numpy_rng(self.set.seed, "caa items", behaviour, split).permutation(len(items))[:most]
            items = [items[i] for i in sorted(picked)]
        prompts, left = self.fitting(
            choices_to_prompts(items, model=self.model, orders=self.set.orders, system=system, many=self.set.orders == "given")
        )
        if note:
            self.counts.append(
                {
                    "behaviour": behaviour,
                    "split": split,
                    "in_file": whole,
                    "used": len({p.identity for p in prompts}),
                    "prompts": len(prompts),
                    "too_long": left,
                }
            )
        return prompts

    def fitting(self, prompts: PromptSet) -> tuple[PromptSet, int]:
        """Return the items of which every prompt fits the context, and how many prompts do not."""
        bad = set()
        try:
            encode_pairs(self.model, prompts)
        except PromptTooLong:  # which?
            bad = {p.identity for p in prompts if self._too_long(p)}
        keep = [i for i, p in enumerate(prompts) if p.identity not in bad]
        if not keep:
            raise PromptTooLong(f"no item of {prompts.name} fits the {self.info.context} tokens that {self.info.name} reads")
        return prompts.subset(keep), len(prompts) - len(keep)

    def _too_long(self, pair: ContrastPair) -> bool:
        try:
            encode_pairs(self.model, [pair])
        except PromptTooLong:
            return True
        return False

    def opened(self, behaviour: str) -> PromptSet | None:
        """Return open questions with room for an answer, `None` where there are none."""
        texts = open_questions_of(self.set.data, behaviour)
        if not texts:
            return None
        chat, pairs = Chat(model=self.model), []
        for text in texts:
            stem = chat.stem(text, "\n\nAnswer:", called=f"the question {text[:60]!r}")
            about = {"identity": text, "instruction_end": stem.end, "meta": stem.meta, "wording": stem.wording}
            pairs.append(ContrastPair(stem=stem.text, negative=" A", positive=" B", label=0, **about))
        kept, _ = self.fitting(PromptSet(pairs, name=f"{behaviour}, open"))
        room = [i for i, p in enumerate(encode_pairs(self.model, kept)) if p.stem + self.set.new_tokens <= self.info.context]
        return kept.subset(room[: self.set.open_ended]) if room else None
