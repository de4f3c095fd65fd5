"""What a push does to behaviour: by coefficient, against random pushes of equal norm, and item by item."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import rankdata
from tqdm.auto import tqdm

from ..core.direction import Direction
from ..core.errors import BadInput
from ..core.nulls import central
from ..core.provenance import provenance
from ..core.stats import mean, proportion
from ..core.tables import units_of
from ..interventions import Asker, add, generate, random_directions
from ..interventions.cost import strengths
from ..interventions.custom import Push, edits_of
from ..interventions.norms import push_length, share, stream_norms
from ..interventions.placing import STREAM, ScopeLike, length
from ..models import Edit, Edits, info
from ..models.scopes import DEFAULT
from ..prompts import PromptSet
from .measures import estimate, measure, parts_by
from .texts import Scored, Text, fluency, perplexity_ratio

COEFFICIENTS = (-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0)
FEWEST_RANDOM = 20  # from the least to the most then holds a further one in 90 %; 39 hold 95 %
CONTINUED = 32  # prompts that are continued to see how repetitive the model gets


def dose_response(
    model: Any,
    prompts: PromptSet,
    direction: Direction,
    coefficients: Sequence[float] = COEFFICIENTS,
    *,
    unit: str = "raw",
    norm: float | None = None,
    scope: ScopeLike = DEFAULT,
    random: int = FEWEST_RANDOM,
    by: str = "polarity",
    texts: Sequence[Text] | None = None,
    text_scope: ScopeLike = None,
    new_tokens: int = 0,
    push: Push | None = None,
    seed: int = 0,
    progress: bool | None = None,
    **how: Any,
) -> pd.DataFrame:
    """Push along a direction with several coefficients, and along random ones of equal norm.

    Args:
        model: What `load_model` returns.
        prompts: Contrast pairs; their two endings are the behaviour.
        direction: Where to push.
        coefficients: How much, in `unit`; 0 is added.
        unit, norm, scope: As for `wb.add`.
        random: Random directions of the control, at least 20 for a band; 0 for none.
        by: A column of the prompts; results are also given for each of its values, where there are several.
        texts: Neutral texts, whose perplexity says where fluency breaks.
        text_scope: The scope of the push on them; by default the same.
        new_tokens: Continue up to 32 of the prompts by so many tokens and measure how repetitive that is; 0 does not.
        push: A way to push of your own in place of `wb.add`: a function that maps (direction, coefficient) to edits. It is called with the
            random directions too, and says itself in which unit, where and on which tokens it acts.
        seed: Draws the random directions.
        progress: Show a progress bar.
        how: More for `wb.add` (`site`, `layer`, `when`, `transfer`).

    Returns:
        Rows `layer, site, method, coefficient, norm_share, condition, metric, value, low, high, n`. `norm_share` is the length of the push
        as a share of the stream's there (medians over the tokens of the prompts, attention sinks left out; `nan` for a `push` of
        several edits). Methods: "direction"; "random", with the mean over
        random directions and the ends of their central 95 %: under 39 the least and the most, between which a further one lies in
        (random - 1) / (random + 1), 90 % at 20. Conditions: "all" and the values of `by`. Metrics: "safe_score" (share
        of answers that `label` names), "p_positive" (of both endings' probability), "log_odds" (of the positive ending), "answered"
        (probability of both), "kl" (from the unpushed model, nats), "perplexity_ratio", and those of `fluency`.

    Raises:
        BadInput: Coefficients that are no numbers, too few random directions for a band, or arguments that go with `wb.add` beside `push`.
        WrongModel, EmptyScope, AnswerTokens: Before or at the first push. NotFinite: a coefficient at which the model breaks; it says
            where.

    Example:
        >>> import torch, workbench as wb
        >>> from workbench.interventions import custom_edit
        >>> model = wb.load_model("bundled")
        >>> prompts = wb.prompts.udhr("base_short", n=4)
        >>> d = wb.Direction.of(torch.ones(128), provenance={"site": "resid_post", "layer": 2})
        >>> def relu(direction, c):  # only tokens that lie along the direction are pushed
        ...     return custom_edit(lambda x: x + c * (x @ direction.unit).relu()[..., None] * direction.unit, layer=2)
        >>> table = wb.dose_response(model, prompts, d, [1], push=relu, random=0, progress=False)
        >>> table["coefficient"].unique().tolist()
        [0.0, 1.0]

    References:
        Rimsky et al. 2023, arXiv 2312.06681; Tan et al. 2024, arXiv 2407.12404 (what single numbers hide: `steerability`).
    """
    doses = strengths(coefficients)
    if 0 < random < FEWEST_RANDOM:
        raise BadInput(f"random={random}: a band needs {FEWEST_RANDOM} directions at least; 0 leaves the control out")
    if push is not None and (unit != "raw" or norm is not None or scope != DEFAULT or text_scope is not None or how):
        raise BadInput("push= makes its own edits: leave unit, norm, scope, text_scope and what else is for wb.add to it")
    asker = Asker(model, prompts)
    frame = prompts.to_frame()
    parts = parts_by(frame, by)
    people = units_of(frame)

    def edits(d: Direction, c: float, where: ScopeLike = scope) -> Edits:
        return add(d, c, unit=unit, norm=norm, scope=where, **how) if push is None else edits_of(push, d, c)

    place = edits(direction, 1.0)[0]
    common = {"layer": place.layer, "site": place.site}

    def dose(c: float, known: float) -> dict[str, float]:
        own = push is not None and place.site in STREAM
        size = push_length(model, prompts, edits(direction, c)) if own else float("nan") if push else length(direction, c, unit, norm)
        return {"coefficient": c, "norm_share": share(size, known)}

    neutral = None if texts is None else Scored(model, texts)
    controls = random_directions(direction, random, seed)
    rows: list[dict[str, Any]] = []
    steps = len(doses) + random * (len(doses) - 1)
    with tqdm(total=steps, desc="dose and response", disable=None if progress is None else not progress) as bar:
        norms = stream_norms(model, prompts, [(place.site, place.layer)] if place.site in STREAM else [])
        shares = {c: dose(c, norms.get((place.site, place.layer), float("nan"))) for c in doses}
        scored = None if neutral is None else neutral.under()
        for c in doses:
            measured = measure(asker, asker.ask(edits(direction, c)) if c else asker.base, frame)
            names = common | {"method": "direction"} | shares[c]
            for name, keep in parts.items():
                part = names | {"condition": name}
                rows += [part | {"metric": m, **estimate(m, v[keep], people[keep])} for m, v in measured.items()]
            if neutral is not None and scored is not None:
                now = neutral.under(edits(direction, c, scope if text_scope is None else text_scope) if c else None)
                ratio = perplexity_ratio(now, scored)
                rows.append(names | {"condition": "all", "metric": "perplexity_ratio", **ratio.row()})
            if new_tokens:
                said = _continued(model, prompts, edits(direction, c) if c else (), new_tokens, seed)
                rows += [names | {"condition": "all", **row} for row in said]
            bar.update()
        for c in [c for c in doses if c] if random else ():
            names = common | {"method": "random"} | shares[c]
            rows += [names | row for row in _band(asker, (edits(d, c) for d in controls), frame, parts, bar)]
    table = pd.DataFrame(rows)
    table.attrs["provenance"] = provenance(
        model=info(model).key(),
        prompts=prompts.hash,
        direction=dict(direction.provenance),
        unit=unit if push is None else f"that of {getattr(push, '__name__', 'push')}",
        scope=str(place.scope),
        seed=seed,
    )
    return table


def _continued(model: Any, prompts: PromptSet, edits: Iterable[Edit], new_tokens: int, seed: int) -> list[dict[str, Any]]:
    """How repetitive the continuations of a few prompts are."""
    few = prompts.subset(range(min(CONTINUED, len(prompts))))
    wrote = generate(model, few, edits, max_new_tokens=new_tokens, seed=seed, progress=False)["steered"]
    return fluency(wrote.tolist()).to_dict("records")  # pyright: ignore[reportReturnType]


def _band(
    asker: Asker, pushes: Iterable[Iterable[Edit]], frame: pd.DataFrame, parts: dict[str, np.ndarray], bar: tqdm
) -> list[dict[str, Any]]:
    """Mean and central part of each metric over random pushes."""
    drawn: dict[tuple[str, str], list[float]] = {}
    for edits in pushes:
        measured = measure(asker, asker.ask(edits), frame)
        for name, keep in parts.items():
            for m, v in measured.items():
                drawn.setdefault((name, m), []).append(float(v[keep].mean()))
        bar.update()
    rows: list[dict[str, Any]] = []
    for (name, m), values in drawn.items():
        part = central(values)
        ends = {"value": float(np.mean(values)), "low": part.low, "high": part.high, "n": len(values)}
        rows.append({"condition": name, "metric": m, **ends})
    return rows


def fluency_break(table: pd.DataFrame, limit: float = 1.05, *, metric: str = "perplexity_ratio") -> pd.DataFrame:
    """Say from which coefficient on, on each side of 0, a push makes text worse than a limit allows.

    Args:
        table: From `dose_response(texts=…)`, or with `new_tokens=` for what the model writes itself.
        limit: Against no push, above 1: 1.05 is a perplexity 5 % higher, a "distinct_2" (or 1, 3) that is 1 / 1.05 of what it was, or 5
            points more "repetition". Raising it tolerates more.
        metric: One of these; "perplexity_ratio" needs `texts=`.

    Returns:
        A row for each `side` ("positive", "negative"): `side, metric, coefficient, value, low, high, n` of the first coefficient, going out
        from 0, whose whole interval lies beyond the limit; `nan` where none of those tried does.

    Raises:
        BadInput: The table does not have the metric.
    """
    pushed = table[(table["metric"] == metric) & (table["method"] == "direction")]
    if not len(pushed):
        raise BadInput(
            f"the table has no {metric!r}: give dose_response some texts= (perplexity_ratio), or new_tokens= (distinct_2, repetition)"
        )
    base = float(pushed.loc[pushed["coefficient"] == 0, "value"].iloc[0])
    # where every text is alike no resample changes the mean, and its ends are not known: then the value itself is compared
    low, high = pushed["low"].fillna(pushed["value"]), pushed["high"].fillna(pushed["value"])
    beyond = high < base / limit if metric.startswith("distinct") else low > (base + limit - 1 if metric == "repetition" else base * limit)
    rows = []
    for side, sign in (("positive", 1), ("negative", -1)):
        over = pushed[beyond & (pushed["coefficient"] * sign > 0)].sort_values("coefficient", key=abs)
        first = over.iloc[0] if len(over) else None
        rows.append(
            {"side": side, "metric": metric}
            | {k: float("nan") if first is None else first[k] for k in ("coefficient", "value", "low", "high", "n")}
        )
    return pd.DataFrame(rows)


def steerability(
    model: Any,
    prompts: PromptSet,
    family: Direction | Callable[[float], Iterable[Edit]],
    coefficients: Sequence[float] = COEFFICIENTS,
    *,
    progress: bool | None = None,
    **how: Any,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Say for which items a push works, and for which it backfires.

    Args:
        model: What `load_model` returns.
        prompts: Contrast pairs; pushing should raise the log-odds of the positive ending.
        family: A direction, or a map of a coefficient to edits (`lambda c: wb.add(d, c)`, or one made with `interventions.custom_edit`).
        coefficients: At least three with 0, which is added; more of them make the slopes steadier.
        progress: Show a progress bar.
        how: With a direction, more for `wb.add` (`unit`, `scope`, `site`, …).

    Returns:
        Per item: its columns, `slope` (log-odds per unit of the coefficient, least squares) and `spearman`. And a summary `metric, value,
        low, high, n`: "slope", "spearman" (means) and "anti_steerable" (share of items whose slope is below 0).

    Raises:
        BadInput: Fewer than three coefficients, or one that is not a finite number. Whatever the edits raise.

    References:
        Tan et al. 2024, arXiv 2407.12404.
    """
    doses = np.array(strengths(coefficients))
    if len(doses) < 3:
        raise BadInput("a slope over fewer than three coefficients says nothing of shape: give three or more")
    asker = Asker(model, prompts)

    def make(c: float) -> Iterable[Edit]:
        return add(family, c, **how) if isinstance(family, Direction) else family(c)

    odds = np.stack(
        [
            asker.odds(asker.base if c == 0 else asker.ask(make(float(c))))
            for c in tqdm(doses, desc="steerability", disable=None if progress is None else not progress)
        ]
    )
    items = prompts.to_frame().drop(columns=["stem", "negative", "positive"])
    slope, rank = per_item(odds, doses)
    items["slope"], items["spearman"] = slope, rank
    people = units_of(items)
    rows: list[dict[str, Any]] = [{"metric": "slope", **mean(slope, people).row()}]
    known = np.isfinite(rank)
    rows.append({"metric": "spearman", **mean(rank[known], people[known]).row()})
    rows.append({"metric": "anti_steerable", **proportion(slope < 0, people).row()})
    return items, pd.DataFrame(rows)


def per_item(odds: np.ndarray, doses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return slope and Spearman correlation of each item on the coefficients.

    Args:
        odds: Log-odds, `coefficient x item`.
        doses: The coefficients.

    Returns:
        Slopes (log-odds per unit, least squares) and rank correlations (-1 to 1; `nan` where an item never changes), `item` each.
    """
    x = doses - doses.mean()
    slope = (x[:, None] * odds).sum(0) / (x**2).sum()
    a = rankdata(doses)
    b = rankdata(odds, axis=0)
    a, b = a - a.mean(), b - b.mean(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        rank = (a[:, None] * b).sum(0) / np.sqrt((a**2).sum() * (b**2).sum(0))
    return slope, rank
