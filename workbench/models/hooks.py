"""The one door to a model's activations: sites, edits, readings, and the context in which they act.

TransformerLens 3.9 ignores a hook name that does not exist, so a typo looks like a clean negative result. Here a site is
looked up before any forward pass, and an edit or a reading that did not fire raises.
"""

from __future__ import annotations

import difflib
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..core.errors import BadInput, HookNotFired, ShapeMismatch, UnknownLayer, UnknownSite, unknown
from .load import info, n_layers

SITES = {
    "resid_pre": "hook_resid_pre",
    "resid_mid": "hook_resid_mid",
    "resid_post": "hook_resid_post",
    "attn_out": "hook_attn_out",
    "mlp_out": "hook_mlp_out",
    "z": "attn.hook_z",
    "pattern": "attn.hook_pattern",
}


@dataclass(frozen=True, kw_only=True)
class Edit:
    """A change of the activations at one place, as a value.

    Attributes:
        site: One of `SITES`.
        layer: Block, counted from 0.
        function: Maps the activations, `batch x position x …`, to new ones of the same shape. Gradients pass through.
        positions: Columns to change, one row of them per row of the batch (`batch x k`); `None` for all. It fits one
            forward pass of that batch, not generation.
        label: A name for errors and provenance.
        key: A hash of everything that decides what the function does (the vector, the coefficient); with it, what is read
            under the edit may go into a store.
    """

    site: str
    layer: int
    function: Callable[[Tensor], Tensor]
    positions: Tensor | None = None
    label: str = "edit"
    key: str | None = None


@dataclass(frozen=True, kw_only=True)
class Read:
    """A reading at one place. It fires after all edits there, so that it sees the edited stream.

    Attributes:
        site, layer: As for `Edit`.
        function: Receives the activations; what it returns is ignored. Clone what you keep.
    """

    site: str
    layer: int
    function: Callable[[Tensor], object]
    label: str = "read"


@dataclass
class _Point:
    """What acts at one hook point: edits in the order in which they were entered, then readings."""

    edits: list[tuple[Edit, list[int]]] = field(default_factory=list)
    reads: list[tuple[Read, list[int]]] = field(default_factory=list)
    handle: Any = None


_POINTS: weakref.WeakKeyDictionary[nn.Module, _Point] = weakref.WeakKeyDictionary()


def check_layer(model: Any, layer: Any) -> int:
    """Return a layer after checking that the model has it; negative layers count from the end.

    Raises:
        UnknownLayer: It does not.
    """
    count = n_layers(model)
    if isinstance(layer, np.integer):
        layer = int(layer)
    if not isinstance(layer, int) or isinstance(layer, bool) or not -count <= layer < count:
        near = count - 1 if isinstance(layer, int) and layer > 0 else 0
        raise UnknownLayer(f"layer {layer} of {info(model).name!r}, which has layers 0-{count - 1}. Did you mean {near}?")
    return layer % count


def check_layers(model: Any, layers: Any) -> list[int]:
    """Return the layers asked for (`None`: all), checked, without repeats, in order.

    Raises:
        UnknownLayer: One does not exist, or none was asked for.
    """
    if layers is None:
        return list(range(n_layers(model)))
    if isinstance(layers, int | np.integer):
        layers = [layers]  # pyright: ignore[reportAssignmentType]
    if not list(layers):
        raise UnknownLayer(f"no layer was asked for; {info(model).name!r} has layers 0-{n_layers(model) - 1}")
    return sorted({check_layer(model, layer) for layer in layers})


