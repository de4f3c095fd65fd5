"""A second shell around a model's own weights, in which the engine runs packed tries.

When TransformerLens boots, it replaces the modules of the Hugging Face model and forces eager attention. Before that, the
structure of the model is copied here. Every parameter and buffer stays one tensor that both share. Edits on the Bridge do
not reach this shell; `known.trunk_of` says when it must not be read.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from transformers import AttentionInterface
from transformers.activations import NewGELUActivation

from ..core.errors import HookNotFired
from ..core.types import Float, Tensor
from .attention import CURRENT, NAME, Kept, Pass, trie_attention
from .hooks import hook_point
from .taps import Tap, tapped

AttentionInterface.register(NAME, trie_attention)


class Trunk:
    """The shell: the same weights, attention over packed tries, and passes that stop after the last reading.

    Attributes:
        why_not: Why this architecture cannot be read in the shell, or "".
        scale: The factor between what the unembedding gives and the logits.
    """

    def __init__(self, hf: Any) -> None:
        """Copy the structure of a Hugging Face model that TransformerLens has not touched yet."""
        self.scale = 1.0
        self.places: dict[Any, tuple[nn.Module | None, bool]] = {}
        shared = {id(t): t for t in (*hf.parameters(), *hf.buffers())}
        self.shell = copy.deepcopy(hf, shared).eval()
        self.why_not = _refuse(self.shell.config)
        if self.why_not:
            return
        try:
            self.shell.set_attn_implementation(NAME)
        except Exception as error:
            self.why_not = f"its attention cannot be exchanged ({str(error).splitlines()[0][:120]})"
        for module in list(self.shell.modules()):
            for name, child in list(module.named_children()):
                # the same function, in one pass over memory instead of eight
                if isinstance(child, NewGELUActivation):
                    setattr(module, name, nn.GELU(approximate="tanh"))

    def to(self, device: Any) -> None:
        """Move the shell to the model's device. The shared parameters are there already; the buffers are not."""
        self.shell.to(device)

    def widened(self) -> tuple[Trunk, nn.Module]:
        """Return the trunk of a copy in float32, and such a copy with the plain attention; both in memory of their own."""
        wide = copy.copy(self)
        wide.shell = copy.deepcopy(self.shell).float()
        wide.places = {}
        plain = copy.deepcopy(wide.shell, {id(t): t for t in (*wide.shell.parameters(), *wide.shell.buffers())})
        plain.set_attn_implementation("eager")
        return wide, plain

    def tap(self, model: Any, site: str, layer: int, function: Callable[[Float[Tensor, "1 token *width"]], object]) -> Tap | None:
        """Make a reading at the place in the shell that corresponds to a site of the Bridge.

        Args:
            model: The Bridge around the same weights.
            site: One of `SITES`.
            layer: The block, counted from 0.
            function: Receives the activations; `z` has the axes head and d_head.

        Returns:
            The reading; `None` where the shell has no such place.
        """
        point = hook_point(model, site, layer)
        if point not in self.places:
            self.places = self._places(model)
        module, entry = self.places.get(point, (None, False))
        if module is None:
            return None
        return Tap(module=module, entry=entry, function=_by_head(function, int(model.cfg.n_heads) if site == "z" else None))

    def _places(self, model: Any) -> dict[Any, tuple[nn.Module | None, bool]]:
        """By hook point of the Bridge: the module of the shell that corresponds to it, and whether the point lies at its entry."""
        inside = {id(m): name for name, m in model.original_model.named_modules()}
        places: dict[Any, tuple[nn.Module | None, bool]] = {}
        for component in model.modules():
            if id(component) in inside:
                module = self._find(inside[id(component)], str(getattr(component, "name", "") or ""))
                for side in ("hook_in", "hook_out"):
                    places.setdefault(getattr(component, side, None), (module, side == "hook_in"))
        return places

    def _find(self, path: str, own: str) -> nn.Module | None:
        """Find the counterpart of a Bridge component: at its path without the wrappers, or under its Hugging Face name."""
        parts = [p for p in path.split(".") if p != "_original_component"]
        for names in (parts, [*parts[:-1], own.split(".")[-1]]):
            try:
                return self.shell.get_submodule(".".join(names))
            except AttributeError:
                continue
        return None

    @torch.no_grad()
    def run(self, now: Pass, kept: Kept, taps: Sequence[Tap], *, hidden: bool) -> Float[Tensor, "token d_model"] | None:
        """Run one packed pass.

        Args:
            now: The pass.
            kept: Keys and values of the prefixes of earlier passes. The prefixes of this pass are added, and those that no
                later pass needs are dropped.
            taps: Readings; each must fire once.
            hidden: Compute all blocks and return the input of the unembedding; otherwise stop after the last reading.

        Returns:
            The input of the unembedding (after the final norm) for each token of the packed row; `None` without `hidden`.

        Raises:
            HookNotFired: A reading did not fire exactly once.
        """
        kept.now = now
        token = CURRENT.set(kept)
        device = next(self.shell.parameters()).device
        ids = now.ids[None].to(device)
        try:
            with tapped(taps, stop=not hidden) as done:
                out = None
                with done:
                    base = getattr(self.shell, self.shell.base_model_prefix)
                    out = base(
                        input_ids=ids, attention_mask=torch.ones_like(ids), position_ids=now.positions[None].to(device), use_cache=False
                    )
        finally:
            CURRENT.reset(token)
            kept.now = None
        kept.forget(now.drop)
        return out.last_hidden_state[0] if hidden and out is not None else None

    @torch.no_grad()
    def logits(self, hidden: Float[Tensor, "row d_model"]) -> Float[Tensor, "row vocabulary"]:
        """Unembed, with the model's own scale of its logits, and its cap where it has one.

        Args:
            hidden: The input of the unembedding, as `run` returns it.

        Returns:
            Logits in float32.
        """
        return unembed(self.shell, self.scale, hidden)

    def check(self, kept: Kept, blocks: int) -> None:
        """Check that the first blocks used the attention of packed tries, each with its sliding window.

        Args:
            kept: As the passes left it.
            blocks: Number of blocks that must have run.

        Raises:
            HookNotFired: A block did not; the readings of these passes are wrong.
        """
        types = getattr(self.shell.config, "layer_types", None) or []
        if len(kept.windows) < blocks:
            raise HookNotFired(f"{len(kept.windows)} of {blocks} blocks used the attention that packed passes need")
        if any(kind == "sliding_attention" and kept.windows[i] is None for i, kind in enumerate(types) if i in kept.windows):
            raise HookNotFired("a block that looks through a window did not say so to its attention")


