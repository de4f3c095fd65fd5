"""Level 3 of the geometry study: push along one direction, read the others and the behaviour."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch

from ...activations import Activations
from ...core.seeds import numpy_rng
from ...core.stats import benjamini_hochberg
from ...directions import extract_direction, place_of
from ...evaluation import answers_of, cross_steering
from ...prompts import PromptSet
from ..statements import Rows
from .settings import GeometrySettings


class Pushes(Rows):
    """The steps of the study that push.

    Attributes:
        main: The position that directions are made at.
        request: Requests under both claims, by position.
        truth: Statements without a claim, at the main position, at the layers of the pushes.
    """

    set: GeometrySettings
    main: str
    request: Mapping[str, Activations]
    truth: Activations

    def requests(self) -> PromptSet:
        """Harmful and harmless requests under a sentence that asks for every answer, and under one that protects."""
        raise NotImplementedError

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
                "seed": self.set.seed,
                "progress": self.progress,
            }
            others = [layer for layer in self.pushed_layers if layer != self.layer]
            whole = {n: {self.layer: by_layer[self.layer][n]} for n in names}
            parts = [cross_steering(self.model, prompts, whole, read, positions=self.set.scopes, **how)]
            if others:
                some = {n: {layer: by_layer[layer][n] for layer in others} for n in ("harm", "safety") if n in names}
                parts.append(cross_steering(self.model, prompts, some, read, kinds=("add",), **how))
            table = pd.concat(parts, ignore_index=True)
            known = table["p"].notna()
            table.loc[known, "q"] = benjamini_hochberg(table.loc[known, "p"])  # over all layers and concepts at once
            return table

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
