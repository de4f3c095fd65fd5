"""The sentences that a claim is made with, as a factor of an angle's interval.

An angle between claims is about claims and not about one sentence of each. Each item is shown one of several sentences of its claim. The
variance of two crossed factors is that over identities, plus that over sentences, less that over single items, which both hold
(Cameron, Gelbach and Miller 2011, doi:10.1198/jbes.2010.07136). The last two are one where sentences make no difference.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from scipy.stats import t as student
from torch import Tensor

from ...core.rows import Array
from ...directions import Cells, FactorialReport, GeometryReport, Metric, verdict
from ...directions.cross import cross, fieller, pair
from ...directions.factorial import design, sums
from ...directions.geometry import freedom
from ...prompts import claim_phrasings, claims

Statistic = Callable[[Tensor], Tensor]  # of products, `m x contrast x contrast`, to `m x statistic`


def wordings(claim: str, most: int, kind: str = "udhr") -> int:
    """Return how many sentences of a claim are used: as many as there are, and at most so many.

    Args:
        claim: Its name.
        most: At most so many.
        kind: "udhr" or "requests".
    """
    return min(most, 1 + len(claim_phrasings(claim, kind)[0]))


@dataclass(frozen=True, kw_only=True)
class Said:
    """Which sentence of which claim the rows of a cell were shown.

    Attributes:
        claim: The claim's name.
        sentences: The number of each row's sentence among those of the claim.
    """

    claim: str
    sentences: Sequence[int]

    @classmethod
    def of(cls, rows: pd.DataFrame, claim: str, kind: str = "udhr") -> Said:
        """Return what rows of one claim were shown; without a column `phrasing` it is one sentence.

        Args:
            rows: Of the activations.
            claim: Its name.
            kind: "udhr" or "requests".
        """
        if "phrasing" not in rows:
            return cls(claim=claim, sentences=[0] * len(rows))
        every = [claims(kind)[claim], *claim_phrasings(claim, kind)[0]]
        return cls(claim=claim, sentences=[every.index(text) for text in rows["phrasing"]])


class Worded:
    """Contrasts of cells whose rows were shown several sentences of a claim.

    Args:
        rows: By cell, `row x d_model`.
        clusters: By cell, the identity or the pair of each row.
        said: By cell, what its rows were shown.
        weights: Of each contrast on the cells' means, `contrast x cell`.
        matrix: Of the inner product; `None` for the raw one.
    """

    def __init__(
        self,
        rows: Mapping[str, Tensor],
        clusters: Mapping[str, Sequence[str]],
        said: Mapping[str, Said],
        weights: Tensor,
        matrix: Tensor | None = None,
    ) -> None:
        self.weights = weights.double()
        self.cells = Cells.of(rows, clusters=clusters, matrix=matrix, check_shared=False)
        self.claim = np.repeat([said[name].claim for name in rows], [len(x) for x in rows.values()])
        self.code = np.concatenate([np.asarray(said[name].sentences) for name in rows])
        known = {c: sorted(set(self.code[self.claim == c].tolist())) for c in dict.fromkeys(self.claim.tolist())}
        # the same item has the same number of each claim where claims have as many sentences: these are left out together
        together = len({tuple(v) for v in known.values()}) == 1
        strata = [[("", k) for k in next(iter(known.values()))]] if together else [[(c, k) for k in v] for c, v in known.items()]
        self.strata = [s for s in strata if len(s) > 1]
        self.freedom = sum(len(s) - 1 for s in self.strata)
        self.products = cross(self.cells, self.weights)
        self._single = cross(self._clustered(self.cells.cluster * (1 + self.code.max()) + self.code), self.weights)
        self._without = [torch.stack([self._left(*one) for one in stratum]) for stratum in self.strata]

    def _clustered(self, codes: np.ndarray, keep: np.ndarray | None = None) -> Cells:
        index = np.arange(len(codes)) if keep is None else np.flatnonzero(keep)
        cluster = np.unique(codes[index], return_inverse=True)[1].astype(np.int64)
        return replace(
            self.cells, rows=self.cells.rows[torch.as_tensor(index)], cell=self.cells.cell[index], cluster=cluster, block=cluster
        )

    def _left(self, claim: str, code: int) -> Tensor:
        """The products without one sentence."""
        keep = ~((self.code == code) & ((self.claim == claim) | (claim == "")))
        return cross(self._clustered(self.cells.cluster, keep), self.weights).value

    def extra(self, statistic: Statistic) -> Array:
        """Return the covariance that sentences add to that over identities.

        Args:
            statistic: Of products, `m x contrast x contrast`, to `m x statistic`.
        """
        out = -self._single.jackknife(statistic(self._single.left).numpy())
        for without in self._without:
            left = statistic(without).numpy()
            x = left - left.mean(0)
            out = out + (len(x) - 1) / len(x) * x.T @ x
        values, vectors = np.linalg.eigh(out)
        return (vectors * values.clip(min=0)) @ vectors.T

    def quantile(self, own: float, extra: float, freedom: int, level: float = 0.95) -> float:
        """Return Student's quantile for a sum of two variances (Satterthwaite 1946)."""
        df = (own + extra) ** 2 / (own**2 / freedom + extra**2 / self.freedom) if own + extra > 0 else freedom
        return float(student.ppf(0.5 + level / 2, df))

    def report(self, found: GeometryReport, i: int = 0, j: int = 1) -> GeometryReport:
        """Return a report with sentences in its interval.

        Args:
            found: The report of two contrasts, over identities.
            i: Index of the first contrast.
            j: Index of the second contrast.
        """
        both = pair(self.products, i, j)
        if found.verdict == "refused" or not both.r > 0 or not self.strata:
            return found
        a, b = (float(self.products.value[k, k]) for k in (i, j))
        ga, gb = 0.5 * (b / a) ** 0.5, 0.5 * (a / b) ** 0.5
        more = self.extra(lambda v: torch.stack([v[:, i, j], ga * v[:, i, i] + gb * v[:, j, j]], 1))
        slope = np.array([1.0, -both.n / both.r])
        own, extra = (float(slope @ c @ slope) for c in (both.covariance, more))
        q = self.quantile(own, extra, found.independent - 1, found.level)
        interval = fieller(both.n, both.r, both.covariance + more, q)
        word = verdict(interval, found.margins)
        text = f"Cosine {found.cosine:.2f}, interval over identities and sentences [{interval[0]:.2f}, {interval[1]:.2f}]"
        why = f"{text}, all of it {word}." if word != "undetermined" else f"{text}, meets more than one class."
        return replace(found, interval=interval, verdict=word, reason=why)

    def length(self, i: int, freedom: int) -> tuple[float, float]:
        """Return the interval of a contrast's length.

        Args:
            i: Index of the contrast.
            freedom: Degrees of freedom over identities.
        """
        square, own = float(self.products.value[i, i]), self.products.error(self.products.left[:, i, i].numpy()) ** 2
        extra = float(self.extra(lambda v: v[:, i, i, None])[0, 0]) if self.strata else 0.0
        error = (self.quantile(own, extra, freedom) if extra else float(student.ppf(0.975, freedom))) * (own + extra) ** 0.5
        low, high = (max(0.0, square + sign * error) ** 0.5 for sign in (-1, 1))
        return low, high


