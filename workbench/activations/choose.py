"""How a model is read at this moment: through the trunk where it gives Hugging Face's numbers, else through the Bridge if it does."""

from __future__ import annotations

import warnings
import weakref
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..core.errors import BadInput, OutOfMemory
from ..core.machine import memory
from ..models.checked import NATS, SHARE, allowed, allowed_nats
from ..models.hooks import active_edits, foreign_hooks
from ..models.known import KNOWN, info, trunk_of
from ..models.reference import Reference, refer_to
from ..models.trunk import Trunk
from ..models.verdict import require, verdict
from .engine import Engine, Job, Reading

BUDGET = {"cpu": 2048}  # tokens of a packed pass, past which the matrix rate no longer rises; 16,384 on anything else
STREAM = ("resid_pre", "resid_post")  # the sites that Hugging Face gives
_TRIED: weakref.WeakKeyDictionary[Any, dict[str, str]] = weakref.WeakKeyDictionary()


def choose(model: Any, *, site: str = "resid_post", way: str = "auto", budget: int | None = None) -> Engine:
    """Choose how to read a model at this moment.

    Args:
        model: What `load_model` returns.
        site: The site that will be read.
        way: "auto", "trunk" (an error where the trunk cannot read this model) or "bridge".
        budget: Tokens of one forward pass; by default by device and way.

    Returns:
        The engine, through the trunk or the Bridge.

    Raises:
        BadInput: There is no such way, or the trunk cannot read this model and was insisted on.
        Disagrees: Neither way gives Hugging Face's numbers at this site.
    """
    if way not in ("auto", "trunk", "bridge"):
        raise BadInput(f"engine {way!r}: 'auto', 'trunk' or 'bridge'")
    if budget is not None and budget < 1:
        raise BadInput(f"batch_tokens {budget}: 1 at least")
    why, loud = ("asked for", False) if way == "bridge" else _why_bridge(model, site)
    if why and way == "trunk":
        raise BadInput(f"{info(model).name} cannot be read through the trunk: {why}. Use engine='auto'")
    if why:
        require(model, site)  # which says why the Bridge is refused
    if loud:
        warnings.warn(f"{info(model).name} is read through the Bridge, without sharing prefixes: {why}", stacklevel=3)
    device = next(model.parameters()).device.type
    trunk = None if why else trunk_of(model)
    auto = 8192 if trunk is None else BUDGET.get(device, 16384)
    return Engine(model=model, site=site, trunk=trunk, why=why, budget=budget or auto)


def _why_bridge(model: Any, site: str) -> tuple[str, bool]:
    """Why this model must be read through the Bridge now ("" where the trunk reads it), and whether to warn of it."""
    if active_edits(model):
        return "an edit is active", False
    if foreign_hooks(model):
        return "hooks of others hang on it", False
    trunk = trunk_of(model)
    if isinstance(trunk, str):
        return trunk, "weights have changed" not in trunk
    tried = _TRIED.setdefault(model, {})
    if site not in tried:
        tried[site] = _trial(model, trunk, site)
    return tried[site], bool(tried[site])


def _trial(model: Any, trunk: Trunk, site: str) -> str:
    """Compare the trunk with Hugging Face's untouched pass, or at other sites with a Bridge that agrees with it.

    Args:
        model: What `load_model` returns.
        trunk: The shell around its weights.
        site: The site that will be read.

    Returns:
        What differs, or "". The trial detects architectures whose attention cannot be exchanged, or whose blocks mix positions
        in another way.
    """
    reference = KNOWN[model].reference
    if not isinstance(reference, Reference):
        return f"there is nothing to compare the trunk with ({reference or 'it was booted elsewhere'})"
    found = verdict(model)
    if site not in STREAM and (found is None or found.bridge or site in found.sites):
        return f"{site} cannot be compared with Hugging Face's"
    differs = _differs(model, trunk, site, reference, allowed(model), allowed_nats(model))
    half = next(model.parameters()).dtype in (torch.bfloat16, torch.float16)
    if not differs or site not in STREAM or not half or (found is not None and found.bridge):
        return differs
    # half precision can be coarser than what an architecture's fault would do: what differs is then tried again in float32
    size = 4 * sum(p.numel() for p in model.parameters())
    if model.device.type == "cpu" and size > memory()[1] / 2:
        return f"{differs}; for a trial in float32 memory is short"
    try:
        wide, plain = trunk.widened()
    except (OutOfMemory, torch.OutOfMemoryError, MemoryError):
        return f"{differs}; for a trial in float32 memory is short"
    own = refer_to(plain, reference.rows)
    trunk_way = _differs(
        model, wide, site, own, max(SHARE[torch.float32], 2 * own.floor), max(NATS * SHARE[torch.float32], 2 * own.floor_nats)
    )
    return f"{differs}; in float32 too: {trunk_way}" if trunk_way else ""


def _differs(model: Any, trunk: Trunk, site: str, reference: Reference, limit: float, nats: float) -> str:
    """What of the trunk differs from a reference, or at other sites than its own from the Bridge; "" where nothing does."""
    work = [Job(ids=row, read=range(len(row)), ask=len(row) - 1) for row in reference.rows]
    layers, ids = list(range(int(model.cfg.n_layers))), reference.sample.tolist()
    try:
        # a small budget makes several passes, so that kept prefixes are tried too
        got = _of_jobs(Engine(model=model, site=site, trunk=trunk, budget=16).read(work, layers, ids))
        if site in STREAM:
            depth = int(site == "resid_post")
            want = torch.cat([s[depth : depth + len(layers)].transpose(0, 1) for s in reference.stream])
        else:
            want = _of_jobs(Engine(model=model, site=site, budget=8192).read(work, layers, ids))[0]
    except OutOfMemory:
        raise  # no fault of the architecture
    except Exception as error:
        return f"the trial of the trunk failed ({type(error).__name__}: {(str(error).splitlines() or [''])[0][:120]})"
    x, logp = got
    if x.shape != want.shape:
        return f"the trunk's {site} has the shape {tuple(x.shape[2:])}, not {tuple(want.shape[2:])}"
    worst = float(((x - want).flatten(2).abs().amax((0, 2)) / want.flatten(2).abs().amax((0, 2)).clamp(min=1e-12)).max())
    worst_logp = float((logp - torch.stack([p[-1] for p in reference.logp])).abs().max())
    if worst <= limit and worst_logp <= nats:
        return ""
    whose = "Hugging Face's" if site in STREAM else "the Bridge's"
    return f"in a trial the trunk's {site} differed from {whose} by {worst:.1e} of the largest value, log-probabilities by {worst_logp:.1e}"


def _of_jobs(reading: Reading) -> tuple[Tensor, Tensor]:
    """Activations and log-probabilities, in the order of the jobs."""
    assert reading.values is not None
    assert reading.logp is not None
    return reading.values[torch.from_numpy(np.concatenate(reading.at))].float(), reading.logp[torch.from_numpy(reading.asked)]
