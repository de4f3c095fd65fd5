"""Where the answer turns: the answer words read off every layer by a lens, without a claim and under every claim of both forms."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ...core.tables import pick
from ...features import Lens, made_lens, read_answers
from ...prompts import PromptSet
from ..statements import FIT

if TYPE_CHECKING:
    from .study import Udhr

ITEMS = 120  # per claim, whose answer is read off every layer
FILE = "lens.safetensors"


def answer_by_layer(study: Udhr) -> None:
    """Read the answer words off every layer.

    Args:
        study: The study, with its activations.
    """
    few, kind, seed = min(study.set.behaviour, ITEMS), study.set.lens, study.set.seed
    sets = {(form, claim): study._prompts(form, claim, few, "test", study.set.phrasings) for form, claim in study.cells}
    sets = {("base_short", FIT): study._prompts("base_short", None, few, "test")} | sets
    every = PromptSet((p for prompts in sets.values() for p in prompts), name="where the answer forms")
    acts = study._read("read where the answer forms", every, position="stem_last", answers=True)
    ends = dict(zip(sets, np.cumsum([len(s) for s in sets.values()]), strict=True))
    folder: Path | None = None
    if kind != "logit":
        train = [study._prompts("base_short", None, few, "train")]
        train += [study._prompts(form, claim, few, "train", study.set.phrasings) for form, claim in study.cells]
        texts = PromptSet((p for part in train for p in part), name="texts of the lens")

        def fit(place: Path) -> None:
            made = made_lens(study.model, kind, texts, None, seed, study.progress)
            assert made is not None
            made.save(place / FILE)

        folder = study.run.folder("lens", key=[study.handle.key, kind, texts.hash, seed], make=fit, doing=f"make a {kind} lens")

    def make() -> pd.DataFrame:
        made = None if folder is None else Lens.load(folder / FILE, model=study.model)
        parts = []
        for (form, claim), prompts in sets.items():
            own = acts.subset(np.arange(ends[form, claim] - len(prompts), ends[form, claim]))
            part = read_answers(study.model, own, made, whole=made is not None, seed=seed)
            parts.append(part.assign(form=form, condition=claim))
        return pd.concat(parts, ignore_index=True)

    study.run.table("answer_by_layer", make=make, doing="read the answer words off every layer")


def by_lens(table: pd.DataFrame, **where: str) -> pd.DataFrame:
    """Return the rows of the lens that was asked for, without controls and without the logit lens beside another one.

    Args:
        table: The table `answer_by_layer`.
        where: As for `pick`.
    """
    return pick(table, lens=table["lens"].iloc[0], control="", **where)


def answer_and_truth(lens: pd.DataFrame, readings: pd.DataFrame) -> pd.DataFrame:
    """Put the answer by layer beside the truth that is read there, both as AUROC against the label, claim by claim.

    Args:
        lens: The table `answer_by_layer`.
        readings: The table `readings`.

    Returns:
        `form, condition, line, layer, value, low, high, n`.
    """
    probe = pick(readings, reading="same form", method="logistic", control="", minus="", metric="auroc").rename(
        columns={"claim": "condition"}
    )
    shown = pick(lens, metric="auroc")
    parts = [probe.assign(line="truth, read by a probe")]
    for name, own in pick(shown, control="").groupby("lens", sort=False):
        parts.append(own.assign(line=f"answer, {name}"))
    for control, own in shown[shown["control"] != ""].groupby("control", sort=False):
        parts.append(own.assign(line=str(control)))
    table = pd.concat(parts, ignore_index=True)
    cells = set(zip(probe["form"], probe["condition"], strict=True))
    kept = [cell in cells for cell in zip(table["form"], table["condition"], strict=True)]
    return table.loc[kept, ["form", "condition", "line", "layer", "value", "low", "high", "n"]]