def with_sentences(
    found: FactorialReport,
    rows: Mapping[str, Tensor],
    clusters: Mapping[str, Sequence[str]],
    said: Mapping[str, Said],
    matrix: Tensor | None = None,
) -> FactorialReport:
    """Return a report of a 2x2 with sentences in the intervals of its effects, of the angle of its factors and of its sums.

    Args:
        found: The report, over pairs.
        rows, clusters, said, matrix: As for `Worded`, by cell 00, 01, 10 and 11.
    """
    contrasts, ends = design(*found.factors), sums(*found.factors)
    weights = torch.tensor([*contrasts.values(), *(w for two in ends.values() for w in two)])
    worded = Worded(rows, clusters, said, weights, matrix)
    lengths = [worded.length(i, freedom(worded.cells)) for i in range(len(contrasts))]
    low, high = zip(*lengths, strict=True)
    first = len(contrasts)
    return replace(
        found,
        effects=found.effects.assign(low=low, high=high),
        reports={**found.reports, found.factors: worded.report(found.reports[found.factors], 0, 1)},
        additive={k: worded.report(r, first + 2 * n, first + 2 * n + 1) for n, (k, r) in enumerate(found.additive.items())},
    )


def matrix_of(product: str | Metric) -> Tensor | None:
    """Return the matrix of an inner product, `None` for the raw one."""
    return product.matrix if isinstance(product, Metric) else None
