"""The three levels of geometry in words: representation, information, cause."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ...core.tables import pick
from ...evaluation.cross_steering import TESTED


def levels(angles: pd.DataFrame, erased: pd.DataFrame, pushes: pd.DataFrame, *, metric: str, position: str, drawn: int) -> pd.DataFrame:
    """Return one row per layer of the request design: the verdict on the angle, what erasing does, what pushing does."""
    rows = []
    for angle in pick(angles, design="request", metric=metric, position=position).to_dict("records"):
        layer = int(angle["layer"])
        row = {
            "layer": layer,
            "representation": angle["verdict"],
            "value": angle["value"],
            "low": angle["low"],
            "high": angle["high"],
            "n": angle["n"],
            "information": _information(pick(erased, layer=layer)),
            "cause": _cause(pick(pushes, layer=layer), drawn),
        }
        rows.append(row)
    return pd.DataFrame(rows)


def _information(table: pd.DataFrame) -> str:
    """What erasing one costs the other, linear probes, LEACE."""
    losses = pick(table, method="leace", probe="linear", metric="loss")
    unerased = pick(table, erased="nothing", probe="linear", metric="accuracy")
    parts = []
    for erased, read in (("input harm", "claim safety"), ("claim safety", "input harm")):
        loss, accuracy = pick(losses, erased=erased, read=read).iloc[0], pick(unerased, read=read).iloc[0]
        if accuracy["low"] <= 0.5:
            parts.append(f"{read} is not readable to begin with")
            continue
        if np.isnan(loss["high"]) and loss["value"] == 0:
            parts.append(f"without {erased}, {read} survives (no prediction changed)")
            continue
        verdict = "survives" if loss["high"] < 0.1 else "suffers" if loss["low"] > 0.1 else "undetermined"
        parts.append(f"without {erased}, {read} {verdict} (loss {loss['value']:.2f} [{loss['low']:.2f}, {loss['high']:.2f}])")
    return "; ".join(parts)


def _cause(table: pd.DataFrame, drawn: int) -> str:
    """Whether a push along one moves the other beyond what random pushes at equal KL do."""
    pushes = pick(table, kind="add", position="stem_last")
    parts = []
    for pushed, read in (("harm", "safety"), ("safety", "harm")):
        moves, nulls = (pick(pushes, pushed=direction, read=read) for direction in (pushed, "random"))
        if not len(moves) or not len(nulls):
            continue
        move, null = moves.iloc[0], nulls.iloc[0]
        told = f"{move['value']:+.2f} sd, random {null['low']:+.2f} to {null['high']:+.2f}"
        if drawn < TESTED:
            parts.append(f"{pushed} on {read} {told}, not tested: {drawn} random pushes, {TESTED} needed")
            continue
        beyond = move["q"] <= 0.05
        verdict = ("raises" if move["value"] > 0 else "lowers") if beyond else "is not shown to move"
        parts.append(f"{pushed} {verdict} {read} ({told}, p {move['p']:.3f}, q {move['q']:.3f})")
    return "; ".join(parts) or "not pushed at this layer"
