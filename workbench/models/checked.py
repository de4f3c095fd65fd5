"""The comparison of TransformerLens's pass with Hugging Face's: streams, sites, edits, padding, and cached decoding.

It runs once, when a model is loaded, on three short rows. Random weights hide no fault here, because both run the same ones.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch

from ..core.errors import HookNotFired, UnknownSite
from ..core.types import Tensor
from .decode import fresh_cache, next_logits
from .edits import Edit, Read
from .forward import run
from .hooks import edited, hook_point
from .known import KNOWN
from .reference import TAIL, Reference
from .tokens import pad
from .verdict import Verdict

SHARE = {torch.float32: 1e-3, torch.float64: 1e-3}  # of the largest value; .01 in half precision
NATS = 30  # what a share of 1 of the largest value may mean in log-probabilities
MOST, MOST_NATS = 0.3, 3.0  # another computation is above, in any precision
READ = ("resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out", "z", "pattern")
EDITED = ("resid_pre", "resid_mid", "attn_out", "mlp_out", "resid_post")


def allowed(model: Any) -> float:
    """Return the largest difference that counts as rounding, as a share of the largest value.

    It is twice what noise of the dtype's precision does to the model; .001 in float32 and .01 in half precision at least, .3 at
    most.
    """
    return min(MOST, max(SHARE.get(next(model.parameters()).dtype, 0.01), 2 * _floor(model, "floor")))


def allowed_nats(model: Any) -> float:
    """Return the largest difference of log-probabilities that counts as rounding, in nats (`allowed`)."""
    return min(MOST_NATS, max(NATS * SHARE.get(next(model.parameters()).dtype, 0.01), 2 * _floor(model, "floor_nats")))


def _floor(model: Any, name: str) -> float:
    known = KNOWN.get(model)
    return float(getattr(None if known is None else known.reference, name, 0.0))


def apart(got: Tensor, want: Tensor) -> float:
    """Return the largest difference as a share of the largest value; infinity where shapes differ or a number is none."""
    if got.shape != want.shape or not bool(got.isfinite().all()):
        return float("inf")
    return float((got.float() - want.float()).abs().max() / want.float().abs().max().clamp(min=1e-12))


@torch.no_grad()
def check(model: Any, reference: Reference) -> Verdict:
    """Compare TransformerLens's pass over a model with Hugging Face's.

    Args:
        model: A Bridge that was just booted, without edits.
        reference: What the untouched model gave.

    Returns:
        What agrees, and what must be refused.
    """
    limit, nats = allowed(model), allowed_nats(model)
    try:
        sums = _Sums(model, reference)
        sums.run()
    except Exception as error:
        return Verdict(bridge=f"TransformerLens's pass fails ({type(error).__name__}: {(str(error).splitlines() or [''])[0][:160]})")
    found = {"logits": sums.logits, "stream": max(sums.stream)}
    if not (found["stream"] <= limit and found["logits"] <= nats):
        layer = next((k for k, a in enumerate(sums.stream) if not a <= limit), len(sums.stream) - 1)
        where = "the embedding" if layer == 0 else f"block {layer - 1}"
        return Verdict(
            bridge=f"TransformerLens's pass differs from Hugging Face's: log-probabilities by {found['logits']:.1e} nats, the stream "
            f"after {where} by {sums.stream[layer]:.1e} of its largest value",
            apart=found,
        )
    decoding, padded, why, more = _decoding(model, reference, nats)
    return Verdict(sites=sums.bad(limit), decoding=decoding, padded=padded, why=why, apart=found | sums.worst | more)


@dataclass
class _Sums:
    """One pass over the rows, with copies of the first row under one edit each."""

    model: Any
    reference: Reference
    logits: float = 0.0
    stream: list[float] = field(default_factory=list)
    why: dict[str, str] = field(default_factory=dict)
    worst: dict[str, float] = field(default_factory=dict)

    def run(self) -> None:
        model, want = self.model, self.reference
        count = int(model.cfg.n_layers)
        first = len(want.rows)
        copies = [(site, layer) for layer in want.left for site in EDITED if self._there(site, layer)]
        batch = pad(model, [*want.rows, *[want.rows[0]] * len(copies)])
        self.stream, self._now, self._errors = [0.0] * (count + 1), {}, {}
        with ExitStack() as stack:
            for k, (site, layer) in enumerate(copies):
                self._enter(stack, site, Edit(site=site, layer=layer, function=self._adder(first + k), label="comparison"))
            for layer in range(count):
                for site in READ:
                    if self._there(site, layer):
                        self._enter(stack, site, Read(site=site, layer=layer, function=self._taker(site, layer), label="comparison"))
            out = run(model, batch)
        rows = [want.log_softmax(out[i, len(row) - min(TAIL, len(row)) : len(row)]) for i, row in enumerate(want.rows)]
        self.logits = max(_nats(got, logp) for got, logp in zip(rows, want.logp, strict=True))
        length = len(want.rows[0])
        pushed = {key: want.log_softmax(out[first + k, length - min(TAIL, length) : length]) for k, key in enumerate(copies)}
        self._compare_edits(pushed, rows[0])

    def _there(self, site: str, layer: int) -> bool:
        try:
            hook_point(self.model, site, layer)
        except UnknownSite:
            return False
        return True

    def _enter(self, stack: ExitStack, site: str, item: Edit | Read) -> None:
        block = edited(self.model, item, times=1)
        block.__enter__()

        def leave() -> None:
            try:
                block.__exit__(None, None, None)
            except HookNotFired:
                self.why.setdefault(site, "TransformerLens's pass never reaches it in this architecture")

        stack.callback(leave)

    def _adder(self, row: int) -> Any:
        def add(value: Tensor) -> Tensor:
            out = value.clone()
            out[row] += self.reference.vector.to(out)
            return out

        return add

    def _taker(self, site: str, layer: int) -> Any:
        """Compare a reading with the reference, or keep it until the block's sums can be."""

        def take(value: Tensor) -> None:
            want = self.reference
            rows = [value[i, : len(row)].float().cpu() for i, row in enumerate(want.rows)] if value.ndim == 3 else []
            if site == "resid_pre":
                self.stream[layer] = max(self.stream[layer], *(apart(r, s[layer]) for r, s in zip(rows, want.stream, strict=True)))
                self._now = {}
            elif site == "resid_post":
                self.stream[layer + 1] = max(
                    self.stream[layer + 1], *(apart(r, s[layer + 1]) for r, s in zip(rows, want.stream, strict=True))
                )
            elif site == "pattern" and layer in want.patterns:
                length = len(want.rows[0])
                self._note("pattern", apart(value[0, :, :length, :length].float().cpu(), want.patterns[layer]))
            if rows:
                self._now[site] = rows
            if site == "resid_post":
                self._compare_sums()

        return take

    def _compare_sums(self) -> None:
        """Check that `attn_out` and `mlp_out` are what the block adds to the stream."""
        now = self._now
        for k in range(len(self.reference.rows)):
            get = {site: rows[k] for site, rows in now.items()}
            if {"resid_pre", "resid_mid", "attn_out"} <= get.keys():
                self._note("attn_out", apart(get["resid_pre"] + get["attn_out"], get["resid_mid"]))
            if {"resid_mid", "resid_post", "mlp_out"} <= get.keys():
                self._note("mlp_out", apart(get["resid_mid"] + get["mlp_out"], get["resid_post"]))
            if "resid_mid" not in get and {"resid_pre", "resid_post", "attn_out", "mlp_out"} <= get.keys():
                total = apart(get["resid_pre"] + get["attn_out"] + get["mlp_out"], get["resid_post"])
                self._note("attn_out", total)
                self._note("mlp_out", total)

    def _compare_edits(self, pushed: dict[tuple[str, int], Tensor], plain: Tensor) -> None:
        """Check that a vector added at each site acts as one added to Hugging Face's blocks."""
        want = self.reference
        for (site, layer), got in pushed.items():
            if site == "resid_pre":
                other = want.entered[layer]
            elif site in ("resid_post", "mlp_out"):
                other = want.left[layer]
            else:  # `attn_out` and `resid_mid` act alike; in a parallel block `attn_out` acts as the block's output
                name = "resid_mid" if site == "attn_out" else "attn_out"
                # a twin that is not what its name says is no reference
                twin = pushed.get((name, layer)) if name not in self.why and self.worst.get(name, 0.0) <= allowed(self.model) else None
                other = twin if twin is not None else want.left[layer] if site == "attn_out" else None
            if other is not None and site not in self.why:
                # as a share, so that one limit serves all
                self._note(f"{site}, edited", _nats(got, other) * allowed(self.model) / allowed_nats(self.model))

    def _note(self, what: str, difference: float) -> None:
        self.worst[what] = max(self.worst.get(what, 0.0), difference)

    def bad(self, limit: float) -> dict[str, str]:
        """Sites that are not what their names say, and why."""
        out = dict(self.why)
        for what, difference in self.worst.items():
            site = what.removesuffix(", edited")
            if not difference <= limit and site not in out:
                said = {"pattern": "it differs from Hugging Face's attention"}.get(site, "it is not what the block adds to the stream")
                if what.endswith("edited"):
                    said = "a vector added there acts otherwise than in Hugging Face's model"
                out[site] = f"{said} (by {difference:.1e} of the largest value)"
        return out


