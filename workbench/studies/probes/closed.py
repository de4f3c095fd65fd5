"""CCS in closed form beside CCS, as steps of the study: agreement, how many directions contradict themselves, opposite statements."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from ...core.seeds import derive
from ...core.stats import proportion
from ...core.tables import pick, span, units_of
from ...figures import Finding, Panel, recipes
from ...probes import contrast_spectrum, fit_layers, polarity_consistency
from ...runs import Run
from ..statements import FIT, spread

if TYPE_CHECKING:
    from .study import Bench

draw = recipes("contrast")
CLOSED = ("drc", "rrc")
SAME = "another start of CCS"
TABLES = {
    "closed_form": "layer method control metric | value low high n",
    "contrast_spectrum": "layer rank form control | value low high n share above",
    "opposites": "layer method metric control | value low high n note",
}


def compare(study: Bench) -> None:
    """Fit CCS and its closed forms at a few layers and compare what they answer; count the contrasts; read opposite statements."""
    layers = sorted({*spread(study.info.n_layers, 6), study.layer})
    unlabelled = ("ccs", *CLOSED, *(["polarity_ccs"] if study.polar else []))

    def make() -> dict[str, pd.DataFrame]:
        acts = study._unpushed().where(layers=layers)
        side = study.split.side(acts.rows)
        train, held = acts.subset(side == "train"), acts.subset(side == "test")
        people, seed = units_of(held.rows), study.set.seed
        fits = {m: fit_layers(train, m, condition=FIT, seed=seed) for m in (*unlabelled, "logistic")}
        again = fit_layers(train, "ccs", condition=FIT, seed=derive(seed, "another start"))
        agree, spectra = [], []
        for layer in layers:
            said = {m: fit.scores(held, layer) > 0 for m, fit in fits.items()}
            others = [(m, "", said[m]) for m in (*unlabelled[1:], "logistic")]
            for method, control, answers in (*others, ("ccs", SAME, again.scores(held, layer) > 0)):
                e = proportion(answers == said["ccs"], people)
                agree.append({"layer": layer, "method": method, "control": control, "metric": "agreement with CCS", **e.row()})
            x = acts.layer(layer)
            spectra.append(contrast_spectrum(x[:, 1], x[:, 0], groups=acts.rows["identity"], count=4, seed=seed).assign(layer=layer))
        out = {"closed_form": pd.DataFrame(agree), "contrast_spectrum": pd.concat(spectra, ignore_index=True)}
        if study.polar:
            read = [polarity_consistency(fit, held, seed=seed) for fit in fits.values()]
            out["opposites"] = pd.concat(read, ignore_index=True)
        order = {name: TABLES[name].replace(" |", "").split() for name in out}
        return {name: table[order[name]] for name, table in out.items()}

    names = tuple(TABLES) if study.polar else tuple(n for n in TABLES if n != "opposites")
    study.run.table(names, make=make, doing="compare CCS with its closed forms")


def findings(run: Run, layer: int) -> list[Finding]:
    """Return what the closed forms say beside CCS.

    Args:
        run: The run.
        layer: The layer that is spoken of.
    """
    table, spectrum = run.tables["closed_form"], pick(run.tables["contrast_spectrum"], layer=layer, control="")
    parts = [f"{r.method}{f' ({r.control})' if r.control else ''} {_say(r)}" for r in _rows(pick(table, layer=layer))]
    count = int(spectrum["above"].sum())
    first = _rows(spectrum)[0]
    words = {
        0: "no direction is more opposite than variants of different statements are, so that what the variants share outweighs every "
        "contrast: an answer of a search without labels needs its controls",
        1: "one direction is: the contrast isolates one feature",
    }
    what = words.get(count, f"{count} directions are: a search without labels may find any of them, or a mixture")
    out = [
        Finding(f"Closed form: Held-out answers that agree with CCS's, layer {layer}: {'; '.join(parts)}.", "closed_form"),
        Finding(
            f"How many contrasts: Of the first {len(spectrum)} eigenvectors at layer {layer}, read in rows that they were not fitted on, "
            f"{what} (relative contrast of the first {first.value:+.2f} [{first.low:+.2f}, {first.high:+.2f}]).",
            "contrast_spectrum",
        ),
    ]
    if "opposites" in run.tables:
        own = pick(run.tables["opposites"], layer=layer, metric="contradictions")
        told = [f"{r.method} {_say(r)} (random opposites {_random(own, r.method):.1%})" for r in _rows(pick(own, control=""))]
        out.append(
            Finding(f"Opposites: Pairs of opposite statements held both true or both false, layer {layer}: {'; '.join(told)}.", "opposites")
        )
    return out


def _say(row: Any) -> str:
    return f"{row.value:.1%} [{row.low:.1%}, {row.high:.1%}]"


def _rows(table: pd.DataFrame) -> list[Any]:
    return list(table.itertuples())


def _random(table: pd.DataFrame, method: str) -> float:
    return float(pick(table, method=method, control="random opposites")["value"].iloc[0])


def panels(run: Run, layer: int) -> list[Panel]:
    """Return the figures of contrasts.

    Args:
        run: The run.
        layer: The layer that is shown of what has one.
    """
    spectrum = run.tables["contrast_spectrum"]
    out = [
        Panel(
            name="contrast_spectrum",
            table="contrast_spectrum",
            drawing=draw.spectrum(spectrum),
            caption="Contrastive eigenproblem (ratio-relative) without a claim: the first four directions, fitted on four fifths of the "
            f"identities and read on the rest (n={span(pick(spectrum, control=''))}). Bars are 95 % intervals, clustered by identity. "
            "Grey: the widest interval where each variant is paired with that of another statement.",
        )
    ]
    if "opposites" in run.tables:
        table = run.tables["opposites"]
        own = pick(table, metric="contradictions", control="", layer=layer)
        out.append(
            Panel(
                name="opposites",
                table="opposites",
                drawing=draw.contradictions(table, layer),
                caption=f"Held-out pairs of a granted and a denied right, n={span(own)}, without a claim. Bars are 95 % intervals, "
                "clustered by identity. A probe that reads the truth has few contradictions also with opposites drawn at random.",
            )
        )
    return out
