"""What a model says, beyond the share of safe answers: bias towards one word, and discrimination between statements.

The two answers are those of a detection task (Green and Swets 1966): a statement with which agreeing is right is a signal, "yes" is a
report of it. A claim that moves all answers to one word changes the criterion; a claim after which answers no longer follow the
statements lowers discrimination.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy.stats import norm

from ..core.errors import BadInput, MissingColumn
from ..core.estimate import Estimate, undefined
from ..core.paired import centred_hits
from ..core.rows import Array
from ..core.stats import auroc, auroc_difference, mean, paired_difference, proportion
from ..core.tables import sentences_of, units_of
from ..prompts import ContrastPair, PromptSet

CONTENT_FREE = ("N/A", "[MASK]", "...")
METRICS = ("yes", "answered", "auroc", "safe_score", "safe_centred", "safe_contextual", "criterion", "d_prime")
EFFECTS = ("yes", "answered", "criterion", "auroc", "d_prime", "safe_score", "safe_centred")
COLUMNS = ["template", "claim", "metric", "value", "low", "high", "n", "note"]


def content_free(prompts: PromptSet) -> PromptSet:
    """Return the forms of a prompt set with a text that says nothing in the statement's place.

    Args:
        prompts: Contrast pairs whose `meta` has the `statement` that their stem shows.

    Returns:
        Per template, claim and sentence of the claim one item for each of "N/A", "[MASK]" and "...". The labels mean nothing.

    Raises:
        MissingColumn: An item names no statement, or its stem does not show it.

    References:
        Zhao et al. 2021, arXiv 2102.09690 (contextual calibration).
    """
    first: dict[tuple[str, ...], ContrastPair] = {}
    for pair in prompts:
        first.setdefault((pair.template, pair.claim, str(pair.meta.get("phrasing", ""))), pair)
    out = []
    for pair in first.values():
        statement = str(pair.meta.get("statement", ""))
        place = pair.stem.rfind(statement) if statement else -1
        if place < 0:
            raise MissingColumn("contextual calibration needs to know the statement: a column `statement` with what the stem shows")
        for text in CONTENT_FREE:
            end = pair.instruction_end
            if end is not None and end > place:
                end += len(text) - len(statement)
            out.append(
                ContrastPair(
                    stem=pair.stem[:place] + text + pair.stem[place + len(statement) :],
                    negative=pair.negative,
                    positive=pair.positive,
                    label=pair.label,
                    identity=text,
                    claim=pair.claim,
                    template=pair.template,
                    instruction_end=end,
                    wording=f"{pair.wording}\n[MASK]" if pair.wording is not None else None,
                    meta={k: v for k, v in pair.meta.items() if k == "phrasing"} | {"statement": text},
                )
            )
    return PromptSet(out, name=f"{prompts.name}, content-free")


def discrimination(asked: pd.DataFrame, free: pd.DataFrame | None = None) -> pd.DataFrame:
    """Say per template and claim how a model answers: bias and discrimination beside the share of safe answers.

    Args:
        asked: One or several results of `answers`, stacked.
        free: The answers to `content_free` prompts, for contextual calibration.

    Returns:
        Rows `template, claim, metric, value, low, high, n, note`, intervals clustered by identity. Metrics: "yes" (share of the positive
        answer), "answered" (probability that both answers hold), "auroc" (of the margin, against the label, statements that were shown
        the same sentence of the claim being compared with each other: .5 where answers do not follow the statements, whatever the bias of
        each sentence), "safe_score", "safe_centred" (the share of safe answers with the median margin of the sentence as threshold: no
        label is used, but that half of the statements are of each kind), "safe_contextual" (with the mean margin of content-free prompts
        as threshold), "criterion" (c, above 0 for a bias towards the negative answer) and "d_prime" (in standard deviations), the last
        two with log-linear correction and intervals recovered from those of the two shares.

    Raises:
        BadInput: The table is empty. MissingColumn: It is not what `answers` returns.

    References:
        Macmillan and Creelman 2005; Hautus 1995 (the correction); Zou and Donner 2008 (variance recovered from limits).
    """
    _need(asked)
    rows = []
    for (template, claim), part in asked.groupby(["template", "claim"], sort=False):
        given = _free(free, part, str(template), str(claim))
        for metric, estimate in measures(part, free=given).items():
            rows.append({"template": template, "claim": claim, "metric": metric, **estimate.row(), "note": estimate.note})
    table = pd.DataFrame(rows, columns=COLUMNS)
    table.attrs["provenance"] = asked.attrs.get("provenance", {})
    return table


def claim_effects(asked: pd.DataFrame, baseline: str = "neutral") -> pd.DataFrame:
    """Split what a claim does to the answers into bias and discrimination, within each prompt form.

    Args:
        asked: Results of `answers` under several claims, stacked; the same statements under each.
        baseline: The claim to compare with, shown at the same place of the same form: the neutral sentence.

    Returns:
        Rows `template, claim, baseline, metric, value, low, high, n`: the metric under the claim minus that under the baseline, over the
        same statements. "yes", "answered" and "criterion" are bias, "auroc" and "d_prime" discrimination. Intervals are paired and
        clustered by identity, but for "criterion" and "d_prime", which are recovered from those of their shares and a little wide.
        Empty where no form was asked under the baseline.

    Raises:
        BadInput: The table is empty, or a form has no statement in common under two claims. MissingColumn: As for `discrimination`.
    """
    _need(asked)
    columns = ["template", "claim", "baseline", "metric", "value", "low", "high", "n"]
    rows = []
    for template, part in asked.groupby("template", sort=False):
        before = part[part["claim"] == baseline].set_index("stem" if "statement" not in part else "statement")
        if not len(before):
            continue
        for claim, after in part[part["claim"] != baseline].groupby("claim", sort=False):
            after = after.set_index(before.index.name)
            common = before.index.intersection(after.index)
            if not len(common):
                raise BadInput(f"{template!r}: the claims {baseline!r} and {claim!r} have no statement in common")
            one, two = (x.loc[~x.index.duplicated()].loc[common].reset_index() for x in (after, before))
            for metric, estimate in _differences(one, two).items():
                rows.append({"template": template, "claim": claim, "baseline": baseline, "metric": metric, **estimate.row()})
    return pd.DataFrame(rows, columns=columns)


def measures(part: pd.DataFrame, *, free: Array | float = math.nan) -> dict[str, Estimate]:
    """Return the metrics of `discrimination` for the answers of one prompt form under one claim.

    Args:
        part: From `answers`.
        free: The mean margin of content-free prompts, one number or one per answer.

    Returns:
        Estimates by metric.
    """
    people = units_of(part)
    margin, y = part["margin"].to_numpy(float), part["label"].to_numpy()
    both, shown = len(np.unique(y)) == 2, sentences_of(part)
    none = undefined("one class only", len(part))

    out = {
        "yes": proportion(part["answer"], people),
        "answered": mean(part["answered"], people, bounded=True),
        "auroc": auroc(margin, y, people, within=shown) if both else none,
        "safe_score": proportion(part["safe"], people),
        "safe_centred": mean(centred_hits(margin, y, shown), people, bounded=True) if both else none,
        "safe_contextual": undefined("no content-free prompts were asked", len(part)),
        "criterion": none,
        "d_prime": none,
    }
    if np.isfinite(free).all():
        out["safe_contextual"] = proportion((margin > free) == y, people)
    if both:
        out["criterion"], out["d_prime"] = _detection(part)
    return out


def _differences(one: pd.DataFrame, two: pd.DataFrame) -> dict[str, Estimate]:
    people = units_of(one)
    y = one["label"].to_numpy()
    shares = (("yes", "answer"), ("answered", "answered"), ("safe_score", "safe"))
    out = {name: paired_difference(one[c], two[c], people, reach=1) for name, c in shares}
    if len(np.unique(y)) == 2:
        a, b = (x["margin"].to_numpy(float) for x in (one, two))
        now, then = sentences_of(one), sentences_of(two)
        out["auroc"] = auroc_difference(a, b, y, people, within=(now, then))
        out["safe_centred"] = paired_difference(centred_hits(a, y, now), centred_hits(b, y, then), people, reach=1)
        for name, after, before in zip(("criterion", "d_prime"), _detection(one), _detection(two), strict=True):
            out[name] = _recovered(after, before, 1, -1, len(y))
    return {name: out[name] for name in EFFECTS if name in out}


def _detection(part: pd.DataFrame) -> tuple[Estimate, Estimate]:
    """Criterion and d′."""
    y, people = part["label"].to_numpy(), units_of(part)
    hit, alarm = (_z(proportion(part["answer"].to_numpy()[y == side], people[y == side])) for side in (1, 0))
    both = _recovered(hit, alarm, 1, 1, len(part))
    c = replace(both, value=-both.value / 2, low=-both.high / 2, high=-both.low / 2)
    return c, _recovered(hit, alarm, 1, -1, len(part))


def _z(share: Estimate) -> Estimate:
    """A share as a standard normal deviate, corrected so that 0 and 1 have one."""
    least = 0.5 / (share.n + 1)

    def z(p: float) -> float:
        return float(norm.ppf(min(max(p, least), 1 - least)))

    value = z((share.value * share.n + 0.5) / (share.n + 1))
    return replace(share, value=value, low=min(value, z(share.low)), high=max(value, z(share.high)), method="probit")


def _recovered(a: Estimate, b: Estimate, p: float, q: float, n: int) -> Estimate:
    """The sum p·a + q·b with an interval recovered from those of both."""
    value = p * a.value + q * b.value
    down = [(a.value - a.low) if p > 0 else (a.high - a.value), (b.value - b.low) if q > 0 else (b.high - b.value)]
    up = [(a.high - a.value) if p > 0 else (a.value - a.low), (b.high - b.value) if q > 0 else (b.value - b.low)]
    return replace(a, value=value, low=value - math.hypot(*down), high=value + math.hypot(*up), n=n, method="recovered limits", note="")


def _free(free: pd.DataFrame | None, part: pd.DataFrame, template: str, claim: str) -> Array:
    """The mean margin of content-free prompts for each answer: of the sentence of the claim that it was shown."""
    none = np.full(len(part), math.nan)
    rows = None if free is None else free[(free["template"] == template) & (free["claim"] == claim)]
    if rows is None or not len(rows):
        return none
    own, shown = sentences_of(rows), sentences_of(part)
    if own is None or shown is None:
        return np.full(len(part), float(rows["margin"].mean()))
    means = rows["margin"].groupby(np.asarray(own)).mean()
    return means.reindex(shown).to_numpy(float)


def _need(frame: pd.DataFrame) -> None:
    if not len(frame):
        raise BadInput("no answers: the table is empty")
    for column in ("template", "claim", "margin", "answered", "answer", "safe", "label", "identity"):
        if column not in frame:
            raise MissingColumn(f"the table has no column {column!r}; give it what answers() returns")
