"""What stands between the last block and the logits: a norm, the unembedding, a scale, a cap. All of it is measured.

    norm(x) = g (x - m) / sqrt(mean((x - m)^2) + eps) + b          m: the mean of x, or 0
    z       = s (W' norm(x) + c)
    logits  = z, or cap tanh(z / cap)

What a class is called says nothing here: a gain can be stored as it is or less 1, and a norm takes the mean away or not.
The module is asked, on probe vectors, and the result is compared with the model's own logits.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ..core.errors import BadInput, Disagrees
from ..core.seeds import torch_rng
from ..core.types import Float
from .checked import allowed_nats, apart
from .edits import Read
from .forward import run
from .hooks import edited
from .known import KNOWN, first_of, info, same_weights
from .reference import TAIL, Reference, scale_of
from .tokens import pad

CLOSE = 1e-4  # share of the largest value: in float32 rounding stays below
SIZES = (1e-2, 1.0, 1e2)  # root mean squares of the random vectors on which a norm is tried
LARGE, SMALL = 1e3, 1e-3  # sizes of probes: at the large one the epsilon has no part, at the small one it has


@dataclass(frozen=True, kw_only=True, eq=False)
class Readout:
    """The map from the last block's output to the logits, in float32 on the CPU.

    Attributes:
        weight: The unembedding W as it is, `d_model x vocabulary`.
        offset: Its bias c.
        gain, bias: Of the final norm, g and b.
        normed: Whether there is a norm; without one the stream is unembedded as it is.
        centred: Whether the norm takes the mean over `d_model` away.
        epsilon: What the norm adds to the mean square.
        scale: The factor s of the logits.
        cap: The size that no logit exceeds; `None` for no cap.
    """

    weight: Float[Tensor, "d_model vocabulary"]
    offset: Float[Tensor, " vocabulary"]
    gain: Float[Tensor, " d_model"]
    bias: Float[Tensor, " d_model"]
    normed: bool
    centred: bool
    epsilon: float
    scale: float
    cap: float | None

    def norm(self, x: Float[Tensor, "*row d_model"]) -> Float[Tensor, "*row d_model"]:
        """Return what the final norm makes of a stream."""
        y = x - x.mean(-1, keepdim=True) if self.centred else x
        size = (y.pow(2).mean(-1, keepdim=True) + self.epsilon).rsqrt() if self.normed else 1.0
        return y * size * self.gain.to(x) + self.bias.to(x)

    def logits(self, x: Float[Tensor, "*row d_model"]) -> Float[Tensor, "*row vocabulary"]:
        """Return the model's logits for an output of the last block: the logit lens.

        Args:
            x: Streams, in raw activation units.

        Returns:
            Logits, with the bias, the scale and the cap.
        """
        z = self.scale * (self.norm(x) @ self.weight.to(x) + self.offset.to(x))
        return z if self.cap is None else torch.tanh(z / self.cap) * self.cap

    @property
    def columns(self) -> Float[Tensor, "d_model vocabulary"]:
        """How the logits of tokens rise along the stream, up to the length of the stream.

        Returns:
            The unembedding with the norm's gain multiplied in. Where the norm takes the mean away, so do the columns.
        """
        out = self.weight * self.gain[:, None]
        out = out - out.mean(0) if self.centred else out
        return -out if self.scale < 0 else out


def unembedding(model: Any) -> Float[Tensor, "d_model vocabulary"]:
    """Return the unembedding with the gain of the final norm multiplied in, in float32 on the CPU.

    Args:
        model: What `load_model` returns.

    Returns:
        Column t says in which direction the stream raises token t's logit. The gain is measured on the module. Where the norm
        takes the mean over `d_model` away, each column has a mean of 0.

    Raises:
        BadInput: The model has no unembedding that can be read.
        Disagrees: Its logits are not what a norm and an unembedding give.
    """
    return readout(model).columns


@torch.no_grad()
def readout(model: Any) -> Readout:
    """Measure what a model does between its last block and its logits.

    Args:
        model: What `load_model` returns.

    Returns:
        The map, as the weights are now. The first time, and after weights have changed, it is compared with the model's own
        logits on a few tokens.

    Raises:
        BadInput: The model has no unembedding that can be read.
        Disagrees: The final norm is none that has a gain, or the map does not give the model's logits.
    """
    name, d = info(model).name, info(model).d_model
    head = getattr(getattr(model, "unembed", None), "W_U", None)
    if not isinstance(head, Tensor) or head.ndim != 2 or d not in head.shape:
        shape = f" ({tuple(head.shape)} for d_model {d})" if isinstance(head, Tensor) else ""
        raise BadInput(f"{name} has no unembedding that can be read{shape}")
    weight = head.detach().float().cpu()
    weight = weight if weight.shape[0] == d else weight.T
    offset = getattr(model.unembed, "b_U", None)
    offset = offset.detach().float().cpu() if isinstance(offset, Tensor) else torch.zeros(weight.shape[1])
    made = Readout(weight=weight, offset=offset, **_norm(model, name, d), scale=1.0, cap=_cap(model))
    return _compared(model, made, name)


def _cap(model: Any) -> float | None:
    config = getattr(getattr(model, "original_model", None), "config", None)
    config = model.cfg if config is None else config.get_text_config()
    found = next((c for c in ("final_logit_softcapping", "output_logits_soft_cap", "logits_soft_cap") if getattr(config, c, None)), None)
    cap = float(getattr(config, found)) if found else 0.0
    return cap if cap > 0 else None


def _norm(model: Any, name: str, d: int) -> dict[str, Any]:
    """Measure the final norm on probe vectors.

    Raises:
        Disagrees: It is no norm with a gain and a bias.
    """
    module = getattr(model, "ln_final", None)
    if info(model).processing == "none":  # elsewhere TransformerLens computes the norm itself
        module = getattr(module, "original_component", None)
    if module is None:
        return {"gain": torch.ones(d), "bias": torch.zeros(d), "normed": False, "centred": False, "epsilon": 0.0}
    ask = _in_float32(module)
    try:
        found = _measured(ask, d)
        draw = torch_rng(0, "final norm")
        x = torch.cat([s * (torch.randn(8, d, generator=draw) + torch.randn(8, 1, generator=draw)) for s in SIZES])
        want = ask(x)
    except Exception as error:
        raise Disagrees(f"{name}: its final norm ({type(module).__name__}) fails on probe vectors ({type(error).__name__})") from error
    got = Readout(weight=torch.zeros(d, 1), offset=torch.zeros(1), scale=1.0, cap=None, **found).norm(x)
    off = apart(got, want)
    if not off <= CLOSE:
        raise Disagrees(
            f"{name}: its final norm ({type(module).__name__}) has no gain: a gain, a bias and a root mean square miss what it gives for "
            f"random vectors by {off:.1e} of the largest value. Its unembedding cannot be read along the stream"
        )
    return found


def _measured(ask: Callable[[Tensor], Tensor], d: int) -> dict[str, Any]:
    """The gain, the bias and the other facts of a norm, as it answers to probes whose mean is 0."""
    signs = torch.ones(2, d)
    signs[:, 1::2] = -1.0
    if d % 2:  # one entry is 0, another one in each probe
        signs[0, -1] = signs[1, 0] = 0.0
    square = signs.pow(2).mean(1, keepdim=True)

    def odd(size: float) -> Tensor:
        return (ask(signs * size) - ask(signs * -size)) / 2

    bias = (ask(signs) + ask(-signs)).mean(0) / 2
    large = odd(LARGE)
    normed = apart(odd(2 * LARGE), 2 * large) > CLOSE
    along = large * (square.sqrt() if normed else 1 / LARGE) * signs  # the gain, or 0
    gain = torch.where(signs[0] != 0, along[0], along[1])
    shifted = ask(signs * LARGE + 3 * LARGE) - bias
    epsilon = 0.0
    if normed:  # at a small size s the gain shrinks to g s / sqrt(s^2 + eps)
        line = signs * gain
        share = float((odd(SMALL) * line).sum() / line.pow(2).sum().clamp(min=1e-30))
        epsilon = max(0.0, SMALL**2 / share**2 - SMALL**2 * float(square[0])) if share > 0 else 0.0
    return {"gain": gain, "bias": bias, "normed": normed, "centred": apart(shifted, large) <= CLOSE, "epsilon": epsilon}


def _in_float32(module: nn.Module) -> Callable[[Tensor], Tensor]:
    """The module's function in float32, without the hooks that hang on it."""
    twin = copy.copy(module)
    for kind in ("_parameters", "_buffers"):
        held: dict[str, Any] = getattr(module, kind)
        setattr(twin, kind, {k: t.detach().float() if isinstance(t, Tensor) and t.is_floating_point() else t for k, t in held.items()})
    device = next((t.device for t in (*module.parameters(), *module.buffers())), torch.device("cpu"))
    return lambda x: twin.forward(x[None].to(device))[0].float().cpu()


