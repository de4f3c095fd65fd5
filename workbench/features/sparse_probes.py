"""Sparse probing: how few latents of a dictionary does it take to read what a probe on the whole stream reads?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from ..core.errors import BadInput, OneClass, ShapeMismatch
from ..core.nulls import central, permutation_p
from ..core.ranking import auroc_influence
from ..core.seeds import numpy_rng
from ..core.stats import auroc, proportion
from ..core.types import Float, Tensor
from ..probes import LinearProbe, fit_logistic
from .dictionary import Dictionary

NUMBERS = (1, 2, 4, 8)
LATENTS, AXES, DENSE = "latents", "axes of the stream", "dense probe on the stream"
SHUFFLED, RANDOM = "shuffled labels", "random latents"


@dataclass(frozen=True, kw_only=True, eq=False)
class Labelled:
    """Rows of activations with labels.

    Attributes:
        x: The rows.
        y: 0 or 1 per row.
        people: Cluster (identity) of each row.
    """

    x: Float[Tensor, "row d_in"]
    y: NDArray[np.int64]
    people: NDArray[Any]

    def __post_init__(self) -> None:
        if not len(self.x) == len(self.y) == len(self.people):
            raise ShapeMismatch(f"{len(self.x)} rows, {len(self.y)} labels and {len(self.people)} clusters")
        if set(np.unique(self.y).tolist()) != {0, 1}:
            raise OneClass(f"labels are 0 and 1, both of them; got {np.unique(self.y).tolist()[:5]}")

    @classmethod
    def of_pairs(cls, positive: Float[Tensor, "pair d_in"], negative: Float[Tensor, "pair d_in"], people: Any) -> Labelled:
        """Return both rows of each pair: the first labelled 1, the second 0.

        Args:
            positive, negative: Paired rows.
            people: Cluster of each pair.
        """
        y = np.repeat([1, 0], len(positive))
        return cls(x=torch.cat([positive, negative]).float(), y=y, people=np.concatenate([np.asarray(people)] * 2))


def sparse_probes(
    dictionary: Dictionary,
    train: Labelled,
    test: Labelled,
    *,
    numbers: Sequence[int] = NUMBERS,
    draws: int = 39,
    seed: int = 0,
) -> pd.DataFrame:
    """Fit logistic probes on a few latents, beside a dense probe on the stream.

    The latents are those whose mean differs most between the two classes, in units of their standard deviation, on training rows.

    Args:
        dictionary: Of the place that the rows come from.
        train: Rows that latents are chosen and probes fitted on.
        test: Rows of other identities, on which they are read.
        numbers: Of latents.
        draws: Shuffled labels, and choices of random latents; 39 or more give their ends 95 %.
        seed: Draws them.

    Returns:
        Rows `subject, latents, metric, value, low, high, n, note`, metrics "auroc" and "accuracy" on the test rows, intervals clustered by
        identity. Subjects: "latents"; as controls as many "axes of the stream" chosen in the same way, "random latents" (of those that
        act), and "shuffled labels" (of the training rows, exchanged within identities: latents are chosen and fitted anew); and the "dense
        probe on the stream" (`latents` 0) with its own shuffled labels. The note names the latents, or says what a control's ends are.

    Raises:
        BadInput: Numbers that cannot be used, or an identity that is on both sides.
        ShapeMismatch, NotFinite: The rows do not fit the dictionary.

    References:
        Gurnee et al. 2023, arXiv 2305.01610.
    """
    if not numbers or min(numbers) < 1 or max(numbers) > min(dictionary.width, dictionary.d_in) or draws < 3:
        raise BadInput(f"numbers={tuple(numbers)} (1 to {min(dictionary.width, dictionary.d_in)}), draws={draws} (3 at least)")
    if both := sorted(set(map(str, train.people)) & set(map(str, test.people))):
        raise BadInput(
            f"{len(both)} identities are on both sides, {both[0]!r} among them: probes are read on others than they are fitted on"
        )
    latents = {"train": dictionary.encode(train.x), "test": dictionary.encode(test.x)}
    stream = {"train": train.x, "test": test.x}
    alive = np.flatnonzero((latents["train"] > 0).any(0).numpy())
    shuffles = list(_shuffles(train, draws, seed))
    rng = numpy_rng(seed, "random latents of sparse probes")
    rows: list[dict[str, Any]] = []
    for k in numbers:
        chosen = _chosen(latents["train"], train.y, k)
        value = _told(rows, LATENTS, k, latents, chosen, train.y, test, f"latents {', '.join(map(str, chosen.tolist()))}")
        axes = _chosen(stream["train"], train.y, k)
        _told(rows, AXES, k, stream, axes, train.y, test, f"axes {', '.join(map(str, axes.tolist()))}")
        null = [_scores(latents, _chosen(latents["train"], y, k), y) for y in shuffles]
        rows += _null(SHUFFLED, k, null, test.y, value)
        if len(alive) >= k:
            drawn = [_scores(latents, rng.choice(alive, k, replace=False), train.y) for _ in range(draws)]
            rows += _null(RANDOM, k, drawn, test.y, value)
    every = np.arange(dictionary.d_in)
    value = _told(rows, DENSE, 0, stream, every, train.y, test, "")
    rows += _null(SHUFFLED, 0, [_scores(stream, every, y) for y in shuffles], test.y, value)
    return pd.DataFrame(rows)


def _shuffles(train: Labelled, draws: int, seed: int) -> Iterator[NDArray[np.int64]]:
    rng, groups = numpy_rng(seed, "shuffled labels of sparse probes"), [np.flatnonzero(train.people == p) for p in np.unique(train.people)]
    for _ in range(draws):
        y = train.y.copy()
        for rows in groups:
            y[rows] = train.y[rng.permutation(rows)]
        yield y


def _chosen(x: Tensor, y: NDArray[np.int64], k: int) -> NDArray[np.int64]:
    """The k columns whose mean differs most between the classes, in standard deviations."""
    up = torch.from_numpy(y == 1)
    apart = (x[up].mean(0) - x[~up].mean(0)).abs() / x.std(0).clamp(min=1e-6)
    return apart.topk(k).indices.numpy()


def _probe(x: Tensor, y: NDArray[np.int64]) -> LinearProbe:
    up = torch.from_numpy(y == 1)
    return fit_logistic(x[up], x[~up])


def _scores(sides: dict[str, Tensor], columns: NDArray[Any], y: NDArray[np.int64]) -> NDArray[np.float64]:
    """Scores of the test rows, of a probe on some columns that was fitted on the training rows with these labels."""
    index = torch.from_numpy(np.asarray(columns))
    return np.asarray(_probe(sides["train"][:, index], y).score(sides["test"][:, index]), float)


def _told(
    rows: list[dict[str, Any]],
    name: str,
    k: int,
    sides: dict[str, Tensor],
    columns: NDArray[Any],
    y: NDArray[np.int64],
    test: Labelled,
    note: str,
) -> dict[str, float]:
    """Add the rows of one probe; return what it reaches."""
    scores, value = _scores(sides, columns, y), {}
    measured = {"auroc": auroc(scores, test.y, test.people), "accuracy": proportion((scores > 0) == (test.y == 1), test.people)}
    for metric, e in measured.items():
        rows.append({"subject": name, "latents": k, "metric": metric, **e.row(), "note": note})
        value[metric] = e.value
    return value


def _null(name: str, k: int, drawn: Sequence[NDArray[np.float64]], y: NDArray[np.int64], value: dict[str, float]) -> list[dict[str, Any]]:
    out = []
    for metric in ("auroc", "accuracy"):
        found = [auroc_influence(s, y)[0] if metric == "auroc" else float(((s > 0) == (y == 1)).mean()) for s in drawn]
        ends = central(found)
        note = f"{ends.note}; p = {permutation_p(value[metric], found):.2g}"
        told = {"value": ends.middle, "low": ends.low, "high": ends.high, "n": ends.draws, "note": note}
        out.append({"subject": name, "latents": k, "metric": metric, **told})
    return out
