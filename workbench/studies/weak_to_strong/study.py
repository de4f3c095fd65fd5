"""Weak-to-strong: a weak teacher's labels teach a stronger model. What is recovered of the gap, and which errors are passed on?

The teacher learns the truth of some people's statements. It labels statements about other people, and students of the strong model see
these labels only. The ceiling is the same student taught by the truth. All are read on people and rights that none of them met, under
claims, and on other data. Beside them: the strong model with nothing trained, students of labels with as many errors at random
places, of labels that say nothing, and of an untrained copy.

References:
    Burns et al. 2023, arXiv 2312.09390.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit

from ...activations import Activations
from ...core.errors import BadInput
from ...core.seeds import derive, numpy_rng
from ...core.stats import mean, proportion
from ...core.tables import units_of
from ...evaluation import answers, answers_of, choose_answers
from ...evaluation.eliciting import Form
from ...models import planted
from ...models.hooks import check_layers
from ...models.tokens import encode_pairs
from ...probes import fit_logistic, fit_weak_labels
from ...probes.linear import STRENGTHS
from ...prompts import PromptSet, as_questions, grouped_folds, load
from ...runs import Main, ModelHandle, Steps, Study
from ...training import Adapter, adapted, train_adapter
from ..asking import uses_chat
from ..statements import Rows
from .counted import EMPTY, HELD, NOTHING, RANDOM, TEACHER, TRUTH, UNTAUGHT, UNTRAINED, Right, accuracies, repeated
from .report import report
from .settings import WeakToStrongSettings

LOSS = {"plain": "cross_entropy", "confidence": "confidence", "log_confidence": "log_confidence"}


class WeakToStrong(Rows):
    """The steps of the study."""

    set: WeakToStrongSettings

    def __init__(self, models: Mapping[str, ModelHandle], settings: WeakToStrongSettings, run: Steps) -> None:
        super().__init__({"model": models["strong"]}, settings, run)
        self.weak = models["weak"]
        self.weak_form = self._plain_form(self.weak)
        self.weak_layer = check_layers(self.weak, self.weak.info.n_layers // 2 if settings.weak_layer < 0 else settings.weak_layer)[0]
        taught, labelled = self._halves()
        self.teach = self._asked(self.weak, settings.teach, taught)
        self.train = {who: self._asked(self._handle(who), settings.train, labelled) for who in ("weak", "strong")}
        self.tests = {who: dict(self._tests(self._handle(who))) for who in ("weak", "strong")}
        for who in ("weak", "strong"):
            for prompts in (self.train[who], *self.tests[who].values()):
                encode_pairs(self._handle(who), prompts)
        self.name = f"{self.weak.info.name}, {'block ' + str(self.weak_layer) if settings.teacher == 'probe' else 'its answers'}"

    # ------------------------------------------------------------------ how both models are asked

    def _form(self) -> Form:
        return self._plain_form(self.handle)

    def _plain_form(self, handle: ModelHandle) -> Form:
        """Without examples: no form is chosen, so that both models are asked alike."""
        chat = uses_chat(self.asks, handle, planted(handle) is not None)
        if self.asks.words:
            positive, negative = (w.strip() for w in self.asks.words.split("/"))
            return Form(chat=chat, answers=choose_answers(handle, [(negative, positive)]))
        return Form(chat=chat, answers=choose_answers(handle))

    def _handle(self, who: str) -> ModelHandle:
        return self.weak if who == "weak" else self.handle

    def _how(self, handle: ModelHandle) -> dict[str, Any]:
        form = self.weak_form if handle is self.weak and handle is not self.handle else self.form
        return {"answers": form.answers, **self.asks.through(handle, form.chat)}

    def _halves(self) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
        """The training people (and rights) in two parts: whose truth the teacher is taught, and what it labels. They share neither."""
        held, share = self.split.values("train"), self.set.teach / (self.set.teach + self.set.train)
        if all(len(values) < 2 for values in held.values()):
            raise BadInput(f"{self.source.name}: one identity and one right to train on; a teacher and a student need some each")
        first, second = dict(held), dict(held)
        for column, values in held.items():
            order = numpy_rng(self.set.seed, "the teacher's", column).permutation(values).tolist()
            if len(order) > 1:  # a teacher that met the rights of its labels would be righter on them than on held-out ones
                cut = min(len(order) - 1, max(1, round(share * len(order))))
                first[column], second[column] = sorted(order[:cut]), sorted(order[cut:])
        return first, second

    def _asked(self, handle: ModelHandle, n: int, held: Mapping[str, Any], template: str = "", claim: str | None = None) -> PromptSet:
        how = {"n": n, "seed": derive(self.set.seed, "statements") % 10**6, "held": held, **self._how(handle)}
        return self.source.prompts(template or self.source.plain, claim, **how)

    def _tests(self, handle: ModelHandle) -> Any:
        held = self.split.values("test")
        yield HELD, self._asked(handle, self.set.test, held)
        for claim in self.set.claims:
            yield f"{claim} claim", self._asked(handle, self.set.test, held, self.source.pushed[0], claim)
        for file in self._files():
            some = load(file, n=self.set.test, seed=self.set.seed)
            if not isinstance(some, PromptSet) or not some.single:
                raise BadInput(f"other: {file.name} holds no true/false statements")
            yield file.stem.removesuffix("_true_false"), as_questions(some, self.source.plain, **self._how(handle))

    def _files(self) -> list[Path]:
        if not self.set.other:
            return []
        place = Path(self.set.other)
        files = sorted(f for f in place.iterdir() if f.suffix in (".csv", ".jsonl", ".parquet")) if place.is_dir() else [place]
        if not files:
            raise BadInput(f"other: {place.name} holds no .csv, .jsonl or .parquet file")
        return files

    # ------------------------------------------------------------------ reading

    def read(self) -> None:
        """Capture the weak model on everything, the strong one on what students see, and an untrained copy of it."""

        def one(name: str, handle: ModelHandle, prompts: PromptSet, layer: int, answered: bool = True) -> Activations:
            return self.run.read(name, handle, prompts, layers=[layer], answers=answered)

        self.taught = one("read what the teacher is taught", self.weak, self.teach, self.weak_layer)
        self.labelled = one("read what the teacher labels", self.weak, self.train["weak"], self.weak_layer)
        self.marked = {k: one(f"read the teacher on: {k}", self.weak, p, self.weak_layer) for k, p in self.tests["weak"].items()}
        self.seen = one("read what students are taught", self.handle, self.train["strong"], self.layer)
        self.asked = {k: one(f"read the strong model on: {k}", self.handle, p, self.layer) for k, p in self.tests["strong"].items()}
        self.blank: tuple[Activations, Activations] | None = None
        if self.handle.configured and "probe" in self.set.students:
            copy = self.handle.untrained(self.set.seed)
            parts = (("statements", self.train["strong"]), (HELD, self.tests["strong"][HELD]))
            first, second = (one(f"read an untrained copy on: {k}", copy, p, self.layer, False) for k, p in parts)
            self.blank = first, second

    # ------------------------------------------------------------------ inside a step

    @cached_property
    def _teacher(self) -> Any:
        """The probe of the weak model; its strength is chosen on its own training people."""
        x, y = self.taught.layer(self.weak_layer), self.taught.labels
        folds = grouped_folds(self.taught.rows, 5, by=_by(self.taught.rows), seed=self.set.seed)
        return fit_logistic(x[:, 1], x[:, 0], y, c=STRENGTHS, folds=folds)

    def marks(self, acts: Activations) -> np.ndarray:
        """The teacher's probability of the positive answer, item by item; inside a step."""
        if self.set.teacher == "answers":
            return expit(answers_of(acts)["margin"].to_numpy())
        x = acts.layer(self.weak_layer)
        return expit(self._teacher.score(x[:, 1], x[:, 0]))

    @cached_property
    def targets(self) -> dict[str, np.ndarray]:
        """By what it is taught by, what a student is given in place of labels; inside a step."""
        weak, truth = self.marks(self.labelled), np.asarray(self.seen.labels, float)
        rng = numpy_rng(self.set.seed, "control labels")
        other = rng.permutation(len(weak))  # each row has the certainty and the error of another: as many errors, and as unsure ones
        sure, wrong = np.abs(weak - 0.5)[other], ((weak > 0.5) != (truth > 0.5))[other]
        return {
            TRUTH: truth,
            **dict.fromkeys(self.set.losses, weak),
            RANDOM: 0.5 + sure * np.where((truth > 0.5) ^ wrong, 1, -1),
            EMPTY: 0.5 + sure * np.where((truth > 0.5) ^ _half(truth, rng), 1, -1),
        }

    @cached_property
    def _probes(self) -> dict[tuple[str, str], Any]:
        """Probes of the strong model and of its untrained copy, by student and what taught them; inside a step."""
        out = {("probe", t): self._probe(self.seen, t) for t in self.trained("probe")} if "probe" in self.set.students else {}
        if self.blank is not None:
            out |= {(UNTRAINED, t): self._probe(self.blank[0], t) for t in (TRUTH, self.set.losses[0])}
        return out

    def _probe(self, acts: Activations, trained: str) -> Any:
        x = acts.layer(self.layer)
        folds = grouped_folds(acts.rows, 5, by=_by(acts.rows), seed=self.set.seed)
        loss = trained if trained in LOSS else "plain"
        return fit_weak_labels(x[:, 1], x[:, 0], self.targets[trained], loss=loss, weight=self.set.own, c=STRENGTHS, folds=folds)

    def _probed(self, acts: Activations, probe: Any) -> np.ndarray:
        x = acts.layer(self.layer)
        return (probe.predict(x[:, 1], x[:, 0]) == acts.labels).astype(float)

    # ------------------------------------------------------------------ steps

    def trained(self, student: str) -> list[str]:
        """What each kind of student is taught by; the first kind also by control labels."""
        controls = [RANDOM, EMPTY] if student == self.set.students[0] else []
        return [TRUTH, *self.set.losses, *controls]

    def adapters(self) -> None:
        """Train every adapter and full change, each in a step of its own."""
        self.folders: dict[tuple[str, str], Path] = {}
        settings = self.set
        data = [self.handle.key, self.weak.key, *(p.hash for p in (self.teach, *self.train.values()))]
        how = [settings.teacher, self.weak_layer, self.layer, settings.steps, settings.batch, settings.own, settings.seed]
        for student in settings.students:
            if student == "probe":
                continue
            shape = [settings.rank, settings.lr] if student == "adapter" else [settings.full_lr]
            for trained in self.trained(student):
                name = f"{student} taught by {trained}".replace("_", " ")
                self.folders[student, trained] = self.run.folder(
                    name, [*data, *how, *shape, student, trained], self._training(student, trained), resumes=True
                )

    def _training(self, student: str, trained: str) -> Any:
        def make(place: Path, state: Path) -> None:
            settings = self.set
            how: dict[str, Any] = {"kind": "residual", "layers": [self.layer], "rank": settings.rank, "lr": settings.lr}
            if student == "full":
                how = {"kind": "full", "layers": range(self.info.n_layers), "parts": "attention,mlp", "lr": settings.full_lr}
            train_adapter(
                self.model, self.train["strong"], loss=LOSS.get(trained, "cross_entropy"), targets=self.targets[trained].tolist(),
                own=settings.own, steps=settings.steps, patience=settings.steps, last=True, batch_tokens=settings.batch, place=state,
                progress=self.progress, seed=settings.seed, **how,
            ).save(place)  # fmt: skip

        return make

    def measure(self) -> None:
        """Everybody on every set: accuracy, the gap recovered, and the teacher's errors repeated."""

        def make() -> dict[str, pd.DataFrame]:
            right = {name: self._right(name) for name in self.asked}
            rows, errors = [], []
            for name, acts in self.asked.items():
                units = units_of(acts.rows)
                rows += accuracies(name, right[name], units)
                errors += repeated(name, right[name], units)
            columns = ["set", "student", "trained", "metric", "value", "low", "high", "n", "note"]
            return {
                "weak_to_strong": pd.DataFrame(rows, columns=columns),
                "errors": pd.DataFrame(errors, columns=columns),
                "labels": self._labels(),
            }

        self.run.table(("weak_to_strong", "errors", "labels"), make=make, doing="read everybody on every set")

    def _right(self, name: str) -> Right:
        acts = self.asked[name]
        out: Right = {(TEACHER, ""): ((self.marks(self.marked[name]) > 0.5) == self.marked[name].labels).astype(float)}
        out[UNTAUGHT, NOTHING] = answers_of(acts)["safe"].to_numpy(float)
        for student in self.set.students:
            for trained in self.trained(student):
                if student == "probe":
                    out[student, trained] = self._probed(acts, self._probes[student, trained])
                else:
                    with adapted(self.model, Adapter.load(self.folders[student, trained]), canary=False):
                        asked = answers(self.model, self.tests["strong"][name], progress=self.progress, note=name)
                    out[student, trained] = asked["safe"].to_numpy(float)
        if name == HELD and self.blank is not None:
            for trained in (TRUTH, self.set.losses[0]):
                out[UNTRAINED, trained] = self._probed(self.blank[1], self._probes[UNTRAINED, trained])
        return out

    def _labels(self) -> pd.DataFrame:
        weak, truth, units = self.marks(self.labelled), self.labelled.labels, units_of(self.labelled.rows)
        sure = np.abs(2 * weak - 1)
        return pd.DataFrame(
            [
                {"metric": "accuracy", **proportion((weak > 0.5) == truth, units).row()},
                {"metric": "called positive", **proportion(weak > 0.5, units).row()},
                {"metric": "certainty", **mean(sure, units, bounded=True).row()},
            ]
        )


