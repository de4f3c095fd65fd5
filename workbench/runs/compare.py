"""Two runs side by side: which numbers differ by more than their intervals, which rows only one has, what was set otherwise."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..core.errors import BadInput
from ..core.show import visible
from .digests import told
from .run import Run

# of tables whose columns nobody declared: what a row says, not what it is about
SAYS = {
    "value",
    "low",
    "high",
    "n",
    "p",
    "q",
    "note",
    "seconds",
    "error",
    "status",
    "share",
    "change",
    "change_low",
    "change_high",
    "threshold",
    "reliability",
    "verdict",
    "chosen",
}
PROSE = ("note", "finding", "error")  # sentences, which quote the numbers
CALIBRATION = {"calibration_error", "brier"}
COLUMNS = [
    "table",
    "row",
    "metric",
    "first",
    "first_low",
    "first_high",
    "second",
    "second_low",
    "second_high",
    "difference",
    "low",
    "high",
    "verdict",
]


MOST = 25


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What two runs have in common and what not.

    Attributes:
        rows: One row per number that both have: `table, row, metric`, both values with their intervals, `difference` (second minus first)
            with `low, high`, and a verdict: "changed" (the interval of the difference leaves out 0), "same", or "no interval".
        only: Rows that one of the runs lacks: `table, row, run`.
        words: Words that stand otherwise in a row that both have (verdicts, flags): `table, row, column, first, second`.
        settings: What was set or installed otherwise: `what, first, second`.
        skipped: Tables of both that hold no value to compare.
        names: The folders.
        mains: The main tables of the two studies.
        altered: In words, which tables are not what their run wrote.
    """

    rows: pd.DataFrame
    only: pd.DataFrame
    words: pd.DataFrame
    settings: pd.DataFrame
    skipped: tuple[str, ...]
    names: tuple[str, str]
    mains: tuple[str, ...] = ()
    altered: tuple[str, ...] = ()

    @property
    def changed(self) -> pd.DataFrame:
        """The numbers that changed beyond their intervals: the main table first, calibration last, large differences before small ones."""
        some = self.rows[self.rows["verdict"] == "changed"]
        order = pd.DataFrame(
            {"main": ~some["table"].isin(self.mains), "late": some["metric"].isin(CALIBRATION), "size": -some["difference"].abs()}
        )
        return some.reindex(order.sort_values(["main", "late", "size"]).index)

    @property
    def main(self) -> pd.DataFrame:
        """The numbers of the study's main table, changed or not."""
        return self.rows[self.rows["table"].isin(self.mains)]

    def __str__(self) -> str:
        """Return the comparison in words."""
        counts = self.rows["verdict"].value_counts()
        lines = [f"note: {sentence}" for sentence in self.altered]
        lines += [f"set otherwise: {row['what']}: {row['first']} -> {row['second']}" for row in self.settings.to_dict("records")]
        lines += _listed(self.main, "more of the main table", MOST, verdict=True)
        lines += [
            f"{self.names[0]} and {self.names[1]}: {len(self.rows)} numbers in both, {counts.get('changed', 0)} changed beyond their "
            f"intervals, {counts.get('no interval', 0)} have no interval ({int(self._moved().sum())} of those differ)"
        ]
        expected = 0.05 * int((self.rows["verdict"] != "no interval").sum())
        if counts.get("changed", 0):
            lines.append(f"(of as many numbers of independent runs of one and the same thing about {expected:.0f} would be)")
        for row in self.words.head(25).to_dict("records"):
            lines.append(f"  {row['table']}: {row['row']}: {row['column']}: {row['first']} -> {row['second']}")
        if len(self.words) > 25:
            lines.append(f"  … and {len(self.words) - 25} more words")
        changed = self.changed
        rest = changed[~changed.index.isin(self.main.head(MOST).index)]
        lines += _listed(rest, "more; `workbench compare … --out FILE.csv` writes all", MOST)
        for name, some in self.only.groupby("run", sort=False):
            tables = ", ".join(f"{t} {n}" for t, n in some["table"].value_counts().items())
            lines.append(f"only in {name}: {len(some)} rows ({tables})")
        if self.skipped:
            lines.append(f"not compared, for want of a column value or of common rows: {', '.join(self.skipped)}")
        return visible("\n".join(lines))

    def _moved(self) -> pd.Series:
        bare = self.rows["verdict"] == "no interval"
        return bare & ~np.isclose(self.rows["first"].astype(float), self.rows["second"].astype(float), rtol=1e-5, atol=1e-9, equal_nan=True)

    def _repr_html_(self) -> str:
        head = html.escape(next(line for line in str(self).splitlines() if " numbers in both" in line))
        shown = pd.concat([self.main, self.changed]).drop_duplicates()
        notes = "".join(f"<p><b>{html.escape(sentence)}</b></p>" for sentence in self.altered)
        return f"{notes}<p>{head}</p>{shown.to_html(index=False, escape=True, float_format='{:.4g}'.format)}"


