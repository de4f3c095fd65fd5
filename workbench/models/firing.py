"""What happens when a forward pass reaches a hook point at which gates, edits or readings act."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..core.errors import BadInput, ShapeMismatch
from .edits import Edit, Gate
from .owner import Owner
from .sinks import lengths
from .watch import Watch


@dataclass(eq=False)
class Entry:
    """The state of one gate, edit or reading inside `edited`.

    Attributes:
        item: The gate, edit or reading.
        owner: The block that it belongs to.
        watch: Knows the rows of the current forward pass; `None` where nothing needs to know.
        fired: How often it fired.
        touched: Number of tokens that it changed; one per firing where it changes all.
        sinks: Number of tokens that its scope selects and that it left alone, because they are attention sinks there.
        entering: At a site that is not the stream, the norms of the stream that entered the block, `row x position`.
        chosen: The tokens of the last firing that it changed, `row x position`; `None` for all.
        holder: The state of an edit's gate.
        open: Of a gate, the rows that it lets through, `row`; `None` before it has read a prompt.
        carry: The Bridge's `resid_mid` is the entry of the MLP's norm: a change there reaches the MLP, not the stream beside
            it. With `carry` the change is kept, and added to the stream at the end of the block.
        delta: The change that is kept so far.
    """

    item: Any
    owner: Owner
    watch: Watch | None = None
    fired: int = 0
    touched: int = 0
    sinks: int = 0
    entering: Tensor | None = None
    chosen: Tensor | None = None
    holder: Entry | None = None
    open: Tensor | None = None
    carry: bool = False
    delta: Tensor | None = None

    def enter(self, stream: Tensor) -> None:
        """Note how long the stream is that enters the block."""
        self.entering = lengths(stream)

    def spare(self, mask: Tensor, value: Tensor) -> Tensor:
        """Leave attention sinks out of a mask of tokens; `value` are the activations before any edit here."""
        if self.watch is None or not self.watch.compares:
            return mask
        entering = self.entering if self.entering is not None and self.entering.shape == value.shape[:2] else None
        return self.watch.spare(mask, lengths(value.flatten(2), entering))


@dataclass
class Point:
    """What acts at one hook point, in this order: carried changes, gates, edits in the order of their blocks, readings.

    Attributes:
        hook: The function that is registered there.
        listed: The entry for it on TransformerLens's own list of hooks.
    """

    carried: list[Entry] = field(default_factory=list)
    gates: list[Entry] = field(default_factory=list)
    edits: list[Entry] = field(default_factory=list)
    reads: list[Entry] = field(default_factory=list)
    hook: Any = None
    listed: Any = None


def _merge(entry: Entry, before: Tensor, stream: Tensor) -> Tensor:
    edit: Edit = entry.item
    keep = _kept(entry, before, stream)
    if keep is not None and not bool(keep.any()):
        return before
    after = edit.function(before)
    if not isinstance(after, Tensor) or after.shape != before.shape:
        shape = tuple(after.shape) if isinstance(after, Tensor) else type(after).__name__
        raise ShapeMismatch(f"{edit.label} at {edit.site}[{edit.layer}] turned {tuple(before.shape)} into {shape}")
    after = after.to(before.dtype)
    return after if keep is None else torch.where(keep.reshape(*keep.shape, *[1] * (before.ndim - 2)), after, before)


def _kept(entry: Entry, value: Tensor, stream: Tensor) -> Tensor | None:
    """Which tokens the edit touches, `batch x position`; `None` for all. `stream` is the value before any edit here."""
    edit: Edit = entry.item
    keep = None
    if edit.positions is not None:
        rows = edit.positions
        if rows.ndim != 2 or len(rows) != len(value) or rows.shape[1] == 0 or int(rows.max()) >= value.shape[1] or int(rows.min()) < 0:
            raise ShapeMismatch(
                f"{edit.label}: positions of shape {tuple(rows.shape)} for a batch of {tuple(value.shape[:2])} tokens; give "
                "one row of columns per row of the batch"
            )
        keep = torch.zeros(value.shape[:2], dtype=torch.bool, device=value.device).scatter_(1, rows.to(value.device), True)
    elif edit.scope is not None and entry.watch is not None:
        keep = entry.watch.mask(edit.scope)
        if keep is not None:
            keep = keep.to(value.device)
            spared = entry.spare(keep, stream)
            entry.sinks += int(keep.sum() - spared.sum())
            keep = spared
    entry.chosen = keep
    entry.touched += 1 if keep is None else int(keep.sum())
    if entry.holder is not None:
        rows = entry.holder.open
        if rows is None or len(rows) != len(value):
            raise BadInput(f"{edit.label}: its gate has read no prompt of {len(value)} rows yet; enter `edited` before the prompt")
        rows = rows.to(value.device)[:, None].expand(value.shape[:2])
        keep = rows if keep is None else keep & rows
    return keep


def _decide(entry: Entry, value: Tensor) -> None:
    """Score a prompt's rows and keep which of them a gate lets through."""
    gate: Gate = entry.item
    prompt = None if entry.watch is None else entry.watch.prompt_rows()
    if prompt is None:
        return
    prompt = prompt.to(value.device)
    scores = gate.score(value).float()
    if scores.shape != value.shape[:2]:
        raise ShapeMismatch(f"a gate's score turned {tuple(value.shape)} into {tuple(scores.shape)}; one number per token is needed")
    if gate.pool == "last":
        last = torch.where(prompt, torch.arange(prompt.shape[1], device=prompt.device), -1).amax(1, keepdim=True)
        pooled = scores.gather(1, last)[:, 0]
    else:
        prompt = entry.spare(prompt, value)
        pooled = (scores * prompt).sum(1) / prompt.sum(1).clamp(min=1)
    entry.open = pooled > gate.threshold if gate.above else pooled < gate.threshold


def fire(module: nn.Module, point: Point, value: Tensor) -> Tensor | None:
    """Run the gates, edits and readings of a hook point.

    Args:
        module: The hook point's module, whose conversion (if it has one) gives the activations their usual axes.
        point: What acts there.
        value: The activations, as the module gives them.

    Returns:
        The changed activations, as the module gives them, or `None` where nothing changed.
    """
    # of other threads nothing acts here
    carried, gates, edits, reads = ([e for e in k if e.owner.here()] for k in (point.carried, point.gates, point.edits, point.reads))
    if not (carried or gates or edits or reads):
        return None
    conversion = getattr(module, "hook_conversion", None)
    seen = conversion.convert(value) if conversion is not None else value
    start = seen
    for entry in carried:
        if entry.delta is not None:
            seen, entry.delta = seen + entry.delta, None
    stream = seen
    for entry in gates:
        entry.fired += 1
        _decide(entry, stream)
    for entry in edits:
        entry.fired += 1
        before = seen
        seen = _merge(entry, seen, stream)
        if entry.carry:
            entry.delta = None if seen is before else seen - before
    for entry in reads:
        entry.fired += 1
        entry.item.function(seen)
    if seen is start:
        return None
    return conversion.revert(seen) if conversion is not None else seen
