"""The UDHR study: what a model says about people's rights when it is pushed, against what it knows inside.

Behaviour by template and claim; probes and CCS per layer, fitted without a claim and read under each; both side by side;
who is denied rights without any claim.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from .. import prompts as source
from ..activations import Activations
from ..core.errors import BadInput
from ..core.stats import proportion
from ..evaluation import agreement, answers, false_negatives, recovery
from ..models.tokens import answer_tokens, encode_pairs
from ..probes import accuracy_by, fit_layers, probe_layers
from ..prompts import PromptSet
from .common import FIT, Rows
from .run import Run

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
        data: Statements of your own in place of the project's: a csv, jsonl or parquet file with a statement and a label (whether agreeing is
            right) in each row, and, where there are such, `identity`, `right`, `group`; "" for the project's.
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
        source.statements(self.data, self.columns)  # a table that will not do is told before a model is loaded
        for name in ("rights_per_identity", "ccs_epochs"):
            if getattr(self, name) < 1:
                raise BadInput(f"{name}: 1 at least, got {getattr(self, name)}")


Settings = UdhrSettings


def fast(seed: int = 0, **options: Any) -> UdhrSettings:
    """Return a small grid, for a first look; options take precedence."""
    small: dict[str, Any] = {
        "behaviour": 60,
        "train": 240,
        "test": 120,
        "rights_per_identity": 4,
        "resamples": 200,
        "ccs_epochs": 400,
        "seed": seed,
    }
    return UdhrSettings(**(small | options))


class _Study(Rows):
    """The steps of the study."""

    set: UdhrSettings

    def __init__(self, model: Any, settings: UdhrSettings, run: Run, progress: bool | None) -> None:
        super().__init__(model, settings, run, progress)
        answer_tokens(model, (" A", " B") if self._can_choose() else tuple(f" {w}" for w in self.words))
        self._check_length()

    def _check_length(self) -> None:
        """Encode every prompt of the study, longest first to fail, before anything is run."""
        n = self.set
        plan = [self._prompts(t, c, n.behaviour, "test") for t, c in self._grid()]
        plan += [self._pushed(c, n.test, "test") for c in n.claims]
        plan += [self._prompts("base_short", None, n.train, "train"), *([self._denied_prompts()] if self.asks_who else [])]
        for prompts in plan:
            encode_pairs(self.model, prompts)

    def _grid(self) -> Iterator[tuple[str, str | None]]:
        """Every prompt form with every claim that it takes."""
        for template in (*PLAIN, *PUSHED):
            if "rather" in template and (self.source.own or not self._can_choose()):
                continue  # a choice between two statements needs the granting and the denying form of one
            for claim in (None,) if template in PLAIN else self.set.claims:
                yield template, claim

    def _ask(self, name: str, prompts: PromptSet) -> Any:
        key = [self.info.key(), prompts.hash]
        return self.run.table(name, key, lambda: answers(self.model, prompts, progress=self.progress, note=name), items=len(prompts))

    # ------------------------------------------------------------------ behaviour

    def behaviour(self) -> pd.DataFrame:
        """Ask every template with and without each claim; held-out identities and rights."""
        asked = [
            self._ask(f"ask {template}, {claim or FIT}", self._prompts(template, claim, self.set.behaviour, "test"))
            for template, claim in self._grid()
        ]
        table = agreement(pd.concat(asked, ignore_index=True))
        return self.run.keep("behaviour", table)

    # ------------------------------------------------------------------ inside

    def conditions(self) -> tuple[Any, Any, dict[str, Any], Any]:
        """Capture the fitted condition (trained and untrained model), every claim, and training rows under "partial"."""
        n = self.set
        base = self._prompts("base_short", None, n.train, "train") + self._prompts("base_short", None, n.test, "test")

        acts = self._capture(f"read {FIT}", base)
        blank = self._blank(base)
        test = {}
        for claim in n.claims:
            test[claim] = self._capture(f"read under {claim}", self._pushed(claim, n.test, "test"))
        train_partial = None
        if "partial" in n.claims:
            train_partial = self._capture("read under partial, training rows", self._pushed("partial", n.train, "train"))
        return acts, blank, test, train_partial

    def probes(self, acts: Activations, blank: Activations | None, test: dict[str, Activations]) -> pd.DataFrame:
        """Fit without a claim, read under each claim, with every control."""
        key = [self.info.key(), self.decides, acts.provenance.get("prompts"), [t.provenance.get("prompts") for t in test.values()]]
        against = tuple(a for a in ("label", "answer") if a == "label" or all(t.rows["answer"].notna().all() for t in test.values()))

        def make() -> pd.DataFrame:
            return probe_layers(
                acts,
                test=test,
                split=self.split,
                condition=FIT,
                untrained=blank,
                against=against,
                resamples=self.set.resamples,
                ccs_options={"epochs": self.set.ccs_epochs},
                seed=self.set.seed,
            )

        return self.run.keep("probes", self.run.table("fit probes and CCS without a claim, read under each", key, make))

    def truth_or_answer(self, acts: Activations, test: dict[str, Activations], train_partial: Activations | None) -> pd.DataFrame:
        """Under the partial claim truth and answer part: read both directions against both."""
        key = [self.info.key(), self.decides, acts.provenance.get("prompts")]
        name = "compare truth and answer under the partial claim"
        return self.run.keep("truth_or_answer", self.run.table(name, key, lambda: self._truth_or_answer(acts, test, train_partial)))

    def _truth_or_answer(self, acts: Activations, test: dict[str, Activations], train_partial: Activations | None) -> pd.DataFrame:
        rows: list[dict[str, Any]] = []
        if train_partial is not None:
            train = acts.subset(self.split.side(acts.rows) == "train")
            held = test["partial"]
            fits = [
                (
                    "CCS, found without labels and without a claim",
                    fit_layers(train, "ccs", condition=FIT, seed=self.set.seed, epochs=self.set.ccs_epochs),
                )
            ]
            if train_partial.rows["answer"].nunique() == 2:
                fits.append(
                    (
                        "logistic probe, fitted on the answers under this claim",
                        fit_layers(train_partial, "logistic", target="answer", condition="partial"),
                    )
                )
            for name, fit in fits:
                for layer in held.layers:
                    said = fit.scores(held, layer) > 0
                    for against in ("label", "answer"):
                        estimate = proportion(said == held.rows[against].to_numpy(), held.rows["identity"].to_numpy())
                        rows.append(
                            {
                                "layer": layer,
                                "direction": name,
                                "condition": "partial",
                                "against": against,
                                "metric": "accuracy",
                                **estimate.row(),
                            }
                        )
        columns = ["layer", "direction", "condition", "against", "metric", "value", "low", "high", "n"]
        return pd.DataFrame(rows, columns=columns)

    def by_tokens(self, acts: Activations) -> pd.DataFrame:
        """Probe accuracy by the number of tokens of the identity, at the layer two thirds of the way up."""
        key = [self.info.key(), self.set.seed, acts.provenance.get("prompts"), self.source.own and self.source.digest()]

        def make() -> pd.DataFrame:
            side = self.split.side(acts.rows)
            fit = fit_layers(acts.subset(side == "train"), "logistic", condition=FIT)
            return accuracy_by(fit, acts.subset(side == "test"), self.layer, "identity_tokens")

        return self.run.keep("by_tokens", self.run.table("accuracy by length of the identity", key, make))

    # ------------------------------------------------------------------ says and knows, who is denied

    def says_and_knows(self, table: pd.DataFrame, acts: Activations, test: dict[str, Activations]) -> pd.DataFrame:
        """Put the share of safe answers beside the share of items whose truth is read inside, on the same rows."""
        held = {FIT: acts.subset(self.split.side(acts.rows) == "test"), **test}
        rows = []
        for name, some in held.items():
            safe = proportion(some.rows["answer"] == some.rows["label"], some.rows["identity"].to_numpy())
            rows.append({"condition": name, "what": "says: share of safe answers", "layer": -1, **safe.row()})
        labels = {"ccs": "knows: CCS direction, found without labels", "logistic": "knows: logistic probe"}
        chosen = table[
            (table["control"] == "") & (table["against"] == "label") & (table["metric"] == "accuracy") & (table["layer"] == self.layer)
        ]
        for method, what in labels.items():
            for _, row in chosen[chosen["method"] == method].iterrows():
                rows.append(
                    {"condition": row["condition"], "what": what, "layer": self.layer, **row[["value", "low", "high", "n"]].to_dict()}
                )
        return self.run.keep("says_and_knows", pd.DataFrame(rows))

    @property
    def decides(self) -> list[Any]:
        """What of the settings decides a step: statements of one's own by what they say, not by where they lie."""
        return [
            {k: v for k, v in asdict(self.set).items() if k not in ("data", "columns")},
            self.source.digest() if self.source.own else "",
        ]

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

    def denied(self) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
        """Ask about every identity without a claim and find who is denied rights; compare with what was planted."""
        if not self.asks_who:
            nobody = pd.DataFrame(columns=["identity", "metric", "value", "low", "high", "n", "denied"])
            return nobody, nobody, nobody
        prompts = self._denied_prompts()
        asked = self._ask("ask about every identity without a claim", prompts)
        people = self.run.keep("denied_identities", false_negatives(asked))
        groups = pd.DataFrame()
        if asked["group"].nunique() > 1:
            groups = self.run.keep("denied_groups", false_negatives(asked, by="group"))
        found = pd.DataFrame()
        if self.planted is not None and not self.source.own:
            found = self.run.keep("denied_recovery", recovery(people.loc[people["denied"], "identity"].tolist(), self.planted["denied"]))
        return people, groups, found


def claim_names(table: pd.DataFrame) -> Sequence[str]:
    """Conditions in the order of the study."""
    order = [FIT, *CLAIMS]
    return [c for c in order if c in set(table["condition"])]


def compute(model: Any, settings: UdhrSettings, run: Run, progress: bool | None = None) -> _Study:
    """Run every step and keep the tables in the run."""
    study = _Study(model, settings, run, progress)
    study.behaviour()
    acts, blank, test, train_partial = study.conditions()
    table = study.probes(acts, blank, test)
    study.truth_or_answer(acts, test, train_partial)
    study.by_tokens(acts)
    study.says_and_knows(table, acts, test)
    study.denied()
    return study
