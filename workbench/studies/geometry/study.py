"""Opposite or orthogonal? Harm and safety, layer by layer, at three levels.

How the directions lie, whether one can be read when the other is erased, and what a push along one does to the other.

Three designs: what a *claim* does (harm against good, both against one neutral baseline) to statements about rights; requests, *input
harm x claim safety*; and replies, *request harm x response safety*.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from tqdm.auto import tqdm

from ... import prompts as source
from ...activations import Activations
from ...core.errors import BadInput, ZeroDirection
from ...directions import (
    Metric,
    causal_metric,
    compare_directions,
    erase_and_reprobe,
    factorial_geometry,
)
from ...directions.metrics import root
from ...evaluation import answers_of
from ...models import unembedding
from ...models.tokens import encode_pairs
from ...prompts import PromptSet
from ...runs import Main, ModelHandle, Steps, Study
from ..answering import TABLES as SAID
from ..answering import heard
from ..asking import TABLES as ASKED
from ..asking import reply_words
from .levels import levels
from .pushes import Pushes
from .report import DESIGNS, report
from .settings import GeometrySettings
from .wordings import Said, Worded, matrix_of, with_sentences, wordings

STANCE = "consider_claim"  # the claim stands before the instruction, so that both positions have read it
PUSHES = ("jailbreak", "protect")  # claim safety 0 and 1
CORNERS = ((0, 0), (0, 1), (1, 0), (1, 1))


class Geometry(Pushes):
    """The steps of the study."""

    set: GeometrySettings

    def __init__(self, models: Mapping[str, ModelHandle], settings: GeometrySettings, run: Steps) -> None:
        super().__init__(models, settings, run)
        self.reply_words = reply_words(self.handle, settings.replies)
        self.main = "stem_last" if "stem_last" in settings.positions else settings.positions[-1]
        for prompts in (*self.stances("train").values(), self.requests(), self.replies()):
            encode_pairs(self.handle, prompts)

    @cached_property
    def causal(self) -> Any:
        """The causal inner product of the model's unembedding; inside a step."""
        return causal_metric(unembedding(self.model))

    # ------------------------------------------------------------------ prompts

    def stances(self, side: str) -> dict[str, PromptSet]:
        """The same statements under each claim, each shown one of its sentences."""
        return {c: self._prompts(STANCE, c, self.set.items, side, wordings(c, self.set.phrasings)) for c in self.set.claims}

    @cached_property
    def sentences(self) -> dict[str, int]:
        """How many sentences each claim was made with."""
        stance = {c: wordings(c, self.set.phrasings) for c in self.set.claims}
        return stance | dict.fromkeys(PUSHES, min(wordings(c, self.set.phrasings, "requests") for c in PUSHES))

    def requests(self) -> PromptSet:
        """Harmful and harmless requests under a sentence that asks for every answer, and under one that protects."""
        how: dict[str, Any] = {"answers": self.reply_words, "phrasings": self.sentences[PUSHES[0]], "seed": self.set.seed, **self.chat}
        return source.factorial(n=self.set.requests or None, **how)

    def replies(self) -> PromptSet:
        """Requests without a claim, each with a refusal and with compliance."""
        return source.requests(n=self.set.requests or None, answers=self.reply_words, seed=self.set.seed, **self.chat)

    # ------------------------------------------------------------------ reading

    def read(self) -> None:
        """Capture everything."""

        def at(name: str, prompts: PromptSet, position: str, **how: Any) -> Activations:
            return self._read(f"read {name} at {position}", prompts, position=position, **how)

        both = {side: self.stances(side) for side in ("train", "test")}
        if len({tuple(p.to_frame()["statement"]) for p in both["train"].values()}) > 1:
            raise BadInput("the statements under the three claims are not the same, in the same order")
        self.stance = {(p, c): at(f"{c} claim", both["train"][c], p) for p in self.set.positions for c in self.set.claims}
        # rows that enter no direction, for whitening
        others = (*self.set.positions, "last") if "whitened" in self.set.metrics else ()
        self.other = {(p, c): at(f"{c} claim, others", both["test"][c], p) for p in others for c in self.set.claims}
        # what is answered is looked at where the directions of the pushes are made
        self.request = {p: at("requests", self.requests(), p, answers=p == self.main) for p in self.set.positions}
        self.reply = at("replies", self.replies(), "last", answers=True)
        pushed = sorted({*self.pushed_layers, self.info.n_layers - 1})
        self.truth = at("no claim", self._prompts("base_long", None, self.set.items, "train"), self.main, layers=pushed)
        heard(self.run, lambda: [answers_of(self.reply)], by="right")

    def _covariance(self, layer: int, position: str) -> Tensor:
        parts = [self.other[position, c].layer(layer)[:, 1 if position == "last" else 0] for c in self.set.claims]
        return torch.cat([x - x.mean(0) for x in parts])

    def _metric(self, metric: str, layer: int, position: str, cells: Mapping[str, Tensor]) -> str | Metric:
        if metric == "whitened":
            made = root(metric, covariance=self._covariance(layer, position), cells=cells)
            assert made is not None
            return Metric(name=metric, matrix=made)
        return self.causal if metric == "causal" else metric

    def cells(self, design: str, layer: int, position: str) -> tuple[dict[tuple[int, int], Tensor], dict[tuple[int, int], list[str]]]:
        """Rows and clusters (pairs of requests) of the four cells, (harm, safety)."""
        acts = self.request[position] if design == "request" else self.reply
        x, rows, harm = acts.layer(layer), acts.rows, acts.rows["input_harm"].to_numpy()
        out, people = {}, {}
        for h, s in CORNERS:
            if design == "request":
                keep = (harm == h) & (rows["claim_harm"].to_numpy() == 1 - s)
                out[h, s] = x[torch.as_tensor(keep), 0]
            else:  # refusing is safe for a harmful request, complying for a harmless one
                keep = harm == h
                out[h, s] = x[torch.as_tensor(keep), (1 - h) if s else h]
            people[h, s] = rows["right"].to_numpy()[keep].tolist()
        return out, people

    def places(self) -> Iterator[tuple[str, str]]:
        """Designs with the positions that they are read at."""
        for design in ("stance", "request"):
            for position in self.set.positions:
                yield design, position
        yield "reply", "last"

    # ------------------------------------------------------------------ steps

    def _bar(self, layers: Sequence[int], doing: str) -> Iterable[int]:
        return tqdm(layers, desc=doing, unit="layer", leave=False, disable=None if self.progress is None else not self.progress)

    def angles(self) -> None:
        """Level 1: every design, layer, position and inner product; effects and planes of the 2x2 designs."""

        def make() -> dict[str, pd.DataFrame]:
            parts: dict[str, list[Any]] = {"angles": [], "effects": [], "cells": []}
            for design, position in self.places():
                for layer in self._bar(range(self.info.n_layers), f"angles, {design} at {position}"):
                    for metric in self.set.metrics:
                        place = {"design": design, "layer": layer, "site": "resid_post", "position": position}
                        parts["angles"].append(place | self._angle(place, metric, parts))
            return {"angles": pd.DataFrame(parts["angles"])} | {k: pd.concat(parts[k], ignore_index=True) for k in ("effects", "cells")}

        self.run.table(("angles", "effects", "cells"), make=make, doing="measure angles, layer by layer")

    def _angle(self, place: Mapping[str, Any], metric: str, parts: Mapping[str, list[Any]]) -> dict[str, Any]:
        try:
            if place["design"] == "stance":
                return self._stance_angle(int(place["layer"]), str(place["position"]), metric)
            return self._factorial_angle(place, metric, parts)
        except ZeroDirection as error:
            first, second = DESIGNS[str(place["design"])]
            return {"first": first, "second": second, "metric": metric, "verdict": "refused", "n": 0, "note": str(error)}

    def _stance_angle(self, layer: int, position: str, metric: str) -> dict[str, Any]:
        first, second = DESIGNS["stance"]
        acts = dict(zip((first, second, "baseline"), (self.stance[position, c] for c in self.set.claims), strict=True))
        rows = {name: a.layer(layer)[:, 0] for name, a in acts.items()}
        x, y, z = rows.values()
        people = acts[first].rows["identity"].tolist()
        product = self._metric(metric, layer, position, rows)
        concepts: dict[str, Any] = {first: (x, z), second: (y, z)}
        angle = compare_directions(
            items=acts[first].rows["statement"].tolist(),
            clusters=people,
            metric=product,
            draws=self.set.draws,
            resamples=self.set.resamples,
            seed=self.set.seed,
            **concepts,
        )
        if max(self.sentences[c] for c in self.set.claims) > 1 and angle.verdict != "refused":
            said = {name: Said.of(a.rows, claim) for (name, a), claim in zip(acts.items(), self.set.claims, strict=True)}
            contrasts = torch.tensor([[1.0, 0.0, -1.0], [0.0, 1.0, -1.0]])
            angle = Worded(rows, dict.fromkeys(rows, people), said, contrasts, matrix_of(product)).report(angle)
        return angle.row() | {"bootstrap_low": angle.bootstrap[0], "bootstrap_high": angle.bootstrap[1]}

    def _factorial_angle(self, place: Mapping[str, Any], metric: str, parts: Mapping[str, list[Any]]) -> dict[str, Any]:
        names = DESIGNS[place["design"]]
        cells, pairs = self.cells(place["design"], place["layer"], place["position"])
        rows = {f"{h}{s}": x for (h, s), x in cells.items()}
        product = self._metric(metric, place["layer"], place["position"], rows)
        effects = factorial_geometry(cells, names, clusters=pairs, metric=product, draws=self.set.draws, seed=self.set.seed)
        if place["design"] == "request" and self.sentences[PUSHES[0]] > 1:
            table = self.request[place["position"]].rows
            harm, push = (table[c].to_numpy() for c in ("input_harm", "claim_harm"))
            said = {f"{h}{s}": Said.of(table[(harm == h) & (push == 1 - s)], PUSHES[s], "requests") for h, s in CORNERS}
            effects = with_sentences(effects, rows, {f"{h}{s}": v for (h, s), v in pairs.items()}, said, matrix_of(product))
        if metric == self.set.metrics[0]:
            sums = pd.DataFrame([{**v.row(), "effect": k, "metric": "cosine"} for k, v in effects.additive.items()])
            both = pd.concat([effects.effects, sums[["effect", "metric", "value", "low", "high", "n", "verdict"]]])
            parts["effects"].append(both.assign(**place))
            parts["cells"].append(effects.cells.set_axis(["cell", "harm", "safety"], axis=1).assign(**place))
        return effects.reports[names].row()

    def erasure(self) -> None:
        """Level 2: erase harm, read safety with fresh probes, and the other way round; every layer."""

        def make() -> pd.DataFrame:
            parts = []
            for layer in self._bar(range(self.info.n_layers), "erase"):
                acts = self.request[self.main]
                rows = acts.rows
                concepts = {"input harm": rows["input_harm"].to_numpy(), "claim safety": 1 - rows["claim_harm"].to_numpy()}
                whole = layer == self.layer
                parts.append(
                    erase_and_reprobe(
                        acts.layer(layer)[:, 0],
                        concepts,
                        groups=rows["right"].to_numpy(),
                        seed=self.set.seed,
                        erasers=("leace", "mean_projection", "inlp", "random") if whole else ("leace", "random"),
                        probes=("linear", "nonlinear") if whole else ("linear",),
                    ).assign(layer=layer, site="resid_post", condition="requests", position=self.main)
                )
            return pd.concat(parts, ignore_index=True)

        self.run.table("erasure", make=make, doing="erase one, read the other")

    def verdicts(self) -> None:
        """The three levels side by side, per layer, in words."""

        def make() -> pd.DataFrame:
            tables = (self.run.tables[k] for k in ("angles", "erasure", "cross_steering"))
            return levels(*tables, metric=self.set.metrics[0], position=self.main, drawn=self.set.random)

        self.run.table("verdicts", make=make, doing="put the three levels side by side")


