"""The 2x2: main effects, interaction, and whether a cell is the sum of its parts."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.stats import t as student

from ..core.errors import BadInput
from ..core.show import Shown
from ..core.show import between as between_text
from ..core.stats import permutation_p
from ..core.types import Float, Tensor
from .cells import Cells
from .cross import Cross, cross
from .geometry import between, freedom
from .metrics import Metric, root
from .null import permuted
from .report import MARGINS, GeometryReport
from .sample import unwrap

CORNERS = ((0, 0), (0, 1), (1, 0), (1, 1))


def design(first: str, second: str) -> dict[str, list[float]]:
    """Return the contrasts of a 2x2 over the cells 00, 01, 10, 11 (first factor, second factor).

    Args:
        first, second: Names of the factors.

    Returns:
        Weights of the cells' means, by effect: main effects, interaction, simple effects.
    """
    return {
        first: [-0.5, -0.5, 0.5, 0.5],
        second: [-0.5, 0.5, -0.5, 0.5],
        f"{first} x {second}": [0.5, -0.5, -0.5, 0.5],
        f"{first} without {second}": [-1.0, 0.0, 1.0, 0.0],
        f"{first} with {second}": [0.0, -1.0, 0.0, 1.0],
        f"{second} without {first}": [-1.0, 1.0, 0.0, 0.0],
        f"{second} with {first}": [0.0, 0.0, -1.0, 1.0],
    }


def sums(first: str, second: str) -> dict[str, tuple[list[float], list[float]]]:
    """Return the steps from one corner of a 2x2 to the opposite one, each with the sum of its two parts.

    Args:
        first, second: Names of the factors.

    Returns:
        By name, the weights of the step and of the sum, over the cells 00, 01, 10, 11.
    """
    return {
        f"both: {first} and {second} against the sum of each alone": ([-1.0, 0.0, 0.0, 1.0], [-2.0, 1.0, 1.0, 0.0]),
        f"{first} in place of {second} against the sum of its two steps": ([0.0, -1.0, 1.0, 0.0], [1.0, -2.0, 0.0, 1.0]),
    }


@dataclass(frozen=True, kw_only=True, repr=False)
class FactorialReport(Shown):
    """Directions of a 2x2 design and how they lie.

    Attributes:
        factors: Names of the two factors.
        effects: By effect: cross-fitted length (`value`, raw units of the metric) with an interval, `reliability`, permutation
            `p`, `share` of the summed squared lengths of the three orthogonal effects.
        pairs: By two effects: verdict, cosine, interval and so on; the null only for the two main effects.
        reports: The same as reports.
        additive: Is "both" the sum of "first alone" and "second alone"? The report of the two, and of the other diagonal.
        cells: Coordinates of the four cell means in the plane of the two main effects, in units of their lengths (NaN along an
            effect of no measurable length).
    """

    factors: tuple[str, str]
    effects: pd.DataFrame
    pairs: pd.DataFrame
    reports: Mapping[tuple[str, str], GeometryReport]
    additive: Mapping[str, GeometryReport]
    cells: pd.DataFrame

    def __str__(self) -> str:
        a, b = self.factors
        main = self.reports[a, b]
        joint = self.effects.set_index("effect").loc[f"{a} x {b}"]
        return f"{main}\nInteraction: {joint['share']:.0%} of the effects' squared length (p = {joint['p']:.3g})." + "".join(
            f"\n{k}: {v.verdict}. {v.reason}" for k, v in self.additive.items()
        )

    def _shown(self) -> tuple[str, Mapping[str, Any]]:
        a, b = self.factors
        main = self.reports[a, b]
        return f"{a} x {b}: {main.verdict}, cosine {between_text(main.cosine, *main.interval, digits=2)}", {"verdict": str(self)}

    def _shown_tables(self) -> Iterable[pd.DataFrame]:
        return self.effects, self.pairs


def factorial_geometry(
    cells: Mapping[tuple[int, int], Any],
    factors: tuple[str, str] = ("input harm", "claim harm"),
    *,
    items: Any = None,
    clusters: Any = None,
    metric: str | Metric = "raw",
    covariance: Any = None,
    unembedding: Any = None,
    margins: tuple[float, float] = MARGINS,
    level: float = 0.95,
    draws: int = 1000,
    seed: int = 0,
) -> FactorialReport:
    """Return main effects, interaction and simple effects of a 2x2 design, and the angles among them.

    Args:
        cells: Rows `row x d_model` (or samples) by (first factor, second factor), each 0 or 1.
        factors: Names of the two factors.
        items: Ids of the rows: one sequence for all cells (row i of each is one item), or by cell. As for `compare_directions`.
        clusters: Cluster of each row (what is independent of what), in the same forms.
        metric: Inner product: "raw", "whitened", "causal", or a `Metric`.
        covariance: Rows for "whitened", that enter no cell.
        unembedding: `d_model x vocabulary` for "causal".
        margins: The class edges of the verdicts.
        level: Confidence level of the intervals, between 0 and 1.
        draws: Permutations for the nulls, 0 or more; 0 for none.
        seed: Draws permutations.

    Returns:
        The report: effects, angles between any two of them, and whether a cell is the sum of its parts.

    Raises:
        BadInput: Not the four cells.
        TooFew, ShapeMismatch, NotFinite, SharedRows, ZeroDirection: As there.

    Note:
        "Additive" compares the step from one corner to the opposite one with the sum of its two parts from the same corner. It is
        *aligned* where the interaction is small beside the main effects; the interaction's own p says whether it is there at all.
    """
    if set(cells) != set(CORNERS):
        raise BadInput(f"cells= of a 2x2 are {', '.join(map(str, CORNERS))}; got {', '.join(map(str, cells))}")
    if factors[0] == factors[1]:
        raise BadInput(f"two factors are needed, got {factors[0]!r} twice")
    cells, items, clusters = unwrap(cells, items, clusters)
    names = {c: f"{c[0]}{c[1]}" for c in CORNERS}

    def by_cell(given: Any) -> dict[str, Any] | None:
        if isinstance(given, Mapping) and set(given) != set(CORNERS):
            raise BadInput(f"items= and clusters= by cell name {', '.join(map(str, CORNERS))}; got {', '.join(map(str, given))}")
        return None if given is None else {names[c]: (given[c] if isinstance(given, Mapping) else given) for c in CORNERS}

    rows = {names[c]: torch.as_tensor(np.asarray(cells[c]) if not isinstance(cells[c], Tensor) else cells[c]) for c in CORNERS}
    matrix = root(metric, covariance=covariance, unembedding=unembedding, cells=rows)
    table = Cells.of(rows, items=by_cell(items), clusters=by_cell(clusters), matrix=matrix)
    contrasts = design(*factors)
    weights = torch.tensor(list(contrasts.values()), dtype=torch.float64)
    products = cross(table, weights)
    crossed = permuted(table, weights, draws=draws, seed=seed)[0] if draws else None
    how: dict[str, Any] = {"margins": margins, "level": level, "seed": seed, "draws": 0}
    how["metric"] = metric if isinstance(metric, str) else metric.name
    reports = _reports(table, contrasts, weights, factors, draws, how)
    return FactorialReport(
        factors=factors,
        effects=_effects(table, list(contrasts), products, crossed, level),
        pairs=pd.DataFrame([r.row() for r in reports.values()]),
        reports=reports,
        additive=_additive(table, factors, how),
        cells=_plane(products.value, table, weights[:2], factors),
    )


def _effects(
    table: Cells, names: list[str], products: Cross, crossed: Float[Tensor, "draw effect effect"] | None, level: float
) -> pd.DataFrame:
    """Length of each effect with its interval, its share of the orthogonal effects, and its permutation p-value."""
    q = float(student.ppf(0.5 + level / 2, freedom(table)))
    squares = [max(0.0, float(products.value[i, i])) for i in range(len(names))]
    whole = sum(squares[:3]) or 1.0
    rows = []
    for i, name in enumerate(names):
        error = q * products.error(products.left[:, i, i].numpy())
        value = float(products.value[i, i])
        rows.append(
            {
                "effect": name,
                "metric": "length",
                "value": math.sqrt(max(0.0, value)),
                "low": math.sqrt(max(0.0, value - error)),
                "high": math.sqrt(max(0.0, value + error)),
                "n": len(table.cell),
                "reliability": products.reliability(i),
                "share": squares[i] / whole if i < 3 else math.nan,
                "p": permutation_p(value, crossed[:, i, i].numpy()) if crossed is not None else math.nan,
            }
        )
    return pd.DataFrame(rows)


def _reports(
    table: Cells,
    contrasts: Mapping[str, list[float]],
    weights: Float[Tensor, "effect cell"],
    factors: tuple[str, str],
    draws: int,
    how: Mapping[str, Any],
) -> dict[tuple[str, str], GeometryReport]:
    """The angle between any two effects; the null for the main effects only: the others' intervals say as much."""
    names = list(contrasts)
    reports = {}
    for a, b in itertools.combinations(names, 2):
        if not _same(contrasts[a], contrasts[b]):
            null = {"draws": draws} if (a, b) == factors else {}
            reports[a, b] = between(table, weights[[names.index(a), names.index(b)]], (a, b), **{**how, **null})
    return reports


