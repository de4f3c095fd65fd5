"""What a push does to behaviour: by coefficient, against random pushes of equal norm, item by item, at equal cost."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import rankdata
from torch import Tensor
from tqdm.auto import tqdm

from ..core.direction import Direction
from ..core.errors import BadInput
from ..core.provenance import provenance
from ..core.stats import mean, proportion
from ..interventions import Asker, add, generate, kl, random_directions, tune
from ..interventions.cost import strengths
from ..interventions.pushes import ScopeLike
from ..models import Edit, info
from ..prompts import PromptSet
from .texts import Text, fluency, perplexity_ratio, text_nll

COEFFICIENTS = (-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0)
FEWEST_RANDOM = 20  # below, the band's ends are single draws


def dose_response(
    model: Any,
    prompts: PromptSet,
    direction: Direction,
    coefficients: Sequence[float] = COEFFICIENTS,
    *,
    unit: str = "raw",
    norm: float | None = None,
    scope: ScopeLike = "all",
    random: int = FEWEST_RANDOM,
    by: str = "polarity",
    texts: Sequence[Text] | None = None,
    text_scope: ScopeLike = None,
    new_tokens: int = 0,
    resamples: int = 1000,
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
        random: Random directions of the control, 20 at least for a band; 0 for none.
        by: A column of the prompts by whose values results are given too, where there is one.
        texts: Neutral texts, whose perplexity says where fluency breaks.
        text_scope: The scope of the push on them; by default the same.
        new_tokens: Continue up to 32 of the prompts by so many tokens and measure how repetitive that is; 0 does not.
        resamples, seed: For intervals, clustered by identity; the seed also draws the random directions.
        progress: Show a progress bar.
        how: More for `wb.add` (`site`, `layer`, `when`, `transfer`).

    Returns:
        Rows `layer, site, method, coefficient, condition, metric, value, low, high, n`. Methods: "direction"; "random", with the mean over
        random directions and the range of the middle 95 % of them. Conditions: "all" and the values of `by`. Metrics: "safe_score"
        (share of answers that `label` names), "p_positive" (of both endings' probability), "log_odds" (of the positive ending), "answered"
        (probability of both), "kl" (from the unpushed model, nats), "perplexity_ratio", and those of `fluency`.

    Raises:
        WrongModel, EmptyScope, AnswerTokens: Before or at the first push. NotFinite: a coefficient at which the model breaks; it says where.

    References:
        Rimsky et al. 2023, arXiv 2312.06681; Tan et al. 2024, arXiv 2407.12404 (what single numbers hide: `steerability`).
    """
    doses = strengths(coefficients)
    if 0 < random < FEWEST_RANDOM:
        raise BadInput(f"random={random}: a band needs {FEWEST_RANDOM} directions at least; 0 leaves the control out")
    asker = Asker(model, prompts)
    frame = prompts.to_frame()
    parts = _parts(frame, by)
    base_text = None if texts is None else text_nll(model, texts)
    place = add(direction, 1.0, unit=unit, norm=norm, scope=scope, **how)[0]
    common = {"layer": place.layer, "site": place.site}
    people = frame["identity"].to_numpy()
    rows: list[dict[str, Any]] = []

    def push(d: Direction, c: float, where: ScopeLike = scope) -> Iterable[Edit] | None:
        return add(d, c, unit=unit, norm=norm, scope=where, **how) if c else None

    controls = random_directions(direction, random, seed)
    with tqdm(
        total=len(doses) + random * (len(doses) - 1), desc="dose and response", disable=None if progress is None else not progress
    ) as bar:
        for c in doses:
            measured = _measure(asker, asker.base if c == 0 else asker.ask(push(direction, c)), frame)
            for name, keep in parts.items():
                names = common | {"method": "direction", "coefficient": c, "condition": name}
                rows += [names | {"metric": m, **_estimate(m, v[keep], people[keep], resamples, seed)} for m, v in measured.items()]
            if texts is not None and base_text is not None:
                now = text_nll(model, texts, push(direction, c, scope if text_scope is None else text_scope))
                ratio = perplexity_ratio(now, base_text, resamples=resamples, seed=seed)
                rows.append(
                    common | {"method": "direction", "coefficient": c, "condition": "all", "metric": "perplexity_ratio", **ratio.row()}
                )
            if new_tokens:
                some = prompts.subset(range(min(32, len(prompts))))
                wrote = generate(model, some, push(direction, c) or (), max_new_tokens=new_tokens, seed=seed, progress=False)["steered"]
                said = fluency(wrote.tolist(), resamples=resamples, seed=seed)
                rows += [common | {"method": "direction", "coefficient": c, "condition": "all", **row} for row in said.to_dict("records")]
            bar.update()
        for c in doses if random else ():
            if c == 0:
                continue
            drawn: dict[tuple[str, str], list[float]] = {}
            for d in controls:
                found = _measure(asker, asker.ask(push(d, c)), frame)
                for name, keep in parts.items():
                    for m, v in found.items():
                        drawn.setdefault((name, m), []).append(float(v[keep].mean()))
                bar.update()
            for (name, m), values in drawn.items():
                low, high = np.quantile(values, [0.025, 0.975])
                rows.append(
                    common
                    | {
                        "method": "random",
                        "coefficient": c,
                        "condition": name,
                        "metric": m,
                        "value": float(np.mean(values)),
                        "low": float(low),
                        "high": float(high),
                        "n": len(values),
                    }
                )
    table = pd.DataFrame(rows)
    table.attrs["provenance"] = provenance(
        model=info(model).key(), prompts=prompts.hash, direction=dict(direction.provenance), unit=unit, scope=str(place.scope), seed=seed
    )
    return table


