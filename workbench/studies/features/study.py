"""What are directions made of? A dictionary of a model, decompositions of its stance and its truth direction, and pushes by latents.

References:
    Mayne et al. 2024, arXiv 2411.08790 (why a direction does not go through the encoder); Gao et al. 2024, arXiv 2406.04093 (TopK).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from ...activations import Activations
from ...core.direction import Direction
from ...core.errors import BadInput
from ...core.seeds import numpy_rng
from ...core.types import Float, Tensor
from ...directions import place_of
from ...features import (
    Decomposition,
    Dictionary,
    Labelled,
    Streams,
    bootstrap_directions,
    decompose,
    fit_dictionary,
    latent_tokens,
    quality_table,
    shuffled_directions,
    side_by_side,
    sparse_probes,
    streams_of,
    top_contexts,
)
from ...features.pursuit import METHODS
from ...features.training_sae import KINDS
from ...models.hooks import check_layer
from ...prompts import PromptSet
from ...runs import Main, ModelHandle, Steps, Study
from ..asking import TABLES as ASKED
from ..asking import AskSettings
from ..statements import Rows
from .pushes import steering
from .report import report

TRAINED = (("base_short", None), ("since_claim", "good"), ("since_claim", "harm"), ("consider_claim", "good"), ("consider_claim", "harm"))
PUSHED = ("consider_claim", "harm")  # where a push of stance is measured
BASELINE = "neutral"  # the sentence that harm and safety are measured from


@dataclass(frozen=True, kw_only=True)
class FeaturesSettings(AskSettings):
    """The grid of the study.

    Attributes:
        dictionary: A folder with a dictionary of this model to decompose with, instead of training one; "bundled" for the bundled model's.
        layer: The block. Negative: one third of the way up.
        kind: Of dictionary: standard, gated, topk, batchtopk, jumprelu or matryoshka.
        width: Latents.
        k: Latents per token.
        steps, batch: Of training.
        seeds: Dictionaries that are trained.
        texts: Training statements per claim and prompt form.
        fit: Training statements that directions are made from.
        test: Held-out statements on which dictionaries are reported and pushes measured.
        random: Random directions, permuted dictionaries, resamples and shuffled labels of the controls.
        most: Latents at most that a direction is decomposed into.
        seed: Draws everything.
    """

    dictionary: str = ""
    layer: int = -1
    kind: str = "topk"
    width: int = 512
    k: int = 16
    steps: int = 1500
    batch: int = 256
    seeds: int = 3
    texts: int = 100
    fit: int = 200
    test: int = 60
    random: int = 39
    most: int = 32
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kind not in KINDS:
            raise BadInput(f"kind {self.kind!r}: there are {', '.join(KINDS)}")
        if self.seeds < 1 or self.texts < 8 or self.fit < 16 or self.test < 8 or self.random < 3:
            raise BadInput(
                f"seeds: 1, texts: 8, fit: 16, test: 8, random: 3 at least; got {self.seeds}, {self.texts}, {self.fit}, {self.test}, "
                f"{self.random}"
            )


Pairs = tuple[Float[Tensor, "row d_model"], Float[Tensor, "row d_model"], np.ndarray, dict[str, Any]]


class Features(Rows):
    """The steps of the study."""

    set: FeaturesSettings

    def __init__(self, models: Mapping[str, ModelHandle], settings: FeaturesSettings, run: Steps) -> None:
        super().__init__(models, settings, run)
        self.place = check_layer(self.handle, settings.layer) if settings.layer >= 0 else self.info.n_layers // 3
        self.train, self.held = (self._corpus(n, side) for n, side in ((settings.texts, "train"), (max(8, settings.test // 4), "test")))
        template = PUSHED[0]
        self.under = {c: self._prompts(template, c, settings.fit, "train") for c in ("good", "harm", BASELINE)}
        self.plain = self._prompts("base_short", None, settings.fit, "train")
        self.asked = {
            **{c: self._prompts(template, c, settings.test, "test") for c in ("good", "harm")},
            "none": self._prompts("base_short", None, settings.test, "test"),
        }
        self.pushed = self._prompts(*PUSHED, settings.test, "test")

    def _corpus(self, n: int, side: str) -> PromptSet:
        parts = [self._prompts(template, claim, n, side) for template, claim in TRAINED]
        return PromptSet((p for part in parts for p in part), name=f"{side} texts")

    def read(self) -> None:
        """Capture every token of the texts, and what directions are made from."""
        layers = [self.place]
        self.acts = {
            side: self._read(f"read {side} texts, every token", p, position="all", layers=layers)
            for side, p in (("train", self.train), ("test", self.held))
        }
        self.blank = None
        if not self.set.dictionary and self.handle.configured:
            copy = self.handle.untrained(self.set.seed)
            self.blank = self.run.read("read an untrained copy, every token", copy, self.train, position="all", layers=layers)
        self.stance = {c: self._read(f"read {c} claim", p, position="stem_last", layers=layers) for c, p in self.under.items()}
        self.truth = self._read("read no claim", self.plain, layers=layers)
        told = {"good": "stem_last", "harm": "stem_last", "none": "last"}
        self.held_out = {c: self._read(f"read held-out, {c} claim", p, position=told[c], layers=layers) for c, p in self.asked.items()}

    # ------------------------------------------------------------------ dictionaries

    def dictionaries(self) -> None:
        """Train dictionaries of several seeds and one of the untrained copy, or take the one that was given."""
        if self.set.dictionary:
            self.folder: Path | None = None
            return
        self.folder = self.run.folder("dictionaries", make=self._train, doing="train dictionaries")

    def _train(self, place: Path) -> None:
        s = self.set
        jobs = [(f"seed-{k}", self._streams("train"), k) for k in range(s.seeds)]
        if self.blank is not None:
            jobs.append(("untrained", streams_of(self.blank, self.handle, self.train), 0))
        for name, streams, k in jobs:
            fitted = fit_dictionary(
                streams.rows, kind=s.kind, width=s.width, k=s.k, steps=s.steps, batch=s.batch, rate=2e-3, seed=s.seed + k,
                store=None, progress=self.progress, place=streams.provenance,
            )  # fmt: skip
            fitted.save(place / name)

    def _streams(self, side: str) -> Streams:
        return streams_of(self.acts[side], self.handle, self.train if side == "train" else self.held)

    def _loaded(self, prefix: str) -> list[Dictionary]:
        if self.folder is None:
            if prefix != "seed":
                return []
            given = Dictionary.load(self.set.dictionary)
            given.check_place(place=place_of(self.truth, self.place))
            return [given]
        return [Dictionary.load(p) for p in sorted(self.folder.glob(f"{prefix}*"))]

    def quality(self) -> pd.DataFrame:
        """Report on the dictionaries, beside a permuted one and that of the untrained copy."""
        own, bare = self._loaded("seed"), self._loaded("untrained")
        named = {f"seed {k}": d for k, d in enumerate(own)} | {"permuted": own[0].permuted(self.set.seed)}
        here = own[0].provenance
        if bare:
            named["untrained model's"] = _moved(bare[0], here)
        texts = [p.stem + p.positive for p in self.held]
        people = self.held.to_frame()["identity"].to_numpy()
        return quality_table(self.model, named, self._streams("test"), texts, self._streams("train").rows.mean(0), people)

    # ------------------------------------------------------------------ directions

    def _pairs(self) -> dict[str, Pairs]:
        """By direction: paired rows towards and away on training people, the identity of each pair, and where they were read."""
        return self._paired(self.stance["good"], self.stance["harm"], self.truth, self.plain) | self._sides()

    def _sides(self) -> dict[str, Pairs]:
        """Harm and safety from the neutral sentence, each on people of its own: a baseline that both share would turn them alike."""
        rows = {c: acts.layer(self.place)[:, 0] for c, acts in self.stance.items()}
        people = self.stance[BASELINE].rows["identity"].to_numpy()
        names = numpy_rng(self.set.seed, "halves of harm and safety").permutation(np.unique(people))
        first, where = np.isin(people, names[: len(names) // 2]), place_of(self.stance[BASELINE], self.place)
        out = {}
        for name, claim, own in (("harm", "harm", first), ("safety", "good", ~first)):
            index = torch.from_numpy(own)
            out[name] = (rows[claim][index], rows[BASELINE][index], people[own], where)
        return out

    def _paired(self, good: Activations, harm: Activations, truth: Activations, plain: PromptSet) -> dict[str, Pairs]:
        x, y = torch.tensor(plain.labels), truth.layer(self.place)
        rows = torch.arange(len(x))
        out = {
            "stance": (good.layer(self.place)[:, 0], harm.layer(self.place)[:, 0], good),
            "truth": (y[rows, x], y[rows, 1 - x], truth),
        }
        return {name: (a, b, acts.rows["identity"].to_numpy(), place_of(acts, self.place)) for name, (a, b, acts) in out.items()}

    def probing(self) -> pd.DataFrame:
        """Probe few latents beside the stream, on people that latents were not chosen on."""
        own, tables = self._loaded("seed")[0], []
        held = self._paired(self.held_out["good"], self.held_out["harm"], self.held_out["none"], self.asked["none"])
        pairs = self._pairs()
        for name, (far, near, others, _) in held.items():
            a, b, people, _ = pairs[name]
            sides = Labelled.of_pairs(a, b, people), Labelled.of_pairs(far, near, others)
            tables.append(sparse_probes(own, *sides, draws=self.set.random, seed=self.set.seed).assign(direction=name))
        return pd.concat(tables, ignore_index=True)

    def _decomposed(self, method: str) -> dict[str, Decomposition]:
        s, own = self.set, self._loaded("seed")
        bare = [_moved(d, own[0].provenance) for d in self._loaded("untrained")]
        out = {}
        for name, (a, b, people, where) in self._pairs().items():
            d = Direction.of((a - b).mean(0), method=name, n=len(a), clusters=len(set(people)), provenance=where)
            how: dict[str, Any] = {"provenance": where, "seed": s.seed}
            out[name] = decompose(
                d, own[0], method=method, most=s.most, random=s.random, seeds=own[1:], untrained=bare, seed=s.seed,
                resampled=bootstrap_directions(a, b, people, resamples=s.random, **how),
                shuffled=shuffled_directions(a, b, people, draws=s.random, **how),
            )  # fmt: skip
        return out

    def decompositions(self) -> dict[str, pd.DataFrame]:
        """Decompose the directions by both methods, and lay them side by side; look at the latents of the first method."""
        every = {m: self._decomposed(m) for m in METHODS}
        tables = [p.table.assign(direction=n, method=m) for m, parts in every.items() for n, p in parts.items()]
        latents = [
            p.parts.assign(direction=n, method=m, rank=range(1, len(p.parts) + 1)) for m, parts in every.items() for n, p in parts.items()
        ]
        omp = every["omp"]
        couples = (("harm", "safety"), ("stance", "truth"))
        together = pd.concat([side_by_side(omp[a], omp[b], seed=self.set.seed).assign(first=a, second=b) for a, b in couples])
        own, held = self._loaded("seed")[0], self._streams("test")
        some = list(dict.fromkeys(i for p in omp.values() for i in p.chosen[:4]))
        return {
            "decompositions": pd.concat(tables, ignore_index=True),
            "latents": pd.concat(latents, ignore_index=True),
            "together": together.reset_index(drop=True),
            "contexts": top_contexts(self.handle, own, held, some),
            "tokens": latent_tokens(self.model, own, some, seed=self.set.seed),
        }


def _moved(dictionary: Dictionary, place: Mapping[str, Any]) -> Dictionary:
    """A dictionary of the untrained copy, to be used at the model's own place as a control."""
    return replace(dictionary, provenance={k: place[k] for k in ("model", "site", "layer") if k in place})


