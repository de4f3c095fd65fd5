"""A batch that is run again and again under different edits: what no edit can change is computed once.

Under causal attention an edit changes nothing before the first token that it touches. Keys and values of the tokens before it are kept
from a plain pass, and each pass under edits computes the rest of the rows. Most pushes act on a prompt's last token: such a pass is one
token long. Nor does an edit change anything in the blocks below it: whole passes and resumed ones take from an earlier one what these gave.

The first time on a model, the logits of each kind of pass are compared with those of one that computes everything.
"""

from __future__ import annotations

import itertools
import threading
import weakref
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch

from ..core.types import Float, Int, Tensor
from .digest import settled, weights_state
from .edits import Edit, Read
from .forward import run
from .hooks import active_edits, check_layer, edited, foreign_hooks
from .narrow import narrowed
from .prefix import croppable, cropped, places, read_prefix, size_of, together, trim
from .skipped import remembered, skipped
from .tokens import Batch, pad
from .verdict import require, verdict
from .watch import Watch, laid_out

BYTES = 2**29  # keys and values that are kept at one time, of all batches together
CLOSE = 1e-3  # of the largest logit: rounding stays far below
EditsLike = Iterable[Edit] | Callable[[Batch], Iterable[Edit]]
_WHY: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()
# why blocks of a model cannot be skipped, "" where they can: in passes that are resumed at a column, and in others
_BLOCKS: weakref.WeakKeyDictionary[Any, dict[bool, str]] = weakref.WeakKeyDictionary()
_KEEPING: weakref.WeakSet[Repeated] = weakref.WeakSet()
TURN = itertools.count(1)  # when rows were asked: what was used least recently is freed first
_MINE = threading.local()  # the rows of this thread, by content


def repeated(
    model: Any, rows: Sequence[Sequence[int]], *, prompt: Sequence[int] | None = None, instruction: Sequence[int] | None = None
) -> Repeated:
    """Return rows that are run again and again; the same object for the same rows, as long as somebody of this thread holds it.

    Args:
        model, rows, prompt, instruction: As for `Repeated`.

    Returns:
        The rows, with what was kept of them.
    """
    known = _MINE.__dict__.setdefault("known", weakref.WeakValueDictionary())
    ends = [None if k is None else tuple(k) for k in (prompt, instruction)]
    key = id(model), tuple(map(tuple, rows)), *ends
    out = known.get(key)
    if out is None:
        out = known[key] = Repeated(model, rows, prompt=prompt, instruction=instruction)
    out.since = next(TURN)
    return out


