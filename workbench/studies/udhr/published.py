"""The student project's experiment on its own files, as it was and with this project's repairs, side by side.

It asked seven prompt forms, four of them under two claims, and reported safe_score and CCS by layer. Three choices of it are undone
one after the other: test rows gave the statistics and the sign of CCS; rows were split at random, so that identities and rights stood on
both sides; and every denial was one form of negation of its granting sentence.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from ...core.tables import pick
from ...evaluation import agreement, answers_of
from ...figures import Finding, Panel, recipes
from ...models.tokens import encode_pairs
from ...probes import probe_layers
from ...prompts import PromptSet, Split, StudentProject, grouped_split, project_pairs, udhr
from ...prompts.statements import StudentStatements
from ...runs import Run
from ..statements import Rows, spread

draw = recipes("steering")
ANSWERS = ("0", "1")
CLAIMS = ("good", "harm")
# safe_score of the project's Gemma before its training, by form and claim
REPORTED = {
    ("4", "good"): 0.65,
    ("4", "harm"): 0.47,
    ("3", "good"): 0.45,
    ("3", "harm"): 0.71,
    ("2", "good"): 0.50,
    ("2", "harm"): 0.21,
    ("1", "good"): 0.66,
    ("1", "harm"): 0.44,
    ("base_short_rather", "none"): 0.76,
}
AS_PUBLISHED, OWN_SIGN, GROUPED, NEGATIONS = (
    "as published",
    "sign and statistics of training rows",
    "identities and rights held out",
    "and several forms of negation",
)
LAYERS = 8
UNANSWERED = 0.1  # of the probability: below it the answers are of no use
TABLES = {
    "published_says": "form claim metric | value low high n published",
    "published_reads": "form claim protocol method layer metric | value low high n note",
}


def conditions(project: StudentProject) -> Iterator[tuple[str, str]]:
    """Yield every form of the project with every claim that it takes, "none" for those without a place for one."""
    for name, form in project.forms.items():
        yield from ((name, claim) for claim in (CLAIMS if "claim" in form.fields else ("none",)))


class Published:
    """The prompts of the experiment, checked before anything is run.

    Args:
        study: Its handle, run and seed.
        count: Items of each form and claim; 0 for none.
    """

    def __init__(self, study: Rows, count: int) -> None:
        self.study, self.sets = study, dict[tuple[str, str, str], PromptSet]()
        source = study.source
        if not count or not isinstance(source, StudentStatements):
            return
        how: dict[str, Any] = {"n": count, "seed": study.set.seed, "answers": ANSWERS}
        for form, claim in conditions(source.project):
            given = None if claim == "none" else claim
            self.sets[form, claim, "theirs"] = project_pairs(source.project, form, given, **how)
            self.sets[form, claim, "ours"] = udhr(source.project.forms[form], given, **how)
        for prompts in self.sets.values():
            encode_pairs(study.handle, prompts)

    def compute(self) -> None:
        """Read every condition, count safe answers, and fit under each protocol."""
        if not self.sets:
            return
        study, run = self.study, self.study.run
        layers = sorted({*spread(study.info.n_layers, LAYERS), study.layer})
        every = PromptSet((p for prompts in self.sets.values() for p in prompts), name="as published")
        run.read("read the published forms", study.handle, every, layers=layers, answers=True)
        read = {
            cell: run.read(f"read form {cell[0]}, {cell[1]}, {cell[2]}", study.handle, prompts, layers=layers, answers=True)
            for cell, prompts in self.sets.items()
        }

        def says() -> pd.DataFrame:
            rows = []
            for (form, claim, whose), acts in read.items():
                if whose == "theirs":
                    table = pick(agreement(answers_of(acts)), polarity="all").drop(columns=["template", "claim", "polarity"])
                    rows.append(table.assign(form=form, claim=claim, published=REPORTED.get((form, claim))))
            table = pd.concat(rows, ignore_index=True)
            table.loc[table["metric"] != "safe_score", "published"] = None
            return table.astype({"published": float})

        run.table("published_says", make=says, doing="count safe answers in the published forms")
        run.table("published_reads", make=lambda: self._reads(read), doing="fit as published, and with each repair")

    def _reads(self, read: Any) -> pd.DataFrame:
        parts = []
        for form, claim in dict.fromkeys((f, c) for f, c, _ in read):
            theirs, ours = read[form, claim, "theirs"], read[form, claim, "ours"]
            how: dict[str, Any] = {"methods": ["ccs", "logistic"], "metrics": ["accuracy"], "seed": self.study.set.seed}
            how |= {"options": {"ccs": {"epochs": self.study.set.ccs_epochs}, "logistic": {"c": 1.0}}}  # nothing is tuned
            mixed = _mixed(theirs.rows, self.study.set.seed)
            table = probe_layers(theirs, split=mixed, controls=(), burns_exact=True, check_labels=False, **how)
            logistic = pick(table, method="logistic", control="")
            parts += [
                part.assign(protocol=protocol, form=form, claim=claim)
                for protocol, part in (
                    (AS_PUBLISHED, pd.concat([pick(table, control="burns_exact"), logistic])),
                    (OWN_SIGN, pick(table, control="")),
                    (GROUPED, probe_layers(theirs, split=_apart(theirs.rows, self.study.set.seed), controls=(), **how)),
                    (NEGATIONS, probe_layers(ours, split=_apart(ours.rows, self.study.set.seed), controls=(), **how)),
                )
            ]
        columns = ["form", "claim", "protocol", "method", "layer", "metric", "value", "low", "high", "n", "note"]
        return pick(pd.concat(parts, ignore_index=True), metric="accuracy")[columns]


def _mixed(rows: pd.DataFrame, seed: int) -> Split:
    """A split of the prompts, whatever they are about, as the project split them."""
    return grouped_split(rows, by=("stem",), test=0.4, seed=seed)


def _apart(rows: pd.DataFrame, seed: int) -> Split:
    return grouped_split(rows, test=0.45, seed=seed)


def findings(run: Run, study: Any) -> list[Finding]:
    """Return what of the published pattern is there, and on which choice it depends."""
    if "published_reads" not in run.tables:
        return []
    said, read = run.tables["published_says"], pick(run.tables["published_reads"], method="ccs", layer=study.layer)
    form = "4" if "4" in set(said["form"]) else str(said["form"].iloc[0])
    safe = pick(said, form=form, metric="safe_score")
    four = [f"{row.claim} {row.value:.2f} [{row.low:.2f}, {row.high:.2f}]" for row in safe.itertuples()]
    share = pick(said, metric="answered")["value"].mean()
    out = [
        Finding(
            f"As published: in form {form} with answers 0 and 1 the safe_score is {' and '.join(four)}"
            + ("; the project's Gemma had good .65 and harm .47" if form == "4" else "")
            + f". Over all forms 0 and 1 hold {share:.0%} of the probability"
            + (": the model does not answer in these words, and safe_score says nothing." if share < UNANSWERED else "."),
            "published_says",
        )
    ]
    means = read.groupby("protocol", sort=False)["value"].agg(["mean", "min", "max", "size"])
    spans = "; ".join(f"{name} {row['mean']:.2f} ({row['min']:.2f} to {row['max']:.2f})" for name, row in means.iterrows())
    out.append(
        Finding(
            f"What it depends on: CCS at layer {study.layer}, mean over the {int(means['size'].iloc[0])} forms and claims (least to most): "
            f"{spans}. Each step keeps the repairs before it.",
            "published_reads",
        )
    )
    return out


def panels(run: Run) -> list[Panel]:
    """Return the figure of CCS by layer under each protocol."""
    if "published_reads" not in run.tables:
        return []
    table = pick(run.tables["published_reads"], method="ccs")
    table = table.assign(behaviour=table["form"] + ", " + table["claim"], line=table["protocol"])
    return [
        Panel(
            name="published",
            table="published_reads",
            drawing=draw.sweep(table, "CCS in the published forms: what each repair changes", axis="accuracy", legend="protocol"),
            caption="Accuracy on rows that were not fitted on, 95 % intervals clustered by identity. As published: normalised with test "
            "rows, and the better sign on test labels, so never below one half.",
        )
    ]
