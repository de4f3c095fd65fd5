"""Train an adapter on prompts: any loss, any place, with validation on held-out people, checkpoints and a history."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..core.errors import BadInput, ShapeMismatch
from ..core.provenance import content_hash, provenance
from ..core.seeds import numpy_rng
from ..core.types import Float
from ..models import info
from ..models.differentiable import SITES, Learner
from ..models.hooks import check_layers
from ..probes.weak_labels import STUDENT_LOSSES
from ..prompts import PromptSet
from . import several
from .adapter import KINDS, Adapter, adapted
from .loop import Plan, Progress, batches, train
from .rows import Passes, Task
from .tasks import Answered, build, leash
from .trainable import Low, Whole, agree, settle

LEAST = 5  # people, below which none are held out for validation


def train_adapter(
    model: Any,
    prompts: PromptSet,
    *,
    loss: str | Callable[[Answered], Any] = "invariance",
    kind: str = "residual",
    rank: int = 2,
    layers: int | Sequence[int] | None = None,
    site: str = "resid_post",
    parts: str | Sequence[str] = "attention",
    alpha: float | None = None,
    towards: PromptSet | None = None,
    retain: PromptSet | Sequence[str] | None = None,
    retain_weight: float = 1.0,
    probe: tuple[Float[Tensor, " d_model"], float] | None = None,
    read: int | None = None,
    beta: float = 0.1,
    temperature: float = 0.1,
    targets: Sequence[float] | None = None,
    own: float = 0.5,
    validation: float = 0.2,
    batch_tokens: int = 1536,
    plan: Plan | None = None,
    on: Adapter | None = None,
    last: bool = False,
    place: str | Path | None = None,
    progress: bool | None = None,
    seed: int = 0,
    **planned: Any,
) -> Adapter:
    """Train an adapter: low-rank, or full changes of weight matrices.

    Blocks below the lowest one that is changed get no gradient: what enters it is read once, by the capture engine, and kept. Rows that
    begin alike are computed once in each batch.

    Args:
        model: What `load_model` returns, with nothing changed.
        prompts: Training items, usually under the claim that pushes.
        loss: One of `tasks.LOSSES` (which says what each sees of the labels), or a function of `Answered`.
        kind: "residual" (h + (alpha/rank) B A h at a site), "lora" (on weight matrices) or "full" (all of these matrices, free: full
            fine-tuning with `layers` every block and `parts="attention,mlp"`; embeddings and norms stay). The learning rate of full
            changes is in units of each matrix's root mean square.
        rank: 1 to d_model; more can repair more, and costs more. Of no meaning for full changes.
        layers: Blocks, one or several jointly, counted from 0; by default the one two thirds of the way up.
        site: Where a residual adapter acts: resid_pre, attn_out, resid_mid, mlp_out or resid_post.
        parts: Which matrices LoRA and full changes are of: "attention", "mlp", or names ("q_proj,v_proj").
        alpha: The product is multiplied by alpha / rank; by default the rank, a factor of 1.
        towards: The same items without a claim, for "invariance", "spin" and "infonce"; by default made from the prompts.
        retain: Prompts or texts on which KL from the unchanged model is added, times `retain_weight`.
        retain_weight: Factor of that KL in nats.
        probe: A frozen probe (weight, bias) of block `read`, for "ccs_probe" and "contrast".
        read: The block that "ccs_probe", "contrast" and "infonce" read; at or above the adapter.
        beta, temperature: Of "dpo" and "spin", and of "infonce".
        targets: A teacher's probability of the positive answer, one per item, in place of the labels: for "cross_entropy", "confidence"
            and "log_confidence".
        own: Weight of the model's own hard answers in the last two, 0 to below 1; it rises to this over the first fifth of the updates.
        validation: Share of identities that are held out to decide when to stop; labels are not used unless the loss uses them.
        batch_tokens: Tokens of a batch, about.
        plan: How the training goes on.
        planned: Single values of the plan (`steps=120, lr=1e-2, patience=6, …`).
        on: An adapter, or a change of `unlearn`, that acts all the while: the model with it is what is trained, and is the unchanged one
            of every loss.
        last: Return the last state instead of the best one on validation.
        place: A folder for checkpoints: a training that was killed goes on from there to the same numbers.
        progress: Show a progress bar; by default in a terminal or a notebook.
        seed: Draws the first matrices, who is held out, and the order of the batches.

    Returns:
        The adapter of the best validation loss, with its history.

    Raises:
        UnknownName, UnknownLayer, UnknownSite, BadInput, ShapeMismatch, TooFew, AnswerTokens: Before any training.
        Diverged: A loss is not finite; the best state before is in `place`.
        Disagrees: The model with the adapter does not say what the training saw.

    Example:
        >>> import workbench as wb
        >>> model = wb.load_model("bundled")
        >>> prompts = wb.prompts.udhr("since_claim", "harm", n=24, seed=0)
        >>> adapter = wb.train_adapter(model, prompts, rank=1, layers=[1], steps=3, progress=False)
        >>> with wb.adapted(model, adapter):
        ...     asked = wb.answers(model, prompts)

    References:
        Hu et al. 2021, arXiv 2106.09685 (LoRA); Wu et al. 2024, arXiv 2404.03592 (low-rank changes of the representation).
    """
    if kind not in KINDS:
        raise BadInput(f"kind {kind!r}: one of {', '.join(KINDS)}")
    where = check_layers(model, [info(model).n_layers * 2 // 3] if layers is None else layers)
    width = int(model.cfg.d_model)
    if not isinstance(rank, int | np.integer) or not 1 <= rank <= width:
        raise ShapeMismatch(f"rank {rank}: from 1 to the model's width, {width}")
    if not 0 <= validation < 1:
        raise BadInput(f"validation {validation}: a share of the identities, from 0 to below 1")
    if kind == "residual" and site not in SITES:
        raise BadInput(f"site {site!r}: a residual adapter acts at one of {', '.join(SITES)}")
    plan = replace(plan or Plan(), **planned)
    task, prepare = build(
        loss, model, prompts, towards=towards, probe=probe, read=read, beta=beta, temperature=temperature, targets=targets, own=own
    )
    tasks = [(task, prepare)] + ([] if retain is None else [leash(model, retain, retain_weight)])
    learner = Learner(model)
    if on is not None:
        settle(learner, on)
    made: Low | Whole
    if kind == "full":
        made = Whole(learner, parts, where)
    else:
        made = Low(learner, kind, int(rank), where, site, parts, float(rank if alpha is None else alpha), seed)
    if read is not None and read < min(where):
        raise BadInput(f"the loss reads block {read}, below the adapter, which cannot change it: read block {min(where)} or a higher one")
    rows = [row for t, _ in tasks for row in t.rows]
    start, places = made.start, list(made.places)
    if on is not None and on.kind == "residual":
        start, places = min(start, *(layer for _, layer in on.places)), [*dict.fromkeys([*on.places, *places])]
    with adapted(model, on, canary=False) if on is not None else nullcontext():
        passes = Passes(learner, rows, start, places)
        made.attach()
        if kind == "lora" and isinstance(made, Low):
            made.check(passes)
    views, first = [], 0
    for t, ready in tasks:
        views.append(passes.part(first, len(t.rows)))
        first += len(t.rows)
        with made.off(), torch.no_grad():
            ready(views[-1])
    facts = _facts(model, prompts, towards, task, kind, int(rank), where, site, parts, made.alpha, plan, seed)
    facts |= {"on": None if on is None else on.key}
    if targets is not None or task.name in STUDENT_LOSSES:
        facts |= {"targets": None if targets is None else content_hash([round(float(x), 9) for x in targets]), "own": own}
    several = [t for t, _ in tasks]
    ended = fit_tasks(
        several, views, made.parameters, plan, validation=validation, batch_tokens=batch_tokens, seed=seed, place=place, key=facts,
        progress=progress, what=f"train {kind} adapter, {task.name}", last=last,
    )  # fmt: skip
    facts |= {"steps": ended.step, "best_step": ended.best[1], "stopped": ended.stopped}
    adapter = made.adapter(provenance(**facts), ended.table())
    with adapted(model, on, canary=False) if on is not None else nullcontext():
        agree(model, adapter, made, passes)
    return adapter


def fit_tasks(
    tasks: Sequence[Task],
    views: Sequence[Passes],
    parameters: Mapping[str, Tensor],
    plan: Plan,
    *,
    validation: float,
    batch_tokens: int,
    seed: int,
    place: str | Path | None = None,
    key: object = None,
    progress: bool | None = None,
    what: str = "train",
    last: bool = False,
) -> Progress:
    """Train parameters on the sum of some tasks, and leave them at the best sum on held-out people.

    Where several processes of `torch.distributed` call this, each computes its share of every batch (`several`).

    Args:
        tasks: The losses.
        views: Passes over the rows of each.
        parameters: By name; they act in these passes.
        plan: How it goes on.
        validation: Share of the people who are held out; with fewer than five people the training rows decide.
        batch_tokens: Tokens of a batch of each task, about.
        seed: Draws who is held out, and the order of the batches.
        place, key, progress, what, last: As for `loop.train`.

    Returns:
        Where it ended.
    """
    sides = [_sides(t, validation, seed) for t in tasks]
    sizes = [_units(t, batch_tokens) for t in tasks]

    def step(batch: int) -> dict[str, Tensor]:
        out = {}
        for t, view, (units, _), size in zip(tasks, views, sides, sizes, strict=True):
            chosen = batches(units, size, batch, lambda turn, t=t, units=units: _order(t, units, turn, seed))
            part, share = _share(t, chosen)
            done = batch / (plan.steps * plan.accumulate)
            out[t.name] = share * _loss(t, view, part, done) if part else 0 * sum(p.sum() for p in parameters.values())
        return out

    def validate() -> dict[str, float]:
        out: dict[str, float] = {}
        for t, view, (own, held), size in zip(tasks, views, sides, sizes, strict=True):
            units = held or own[: 4 * size]
            total = 0.0
            for i in range(0, len(units), size):
                part, share = _share(t, units[i : i + size])
                total += share * float(_loss(t, view, part)) * len(units[i : i + size]) if part else 0.0
            out[f"{t.name} held out"] = total / len(units)
        out = several.summed(out)
        out["validation"] = sum(t.weight * out[f"{t.name} held out"] for t in tasks)
        return out

    weights = {t.name: t.weight for t in tasks}
    return train(parameters, step, validate, plan, weights=weights, place=place, key=key, progress=progress, what=what, last=last,
                 shared=True)  # fmt: skip


def _share(task: Task, chosen: list[int]) -> tuple[list[int], float]:
    """This process's units of a batch, and the weight of their mean in the mean of the batch."""
    if task.whole:
        return chosen, 1 / several.place()[1]
    part, counts = several.own(chosen), task.counts or [1] * len(task.units)
    return part, sum(counts[u] for u in part) / max(1, sum(counts[u] for u in chosen))


