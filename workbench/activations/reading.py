"""From a question about contrast pairs to jobs for the engine, and from its readings back to items."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..core.errors import NotFinite, Overflow
from ..core.provenance import content_hash
from ..models.tokens import EncodedPair
from .engine import Engine, Job, Reading

POSITIONS = {
    "last": "last token of the continuation",
    "stem_last": "last token of the stem, where the answer is predicted",
    "instruction_last": "last token of the instruction",
    "mean": "mean over all tokens of the variant but the first special one",
    "all": "every token of the variant, padded on the right, with a mask",
}
SHARED = ("stem_last", "instruction_last")  # the same for both variants: nothing after the stem is read
BLOCK_BYTES = 256 * 2**20  # of single tokens held while averages or whole sequences of some items are put together


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked of every item.

    Attributes:
        position: One of `POSITIONS`.
        layers: Blocks.
        dtype: What readings are kept in.
        answers: Per item, the token ids that count as each ending, where their probabilities are wanted.
        tokens: Token ids whose probabilities are wanted, the same for every item.
    """

    position: str
    layers: list[int]
    dtype: torch.dtype = torch.float32
    answers: list[list[list[int]]] | None = None
    tokens: tuple[int, ...] = ()

    @property
    def ids(self) -> list[int]:
        """All tokens whose probabilities are needed."""
        return sorted({i for item in self.answers or () for form in item for i in form} | set(self.tokens))

    @property
    def parts(self) -> list[str]:
        """The names of what will be kept."""
        said = ["logp.answers"] if self.answers else [f"logp.{content_hash(self.tokens)}"] if self.tokens else []
        return [*(f"layer.{layer}" for layer in self.layers), *(["mask"] if self.position == "all" else []), *said]


def item_key(item: EncodedPair, position: str) -> str:
    """Return the hash of an item's ids and of where it is read: what the model sees, nothing else."""
    place = item.instruction if position == "instruction_last" else item.bos if position == "mean" else 0
    return content_hash(item.negative, item.positive, item.stem, place)


def read_items(
    reader: Engine,
    items: Sequence[EncodedPair],
    question: Question,
    *,
    on_nan: str = "raise",
    numbers: Sequence[int] | np.ndarray | None = None,
) -> tuple[dict[str, Tensor], dict[int, list[Any]]]:
    """Read items.

    Args:
        reader: The engine.
        items: What to read.
        question: What of it.
        on_nan: "raise" or "count".
        numbers: What to call the items in errors; by default from 0.

    Returns:
        The parts, each `item x …`; and what is not finite, per item: how many, and the variant and part of the first.

    Raises:
        NotFinite, Overflow: The message says how many and where.
    """
    numbers = range(len(items)) if numbers is None else numbers
    out: dict[str, list[Tensor]] = {}
    ids = question.ids
    for block in _blocks(reader, items, question):
        some = [items[i] for i in block]
        answers = None if question.answers is None else [question.answers[i] for i in block]
        for name, part in _assemble(reader.read(jobs(some, question), question.layers, ids), some, question, answers, ids).items():
            out.setdefault(name, []).append(part)
    whole = {name: _join(parts) for name, parts in out.items()}
    ill = {int(numbers[item]): found for item, found in _not_finite(whole).items()}
    if ill and on_nan == "raise":
        refuse(ill)
    return _cast(whole, question, numbers), ill


def jobs(items: Sequence[EncodedPair], question: Question) -> list[Job]:
    """Return what must be read of items: both variants (or the shared stem), then the stems whose answers are asked."""
    out = []
    whole = question.position in ("mean", "all")
    for x in items if question.layers else ():
        made = {"prompt": x.stem, "instruction": x.instruction}
        if question.position in SHARED:
            row = x.negative[: x.stem if question.position == "stem_last" else x.instruction]
            out.append(Job(ids=row, read=[len(row) - 1], **made))
        else:
            for row in (x.negative, x.positive):
                out.append(Job(ids=row, read=range(len(row)) if whole else [len(row) - 1], **made))
    if question.ids:
        # on the negative variant where it is read anyway: nothing after the stem reaches the stem
        alone = question.position in SHARED or not question.layers
        out += [
            Job(ids=x.negative[: x.stem] if alone else x.negative, ask=x.stem - 1, prompt=x.stem, instruction=x.instruction) for x in items
        ]
    return out


