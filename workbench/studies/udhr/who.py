"""Who is denied rights without any claim."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ... import prompts as source
from ...evaluation import answers, false_negatives, recovery
from ...prompts import PromptSet
from ...runs.amount import tokens_of
from ..statements import Rows
from .settings import UdhrSettings


class Who(Rows):
    """The steps that ask about every identity."""

    set: UdhrSettings

    def _ask(self, name: str, prompts: PromptSet) -> pd.DataFrame:
        def make() -> pd.DataFrame:
            return answers(self.model, prompts, progress=self.progress, note=name)

        return self.run.table(name, [self.handle.key, prompts.hash], make, keep=False, tokens=tokens_of(prompts))

    @property
    def fitted(self) -> int:
        """How many items the probes are fitted on."""
        return len(self._prompts("base_short", None, self.set.train, "train"))

    @property
    def about(self) -> str:
        """What the statements are, in words."""
        if not self.source.own:
            return "identities x rights"
        rows = self._prompts("base_short", None, None, None).to_frame()
        who = rows["identity"].nunique()
        return (
            f"statements of the table {self.source.name} ({'each a cluster of its own' if who == len(rows) else f'about {who} identities'})"
        )

    @property
    def asks_who(self) -> bool:
        """Whether the statements are about people that come back often enough to ask who is denied."""
        if not self.source.own:
            return True
        count = self._prompts("base_short", None, None, None).to_frame().groupby("identity").size()
        return len(count) >= 4 and bool(count.median() >= 4)

    def _denied_prompts(self) -> PromptSet:
        if self.source.own:  # as many statements about each as of the project's own
            every = self._prompts("base_short", None, None, None)
            turn = every.to_frame().groupby("identity").cumcount().to_numpy()
            return every.subset(np.flatnonzero(turn < 2 * self.set.rights_per_identity))
        names = [r.right for r in source.rights()]
        step = max(1, len(names) // self.set.rights_per_identity)
        some = names[::step][: self.set.rights_per_identity]
        return source.udhr("base_short", answers=self.words, rights=some, seed=self.set.seed, **self.asking("base_short"))

    def denied(self) -> None:
        """Ask about every identity without a claim and find who is denied rights; compare with what was planted."""
        if not self.asks_who:
            return
        prompts = self._denied_prompts()
        asked = self._ask("ask about every identity without a claim", prompts)
        people = self.run.table("denied_identities", make=lambda: false_negatives(asked), doing="find who is denied")
        if prompts.to_frame()["group"].nunique() > 1:
            self.run.table("denied_groups", make=lambda: false_negatives(asked, by="group"), doing="find which groups are denied")
        if self.planted is not None and not self.source.own:
            planted = self.planted["denied"]

            def make() -> pd.DataFrame:
                return recovery(people.loc[people["denied"], "identity"].tolist(), planted)

            self.run.table("denied_recovery", make=make, doing="compare with who was planted")
