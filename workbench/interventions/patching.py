"""Activation patching: put what one run has at a place into another run, and see how much of the behaviour comes with it.

*Clean* is the run whose behaviour is wanted (under a good claim, say), *corrupted* the other. "denoise" runs corrupted and patches clean
in: what restores the behaviour was enough. "noise" runs clean and patches corrupted in: what breaks it was needed. On one scale,

    recovered = (patched - corrupted) / (clean - corrupted)          a ratio of means over prompts: 0 corrupted, 1 clean

A place that recovers much carries the difference; it need not be where it is computed, and places add up to more or less than 1.

References:
    Vig et al. 2020, arXiv 2004.12265; Meng et al. 2022, arXiv 2202.05262; Heimersheim and Nanda 2024, arXiv 2404.15255 (denoising and
    noising); Nanda 2023, "Attribution patching" (gradient times difference).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor
from tqdm.auto import tqdm

from ..core.direction import Direction
from ..core.errors import BadInput
from ..core.stats import cluster_weights
from ..models import info
from ..models.hooks import check_layers, hook_point
from ..models.replay import by_length
from ..prompts import PromptSet
from .alignment import Aligned, align
from .chunk import Chunk
from .metrics import Metric, metric_of

ROWS = 64  # changed copies of a stream that go on together
ITEMS = 16  # prompts of one length that are read together


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One place to patch: a block, a head of it or all (-1), and a named part of the prompt."""

    layer: int
    head: int
    position: str


@dataclass(kw_only=True)
class Patched:
    """Values of the metric, before they become a table.

    Attributes:
        cells: The places.
        values: `cell x item`; `nan` where an item has no such part.
        clean, corrupted: `item`.
    """

    cells: list[Cell]
    values: np.ndarray
    clean: np.ndarray
    corrupted: np.ndarray
    tokens: dict[str, str] = field(default_factory=dict)


def patch(
    model: Any,
    clean: PromptSet,
    corrupted: PromptSet,
    metric: str | Metric | Callable[..., Tensor] = "logit_diff",
    *,
    site: str = "resid_post",
    layers: Sequence[int] | int | None = None,
    positions: str | Sequence[int] = "token",
    heads: bool = False,
    way: str = "denoise",
    along: Direction | Mapping[int, Direction] | None = None,
    align_by: str = "same",
    method: str = "exact",
    clusters: Sequence[str] | None = None,
    resamples: int = 1000,
    seed: int = 0,
    engine: str = "auto",
    progress: bool | None = None,
) -> pd.DataFrame:
    """Patch every layer and position, one at a time.

    Args:
        model: What `load_model` returns.
        clean, corrupted: Contrast pairs; item i of one goes with item i of the other. Their stems are run.
        metric: "logit_diff" (of the ending that the clean item's label names, minus the other's), "probability" (of that ending), "kl"
            (minus KL(clean || now), nats), a `probe_metric`, or a function of logits `row x vocabulary` and item indices.
        site: "resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out", "z" or "pattern".
        layers: Blocks; `None` for all.
        positions: As for `align`: "token", "segment", "last", or distances from the end.
        heads: Patch each head by itself (`z` and `pattern`).
        way: "denoise" or "noise".
        along: Exchange only the component along a direction, one for all layers or one for each: does this line carry the effect?
        align_by: "same", "diff" or "end", for stems of different lengths.
        method: "exact", or "attribution": one pass and one gradient for all places, a first-order guess (`attribution_error` says how good).
        clusters: Of the items, for the interval; by default their identities.
        resamples, seed: Of the bootstrap over clusters.
        engine: "auto", "replay" (go on from the patched block; an error where the model does not allow it) or "full" (whole passes).
        progress: Show a progress bar.

    Returns:
        One row per layer x head x position: `layer, site, head, position, token, way, method, metric, value` (recovered), `low, high, n`,
        and the means `clean, corrupted, patched`. `token` is the commonest there.

    Raises:
        Alignment: Stems of different lengths without a word how they go together.
        UnknownSite, UnknownLayer, AnswerTokens, WrongModel: Before any forward pass.
    """
    found = patched_values(
        model,
        clean,
        corrupted,
        metric,
        site=site,
        layers=layers,
        positions=positions,
        heads=heads,
        way=way,
        along=along,
        align_by=align_by,
        method=method,
        engine=engine,
        progress=progress,
    )
    people = [p.identity or str(i) for i, p in enumerate(corrupted)] if clusters is None else list(clusters)
    name = metric if isinstance(metric, str) else getattr(metric, "name", getattr(metric, "__name__", "metric"))
    extra = {"site": site, "way": way, "method": method + ("" if along is None else ", along a direction"), "metric": name}
    return to_table(found, people, extra, resamples=resamples, seed=seed)


