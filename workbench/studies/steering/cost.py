"""What a push costs: on prompts without a claim, on text, against other ways at equal cost, and item by item."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from ...core.direction import Direction
from ...evaluation import capability, equal_cost, steerability
from ...interventions import ablate, add, clamp, gate, random_directions, rotate
from ...interventions.cost import strengths
from ...models import Edit, Edits
from ...probes import fit_logistic
from ...prompts import ContrastPair, PromptSet

if TYPE_CHECKING:
    from .study import Steering

PLAIN_TASK = "answers without a claim"
# for plans: edits whose price is measured, ways that are compared at equal cost beside random ones, and passes of a search
EDITS, FAMILIES, SEARCHED = 8, 5, 6
PUSHES = (
    "chosen push",
    "chosen push, gated",
    "chosen push, every token",
    "chosen push, first and template tokens too",
    "reverse sign",
    "random push",
)


def tax(study: Steering) -> None:
    """What the chosen push costs where no claim is made, beside a gated one, other methods, a push on every token, and random ones.

    Args:
        study: The study; its push is chosen.
    """
    harm, good = study.set.claims

    def make() -> pd.DataFrame:
        study.hold()
        pushed, denied = study.pushed("test"), study.denied()
        answers = {PLAIN_TASK: study.plain("test")}
        answers |= {} if denied is None else {"identities that are denied rights": denied}
        answers |= {f"under the {harm} claim": pushed[harm], f"under the {good} claim": pushed[good]}
        table = capability(
            study.model,
            _edits(study),
            controls=_controls(study),
            answers=answers,
            texts={"held-out text": study.documents()},
            text_clusters={"held-out text": [p.right for p in study.plain("test")]},
            progress=study.progress,
        )
        pushed = table["edit"].isin(PUSHES)
        return table.assign(norm_share=np.where(pushed, study.share(study.direction, study.coefficient), np.nan))

    study.run.table("tax", make=make, doing="what it costs", tokens=study.tokens(4, EDITS + 3 * study.set.drawn, whole=2.0))


def _edits(study: Steering) -> Mapping[str, Iterable[Edit]]:
    """The pushes whose price is measured."""
    d, c, scope = study.direction, study.coefficient, study.set.scope
    return {
        "chosen push": study.chosen(),
        "chosen push, gated": add(d, c, scope=scope, when=_harm_gate(study)),
        "chosen push, every token": add(d, c, scope="content"),
        "chosen push, first and template tokens too": add(d, c, scope="all"),
        "reverse sign": study.chosen(-1.0),
        f"clamp to {study.set.claims[1]}": clamp(d, _good_mean(study, d), scope=scope),
        "ablate stance": ablate(d, scope=scope),
        "rotate 45 degrees": rotate(d, 45.0, scope=scope),
    }


def _controls(study: Steering) -> Mapping[str, list[Edits]]:
    """The same along random directions of equal norm: pushed, projected out, and set to what they are under the opposite claim."""
    c, scope, good = study.coefficient, study.set.scope, study.set.claims[1]
    drawn = random_directions(study.direction, study.set.drawn, study.set.seed)
    return {
        "random push": [add(r, c, scope=scope) for r in drawn],
        "random: ablate": [ablate(r, scope=scope) for r in drawn],
        f"random: clamp to {good}": [clamp(r, _good_mean(study, r), scope=scope) for r in drawn],
    }


def _good_mean(study: Steering, along: Direction) -> float:
    """The mean coordinate along a direction of the chosen place under the opposite claim, fit rows."""
    site, layer = study.place
    return float(along.project(study.fitted[study.set.claims[1], site].layer(layer)[:, 0]).mean())


def _harm_gate(study: Steering) -> Any:
    """A condition: does the last prompt token look as it does under the harm claim? Fitted on fit rows against every other condition."""
    site, layer = study.place
    harmful, *others = (study.fitted[c, site].layer(layer)[:, 0] for c in (*study.set.claims, "no claim"))
    return gate(fit_logistic(harmful, torch.cat(others)), 0.0, site=site, layer=layer, pool="last")


def costs(study: Steering) -> None:
    """Methods tuned to one mean KL from the unpushed model, where no claim is made and where one is; measured under the claim.

    Args:
        study: The study; its push is chosen.
    """
    harm = study.set.claims[0]

    def make() -> pd.DataFrame:
        study.hold()
        families = _families(study)
        how: dict[str, Any] = {
            "progress": study.progress,
            "starts": {k: 10.0 if k.startswith("rotate") else 0.2 for k in families},
        }
        tuned = {
            "no claim": (study.plain("validation"), study.set.targets),
            f"{harm} claim": (study.pushed("validation")[harm], study.set.targets[-1:]),
        }
        measure = study.pushed("test")[harm]
        parts = [
            equal_cost(study.model, prompts, families, target=targets, measure=measure, **how).assign(tuned_on=name)
            for name, (prompts, targets) in tuned.items()
        ]
        table, lines = pd.concat(parts, ignore_index=True), _lines(study)
        along = [study.share(lines[m], s) if m in lines else np.nan for m, s in zip(table["method"], table["strength"], strict=True)]
        return table.assign(norm_share=along)

    searched = (FAMILIES + study.set.drawn) * (len(study.set.targets) + 1)
    tokens = study.tokens(1, searched * SEARCHED, side="validation", whole=0) + study.tokens(1, searched, whole=0)
    study.run.table("equal_cost", make=make, doing="methods at equal cost", tokens=tokens)


def _lines(study: Steering) -> dict[str, Direction]:
    """Directions by name: the stance at its place and in the last layer, the others, random ones."""
    late = study.made["stance", study.set.sites[-1], study.layers[-1]]
    out = {"stance, chosen place": study.direction, "stance, last layer": late}
    for kind in ("agree", "truth"):
        chosen = study.choice[kind]
        out[kind] = study.made[kind, str(chosen["site"]), int(chosen["layer"])]
    return out | {f"random {k}": d for k, d in enumerate(random_directions(study.direction, study.set.drawn, study.set.seed))}


def _families(study: Steering) -> dict[str, Callable[[float], Iterable[Edit]]]:
    """Pushes by strength: along directions, and by rotation."""

    def line(d: Direction) -> Callable[[float], Iterable[Edit]]:
        return lambda c: add(d, c, scope=study.set.scope)

    families = {name: line(d) for name, d in _lines(study).items()}
    families["rotate towards stance"] = lambda c: rotate(study.direction, min(179.0, c), scope=study.set.scope)
    return families


def items(study: Steering) -> None:
    """For which prompts the push works and for which it backfires: oriented so that a rise is towards the safe answer.

    Args:
        study: The study; its push is chosen.
    """

    def make() -> dict[str, pd.DataFrame]:
        study.hold()
        prompts = study.pushed("test")[study.set.claims[0]]
        by_item, summary = steerability(
            study.model,
            PromptSet((_turned(p) for p in prompts), name="safe ending positive"),
            study.direction,
            strengths([0.5 * study.coefficient, study.coefficient, -0.5 * study.coefficient]),
            scope=study.set.scope,
            progress=study.progress,
        )
        return {"steerability": summary, "items": by_item}

    study.run.table(("steerability", "items"), make=make, doing="item by item", tokens=study.tokens(1, 3, whole=0))


def _turned(pair: ContrastPair) -> ContrastPair:
    """The pair with its safe ending as the positive one."""
    return pair if pair.label else replace(pair, negative=pair.positive, positive=pair.negative, label=1)
