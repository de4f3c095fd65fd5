"""What a direction is made of: latents of a dictionary, against controls, and which of them come back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from ..core.direction import Direction
from ..core.errors import BadInput, NotFinite, ShapeMismatch
from ..core.nulls import central, permutation_p
from ..core.seeds import derive, torch_rng
from ..core.show import Shown
from ..core.types import Float, Tensor
from ..interventions.cost import random_directions
from ..training import Adapter
from ..training.space import output_space
from .dictionary import Dictionary
from .pursuit import Path, pursue, unit_rows

NUMBERS = (1, 2, 4, 8, 16, 32)  # of latents at which the explained share is told
SHARE = 0.9  # of the squared length that a direction is made of
SAME = 0.7  # the cosine from which latents of two dictionaries count as one
DIRECTION, RANDOM, SHUFFLED, PERMUTED, UNTRAINED = (
    "direction",
    "random directions",
    "shuffled labels",
    "permuted dictionary",
    "untrained model's dictionary",
)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Decomposition(Shown):
    """A direction in latents.

    Attributes:
        method: "omp" or "nnls".
        path: The latents in the order in which they were taken.
        needed: How many explain 90 % of the squared length; 0 where `most` do not.
        parts: The latents that are needed (all that were taken, where 90 % is not reached): `latent, coefficient, share, returns, seeds`;
            `coefficient` in units of the latent's unit direction, `share` what the latent adds to the explained share when it is taken,
            `returns` in which share of the resamples it is needed too, `seeds` in which share of the dictionaries of other seeds.
        table: Explained shares and the number of latents, with controls: `subject, metric, latents, value, low, high, n, note`.
        direction: What was decomposed.
        dictionary: Into what.
    """

    method: str
    path: Path
    needed: int
    parts: pd.DataFrame
    table: pd.DataFrame
    direction: Direction
    dictionary: Dictionary = field(repr=False)

    @property
    def chosen(self) -> tuple[int, ...]:
        """The latents that are needed for 90 %; all that were taken where it is not reached."""
        return self.path.latents[: self.needed or None]

    @property
    def signs(self) -> dict[int, int]:
        """By latent, the sign of its coefficient among the chosen ones."""
        signs = np.sign(self.parts["coefficient"].to_numpy(float)).astype(int).tolist()
        return dict(zip(self.chosen, signs, strict=True))

    def _shown(self) -> tuple[str, Mapping[str, Any]]:
        told = (
            f"{self.needed} latents explain 90 %" if self.needed else f"{len(self.path.latents)} latents explain {self.path.at(10**6):.0%}"
        )
        return f"{self.direction.method or 'a direction'}: {told} ({self.method})", {"method": self.method, "latents": told}

    def _shown_tables(self) -> Sequence[pd.DataFrame]:
        return (self.parts, self.table)


def as_direction(given: Direction | Float[Tensor, " d_in"] | Adapter | Any, dictionary: Dictionary | None = None) -> Direction:
    """Return a direction, the weight of a probe, a vector, or what an adapter writes, as a direction.

    Args:
        given: A `Direction`; a fitted linear probe (its `vector`, in raw units); a vector; or an adapter: the first left singular vector of
            what it adds at the dictionary's place, turned so that its largest entry is positive (its sign is that of no answer).
        dictionary: Where an adapter is looked at.

    Returns:
        The direction.

    Raises:
        BadInput: It is none of these.
        NotFinite, ZeroDirection: The vector holds NaN, or has no length.
    """
    if isinstance(given, Direction):
        return given
    if isinstance(given, Adapter):
        return _written(given, dictionary)
    vector = given if isinstance(given, Tensor) else getattr(given, "vector", None)
    if isinstance(vector, Tensor) and vector.ndim == 1:
        return Direction.of(vector, method=str(getattr(given, "method", "vector")))
    raise BadInput(f"a direction, a linear probe or a vector, got {type(given).__name__}")


def _written(adapter: Adapter, dictionary: Dictionary | None) -> Direction:
    """The main direction that an adapter writes along at a dictionary's place."""
    known = {} if dictionary is None else dictionary.provenance
    place = f"{known.get('site')}[{known.get('layer')}]"
    if adapter.kind != "residual" or place not in adapter.parts:
        raise BadInput(
            f"the dictionary is of {place}, and the adapter ({adapter.kind}) has {', '.join(adapter.parts)}: what is decomposed is the "
            "output of a residual adapter at the dictionary's place"
        )
    unit = output_space(adapter, place)[:, 0]
    matrix = adapter.parts[place].matrix(adapter.factor).double()
    scale = float(torch.linalg.matrix_norm(matrix, 2))
    unit = unit * (1.0 if float(unit[unit.abs().argmax()]) > 0 else -1.0)
    where = {k: known[k] for k in ("site", "layer")} | {k: v for k, v in adapter.provenance.items() if k == "model"}
    return Direction.of(unit * scale, method="adapter's output", provenance=where)


