"""Where an edit along a direction acts, how long it is, and what several directions span."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..core.direction import Direction
from ..core.errors import BadInput, NotFinite, ShapeMismatch, WrongModel, ZeroDirection
from ..core.provenance import content_hash
from ..core.types import Float
from ..models import Edit, Edits, Gate, Scope

UNITS = ("raw", "unit", "norm")
STREAM = ("resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out")
ScopeLike = Scope | str | tuple[str, int] | tuple[str, str] | None


def place(direction: Direction, site: str | None, layer: int | Sequence[int] | None, transfer: bool) -> tuple[str, list[int]]:
    """Return the site and the layers of an edit.

    Args:
        direction: Its provenance says where it was read, if it is known.
        site: `None` for the direction's own; else one of `STREAM`.
        layer: Blocks, counted from 0; `None` for the direction's own.
        transfer: Accept another place than the direction's own.

    Returns:
        The site, and the layers in the order given.

    Raises:
        BadInput: Neither the direction nor the arguments say where, or the site carries no vector of `d_model`.
        WrongModel: Another place than the direction's, without transfer=True.
    """
    own_site, own_layer = direction.provenance.get("site"), direction.provenance.get("layer")
    site = site or own_site
    layers = own_layer if layer is None else layer
    if site is None or layers is None:
        raise BadInput(
            "the direction does not say where it was read: give site= and layer=, or make it with provenance=place_of(acts, layer)"
        )
    chosen = [int(layers)] if not isinstance(layers, Sequence | range) else [int(x) for x in layers]
    if not chosen:
        raise BadInput("no layer to act at")
    elsewhere = (own_site is not None and site != own_site) or (own_layer is not None and chosen != [int(own_layer)])
    if elsewhere and not transfer:
        there = f"{site}[{', '.join(map(str, chosen))}]"
        raise WrongModel(f"a direction read at {own_site}[{own_layer}] is to act at {there}; if that is meant, say transfer=True")
    if site not in STREAM:
        raise BadInput(f"a direction of the stream cannot act at {site!r}; its places are {', '.join(STREAM)}")
    return site, chosen


def length(direction: Direction, amount: float, unit: str, norm: float | None) -> float:
    """Convert an amount to activation units.

    Args:
        direction: What "raw" multiplies.
        amount: In `unit`.
        unit: "raw", "unit" or "norm".
        norm: What "norm" multiplies.

    Returns:
        The length along the direction; negative points the other way.

    Raises:
        BadInput: No such unit, or "norm" without a norm. NotFinite: the amount is not a finite number.
    """
    if unit not in UNITS:
        raise BadInput(f"unit {unit!r}: one of {', '.join(UNITS)}")
    if not math.isfinite(amount):
        raise NotFinite(f"a coefficient of {amount}")
    if unit == "norm":
        if norm is None:
            raise BadInput("unit='norm' needs the stream's mean norm there: norm=wb.mean_norm(model, prompts, direction)")
        return amount * norm
    return amount * (direction.scale if unit == "raw" else 1.0)


def span(directions: Iterable[Direction]) -> Float[Tensor, "d_model k"]:
    """Return an orthonormal basis of the space that directions span.

    Args:
        directions: k of them, of one width.

    Returns:
        Float32, `d_model x k`; the sign of a column says nothing.

    Raises:
        ZeroDirection: They do not span k dimensions, or there are none.
        ShapeMismatch: They differ in width.
    """
    several = list(directions)
    if not several:
        raise ZeroDirection("no direction was given")
    if len({len(d.unit) for d in several}) > 1:
        raise ShapeMismatch(f"directions of widths {', '.join(str(len(d.unit)) for d in several)}")
    stacked = torch.stack([d.unit.double() for d in several], 1)
    q, r = torch.linalg.qr(stacked)
    if float(r.diagonal().abs().min()) < 1e-5:
        raise ZeroDirection(
            f"{len(several)} directions that do not span {len(several)} dimensions: two are one, or lie in the others' plane"
        )
    return q.float()


def plane(first: Direction, second: Direction) -> Float[Tensor, "d_model 2"]:
    """Return an orthonormal basis: the first direction, and what is left of the second."""
    basis = span([first, second])
    u = first.unit
    rest = basis @ (basis.T @ second.unit)
    rest = rest - (rest @ u) * u
    return torch.stack([u, rest / rest.norm()], 1)


def edits_along(
    change: Callable[[Tensor], Tensor],
    direction: Direction,
    label: str,
    key: tuple[Any, ...],
    scope: ScopeLike,
    site: str | None,
    layer: int | Sequence[int] | None,
    when: Gate | None,
    transfer: bool,
    others: Sequence[Direction] = (),
) -> Edits:
    """Return the edits, one per layer, of a change that is made from directions; they know which model these come from."""
    where, layers = place(direction, site, layer, transfer)
    chosen = Scope.of(scope)
    for other in () if transfer else others:
        direction.check_place({"model": other.provenance.get("model")})
    models = [m for d in (direction, *others) if isinstance(m := d.provenance.get("model"), Mapping)]
    origin = {"d_model": len(direction.unit)} | ({} if transfer or not models else {"model": models[0]})
    mark = content_hash(key, direction.unit.tolist(), str(chosen), "" if when is None else when.key)
    return Edits(Edit(site=where, layer=n, function=change, scope=chosen, gate=when, origin=origin, label=label, key=mark) for n in layers)