def compare_runs(first: str | Path | Run, second: str | Path | Run) -> Comparison:
    """Compare two runs, number by number.

    The interval of a difference d = b - a is that of Zou and Donner (2008, Statistics in Medicine 27) for independent estimates,

        d - sqrt((b - low_b)^2 + (high_a - a)^2)  to  d + sqrt((high_b - b)^2 + (a - low_a)^2).

    Args:
        first, second: Folders of finished runs, or runs.

    Returns:
        The comparison; `print` says it in words.

    Raises:
        DamagedRun: A folder holds no finished run.
        BadInput: The runs have no table in common.

    Note:
        Runs that share items (one model and seed) are not independent: then the interval is too wide where their errors go together, and a
        difference that it leaves out is there all the more. Of many numbers some differ by chance; the words say how many to expect.
    """
    a, b = (run if isinstance(run, Run) else Run.load(run) for run in (first, second))
    names = _names(a, b)
    common = [t for t in a.tables if t in b.tables]
    if not common:
        raise BadInput(f"{names[0]} ({a.record['study']}) and {names[1]} ({b.record['study']}) have no table in common")
    rows, only, words, skipped = [], [], [], []
    for name in common:
        one, two = a.tables[name], b.tables[name]
        if "value" not in one or "value" not in two:
            skipped.append(name)
            continue
        if odd := [c for c in ("value", "low", "high") for t in (one, two) if c in t and not pd.api.types.is_numeric_dtype(t[c])]:
            skipped.append(f"{name} (not every {odd[0]} is a number)")
            continue
        if not _alike(name, a, b):
            skipped.append(f"{name} (its rows are about other columns)")
            continue
        keys, said = _columns(name, a, b)
        left, right = _indexed(one, keys), _indexed(two, keys)
        for key in left:
            if key in right:
                what = {"table": name, "row": " · ".join(k for k in key[:-1] if k)}
                rows.append(what | _difference(left[key], right[key]))
                words += [
                    what | {"column": c, "first": left[key][c], "second": right[key][c]}
                    for c in said
                    if str(left[key][c]) != str(right[key][c])
                ]
        for run, mine, other in ((names[0], left, right), (names[1], right, left)):
            only += [{"table": name, "row": " · ".join(k for k in key[:-1] if k), "run": run} for key in mine if key not in other]
    for run, mine, other in ((names[0], a, b), (names[1], b, a)):
        only += [{"table": t, "row": "(the whole table)", "run": run} for t in mine.tables if t not in other.tables]
    return Comparison(
        rows=pd.DataFrame(rows, columns=COLUMNS),
        only=pd.DataFrame(only, columns=["table", "row", "run"]),
        settings=_settings(a, b),
        names=names,
        words=pd.DataFrame(words, columns=["table", "row", "column", "first", "second"]),
        skipped=tuple(skipped),
        altered=tuple(told(name, run.altered) for name, run in zip(names, (a, b), strict=True) if run.altered),
        mains=tuple(dict.fromkeys(m["table"] for run in (a, b) if isinstance(m := run.record.get("main"), dict) and "table" in m)),
    )


def _alike(name: str, a: Run, b: Run) -> bool:
    """Whether the rows of a table are about the same columns in both runs, as far as both declare them."""
    about = [run.record.get("columns", {}).get(name, {}).get("about") for run in (a, b)]
    return None in about or {c for c in about[0] if c in a.tables[name]} == {c for c in about[1] if c in b.tables[name]}


