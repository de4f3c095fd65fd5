"""How a vector is made of the directions of a dictionary: signed orthogonal matching pursuit, and non-negative least squares.

    pursuit      of all directions the one that goes best with what is left is taken, all coefficients are fitted anew, and so on
    nnls         min |v - D'c| with c >= 0, then the latents in the order of their coefficients, fitted anew for each number of them

References:
    Pati, Rezaiifar and Krishnaprasad 1993 (orthogonal matching pursuit); Lawson and Hanson 1974 (non-negative least squares); Mayne et al.
    2024, arXiv 2411.08790 (why not the encoder).
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LinearRegression, orthogonal_mp

from ..core.errors import UnknownName, ZeroDirection, unknown

METHODS = ("omp", "nnls")
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Path:
    """Latents in the order in which they are taken.

    Attributes:
        latents: Their numbers.
        explained: Share of the vector's squared length that the first 1, 2, … explain.
        coefficients: Of the first 1, 2, … latents, `number of latents x latent`, zeros behind the diagonal; in units of the latents' unit
            directions.
    """

    latents: tuple[int, ...]
    explained: Array
    coefficients: Array

    def needed(self, share: float) -> int:
        """Return how many latents explain a share; 0 where all of them do not.

        Args:
            share: Of the squared length, 0 to 1.
        """
        reached = np.flatnonzero(self.explained >= share)
        return int(reached[0]) + 1 if len(reached) else 0

    def at(self, k: int) -> float:
        """Return the share that the first k explain; that of all where fewer were taken.

        Args:
            k: How many.
        """
        return float(self.explained[min(k, len(self.explained)) - 1]) if len(self.explained) else 0.0


def unit_rows(decoder: Array) -> Array:
    """Return directions at length 1; those of length 0 stay.

    Args:
        decoder: `latent x d_in`.

    Returns:
        The same, in float64.
    """
    d = np.asarray(decoder, float)
    return d / np.maximum(np.linalg.norm(d, axis=1, keepdims=True), 1e-12)


def pursue(vector: Array, units: Array, most: int, method: str = "omp") -> Path:
    """Return the latents that a vector is made of.

    Args:
        vector: `d_in`.
        units: Directions of length 1, `latent x d_in`.
        most: Latents that are taken at most.
        method: "omp" (coefficients of either sign) or "nnls" (none below 0).

    Returns:
        The path; shorter than `most` where nothing is left to explain.

    Raises:
        UnknownName: There is no such method.
        ZeroDirection: The vector has no length.
    """
    if method not in METHODS:
        raise unknown(UnknownName, "method", method, METHODS)
    v = np.asarray(vector, float)
    length = float(np.linalg.norm(v))
    if not length > 0:
        raise ZeroDirection("a vector of zeros is made of nothing")
    most = min(most, *units.shape)
    return _omp(v, units, most, length) if method == "omp" else _nnls(v, units, most, length)


def _omp(v: Array, units: Array, most: int, length: float) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # it ends early where nothing is left
        path = np.asarray(orthogonal_mp(units.T, v / length, n_nonzero_coefs=most, return_path=True))
    path = path.reshape(len(units), -1)
    order: list[int] = []
    for k in range(path.shape[1]):
        order += [int(i) for i in np.flatnonzero(path[:, k]) if i not in order]
    return _path(v, units, length, order, [path[order[: k + 1], k] * length for k in range(len(order))])


def _nnls(v: Array, units: Array, most: int, length: float) -> Path:
    def fitted(chosen: list[int]) -> Array:
        return LinearRegression(fit_intercept=False, positive=True).fit(units[chosen].T, v / length).coef_ * length

    every = fitted(list(range(len(units))))
    order = [int(i) for i in np.argsort(-every, kind="stable")[:most] if every[i] > 1e-9 * length]
    return _path(v, units, length, order, [fitted(order[: k + 1]) for k in range(len(order))])


def _path(v: Array, units: Array, length: float, order: list[int], coefficients: list[Array]) -> Path:
    table, explained = np.zeros((len(order), len(order))), np.zeros(len(order))
    for k, c in enumerate(coefficients):
        table[k, : k + 1] = c
        explained[k] = 1 - float(np.linalg.norm(v - c @ units[order[: k + 1]]) / length) ** 2
    return Path(tuple(order), np.maximum.accumulate(explained) if len(order) else explained, table)
