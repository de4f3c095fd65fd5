"""Linear probes of several classes, and of several labels at once, on rows of activations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.linear_model import LogisticRegression

from ..core.errors import BadInput, OneClass, ShapeMismatch
from ..core.show import Shown, axes, some
from ..core.types import Float, Tensor
from .scaling import Scaler, matrix
from .solve import Axes, solve


@dataclass(frozen=True, kw_only=True, repr=False)
class ClassProbe(Shown):
    """A linear probe with one direction per class (or per label).

    Attributes:
        classes: Names, in the order of the rows of `weight`.
        weight: `class x d_model`, in normalised units.
        bias: `class`.
        scaler: Training normalisation.
        exclusive: One class per row (softmax), or any number of labels (a logistic function each).
        n: Training rows.
    """

    classes: tuple[Any, ...]
    weight: Float[Tensor, "label d_model"]
    bias: Float[Tensor, " label"]
    scaler: Scaler
    exclusive: bool
    n: int

    def _shown(self) -> tuple[str, Mapping[str, Any]]:
        kind = "classes" if self.exclusive else "labels"
        return f"{len(self.classes)} {kind}: {some(self.classes)}; d_model {self.weight.shape[1]}, n={self.n:,}", {
            kind: some(self.classes, 20),
            "shape": axes(**{"class": len(self.classes), "d_model": self.weight.shape[1]}),
            "fitted on": f"{self.n:,} training rows",
            "probabilities": "sum to 1 over classes" if self.exclusive else "one per label",
        }

    def score(self, rows: Any) -> Float[np.ndarray, "row label"]:
        """Return one score per row and class, `row x class`."""
        return (self.scaler(matrix(rows, "rows")) @ self.weight.T + self.bias).numpy()

    def probability(self, rows: Any) -> Float[np.ndarray, "row label"]:
        """Return one probability per row and class; rows sum to 1 where classes are exclusive."""
        scores = torch.as_tensor(self.score(rows)).double()
        return (scores.softmax(1) if self.exclusive else scores.sigmoid()).numpy()

    def predict(self, rows: Any) -> np.ndarray:
        """Return the likeliest class per row; with several labels, zeros and ones, `row x label`."""
        scores = self.score(rows)
        return np.asarray(self.classes)[scores.argmax(1)] if self.exclusive else (scores > 0).astype(np.int64)


def fit_multiclass(rows: Any, labels: ArrayLike, *, c: float = 1.0, normalise: str = "mean_std") -> ClassProbe:
    """Fit softmax regression of one class per row, with an L2 penalty.

    Args:
        rows: `row x d_model`.
        labels: A class per row, of any names; two at least.
        c: Inverse strength of the penalty, above 0; raising it fits training rows more closely.
        normalise: "mean_std", "mean" or "none", with training statistics.

    Returns:
        A probe with one direction per class, `class x d_model`; the class of the highest score is the likeliest.

    Raises:
        OneClass, ShapeMismatch, NotFinite, BadInput: Before fitting.
    """
    x, y = matrix(rows, "rows"), np.asarray(labels)
    if y.shape != (len(x),):
        raise ShapeMismatch(f"{len(x)} rows and labels of shape {y.shape}")
    if not c > 0:
        raise BadInput(f"c is the inverse strength of the penalty, above 0; got {c}")
    names = np.unique(y)
    if len(names) < 2:
        raise OneClass(f"all {len(y)} labels are {names[0]!r}: a probe needs two classes at least")
    scaler = Scaler.fit(x, normalise)
    axes = Axes.of(scaler(x))  # fewer features where there are fewer rows, and a better-conditioned problem
    model = LogisticRegression(C=c, max_iter=5000, tol=1e-6).fit(axes.rotated.double().numpy(), y)
    weight = axes.basis.double() @ torch.as_tensor(model.coef_.T)
    if len(names) == 2:  # one direction comes back: half of it for one class, minus half for the other
        weight, bias = torch.cat([-weight / 2, weight / 2], 1), torch.as_tensor(np.r_[-model.intercept_, model.intercept_] / 2)
    else:
        bias = torch.as_tensor(model.intercept_)
    return ClassProbe(classes=tuple(names.tolist()), weight=weight.T.float(), bias=bias.float(), scaler=scaler, exclusive=True, n=len(x))


def fit_multilabel(
    rows: Any, labels: ArrayLike, names: tuple[str, ...] | None = None, *, c: float = 1.0, normalise: str = "mean_std"
) -> ClassProbe:
    """Fit a logistic probe for each of several labels, all as one batch.

    Args:
        rows: `row x d_model`.
        labels: Zeros and ones, `row x label`; each label with both.
        names: Name of each label, for `classes`; by default "0", "1", ….
        c: Inverse strength of the penalty, above 0; raising it fits training rows more closely.
        normalise: "mean_std", "mean" or "none", with training statistics.

    Returns:
        A probe with one direction per label, `label x d_model`; a score above 0 means that the label is 1.

    Raises:
        OneClass, ShapeMismatch, NotFinite, BadInput: Before fitting.
    """
    x, y = matrix(rows, "rows"), np.asarray(labels)
    if y.ndim != 2 or len(y) != len(x):
        raise ShapeMismatch(f"{len(x)} rows need labels `row x label`, got shape {y.shape}")
    if not np.isin(y, (0, 1)).all() or not c > 0:
        raise BadInput("labels are 0 or 1, and c is above 0")
    titles = names or tuple(str(k) for k in range(y.shape[1]))
    if len(titles) != y.shape[1]:
        raise ShapeMismatch(f"{y.shape[1]} labels and {len(titles)} names")
    for k, title in enumerate(titles):
        if len(np.unique(y[:, k])) < 2:
            raise OneClass(f"all {len(y)} rows have {title} = {y[0, k]}: a probe needs both")
    scaler = Scaler.fit(x, normalise)
    t = torch.as_tensor(2.0 * y - 1)
    w, b = solve(Axes.of(scaler(x)), t, torch.ones(t.shape), torch.full((t.shape[1],), 1 / c), intercept=True)
    return ClassProbe(classes=titles, weight=w.T.contiguous(), bias=b, scaler=scaler, exclusive=False, n=len(x))