def _blocks(reader: Engine, items: Sequence[EncodedPair], question: Question) -> Iterator[range]:
    """Cut items into runs whose single tokens fit the memory set aside; at one token a variant, one run."""
    size = len(items)
    if question.layers and question.position in ("mean", "all"):
        token = len(question.layers) * int(reader.model.cfg.d_model) * 4
        longest = max(max(len(x.negative), len(x.positive)) for x in items)
        size = max(1, BLOCK_BYTES // (token * 2 * longest))
    for start in range(0, len(items), size):
        yield range(start, min(start + size, len(items)))


def _assemble(
    reading: Reading, items: Sequence[EncodedPair], question: Question, answers: list[list[list[int]]] | None, ids: list[int]
) -> dict[str, Tensor]:
    """Put slots together to items, still in the model's dtype."""
    out: dict[str, Tensor] = {}
    variants = 1 if question.position in SHARED else 2
    at = reading.at[: variants * len(items)]
    width = max(map(len, at), default=0)
    index = torch.from_numpy(np.stack([np.pad(a, (0, width - len(a))) for a in at])) if at else torch.empty(0)
    real = torch.from_numpy(np.arange(width) < np.array([[len(a)] for a in at])) if at else torch.empty(0)
    if question.layers and question.position == "all":
        out["mask"] = real.unflatten(0, (-1, 2))
    for k, layer in enumerate(question.layers):
        one = reading.values[:, k]  # pyright: ignore[reportOptionalSubscript]
        if question.position == "all":
            got = one[index].masked_fill_(~real.reshape(*real.shape, *[1] * (one.ndim - 1)), 0.0)
        elif question.position == "mean":
            # the first special token, where attention comes to rest, is left out
            skip = [x.bos for x in items for _ in range(2)]
            got = torch.stack([one[torch.from_numpy(a[s:])].float().mean(0) for a, s in zip(at, skip, strict=True)])
        else:
            got = one[index[:, 0]]
        got = got.unflatten(0, (-1, variants))
        out[f"layer.{layer}"] = got.expand(-1, 2, *got.shape[2:]) if variants == 1 else got
    if reading.logp is not None:
        logp = reading.logp[torch.from_numpy(reading.asked[-len(items) :])]
        column = {token: k for k, token in enumerate(ids)}
        if answers is None:
            out[question.parts[-1]] = logp[:, [column[t] for t in question.tokens]]
        else:
            forms = [[logp[i, [column[t] for t in form]].logsumexp(0) for form in item] for i, item in enumerate(answers)]
            out[question.parts[-1]] = torch.tensor(forms)
    return out


def _join(parts: list[Tensor]) -> Tensor:
    """Join along items; where there is a position axis (the third), to the widest."""
    if len(parts) == 1:
        return parts[0]
    width = max(p.shape[2] if p.ndim > 2 else 0 for p in parts)
    return torch.cat([torch.nn.functional.pad(p, (0, 0) * (p.ndim - 3) + (0, width - p.shape[2])) if p.ndim > 2 else p for p in parts])


def _not_finite(parts: dict[str, Tensor]) -> dict[int, list[Any]]:
    """Per item that is not finite: how many numbers, and the variant and part of the first."""
    ill: dict[int, list[Any]] = {}
    for name, value in parts.items():
        if name == "mask" or bool(torch.isfinite(value).all()):
            continue
        wrong = ~torch.isfinite(value)
        for item in wrong.flatten(1).any(1).nonzero().flatten().tolist():
            first = int(wrong[item].nonzero()[0][0])
            ill.setdefault(item, [0, first, name])[0] += int(wrong[item].sum())
    return ill


def summary(ill: Mapping[int, list[Any]]) -> dict[str, Any]:
    """Count what is not finite and place the first, by item."""
    item = min(ill)
    _, variant, part = ill[item]
    return {"count": sum(n for n, _, _ in ill.values()), "item": item, "variant": variant, "part": part}


def refuse(ill: Mapping[int, list[Any]]) -> None:
    """Raise for what is not finite.

    Raises:
        NotFinite: With its count and first place.
    """
    bad = summary(ill)
    where = f"layer {bad['part'].partition('.')[2]}" if bad["part"].startswith("layer.") else "the log-probabilities"
    raise NotFinite(
        f"{bad['count']} activations are NaN or infinite, the first in item {bad['item']}, variant {bad['variant']}, {where}. "
        "Load the model with dtype='float32' or 'bfloat16', or pass on_nan='count'"
    )


def _cast(parts: dict[str, Tensor], question: Question, numbers: Sequence[int] | np.ndarray) -> dict[str, Tensor]:
    """Convert to the dtype asked for and see that nothing is lost but digits."""
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
                first = f"item {numbers[item]}, variant {variant}, layer {name.partition('.')[2]}, where the model has {float(value[lost][0]):.4g}"
    if count:
        raise Overflow(f"{count} activations do not fit float16 (largest 65504), the first in {first}. Use dtype='bfloat16' or 'float32'")
    return out
