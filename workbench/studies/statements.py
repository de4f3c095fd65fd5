"""What studies over statements share: the split, prompts by side and claim, readings and answers of one model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ..activations import Activations
from ..core.errors import UnknownClaim, unknown
from ..core.seeds import numpy_rng
from ..evaluation import answers_of, choose_answers
from ..models import info, planted
from ..models.tokens import encode
from ..prompts import PromptSet, Split, check_sides, claims, grouped_split, statements
from ..prompts.statements import FIT
from ..runs import ModelHandle, Steps

READ = ("since_claim", "consider_claim")


def check_claims(names: Sequence[str]) -> None:
    """Raise unless every claim exists.

    Args:
        names: Names of claims, of statements or of requests.

    Raises:
        UnknownClaim: One does not.
    """
    known = claims() | claims("requests")
    for claim in names:
        if claim not in known:
            raise unknown(UnknownClaim, "claim", claim, known)


class Rows:
    """The steps of a study share a model's handle, its answer words, the split and the run.

    Args:
        models: Handles by role; the role is "model".
        settings: The study's settings.
        run: The steps.
    """

    set: Any

    def __init__(self, models: Mapping[str, ModelHandle], settings: Any, run: Steps) -> None:
        self.handle = models["model"]
        self.set = settings
        self.run = run
        self.info = info(self.handle)
        self.planted = planted(self.handle)
        self.words = choose_answers(self.handle)
        self.source = statements(getattr(settings, "data", ""), getattr(settings, "columns", None))
        self.split = self._split(self.source.rows())
        check_sides(self.source, self.split)

    @property
    def model(self) -> Any:
        """The model, loaded: inside a step only."""
        return self.handle.load()

    @property
    def progress(self) -> bool | None:
        """Whether long steps show their progress."""
        return self.run.progress

    def _can_choose(self) -> bool:
        return all(len(self.handle.tokenizer(w, add_special_tokens=False)["input_ids"]) == 1 for w in (" A", " B"))

    def _split(self, rows: pd.DataFrame) -> Split:
        if self.source.own:
            # with two columns the test rows are those held out in both: half and half leaves enough of them
            two = rows["identity"].nunique() > 1 and rows["right"].nunique() > 1
            return grouped_split(rows, test=0.45 if two else 0.35, seed=self.set.seed)
        if self.planted is None or self.source.name != "udhr":
            return grouped_split(rows, seed=self.set.seed)
        held = {"identity": self.planted["held_out_identities"], "right": self.planted["held_out_rights"]}
        return Split(
            test={k: frozenset(v) for k, v in held.items()},
            train={k: frozenset(set(rows[k]) - set(v)) for k, v in held.items()},
        )

    def _prompts(self, template: str, claim: str | None, n: int | None, side: str | None) -> PromptSet:
        held = {} if side is None else {k: sorted(v) for k, v in getattr(self.split, side).items()}
        return self.source.prompts(template, claim, n=n, answers=self.words, seed=self.set.seed, held=held)

    def _pushed(self, claim: str, size: int, side: str) -> PromptSet:
        """Each identity and right under one of two prompt forms, by the toss of a coin: neither goes with a form."""
        one, two = (self._prompts(t, claim, size, side) for t in READ)
        cells = {(p.identity, p.right): None for p in one}
        coin = dict(zip(cells, numpy_rng(self.set.seed, "form", side).integers(0, 2, len(cells)), strict=True))
        return PromptSet((a, b)[coin[a.identity, a.right]] for a, b in zip(one, two, strict=True))

    def _blank(self, base: PromptSet) -> Activations | None:
        """Read an untrained copy; a model without a Hugging Face configuration has none."""
        if not self.handle.configured:
            return None
        return self.run.read("read an untrained copy", self.handle.untrained(self.set.seed), base)

    def _read(
        self,
        name: str,
        prompts: PromptSet,
        *,
        site: str = "resid_post",
        position: str = "last",
        layers: Sequence[int] | None = None,
        answers: bool = False,
    ) -> Activations:
        return self.run.read(name, self.handle, prompts, site=site, position=position, layers=layers, answers=answers)

    def _told(self, acts: Activations) -> Activations:
        """Activations with the model's answer and the number of tokens that name the identity in their rows; inside a step."""
        asked = answers_of(acts)
        tokens = [len(x) for x in encode(self.handle, asked["identity"].tolist())]
        counts = np.array(tokens) - len(self.info.first)
        return acts.with_column("answer", asked["answer"]).with_column("identity_tokens", counts)

    @property
    def layer(self) -> int:
        """The layer that single-layer statements use, fixed before any result: two thirds of the way up."""
        return min(self.info.n_layers - 1, self.info.n_layers * 2 // 3)


def spread(count: int, most: int) -> list[int]:
    """Return at most so many layers, evenly spread from the first to the last.

    Args:
        count: Layers of the model.
        most: Layers at most.

    Returns:
        Layers in order, the first and the last among them.
    """
    return sorted({int(x) for x in np.linspace(0, count - 1, min(most, count)).round()})


def subtitle(study: Any, more: str = "") -> str:
    """Return the line under a report's title: the model and its sizes.

    Args:
        study: What `compute` returned.
        more: Put behind it.
    """
    known = study.info
    return f"{known.name}: {known.n_layers} layers, d_model {known.d_model}, {known.dtype}{weights_of(known)}{more}."


def weights_of(known: Any) -> str:
    """Return where a model's weights come from as a part of a sentence, "" where that is not known.

    Args:
        known: What `info` returns.
    """
    return f", {known.weights}" if known.weights else ""


__all__ = ["FIT", "READ", "Rows", "check_claims", "spread", "subtitle", "weights_of"]
