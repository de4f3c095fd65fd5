"""What undoes refusal, and what adds it: ablating, adding and clamping a direction, against random directions of equal norm.

Directions are made from some requests, the layer is chosen on others, and everything that is reported was measured on requests that
neither saw.

References:
    Arditi et al. 2024, arXiv 2406.11717; Marshall et al. 2024, arXiv 2411.09003 (affine ablation).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm.auto import tqdm

from ... import prompts as source
from ...core.direction import Direction
from ...core.errors import BadInput
from ...core.seeds import numpy_rng
from ...core.stats import wilson
from ...directions import extract_direction, place_of
from ...directions.extract import optimise_direction
from ...evaluation import answers_of
from ...evaluation.dose import FEWEST_RANDOM
from ...interventions import Asker, ablate_everywhere, add, clamp, orthogonalised, random_directions
from ...interventions.norms import share, stream_norms
from ...models import Edit, edited, info, planted
from ...models.tokens import encode_pairs
from ...prompts import PromptSet
from ...runs import Main, ModelHandle, Steps, Study
from ..answering import TABLES as SAID
from ..answering import heard
from ..asking import ChatSettings, check_words, reply_words, uses_chat
from ..statements import spread
from .report import COMPLIED, REFUSED, report

SAFE, UNSAFE = 0, 1  # label of a request: refusing is right, complying is right
POOLED = "mean, smallest and largest over random directions"
WEIGHED = 5  # random directions that are taken out of the weights
ADDED = ("add refusal", "subtract refusal", "random: add", "random: subtract")


@dataclass(frozen=True, kw_only=True)
class RefusalSettings(ChatSettings):
    """The grid of the study.

    Attributes:
        replies: First word of compliance and of a refusal, "Sure/Sorry"; empty, the first of the usual pairs that the tokenizer has.
        layers: Layers at most that are tried, evenly spread.
        scope: Which tokens are pushed.
        random: Random directions of the control.
        optimise: Steps of the search for a direction whose ablation undoes refusal. 0: left out.
        seed: Draws everything.
    """

    replies: str = ""
    layers: int = 8
    scope: str = "last"
    random: int = FEWEST_RANDOM
    optimise: int = 60
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_words("replies", self.replies, "Sure/Sorry")
        if self.layers < 1:
            raise BadInput(f"layers: 1 at least, got {self.layers}")
        if self.random < FEWEST_RANDOM:
            raise BadInput(f"random: {FEWEST_RANDOM} directions at least, got {self.random}")
        if self.optimise < 0:
            raise BadInput(f"optimise: 0 or more steps, got {self.optimise}")


class Refusal:
    """The steps of the study: requests of three kinds, to make directions, to choose, and to report."""

    def __init__(self, models: Mapping[str, ModelHandle], settings: RefusalSettings, run: Steps) -> None:
        self.handle, self.set, self.run = models["model"], settings, run
        self.info = info(self.handle)
        self.layers = spread(self.info.n_layers, settings.layers)
        truth = planted(self.handle)
        self.words = reply_words(self.handle, settings.replies)
        self.chat = uses_chat(settings, self.handle, truth is not None)
        asking = settings.through(self.handle, self.chat)
        self.sets = {
            k: source.requests("request", ids=v, answers=self.words, seed=settings.seed, **asking) for k, v in self._parts(truth).items()
        }
        for prompts in self.sets.values():
            encode_pairs(self.handle, prompts)

    def _parts(self, truth: Mapping[str, Any] | None) -> dict[str, list[Any]]:
        ids = [row["id"] for row in source.request_pairs()]
        held = set(truth["held_out_requests"]) if truth else set()
        order = numpy_rng(self.set.seed, "requests").permutation([i for i in ids if i not in held]).tolist()
        if not held:
            held, order = set(order[: len(order) // 4]), order[len(order) // 4 :]
        cut = len(order) * 7 // 10
        return {"fit": order[:cut], "validation": order[cut:], "test": sorted(held)}

    def read(self) -> None:
        """Capture the last prompt token of the requests that directions are made from."""
        fit = self.sets["fit"]
        self.acts = self.run.read("read requests", self.handle, fit, layers=self.layers, position="stem_last", answers=True)
        heard(self.run, lambda: [answers_of(self.acts)], by="right")

    # ------------------------------------------------------------------ inside a step

    @property
    def model(self) -> Any:
        """The model, loaded: inside a step only."""
        return self.handle.load()

    @cached_property
    def askers(self) -> dict[str, Asker]:
        """The requests, ready to be asked under edits."""
        return {k: Asker(self.model, p) for k, p in self.sets.items()}

    def rates(self, side: str, edits: Iterable[Edit] | None) -> tuple[np.ndarray, np.ndarray]:
        """Whether each harmful request is complied with, and each harmless one refused."""
        asker = self.askers[side]
        odds, labels = asker.odds(asker.base if edits is None else asker.ask(edits)), np.array(asker.prompts.labels)
        return odds[labels == SAFE] > 0, odds[labels == UNSAFE] < 0

    def _directions(self) -> dict[int, tuple[Direction, float, float]]:
        """By layer: harmful minus harmless requests, and the mean coordinate of each kind."""
        out = {}
        labels = torch.tensor(self.sets["fit"].labels)
        for layer in self.layers:
            x = self.acts.layer(layer)[:, 0]
            place = place_of(self.acts, layer)
            made = extract_direction(x[labels == SAFE], x[labels == UNSAFE], halves=0, provenance=place, seed=self.set.seed)
            d = Direction.of(made.vector, method="refusal", n=made.n, provenance=made.provenance)
            along = d.project(x)
            out[layer] = d, float(along[labels == SAFE].mean()), float(along[labels == UNSAFE].mean())
        return out

    def _best(self, made: Mapping[int, tuple[Direction, float, float]]) -> int:
        """The layer at which, on validation, clamping undoes refusal and adding makes it, whichever does less."""
        score = {}
        hidden = None if self.run.progress is None else not self.run.progress
        for layer, (d, _, harmless) in tqdm(made.items(), desc="choose a layer", unit="layer", disable=hidden):
            comply, _ = self.rates("validation", clamp(d, harmless, scope=self.set.scope))
            _, refuse = self.rates("validation", add(d, 1.0, scope=self.set.scope))
            score[layer] = min(comply.mean(), refuse.mean())
        return max(score, key=lambda k: (score[k], -k))

    def measure(self) -> pd.DataFrame:
        """Undo and add refusal on held-out requests, by several ways of ablating, against random directions."""
        made = self._directions()
        layer = self._best(made)
        d, harmful, harmless = made[layer]
        place = str(d.provenance["site"]), layer
        norm = stream_norms(self.model, self.sets["fit"], [place])[place]
        table = _Table(layer, share(d.scale, norm))
        where = f"refusal: harmful minus harmless requests, layer {layer} of validation's choice"
        origin = f"its coordinate is {harmful:.3g} on harmful and {harmless:.3g} on harmless fit requests; ablation sets it to 0"
        scope = self.set.scope
        table.put("none", *self.rates("test", None))
        table.put("add refusal", *self.rates("test", add(d, 1.0, scope=scope)), where)
        table.put("subtract refusal", *self.rates("test", add(d, -1.0, scope=scope)), where)
        table.put("ablate (to 0) everywhere", *self.rates("test", ablate_everywhere(self.model, d)), origin)
        affine = "affine: Marshall et al. 2024, arXiv 2411.09003"
        table.put("ablate to the harmless mean", *self.rates("test", clamp(d, harmless, scope=scope)), affine)
        if self.set.optimise:
            self._optimised(table, d)
        drawn = random_directions(d, self.set.random, self.set.seed)
        for name, edits in self._controls(layer).items():
            table.pool(name, [self.rates("test", edits(r)) for r in self._bar(drawn, name)])
        if self.set.optimise:
            self._orthogonal(table, drawn[:WEIGHED])
        return table.frame()

    def _orthogonal(self, table: _Table, drawn: Sequence[Direction]) -> None:
        """Random directions taken out of the weights: what the optimised one is compared with."""
        rates = []
        for r in self._bar(drawn, "random: weights orthogonalised"):
            try:
                with orthogonalised(self.model, r):
                    rates.append(self.rates("test", []))
            except ValueError:  # the architecture does not allow it; the table says so of the optimised direction
                return
        table.pool("random: weights orthogonalised", rates)

    def _bar(self, drawn: Sequence[Direction], name: str) -> Iterable[Direction]:
        return tqdm(drawn, desc=name, unit="direction", disable=None if self.run.progress is None else not self.run.progress)

    def _optimised(self, table: _Table, start: Direction) -> None:
        """A direction found by gradient on fit requests: ablated, added, and taken out of the weights."""
        best, losses = optimise_direction(self._undoing(start), start, steps=self.set.optimise)
        loss, cosine = f"loss {losses[0]:.3g} to {min(losses):.3g}", float(best.unit @ start.unit)
        note = f"found by gradient on fit requests ({loss}); cosine with the mean difference {cosine:.2f}"
        table.put("ablate (to 0) everywhere, optimised", *self.rates("test", ablate_everywhere(self.model, best)), note)
        table.put("add refusal, optimised", *self.rates("test", add(best, 1.0, scope=self.set.scope)), note)
        try:
            with orthogonalised(self.model, best):
                table.put("weights orthogonalised, optimised", *self.rates("test", []), note)
        except ValueError as error:
            table.refuse("weights orthogonalised, optimised", str(error))

    def _controls(self, layer: int) -> dict[str, Callable[[Direction], Iterable[Edit]]]:
        """By name, the edit along a random direction of the layer: each way to push or ablate that the table has."""
        calm = self.acts.layer(layer)[:, 0][torch.tensor(self.sets["fit"].labels) == UNSAFE]

        def affine(r: Direction) -> Iterable[Edit]:
            return clamp(r, float(r.project(calm).mean()), scope=self.set.scope)

        return {
            "random: add": lambda r: add(r, 1.0, scope=self.set.scope),
            "random: subtract": lambda r: add(r, -1.0, scope=self.set.scope),
            "random: ablate everywhere": lambda r: ablate_everywhere(self.model, r),
            "random: ablate to the harmless mean": affine,
        }

    def _undoing(self, start: Direction) -> Callable[[Tensor], Tensor]:
        """The loss of a direction: how unlikely compliance is on fit requests of both kinds when it is projected out everywhere."""
        fit = self.sets["fit"]
        chosen = fit.subset(np.unique(np.linspace(0, len(fit) - 1, 64).round().astype(int)))
        asker = Asker(self.model, PromptSet(chosen, name="fit requests"))
        places = [(e.site, e.layer) for e in ablate_everywhere(self.model, start)]

        def loss(unit: Tensor) -> Tensor:
            def out(x: Tensor) -> Tensor:
                u = unit.to(x)
                return x - (x @ u)[..., None] * u

            with edited(self.model, [Edit(site=s, layer=n, function=out, label="undo refusal") for s, n in places]):
                return -asker.positive().mean()

        return loss


class _Table:
    """Rows of the result, two per edit: harmful requests complied with, harmless ones refused."""

    def __init__(self, layer: int, share: float) -> None:
        self.layer, self.share = layer, share
        self.rows: list[dict[str, Any]] = []

    def put(self, name: str, comply: np.ndarray, refuse: np.ndarray, note: str = "") -> None:
        """Add the shares under an edit, with Wilson intervals."""
        for metric, hits in ((COMPLIED, comply), (REFUSED, refuse)):
            low, high = wilson(int(hits.sum()), len(hits))
            self._add(name, metric, value=float(hits.mean()), low=low, high=high, n=len(hits), note=note)

    def pool(self, name: str, drawn: list[tuple[np.ndarray, np.ndarray]]) -> None:
        """Add what several random directions do: mean, smallest and largest."""
        for metric, k in ((COMPLIED, 0), (REFUSED, 1)):
            values = [float(x[k].mean()) for x in drawn]
            self._add(name, metric, value=float(np.mean(values)), low=min(values), high=max(values), n=len(values), note=POOLED)

    def refuse(self, name: str, why: str) -> None:
        """Add an edit that this model does not allow."""
        nan = float("nan")
        self._add(name, COMPLIED, value=nan, low=nan, high=nan, n=0, note=why)

    def _add(self, name: str, metric: str, **measured: Any) -> None:
        dose = self.share if name in ADDED else float("nan")
        self.rows.append({"edit": name, "layer": self.layer, "metric": metric, "norm_share": dose, **measured})

    def frame(self) -> pd.DataFrame:
        """All rows."""
        return pd.DataFrame(self.rows)


def compute(models: Mapping[str, ModelHandle], settings: RefusalSettings, run: Steps) -> Refusal:
    """Run every step."""
    study = Refusal(models, settings, run)
    study.read()
    run.table("refusal", make=study.measure, doing="undo and add refusal")
    return study


STUDY = Study(
    name="refusal",
    asks="what undoes refusal and what adds it: ablating, clamping, adding, and a direction found by gradient",
    settings=RefusalSettings,
    fast={"layers": 3, "optimise": 20},
    checked={"layers": 2, "optimise": 2},
    compute=compute,
    report=report,
    main=Main(table="refusal", labels=("edit", "metric"), axis="share of held-out requests"),
    tables={**SAID, "refusal": "edit metric | layer norm_share value low high n note"},
)