def to_table(found: Patched, clusters: Sequence[str], extra: Mapping[str, Any], *, resamples: int = 1000, seed: int = 0) -> pd.DataFrame:
    """Return one row per place: what it recovers, with an interval over clusters of items."""
    n = len(found.clean)
    weights = np.concatenate([np.ones((1, n)), cluster_weights(list(clusters), n, resamples, seed)])
    rows = []
    for cell, values in zip(found.cells, found.values, strict=True):
        here = np.isfinite(values)
        w = weights[:, here]
        total = np.maximum(w.sum(1), 1e-12)
        patched, clean, corrupted = ((w @ v[here]) / total for v in (values, found.clean, found.corrupted))
        gap = clean - corrupted
        with np.errstate(invalid="ignore", divide="ignore"):
            draws = (patched - corrupted) / np.where(np.abs(gap) > 1e-9, gap, np.nan)
        rest = draws[1:][np.isfinite(draws[1:])]
        low, high = (
            np.quantile(rest, [0.025, 0.975])
            if len(rest) > resamples / 2 and len(set(np.asarray(clusters)[here])) > 1
            else (np.nan, np.nan)
        )
        rows.append(
            {
                "layer": cell.layer,
                "site": extra["site"],
                "head": cell.head,
                "position": cell.position,
                "token": found.tokens.get(cell.position, ""),
                "way": extra["way"],
                "method": extra["method"],
                "metric": extra["metric"],
                "value": float(draws[0]),
                "low": float(low),
                "high": float(high),
                "n": int(here.sum()),
                "clean": float(clean[0]),
                "corrupted": float(corrupted[0]),
                "patched": float(patched[0]),
            }
        )
    return pd.DataFrame(rows)


def patched_values(
    model: Any,
    clean: PromptSet,
    corrupted: PromptSet,
    metric: str | Metric | Callable[..., Tensor],
    *,
    site: str,
    layers: Any,
    positions: Any,
    heads: bool = False,
    way: str = "denoise",
    along: Any = None,
    align_by: str = "same",
    method: str = "exact",
    engine: str = "auto",
    progress: bool | None = None,
) -> Patched:
    """Return what `patch` makes its table of, item by item; arguments as there."""
    blocks = check_layers(model, layers)
    for layer in blocks:
        hook_point(model, site, layer)
    if way not in ("denoise", "noise") or method not in ("exact", "attribution") or engine not in ("auto", "replay", "full"):
        raise BadInput(f"way {way!r} is denoise or noise, method {method!r} exact or attribution, engine {engine!r} auto, replay or full")
    if heads and site not in ("z", "pattern"):
        raise BadInput(f"heads can be patched at 'z' and 'pattern', not at {site!r}")
    lines = _lines(model, along, blocks, site)
    aligned = align(model, clean, corrupted, how=align_by, positions=positions)
    if site == "pattern" and any(len(a.clean) != len(a.corrupted) for a in aligned):
        raise BadInput("attention patterns can be exchanged between stems of equal length only")
    measure = metric_of(model, metric, clean)
    count = int(model.cfg.n_heads) if heads else 0
    names = list(dict.fromkeys(name for a in aligned for name in a.groups))
    names.sort(key=lambda p: _order(p, aligned))
    cells = [Cell(layer=n, head=h, position=p) for n in blocks for h in (range(count) if heads else [-1]) for p in names]
    index = {(c.layer, c.head, c.position): k for k, c in enumerate(cells)}
    out = Patched(
        cells=cells, values=np.full((len(cells), len(aligned)), np.nan), clean=np.empty(len(aligned)), corrupted=np.empty(len(aligned))
    )
    out.tokens = _tokens(model, aligned, names)
    flipped = way == "noise"
    receivers = [a.clean if flipped else a.corrupted for a in aligned]
    jobs = [range_[k : k + ITEMS] for range_ in by_length(receivers).values() for k in range(0, len(range_), ITEMS)]
    with tqdm(
        total=len(blocks) * len(aligned), desc=f"patch {site}", unit="item", disable=None if progress is None else not progress
    ) as bar:
        for items in jobs:
            chunk = Chunk.read(model, [aligned[i] for i in items], items, site, blocks, flipped, measure, engine)
            out.clean[items], out.corrupted[items] = chunk.clean, chunk.corrupted
            for layer in blocks:
                work = [(r, h, p) for r, i in enumerate(items) for p in aligned[i].groups for h in (range(count) if heads else [-1])]
                if method == "attribution":
                    got = chunk.attribute(layer, work, lines.get(layer))
                else:
                    got = chunk.patch(layer, work, lines.get(layer), ROWS)
                for (r, h, p), value in zip(work, got, strict=True):
                    out.values[index[layer, h, p], items[r]] = value
                bar.update(len(items))
    return out


