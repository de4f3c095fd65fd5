"""The probe bench as a study: every kind of probe, whether it carries over, how few samples do, what CCS found, tampering, training.

Everything is fitted without a claim unless a table says otherwise, and read on identities and rights that no fit has seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from ...activations import Activations
from ...core.text_controls import TEXT_CONTROLS
from ...models.tokens import encode_pairs
from ...probes import (
    ccs_honesty,
    fit_tamper,
    has_opposites,
    probe_layers,
    roc_curve,
    sample_efficiency,
    smallest,
    tamper_roc,
    transfer_matrix,
)
from ...probes.linear import LINEAR
from ...probes.nonlinear import NONLINEAR
from ...prompts import PromptSet, with_distractor
from ...runs import Main, ModelHandle, Steps, Study
from ..asking import TABLES as ASKED
from ..statements import FIT, READ, Rows, spread
from ..surfaces import TABLES as SURFACES
from ..surfaces import read_in_surfaces, surface_prompts
from .closed import TABLES as CLOSED
from .closed import compare
from .report import report
from .settings import FEW, ProbeSettings
from .training import across_training, steps_in


def kind_of(method: str) -> str:
    """Return "linear", "nonlinear" or "without labels"."""
    return "linear" if method in LINEAR else "nonlinear" if method in NONLINEAR else "without labels"


class Bench(Rows):
    """The steps of the study."""

    set: ProbeSettings

    def __init__(self, models: Mapping[str, ModelHandle], settings: ProbeSettings, run: Steps) -> None:
        super().__init__(models, settings, run)
        self.surfaces = surface_prompts(self, settings.surfaces)
        spread_out = spread(self.info.n_layers, settings.layers) if settings.layers else range(self.info.n_layers)
        self.layers = sorted({*spread_out, self.layer})
        self.polar = all(has_opposites(p.to_frame()) for p in self._sides("base_short", None))
        self.methods = [m for m in settings.methods if self.polar or m != "polarity_ccs"]
        for prompts in (self.base(), *self.pushes().values(), *self.distracted().values()):
            encode_pairs(self.handle, prompts)

    def _sides(self, template: str, claim: str | None) -> tuple[PromptSet, PromptSet]:
        return self._prompts(template, claim, self.set.train, "train"), self._prompts(template, claim, self.set.test, "test")

    def _both(self, template: str, claim: str | None) -> PromptSet:
        train, test = self._sides(template, claim)
        return train + test

    def base(self) -> PromptSet:
        """Without a claim."""
        return self._both("base_short", None)

    def pushes(self) -> dict[str, PromptSet]:
        """Under each claim in one prompt form, and the harm claim in another."""
        out = {claim: self._both(READ[0], claim) for claim in self.set.claims}
        return out | {"harm, other form": self._both(READ[1], "harm")}

    def distracted(self) -> dict[str, PromptSet]:
        """Without a claim, with something irrelevant in each half."""
        return {kind: with_distractor(self.base(), kind, seed=self.set.seed) for kind in ("word", "speaker")}

    def read(self) -> None:
        """Capture everything."""
        base = self.base()
        self.acts = self._read(f"read {FIT}", base, answers=True)
        self.blank = self._blank(base)
        self.embedding = self._read("read the embedding", base, site="resid_pre", layers=[0])
        self.pushed = {name: self._read(f"read under {name}", p, answers=True) for name, p in self.pushes().items()}
        self.odd = {name: self._read(f"read with distractor: {name}", p, answers=True) for name, p in self.distracted().items()}

    def _unpushed(self) -> Activations:
        return self._told(self.acts)

    def _conditions(self) -> dict[str, Activations]:
        return {name: self._told(acts) for name, acts in self.pushed.items()}

    def probes(self) -> None:
        """Every method, every layer, no claim and each claim, every control."""

        def make() -> pd.DataFrame:
            at: dict[str, Any] = {"layers": self.layers}
            pushed = {name: acts.where(**at) for name, acts in self._conditions().items()}
            test = {name: acts.subset(self.split.side(acts.rows) == "test") for name, acts in pushed.items()}
            table = probe_layers(
                self._unpushed().where(**at),
                test=test,
                split=self.split,
                condition=FIT,
                methods=self.methods,
                untrained=None if self.blank is None else self.blank.where(**at),
                embedding=self.embedding,
                text_vectors=self._text_vectors(self.acts, *test.values()),
                random_directions=self.set.draws,
                resamples=self.set.resamples,
                burns_exact=True,
                seed=self.set.seed,
            )
            controlled = table["control"].isin(("random_directions", "shuffled_labels", *TEXT_CONTROLS))
            return table.assign(kind=[("control" if c else kind_of(m)) for m, c in zip(table["method"], controlled, strict=True)])

        self.run.table("probes", make=make, doing="fit every method on every layer")

    def transfer(self) -> None:
        """Fit on each condition, read each."""

        def make() -> pd.DataFrame:
            conditions = {FIT: self._unpushed(), **self._conditions()}
            how: dict[str, Any] = {"layers": [self.layer], "split": self.split, "seed": self.set.seed}
            return pd.concat([transfer_matrix(conditions, method=m, **how) for m in ("logistic", "ccs")], ignore_index=True)

        self.run.table("transfer", make=make, doing="fit on each condition, read each")

    def efficiency(self) -> None:
        """Ever more training items, and how few are enough."""

        def make() -> dict[str, pd.DataFrame]:
            table = sample_efficiency(
                self._unpushed(),
                layer=self.layer,
                split=self.split,
                repeats=self.set.repeats,
                resamples=self.set.resamples,
                seed=self.set.seed,
            )
            return {"sample_efficiency": table, "enough": smallest(table)}

        self.run.table(("sample_efficiency", "enough"), make=make, doing="fit on ever more items")

    def honesty(self) -> None:
        """CCS beside everything that it should be compared with."""

        def make() -> pd.DataFrame:
            panel = ccs_honesty(
                self._unpushed(),
                layer=self.layer,
                split=self.split,
                distractors={name: self._told(acts) for name, acts in self.odd.items()},
                draws=self.set.draws,
                resamples=self.set.resamples,
                seed=self.set.seed,
            )
            findings = list(panel.findings)
            return panel.table.assign(layer=self.layer, finding=findings + [""] * (len(panel.table) - len(findings)))

        self.run.table("ccs_honesty", make=make, doing="what did CCS find")

    def tampering(self) -> None:
        """Disagreement of probe and answer, pushed against unpushed."""

        def make() -> dict[str, pd.DataFrame]:
            acts, pushed = self._unpushed(), self._conditions()
            detector = fit_tamper(acts, layer=self.layer, split=self.split, false_alarms=self.set.false_alarms, seed=self.set.seed)
            measured = tamper_roc(acts, pushed, detector, split=self.split)
            held = self.split.side(acts.rows) == "test"
            quiet, curves = detector.scores(acts.subset(held))[0], []
            for name, some in pushed.items():
                loud = detector.scores(some.subset(self.split.side(some.rows) == "test"))[0]
                curves.append(roc_curve(quiet, loud).assign(condition=name))
            return {
                "tampering": measured.assign(calibration_rows=detector.calibration_rows),
                "tampering_roc": pd.concat(curves, ignore_index=True),
            }

        self.run.table(("tampering", "tampering_roc"), make=make, doing="measure the detector of tampering")

    def training(self) -> None:
        """The same reading at every checkpoint, and when it rises."""
        if not self.set.checkpoints:
            return
        columns = {"training": ["step", "layer", "method", "what"], "change_points": ["method"]}

        def make() -> dict[str, pd.DataFrame]:
            training, changes = across_training(
                {step: str(path) for step, path in steps_in(self.set.checkpoints).items()},
                self.base(),
                split=self.split,
                layer=self.layer,
                resamples=self.set.resamples,
                seed=self.set.seed,
                progress=self.progress,
            )
            measured = ["metric", "value", "low", "high", "n"]
            return {
                "training": training[[*columns["training"], *measured]],
                "change_points": changes[[*columns["change_points"], *measured, "note"]],
            }

        self.run.table(("training", "change_points"), make=make, doing="read every checkpoint")


def compute(models: Mapping[str, ModelHandle], settings: ProbeSettings, run: Steps) -> Bench:
    """Run every step."""
    study = Bench(models, settings, run)
    study.read()
    study.probes()
    study.transfer()
    study.efficiency()
    study.honesty()
    compare(study)
    study.tampering()
    read_in_surfaces(study, study.surfaces, ("logistic", "mass_mean", "ccs"))
    study.training()
    return study


STUDY = Study(
    name="probes",
    asks="every kind of probe on every layer, whether it carries over, how few samples do, what CCS found, tampering",
    settings=ProbeSettings,
    fast={
        "elicit": 12,
        "train": 160,
        "test": 100,
        "surfaces": 32,
        "methods": FEW,
        "layers": 8,
        "repeats": 3,
        "draws": 40,
        "resamples": 200,
        "claims": ("partial", "harm"),
    },
    checked={
        "elicit": 0,
        "train": 100,
        "test": 100,
        "surfaces": 24,
        "methods": ("logistic", "knn", "ccs"),
        "repeats": 2,
        "draws": 10,
        "resamples": 30,
        "claims": ("harm",),
    },
    compute=compute,
    report=report,
    main=Main(table="ccs_honesty", labels=("what", "against"), axis="share of held-out items", where={"metric": "accuracy"}, zero=0.5),
    tables={
        **ASKED,
        **SURFACES,
        **CLOSED,
        "ccs_honesty": "what method against metric | value low high n note layer finding",
        "probes": "layer site method control fit_condition condition split against metric kind | value low high n band_low band_high note",
        "transfer": "layer site method fit_condition condition split against metric | value low high n",
        "sample_efficiency": "layer method world items repeats split against metric | value low high n",
        "enough": "method world threshold | items",
        "tampering": "layer method split condition kind metric | value low high n note calibration_rows",
        "tampering_roc": "condition | threshold false_alarms detected",
        "training": "step layer method what metric | value low high n",
        "change_points": "method metric | value low high n note",
    },
    inside=("methods", "claims"),
    inputs=("checkpoints",),
)
