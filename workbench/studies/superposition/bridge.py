"""From toys to dictionaries: what dictionaries recover of features that are known, and what a planted direction is decomposed into."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from ...core.seeds import numpy_rng
from ...core.stats import proportion
from ...core.types import Float, Tensor
from ...features import Dictionary, f1, fit_dictionary, matched
from ...features.over_seeds import over_seeds
from ...features.pursuit import METHODS, pursue, unit_rows
from ...features.superposition import norms
from ...features.toys import TrainedToys

ROWS, BATCH, RATE = 20000, 256, 3e-3
PLANTED = 20  # directions per toy
COSINE, F1 = "mean largest cosine", "F1"
Made = Mapping[str, Sequence[Dictionary]]


@dataclass(frozen=True, kw_only=True)
class Toys:
    """Toys whose features are known, and how long dictionaries are trained on each.

    Attributes:
        trained: The toys.
        steps: Of training of a dictionary.
        seed: Draws examples and dictionaries.
        progress: Show bars.
    """

    trained: TrainedToys
    steps: int
    seed: int = 0
    progress: bool | None = None

    def known(self, k: int) -> Float[Tensor, "feature hidden"]:
        """Return the directions of the features that a toy represents.

        Args:
            k: Which toy.
        """
        w = self.trained.weights[k]
        return w.T[norms(w[None])[0] >= 0.5]

    def dictionaries(self, kinds: Sequence[str]) -> dict[str, list[Dictionary]]:
        """Return a dictionary of every kind for every toy, with as many latents as the toy has features.

        Args:
            kinds: Of dictionary.
        """
        out: dict[str, list[Dictionary]] = {}
        for kind in kinds:
            out[kind] = []
            for k in range(len(self.trained)):
                x, h = self.trained.hidden(k, ROWS, seed=self.seed)
                there = (x > 0).any(1)  # a row without a feature teaches nothing
                present = math.ceil(float((x[there] > 0).sum(1).float().mean()))
                how = {"kind": kind, "width": x.shape[1], "k": present, "steps": self.steps, "batch": BATCH, "rate": RATE}
                out[kind].append(fit_dictionary(h[there], seed=self.seed + k, progress=self.progress, **how))
        return out


def recovery_table(toys: Toys, made: Made) -> pd.DataFrame:
    """Return how well each kind recovers the features, beside permuted dictionaries.

    Args:
        toys: The toys.
        made: Dictionaries by kind, one per toy.

    Returns:
        `kind, control, metric, value, low, high, n, note`: means over toys.
    """
    rows = []
    for kind, several in made.items():
        for k, own in enumerate(several):
            directions = toys.known(k)
            x, h = toys.trained.hidden(k, 4000, seed=toys.seed + 1)
            present = x[:, norms(toys.trained.weights[k][None])[0] >= 0.5]
            for control, one in (("", own), ("permuted", own.permuted(toys.seed + k))):
                measured = {COSINE: float(matched(one, directions)[0].mean()), F1: float(f1(one, directions, h, present).mean())}
                rows += [{"kind": kind, "control": control, "metric": m, "value": v} for m, v in measured.items()]
    return over_seeds(pd.DataFrame(rows), ["kind", "control", "metric"])


def planted_table(toys: Toys, made: Made) -> pd.DataFrame:
    """Return how often a direction of two features is decomposed into exactly the two latents that match these features.

    Matching pursuit takes coefficients of either sign, so it does not tell a feature from one that lies opposite to it, as most features of
    sparse toys have; non-negative least squares does.

    Args:
        toys: The toys.
        made: Dictionaries by kind, one per toy.

    Returns:
        `kind, method, control, value, low, high, n`: the share of planted directions, with Wilson intervals clustered by toy.
    """
    rows = []
    for kind, several in made.items():
        for method in METHODS:
            for control in ("", "permuted"):
                hits: list[bool] = []
                clusters: list[int] = []
                for k, own in enumerate(several):
                    found = _exact(own.permuted(toys.seed + k) if control else own, toys.known(k), method, toys.seed + k)
                    hits += found
                    clusters += [k] * len(found)
                e = proportion(np.array(hits, float), np.array(clusters)) if hits else proportion([])
                rows.append({"kind": kind, "method": method, "control": control, **e.row()})
    return pd.DataFrame(rows)


def _exact(one: Dictionary, directions: Float[Tensor, "feature hidden"], method: str, seed: int) -> list[bool]:
    """Whether each planted direction of one toy is found exactly; no direction is made of two features that lie opposite."""
    units, (_, which) = unit_rows(one.decoder.double().numpy()), matched(one, directions)
    known = torch.nn.functional.normalize(directions, dim=1)
    pairs = [(i, j) for i in range(len(known)) for j in range(i) if abs(float(known[i] @ known[j])) < 0.9]
    if not pairs:
        return []
    out = []
    for chosen in numpy_rng(seed, "planted").choice(len(pairs), PLANTED):
        i, j = pairs[int(chosen)]
        path = pursue((known[i] + known[j]).double().numpy(), units, 6, method)
        out.append(set(path.latents[: path.needed(0.9) or None]) == {int(which[i]), int(which[j])})
    return out
