"""The work of patching: prompts of one length are run once, and the forward pass is then resumed from every patched place."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..core.errors import BadInput, NotFinite
from ..models import Edit, Read, edited, info
from ..models.forward import run
from ..models.replay import Replay, by_length, replayable, why_not
from ..models.tokens import Batch, pad
from .alignment import Aligned
from .metrics import Metric

Work = Sequence[tuple[int, int, str]]  # row of the chunk, head (-1: all), part


@dataclass(kw_only=True)
class Chunk:
    """Receivers of one length with what their donors have at one site.

    Attributes:
        model, site, measure: As asked.
        items: Which items of the whole set the rows are.
        aligned: How their stems go together.
        flipped: The receivers are the clean ones ("noise").
        batch: The receivers.
        donor: Per layer, the donors' values moved to the receivers' columns, `row x position x …`.
        clean, corrupted: The metric of both runs, `row`.
        clean_logits: `row x vocabulary`.
        replay: Resumes a forward pass from a block; `None` for whole passes.
        gradients: Per layer, the receivers' values and the metric's gradient there; computed when first asked for.
    """

    model: Any
    site: str
    measure: Metric
    items: list[int]
    aligned: list[Aligned]
    flipped: bool
    batch: Batch
    donor: dict[int, Tensor]
    clean: np.ndarray
    corrupted: np.ndarray
    clean_logits: Tensor
    replay: Replay | None
    gradients: dict[int, tuple[Tensor, Tensor]] | None = None

    @classmethod
    @torch.no_grad()
    def read(
        cls, model: Any, aligned: list[Aligned], items: list[int], site: str, layers: list[int], flipped: bool, measure: Metric, engine: str
    ) -> Chunk:
        """Run receivers and donors once each, and keep what the donors have at the site."""
        receivers = [a.clean if flipped else a.corrupted for a in aligned]
        donors = [a.corrupted if flipped else a.clean for a in aligned]
        batch = pad(model, receivers)
        replay = None if engine == "full" else replayable(model, batch)
        if engine == "replay" and replay is None:
            raise BadInput(
                f"{info(model).name} cannot go on from a block: {why_not(model) or 'hooks of others hang on it'}. Use engine='auto'"
            )
        rows = torch.tensor(items)
        mine, read_mine = _run(model, batch, measure)
        moved: dict[int, Tensor] = {}
        theirs = torch.empty_like(mine)
        read_theirs = None if read_mine is None else torch.empty_like(read_mine)
        width = batch.ids.shape[1]
        for members in by_length(donors).values():
            group = pad(model, [donors[i] for i in members])
            kept: dict[int, Tensor] = {}
            with edited(model, [_keeper(site, n, kept) for n in layers], times=1):
                logits, seen = _run(model, group, measure)
            theirs[members] = logits
            if read_theirs is not None and seen is not None:
                read_theirs[members] = seen
            for n, value in kept.items():
                if n not in moved:
                    shape = (len(items), *value.shape[1:]) if site == "pattern" else (len(items), width, *value.shape[2:])
                    moved[n] = torch.zeros(shape, dtype=value.dtype, device=value.device)
                for k, i in enumerate(members):
                    if site == "pattern":
                        moved[n][i] = value[k]
                        continue
                    pairs = [(c, a) if flipped else (a, c) for a, c in aligned[i].pairs]
                    source, target = zip(*pairs, strict=True)
                    moved[n][i, list(target)] = value[k, list(source)]
        if not bool(mine.isfinite().all() and theirs.isfinite().all()):
            raise NotFinite(
                "a run that nothing was patched into gives NaN or infinity; load the model with dtype='float32', or look at the edits that "
                "are active"
            )
        clean_logits = mine if flipped else theirs
        own = measure.of(mine, rows, clean_logits, read_mine).double().cpu().numpy()
        other = measure.of(theirs, rows, clean_logits, read_theirs).double().cpu().numpy()
        return cls(
            model=model,
            site=site,
            measure=measure,
            items=items,
            aligned=aligned,
            flipped=flipped,
            batch=batch,
            donor=moved,
            clean=own if flipped else other,
            corrupted=other if flipped else own,
            clean_logits=clean_logits,
            replay=replay,
        )

    def _mask(self, row: int, part: str) -> Tensor:
        """The receiver's columns of a part."""
        laid = self.aligned[row]
        mask = torch.zeros(self.batch.ids.shape[1], dtype=torch.bool)
        mask[[laid.pairs[k][0 if self.flipped else 1] for k in laid.groups[part]]] = True
        return mask

    @torch.no_grad()
    def patch(self, layer: int, work: Work, line: Tensor | None, rows: int) -> np.ndarray:
        """Return the metric of each patched run."""
        out = []
        for start in range(0, len(work), rows):
            part = work[start : start + rows]
            which = torch.tensor([r for r, _, _ in part], device=self.batch.ids.device)
            edit = Edit(site=self.site, layer=layer, function=self._exchange(layer, part, which, line), label="patch")
            logits, seen = self._resume(layer, which, edit)
            if not bool(logits.isfinite().all()):
                raise NotFinite(f"a patched run at {self.site}[{layer}] gives NaN or infinity; load the model with dtype='float32'")
            items = torch.tensor([self.items[r] for r, _, _ in part])
            out.append(self.measure.of(logits, items, self.clean_logits[which], seen).double().cpu().numpy())
        return np.concatenate(out)

    def _exchange(self, layer: int, work: Work, which: Tensor, line: Tensor | None) -> Any:
        """The function that puts the donors' values into the rows of some work."""
        mask = torch.stack([self._mask(r, p) for r, _, p in work])
        donor, heads = self.donor[layer], torch.tensor([h for _, h, _ in work])

        def change(x: Tensor) -> Tensor:
            keep = mask.to(x.device)
            new = donor[which].to(x)
            if self.site == "pattern":
                keep = keep[:, None, :, None] & _own(heads, x.shape[1])[:, :, None, None].to(x.device)
            else:
                keep = keep.reshape(*keep.shape, *[1] * (x.ndim - 2))
                if self.site == "z":
                    keep = keep & _own(heads, x.shape[2])[:, None, :, None].to(x.device)
            if line is not None:
                u = line.to(x.device)
                new = x + (((new - x).float() @ u)[..., None] * u).to(x.dtype)
            return torch.where(keep, new, x)

        return change

    def _resume(self, layer: int, which: Tensor, edit: Edit) -> tuple[Tensor, Tensor | None]:
        """Run some receivers under an edit, from its block on if that is possible; return logits and what the metric reads."""
        kept: list[Tensor] = []
        with ExitStack() as stack:
            stack.enter_context(edited(self.model, [edit]))
            below = self.measure.reads is not None and self.measure.reads[1] < layer
            if self.measure.reads is not None and not (below and self.replay):
                site, where = self.measure.reads
                stack.enter_context(edited(self.model, Read(site=site, layer=where, function=lambda x: kept.append(x[:, -1].clone()))))
            if self.replay is not None:
                logits = self.replay.go_on(self.replay.entries[layer][which], layer)
            else:
                rows = Batch(ids=self.batch.ids[which], mask=self.batch.mask[which], starts=self.batch.starts[which])
                logits = run(self.model, rows)[:, -1].float()
        if self.measure.reads is not None and not kept:  # read below the patch, where nothing changed
            return logits, _run(self.model, self.batch, self.measure)[1][which]  # pyright: ignore[reportOptionalSubscript]
        return logits, kept[0] if kept else None

    def attribute(self, layer: int, work: Work, line: Tensor | None) -> np.ndarray:
        """Return the first-order guess of the metric of each patched run: start + gradient . (donor - receiver)."""
        if self.gradients is None:
            self.gradients = self._differentiate(sorted(self.donor))
        value, gradient = self.gradients[layer]
        step = self.donor[layer].float() - value
        if line is not None:
            step = (step @ line)[..., None] * line
        per = step * gradient
        start = self.clean if self.flipped else self.corrupted
        if self.site == "pattern":
            whole = per.sum(-1).transpose(1, 2)  # row x query x head
        elif self.site == "z":
            whole = per.sum(-1)
        else:
            whole = per.sum(-1)[..., None]
        out = []
        for r, h, p in work:
            here = whole[r][self._mask(r, p)]
            out.append(start[r] + float(here.sum() if h < 0 else here[:, h].sum()))
        return np.array(out)

    def _differentiate(self, layers: list[int]) -> dict[int, tuple[Tensor, Tensor]]:
        """Per layer, values of the receivers and gradients of the metric with respect to them."""
        # a change of the stream between attention and MLP has the same gradient as a change of what attention writes
        site = "attn_out" if self.site == "resid_mid" else self.site
        kept: dict[int, Tensor] = {}
        values: dict[int, Tensor] = {}
        seen: list[Tensor] = []

        def keep(n: int) -> Edit:
            def leaf(x: Tensor) -> Tensor:
                kept[n] = x.clone()  # the pass continues with this copy, so that its gradient is that of all that follows
                kept[n].retain_grad()
                return kept[n]

            return Edit(site=site, layer=n, function=leaf, label="gradient")

        acting: list[Edit | Read] = [
            Edit(site="resid_pre", layer=0, function=lambda x: x.detach().clone().requires_grad_(True), label="leaf")
        ]
        acting += [keep(n) for n in layers]
        if site != self.site:
            acting += [Read(site=self.site, layer=n, function=lambda x, n=n: values.__setitem__(n, x.detach().float())) for n in layers]
        if self.measure.reads is not None:
            acting.append(Read(site=self.measure.reads[0], layer=self.measure.reads[1], function=lambda x: seen.append(x[:, -1])))
        with torch.enable_grad(), edited(self.model, acting):
            logits = run(self.model, self.batch)[:, -1]
            score = self.measure.of(logits, torch.tensor(self.items), self.clean_logits, seen[0] if seen else None)
            score.sum().backward()
        out = {}
        for n in layers:
            gradient = kept[n].grad
            if gradient is None:
                raise BadInput(f"no gradient reaches {self.site}[{n}]: the metric is read below it")
            out[n] = (values.get(n, kept[n].detach().float()), gradient.float())
        return out


def _keeper(site: str, layer: int, kept: dict[int, Tensor]) -> Read:
    return Read(site=site, layer=layer, function=lambda x: kept.__setitem__(layer, x.clone()))


def _own(heads: Tensor, count: int) -> Tensor:
    """Which heads each row patches, `row x head`; -1 is all."""
    return (heads[:, None] < 0) | (heads[:, None] == torch.arange(count))


def _run(model: Any, batch: Batch, measure: Metric) -> tuple[Tensor, Tensor | None]:
    """Run unpadded rows of one length; return logits and what the metric reads, both at the last token."""
    kept: list[Tensor] = []
    with ExitStack() as stack:
        if measure.reads is not None:
            site, layer = measure.reads
            stack.enter_context(edited(model, Read(site=site, layer=layer, function=lambda x: kept.append(x[:, -1].clone()))))
        logits = run(model, batch)[:, -1].float()
    return logits, kept[0] if kept else None