def attribution_error(
    model: Any,
    clean: PromptSet,
    corrupted: PromptSet,
    metric: str | Metric | Callable[..., Tensor] = "logit_diff",
    *,
    site: str = "resid_post",
    layers: Sequence[int] | int | None = None,
    positions: str | Sequence[int] = "token",
    way: str = "denoise",
    align_by: str = "same",
    sample: int = 8,
    progress: bool | None = None,
) -> pd.DataFrame:
    """Compare attribution patching with exact patching on a sample of items, layer by layer.

    Returns:
        Rows `layer, site, n` (places times items), `correlation` and `slope` of exact on guessed effects, `mean_error` (mean absolute
        difference) and `mean_effect` (mean absolute exact effect), in the metric's unit.
    """
    some = np.unique(np.linspace(0, len(clean) - 1, min(sample, len(clean))).round().astype(int))
    how: dict[str, Any] = {"site": site, "layers": layers, "positions": positions, "way": way, "align_by": align_by, "progress": progress}
    both = [patched_values(model, clean.subset(some), corrupted.subset(some), metric, method=m, **how) for m in ("exact", "attribution")]
    start = both[0].clean if way == "noise" else both[0].corrupted
    rows = []
    for layer in check_layers(model, layers):
        mine = [k for k, c in enumerate(both[0].cells) if c.layer == layer]
        exact, guess = ((b.values[mine] - start).ravel() for b in both)
        keep = np.isfinite(exact) & np.isfinite(guess)
        x, y = guess[keep], exact[keep]
        varied = len(x) > 2 and x.std() > 0 and y.std() > 0
        rows.append(
            {
                "layer": layer,
                "site": site,
                "n": len(x),
                "correlation": float(np.corrcoef(x, y)[0, 1]) if varied else float("nan"),
                "slope": float((x * y).sum() / (x * x).sum()) if varied else float("nan"),
                "mean_error": float(np.abs(x - y).mean()),
                "mean_effect": float(np.abs(y).mean()),
            }
        )
    return pd.DataFrame(rows)


def _lines(model: Any, along: Direction | Mapping[int, Direction] | None, blocks: list[int], site: str) -> dict[int, Tensor]:
    if along is None:
        return {}
    if site in ("z", "pattern"):
        raise BadInput(f"a direction of the stream has no component at {site!r}")
    by_layer: dict[int, Direction] = dict(along) if isinstance(along, Mapping) else dict.fromkeys(blocks, along)
    missing = [n for n in blocks if n not in by_layer]
    if missing:
        raise BadInput(f"no direction for layer {missing[0]}: give one for each layer, or name the layers")
    for layer in blocks:
        d = by_layer[layer]
        d.check_place({"model": info(model).key()} | ({"site": site, "layer": layer} if isinstance(along, Mapping) else {}))
        if len(d.unit) != int(model.cfg.d_model):
            raise BadInput(f"a direction of width {len(d.unit)}; the model has d_model {int(model.cfg.d_model)}")
    return {layer: by_layer[layer].unit for layer in blocks}


def _order(name: str, aligned: Sequence[Aligned]) -> float:
    """Where a part stands: distances by number, segments by their mean place in the stems that have them."""
    if name.lstrip("-").isdigit():
        return float(name)
    places = [a.pairs[a.groups[name][0]][1] / len(a.corrupted) for a in aligned if name in a.groups]
    return float(np.mean(places))


def _tokens(model: Any, aligned: Sequence[Aligned], names: Sequence[str]) -> dict[str, str]:
    out = {}
    for name in names:
        if not name.lstrip("-").isdigit() and name != "last":
            continue
        seen = pd.Series([a.corrupted[a.pairs[a.groups[name][0]][1]] for a in aligned if name in a.groups]).value_counts()
        out[name] = model.tokenizer.decode([int(seen.index[0])]) + ("" if len(seen) == 1 else " …")
    return out
