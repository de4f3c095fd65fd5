"""Forward passes with gradients, for training and for searches: from any block on, with changes after any block.

The pass runs in a copy of the engine's shell (`trunk`): the same parameters, modules of its own. So what a training attaches there
reaches no other pass over the model, and the model itself stays the frozen reference.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..core.errors import BadInput, Disagrees, UnknownSite, unknown
from ..core.types import Float, Int
from .attention import CURRENT
from .forward import run
from .hooks import active_edits, foreign_hooks
from .known import info, n_layers, trunk_of
from .tokens import pad
from .trees import Attending, Trees, plant
from .trunk import unembed

CLOSE = 2e-3  # of the largest logit, between this pass and the model's own; bfloat16 and float16 get twenty times that

Change = Callable[[Tensor, "Now"], Tensor]
SITES = ("resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post")  # at which a pass with gradients can be changed


@dataclass(kw_only=True)
class Now:
    """The pass in progress, as changes after a block see it.

    Attributes:
        trees: The rows.
        start: The first block that is computed.
        entering: The stream that enters it; `None` where the pass begins with the embeddings.
        last: The last block that is computed.
        read: Blocks whose output is kept.
        marks: What the caller gave for changes to use.
        streams: By block, its output after all changes, `tree x place x d_model`.
        carried: What was added in the middle of a block, which its output must have too: the stream bypasses the place of the change.
    """

    trees: Trees
    start: int = 0
    entering: Tensor | None = None
    last: int
    read: frozenset[int]
    marks: Any = None
    streams: dict[int, Tensor] = field(default_factory=dict)
    carried: dict[int, Tensor] = field(default_factory=dict)


class _Enough(Exception):
    """The last block that is wanted was computed."""


class Learner:
    """A model's own weights in modules of its own, through which gradients pass.

    Attributes:
        model: What `load_model` returned.
        shell: The copy of the Hugging Face model; parameters are shared until something is attached or replaced.
        blocks: By number, the path of each block in the shell.
        changes: By site and block, functions of the activations and of the pass in progress, in the order in which they act.
    """

    def __init__(self, model: Any) -> None:
        """Copy the structure of a model, and compare a pass with the model's own.

        Raises:
            BadInput: The architecture has no such pass, edits are active, or the weights are not the loaded ones.
            Disagrees: The pass gives other logits than the model.
        """
        if active_edits(model) or foreign_hooks(model):
            raise BadInput(f"edits are active on {info(model).name}: leave their block before training or searching with gradients")
        trunk = trunk_of(model)
        if isinstance(trunk, str):
            raise BadInput(f"{info(model).name} cannot be run with gradients: {trunk}")
        self.model = model
        shared = {id(t): t for t in (*trunk.shell.parameters(), *trunk.shell.buffers())}
        self.shell: Any = copy.deepcopy(trunk.shell, shared).eval()
        self.scale: float = trunk.scale
        self.changes: dict[tuple[str, int], list[Change]] = {}
        self.count = n_layers(model)
        self._trunk = trunk
        self._attached: set[tuple[str, int]] = set()
        self._now: Now | None = None
        self._tuples: dict[int, bool] = {}
        self._paths = {id(m): name for name, m in trunk.shell.named_modules()}
        self.blocks: dict[int, str] = {}
        for layer in range(self.count):
            block, entry = self._place("resid_post", layer)
            self.blocks[layer] = next(name for name, m in self.shell.named_modules() if m is block)
            if entry:
                raise BadInput(f"{info(model).name} cannot be run with gradients: its block {layer} was not found in Hugging Face's model")
            block.forward = functools.partial(self._block, layer, block.forward)
        self._check()

    def _place(self, site: str, layer: int) -> tuple[Any, bool]:
        """The module of the shell that corresponds to a site, and whether the site is its input."""
        tap = self._trunk.tap(self.model, site, layer, lambda _: None)
        if tap is None:
            raise BadInput(
                f"{info(self.model).name} cannot be changed at {site}[{layer}] in a pass with gradients: no such place was found"
            )
        return self.shell.get_submodule(self._paths[id(tap.module)]), tap.entry

    def change(self, site: str, layer: int, function: Change) -> None:
        """Let a function act on the activations at a site, in every pass from now on.

        Args:
            site: One of `SITES`.
            layer: The block, counted from 0.
            function: Maps the activations, `tree x place x d_model`, and the pass in progress to new activations.

        Raises:
            UnknownSite: There is no such site, or none that a pass with gradients can be changed at.
        """
        if site not in SITES:
            raise unknown(UnknownSite, "site", site, SITES)
        self.changes.setdefault((site, layer), []).append(function)
        if site in ("resid_pre", "resid_post") or (site, layer) in self._attached:
            return
        module, entry = self._place(site, layer)
        self._attached.add((site, layer))

        def before(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            if self._now is None:
                return None
            old = args[0] if args else kwargs["hidden_states"]
            new = self._changed(site, layer, old)
            if site == "resid_mid":
                self._now.carried[layer] = new - old
            return ((new, *args[1:]), kwargs) if args else (args, kwargs | {"hidden_states": new})

        def behind(_: Any, __: Any, out: Any) -> Any:
            if self._now is None:
                return None
            return (self._changed(site, layer, out[0]), *out[1:]) if isinstance(out, tuple) else self._changed(site, layer, out)

        if entry:
            module.register_forward_pre_hook(before, with_kwargs=True)
        else:
            module.register_forward_hook(behind)

    def _changed(self, site: str, layer: int, value: Tensor) -> Tensor:
        now = self._now
        assert now is not None
        for function in self.changes.get((site, layer), ()):
            value = function(value, now)
        return value

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.shell.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the model's weights."""
        return next(self.shell.parameters()).dtype

    def _check(self) -> None:
        first = list(info(self.model).first)
        size = len(self.model.tokenizer)
        rows = [[*first, *((7 * k * k + 31 * r + 11) % (size // 2) for k in range(6 + 2 * r))] for r in range(2)]
        rows.append([*rows[1][:-2], *rows[0][-3:]])
        trees = plant(rows)
        wanted = [(i, len(row) - 1) for i, row in enumerate(rows)]
        with torch.no_grad():
            got, _ = self.run(trees, ask=wanted)
            batch = pad(self.model, rows)
            want = run(self.model, batch, at=batch.mask.sum(1, keepdim=True) - 1)[:, 0].float()
        assert got is not None
        apart = float((got - want).abs().max() / want.abs().max().clamp(min=1e-12))
        most = CLOSE if self.dtype == torch.float32 else 20 * CLOSE
        if not apart <= most:
            raise Disagrees(
                f"{info(self.model).name}: the pass with gradients gives logits {apart:.1e} of the largest away from the model's own"
            )

    def embed(self, ids: Int[Tensor, "*row place"]) -> Float[Tensor, "*row place d_model"]:
        """Return the embeddings of tokens, as the model scales them; the input that `run` takes as `embeds`."""
        return self.shell.get_input_embeddings()(ids.to(self.device))

    def run(
        self,
        trees: Trees,
        *,
        embeds: Float[Tensor, "tree place d_model"] | None = None,
        start: int = 0,
        entering: Float[Tensor, "tree place d_model"] | None = None,
        read: Sequence[int] = (),
        ask: Sequence[tuple[int, int]] | None = None,
        marks: Any = None,
    ) -> tuple[Float[Tensor, "asked vocabulary"] | None, Mapping[int, Float[Tensor, "tree place d_model"]]]:
        """Run one pass. Gradients pass to `embeds`, `entering`, to what changes use, and to trainable parameters of the shell.

        Args:
            trees: The rows.
            embeds: Embeddings in place of those of the ids.
            start: The first block to compute; those below are left out. Above 0 it needs `entering`.
            entering: The stream that enters it, before changes at `resid_post` of the block below.
            read: Blocks whose output is wanted, from the one below the start on.
            ask: Rows and positions after which logits are wanted; `None` for none, and then no block above the highest that is read is
                computed.
            marks: Given to the changes.

        Returns:
            Logits in float32, in the order of `ask`; the output of the blocks that are read, after changes.

        Raises:
            BadInput: Nothing is wanted, or a block is left out without a stream that enters the next.
        """
        if (start > 0) != (entering is not None):
            raise BadInput(f"a pass that starts at block {start} needs the stream that enters it, and one at block 0 takes none")
        if ask is None and not read:
            raise BadInput("a pass needs something to return: read= or ask=")
        last = self.count - 1 if ask is not None else max(read)
        now = Now(trees=trees, start=start, entering=entering, last=last, read=frozenset(read), marks=marks)
        device = self.device
        given: dict[str, Any] = {"input_ids": trees.ids.to(device)} if embeds is None else {"inputs_embeds": embeds.to(device)}
        token = CURRENT.set(Attending(positions=trees.positions.to(device), sees=trees.sees.to(device)))
        self._now, out = now, None
        self._stops = ask is None
        try:
            with suppress(_Enough):
                base = getattr(self.shell, self.shell.base_model_prefix)
                out = base(
                    **given,
                    attention_mask=torch.ones_like(trees.ids, device=device),
                    position_ids=trees.positions.to(device),
                    use_cache=False,
                )
        finally:
            self._now = None
            CURRENT.reset(token)
        if ask is None:
            return None, now.streams
        assert out is not None
        tree, place = trees.where(ask)
        hidden = out.last_hidden_state[tree.to(device), place.to(device)]
        return unembed(self.shell, self.scale, hidden), now.streams

    def _block(self, layer: int, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """A block of the shell: left out below the start, changed behind, and the last one that is computed where no logits are wanted."""
        now = self._now
        if now is None:
            return forward(*args, **kwargs)
        hidden = args[0] if args else kwargs.pop("hidden_states")
        if layer < now.start:
            if layer == self.count - 1 and now.entering is not None:  # a pass of no block at all
                hidden = self._changed("resid_post", layer, now.entering.to(hidden))
                if layer in now.read:
                    now.streams[layer] = hidden
            return (hidden,) if self._tuples[layer] else hidden
        if layer == now.start and now.entering is not None:
            hidden = self._changed("resid_post", layer - 1, now.entering.to(hidden))
            if layer - 1 in now.read:
                now.streams[layer - 1] = hidden
        out = forward(self._changed("resid_pre", layer, hidden), *args[1:], **kwargs)
        self._tuples[layer] = isinstance(out, tuple)
        value = out[0] if isinstance(out, tuple) else out
        if layer in now.carried:
            value = value + now.carried.pop(layer)
        value = self._changed("resid_post", layer, value)
        if layer in now.read:
            now.streams[layer] = value
        if self._stops and layer == now.last:
            raise _Enough
        return (value, *out[1:]) if isinstance(out, tuple) else value