def _columns(name: str, a: Run, b: Run) -> tuple[list[str], list[str]]:
    """The columns that say what a row is about, and the words among those that say what was found: as declared, else guessed."""
    one, two = a.tables[name], b.tables[name]
    both = [c for c in one.columns if c in two.columns]
    declared = a.record.get("columns", {}).get(name) or b.record.get("columns", {}).get(name)
    keys = [c for c in both if c in declared["about"]] if declared else [c for c in both if c not in SAYS and not _measured(one[c])]
    said = [c for c in both if c not in (*keys, *PROSE) and not _is_number(one[c]) and not _is_number(two[c])]
    return keys, said


def _is_number(column: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)


def _listed(rows: pd.DataFrame, more: str, most: int, *, verdict: bool = False) -> list[str]:
    lines = []
    for row in rows.head(most).to_dict("records"):
        bounded = row["verdict"] != "no interval"
        spans = [f" [{row[k + '_low']:.4g}, {row[k + '_high']:.4g}]" if bounded else "" for k in ("first", "second")]
        difference = f", difference {row['difference']:+.4g}" + (f" [{row['low']:+.4g}, {row['high']:+.4g}]" if bounded else "")
        end = f": {row['verdict']}" if verdict else ""
        lines.append(f"  {row['table']}: {row['row']}: {row['first']:.4g}{spans[0]} -> {row['second']:.4g}{spans[1]}{difference}{end}")
    return lines + ([f"  … and {len(rows) - most} {more}"] if len(rows) > most else [])


def _names(a: Run, b: Run) -> tuple[str, str]:
    one, two = a.folder.name, b.folder.name
    return (one, two) if one != two else (str(a.folder), str(b.folder))


def _measured(column: pd.Series) -> bool:
    """A column of real numbers that are not codes (layers, seeds, coefficients are; 7 digits are not)."""
    if not pd.api.types.is_float_dtype(column):
        return False
    some = column.dropna()
    return bool(len(some) and (some != some.round(3)).any())


def _indexed(table: pd.DataFrame, keys: list[str]) -> dict[tuple[str, ...], Mapping[str, Any]]:
    """Rows by what they are about; rows about the same thing are numbered."""
    out: dict[tuple[str, ...], Mapping[str, Any]] = {}
    seen: dict[tuple[str, ...], int] = {}
    for record in table.to_dict("records"):
        row: dict[str, Any] = {str(k): v for k, v in record.items()}
        key = tuple(_word(k, row[k]) for k in keys)
        seen[key] = seen.get(key, 0) + 1
        out[(*key, str(seen[key]))] = row
    return out


def _word(name: str, value: Any) -> str:
    if value is None or value == "" or value != value:
        return ""
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return f"{name} {text}" if isinstance(value, int | float) and not isinstance(value, bool) else text


def _difference(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, Any]:
    one, two = (float(r["value"]) if r["value"] not in ("", None) else float("nan") for r in (a, b))
    spans = [[_number(r.get(k)) for k in ("low", "high")] for r in (a, b)]
    (a_low, a_high), (b_low, b_high) = spans
    d = two - one
    low = d - np.hypot(two - b_low, a_high - one)
    high = d + np.hypot(b_high - two, one - a_low)
    bounded = np.isfinite([low, high]).all()
    verdict = "no interval" if not bounded else "changed" if low > 0 or high < 0 else "same"
    return {
        "metric": a.get("metric", ""),
        "first": one,
        "first_low": a_low,
        "first_high": a_high,
        "second": two,
        "second_low": b_low,
        "second_high": b_high,
        "difference": d,
        "low": low,
        "high": high,
        "verdict": verdict,
    }


def _number(value: Any) -> float:
    return float("nan") if value in ("", None) else float(value)


def _settings(a: Run, b: Run) -> pd.DataFrame:
    rows = []
    for group in ("settings", "versions", "code"):
        one, two = _flat(a.record.get(group) or {}, group), _flat(b.record.get(group) or {}, group)
        for key in {**one, **two}:
            if one.get(key) != two.get(key):
                rows.append({"what": key, "first": one.get(key, "(none)"), "second": two.get(key, "(none)")})
    if a.record.get("study") != b.record.get("study"):
        rows.insert(0, {"what": "study", "first": a.record.get("study"), "second": b.record.get("study")})
    return pd.DataFrame(rows, columns=["what", "first", "second"])


def _flat(value: Mapping[str, Any], name: str) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, one in value.items():
        whole = key if name in ("settings", "versions") else f"{name} {key}"
        out |= _flat(one, f"{whole}") if isinstance(one, Mapping) else {whole: one}
    return out