def _nats(got: Tensor, want: Tensor) -> float:
    return float("inf") if got.shape != want.shape or not bool(got.isfinite().all()) else float((got - want).abs().max())


def _decoding(model: Any, reference: Reference, nats: float) -> tuple[str, bool, str, dict[str, float]]:
    """Find the fastest way to continue rows that gives Hugging Face's numbers: how, in which batches, why, and by how much it differs."""
    found: dict[str, float] = {}
    rows = [row for row in reference.rows if len(row) > TAIL]
    want = [logp for row, logp in zip(reference.rows, reference.logp, strict=True) if len(row) > TAIL]
    for decoding in ("cached", "whole"):
        for padded in (True, False):
            name = f"{decoding}{' with padding' if padded else ''}"
            try:
                found[name] = _continued(model, reference, rows, want, cached=decoding == "cached", padded=padded)
            except Exception as error:
                found[name] = float("inf")
                found.setdefault(f"{type(error).__name__}", float("inf"))
            if found[name] <= nats:
                worse = [f"{k} by {v:.1e} nats" for k, v in found.items() if not v <= nats]
                return (
                    decoding,
                    padded,
                    f"log-probabilities differ from a whole pass (continued {', '.join(worse)})" if worse else "",
                    found,
                )
    return "", False, "no way to continue a text gives Hugging Face's numbers", found


def _continued(model: Any, reference: Reference, rows: list[tuple[int, ...]], want: list[Tensor], *, cached: bool, padded: bool) -> float:
    """Read rows up to the last tokens, then token by token; the largest difference from whole passes in nats."""
    worst = 0.0
    for chunk in [range(len(rows))] if padded else [[i] for i in range(len(rows))]:
        batch = pad(model, [rows[i][: 1 - TAIL] for i in chunk], "left")
        cache, ids, mask = fresh_cache(model) if cached else None, batch.ids, batch.mask
        for step in range(TAIL):
            logits = next_logits(model, ids if cache is None or step == 0 else ids[:, -1:], mask, cache)
            got = reference.log_softmax(logits)
            worst = max(worst, *(_nats(got[k], want[i][step]) for k, i in enumerate(chunk)))
            if step < TAIL - 1:
                ids = torch.cat([ids, torch.tensor([[rows[i][1 - TAIL + step]] for i in chunk], device=ids.device)], 1)
                mask = torch.cat([mask, torch.ones_like(mask[:, :1])], 1)
    return worst
