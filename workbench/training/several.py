"""Several processes that train together: each computes its share of every batch, and what they found is added up.

The processes are those of `torch.distributed`, as `accelerate launch` or `torchrun` start them; each holds a whole copy of the model.
Whatever decides how the training goes on is summed first, so that all processes decide alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.distributed as dist
from torch import Tensor


def place() -> tuple[int, int]:
    """Return the number of this process, counted from 0, and how many there are; (0, 1) where nothing was started."""
    if not dist.is_available() or not dist.is_initialized():
        return 0, 1
    return dist.get_rank(), dist.get_world_size()


def own(units: Sequence[int]) -> list[int]:
    """Return this process's share of a batch: neighbours stay together, for their rows may begin alike."""
    here, count = place()
    return list(units[len(units) * here // count : len(units) * (here + 1) // count])


def summed(values: Mapping[str, float]) -> dict[str, float]:
    """Add up numbers by name over all processes."""
    if place()[1] == 1:
        return dict(values)
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    flat = torch.tensor(list(values.values()), dtype=torch.float64, device=device)
    dist.all_reduce(flat)
    return dict(zip(values, flat.tolist(), strict=True))


def sum_gradients(parameters: Sequence[Tensor]) -> None:
    """Add up gradients over all processes, in place; in one message."""
    if place()[1] == 1:
        return
    grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    flat = torch.cat([g.flatten() for g in grads])
    dist.all_reduce(flat)
    for p, g, new in zip(parameters, grads, flat.split([g.numel() for g in grads]), strict=True):
        p.grad = new.view_as(g)


def wait() -> None:
    """Wait until every process is here."""
    if place()[1] > 1:
        dist.barrier()
