"""Unlearning by misdirection: streams of a forget set are sent along one direction, those of a retain set stay where they were.

    mean |h_forget - c u|^2 + w mean |h_retain - h0_retain|^2, both divided by the mean square of h0_forget

u is a random direction (the reference), or one that is known: towards safety, or away from harm. c is a multiple of the stream's own norm
at the layer, so that it means the same in every model.

References:
    Li et al. 2024, arXiv 2403.03218 (RMU); Dang et al. 2024, arXiv 2408.06223 (a coefficient that follows the layer's norm).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..core.direction import Direction
from ..core.errors import BadInput, ShapeMismatch, WrongModel
from ..core.provenance import provenance
from ..core.seeds import torch_rng
from ..core.tables import units_of
from ..models import info
from ..models.differentiable import Learner
from ..models.hooks import check_layer
from ..models.sinks import outliers
from ..models.tokens import encode, encode_pairs
from ..prompts import PromptSet
from . import measures
from .adapter import Adapter
from .fit import fit_tasks
from .loop import Plan
from .rows import Got, Passes, Row, Task
from .tasks import NONE
from .trainable import Low, Whole, agree

BELOW = 2  # blocks below the layer whose matrices are changed too
SEES = f"which rows are to be forgotten; {NONE} of theirs"


def unlearn(
    model: Any,
    forget: PromptSet | Sequence[str],
    retain: PromptSet | Sequence[str],
    *,
    target: str | Direction = "random",
    away: bool = False,
    layer: int | None = None,
    coefficient: float = 1.0,
    retain_weight: float = 4.0,
    adapter_only: bool = False,
    rank: int = 8,
    parts: str | Sequence[str] = "down",
    validation: float = 0.2,
    batch_tokens: int = 1536,
    plan: Plan | None = None,
    place: str | Path | None = None,
    progress: bool | None = None,
    seed: int = 0,
    **planned: Any,
) -> Adapter:
    """Unlearn what a model does with a forget set.

    Args:
        model: What `load_model` returns, with nothing changed. One copy of its weights serves: the unchanged matrices are the reference.
        forget, retain: Prompts (their stems) or texts; streams of all tokens but the first and attention sinks are used.
        target: "random", a direction drawn from the seed; or a direction of this model at the layer.
        away: Send the forget set against the direction instead of along it.
        layer: Where streams are sent and held; by default one half of the way up. What blocks above do follows from it.
        coefficient: c as a multiple of the mean norm of the forget set's stream there; raising it misdirects more.
        retain_weight: Weight of the retain term; raising it keeps more.
        adapter_only: Train LoRA matrices on the same weights instead of the weights.
        rank: Of the LoRA matrices.
        parts: Which matrices of the layer and the two below it; "down" is what an MLP writes with.
        validation: Share of the identities (or texts) that are held out to decide when to stop.
        batch_tokens: Tokens of a batch of each set, about.
        plan: How the training goes on. The learning rate of whole matrices is in units of their root mean square.
        planned: Single values of the plan (`steps=`, `lr=`).
        place, progress, seed: As for `train_adapter`; the seed draws a random target too.

    Returns:
        The change, for `adapted`, with its history.

    Raises:
        UnknownLayer, UnknownName, ShapeMismatch, WrongModel, BadInput: Before any training.
        Diverged: A loss is not finite.

    Example:
        >>> import workbench as wb
        >>> model = wb.load_model("bundled")
        >>> harm, plain = wb.prompts.udhr("since_claim", "harm", n=8), wb.prompts.udhr("base_short", n=8)
        >>> change = wb.unlearn(model, forget=harm, retain=plain, steps=2, progress=False)
        >>> change.kind
        'full'
    """
    known = info(model)
    at = check_layer(model, known.n_layers // 2 if layer is None else layer)
    for name, value in (("coefficient", coefficient), ("retain_weight", retain_weight)):
        if not 0 <= value < float("inf"):
            raise BadInput(f"{name}: a finite number from 0 on, got {value}")
    unit, said = _target(model, target, away, at, seed)
    if adapter_only and not 1 <= rank <= known.d_model:
        raise ShapeMismatch(f"rank {rank}: from 1 to the model's width, {known.d_model}")
    plan = replace(plan or Plan(lr=3e-2, steps=150), **planned)
    layers = list(range(max(0, at - BELOW), at + 1))
    learner = Learner(model)
    made = Low(learner, "lora", rank, layers, "resid_post", parts, float(rank), seed) if adapter_only else Whole(learner, parts, layers)
    sets = [_set(model, "forget", forget), _set(model, "retain", retain)]
    passes = Passes(learner, [r for s in sets for r in s.rows], made.start)
    views = [passes.part(0, len(sets[0].rows)), passes.part(len(sets[0].rows), len(sets[1].rows))]
    kept = [_streams(view, s, at) for view, s in zip(views, sets, strict=True)]
    size = float(torch.cat([x[fine] for x, fine in zip(kept[0], _plain(kept[0]), strict=True)]).norm(dim=1).mean())
    goal = (coefficient * size * unit).to(learner.device)
    made.attach()
    tasks = [_task("forget", sets[0], at, size, goal, kept[0], 1.0), _task("retain", sets[1], at, size, goal, kept[1], retain_weight)]
    facts = {
        "model": known.key(), "d_model": known.d_model, "loss": "rmu", "sees": SEES, "target": said, "layer": at, "layers": layers,
        "coefficient": coefficient, "norm": size, "retain_weight": retain_weight, "parts": parts, "rank": rank if adapter_only else None,
        "forget": _name(forget), "retain": _name(retain), "lr": plan.lr, "seed": seed,
    }  # fmt: skip
    ended = fit_tasks(
        tasks, views, made.parameters, plan, validation=validation, batch_tokens=batch_tokens, seed=seed, place=place, key=facts,
        progress=progress, what="unlearn",
    )  # fmt: skip
    facts |= {"steps": ended.step, "best_step": ended.best[1], "stopped": ended.stopped}
    change = made.adapter(provenance(**facts), ended.table())
    some = [replace(r, ask=(len(r.ids) - 1,), read=()) for r in sets[0].rows[:4]]
    agree(model, change, made, Passes(learner, some, made.start))
    return change


def direction_of(change: Adapter, model: Any) -> Direction:
    """Return the direction along which `unlearn` sent the forget set, with the length that it was given there.

    Args:
        change: What `unlearn` returned.
        model: The model that it was made from.

    Returns:
        A direction of the changed model, at the layer, for `ablate`: what is planted by a single direction can be taken out along it.

    Raises:
        BadInput: The change was not made by `unlearn`.
    """
    facts = change.provenance
    if facts.get("loss") != "rmu":
        raise BadInput("only a change that unlearn made was sent along one direction")
    told = facts["target"]
    unit = torch.tensor(told["unit"]) if "unit" in told else _random(int(model.cfg.d_model), int(facts["seed"]))
    where = {"model": info(model).key(), "site": "resid_post", "layer": facts["layer"]}
    return Direction.of(unit * float(facts["norm"]) * float(facts["coefficient"]), method="the target of unlearning", provenance=where)


def _random(width: int, seed: int) -> Tensor:
    drawn = torch.rand(width, generator=torch_rng(seed, "target of unlearning"))
    return drawn / drawn.norm()


def _target(model: Any, target: str | Direction, away: bool, layer: int, seed: int) -> tuple[Tensor, dict[str, Any]]:
    """The unit vector, and what the record says of it."""
    if isinstance(target, Direction):
        width = int(model.cfg.d_model)
        if len(target.unit) != width:
            raise ShapeMismatch(f"the target is {len(target.unit)} wide; the model has d_model {width}")
        place = target.provenance
        if place.get("layer") not in (None, layer) or place.get("site") not in (None, "resid_post"):
            raise BadInput(
                f"the target is a direction of {place.get('site')}[{place.get('layer')}], and streams are sent at resid_post[{layer}]"
            )
        theirs = place.get("model")
        if theirs and theirs.get("digest") != info(model).digest:
            raise WrongModel(f"the target is a direction of {theirs.get('name')!r}, and this is {info(model).name!r} or its weights differ")
        unit = -target.unit if away else target.unit
        what = f"{'away from' if away else 'towards'} {target.method or 'a direction'}"
        return unit.float().cpu(), {"what": what, "unit": [float(x) for x in unit]}
    if target != "random":
        raise BadInput(f"target: 'random' or a Direction, got {target!r}")
    if away:
        raise BadInput("away=True needs a direction as target")
    return _random(int(model.cfg.d_model), seed), {"what": "random"}


@dataclass(frozen=True)
class _Set:
    rows: list[Row]
    people: list[str]


def _set(model: Any, name: str, given: PromptSet | Sequence[str]) -> _Set:
    """The rows of a set, read at every token but the first."""
    if isinstance(given, str) or len(given) == 0:
        raise BadInput(f"{name}: prompts or texts, one at least")
    if isinstance(given, PromptSet):
        ids = [p.negative[: p.stem] for p in encode_pairs(model, given)]
        people = [str(x) for x in units_of(given.to_frame())]
    else:
        ids, people = encode(model, list(given)), [f"text {i}" for i in range(len(given))]
    short = [i for i, row in enumerate(ids) if len(row) < 2]
    if short:
        raise BadInput(f"{name}: item {short[0]} is one token, the first, which every text has")
    return _Set([Row(ids=tuple(row), read=tuple(range(1, len(row)))) for row in ids], people)


def _streams(view: Passes, rows: _Set, layer: int) -> list[Tensor]:
    """By row, the unchanged streams of its tokens; what enters the lowest changed block was read by `view` with nothing attached."""
    out = []
    for start in range(0, len(rows.rows), 64):
        chosen = list(range(start, min(start + 64, len(rows.rows))))
        got = view.all(chosen, read=(layer,)).streams[layer]
        out += list(got.split([len(rows.rows[i].read) for i in chosen]))
    return out


def _plain(streams: list[Tensor]) -> list[Tensor]:
    """By row, which tokens are no attention sinks."""
    norms = [x.float().norm(dim=1) for x in streams]
    return [~outliers(n, torch.ones_like(n, dtype=torch.bool)) for n in norms]


def _task(name: str, rows: _Set, layer: int, size: float, goal: Tensor, base: list[Tensor], weight: float) -> Task:
    scale = size**2 / len(goal)
    plain = _plain(base)

    def loss(units: Sequence[int], got: Got) -> Tensor:
        fine = torch.cat([plain[u] for u in units])
        here, then = got.streams[layer][fine], torch.cat([base[u] for u in units])[fine]
        forget, retain = measures.rmu(here, goal, here, then.to(here.device), 1.0)
        return (forget if name == "forget" else retain) / scale

    units, counts = [(i,) for i in range(len(rows.rows))], [int(p.sum()) for p in plain]
    facts: dict[str, Any] = {"sees": SEES, "people": rows.people, "read": (layer,), "weight": weight, "counts": counts}
    return Task(name=name, rows=rows.rows, units=units, loss=loss, **facts)


def _name(given: PromptSet | Sequence[str]) -> str:
    return given.hash if isinstance(given, PromptSet) else f"{len(given)} texts"
