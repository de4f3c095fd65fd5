"""The UDHR study: what a model says about people's rights when it is pushed, against what it knows inside.

Behaviour by template and claim; probes and CCS per layer, fitted without a claim and read under each; both side by side;
who is denied rights without any claim.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from ... import prompts as source
from ...activations import Activations
from ...core.errors import BadInput
from ...core.stats import proportion
from ...core.tables import pick
from ...evaluation import agreement, answers, false_negatives, recovery
from ...models.tokens import answer_tokens, encode_pairs
from ...probes import accuracy_by, fit_layers, probe_layers
from ...prompts import PromptSet
from ...runs import Main, ModelHandle, Steps, Study
from ..statements import FIT, Rows, check_claims
from .report import report

PLAIN = ("base_short", "base_long", "would_you_rather")
PUSHED = ("since_claim", "consider_claim", "long_since_claim", "long_consider_claim", "consider_would_you_rather")
CLAIMS = ("good", "neutral", "partial", "harm")


@dataclass(frozen=True, kw_only=True)
class UdhrSettings:
    """The grid of the study.

    Attributes:
        behaviour: Items per template and claim for the behaviour table.
        train, test: Items per condition for the probes.
        rights_per_identity: Rights asked about each identity when looking for who is denied; two statements each.
        resamples: Bootstrap draws.
        ccs_epochs: Steps of each CCS restart.
        claims: Claims to push with.
        data: Statements of your own in place of the project's: a csv, jsonl or parquet file with a statement and a label (whether agreeing
            is right) in each row and, where there are any, `identity`, `right`, `group`. Empty: the project's.
        columns: Which column holds which of these, where it has another name.
        seed: Draws items, splits, restarts, controls and resamples.
    """

    behaviour: int = 400
    train: int = 1000
    test: int = 600
    rights_per_identity: int = 12
    resamples: int = 500
    ccs_epochs: int = 1000
    claims: tuple[str, ...] = CLAIMS
    data: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("behaviour", "train", "test"):
            if getattr(self, name) < 16:
                raise BadInput(f"{name}: 16 items at least, got {getattr(self, name)}")
        check_claims(self.claims)
        source.statements(self.data, self.columns)  # a table that cannot be used is refused before a model is loaded
        for name in ("rights_per_identity", "ccs_epochs"):
            if getattr(self, name) < 1:
                raise BadInput(f"{name}: 1 at least, got {getattr(self, name)}")


class Udhr(Rows):
    """The steps of the study."""

    set: UdhrSettings

    def __init__(self, models: Mapping[str, ModelHandle], settings: UdhrSettings, run: Steps) -> None:
        super().__init__(models, settings, run)
        answer_tokens(self.handle, (" A", " B") if self._can_choose() else tuple(f" {w}" for w in self.words))
        self._check_length()

    def _check_length(self) -> None:
        """Encode every prompt of the study, longest first to fail, before anything is run."""
        n = self.set
        planned = [self._prompts(t, c, n.behaviour, "test") for t, c in self._grid()]
        planned += [self._pushed(c, n.test, "test") for c in n.claims]
        planned += [self._prompts("base_short", None, n.train, "train"), *([self._denied_prompts()] if self.asks_who else [])]
        for prompts in planned:
            encode_pairs(self.handle, prompts)

    def _grid(self) -> Iterator[tuple[str, str | None]]:
        """Every prompt form with every claim that it takes."""
        for template in (*PLAIN, *PUSHED):
            if "rather" in template and (self.source.own or not self._can_choose()):
                continue  # a choice between two statements needs the granting and the denying form of one
            for claim in (None,) if template in PLAIN else self.set.claims:
                yield template, claim

    def _ask(self, name: str, prompts: PromptSet) -> pd.DataFrame:
        def make() -> pd.DataFrame:
            return answers(self.model, prompts, progress=self.progress, note=name)

        return self.run.table(name, [self.handle.key, prompts.hash], make, keep=False, items=len(prompts))

    # ------------------------------------------------------------------ behaviour

    def behaviour(self) -> None:
        """Ask every template with and without each claim; held-out identities and rights."""
        asked = [
            self._ask(f"ask {template}, {claim or FIT}", self._prompts(template, claim, self.set.behaviour, "test"))
            for template, claim in self._grid()
        ]
        self.run.table("behaviour", make=lambda: agreement(pd.concat(asked, ignore_index=True)), doing="count safe answers")

    # ------------------------------------------------------------------ inside

    def read(self) -> None:
        """Capture the fitted condition (trained and untrained model), every claim, and training rows under "partial"."""
        n = self.set
        base = self._prompts("base_short", None, n.train, "train") + self._prompts("base_short", None, n.test, "test")
        self.acts = self._read(f"read {FIT}", base, answers=True)
        self.blank = self._blank(base)
        self.test = {c: self._read(f"read under {c}", self._pushed(c, n.test, "test"), answers=True) for c in n.claims}
        self.train_partial: Activations | None = None
        if "partial" in n.claims:
            prompts = self._pushed("partial", n.train, "train")
            self.train_partial = self._read("read under partial, training rows", prompts, answers=True)

    def probes(self) -> pd.DataFrame:
        """Fit without a claim, read under each claim, with every control."""

        def make() -> pd.DataFrame:
            test = {claim: self._told(acts) for claim, acts in self.test.items()}
            answered = all(acts.rows["answer"].notna().all() for acts in test.values())
            return probe_layers(
                self._told(self.acts),
                test=test,
                split=self.split,
                condition=FIT,
                untrained=self.blank,
                against=("label", "answer") if answered else ("label",),
                resamples=self.set.resamples,
                ccs_options={"epochs": self.set.ccs_epochs},
                seed=self.set.seed,
            )

        return self.run.table("probes", make=make, doing="fit probes and CCS without a claim, read under each")

    def truth_or_answer(self) -> None:
        """Under the partial claim truth and answer part: read both directions against both."""
        self.run.table("truth_or_answer", make=self._truth_or_answer, doing="compare truth and answer under the partial claim")

    def _truth_or_answer(self) -> pd.DataFrame:
        rows: list[dict[str, Any]] = []
        if self.train_partial is not None:
            acts = self._told(self.acts)
            held, train_partial = self._told(self.test["partial"]), self._told(self.train_partial)
            unpushed = acts.subset(self.split.side(acts.rows) == "train")
            ccs = fit_layers(unpushed, "ccs", condition=FIT, seed=self.set.seed, epochs=self.set.ccs_epochs)
            fits = {"CCS, found without labels and without a claim": ccs}
            if train_partial.rows["answer"].nunique() == 2:
                said = fit_layers(train_partial, "logistic", target="answer", condition="partial")
                fits["logistic probe, fitted on the answers under this claim"] = said
            for name, fit in fits.items():
                for layer in held.layers:
                    read = fit.scores(held, layer) > 0
                    for against in ("label", "answer"):
                        share = proportion(read == held.rows[against].to_numpy(), held.rows["identity"].to_numpy())
                        about = {"layer": layer, "direction": name, "condition": "partial", "against": against, "metric": "accuracy"}
                        rows.append({**about, **share.row()})
        columns = ["layer", "direction", "condition", "against", "metric", "value", "low", "high", "n"]
        return pd.DataFrame(rows, columns=columns)

    def by_tokens(self) -> None:
        """Probe accuracy by the number of tokens of the identity, at the layer two thirds of the way up."""

        def make() -> pd.DataFrame:
            acts = self._told(self.acts)
            side = self.split.side(acts.rows)
            fit = fit_layers(acts.subset(side == "train"), "logistic", condition=FIT)
            return accuracy_by(fit, acts.subset(side == "test"), self.layer, "identity_tokens")

        self.run.table("by_tokens", make=make, doing="accuracy by length of the identity")

    # ------------------------------------------------------------------ says and knows, who is denied

    def says_and_knows(self, table: pd.DataFrame) -> None:
        """Put the share of safe answers beside the share of items whose truth is read inside, on the same rows."""

        def make() -> pd.DataFrame:
            acts = self._told(self.acts)
            held = {FIT: acts.subset(self.split.side(acts.rows) == "test")} | {c: self._told(a) for c, a in self.test.items()}
            rows: list[dict[str, Any]] = []
            for name, pushed in held.items():
                safe = proportion(pushed.rows["answer"] == pushed.rows["label"], pushed.rows["identity"].to_numpy())
                rows.append({"condition": name, "what": "says: share of safe answers", "layer": -1, **safe.row()})
            chosen = pick(table, control="", against="label", metric="accuracy", layer=self.layer)
            for method, what in (("ccs", "knows: CCS direction, found without labels"), ("logistic", "knows: logistic probe")):
                for row in pick(chosen, method=method).to_dict("records"):
                    measured = {k: row[k] for k in ("value", "low", "high", "n")}
                    rows.append({"condition": row["condition"], "what": what, "layer": self.layer, **measured})
            return pd.DataFrame(rows)

        self.run.table("says_and_knows", make=make, doing="put what is said beside what is read")

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
        return source.udhr("base_short", answers=self.words, rights=some, seed=self.set.seed)

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


def compute(models: Mapping[str, ModelHandle], settings: UdhrSettings, run: Steps) -> Udhr:
    """Run every step."""
    study = Udhr(models, settings, run)
    study.behaviour()
    study.read()
    table = study.probes()
    study.truth_or_answer()
    study.by_tokens()
    study.says_and_knows(table)
    study.denied()
    return study


STUDY = Study(
    name="udhr",
    asks="what a model says about people's rights under a claim, against what it knows inside",
    settings=UdhrSettings,
    fast={"behaviour": 60, "train": 240, "test": 120, "rights_per_identity": 4, "resamples": 200, "ccs_epochs": 400},
    checked={
        "behaviour": 20,
        "train": 80,
        "test": 60,
        "rights_per_identity": 2,
        "resamples": 30,
        "ccs_epochs": 80,
        "claims": ("harm", "partial"),
    },
    compute=compute,
    report=report,
    main=Main(table="says_and_knows", labels=("condition", "what"), axis="share of held-out items", zero=0.5),
    tables={
        "says_and_knows": "condition what | layer value low high n",
        "behaviour": "template claim polarity metric | value low high n",
        "probes": "layer site method control fit_condition condition split against metric | value low high n band_low band_high note",
        "truth_or_answer": "layer direction condition against metric | value low high n",
        "by_tokens": "layer method identity_tokens against metric | value low high n",
        "denied_identities": "identity group metric | value low high n others p q denied",
        "denied_groups": "group metric | value low high n others p q denied",
        "denied_recovery": "metric | value low high n",
    },
    inside=("claims",),
    inputs=("data",),
)
