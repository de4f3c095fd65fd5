"""Does a probe read the truth, or the surface of the sentences it was fitted on? Fit on some surface forms, read in others.

The surface forms of a statement (`prompts.rewrite`) are divided into two halves. Each half is fitted on, and both halves are read on
held-out identities: so every form is read once by a probe that was fitted on such forms, and once by one that never saw it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ..activations import Activations
from ..core.components import variance_components
from ..core.errors import BadInput
from ..core.estimate import Estimate
from ..core.paired import centred_hits
from ..core.rows import Array
from ..core.seeds import numpy_rng
from ..core.stats import auroc, auroc_difference, mean, paired_difference, proportion
from ..core.tables import units_of
from ..core.types import Float
from ..prompts import Split
from .given import column
from .methods import Method, by_name, fit_layers
from .text import text_scorers

COLUMNS = ["layer", "method", "surface", "reading", "metric", "value", "low", "high", "n"]
FACTORS = ("identity", "right", "surface", "layer", "seed")
SHARE = 0.8  # of the training identities, drawn anew for each seed
Tables = tuple[pd.DataFrame, pd.DataFrame]


def read_surfaces(
    acts: Activations,
    *,
    split: Split,
    methods: Sequence[Method] = ("logistic", "ccs"),
    surface: str = "surface",
    seeds: int = 3,
    text: str = "statement",
    text_vectors: Mapping[str, Float[np.ndarray, " d_model"]] | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    level: float = 0.95,
    seed: int = 0,
) -> Tables:
    """Fit on half of the surface forms and read the other half, both ways round; and say what the accuracy varies with.

    Args:
        acts: Activations of the same statements in every surface form, with a column that names it.
        split: Which identities and rights are held out.
        methods: As for `probe_layers`.
        surface: The column of the surface form.
        seeds: Fits of the first method, each on another draw of four fifths of the training identities, for the variance; 2 or more.
        text: The column with the text of the statement, for the controls on the words alone; without it there are none.
        text_vectors: As for `Controls`.
        options: By name of the method, passed to its fit.
        level: Of the intervals.
        seed: Draws identities, and of searches the starts.

    Returns:
        Two tables. The first has a row per layer x method x surface form x reading x metric: `reading` is "seen" (fitted on forms with
        this one among them), "unseen" (fitted on other forms) or "unseen - seen", over the same held-out statements; `surface` "all" has
        all forms together, compared within each. The controls on the words alone (`text_scorers`) are methods at
        layer -1. Metrics are "auroc", "accuracy" (threshold of the training forms) and
        "accuracy_centred" (the median score of the form as threshold). The second, `factor, levels, value, low, high, share, n`, splits
        the variance of being right, of the first method in unseen forms, into identity, right, surface form, layer and seed
        (`core.components`).

    Raises:
        BadInput: There are fewer than two surface forms, or fewer than two seeds.
        OneClass, WrongModel, SplitLeak: As for `probe_layers`.

    References:
        Sclar et al. 2024, arXiv 2310.11324 (what a prompt's form moves); Henderson 1953 (variance components).
    """
    if surface not in acts.rows or acts.rows[surface].nunique() < 2:
        raise BadInput(f"{surface!r}: there are no two surface forms to compare; prompts.rewrite makes them")
    if seeds < 2:
        raise BadInput(f"seeds={seeds}: with fewer than 2 nothing is known of how they vary")
    forms = list(dict.fromkeys(acts.rows[surface]))
    side = split.side(acts.rows)
    held, half = acts.subset(side == "test"), np.array([forms.index(f) % 2 for f in acts.rows[surface]])
    trained = [acts.subset((side == "train") & (half == k)) for k in (0, 1)]
    seen_by = half[side == "test"]
    rows: list[dict[str, Any]] = []
    for name, how in by_name(methods).items():
        given = dict((options or {}).get(name, {}))
        fits = [fit_layers(one, how, condition=f"half {k}", seed=seed, **given) for k, one in enumerate(trained)]
        for layer in acts.layers:
            both = np.stack([fit.scores(held, layer).astype(float) for fit in fits])
            seen, unseen = both[seen_by, np.arange(len(held))], both[1 - seen_by, np.arange(len(held))]
            place = {"layer": layer, "method": name}
            rows += [place | row for row in _readings(seen, unseen, held.rows, column(held, "label"), surface, forms, level)]
    if text in acts.rows:
        held_texts = held.rows[text].tolist()
        halves = [
            text_scorers(one.rows[text].tolist(), column(one, "label"), one.rows["identity"], vectors=text_vectors) for one in trained
        ]
        for (name, first), (_, second) in zip(*halves, strict=True):
            both = np.stack([score(held_texts) for score in (first, second)])
            seen, unseen = both[seen_by, np.arange(len(held))], both[1 - seen_by, np.arange(len(held))]
            place = {"layer": -1, "method": name}
            rows += [place | row for row in _readings(seen, unseen, held.rows, column(held, "label"), surface, forms, level)]
    varied = _hits(trained, held, seen_by, by_name(methods), surface, seeds, options or {}, seed)
    parts = variance_components(varied["hit"], {f: varied[f] for f in FACTORS}, level=level)
    return pd.DataFrame(rows, columns=COLUMNS), parts


def _readings(
    seen: Array, unseen: Array, rows: pd.DataFrame, y: np.ndarray, surface: str, forms: Sequence[str], level: float
) -> Iterator[dict[str, Any]]:
    names, units = rows[surface].to_numpy(), units_of(rows)
    for form in ("all", *forms):
        here = np.ones(len(rows), bool) if form == "all" else names == form
        if len(np.unique(y[here])) < 2:
            continue
        of, truth, within = (seen[here], unseen[here]), y[here], names[here]
        who = units[here]
        for reading, scores in zip(("seen", "unseen"), of, strict=True):
            found: dict[str, Estimate] = {
                "auroc": auroc(scores, truth, who, within=within, level=level),
                "accuracy": proportion((scores > 0) == truth, who, level),
                "accuracy_centred": mean(centred_hits(scores, truth, within), who, level=level, bounded=True),
            }
            yield from (_row(form, reading, metric, e) for metric, e in found.items())
        hits = [(s > 0) == truth for s in of]
        centred = [centred_hits(s, truth, within) for s in of]
        less = {
            "auroc": auroc_difference(of[1], of[0], truth, who, within=(within, within), level=level),
            "accuracy": paired_difference(hits[1], hits[0], who, level=level, reach=1),
            "accuracy_centred": paired_difference(centred[1], centred[0], who, level=level, reach=1),
        }
        yield from (_row(form, "unseen - seen", metric, e) for metric, e in less.items())


def _row(form: str, reading: str, metric: str, e: Estimate) -> dict[str, Any]:
    return {"surface": form, "reading": reading, "metric": metric, "value": e.value, "low": e.low, "high": e.high, "n": e.n}


def _hits(
    trained: Sequence[Activations],
    held: Activations,
    seen_by: np.ndarray,
    methods: Mapping[str, Method],
    surface: str,
    seeds: int,
    options: Mapping[str, Mapping[str, Any]],
    seed: int,
) -> pd.DataFrame:
    """Whether each held-out item is read rightly in a form that was not fitted on, by seed and layer."""
    name, how = next(iter(methods.items()))
    people = np.unique(np.concatenate([one.rows["identity"].to_numpy().astype(str) for one in trained]))
    base = held.rows[["identity", "right", surface]].rename(columns={surface: "surface"}).reset_index(drop=True)
    truth, out = column(held, "label"), []
    for k in range(seeds):
        chosen = numpy_rng(seed, "surfaces", k).permutation(people)[: max(2, round(SHARE * len(people)))]
        parts = [one.subset(one.rows["identity"].astype(str).isin(list(chosen)).to_numpy()) for one in trained]
        fits = [fit_layers(part, how, condition="a draw", seed=seed + k, **options.get(name, {})) for part in parts]
        for layer in held.layers:
            both = np.stack([fit.scores(held, layer).astype(float) for fit in fits])[1 - seen_by, np.arange(len(held))]
            out.append(base.assign(hit=((both > 0) == truth).astype(float), layer=layer, seed=k))
    return pd.concat(out, ignore_index=True)
