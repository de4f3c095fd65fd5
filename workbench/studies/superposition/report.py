"""The study of superposition in words and figures: what the paper states, and whether it is so here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from ...core.tables import pick, span
from ...figures import Finding, Panel, recipes
from ...runs import Report, Run

if TYPE_CHECKING:
    from .study import Superposition

draw = recipes("superposition")
HIDDEN = 5
COSINE = "mean largest cosine"
CONVENTION = (
    "A feature is represented where its column of W has a length of 0.5 or more, and superposed where, besides, the squared overlaps of "
    "the others with it sum to 0.5 or more. Sparsity is the probability that a feature is absent; density is 1 minus that."
)
LIMITS = (
    "Toy models are trained to give their input back. That features of a language model lie as these do is the paper's conjecture, and no "
    "result of this study.",
    "Intervals are over replicates: other first weights and other examples of the same toy. A replicate of several starts is the one of "
    "lowest loss on fresh examples.",
    "Where no replicate differs there is no interval: the table says so.",
)


def _said(row: Any) -> str:
    return f"{row.value:.2f} [{row.low:.2f}, {row.high:.2f}]" if row.low == row.low else f"{row.value:.2f} in all {int(row.n)} replicates"


def _one(table: pd.DataFrame, **where: Any) -> Any:
    return next(pick(table, **where).itertuples())


def holds(counts: pd.DataFrame, features: pd.DataFrame, hidden: int = HIDDEN) -> dict[str, bool]:
    """Return whether each statement of the paper about the number of features holds in a table of counts.

    Args:
        counts: `activation, sparsity, metric, value, low, high`.
        features: `activation, sparsity, feature, metric, value`; features in order of falling importance.
        hidden: Dimensions of the toys.

    Returns:
        By statement: a linear model represents as many features as dimensions at every sparsity, the most important ones, and superposes
        none; so does a dense ReLU model; a ReLU model at the highest sparsity represents more (lower end of the interval).
    """
    represented, superposed = pick(counts, metric="represented"), pick(counts, metric="superposed")
    linear, relu = pick(represented, activation="linear"), pick(represented, activation="relu").sort_values("sparsity")
    dense, sparse = relu.iloc[0], relu.iloc[-1]
    norms = pick(features, metric="norm")

    def top(activation: str, sparsity: float) -> bool:
        """Whether the most important features alone are represented, and none of them superposed."""
        own = pick(norms, activation=activation, sparsity=sparsity)
        shared = pick(superposed, activation=activation, sparsity=sparsity)["value"].iloc[0]
        count = pick(represented, activation=activation, sparsity=sparsity)["value"].iloc[0]
        return bool(((own["value"] >= 0.5) == (own["feature"] < hidden)).all() and shared < 0.5 and abs(count - hidden) < 0.5)

    least = sparse["low"] if sparse["low"] == sparse["low"] else sparse["value"]
    return {
        "linear": all(top("linear", s) for s in linear["sparsity"]),
        "dense": top("relu", dense["sparsity"]),
        "sparse": bool(least > hidden),
    }


def _yes(fact: bool) -> str:
    return "as the paper states" if fact else "which is not what the paper states"


def _counted(run: Run) -> list[Finding]:
    counts = run.tables["counts"]
    true, represented = holds(counts, run.tables["features"]), pick(counts, metric="represented")
    linear = pick(represented, activation="linear")
    relu = pick(represented, activation="relu").sort_values("sparsity")
    dense, sparse = (next(relu.iloc[[k]].itertuples()) for k in (0, -1))
    return [
        Finding(
            f"Linear: Without a ReLU {linear['value'].min():.2f} to {linear['value'].max():.2f} of 20 features are represented in {HIDDEN} "
            f"dimensions at every sparsity (n={span(linear)} replicates), {_yes(true['linear'])}: the most important ones, without "
            "superposition.",
            "counts",
            "features",
        ),
        Finding(
            f"Dense: With a ReLU and no sparsity {_said(dense)} are represented, {_yes(true['dense'])}: the same.", "counts", "features"
        ),
        Finding(
            f"Sparse: At a sparsity of {sparse.sparsity:g} {_said(sparse)} are represented, {_yes(true['sparse'])}: more features than "
            "dimensions, in superposition.",
            "counts",
            "features",
        ),
    ]


def _geometry(run: Run) -> list[Finding]:
    table, pairs = run.tables["arrangements"], run.tables["pairs"]
    commonest = table.loc[table.groupby(["panel", "sparsity"], sort=False)["value"].idxmax()]
    found = []
    for name, rows in commonest.groupby("panel", sort=False):
        steps = [
            f"{r.arrangement} at sparsity {r.sparsity:g} ({_said(r)})"
            for r in (next(rows.iloc[[k]].itertuples()) for k in (0, len(rows) // 2, -1))
        ]
        found.append(f"{name}: {', '.join(steps)}")
    together = {s: {p: _one(pairs, sets=s, pair=p, metric="cosine") for p in ("within", "across")} for s in dict.fromkeys(pairs["sets"])}
    told = [f"{s} pairs {_said(c['within'])} within and {_said(c['across'])} across" for s, c in together.items()]
    curve = pick(run.tables["per_feature"], activation="relu")
    near = curve[(curve["value"] - 0.5).abs() < 0.05]
    stays = f"at sparsities {', '.join(f'{s:g}' for s in near['sparsity'])}" if len(near) else "at no sparsity tried"
    return [
        Finding(
            f"Dimensions per feature: They are within 0.05 of one half (antipodal pairs) {stays} (n={span(curve)} replicates).",
            "per_feature",
        ),
        Finding(f"Arrangements: The commonest among {span(table)} replicates: {'; '.join(found)}.", "arrangements"),
        Finding(f"Pairs: Mean cosine between features (n={span(pairs)} replicates): {'; '.join(told)}.", "pairs"),
    ]


def _phases(run: Run) -> Finding:
    table = pick(run.tables["phases"], state="superposed")
    parts = []
    for name, rows in table.groupby("panel", sort=False):
        sparse, dense = (rows[rows["density"] == f(rows["density"])]["value"] for f in (min, max))
        parts.append(
            f"{name}: superposed in {sparse.mean():.2f} of the replicates at the lowest density and {dense.mean():.2f} without sparsity"
        )
    return Finding(f"Phases: Over importances from a tenth to ten times: {'; '.join(parts)}.", "phases")


def _bridge(run: Run) -> list[Finding]:
    if "recovery" not in run.tables:
        return []
    recovered, exact = pick(run.tables["recovery"], metric=COSINE), pick(run.tables["planted"], method="nnls")
    signed = pick(run.tables["planted"], method="omp", control="")["value"].max()
    rows = [f"{r.kind} {_said(r)}" for r in pick(recovered, control="").itertuples()]
    permuted = pick(recovered, control="permuted")["value"].max()
    found = [f"{r.kind} {_said(r)}" for r in pick(exact, control="").itertuples()]
    none = pick(exact, control="permuted")["value"].max()
    return [
        Finding(
            f"Dictionaries: Mean largest cosine between a toy's features and latents (n={span(recovered)} toys): {'; '.join(rows)}. "
            f"Permuted dictionaries have {permuted:.2f} at most.",
            "recovery",
        ),
        Finding(
            f"Planted: A direction made of two features is decomposed into exactly their two latents in a share of: {'; '.join(found)} "
            f"(n={span(exact)}, non-negative least squares). In permuted dictionaries {none:.2f} at most. Matching pursuit with either "
            f"sign finds {signed:.2f} at most: it does not tell a feature from the one that lies opposite.",
            "planted",
        ),
    ]


def report(run: Run, study: Superposition) -> Report:
    """Return findings, figures and words.

    Args:
        run: The run, with its tables.
        study: What `compute` returned.
    """
    tables = run.tables
    over = "95 % intervals over replicates"
    relu = pick(tables["weights"], activation="relu")
    panels = [
        Panel(
            name="gram",
            table="features",
            drawing=draw.gram(relu, tables["features"]),
            caption=f"Above, WᵀW of one replicate (ReLU). Below, norm and interference of each feature, {over}, n={study.set.replicates}; "
            "importance falls by 0.7 from feature to feature.",
        ),
        Panel(
            name="per_feature",
            table="per_feature",
            drawing=draw.per_feature(tables["per_feature"]),
            caption=f"30 equally important features in 6 dimensions; {over}.",
        ),
        Panel(
            name="phase",
            table="phases",
            drawing=draw.phase(tables["phases"]),
            caption="Colour: the commonest state of the last feature; a number is its share where replicates differ. Point at a cell for "
            f"all shares; the table has their 95 % intervals. n={study.set.replicates} replicates of {study.set.restarts} starts per cell.",
        ),
        Panel(
            name="arrangements",
            table="arrangements",
            drawing=draw.arrangements(tables["arrangements"]),
            caption="Equal importances. “Digon” is an antipodal pair; “other” is no regular polytope. 95 % Wilson intervals, "
            f"n={study.set.replicates} replicates of {study.set.restarts} starts. Without a ReLU any subspace is as good as any other.",
        ),
        Panel(
            name="pairs",
            table="pairs",
            drawing=draw.pairs(pick(tables["pairs"], metric="cosine")),
            caption="Four features in two dimensions: correlated pairs are present together, of an anticorrelated pair one is. Each "
            f"feature is absent in 90 %. {over[0].upper()}{over[1:]}, n={study.set.replicates}.",
        ),
    ]
    if "recovery" in tables:
        panels.append(
            Panel(
                name="recovery",
                table="recovery",
                drawing=draw.recovery(tables["recovery"]),
                caption="Dictionaries of as many latents as the toy has features (12 in 6 dimensions, sparsity 0.97). Permuted: the same "
                f"numbers in other coordinates. {over[0].upper()}{over[1:]}, n={span(tables['recovery'])} toys.",
            )
        )
    return Report(
        title="Toy models of superposition",
        subtitle="Elhage et al. 2022 (arXiv 2209.10652), with seeds and bands",
        findings=[*_counted(run), *_geometry(run), _phases(run), *_bridge(run)],
        panels=panels,
        convention=CONVENTION,
        limits=LIMITS,
        made=[
            "Each toy gives n features back through m dimensions, x' = ReLU(WᵀW x + b), trained with Adam on fresh examples; hundreds are "
            "trained as one batch."
        ],
    )
