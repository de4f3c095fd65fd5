"""Ways to get a direction from two sets of rows: by name, or a function of the user's own."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from ..core.errors import BadInput, NotFinite, ShapeMismatch, UnknownName, ZeroDirection, unknown
from ..core.seeds import torch_rng
from ..core.types import Float, Tensor
from ..probes import fit_ccs, fit_kmeans, fit_lda, fit_logistic

Positive = Float[Tensor, "positive d_model"]
Negative = Float[Tensor, "negative d_model"]
Paired = Float[Tensor, "row d_model"]
Vector = Float[Tensor, " d_model"]
Fit = Callable[[Tensor, Tensor, int], Tensor]  # positive rows, negative rows, seed -> vector


def _mean_difference(x: Positive, y: Negative, seed: int) -> Vector:
    return x.double().mean(0) - y.double().mean(0)


def _whitened(x: Positive, y: Negative, seed: int) -> Vector:
    return fit_lda(x, y).vector


def _logistic(x: Positive, y: Negative, seed: int) -> Vector:
    return fit_logistic(x, y, c=1.0).vector


def _top(differences: Paired) -> Vector:
    """The first principal component about 0, of any sign."""
    d = differences.double()
    values, vectors = torch.linalg.eigh(d @ d.T if len(d) < d.shape[1] else d.T @ d)
    return d.T @ vectors[:, -1] if len(d) < d.shape[1] else vectors[:, -1] * values[-1].clamp(min=0).sqrt()


def _oriented(v: Vector, x: Positive, y: Negative) -> Vector:
    """With the sign, and the length, of the mean difference along it."""
    unit = v.double() / v.double().norm().clamp(min=1e-300)
    return unit * ((x.double().mean(0) - y.double().mean(0)) @ unit)


def _pca(x: Paired, y: Paired, seed: int) -> Vector:
    return _oriented(_top(x - y), x, y)


def _lat(x: Positive, y: Negative, seed: int) -> Vector:
    rows = torch.cat([x, y])
    order = torch.randperm(len(rows), generator=torch_rng(seed, "lat"))
    half = len(rows) // 2
    differences = rows[order[:half]] - rows[order[half : 2 * half]]
    length = differences.norm(dim=1, keepdim=True)
    return _oriented(_top(differences / length.clamp(min=1e-12)), x, y)


def _mixed(x: Paired, y: Paired, seed: int) -> tuple[Paired, Paired]:
    """Exchange the two rows of a random half of the pairs.

    A search that normalises each side by itself would otherwise erase the difference.
    """
    coin = torch.randint(0, 2, (len(x), 1), generator=torch_rng(seed, "sides")).bool()
    return torch.where(coin, x, y), torch.where(coin, y, x)


def _kmeans(x: Paired, y: Paired, seed: int) -> Vector:
    return _oriented(fit_kmeans(*_mixed(x, y, seed), seed=seed).vector, x, y)


def _ccs(x: Paired, y: Paired, seed: int) -> Vector:
    return _oriented(fit_ccs(*_mixed(x, y, seed), seed=seed).vector, x, y)


METHODS: dict[str, Fit] = {
    "mean_difference": _mean_difference,
    "whitened_mean_difference": _whitened,
    "logistic": _logistic,
    "pca": _pca,
    "lat": _lat,
    "kmeans": _kmeans,
    "ccs": _ccs,
}
PAIRED = ("pca", "ccs", "kmeans")


def method_of(method: str | Callable[..., Any]) -> tuple[str, Fit]:
    """Return a method's name and its function of (positive rows, negative rows, seed).

    Args:
        method: A name of `METHODS`; or a function that maps the positive and the negative rows, float32 tensors `row d_model`,
            to a vector of length d_model that points to the positive rows. If it has an argument `seed`, it gets that too.

    Returns:
        The name (of a function its `__name__`) and the function. That of a function of the user's own checks what it returns:
        ShapeMismatch where it is no vector of length d_model, NotFinite where it holds NaN or infinity, ZeroDirection where it
        has no length.

    Raises:
        UnknownName: There is no method of this name.
        BadInput: A function has the name of a built-in method.
    """
    if not callable(method):
        if method not in METHODS:
            raise unknown(UnknownName, "method", method, METHODS)
        return method, METHODS[method]
    name = getattr(method, "__name__", "custom")
    if name in METHODS:
        raise BadInput(f"a method of your own is named {name!r}, which is the name of a built-in method: rename the function")
    return name, _checked(name, method)


def _checked(name: str, method: Callable[..., Any]) -> Fit:
    """A method of the user's own that returns a vector, or says what is wrong."""
    try:
        seeded = "seed" in inspect.signature(method).parameters
    except (TypeError, ValueError):  # written in C: it says nothing of its arguments
        seeded = False

    def fit(x: Tensor, y: Tensor, seed: int) -> Tensor:
        given = method(x, y, seed=seed) if seeded else method(x, y)
        wanted = f"a direction method returns a vector of length d_model, here {x.shape[1]}"
        try:
            if given is None:
                raise TypeError
            vector = (given if isinstance(given, Tensor) else torch.as_tensor(np.asarray(given, float))).detach().double().cpu()
        except (TypeError, ValueError) as error:
            raise BadInput(f"the method {name!r} returned {type(given).__name__}, which is no vector of numbers: {wanted}") from error
        if vector.shape != (x.shape[1],):
            raise ShapeMismatch(f"the method {name!r} returned an array of shape {tuple(vector.shape)}: {wanted}")
        if not bool(vector.isfinite().all()):
            raise NotFinite(f"the method {name!r} returned a vector that holds NaN or infinity")
        if not float(vector.norm()) > 0:
            raise ZeroDirection(f"the method {name!r} returned a vector of zeros, which has no direction")
        return vector

    return fit
