"""A step that several studies share: probes fitted on some surface forms of the statements and read on the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from ..activations import Activations
from ..core.tables import pick, span
from ..core.text_controls import TEXT_NAMES, strongest_words
from ..figures import Finding, Panel, recipes
from ..models.tokens import encode_pairs
from ..probes import read_surfaces
from ..prompts import PromptSet, rewrite, rewrites_of
from ..runs import Run
from .statements import Rows

draw = recipes("surfaces")
TABLES = {
    "surfaces": "layer method surface reading metric | value low high n",
    "accuracy_varies": "factor | levels value low high share n",
}


def surface_prompts(study: Rows, count: int) -> PromptSet | None:
    """Return the study's statements without a claim in every surface form.

    Args:
        study: Its source, split and form of asking.
        count: Training statements; half as many are held out. 0 for none.

    Returns:
        The prompts, already checked against the model's tokens; `None` with a count of 0, or where statements do not stand in the prompt
        as they are.
    """
    if not count:
        return None
    plain = study.source.plain
    few = max(16, count // 2)
    both = study._prompts(plain, None, count, "train") + study._prompts(plain, None, few, "test")
    if not all(str(p.meta.get("statement") or "\0") in p.stem for p in both):
        return None
    forms = [rewrite(both, surface, seed=study.set.seed) for surface in rewrites_of(both)]
    every = PromptSet((p for prompts in forms for p in prompts), name="surface forms")
    encode_pairs(study.handle, every)
    return every


def read_in_surfaces(study: Rows, prompts: PromptSet | None, methods: Sequence[str], **where: Any) -> None:
    """Capture the statements in every surface form, and fit on half of the forms and read the other half.

    Args:
        study: Whose run gets the tables.
        prompts: From `surface_prompts`; `None` adds nothing.
        methods: As for `read_surfaces`; of the first the variance is split.
        where: Site, position and layers, if not every block's output at the last token.
    """
    if prompts is None:
        return
    acts: Activations = study._read("read in other surface forms", prompts, **where)

    def make() -> dict[str, pd.DataFrame]:
        vectors = study._text_vectors(acts)
        read, parts = read_surfaces(acts, split=study.split, methods=methods, text_vectors=vectors, seed=study.set.seed)
        return {"surfaces": read, "accuracy_varies": parts}

    study.run.table(("surfaces", "accuracy_varies"), make=make, doing="fit on half of the surface forms, read the other half")


def surface_findings(run: Run, layer: int) -> list[Finding]:
    """Return what a probe reads in surface forms that it was not fitted on, and what being right varies with.

    Args:
        run: The run.
        layer: The layer that is spoken of.
    """
    if "surfaces" not in run.tables:
        return []
    table = pick(run.tables["surfaces"], layer=layer)
    out = []
    for method in dict.fromkeys(table["method"]):
        one = pick(table, method=method)
        told = []
        for metric, name in (("auroc", "AUROC"), ("accuracy", "accuracy at the fitted threshold")):
            at = {r.reading: r for r in pick(one, surface="all", metric=metric).itertuples()}
            new, less = (at[reading] for reading in ("unseen", "unseen - seen"))
            parts: Any = pick(one[one["surface"] != "all"], reading="unseen", metric=metric).sort_values("value")
            low = next(parts.itertuples())
            told.append(
                f"{name} {new.value:.2f} [{new.low:.2f}, {new.high:.2f}], {less.value:+.2f} [{less.low:+.2f}, {less.high:+.2f}] from forms "
                f"it was fitted on; lowest, picked after looking: {low.surface} {low.value:.2f} [{low.low:.2f}, {low.high:.2f}]"
            )
        out.append(
            Finding(f"Other words, {method}: In surface forms that it was not fitted on, layer {layer}: {'. '.join(told)}.", "surfaces")
        )
    words = words_in_other_forms(run, layer)
    out += [Finding(f"Other words, the words alone: {words}", "surfaces")] if words else []
    parts = run.tables["accuracy_varies"]
    seen = parts[parts["factor"] != "rest"].dropna(subset="share").sort_values("share", ascending=False)
    shares: list[Any] = list(seen.itertuples())
    each = "; ".join(f"{r.factor} {max(0.0, r.value):.4f} [{r.low:.4f}, {r.high:.4f}], {r.share:.0%}" for r in shares)
    out.append(
        Finding(
            f"What being right varies with (variance, share of all): {each}; the rest is within these and their interactions.",
            "accuracy_varies",
        )
    )
    return out


def words_in_other_forms(run: Run, layer: int) -> str:
    """Return in words what the words alone say of the label in surface forms that were not fitted on, beside the best-known probe; or "".

    Args:
        run: The run.
        layer: The layer of the probe.
    """
    if "surfaces" not in run.tables:
        return ""
    new = pick(run.tables["surfaces"], surface="all", reading="unseen", metric="auroc")
    words = strongest_words(new.assign(control=new["method"]))
    probe: Any = next(pick(new, layer=layer).itertuples(), None)
    if words is None or probe is None:
        return ""
    told = f"{words.value:.2f} [{words.low:.2f}, {words.high:.2f}]"
    beyond = "which does not tell the two apart"
    if probe.low > words.high or probe.high < words.low:
        beyond = "so it is not the wording alone" if probe.low > words.high else "so the words alone carry further than the probe"
    return (
        f"In surface forms that were not fitted on, {TEXT_NAMES[words.method]} read the label with an AUROC of {told}, the {probe.method} "
        f"probe at layer {layer} with {probe.value:.2f} [{probe.low:.2f}, {probe.high:.2f}], {beyond}."
    )


def surface_panels(run: Run, layer: int) -> list[Panel]:
    """Return the figure of surface forms.

    Args:
        run: The run.
        layer: The layer that is shown.
    """
    if "surfaces" not in run.tables:
        return []
    table, parts = run.tables["surfaces"], run.tables["accuracy_varies"]
    return [
        Panel(
            name="surfaces",
            table="surfaces",
            drawing=draw.surfaces(table, parts, layer, str(table["method"].iloc[0])),
            caption="The same statements in other surface forms, without a claim. Two fits, each on half of the forms; both read every "
            f"form on held-out items (n={span(pick(table, metric='accuracy', reading='unseen'))}). AUROC compares statements of one form. "
            "Right: variance components of being right in forms that were not fitted on, over all layers and three draws of training "
            "identities. Bars are 95 % intervals.",
        )
    ]
