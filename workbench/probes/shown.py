"""What fitted probes show in a terminal and in a notebook."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ..core.show import axes, number, some
from .scaling import Normaliser, Scaler

Facts = tuple[str, Mapping[str, Any]]


def normalised(scaler: Scaler | Normaliser) -> str:
    """Return in words how rows are normalised before a probe reads them."""
    if isinstance(scaler, Scaler):
        return "with the statistics of all training rows"
    said = f"{scaler.kind}, statistics per {scaler.per}"
    return said + (f" ({some(scaler.forms)})" if scaler.forms else "") + (", the variant's own direction erased" if scaler.eraser else "")


def probe_facts(
    probe: Any,
    width: int,
    *,
    strength: float = math.nan,
    tried: Mapping[float, float] | None = None,
    threshold: float | None = None,
    chosen: float = math.nan,
    loss: float = math.nan,
    losses: Sequence[float] = (),
    sign: int = 0,
    oriented_on: str = "",
) -> Facts:
    """Return the line and the facts of a probe of one direction or one function.

    Args:
        probe: With `method`, `n` and `scaler`.
        width: Features of a row.
        strength, tried: C (or shrinkage), and those that it was chosen among.
        threshold: Of w . s(x), above which class 1 is predicted.
        chosen: What the folds chose.
        loss, losses: Of the restart that was kept, and of all.
        sign, oriented_on: Of a search without labels.
    """
    paired = isinstance(probe.scaler, Normaliser)
    line = f"{probe.method}, {'contrast pairs' if paired else 'rows'}, d_model {width}, n={probe.n:,}"
    if strength == strength:
        line += f", strength {strength:.3g}"
    if chosen == chosen:
        line += f", chosen {chosen:.3g}"
    if losses:
        line += f", loss {loss:.3g}, " + (f"sign from {oriented_on}" if oriented_on else "sign not resolved")
    facts = {
        "method": probe.method,
        "reads": "differences of contrast pairs" if paired else "single rows",
        "shape": axes(d_model=width),
        "fitted on": f"{probe.n:,} training {'pairs' if paired else 'rows'}",
        "normalised": normalised(probe.scaler),
        "strength": number(strength) + (f", of {len(tried)} by validation loss" if tried else "") if strength == strength else "",
        "chosen on folds": number(chosen) if chosen == chosen else "",
        "says 1 above": "" if threshold is None else number(threshold),
        "restarts": f"{len(losses)}, losses {min(losses):.3g} to {max(losses):.3g}; kept: {loss:.3g}" if losses else "",
        "sign": _sign(sign, oriented_on) if losses else "",
        "what it shows": "no score of its own: read held-out rows (probe_layers gives intervals and controls)",
    }
    return line, facts


def _sign(sign: int, oriented_on: str) -> str:
    return f"{sign:+d}, from {oriented_on}" if oriented_on else "not resolved: which end is true is open (resolve_sign)"
