"""Concepts of more than one dimension: principal angles, effective rank, cones, what two subspaces share; all cross-fitted."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.stats import t as student

from ..core.errors import BadInput, TooFew
from ..core.seeds import numpy_rng
from ..core.show import Shown, number
from ..core.types import Float, Tensor
from .cells import Cells, two_of
from .compare import cell_name
from .cross import Cross, cross
from .geometry import between, freedom
from .metrics import Metric, root
from .report import MARGINS, GeometryReport
from .sample import unwrap

Parts = Mapping[str, tuple[Any, Any]]


@dataclass(frozen=True, kw_only=True, repr=False)
class SubspaceReport(Shown):
    """How two concepts, each of several contrasts, lie to each other.

    Attributes:
        names: The two concepts.
        dimensions: Of each: components whose cross-fitted squared length has a lower bound above 0.
        effective_rank: Of each: (tr G)^2 / tr G^2 of its contrasts' cross-fitted products, less its jackknife bias.
        angles: Principal cosines, chosen on half of the clusters and measured on the other half, both ways: `component, value,
            low, high, verdict`.
        shared: Share of each concept's squared length that lies in the other's subspace, with an interval.
        cones: Of each concept: smallest and mean cosine between two of its contrasts, and the half-angle of the cone around their mean.
    """

    names: tuple[str, str]
    dimensions: Mapping[str, int]
    effective_rank: Mapping[str, float]
    angles: pd.DataFrame
    shared: pd.DataFrame
    cones: pd.DataFrame

    def __str__(self) -> str:
        a, b = self.names
        first = f"principal cosine {self.angles['value'].iloc[0]:.2f}" if len(self.angles) else "no principal angle"
        share = "; ".join(f"{r.value:.0%} [{r.low:.0%}, {r.high:.0%}] of {r.concept} lies in the other" for r in self.shared.itertuples())
        return f"{a}: {self.dimensions[a]} dimensions, {b}: {self.dimensions[b]}; {first}; {share}."

    def _shown(self) -> tuple[str, Mapping[str, Any]]:
        a, b = self.names
        facts = {f"{k}: dimensions, effective rank": f"{self.dimensions[k]}, {number(self.effective_rank[k])}" for k in self.names}
        return f"{a}: {self.dimensions[a]} dimensions, {b}: {self.dimensions[b]}; {len(self.angles)} angles", {"found": str(self), **facts}

    def _shown_tables(self) -> Iterable[pd.DataFrame]:
        return self.angles, self.shared, self.cones


def compare_subspaces(
    *,
    items: Mapping[str, Any] | None = None,
    clusters: Mapping[str, Any] | None = None,
    metric: str | Metric = "raw",
    covariance: Any = None,
    unembedding: Any = None,
    margins: tuple[float, float] = MARGINS,
    level: float = 0.95,
    seed: int = 0,
    **concepts: Any,
) -> SubspaceReport:
    """Compare two concepts that are each read in several ways (areas, languages, wordings), as subspaces.

    Principal cosines are singular values of A^(-1/2) C B^(-1/2), A, B and C the cross-fitted products within and between the
    concepts, in the components that have a measurable length.

    Args:
        concepts: Two, by name; each maps a part's name to (rows, baseline), `row x d_model` each or samples. Cells equal by
            value are one cell.
        items: By part: ids of rows and baseline (one sequence, or a pair of them); `None`: every row is its own.
        clusters: By part: cluster of each row of both, in the same forms; `None`: every item is its own.
        metric: Inner product: "raw", "whitened", "causal", or a `Metric`.
        covariance: Rows for "whitened", that enter no cell.
        unembedding: `d_model x vocabulary` for "causal".
        margins: The class edges of the verdicts.
        level: Confidence level of the intervals, between 0 and 1.
        seed: Splits the clusters into halves.

    Returns:
        The report: dimensions, principal cosines (0: orthogonal, 1: shared; components have no sign), shares and cones.

    Raises:
        BadInput, TooFew, ShapeMismatch, NotFinite, SharedRows: See their messages.

    References:
        Bjorck and Golub 1973, Math. Comp. 27:579 (principal angles); Wollschlaeger et al. 2025, arXiv 2502.17420 (concept cones).
    """
    if not 0 < level < 1:
        raise BadInput(f"level={level}: between 0 and 1")
    if len(concepts) != 2:
        raise BadInput(f"two concepts by name, each a mapping of parts; got {', '.join(concepts) or 'none'}")
    names = (*concepts,)
    cells, weights, sizes = _cells(
        concepts, items, clusters, lambda c: root(metric, covariance=covariance, unembedding=unembedding, cells=c)
    )
    products = cross(cells, weights)
    q = float(student.ppf(0.5 + level / 2, freedom(cells)))
    spans = {name: list(range(s, s + n)) for name, s, n in zip(names, (0, sizes[0]), sizes, strict=True)}
    bases = {name: _components(products, spans[name], q) for name in names}
    return SubspaceReport(
        names=(names[0], names[1]),
        dimensions={n: bases[n].shape[1] for n in names},
        effective_rank={n: _corrected(products, lambda g, s=spans[n]: _participation(g[s][:, s])) for n in names},
        angles=_angles(cells, weights, spans, names, margins, level, seed),
        shared=_shared(products, spans, bases, names, q),
        cones=_cones(products, spans, names, list(concepts.values())),
    )


def _cells(
    concepts: Mapping[str, Any],
    items: Mapping[str, Any] | None,
    clusters: Mapping[str, Any] | None,
    metric: Callable[[Mapping[str, Any]], Tensor | None],
) -> tuple[Cells, Float[Tensor, "contrast cell"], list[int]]:
    """The rows of both concepts' parts, the contrast of each part, and how many parts each concept has."""
    table: dict[str, Tensor] = {}
    labels: list[dict[str, Any]] = [{}, {}]
    contrasts: list[tuple[str, str]] = []
    flat = {}
    for concept, parts in concepts.items():
        if not isinstance(parts, Mapping) or any(not isinstance(v, tuple | list) or len(v) != 2 for v in parts.values()):
            raise BadInput(f"{concept}=: a mapping of parts, each a pair (rows, baseline)")
        flat |= {(concept, part, k): v for part, two in parts.items() for k, v in enumerate(two)}
    given = unwrap(flat, None, None)
    for concept, parts in concepts.items():
        if len(parts) < 2:
            raise BadInput(f"{concept}: a subspace needs two parts at least; for one use compare_directions")
        for part in parts:
            names = []
            for k, suffix in enumerate(("", " baseline")):
                rows = given[0][concept, part, k]
                x = torch.as_tensor(np.asarray(rows) if not isinstance(rows, Tensor) else rows).detach()
                name = cell_name(table, f"{concept}: {part}{suffix}", x)
                table.setdefault(name, x)
                names.append(name)
                for out, asked, own in zip(labels, (items, clusters), given[1:], strict=True):
                    if own is not None:
                        out[name] = own[concept, part, k]
                    elif asked is not None:
                        if part not in asked:
                            raise BadInput(f"items= and clusters= go by part; there is nothing for {part!r}")
                        out[name] = two_of(asked[part])[k]
            contrasts.append((names[0], names[1]))
    order = list(table)
    weights = torch.zeros(len(contrasts), len(order), dtype=torch.float64)
    for k, (rows, baseline) in enumerate(contrasts):
        weights[k, order.index(rows)] += 1
        weights[k, order.index(baseline)] -= 1
    cells = Cells.of(table, items=labels[0] or None, clusters=labels[1] or None, matrix=metric(table))
    return cells, weights, [len(p) for p in concepts.values()]


