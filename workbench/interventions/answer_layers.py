"""At which layer the answer turns: the answer words read off every layer's stream."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ..activations import Activations
from ..core.errors import BadInput
from ..core.stats import auroc, proportion, undefined
from ..core.tables import sentences_of, units_of
from ..core.types import Float
from ..models.readout import Readout, readout
from ..models.tokens import answer_tokens


@torch.no_grad()
def answer_lens(model: Any, acts: Activations) -> pd.DataFrame:
    """Read the two answers off every layer through the final norm and the unembedding.

    Args:
        model: What `load_model` returns.
        acts: The stream after each block (`resid_post`) at the last token of the stem (`position="stem_last"`), of this model.

    Returns:
        Rows `layer, metric, value, low, high, n`, intervals clustered by identity. Metrics: "auroc" of the margin between the two answers
        against the label, within sentences of the claim, "yes" (share of items where the positive answer is likelier) and "agrees" (share
        of items where the layer says what the last layer says).

    Raises:
        BadInput: The activations are of another site or position, or their rows do not name the answers.
        Disagrees: The model's logits are not what a norm and an unembedding give.

    Note:
        In early layers the stream is not yet in the coordinates of the unembedding: what is not read there may be there all the same.

    References:
        nostalgebraist 2020 (logit lens).
    """
    if acts.site != "resid_post" or acts.position != "stem_last":
        raise BadInput(f"the answer is read off resid_post at stem_last; these activations are {acts.site} at {acts.position}")
    if not {"negative", "positive", "label"} <= set(acts.rows):
        raise BadInput("the rows must name the answers and the label: columns negative, positive, label")
    read = readout(model)
    margins = {layer: _margins(model, read, acts.layer(layer)[:, 0].float(), acts.rows) for layer in acts.layers}
    last = margins[max(acts.layers)] > 0
    people, y, shown = units_of(acts.rows), acts.rows["label"].to_numpy(), sentences_of(acts.rows)
    rows = []
    for layer, margin in margins.items():
        area = undefined("one class only", len(y))
        if len(np.unique(y)) == 2:
            area = auroc(margin, y, people, within=shown)
        measured = {"auroc": area, "yes": proportion(margin > 0, people), "agrees": proportion((margin > 0) == last, people)}
        rows += [{"layer": layer, "metric": metric, **estimate.row()} for metric, estimate in measured.items()]
    return pd.DataFrame(rows)


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
