"""CCS in closed form: contrastive eigenproblems, and what their eigenvalues say of the contrast.

With s+ and s- the normalised variants of a pair, d = s+ - s- and t = s+ + s-: along a direction w the variants contradict each other where
w.t is small (consistency) and w.d is large (confidence). Both are quadratic in w, so what counts, the one relative to the other, has a
closed form. One number says how pure a contrast is along w: (E (w.d)^2 - E (w.t)^2) / (E (w.d)^2 + E (w.t)^2), its relative contrast. It is
1 where the variants are exact opposites, 0 where they have nothing to do with each other, -1 where they are the same.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike

from ..core.errors import BadInput, ShapeMismatch, TooFew
from ..core.rows import cluster_codes
from ..core.seeds import numpy_rng
from ..core.stats import ratio
from ..core.types import Float, Tensor
from .ccs import ContrastProbe
from .linear_solvers import shrinkage_of
from .prepared import Prepared, centred_probe, prepare
from .solve import Axes

EIGEN = ("drc", "rrc")


def fit_drc(positive: Any, negative: Any, *, normalise: str = "mean_std", seed: int = 0, **how: Any) -> ContrastProbe:
    """Find the direction along which contrast exceeds agreement by most: CCS in closed form (difference-relative contrast).

    The first eigenvector of E d d^T - E t t^T = -2 (S+- + S-+), the negative covariance of the two variants.

    Args:
        positive: Positive variants of training pairs, `item x d_model`.
        negative: Negative variants, pair by pair.
        normalise: "mean_std", "mean" or "none", with the statistics of these rows, each variant by itself.
        seed: Not used: it is in closed form.
        how: Passed to `Normaliser.fit`: `per="variant"`, "all" or "template" (with `groups=`), `erase_variant=True`.

    Returns:
        The direction as a probe, its sign still open (`resolve_sign`); its loss is minus the relative contrast in these rows.

    Raises:
        ShapeMismatch, NotFinite, BadInput: Before fitting.

    Note:
        `fit_vinc(variance=0)` finds the same direction. Where one feature is far longer than the others it wins, pure or not.

    References:
        Schouten and Bloem 2025, arXiv 2511.02089 (contrastive eigenproblems; equations as derived here).
    """
    return _fit(prepare(positive, negative, normalise, how), "drc")


def fit_rrc(
    positive: Any, negative: Any, *, shrinkage: float | None = None, normalise: str = "mean_std", seed: int = 0, **how: Any
) -> ContrastProbe:
    """Find the direction of purest contrast: CCS in closed form (ratio-relative contrast).

    The first solution of (E d d^T - E t t^T) w = k ((1 - a) (E d d^T + E t t^T) + a m I) w, m the mean variance.

    Args:
        positive: Positive variants of training pairs, `item x d_model`.
        negative: Negative variants, pair by pair.
        shrinkage: a, from above 0 to 1: 1 is `fit_drc`, and with few rows for the width a small one finds a direction that is pure
            by chance. By default Ledoit and Wolf's.
        normalise: "mean_std", "mean" or "none", with the statistics of these rows, each variant by itself.
        seed: Not used: it is in closed form.
        how: Passed to `Normaliser.fit`: `per="variant"`, "all" or "template" (with `groups=`), `erase_variant=True`.

    Returns:
        The direction as a probe, its sign still open (`resolve_sign`); its loss is minus the relative contrast in these rows.

    Raises:
        ShapeMismatch, NotFinite, BadInput: Before fitting.

    References:
        Schouten and Bloem 2025, arXiv 2511.02089 (contrastive eigenproblems; equations as derived here); Ledoit and Wolf 2004 (the
        shrinkage, which is this project's).
    """
    return _fit(prepare(positive, negative, normalise, how), "rrc", shrinkage)


def contrast_spectrum(
    positive: Any,
    negative: Any,
    *,
    form: str = "rrc",
    groups: ArrayLike | None = None,
    count: int = 8,
    folds: int = 5,
    normalise: str = "mean_std",
    seed: int = 0,
    **how: Any,
) -> pd.DataFrame:
    """Say how many directions contradict themselves: the relative contrast of the leading eigenvectors in rows they were not fitted on.

    Args:
        positive: Positive variants, `item x d_model`.
        negative: Negative variants, pair by pair.
        form: "rrc" (purest first) or "drc" (largest first).
        groups: Cluster of each pair, as its identity: no two parts share one, and intervals are clustered by it.
        count: How many eigenvectors, 1 or more.
        folds: Parts of the pairs; each is read with the eigenvectors of the others. 2 or more.
        normalise: "mean_std", "mean" or "none", with the statistics of the other parts.
        seed: Draws the parts, and the pairs of the control.
        how: Passed to `Normaliser.fit`.

    Returns:
        One row per rank (from 1) and `control`: "" and "pairs broken" (variants of different statements put together, which contradict
        each other by chance alone). `value` is the relative contrast, -1 to 1, with `low`, `high` and `n`; `share` is this direction's
        part of the contrast of all ranks; `above` says whether the interval lies above that of the control.

    Raises:
        BadInput: No such form, or fewer than 1 eigenvector or 2 parts.
        TooFew: Fewer clusters than parts.
        ShapeMismatch, NotFinite: Before fitting.

    Note:
        One direction above the control means that the contrast isolates one feature. With several, a search without labels may find any of
        them, or their sum; with none it finds nothing. Which feature it is only labels tell.

    Example:
        >>> import torch, workbench as wb
        >>> g = torch.Generator().manual_seed(0)
        >>> truth = torch.randint(0, 2, (300, 1), generator=g) * 2.0 - 1
        >>> common, noise = torch.randn(300, 6, generator=g), torch.randn(2, 300, 6, generator=g) / 2
        >>> step = 2 * truth * torch.eye(6)[0]
        >>> found = wb.probes.contrast_spectrum(common + step + noise[0], common - step + noise[1], count=3, normalise="mean")
        >>> found.query("control == ''")["above"].tolist()
        [True, False, False]
    """
    if form not in EIGEN:
        raise BadInput(f"form={form!r}: {' or '.join(map(repr, EIGEN))}")
    if count < 1 or folds < 2:
        raise BadInput(f"count is 1 or more and folds 2 or more, got {count} and {folds}")
    whole = prepare(positive, negative, "none", {})
    n, width = whole.positive.shape
    codes, clusters = cluster_codes(groups, n)
    if clusters < folds:
        raise TooFew(f"{clusters} clusters and folds={folds}: each part needs one of its own")
    rng = numpy_rng(seed, "contrast spectrum")
    part = (rng.permutation(clusters) % folds)[codes]
    count = min(count, width)
    rows = []
    for control in ("", "pairs broken"):
        difference, total = np.full((2, n, count), np.nan)
        for k in range(folds):
            held, rest = np.flatnonzero(part == k), np.flatnonzero(part != k)
            # a shift along the rows in a random order leaves no row with its own partner
            mates = [_shifted(rows_, rng) if control else rows_ for rows_ in (held, rest)]
            fit = prepare(whole.positive[rest], whole.negative[mates[1]], normalise, _of(how, rest))
            w, _ = _vectors(fit, form, None, count)
            x, y = fit.scaler(whole.positive[held], whole.negative[mates[0]], _of(how, held).get("groups"))
            found = w.shape[1]
            difference[held, :found] = (((x - y).double() @ w) ** 2).numpy()
            total[held, :found] = (((x + y).double() @ w) ** 2).numpy()
        for rank in range(count):
            d, t = difference[:, rank], total[:, rank]
            if np.isnan(d).any():
                continue  # fewer rows than directions in a part
            rows.append({"rank": rank + 1, "form": form, "control": control, "d": d.mean(), **ratio(d - t, d + t, codes).row()})
    table = pd.DataFrame(rows)
    table["share"] = table["d"] / table.groupby("control")["d"].transform("sum")
    ceiling = table.loc[table["control"] != "", "high"].max()
    table["above"] = table["low"] > ceiling
    return table.drop(columns="d")


def _shifted(rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    order = rng.permutation(len(rows))
    out = np.empty_like(rows)
    out[order] = rows[np.roll(order, 1)]
    return out


def _of(how: dict[str, Any], rows: np.ndarray) -> dict[str, Any]:
    """Options of the normalisation for some rows: the prompt forms are one per pair."""
    forms = how.get("groups")
    if forms is None:
        return how
    names = np.asarray(forms)
    if names.ndim != 1 or len(names) <= rows.max(initial=-1):
        raise ShapeMismatch(f"groups= of the normalisation is one name per pair, got shape {names.shape}")
    return how | {"groups": names[rows].tolist()}


def _fit(prepared: Prepared, form: str, shrinkage: float | None = None) -> ContrastProbe:
    w, contrast = _vectors(prepared, form, shrinkage, 1)
    return centred_probe(w[:, 0], prepared, form, [-float(contrast[0])])


def _vectors(
    prepared: Prepared, form: str, shrinkage: float | None, count: int
) -> tuple[Float[Tensor, "d_model rank"], Float[Tensor, " rank"]]:
    """The leading directions, and their relative contrast in the same rows; in float64."""
    x, y = prepared.positive, prepared.negative
    stacked = torch.cat([x, y])
    if shrinkage is not None and not 0 < shrinkage <= 1:
        raise BadInput(f"shrinkage is from above 0 to 1, got {shrinkage}")
    # E d d^T + E t t^T = 2 E (s+ s+^T + s- s-^T) is diagonal in the principal axes of both variants together
    axes = Axes.of(stacked)
    inside, basis = axes.rotated.double(), axes.basis.double()
    a, b = inside[: len(x)], inside[len(x) :]
    cross = a.T @ b
    contrast = -2 * (cross + cross.T) / len(x)
    both = 2 * axes.values.double() / len(x)
    scale = torch.ones_like(both)
    if form == "rrc":
        part = shrinkage_of(stacked - stacked.mean(0)) if shrinkage is None else shrinkage
        mean = float(both.sum()) / x.shape[1]
        scale = ((1 - part) * both + max(part, 1e-9) * mean).rsqrt()
    vectors = torch.linalg.eigh(scale[:, None] * contrast * scale)[1].flip(1)[:, :count] * scale[:, None]
    vectors = vectors / vectors.norm(dim=0).clamp(min=1e-300)
    size = (vectors**2 * both[:, None]).sum(0).clamp(min=1e-300)
    return basis @ vectors, (vectors * (contrast @ vectors)).sum(0) / size