def compute(models: Mapping[str, ModelHandle], settings: GeometrySettings, run: Steps) -> Geometry:
    """Run every step."""
    study = Geometry(models, settings, run)
    study.read()
    study.angles()
    study.erasure()
    study.steering()
    study.verdicts()
    return study


STUDY = Study(
    name="geometry",
    asks="are harm and safety opposite, orthogonal or something else: as directions, as information, as causes",
    settings=GeometrySettings,
    # a first look: pushed where the verdict needs it, and nowhere else
    fast={
        "elicit": 12,
        "items": 96,
        "requests": 48,
        "metrics": ("raw",),
        "draws": 100,
        "resamples": 200,
        "random": 2,
        "pushed": 0,
        "scopes": ("stem_last",),
    },
    checked={"elicit": 0, "items": 64, "requests": 40, "draws": 20, "resamples": 20},
    compute=compute,
    report=report,
    main=Main(table="verdicts", labels=("layer",), axis="cosine of harm and safety", zero=0.0),
    tables={
        **ASKED,
        **SAID,
        "verdicts": "layer | representation value low high n information cause",
        "angles": "design layer site position first second metric | verdict value low high n clusters naive_cosine null_naive "
        "null_low null_high p reliability_first reliability_second effective_rank massive without_massive variance note "
        "bootstrap_low bootstrap_high",
        "effects": "design layer site position effect metric | verdict value low high n p reliability share",
        "cells": "design layer site position cell | harm safety",
        "erasure": "erased read method probe split metric layer site condition position | value low high n",
        "cross_steering": "layer site position pushed kind read metric | value low high n p q direct coefficient norm_share kl note",
        "plane": "input_harm claim_safety layer | along_harm beside_harm answer",
    },
    inside=("positions", "claims"),
)
