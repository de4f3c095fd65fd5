"""Laws of in-context learning: a power law against bounded alternatives, chosen by shots that no law was fitted on.

Many-shot jailbreaking reports that the negative log-likelihood of a harmful answer falls as a power of the number of demonstrations. A
power law has no floor: more demonstrations always go on. Bounded laws level off. On the shots that were tried all of them may fit, so what
counts is what they foretell of others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import expit, logsumexp

from ..core.errors import BadInput, NotFinite, ShapeMismatch, TooFew
from ..core.rows import cluster_codes
from ..core.show import Shown
from ..core.stats import cluster_weights
from ..core.types import Float

LAWS = ("power", "exponential", "bayesian")
PARAMETERS = {
    "power": ("exponent", "intercept"),
    "exponential": ("floor", "height", "shots"),
    "bayesian": ("floor", "start", "prior", "speed"),
}
FLOOR = 1e-6  # of a negative log-likelihood: below it an answer is certain
REACH = 12.0  # of a parameter's logarithm
DECIDED = 0.9  # share of resamples that must agree for a law to be called chosen


def law(name: str, shots: ArrayLike, parameters: Sequence[float] | np.ndarray) -> Float[np.ndarray, "*curve shots"]:
    """Return what a law says of the negative log-likelihood after n shots.

    power: intercept n^-exponent. exponential: floor + height exp(-n / shots).
    bayesian, a posterior over two tasks of which one gives the answer with probability a and the other with b:
    -log((a r a^(n s) + b (1 - r) b^(n s)) / (r a^(n s) + (1 - r) b^(n s))), with floor = -log a, start = -log b, r the prior, s the speed.

    Args:
        name: One of `LAWS`.
        shots: Numbers of demonstrations, above 0.
        parameters: As `PARAMETERS` names them; each may be `curve x 1`, for several curves at once.

    References:
        Anil et al. 2024, "Many-shot jailbreaking" (power law); Arora et al. 2024, arXiv 2410.16531 (Bayesian law, here with two tasks and
        the answer itself as what is seen).
    """
    n = np.asarray(shots, float)
    if name == "power":
        exponent, intercept = parameters
        return intercept * n**-exponent
    if name == "exponential":
        floor, height, scale = parameters
        return floor + height * np.exp(-n / scale)
    if name != "bayesian":
        raise BadInput(f"law {name!r}: one of {', '.join(LAWS)}")
    floor, start, prior, speed = parameters
    first, second = np.log(prior) - floor * n * speed, np.log1p(-prior) - start * n * speed
    ends: list[np.ndarray] = [np.asarray(logsumexp(pair, axis=0)) for pair in ([first, second], [first - floor, second - start])]
    return ends[0] - ends[1]


@dataclass(frozen=True, kw_only=True, repr=False)
class ShotLaws(Shown):
    """Laws fitted to one curve, and which foretells its held-out end.

    Attributes:
        table: One row per law and `parameter` ("exponent", …, and "held-out error"): `value, low, high, n`, n the clusters. The error is
            the root mean square of log(foretold / seen) over the held-out shots.
        chosen: "power" or "bounded" (either bounded law), whichever foretells best; "" where the resamples do not agree on it.
        shares: By law, the share of resamples that choose it.
        fitted, held: The numbers of shots that laws were fitted on, and those they were judged on.
        note: Why none is chosen, or "".
    """

    table: pd.DataFrame
    chosen: str
    shares: Mapping[str, float]
    fitted: tuple[int, ...]
    held: tuple[int, ...]
    note: str = ""

    def _shown(self) -> tuple[str, Mapping[str, Any]]:
        shares = ", ".join(f"{k} {v:.0%}" for k, v in self.shares.items())
        return f"law of shots: {self.chosen or f'none chosen ({self.note})'}", {
            "chosen in resamples": shares,
            "fitted on shots": ", ".join(map(str, self.fitted)),
            "judged on shots": ", ".join(map(str, self.held)),
        }


def fit_shot_laws(
    nll: ArrayLike,
    shots: Sequence[int],
    *,
    clusters: ArrayLike | None = None,
    every: int = 3,
    resamples: int = 200,
    level: float = 0.95,
    seed: int = 0,
) -> ShotLaws:
    """Fit a power law and two bounded laws to negative log-likelihoods by shots, and choose by held-out numbers of shots.

    Every law is fitted to the logarithm of the mean over questions by least squares.

    Args:
        nll: Negative log-likelihood of the answer, in nats, `question x shots`, 0 or more.
        shots: The numbers of demonstrations, above 0 and rising.
        clusters: Cluster of each row, as its question where several rows ask one; by default every row is its own.
        every: No law is fitted on the largest number of shots nor on every so many before it, 2 or more: laws are judged on these.
        resamples: Bootstrap draws over clusters, 1 or more, for the intervals and for how firmly a law is chosen.
        level: Confidence level.
        seed: Draws the resamples.

    Returns:
        The laws with their parameters and held-out errors.

    Raises:
        ShapeMismatch: The columns are not the shots.
        NotFinite: NaN or infinity.
        TooFew: Fewer than 4 numbers of shots to fit on (a law has up to 4 parameters), or fewer than 5 clusters.
        BadInput: Shots that do not rise from 1 or more, or a negative value.

    Note:
        A law that is chosen here foretells shots that it was not fitted on better than the others do. It is not thereby true.
    """
    y, n = np.asarray(nll, float), np.asarray(shots, float)
    if y.ndim != 2 or y.shape[1] != len(n):
        raise ShapeMismatch(f"{len(n)} numbers of shots and values of shape {y.shape}: question x shots")
    if not np.isfinite(y).all():
        raise NotFinite(f"{int((~np.isfinite(y)).sum())} of {y.size} negative log-likelihoods are NaN or infinite")
    if (y < 0).any() or (np.diff(n) <= 0).any() or n[0] < 1:
        raise BadInput("negative log-likelihoods are 0 or more, and shots rise from 1 or more")
    if every < 2 or resamples < 1:
        raise BadInput(f"every is 2 or more and resamples 1 or more, got {every} and {resamples}")
    held = np.arange(len(n) - 1, -1, -every)[::-1]
    fitted = np.setdiff1d(np.arange(len(n)), held)
    if len(fitted) < 4:
        raise TooFew(f"{len(n)} numbers of shots of which {len(held)} are held out: laws of up to 4 parameters need 4 others at least")
    codes, count = cluster_codes(clusters, len(y))
    if count < 5:
        raise TooFew(f"{count} clusters: 5 at least, for an interval over questions")
    weights = np.vstack([np.ones(len(y)), cluster_weights(codes, len(y), resamples, seed)])
    means = np.maximum(weights @ y / weights.sum(1, keepdims=True), FLOOR)
    found = {name: _fit(name, n[fitted], means[:, fitted]) for name in LAWS}
    foretold = np.stack([law(name, n[held], found[name].T[..., None]) for name in LAWS], 1)
    errors = np.sqrt(np.mean((np.log(np.maximum(foretold, FLOOR)) - np.log(means[:, None, held])) ** 2, -1))
    wins = np.bincount(errors[1:].argmin(1), minlength=len(LAWS)) / resamples
    best = int(errors[0].argmin())
    kind = "power" if LAWS[best] == "power" else "bounded"
    agree = wins[0] if kind == "power" else 1 - wins[0]
    sure = agree >= DECIDED
    alpha = (1 - level) / 2
    rows = []
    for j, name in enumerate(LAWS):
        values = np.column_stack([np.array(found[name]), errors[:, j]])
        for i, parameter in enumerate((*PARAMETERS[name], "held-out error")):
            low, high = np.quantile(values[1:, i], (alpha, 1 - alpha))
            facts = {"law": name, "parameter": parameter, "value": values[0, i], "low": low, "high": high, "n": count}
            rows.append({**facts, "share": wins[j], "chosen": bool(sure and (name == "power") == (kind == "power"))})
    return ShotLaws(
        table=pd.DataFrame(rows),
        chosen=kind if sure else "",
        shares=dict(zip(LAWS, wins.tolist(), strict=True)),
        fitted=tuple(int(x) for x in n[fitted]),
        held=tuple(int(x) for x in n[held]),
        note="" if sure else f"a {kind} law foretells best, in {agree:.0%} of resamples only",
    )


def _fit(name: str, n: np.ndarray, curves: np.ndarray) -> np.ndarray:
    """Least squares on the logarithm, `curve x parameter`: the first curve from many starts, the others from where it ended."""
    targets = np.log(curves)
    if name == "power":
        slope, at = np.polyfit(np.log(n), targets.T, 1)
        return np.column_stack([-slope, np.exp(at)])

    def off(z: np.ndarray, target: np.ndarray) -> np.ndarray:
        return np.log(np.maximum(law(name, n, _open(name, z).T[..., None]), FLOOR)) - target

    first = _minimise(off, _starts(name, n, curves[0]), targets[:1])
    best = first[np.argmin((off(first, targets[:1]) ** 2).sum(1))]
    return _open(name, _minimise(off, np.tile(best, (len(curves), 1)), targets))


def _minimise(off: Callable[[np.ndarray, np.ndarray], np.ndarray], z: np.ndarray, target: np.ndarray, steps: int = 60) -> np.ndarray:
    """Levenberg and Marquardt's steps for many problems at once; a row is a problem, and a step that gains nothing is not taken."""
    z, damping = z.copy(), np.full(len(z), 1e-2)
    r = off(z, target)
    eye = np.eye(z.shape[1])
    for _ in range(steps):
        slope = np.stack([(off(z + 1e-5 * e, target) - r) / 1e-5 for e in eye], -1)
        square = np.einsum("rni,rnj->rij", slope, slope)
        move = np.linalg.solve(square + damping[:, None, None] * eye, np.einsum("rni,rn->ri", slope, r)[..., None])[..., 0]
        new = np.clip(z - np.clip(move, -3, 3), -REACH, REACH)
        ahead = off(new, target)
        better = (ahead**2).sum(1) < (r**2).sum(1)
        z[better], r[better] = new[better], ahead[better]
        damping = np.clip(np.where(better, damping / 5, damping * 5), 1e-9, 1e6)
    return z


def _starts(name: str, n: np.ndarray, curve: np.ndarray) -> np.ndarray:
    low, high = float(curve.min()), float(curve.max())
    if name == "exponential":
        some = [(f * low, max(high - low, 1e-3), s) for f in (0.1, 0.9) for s in np.geomspace(n[0], n[-1], 4)]
        return np.log(np.array(some))
    some = [(f * low, high - f * low + 0.1, r, s) for f in (0.1, 0.9) for r in (1e-3, 0.1) for s in (0.003, 0.03, 0.3)]
    z = np.log(np.array(some))
    z[:, 2] -= np.log1p(-np.array(some)[:, 2])
    return z


def _open(name: str, z: np.ndarray) -> np.ndarray:
    """Free numbers as parameters: all positive, the prior between 0 and 1, the start above the floor."""
    out = np.exp(z)
    if name == "bayesian":
        out[:, 1] += out[:, 0]
        out[:, 2] = np.clip(expit(z[:, 2]), 1e-12, 1 - 1e-12)
    return out
