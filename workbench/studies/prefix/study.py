"""Universal prefixes: words that bring a model to safe answers under a claim that harms, and words that do the reverse.

Words are searched on a few training statements, chosen on validation statements, and measured on statements about people and rights that
neither saw, beside words that somebody wrote, random words of equal length, words searched for nonsense, and a push inside at equal KL.

References:
    Zou et al. 2023, arXiv 2307.15043 (the gradient step of the search).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from ...activations import capture
from ...core.errors import UnknownSite
from ...core.paired import paired_proportions
from ...core.tables import pick, units_of
from ...directions import extract_direction, place_of
from ...evaluation.measures import estimate, measure
from ...interventions import Asker, add, tune
from ...interventions.cost import Tuned
from ...models.tokens import encode_pairs
from ...prefixes import Prefix, prefix_effects, prefix_geometry, prefix_inside, random_prefixes, search_prefix, written
from ...prompts import PromptSet
from ...runs import Main, ModelHandle, Steps, Study
from ..asking import TABLES as ASKED
from ..outside import Outside
from ..statements import Rows, spread
from .beyond import TABLES as BEYOND
from .beyond import matched, refused, soft, survives
from .report import PUSH, SEARCHED, report
from .settings import PrefixSettings


class Words(Rows):
    """The steps of the study."""

    set: PrefixSettings

    def __init__(self, models: Mapping[str, ModelHandle], settings: PrefixSettings, run: Steps) -> None:
        super().__init__(models, settings, run)
        self.harm, self.good = settings.claims
        self.layers = spread(self.info.n_layers, settings.layers)
        self.searched = {claim: self._two(settings.template, claim) for claim in settings.claims}
        held: dict[str, PromptSet] = {f"{c} claim": self._prompts(settings.template, c, settings.test, "test") for c in settings.claims}
        held["no claim"] = self._prompts("base_short", None, settings.test, "test")
        held[f"{self.harm} claim, {settings.other}"] = self._prompts(settings.other, self.harm, settings.test, "test")
        self.held = held
        self.clean = self._prompts("base_short", None, settings.clean, "train")
        sources = (settings.xstest, settings.mmlu, settings.hh_rlhf)
        self.outside = Outside(self, requests=settings.requests, sources=sources, asked=settings.asked)
        for prompts in (*held.values(), self.clean):
            encode_pairs(self.handle, prompts)

    def _two(self, template: str, claim: str) -> tuple[PromptSet, PromptSet]:
        """Statements to search on, and others about other people and other rights to choose by; none is held out."""
        drawn = self._prompts(template, claim, 8 * (self.set.train + self.set.validation), "train")
        train = drawn.subset(range(min(self.set.train, len(drawn))))
        people, rights = ({getattr(p, name) for p in train} for name in ("identity", "right"))
        apart = [i for i, p in enumerate(drawn) if p.identity not in people and p.right not in rights]
        apart = apart or [i for i, p in enumerate(drawn) if p.identity not in people]
        return train, drawn.subset(apart[: self.set.validation])

    def search(self) -> dict[str, Path]:
        """Search for safe words, harmful words and nonsense."""
        asked = {
            "safe words": (self.harm, "safe", self.set.filter, self.set.steps),
            "harm words": (self.good, "harm", self.set.filter, self.set.steps),
        }
        if self.set.readable and self.set.filter != "readable":
            asked["readable safe words"] = (self.harm, "safe", "readable", self.set.readable)
        if self.set.nonsense:
            asked["nonsense words"] = (self.harm, self.set.nonsense, self.set.filter, self.set.steps)
        return {name: self._search(name, *what) for name, what in asked.items()}

    def _search(self, name: str, claim: str, towards: str, words: str, steps: int) -> Path:
        train, validation = self.searched[claim]

        def make(place: Path, state: Path) -> None:
            found = search_prefix(
                self.model,
                train,
                towards,
                self.set.length,
                where=self.set.where,
                validation=validation,
                steps=steps,
                width=self.set.width,
                restarts=self.set.restarts,
                race=min(4, len(train) - 1),
                words=words,
                store=state,
                seed=self.set.seed,
                progress=self.progress,
            )
            found.save(place)

        key = [self.handle.key, name, claim, towards, words, steps, self.set.length, self.set.where, self.set.width, self.set.restarts]
        return self.run.folder(name, [*key, train.hash, validation.hash, self.set.seed], make, doing=f"search {name}", resumes=True)

    def history(self, found: Mapping[str, Path]) -> None:
        """Put the histories of all searches into one table."""

        def make() -> pd.DataFrame:
            return pd.concat([Prefix.load(path).history.assign(words=name) for name, path in found.items()], ignore_index=True)

        self.run.table("search", make=make, doing="put the searches together")

    def effects(self, found: Mapping[str, Path]) -> None:
        """Measure all words on held-out statements, beside written and random ones and a push inside."""
        claims = {name: prompts for name, prompts in self.held.items() if name in (f"{self.harm} claim", f"{self.good} claim")}
        others = {name: prompts for name, prompts in self.held.items() if name not in claims}

        def make() -> pd.DataFrame:
            words = {name: Prefix.load(path) for name, path in found.items()}
            many = len(next(iter(words["safe words"].ids.values())))
            how = {"where": self.set.where, "words": self.set.filter, "seed": self.set.seed}
            drawn = random_prefixes(self.model, self.searched[self.harm][0], many, count=self.set.random, **how)
            table = prefix_effects(self.model, claims, words | written(), random=drawn, progress=self.progress)
            further = prefix_effects(self.model, others, words, progress=self.progress)
            safe = pick(table, condition=f"{self.harm} claim", prefix="safe words", metric="kl")
            return pd.concat([table, further, self._push(float(safe["value"].iloc[0]))], ignore_index=True)

        passes = len(claims) * (self.set.random + len(written()) + len(found) + 1) + len(others) * (len(found) + 1)
        self.run.table("effects", make=make, doing="measure words on held-out statements", items=self.set.test * passes)

    def _push(self, nats: float) -> pd.DataFrame:
        """The stance added inside, where validation chooses, as strong as moves the next token as far as the safe words do."""
        sides = [self._prompts(self.set.template, c, self.set.clean, "train") for c in (self.good, self.harm)]
        trial = Asker(self.model, self.searched[self.harm][1])
        tried: list[tuple[float, Any, Tuned]] = []
        for site in ("resid_mid", "resid_post"):
            layers = self.layers[:-1] or self.layers
            try:
                good, harm = (capture(self.model, s, site=site, layers=layers, position="stem_last", progress=self.progress) for s in sides)
            except UnknownSite:  # a parallel block has no resid_mid
                continue
            for layer in layers:
                x, y = good.layer(layer)[:, 0], harm.layer(layer)[:, 0]
                made = extract_direction(x, y, halves=0, provenance=place_of(good, layer), seed=self.set.seed)
                tuned = tune(self.model, trial, partial(add, made), max(nats, 1e-3))
                now = measure(trial, trial.ask(add(made, tuned.strength)), trial.prompts.to_frame())
                tried.append((float(now["safe_score"].mean()), made, tuned))
        _, best, tuned = max(tried, key=lambda t: t[0])
        held = self.held[f"{self.harm} claim"]
        asker, frame = Asker(self.model, held), held.to_frame()
        now = measure(asker, asker.ask(add(best, tuned.strength)), frame)
        gain = paired_proportions(now["safe_score"], measure(asker, asker.base, frame)["safe_score"], units_of(frame))
        place = f"{best.provenance['site']} of block {best.provenance['layer']}"
        note = f"at {place}, strength {tuned.strength:.3g}, of validation's choice{f'; {tuned.note}' if tuned.note else ''}"
        shared = {"condition": f"{self.harm} claim", "prefix": PUSH, "text": ""}
        rows = [shared | {"metric": m, **estimate(m, now[m], units_of(frame)), "note": note} for m in ("safe_score", "answered", "kl")]
        return pd.DataFrame([*rows, shared | {"metric": "gain", **gain.row(), "note": note}])

    def angles(self, found: Mapping[str, Path]) -> None:
        """Compare what safe and harmful words do to the stream with the stance."""

        def make() -> pd.DataFrame:
            safe, harm = (Prefix.load(found[k]) for k in SEARCHED)
            sets = [self.held[f"{c} claim"] for c in (self.harm, self.good)]
            return prefix_geometry(self.model, safe, harm, *sets, layers=self.layers, seed=self.set.seed, progress=self.progress)

        self.run.table("angles", make=make, doing="compare directions", items=4 * self.set.test)

    def inside(self, found: Mapping[str, Path]) -> None:
        """Read the truth under claims and words, with a probe that saw neither."""

        def make() -> pd.DataFrame:
            harm, good = (self.held[f"{c} claim"] for c in (self.harm, self.good))
            safe, other = (Prefix.load(found[k]) for k in SEARCHED)
            pushed = {
                f"{self.harm} claim": harm,
                f"{self.harm} claim, safe words": safe.put(harm, model=self.model),
                f"{self.good} claim": good,
                f"{self.good} claim, harm words": other.put(good, model=self.model),
            }
            return prefix_inside(
                self.model, self.clean, pushed, split=self.split, layers=self.layers, seed=self.set.seed, progress=self.progress
            )

        self.run.table("inside", make=make, doing="read the truth under words", items=4 * self.set.test + self.set.clean)


def compute(models: Mapping[str, ModelHandle], settings: PrefixSettings, run: Steps) -> Words:
    """Run every step."""
    study = Words(models, settings, run)
    found = study.search()
    study.history(found)
    study.effects(found)
    study.angles(found)
    study.inside(found)
    survives(study, found)
    matched(study, found)
    soft(study)
    refused(study, found)
    return study


STUDY = Study(
    name="prefix",
    asks="which words bring a model to safe answers on prompts in general, which do the reverse, and are their effects opposite inside",
    settings=PrefixSettings,
    fast={
        "elicit": 12,
        "readable": 0,
        "nonsense": "",
        "matched": 0,
        "soft": 0,
        "requests": 16,
        "steps": 40,
        "width": 32,
        "validation": 16,
        "test": 48,
        "clean": 160,
        "layers": 3,
    },
    checked={
        "elicit": 0,
        "readable": 0,
        "matched": 1,
        "soft": 1,
        "requests": 8,
        "steps": 1,
        "width": 4,
        "train": 4,
        "validation": 4,
        "test": 24,
        "clean": 120,
        "layers": 1,
        "length": 3,
    },
    compute=compute,
    report=report,
    main=Main(table="effects", labels=("condition", "prefix"), axis="share of safe answers", where={"metric": "safe_score"}),
    tables={
        **ASKED,
        "search": "words restart step | lead text tokens train validation won evaluations computed plain",
        "effects": "condition prefix metric | text value low high n note",
        "angles": "first second layer metric | verdict value low high n clusters naive_cosine null_naive null_low null_high p "
        "reliability_first reliability_second effective_rank massive without_massive variance note",
        "inside": "condition layer metric | value low high n note",
        **BEYOND,
    },
    inputs=("xstest", "mmlu", "hh_rlhf"),
)
