"""Supervised methods of the user's own: a function of both classes and a seed, whose result scores rows.

Wherever the name of a method is accepted, so is a function `(x_positive, x_negative, seed)`:

- `x_positive`: the training rows that labels call positive, `item d_model`: of every contrast pair the variant that is true.
  They are already normalised with training statistics, as for every other method (`normalise=`, `per=`, `erase_variant=`).
- `x_negative`: the other variant of the same pairs, in the same order. Of single statements these are the rows of the other class.
- `seed`: for whatever it draws. Draw from a generator of your own, never from the global one.

It returns one of these, fitted on no other rows:

- a vector of length `d_model`, or an object with such a `vector` (a `Direction`);
- a function of rows, `row d_model`, that gives one score per row;
- an object with `decision_function(rows)` (scikit-learn) or `score(rows)` (a `LinearProbe` of rows).

Higher scores mean the positive class. A pair is scored by score(x+) - score(x-), so that exchanging its variants changes the
sign. A single row is scored by score(x) less the middle of the two classes' mean scores, or with a threshold of the object's own.
A function that sees labels counts as supervised, whatever it does with them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from ..core.errors import BadInput, NotFinite, ShapeMismatch, WorkbenchError
from ..core.show import Shown
from ..core.types import Float, Int, Tensor
from .given import Given, scaled, width_of
from .scaling import Normaliser, Scaler
from .shown import probe_facts

Supervised = Callable[..., Any]  # (x_positive, x_negative, seed) -> something that scores rows


@dataclass(frozen=True, kw_only=True, repr=False)
class CustomProbe(Shown):
    """A probe of contrast pairs, or of single rows, that a method of the user's own has fitted.

    Attributes:
        method: The name of the function.
        scaler: Training normalisation of the two variants, or of rows.
        function: From normalised rows, `row x d_model`, to one score per row.
        n: Training pairs.
        weight: The direction that is read, `d_model`, in normalised units; `None` where the method gave none.
        bias: Added to the score of a row: a method that gives a direction or a function of rows gives no threshold, and it is put half-way
            between the mean scores of the classes. 0 on pairs.
    """

    method: str
    scaler: Scaler | Normaliser
    function: Callable[[Tensor], Tensor]
    n: int
    weight: Float[Tensor, " d_model"] | None = None
    bias: float = 0.0

    def _shown(self) -> tuple[str, Mapping[str, Any]]:
        return probe_facts(self, width_of(self.scaler))

    @property
    def vector(self) -> Float[Tensor, " d_model"]:
        """The direction in raw activation units (mean scale of the variants), not normalised.

        Returns:
            The direction, `d_model`; it points to the variant that is true.

        Raises:
            BadInput: The method returned something that has no one direction.
        """
        if self.weight is None:
            raise BadInput(f"the method {self.method!r} returned something that has no one direction")
        return self.scaler.raw(self.weight) if isinstance(self.scaler, Normaliser) else self.weight / self.scaler.scale

    def score(self, positive: Any, negative: Any = None, groups: Sequence[str] | None = None) -> Float[np.ndarray, " item"]:
        """Return one score per pair.

        Args:
            positive: Positive variants, `item x d_model`, in raw units.
            negative: Negative variants, pair by pair.
            groups: The prompt form of each item, where the probe was normalised by form.

        Returns:
            score(x+) - score(x-) per item; above 0 means that the positive variant is held true. It is no probability.
        """
        x, y = scaled(self.scaler, positive, negative, groups)
        return (self.function(x) + self.bias if y is None else self.function(x) - self.function(y)).numpy()

    def predict(self, positive: Any, negative: Any = None, groups: Sequence[str] | None = None) -> Int[np.ndarray, " item"]:
        """Return which variant of every pair is held true.

        Args:
            positive: Positive variants, `item x d_model`, in raw units.
            negative: Negative variants, pair by pair.
            groups: The prompt form of each item, where the probe was normalised by form.

        Returns:
            1 where the score is above 0 (the positive variant), else 0.
        """
        return (self.score(positive, negative, groups) > 0).astype(np.int64)


def sees_labels(method: Callable[..., Any]) -> bool:
    """Return whether a function is a supervised method: it takes a seed, or three arguments. A loss takes two."""
    try:
        parameters = inspect.signature(method).parameters.values()
    except (TypeError, ValueError):  # written in C: it says nothing of its arguments
        return False
    needed = [p for p in parameters if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return any(p.name == "seed" for p in parameters) or len(needed) == 3


def fit_custom(
    method: Supervised,
    name: str,
    positive: Any,
    negative: Any,
    labels: ArrayLike,
    *,
    seed: int = 0,
    normalise: str = "mean_std",
    **how: Any,
) -> CustomProbe:
    """Fit a method of the user's own on contrast pairs.

    Args:
        method: A function `(x_positive, x_negative, seed)`; see the head of this file for what it gets and returns.
        name: Its name, for tables and messages.
        positive: Positive variants of training pairs, `item x d_model`.
        negative: Negative variants, pair by pair.
        labels: Which variant of each pair is true, 0 or 1.
        seed: Passed to the method.
        normalise: "mean_std", "mean" or "none", with training statistics of each variant.
        how: Passed to `Normaliser.fit`.

    Returns:
        A probe; its score is above 0 where the positive variant is held true.

    Raises:
        OneClass, NotFinite, ShapeMismatch, BadInput: The rows cannot be used, or what the method returned cannot score rows.
    """
    given = Given.of(positive, negative, labels, normalise, **how)
    a, is_true = given.x, torch.as_tensor(given.classes == 1)
    if given.y is None:
        right, wrong = a[is_true], a[~is_true]
    else:
        right, wrong = torch.where(is_true[:, None], a, given.y), torch.where(is_true[:, None], given.y, a)
    by_keyword = inspect.signature(method).parameters.get("seed")
    result = method(right, wrong, seed) if by_keyword is None else method(right, wrong, seed=seed)
    weight = _direction(result, name, a.shape[1])
    function = _checked(_scorer(result, name, weight, a.shape[1]), name, a.shape[1])
    said = function(given.both)  # what cannot be read fails here, not at the first held-out row
    bias = 0.0 if given.y is not None or _has_threshold(result) else -float(said[is_true].mean() + said[~is_true].mean()) / 2
    return CustomProbe(method=name, scaler=given.scaler, function=function, n=len(a), weight=weight, bias=bias)


def _wanted(width: int) -> str:
    return (
        f"a supervised method returns a vector of length {width}, a function of rows (`row x {width}`) that gives one score per row, "
        "or an object with decision_function(rows) or score(rows)"
    )


def _has_threshold(result: Any) -> bool:
    """Whether scores of single rows have a threshold of their own at 0: those of a direction or a bare function have not."""
    return callable(getattr(result, "decision_function", None)) or (callable(getattr(result, "score", None)) and hasattr(result, "bias"))


def _direction(result: Any, name: str, width: int) -> Float[Tensor, " d_model"] | None:
    """The vector that the method returned, or that of the linear model that it returned, in the units that it was given."""
    if isinstance(result, Tensor | np.ndarray | list | tuple):
        try:
            vector = torch.as_tensor(np.asarray(result) if not isinstance(result, Tensor) else result).detach().float().cpu()
        except (TypeError, ValueError, RuntimeError) as error:
            raise BadInput(
                f"the method {name!r} returned a {type(result).__name__} that is no vector of numbers: {_wanted(width)}"
            ) from error
        if vector.shape != (width,):
            raise ShapeMismatch(f"the method {name!r} returned an array of shape {tuple(vector.shape)}: {_wanted(width)}")
        if not bool(vector.isfinite().all()) or not bool(vector.any()):
            raise NotFinite(f"the method {name!r} returned a vector of {'zeros' if not bool(vector.any()) else 'NaN or infinity'}")
        return vector
    weight = getattr(result, "vector", None) if getattr(result, "paired", False) is False else None
    if weight is None and hasattr(result, "coef_"):
        weight = np.squeeze(np.asarray(result.coef_))
    if isinstance(weight, Tensor | np.ndarray) and tuple(weight.shape) == (width,):
        return torch.as_tensor(weight).detach().float().cpu()
    return None


def _scorer(result: Any, name: str, weight: Float[Tensor, " d_model"] | None, width: int) -> Callable[[Tensor], Any]:
    """The function from rows to scores that a result stands for."""
    if isinstance(result, Tensor | np.ndarray | list | tuple):
        assert weight is not None
        return lambda rows: rows @ weight
    if isinstance(result, type):
        raise BadInput(f"the method {name!r} returned the class {result.__name__}, not an object of it: {_wanted(width)}")
    if callable(getattr(result, "decision_function", None)):  # scikit-learn's score is an accuracy
        return lambda rows: result.decision_function(rows.numpy())
    if callable(getattr(result, "score", None)):
        return result.score
    if callable(result):
        return result
    if weight is not None:
        return lambda rows: rows @ weight
    raise BadInput(f"the method {name!r} returned {type(result).__name__}, which cannot be read: {_wanted(width)}")


def _checked(scorer: Callable[[Tensor], Any], name: str, width: int) -> Callable[[Tensor], Tensor]:
    """A scorer that gives one finite score per row, or says what is wrong."""

    def scores(rows: Tensor) -> Tensor:
        try:
            given = scorer(rows)
            out = (given.detach() if isinstance(given, Tensor) else torch.as_tensor(np.asarray(given))).double().cpu()
        except (TypeError, ValueError, RuntimeError, AttributeError, WorkbenchError) as error:
            raise BadInput(f"what the method {name!r} returned cannot score rows ({error}): {_wanted(width)}") from error
        if out.shape != (len(rows),):
            raise ShapeMismatch(
                f"what the method {name!r} returned gives scores of shape {tuple(out.shape)} for {len(rows)} rows: {_wanted(width)}"
            )
        if not bool(out.isfinite().all()):
            raise NotFinite(f"what the method {name!r} returned gives scores that are NaN or infinite")
        return out

    return scores
