"""What is trained, in a learner: low-rank matrices at a site or on weights, or whole weight matrices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

import pandas as pd
import torch
from torch import Tensor, nn

from ..core.errors import Disagrees
from ..core.seeds import torch_rng
from ..models import info
from ..models.differentiable import Learner
from ..models.forward import run as forward
from ..models.fused import transposed
from ..models.lora import inject, matrices, switch
from ..models.tokens import pad
from .adapter import Adapter, Part, adapted, check_fits, place_of
from .rows import Passes, marked

APART = 5e-3  # of the largest logit, between the trained pass and the model with the adapter


@runtime_checkable
class Trainable(Protocol):
    """Something that is trained in a learner."""

    learner: Learner
    parameters: dict[str, Tensor]


class Low:
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

    @contextmanager
    def off(self) -> Iterator[None]:
        """Let nothing act inside a `with` block: the unchanged model."""
        self.acting = False
        switch(self.learner.shell, False)
        try:
            yield
        finally:
            self.acting = True
            switch(self.learner.shell, True)

    def adapter(self, made: Mapping[str, Any], history: pd.DataFrame | None) -> Adapter:
        """The matrices as a value."""
        names = dict.fromkeys(n.rpartition(".")[0] for n in self.parameters)
        held = {n: v.detach().float().cpu().clone() for n, v in self.parameters.items()}
        parts = {n: Part(down=held[f"{n}.down"], up=held[f"{n}.up"]) for n in names}
        return Adapter(
            kind=self.kind,
            parts=parts,
            rank=self.rank,
            alpha=self.alpha,
            provenance=made,
            history=pd.DataFrame() if history is None else history,
        )

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
                agree(self.learner.model, self.adapter(made, None), self, passes)
            finally:
                for name, value in self.parameters.items():
                    value.copy_(known[name])


class Whole:
    """Changes of whole weight matrices, each in units of its matrix's root mean square: the model stays the frozen reference.

    Args:
        learner: The model.
        parts: Which matrices, as for `models.lora.matrices`.
        layers: Blocks.
    """

    def __init__(self, learner: Learner, parts: str | Sequence[str], layers: Sequence[int]) -> None:
        self.learner, self.start = learner, min(layers)
        self.paths = matrices(learner.shell, parts, learner.blocks, layers)
        self.places: list[tuple[str, int]] = []
        self.acting, self.alpha = True, 1.0
        self.parameters: dict[str, Tensor] = {}
        self._units: dict[str, float] = {}

    def attach(self) -> None:
        """Let the changes act in the learner's passes."""
        for path in self.paths:
            module, name = self.learner.shell.get_submodule(path), f"{path}.weight"
            weight = module.weight.detach()
            shape = weight.T.shape if transposed(self.learner.model, name) else weight.shape
            change = torch.zeros(shape, device=weight.device).requires_grad_()
            unit = float(weight.float().square().mean().sqrt())
            self.parameters[name], self._units[name] = change, unit

            def behind(_: Any, args: tuple[Tensor, ...], out: Tensor, change: Tensor = change, unit: float = unit) -> Tensor:
                return out + nn.functional.linear(args[0].float(), unit * change).to(out.dtype) if self.acting else out

            module.register_forward_hook(behind)

    @contextmanager
    def off(self) -> Iterator[None]:
        """Let nothing act inside a `with` block: the unchanged model."""
        self.acting = False
        try:
            yield
        finally:
            self.acting = True

    def adapter(self, made: Mapping[str, Any], history: pd.DataFrame | None) -> Adapter:
        """What was added to the matrices, as a value."""
        parts = {name: Part(down=None, up=self._units[name] * v.detach().float().cpu()) for name, v in self.parameters.items()}
        return Adapter(kind="full", parts=parts, provenance=made, history=pd.DataFrame() if history is None else history)


def settle(learner: Learner, adapter: Adapter) -> None:
    """Let a finished adapter act in every pass of a learner, as a part of the model that is trained.

    Args:
        learner: It is changed.
        adapter: Of this model; residual ones act where `Passes` marks their places.
    """
    check_fits(learner.model, adapter)
    for name, part in adapter.parts.items():
        if adapter.kind == "residual":
            site, layer = place_of(name)
            assert part.down is not None
            down, up = part.down.float().to(learner.device), part.up.float().to(learner.device) * adapter.factor

            def more(value: Tensor, down: Tensor = down, up: Tensor = up) -> Tensor:
                return (value.float() @ down.T) @ up.T

            learner.change(site, layer, marked(more, (site, layer)))
            continue
        module = learner.shell.get_submodule(name.rpartition(".")[0])
        added = part.matrix(adapter.factor)
        added = added.T if transposed(learner.model, name) else added
        module.weight = nn.Parameter(module.weight.detach() + added.to(module.weight), requires_grad=False)


@torch.no_grad()
def agree(model: Any, adapter: Adapter, low: Trainable, passes: Passes, count: int = 4) -> None:
    """Raise unless the model with the adapter says what the training's own pass says.

    Args:
        model: What `load_model` returns.
        adapter: The trained change, as a value.
        low: What was trained.
        passes: Passes in which it acts; rows that ask for no logits are not compared.
        count: Rows at most.

    Raises:
        Disagrees: It does not.
    """
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
