"""Prompts under pushes at one position: what the model says, what stands at a reading layer, and how far both are from no push."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..core.types import Bool, Float, Int
from ..interventions.cost import sought
from ..models import Edit, Scope
from ..models.forward import residuals
from ..models.repeated import Repeated, repeated
from ..models.sinks import first_is_sink, outliers
from ..models.tokens import Batch, encode_pairs
from ..prompts import PromptSet

ROWS = 64  # prompts of a pass
SEARCH = 64  # prompts on which the strength of a push is sought
FARTHEST = 200  # times the first guess, which is .3 of the mean norm: nothing that a model does by itself


@dataclass(frozen=True, kw_only=True)
class _Part:
    """Prompts of one pass.

    Attributes:
        repeated: Their stems.
        last: Number of each stem's last token, `row x 1`.
        place: Numbers of the tokens that are pushed, `row x k`; a shorter row names its last one again.
        own: Which of them are not such repetitions.
        whole: All of the stem is pushed, attention sinks left out, and not one token per row.
    """

    repeated: Repeated
    last: Int[Tensor, "row 1"]
    place: Int[Tensor, "row k"]
    own: Bool[Tensor, "row k"]
    whole: bool

    def put(self, edits: Sequence[Edit], batch: Batch) -> list[Edit]:
        """Let edits act where the prompts are pushed, whatever their scope."""
        columns = batch.starts[:, None] + self.place.to(batch.starts.device)
        where: dict[str, Any] = {"positions": None, "scope": Scope("prompt")} if self.whole else {"positions": columns, "scope": None}
        return [replace(e, **where) for e in edits]


@dataclass(frozen=True, kw_only=True)
class Said:
    """Of every prompt: log-probabilities after the stem, and the reading layer's stream there."""

    logp: Float[Tensor, "item vocabulary"]
    stream: Float[Tensor, "item d_model"]


class Pushed:
    """Prompts made ready to be asked under pushes at one position.

    Args:
        model: What `load_model` returns.
        prompts: Their stems are run.
        position: "stem_last", "instruction_last" or "stem".
        read_layer: The block after which the stream is read, at the stem's last token.
    """

    def __init__(self, model: Any, prompts: PromptSet, position: str, read_layer: int) -> None:
        self.model, self.read_layer = model, read_layer
        self._parts = list(_parts(model, prompts, position))
        self._trial_items = np.unique(np.linspace(0, len(prompts) - 1, SEARCH).round().astype(int))
        whole = len(self._trial_items) == len(prompts)
        self._trial = self._parts if whole else list(_parts(model, prompts.subset(self._trial_items), position))
        self._streams: dict[int, Tensor] = {}
        self.base = self._say(self._parts)
        self._trial_base = Said(logp=self.base.logp[self._trial_items], stream=self.base.stream[self._trial_items])

    def say(self, edits: Iterable[Edit]) -> tuple[Said, float]:
        """Return what is said and read under edits, which act at the position whatever their scope, and the mean KL from no push."""
        said = self._say(self._parts, list(edits))
        return said, _distance(self.base, said)

    def scaled(self, family: Callable[[float], Iterable[Edit]], target: float, start: float, tolerance: float) -> tuple[float, Said, float]:
        """Find the strength at which a family of edits is a given distance away.

        Args:
            family: Maps a strength to edits.
            target: Mean KL(unpushed || pushed), nats.
            start: The first strength that is tried.
            tolerance: Relative, of the distance.

        Returns:
            The strength, sought on some prompts and corrected on all of them; what is said at it; and its distance.
        """

        def on_trial(strength: float) -> float:
            return _distance(self._trial_base, self._say(self._trial, list(family(strength))))

        size, slope = sought(on_trial, target, start, tolerance, FARTHEST)
        best: tuple[float, Said, float] | None = None
        for _ in range(4):
            said, apart = self.say(family(size))
            if best is None or abs(np.log(max(apart, 1e-12) / target)) < abs(np.log(max(best[2], 1e-12) / target)):
                best = size, said, apart
            ratio = target / max(apart, 1e-12)
            if abs(ratio - 1) <= tolerance or not 0.2 < ratio < 5:
                break
            size *= ratio ** (1 / slope)
        assert best is not None
        return best

    def norms(self, layer: int, unit: Float[Tensor, " d_model"]) -> tuple[float, float]:
        """Return the mean norm of the stream where it will be pushed, and its mean coordinate along a direction, in raw units."""
        if layer not in self._streams:
            self._streams = {layer: self._stream(layer)}
        x = self._streams[layer]
        return float(x.norm(dim=-1).mean()), float((x @ unit).mean())

    def _stream(self, layer: int) -> Float[Tensor, "token d_model"]:
        """The stream where it will be pushed, attention sinks left out."""
        out = []
        for part in self._parts:
            batch = part.repeated.whole
            columns = batch.starts[:, None] + part.place.to(batch.starts.device)
            values, _ = residuals(self.model, batch, columns, site="resid_post", layers=[layer])
            assert values is not None
            x = values[:, :, 0].float().cpu()
            out.append(x[part.own & ~outliers(x.norm(dim=-1), part.own)])
        return torch.cat(out)

    def _say(self, parts: Sequence[_Part], edits: Sequence[Edit] = ()) -> Said:
        logp, stream = [], []
        for part in parts:
            logits, values = part.repeated.ask(
                part.last, lambda batch, part=part: part.put(edits, batch), read=("resid_post", self.read_layer)
            )
            assert values is not None
            stream.append(values[:, 0].float().cpu())
            logp.append(torch.log_softmax(logits[:, 0], -1).cpu())
        return Said(logp=torch.cat(logp), stream=torch.cat(stream))


def _parts(model: Any, prompts: PromptSet, position: str) -> Iterator[_Part]:
    items = encode_pairs(model, prompts)
    for start in range(0, len(items), ROWS):
        chunk = items[start : start + ROWS]
        rows = repeated(model, [i.negative[: i.stem] for i in chunk])
        last = torch.tensor([i.stem - 1 for i in chunk])[:, None]
        if position == "stem_last":
            place = last
        elif position == "instruction_last":
            place = torch.tensor([i.instruction - 1 for i in chunk])[:, None]
        else:  # rows of unequal length name their last token again
            begin = max(chunk[0].bos, int(first_is_sink(model)))
            width = max(begin + 1, *(i.stem for i in chunk))
            place = torch.tensor([[min(c, i.stem - 1) for c in range(begin, width)] for i in chunk])
        own = torch.ones(place.shape, dtype=torch.bool)
        own[:, 1:] = place[:, 1:] != place[:, :-1]  # a repeated number is the same token again
        yield _Part(repeated=rows, last=last, place=place, own=own, whole=position == "stem")


def _distance(base: Said, said: Said) -> float:
    return float((base.logp.exp() * (base.logp - said.logp)).sum(-1).mean())
