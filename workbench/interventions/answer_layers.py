"""At which layer the answer turns: the answer words read off every layer's stream."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ..activations import Activations
from ..core.errors import BadInput
from ..core.stats import auroc, mean, proportion, undefined
from ..core.tables import sentences_of, units_of
from ..core.types import Float
from ..models.readout import Readout, readout
from ..models.tokens import answer_tokens

Through = Callable[[int, Tensor], Tensor]


@torch.no_grad()
def answer_lens(model: Any, acts: Activations, through: Through | None = None, *, whole: bool = False) -> pd.DataFrame:
    """Read the two answers off every layer through the final norm and the unembedding.

    Args:
        model: What `load_model` returns.
        acts: The stream after each block (`resid_post`) at the last token of the stem (`position="stem_last"`), of this model.
        through: Carries the stream of a layer (first) to the last one before it is read, as a tuned or a Jacobian lens does
            (`features.Lens.at`); by default it is read as it is (logit lens).
        whole: Also compare all that the layer says with what the last layer says ("kl"); costs the unembedding of the whole vocabulary.

    Returns:
        Rows `layer, metric, value, low, high, n`, intervals clustered by identity. Metrics: "auroc" of the margin between the two answers
        against the label, within sentences of the claim, "yes" (share of items where the positive answer is likelier), "agrees" (share
        of items where the layer says what the last layer says) and "kl" (KL(last layer | layer) over the vocabulary, nats).

    Raises:
        BadInput: The activations are of another site or position, or their rows do not name the answers.
        Disagrees: The model's logits are not what a norm and an unembedding give.

    Note:
        In early layers the stream is not yet in the coordinates of the unembedding: what is not read there may be there all the same.

    References:
        nostalgebraist 2020 (logit lens).
    """
    margins = answer_margins(model, acts, through)
    last = max(acts.layers)
    people, y, shown = units_of(acts.rows), acts.rows["label"].to_numpy(), sentences_of(acts.rows)
    read = readout(model)
    said = _said(read, acts.layer(last)[:, 0].float()) if whole else None
    rows = []
    for layer, margin in margins.items():
        area = undefined("one class only", len(y))
        if len(np.unique(y)) == 2:
            area = auroc(margin, y, people, within=shown)
        agrees = proportion((margin > 0) == (margins[last] > 0), people)
        measured = {"auroc": area, "yes": proportion(margin > 0, people), "agrees": agrees}
        if said is not None:
            x = acts.layer(layer)[:, 0].float()
            here = _said(read, x if through is None else through(layer, x))
            measured["kl"] = mean((said.exp() * (said - here)).sum(-1).clamp(min=0).double().numpy(), people)
        rows += [{"layer": layer, "metric": metric, **estimate.row()} for metric, estimate in measured.items()]
    return pd.DataFrame(rows)


@torch.no_grad()
def answer_margins(model: Any, acts: Activations, through: Through | None = None) -> dict[int, Float[np.ndarray, " item"]]:
    """Return the log-odds of the positive answer that each layer gives.

    Args:
        model, acts, through: As for `answer_lens`.

    Returns:
        By layer, one number per item: all token forms of the positive answer against all of the negative's.

    Raises:
        BadInput, Disagrees: As for `answer_lens`.
    """
    if acts.site != "resid_post" or acts.position != "stem_last":
        raise BadInput(f"the answer is read off resid_post at stem_last; these activations are {acts.site} at {acts.position}")
    if not {"negative", "positive", "label"} <= set(acts.rows):
        raise BadInput("the rows must name the answers and the label: columns negative, positive, label")
    read, out = readout(model), {}
    for layer in acts.layers:
        x = acts.layer(layer)[:, 0].float()
        out[layer] = _margins(model, read, x if through is None else through(layer, x), acts.rows)
    return out


def _said(read: Readout, x: Float[Tensor, "item d_model"]) -> Float[Tensor, "item vocabulary"]:
    return read.logits(x).log_softmax(-1)


def _margins(model: Any, read: Readout, x: Float[Tensor, "item d_model"], rows: pd.DataFrame) -> Float[np.ndarray, " item"]:
    """The log-odds of the positive answer: all its token forms against all of the negative's."""
    out = np.zeros(len(rows))
    hidden = read.norm(x)
    endings = list(zip(rows["negative"].astype(str), rows["positive"].astype(str), strict=True))
    for pair in dict.fromkeys(endings):
        index = np.array([k for k, own in enumerate(endings) if own == pair])
        ids = answer_tokens(model, pair)
        sums = []
        for forms in ids:
            z = read.scale * (hidden[index] @ read.weight[:, forms] + read.offset[forms])
            sums.append(torch.logsumexp(z if read.cap is None else torch.tanh(z / read.cap) * read.cap, dim=-1))
        out[index] = (sums[1] - sums[0]).double().numpy()
    return out
