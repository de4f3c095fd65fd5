"""Splits in which training and test share neither an identity nor a right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from ..core.errors import BadInput, MissingColumn, SplitLeak, UnknownName, unknown
from ..core.seeds import numpy_rng
from ..core.show import Shown, some

SIDES = ("train", "test")


@dataclass(frozen=True, kw_only=True, repr=False)
class Split(Shown):
    """The training and the held-out values of each column.

    A row is a training row if *every* column has a training value, a test row if every column has a held-out value, and
    otherwise neither. So training and test share no identity and no right.

    Attributes:
        train: Training values by column.
        test: Held-out values by column.
        seed: The seed that drew the values; `None` where they were not drawn.
    """

    train: Mapping[str, frozenset[str]]
    test: Mapping[str, frozenset[str]]
    seed: int | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if set(self.train) != set(self.test) or not self.train:
            raise BadInput("a split names the same columns, one at least, for training and test")
        for column in self.train:
            both = sorted(self.train[column] & self.test[column])
            if both:
                raise SplitLeak(f"{column} {both[0]!r} would be on both sides of the split ({len(both)} such values)")
            for side, values in (("training", self.train), ("test", self.test)):
                if not values[column]:
                    raise BadInput(f"the split leaves no {column} for {side}")

    def _shown(self) -> tuple[str, Mapping[str, Any]]:
        counts = {k: f"{len(self.train[k]):,} for training, {len(self.test[k]):,} held out" for k in self.train}
        drawn = "" if self.seed is None else f", seed {self.seed}"
        return "; ".join(f"{k}: {v}" for k, v in counts.items()) + drawn, {
            **counts,
            **{f"held out: {k}": some(sorted(self.test[k]), 12) for k in self.test},
            "seed": "" if self.seed is None else self.seed,
            "what it keeps apart": f"no {' and no '.join(self.train)} is on both sides",
        }

    def values(self, side: str) -> dict[str, list[str]]:
        """Return the values of each column on one side.

        Args:
            side: "train" or "test".

        Returns:
            By column its values, sorted.

        Raises:
            UnknownName: There is no such side.
        """
        if side not in SIDES:
            raise unknown(UnknownName, "side", side, SIDES)
        return {column: sorted(held) for column, held in (self.train if side == "train" else self.test).items()}

    def side(self, rows: pd.DataFrame) -> np.ndarray:
        """Return the side of each row.

        Args:
            rows: A table with the columns of the split.

        Returns:
            "train", "test", or "" for a row with one value of each side, `row`.

        Raises:
            MissingColumn: The rows lack a column of the split.
            SplitLeak: A value belongs to neither side, so that the split was made for other rows.
        """
        train = np.ones(len(rows), bool)
        test = np.ones(len(rows), bool)
        for column in self.train:
            if column not in rows:
                raise MissingColumn(f"the split goes by {column!r}; the rows have: {', '.join(rows.columns)}")
            train &= rows[column].isin(list(self.train[column])).to_numpy()
            test &= rows[column].isin(list(self.test[column])).to_numpy()
            stray = set(rows[column]) - self.train[column] - self.test[column]
            if stray:
                raise SplitLeak(f"{column} {sorted(stray)[0]!r} is on neither side: this split was made for other rows")
        return np.where(train, "train", np.where(test, "test", ""))


def grouped_split(rows: pd.DataFrame, *, by: Sequence[str] = ("identity", "right"), test: float = 0.35, seed: int = 0) -> Split:
    """Hold out a share of the values of each column.

    Args:
        rows: A table with the columns of `by`; a constant column (one value) is not split.
        by: Names of the columns; values are held out column by column.
        test: Share of each column's values to hold out, between 0 and 1. The test rows are those held out in every column:
            with two columns about `test`² of the rows. Raising it moves rows from training to test.
        seed: Draws the values.

    Returns:
        The split. At least one value of each column is on either side.

    Raises:
        BadInput: No column has two values, or the share is out of range.
        MissingColumn: The rows lack a column, or a row has no value in it.
    """
    if not 0 < test < 1:
        raise BadInput(f"test is a share between 0 and 1, got {test}")
    train_side: dict[str, frozenset[str]] = {}
    test_side: dict[str, frozenset[str]] = {}
    for column in by:
        if column not in rows:
            raise MissingColumn(f"no column {column!r} to split by; there are: {', '.join(rows.columns)}")
        _check_named(rows, column)
        values = sorted(set(rows[column].astype(str)))
        if len(values) < 2:
            continue
        order = numpy_rng(seed, "split", column).permutation(len(values))
        held = {values[i] for i in order[: max(1, min(len(values) - 1, round(test * len(values))))]}
        test_side[column] = frozenset(held)
        train_side[column] = frozenset(set(values) - held)
    if not test_side:
        raise BadInput(f"nothing to split: each of {', '.join(by)} has a single value")
    return Split(train=train_side, test=test_side, seed=seed)


def _check_named(rows: pd.DataFrame, column: str) -> None:
    """Raise if a row has no value in a column: all such rows would be one group, "nan"."""
    empty = rows[column].isna().to_numpy()
    if empty.any():
        raise MissingColumn(f"row {int(empty.argmax())} has no {column} to split by ({int(empty.sum())} such rows); fill it in")


def grouped_folds(
    rows: pd.DataFrame, k: int = 5, *, by: Sequence[str] = ("identity", "right"), seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Cut rows into k folds that share no value of any column.

    The values of each column are divided into k parts. The validation rows of fold j are in part j by every column; its
    fitting rows are in part j by no column. Other rows are left out of fold j.

    Args:
        rows: A table with the columns of `by`; a column with fewer than k values is not divided.
        k: Number of folds, at least 2. Raising it leaves more rows to fit on and fewer to validate on.
        by: Names of the columns.
        seed: Draws the parts.

    Returns:
        Two boolean arrays, `fold x row`: the rows to fit on and the rows to validate on. Folds without either are dropped,
        so that there may be fewer than k.

    Raises:
        BadInput: There are fewer than two rows a fold, or no column has k values.
        MissingColumn: The rows lack a column, or a row has no value in it.
    """
    if k < 2:
        raise BadInput(f"{k} folds: 2 at least")
    if len(rows) < 2 * k:
        raise BadInput(f"{len(rows)} rows for {k} folds: two rows a fold at least; ask for fewer folds")
    fit, validate, cut = np.ones((k, len(rows)), bool), np.ones((k, len(rows)), bool), []
    for column in by:
        if column not in rows:
            raise MissingColumn(f"no column {column!r} to cut folds by; there are: {', '.join(rows.columns)}")
        _check_named(rows, column)
        values, codes = np.unique(rows[column].astype(str).to_numpy(), return_inverse=True)
        if len(values) < k:
            continue
        part = (numpy_rng(seed, "folds", column).permutation(len(values)) % k)[codes]
        here = part[None] == np.arange(k)[:, None]
        fit, validate = fit & ~here, validate & here
        cut.append(column)
    if not cut:
        counts = ", ".join(f"{rows[c].nunique()} values of {c}" for c in by)
        raise BadInput(f"{k} folds need {k} groups, and there are {counts}; ask for fewer folds")
    good = fit.any(1) & validate.any(1)
    return fit[good], validate[good]
