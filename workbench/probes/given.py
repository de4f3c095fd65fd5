"""What a supervised probe is fitted on: contrast pairs, or single rows of two classes, in normalised units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from ..activations import Activations
from ..core.errors import BadInput, MissingColumn, ShapeMismatch
from ..core.types import Float, Int, Tensor
from .scaling import Normaliser, Scaler, matrix, pair, two_classes


@dataclass(frozen=True, kw_only=True)
class Given:
    """What a supervised probe is fitted on, checked and normalised: contrast pairs, or single rows of two classes.

    Attributes:
        x: Rows, or the positive variants of pairs, `item x d_model`.
        y: The negative variants, pair by pair; `None` for rows.
        classes: The class of each row, or which variant of each pair is true, 0 or 1.
        scaler: The normalisation, which says whether these are rows or pairs.
    """

    x: Float[Tensor, "item d_model"]
    y: Float[Tensor, "item d_model"] | None
    classes: Int[np.ndarray, " item"]
    scaler: Scaler | Normaliser

    @property
    def both(self) -> Float[Tensor, "row d_model"]:
        """All rows, of both variants."""
        return self.x if self.y is None else torch.cat([self.x, self.y])

    @classmethod
    def of(cls, positive: Any, negative: Any, labels: ArrayLike, normalise: str = "mean_std", **how: Any) -> Given:
        """Check and normalise.

        Args:
            positive: Positive variants of pairs, `item x d_model`; or single rows.
            negative: Negative variants, pair by pair; `None` with single rows.
            labels: Which variant of each pair is true, or the class of each row, 0 or 1.
            normalise: "mean_std", "mean" or "none", with statistics of these rows.
            how: Of pairs, as for `Normaliser.fit`.

        Raises:
            OneClass, NotFinite, ShapeMismatch: As for `pair` and `two_classes`.
            BadInput: Nothing varies, or an option of pairs is given for rows.
        """
        if negative is None:
            rows = matrix(positive, "rows")
            classes = two_classes(labels, len(rows))
            if how.get("erase_variant") or how.get("per", "variant") == "template":
                raise BadInput("erase_variant= and per='template' are for contrast pairs; these are single rows")
            if bool((rows == rows[0]).all()):
                raise BadInput("no feature varies over these rows: there is nothing to tell the classes apart by")
            scaler = Scaler.fit(rows, normalise)
            return cls(x=scaler(rows), y=None, classes=classes, scaler=scaler)
        x, y = pair(positive, negative)
        classes = two_classes(labels, len(x))
        normaliser = Normaliser.fit(x, y, normalise=normalise, **how)
        a, b = normaliser(x, y, how.get("groups"))
        if float((a - b).abs().max()) == 0:
            raise BadInput("both variants are the same in every pair: there is nothing to tell them apart by")
        return cls(x=a, y=b, classes=classes, scaler=normaliser)


def scaled(
    scaler: Scaler | Normaliser, positive: Any, negative: Any, groups: Sequence[str] | None = None
) -> tuple[Float[Tensor, "item d_model"], Float[Tensor, "item d_model"] | None]:
    """Return rows or pairs in the normalised units of a fitted probe.

    Args:
        scaler: The probe's normalisation.
        positive: Positive variants of pairs, `item x d_model`, in raw units; for a probe of rows, the rows.
        negative: Negative variants, pair by pair; `None` for a probe of rows.
        groups: The prompt form of each item, where the probe was normalised by form.

    Raises:
        ShapeMismatch: Pairs given to a probe of rows, or the reverse, or another width.
    """
    paired = isinstance(scaler, Normaliser)
    if paired != (negative is not None):
        raise ShapeMismatch(f"this probe reads {'pairs: give positive and negative' if paired else 'rows: give one matrix'}")
    if isinstance(scaler, Scaler):
        return scaler(matrix(positive, "rows")), None
    return scaler(*pair(positive, negative), groups)


def width_of(scaler: Scaler | Normaliser) -> int:
    """Return the width that a normalisation was fitted on."""
    return len((scaler if isinstance(scaler, Scaler) else scaler.scalers[0]).mean)


def column(acts: Activations, name: str) -> Int[np.ndarray, " item"]:
    """Return a 0/1 column of the row table.

    Args:
        acts: Activations with a row table.
        name: Name of the column.

    Returns:
        The column, one value per item.

    Raises:
        MissingColumn: There is no such column.
        BadInput: It holds other values than 0 and 1.
    """
    if name not in acts.rows:
        raise MissingColumn(f"the rows have no column {name!r}; there are: {', '.join(acts.rows.columns)}")
    return two_classes(acts.rows[name].to_numpy(), len(acts)) if acts.rows[name].nunique() > 1 else acts.rows[name].to_numpy()
