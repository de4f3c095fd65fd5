"""How good a dictionary is: explained variance, latents per token, dead latents, and what is left of the model when it is spliced in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike

from ..core.errors import BadInput
from ..core.stats import Estimate, mean, proportion, ratio
from ..core.types import Float, Tensor
from ..evaluation.texts import Scored
from ..interventions.custom import custom_edit
from ..models import Edits
from .dictionary import Dictionary
from .streams import Streams

METRICS = ("explained variance", "latents per token", "dead latents", "cross-entropy recovered")


def splice(dictionary: Dictionary) -> Edits:
    """Return edits that put a dictionary's reconstruction in the place of the stream.

    Args:
        dictionary: One that knows its place.

    Returns:
        Edits for `edited`; the first token and attention sinks stay as they are.

    Raises:
        BadInput: The dictionary does not know its place.
    """
    return _at(dictionary, lambda x: dictionary.reconstruct(x.float()).to(x.dtype), "splice", dictionary.key)


def _at(dictionary: Dictionary, function: Any, label: str, key: str | None = None) -> Edits:
    place = dictionary.provenance
    if "site" not in place or "layer" not in place:
        raise BadInput("the dictionary does not say at which site and layer it belongs: its provenance lacks them")
    return custom_edit(function, layer=int(place["layer"]), site=str(place["site"]), label=label, key=key)


def rows_quality(dictionary: Dictionary, streams: Streams, *, block: int = 4096) -> dict[str, Estimate]:
    """Return what a dictionary leaves of the rows of some texts.

    Args:
        dictionary: The dictionary.
        streams: Rows of texts that it was not trained on.
        block: Rows encoded at a time.

    Returns:
        "explained variance" (1 - squared error / squared distance from the mean), "latents per token" and "dead latents" (the share that
        never acts on these rows), with 95 % intervals clustered by text; that of the dead latents is Wilson's.

    Raises:
        WrongModel: The rows come from another place.
    """
    dictionary.check_place(place=streams.provenance)
    centre = streams.rows.mean(0)
    error, apart, count = [], [], []
    alive = torch.zeros(dictionary.width, dtype=torch.bool)
    for x in streams.rows.split(block):
        latents = dictionary.encode(x)
        error.append(((dictionary.decode(latents, x) - x) ** 2).sum(1))
        apart.append(((x - centre) ** 2).sum(1))
        count.append((latents > 0).sum(1).float())
        alive |= (latents > 0).any(0)
    text = streams.text.numpy()
    lost = ratio(torch.cat(error).numpy(), torch.cat(apart).numpy(), text)
    explained = Estimate(
        value=1 - lost.value, low=1 - lost.high, high=1 - lost.low, n=lost.n, clusters=lost.clusters, method=lost.method, note=lost.note
    )
    return {METRICS[0]: explained, METRICS[1]: mean(torch.cat(count).numpy(), text), METRICS[2]: proportion((~alive).numpy())}


class Spliced:
    """Texts on which dictionaries are spliced in: scored once without, once with the stream's mean in its place.

    Args:
        model: What `load_model` returns.
        texts: Texts that no dictionary was trained on.
        place: A dictionary of the place.
        centre: The mean of the stream there, over other texts.
        clusters: Cluster of each text.

    Raises:
        WrongModel: The dictionary is not of this model.
    """

    def __init__(
        self,
        model: Any,
        texts: Sequence[str],
        place: Dictionary,
        centre: Float[Tensor, " d_in"],
        clusters: ArrayLike | None = None,
    ) -> None:
        place.check_place(model)
        self.clusters = None if clusters is None else np.asarray(clusters)
        self.scored = Scored(model, list(texts))
        self.clean = self.scored.under()["nll"].to_numpy()
        flat = _at(place, lambda x: centre.to(x).expand_as(x), "mean of the stream")
        self.worst = self.scored.under(flat)["nll"].to_numpy()

    def recovered(self, dictionary: Dictionary) -> Estimate:
        """Return the share of the cross-entropy that a dictionary recovers.

        (CE with the mean - CE with the reconstruction) / (CE with the mean - CE of the model)

        Args:
            dictionary: Of the same place.

        Returns:
            1 where nothing is lost, 0 where as much is as by putting the mean in its place; below 0 where more is.
        """
        now = self.scored.under(splice(dictionary))["nll"].to_numpy()
        return ratio(self.worst - now, self.worst - self.clean, self.clusters)


def quality_table(
    model: Any,
    dictionaries: dict[str, Dictionary],
    streams: Streams,
    texts: Sequence[str],
    centre: Float[Tensor, " d_in"],
    clusters: ArrayLike | None = None,
) -> pd.DataFrame:
    """Report on dictionaries of one place.

    Args:
        model: What `load_model` returns.
        dictionaries: By name: those of several seeds, and controls.
        streams: Rows of texts that they were not trained on.
        texts, centre, clusters: As for `Spliced`.

    Returns:
        `dictionary, metric, value, low, high, n, note`, one row per name and metric.
    """
    rows, spliced = [], Spliced(model, texts, next(iter(dictionaries.values())), centre, clusters)
    for name, one in dictionaries.items():
        measured = {**rows_quality(one, streams), METRICS[3]: spliced.recovered(one)}
        rows += [{"dictionary": name, "metric": metric, **e.row(), "note": e.note} for metric, e in measured.items()]
    return pd.DataFrame(rows)
