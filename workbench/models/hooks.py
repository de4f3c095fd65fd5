"""The one door to a model's activations: sites, edits, readings, and the context in which they act.

TransformerLens 3.9 ignores an unknown hook name, so a typo looks like a clean negative result. Here a site is looked up
before any forward pass, and an edit or a reading that did not fire raises an error.
"""

from __future__ import annotations

import difflib
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from ..core.errors import BadInput, EmptyScope, HookNotFired, UnknownLayer, UnknownSite, unknown
from ..core.types import Bool, Tensor
from .acting import Acting, acting_edits
from .acting import attached_hooks as attached_hooks
from .edits import Edit, Gate, Read
from .firing import Entry
from .known import info, n_layers
from .origin import check_origin
from .restore import surely
from .sinks import STREAM
from .verdict import require

SITES = {
    "resid_pre": "hook_resid_pre",
    "resid_mid": "hook_resid_mid",
    "resid_post": "hook_resid_post",
    "attn_out": "hook_attn_out",
    "mlp_out": "hook_mlp_out",
    "z": "attn.hook_z",
    "pattern": "attn.hook_pattern",
}


ORDER = ("resid_pre", "pattern", "z", "attn_out", "resid_mid", "mlp_out", "resid_post")  # in which a block computes its sites


def check_layer(model: Any, layer: Any) -> int:
    """Check that a model has a layer.

    Args:
        model: What `load_model` returns.
        layer: The block, counted from 0; a negative one counts from the end.

    Returns:
        The layer, 0 to the number of blocks minus 1.

    Raises:
        UnknownLayer: The model has no such layer.
    """
    count = n_layers(model)
    if isinstance(layer, np.integer):
        layer = int(layer)
    if not isinstance(layer, int) or isinstance(layer, bool) or not -count <= layer < count:
        near = count - 1 if isinstance(layer, int) and layer > 0 else 0
        raise UnknownLayer(f"layer {layer} of {info(model).name!r}, which has layers 0-{count - 1}. Did you mean {near}?")
    return layer % count


def check_layers(model: Any, layers: Any) -> list[int]:
    """Check that a model has some layers.

    Args:
        model: What `load_model` returns.
        layers: Blocks, one or several, counted from 0; negative ones count from the end. `None` for all.

    Returns:
        The layers, each once, from the lowest to the highest.

    Raises:
        UnknownLayer: A layer does not exist, or the list is empty.
    """
    if layers is None:
        return list(range(n_layers(model)))
    if isinstance(layers, int | np.integer):
        layers = [layers]  # pyright: ignore[reportAssignmentType]
    if not list(layers):
        raise UnknownLayer(f"no layer was asked for; {info(model).name!r} has layers 0-{n_layers(model) - 1}")
    return sorted({check_layer(model, layer) for layer in layers})


