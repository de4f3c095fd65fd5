"""Level 3 of geometry: push along one direction, read along another, at equal distance from the unpushed model.

Two directions can be orthogonal and yet move each other, because blocks above carry one into the other. Or they can be opposite and yet
leave each other alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm.auto import tqdm

from ..core.direction import Direction
from ..core.errors import BadInput
from ..core.seeds import torch_rng
from ..core.stats import benjamini_hochberg, mean, permutation_p
from ..interventions.custom import Push, edits_of
from ..interventions.norms import share, stream_norms
from ..models import Edit, info
from ..models.hooks import check_layer
from ..models.tokens import answer_tokens
from ..prompts import PromptSet
from .pushed import Pushed, Said

POSITIONS = ("stem_last", "instruction_last", "stem")
RANDOM = "random"
KINDS = {"add": 1.0, "subtract": -1.0, "ablate": 0.0}
KEYS = ["layer", "site", "position", "pushed", "kind", "read", "metric"]
COLUMNS = [*KEYS, "value", "low", "high", "n", "p", "q", "direct", "coefficient", "norm_share", "kl", "note"]
TESTED = 39  # random pushes below which no effect can be told from theirs at 5 % on both sides


def cross_steering(
    model: Any,
    prompts: PromptSet,
    push: Mapping[str, Mapping[int, Direction]],
    read: Mapping[str, Direction],
    *,
    read_layer: int,
    positions: Sequence[str] = ("stem_last",),
    kl: float = 0.1,
    random: int = TESTED,
    kinds: Iterable[str | Push] | Mapping[str, str | Push] = tuple(KINDS),
    tolerance: float = 0.05,
    seed: int = 0,
    progress: bool | None = None,
) -> pd.DataFrame:
    """Push along A, read B and the behaviour.

    Every push is scaled until the next-token distribution after the stem is, on average over prompts, `kl` nats away from the unpushed
    model's (KL(unpushed || pushed)). So strong and weak directions are compared at one cost; each way to push has its own scale.

    Args:
        model: What `load_model` returns.
        prompts: Held-out items; the two endings of each are the behaviour that is measured.
        push: Directions to push along, by name and layer, in `resid_post`.
        read: Directions to read along at `read_layer`, by name.
        read_layer: At or above the layers of the pushes.
        positions: Where to push: "stem_last", "instruction_last", or "stem" (every token of the stem but a first special one).
        kl: The distance, in nats; raising it pushes harder.
        random: Random directions of the control; 0 for none, 39 at least for a test at 5 %. They stand in the table as one, "random", with
            the smallest and largest of their effects. "subtract" has those of "add": a random direction and its opposite are alike.
        kinds: Ways to push. "add" and "subtract" add the direction with either sign. "ablate" sets the coordinate along A to its mean over
            prompts at those positions; it has no strength, so its distance is whatever it comes to. Or a function of your own that maps
            (direction, strength) to edits, as `wb.add` does; it is called by its own name, or by its key in a mapping. Its edits act at the
            positions asked for, whatever their scope, and the strength is sought from .3 of the stream's mean norm on, in multiples of the
            direction's own length.
        tolerance: How near to `kl` is near enough, relative to it.
        seed: Draws the random directions.
        progress: Show a progress bar; `None` shows it in a terminal or a notebook only.

    Returns:
        One row per layer x position x A (`pushed`) x `kind` x B (`read`, or "behaviour"). For a direction, `value` is the mean change of
        the coordinate along B in standard deviations over unpushed prompts; `direct` is the part of it that is the added vector itself,
        carried along the residual stream (`nan` for a push of your own). For "behaviour", `value` is the mean change of the log-odds of
        the positive ending. Other columns: `layer, site, position, metric, low, high, n`, `coefficient` (raw units; the strength of a push
        of your own), `norm_share` (of the stream's length after that block: median over tokens,
        attention sinks left out; `nan` for a push of your own), `kl` (as reached), `note` (empty, or
        why it is not the one asked for), `p` (two-sided, against the random directions: how often one of them moves B as far) and `q`
        (adjusted over all rows; Benjamini and Hochberg).

    Raises:
        BadInput: No such position or kind, a push above the reading layer, or a function that returns no edits.
        WrongModel: A direction of another model or layer.
        UnknownLayer, AnswerTokens, TokenBoundary: Before any forward pass.

    References:
        Phipson and Smyth 2010 (p counts the observed push itself, so B directions give 1 / (B + 1) at least).

    Note:
        At equal KL a direction that the output depends on little gets a large coefficient; `norm_share` says how far that is from
        anything the model does by itself.

    Example:
        >>> import workbench as wb
        >>> from workbench.evaluation import cross_steering
        >>> model = wb.load_model("bundled")
        >>> prompts = wb.prompts.udhr("base_short", n=8)
        >>> d = wb.Direction.of(wb.capture(model, prompts, layers=[3], progress=False).layer(3)[0, 1])
        >>> def turn(direction, strength):  # any function of direction and strength that returns edits
        ...     return wb.rotate(direction, 10 * strength)
        >>> table = cross_steering(
        ...     model, prompts, {"d": {3: d}}, {"d": d}, read_layer=3, kinds=["add", turn], random=0, progress=False
        ... )
        >>> list(table["kind"].unique())
        ['add', 'turn']

    References:
        Wollschlaeger et al. 2025, arXiv 2502.17420 (orthogonal is not independent under intervention).
    """
    read_layer = check_layer(model, read_layer)
    ways = _ways(kinds)
    _check(model, push, read, read_layer, positions)
    names = sorted(read)
    reading = _Reading(
        names=names,
        basis=torch.stack([read[n].unit for n in names], 1),
        tokens=[answer_tokens(model, (p.negative, p.positive)) for p in prompts],
        people=np.array([p.right or p.identity for p in prompts]),
    )
    rows: list[dict[str, Any]] = []
    jobs = _jobs(push, len(next(iter(read.values())).unit), random, seed)
    places = [("resid_post", layer) for layer, _, _ in jobs]
    for position in positions:
        bar = tqdm(total=len(jobs) * len(ways), desc=f"push at {position}", disable=None if progress is None else not progress)
        pushed, lengths = Pushed(model, prompts, position, read_layer), stream_norms(model, prompts, places)
        for layer, name, d in jobs:
            norm, middle = pushed.norms(layer, d.unit)
            for kind, way in ways.items():
                if name.startswith(f"{RANDOM} ") and kind == "subtract" and "add" in ways:
                    bar.update()
                    continue
                size, said, apart = _push(pushed, way, d, layer, kl, norm, middle, tolerance)
                sign = KINDS[way] if isinstance(way, str) else 0.0
                reached = way == "ablate" or abs(apart / kl - 1) <= 2 * tolerance
                common = {
                    "layer": layer,
                    "site": "resid_post",
                    "position": position,
                    "pushed": name,
                    "kind": kind,
                    "coefficient": sign * size if sign else size,
                    "norm_share": share(size, lengths["resid_post", layer]) if isinstance(way, str) else float("nan"),
                    "kl": apart,
                    "note": "" if reached else f"{apart:.3g} nats is as near as it comes to {kl:g}",
                }
                carried = sign * size if sign and position != "instruction_last" else 0.0 if isinstance(way, str) else float("nan")
                rows += [common | row for row in reading.rows(pushed.base, said, d.unit, carried)]
                bar.update()
        bar.close()
    return _pooled(pd.DataFrame(rows))


def _ways(kinds: Iterable[str | Push] | Mapping[str, str | Push]) -> dict[str, str | Push]:
    """Return the ways to push by name, checked."""
    given: Any = kinds
    if isinstance(kinds, Mapping):
        given = kinds.items()
    else:
        given = [(k if isinstance(k, str) else getattr(k, "__name__", "push"), k) for k in kinds]
    out: dict[str, Any] = {}
    for name, way in given:
        if (way not in KINDS or name != way) if isinstance(way, str) else not callable(way):
            raise BadInput(f"kind {way!r}: one of {', '.join(KINDS)}, or a function that maps (direction, strength) to edits")
        if name in out or (name in KINDS and not isinstance(way, str)):
            raise BadInput(f"two ways to push are named {name!r}; name yours in a mapping: kinds={{'mine': function}}")
        out[name] = way
    return out


def _check(
    model: Any,
    push: Mapping[str, Mapping[int, Direction]],
    read: Mapping[str, Direction],
    read_layer: int,
    positions: Sequence[str],
) -> None:
    """Raise unless positions exist, and directions come from where they are pushed and read."""
    for name in positions:
        if name not in POSITIONS:
            raise BadInput(f"position {name!r}: one of {', '.join(POSITIONS)}")
    place = {"model": info(model).key(), "site": "resid_post"}
    for name, by_layer in push.items():
        if name.startswith(RANDOM):
            raise BadInput(f"a push named {name!r}: names that begin with {RANDOM!r} are the control's")
        for layer, d in by_layer.items():
            if check_layer(model, layer) > read_layer:
                raise BadInput(f"{name!r} is pushed at layer {layer}, above the reading layer {read_layer}: nothing could arrive")
            d.check_place(place | {"layer": layer})
    for d in read.values():
        d.check_place(place | {"layer": read_layer})


def _jobs(push: Mapping[str, Mapping[int, Direction]], width: int, random: int, seed: int) -> list[tuple[int, str, Direction]]:
    """Return every direction that is pushed, by layer and name, and the random ones after them."""
    layers = sorted({layer for by_layer in push.values() for layer in by_layer})
    jobs = [
        (layer, name, replace(d[layer], provenance={**d[layer].provenance, "site": "resid_post", "layer": layer}))
        for layer in layers
        for name, d in push.items()
        if layer in d
    ]
    for layer in layers:
        for k in range(random):
            v = torch.randn(width, generator=torch_rng(seed, "random push", layer, k))
            place = {"site": "resid_post", "layer": layer}
            jobs.append((layer, f"{RANDOM} {k}", Direction(unit=v / v.norm(), scale=1.0, method=f"{RANDOM} {k}", provenance=place)))
    return jobs


def _push(
    pushed: Pushed, way: str | Push, d: Direction, layer: int, kl: float, norm: float, middle: float, tolerance: float
) -> tuple[float, Said, float]:
    """Push in one way, at equal distance if the way has a strength; return the strength, what is said, and the distance."""
    unit = d.unit

    def edit(function: Any) -> list[Edit]:
        return [Edit(site="resid_post", layer=layer, function=function, label="push")]

    def own(strength: float) -> list[Edit]:
        edits = list(edits_of(way, d, strength))  # pyright: ignore[reportArgumentType]
        for e in edits:
            if check_layer(pushed.model, e.layer) > pushed.read_layer:
                raise BadInput(f"{e.label} acts at layer {e.layer}, above the reading layer {pushed.read_layer}: nothing could arrive")
        return edits

    if way == "ablate":
        said, apart = pushed.say(edit(lambda x: x - ((x @ unit.to(x)) - middle)[..., None] * unit.to(x)))
        return float("nan"), said, apart
    if isinstance(way, str):
        sign = KINDS[way]
        return pushed.scaled(lambda size: edit(lambda x: x + sign * size * unit.to(x)), kl, 0.3 * norm, tolerance)
    return pushed.scaled(own, kl, 0.3 * norm / d.scale, tolerance)


class _Reading:
    """What is read of every push: the coordinates along directions, and the behaviour."""

    def __init__(
        self,
        *,
        names: Sequence[str],
        basis: Tensor,
        tokens: Sequence[Sequence[Sequence[int]]],
        people: np.ndarray,
    ) -> None:
        self.names, self.basis, self.tokens, self.people = names, basis, tokens, people

    def rows(self, base: Said, said: Said, unit: Tensor, carried: float) -> list[dict[str, Any]]:
        """Return a row per direction and one for the behaviour; `carried` is the length of the added vector."""
        spread = (base.stream @ self.basis).std(0).clamp(min=1e-12)
        direct = carried * (unit @ self.basis) / spread + 0.0  # never -0
        moved = (said.stream - base.stream) @ self.basis / spread
        out: list[dict[str, Any]] = []
        for k, name in enumerate(self.names):
            change = mean(moved[:, k].numpy(), self.people)
            out.append({"read": name, "metric": "change, sd", "direct": float(direct[k]), **change.row()})
        odds = mean((self._odds(said.logp) - self._odds(base.logp)).numpy(), self.people)
        return [*out, {"read": "behaviour", "metric": "change, log-odds", "direct": float("nan"), **odds.row()}]

    def _odds(self, logp: Tensor) -> Tensor:
        pairs = zip(logp, self.tokens, strict=True)
        return torch.stack([row[positive].logsumexp(0) - row[negative].logsumexp(0) for row, (negative, positive) in pairs])


def _pooled(table: pd.DataFrame) -> pd.DataFrame:
    """Random directions as one row: the mean effect, and the smallest and largest of them; every other push is held against them."""
    chance = table["pushed"].str.startswith(f"{RANDOM} ")
    own, drawn = table[~chance].reset_index(drop=True).assign(p=np.nan, q=np.nan), table[chance]
    if not len(drawn):
        return own[COLUMNS]
    if {"add", "subtract"} <= set(own["kind"]) and "subtract" not in set(drawn["kind"]):
        drawn = pd.concat([drawn, drawn[drawn["kind"] == "add"].assign(kind="subtract")])
    keys = [k for k in KEYS if k != "pushed"]
    rows = []
    for key, part in drawn.groupby(keys, sort=False):
        means = {c: part[c].mean() for c in ("value", "direct", "coefficient", "norm_share", "kl")}
        ends = {"low": part["value"].min(), "high": part["value"].max(), "n": int(part["n"].iloc[0])}
        note = f"{len(part)} directions: mean, smallest and largest"
        rows.append(dict(zip(keys, key, strict=True)) | means | ends | {"pushed": RANDOM, "note": note})
        same = (own[keys] == pd.Series(dict(zip(keys, key, strict=True)))).all(axis=1)
        own.loc[same, "p"] = [permutation_p(float(v), part["value"], two_sided=True) for v in own.loc[same, "value"]]
    known = own["p"].notna()
    own.loc[known, "q"] = benjamini_hochberg(own.loc[known, "p"])
    return pd.concat([own, pd.DataFrame(rows)], ignore_index=True)[COLUMNS]
