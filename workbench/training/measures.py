"""The losses, on tensors.

Each docstring has the equation, the paper, and what the loss sees of the labels. `tasks` says which prompts they are given.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ..core.types import Float

FLOOR = 1e-6  # of a probability, before its logarithm


def ccs(first: Float[Tensor, " pair"], second: Float[Tensor, " pair"]) -> Float[Tensor, " pair"]:
    """Return consistency plus confidence of two probabilities that should add to one.

        (p1 + p2 - 1)^2 + min(p1, p2)^2

    With p1 and p2 the probability of yes after a statement and after its negation. Sees no label. A claim that flips *every* answer
    leaves the two consistent and confident, so that this loss alone may mend nothing.

    Args:
        first, second: Log-odds of yes, natural log.

    Returns:
        The loss of each pair, 0 to 1.25.

    References:
        Burns et al. 2022, arXiv 2212.03827, equations 1 and 2.
    """
    p, q = first.sigmoid(), second.sigmoid()
    return (p + q - 1).square() + torch.minimum(p, q).square()


def invariance(now: Float[Tensor, "item 2"], target: Float[Tensor, "item 2"]) -> Float[Tensor, " item"]:
    """Return how far answers are from the model's own answers without a claim.

        KL(q || p) over {no, yes, anything else}

    With q the answers of the unchanged model without a claim and p those under it. Sees no label: what the model would say by itself is
    the target (context distillation).

    Args:
        now: Log-probabilities of no and yes under the claim, natural log.
        target: Those of the unchanged model without it.

    Returns:
        Nats, 0 or more.

    References:
        Askell et al. 2021, arXiv 2112.00861, section 2.2.2 (context distillation); Snell et al. 2022, arXiv 2209.15189.
    """
    p, q = (torch.cat([x.exp(), (1 - x.exp().sum(1, keepdim=True)).clamp(min=0)], 1).clamp(min=FLOOR) for x in (now, target))
    return (q * (q.log() - p.log())).sum(1)


def cross_entropy(odds: Float[Tensor, " item"], answer: Float[Tensor, " item"]) -> Float[Tensor, " item"]:
    """Return the cross-entropy of the answer among the two.

        -a log sigmoid(m) - (1 - a) log sigmoid(-m), with m the log-odds of yes

    Sees the labels (or whatever answers it is given): supervised fine-tuning on the answer token.

    Args:
        odds: Log-odds of yes.
        answer: 1 for yes, 0 for no; or a teacher's probability of yes.

    Returns:
        Nats.

    References:
        Rimsky et al. 2023, arXiv 2312.06681, section 5.2 (fine-tuning on the answers, in both directions).
    """
    return answer * F.softplus(-odds) + (1 - answer) * F.softplus(odds)


def dpo(odds: Float[Tensor, " item"], base: Float[Tensor, " item"], answer: Float[Tensor, " item"], beta: float) -> Float[Tensor, " item"]:
    """Return the loss of direct preference optimisation, the answer preferred to the other one.

        -log sigmoid(beta s (m - m0)), with m0 the log-odds of the unchanged model

    Sees the preferences it is given: the labels, by default.

    Args:
        odds, base: Log-odds of yes, now and of the unchanged model.
        answer: 1 where yes is preferred, 0 where no is.
        beta: Weight against leaving the unchanged model, above 0; a larger one leaves it less.

    Returns:
        Nats.

    References:
        Rafailov et al. 2023, arXiv 2305.18290, equation 7.
    """
    return F.softplus(-beta * (2 * answer - 1) * (odds - base))


def spin(
    now: Float[Tensor, "item 2"], opponent: Float[Tensor, "item 2"], target: Float[Tensor, "item 2"], beta: float
) -> Float[Tensor, " item"]:
    """Return the loss of self-play fine-tuning: the target's answers are to be told from those of an earlier self.

        sum over y, y' of q(y) p_t(y') log(1 + exp(-beta (log p(y)/p_t(y) - log p(y')/p_t(y'))))

    The expectation over both answers is computed, not sampled. q is the model's own answers without a claim (no label), or the labels.

    Args:
        now, opponent: Log-probabilities of no and yes, now and of the earlier self p_t.
        target: Those of the target q.
        beta: Weight of the log-ratios, above 0.

    Returns:
        Nats.

    References:
        Chen et al. 2024, arXiv 2401.01335, equation 4.7.
    """
    ratio = now - opponent
    q, p = target.softmax(1), opponent.softmax(1)
    apart = ratio[:, :, None] - ratio[:, None, :]  # item, y, y'
    return (q[:, :, None] * p[:, None, :] * F.softplus(-beta * apart)).sum((1, 2))


def infonce(here: Float[Tensor, "item d_model"], there: Float[Tensor, "item d_model"], temperature: float) -> Float[Tensor, " item"]:
    """Return how hard each stream is to match with that of the same statement without a claim.

        -log( exp(cos(h_i, g_i) / T) / sum over j of exp(cos(h_i, g_j) / T) )

    With h under a claim, g of the unchanged model without one, both less their mean over the batch. Sees no label.

    Args:
        here, there: Streams of the same items, in the same order; two items at least.
        temperature: T, above 0; a smaller one asks for sharper matches.

    Returns:
        Nats; log(items) where nothing tells them apart.

    References:
        van den Oord et al. 2018, arXiv 1807.03748, equation 4.
    """
    h, g = (F.normalize(x - x.mean(0), dim=1) for x in (here.float(), there.float()))
    return -(h @ g.T / temperature).log_softmax(1).diagonal()


def contrast(negative: Float[Tensor, "item d_model"], positive: Float[Tensor, "item d_model"], unit: Float[Tensor, " d_model"]) -> Tensor:
    """Return how little the two variants of an item differ along a direction, of all in which they differ.

        1 - sum ((x1 - x0) . u)^2 / sum |x1 - x0|^2, with x0 and x1 less the mean of their variant

    The direction is that of a closed-form contrast probe (`fit_contrast`). Sees no label where the probe saw none.

    Args:
        negative, positive: Streams of the two variants.
        unit: The direction, of length 1.

    Returns:
        One number, 0 to 1.

    References:
        Burns et al. 2022, arXiv 2212.03827, section 2.3 (contrastive representation clustering).
    """
    apart = (positive - positive.mean(0)) - (negative - negative.mean(0))
    return 1 - (apart @ unit).square().sum() / apart.square().sum().clamp(min=1e-12)


def kl(now: Float[Tensor, "asked vocabulary"], base: Float[Tensor, "asked vocabulary"]) -> Float[Tensor, " asked"]:
    """Return KL(base || now) over the whole vocabulary: what holds a training near the unchanged model. Sees no label.

    Args:
        now, base: Log-probabilities.

    Returns:
        Nats.
    """
    return (base.exp() * (base - now)).sum(1)


def rmu(
    forget: Float[Tensor, "token d_model"], target: Float[Tensor, "*any d_model"], retain: Float[Tensor, "kept d_model"],
    base: Float[Tensor, "kept d_model"], weight: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Return the two terms of representation misdirection for unlearning.

        mean |h_forget - c u|^2 / d  +  weight mean |h_retain - h0_retain|^2 / d

    Sees which rows are to be forgotten, and no label of theirs.

    Args:
        forget, retain: Streams at the layer, of tokens of both sets.
        target: c u, where the forget set is sent to.
        base: Streams of the unchanged model on the retain set.
        weight: Of the second term.

    Returns:
        Both terms.

    References:
        Li et al. 2024, arXiv 2403.03218, section 4.
    """
    return (forget - target).square().mean(), weight * (retain - base).square().mean()
