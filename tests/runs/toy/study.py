"""A toy: numbers are drawn, written to a file, and their means are told. It needs no model and milliseconds."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from workbench.core.errors import BadInput
from workbench.core.seeds import numpy_rng
from workbench.core.stats import mean
from workbench.runs import Main, Study


@dataclass(frozen=True, kw_only=True)
class ToySettings:
    """What is drawn.

    Attributes:
        n: Numbers of each group; the more, the narrower the intervals.
        groups: Names of the groups.
        shift: Added to every number.
        wait: Seconds that each step takes.
        data: A file with a number that is added, too. Empty: none.
        seed: Draws the numbers.
    """

    n: int = 40
    groups: tuple[str, ...] = ("a", "b")
    shift: float = 0.0
    wait: float = 0.0
    data: str = ""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.n < 2:
            raise BadInput(f"n: 2 numbers at least, got {self.n}")
        if self.data and not Path(self.data).is_file():
            raise BadInput(f"data: no file {self.data!r}")


CALLS: list[str] = []  # which steps were computed in this process: for the tests


def pause(settings, step):
    """Note a step, and take the time that was asked for."""
    import time

    CALLS.append(step)
    time.sleep(settings.wait)


def compute(models, settings, run):
    """Draw, write, tell: three steps."""

    def draw():
        pause(settings, "draw")
        more = float(Path(settings.data).read_text()) if settings.data else 0.0
        rng = numpy_rng(settings.seed, "toy")
        return pd.DataFrame({g: rng.normal(size=settings.n) + settings.shift + more for g in settings.groups})

    drawn = run.table("draw", make=draw, keep=False)

    def write(place):
        pause(settings, "write")
        (place / "numbers.json").write_text(json.dumps({g: np.round(drawn[g], 6).tolist() for g in settings.groups}))

    written = run.folder("numbers", make=write, doing="write")

    def tell():
        pause(settings, "tell")
        numbers = json.loads((written / "numbers.json").read_text())
        return pd.DataFrame([{"group": g, "metric": "mean", **mean(np.array(v), np.arange(len(v))).row()} for g, v in numbers.items()])

    return run.table("means", make=tell, doing="tell")


STUDY = Study(
    name="toy",
    asks="what is the mean of numbers that were drawn?",
    settings=ToySettings,
    fast={"n": 10},
    compute=compute,
    models=(),
    main=Main(table="means", labels=("group",), axis="mean", zero=0.0),
    tables={"means": "group metric | value low high n"},
    inside=("groups",),
    inputs=("data",),
)
