"""Two concepts, each rows and a baseline, compared."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from ..core.errors import BadInput, ShapeMismatch, ZeroDirection
from ..core.types import Float, Tensor
from .cells import Cells, unpair
from .cross import cross
from .geometry import between
from .metrics import Metric, root
from .report import MARGINS, GeometryReport
from .sample import Sample, unwrap
from .unnamed import warn_of_pairs


def compare_directions(
    *,
    clusters: Any = None,
    items: Any = None,
    paired: bool = False,
    metric: str | Metric = "raw",
    covariance: Any = None,
    unembedding: Any = None,
    margins: tuple[float, float] = MARGINS,
    level: float = 0.95,
    variance: str = "auto",
    draws: int = 1000,
    resamples: int = 0,
    seed: int = 0,
    **concepts: Any,
) -> GeometryReport:
    """Say how two concepts' directions lie to each other, with an interval, or that the data cannot tell.

    Each concept is (rows, baseline); its direction is the difference of their means. cosine = a.b / sqrt(a.a b.b), every product
    averaged over pairs of rows of *different* clusters (a ratio of averages, never an average of ratios), so that noise enters none.
    The interval is Fieller's, from a jackknife over clusters; the verdict is the class that holds all of it.

    Args:
        concepts: Two, by name: `harm=(rows, baseline), safety=(rows, baseline)`, `row x d_model` each, or samples (`sample`), which know
            their ids and their place. Cells that are equal by value are one cell: a baseline given twice is a shared baseline.
        clusters: What is independent of what (identities): one sequence for all cells, or by concept one for rows and baseline
            alike, or a pair. `None`: every item is its own.
        items: Ids of the rows, in the same forms; rows of one id were read from one item. Without ids every row stands alone,
            unless `paired`; a warning says where rows go together all the same.
        paired: Row i and baseline i are one item (and, with a shared baseline, row i of both concepts).
        metric: "raw"; "whitened", with a covariance from rows that enter neither direction; "causal" (Park et al. 2023), or a
            `causal_metric` made once for many layers.
        covariance: Rows for "whitened".
        unembedding: `d_model x vocabulary` for "causal".
        margins: The class edges, .2 and .9 by default, 0 < first < second < 1; raising the first makes "orthogonal" wider.
        level: Confidence level of the intervals, between 0 and 1.
        variance: "auto", "jackknife" or "jackknife - degenerate" (see `pair`).
        draws: Permutations for the null, 0 or more; 0 for none. Raising it makes smaller p-values possible.
        resamples: Bootstrap draws for a second interval, 0 or more; 0 for none.
        seed: Draws permutations and resamples.

    Returns:
        A report. "refused" where a reliability's lower bound is 0 or less, or where both concepts are one contrast (the cosine is
        then +1 or -1 by construction); "undetermined" where the interval meets two classes.

    Raises:
        WrongModel: Samples of different models, layers, sites, positions or processing modes.
        TooFew: Under 16 rows in a cell, or four clusters.
        SharedRows: The same row in two cells, without ids that say so.
        ZeroDirection, NotFinite, ShapeMismatch, BadInput: See their messages.

    Example:
        >>> import torch, workbench as wb
        >>> g = torch.Generator().manual_seed(0)
        >>> x, y, u, v = torch.randn(4, 400, 32, generator=g) + 3 * torch.eye(32)[[0, 1, 0, 2], None]
        >>> wb.compare_directions(harm=(x, y), safety=(u, v)).verdict
        'partly aligned'

    Note:
        An angle between mean differences is about this contrast, these rows and this inner product. It is not about what the model
        does with them: see erasure and cross-steering.

    References:
        The half-split form and its closed form: a U-statistic (Hoeffding 1948). Disattenuation: Spearman 1904.
    """
    flat = {(k, i): v for k, two in concepts.items() if isinstance(two, tuple | list) and len(two) == 2 for i, v in enumerate(two)}
    if any(isinstance(v, Sample) for v in flat.values()):
        if paired:
            raise BadInput("samples carry their items: leave paired= out, and give equal items where rows go in pairs")
        rows, ids, people = unwrap(flat, items, clusters)
        concepts = {k: (rows[k, 0], rows[k, 1]) for k in concepts}
        items, clusters = ({k: (v[k, 0], v[k, 1]) for k in concepts} for v in (ids, people))
    names, table, weights, ids, people = _cells(concepts, items, clusters, paired)
    if ids is None and people is None:
        warn_of_pairs(table)
    matrix = root(metric, covariance=covariance, unembedding=unembedding, cells=table)
    cells = Cells.of(table, items=ids, clusters=people, matrix=matrix)
    massive = _without_massive(table, weights, ids, people) if metric == "raw" else (0, math.nan)
    return between(
        cells,
        weights,
        names,
        margins=margins,
        level=level,
        variance=variance,
        draws=draws,
        resamples=resamples,
        seed=seed,
        metric=metric if isinstance(metric, str) else metric.name,
        massive=massive,
    )


def _cells(
    concepts: Mapping[str, Any], items: Any, clusters: Any, paired: bool
) -> tuple[tuple[str, str], dict[str, Tensor], Float[Tensor, "2 cell"], dict[str, Any] | None, dict[str, Any] | None]:
    """Names of the concepts, rows by cell, the two contrasts' weights, and items and clusters by cell."""
    if len(concepts) != 2:
        raise BadInput(f"two concepts by name, each (rows, baseline); got {', '.join(concepts) or 'none'}")
    first, second = concepts
    table: dict[str, Tensor] = {}
    where: dict[str, list[str]] = {}
    for concept, given in concepts.items():
        if not isinstance(given, tuple | list) or len(given) != 2:
            raise BadInput(f"{concept}=: a pair (rows, baseline)")
        where[concept] = []
        for name, rows in zip((concept, f"{concept} baseline"), given, strict=True):
            x = torch.as_tensor(np.asarray(rows) if not isinstance(rows, Tensor) else rows).detach()
            key = cell_name(table, name, x)
            table.setdefault(key, x)
            where[concept].append(key)
        one, two = (table[k] for k in where[concept])
        if where[concept][0] == where[concept][1]:
            raise ZeroDirection(f"{concept}: rows and baseline are the same")
        if paired and len(one) != len(two):
            raise ShapeMismatch(f"{concept}: paired rows, but {len(one)} and {len(two)} of them")
    order = list(table)
    weights = torch.zeros(2, len(order), dtype=torch.float64)
    for k, concept in enumerate(concepts):
        weights[k, order.index(where[concept][0])] += 1
        weights[k, order.index(where[concept][1])] -= 1
    ids = unpair(concepts, items, "items", where)
    if ids is None and paired:
        together = len(order) < 4
        ids = {}
        for concept in concepts:
            for cell in where[concept]:
                ids.setdefault(cell, [f"{'' if together else concept}{i}" for i in range(len(table[cell]))])
    return (first, second), table, weights, ids, unpair(concepts, clusters, "clusters", where)


def cell_name(table: Mapping[str, Tensor], name: str, x: Tensor) -> str:
    """Return the name of the cell that these rows are: that of equal rows, or one that is free."""
    same = next((k for k, v in table.items() if v.shape == x.shape and torch.equal(v, x)), None)
    while same is None and name in table:
        name += "'"
    return same or name


def _without_massive(table: Mapping[str, Tensor], weights: Float[Tensor, "2 cell"], ids: Any, people: Any) -> tuple[int, float]:
    """How many dimensions vary over 100 times as much as the middle one, and the cosine without them."""
    spread = torch.stack([v.double().var(0) for v in table.values()]).mean(0)
    massive = spread > 100 * spread[spread > 0].median() if bool((spread > 0).any()) else spread > 0
    count = int(massive.sum())
    if not count or count == len(massive):
        return count, math.nan
    rest = {k: v[:, ~massive.to(v.device)] for k, v in table.items()}
    products = cross(Cells.of(rest, items=ids, clusters=people, check_shared=False), weights).value
    a, b = float(products[0, 0]), float(products[1, 1])
    return count, float(products[0, 1]) / math.sqrt(a * b) if a > 0 and b > 0 else math.nan
