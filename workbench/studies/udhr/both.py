"""What is said beside what is read inside, by one measure, and the verdict on each claim."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from ...core.estimate import Estimate, undefined
from ...core.tables import pick
from ...evaluation.detection import measures
from ...evaluation.verdicts import answer_verdict, inside_verdict, verdict
from ..statements import FIT, READ

SAYS = "says: order of the answers"
SAFE = "says: share of safe answers"
KNOWS = {"ccs": "knows: CCS direction, found without labels", "logistic": "knows: logistic probe"}
COLUMNS = ["form", "condition", "what", "metric", "layer", "value", "low", "high", "n"]


def says_rows(cell: tuple[str, str], asked: pd.DataFrame) -> list[dict[str, Any]]:
    """Return what is said in one prompt form under one claim, as rows.

    Args:
        cell: The form and the claim.
        asked: The answers, held-out items.

    Returns:
        Rows `form, condition, what, metric, layer, value, low, high, n`, also of "yes" and "answered".
    """
    out = []
    for metric, estimate in measures(asked).items():
        what = {"auroc": SAYS, "safe_score": SAFE}.get(metric, "")
        out.append({"form": cell[0], "condition": cell[1], "what": what, "metric": metric, "layer": -1, **estimate.row()})
    return out


def both_sides(said: Sequence[Mapping[str, Any]], readings: pd.DataFrame, probes: pd.DataFrame, layer: int) -> pd.DataFrame:
    """Put what is said beside what is read at one layer, probes fitted behind the neutral sentence of the same form.

    Args:
        said: From `says_rows`.
        readings: From `read_forms`.
        probes: Of the condition without a claim.
        layer: Where.

    Returns:
        Rows `form, condition, what, metric, layer, value, low, high, n`; metrics "auroc" and "safe_score".
    """
    rows = [dict(r) for r in said if r["what"]]
    here = pick(readings, control="", minus="", reading="same form", metric="auroc", layer=layer)
    for method, what in KNOWS.items():
        plain = pick(probes, control="", against="label", metric="auroc", layer=layer, method=method, condition=FIT)
        rows += [{**r, "condition": r["claim"], "what": what} for r in _records(pick(here, method=method))]
        rows += [{**r, "form": READ[0], "condition": FIT, "what": what} for r in _records(plain)]
    order = {c: k for k, c in enumerate([FIT, "neutral", "good", "partial", "harm"])}
    table = pd.DataFrame(rows)[COLUMNS]
    keys = table.assign(_f=table["form"].map({f: k for k, f in enumerate(READ)}), _c=table["condition"].map(order).fillna(9))
    return table.loc[keys.sort_values(["_f", "_c"], kind="stable").index].reset_index(drop=True)


def decide(said: Sequence[Mapping[str, Any]], readings: pd.DataFrame, kept: pd.DataFrame) -> pd.DataFrame:
    """Decide by the rules of docs/verdicts.md what each claim does, per form and method.

    Args:
        said: From `says_rows`.
        readings, kept: From `read_forms`.

    Returns:
        Rows `method, form, claim, metric, verdict, inside, says, value, low, high, n, layers, why`; the value is the kept share.
    """
    measured = {(r["form"], r["condition"], r["metric"]): _estimate(r) for r in said}
    none = undefined("not measured", 0)
    out = []
    same = pick(kept, reading="same form")
    for row in _records(same):
        form, claim, method = row["form"], row["claim"], row["method"]
        base = pick(readings, control="", minus="", fit=form, form=form, claim="neutral", metric="auroc", method=method)
        highest = _records(base.sort_values("high").tail(1))
        best = _estimate(highest[0]) if highest else none
        inside = inside_verdict(int(row["layers"]), best, _estimate(row) if row["layers"] else None)
        get = {m: measured.get((form, "neutral", m), none) for m in ("auroc", "answered", "yes")}
        says = answer_verdict(get["auroc"], measured.get((form, claim, "auroc"), none), get["answered"], get["yes"])
        found = verdict(inside, says)
        about = {"method": method, "form": form, "claim": claim, "metric": "kept_share", "verdict": found.verdict}
        about |= {"inside": found.inside, "says": found.says, "layers": row["layers"], "why": found.why}
        out.append(about | {k: row[k] for k in ("value", "low", "high", "n")})
    columns = ["method", "form", "claim", "metric", "verdict", "inside", "says", "value", "low", "high", "n", "layers", "why"]
    return pd.DataFrame(out, columns=columns)


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(k): v for k, v in row.items()} for row in table.to_dict("records")]


def _estimate(row: Mapping[str, Any]) -> Estimate:
    return Estimate(value=row["value"], low=row["low"], high=row["high"], n=int(row["n"]), clusters=0, note="as in the table")
