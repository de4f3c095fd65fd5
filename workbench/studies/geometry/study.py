"""Opposite or orthogonal? Harm and safety, layer by layer, at three levels.

How the directions lie, whether one can be read when the other is erased, and what a push along one does to the other.

Three designs: what a *claim* does (harm against good, both against one neutral baseline) to statements about rights; requests, *input
harm x claim safety*; and replies, *request harm x response safety*.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ... import prompts as source
from ...activations import Activations
from ...core.errors import BadInput, ZeroDirection
from ...core.seeds import numpy_rng
from ...directions import causal_metric, compare_directions, erase_and_reprobe, extract_direction, factorial_geometry, place_of
from ...evaluation import answers_of, choose_answers, cross_steering
from ...evaluation.agreement import REPLIES
from ...models import unembedding
from ...models.tokens import encode_pairs
from ...prompts import PromptSet
from ...runs import Main, ModelHandle, Steps, Study
from ..asking import TABLES as ASKED
from ..statements import Rows
from .levels import levels
from .report import DESIGNS, report
from .settings import GeometrySettings

STANCE = "consider_claim"  # the claim stands before the instruction, so that both positions have read it
CORNERS = ((0, 0), (0, 1), (1, 0), (1, 1))


class Geometry(Rows):
    """The steps of the study."""

    set: GeometrySettings

    def __init__(self, models: Mapping[str, ModelHandle], settings: GeometrySettings, run: Steps) -> None:
        super().__init__(models, settings, run)
        self.reply_words = choose_answers(self.handle, REPLIES)
        self.main = "stem_last" if "stem_last" in settings.positions else settings.positions[-1]
        for prompts in (*self.stances("train").values(), self.requests(), self.replies()):
            encode_pairs(self.handle, prompts)

    @cached_property
    def causal(self) -> Any:
        """The causal inner product of the model's unembedding; inside a step."""
        return causal_metric(unembedding(self.model))

    # ------------------------------------------------------------------ prompts

    def stances(self, side: str) -> dict[str, PromptSet]:
        """The same statements under each claim."""
        return {c: self._prompts(STANCE, c, self.set.items, side) for c in self.set.claims}

    def requests(self) -> PromptSet:
        """Harmful and harmless requests under a sentence that asks for every answer, and under one that protects."""
        return source.factorial(n=self.set.requests or None, answers=self.reply_words, seed=self.set.seed, **self.chat)

    def replies(self) -> PromptSet:
        """Requests without a claim, each with a refusal and with compliance."""
        return source.requests(n=self.set.requests or None, answers=self.reply_words, seed=self.set.seed, **self.chat)

    # ------------------------------------------------------------------ reading

    def read(self) -> None:
        """Capture everything."""

        def at(name: str, prompts: PromptSet, position: str) -> Activations:
            return self._read(f"read {name} at {position}", prompts, position=position, answers=True)

        both = {side: self.stances(side) for side in ("train", "test")}
        if len({tuple(p.to_frame()["statement"]) for p in both["train"].values()}) > 1:
            raise BadInput("the statements under the three claims are not the same, in the same order")
        self.stance = {(p, c): at(f"{c} claim", both["train"][c], p) for p in self.set.positions for c in self.set.claims}
        # rows that enter no direction, for whitening
        self.other = {(p, c): at(f"{c} claim, others", both["test"][c], p) for p in (*self.set.positions, "last") for c in self.set.claims}
        self.request = {p: at("requests", self.requests(), p) for p in self.set.positions}
        self.reply = at("replies", self.replies(), "last")
        self.truth = at("no claim", self._prompts("base_long", None, self.set.items, "train"), self.main)

    def _covariance(self, layer: int, position: str) -> Tensor:
        parts = [self.other[position, c].layer(layer)[:, 1 if position == "last" else 0] for c in self.set.claims]
        return torch.cat([x - x.mean(0) for x in parts])

    def _metric(self, metric: str, layer: int, position: str) -> dict[str, Any]:
        if metric == "whitened":
            return {"metric": metric, "covariance": self._covariance(layer, position)}
        return {"metric": self.causal if metric == "causal" else metric}

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

    def angles(self) -> None:
        """Level 1: every design, layer, position and inner product; effects and planes of the 2x2 designs."""

        def make() -> dict[str, pd.DataFrame]:
            parts: dict[str, list[Any]] = {"angles": [], "effects": [], "cells": []}
            for design, position in self.places():
                for layer in range(self.info.n_layers):
                    for metric in self.set.metrics:
                        place = {"design": design, "layer": layer, "site": "resid_post", "position": position}
                        parts["angles"].append(place | self._angle(place, metric, parts))
            return {"angles": pd.DataFrame(parts["angles"])} | {k: pd.concat(parts[k], ignore_index=True) for k in ("effects", "cells")}

        self.run.table(("angles", "effects", "cells"), make=make, doing="measure angles, layer by layer")

    def _angle(self, place: Mapping[str, Any], metric: str, parts: Mapping[str, list[Any]]) -> dict[str, Any]:
        design, layer, position = str(place["design"]), int(place["layer"]), str(place["position"])
        how = {"draws": self.set.draws, "seed": self.set.seed, **self._metric(metric, layer, position)}
        try:
            if design == "stance":
                return self._stance_angle(layer, position, how)
            return self._factorial_angle(place, metric, parts, how)
        except ZeroDirection as error:
            first, second = DESIGNS[design]
            return {"first": first, "second": second, "metric": metric, "verdict": "refused", "n": 0, "note": str(error)}

    def _stance_angle(self, layer: int, position: str, how: Mapping[str, Any]) -> dict[str, Any]:
        first, second = DESIGNS["stance"]
        harm, good, neutral = (self.stance[position, c] for c in self.set.claims)
        x, y, z = (acts.layer(layer)[:, 0] for acts in (harm, good, neutral))
        angle = compare_directions(
            **{first: (x, z), second: (y, z)},
            items=harm.rows["statement"].tolist(),
            clusters=harm.rows["identity"].tolist(),
            resamples=self.set.resamples,
            **how,
        )
        return angle.row() | {"bootstrap_low": angle.bootstrap[0], "bootstrap_high": angle.bootstrap[1]}

    def _factorial_angle(
        self, place: Mapping[str, Any], metric: str, parts: Mapping[str, list[Any]], how: Mapping[str, Any]
    ) -> dict[str, Any]:
        names = DESIGNS[place["design"]]
        cells, pairs = self.cells(place["design"], place["layer"], place["position"])
        effects = factorial_geometry(cells, names, clusters=pairs, **how)
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
            for layer in range(self.info.n_layers):
                acts = self.request[self.main]
                rows = acts.rows
                concepts = {"input harm": rows["input_harm"].to_numpy(), "claim safety": 1 - rows["claim_harm"].to_numpy()}
                whole = layer == self.layer
                parts.append(
                    erase_and_reprobe(
                        acts.layer(layer)[:, 0],
                        concepts,
                        groups=rows["right"].to_numpy(),
                        resamples=self.set.resamples,
                        seed=self.set.seed,
                        erasers=("leace", "mean_projection", "inlp", "random") if whole else ("leace", "random"),
                        probes=("linear", "nonlinear") if whole else ("linear",),
                    ).assign(layer=layer, site="resid_post", condition="requests", position=self.main)
                )
            return pd.concat(parts, ignore_index=True)

        self.run.table("erasure", make=make, doing="erase one, read the other")

    @property
    def pushed_layers(self) -> list[int]:
        """Layers below the last to push at, the report's among them."""
        most = self.info.n_layers - 1
        spread = np.linspace(0, most - 1, min(self.set.pushed, most)).round().astype(int).tolist() if self.set.pushed and most else []
        return sorted({*spread, self.layer})

    def steering(self) -> None:
        """Level 3: push along one, read the others and the behaviour, on pairs of requests that made no direction."""
        acts, rights = self.request[self.main], self.requests().to_frame()["right"]
        pairs = np.unique(rights)
        made = set(numpy_rng(self.set.seed, "geometry halves").permutation(pairs)[: len(pairs) // 2].tolist())
        train = rights.isin(made).to_numpy()

        def directions(layer: int) -> dict[str, Any]:
            some, place = acts.subset(train), place_of(acts, layer)
            x, rows = some.layer(layer)[:, 0], some.rows
            refused = answers_of(some)["answer"].to_numpy() == 0
            y = self.truth.layer(layer)[:, 0]
            sides = {
                "harm": (x, rows["input_harm"].to_numpy() == 1),
                "safety": (x, rows["claim_harm"].to_numpy() == 0),
                "refusal": (x, refused),
                "truth": (y, self.truth.labels == 1),
            }
            return {
                name: extract_direction(z[torch.as_tensor(k)], z[torch.as_tensor(~k)], halves=0, provenance=place, seed=self.set.seed)
                for name, (z, k) in sides.items()
                if min(k.sum(), (~k).sum()) >= 8
            }

        def make() -> pd.DataFrame:
            last = self.info.n_layers - 1
            by_layer = {layer: directions(layer) for layer in {*self.pushed_layers, last}}
            names = sorted(set.intersection(*(set(d) for d in by_layer.values())))
            prompts = self.requests().subset(np.flatnonzero(~train))
            read = {n: by_layer[last][n] for n in names}
            how: dict[str, Any] = {
                "read_layer": last,
                "kl": self.set.kl,
                "random": self.set.random,
                "resamples": self.set.resamples,
                "seed": self.set.seed,
                "progress": self.progress,
            }
            others = [layer for layer in self.pushed_layers if layer != self.layer]
            whole = {n: {self.layer: by_layer[self.layer][n]} for n in names}
            parts = [cross_steering(self.model, prompts, whole, read, positions=("stem_last", "stem"), **how)]
            if others:
                some = {n: {layer: by_layer[layer][n] for layer in others} for n in ("harm", "safety") if n in names}
                parts.append(cross_steering(self.model, prompts, some, read, kinds=("add",), **how))
            return pd.concat(parts, ignore_index=True)

        self.run.table("cross_steering", make=make, doing="push along one, read the others")

        def points() -> pd.DataFrame:
            d = directions(self.layer)
            harm, safety = d["harm"], d["safety"]
            u = harm.unit
            v = safety.unit - (safety.unit @ u) * u
            x = acts.subset(~train)
            z = x.layer(self.layer)[:, 0]
            z = z - z.mean(0)
            return pd.DataFrame(
                {
                    "input_harm": x.rows["input_harm"],
                    "claim_safety": 1 - x.rows["claim_harm"],
                    "along_harm": (z @ u).numpy(),
                    "beside_harm": (z @ (v / v.norm())).numpy(),
                    "layer": self.layer,
                    "answer": answers_of(x)["answer"].to_numpy(),
                }
            )

        self.run.table("plane", make=points, doing="project held-out requests")

    def verdicts(self) -> None:
        """The three levels side by side, per layer, in words."""

        def make() -> pd.DataFrame:
            tables = (self.run.tables[k] for k in ("angles", "erasure", "cross_steering"))
            return levels(*tables, metric=self.set.metrics[0], position=self.main)

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
    fast={"elicit": 12, "items": 96, "requests": 48, "metrics": ("raw",), "draws": 100, "resamples": 200, "random": 2, "pushed": 1},
    checked={"elicit": 0, "items": 64, "requests": 40, "draws": 20, "resamples": 20},
    compute=compute,
    report=report,
    main=Main(table="verdicts", labels=("layer",), axis="cosine of harm and safety", zero=0.0),
    tables={
        **ASKED,
        "verdicts": "layer | representation value low high n information cause",
        "angles": "design layer site position first second metric | verdict value low high n clusters naive_cosine null_naive "
        "null_low null_high p reliability_first reliability_second effective_rank massive without_massive variance note "
        "bootstrap_low bootstrap_high",
        "effects": "design layer site position effect metric | verdict value low high n p reliability share",
        "cells": "design layer site position cell | harm safety",
        "erasure": "erased read method probe split metric layer site condition position | value low high n",
        "cross_steering": "layer site position pushed kind read metric | value low high n direct coefficient norm_share kl note",
        "plane": "input_harm claim_safety layer | along_harm beside_harm answer",
    },
    inside=("positions", "claims"),
)