class Repeated:
    """Rows of ids, ready to be run again and again.

    Args:
        model: What `load_model` returns.
        rows: Rows of ids, none of them empty.
        prompt, instruction: As for `pad`.

    Attributes:
        whole: The rows padded on the right, for whole passes.
        share: Whether tokens before an edit may be taken from an earlier pass.
        since: When they were made, last given to somebody, or asked before the last time: to make room, what was not asked after that is
            freed.
        asked: When they were last asked.
    """

    def __init__(
        self, model: Any, rows: Sequence[Sequence[int]], *, prompt: Sequence[int] | None = None, instruction: Sequence[int] | None = None
    ) -> None:
        self.model, self.share = model, True
        self.whole = pad(model, rows, prompt=prompt, instruction=instruction)
        self._left = pad(model, rows, "left", prompt=prompt or [len(r) for r in rows], instruction=instruction)
        self._shortest = min(map(len, rows))
        self._firsts: dict[Any, int] = {}
        self._cache: Any = None
        self._below: dict[bool, dict[Any, Any]] = {}
        self._state: tuple[int, ...] = ()
        self._plain = True  # nothing acts on the model but what it is asked under
        self._thread = threading.get_ident()
        self.since = self.asked = next(TURN)

    @torch.no_grad()
    def ask(
        self, at: Int[Tensor, "row k"], edits: EditsLike = (), *, read: tuple[str, int] | None = None
    ) -> tuple[Float[Tensor, "row k vocabulary"], Float[Tensor, "row k d_model"] | None]:
        """Run the rows under edits.

        Args:
            at: Tokens after which logits are wanted, by their number in the row.
            edits: What acts, beside the edits that are active already; a function of the batch where columns must be named.
            read: A site and a layer whose activations at the same tokens are wanted too, as the edits leave them.

        Returns:
            Logits in float32, and the activations; `None` without `read`.
        """
        require(self.model)
        self.since, self.asked = max(self.since, self.asked), next(TURN)
        with settled():  # the weights are looked at once per pass
            return self._ask(at, edits, read)

    def _ask(self, at: Tensor, edits: EditsLike, read: tuple[str, int] | None) -> tuple[Tensor, Tensor | None]:
        self._plain = not active_edits(self.model) and not foreign_hooks(self.model) and not self.model.training
        at = at.to(self._left.ids.device)
        acting = list(edits(self._left) if callable(edits) else edits)
        columns = self._left.starts[:, None] + at
        cut = self._cut(acting, int(columns.min()))
        if cut:
            acting = [e if e.positions is None else replace(e, positions=e.positions.to(at.device) - cut) for e in acting]
            lowest = self._lowest(acting, read, resumed=True)
            return self._run(acting, columns - cut, read, lambda where: self._from_block(lowest, cut, lambda: self._resume(cut, where)))
        acting = list(edits(self.whole) if callable(edits) else edits)
        lowest, columns = self._lowest(acting, read, resumed=False), self.whole.starts[:, None] + at
        return self._run(acting, columns, read, lambda where: self._from_block(lowest, 0, lambda: run(self.model, self.whole, at=where)))

    def forget(self) -> None:
        """Free what is kept; it is made again when it is needed."""
        self._cache = None
        self._below = {}
        _KEEPING.discard(self)

    @property
    def kept(self) -> int:
        """Bytes that are kept."""
        return 0 if self._cache is None else size_of(self._cache)

    def _run(
        self, acting: list[Edit], where: Tensor, read: tuple[str, int] | None, ask: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor, Tensor | None]:
        seen: list[Tensor] = []
        rows = torch.arange(len(where))[:, None]

        def keep(value: Tensor) -> None:
            seen.append(value[rows.to(value.device), where.to(value.device)])

        reads = [] if read is None else [Read(site=read[0], layer=read[1], function=keep)]
        with edited(self.model, [*acting, *reads]):
            logits = ask(where).float()
        return logits, seen[0] if seen else None

    # ------------------------------------------------------------------ blocks below the edit

    def _lowest(self, acting: Sequence[Edit], read: tuple[str, int] | None, *, resumed: bool) -> int:
        """The first block that edits may change, or that is read; 0 where every block is to be computed."""
        why = _BLOCKS.get(self.model, {}).get(resumed)
        if not self.share or not acting or why or not hasattr(self.model, "original_model"):
            return 0
        layers = [check_layer(self.model, e.layer) for e in acting] + [check_layer(self.model, e.gate.layer) for e in acting if e.gate]
        layers += [] if read is None else [check_layer(self.model, read[1])]
        return min(layers) if self._plain else 0

    def _from_block(self, layer: int, cut: int, go: Callable[[], Tensor]) -> Tensor:
        """Run the rows from a column on, the blocks below a layer from what they gave in an earlier pass."""
        if not layer:
            return go()
        resumed, state = cut > 0, (layer, cut, *weights_state(self.model))
        kept = self._below.get(resumed)
        if kept and kept["state"] == state:
            with skipped(self.model, layer, kept):
                return go()
        self._below.pop(resumed, None)
        below: dict[Any, Any] = {}
        with remembered(self.model, layer, below):
            logits = go()
        if sorted(below) == list(range(layer)) and bool(logits.isfinite().all()):
            below["state"] = state
            known = _BLOCKS.setdefault(self.model, {})
            if resumed not in known:
                with skipped(self.model, layer, below):
                    again = go()
                apart = float((again - logits).abs().max() / logits.abs().max().clamp(min=1e-12))
                known[resumed] = "" if apart <= CLOSE else f"a pass from block {layer} on was {apart:.1e} away from a whole one"
            if not known[resumed]:
                self._below[resumed] = below
        return logits

    # ------------------------------------------------------------------ what is kept

    def _cut(self, acting: Sequence[Edit], first: int) -> int:
        """The column from which on a pass must be computed; 0 for a whole pass."""
        if not self.share or self._shortest < 2 or _why_not(self.model):
            return 0
        width = self._left.ids.shape[1]
        cut = min([first, width - 1, *(self._first(e) for e in acting)])
        kept = self._cache is not None and self._state == weights_state(self.model)
        if cut * 2 < width and acting and not kept:  # most of it would be computed anew: no reason to keep anything
            return 0
        return cut if cut and self._keep() else 0

    def _first(self, edit: Edit) -> int:
        """The first column that an edit may change."""
        if edit.gate is not None:  # one that looks at the prompt's last token is decided in a pass that holds it
            layout = self._left.layout
            if edit.gate.pool != "last" or layout is None:
                return 0
            ends = self._left.starts + layout.prompt.to(self._left.starts.device)
            return min(int(ends.min()) - 1, self._first(replace(edit, gate=None)))
        if edit.positions is not None:
            return int(edit.positions.min())
        if edit.scope is None or edit.scope.whole:
            return 0
        if edit.scope not in self._firsts:
            watch = Watch(self.model)
            watch.owner.enter()
            try:
                with laid_out(self._left.layout):
                    watch._enter(None, (self._left.ids,), {"attention_mask": self._left.mask})
                mask = watch.mask(edit.scope)
            finally:
                watch.owner.leave()
            touched = None if mask is None else mask.any(0).nonzero()
            self._firsts[edit.scope] = 0 if touched is None or not len(touched) else int(touched[0])
        return self._firsts[edit.scope]

    def _keep(self) -> bool:
        """Keep the keys and values of all columns but the last; return whether they are kept."""
        if not self._plain:
            return False
        state = weights_state(self.model)
        if self._cache is not None and self._state == state:
            return True
        self.forget()
        if self.model not in _WHY:
            _WHY[self.model] = _tried(self)
        width = self._left.ids.shape[1]
        if _WHY[self.model]:
            return False
        size = _PER_TOKEN[self.model] * len(self._left.ids) * (width - 1)  # as much per token as in the trial
        if not self._room(size):
            return False
        cache = read_prefix(self.model, self._left, width - 1)
        if not croppable(cache, width - 1):
            self.share = False
            return False
        together(cache)
        trim()
        self._cache, self._state = cache, state
        _KEEPING.add(self)
        return True

    def _room(self, size: int) -> bool:
        """Whether so many bytes may be kept; others that were not asked since this was given to somebody are freed for it."""
        over = sum(r.kept for r in _KEEPING) + size - BYTES
        idle = sorted((r for r in _KEEPING if r._thread == self._thread and r.asked < self.since), key=lambda r: r.asked)
        if over > sum(r.kept for r in idle):
            return False
        for other in idle:
            if over > 0:
                over -= other.kept
                other.forget()
        return True

    def _resume(self, cut: int, where: Tensor) -> Tensor:
        batch = self._left
        layout = replace(batch.layout, head=batch.ids) if batch.layout is not None else None
        with laid_out(layout), narrowed(self.model, where) as narrow:
            out = self.model(
                batch.ids[:, cut:],
                return_type="logits",
                attention_mask=batch.mask,
                past_key_values=cropped(self._cache, cut),
                use_cache=True,
                position_ids=places(batch)[:, cut:],
            )
        return narrow(out)


