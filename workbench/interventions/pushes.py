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
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..core.direction import Direction
from ..core.errors import NotFinite
from ..core.provenance import content_hash
from ..models import SITES, Edits, Gate, info
from ..models.hooks import check_layers
from ..models.scopes import DEFAULT
from .carried import Carried
from .placing import ScopeLike, edits_along, length, plane, span


def add(
    direction: Direction,
    coefficient: float = 1.0,
    *,
    unit: str = "raw",
    norm: float | None = None,
    scope: ScopeLike = DEFAULT,
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
            length of 1) or "norm" (1 adds as much as the stream is long there on average; it needs `norm`).
        norm: The stream's mean norm, from `mean_norm`, for unit="norm".
        scope: Which tokens: "content" (the text and its continuation, without the first token, attention sinks, and what a chat
            template writes), "all" (those too), "prompt", "after_instruction", "generated", "last" or ("last", k), ("marker", text).
        site, layer: Where, if not where it was read; several layers are possible. Elsewhere needs transfer=True.
        when: A gate: only rows that it lets through are changed.
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
    size = length(direction, coefficient, unit, norm)
    moved = Carried(direction.unit.double() * size)
    nothing = size == 0

    def change(x: Tensor) -> Tensor:
        return x if nothing else x + moved.like(x)

    label = f"add {coefficient:g} {unit} of {direction.method or 'a direction'}"
    return edits_along(change, direction, label, ("add", size), scope, site, layer, when, transfer)


def ablate(
    direction: Direction | Sequence[Direction],
    *,
    scope: ScopeLike = DEFAULT,
    site: str | None = None,
    layer: int | Sequence[int] | None = None,
    when: Gate | None = None,
    transfer: bool = False,
) -> Edits:
    """Project one or several directions out of the stream, x - U U^T x.

    Args:
        direction: One, or several, whose span goes.
        scope, site, layer, when, transfer: As for `add`; the place is that of the first direction.

    Returns:
        Edits for `edited`; the order of the directions does not matter.

    Raises:
        ZeroDirection, ShapeMismatch: The directions do not span as many dimensions as there are, or differ in width.
        BadInput, WrongModel: As for `add`; or the directions come from different models.

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
    return edits_along(change, several[0], label, key, scope, site, layer, when, transfer, several[1:])


def ablate_everywhere(
    model: Any, direction: Direction | Sequence[Direction], *, scope: ScopeLike = "all", when: Gate | None = None
) -> Edits:
    """Project directions out of the stream wherever it is written: before the first block, and after each attention and each MLP.

    Args:
        model: What `load_model` returns; it says how many blocks there are, and whether they have a `resid_mid`.
        direction: One, or several, whose span goes. Where they were read does not matter.
        scope, when: As for `add`; here every token by default, so that nothing is left along the directions anywhere, as when the
            weights are orthogonalised.

    Returns:
        Edits for `edited`, two per block and one before the first.

    Raises:
        WrongModel: A direction of another model. ZeroDirection, ShapeMismatch: As for `ablate`.

    References:
        Arditi et al. 2024, arXiv 2406.11717, section 2.4 (directional ablation).
    """
    layers = check_layers(model, None)
    how: dict[str, Any] = {"scope": scope, "when": when, "transfer": True}
    for d in [direction] if isinstance(direction, Direction) else direction:
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
    scope: ScopeLike = DEFAULT,
    site: str | None = None,
    layer: int | Sequence[int] | None = None,
    when: Gate | None = None,
    transfer: bool = False,
) -> Edits:
    """Set the coordinate along a direction to a value, x + (a - u.x) u.

    Args:
        direction: Along which.
        value: The coordinate a, in `unit`.
        unit: "unit" (that of `Direction.project`), "raw" (multiples of the direction's own length) or "norm" (multiples of `norm`).
        norm, scope, site, layer, when, transfer: As for `add`.

    Returns:
        Edits for `edited`.

    Raises:
        BadInput, WrongModel, NotFinite: As for `add`.
    """
    target = length(direction, value, unit, norm)
    kept = Carried(direction.unit)

    def change(x: Tensor) -> Tensor:
        u = kept.like(x, torch.float32)
        return x + ((target - x.float() @ u)[..., None] * u).to(x.dtype)

    label = f"clamp {direction.method or 'a direction'} to {value:g} {unit}"
    return edits_along(change, direction, label, ("clamp", target), scope, site, layer, when, transfer)


def rotate(
    direction: Direction,
    degrees: float,
    second: Direction | None = None,
    *,
    scope: ScopeLike = DEFAULT,
    site: str | None = None,
    layer: int | Sequence[int] | None = None,
    when: Gate | None = None,
    transfer: bool = False,
) -> Edits:
    """Turn the stream and keep its norm.

    Args:
        direction: Towards which.
        degrees: With `second`: by how much to turn within the plane of the two, from `second` towards `direction`. Without it: by how much
            to turn each token towards the direction, in the plane of the two. It stops at the direction; negative turns away. 0 is no edit,
            bit for bit.
        second: The other direction of a fixed plane.
        scope, site, layer, when, transfer: As for `add`.

    Returns:
        Edits for `edited`.

    Raises:
        NotFinite: The angle is not a finite number.
        ZeroDirection, ShapeMismatch: The two directions lie on one line, or differ in width.
        BadInput, WrongModel: As for `add`; or the two come from different models.

    References:
        Vu and Nguyen 2025, arXiv 2510.26243 (angular steering: turning within a fixed plane).
    """
    if not math.isfinite(degrees):
        raise NotFinite(f"an angle of {degrees} degrees")
    angle = math.radians(degrees)
    basis = Carried(direction.unit[:, None] if second is None else plane(direction, second))

    def within(x: Tensor) -> Tensor:
        u = basis.like(x, torch.float32)
        along = x.float() @ u
        a, b = along[..., 0], along[..., 1]
        turned = torch.stack([a * math.cos(angle) + b * math.sin(angle), b * math.cos(angle) - a * math.sin(angle)], -1)
        return x + ((turned - along) @ u.T).to(x.dtype)

    def towards(x: Tensor) -> Tensor:
        u = basis.like(x, torch.float32)[:, 0]
        y = x.float()
        norm = y.norm(dim=-1, keepdim=True)
        along = (y @ u)[..., None]
        rest = y - along * u
        aside = rest / rest.norm(dim=-1, keepdim=True).clamp(min=1e-12)
        now = torch.atan2(rest.norm(dim=-1, keepdim=True), along)
        new = (now - angle).clamp(0.0, math.pi)
        return (norm * (new.cos() * u + new.sin() * aside)).to(x.dtype)

    change = _same if angle == 0 else towards if second is None else within
    label = f"rotate {degrees:g} degrees towards {direction.method or 'a direction'}"
    key = ("rotate", degrees, "" if second is None else content_hash(second.unit.tolist()))
    return edits_along(change, direction, label, key, scope, site, layer, when, transfer, [] if second is None else [second])


def _same(x: Tensor) -> Tensor:
    return x
