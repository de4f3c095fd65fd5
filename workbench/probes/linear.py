"""Supervised linear probes on contrast pairs or on rows of two classes; strengths are chosen by grouped cross-validation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .linear_probe import Folds, LinearProbe, path_of, prepare
from .linear_solvers import fit_discriminant, fit_means, fit_penalised, fit_ridge_path
from .linear_solvers import shrinkage_of as shrinkage_of

STRENGTHS = tuple(float(c) for c in np.logspace(-4, 4, 9))


def fit_logistic(
    positive: Any,
    negative: Any,
    labels: ArrayLike | None = None,
    *,
    c: float | Sequence[float] = 1.0,
    folds: Folds | None = None,
    normalise: str = "mean_std",
    device: str = "cpu",
    **how: Any,
) -> LinearProbe:
    """Fit a logistic probe: minimise |w|^2 / 2 + c sum_i log(1 + exp(-t_i s_i)).

    Args:
        positive: Rows of class 1, `row x d_model`; with `labels`, the positive variants of contrast pairs.
        negative: Rows of class 0; with `labels`, the negative variants, pair by pair.
        labels: Which variant of each pair is true, 0 or 1.
        c: Inverse strength of the L2 penalty on normalised features; raising it fits training rows more closely. Of
            several, the one of lowest log-loss on `folds` is taken.
        folds: Rows to fit on and to validate on, from `prompts.grouped_folds`.
        normalise: "mean_std", "mean" or "none", with training statistics, per variant for pairs.
        device: Where to compute, for example "cpu" or "cuda".
        how: For pairs: `per="variant"`, "all" or "template" (with `groups=`), `erase_variant=True`; see `Normaliser`.

    Returns:
        A probe; its score is above 0 where class 1 (or the positive variant) is likelier, and its logistic function is a
        probability.

    Raises:
        OneClass, NotFinite, ShapeMismatch, BadInput: Before fitting.

    Example:
        >>> import torch, workbench as wb
        >>> x = torch.randn(100, 4, generator=torch.Generator().manual_seed(0))
        >>> probe = wb.fit_logistic(x + 2, x - 2)
        >>> int(probe.predict(x + 2).sum())
        100
    """
    path_of(c, folds, 1, 0)
    return fit_penalised(prepare(positive, negative, labels, normalise, **how), "logistic", c, folds, device)


def fit_svm(
    positive: Any,
    negative: Any,
    labels: ArrayLike | None = None,
    *,
    c: float | Sequence[float] = 1.0,
    folds: Folds | None = None,
    normalise: str = "mean_std",
    device: str = "cpu",
    **how: Any,
) -> LinearProbe:
    """Fit a linear support vector machine: minimise |w|^2 / 2 + c sum_i max(0, 1 - t_i s_i)^2.

    Args:
        positive: Rows of class 1, `row x d_model`; with `labels`, the positive variants of contrast pairs.
        negative: Rows of class 0; with `labels`, the negative variants, pair by pair.
        labels: Which variant of each pair is true, 0 or 1.
        c: Inverse strength of the L2 penalty, above 0; raising it fits training rows more closely. Of several, the one of
            lowest squared hinge loss on `folds` is taken.
        folds: Rows to fit on and to validate on, from `prompts.grouped_folds`.
        normalise: "mean_std", "mean" or "none", with training statistics, per variant for pairs.
        device: Where to compute, for example "cpu" or "cuda".
        how: For pairs, as for `fit_logistic`.

    Returns:
        A probe; its score is a margin, above 0 for class 1 (or the positive variant), and no probability.

    Raises:
        OneClass, NotFinite, ShapeMismatch, BadInput: Before fitting.
    """
    path_of(c, folds, 1, 0)
    return fit_penalised(prepare(positive, negative, labels, normalise, **how), "svm", c, folds, device)


def fit_ridge(
    positive: Any,
    negative: Any,
    labels: ArrayLike | None = None,
    *,
    c: float | Sequence[float] = 1.0,
    folds: Folds | None = None,
    normalise: str = "mean_std",
    **how: Any,
) -> LinearProbe:
    """Fit least squares on -1/+1: minimise |w|^2 / c + sum_i (t_i - s_i)^2.

    Args:
        positive: Rows of class 1, `row x d_model`; with `labels`, the positive variants of contrast pairs.
        negative: Rows of class 0; with `labels`, the negative variants, pair by pair.
        labels: Which variant of each pair is true, 0 or 1.
        c: Inverse strength of the L2 penalty, above 0; raising it fits training rows more closely. Of several, the one of
            lowest squared error on `folds` is taken.
        folds: Rows to fit on and to validate on, from `prompts.grouped_folds`.
        normalise: "mean_std", "mean" or "none", with training statistics, per variant for pairs.
        how: For pairs, as for `fit_logistic`.

    Returns:
        A probe; its score estimates -1 or +1, above 0 for class 1 (or the positive variant), and is no probability.

    Raises:
        OneClass, NotFinite, ShapeMismatch, BadInput: Before fitting.
    """
    return fit_ridge_path(prepare(positive, negative, labels, normalise, **how), c, folds)


def fit_lda(
    positive: Any,
    negative: Any,
    labels: ArrayLike | None = None,
    *,
    shrinkage: float | None = None,
    normalise: str = "mean_std",
    **how: Any,
) -> LinearProbe:
    """Fit the whitened mass-mean probe, which is linear discriminant analysis: w = S^-1 (m1 - m0).

    Args:
        positive: Rows of class 1, `row x d_model`; with `labels`, the positive variants of contrast pairs.
        negative: Rows of class 0; with `labels`, the negative variants, pair by pair.
        labels: Which variant of each pair is true, 0 or 1.
        shrinkage: Of the covariance S within classes towards a multiple of the identity, 0 to 1; by default
            Ledoit and Wolf's. Raising it moves w towards the difference of the means.
        normalise: "mean_std", "mean" or "none", with training statistics, per variant for pairs.
        how: For pairs, as for `fit_logistic`.

    Returns:
        A probe; its score is above 0 for class 1 (or the positive variant), and a log-odds where classes are Gaussian with
        one covariance. `strength` is the shrinkage used.

    Raises:
        OneClass, NotFinite, ShapeMismatch, BadInput: Before fitting; also where the covariance has no inverse.

    References:
        Marks and Tegmark 2023, arXiv 2310.06824, section 5 (with their whitening); Fisher 1936.
    """
    return fit_discriminant(prepare(positive, negative, labels, normalise, **how), shrinkage)


def fit_mass_mean(positive: Any, negative: Any, labels: ArrayLike | None = None, *, normalise: str = "mean_std", **how: Any) -> LinearProbe:
    """Fit a mass-mean probe: the difference of the class means.

    Args:
        positive: Rows of class 1, `row x d_model`; with `labels`, the positive variants of contrast pairs.
        negative: Rows of class 0; with `labels`, the negative variants, pair by pair.
        labels: Which variant of each pair is true, 0 or 1.
        normalise: "mean_std", "mean" or "none", with training statistics, per variant for pairs. In tables
            "difference_in_means" is the same probe with `normalise="mean"`, in raw units.
        how: For pairs, as for `fit_logistic`.

    Returns:
        A probe; its score is above 0 for class 1 (or the positive variant), and no probability. On rows the threshold lies
        half-way between the means.

    Raises:
        OneClass, NotFinite, ShapeMismatch, BadInput: Before fitting.

    References:
        Marks and Tegmark 2023, arXiv 2310.06824, section 5 (without their whitening).
    """
    return fit_means(prepare(positive, negative, labels, normalise, **how), "mass_mean")


def fit_difference_in_means(
    positive: Any, negative: Any, labels: ArrayLike | None = None, *, normalise: str = "mean", **how: Any
) -> LinearProbe:
    """Fit the difference of the class means in raw units.

    Args:
        positive, negative, labels, how: As for `fit_mass_mean`.
        normalise: As for `fit_mass_mean`; "mean" leaves the units as they are.

    Returns:
        A probe; its score is above 0 for class 1 (or the positive variant).
    """
    return fit_means(prepare(positive, negative, labels, normalise, **how), "difference_in_means")


LINEAR: dict[str, Callable[..., LinearProbe]] = {
    "logistic": fit_logistic,
    "svm": fit_svm,
    "ridge": fit_ridge,
    "lda": fit_lda,
    "mass_mean": fit_mass_mean,
    "difference_in_means": fit_difference_in_means,
}
TUNED = ("logistic", "svm", "ridge")