def _facts(
    model: Any, prompts: PromptSet, towards: PromptSet | None, task: Task, kind: str, rank: int, layers: Sequence[int], site: str,
    parts: str | Sequence[str], alpha: float, plan: Plan, seed: int,
) -> dict[str, Any]:  # fmt: skip
    """What decides the training."""
    known = info(model)
    return {
        "model": known.key(), "d_model": known.d_model, "loss": task.name, "sees": task.sees, "prompts": prompts.hash,
        "towards": None if towards is None else towards.hash, "items": len(prompts), "kind": kind,
        "rank": None if kind == "full" else rank, "layers": list(layers),
        "site": site if kind == "residual" else None, "parts": None if kind == "residual" else parts, "alpha": alpha, "lr": plan.lr,
        "seed": seed,
    }  # fmt: skip


def _loss(task: Task, view: Passes, units: Sequence[int], done: float = 1.0) -> Tensor:
    return task.loss(units, replace(view.run([i for u in units for i in task.units[u]], task.read), done=done))


def _sides(task: Task, share: float, seed: int) -> tuple[list[int], list[int]]:
    """Units to train on, and units of people who are held out."""
    people = sorted(set(task.people))
    held: set[str] = set()
    if share and len(people) >= LEAST:
        order = numpy_rng(seed, "held out of a training").permutation(len(people))
        held = {people[i] for i in order[: max(1, round(share * len(people)))]}
    units = range(len(task.units))
    return [u for u in units if task.people[u] not in held], [u for u in units if task.people[u] in held]


def _units(task: Task, tokens: int) -> int:
    """How many units a batch has."""
    mean = sum(len(task.rows[i].ids) for u in task.units for i in u) / len(task.units)
    return max(2, int(tokens / mean))


def _order(task: Task, units: Sequence[int], turn: int, seed: int) -> list[int]:
    """A permutation for one pass over the units, in which units whose rows begin alike stand together."""
    rng = numpy_rng(seed, "order of a training", task.name, turn)
    if not task.near:
        return rng.permutation(len(units)).tolist()
    names = sorted({task.near[u] for u in units})
    rank = dict(zip([names[i] for i in rng.permutation(len(names))], range(len(names)), strict=True))
    return sorted(range(len(units)), key=lambda i: (rank[task.near[units[i]]], i))
