"""The gradient of a loss with respect to the embeddings of tokens that stand in many prompts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from ..core.errors import BadInput
from ..core.types import Float, Tensor
from ..models import Edit, Read, edited
from ..models.differentiable import Learner
from ..models.forward import run
from ..models.tokens import pad
from ..models.trees import plant

Asks = Sequence[Sequence[tuple[int, int]]]  # per row the places, (row, position), after which logits are wanted


class Gradients:
    """A model's pass with gradients: through a copy of the engine's shell, or through the Bridge where the shell cannot be used.

    Args:
        model: What `load_model` returns. Edits that are active act; the shell is then not used.

    Attributes:
        learner: The copy of the shell; `None` for the Bridge, which is slower and gives the same numbers.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        try:
            self.learner: Learner | None = Learner(model)
        except BadInput:
            self.learner = None

    def of(
        self, rows: Sequence[Sequence[int]], asks: Asks, places: Sequence[Sequence[int]], loss: Callable[[Tensor], Tensor]
    ) -> Float[Tensor, "token d_model"]:
        """Return the gradient of a loss with respect to the embeddings of tokens, which are the same in all rows.

        Args:
            rows: Rows of ids.
            asks: Per row, where logits are wanted.
            places: Per row, the positions of the tokens.
            loss: Makes a number of the logits, `asked x vocabulary`, in float32 and in the order of `asks`.

        Returns:
            The gradient in float32 on the CPU, summed over rows.
        """
        with torch.enable_grad():
            logits, shift = (self._shell if self.learner is not None else self._bridge)(rows, asks, places)
            (gradient,) = torch.autograd.grad(loss(logits), shift)
        return gradient.float().cpu()

    def of_stream(
        self, rows: Sequence[Sequence[int]], layer: int, places: Sequence[Sequence[int]], loss: Callable[[Tensor], Tensor]
    ) -> Float[Tensor, "token d_model"]:
        """Return the same of a loss of the stream behind a block, at the last token of each row.

        Args:
            rows, places: As for `of`.
            layer: The block.
            loss: Makes a number of the stream, `row x d_model`, in float32.
        """
        with torch.enable_grad():
            stream, shift = (self._shell if self.learner is not None else self._bridge)(rows, None, places, layer)
            (gradient,) = torch.autograd.grad(loss(stream.float()), shift)
        return gradient.float().cpu()

    def _shell(
        self, rows: Sequence[Sequence[int]], asks: Asks | None, places: Sequence[Sequence[int]], layer: int = -1
    ) -> tuple[Tensor, Tensor]:
        """Logits where they are asked for, else the stream behind a block at the last token of each row; and what was added to tokens."""
        assert self.learner is not None
        trees = plant(rows)
        embeds = self.learner.embed(trees.ids).detach()
        shift = torch.zeros(len(places[0]), embeds.shape[-1], device=embeds.device, dtype=embeds.dtype, requires_grad=True)
        # rows that begin alike share a tree, and with it the tokens
        at = sorted(
            {
                (k, int(tree), int(place))
                for r, row in enumerate(places)
                for k, (tree, place) in enumerate(zip(*trees.where([(r, p) for p in row]), strict=True))
            }
        )
        which, tree, place = (torch.tensor(x, device=embeds.device) for x in zip(*at, strict=True))
        moved = embeds.index_put((tree, place), shift[which], accumulate=True)
        if asks is None:
            _, streams = self.learner.run(trees, embeds=moved, read=[layer])
            ends = trees.where([(r, len(row) - 1) for r, row in enumerate(rows)])
            return streams[layer][tuple(x.to(embeds.device) for x in ends)], shift
        logits, _ = self.learner.run(trees, embeds=moved, ask=[cell for ask in asks for cell in ask])
        assert logits is not None
        return logits, shift

    def _bridge(
        self, rows: Sequence[Sequence[int]], asks: Asks | None, places: Sequence[Sequence[int]], layer: int = -1
    ) -> tuple[Tensor, Tensor]:
        batch = pad(self.model, rows)
        device = batch.ids.device
        ends = torch.tensor([len(row) - 1 for row in rows], device=device)
        width = max(map(len, asks)) if asks is not None else 1
        columns = (
            ends[:, None]
            if asks is None
            else torch.tensor([[p for _, p in ask] + [ask[-1][1]] * (width - len(ask)) for ask in asks], device=device)
        )
        at = torch.tensor([list(p) for p in places], device=device)
        shift = torch.zeros(at.shape[1], int(self.model.cfg.d_model), device=device, requires_grad=True)

        def moved(x: Tensor) -> Tensor:
            return x.scatter_add(1, at[..., None].expand(-1, -1, x.shape[-1]), shift.to(x.dtype).expand(len(x), -1, -1))

        seen: list[Tensor] = []
        reads = [] if asks is not None else [Read(site="resid_post", layer=layer, function=seen.append)]
        with edited(self.model, [Edit(site="resid_pre", layer=0, function=moved, label="gradient of a prefix"), *reads]):
            logits = run(self.model, batch, at=columns).float()
        if asks is None:
            return seen[0][torch.arange(len(rows), device=device), ends], shift
        return torch.cat([row[: len(ask)] for row, ask in zip(logits, asks, strict=True)]), shift