def _components(products: Cross, span: Sequence[int], q: float) -> Float[Tensor, "contrast component"]:
    """Weights of the components with a measurable length, scaled to length 1."""
    g = products.value[span][:, span]
    values, vectors = torch.linalg.eigh(g)
    left = products.left[:, span][:, :, span]
    keep = []
    for k in reversed(range(len(values))):
        v = vectors[:, k]
        without = torch.einsum("i,cij,j->c", v, left, v).numpy()
        if float(values[k]) - q * products.error(without) > 0:
            keep.append(v / values[k].sqrt())
    return torch.stack(keep, 1) if keep else torch.zeros(len(span), 0, dtype=g.dtype)


def _participation(g: Float[Tensor, "contrast contrast"]) -> float:
    return float(g.trace() ** 2 / (g * g).sum().clamp(min=1e-300))


def _corrected(products: Cross, statistic: Callable[[Tensor], float]) -> float:
    """A statistic of the products less its jackknife bias."""
    whole = statistic(products.value)
    left = np.array([statistic(without) for without in products.left])
    size = 1 / (1 - products.factor.numpy())
    bias = float(((size - 1) / size * (products.middle(left) - whole)).sum())
    return whole - bias


def _angles(
    cells: Cells,
    weights: Tensor,
    spans: Mapping[str, list[int]],
    names: Sequence[str],
    margins: tuple[float, float],
    level: float,
    seed: int,
) -> pd.DataFrame:
    """Principal cosines, chosen on half of the clusters and measured on the other half, both ways."""
    order = numpy_rng(seed, "subspace halves").permutation(cells.clusters)
    halves = [_part(cells, order[k::2]) for k in (0, 1)]
    ours, theirs = (spans[name] for name in names)
    both_ways: list[list[GeometryReport]] = []
    for choose, measure in (halves, halves[::-1]):
        products = cross(choose, weights)
        q = float(student.ppf(0.5 + level / 2, freedom(choose)))
        first, second = (_components(products, span, q) for span in (ours, theirs))
        left, _, right = torch.linalg.svd(first.T @ products.value[ours][:, theirs] @ second, full_matrices=False)
        reports = []
        for k in range(left.shape[1]):
            w = torch.stack([(first @ left[:, k]) @ weights[ours], (second @ right[k]) @ weights[theirs]])
            reports.append(between(measure, w, (names[0], names[1]), margins=margins, level=level, draws=0))
        both_ways.append(reports)
    rows = []
    for k, reports in enumerate(zip(*both_ways, strict=False)):
        low, high = (float(np.mean([r.interval[i] for r in reports])) for i in (0, 1))
        words = {r.verdict for r in reports}
        rows.append(
            {
                "component": k + 1,
                "metric": "principal cosine",
                "value": float(np.mean([r.cosine for r in reports])),
                "low": low,
                "high": high,
                "n": cells.clusters,
                "verdict": words.pop() if len(words) == 1 else "undetermined",
            }
        )
    return pd.DataFrame(rows, columns=["component", "metric", "value", "low", "high", "n", "verdict"])


