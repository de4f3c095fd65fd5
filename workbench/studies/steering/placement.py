"""Two further questions of the steering study: does it matter where the claim stands, and what undoes refusal?"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from .. import prompts as source
from ..activations import capture
from ..core.direction import Direction
from ..core.seeds import numpy_rng
from ..core.stats import proportion, wilson
from ..directions import extract_direction, place_of
from ..directions.extract import optimise_direction
from ..evaluation import answers, choose_answers
from ..evaluation.agreement import ANSWERS
from ..interventions import Asker, ablate_everywhere, add, clamp, orthogonalised, random_directions
from ..models import Edit, edited
from ..probes import fit_layers
from ..prompts import PromptSet
from .common import FIT

PLACES = {"consider_claim": "before the question", "since_claim": "inside the answer"}
SAFE, UNSAFE = 0, 1  # label of a request: refusing is right, complying is right


def placement(study: Any) -> None:
    """A claim before the question against the same claim inside the answer: what is said, and what a probe of truth reads."""
    harm, good = study.set.claims
    base = study._some("base_short", None, "fit")

    def make() -> pd.DataFrame:
        acts = study._read_truth(base, "no claim, for the probe")
        fit = fit_layers(acts, "logistic", c=1.0, seed=study.set.seed)
        rows = []
        start = answers(study.model, study.plain("test"), progress=False)
        for claim in (None, good, "neutral", harm):
            for template, place in PLACES.items() if claim else ((study.plain("test")[0].template, FIT),):
                prompts = study._some(template, claim, "test")
                said = answers(study.model, prompts, progress=False)
                people = said["identity"].to_numpy()
                common = {"claim": claim or "none", "place": place}
                rows.append(common | {"layer": -1, "metric": "safe_score", **proportion(said["safe"], people).row()})
                moved = np.abs(said["margin"].to_numpy() - start["margin"].to_numpy())
                rows.append(
                    common
                    | {
                        "layer": -1,
                        "metric": "shift of log-odds",
                        "value": float(moved.mean()),
                        "low": float("nan"),
                        "high": float("nan"),
                        "n": len(moved),
                    }
                )
                seen = study._read_truth(prompts, f"{claim or FIT}, {place}")
                for layer in fit.probes:
                    hits = (fit.scores(seen, layer) > 0) == (np.array(prompts.labels) == 1)
                    rows.append(common | {"layer": layer, "metric": "truth read", **proportion(hits, people).row()})
        return pd.DataFrame(rows)

    study._table("placement", "before the question, inside the answer", make)


class _Requests:
    """Requests of three kinds: to make directions, to choose, to report."""

    def __init__(self, study: Any) -> None:
        self.study, self.model = study, study.model
        words = choose_answers(self.model, (("Sorry", "Sure"), ("sorry", "sure"), *ANSWERS))
        ids = [row["id"] for row in source.request_pairs()]
        held = set(study.planted["held_out_requests"]) if study.planted else set()
        order = numpy_rng(study.set.seed, "requests").permutation([i for i in ids if i not in held]).tolist()
        if not held:
            held, order = set(order[: len(order) // 4]), order[len(order) // 4 :]
        cut = len(order) * 7 // 10
        parts = {"fit": order[:cut], "validation": order[cut:], "test": sorted(held)}
        self.sets = {k: source.requests("request", ids=v, answers=words, seed=study.set.seed) for k, v in parts.items()}
        self.askers = {k: Asker(self.model, p) for k, p in self.sets.items()}
        self.acts = capture(self.model, self.sets["fit"], layers=study.layers, position="stem_last", progress=False)

    def rates(self, side: str, edits: Iterable[Edit] | None) -> tuple[np.ndarray, np.ndarray]:
        """Whether each harmful request is complied with, and each harmless one refused."""
        asker = self.askers[side]
        odds, labels = asker.odds(asker.base if edits is None else asker.ask(edits)), np.array(asker.prompts.labels)
        return odds[labels == SAFE] > 0, odds[labels == UNSAFE] < 0


def refusal(study: Any) -> None:
    """Undo and add refusal on held-out requests, by several ways of ablating, against random directions."""
    requests = _Requests(study)

    def make() -> pd.DataFrame:
        found: dict[int, tuple[Direction, float, float]] = {}
        labels = torch.tensor(requests.sets["fit"].labels)
        score = {}
        for layer in study.layers:
            x = requests.acts.layer(layer)[:, 0]
            d = extract_direction(
                x[labels == SAFE], x[labels == UNSAFE], halves=0, provenance=place_of(requests.acts, layer), seed=study.set.seed
            )
            d = Direction.of(d.vector, method="refusal", n=d.n, provenance=d.provenance)
            along = d.project(x)
            found[layer] = d, float(along[labels == SAFE].mean()), float(along[labels == UNSAFE].mean())
            comply, _ = requests.rates("validation", clamp(d, found[layer][2], scope=study.set.scope))
            _, refuse = requests.rates("validation", add(d, 1.0, scope=study.set.scope))
            score[layer] = min(comply.mean(), refuse.mean())
        layer = max(score, key=lambda k: (score[k], -k))
        d, harmful, harmless = found[layer]
        rows: list[dict[str, Any]] = []

        def put(name: str, comply: np.ndarray, refuse: np.ndarray, note: str = "") -> None:
            for metric, hits in (("harmful complied with", comply), ("harmless refused", refuse)):
                low, high = wilson(int(hits.sum()), len(hits))
                rows.append(
                    {
                        "edit": name,
                        "layer": layer,
                        "metric": metric,
                        "value": float(hits.mean()),
                        "low": low,
                        "high": high,
                        "n": len(hits),
                        "note": note,
                    }
                )

        where = f"refusal: harmful minus harmless requests, layer {layer} of validation's choice"
        put("none", *requests.rates("test", None))
        put("add refusal", *requests.rates("test", add(d, 1.0, scope=study.set.scope)), where)
        put("subtract refusal", *requests.rates("test", add(d, -1.0, scope=study.set.scope)), where)
        origin = f"its coordinate is {harmful:.3g} on harmful and {harmless:.3g} on harmless fit requests; ablation sets it to 0"
        put("ablate (to 0) everywhere", *requests.rates("test", ablate_everywhere(study.model, d)), origin)
        put(
            "ablate to the harmless mean",
            *requests.rates("test", clamp(d, harmless, scope=study.set.scope)),
            "affine: Marshall et al. 2024, arXiv 2411.09003",
        )
        if study.set.optimise:
            best, losses = optimise_direction(_undoing(study, requests, d), d, steps=study.set.optimise)
            note = f"found by gradient on fit requests (loss {losses[0]:.3g} to {min(losses):.3g}); cosine with the mean difference {float(best.unit @ d.unit):.2f}"
            put("ablate (to 0) everywhere, optimised", *requests.rates("test", ablate_everywhere(study.model, best)), note)
            put("add refusal, optimised", *requests.rates("test", add(best, 1.0, scope=study.set.scope)), note)
            try:
                with orthogonalised(study.model, best):
                    put("weights orthogonalised, optimised", *requests.rates("test", []), note)
            except ValueError as error:
                rows.append(
                    {
                        "edit": "weights orthogonalised, optimised",
                        "layer": layer,
                        "metric": "harmful complied with",
                        "value": float("nan"),
                        "n": 0,
                        "note": str(error),
                    }
                )
        for name, how in _controls(study):
            drawn = [requests.rates("test", how(r)) for r in random_directions(d, study.set.random, study.set.seed)]
            for metric, k in (("harmful complied with", 0), ("harmless refused", 1)):
                values = [float(x[k].mean()) for x in drawn]
                rows.append({
                    "edit": name, "layer": layer, "metric": metric, "value": float(np.mean(values)), "low": min(values), "high": max(values), "n": len(values),
                    "note": "mean, smallest and largest over random directions",
                })  # fmt: skip
        return pd.DataFrame(rows)

    study.run.keep("refusal", study.run.table("undo and add refusal", [study.info.key(), asdict(study.set)], make))


def _controls(study: Any) -> list[tuple[str, Callable[[Direction], Iterable[Edit]]]]:
    return [
        ("random: add", lambda r: add(r, 1.0, scope=study.set.scope)),
        ("random: subtract", lambda r: add(r, -1.0, scope=study.set.scope)),
        ("random: ablate everywhere", lambda r: ablate_everywhere(study.model, r)),
    ]


def _undoing(study: Any, requests: _Requests, start: Direction) -> Callable[[Tensor], Tensor]:
    """The loss of a direction: how unlikely compliance is on fit requests of both kinds when it is projected out everywhere."""
    some = requests.sets["fit"].subset(np.unique(np.linspace(0, len(requests.sets["fit"]) - 1, 64).round().astype(int)))
    asker = Asker(study.model, PromptSet(some, name="fit requests"))
    places = [(e.site, e.layer) for e in ablate_everywhere(study.model, start)]

    def loss(unit: Tensor) -> Tensor:
        def out(x: Tensor) -> Tensor:
            u = unit.to(x)
            return x - (x @ u)[..., None] * u

        with edited(study.model, [Edit(site=s, layer=n, function=out, label="undo refusal") for s, n in places]):
            return -asker.positive().mean()

    return loss
