"""How a model is read at this moment: through the trunk where a trial shows that this is right, else through the Bridge."""

from __future__ import annotations

import warnings
import weakref
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..core.errors import BadInput, OutOfMemory
from ..core.seeds import numpy_rng
from ..models.hooks import active_edits, foreign_hooks
from ..models.known import info, trunk_of
from ..models.trunk import Trunk
from .engine import Engine, Job, Reading

BUDGET = {"cpu": 2048}  # tokens of a packed pass, past which the matrix rate no longer rises; 16,384 on anything else
# share of the largest value: rounding stays far below (1e-6; 1e-4 in Gemma-2), attention to a wrong branch is far above
ALLOWED = {torch.float32: 1e-3, torch.float64: 1e-3}  # 0.1 in half precision
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
    """
    if way not in ("auto", "trunk", "bridge"):
        raise BadInput(f"engine {way!r}: 'auto', 'trunk' or 'bridge'")
    if budget is not None and budget < 1:
        raise BadInput(f"batch_tokens {budget}: 1 at least")
    why, loud = ("asked for", False) if way == "bridge" else _why_bridge(model, site)
    if why and way == "trunk":
        raise BadInput(f"{info(model).name} cannot be read through the trunk: {why}. Use engine='auto'")
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
    """Compare the trunk with the Bridge on a few short rows that share prefixes; return what differs, or "".

    The trial detects architectures whose attention cannot be exchanged, or whose blocks mix positions in another way.
    """
    known = info(model)
    first, long = numpy_rng(0, "trial").integers(0, int(model.cfg.d_vocab), (2, 48)).tolist()
    rows = [[*first[:6], *long[a:b]] for a, b in ((0, 9), (0, 5), (12, 14), (20, 48))] + [[*first[:3], *long[2:30]], first]
    rows = [row[: known.context] for row in rows]
    work = [Job(ids=row, read=[len(row) - 1], ask=0) for row in rows]
    layers, ids = list(range(known.n_layers)), long[:4]
    try:
        # a small budget makes several passes, so that kept prefixes are tried too
        by_trunk = Engine(model=model, site=site, trunk=trunk, budget=16).read(work, layers, ids)
        by_bridge = Engine(model=model, site=site, budget=8192).read(work, layers, ids)
    except OutOfMemory:
        raise  # no fault of the architecture
    except Exception as error:
        return f"the trial of the trunk failed ({type(error).__name__}: {(str(error).splitlines() or [''])[0][:120]})"
    (x, p), (y, q) = (_of_jobs(reading) for reading in (by_trunk, by_bridge))
    if x.shape != y.shape:
        return f"the trunk's {site} has the shape {tuple(x.shape[2:])}, the Bridge's {tuple(y.shape[2:])}"
    apart = (x - y).flatten(2).abs().amax((0, 2)) / y.flatten(2).abs().amax((0, 2)).clamp(min=1e-12)
    worst, worst_logp = float(apart.max()), float((p - q).abs().max())
    allowed = ALLOWED.get(next(model.parameters()).dtype, 0.1)
    if not (worst <= allowed and worst_logp <= 30 * allowed):
        return (
            f"in a trial the trunk's {site} differed from the Bridge's by {worst:.1e} of the largest value, "
            f"log-probabilities by {worst_logp:.1e}"
        )
    return ""


def _of_jobs(reading: Reading) -> tuple[Tensor, Tensor]:
    """Activations and log-probabilities, in the order of the jobs."""
    assert reading.values is not None
    assert reading.logp is not None
    return reading.values[torch.from_numpy(np.concatenate(reading.at))].float(), reading.logp[torch.from_numpy(reading.asked)]
