"""The probe bench as a study: every kind of probe, whether it carries over, how few samples do, what CCS found, tampering, training.

Everything is fitted without a claim unless a table says otherwise, and read on identities and rights that no fit has seen.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..activations import Activations, capture
from ..core.errors import BadInput
from ..core.stats import proportion
from ..evaluation import answers_of
from ..models import load_model
from ..models.tokens import encode_pairs
from ..probes import (
    ccs_honesty,
    change_point,
    fit_layers,
    fit_tamper,
    probe_layers,
    roc_curve,
    sample_efficiency,
    smallest,
    tamper_roc,
    transfer_matrix,
)
from ..probes.linear import LINEAR
from ..probes.nonlinear import NONLINEAR
from ..prompts import PromptSet, with_distractor
from .common import FIT, READ, Rows
from .run import Run

METHODS = (
    "logistic", "lda", "mass_mean", "difference_in_means", "ridge", "svm", "mlp", "quadratic", "rbf", "knn", "ccs", "ccs_circle", "hinge",
    "bimodal", "spin", "infonce", "crc", "vinc", "kmeans", "ccs:mlp",
)  # fmt: skip
FEW = ("logistic", "lda", "mass_mean", "mlp", "knn", "ccs", "hinge", "crc")


@dataclass(frozen=True, kw_only=True)
class ProbeSettings:
    """The grid of the study.

    Attributes:
        train, test: Items per condition.
        methods: For the table of all layers.
        claims: Claims to push with.
        repeats: Draws for each training size.
        draws: Random directions.
        resamples: Bootstrap draws.
        false_alarms: Share of unpushed prompts that the detector of tampering may flag.
        checkpoints: A folder of checkpoints named `step-N` (`workbench train … --checkpoints`), or "" for none.
        seed: Draws everything.
    """

    train: int = 800
    test: int = 400
    methods: tuple[str, ...] = METHODS
    claims: tuple[str, ...] = ("good", "neutral", "partial", "harm")
    repeats: int = 10
    draws: int = 200
    resamples: int = 1000
    false_alarms: float = 0.01
    checkpoints: str = ""
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("train", "test"):
            if getattr(self, name) < 100:
                raise BadInput(f"{name}: 100 items at least, got {getattr(self, name)}")
        if "harm" not in self.claims:
            raise BadInput("the study pushes with the harm claim: claims= must hold it")
        if self.checkpoints and not steps_in(self.checkpoints):
            raise BadInput(f"no folder step-N in {Path(self.checkpoints).name}: make them with `workbench train … --checkpoints 12`")


Settings = ProbeSettings


def fast(seed: int = 0, **options: Any) -> ProbeSettings:
    """Return a small grid, for a first look; options take precedence."""
    small: dict[str, Any] = {
        "train": 240,
        "test": 120,
        "methods": FEW,
        "repeats": 3,
        "draws": 40,
        "resamples": 200,
        "claims": ("partial", "harm"),
        "seed": seed,
    }
    return ProbeSettings(**(small | options))


def steps_in(folder: str | Path) -> dict[int, Path]:
    """Return the checkpoints of a folder by step."""
    found = {p.name.removeprefix("step-"): p for p in Path(folder).glob("step-*") if p.is_dir()}
    return {int(k): found[k] for k in sorted((k for k in found if k.isdigit()), key=int)}


def kind_of(method: str) -> str:
    """Return "linear", "nonlinear" or "without labels"."""
    return "linear" if method in LINEAR else "nonlinear" if method in NONLINEAR else "without labels"


class Bench(Rows):
    """The steps of the study."""

    set: ProbeSettings

    def __init__(self, model: Any, settings: ProbeSettings, run: Run, progress: bool | None) -> None:
        super().__init__(model, settings, run, progress)
        for prompts in (self.base(), *self.pushes().values(), *self.distracted().values()):
            encode_pairs(model, prompts)

    # ------------------------------------------------------------------ prompts

    def _both(self, template: str, claim: str | None) -> PromptSet:
        return self._prompts(template, claim, self.set.train, "train") + self._prompts(template, claim, self.set.test, "test")

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

    # ------------------------------------------------------------------ steps

    def read(self) -> None:
        """Capture everything."""
        base = self.base()
        self.acts = self._capture(f"read {FIT}", base)
        self.blank = self._blank(base)
        self.embedding = self._read("read the embedding", base, site="resid_pre", layers=[0])
        self.pushed = {name: self._capture(f"read under {name}", p) for name, p in self.pushes().items()}
        self.odd = {name: self._capture(f"read with distractor: {name}", p) for name, p in self.distracted().items()}

    def _table(self, name: str, step: str, make: Any, *key: Any) -> pd.DataFrame:
        whole = [self.info.key(), asdict(self.set), *key]
        return self.run.keep(name, self.run.table(step, whole, make))

    def probes(self) -> pd.DataFrame:
        """Every method, every layer, no claim and each claim, every control."""

        def make() -> pd.DataFrame:
            test = {name: acts.subset(self.split.side(acts.rows) == "test") for name, acts in self.pushed.items()}
            table = probe_layers(
                self.acts, test=test, split=self.split, condition=FIT, methods=self.set.methods, untrained=self.blank,
                embedding=self.embedding, random_directions=self.set.draws, resamples=self.set.resamples, burns_exact=True, seed=self.set.seed,
            )  # fmt: skip
            controlled = table["control"].isin(("random_directions", "shuffled_labels", "bag_of_words"))
            return table.assign(kind=[("control" if c else kind_of(m)) for m, c in zip(table["method"], controlled, strict=True)])

        return self._table("probes", "fit every method on every layer", make)

    def transfer(self) -> pd.DataFrame:
        """Fit on each condition, read each."""

        def make() -> pd.DataFrame:
            conditions = {FIT: self.acts, **self.pushed}
            return pd.concat(
                [
                    transfer_matrix(
                        conditions, method=m, layers=[self.layer], split=self.split, resamples=self.set.resamples, seed=self.set.seed
                    )
                    for m in ("logistic", "ccs")
                ],
                ignore_index=True,
            )

        return self._table("transfer", "fit on each condition, read each", make)

    def efficiency(self) -> pd.DataFrame:
        """Ever more training items."""
        table = self._table(
            "sample_efficiency", "fit on ever more items",
            lambda: sample_efficiency(
                self.acts, layer=self.layer, split=self.split, repeats=self.set.repeats, resamples=self.set.resamples, seed=self.set.seed
            ),
        )  # fmt: skip
        self.run.tables["enough"] = smallest(table)
        self.run.keep("enough", self.run.tables["enough"])
        return table

    def honesty(self) -> None:
        """CCS beside everything that it should be compared with."""
        panel: list[Any] = []

        def make() -> pd.DataFrame:
            panel.append(
                ccs_honesty(
                    self.acts, layer=self.layer, split=self.split, distractors=self.odd, draws=self.set.draws, resamples=self.set.resamples,
                    seed=self.set.seed,
                )
            )  # fmt: skip
            return panel[0].table.assign(
                layer=self.layer, finding=list(panel[0].findings) + [""] * (len(panel[0].table) - len(panel[0].findings))
            )

        table = self._table("ccs_honesty", "what did CCS find", make)
        self.words_of_panel = [w for w in table["finding"] if isinstance(w, str) and w]

    def tampering(self) -> None:
        """Disagreement of probe and answer, pushed against unpushed."""
        held = self.split.side(self.acts.rows) == "test"
        detector = fit_tamper(self.acts, layer=self.layer, split=self.split, false_alarms=self.set.false_alarms, seed=self.set.seed)
        self.detector = detector
        self._table(
            "tampering", "measure the detector of tampering",
            lambda: tamper_roc(self.acts, self.pushed, detector, split=self.split, resamples=self.set.resamples, seed=self.set.seed),
        )  # fmt: skip

        def curves() -> pd.DataFrame:
            quiet = detector.scores(self.acts.subset(held))[0]
            parts = []
            for name, acts in self.pushed.items():
                loud = detector.scores(acts.subset(self.split.side(acts.rows) == "test"))[0]
                parts.append(roc_curve(quiet, loud).assign(condition=name))
            return pd.concat(parts, ignore_index=True)

        self._table("tampering_roc", "its curves", curves)

    def training(self) -> None:
        """The same reading at every checkpoint, and when it rises."""
        if not self.set.checkpoints:
            return
        tables: dict[str, pd.DataFrame] = {}

        def make() -> pd.DataFrame:
            tables["training"], tables["change_points"] = across_training(
                {step: str(path) for step, path in steps_in(self.set.checkpoints).items()}, self.base(), split=self.split, layer=self.layer,
                resamples=self.set.resamples, seed=self.set.seed, progress=self.progress,
            )  # fmt: skip
            return pd.concat([t.assign(table=k) for k, t in tables.items()], ignore_index=True)

        both = self.run.table("read every checkpoint", [asdict(self.set), self.base().hash], make)
        shown = {"training": ["step", "layer", "method", "what"], "change_points": ["method"]}
        for name, columns in shown.items():
            some = both[both["table"] == name].reset_index(drop=True)
            self.run.keep(name, some[[*columns, "metric", "value", "low", "high", "n", *(["note"] if name == "change_points" else [])]])


def across_training(
    checkpoints: dict[int, Any], prompts: PromptSet, *, split: Any, layer: int, methods: tuple[str, ...] = ("logistic", "ccs"),
    resamples: int = 1000, seed: int = 0, progress: bool | None = None, **load: Any,
) -> tuple[pd.DataFrame, pd.DataFrame]:  # fmt: skip
    """Read the same prompts at every checkpoint of a model and say when each thing becomes readable.

    Args:
        checkpoints: What `load_model` takes, by training step: folders, or `("EleutherAI/pythia-70m", {"revision": "step1000"})` for a
            revision from the hub.
        prompts: Training and held-out items.
        split: Which are held out.
        layer: The block.
        methods: Of `fit_layers`.
        resamples: For the change points.
        seed: For fits and intervals.
        progress: Show progress bars.
        load: Passed to `load_model`.

    Returns:
        Accuracy by step for each method and for the model's own answer (method "answer"); and the change points, in steps.
    """
    rows, hits, people = [], {}, np.array([])
    for step, source in checkpoints.items():
        name, more = source if isinstance(source, tuple) else (source, {})
        model = load_model(name, **{**load, **more})
        acts: Activations = capture(model, prompts, layers=[layer], logits="answers", progress=progress, note=f"step {step}")
        side = split.side(acts.rows)
        train, held = acts.subset(side == "train"), acts.subset(side == "test")
        z, people = held.labels, held.rows["identity"].to_numpy()
        said = {m: fit_layers(train, m, seed=seed).scores(held, layer) > 0 for m in methods}
        said["answer"] = answers_of(held)["answer"].to_numpy().astype(bool)
        for method, guess in said.items():
            hit = guess == z
            hits.setdefault(method, []).append(hit)
            what = "the model's own answer is right" if method == "answer" else f"{method} reads the truth, layer {layer}"
            rows.append(
                {"step": step, "layer": layer, "method": method, "what": what, "metric": "accuracy", **proportion(hit, people).row()}
            )
    changes = [
        {"method": m, "metric": "change point, step", **(e := change_point(list(checkpoints), np.stack(h), people, resamples=resamples, seed=seed)).row(), "note": e.note}
        for m, h in hits.items()
    ]  # fmt: skip
    return pd.DataFrame(rows), pd.DataFrame(changes)


def compute(model: Any, settings: ProbeSettings, run: Run, progress: bool | None = None) -> Bench:
    """Run every step and keep the tables in the run."""
    study = Bench(model, settings, run, progress)
    study.read()
    study.probes()
    study.transfer()
    study.efficiency()
    study.honesty()
    study.tampering()
    study.training()
    return study