def compute(models: Mapping[str, ModelHandle], settings: FeaturesSettings, run: Steps) -> Features:
    """Run every step."""
    study = Features(models, settings, run)
    study.read()
    study.dictionaries()
    run.table("quality", make=study.quality, doing="report on the dictionaries", items=len(study.held))
    names = ("decompositions", "latents", "together", "contexts", "tokens")
    run.table(names, make=study.decompositions, doing="decompose directions")
    run.table("probing", make=study.probing, doing="probe few latents")
    run.table("steering", make=lambda: steering(study), doing="push by latents", items=len(study.pushed))
    return study


STUDY = Study(
    name="features",
    asks="what are the stance and the truth direction made of, in latents of a dictionary",
    settings=FeaturesSettings,
    fast={"width": 128, "k": 8, "steps": 300, "batch": 128, "seeds": 2, "texts": 30, "fit": 64, "test": 32, "random": 19},
    checked={
        "width": 48,
        "k": 4,
        "steps": 12,
        "batch": 16,
        "seeds": 2,
        "texts": 8,
        "fit": 16,
        "test": 8,
        "random": 3,
        "most": 8,
        "elicit": 0,
    },
    inputs=("dictionary",),
    compute=compute,
    report=report,
    main=Main(
        table="decompositions",
        labels=("direction", "method", "subject"),
        axis="share of a direction's squared length that 8 latents explain",
        where={"metric": "explained", "latents": 8},
    ),
    tables={
        **ASKED,
        "quality": "dictionary metric | value low high n note",
        "decompositions": "direction method subject metric latents | value low high n note",
        "latents": "direction method rank latent | coefficient share returns seeds",
        "together": "first second relation | value low high n p",
        "contexts": "latent rank | activation acts before token after",
        "tokens": "latent side rank | token id cosine chance",
        "probing": "direction subject latents metric | value low high n note",
        "steering": "edit metric | value low high n note",
    },
)