def unembed(shell: Any, scale: float, hidden: Float[Tensor, "row d_model"]) -> Float[Tensor, "row vocabulary"]:
    """Unembed with gradients, with a model's own scale of its logits, and its cap where it has one; in float32."""
    logits = shell.get_output_embeddings()(hidden).float()
    logits = logits if scale == 1.0 else logits * scale
    cap = getattr(shell.config, "final_logit_softcapping", None)
    return logits if not cap else torch.tanh(logits / cap) * cap


def _refuse(config: Any) -> str:
    """Return why a configuration is refused, for faults that a trial on short prompts would not show ("" for none).

    Such faults are masks that differ only beyond some length, and positions that depend on the whole batch.
    """
    text = getattr(config, "text_config", config)
    kinds = set(getattr(text, "layer_types", None) or []) - {"full_attention", "sliding_attention"}
    if kinds or getattr(text, "attention_chunk_size", None):
        return f"its blocks mix positions in another way than plain attention ({', '.join(sorted(kinds)) or 'chunked attention'})"
    rope = getattr(text, "rope_parameters", None) or getattr(text, "rope_scaling", None) or {}
    for rule in (rope, *(r for r in rope.values() if isinstance(r, dict))):
        if rule.get("rope_type") in ("dynamic", "longrope"):
            return f"its rotary embedding ({rule['rope_type']}) depends on the length of the whole batch"
    if getattr(text, "is_encoder_decoder", False):
        return "it is an encoder and a decoder"
    return ""


def _by_head(function: Callable[[Tensor], object], heads: int | None) -> Callable[[Tensor], object]:
    if heads is None:
        return function
    return lambda value: function(value.unflatten(-1, (heads, -1)))
