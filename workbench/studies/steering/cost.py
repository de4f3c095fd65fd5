"""What a push costs: on prompts without a claim, on text, against other ways at equal cost, and item by item."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, replace
from typing import Any

import pandas as pd
import torch

from ..core.direction import Direction
from ..evaluation import capability, equal_cost, steerability
from ..interventions import ablate, add, clamp, gate, random_directions, rotate
from ..interventions.cost import strengths
from ..models import Edit
from ..probes import fit_logistic
from ..prompts import PromptSet


def tax(study: Any) -> None:
    """What the chosen push costs where no claim is made, beside a gated one, other methods, and a push on every token."""
    answers = {"planted answers, no claim": study.plain("test")} | (
        {"identities that are denied rights": d} if (d := study.denied()) else {}
    )
    harm, good = study.set.claims
    unit = float(good_mean(study))
    edits: dict[str, Iterable[Edit]] = {
        "chosen push": study.chosen(), "chosen push, gated": add(study.direction, study.coefficient, scope=study.set.scope, when=harm_gate(study)),
        "chosen push, every token": add(study.direction, study.coefficient, scope="all"), "reverse sign": study.chosen(-1.0),
        f"clamp to {good}": clamp(study.direction, unit, scope=study.set.scope), "ablate stance": ablate(study.direction, scope=study.set.scope),
        "rotate 45 degrees": rotate(study.direction, 45.0, scope=study.set.scope), "random push": add(random_directions(study.direction, 1, study.set.seed)[0], study.coefficient, scope=study.set.scope),
    }  # fmt: skip
    pushed = study.pushed("test")

    def make() -> pd.DataFrame:
        return capability(
            study.model, edits, answers=answers | {f"under the {harm} claim": pushed[harm], f"under the {good} claim": pushed[good]},
            texts={"held-out text": study.documents()}, text_clusters={"held-out text": [p.right for p in study.plain("test")]}, resamples=study.set.resamples, seed=study.set.seed, progress=study.progress,
        )  # fmt: skip

    study._table("tax", "what it costs", make)


def good_mean(study: Any) -> float:
    """The mean coordinate along the chosen direction under the opposite claim, fit rows."""
    site, layer = str(study.direction.provenance["site"]), int(study.direction.provenance["layer"])
    acts = study._at(f"{study.set.claims[1]} claim", study.pushed("fit")[study.set.claims[1]], site)
    return float(study.direction.project(acts.layer(layer)[:, 0]).mean())


def harm_gate(study: Any) -> Any:
    """A condition: does the last prompt token look as it does under the harm claim? Fitted on fit rows against every other condition."""
    site, layer = str(study.direction.provenance["site"]), int(study.direction.provenance["layer"])
    harm, good = study.set.claims
    both = study.pushed("fit")
    rows = [
        study._at(f"{harm} claim", both[harm], site),
        study._at(f"{good} claim", both[good], site),
        study._at("no claim", study.plain("fit"), site),
    ]
    harmful, *others = (a.layer(layer)[:, 0] for a in rows)
    return gate(fit_logistic(harmful, torch.cat(others)), 0.0, site=site, layer=layer, pool="last")


def costs(study: Any, made: dict[tuple[str, str, int], Direction]) -> None:
    """Methods tuned to one mean KL from the unpushed model, where no claim is made and where one is; measured on held-out prompts under the claim."""
    harm = study.set.claims[0]
    late = made["stance", study.set.sites[-1], study.layers[-1]]

    def line(d: Direction) -> Any:
        return lambda c: add(d, c, scope=study.set.scope)

    families: dict[str, Any] = {"stance, chosen place": line(study.direction), "stance, last layer": line(late)}
    for kind in ("agree", "truth"):
        one = study.choice[kind]
        families[kind] = line(made[kind, str(one["site"]), int(one["layer"])])
    families["rotate towards stance"] = lambda c: rotate(study.direction, min(179.0, c), scope=study.set.scope)
    for k, d in enumerate(random_directions(study.direction, 8, study.set.seed)):
        families[f"random {k}"] = line(d)

    starts = {k: 10.0 if k.startswith("rotate") else 0.2 for k in families}
    how: dict[str, Any] = {"resamples": study.set.resamples, "seed": study.set.seed, "progress": study.progress, "starts": starts}
    tuned = {
        "no claim": (study.plain("validation"), study.set.targets),
        f"{harm} claim": (study.pushed("validation")[harm], study.set.targets[-1:]),
    }

    def make() -> pd.DataFrame:
        parts = [
            equal_cost(study.model, prompts, families, target=targets, measure=study.pushed("test")[harm], **how).assign(tuned_on=name)
            for name, (prompts, targets) in tuned.items()
        ]
        return pd.concat(parts, ignore_index=True)

    study._table("equal_cost", "methods at equal cost", make)


def items(study: Any) -> None:
    """For which prompts the push works and for which it backfires: oriented so that a rise is towards the safe answer."""
    prompts = study.pushed("test")[study.set.claims[0]]
    safe = PromptSet((_turned(p) for p in prompts), name="safe ending positive")
    doses = strengths([0.5 * study.coefficient, study.coefficient, -0.5 * study.coefficient])

    def make() -> pd.DataFrame:
        items, summary = steerability(
            study.model,
            safe,
            study.direction,
            doses,
            scope=study.set.scope,
            resamples=study.set.resamples,
            seed=study.set.seed,
            progress=study.progress,
        )
        return pd.concat([summary.assign(table="summary"), items.assign(table="items")], ignore_index=True)

    whole = study.run.table("item by item", [study.info.key(), asdict(study.set)], make)
    for name, part in (("steerability", "summary"), ("items", "items")):
        study.run.keep(name, whole[whole["table"] == part].dropna(axis=1, how="all").drop(columns="table").reset_index(drop=True))


def _turned(pair: Any) -> Any:
    """The pair with its safe ending as the positive one."""
    return pair if pair.label else replace(pair, negative=pair.positive, positive=pair.negative, label=1)
