"""What a search without labels fits: projections of all restarts at once, linear or through one hidden layer."""

from __future__ import annotations

import torch

from ..core.errors import BadInput
from ..core.seeds import torch_rng
from ..core.types import Float, Tensor

Parameters = Float[Tensor, "restart parameter"]
Outputs = Float[Tensor, "restart row"]


class LinearBody:
    """u = w.x + b for every restart; a restart's parameters are w and b."""

    def __init__(self, x: Float[Tensor, "row d_model"]) -> None:
        self.x = x
        self.penalty = torch.ones(x.shape[1] + 1, device=x.device)
        self.penalty[-1] = 0

    def start(self, restarts: int, seed: int) -> Parameters:
        """Draw the parameters of every restart."""
        width = self.x.shape[1]
        bound = width**-0.5
        return torch.empty(restarts, width + 1).uniform_(-bound, bound, generator=torch_rng(seed, "ccs")).to(self.x.device)

    def forward(self, theta: Parameters) -> Outputs:
        """Return the projections of all rows."""
        return torch.addmm(theta[:, -1:], theta[:, :-1], self.x.T)

    def back(self, theta: Parameters, du: Outputs) -> Parameters:
        """Return the gradient by the parameters from that by the projections."""
        return torch.cat([du @ self.x, du.sum(1, keepdim=True)], 1)

    def read(self, theta: Float[Tensor, " parameter"]) -> tuple[Float[Tensor, " d_model"], float, None]:
        """Return weight and bias of one restart; there is no hidden layer."""
        return theta[:-1].clone(), float(theta[-1]), None


class MlpBody:
    """u = v.tanh(W x + a) + b for every restart; a restart's parameters are W, a, v and b."""

    def __init__(self, x: Float[Tensor, "row d_model"], hidden: int) -> None:
        if hidden < 1:
            raise BadInput(f"an MLP has one hidden unit at least, got {hidden}")
        self.x, self.h = x, hidden
        d = x.shape[1]
        self.cuts = [hidden * d, hidden, hidden, 1]
        self.penalty = torch.ones(sum(self.cuts), device=x.device)
        self.penalty[-1] = 0

    def start(self, restarts: int, seed: int) -> Parameters:
        """Draw the parameters of every restart."""
        d = self.x.shape[1]
        rng = torch_rng(seed, "ccs mlp")
        bounds = torch.cat([torch.full((c,), v**-0.5) for c, v in zip(self.cuts, (d, d, self.h, self.h), strict=True)])
        return (bounds * (2 * torch.rand(restarts, len(bounds), generator=rng) - 1)).to(self.x.device)

    def _parts(
        self, theta: Parameters
    ) -> tuple[
        Float[Tensor, "restart unit d_model"], Float[Tensor, "restart unit"], Float[Tensor, "restart unit"], Float[Tensor, "restart 1"]
    ]:
        w, a, v, b = theta.split(self.cuts, dim=1)
        return w.reshape(len(theta), self.h, -1), a, v, b

    def forward(self, theta: Parameters) -> Outputs:
        """Return the projections of all rows."""
        w, a, v, b = self._parts(theta)
        return torch.bmm(torch.tanh(self.x @ w.transpose(1, 2) + a[:, None]), v[..., None])[..., 0] + b

    def back(self, theta: Parameters, du: Outputs) -> Parameters:
        """Return the gradient by the parameters from that by the projections."""
        w, a, v, _ = self._parts(theta)
        inside = torch.tanh(self.x @ w.transpose(1, 2) + a[:, None])  # restart, row, unit
        slope = du[..., None] * v[:, None] * (1 - inside * inside)
        dw = slope.transpose(1, 2) @ self.x
        return torch.cat(
            [dw.flatten(1), slope.sum(1), torch.bmm(inside.transpose(1, 2), du[..., None])[..., 0], du.sum(1, keepdim=True)], 1
        )

    def read(
        self, theta: Float[Tensor, " parameter"]
    ) -> tuple[Float[Tensor, " unit"], float, tuple[Float[Tensor, "unit d_model"], Float[Tensor, " unit"]]]:
        """Return output weights and bias of one restart, and weights and biases of its hidden layer."""
        w, a, v, b = self._parts(theta[None])
        return v[0].clone(), float(b), (w[0].clone(), a[0].clone())