def decompose(
    direction: Any,
    dictionary: Dictionary,
    *,
    method: str = "omp",
    most: int = 32,
    random: int = 39,
    resampled: Sequence[Direction] = (),
    shuffled: Sequence[Direction] = (),
    seeds: Sequence[Dictionary] = (),
    untrained: Sequence[Dictionary] = (),
    seed: int = 0,
) -> Decomposition:
    """Decompose a direction into latents of a dictionary, against controls.

    Args:
        direction: A direction, a linear probe, a vector, or a residual adapter (the main direction that it writes along).
        dictionary: A dictionary of the same place.
        method: "omp" (orthogonal matching pursuit, coefficients of either sign) or "nnls" (none below 0).
        most: Latents at most.
        random: Random directions of equal norm, and permuted dictionaries, of the controls; 39 or more give their ends 95 %.
        resampled: The direction from resamples of its rows (`bootstrap_directions`): gives intervals, and which latents come back.
        shuffled: Directions from the same rows with labels that say nothing (`shuffled_directions`).
        seeds: Dictionaries of other seeds: which latents come back there.
        untrained: Dictionaries of the untrained copy of the model.
        seed: Draws the controls.

    Returns:
        The decomposition.

    Raises:
        WrongModel: The direction, or a further dictionary, comes from another place.
        ShapeMismatch: Another width. NotFinite, ZeroDirection: A vector that is none.
        BadInput: A number that cannot be used.

    Note:
        A direction of few dimensions is made of few latents of any dictionary that is wide enough: compare with random directions.

    Example:
        >>> import torch, workbench as wb
        >>> units = torch.eye(8)
        >>> sae = wb.Dictionary(kind="standard", encoder=units, decoder=units, bias=torch.zeros(8), vectors={"b_enc": torch.zeros(8)})
        >>> wb.decompose(units[2] - 2 * units[5], sae, random=3).parts["latent"].tolist()
        [5, 2]
    """
    d = as_direction(direction, dictionary)
    if most < 1 or random < 1:
        raise BadInput(f"most={most}, random={random}: 1 at least")
    for other in (*seeds, *untrained):
        if other.d_in != dictionary.d_in:
            raise ShapeMismatch(f"dictionaries of width {dictionary.d_in} and {other.d_in}")
    for one in (d, *resampled, *shuffled):
        if len(one.unit) != dictionary.d_in:
            raise ShapeMismatch(f"a direction of width {len(one.unit)} and a dictionary of width {dictionary.d_in}")
        if not bool(one.unit.isfinite().all()):
            raise NotFinite("the direction holds NaN or infinity")
        dictionary.check_place(place=one.provenance)
    units = unit_rows(_decoder(dictionary))

    def paths(vectors: Sequence[Direction], own: NDArray[np.float64] = units) -> list[Path]:
        return [pursue(_array(v), own, most, method) for v in vectors]

    path = paths([d])[0]
    again = paths(resampled)
    drawn = paths(random_directions(d, random, seed))
    turned = [pursue(_array(d), unit_rows(_decoder(dictionary.permuted(derive(seed, "permuted", k)))), most, method) for k in range(random)]
    others = [paths([d], unit_rows(_decoder(o)))[0] for o in seeds]
    bare = [paths([d], unit_rows(_decoder(o)))[0] for o in untrained]
    controls = {RANDOM: drawn, SHUFFLED: paths(shuffled), PERMUTED: turned, UNTRAINED: bare}
    chosen = path.latents[: path.needed(SHARE) or None]
    parts = _parts(path, chosen, again)
    parts["seeds"] = _in_other_seeds(units, chosen, [(unit_rows(_decoder(o)), p) for o, p in zip(seeds, others, strict=True)])
    table = _table(path, again, controls, d.n)
    return Decomposition(method=method, path=path, needed=path.needed(SHARE), parts=parts, table=table, direction=d, dictionary=dictionary)


def _array(d: Direction) -> NDArray[np.float64]:
    return d.vector.double().numpy()


def _decoder(dictionary: Dictionary) -> NDArray[np.float64]:
    return dictionary.decoder.detach().double().cpu().numpy()


def _parts(path: Path, chosen: tuple[int, ...], again: Sequence[Path]) -> pd.DataFrame:
    """The chosen latents, their coefficients, and in how many resamples each is needed."""
    k = len(chosen)
    shares = np.diff(path.explained[:k], prepend=0.0)
    needed = [set(p.latents[: p.needed(SHARE) or None]) for p in again]
    back = [float(np.mean([i in s for s in needed])) if needed else np.nan for i in chosen]
    own = path.coefficients[k - 1, :k] if k else []
    return pd.DataFrame({"latent": list(chosen), "coefficient": own, "share": shares, "returns": back})


def _in_other_seeds(units: NDArray[np.float64], chosen: tuple[int, ...], others: Sequence[tuple[NDArray[np.float64], Path]]) -> list[float]:
    """In which share of other dictionaries each latent has a counterpart (cosine .7 or more) that is needed there."""
    if not others:
        return [float("nan")] * len(chosen)
    hits = np.zeros((len(others), len(chosen)))
    for k, (own, path) in enumerate(others):
        needed = list(path.latents[: path.needed(SHARE) or None])
        if needed and chosen:
            hits[k] = (units[list(chosen)] @ own[needed].T).max(1) >= SAME
    return hits.mean(0).tolist()


