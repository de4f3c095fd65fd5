"""Directions found without labels: contrast-consistent search and its kin (Burns et al. 2022, arXiv 2212.03827).

Nothing here sees a label. Restarts are chosen by loss alone, and the sign of the direction is left open: a separate,
named step, `resolve_sign`, sets it from rows and labels that the caller names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from ..core.errors import BadInput, ShapeMismatch
from ..core.show import Shown
from ..core.types import Float, Int, Tensor
from .bodies import LinearBody as _Linear
from .bodies import MlpBody as _Mlp
from .losses import Function, Loss, get_loss
from .scaling import Normaliser, pair, two_classes
from .search import search
from .shown import probe_facts

BODIES = ("linear", "mlp")


@dataclass(frozen=True, kw_only=True, repr=False)
class ContrastProbe(Shown):
    """The result of a search without labels.

    Attributes:
        weight: Of the best restart, `d_model`, in normalised units (of the last layer, one per unit, with an MLP body).
        bias: Of the best restart.
        hidden: Weights `unit x d_model` and biases of the hidden layer of an MLP body.
        scaler: Training normalisation of the two variants.
        loss: Loss of the best restart.
        losses: The loss of every restart.
        weights: The weights of every restart, `restart x d_model` (linear body).
        sign: +1 or -1; arbitrary until `oriented_on` says from which rows it was set.
        oriented_on: What `resolve_sign` used, "" before.
        method: Name of the loss or method.
        n: Training pairs.
    """

    weight: Float[Tensor, " feature"]
    bias: float
    scaler: Normaliser
    loss: float
    losses: tuple[float, ...]
    n: int
    hidden: tuple[Float[Tensor, "unit d_model"], Float[Tensor, " unit"]] | None = None
    weights: Float[Tensor, "restart feature"] | None = None
    sign: int = 1
    oriented_on: str = ""
    method: str = "ccs"

    def _shown(self) -> tuple[str, Mapping[str, Any]]:
        return probe_facts(
            self, len(self.scaler.scalers[0].mean), loss=self.loss, losses=self.losses, sign=self.sign, oriented_on=self.oriented_on
        )

    @property
    def vector(self) -> Float[Tensor, " d_model"]:
        """The oriented direction in raw activation units (mean scale of the variants), not normalised.

        Returns:
            The direction, `d_model`; it points to the variant that is held true, once `resolve_sign` has set the sign.

        Raises:
            BadInput: An MLP body has no one direction.
        """
        if self.hidden is not None:
            raise BadInput("a probe with an MLP body has no one direction")
        return self.sign * self.scaler.raw(self.weight)

    def projections(
        self, positive: Any, negative: Any, groups: Sequence[str] | None = None
    ) -> tuple[Float[Tensor, " item"], Float[Tensor, " item"]]:
        """Return w.x + b of both variants, not oriented.

        Args:
            positive: Positive variants, `item x d_model`, in raw units.
            negative: Negative variants, pair by pair.
            groups: The prompt form of each item, where the search was normalised by form.

        Returns:
            Projections of the positive and of the negative variants, one per item each; `sign` is not applied.
        """
        out = []
        for x in self.scaler(*pair(positive, negative), groups):
            inside = x if self.hidden is None else torch.tanh(x @ self.hidden[0].T + self.hidden[1])
            out.append(inside @ self.weight + self.bias)
        return out[0], out[1]

    def score(self, positive: Any, negative: Any, groups: Sequence[str] | None = None) -> Float[np.ndarray, " item"]:
        """Return sign x (p(x+) - p(x-)) / 2 of every pair.

        Args:
            positive: Positive variants, `item x d_model`, in raw units.
            negative: Negative variants, pair by pair.
            groups: The prompt form of each item, where the search was normalised by form.

        Returns:
            One score per item, from -.5 to .5; above 0 means that the positive variant is held true.
        """
        u, v = self.projections(positive, negative, groups)
        # in float64: two certain answers differ in digits that float32 does not have
        return (self.sign * (torch.sigmoid(u.double()) - torch.sigmoid(v.double())) / 2).numpy()

    def predict(self, positive: Any, negative: Any, groups: Sequence[str] | None = None) -> Int[np.ndarray, " item"]:
        """Return which variant of every pair is held true.

        Args:
            positive: Positive variants, `item x d_model`, in raw units.
            negative: Negative variants, pair by pair.
            groups: The prompt form of each item, where the search was normalised by form.

        Returns:
            1 where the score is above 0 (the positive variant), else 0.
        """
        return (self.score(positive, negative, groups) > 0).astype(np.int64)


def fit_ccs(
    positive: Any, negative: Any, *, restarts: int = 10, epochs: int = 1000, normalise: str = "mean_std", seed: int = 0, **options: Any
) -> ContrastProbe:
    """Search for a direction along which the two variants of a pair contradict each other confidently.

    Minimises the mean of (p(x+) - (1 - p(x-)))^2 + min(p(x+), p(x-))^2 with p(x) = sigmoid(w . s(x) + b).

    Args:
        positive: Positive variants of training pairs, `item x d_model`.
        negative: Negative variants, pair by pair.
        restarts: Random starts, 1 or more; the one of lowest loss is kept. Raising it costs time and finds lower losses.
        epochs: Largest number of L-BFGS steps; it stops by itself when the loss no longer falls.
        normalise: "mean_std", "mean" or "none", with the statistics of these rows, each variant by itself.
        seed: Draws the starts.
        options: Passed to `fit_contrast`: `body`, `hidden`, `penalty`, `device`, `per`, `erase_variant`, `groups`.

    Returns:
        The best restart, its sign still open: see `resolve_sign`.

    Raises:
        ShapeMismatch, NotFinite, BadInput: Before fitting.

    Note:
        It finds the most prominent consistent feature, which need not be truth (Farquhar et al. 2023, arXiv 2312.10029).

    References:
        Burns et al. 2022, arXiv 2212.03827, equations 1-3.
    """
    return fit_contrast(positive, negative, loss="ccs", restarts=restarts, epochs=epochs, normalise=normalise, seed=seed, **options)


def fit_contrast(
    positive: Any,
    negative: Any,
    *,
    loss: str | Loss | Function = "ccs",
    body: str = "linear",
    hidden: int = 32,
    restarts: int = 10,
    epochs: int = 1000,
    penalty: float | None = None,
    normalise: str = "mean_std",
    seed: int = 0,
    device: str = "cpu",
    **how: Any,
) -> ContrastProbe:
    """Search without labels for what minimises any contrastive loss.

    Args:
        positive: Positive variants of training pairs, `item x d_model`.
        negative: Negative variants, pair by pair.
        loss: "ccs", "ccs_circle", "infonce", "spin", "hinge", "bimodal"; a `Loss`; or a function of (p_negative, p_positive),
            each `restart x item`, that returns one loss per restart.
        body: "linear", or "mlp" with one hidden layer of tanh units.
        hidden: Units of the MLP, 1 or more; raising it makes the body more flexible. Not used by a linear body.
        restarts: Random starts, 1 or more; the one of lowest loss is kept.
        epochs: Largest number of L-BFGS steps.
        penalty: L2 penalty on the weights, 0 or more; by default the loss's own. Raising it shortens the weights.
        normalise: "mean_std", "mean" or "none", with the statistics of these rows.
        seed: Draws the starts.
        device: Where to compute, for example "cpu" or "cuda".
        how: Passed to `Normaliser.fit`: `per="variant"`, "all" or "template" (with `groups=`), `erase_variant=True`.

    Returns:
        The restart of lowest loss (the penalty left out), its sign still open.

    Raises:
        ShapeMismatch, NotFinite, BadInput, UnknownName: Before fitting.

    Example:
        >>> import torch, workbench as wb
        >>> truth = torch.randint(0, 2, (200, 1), generator=torch.Generator().manual_seed(0)) * 2.0 - 1
        >>> x = truth * torch.tensor([[2.0, 0.0]]) + torch.randn(200, 2, generator=torch.Generator().manual_seed(1)) / 3
        >>> found = wb.fit_contrast(x, -x, loss=lambda p, q: ((p + q - 1) ** 2 + (p * q)).mean(-1))
        >>> bool(abs(found.vector[0]) > 5 * abs(found.vector[1]))
        True
    """
    chosen = get_loss(loss)
    if restarts < 1 or epochs < 1:
        raise BadInput(f"restarts and epochs are at least 1, got {restarts} and {epochs}")
    if body not in BODIES:
        raise BadInput(f"body={body!r}: 'linear' or 'mlp'")
    x, y = pair(positive, negative)
    if len(x) < 2:
        raise BadInput("a search needs two pairs at least")
    scaler = Normaliser.fit(x, y, normalise=normalise, **how)
    a, b = scaler(x, y, how.get("groups"))
    stacked = torch.cat([b, a]).to(device)  # negative first
    if float((a - b).abs().max()) == 0:
        raise BadInput("both variants are the same in every pair: there is nothing that could contradict itself")
    network = _Mlp(stacked, hidden) if body == "mlp" else _Linear(stacked)
    strength = chosen.penalty if penalty is None else penalty
    theta, losses = search(network, network.start(restarts, seed), chosen, len(x), strength, epochs)
    best = int(losses.argmin())
    weight, bias, units = network.read(theta[best].cpu())
    return ContrastProbe(
        weight=weight,
        bias=bias,
        hidden=units,
        scaler=scaler,
        loss=float(losses[best]),
        losses=tuple(losses.tolist()),
        n=len(x),
        method=chosen.name,
        weights=theta[:, :-1].cpu().clone() if body == "linear" else None,
    )


def fit_ccs_layers(
    positive: Float[Tensor, "item layer d_model"], negative: Float[Tensor, "item layer d_model"], **options: Any
) -> list[ContrastProbe]:
    """Run `fit_contrast` on every layer; no layer's result depends on the others.

    Args:
        positive: Positive variants of training pairs, `item x layer x d_model`.
        negative: Negative variants, pair by pair.
        options: Passed to `fit_contrast`; the same seed is used at every layer.

    Returns:
        One probe per layer, in order, their signs still open.

    Raises:
        ShapeMismatch: Not three axes.
    """
    if positive.ndim != 3:
        raise ShapeMismatch(f"item x layer x d_model, got {tuple(positive.shape)}")
    return [fit_contrast(positive[:, k], negative[:, k], **options) for k in range(positive.shape[1])]


def resolve_sign(result: ContrastProbe, acts: Any, labels: ArrayLike, *, rows: str = "training rows", groups: Any = None) -> ContrastProbe:
    """Set the sign of a search from labelled rows: the one step that sees labels.

    Args:
        result: What `fit_ccs` returned.
        acts: Activations of labelled pairs, `item x variant x d_model` (for example `acts.layer(3)`), or a pair
            (positive, negative). Use *training* rows *of the unpushed condition*: a claim that flips every answer
            makes truth and answer two names of one thing.
        labels: Which variant of each pair is true, 0 or 1.
        rows: Which rows these are, in words; tables show it.
        groups: The prompt form of each item, where the search was normalised by form.

    Returns:
        The same search with its sign set to the one that is right in at least half of these rows.

    Raises:
        OneClass, ShapeMismatch: The labels do not serve.
    """
    positive, negative = _variants(acts)
    y = two_classes(labels, len(positive))
    right = (replace(result, sign=1).predict(positive, negative, groups) == y).mean()
    return replace(result, sign=1 if right >= 0.5 else -1, oriented_on=f"{len(y)} {rows}")


def _variants(acts: Any) -> tuple[Any, Any]:
    """The positive and the negative variants of activations, or of a pair."""
    if not isinstance(acts, tuple | list):
        if getattr(acts, "ndim", 0) == 3 and acts.shape[1] == 2:
            return acts[:, 1], acts[:, 0]
    elif len(acts) == 2:
        return acts[0], acts[1]
    raise ShapeMismatch("give item x variant x d_model (acts.layer(l)), or a pair (positive, negative)")