def _parts(frame: pd.DataFrame, by: str) -> dict[str, np.ndarray]:
    parts = {"all": np.ones(len(frame), bool)}
    if by in frame and frame[by].nunique() > 1:
        parts |= {str(v): (frame[by] == v).to_numpy() for v in sorted(frame[by].unique(), key=str)}
    return parts


def _measure(asker: Asker, logp: Tensor, frame: pd.DataFrame) -> dict[str, np.ndarray]:
    odds, answered = asker.odds(logp), asker.answered(logp)
    return {
        "safe_score": ((odds > 0).astype(int) == frame["label"].to_numpy()).astype(float),
        "p_positive": 1 / (1 + np.exp(-odds)),
        "log_odds": odds,
        "answered": answered,
        "kl": kl(asker.base, logp),
    }


def _estimate(metric: str, values: np.ndarray, people: np.ndarray, resamples: int, seed: int) -> dict[str, Any]:
    return (proportion(values, people) if metric == "safe_score" else mean(values, people, resamples=resamples, seed=seed)).row()


def fluency_break(table: pd.DataFrame, limit: float = 1.05, *, metric: str = "perplexity_ratio") -> pd.DataFrame:
    """Say from which coefficient on, on each side of 0, a push makes text worse than a limit allows.

    Args:
        table: From `dose_response(texts=…)`, or with `new_tokens=` for what the model writes itself.
        limit: Against no push: 1.05 is a perplexity 5 % higher, a "distinct_2" that is 1 / 1.05 of what it was, or 5 points more "repetition".
        metric: One of these.

    Returns:
        Rows `side, metric, coefficient` (`nan`: none of those tried), `value, low, high, n`: the first coefficient whose interval lies beyond.
    """
    some = table[(table["metric"] == metric) & (table["method"] == "direction")]
    if not len(some):
        raise BadInput(
            f"the table has no {metric!r}: give dose_response some texts= (perplexity_ratio), or new_tokens= (distinct_2, repetition)"
        )
    base = float(some.loc[some["coefficient"] == 0, "value"].iloc[0])
    # where every text is alike no resample changes the mean, and its ends are not known: then the value itself is compared
    low, high = some["low"].fillna(some["value"]), some["high"].fillna(some["value"])
    beyond = high < base / limit if metric.startswith("distinct") else low > (base + limit - 1 if metric == "repetition" else base * limit)
    rows = []
    for side, sign in (("positive", 1), ("negative", -1)):
        over = some[beyond & (some["coefficient"] * sign > 0)].sort_values("coefficient", key=abs)
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
    resamples: int = 1000,
    seed: int = 0,
    progress: bool | None = None,
    **how: Any,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Say for which items a push works, and for which it backfires.

    Args:
        model: What `load_model` returns.
        prompts: Contrast pairs; pushing should raise the log-odds of the positive ending.
        family: A direction (then `how` goes to `wb.add`), or a map of a coefficient to edits.
        coefficients: At least three.
        resamples, seed: For intervals, clustered by identity.
        progress: Show a progress bar.

    Returns:
        Per item: its columns, `slope` (log-odds per unit of the coefficient, least squares) and `spearman`. And a summary `metric, value,
        low, high, n`: "slope", "spearman" (means) and "anti_steerable" (share of items whose slope is below 0).

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
    people = items["identity"].to_numpy()
    rows: list[dict[str, Any]] = [{"metric": "slope", **mean(slope, people, resamples=resamples, seed=seed).row()}]
    known = np.isfinite(rank)
    rows.append({"metric": "spearman", **mean(rank[known], people[known], resamples=resamples, seed=seed).row()})
    rows.append({"metric": "anti_steerable", **proportion(slope < 0, people).row()})
    return items, pd.DataFrame(rows)