_PER_TOKEN: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()


def _why_not(model: Any) -> str:
    """Why no tokens of a model can be taken from an earlier pass; "" where they can, or none was tried yet."""
    found = verdict(model)
    if not hasattr(model, "original_model") or found is None:
        return "it keeps no keys and values"
    if found.decoding != "cached" or not found.padded:
        return found.why or "it cannot be continued with keys and values kept"
    return _WHY.get(model, "")


def _tried(repeated: Repeated) -> str:
    """Compare a resumed pass with a whole one on two rows; "" where they agree."""
    model, batch = repeated.model, repeated._left
    rows = [ids[mask.bool()].tolist() for ids, mask in zip(batch.ids[:2], batch.mask[:2], strict=True)]
    trial = Repeated(model, rows)
    trial.share = False
    width = trial._left.ids.shape[1]
    last = torch.tensor([[len(r) - 1] for r in rows])
    try:
        want, _ = trial.ask(last)
        trial._cache = read_prefix(model, trial._left, width - 1)
        _PER_TOKEN[model] = max(1, trial.kept // (len(rows) * (width - 1)))
        if not croppable(trial._cache, width - 1):
            return (
                "" if all(hasattr(layer, "keys") for layer in trial._cache.layers) else "its cache holds other things than keys and values"
            )
        apart = 0.0
        for cut in {width - 1, max(1, width // 2)}:
            got = trial._resume(cut, torch.full((len(rows), 1), width - 1 - cut, device=batch.ids.device)).float()
            apart = max(apart, float((got - want).abs().max() / want.abs().max().clamp(min=1e-12)))
    except Exception as error:
        return f"a pass cannot be resumed ({type(error).__name__}: {(str(error).splitlines() or [''])[0][:120]})"
    return "" if apart <= CLOSE else f"a resumed pass gave logits {apart:.1e} of the largest away from a whole one"
