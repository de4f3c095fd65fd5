"""A hash of a model's weights: of their whole content where a result is keyed, of a part of it between two passes."""

from __future__ import annotations

import hashlib
import json
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from xxhash import xxh3_64_digest, xxh3_64_intdigest, xxh3_128

from ..core.types import Int, Tensor
from .owner import require_weights

WHOLE = 2**18  # bytes of a tensor up to which `weights_state` hashes all of it; of a larger one it hashes a band
BAND = 64  # bytes of each row in a band: what memory is read in
WORDS = 2**22  # words of a tensor on a GPU that are folded at a time
REMEMBERED = 64  # digests kept of one model, so that weights that are changed and restored are not hashed anew


@dataclass
class _Seen:
    """What is kept of one model.

    Attributes:
        others: A hash of each buffer and the like, as it was first seen.
        whole: The last hash of all content.
        digests: Digests by such hashes.
    """

    others: dict[str, bytes]
    whole: bytes = b""
    digests: dict[bytes, str] = field(default_factory=dict)


_SEEN: weakref.WeakKeyDictionary[Any, _Seen] = weakref.WeakKeyDictionary()
_SETTLED: ContextVar[dict[tuple[int, str], tuple[tuple[int, ...], Any]] | None] = ContextVar("workbench_settled", default=None)


def weights_state(model: Any) -> tuple[int, ...]:
    """Return numbers that change when a parameter, a buffer or the configuration does; cheap, and good within one process only.

    Note:
        torch counts in-place changes, but not those through `.data`. Of these, each one shows in a tensor of up to 256 KB. Of a larger
        tensor 64 bytes of each row are compared, which together cross every column: rows, columns or matrices that are exchanged
        show, another value at a single place may not. `weights_digest` finds that too, and the state is another from then on.
    """
    return _once(model, "state", _state)


def weights_digest(model: Any) -> str:
    """Return a hash (16 hex digits) over the configuration and every parameter's shape, dtype and bytes.

    All content is read at each call (about a tenth of a second per gigabyte on a CPU), except inside `settled`. A buffer counts where it
    is other than when the model was first seen.

    Raises:
        ModelInUse: Another thread has changed the weights for a while.
    """
    return _once(model, "digest", _digest)


@contextmanager
def settled() -> Iterator[None]:
    """Read a model's whole content once inside the block, for work in which nothing but torch's own operations changes weights."""
    token = _SETTLED.set({} if _SETTLED.get() is None else _SETTLED.get())
    try:
        yield
    finally:
        _SETTLED.reset(token)


def _once(model: Any, what: str, make: Callable[[Any, list[Tensor], dict[str, Tensor], tuple[int, ...]], Any]) -> Any:
    """Make the state or the digest, or inside `settled` return the one that was made, where torch has written to no tensor since."""
    turn = require_weights(model)
    parameters, others = _tensors(model)
    written = _written([*parameters, *others.values()])
    made = _SETTLED.get()
    known = None if made is None else made.get((id(model), what))
    if known is not None and known[0] == written:
        return known[1]
    out = make(model, parameters, others, written)
    require_weights(model, turn)
    if made is not None:
        made[id(model), what] = written, out
    return out


def _state(model: Any, parameters: list[Tensor], others: dict[str, Tensor], written: tuple[int, ...]) -> tuple[int, ...]:
    tensors, config = [*parameters, *others.values()], _config(model)
    seen = _seen(model, others)
    seen.whole = seen.whole or _whole(tensors, config)
    samples = [t if t.numel() * t.element_size() <= WHOLE else _band(t) for t in _distinct(tensors)]
    return (*written, _hash(_on_cpu(samples), [_layout(tensors), config, seen.whole]))


