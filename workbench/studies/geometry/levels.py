"""The three levels of geometry in words: representation, information, cause."""

from __future__ import annotations

import numpy as np
import pandas as pd


def levels(angles: pd.DataFrame, erased: pd.DataFrame, pushes: pd.DataFrame, *, metric: str, position: str) -> pd.DataFrame:
    """Return one row per layer of the request design: the verdict on the angle, what erasing does, what pushing does."""
    first = angles[(angles["design"] == "request") & (angles["metric"] == metric) & (angles["position"] == position)]
    rows = []
    for one in first.itertuples():
        layer = int(str(one.layer))
        rows.append(
            {"layer": layer, "representation": one.verdict, "value": one.value, "low": one.low, "high": one.high, "n": one.n,
             "information": _information(erased[erased["layer"] == layer]), "cause": _cause(pushes[pushes["layer"] == layer])}
        )  # fmt: skip
    return pd.DataFrame(rows)


def _information(table: pd.DataFrame) -> str:
    """What erasing one costs the other, linear probes, LEACE."""
    words = []
    some = table[(table["method"] == "leace") & (table["probe"] == "linear") & (table["metric"] == "loss")]
    ceiling = table[(table["erased"] == "nothing") & (table["probe"] == "linear") & (table["metric"] == "accuracy")].set_index("read")
    for erased, read in (("input harm", "claim safety"), ("claim safety", "input harm")):
        row = some[(some["erased"] == erased) & (some["read"] == read)].iloc[0]
        if float(ceiling["low"][read]) <= 0.5:
            words.append(f"{read} is not readable to begin with")
            continue
        if np.isnan(row["high"]) and row["value"] == 0:
            words.append(f"without {erased}, {read} survives (no prediction changed)")
            continue
        kind = "survives" if row["high"] < 0.1 else "suffers" if row["low"] > 0.1 else "undetermined"
        words.append(f"without {erased}, {read} {kind} (loss {row['value']:.2f} [{row['low']:.2f}, {row['high']:.2f}])")
    return "; ".join(words)


def _cause(table: pd.DataFrame) -> str:
    """Whether a push along one moves the other beyond what random pushes at equal KL do."""
    words = []
    some = table[(table["kind"] == "add") & (table["position"] == "stem_last")]
    for pushed, read in (("harm", "safety"), ("safety", "harm")):
        row = some[(some["pushed"] == pushed) & (some["read"] == read)]
        null = some[(some["pushed"] == "random") & (some["read"] == read)]
        if not len(row) or not len(null):
            continue
        r, z = row.iloc[0], null.iloc[0]
        beyond = r["low"] > z["high"] or r["high"] < z["low"]
        kind = ("raises" if r["value"] > 0 else "lowers") if beyond else "does not move"
        words.append(f"{pushed} {kind} {read} ({r['value']:+.2f} sd, random {z['low']:+.2f} to {z['high']:+.2f})")
    return "; ".join(words) or "not pushed at this layer"
