"""From contrast pairs to jobs for the engine, and from its readings back to items."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from ..core.errors import NotFinite, Overflow
from ..core.provenance import content_hash
from ..core.types import Tensor
from ..models.sinks import RULE, STREAM, first_is_sink, lengths, outliers
from ..models.tokens import EncodedPair
from .answering import Answers, further
from .choose import choose
from .engine import Engine, Job, Reading
from .variants import SHARED

POSITIONS = {
    "last": "last token of the continuation",
    "stem_last": "last token of the stem, where the answer is predicted",
    "instruction_last": "last token of the instruction",
    "mean": "mean over all tokens of the variant but the first special one and other attention sinks",
    "all": "every token of the variant, padded on the right, with a mask",
}
WHOLE = ("mean", "all")  # every token of a variant is read
BLOCK_BYTES = 256 * 2**20  # of single tokens that are held at a time, where averages or whole sequences are read


@dataclass(frozen=True, kw_only=True)
class Question:
    """What to read of every item.

    Attributes:
        position: One of `POSITIONS`.
        layers: Blocks.
        dtype: The dtype that activations are kept in.
        answers: Per item, the forms that count as each ending, each a row of ids behind the stem; `None` where they are not read.
        tokens: Token ids whose probabilities are read, the same for every item.
    """

    position: str
    layers: list[int]
    dtype: torch.dtype = torch.float32
    answers: Answers | None = None
    tokens: tuple[int, ...] = ()

    @property
    def ids(self) -> list[int]:
        """All tokens whose probabilities are read."""
        return sorted({i for item in self.answers or () for end in item for form in end for i in form} | set(self.tokens))

    @property
    def parts(self) -> list[str]:
        """The names of the parts that are kept.

        Beside the layers: at "mean" `sinks.N`, the number of sinks that each variant's mean leaves out in that layer, and at "all"
        which tokens are sinks there.
        """
        logp = ["logp.answers"] if self.answers else [f"logp.{content_hash(self.tokens)}"] if self.tokens else []
        sinks = [f"sinks.{layer}" for layer in self.layers] if self.position in WHOLE else []
        return [*(f"layer.{layer}" for layer in self.layers), *(["mask"] if self.position == "all" else []), *sinks, *logp]


def item_key(item: EncodedPair, position: str) -> str:
    """Return an item's key: the hash of its ids and of the place where it is read.

    Args:
        item: The item.
        position: One of `POSITIONS`.

    Returns:
        A key that items share if and only if the model reads the same tokens at the same place.
    """
    place = item.instruction if position == "instruction_last" else f"{item.bos}, sinks: {RULE}" if position == "mean" else 0
    return content_hash(item.negative, item.positive, item.stem, place)


def read_items(
    reader: Engine,
    items: Sequence[EncodedPair],
    question: Question,
    *,
    on_nan: str = "raise",
    numbers: Sequence[int] | np.ndarray | None = None,
) -> tuple[dict[str, Tensor], dict[int, list[Any]]]:
    """Read items with an engine.

    Args:
        reader: The engine.
        items: The items.
        question: What to read of each.
        on_nan: "raise" or "count".
        numbers: The number of each item in errors; by default counted from 0.

    Returns:
        The parts, each `item x …`; and per item with NaN or infinity how many there are, and the variant and part of the
        first.

    Raises:
        NotFinite: A value is NaN or infinite and `on_nan` is "raise"; the message says how many and where.
        Overflow: A value does not fit float16; the message says how many and where.
    """
    numbers = range(len(items)) if numbers is None else numbers
    out: dict[str, list[Tensor]] = {}
    ids = question.ids
    for block in _blocks(reader, items, question):
        block_items = [items[i] for i in block]
        answers = None if question.answers is None else [question.answers[i] for i in block]
        reading = reader.read(jobs(block_items, question), question.layers, ids)
        entering = _entering(reader, block_items, question)
        first = question.position in WHOLE and first_is_sink(reader.model)
        for name, part in _assemble(reading, block_items, question, answers, ids, entering, first).items():
            out.setdefault(name, []).append(part)
    whole = {name: _join(parts) for name, parts in out.items()}
    ill = {int(numbers[item]): place for item, place in _not_finite(whole).items()}
    if ill and on_nan == "raise":
        refuse(ill)
    return _cast(whole, question, numbers), ill


def jobs(items: Sequence[EncodedPair], question: Question) -> list[Job]:
    """Return the jobs that read items.

    Args:
        items: The items.
        question: What to read of each.

    Returns:
        Both variants of each item (or their shared stem, once), then those for further tokens of answers, then one job per item for the
        log-probabilities behind its stem.
    """
    out = []
    whole = question.position in WHOLE
    for x in items if question.layers else ():
        lengths = {"prompt": x.stem, "instruction": x.instruction}
        if question.position in SHARED:
            row = x.negative[: x.stem if question.position == "stem_last" else x.instruction]
            out.append(Job(ids=row, read=[len(row) - 1], **lengths))
        else:
            for row in (x.negative, x.positive):
                out.append(Job(ids=row, read=range(len(row)) if whole else [len(row) - 1], **lengths))
    out += [job for _, job in further(items, question.answers)]
    if question.ids:
        # on the negative variant where that is read anyway: tokens after the stem do not change the stem
        alone = question.position in SHARED or not question.layers
        out += [
            Job(ids=x.negative[: x.stem] if alone else x.negative, ask=x.stem - 1, prompt=x.stem, instruction=x.instruction) for x in items
        ]
    return out


def _blocks(reader: Engine, items: Sequence[EncodedPair], question: Question) -> Iterator[range]:
    """Cut items into runs whose single tokens fit into `BLOCK_BYTES`; one run where one token per variant is read."""
    size = len(items)
    if question.layers and question.position in WHOLE:
        token = len(question.layers) * int(reader.model.cfg.d_model) * 4
        longest = max(max(len(x.negative), len(x.positive)) for x in items)
        size = max(1, BLOCK_BYTES // (token * 2 * longest))
    for start in range(0, len(items), size):
        yield range(start, min(start + size, len(items)))


def _entering(reader: Engine, items: Sequence[EncodedPair], question: Question) -> Reading | None:
    """Read the stream that enters the blocks, where sinks must be known at a site that is not the stream."""
    if not question.layers or question.position not in WHOLE or reader.site in STREAM:
        return None
    stream = choose(reader.model, site="resid_pre", way="auto" if reader.trunk else "bridge", budget=reader.budget)
    return stream.read(jobs(items, replace(question, answers=None, tokens=())), question.layers, [])


def _assemble(
    reading: Reading,
    items: Sequence[EncodedPair],
    question: Question,
    answers: Answers | None,
    ids: list[int],
    entering: Reading | None,
    first: bool,
) -> dict[str, Tensor]:
    """Gather the slots of a reading by item, in the model's dtype.

    Args:
        reading: Of the items' jobs.
        items, question, answers, ids: As they were asked.
        entering: The stream that enters the blocks, at a site that is not the stream.
        first: Whether the model makes the first token of every text a sink.

    Returns:
        The parts, each `item x …`.
    """
    out: dict[str, Tensor] = {}
    variants = 1 if question.position in SHARED else 2
    at = reading.at[: variants * len(items)]
    index, real = _rectangle(at) if at else (torch.empty(0), torch.empty(0))
    counted = real
    if question.layers and question.position == "all":
        out["mask"] = real.unflatten(0, (-1, 2))
    elif question.layers and question.position == "mean":
        # the beginning-of-text token, an attention sink, is left out whatever its norm
        counted = real & (torch.arange(real.shape[1]) >= torch.tensor([[x.bos] for x in items for _ in range(2)]))
    for k, layer in enumerate(question.layers):
        slots = reading.values[:, k]  # pyright: ignore[reportOptionalSubscript]
        if question.position in WHOLE:
            sinks = _sinks(slots, index, counted, _stream(entering, k), first)
            out[f"sinks.{layer}"] = (sinks.sum(1).to(torch.int32) if question.position == "mean" else sinks).unflatten(0, (-1, 2))
            values = (
                slots[index].masked_fill_(~real.reshape(*real.shape, *[1] * (slots.ndim - 1)), 0.0)
                if question.position == "all"
                else torch.stack([slots[i[used]].float().mean(0) for i, used in zip(index, counted & ~sinks, strict=True)])
            )
        else:
            values = slots[index[:, 0]]
        values = values.unflatten(0, (-1, variants))
        out[f"layer.{layer}"] = values.expand(-1, 2, *values.shape[2:]) if variants == 1 else values
    if reading.logp is not None:
        logp = reading.logp[torch.from_numpy(reading.asked[-len(items) :])]
        column = {token: k for k, token in enumerate(ids)}
        if answers is None:
            out[question.parts[-1]] = logp[:, [column[t] for t in question.tokens]]
        else:
            said = torch.tensor([[logp[i, [column[f[0]] for f in end]].logsumexp(0) for end in item] for i, item in enumerate(answers)])
            after = variants * len(items) if question.layers else 0
            for n, ((i, e, k), _) in enumerate(further(items, answers)):
                said[i, e] += reading.logp[reading.asked[after + n], column[answers[i][e][0][k]]]
            out[question.parts[-1]] = said
    return out


def _sinks(slots: Tensor, index: Tensor, among: Tensor, stream: Tensor | None, first: bool) -> Tensor:
    """Which tokens of each row are attention sinks in a layer, `row x position`."""
    norms = lengths(slots.flatten(1))[index]
    sinks = outliers(norms if stream is None else torch.maximum(norms, lengths(stream)), among)
    sinks[:, 0] |= among[:, 0] & first
    return sinks


def _stream(entering: Reading | None, k: int) -> Tensor | None:
    """The stream that enters the k-th layer, `row x position x d_model`."""
    return None if entering is None or entering.values is None else entering.values[:, k][_rectangle(entering.at)[0]]


def _rectangle(at: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
    """Slots of each row as a rectangle, `row x position`, and which of its entries are real."""
    width = max(map(len, at))
    real = np.arange(width) < np.array([[len(a)] for a in at])
    return torch.from_numpy(np.stack([np.pad(a, (0, width - len(a))) for a in at])), torch.from_numpy(real)


def _join(parts: list[Tensor]) -> Tensor:
    """Join blocks along items, the position axis (the third, if any) padded to the widest block."""
    if len(parts) == 1:
        return parts[0]
    width = max(p.shape[2] if p.ndim > 2 else 0 for p in parts)
    return torch.cat([torch.nn.functional.pad(p, (0, 0) * (p.ndim - 3) + (0, width - p.shape[2])) if p.ndim > 2 else p for p in parts])


def _not_finite(parts: dict[str, Tensor]) -> dict[int, list[Any]]:
    """Per item with NaN or infinity: how many there are, and the variant and part of the first."""
    ill: dict[int, list[Any]] = {}
    for name, value in parts.items():
        if name == "mask" or name.startswith("sinks.") or bool(torch.isfinite(value).all()):
            continue
        wrong = ~torch.isfinite(value)
        for item in wrong.flatten(1).any(1).nonzero().flatten().tolist():
            first = int(wrong[item].nonzero()[0][0])
            ill.setdefault(item, [0, first, name])[0] += int(wrong[item].sum())
    return ill


def summary(ill: Mapping[int, list[Any]]) -> dict[str, Any]:
    """Summarise NaN and infinity.

    Args:
        ill: By item, how many values are not finite, and the variant and part of the first (`read_items`).

    Returns:
        The whole `count`, and the first place: `item`, `variant`, `part`.
    """
    item = min(ill)
    _, variant, part = ill[item]
    return {"count": sum(n for n, _, _ in ill.values()), "item": item, "variant": variant, "part": part}


def refuse(ill: Mapping[int, list[Any]]) -> None:
    """Raise an error about NaN and infinity.

    Args:
        ill: As for `summary`.

    Raises:
        NotFinite: Always; the message says how many values and where.
    """
    bad = summary(ill)
    where = f"layer {bad['part'].partition('.')[2]}" if bad["part"].startswith("layer.") else "the log-probabilities"
    raise NotFinite(
        f"{bad['count']} activations are NaN or infinite, the first in item {bad['item']}, variant {bad['variant']}, {where}. "
        "Load the model with dtype='float32' or 'bfloat16', or pass on_nan='count'"
    )


def _cast(parts: dict[str, Tensor], question: Question, numbers: Sequence[int] | np.ndarray) -> dict[str, Tensor]:
    """Convert activations to the wanted dtype, and raise where a finite value becomes infinite."""
    out, count, first = {}, 0, ""
    for name, value in parts.items():
        if not name.startswith("layer."):
            out[name] = value.contiguous()
            continue
        out[name] = value.to(question.dtype).contiguous()
        if question.dtype == torch.float16:
            lost = ~torch.isfinite(out[name]) & torch.isfinite(value)
            count += int(lost.sum())
            if count and not first:
                item, variant = (int(i) for i in lost.nonzero()[0][:2])
                place = f"item {numbers[item]}, variant {variant}, layer {name.partition('.')[2]}"
                first = f"{place}, where the model has {float(value[lost][0]):.4g}"
    if count:
        raise Overflow(f"{count} activations do not fit float16 (largest 65504), the first in {first}. Use dtype='bfloat16' or 'float32'")
    return out