def per_item(odds: np.ndarray, doses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return slope and Spearman correlation of each column of `coefficient x item` on the coefficients (`nan` where it never changes)."""
    x = doses - doses.mean()
    slope = (x[:, None] * odds).sum(0) / (x**2).sum()
    a = rankdata(doses)
    b = rankdata(odds, axis=0)
    a, b = a - a.mean(), b - b.mean(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        rank = (a[:, None] * b).sum(0) / np.sqrt((a**2).sum() * (b**2).sum(0))
    return slope, rank


def equal_cost(
    model: Any,
    prompts: PromptSet,
    families: Mapping[str, Callable[[float], Iterable[Edit]]],
    *,
    target: float | Sequence[float] = 0.1,
    measure: PromptSet | None = None,
    starts: Mapping[str, float] | None = None,
    resamples: int = 1000,
    seed: int = 0,
    progress: bool | None = None,
) -> pd.DataFrame:
    """Compare ways to push after tuning each to the same mean KL from the unpushed model.

    Args:
        model: What `load_model` returns.
        prompts: On which strengths are tuned.
        families: By name, a map of a strength to edits (`lambda c: wb.add(d, c)`); name controls "random …".
        target: KL in nats, one or several.
        measure: On which behaviour is measured; by default the same prompts.
        starts: Where each search begins, by name (1).
        resamples, seed: For intervals, clustered by identity.
        progress: Show a progress bar.

    Returns:
        Rows `method, target, strength, kl, metric, value, low, high, n, note`; metrics as in `dose_response`.
    """
    tuning = Asker(model, prompts)
    asked = tuning if measure is None else Asker(model, measure)
    frame = asked.prompts.to_frame()
    people = frame["identity"].to_numpy()
    targets = [float(target)] if isinstance(target, int | float) else [float(t) for t in target]
    rows = []
    jobs = [(name, t) for name in families for t in targets]
    for name, t in tqdm(jobs, desc="equal cost", disable=None if progress is None else not progress):
        found = tune(model, tuning, families[name], t, start=(starts or {}).get(name, 1.0))
        measured = _measure(asked, asked.ask(families[name](found.strength)), frame)
        for m, v in measured.items():
            rows.append(
                {
                    "method": name,
                    "target": t,
                    "strength": found.strength,
                    "kl": found.kl,
                    "metric": m,
                    **_estimate(m, v, people, resamples, seed),
                    "note": found.note,
                }
            )
    return pd.DataFrame(rows)
