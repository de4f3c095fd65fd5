"""Edits along directions, as values: add, project out, set, turn; on which tokens, in which unit, for which prompts.

    x' = x + c v                        add
    x' = x - U U^T x                    ablate (U: orthonormal basis of one or k directions)
    x' = x + (a - u.x) u                clamp
    x' = R x                            rotate (norm kept)

Which tokens: a scope (`models.scopes.KINDS`). In which unit: "raw", multiples of the direction's own vector; "unit", the length in
activation units; "norm", multiples of the mean norm of the stream there (`mean_norm`). For equal cost see `cost.tune`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..core.direction import Direction
from ..core.errors import BadInput, NotFinite, ShapeMismatch, WrongModel, ZeroDirection
from ..core.provenance import content_hash
from ..models import SITES, Edit, Edits, Gate, Scope, info
from ..models.hooks import check_layers
from .carried import Carried

UNITS = ("raw", "unit", "norm")
STREAM = ("resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out")
ScopeLike = Scope | str | tuple[str, int] | tuple[str, str] | None


def add(
    direction: Direction,
    coefficient: float = 1.0,
    *,
    unit: str = "raw",
    norm: float | None = None,
    scope: ScopeLike = "all",
    site: str | None = None,
    layer: int | Sequence[int] | None = None,
    when: Gate | None = None,
    transfer: bool = False,
) -> Edits:
    """Add a multiple of a direction to the stream.

    Args:
        direction: Where it points; its provenance says where it was read, and there it is added.
        coefficient: How much, in `unit`; negative pushes the other way, 0 is no edit, bit for bit.
        unit: "raw" (1 adds the direction's own vector: what Contrastive Activation Addition calls the multiplier), "unit" (1 adds a
            length of 1) or "norm" (1 adds as much as the stream is long there on average: give `norm`).
        norm: The stream's mean norm, from `mean_norm`, for unit="norm".
        scope: Which tokens: "all", "prompt", "after_instruction", "generated", "last" or ("last", k), ("marker", text).
        site, layer: Elsewhere than where it was read, or at several layers (then with transfer=True).
        when: A gate: only rows that it lets through.
        transfer: Accept another layer or site, or another model's direction (a base model's on its chat model).

    Returns:
        Edits for `edited`, to be joined with `|`.

    Raises:
        BadInput: No place, or a unit that lacks its norm.
        WrongModel: Another place than the direction's, without transfer=True; another model, when it is entered.
        NotFinite: The coefficient is not a finite number.

    Example:
        >>> import torch, workbench as wb
        >>> model = wb.load_model("bundled")
        >>> d = wb.Direction.of(torch.ones(128), provenance={"site": "resid_post", "layer": 2})
        >>> with wb.edited(model, wb.add(d, 0.5, scope="last") | wb.ablate(d)):
        ...     out = wb.generate(model, ["Request: How do I bake a cake? Reply:"], max_new_tokens=2)
        >>> len(out)
        1

    References:
        Rimsky et al. 2023, arXiv 2312.06681 (CAA); Turner et al. 2023, arXiv 2308.10248 (activation addition).
    """
    size = _length(direction, coefficient, unit, norm)
    moved = Carried(direction.unit.double() * size)
    nothing = size == 0

    def change(x: Tensor) -> Tensor:
        return x if nothing else x + moved.like(x)

    label = f"add {coefficient:g} {unit} of {direction.method or 'a direction'}"
    return _edits(change, direction, label, ("add", size), scope, site, layer, when, transfer)


def ablate(
    direction: Direction | Sequence[Direction],
    *,
    scope: ScopeLike = "all",
    site: str | None = None,
    layer: int | Sequence[int] | None = None,
    when: Gate | None = None,
    transfer: bool = False,
) -> Edits:
    """Project one or several directions out of the stream, x - U U^T x.

    Args:
        direction: One, or several, whose span goes.
        scope, site, layer, when, transfer: As for `add`.

    Note:
        What blocks above write along the direction comes back. `ablate_everywhere` takes it out wherever anything is written.

    References:
        Arditi et al. 2024, arXiv 2406.11717.
    """
    several = [direction] if isinstance(direction, Direction) else list(direction)
    basis = span(several)
    kept = Carried(basis)

    def change(x: Tensor) -> Tensor:
        u = kept.like(x, torch.float32)
        return x - ((x.float() @ u) @ u.T).to(x.dtype)

    label = f"ablate {several[0].method or 'a direction'}{f' and {len(several) - 1} more' if len(several) > 1 else ''}"
    key = ("ablate", basis.numpy().tobytes().hex())
    return _edits(change, several[0], label, key, scope, site, layer, when, transfer, several[1:])


def ablate_everywhere(
    model: Any, direction: Direction | Sequence[Direction], *, scope: ScopeLike = "all", when: Gate | None = None
) -> Edits:
    """Project directions out of the stream wherever it is written: before the first block, and after each attention and each MLP.

    References:
        Arditi et al. 2024, arXiv 2406.11717, section 2.4 (directional ablation).
    """
    layers = check_layers(model, None)
    how: dict[str, Any] = {"scope": scope, "when": when, "transfer": True}
    first = [direction] if isinstance(direction, Direction) else list(direction)
    for d in first:
        d.check_place({"model": info(model).key()})
    parts = ablate(direction, site="resid_pre", layer=0, **how)
    middle = f"blocks.{layers[0]}.{SITES['resid_mid']}" in model.hook_dict
    return (
        parts
        | (ablate(direction, site="resid_mid", layer=layers, **how) if middle else Edits())
        | ablate(direction, site="resid_post", layer=layers, **how)
    )


def clamp(
    direction: Direction,
    value: float,
    *,
    unit: str = "unit",
    norm: float | None = None,
    scope: ScopeLike = "all",
    site: str | None = None,
    layer: int | Sequence[int] | None = None,
    when: Gate | None = None,
    transfer: bool = False,
) -> Edits:
    """Set the coordinate along a direction to a value, x + (a - u.x) u.

    Args:
        direction: Along which.
        value: The coordinate a, in `unit`; "unit" is that of `Direction.project`, "raw" multiples of the direction's own length.
        norm, scope, site, layer, when, transfer: As for `add`.
    """
    target = _length(direction, value, unit, norm)
    kept = Carried(direction.unit)

    def change(x: Tensor) -> Tensor:
        u = kept.like(x, torch.float32)
        return x + ((target - x.float() @ u)[..., None] * u).to(x.dtype)

    label = f"clamp {direction.method or 'a direction'} to {value:g} {unit}"
    return _edits(change, direction, label, ("clamp", target), scope, site, layer, when, transfer)


def rotate(
    direction: Direction,
    degrees: float,
    second: Direction | None = None,
    *,
    scope: ScopeLike = "all",
    site: str | None = None,
    layer: int | Sequence[int] | None = None,
    when: Gate | None = None,
    transfer: bool = False,
) -> Edits:
    """Turn the stream and keep its norm.

    Args:
        direction: Towards which.
        degrees: With `second`: by how much to turn within the plane of the two, from `second` towards `direction`. Without it: by how much
            to turn each token towards the direction in the plane of both; it stops at the direction, and negative turns away.
        second: The other direction of a fixed plane.
        scope, site, layer, when, transfer: As for `add`.

    References:
        Vu and Nguyen 2025, arXiv 2510.26243 (angular steering: turning within a fixed plane).
    """
    if not math.isfinite(degrees):
        raise NotFinite(f"an angle of {degrees} degrees")
    angle = math.radians(degrees)
    basis = Carried(direction.unit[:, None] if second is None else _plane(direction, second))

    def within(x: Tensor) -> Tensor:
        u = basis.like(x, torch.float32)
        along = x.float() @ u
        a, b = along[..., 0], along[..., 1]
        turned = torch.stack([a * math.cos(angle) + b * math.sin(angle), b * math.cos(angle) - a * math.sin(angle)], -1)
        return x + ((turned - along) @ u.T).to(x.dtype)

    def towards(x: Tensor) -> Tensor:
        u = basis.like(x, torch.float32)[:, 0]
        y = x.float()
        length = y.norm(dim=-1, keepdim=True)
        along = (y @ u)[..., None]
        rest = y - along * u
        aside = rest / rest.norm(dim=-1, keepdim=True).clamp(min=1e-12)
        now = torch.atan2(rest.norm(dim=-1, keepdim=True), along)
        new = (now - angle).clamp(0.0, math.pi)
        return (length * (new.cos() * u + new.sin() * aside)).to(x.dtype)

    change = _same if angle == 0 else towards if second is None else within
    label = f"rotate {degrees:g} degrees towards {direction.method or 'a direction'}"
    key = ("rotate", degrees, "" if second is None else content_hash(second.unit.tolist()))
    return _edits(change, direction, label, key, scope, site, layer, when, transfer, [] if second is None else [second])


def gate(
    by: Any,
    threshold: float = 0.0,
    *,
    site: str | None = None,
    layer: int | None = None,
    above: bool = True,
    pool: str = "mean",
    similarity: str = "cosine",
) -> Gate:
    """Make a condition on the prompt: edits that carry it act only on rows whose stream looks like something.

    Args:
        by: A direction, or a linear probe fitted on rows.
        threshold: Rows above it are edited.
        site, layer: Where the stream is looked at; by default the direction's own place.
        above: False edits the rows below instead.
        pool: "mean" over the prompt's tokens, or its "last" token.
        similarity: For a direction: "cosine" (-1 to 1) or "projection" (raw units).

    Raises:
        BadInput: No place, a probe of pairs, or no such similarity.

    References:
        Lee et al. 2024, arXiv 2409.05907 (conditional activation steering).
    """
    if isinstance(by, Direction):
        if similarity not in ("cosine", "projection"):
            raise BadInput(f"similarity {similarity!r}: 'cosine' or 'projection'")
        site, layer = site or by.provenance.get("site"), by.provenance.get("layer") if layer is None else layer
        weight, bias, cosine = by.unit, 0.0, similarity == "cosine"
    else:
        if getattr(by, "paired", True) or not hasattr(by, "vector"):
            raise BadInput("a gate is made from a direction or a linear probe fitted on rows (fit_logistic(x, y)), not on pairs")
        centre = by.scaler.mean.double()
        weight, cosine = by.vector.float(), False
        bias = float(by.bias) - float(by.vector.double() @ centre)
    if site is None or layer is None:
        raise BadInput("a gate needs a place: site= and layer=")
    kept = Carried(weight)

    def score(x: Tensor) -> Tensor:
        y = x.float()
        along = y @ kept.like(x, torch.float32)
        return along / y.norm(dim=-1).clamp(min=1e-12) if cosine else along + bias

    key = content_hash(weight.tolist(), bias, cosine, site, layer, threshold, above, pool)
    made = by.provenance.get("model") if isinstance(by, Direction) else None
    origin = {"d_model": len(weight)} | ({"model": made} if isinstance(made, Mapping) else {})
    return Gate(site=site, layer=layer, score=score, threshold=threshold, above=above, pool=pool, key=key, origin=origin)


def _same(x: Tensor) -> Tensor:
    return x


def span(directions: Iterable[Direction]) -> Tensor:
    """Return an orthonormal basis of directions, `d_model x k`.

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


