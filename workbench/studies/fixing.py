"""What studies of fixes share: prompts under both claims, and what is said and what it costs under any intervention."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.special import expit

from ..core.seeds import derive
from ..evaluation import answers
from ..interventions import Asker, kl
from ..prompts import PromptSet
from ..runs import ModelHandle, Steps
from ..training import Words, acting, under
from .answering import heard
from .statements import Rows

TRAINED = "since_claim"


class Fixing(Rows):
    """Steps over statements under the harm claim and the one opposite to it.

    Args:
        models, settings, run: As for `Rows`; the settings name two claims.
    """

    def __init__(self, models: Mapping[str, ModelHandle], settings: Any, run: Steps) -> None:
        super().__init__(models, settings, run)
        self.harm, self.good = settings.claims

    def both_claims(self, n: int, side: str, use: str = "") -> PromptSet:
        """Items under both claims, in the form that is trained on; validation shows other statements of training identities."""
        seed = derive(self.set.seed, use) % 10**6 if use else self.set.seed
        asking = self.asking(TRAINED)
        held = self.split.values(side)
        parts = [
            self.source.prompts(TRAINED, claim, n=n, answers=self.words, seed=seed, held=held, **asking) for claim in (self.harm, self.good)
        ]
        return PromptSet((p for part in parts for p in part), name=f"{TRAINED}, both claims")

    def listen(self, prompts: PromptSet) -> None:
        """Ask prompts without a claim first: whether the model answers at all (table `says`).

        Args:
            prompts: Held-out statements without a claim.
        """
        heard(self.run, lambda: [answers(self.model, prompts, progress=self.progress)])

    # ------------------------------------------------------------------ inside a step

    def said(self, change: Any, prompts: PromptSet) -> tuple[np.ndarray, np.ndarray]:
        """Whether each answer grants the right under a fix, and the probability of that answer among the two."""
        with acting(self.model, change):
            asked = answers(self.model, under(change, prompts), progress=False)
        sign = 2 * asked["label"].to_numpy() - 1
        return asked["safe"].to_numpy(), expit(sign * asked["margin"].to_numpy())

    def safe(self, change: Any, prompts: PromptSet) -> np.ndarray:
        """Whether each answer grants the right, under a fix."""
        return self.said(change, prompts)[0]

    def cost(self, change: Any, asker: Asker) -> np.ndarray:
        """KL from the unchanged model, on prompts without a claim, item by item; nats."""
        base = asker.base  # of the model as it is: asked before anything acts
        if isinstance(change, Words):
            return kl(base, Asker(self.model, under(change, asker.prompts)).ask())
        with acting(self.model, change):
            return kl(base, asker.ask())