def _additive(table: Cells, factors: tuple[str, str], how: Mapping[str, Any]) -> dict[str, GeometryReport]:
    """The step from a corner to the opposite one against the sum of its two parts, along both diagonals."""
    names = ("observed", "sum of parts")
    return {name: between(table, torch.tensor(two, dtype=torch.float64), names, **how) for name, two in sums(*factors).items()}


def _same(a: list[float], b: list[float]) -> bool:
    return np.allclose(a, b) or np.allclose(a, np.negative(b))


def _plane(value: Float[Tensor, "effect effect"], cells: Cells, weights: Float[Tensor, "2 cell"], factors: tuple[str, str]) -> pd.DataFrame:
    """Where the cell means lie along the two main effects, each measured with the other clusters' effect (no cell is its own ruler).

    An effect whose cross-fitted squared length is not above 0 is no ruler: NaN.
    """
    k = len(cells.names)
    centred = torch.eye(k, dtype=torch.float64) - 1 / k
    all_products = cross(cells, torch.cat([centred, weights])).value
    squared = value.diagonal()[:2]
    spots = all_products[:k, k:] / torch.where(squared > 0, squared, math.nan)
    return pd.DataFrame({"cell": cells.names, factors[0]: spots[:, 0].tolist(), factors[1]: spots[:, 1].tolist()})