def _compared(model: Any, made: Readout, name: str) -> Readout:
    """Compare a readout with the model's own logits, and add the scale of these."""
    reference = KNOWN[model].reference
    if isinstance(reference, Reference) and same_weights(model):
        made = replace(made, scale=reference.scale)
        states = torch.cat([s[-1][-TAIL:] for s in reference.stream])
        got, want = reference.log_softmax(made.logits(states)), torch.cat(reference.logp)
    else:
        states, logits = _tried(model)
        made = replace(made, scale=scale_of(replace(made, cap=None).logits(states), logits, made.cap))
        got, want = made.logits(states).log_softmax(-1), logits.log_softmax(-1)
    off = float((got - want).abs().max())
    if not off <= allowed_nats(model):
        raise Disagrees(
            f"{name}: its final norm and its unembedding{', with its cap,' if made.cap else ''} do not give its logits (log-probabilities "
            f"are off by {off:.1e} nats). The unembedding cannot be read along the stream"
        )
    return made


def _tried(model: Any) -> tuple[Tensor, Tensor]:
    """The last block's output and the logits of a few tokens, in float32 on the CPU."""
    kept: list[Tensor] = []
    row = [*first_of(model), *torch.randint(int(model.cfg.d_vocab), (12,), generator=torch_rng(0, "readout")).tolist()]
    with edited(model, Read(site="resid_post", layer=-1, function=kept.append)):
        logits = run(model, pad(model, [row]))
    return kept[-1][0].float().cpu(), logits[0].float().cpu()
