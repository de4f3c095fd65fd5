"""Train an adapter on prompts: any loss, any place, with validation on held-out people, checkpoints and a history."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..core.errors import BadInput, Disagrees, ShapeMismatch
from ..core.provenance import provenance
from ..core.seeds import numpy_rng, torch_rng
from ..models import info
from ..models.differentiable import SITES, Learner
from ..models.forward import run as forward
from ..models.hooks import check_layers
from ..models.lora import inject, matrices, switch
from ..models.tokens import pad
from ..prompts import PromptSet
from .adapter import Adapter, Part, adapted
from .loop import Plan, batches, train
from .rows import Passes, Task, marked
from .tasks import Answered, build, leash

LEAST = 5  # people, below which none are held out for validation
APART = 5e-3  # of the largest logit, between the trained pass and the model with the adapter


def train_adapter(
    model: Any,
    prompts: PromptSet,
    *,
    loss: str | Callable[[Answered], Tensor] = "invariance",
    kind: str = "residual",
    rank: int = 2,
    layers: int | Sequence[int] | None = None,
    site: str = "resid_post",
    parts: str | Sequence[str] = "attention",
    alpha: float | None = None,
    towards: PromptSet | None = None,
    retain: PromptSet | Sequence[str] | None = None,
    retain_weight: float = 1.0,
    probe: tuple[Tensor, float] | None = None,
    read: int | None = None,
    beta: float = 0.1,
    temperature: float = 0.1,
    validation: float = 0.2,
    batch_tokens: int = 1536,
    plan: Plan | None = None,
    place: str | Path | None = None,
    progress: bool | None = None,
    seed: int = 0,
    **planned: Any,
) -> Adapter:
    """Train a low-rank adapter.

    Blocks below the lowest one that is changed get no gradient: what enters it is read once, by the capture engine, and kept. Rows that
    begin alike are computed once in each batch.

    Args:
        model: What `load_model` returns, with nothing changed.
        prompts: Training items, usually under the claim that pushes.
        loss: One of `tasks.LOSSES` (which says what each sees of the labels), or a function of `Answered`.
        kind: "residual" (h + (alpha/rank) B A h at a site) or "lora" (on weight matrices).
        rank: 1 to d_model; more can repair more, and costs more.
        layers: Blocks, one or several jointly, counted from 0; by default the one two thirds of the way up.
        site: Where a residual adapter acts: resid_pre, attn_out, resid_mid, mlp_out or resid_post.
        parts: Which matrices LoRA changes: "attention", "mlp", or names ("q_proj,v_proj").
        alpha: The product is multiplied by alpha / rank; by default the rank, a factor of 1.
        towards: The same items without a claim, for "invariance", "spin" and "infonce"; by default made from the prompts.
        retain: Prompts or texts on which KL from the unchanged model is added, times `retain_weight`.
        retain_weight: Factor of that KL in nats.
        probe: A frozen probe (weight, bias) of block `read`, for "ccs_probe" and "contrast".
        read: The block that "ccs_probe", "contrast" and "infonce" read; at or above the adapter.
        beta, temperature: Of "dpo" and "spin", and of "infonce".
        validation: Share of identities that are held out to decide when to stop; labels are not used unless the loss uses them.
        batch_tokens: Tokens of a batch, about.
        plan: How the training goes on; single values as keywords (`steps=120, lr=1e-2, patience=6, …`).
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
    if kind not in ("residual", "lora"):
        raise BadInput(f"kind {kind!r}: 'residual' or 'lora'; full changes of weights are made by unlearn")
    where = check_layers(model, [info(model).n_layers * 2 // 3] if layers is None else layers)
    width = int(model.cfg.d_model)
    if not isinstance(rank, int | np.integer) or not 1 <= rank <= width:
        raise ShapeMismatch(f"rank {rank}: from 1 to the model's width, {width}")
    if not 0 <= validation < 1:
        raise BadInput(f"validation {validation}: a share of the identities, from 0 to below 1")
    if kind == "residual" and site not in SITES:
        raise BadInput(f"site {site!r}: a residual adapter acts at one of {', '.join(SITES)}")
    plan = replace(plan or Plan(), **planned)
    task, prepare = build(loss, model, prompts, towards=towards, probe=probe, read=read, beta=beta, temperature=temperature)
    tasks = [(task, prepare)] + ([] if retain is None else [leash(model, retain, retain_weight)])
    learner = Learner(model)
    made = _Low(learner, kind, int(rank), where, site, parts, float(rank if alpha is None else alpha), seed)
    if read is not None and read < made.start:
        raise BadInput(f"the loss reads block {read}, below the adapter, which cannot change it: read block {made.start} or a higher one")
    rows = [row for t, _ in tasks for row in t.rows]
    passes = Passes(learner, rows, made.start, made.places)
    made.attach()
    if kind == "lora":
        made.check(passes)
    views, first = [], 0
    for t, ready in tasks:
        views.append(passes.part(first, len(t.rows)))
        first += len(t.rows)
        with made.off(), torch.no_grad():
            ready(views[-1])
    sides = [_sides(t, validation, seed) for t, _ in tasks]
    sizes = [_units(t, batch_tokens) for t, _ in tasks]

    def step(batch: int) -> dict[str, Tensor]:
        out = {}
        for (t, _), view, (units, _), size in zip(tasks, views, sides, sizes, strict=True):
            chosen = batches(units, size, batch, lambda turn, t=t, units=units: _order(t, units, turn, seed))
            out[t.name] = _loss(t, view, chosen)
        return out

    def validate() -> dict[str, float]:
        out: dict[str, float] = {}
        for (t, _), view, (train_units, held), size in zip(tasks, views, sides, sizes, strict=True):
            units = held or train_units[: 4 * size]
            parts_ = [(units[i : i + size]) for i in range(0, len(units), size)]
            values = [float(_loss(t, view, part)) * len(part) for part in parts_]
            out[f"{t.name} held out"] = sum(values) / len(units)
        out["validation"] = sum(t.weight * out[f"{t.name} held out"] for t, _ in tasks)
        return out

    facts = _facts(model, prompts, towards, task, kind, int(rank), where, site, parts, made.alpha, plan, seed)
    ended = train(
        made.parameters, step, validate, plan, weights={t.name: t.weight for t, _ in tasks}, place=place, key=facts, progress=progress,
        what=f"train {kind} adapter, {task.name}",
    )  # fmt: skip
    facts |= {"steps": ended.step, "best_step": ended.best[1], "stopped": ended.stopped}
    adapter = made.adapter(provenance(**facts), ended.table())
    _agree(model, adapter, made, passes)
    return adapter


def _facts(
    model: Any, prompts: PromptSet, towards: PromptSet | None, task: Task, kind: str, rank: int, layers: Sequence[int], site: str,
    parts: str | Sequence[str], alpha: float, plan: Plan, seed: int,
) -> dict[str, Any]:  # fmt: skip
    """What decides the training."""
    known = info(model)
    return {
        "model": known.key(), "d_model": known.d_model, "loss": task.name, "sees": task.sees, "prompts": prompts.hash,
        "towards": None if towards is None else towards.hash, "items": len(prompts), "kind": kind, "rank": rank, "layers": list(layers),
        "site": site if kind == "residual" else None, "parts": parts if kind == "lora" else None, "alpha": alpha, "lr": plan.lr,
        "seed": seed,
    }  # fmt: skip


def _loss(task: Task, view: Passes, units: Sequence[int]) -> Tensor:
    return task.loss(units, view.run([i for u in units for i in task.units[u]], task.read))


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


@dataclass
class _Off:
    low: _Low

    def __enter__(self) -> None:
        self.low.acting = False
        switch(self.low.learner.shell, False)

    def __exit__(self, *_: object) -> None:
        self.low.acting = True
        switch(self.low.learner.shell, True)


class _Low:
    """Low-rank matrices that are trained, in a learner."""

    def __init__(
        self, learner: Learner, kind: str, rank: int, layers: Sequence[int], site: str, parts: str | Sequence[str], alpha: float, seed: int
    ) -> None:
        self.learner, self.kind, self.rank, self.alpha, self.seed = learner, kind, rank, alpha, seed
        self.acting = True
        self.places = [(site, layer) for layer in layers] if kind == "residual" else []
        self.start = min(layers) + (kind == "residual" and site == "resid_post")
        width = int(learner.model.cfg.d_model)
        self.paths = [] if kind == "residual" else matrices(learner.shell, parts, learner.blocks, layers)
        self.parameters: dict[str, Tensor] = {}
        for s, layer in self.places:
            drawn = torch.randn(rank, width, generator=torch_rng(seed, "adapter", s, layer)) / width**0.5
            self.parameters[f"{s}[{layer}].down"] = drawn.to(learner.device).requires_grad_()
            self.parameters[f"{s}[{layer}].up"] = torch.zeros(width, rank, device=learner.device).requires_grad_()

    def attach(self) -> None:
        """Let the matrices act in the learner's passes."""
        if self.kind == "lora":
            found = inject(self.learner.shell, self.paths, self.rank, self.alpha, self.seed)
            for path, (a, b) in found.items():
                self.parameters[f"{path}.weight.down"], self.parameters[f"{path}.weight.up"] = a, b
            return
        for place in self.places:
            down, up = (self.parameters[f"{place[0]}[{place[1]}].{k}"] for k in ("down", "up"))

            def more(value: Tensor, down: Tensor = down, up: Tensor = up) -> Tensor:
                return ((value.float() @ down.T) @ up.T) * (self.alpha / self.rank if self.acting else 0.0)

            self.learner.change(*place, marked(more, place))

    def off(self) -> _Off:
        """Let nothing act inside a `with` block: the unchanged model."""
        return _Off(self)

    def adapter(self, made: Mapping[str, Any], history: Any) -> Adapter:
        """The matrices as a value."""
        names = dict.fromkeys(n.rpartition(".")[0] for n in self.parameters)
        held = {n: v.detach().float().cpu().clone() for n, v in self.parameters.items()}
        parts = {n: Part(down=held[f"{n}.down"], up=held[f"{n}.up"]) for n in names}
        return Adapter(kind=self.kind, parts=parts, rank=self.rank, alpha=self.alpha, provenance=made, history=history)

    def check(self, passes: Passes) -> None:
        """Before a training, let random matrices act, here and in the model: a fused matrix must not be passed by."""
        known = {n: v.detach().clone() for n, v in self.parameters.items()}
        rng = torch_rng(self.seed, "check an adapter")
        with torch.no_grad():
            for name, value in self.parameters.items():
                if name.endswith(".up"):
                    value.copy_(torch.randn(value.shape, generator=rng).to(value) * 0.02)
            try:
                made = {"model": info(self.learner.model).key()}
                _agree(self.learner.model, self.adapter(made, None), self, passes)
            finally:
                for name, value in self.parameters.items():
                    value.copy_(known[name])


@torch.no_grad()
def _agree(model: Any, adapter: Adapter, low: _Low, passes: Passes, count: int = 4) -> None:
    """Raise unless the model with the adapter says what the training's own pass says."""
    chosen = [i for i, row in enumerate(passes.rows) if row.ask][:count]
    if not chosen or not any(bool(p.up.any()) for p in adapter.parts.values()):
        return
    got = passes.run(chosen).logits
    rows = [passes.rows[i] for i in chosen]
    batch = pad(model, [r.ids for r in rows])
    at = [(k, p) for k, r in enumerate(rows) for p in r.ask]
    with adapted(model, adapter):
        every = forward(model, batch).float()
    want = torch.stack([every[k, p] for k, p in at])
    apart = float((got - want).abs().max() / want.abs().max().clamp(min=1e-12))
    limit = APART if low.learner.dtype == torch.float32 else 20 * APART
    if not apart <= limit:
        raise Disagrees(
            f"{info(model).name} with the adapter gives logits {apart:.1e} of the largest away from what was trained: "
            "the model does not compute with what the adapter changes"
        )
