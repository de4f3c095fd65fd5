"""Multiple choice under a push: the probability of the answer that matches a behaviour, in both letter orders."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from ..core.direction import Direction
from ..core.errors import BadInput
from ..core.paired import paired_proportions
from ..core.stats import mean, proportion
from ..core.tables import units_of
from ..interventions import Asker, add
from ..interventions.cost import strengths
from ..interventions.custom import Push, edits_of
from ..interventions.norms import push_length, share, stream_norms
from ..interventions.placing import STREAM, ScopeLike, length
from ..models import Edit, Edits
from ..prompts import PromptSet
from ..prompts.benchmarks import MultiTruth
from .texts import Scored, Text, continuation_logp, perplexity, perplexity_ratio


def multiple_choice(
    model: Any,
    prompts: PromptSet | Mapping[str, PromptSet],
    directions: Direction | Mapping[int, Direction],
    coefficients: Sequence[float] = (-1, 0, 1),
    *,
    unit: str = "raw",
    scope: ScopeLike = "after_instruction",
    push: Push | None = None,
    progress: bool | None = None,
    **how: Any,
) -> pd.DataFrame:
    """Measure P(answer matching the behaviour) by layer and coefficient.

    Args:
        model: What `load_model` returns.
        prompts: From `prompts.choices_to_prompts`, best with orders="both"; or several by name of the system prompt.
        directions: One, or one per layer, each of which acts at its layer (a direction read elsewhere needs transfer=True).
        coefficients: In `unit`; 0 is added.
        unit, scope, how: As for `wb.add`. The published scope is everything from the end of the instruction on.
        push: A way to push of your own in place of `wb.add`: a function that maps (direction, coefficient) to edits, and says itself where
            and on which tokens it acts.
        progress: Show a progress bar.

    Returns:
        Rows `system, layer, coefficient, norm_share, metric, value, low, high, n`. `norm_share` is the length of the push as a share of the
        stream's there, on the prompts of that system, as for `dose_response`. Metrics: "p_matching" (of the two letters' probability),
        "accuracy" (share of items where it is above a half), "position_bias" (mean P(A) minus a half over items of which both orders are
        there; 0 favours neither letter) and "answered" (probability of both letters).

    Raises:
        BadInput: `layer=` beside a mapping that names the layers, arguments for `wb.add` beside `push`, or coefficients that are no
            numbers.
        WrongModel: A direction acts elsewhere than where it was read, without transfer=True.
        AnswerTokens: A letter is not a single token.

    References:
        Rimsky et al. 2023, arXiv 2312.06681, section 4.
    """
    sets = {"none": prompts} if isinstance(prompts, PromptSet) else dict(prompts)
    if push is not None and (unit != "raw" or scope != "after_instruction" or how):
        raise BadInput("push= makes its own edits: leave unit, scope and what else is for wb.add to it")
    if not isinstance(directions, Direction) and "layer" in how:
        raise BadInput("the mapping names the layers: leave layer= out")

    def edits(d: Direction, c: float, layer: int | None = None) -> Edits:
        more: dict[str, Any] = how if layer is None else how | {"layer": layer}
        return add(d, c, unit=unit, scope=scope, **more) if push is None else edits_of(push, d, c)

    single = isinstance(directions, Direction)
    by_layer = {edits(directions, 1.0)[0].layer: directions} if isinstance(directions, Direction) else dict(directions)
    doses = strengths(coefficients)
    rows = []
    jobs = [(s, n, c) for s in sets for n in by_layer for c in doses if c] + [(s, n, 0.0) for s in sets for n in by_layer]
    askers = {s: Asker(model, p) for s, p in sets.items()}
    places = {n: (d, edits(d, 1.0, None if single else n)[0]) for n, d in by_layer.items()}
    shares: dict[tuple[str, int, float], float] = {}
    for system, layer, c in tqdm(jobs, desc="multiple choice", disable=None if progress is None else not progress):
        shares = shares or _shares(model, sets, places, doses, unit, push, how)
        asker = askers[system]
        logp = asker.ask(edits(by_layer[layer], c, None if single else layer)) if c else asker.base
        names = {"system": system, "layer": layer, "coefficient": c, "norm_share": shares[system, layer, c]}
        rows += [names | row for row in choice_rows(asker, asker.odds(logp), asker.answered(logp))]
    return pd.DataFrame(rows).sort_values(["system", "layer", "coefficient", "metric"], ignore_index=True)


def _shares(
    model: Any,
    sets: Mapping[str, PromptSet],
    places: Mapping[int, tuple[Direction, Edit]],
    doses: Sequence[float],
    unit: str,
    push: Push | None,
    how: Mapping[str, Any],
) -> dict[tuple[str, int, float], float]:
    """How long each push is as a share of the stream, by system, layer and coefficient; `nan` where nobody can say."""
    out: dict[tuple[str, int, float], float] = {}
    for system, prompts in sets.items():
        wanted = [(edit.site, edit.layer) for _, edit in places.values() if edit.site in STREAM]
        known = stream_norms(model, prompts, wanted) if wanted else {}
        for layer, (d, edit) in places.items():
            norm = known.get((edit.site, edit.layer), float("nan"))
            for c in doses:
                if push is None:
                    size = length(d, c, unit, how.get("norm"))
                else:
                    size = push_length(model, prompts, edits_of(push, d, c)) if norm == norm else float("nan")
                out[system, layer, c] = share(size, norm)
    return out


def choice_rows(asker: Asker, odds: np.ndarray, answered: np.ndarray) -> list[dict[str, Any]]:
    """Return the metrics of `multiple_choice` for one way of asking.

    Args:
        asker: Has the questions.
        odds: Log-odds of the matching letter, `item`.
        answered: Probability of both letters, `item`.

    Returns:
        Rows `metric, value, low, high, n`.
    """
    frame = asker.prompts.to_frame()
    people, p = units_of(frame), 1 / (1 + np.exp(-odds))
    rows: list[dict[str, Any]] = [
        {"metric": "p_matching", **mean(p, people).row()},
        {"metric": "accuracy", **proportion(odds > 0, people).row()},
        {"metric": "answered", **mean(answered, people).row()},
    ]
    if {"letter", "order"} <= set(frame.columns) and frame["order"].nunique() == 2:
        first = np.where(frame["letter"].to_numpy() == "A", p, 1 - p) - 0.5
        both = frame.groupby("identity")["order"].transform("nunique").to_numpy() == 2
        if both.any():
            rows.append({"metric": "position_bias", **mean(first[both], people[both]).row()})
    return rows


def capability(
    model: Any,
    edits: Mapping[str, Iterable[Edit]],
    *,
    choices: Mapping[str, PromptSet] | None = None,
    truths: Sequence[MultiTruth] | None = None,
    texts: Mapping[str, Sequence[Text]] | None = None,
    text_clusters: Mapping[str, Sequence[Any]] | None = None,
    answers: Mapping[str, PromptSet] | None = None,
    controls: Mapping[str, Sequence[Iterable[Edit]]] | None = None,
    progress: bool | None = None,
) -> pd.DataFrame:
    """Measure what edits cost elsewhere: the capability tax.

    Args:
        model: What `load_model` returns.
        edits: By name, whatever goes into `wb.edited`; for a function of your own see `interventions.custom_edit`. "none", without edits,
            is added.
        choices: A/B questions by task (MMLU, TruthfulQA), as from `choices_to_prompts`.
        truths: TruthfulQA with all its answers, for mc1 and mc2.
        texts: Texts, or (prompt, continuation), by name, for perplexity.
        text_clusters: By name of the texts, one name of a cluster per text; each text is drawn by itself if not given.
        answers: Contrast pairs by name whose `label` names the right ending.
        controls: By name, several edits that stand in the table as one: the same push or ablation along random directions
            (`random_directions`).
        progress: Show a progress bar.

    Returns:
        Rows `edit, task, metric, value, low, high, n`, and `change, change_low, change_high` against "none", paired item by item: a
        difference, below 0 where the edit makes things worse, and for perplexity a ratio, above 1 where it does. Metrics: "accuracy", "mc1"
        (share of questions whose best answer is the likeliest), "mc2" (probability of true answers among all, averaged), "perplexity". Of a
        control: the mean over its edits, the smallest and the largest of them as ends, and their number as n.

    Raises:
        BadInput: Nothing to measure, an edit named "none", or a task that is among choices and among answers.
        EmptyScope: An edit could touch nothing of a text; give (prompt, continuation) pairs.
        AnswerTokens, PromptTooLong: Before any edit acts.

    References:
        Lin et al. 2021, arXiv 2109.07958 (TruthfulQA: mc1, mc2); Hendrycks et al. 2020, arXiv 2009.03300 (MMLU).
    """
    if "none" in edits:
        raise BadInput("'none' is the model without edits, against which all others are compared; call yours otherwise")
    if twice := set(choices or {}) & set(answers or {}):
        raise BadInput(f"the task {twice.pop()!r} is among choices and among answers; give one of them another name")
    if twice := set(controls or {}) & set(edits):
        raise BadInput(f"{twice.pop()!r} is the name of an edit and of a control; give one of them another name")
    named: dict[str | tuple[str, int], list[Edit]] = {"none": []}
    named |= {k: list(v) for k, v in edits.items()}
    named |= {(name, k): list(v) for name, several in (controls or {}).items() for k, v in enumerate(several)}
    if not (choices or truths or texts or answers):
        raise BadInput("nothing to measure: give choices=, truths=, texts= or answers=")
    askers = {k: (Asker(model, p), "matching") for k, p in (choices or {}).items()} | {
        k: (Asker(model, p), "label") for k, p in (answers or {}).items()
    }
    before: dict[tuple[str, str], Any] = {}
    rows: list[dict[str, Any]] = []

    def put(edit: str | tuple[str, int], task: str, metric: str, values: np.ndarray, people: np.ndarray | None, hits: bool) -> None:
        old = before.setdefault((task, metric), values)
        now = proportion(values, people) if hits else mean(values, people)
        change = paired_proportions(values, old, people) if hits else mean(values - old, people)
        low, high = (0.0, 0.0) if edit == "none" else (change.low, change.high)
        rows.append(
            {"edit": edit, "task": task, "metric": metric, **now.row(), "change": change.value, "change_low": low, "change_high": high}
        )

    steps = len(named) * (len(askers) + bool(truths) + len(texts or {}))
    with tqdm(total=steps, desc="capability", disable=None if progress is None else not progress) as bar:
        for task, (asker, right) in askers.items():
            label, people = 1 if right == "matching" else np.array(asker.prompts.labels), np.array([p.identity for p in asker.prompts])
            asker.renew()
            for edit, acting in named.items():
                odds = asker.odds(asker.ask(acting) if acting else asker.base)
                put(edit, task, "accuracy", ((odds > 0) == label).astype(float), people, True)
                bar.update()
        for edit, acting in named.items() if truths else ():
            best, share = truth_scores(model, truths or (), acting)
            put(edit, "truthfulqa", "mc1", best, None, True)
            put(edit, "truthfulqa", "mc2", share, None, False)
            bar.update()
        for task, given in (texts or {}).items():
            neutral, groups = Scored(model, given), (text_clusters or {}).get(task)
            for edit, acting in named.items():
                scored = neutral.under(acting)
                old = before.setdefault((task, "perplexity"), scored)
                ratio = perplexity_ratio(scored, old, groups)
                same = bool((scored["nll"] == old["nll"]).all())
                rows.append(
                    {
                        "edit": edit,
                        "task": task,
                        "metric": "perplexity",
                        **perplexity(scored, groups).row(),
                        "change": ratio.value,
                        "change_low": 1.0 if same else ratio.low,
                        "change_high": 1.0 if same else ratio.high,
                    }
                )
                bar.update()
    order = {name: k for k, name in enumerate(named)}
    return pd.DataFrame(_pooled(sorted(rows, key=lambda row: order[row["edit"]])))


def _pooled(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Put the edits of a control together: mean, smallest and largest; rows of other edits stay as they are."""
    out: dict[tuple[Any, ...], dict[str, Any]] = {}
    drawn: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        name = row["edit"][0] if isinstance(row["edit"], tuple) else row["edit"]
        key = name, row["task"], row["metric"]
        out.setdefault(key, row)
        if isinstance(row["edit"], tuple):
            drawn.setdefault(key, []).append(row)
    for key, several in drawn.items():
        pooled: dict[str, Any] = {"edit": key[0], "task": key[1], "metric": key[2]}
        for what, low, high in (("value", "low", "high"), ("change", "change_low", "change_high")):
            values = [row[what] for row in several]
            pooled |= {what: float(np.mean(values)), low: min(values), high: max(values)}
            pooled |= {"n": len(values)} if what == "value" else {}
        out[key] = pooled
    return list(out.values())


def truth_scores(model: Any, truths: Sequence[MultiTruth], edits: Iterable[Edit] | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Score questions by the log-probabilities of whole answers.

    Args:
        model: What `load_model` returns.
        truths: Questions with their true and false answers.
        edits: What acts.

    Returns:
        mc1 (1 where the best answer is likelier than every false one, else 0) and mc2 (probability of the true answers among all, 0 to 1),
        `question` each.
    """
    pairs, spans = [], []
    for item in truths:
        answers = list(dict.fromkeys([item.best, *item.correct, *item.incorrect]))
        spans.append((len(pairs), [a == item.best or a in item.correct for a in answers]))
        pairs += [(f"Q: {item.question}\nA:", f" {a}") for a in answers]
    logp = continuation_logp(model, pairs, edits)
    best, share = [], []
    for start, true in spans:
        here, mask = logp[start : start + len(true)], np.array(true)
        # mc1: the best answer against every false one
        best.append(float(here[0] > here[~mask].max()))
        p = np.exp(here - here.max())
        share.append(float(p[mask].sum() / p.sum()))
    return np.array(best), np.array(share)