def hook_point(model: Any, site: str, layer: int) -> nn.Module:
    """Find the module at which a site is read and edited.

    Args:
        model: What `load_model` returns.
        site: One of `SITES`.
        layer: The block, counted from 0; a negative one counts from the end.

    Returns:
        TransformerLens's hook point.

    Raises:
        UnknownSite: There is no such site, or this architecture has none there (a parallel block has no `resid_mid`).
        UnknownLayer: The model has no such layer.
    """
    if site not in SITES:
        raise unknown(UnknownSite, "site", site, SITES)
    layer = check_layer(model, layer)
    name = f"blocks.{layer}.{SITES[site]}"
    point = _point(model, name)
    if point is None:
        there = [s for s, n in SITES.items() if f"blocks.{layer}.{n}" in model.hook_dict]
        near = difflib.get_close_matches(site, there, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise UnknownSite(f"{info(model).name!r} has no {site!r} at layer {layer}; it has: {', '.join(there)}.{hint}")
    return point


# per model and name, where in it the hook point stands: TransformerLens resolves all names anew for each one that is asked for
_PLACES: weakref.WeakKeyDictionary[Any, dict[str, str]] = weakref.WeakKeyDictionary()


def _point(model: Any, name: str) -> nn.Module | None:
    """The hook point of a name; `None` where there is none."""
    places = _PLACES.setdefault(model, {})
    if name in places:
        try:
            point = model.get_submodule(places[name])
        except AttributeError:
            point = None  # a part of the model was replaced
        if point is not None:
            return point
    every = model.hook_dict
    inside = {id(module): path for path, module in model.named_modules()}
    places.clear()
    places.update({key: inside[id(module)] for key, module in every.items() if id(module) in inside})
    return every.get(name)


@dataclass(frozen=True)
class Fired:
    """How often each edit and reading has fired so far, in the order given."""

    entries: tuple[Entry, ...]

    def __iter__(self) -> Iterator[int]:
        return (e.fired for e in self.entries)

    @property
    def sinks(self) -> tuple[int, ...]:
        """Tokens that an edit's scope selects and that the edit left alone, because they are attention sinks at its place.

        Returns:
            Per edit and reading, their number over all passes so far. The beginning-of-text token, and a first token that the model
            always makes a sink, belong to no scope but "all" and are not counted; nor is what a chat template writes.
        """
        return tuple(e.sinks for e in self.entries)

    @property
    def open(self) -> list[Bool[Tensor, " row"] | None]:
        """The rows that each edit's gate lets through.

        Returns:
            Per edit, true for each row of the last prompt that the gate lets through; `None` without a gate, and before the
            first prompt.
        """
        return [None if e.holder is None else e.holder.open for e in self.entries]


@contextmanager
def edited(model: Any, edits: Edit | Read | Iterable[Edit | Read], *, times: int | None = None) -> Iterator[Fired]:
    """Let edits and readings act on a model inside a `with` block.

    Everything is checked before anything is attached. Blocks nest: edits act in the order in which their blocks were
    entered, and within a block in the order given; readings after all edits at their place. On the way out, also by an
    exception or Ctrl-C, the model is as before.

    A block acts in the thread (and in the asynchronous task) that entered it. Passes over the same model in other threads are
    neither edited nor read, and several threads may edit one model at a time, each in blocks of its own.

    Args:
        model: What `load_model` returns.
        edits: One or several (`wb.add(…) | wb.ablate(…)`).
        times: The number of firings that each must reach in the block; `None` for at least one, and the same for all.

    Yields:
        The number of firings so far.

    Raises:
        UnknownSite, UnknownLayer: Before the block.
        Disagrees: TransformerLens's pass over this model, or one of the sites, is not Hugging Face's; before the block.
        BadInput: Something is no edit, or a gate is read after the place of its edit; before the block.
        WrongModel, ShapeMismatch: An edit was made from another model, or for another width; before the block.
        HookNotFired: After the block, if an edit did not fire as it should (not if the block raised).
        ModelInUse: In a pass of another thread that was given this one's context (`contextvars.copy_context`).
        EmptyScope: After the block, if an edit's scope never selected a token.

    Note:
        Without a cache, TransformerLens's `generate` passes the whole text anew at each step. Rows that are those of the
        previous pass plus one token count as a step of generation.
    """
    items = [edits] if isinstance(edits, Edit | Read) else list(edits)
    for item in items:
        if not isinstance(item, Edit | Read):
            raise BadInput(f"an edit is an Edit or a Read, got {type(item).__name__}")
    points = [hook_point(model, item.site, item.layer) for item in items]
    require(model, *{item.site for item in items})
    gated = [i for i in items if isinstance(i, Edit) and i.gate is not None]
    check_origin(model, [*(i for i in items if isinstance(i, Edit)), *(i.gate for i in gated)])
    gates = {id(i.gate): hook_point(model, i.gate.site, i.gate.layer) for i in gated if i.gate is not None}
    for item in gated:
        _check_gate(model, item)
    follow = any(isinstance(i, Edit) and (i.gate or (i.scope and not i.scope.whole)) for i in items)
    acting = Acting(model)
    try:
        try:
            watch = acting.watch() if follow else None
            entries = [Entry(item, acting.owner, watch) for item in items]
            holders: dict[int, Entry] = {}
            for item in gated:
                if id(item.gate) not in holders:
                    holders[id(item.gate)] = Entry(item.gate, acting.owner, watch)
                    acting.attach(gates[id(item.gate)], "gates", holders[id(item.gate)])
                    _follow_stream(model, acting, holders[id(item.gate)])
            for entry, module in zip(entries, points, strict=True):
                entry.holder = holders.get(id(getattr(entry.item, "gate", None)))
                acting.attach(module, "edits" if isinstance(entry.item, Edit) else "reads", entry)
                _follow_stream(model, acting, entry)
                if isinstance(entry.item, Edit) and _beside(model, entry.item, module):
                    entry.carry = True
                    acting.attach(hook_point(model, "resid_post", entry.item.layer), "carried", entry)
            acting.owner.enter()
            yield Fired(tuple(entries))
        finally:
            surely(acting.close)
    finally:
        surely(acting.close)
    _check_fired(entries, times)


def _follow_stream(model: Any, acting: Acting, entry: Entry) -> None:
    """Let an entry that chooses tokens at a site beside the stream know how long the stream is that enters the block."""
    item = entry.item
    if entry.watch is None or item.site in (*STREAM, "pattern") or (isinstance(item, Edit) and (item.scope is None or item.scope.whole)):
        return
    if isinstance(item, Edit | Gate):
        reading = Read(site="resid_pre", layer=item.layer, function=entry.enter, label="norms")
        acting.attach(hook_point(model, "resid_pre", item.layer), "reads", Entry(reading, acting.owner))


def _check_fired(entries: list[Entry], times: int | None) -> None:
    """Raise unless every edit and reading fired as often as it should, and every scope selected a token."""
    for entry in entries:
        item, count = entry.item, entry.fired
        if (times is not None and count != times) or (times is None and (count == 0 or count != entries[0].fired)):
            wanted = f"{times} times" if times is not None else "at least once, and all equally often"
            raise HookNotFired(f"{item.label} at {item.site}[{item.layer}] fired {count} times; it should have fired {wanted}")
        if isinstance(item, Edit) and item.scope is not None and not entry.touched:
            raise EmptyScope(
                f"{item.label} at {item.site}[{item.layer}] touched nothing: its scope, {item.scope}, selected no token of any pass"
            )


def _beside(model: Any, edit: Edit, module: nn.Module) -> bool:
    """Whether the stream bypasses this hook point, so that a change there must be carried to the end of the block.

    The Bridge's `resid_mid` is the entry of the part that reads the stream next: the MLP's norm, or the MLP itself.
    """
    if edit.site != "resid_mid":
        return False
    block = model.blocks[check_layer(model, edit.layer)]
    return any(getattr(part, "hook_in", None) is module for part in block.modules() if part is not block)


def _check_gate(model: Any, edit: Edit) -> None:
    """Raise unless an edit's gate is read before the edit acts."""
    gate = edit.gate
    assert gate is not None
    edit_place = (check_layer(model, edit.layer), ORDER.index(edit.site))
    gate_place = (check_layer(model, gate.layer), ORDER.index(gate.site))
    if gate_place > edit_place:
        raise BadInput(
            f"{edit.label} acts at {edit.site}[{edit.layer}], and its gate is read later, at {gate.site}[{gate.layer}]: "
            "it would come too late"
        )


def active_edits(model: Any) -> list[Edit]:
    """Return the edits that act on a model at this moment in this thread, by layer. Readings change nothing and are left out."""
    return sorted(acting_edits(model), key=lambda e: (e.layer, e.site))


def foreign_hooks(model: Any) -> bool:
    """Whether a model or one of its modules has hooks that the workbench did not attach (`add_hook`, torch's own)."""
    points = set(map(id, model.hook_dict.values()))
    for module in model.modules():
        for hook in (*module._forward_hooks.values(), *module._forward_pre_hooks.values()):
            made = str(getattr(hook, "__module__", ""))
            # the libraries' own recording hooks on plain modules change nothing; on a hook point they carry a user's function
            library = made.split(".")[0] in ("transformer_lens", "transformers", "accelerate")
            if not made.startswith(f"{__package__}.") and (id(module) in points or not library):
                return True
    return False