def hook_point(model: Any, site: str, layer: int) -> nn.Module:
    """Return the module at which a site is read and edited.

    Raises:
        UnknownSite: No such site, or this architecture has none there (a parallel block has no `resid_mid`).
        UnknownLayer: No such layer.
    """
    if site not in SITES:
        raise unknown(UnknownSite, "site", site, SITES)
    layer = check_layer(model, layer)
    name = f"blocks.{layer}.{SITES[site]}"
    point = model.hook_dict.get(name)
    if point is None:
        there = [s for s, n in SITES.items() if f"blocks.{layer}.{n}" in model.hook_dict]
        near = difflib.get_close_matches(site, there, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise UnknownSite(f"{info(model).name!r} has no {site!r} at layer {layer}; it has: {', '.join(there)}.{hint}")
    return point


def _merge(edit: Edit, before: Tensor, after: Tensor) -> Tensor:
    if not isinstance(after, Tensor) or after.shape != before.shape:
        shape = tuple(after.shape) if isinstance(after, Tensor) else type(after).__name__
        raise ShapeMismatch(f"{edit.label} at {edit.site}[{edit.layer}] turned {tuple(before.shape)} into {shape}")
    after = after.to(before.dtype)
    if edit.positions is None:
        return after
    rows = edit.positions
    if rows.ndim != 2 or len(rows) != len(before) or rows.shape[1] == 0 or int(rows.max()) >= before.shape[1] or int(rows.min()) < 0:
        raise ShapeMismatch(
            f"{edit.label}: positions of shape {tuple(rows.shape)} for a batch of {tuple(before.shape[:2])} tokens; give "
            "one row of columns per row of the batch"
        )
    keep = torch.zeros(before.shape[:2], dtype=torch.bool, device=before.device)
    keep.scatter_(1, rows.to(before.device), True)
    return torch.where(keep.reshape(*keep.shape, *[1] * (before.ndim - 2)), after, before)


def _fire(module: nn.Module, point: _Point, value: Tensor) -> Tensor | None:
    conversion = getattr(module, "hook_conversion", None)
    seen = conversion.convert(value) if conversion is not None else value
    start = seen
    for edit, count in point.edits:
        count[0] += 1
        seen = _merge(edit, seen, edit.function(seen))
    for read, count in point.reads:
        count[0] += 1
        read.function(seen)
    if seen is start:
        return None
    return conversion.revert(seen) if conversion is not None else seen


def _hook(point: _Point) -> Callable[[nn.Module, Any, Any], Tensor | None]:
    return lambda module, _, value: _fire(module, point, value)


@dataclass(frozen=True)
class Fired:
    """How often each edit and reading has fired so far, in the order given."""

    counts: tuple[list[int], ...]

    def __iter__(self) -> Iterator[int]:
        return (c[0] for c in self.counts)


@contextmanager
def edited(model: Any, edits: Edit | Read | Sequence[Edit | Read], *, times: int | None = None) -> Iterator[Fired]:
    """Let edits and readings act on a model inside a `with` block.

    Everything is checked before anything is attached. Blocks nest: edits act in the order in which their blocks were
    entered, readings after all edits at their place. On the way out, also by an exception, the model is as before.

    Args:
        model: What `load_model` returns.
        edits: One or several.
        times: How often each must fire in the block; `None` for at least once, and all equally often.

    Yields:
        The counts so far.

    Raises:
        UnknownSite, UnknownLayer: Before the block.
        HookNotFired: After the block, if it did not fire as it should (not if the block raised).
    """
    items = [edits] if isinstance(edits, Edit | Read) else list(edits)
    for item in items:
        if not isinstance(item, Edit | Read):
            raise BadInput(f"an edit is an Edit or a Read, got {type(item).__name__}")
    points = [hook_point(model, item.site, item.layer) for item in items]
    counts: list[list[int]] = [[0] for _ in items]
    attached: list[tuple[nn.Module, list[Any], Any]] = []
    try:
        for item, module, count in zip(items, points, counts, strict=True):
            point = _POINTS.setdefault(module, _Point())
            if point.handle is None:
                point.handle = module.register_forward_hook(_hook(point))
            store: list[Any] = point.edits if isinstance(item, Edit) else point.reads
            entry = (item, count)
            store.append(entry)
            attached.append((module, store, entry))
        yield Fired(tuple(counts))
    finally:
        for module, store, entry in reversed(attached):
            store[:] = [e for e in store if e is not entry]
            point = _POINTS[module]
            if not point.edits and not point.reads:
                point.handle.remove()
                del _POINTS[module]
    for item, (count,) in zip(items, counts, strict=True):
        if (times is not None and count != times) or (times is None and (count == 0 or count != counts[0][0])):
            wanted = f"{times} times" if times is not None else "at least once, and all equally often"
            raise HookNotFired(f"{item.label} at {item.site}[{item.layer}] fired {count} times; it should have fired {wanted}")


def active_edits(model: Any) -> list[Edit]:
    """Return what edits act on a model at this moment, by layer (readings change nothing and are left out)."""
    mine = set(map(id, model.hook_dict.values()))
    found = [e for m, p in _POINTS.items() if id(m) in mine for e, _ in p.edits]
    return sorted(found, key=lambda e: (e.layer, e.site))


def foreign_hooks(model: Any) -> bool:
    """Whether hooks that are not ours (TransformerLens's own `add_hook`, torch's) hang on a model or a module inside."""
    ours = {p.handle.id for p in _POINTS.values()}
    points = set(map(id, model.hook_dict.values()))
    for module in model.modules():
        for number, hook in (*module._forward_hooks.items(), *module._forward_pre_hooks.items()):
            # the libraries' own recording hooks on plain modules change nothing; on a hook point they carry a user's function
            library = str(getattr(hook, "__module__", "")).split(".")[0] in ("transformer_lens", "transformers", "accelerate")
            if number not in ours and (id(module) in points or not library):
                return True
    return False


def attached_hooks() -> int:
    """Return how many hook points carry something of ours (0 outside every `edited` block)."""
    return len(_POINTS)


@dataclass(frozen=True, kw_only=True)
class Tap:
    """A reading in the engine's own shell (`trunk.Trunk`), which edits never reach.

    Attributes:
        module: Where.
        entry: Read what goes in instead of what comes out.
        function: Receives the activations, `1 x token x …`.
    """

    module: nn.Module
    entry: bool
    function: Callable[[Tensor], object]


class _Enough(Exception):
    """Every reading has fired: nothing further need be computed."""


@contextmanager
def tapped(taps: Sequence[Tap], *, stop: bool) -> Iterator[Any]:
    """Let taps read inside a `with` block; yields a context in which to run, which ends early if `stop`.

    Raises:
        HookNotFired: A tap did not fire exactly once.
    """
    fired = 0

    def fire(tap: Tap, value: Any) -> None:
        nonlocal fired
        tap.function(value[0] if isinstance(value, tuple) else value)
        fired += 1
        if stop and fired == len(taps):
            raise _Enough

    def attach(tap: Tap) -> Any:
        if tap.entry:
            return tap.module.register_forward_pre_hook(
                lambda _, args, kwargs: fire(tap, args[0] if args else kwargs["hidden_states"]), with_kwargs=True
            )
        return tap.module.register_forward_hook(lambda _, args, value: fire(tap, value))

    handles = []
    try:
        for tap in taps:
            handles.append(attach(tap))
        yield suppress(_Enough)
    finally:
        for handle in handles:
            handle.remove()
    if fired != len(taps):
        raise HookNotFired(f"{fired} of {len(taps)} readings fired in the engine's pass")
