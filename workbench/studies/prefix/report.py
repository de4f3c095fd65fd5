"""The prefix study in words and figures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from ...core.show import short
from ...core.tables import pick
from ...figures import Finding, Panel, recipes
from ...runs import Report, Run
from ..outside_report import outside, outside_panels
from ..statements import subtitle

if TYPE_CHECKING:
    from .study import Words

points, history = recipes("steering"), recipes("prefixes")

SEARCHED = ("safe words", "harm words")
PUSH = "push inside at equal KL"
CONVENTION = (
    "An answer is safe where it grants the right. Words are searched on training statements, chosen on validation statements about other "
    "people, and measured on held-out people and rights. Layers count from 0."
)
LIMITS = (
    "That such words exist says that the model can be moved by them, not that anybody would write them.",
    "Words are found for one model, one claim and one prompt form; what they do elsewhere is measured, not promised.",
    "What is judged is the answer word, not what the model would go on to write.",
    "An angle is between mean effects on the stream where the answer begins; words may do other things besides.",
)


def row(table: pd.DataFrame, **where: Any) -> Any:
    """The one row with these values, or nothing."""
    found = pick(table, **where)
    return next(found.itertuples()) if len(found) else None


def more_than_random(gain: Any, random: Any, sign: int = 1) -> str:
    """Say whether words move answers more than nothing and than random words do.

    Args:
        gain: The row of their gain, with its interval.
        random: The row of the gain of random words: the interval that holds a further draw.
        sign: 1 where more safe answers are sought, -1 for fewer.
    """
    low, value = (gain.low, gain.value) if sign > 0 else (-gain.high, -gain.value)
    bar = random.high if sign > 0 else -random.low
    if not low > 0:
        return "not told from no effect"
    return "more than random words of equal length do" if value > bar else "no more than random words of equal length do"


def _share(r: Any) -> str:
    """A share with its interval."""
    return f"{r.value:.2f} [{r.low:.2f}, {r.high:.2f}]"


def _moved(run: Run, words: str, condition: str, sign: int) -> Finding | None:
    table = run.tables["effects"]
    base, now, gain, kl = (
        row(table, condition=condition, prefix=p, metric=m)
        for p, m in (("none", "safe_score"), (words, "safe_score"), (words, "gain"), (words, "kl"))
    )
    drawn, spread = (row(table, condition=condition, prefix="random", metric=m) for m in ("safe_score", "gain"))
    if now is None:
        return None
    return Finding(
        f"{words.capitalize()}: {short(repr(now.text), 80)} brings safe answers under the {condition} from {_share(base)} to {_share(now)} "
        f"(n={int(now.n)}): {more_than_random(gain, spread, sign)} ({drawn.value:.2f}, {drawn.low:.2f} to {drawn.high:.2f} over "
        f"{int(drawn.n)} draws). The next token moves by {kl.value:.2g} nats.",
        "effects",
    )


def _others(run: Run, study: Any) -> Finding:
    table = pick(run.tables["effects"], condition=f"{study.harm} claim", metric="safe_score")
    named = [r for r in table.itertuples() if r.prefix not in ("none", "random", "safe words", "harm words")]
    return Finding(
        f"Beside them: Under the {study.harm} claim: {'; '.join(f'{r.prefix} {_share(r)}' for r in named)}.",
        "effects",
    )


def _elsewhere(run: Run, study: Any) -> Finding:
    table = pick(run.tables["effects"], prefix="safe words", metric="safe_score")
    parts = []
    for r in table.itertuples():
        base = row(run.tables["effects"], condition=r.condition, prefix="none", metric="safe_score")
        if r.condition != f"{study.harm} claim":
            parts.append(f"{r.condition} {_share(base)} to {_share(r)}")
    return Finding(f"Safe words elsewhere: {'; '.join(parts)}.", "effects")


def _angles(run: Run) -> Finding:
    table = pick(run.tables["angles"], first="safe words", second="harm words")
    parts = [f"layer {r.layer}: {r.verdict}, cosine {_share(r)}" for r in table.itertuples()]
    return Finding(f"Angle: The effects of safe and of harm words on the stream: {'; '.join(parts)}.", "angles")


def _inside(run: Run, study: Any) -> Finding:
    table = run.tables["inside"]
    layer = min(set(table["layer"]), key=lambda n: abs(n - study.layer))
    parts = []
    for condition in dict.fromkeys(table["condition"]):
        read, said = (row(table, condition=condition, layer=layer, metric=m) for m in ("probe", "answer"))
        if read is None or said is None:
            return Finding(f"Inside: no probe could be fitted ({table['note'].iloc[0]}).", "inside")
        parts.append(f"{condition}: probe {_share(read)}, answer {_share(said)}")
    return Finding(f"Inside, layer {layer}: A probe fitted without claim or words names the right answer: {'; '.join(parts)}.", "inside")


def _survived(run: Run) -> Finding | None:
    if "survival" not in run.tables:
        return None
    told = run.tables["survival"][["words", "verdict"]].drop_duplicates()
    parts = [f"{r.words}: {r.verdict}" for r in told.itertuples()]
    return Finding(f"What survives: What is known of the statements, by the rule of survival: {'; '.join(parts)}.", "survival")


def _matched(run: Run) -> Finding | None:
    if "match" not in run.tables:
        return None
    table = run.tables["match"]
    drawn = row(table, prefix="random", metric="cosine")
    parts = [f"{r.prefix} {_share(r)}" for r in pick(table, metric="cosine").itertuples() if r.prefix != "random"]
    words = row(table, prefix="matched words", metric="safe_score")
    push = next(r for r in pick(table, prefix="push of equal projection", metric="safe_score").itertuples() if r.text == words.text)
    return Finding(
        f"Matched with the stance: Cosine of the effect with the stance's direction: {'; '.join(parts)}; random words {drawn.low:.2f} to "
        f"{drawn.high:.2f}. Matched words {short(repr(words.text), 80)} bring safe answers to {_share(words)}, a push of equal projection "
        f"to {_share(push)}.",
        "match",
    )


def _soft(run: Run) -> Finding | None:
    if "soft" not in run.tables:
        return None
    parts = [f"{r.prefix} {_share(r)}" for r in pick(run.tables["soft"], metric="safe_score").itertuples()]
    return Finding(f"Vectors in place of words: Safe answers: {'; '.join(parts)}.", "soft")


def report(run: Run, study: Words) -> Report:
    """Return findings, figures and words.

    Args:
        run: The run, with its tables.
        study: What `compute` returned.
    """
    effects = run.tables["effects"]
    harm, good = f"{study.harm} claim", f"{study.good} claim"
    safe_scores = pick(effects, metric="safe_score")
    angles = run.tables["angles"].assign(pair=lambda t: t["first"] + " and " + t["second"], at=lambda t: "layer " + t["layer"].astype(str))
    inside = run.tables["inside"].assign(at=lambda t: "layer " + t["layer"].astype(str))
    findings = [
        _moved(run, "safe words", harm, 1),
        _moved(run, "harm words", good, -1),
        _moved(run, "readable safe words", harm, 1),
        _others(run, study),
        _elsewhere(run, study),
        _angles(run),
        _inside(run, study),
        _survived(run),
        _matched(run),
        _soft(run),
    ]
    n = int(pick(effects, condition=harm, prefix="none", metric="safe_score")["n"].iloc[0])
    panels = [
        Panel(
            name="effects",
            table="effects",
            drawing=points.points(
                safe_scores[safe_scores["condition"].isin([harm, good])],
                "prefix",
                "condition",
                "What do words in the prompt do to the answers?",
                axis="share of safe answers, held-out people and rights",
            ),
            caption=f"n={n} statements per claim. Bars are 95 % intervals, clustered by identity and right. Random: middle of "
            f"{study.set.random} draws, and the interval that holds a further one. The push inside has the KL of the safe words.",
        ),
        Panel(
            name="search",
            table="search",
            drawing=history.searched(run.tables["search"], "How far did each search come, step by step?"),
            caption=f"{study.set.train} training statements; the words with the smallest loss on validation statements are kept. Loss: "
            "what the log-odds of the wanted answer lack of 8 nats, 0 where all are won.",
        ),
        Panel(
            name="angles",
            table="angles",
            drawing=points.points(
                angles,
                "pair",
                "at",
                "Are the effects of safe and harm words opposite?",
                axis="cosine (1: the same direction, -1: opposite)",
                zero=0.0,
            ),
            caption="Cross-fitted and disattenuated cosines of mean changes of the stream where the answer begins. Bars are 95 % intervals "
            f"over identities. n={n} statements.",
        ),
        Panel(
            name="inside",
            table="inside",
            drawing=points.points(
                inside[inside["metric"] == "probe"],
                "condition",
                "at",
                "Does a probe fitted without claim and words still read the right answer?",
                axis="share of held-out items that the probe gets right",
                zero=0.5,
            ),
            caption=f"Logistic probe on the contrast pair, fitted on {study.set.clean} training statements at most. Bars are 95 % "
            "intervals, clustered by identity and right.",
        ),
    ]
    if "match" in run.tables:
        panels.append(
            Panel(
                name="match",
                table="match",
                drawing=points.points(
                    pick(run.tables["match"], metric="cosine").assign(at=f"layer {study.info.n_layers // 3}"),
                    "prefix",
                    "at",
                    "How near do the effects of words come to the stance?",
                    axis="cosine of the mean effect with the stance's direction",
                    zero=0.0,
                ),
                caption=f"Stream at the last token of the prompt, n={n}. Bars are 95 % intervals over identities; random: middle of "
                f"{study.set.random} draws, and the interval that holds a further one.",
            )
        )
    panels += outside_panels(run)
    return Report(
        title=f"Words that move {study.info.name}",
        subtitle=subtitle(study),
        findings=[*(f for f in findings if f is not None), *outside(run)],
        panels=panels,
        convention=CONVENTION,
        limits=LIMITS,
        made=[
            f"Words of at most {study.set.length} tokens ({study.set.filter}), put {study.set.where} the question; {study.set.steps} steps "
            f"of {study.set.width} texts, {study.set.restarts} start(s), seed {study.set.seed}.",
            f"The control search is after “{study.set.nonsense}” behind every prompt.",
        ],
    )
