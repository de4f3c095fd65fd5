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

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor
from tqdm.auto import tqdm

from ..core.direction import Direction
from ..core.errors import BadInput
from ..models import info
from ..models.hooks import check_layers, hook_point
from ..models.replay import by_length
from ..prompts import PromptSet
from .alignment import Aligned, align
from .chunk import Chunk
from .metrics import MetricLike, metric_of
from .recovered import Cell, Patched, to_table

ROWS = 64  # patched copies of a stream in one pass
ITEMS = 16  # prompts of one length in one pass


def patch(
    model: Any,
    clean: PromptSet,
    corrupted: PromptSet,
    metric: MetricLike = "logit_diff",
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
    engine: str = "auto",
    progress: bool | None = None,
) -> pd.DataFrame:
    """Patch every layer and position, one at a time.

    Args:
        model: What `load_model` returns.
        clean, corrupted: Contrast pairs; item i of one goes with item i of the other. Their stems are run.
        metric: "logit_diff" (of the ending that the clean item's label names, minus the other's), "probability" (of that ending), "kl"
            (minus KL(clean || now), nats), a `probe_metric`, or a function of logits, `row x vocabulary`, and item indices, `row`, that
            returns one number per row.
        site: "resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out", "z" or "pattern".
        layers: Blocks; `None` for all.
        positions: As for `align`: "token", "segment", "last", or distances from the end.
        heads: Patch each head by itself (`z` and `pattern`).
        way: "denoise" or "noise".
        along: Exchange only the component along a direction, one for all layers or one for each: does this line carry the effect?
        align_by: How stems of different lengths go together: "same" (they may not differ), "diff" or "end", as for `align`.
        method: "exact", or "attribution": one pass and one gradient for all places, a first-order guess (`attribution_error` says how good
            it is).
        clusters: One name per item; items of one name are one unit of the interval. By default their identities.
        engine: "auto", "replay" (resume the forward pass from the patched block; an error where the model does not allow it) or "full"
            (whole forward passes). The numbers are the same.
        progress: Show a progress bar; `None` shows it in a terminal or a notebook only.

    Returns:
        One row per layer x head x position: `layer, site, head` (-1: all of them), `position, token` (the commonest one there), `way,
        method, metric, value` (recovered: 0 corrupted, 1 clean; `nan` where the two runs do not differ), `low, high` (95 % interval over
        clusters), `n` (items), and the means `clean, corrupted, patched` in the metric's unit.

    Raises:
        Alignment: Stems of different lengths, and align_by="same".
        UnknownSite, UnknownLayer, AnswerTokens, WrongModel, BadInput: Before any forward pass.
        NotFinite: A run gives NaN or infinity.
    """
    values = patched_values(
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
    return to_table(values, people, extra)


def patched_values(
    model: Any,
    clean: PromptSet,
    corrupted: PromptSet,
    metric: MetricLike,
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
    _check(model, blocks, site=site, heads=heads, way=way, method=method, engine=engine)
    lines = _lines(model, along, blocks, site)
    aligned = align(model, clean, corrupted, how=align_by, positions=positions)
    if site == "pattern" and any(len(a.clean) != len(a.corrupted) for a in aligned):
        raise BadInput("attention patterns can be exchanged between stems of equal length only")
    measure = metric_of(model, metric, clean)
    each = range(int(model.cfg.n_heads)) if heads else [-1]
    names = sorted(dict.fromkeys(name for a in aligned for name in a.groups), key=lambda p: _order(p, aligned))
    cells = [Cell(layer=n, head=h, position=p) for n in blocks for h in each for p in names]
    index = {(c.layer, c.head, c.position): k for k, c in enumerate(cells)}
    nothing = np.full((len(cells), len(aligned)), np.nan)
    out = Patched(cells=cells, values=nothing, clean=np.empty(len(aligned)), corrupted=np.empty(len(aligned)))
    out.tokens = _tokens(model, aligned, names)
    flipped = way == "noise"
    receivers = [a.clean if flipped else a.corrupted for a in aligned]
    jobs = [members[k : k + ITEMS] for members in by_length(receivers).values() for k in range(0, len(members), ITEMS)]
    hidden = None if progress is None else not progress
    with tqdm(total=len(blocks) * len(aligned), desc=f"patch {site}", unit="item", disable=hidden) as bar:
        for items in jobs:
            chunk = Chunk.read(model, [aligned[i] for i in items], items, site, blocks, flipped, measure, engine)
            out.clean[items], out.corrupted[items] = chunk.clean, chunk.corrupted
            for layer in blocks:
                work = [(r, h, p) for r, i in enumerate(items) for p in aligned[i].groups for h in each]
                if method == "attribution":
                    values = chunk.attribute(layer, work, lines.get(layer))
                else:
                    values = chunk.patch(layer, work, lines.get(layer), ROWS)
                for (r, h, p), value in zip(work, values, strict=True):
                    out.values[index[layer, h, p], items[r]] = value
                bar.update(len(items))
    return out


def _check(model: Any, blocks: list[int], *, site: str, heads: bool, way: str, method: str, engine: str) -> None:
    """Raise unless the model has the site in all blocks and the other arguments go together."""
    for layer in blocks:
        hook_point(model, site, layer)
    if way not in ("denoise", "noise") or method not in ("exact", "attribution") or engine not in ("auto", "replay", "full"):
        raise BadInput(f"way {way!r} is denoise or noise, method {method!r} exact or attribution, engine {engine!r} auto, replay or full")
    if heads and site not in ("z", "pattern"):
        raise BadInput(f"heads can be patched at 'z' and 'pattern', not at {site!r}")


def attribution_error(
    model: Any,
    clean: PromptSet,
    corrupted: PromptSet,
    metric: MetricLike = "logit_diff",
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

    Args:
        model: What `load_model` returns.
        clean, corrupted, metric, site, layers, positions, way, align_by: As for `patch`.
        sample: Items that are patched both ways, evenly spread; raising it steadies the numbers and costs as much as exact patching of so
            many items.
        progress: Show progress bars.

    Returns:
        Rows `layer, site, n` (places times items), `correlation` and `slope` of exact on guessed effects, `mean_error` (mean absolute
        difference) and `mean_effect` (mean absolute exact effect), in the metric's unit.
    """
    chosen = np.unique(np.linspace(0, len(clean) - 1, min(sample, len(clean))).round().astype(int))
    how: dict[str, Any] = {"site": site, "layers": layers, "positions": positions, "way": way, "align_by": align_by, "progress": progress}
    both = [
        patched_values(model, clean.subset(chosen), corrupted.subset(chosen), metric, method=m, **how) for m in ("exact", "attribution")
    ]
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
