"""Polarity-aware CCS: a statement and its opposite cannot both be true, so what a probe says of the two must add up to one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike

from ..activations import Activations
from ..core.errors import BadInput, MissingColumn, ShapeMismatch
from ..core.estimate import undefined
from ..core.seeds import numpy_rng
from ..core.stats import mean, proportion
from ..core.tables import units_of
from ..core.types import Int, Tensor
from .ccs import ContrastProbe, fit_contrast
from .losses import Loss, consistency_and_confidence

if TYPE_CHECKING:
    from .methods import Fit

BETWEEN = ("identity", "right", "template", "claim")


def opposites(rows: pd.DataFrame) -> Int[np.ndarray, " item"]:
    """Return for every row the row of the opposite statement: the same of everything in `BETWEEN`, and another polarity.

    Args:
        rows: The row table, with a column "polarity" of two values, as "grant" and "deny".

    Returns:
        The index of the opposite statement's row, -1 for a row without one. No label is read, and which polarity is which does not matter.

    Raises:
        MissingColumn: The rows have no column "polarity".
        BadInput: It has not two values, or no statement has an opposite.
    """
    if "polarity" not in rows:
        raise MissingColumn(f"statements have opposites where the rows have a column 'polarity'; there are: {', '.join(rows.columns)}")
    names = sorted(rows["polarity"].astype(str).unique())
    if len(names) != 2:
        raise BadInput(f"opposites are statements of two polarities; the column 'polarity' holds {len(names)}: {', '.join(names[:5])}")
    out = np.full(len(rows), -1)
    side = (rows["polarity"].astype(str) == names[1]).to_numpy()
    for index in rows.reset_index(drop=True).groupby([c for c in BETWEEN if c in rows], dropna=False, sort=False).indices.values():
        for a, b in zip(index[side[index]], index[~side[index]], strict=False):
            out[a], out[b] = b, a
    if (out < 0).all():
        raise BadInput(f"no statement has its opposite in these {len(rows)} rows: both polarities of a right and identity are needed")
    return out


def has_opposites(rows: pd.DataFrame) -> bool:
    """Return whether statements stand in these rows together with their opposites, so that polarity-aware CCS can be fitted.

    Args:
        rows: As for `opposites`.
    """
    try:
        return bool(len(opposites(rows)))
    except (BadInput, MissingColumn):
        return False


def fit_polarity_ccs(
    positive: Any, negative: Any, *, opposite: ArrayLike | None = None, weight: float = 1.0, **options: Any
) -> ContrastProbe:
    """Search as CCS does, for a direction along which also opposite statements contradict each other.

    Adds weight times the mean over statements i with an opposite j of (b_i + b_j - 1)^2, b = (p(x+) + 1 - p(x-)) / 2, to CCS's loss.

    Args:
        positive: Positive variants of training pairs, `item x d_model`.
        negative: Negative variants, pair by pair.
        opposite: Of every item the index of its opposite statement, -1 for none (see `opposites`). `fit_layers` takes it from the rows.
        weight: 0 or more; 0 is CCS.
        options: Passed to `fit_contrast`: `restarts`, `epochs`, `body`, `normalise`, `seed`, ….

    Returns:
        The best restart, its sign still open: see `resolve_sign`.

    Raises:
        ShapeMismatch, NotFinite, BadInput: Before fitting.

    Note:
        It is told which statements are opposites and not which of the two is true: exchanging the two changes nothing. That is less than
        a label and more than CCS knows.

    References:
        Sadiekh, Ericheva and Agarwal 2025, arXiv 2511.21737 (polarity-aware probing; the loss as derived here).
    """
    if opposite is None:
        raise BadInput(
            "say which statements are opposites: opposite= the index of each item's opposite, as from `probes.polarity.opposites(rows)`"
        )
    partner = np.asarray(opposite)
    n = len(positive)
    if partner.shape != (n,) or not np.issubdtype(partner.dtype, np.integer):
        raise ShapeMismatch(f"{n} pairs and opposite of shape {partner.shape}, {partner.dtype}: one index per pair")
    if weight < 0:
        raise BadInput(f"weight is 0 or more, got {weight}")
    known = np.flatnonzero(partner >= 0)
    if not len(known) or partner.max() >= n or (partner[partner[known]] != known).any():
        raise BadInput("opposite: indices of these pairs, at least one of them, and the opposite of an opposite is the statement itself")
    one, two = torch.as_tensor(known), torch.as_tensor(partner[known])

    def polarity_ccs(p_negative: Tensor, p_positive: Tensor) -> Tensor:
        belief = (p_positive + 1 - p_negative) / 2
        apart = (belief[:, one.to(belief.device)] + belief[:, two.to(belief.device)] - 1) ** 2
        return consistency_and_confidence(p_negative, p_positive) + weight * apart.mean(-1)

    return fit_contrast(positive, negative, loss=Loss(name="polarity_ccs", function=polarity_ccs), **options)


def polarity_consistency(fit: Fit, acts: Activations, *, draws: int = 200, seed: int = 0) -> pd.DataFrame:
    """Say how often a probe holds a statement and its opposite both true, or both false.

    Args:
        fit: From `fit_layers`.
        acts: Held-out rows of contrast pairs, with a column "polarity".
        draws: Random partners of the other polarity for the control, 1 or more.
        seed: Draws them.

    Returns:
        Rows `layer, method, metric, control, value, low, high, n, note`. "contradictions": the share of pairs of opposites that get one
        answer (0 is best; a probe that says the same of everything has 1, a coin .5). "consistency": 1 minus the mean of |b + b' - 1|,
        b the probability that a statement is true, for methods that state one. Control "random opposites": the same with statements of
        other rights as opposites, its range over draws: a probe that reads the truth has few contradictions there as well, so that a
        difference to it says that the pairs are read as pairs.

    Raises:
        MissingColumn, BadInput: The statements have no opposites.

    References:
        Sadiekh, Ericheva and Agarwal 2025, arXiv 2511.21737 (polar consistency and the contradiction index; defined here as stated).
    """
    partner, people = opposites(acts.rows), units_of(acts.rows)
    one = np.flatnonzero((partner >= 0) & (np.arange(len(partner)) < partner))
    two, rng = partner[one], numpy_rng(seed, "random opposites")
    rows = []
    for layer in fit.probes:
        scores = fit.scores(acts, layer)
        held, sure = scores > 0, fit.probabilities(scores, layer)
        facts = {"layer": layer, "method": fit.method}
        alike = proportion(held[one] == held[two], people[one])
        rows.append({**facts, "metric": "contradictions", "control": "", **alike.row(), "note": alike.note})
        random = np.array([(held[one] == held[rng.permutation(two)]).mean() for _ in range(draws)])
        low, high = np.quantile(random, (0.025, 0.975))
        control = {"control": "random opposites", "value": random.mean(), "low": low, "high": high, "n": draws, "note": ""}
        rows.append({**facts, "metric": "contradictions", **control})
        e = undefined("states no probabilities", len(one))
        if sure is not None:
            e = mean(1 - np.abs(sure[one] + sure[two] - 1), people[one], bounded=True)
        rows.append({**facts, "metric": "consistency", "control": "", **e.row(), "note": e.note})
    return pd.DataFrame(rows)