def _digest(model: Any, parameters: list[Tensor], others: dict[str, Tensor], _: tuple[int, ...]) -> str:
    seen, config = _seen(model, others), _config(model)
    seen.whole = _whole([*parameters, *others.values()], config)
    if seen.whole not in seen.digests:
        if len(seen.digests) >= REMEMBERED:
            seen.digests.clear()
        now = {name: _small(tensor) for name, tensor in others.items()}
        changed = {name: now.get(name, b"") for name in sorted({*now, *seen.others}) if now.get(name) != seen.others.get(name)}
        seen.digests[seen.whole] = _sha256(parameters, changed, config)
    return seen.digests[seen.whole]


def _tensors(model: Any) -> tuple[list[Tensor], dict[str, Tensor]]:
    """Parameters, and what else there is by name: buffers, and parameters that the Bridge alone has.

    Rotary frequencies are left out where a model computes them anew for longer texts.
    """
    own = getattr(model, "original_model", None) or model
    rope = str(getattr(getattr(own, "config", None), "rope_parameters", None))
    grows = "'dynamic'" in rope or "'longrope'" in rope
    parameters: dict[int, Tensor] = {}
    others: dict[str, Tensor] = {}
    met: set[int] = set()
    for root in (own, model):
        waiting = [("", root)]
        while waiting:
            path, module = waiting.pop()
            if id(module) in met:
                continue
            met.add(id(module))
            for name, p in module._parameters.items():
                if p is not None and id(p) not in parameters and _real(p):
                    if root is own:
                        parameters[id(p)] = p
                    else:
                        others[f"{path}.{name}"] = p
            for name, b in module._buffers.items():
                if b is not None and _real(b) and not (grows and "inv_freq" in name):
                    others[f"{path}.{name}"] = b
            waiting += [(f"{path}.{name}", child) for name, child in reversed(module._modules.items()) if child is not None]
    return list(parameters.values()), others


def _real(tensor: Tensor) -> bool:
    return tensor.device.type != "meta" and tensor.numel() > 0


def _written(tensors: Sequence[Tensor]) -> tuple[int, ...]:
    """Which tensors these are, where they lie, and how often torch has written to them."""
    return tuple(x for t in tensors for x in (id(t), t.data_ptr(), 0 if t.is_inference() else t._version))


def _layout(tensors: Sequence[Tensor]) -> str:
    return str([(t.shape, t.stride(), t.dtype, t.device) for t in tensors])


