"""How far shares vary from one identity to the next, and how rarely one would lie as high as it does.

Shares of identities vary more than tosses of one coin do: each identity has a rate of its own. The rates are taken as beta (`Beta`), and as
normal on the scale of log-odds (`LogOdds`), whose upper tail is longer where most rates are small: the larger p-value counts. Above a cut
it only counts how many identities lie there, not how high: a share of them, not known either, may be truly denied. Centre, width and that
share are known with an error, which goes into the tail: it is averaged over all values that the counts allow.

References:
    Efron 2004, J. Am. Stat. Assoc. 99:96 (a null fitted to the middle of the data); Crowder 1978, Appl. Stat. 27:34 (beta-binomial);
    Williams 1982, Appl. Stat. 31:144 (log-odds).
"""

from __future__ import annotations

import numpy as np
from scipy.special import betaln, expit, gammaln, logsumexp

from ..core.rows import Array
from ..core.types import Float, Int

POINTS = 25  # per axis of the grid over centre and width
DENIED = (np.arange(40) + 0.5) / 80  # the share of identities that are truly denied, with the prior Beta(1, 50)
PRIOR = (1 - DENIED) ** 49 / ((1 - DENIED) ** 49).sum()
Grid = Float[np.ndarray, " point"]


class Beta:
    """Rates that are beta: the counts are beta-binomial. The width is the log of the correlation of two answers about one identity."""

    ends = np.array([[-14.0, np.log(1e-4)], [14.0, np.log(0.5)]])

    @staticmethod
    def prior(centre: Grid, width: Grid) -> Grid:
        """Flat in the mean; the correlation has Beta(1, 9), up to .5."""
        return -np.logaddexp(0, centre) - np.logaddexp(0, -centre) + width + 8 * np.log1p(-np.exp(width))

    @staticmethod
    def log_pmf(n: int, centre: Grid, width: Grid) -> Float[np.ndarray, "point count"]:
        """The log-probabilities of 0 to n denials."""
        k, size = np.arange(n + 1), np.expm1(-width)[:, None]
        a, b = expit(centre)[:, None] * size, expit(-centre)[:, None] * size
        return _choose(n) + betaln(k + a, n - k + b) - betaln(a, b)


class LogOdds:
    """Rates whose log-odds are normal. The width is the log of their standard deviation."""

    ends = np.array([[-14.0, np.log(0.02)], [14.0, np.log(4.0)]])

    @staticmethod
    def prior(centre: Grid, width: Grid) -> Grid:
        """Flat in the median; the standard deviation is half-normal with scale 1.5."""
        return -np.logaddexp(0, centre) - np.logaddexp(0, -centre) + width - np.exp(2 * width) / (2 * 1.5**2)

    @staticmethod
    def log_pmf(n: int, centre: Grid, width: Grid) -> Float[np.ndarray, "point count"]:
        """The log-probabilities of 0 to n denials, by the trapezoidal rule."""
        z = np.linspace(-5, 5, max(41, int(8 * n**0.5) + 1))  # finer where more answers narrow the rate that fits them
        log_odds = centre[:, None] + np.exp(width)[:, None] * z
        none, share = -n * np.logaddexp(0, log_odds), np.exp(-(z**2) / 2)
        chances = [np.exp(none + k * log_odds) @ (share / share.sum()) for k in range(n + 1)]
        return _choose(n) + np.log(np.maximum(np.stack(chances, 1), 1e-300))


def upper_tails(counts: Int[np.ndarray, " identity"], totals: Int[np.ndarray, " identity"], least: float = 0.1) -> Array:
    """Return how probable a count at least as high is for an identity that is like the others.

    Args:
        counts: Denials about each identity.
        totals: Answers about each identity, 1 or more.
        least: The cut is the third quartile of the shares, or this where it is higher. Raising it lets higher shares say what is ordinary.

    Returns:
        One p-value per identity, above 0 and at most 1. Identities above the cut, the only ones that can have a small one, enter what
        they are compared with by their number alone.
    """
    cut = max(float(np.quantile(counts / totals, 0.75, method="inverted_cdf")), least)
    return np.maximum(*(_tails(family, counts, totals, cut) for family in (Beta, LogOdds)))


def _tails(family: type[Beta | LogOdds], counts: Int[np.ndarray, " identity"], totals: Int[np.ndarray, " identity"], cut: float) -> Array:
    """The upper tails of one family, averaged over the grid, which closes in on what the counts allow."""
    ends = family.ends
    while True:
        axes = [np.linspace(low, high, POINTS) for low, high in ends.T]
        centre, width = (g.ravel() for g in np.meshgrid(*axes, indexing="ij"))
        weight = family.prior(centre, width) + _likelihood(family, counts, totals, cut, centre, width)
        near = (weight > weight.max() - 10).reshape(POINTS, POINTS)
        places = [np.flatnonzero(near.any(1 - k)) for k in range(2)]
        closer = np.array([[a[max(p[0] - 1, 0)], a[min(p[-1] + 1, POINTS - 1)]] for a, p in zip(axes, places, strict=True)]).T
        if (np.diff(closer, axis=0) > 0.7 * np.diff(ends, axis=0)).all():
            break
        ends = closer
    weight = np.exp(weight - logsumexp(weight))
    out = np.ones(len(counts))
    for n in np.unique(totals):
        here = totals == n
        tail = np.cumsum((weight @ np.exp(family.log_pmf(int(n), centre, width)))[::-1])[::-1]
        out[here] = np.minimum(1.0, tail)[counts[here]]
    return out


def _likelihood(
    family: type[Beta | LogOdds],
    counts: Int[np.ndarray, " identity"],
    totals: Int[np.ndarray, " identity"],
    cut: float,
    centre: Grid,
    width: Grid,
) -> Grid:
    """The log-likelihood of the counts up to the cut, and of how many lie above it, averaged over the share that is denied."""
    out, share = np.zeros(len(centre)), np.tile(np.log(PRIOR), (len(centre), 1))
    for n in np.unique(totals):
        table, top = family.log_pmf(int(n), centre, width), int(np.floor(cut * n + 1e-9)) + 1
        seen = np.bincount(counts[totals == n], minlength=n + 1)
        out += table[:, :top] @ seen[:top]
        above = np.exp(table[:, top:]).sum(1)[:, None]
        share += seen[:top].sum() * np.log1p(-DENIED) + seen[top:].sum() * np.log((1 - DENIED) * above + DENIED)
    return out + np.asarray(logsumexp(share, axis=1))


def _choose(n: int) -> Float[np.ndarray, " count"]:
    k = np.arange(n + 1)
    return gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)
