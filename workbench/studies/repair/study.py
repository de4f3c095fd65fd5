"""The repair study: a harm claim breaks the answers; every way to mend them on one page, with what each changes inside and what it costs.

Adapters of the residual stream are trained on one prompt form under both claims, on training identities and rights, and read on held-out
ones, on forms that were never trained on, on requests, and where no claim is made. Beside them: the claim opposite to harm in front, a
steering push along the stance, an adapter on random labels, and nothing.

References:
    Askell et al. 2021, arXiv 2112.00861 (context distillation); Burns et al. 2022, arXiv 2212.03827; Rimsky et al. 2023, arXiv 2312.06681.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ...core.direction import Direction
from ...core.paired import paired_proportions
from ...core.seeds import numpy_rng
from ...core.stats import mean, proportion
from ...core.tables import pick, units_of
from ...directions import extract_direction, place_of
from ...evaluation.texts import perplexity, perplexity_ratio, text_nll
from ...interventions import Asker, add, random_directions, tune
from ...prefixes import written
from ...probes import probe_layers
from ...prompts import PromptSet
from ...runs import Main, ModelHandle, Steps, Study
from ...training import Adapter, acting, survival, train_adapter
from ...training.space import written_along
from ..answering import TABLES as SAID
from ..asking import TABLES as ASKED
from ..fixing import TRAINED, Fixing
from ..outside import TABLES as OUTSIDE
from ..outside import Outside, judges
from ..statements import FIT, spread
from .foretold import correlation
from .report import report
from .settings import RepairSettings
from .words import BEFORE, PUSH, RANDOM_LABELS, RANDOM_PUSH, STRONG, WORDS, GoodClaim

FORMS = ("since_claim", "consider_claim", "long_since_claim", "long_consider_claim", "consider_would_you_rather")
LOSS = "loss held out"


class Repair(Fixing):
    """The steps of the study."""

    set: RepairSettings

    def __init__(self, models: Mapping[str, ModelHandle], settings: RepairSettings, run: Steps) -> None:
        super().__init__(models, settings, run)
        self.training = self.both_claims(settings.train, "train")
        self.plain = self._prompts("base_short", None, settings.train, "train")
        self.tests = dict(self._tests())
        sources = (settings.xstest, settings.mmlu, settings.hh_rlhf)
        self.outside = Outside(self, requests=settings.requests, sources=sources, asked=settings.asked)
        self.joint = ""
        self.places = spread(self.info.n_layers, settings.layers)

    # ------------------------------------------------------------------ prompts

    def _tests(self) -> Iterator[tuple[tuple[str, str], PromptSet]]:
        """By form and claim, held-out identities and rights; and requests, where the model has words for them."""
        yield ("base_short", FIT), self._prompts("base_short", None, self.set.test, "test")
        for form in FORMS:
            if "rather" in form and (self.source.own or not self._can_choose()):
                continue
            for claim in (self.harm, self.good):
                yield (form, claim), self._prompts(form, claim, self.set.test, "test")

    # ------------------------------------------------------------------ inside a step

    def adapter(self, name: str, key: Any, prompts: PromptSet | None = None, **how: Any) -> Path:
        """Train an adapter in a step of its own; return its folder."""

        def make(place: Path, state: Path) -> None:
            given: dict[str, Any] = {
                "place": state,
                "steps": self.set.steps,
                "lr": self.set.lr,
                "seed": self.set.seed,
                "progress": self.progress,
            }
            train_adapter(self.model, prompts or self.training, **given, **how).save(place)

        return self.run.folder(
            name, key=[self.handle.key, self.training.hash, key, self.set.steps, self.set.lr, self.set.seed], make=make, resumes=True
        )

    # ------------------------------------------------------------------ steps

    def layers(self) -> None:
        """An adapter of the first loss and rank at every layer; the one of validation's choice is gone on with."""
        loss, rank = self.set.losses[0], self.set.ranks[0]
        self.by_layer = {n: self.adapter(f"{loss}-rank-{rank}-layer-{n}", [loss, rank, n], loss=loss, rank=rank, layers=[n],
                                         **self._reads(loss)) for n in self.places}  # fmt: skip

        def make() -> pd.DataFrame:
            rows = []
            trained, plain = self.tests[TRAINED, self.harm], self.plain
            asker = Asker(self.model, plain)
            for n, folder in self.by_layer.items():
                adapter = Adapter.load(folder)
                about = {"loss": loss, "rank": rank, "layer": n, "labels": adapter.sees}
                held = adapter.history["validation"].min()
                rows.append(about | {"metric": LOSS, "value": held, "low": np.nan, "high": np.nan, "n": len(self.training)})
                rows.append(about | {"metric": "safe_score", **proportion(self.safe(adapter, trained), units_of(trained.to_frame())).row()})
                rows.append(about | {"metric": "kl", **mean(self.cost(adapter, asker), units_of(plain.to_frame())).row()})
            return pd.DataFrame(rows)

        def chosen(table: pd.DataFrame) -> list[int]:
            """The layers by their loss on people who were held out of the training: no label, no row that is reported."""
            held = pick(table, metric=LOSS)[["value", "layer"]].to_numpy()
            return [int(layer) for _, layer in sorted(held.tolist())]

        middle = self.places[len(self.places) // 3]
        self.best = self.run.choose("layers", None, make, chosen, [middle, *(n for n in self.places if n != middle)])
        self.place = self.best[0]

    def _reads(self, loss: str) -> dict[str, Any]:
        return {"read": self.info.n_layers - 1} if loss == "infonce" else {}

    def fixes(self) -> None:
        """Every loss and rank at the chosen layer, and adapters on random labels."""
        n, first, rank = self.place, self.set.losses[0], self.set.ranks[0]
        known = self.by_layer.get(n)
        self.folders: dict[str, Path] = {}
        for loss in self.set.losses:
            name = f"{loss}-rank-{rank}-chosen"
            at_first = loss == first and known is not None
            how: dict[str, Any] = {"loss": loss, "rank": rank, "layers": [n], **self._reads(loss)}
            self.folders[f"{loss}, rank {rank}"] = known if at_first and known is not None else self.adapter(name, [loss, rank, n], **how)
        for more in self.set.ranks[1:]:
            self.folders[f"{first}, rank {more}"] = self.adapter(
                f"{first}-rank-{more}-chosen", [first, more, n], loss=first, rank=more, layers=[n], **self._reads(first)
            )
        if 2 <= self.set.joint <= len(self.best):
            several = sorted(self.best[: self.set.joint])
            at = "+".join(map(str, several))
            self.joint = f"{first}, rank {rank}, blocks {at}"
            self.folders[self.joint] = self.adapter(
                f"{first}-rank-{rank}-jointly-{at}", [first, rank, several], loss=first, rank=rank, layers=several, **self._reads(first)
            )
        for k in range(self.set.draws):
            prompts = self._random_labels(k)
            self.folders[f"{RANDOM_LABELS} {k + 1}"] = self.adapter(
                f"random-labels-{k + 1}", ["random labels", k, rank, n], prompts=prompts, loss="cross_entropy", rank=rank, layers=[n]
            )

    def _random_labels(self, draw: int) -> PromptSet:
        """The training items with labels drawn by coin: the control of every loss that sees labels."""
        coins = numpy_rng(self.set.seed, "random labels", draw).integers(0, 2, len(self.training)).tolist()
        return PromptSet((replace(p, label=c) for p, c in zip(self.training, coins, strict=True)), name="random labels")

    def load(self) -> dict[str, Any]:
        """Every fix by name; inside a step."""
        out: dict[str, Any] = {name: Adapter.load(folder) for name, folder in self.folders.items()}
        return out | {WORDS: GoodClaim(self.good)} | self.pushes

    @cached_property
    def stance(self) -> Direction:
        """Good minus harm at the chosen layer, from training items; inside a step."""
        x = {c: self.acts[c].layer(self.place)[:, 0] for c in (self.good, self.harm)}
        place = place_of(self.acts[self.harm], self.place)
        made = extract_direction(x[self.good], x[self.harm], halves=0, provenance=place, seed=self.set.seed)
        return Direction.of(made.vector, method="stance: good minus harm", n=made.n, provenance=made.provenance)

    @cached_property
    def pushes(self) -> dict[str, Any]:
        """Pushes along the stance, of the first adapter's KL and of `target`, and random ones of `target`; tuned on training items."""
        asker = Asker(self.model, self.plain)
        budget = max(float(self.cost(Adapter.load(next(iter(self.folders.values()))), asker).mean()), 1e-4)
        ways = {PUSH: (self.stance, budget), STRONG: (self.stance, self.set.target)}
        for k, d in enumerate(random_directions(self.stance, self.set.draws, self.set.seed), 1):
            ways[f"{RANDOM_PUSH} {k}"] = d, self.set.target
        return {name: add(d, tune(self.model, asker, lambda c, d=d: add(d, c), nats).strength) for name, (d, nats) in ways.items()}

    def read(self) -> None:
        """Capture the last prompt token of the training items under both claims, and truth without a claim."""
        self.acts = {c: self.run.read(f"read {c}", self.handle, PromptSet(p for p in self.training if p.claim == c), position="stem_last")
                     for c in (self.harm, self.good)}  # fmt: skip

    def measure(self) -> None:
        """What is said under every fix, everywhere; and what it costs where no claim is made."""

        def make() -> Mapping[str, pd.DataFrame]:
            fixes = {BEFORE: None} | self.load()
            rows, price = [], []
            base = {cell: self.safe(None, prompts) for cell, prompts in self.tests.items()}
            asker = Asker(self.model, self.tests["base_short", FIT])
            texts = list(dict.fromkeys(str(p.meta.get("statement", p.stem)) for p in asker.prompts))[: self.set.texts]
            for name, change in fixes.items():
                sees = change.sees if isinstance(change, Adapter) else ""
                for (form, claim), prompts in self.tests.items():
                    units, (safe, sure) = units_of(prompts.to_frame()), self.said(change, prompts)
                    about = {"fix": name, "form": form, "condition": claim, "labels": sees}
                    rows.append(about | {"metric": "safe_score", **proportion(safe, units).row()})
                    rows.append(about | {"metric": "p_safe", **mean(sure, units, bounded=True).row()})
                    if change is not None:
                        rows.append(about | {"metric": "gain", **paired_proportions(safe, base[form, claim], units).row()})
                price += self._price(name, change, asker, texts, base["base_short", FIT])
            return {"behaviour": pd.DataFrame(rows), "price": pd.DataFrame(price)}

        self.run.table(("behaviour", "price"), make=make, doing="ask under every fix, everywhere")

    def _price(self, name: str, change: Any, asker: Asker, texts: Any, base: np.ndarray) -> list[dict[str, Any]]:
        units = units_of(asker.prompts.to_frame())
        rows = []
        if change is not None:
            changed = self.safe(change, asker.prompts) != base
            rows.append({"fix": name, "metric": "answers changed without a claim", **proportion(changed, units).row(), "note": ""})
            rows.append({"fix": name, "metric": "kl without a claim", **mean(self.cost(change, asker), units).row(), "note": "nats"})
        if not isinstance(change, GoodClaim):
            then = text_nll(self.model, texts)
            with acting(self.model, change):
                now = text_nll(self.model, texts)
            rows.append({"fix": name, "metric": "perplexity of statements as text", **perplexity(now).row(), "note": ""})
            if change is not None:
                rows.append({"fix": name, "metric": "perplexity ratio", **perplexity_ratio(now, then).row(), "note": "over nothing done"})
        if isinstance(change, Adapter):  # how long each took stands in the adapters' own histories: no number that a rerun could not give
            nan = float("nan")
            rows.append({"fix": name, "metric": "parameters", "value": float(change.size), "low": nan, "high": nan, "n": 1, "note": ""})
        return rows

    def elsewhere(self) -> None:
        """Requests and questions of others: under an adapter of each kind, a push, a random one, and words that fit any prompt."""
        names = [next(iter(self.folders)), self.joint, f"{RANDOM_LABELS} 1", STRONG, f"{RANDOM_PUSH} 1"]
        names = [name for name in names if name]

        def some(words: Any) -> dict[str, Any]:
            every = self.load()
            return {name: every[name] for name in names} | {"written: care": words}

        count, care = 1 + len(names), written()["care"]
        self.outside.refused(lambda: some(care), count, judges(self.set.judge, self.set.judge_model, self.set.seed))
        self.outside.asked(lambda: some(care.on(self.model)), count)

    def inside(self) -> None:
        """What each kind of fix leaves inside (survival), where the adapter writes, and whether CCS foretells the gain by layer."""

        def make() -> Mapping[str, pd.DataFrame]:
            fixes = self.load()
            kinds = [next(iter(self.folders)), f"{RANDOM_LABELS} 1", WORDS, STRONG]
            pushed = self.tests[TRAINED, self.harm] + self._prompts(TRAINED, self.harm, self.set.train, "train")
            verdicts, rows = [], []
            for name in kinds:
                found = survival(self.model, fixes[name], pushed, split=self.split, depth=32, progress=self.progress, seed=self.set.seed)
                verdicts.append({"fix": name, "verdict": found.verdict, "why": found.why})
                rows.append(found.table.assign(fix=name))
            return {"verdicts": pd.DataFrame(verdicts), "survival": pd.concat(rows, ignore_index=True)}

        self.run.table(("verdicts", "survival"), make=make, doing="what each fix leaves inside")

        def space() -> pd.DataFrame:
            adapter = Adapter.load(next(iter(self.folders.values())))
            return written_along(adapter, {"stance": self.stance}, seed=self.set.seed)

        self.run.table("space", make=space, doing="where the adapter writes")
        base = self._prompts("base_short", None, self.set.train, "train") + self.tests["base_short", FIT]
        acts = self._read(f"read {FIT}", base)

        def foretold() -> pd.DataFrame:
            table = probe_layers(
                acts, split=self.split, condition=FIT, methods=("ccs", "logistic"), metrics=("accuracy",), controls=(), resamples=0,
                seed=self.set.seed,
            )  # fmt: skip
            return correlation(table, self.run.tables["layers"])

        self.run.table("foretold", make=foretold, doing="whether a probe's accuracy foretells the gain by layer")


def compute(models: Mapping[str, ModelHandle], settings: RepairSettings, run: Steps) -> Repair:
    """Run every step."""
    study = Repair(models, settings, run)
    study.listen(study.tests["base_short", FIT])
    study.read()
    study.layers()
    study.fixes()
    study.measure()
    study.elsewhere()
    study.inside()
    return study


STUDY = Study(
    name="repair",
    asks="does a low-rank adapter mend what a harm claim breaks, what does it change inside, and what would words or a push have done?",
    settings=RepairSettings,
    fast={"train": 64, "test": 64, "losses": ("invariance", "ccs", "cross_entropy"), "layers": 3, "ranks": (1,), "steps": 40, "draws": 1,
          "texts": 24, "requests": 12, "asked": 48},
    checked={"layers": 1, "joint": 0, "requests": 8, "losses": ("invariance",), "steps": 10, "train": 48, "test": 48},
    compute=compute,
    report=report,
    main=Main(
        table="behaviour", labels=("fix", "form", "condition"), axis="share of safe answers", where={"metric": "safe_score"}, zero=0.5,
    ),
    tables={
        **ASKED,
        **SAID,
        "layers": "loss rank layer metric | labels value low high n",
        "behaviour": "fix form condition metric | labels value low high n",
        "price": "fix metric | value low high n note",
        **OUTSIDE,
        "verdicts": "fix | verdict why",
        "survival": "fix aspect detail layer metric | value low high n note",
        "space": "place direction metric | value low high n note",
        "foretold": "method metric | value low high n note",
    },
    inputs=("xstest", "mmlu", "hh_rlhf"),
)  # fmt: skip
