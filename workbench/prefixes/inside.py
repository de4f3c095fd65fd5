"""What words change inside: the angle between the effects of safe and of harmful words, and whether a probe still reads the truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ..activations import Activations, capture
from ..core.errors import WorkbenchError
from ..core.stats import mean, proportion
from ..core.tables import units_of
from ..directions import compare_directions
from ..probes import fit_tamper
from ..prompts import PromptSet, Split
from .prefix import Prefix

PAIRS = (("safe words", "harm words"), ("safe words", "stance"), ("harm words", "stance"))


def prefix_geometry(
    model: Any,
    safe: Prefix,
    harm: Prefix,
    under_harm: PromptSet,
    under_good: PromptSet,
    *,
    layers: Sequence[int],
    draws: int = 200,
    seed: int = 0,
    progress: bool | None = None,
) -> pd.DataFrame:
    """Compare the effects of safe words, of harmful words, and the stance of the model.

    The effect of safe words is their mean change of the stream where the answer begins, under the claim that harms; that of harmful words
    their change under the good claim; the stance is the stream under the good claim less that under the harm claim.

    Args:
        model: What `load_model` returns.
        safe, harm: The words.
        under_harm, under_good: The same statements under both claims, item by item.
        layers: Blocks.
        draws: Permutations for the null.
        seed: Draws them.
        progress: Show progress bars.

    Returns:
        Rows `first, second, layer, verdict, value` (the cosine), `low, high, n, …`, as `compare_directions` reports them.

    Note:
        An angle near 180 degrees says that the two move the stream along one line in opposite ways on average, not that the words do
        nothing else.
    """

    def read(prompts: PromptSet) -> Activations:
        return capture(model, prompts, layers=list(layers), position="stem_last", progress=progress)

    harm_none, good_none = read(under_harm), read(under_good)
    harm_safe, good_harm = read(safe.put(under_harm, model=model)), read(harm.put(under_good, model=model))
    people, items = under_harm.to_frame()["identity"].tolist(), list(range(len(under_harm)))
    out = []
    for layer in layers:
        x = {k: a.layer(layer)[:, 0] for k, a in {"hn": harm_none, "gn": good_none, "hs": harm_safe, "gh": good_harm}.items()}
        sides = {"safe words": (x["hs"], x["hn"]), "harm words": (x["gh"], x["gn"]), "stance": (x["gn"], x["hn"])}
        for first, second in PAIRS:
            concepts: dict[str, Any] = {first: sides[first], second: sides[second]}
            report = compare_directions(clusters=people, items=items, draws=draws, seed=seed, **concepts)
            out.append({"layer": layer, **report.row()})
    return pd.DataFrame(out)


def prefix_inside(
    model: Any,
    clean: PromptSet,
    pushed: Mapping[str, PromptSet],
    *,
    split: Split,
    layers: Sequence[int],
    method: Any = "logistic",
    seed: int = 0,
    progress: bool | None = None,
) -> pd.DataFrame:
    """Say whether a probe that was fitted without claim and words still reads the truth under them, and how far answers disagree with it.

    Args:
        model: What `load_model` returns.
        clean: Statements without a claim; the training side of the split is fitted on.
        pushed: Held-out statements by condition (claims with and without words).
        split: Which identities and rights are held out.
        layers: Blocks.
        method: The probe, as for `fit_tamper`.
        seed: Draws the calibration rows.
        progress: Show progress bars.

    Returns:
        Rows `condition, layer, metric, value, low, high, n, note`. Metrics: "probe" (share of items on which the probe names the true
        ending, clustered by identity), "answer" (the same of the answers) and "tamper" (mean probability that the two disagree).
    """
    read = {name: capture(model, p, layers=list(layers), logits="answers", progress=progress) for name, p in {"": clean, **pushed}.items()}
    fit = read.pop("")
    rows: list[dict[str, Any]] = []
    for layer in layers:
        try:
            detector = fit_tamper(fit, layer=layer, method=method, split=split, seed=seed)
        except WorkbenchError as error:  # too few rows to fit on
            nan = float("nan")
            rows += [
                {"condition": name, "layer": layer, "metric": "probe", "value": nan, "low": nan, "high": nan, "n": 0, "note": str(error)}
                for name in read
            ]
            continue
        for name, acts in read.items():
            score, inside, said = detector.scores(acts)
            truth, people = acts.labels == 1, units_of(acts.rows)
            found = {
                "probe": proportion((np.asarray(inside) > 0.5) == np.asarray(truth), people),
                "answer": proportion((np.asarray(said) > 0.5) == np.asarray(truth), people),
                "tamper": mean(np.asarray(score), people, bounded=True),
            }
            rows += [{"condition": name, "layer": layer, "metric": m, **e.row(), "note": e.note} for m, e in found.items()]
    return pd.DataFrame(rows)


__all__ = ["PAIRS", "prefix_geometry", "prefix_inside"]
