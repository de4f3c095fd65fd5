"""What the repair study says of requests and questions of others, by the interval of the difference."""

from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from workbench.studies.outside_report import outside


def tables(low: float, high: float) -> Any:
    rows = [
        ("none", "refused", 0.5, 0.4, 0.6),
        ("an adapter", "refused", 0.7, 0.6, 0.8),
        ("an adapter", "more", (low + high) / 2, low, high),
    ]
    frame = pd.DataFrame(rows, columns=["condition", "metric", "value", "low", "high"])
    return SimpleNamespace(tables={"refusals": frame.assign(requests="harmful", judge="phrases", n=40, note="")})


@pytest.mark.parametrize(("low", "high", "side"), [(0.1, 0.3, "more"), (-0.3, -0.1, "less"), (-0.1, 0.1, "not told from that")])
def test_the_interval_of_the_difference_decides(low, high, side):
    (found,) = outside(tables(low, high))
    assert f"{side} under an adapter 0.70 [0.60, 0.80]" in str(found)
    assert "harmful (n=40, by phrases): refused 0.50 [0.40, 0.60]" in str(found)
    assert not any(f"{other} under" in str(found) for other in {"more", "less", "not told from that"} - {side})


def test_without_requests_nothing_is_said():
    assert outside(SimpleNamespace(tables={})) == []
