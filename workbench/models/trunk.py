"""A second shell around a model's own weights, in which the engine runs packed tries.

TransformerLens replaces a Hugging Face model's modules when it boots, and forces the slow attention. Before that
happens, the model's structure is copied here; every parameter and buffer stays the one tensor that both share. Edits
on the Bridge do not reach this shell: `usable` says when it must not be read.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.activations import NewGELUActivation

from ..core.errors import HookNotFired
from .attention import CURRENT, NAME, Kept, Pass, trie_attention
from .hooks import hook_point
from .taps import Tap, tapped

AttentionInterface.register(NAME, trie_attention)


class Trunk:
    """The shell: the same weights, attention over packed tries, stops where nobody reads further.

    Attributes:
        why_not: Why this architecture cannot be read so, or "".
    """

    def __init__(self, hf: Any) -> None:
        """Copy the structure of a Hugging Face model that TransformerLens has not touched yet."""
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
                # the same function in one pass over memory instead of eight
                if isinstance(child, NewGELUActivation):
                    setattr(module, name, nn.GELU(approximate="tanh"))

    def to(self, device: Any) -> None:
        """Follow the model to a device: parameters are shared and are there already, buffers are not."""
        self.shell.to(device)

    def tap(self, model: Any, site: str, layer: int, function: Callable[[Tensor], object]) -> Tap | None:
        """Return where the shell has a site of the Bridge, `None` where it cannot be found."""
        point = hook_point(model, site, layer)
        inside = {id(m): name for name, m in model.original_model.named_modules()}
        for component in model.modules():
            for side in ("hook_in", "hook_out"):
                if getattr(component, side, None) is point and id(component) in inside:
                    module = self._find(inside[id(component)], str(getattr(component, "name", "") or ""))
                    if module is None:
                        return None
                    heads = int(model.cfg.n_heads) if site == "z" else None
                    return Tap(module=module, entry=side == "hook_in", function=_by_head(function, heads))
        return None

    def _find(self, path: str, own: str) -> nn.Module | None:
        """Find a Bridge component's counterpart: its path without the wrappers, or under its Hugging Face name."""
        parts = [p for p in path.split(".") if p != "_original_component"]
        for names in (parts, [*parts[:-1], own.split(".")[-1]]):
            try:
                return self.shell.get_submodule(".".join(names))
            except AttributeError:
                continue
        return None

    @torch.no_grad()
    def run(self, now: Pass, kept: Kept, taps: Sequence[Tap], *, hidden: bool) -> Tensor | None:
        """Run one packed pass.

        Args:
            now: The pass.
            kept: Prefixes that earlier passes kept; this one's are added, and dropped ones let go.
            taps: Readings; each must fire once.
            hidden: Go to the end and return what the unembedding reads, `token x d_model`; otherwise stop after the last
                reading.
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
    def logits(self, hidden: Tensor) -> Tensor:
        """Unembed, `row x d_model` to `row x vocabulary`, in float32."""
        logits = self.shell.get_output_embeddings()(hidden).float()
        cap = getattr(self.shell.config, "final_logit_softcapping", None)
        return logits if not cap else torch.tanh(logits / cap) * cap

    def check(self, kept: Kept, blocks: int) -> None:
        """See that the attention of the first blocks was the trie's, and knew of its window.

        Raises:
            HookNotFired: It was not: what came out is not to be used.
        """
        types = getattr(self.shell.config, "layer_types", None) or []
        if len(kept.windows) < blocks:
            raise HookNotFired(f"{len(kept.windows)} of {blocks} blocks used the attention that packed passes need")
        if any(kind == "sliding_attention" and kept.windows[i] is None for i, kind in enumerate(types) if i in kept.windows):
            raise HookNotFired("a block that looks through a window did not say so to its attention")


def _refuse(config: Any) -> str:
    """Name what a short trial would not show: masks that differ only beyond some length, positions that are not absolute."""
    text = getattr(config, "text_config", config)
    kinds = set(getattr(text, "layer_types", None) or []) - {"full_attention", "sliding_attention"}
    if kinds or getattr(text, "attention_chunk_size", None):
        return f"its blocks mix positions in another way than plain attention ({', '.join(sorted(kinds)) or 'chunked attention'})"
    rope = getattr(text, "rope_parameters", None) or getattr(text, "rope_scaling", None) or {}
    for one in (rope, *(r for r in rope.values() if isinstance(r, dict))):
        if one.get("rope_type") in ("dynamic", "longrope"):
            return f"its rotary embedding ({one['rope_type']}) depends on the length of the whole batch"
    if getattr(text, "is_encoder_decoder", False):
        return "it is an encoder and a decoder"
    return ""


def _by_head(function: Callable[[Tensor], object], heads: int | None) -> Callable[[Tensor], object]:
    if heads is None:
        return function
    return lambda value: function(value.unflatten(-1, (heads, -1)))
