"""Edits of your own: a function on the stream, and a way to push as a function of direction and strength."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from torch import Tensor

from ..core.direction import Direction
from ..core.errors import BadInput
from ..core.types import Float
from ..models import Edit, Edits, Gate, Scope
from .placing import ScopeLike

Push = Callable[[Direction, float], Iterable[Edit]]


def custom_edit(
    function: Callable[[Float[Tensor, "batch position *rest"]], Float[Tensor, "batch position *rest"]],
    *,
    layer: int | Sequence[int],
    site: str = "resid_post",
    scope: ScopeLike = None,
    when: Gate | None = None,
    label: str = "",
    key: str | None = None,
) -> Edits:
    """Make edits of a function of your own on activations, x -> x'.

    They go wherever edits go: into `wb.edited` and `wb.generate`, beside others with `|`, into `wb.capability` and, made anew for each
    strength, into `wb.tune`, `wb.equal_cost`, `wb.dose_response(push=…)` and `evaluation.cross_steering(kinds=…)`.

    Args:
        function: Maps activations, `batch x position x d_model` in the model's dtype, to new ones of the same shape ("z": `batch x position
            x head x d_head`; "pattern": `batch x head x query x key`). It sees every token; outside the scope its result is not used.
        layer: Block, counted from 0, or several, at each of which the function acts.
        site: One of `models.SITES`.
        scope: Which tokens, as for `wb.add`; by default "content", and at "pattern" all.
        when: A gate: only rows that it lets through are changed.
        label: A name for errors and provenance; by default the function's own.
        key: A hash of all that decides what the function does. Without it, what is captured under the edit is not kept in a store.

    Returns:
        Edits, one per layer.

    Raises:
        BadInput: It is not a function, or there is no layer. `wb.edited` raises for a site or layer that the model lacks, and when the
            function returns another shape.

    Note:
        Nothing says which model the function was made for, so nothing stops it from acting on another.

    Example:
        >>> import workbench as wb
        >>> from workbench.interventions import custom_edit
        >>> model = wb.load_model("bundled")
        >>> clip = custom_edit(lambda x: x.clamp(-4, 4), layer=2, scope="last", label="clip")
        >>> clip
        clip at resid_post[2], last 1
        >>> texts = wb.generate(model, ["Request: How do I bake a cake? Reply:"], {"clipped": clip}, max_new_tokens=2, progress=False)
        >>> list(texts)[2:4]
        ['unsteered', 'clipped']
    """
    if not callable(function):
        raise BadInput(f"an edit of your own is a function x -> x', got {type(function).__name__}")
    layers = [layer] if not isinstance(layer, Sequence | range) else list(layer)
    if not layers:
        raise BadInput("no layer to act at")
    name = label or getattr(function, "__name__", "edit")
    rule = None if site == "pattern" and scope is None else Scope.of(scope)
    chosen = None if rule is not None and rule.whole and site == "pattern" else rule
    return Edits(Edit(site=site, layer=int(n), function=function, scope=chosen, gate=when, label=name, key=key) for n in layers)


def edits_of(push: Push, direction: Direction, strength: float) -> Edits:
    """Return the edits that a way to push makes.

    Args:
        push: A function of a direction and a strength, such as `wb.add`, or one of your own.
        direction: Passed on; the controls pass random directions.
        strength: Passed on; what it means is the function's affair. The effect should grow with it.

    Returns:
        The edits.

    Raises:
        BadInput: The function returns something other than edits, or none.
    """
    got: Any = push(direction, strength)
    edits = [got] if isinstance(got, Edit) else list(got) if isinstance(got, Iterable) and not isinstance(got, Tensor) else []
    if not edits or not all(isinstance(e, Edit) for e in edits):
        raise BadInput(
            "a way to push maps (direction, strength) to edits, such as wb.add(d, c) or interventions.custom_edit(function, layer=…), got "
            f"{type(got).__name__}{'' if edits else ' without an edit in it'}"
        )
    return Edits(edits)