def _plane(first: Direction, second: Direction) -> Tensor:
    """Orthonormal: the first direction, and what is left of the second."""
    basis = span([first, second])
    u = first.unit
    rest = basis @ (basis.T @ second.unit)
    rest = rest - (rest @ u) * u
    return torch.stack([u, rest / rest.norm()], 1)


def _length(direction: Direction, amount: float, unit: str, norm: float | None) -> float:
    if unit not in UNITS:
        raise BadInput(f"unit {unit!r}: one of {', '.join(UNITS)}")
    if not math.isfinite(amount):
        raise NotFinite(f"a coefficient of {amount}")
    if unit == "norm":
        if norm is None:
            raise BadInput("unit='norm' needs the stream's mean norm there: norm=wb.mean_norm(model, prompts, direction)")
        return amount * norm
    return amount * (direction.scale if unit == "raw" else 1.0)


def place(direction: Direction, site: str | None, layer: int | Sequence[int] | None, transfer: bool) -> tuple[str, list[int]]:
    """Return the site and the layers of an edit.

    Raises:
        BadInput: The direction does not say, and nobody else did.
        WrongModel: Another place than the direction's, without a word that this is meant.
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


def _edits(
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
    where, layers = place(direction, site, layer, transfer)
    chosen = Scope.of(scope)
    for other in () if transfer else others:
        direction.check_place({"model": other.provenance.get("model")})
    models = [m for d in (direction, *others) if isinstance(m := d.provenance.get("model"), Mapping)]
    origin = {"d_model": len(direction.unit)} | ({} if transfer or not models else {"model": models[0]})
    mark = content_hash(key, direction.unit.tolist(), str(chosen), "" if when is None else when.key)
    return Edits(
        Edit(site=where, layer=one, function=change, scope=chosen, gate=when, origin=origin, label=label, key=mark) for one in layers
    )
