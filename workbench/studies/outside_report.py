"""What fixes do to requests and questions of others, in words and figures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..core.tables import pick
from ..figures import Finding, Panel, recipes
from ..runs import Run
from .fixing_report import first, said

points = recipes("steering")
OF = (
    ("refusals", "requests", "condition", "refused", "more", "refused", "none"),
    ("questions", "questions", "fix", "right", "gain", "answered rightly", "nothing"),
)
SHOWN = (
    ("refusals", "condition", "requests", "refused", "Which requests are refused under each fix?", "share of replies that refuse"),
    ("questions", "fix", "questions", "right", "Which questions of others are answered rightly?", "share of right answers"),
)


def outside(run: Run) -> list[Finding]:
    """Return what fixes do, each told by the interval of its difference from nothing done.

    Args:
        run: The run, with its tables.

    Returns:
        A finding for requests and one for questions, where they were asked.
    """
    out = []
    for table, of, by, share, change, what, none in OF:
        if table not in run.tables:
            continue
        every, parts = run.tables[table], []
        for name, judge in _sets(every, of):
            where: dict[str, Any] = {of: name} | ({"judge": judge} if judge else {})
            start = first(every, **where, **{by: none, "metric": share})
            moved: dict[str, list[str]] = {"more": [], "less": [], "not told from that": []}
            row: Any
            for row in pick(every, **where, metric=change).itertuples():
                side = "more" if row.low > 0 else "less" if row.high < 0 else "not told from that"
                there = first(every, **where, **{by: getattr(row, by), "metric": share})
                moved[side].append(f"{getattr(row, by)} {said(there)}")
            words = [f"{side} under {', '.join(fixes)}" for side, fixes in moved.items() if fixes]
            by_whom = f", by {judge}" if judge else ""
            parts.append(f"{name} (n={int(start.n)}{by_whom}): {what} {said(start)}; {'; '.join(words)}")
        head = "Requests" if table == "refusals" else "Questions of others"
        out.append(Finding(f"{head}: {'. '.join(parts)}.", table))
    return out


def _sets(table: Any, of: str) -> Iterator[tuple[str, str]]:
    """Names of sets, each with its judges where there are some."""
    columns = [of, "judge"] if "judge" in table else [of]
    for values in table[columns].drop_duplicates().itertuples(index=False):
        yield str(values[0]), str(values[1]) if len(values) > 1 else ""


def outside_panels(run: Run) -> list[Panel]:
    """Return their figures.

    Args:
        run: The run, with its tables.
    """
    out = []
    for table, y, colour, metric, title, axis in SHOWN:
        if table not in run.tables:
            continue
        rows = pick(run.tables[table], metric=metric)
        if "judge" in rows and rows["judge"].nunique() > 1:
            rows = rows.assign(**{colour: rows[colour] + ", by " + rows["judge"]})
        caption = "95 % intervals. Nothing of the training or the search was about these. The first row is the model as it is."
        out.append(Panel(name=table, table=table, drawing=points.points(rows, y, colour, title, axis=axis), caption=caption))
    return out
