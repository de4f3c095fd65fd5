"""Opposite or orthogonal? Harm and safety, layer by layer, at three levels.

How the directions lie, whether one can be read when the other is erased, and what a push along one does to the other.

Three designs: what a *claim* does (harm against good, both against one neutral baseline) to statements about rights; requests, *input harm x
claim safety*; and replies, *request harm x response safety*.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from .. import prompts as source
from ..core.errors import BadInput, ZeroDirection
from ..core.seeds import numpy_rng
from ..directions import causal_metric, compare_directions, erase_and_reprobe, extract_direction, factorial_geometry, place_of
from ..evaluation import answers_of, choose_answers, cross_steering
from ..evaluation.agreement import ANSWERS
from ..models import unembedding
from ..models.tokens import encode_pairs
from ..prompts import PromptSet
from .common import Rows
from .geometry_levels import levels
from .run import Run

DESIGNS = {
    "stance": ("harm claim", "good claim"),
    "request": ("input harm", "claim safety"),
    "reply": ("request harm", "response safety"),
}
STANCE = "consider_claim"  # the claim stands before the instruction, so that both positions have read it
CORNERS = ((0, 0), (0, 1), (1, 0), (1, 1))


@dataclass(frozen=True, kw_only=True)
class GeometrySettings:
    """The grid of the study.

    Attributes:
        items: Statements under each claim.
        requests: Matched pairs of requests; 0 for all.
        positions: Where the stream is read, for stance and request; replies are read at their own token.
        metrics: Inner products.
        claims: The harm claim, the good one and the shared baseline.
        draws: Permutations of each null.
        resamples: Bootstrap draws.
        pushed: Layers at most that harm and safety are pushed at, evenly spread; the report's layer, where everything is pushed, is one of them.
        kl: Distance of every push, in nats.
        random: Random directions of the control.
        seed: Draws everything.
    """

    items: int = 400
    requests: int = 0
    positions: tuple[str, ...] = ("instruction_last", "stem_last")
    metrics: tuple[str, ...] = ("raw", "whitened", "causal")
    claims: tuple[str, ...] = ("harm", "good", "neutral")
    draws: int = 1000
    resamples: int = 1000
    pushed: int = 8
    kl: float = 0.1
    random: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        if self.items < 64:
            raise BadInput(f"items: 64 at least, got {self.items}")
        if len(self.claims) != 3:
            raise BadInput("claims=: three of them, the harm claim, the good one and the shared baseline")
        if self.requests and self.requests < 40:
            raise BadInput(f"requests: 40 pairs at least, or 0 for all; got {self.requests}")
        if not 0 < self.kl < 10:
            raise BadInput(f"kl: nats, above 0 and below 10; got {self.kl}")


Settings = GeometrySettings


def fast(seed: int = 0, **options: Any) -> GeometrySettings:
    """Return a small grid, for a first look; options take precedence."""
    return GeometrySettings(**({"items": 96, "requests": 48, "metrics": ("raw",), "draws": 100, "resamples": 200, "random": 2, "pushed": 1, "seed": seed} | options))  # fmt: skip


class Geometry(Rows):
    """The steps of the study."""

    set: GeometrySettings

    def __init__(self, model: Any, settings: GeometrySettings, run: Run, progress: bool | None) -> None:
        super().__init__(model, settings, run, progress)
        self.reply_words = choose_answers(model, (("Sorry", "Sure"), ("sorry", "sure"), *ANSWERS))
        self.main = "stem_last" if "stem_last" in settings.positions else settings.positions[-1]
        for prompts in (*self.stances("train").values(), self.requests(), self.replies()):
            encode_pairs(model, prompts)
        self.causal = causal_metric(unembedding(model)) if "causal" in settings.metrics else None

    # ------------------------------------------------------------------ prompts

    def stances(self, side: str) -> dict[str, PromptSet]:
        """The same statements under each claim."""
        return {c: self._prompts(STANCE, c, self.set.items, side) for c in self.set.claims}

    def requests(self) -> PromptSet:
        """Harmful and harmless requests under a sentence that asks for every answer, and under one that protects."""
        return source.factorial(n=self.set.requests or None, answers=self.reply_words, seed=self.set.seed)

    def replies(self) -> PromptSet:
        """Requests without a claim, each with a refusal and with compliance."""
        return source.requests(n=self.set.requests or None, answers=self.reply_words, seed=self.set.seed)

    # ------------------------------------------------------------------ reading

    def read(self) -> None:
        """Capture everything."""

        def at(name: str, prompts: PromptSet, position: str) -> Any:
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

    def _table(self, name: str, step: str, make: Any) -> pd.DataFrame:
        return self.run.keep(name, self.run.table(step, [self.info.key(), asdict(self.set)], make))

    def angles(self) -> None:
        """Level 1: every design, layer, position and inner product; effects and planes of the 2x2 designs."""
        effects: list[pd.DataFrame] = []

        def make() -> pd.DataFrame:
            rows = []
            for design, position in self.places():
                for layer in range(self.info.n_layers):
                    for metric in self.set.metrics:
                        place = {"design": design, "layer": layer, "site": "resid_post", "position": position}
                        rows.append(place | self._angle(design, layer, position, metric, effects, place))
            parts = [pd.DataFrame(rows).assign(table="angles"), *effects]
            return pd.concat(parts, ignore_index=True)

        whole = self.run.table("measure angles, layer by layer", [self.info.key(), asdict(self.set)], make)
        for name in ("angles", "effects", "cells"):
            some = whole[whole["table"] == name].dropna(axis=1, how="all").drop(columns="table").reset_index(drop=True)
            self.run.keep(name, some)

    def _angle(
        self, design: str, layer: int, position: str, metric: str, effects: list[pd.DataFrame], place: dict[str, Any]
    ) -> dict[str, Any]:
        more = self._metric(metric, layer, position)
        common: dict[str, Any] = {"draws": self.set.draws, "seed": self.set.seed}
        names = DESIGNS[design]
        try:
            return self._measured(design, layer, position, metric, effects, place, common | more)
        except ZeroDirection as error:
            return {"first": names[0], "second": names[1], "metric": metric, "verdict": "refused", "n": 0, "note": str(error)}

    def _measured(
        self, design: str, layer: int, position: str, metric: str, effects: list[pd.DataFrame], place: dict[str, Any], how: dict[str, Any]
    ) -> dict[str, Any]:
        names = DESIGNS[design]
        if design == "stance":
            harm, good, neutral = (self.stance[position, c] for c in self.set.claims)
            ids = harm.rows["statement"].tolist()
            x, y, z = (acts.layer(layer)[:, 0] for acts in (harm, good, neutral))
            found = compare_directions(
                **{names[0]: (x, z), names[1]: (y, z)}, items=ids, clusters=harm.rows["identity"].tolist(), resamples=self.set.resamples, **how,
            )  # fmt: skip
            return found.row() | {"bootstrap_low": found.bootstrap[0], "bootstrap_high": found.bootstrap[1]}
        cells, people = self.cells(design, layer, position)
        found = factorial_geometry(cells, names, clusters=people, **how)
        if metric == self.set.metrics[0]:
            additive = {k: v.row() for k, v in found.additive.items()}
            sums = pd.DataFrame([{**v, "effect": k, "metric": "cosine"} for k, v in additive.items()])
            both = pd.concat([found.effects, sums[["effect", "metric", "value", "low", "high", "n", "verdict"]]])
            effects.append(both.assign(**place, table="effects"))
            effects.append(found.cells.set_axis(["cell", "harm", "safety"], axis=1).assign(**place, table="cells"))
        return found.reports[names].row()

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
                        acts.layer(layer)[:, 0], concepts, groups=rows["right"].to_numpy(), resamples=self.set.resamples, seed=self.set.seed,
                        erasers=("leace", "mean_projection", "inlp", "random") if whole else ("leace", "random"),
                        probes=("linear", "nonlinear") if whole else ("linear",),
                    ).assign(layer=layer, site="resid_post", condition="requests", position=self.main)
                )  # fmt: skip
            return pd.concat(parts, ignore_index=True)

        self._table("erasure", "erase one, read the other", make)

    @property
    def pushed_layers(self) -> list[int]:
        """Layers below the last to push at, the report's among them."""
        most = self.info.n_layers - 1
        spread = np.linspace(0, most - 1, min(self.set.pushed, most)).round().astype(int).tolist() if self.set.pushed and most else []
        return sorted({*spread, self.layer})

    def steering(self) -> None:
        """Level 3: push along one, read the others and the behaviour, on pairs of requests that made no direction."""
        acts = self.request[self.main]
        pairs = np.unique(acts.rows["right"])
        made = set(numpy_rng(self.set.seed, "geometry halves").permutation(pairs)[: len(pairs) // 2].tolist())
        train = acts.rows["right"].isin(made).to_numpy()
        self.halves = train

        def directions(layer: int) -> dict[str, Any]:
            some, place = acts.subset(train), place_of(acts, layer)
            x, rows = some.layer(layer)[:, 0], some.rows
            refused = answers_of(some)["answer"].to_numpy() == 0
            y = self.truth.layer(layer)[:, 0]
            sides = {
                "harm": (x, rows["input_harm"].to_numpy() == 1), "safety": (x, rows["claim_harm"].to_numpy() == 0), "refusal": (x, refused),
                "truth": (y, self.truth.labels == 1),
            }  # fmt: skip
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
                "read_layer": last, "kl": self.set.kl, "random": self.set.random, "resamples": self.set.resamples, "seed": self.set.seed,
                "progress": self.progress,
            }  # fmt: skip
            others = [layer for layer in self.pushed_layers if layer != self.layer]
            whole = {n: {self.layer: by_layer[self.layer][n]} for n in names}
            parts = [cross_steering(self.model, prompts, whole, read, positions=("stem_last", "stem"), **how)]
            if others:
                some = {n: {layer: by_layer[layer][n] for layer in others} for n in ("harm", "safety") if n in names}
                parts.append(cross_steering(self.model, prompts, some, read, kinds=("add",), **how))
            return pd.concat(parts, ignore_index=True)

        self._table("cross_steering", "push along one, read the others", make)

        def points() -> pd.DataFrame:
            d = directions(self.layer)
            harm, safety = d["harm"], d["safety"]
            u = harm.unit
            v = safety.unit - (safety.unit @ u) * u
            x = acts.subset(~train)
            z = x.layer(self.layer)[:, 0]
            z = z - z.mean(0)
            return pd.DataFrame(
                {"input_harm": x.rows["input_harm"], "claim_safety": 1 - x.rows["claim_harm"], "along_harm": (z @ u).numpy(),
                 "beside_harm": (z @ (v / v.norm())).numpy(), "layer": self.layer, "answer": answers_of(x)["answer"].to_numpy()}
            )  # fmt: skip

        self._table("plane", "project held-out requests", points)

    def verdicts(self) -> None:
        """The three levels side by side, per layer, in words."""
        tables = (self.run.tables[k] for k in ("angles", "erasure", "cross_steering"))
        self.run.keep("verdicts", levels(*tables, metric=self.set.metrics[0], position=self.main))


def compute(model: Any, settings: GeometrySettings, run: Run, progress: bool | None = None) -> Geometry:
    """Run every step and keep the tables in the run."""
    study = Geometry(model, settings, run, progress)
    study.read()
    study.angles()
    study.erasure()
    study.steering()
    study.verdicts()
    return study