def _by(rows: pd.DataFrame) -> tuple[str, ...]:
    return tuple(c for c in ("identity", "right") if c in rows and rows[c].nunique() >= 5) or ("identity",)


def _half(truth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Which rows are labelled wrongly where labels say nothing: half of each class, where shuffled labels would have a few more or less."""
    wrong = np.zeros(len(truth), bool)
    for value in (0, 1):
        rows = rng.permutation(np.flatnonzero((truth > 0.5) == value))
        wrong[rows[: len(rows) // 2]] = True
    return wrong


def compute(models: Mapping[str, ModelHandle], settings: WeakToStrongSettings, run: Steps) -> WeakToStrong:
    """Run every step."""
    study = WeakToStrong(models, settings, run)
    study.read()
    study.adapters()
    study.measure()
    return study


STUDY = Study(
    name="weak_to_strong",
    asks="how much of the gap between a weak teacher and the truth does a student recover, and does it repeat the teacher's errors",
    settings=WeakToStrongSettings,
    models=("weak", "strong"),
    fast={"steps": 15, "teach": 100, "train": 160, "test": 120, "claims": ("harm",), "batch": 384},
    checked={"steps": 2, "teach": 40, "train": 60, "test": 40, "students": ("probe", "full"), "losses": ("plain",), "claims": ()},
    compute=compute,
    report=report,
    main=Main(
        table="weak_to_strong",
        labels=("set", "student", "trained"),
        axis="share of the gap that is recovered",
        where={"metric": "gap recovered"},
        zero=0.0,
    ),
    tables={
        "weak_to_strong": "set student trained metric | value low high n note",
        "errors": "set student trained metric | value low high n note",
        "labels": "metric | value low high n",
    },
    inside=("students", "losses", "claims"),
    inputs=("data", "other"),
)