def _table(path: Path, again: Sequence[Path], controls: Mapping[str, Sequence[Path]], n: int) -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    most = len(path.latents)
    for k in [number for number in NUMBERS if number <= max(most, 1)]:
        value = path.at(k)
        rows.append(_own("explained", k, value, [p.at(k) for p in again], n))
        for name, drawn in controls.items():
            if drawn:
                rows.append(_control(name, "explained", k, value, [p.at(k) for p in drawn]))
    value = path.needed(SHARE) or np.nan
    rows.append(_own("latents to 90 %", 0, value, [p.needed(SHARE) for p in again if p.needed(SHARE)], n))
    for name, drawn in controls.items():
        if not drawn:
            continue
        reached = [p.needed(SHARE) for p in drawn if p.needed(SHARE)]
        if len(reached) == len(drawn):
            rows.append(_control(name, "latents to 90 %", 0, np.nan, reached))
        else:
            note = f"reached in {len(reached)} of {len(drawn)}"
            rows.append(_row(name, "latents to 90 %", 0, np.nan, np.nan, np.nan, len(drawn), note))
    return pd.DataFrame(rows)


def _row(subject: str, metric: str, k: int, value: float, low: float, high: float, n: int, note: str) -> dict[str, Any]:
    return {"subject": subject, "metric": metric, "latents": k, "value": value, "low": low, "high": high, "n": n, "note": note}


def _own(metric: str, k: int, value: float, draws: Sequence[float], n: int) -> dict[str, Any]:
    """The direction itself, between the ends of its resamples."""
    if np.isnan(value):
        return _row(DIRECTION, metric, k, value, np.nan, np.nan, n, "not reached with so many latents")
    if not draws:
        return _row(DIRECTION, metric, k, value, np.nan, np.nan, n, "no interval: give directions of resampled rows (resampled=)")
    ends = central(draws)
    note = f"between the ends of {ends.draws} resamples of the rows"
    return _row(DIRECTION, metric, k, value, min(ends.low, value), max(ends.high, value), n, note)


def _control(name: str, metric: str, k: int, value: float, draws: Sequence[float]) -> dict[str, Any]:
    ends = central(draws)
    p = "" if np.isnan(value) else f"; p = {permutation_p(value, draws):.2g}"
    return _row(name, metric, k, ends.middle, ends.low, ends.high, ends.draws, ends.note + p)


def side_by_side(first: Decomposition, second: Decomposition, *, draws: int = 199, seed: int = 0) -> pd.DataFrame:
    """Lay two decompositions in one dictionary side by side: which latents do they share, which with opposite signs?

    The null holds the first direction, and turns the second about it at random: other directions at the same angle to the first.

    Args:
        first, second: Decompositions in the same dictionary by the same method.
        draws: Of the null.
        seed: Draws them.

    Returns:
        `relation, value, low, high, n, p`: the number of latents `shared` (needed by both, with one sign), `opposed` (with two) and `only
        first` and `only second`; `low` to `high` is the central 95 % of the null, n its draws, and p the share of draws with as many.

    Raises:
        BadInput: Two dictionaries, or two methods.
    """
    if first.dictionary.key != second.dictionary.key or first.method != second.method:
        raise BadInput("two decompositions side by side are in one dictionary, by one method")
    units = unit_rows(_decoder(first.dictionary))
    a, b = first.direction.unit.double(), second.direction.unit.double()
    along = float(a @ b)
    most = max(len(first.path.latents), len(second.path.latents))
    rng = torch_rng(seed, "side by side")
    null = []
    for _ in range(draws):
        r = torch.randn(len(a), generator=rng, dtype=torch.float64)
        r = r - (r @ a) * a
        turned = along * a + max(0.0, 1 - along**2) ** 0.5 * r / r.norm()
        path = pursue(turned.numpy(), units, most, first.method)
        k = path.needed(SHARE) or len(path.latents)
        signs = np.sign(path.coefficients[k - 1, :k]).astype(int).tolist()
        null.append(_relations(first.signs, dict(zip(path.latents[:k], signs, strict=True))))
    own, rows = _relations(first.signs, second.signs), []
    for name, value in own.items():
        drawn = [d[name] for d in null]
        ends = central(drawn)
        rows.append(
            {"relation": name, "value": value, "low": ends.low, "high": ends.high, "n": len(drawn), "p": permutation_p(value, drawn)}
        )
    return pd.DataFrame(rows)


def _relations(a: Mapping[int, int], b: Mapping[int, int]) -> dict[str, int]:
    both = set(a) & set(b)
    return {
        "shared": sum(a[i] == b[i] for i in both),
        "opposed": sum(a[i] != b[i] for i in both),
        "only first": len(set(a) - both),
        "only second": len(set(b) - both),
    }