def _distinct(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The tensors that hold all values, without views of them: TransformerLens keeps queries, keys and values as views of one matrix."""
    out: list[Tensor] = []
    taken: dict[int, list[tuple[int, int]]] = {}
    for t in sorted((t.detach() for t in tensors), key=lambda t: t.numel() * t.element_size(), reverse=True):
        t = t.permute(sorted(range(t.ndim), key=t.stride, reverse=True))  # as it lies in memory
        start, extent = t.data_ptr(), 1 + sum((n - 1) * step for n, step in zip(t.shape, t.stride(), strict=True))
        stop = start + extent * t.element_size()
        spans = taken.setdefault(t.untyped_storage().data_ptr(), [])
        if any(a <= start and stop <= b for a, b in spans):
            continue
        out.append(t)
        if t.is_contiguous():
            spans.append((start, stop))
    return out


def _seen(model: Any, others: dict[str, Tensor]) -> _Seen:
    seen = _SEEN.get(model)
    if seen is None:
        seen = _SEEN[model] = _Seen({name: _small(tensor) for name, tensor in others.items()})
    return seen


def _band(tensor: Tensor) -> Tensor:
    """A piece of each row of a matrix, which begins where that of the row before ended, and at the left again."""
    flat, columns = tensor.reshape(-1), tensor.shape[-1]
    rows = len(flat) // columns
    width = min(columns, max(BAND // tensor.element_size(), -(-columns // rows)))
    turn = -(-columns // width)  # rows until the band is at the left again
    turns = rows // turn - (columns % width > 0)  # where the last piece of a turn hangs over, it goes on in the next row
    pieces = flat.as_strided((max(turns, 0), turn, width), (turn * columns, columns + width, 1), flat.storage_offset())
    row = torch.arange(max(turns, 0) * turn, rows, device=flat.device)[:, None]
    rest = row * columns + (row * width + torch.arange(width, device=flat.device)) % columns
    return torch.cat([pieces.reshape(-1), flat[rest.reshape(-1)]])


def _whole(tensors: Sequence[Tensor], config: str) -> bytes:
    """A hash of all content, which depends on the device that holds it."""
    distinct = _distinct(tensors)
    sums = [x for t in distinct if t.device.type == "cuda" for x in _folded(t)]
    here = [t for t in distinct if t.device.type != "cuda"] + ([torch.stack([s.to(sums[0].device) for s in sums])] if sums else [])
    return _hash(here, [_layout(tensors), config]).to_bytes(8, "big")


def _folded(tensor: Tensor) -> list[Tensor]:
    """Sums over the words of a tensor, modulo 2^64, on its device. Each word is mixed by keys of its place.

    A sum over products alone would miss two changed signs: the highest bit of a word times any odd number is the highest bit.
    """
    raw = tensor.reshape(-1).view(torch.uint8)
    whole = len(raw) // 8 * 8
    words = raw[:whole].clone().view(torch.int64) if tensor.storage_offset() % 8 else raw[:whole].view(torch.int64)
    total = torch.zeros((), dtype=torch.int64, device=tensor.device)
    for part in words.split(WORDS):
        first, second = (key[: len(part)] for key in _keys(str(tensor.device)))
        mixed = part * first
        total = total * 6364136223846793005 + ((mixed ^ (mixed >> 29)) * second).sum()
    return [total, *raw[whole:].to(torch.int64)]


@cache
def _keys(device: str) -> Int[Tensor, "key word"]:
    draw = torch.Generator().manual_seed(0)
    return (torch.randint(-(2**62), 2**62, (2, WORDS), generator=draw) * 2 + 1).to(device)


def _on_cpu(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The tensors, with one transfer for all that lie on one device."""
    out: list[Tensor] = []
    for device in sorted({str(t.device) for t in tensors}):
        there = [t for t in tensors if str(t.device) == device]
        out += there if device == "cpu" else [torch.cat([t.reshape(-1).view(torch.uint8) for t in there]).cpu()]
    return out


def _hash(tensors: Sequence[Tensor], rest: Sequence[str | bytes]) -> int:
    out = xxh3_128()
    for tensor in tensors:
        out.update(_bytes(tensor))
    return xxh3_64_intdigest(out.digest() + b"\0".join(r.encode() if isinstance(r, str) else r for r in rest))


def _small(tensor: Tensor) -> bytes:
    return xxh3_64_digest(_bytes(tensor.detach())) + f"{tuple(tensor.shape)} {tensor.dtype}".encode()


def _bytes(tensor: Tensor) -> Any:
    return tensor.reshape(-1).view(torch.uint8).cpu().numpy()


def _sha256(parameters: Sequence[Tensor], changed: dict[str, bytes], config: str) -> str:
    """The digest that is written into records: the same in every process and on every device."""
    digest = hashlib.sha256(config.encode())
    met: dict[int, int] = {}  # values that were hashed, by where they are stored
    starts: set[int] = set()
    for p in parameters:
        storage = p.untyped_storage().data_ptr()
        if p.data_ptr() in starts and met[storage] >= p.numel():  # tied weights, and views of one storage that cover it
            continue
        starts.add(p.data_ptr())
        met[storage] = met.get(storage, 0) + p.numel()
        digest.update(f"{tuple(p.shape)} {p.dtype}".encode())
        digest.update(_bytes(p.detach()).tobytes())
    for name, content in changed.items():
        digest.update(name.encode() + content)
    return digest.hexdigest()[:16]


def _config(model: Any) -> str:
    """What else decides the output: window, rotary base, epsilon, …; not where it was loaded from or by which version."""
    config = getattr(getattr(model, "original_model", None), "config", None)
    if config is None:
        return ""
    left_out = ("_name_or_path", "transformers_version", "architectures", "dtype", "torch_dtype", "use_cache", "output_attentions")
    return json.dumps({k: v for k, v in config.to_dict().items() if k not in left_out}, sort_keys=True, default=str)
