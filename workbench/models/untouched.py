"""Hugging Face's own model beside the workbench's: the oracle of every check of an architecture."""

from __future__ import annotations

from typing import Any

import torch

from ..core.types import Float, Tensor
from .reference import added, blocks, hooked, pushed_in, stream_of


class Untouched:
    """A causal language model that TransformerLens never touched, read row by row without padding and without a cache.

    Attributes:
        hf: The model.
        count: Its number of blocks.
    """

    def __init__(self, hf: Any) -> None:
        """Keep a model that nothing has been attached to."""
        self.hf = hf.eval()
        self.count = len(blocks(hf))

    @torch.no_grad()
    def read(self, row: list[int]) -> tuple[Float[Tensor, "depth token d_model"], Float[Tensor, "token vocabulary"]]:
        """Run one row.

        Returns:
            The input of every block and the output of the last one, and the logits, in float32.
        """
        last: list[Tensor] = []
        with hooked(blocks(self.hf)[-1].register_forward_hook(lambda m, a, out: last.append(stream_of(out)))):
            out = self.hf(self._ids(row), output_hidden_states=True, use_cache=False)
        states = [*out.hidden_states[: self.count], last[0]]
        return torch.stack([s[0].float().cpu() for s in states]), out.logits[0].float().cpu()

    @torch.no_grad()
    def pushed(
        self, row: list[int], layer: int, vector: Float[Tensor, " d_model"], *, entry: bool = False
    ) -> Float[Tensor, "token vocabulary"]:
        """Run one row with a vector added to every token of a block's output.

        Args:
            row: Ids.
            layer: The block, counted from 0.
            vector: What is added.
            entry: Add it to the block's input instead.

        Returns:
            Logits in float32.
        """
        block = blocks(self.hf)[layer]
        hook = (
            block.register_forward_pre_hook(pushed_in(vector), with_kwargs=True)
            if entry
            else block.register_forward_hook(lambda m, a, out: added(out, vector))
        )
        with hooked(hook):
            return self.hf(self._ids(row), use_cache=False).logits[0].float().cpu()

    @torch.no_grad()
    def follow(
        self, row: list[int], written: list[int], push: tuple[int, Float[Tensor, " d_model"]] | None = None
    ) -> Float[Tensor, " written"]:
        """Judge a continuation token by token.

        Args:
            row: The prompt.
            written: Ids that continue it.
            push: A layer, and a vector that is added to every token of its output.

        Returns:
            Per written token, by how many nats it lies below the likeliest one; 0 where it is the likeliest.
        """
        whole = [*row, *written]
        logits = self.read(whole)[1] if push is None else self.pushed(whole, *push)
        logp = logits[len(row) - 1 : -1].log_softmax(-1)
        return logp.max(-1).values - logp.gather(1, torch.tensor(written)[:, None])[:, 0]

    def _ids(self, row: list[int]) -> Tensor:
        return torch.tensor([row], device=next(self.hf.parameters()).device)
