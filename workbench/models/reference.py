"""What Hugging Face's untouched model gives on a few short rows. Every other way to run the model is compared with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..core.seeds import numpy_rng
from ..core.types import Float, Int, Tensor

LENGTHS = (40, 28, 21)  # long enough that kept prefixes, windows of a tiny model and both padding sides are tried
SHARED = (0, 6, 12)  # leading tokens that a row shares with the row before it
TAIL = 4  # tokens at the end of each row after which logits are compared
SAMPLE = 512  # tokens of the vocabulary whose log-probabilities are compared


@dataclass(frozen=True, kw_only=True)
class Reference:
    """The numbers of Hugging Face's own forward pass, each row alone and without padding.

    Attributes:
        rows: Rows of ids that share prefixes.
        stream: Per row the input of every block and the output of the last one, `layer + 1 x token x d_model`.
        sample: Tokens of the vocabulary whose log-probabilities are kept.
        logp: Per row the log-probabilities of the sample after the last `TAIL` tokens, `token x sample`.
        vector: A vector as long as the stream's median token, for edits.
        entered, left: Per block that stands for its kind, the log-probabilities of the first row with the vector added to
            the block's input, and to its output.
        patterns: Per block, the attention pattern of the first row, `head x query x key`; empty where there is none.
        scale: The factor between what the unembedding gives and the logits (before a cap), as measured.
        floor: How far rounding alone moves the numbers, as a share of the largest value: the change when noise of the dtype's
            precision is put on every block's input.
        floor_nats: The same of log-probabilities, in nats.
    """

    rows: tuple[tuple[int, ...], ...]
    stream: tuple[Float[Tensor, "depth _token d_model"], ...]
    sample: Int[Tensor, " sample"]
    logp: tuple[Float[Tensor, "tail sample"], ...]
    vector: Float[Tensor, " d_model"]
    entered: dict[int, Float[Tensor, "tail sample"]]
    left: dict[int, Float[Tensor, "tail sample"]]
    patterns: dict[int, Float[Tensor, "head query key"]]
    scale: float
    floor: float
    floor_nats: float

    def log_softmax(self, logits: Float[Tensor, "*row vocabulary"]) -> Float[Tensor, "*row sample"]:
        """Return the log-probabilities of the sampled tokens, in float32 on the CPU."""
        logits = logits.float()
        return (logits[..., self.sample.to(logits.device)] - logits.logsumexp(-1, keepdim=True)).cpu()


def blocks(hf: Any) -> nn.ModuleList:
    """Return the blocks of a Hugging Face model.

    Args:
        hf: A causal language model that nothing has been attached to.

    Raises:
        LookupError: No list of modules is as long as the configuration says.
    """
    count = hf.config.get_text_config().num_hidden_layers
    for module in hf.modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return module
    raise LookupError(f"no list of {count} blocks")


def rows_for(vocabulary: int, context: int, first: tuple[int, ...], special: set[int]) -> tuple[tuple[int, ...], ...]:
    """Draw the rows of the comparison: ordinary tokens, with shared prefixes, each begun as prompts are."""
    draw = numpy_rng(0, "reference")
    plain = [i for i in range(vocabulary) if i not in special] or list(range(vocabulary))
    out: list[list[int]] = []
    for length, shared in zip(LENGTHS, SHARED, strict=True):
        fresh = [plain[i] for i in draw.integers(0, len(plain), length)]
        row = [*(out[-1][:shared] if out else first), *fresh]
        out.append(row[: min(length, context)])
    return tuple(tuple(row) for row in out)


@torch.no_grad()
def refer(hf: Any, *, first: tuple[int, ...], special: set[int]) -> Reference | str:
    """Run the comparison rows through a Hugging Face model.

    Args:
        hf: A causal language model that TransformerLens has not booted yet; it is not changed.
        first: Ids in front of every prompt.
        special: Ids that are no ordinary text.

    Returns:
        The reference, or why there is none.
    """
    text = hf.config.get_text_config()
    was = hf.training
    hf.eval()
    try:
        return refer_to(hf, rows_for(text.vocab_size, getattr(text, "max_position_embeddings", None) or 256, first, special))
    except Exception as error:
        return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:160]}"
    finally:
        hf.train(was)


@torch.no_grad()
def refer_to(hf: Any, rows: tuple[tuple[int, ...], ...]) -> Reference:
    """Run given rows through a Hugging Face model, each alone and without padding.

    Args:
        hf: A causal language model; it is not changed.
        rows: Rows of ids.

    Returns:
        The reference.

    Raises:
        LookupError: The model does not give the input of every block.
    """
    layers, device, text = blocks(hf), next(hf.parameters()).device, hf.config.get_text_config()
    draw = torch.Generator().manual_seed(0)
    size = int(hf.get_output_embeddings().weight.shape[0])
    sample = torch.randperm(size, generator=draw)[:SAMPLE].sort().values
    streams, logps, patterns, scale = [], [], {}, 1.0

    def tail(logits: Tensor) -> Tensor:
        logits = logits[-TAIL:].float()
        return (logits[:, sample.to(device)] - logits.logsumexp(-1, keepdim=True)).cpu()

    for row in rows:
        last: list[Tensor] = []
        raw: list[Tensor] = []
        with (
            hooked(layers[-1].register_forward_hook(lambda m, a, out, last=last: last.append(stream_of(out)))),
            hooked(hf.get_output_embeddings().register_forward_hook(lambda m, a, out, raw=raw: raw.append(out))),
        ):
            out = hf(torch.tensor([row], device=device), output_hidden_states=True, output_attentions=not patterns, use_cache=False)
        states = [*out.hidden_states[: len(layers)], last[0]]
        if len(out.hidden_states) != len(layers) + 1 or any(s.ndim != 3 for s in states):
            raise LookupError(f"{len(out.hidden_states)} hidden states of {len(layers)} blocks")
        streams.append(torch.stack([s[0].float().cpu() for s in states]))
        logps.append(tail(out.logits[0]))
        scale = scale_of(raw[0][0, -1], out.logits[0, -1], getattr(text, "final_logit_softcapping", None))
        if not patterns and getattr(out, "attentions", None) and len(out.attentions) == len(layers):
            patterns = {k: a[0].float().cpu() for k, a in enumerate(out.attentions) if a is not None}
    vector = torch.randn(streams[0].shape[-1], generator=draw)
    vector = vector / vector.norm() * streams[0].flatten(0, 1).norm(dim=-1).median()
    entered: dict[int, Tensor] = {}
    left: dict[int, Tensor] = {}
    for layer in kinds(hf.config, len(layers)):
        enters = layers[layer].register_forward_pre_hook(pushed_in(vector), with_kwargs=True)
        with hooked(enters):
            entered[layer] = tail(hf(torch.tensor([rows[0]], device=device), use_cache=False).logits[0])
        leaves = layers[layer].register_forward_hook(lambda m, a, out: added(out, vector))
        with hooked(leaves):
            left[layer] = tail(hf(torch.tensor([rows[0]], device=device), use_cache=False).logits[0])
    noisy: list[Tensor] = []
    with ExitStack() as stack:
        stack.enter_context(hooked(layers[-1].register_forward_hook(lambda m, a, out: noisy.append(stream_of(out)))))
        for block in layers:
            stack.enter_context(hooked(block.register_forward_pre_hook(_rounded(draw), with_kwargs=True)))
        out = hf(torch.tensor([rows[0]], device=device), use_cache=False)
    moved = (noisy[0][0].float().cpu() - streams[0][-1]).abs().max() / streams[0][-1].abs().max().clamp(min=1e-12)
    nats = float((tail(out.logits[0]) - logps[0]).abs().max())
    return Reference(
        rows=rows, stream=tuple(streams), sample=sample, logp=tuple(logps), vector=vector, entered=entered, left=left,
        patterns=patterns, scale=scale, floor=float(moved), floor_nats=nats,
    )  # fmt: skip


def scale_of(raw: Tensor, logits: Tensor, cap: float | None) -> float:
    """Return the factor by which a model multiplies what its unembedding gives, by least squares."""
    raw, logits = raw.double(), logits.double()
    before = torch.atanh((logits / cap).clamp(-0.999, 0.999)) * cap if cap else logits
    steep = before.abs() < 2 * cap if cap else torch.ones_like(before, dtype=torch.bool)  # where a cap is flat it cannot be undone
    scale = float((raw * before)[steep].sum() / (raw * raw)[steep].sum().clamp(min=1e-30))
    return 1.0 if abs(scale - 1) < 1e-3 else scale


def kinds(config: Any, count: int) -> list[int]:
    """Return the blocks at which edits are tried: the middle one, and the first of each kind that the configuration names."""
    types = list(getattr(config.get_text_config(), "layer_types", None) or [])[:count]
    return sorted({types.index(kind) for kind in types} | {count // 2})


@contextmanager
def hooked(handle: Any) -> Iterator[None]:
    """Remove a hook at the end of the block."""
    try:
        yield
    finally:
        handle.remove()


def stream_of(out: Any) -> Tensor:
    """Return the stream among what a block of Hugging Face returns."""
    return out if isinstance(out, Tensor) else out[0]


def added(out: Any, vector: Tensor) -> Any:
    """Add a vector to every token of what a block returns."""
    stream = stream_of(out)
    changed = stream + vector.to(stream)
    return changed if isinstance(out, Tensor) else (changed, *out[1:])


def _rounded(draw: torch.Generator) -> Callable[..., Any]:
    """Return a hook that puts noise of the dtype's precision on what a block takes in."""

    def move(x: Tensor) -> Tensor:
        noise = torch.rand(x.shape, generator=draw).to(x.device) * 2 - 1
        return (x.float() * (1 + torch.finfo(x.dtype).eps * noise)).to(x.dtype)

    def hook(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if args:
            return (move(args[0]), *args[1:]), kwargs
        return args, kwargs | {"hidden_states": move(kwargs["hidden_states"])}

    return hook


def pushed_in(vector: Tensor) -> Callable[..., Any]:
    """Return a hook that adds a vector to every token of what a block takes in."""

    def push(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if args:
            return (args[0] + vector.to(args[0]), *args[1:]), kwargs
        return args, kwargs | {"hidden_states": kwargs["hidden_states"] + vector.to(kwargs["hidden_states"])}

    return push
