"""Many L2-penalised linear classifiers on one matrix at once: folds, strengths and targets are columns of one problem.

Newton's method, its steps by preconditioned conjugate gradients in the principal axes of the features. There the diagonal of
the Hessian is a good preconditioner, so most steps cost a few products of the feature matrix with one column per problem. Where
they do not converge soon (little penalty, rows that are nearly certain), that column's Hessian is formed and factored. Memory is
that of the features and of one Hessian.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Num
from torch.nn import functional as F

from ..core.types import Float, Tensor

# of a margin t w.x: value, first and second derivative
Shape = Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]
SMALL = 200_000  # entries; below it float64 costs nothing


def logistic(margin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """log(1 + exp(-m))."""
    p = torch.sigmoid(-margin)
    return F.softplus(-margin), -p, p * (1 - p)


def squared_hinge(margin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """max(0, 1 - m)^2."""
    gap = (1 - margin).clamp(min=0)
    return gap * gap, -2 * gap, 2.0 * (gap > 0)


SHAPES: dict[str, Shape] = {"logistic": logistic, "squared_hinge": squared_hinge}


@dataclass(frozen=True, kw_only=True)
class Axes:
    """Features in their principal axes: `features = rotated @ basis.T`, with as many axes as rows or columns allow."""

    rotated: Float[Tensor, "row axis"]
    basis: Float[Tensor, "d_model axis"]
    values: Float[Tensor, " axis"]

    @classmethod
    def of(cls, features: Float[Tensor, "row d_model"]) -> Axes:
        """Rotate features, `row x d_model`; the Gram matrix is taken in float64."""
        x = features.double() if features.numel() <= SMALL else features
        if x.shape[0] >= x.shape[1]:
            values, basis = torch.linalg.eigh(_gram(x.T))
            basis = basis.to(x.dtype)
            return cls(rotated=x @ basis, basis=basis, values=values.clamp(min=0))
        values, left = torch.linalg.eigh(_gram(x))
        keep = values > 1e-10 * values[-1].clamp(min=1e-30)
        values, left = values[keep], left[:, keep]
        basis = (x.T.double() @ (left / values.sqrt())).to(x.dtype)
        return cls(rotated=x @ basis, basis=basis, values=values)


def _gram(x: Float[Tensor, "row feature"]) -> Float[Tensor, "row row"]:
    """X x^T in float64, a slice of columns at a time, so that no float64 copy of all of x is made."""
    out = torch.zeros(x.shape[0], x.shape[0], dtype=torch.float64, device=x.device)
    for part in x.split(2048, dim=1):
        out += part.double() @ part.double().T
    return out


def solve(
    axes: Axes,
    targets: Num[Tensor, "row targets"],
    weights: Num[Tensor, "row problem"],
    penalties: Float[Tensor, " problem"],
    *,
    shape: str = "logistic",
    intercept: bool = False,
    tolerance: float = 1e-3,
    iterations: int = 100,
) -> tuple[Float[Tensor, "d_model problem"], Float[Tensor, " problem"]]:
    """Minimise, for every column j, sum_i a_ij f(t_ij (w_j.x_i + b_j)) + penalty_j |w_j|^2 / 2.

    Args:
        axes: The features, `row x d_model`.
        targets: -1 or +1, `row x problem` (or `row x 1` for all).
        weights: Of the rows, `row x problem`; 0 leaves a row out (of a fold).
        penalties: One per problem, 1 / C, 0 or more; raising one shortens its w.
        shape: "logistic" or "squared_hinge".
        intercept: Fit b, without a penalty; otherwise b is 0.
        tolerance: Stop when a step moves w by less than this, relative to w. Newton's steps square the error, so what is
            left is far smaller: 1e-3 leaves 1e-6 or so in float32.
        iterations: Largest number of Newton steps.

    Returns:
        w as `d_model x problem`, and b, both in float32.
    """
    z = axes.rotated
    dtype, device = z.dtype, z.device
    t, a, lam = (v.to(device=device, dtype=dtype) for v in (targets, weights, penalties))
    if intercept:
        z = torch.cat([z, torch.ones(len(z), 1, dtype=dtype, device=device)], 1)
    count = a.shape[1]
    t = t.expand(-1, count)
    ridge = lam.expand(z.shape[1], -1).clone()
    if intercept:
        ridge[-1] = 1e-12  # the intercept is free
    squares = z * z
    w = torch.zeros(z.shape[1], count, dtype=dtype, device=device)
    margins = torch.zeros(len(z), count, dtype=dtype, device=device)
    live = torch.arange(count, device=device)
    loss, eps = SHAPES[shape], 2 * torch.finfo(dtype).eps
    exact = torch.zeros(count, dtype=torch.bool, device=device)
    for step in range(iterations):
        here, m, tt, aa, rr = w[:, live], margins[:, live], t[:, live], a[:, live], ridge[:, live]
        f, g, h = loss(m * tt)
        value = (aa * f).sum(0) + (rr * here * here).sum(0) / 2
        gradient = z.T @ (aa * g * tt) + rr * here
        move, moved = _conjugate(z, aa * h, rr, gradient, squares, None if step == 0 else value, exact[live])
        descent = -(move * gradient).sum(0)
        size = torch.ones_like(descent)
        for _ in range(30):
            new, ahead = here + size * move, m + size * moved
            after = (aa * loss(ahead * tt)[0]).sum(0) + (rr * new * new).sum(0) / 2
            worse = after > value - 1e-4 * size * descent + 1e-6 * value.abs()
            if not bool(worse.any()):
                break
            size = torch.where(worse, size / 2, size)
        w[:, live], margins[:, live] = new, ahead  # pyright: ignore[reportPossiblyUnboundVariable]
        # the length of the whole step: one that the line search cut short says nothing of the distance that is left
        near = move.norm(dim=0) < tolerance * new.norm(dim=0)  # pyright: ignore[reportPossiblyUnboundVariable]
        done = near & exact[live]
        exact[live] = near  # once more, with the step solved exactly
        stuck = (value - after <= eps * value.abs()) & (step >= 30)  # pyright: ignore[reportPossiblyUnboundVariable]
        live = live[~(done | stuck)]
        if len(live) == 0:
            break
    bias = w[-1] if intercept else torch.zeros(count, dtype=dtype, device=device)
    inner = w[:-1] if intercept else w
    return (axes.basis @ inner).float(), bias.float()


def _conjugate(
    z: Tensor, h: Tensor, ridge: Tensor, gradient: Tensor, squares: Tensor, value: Tensor | None, exact: Tensor
) -> tuple[Tensor, Tensor]:
    """Solve (Z^T h Z + ridge) x = -gradient for every column; return x and Z x."""
    diagonal = squares.T @ h + ridge
    x, zx = torch.zeros_like(gradient), torch.zeros(len(z), gradient.shape[1], dtype=z.dtype, device=z.device)
    residual = -gradient
    y = residual / diagonal
    p, product = y.clone(), (residual * y).sum(0)
    first = product.clone()
    # a loose first step, then as exact as Newton's convergence can use (Dembo, Eisenstat and Steihaug 1982)
    eta = torch.full_like(first, 0.3) if value is None else (first / (1 + value.abs())).sqrt().clamp(max=0.3)
    eta = torch.where(exact, 1e-3, eta)
    live = product > 0
    # by then a product of the whole Hessian costs no more than going on
    for _ in range(max(16, z.shape[1] // 8)):
        if not bool(live.any()):
            return x, zx
        zp = z @ p
        curved = z.T @ (h * zp) + ridge * p
        alpha = torch.where(live, product / (p * curved).sum(0).clamp(min=1e-30), 0.0)
        x += alpha * p
        zx += alpha * zp
        residual = residual - alpha * curved
        y = residual / diagonal
        new = (residual * y).sum(0)
        live = live & (new > eta**2 * first)
        p = y + torch.where(live, new / product.clamp(min=1e-30), 0.0) * p
        product = new
    for j in live.nonzero()[:, 0].tolist():
        x[:, j] = _direct(z, h[:, j], ridge[:, j], -gradient[:, j])
        zx[:, j] = z @ x[:, j]
    return x, zx


def _direct(z: Tensor, h: Tensor, ridge: Tensor, right: Tensor) -> Tensor:
    """Solve for one column with its Hessian written out; in float64 where float32 cannot factor it."""
    keep = h > 0  # a hinge has rows that do not count, and so has a certain logistic
    rows, weights = z[keep], h[keep, None]
    for dtype in (z.dtype, torch.float64):
        hessian = (rows.to(dtype).T @ (weights * rows).to(dtype)) + torch.diag(ridge.to(dtype))
        factor, failed = torch.linalg.cholesky_ex(hessian)
        if not int(failed):
            return torch.cholesky_solve(right.to(dtype)[:, None], factor)[:, 0].to(z.dtype)
    return torch.linalg.lstsq(hessian, right.double()[:, None], driver="gelsd").solution[:, 0].to(z.dtype)  # pyright: ignore[reportPossiblyUnboundVariable]