def _part(cells: Cells, clusters: np.ndarray) -> Cells:
    """The rows of some clusters."""
    keep = np.isin(cells.cluster, clusters)
    here = [np.unique(cells.cluster[keep & (cells.cell == k)]) for k in range(len(cells.names))]
    if min(map(len, here)) < 4:
        raise TooFew("too few clusters to choose angles on one half of them and measure on the other")
    rows, cell, cluster, block = cells.rows[torch.as_tensor(keep)], cells.cell[keep], cells.cluster[keep], cells.block[keep]
    return Cells(names=cells.names, rows=rows, cell=cell, cluster=np.unique(cluster, return_inverse=True)[1], block=block)


def _shared(products: Cross, spans: Mapping[str, list[int]], bases: Mapping[str, Tensor], names: Sequence[str], q: float) -> pd.DataFrame:
    """Share of each concept's squared length that lies in the other's subspace."""
    rows = []
    for name, other in (names, names[::-1]):
        span, basis = spans[name], bases[other]

        def share(g: Tensor, span: list[int] = span, other: str = other, basis: Tensor = basis) -> float:
            inside = g[span][:, spans[other]] @ basis
            return float((inside * inside).sum() / g[span][:, span].trace().clamp(min=1e-300))

        error = products.error(np.array([share(without) for without in products.left]))
        value = _corrected(products, share)
        own = products.left[:, span][:, :, span].diagonal(dim1=1, dim2=2).sum(1).numpy()
        if float(products.value[span][:, span].trace()) - q * products.error(own) <= 0:  # no length to have a share of
            value = error = math.nan
        rows.append(
            {
                "concept": name,
                "metric": "share in the other's subspace",
                "value": value,
                "low": max(0.0, value - q * error) if value == value else value,
                "high": value + q * error,
                "n": products.clusters,
            }
        )
    return pd.DataFrame(rows)


def _cones(products: Cross, spans: Mapping[str, list[int]], names: Sequence[str], parts: Sequence[Parts]) -> pd.DataFrame:
    rows = []
    for name, own in zip(names, parts, strict=True):
        g = products.value[spans[name]][:, spans[name]]
        length = g.diagonal().clamp(min=0).sqrt()
        cosines = g / (length[:, None] * length)
        mean = g.sum(1) / (length * g.sum().clamp(min=1e-300).sqrt())
        off = cosines[~torch.eye(len(g), dtype=torch.bool)]
        good = bool((length > 0).all())
        rows.append(
            {
                "concept": name,
                "parts": len(own),
                "smallest_cosine": float(off.min()) if good else math.nan,
                "mean_cosine": float(off.mean()) if good else math.nan,
                "half_angle": math.degrees(math.acos(min(1.0, max(-1.0, float(mean.min()))))) if good else math.nan,
                "n": products.clusters,
            }
        )
    return pd.DataFrame(rows)
