"""The facts of a forward pass that a scope needs: its tokens, which of them are prompt, and where each row begins."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch

from ..core.errors import BadInput, EmptyScope, ShapeMismatch
from ..core.types import Bool, Float, Tensor
from .content import content
from .known import first_of
from .owner import Owner
from .restore import unhook
from .scopes import Scope
from .sinks import first_is_sink, outliers
from .spans import token_of


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The parts of the rows of a forward pass.

    Attributes:
        prompt: Number of tokens of each row that are prompt; the rest is continuation.
        instruction: Number of tokens of each row up to and including the last of the instruction; `None` where it is unknown.
        head: The ids of the whole rows, in a pass that computes their last columns and has the others in its cache; else `None`.
    """

    prompt: Tensor
    instruction: Tensor | None = None
    head: Tensor | None = None


_LAYOUT: ContextVar[Layout | None] = ContextVar("workbench_layout", default=None)


@contextmanager
def laid_out(layout: Layout | None) -> Iterator[None]:
    """Give the forward passes inside the block the layout of their rows (`None`: every token is prompt)."""
    token = _LAYOUT.set(layout)
    try:
        yield
    finally:
        _LAYOUT.reset(token)


class Watch:
    """Follows the forward passes of one model in one thread, and knows which columns each pass computes.

    Attributes:
        model: The model.
        past: Number of columns that the cache of the current pass holds.
        real: Which columns hold tokens, cached ones included, `row x column`; `None` where the input is no ids.
        owner: The thread and the task whose passes it follows.
        users: The `edited` blocks that need the watch.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.past = 0
        self.real: Tensor | None = None
        self._ids: Tensor | None = None
        self._start: Tensor | None = None
        self._prompt: Tensor | None = None
        self._instruction: Tensor | None = None
        self._head: Tensor | None = None
        self._end = 0
        self._resumed = False
        self._masks: dict[Scope, Tensor] = {}
        self.users: set[object] = set()
        self.owner = Owner("an `edited` block")
        self._target = getattr(model, "original_model", None) or model

    def open(self) -> None:
        """Begin to follow the passes of this thread."""
        self._target.register_forward_pre_hook(self._enter, with_kwargs=True)
        self.owner.enter()

    def _enter(self, _: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None) -> None:
        # without keywords: torch calls a hook so that another thread takes off at this moment
        if kwargs is None or not self.owner.here():
            return
        ids = args[0] if args else kwargs.get("input_ids", kwargs.get("input"))
        if not isinstance(ids, Tensor) or ids.ndim != 2 or ids.is_floating_point():
            self.real = None  # text or embeddings: the columns are unknown
            return
        new, mask = ids.shape[1], kwargs.get("attention_mask")
        self.past = _seen(kwargs)
        whole = self.past + new
        if isinstance(mask, Tensor) and mask.ndim == 2 and mask.shape[1] < whole:
            raise ShapeMismatch(f"an attention mask of {mask.shape[1]} columns for {self.past} tokens before and {new} now")
        real = (
            mask[:, -whole:].bool()
            if isinstance(mask, Tensor) and mask.ndim == 2
            else torch.ones(len(ids), whole, dtype=torch.bool, device=ids.device)
        )
        self._masks = {}
        layout, before = _LAYOUT.get(), self._ids
        self._resumed = layout is not None and layout.head is not None
        if self.past and not self._resumed and self._prompt is not None and len(self._prompt) == len(ids):  # a step of generation
            self.real = real
            return
        grown = (
            self.past == 0 and before is not None and before.shape == (len(ids), new - 1) and bool((before == ids[:, :-1]).all())
        )  # generation without a cache: the same rows, one token longer
        self._ids = ids if self.past == 0 else None
        self.real = real
        if layout is not None:
            if len(layout.prompt) != len(ids):
                raise ShapeMismatch(f"a layout of {len(layout.prompt)} rows for a batch of {len(ids)}")
            self._start = real.int().argmax(1)
            self._prompt = self._start + layout.prompt.to(ids.device)
            self._instruction = None if layout.instruction is None else self._start + layout.instruction.to(ids.device)
        elif self.past == 0 and not grown:
            self._start = real.int().argmax(1)
            # all that is real, wherever the padding lies
            self._prompt = torch.where(real, torch.arange(whole, device=ids.device), -1).amax(1) + 1
            self._instruction = None
        elif self.past:
            raise BadInput("the cache of this pass holds a prompt that was read outside this block: enter `edited` before the prompt")
        if layout is not None and layout.head is not None:
            self._head = layout.head
        elif self.past == 0:
            self._head = ids
        self._end = 0 if self._prompt is None else int(self._prompt.max())

    def mask(self, scope: Scope) -> Bool[Tensor, "row position"] | None:
        """Apply a scope to the current forward pass.

        Args:
            scope: The rule.

        Returns:
            True for each token of this pass that the scope selects; `None` where it selects all of them.

        Raises:
            EmptyScope: The scope needs an instruction or a marker that this batch does not have.
        """
        if scope.whole:
            return None
        if scope not in self._masks:
            if self.past and self.past >= self._end and self.real is not None:  # all of this pass follows every prompt
                if scope.kind not in ("prompt", "last"):
                    return None
                self._masks[scope] = torch.zeros_like(self.real[:, self.past :])
            else:
                self._masks[scope] = self._select(scope)
        return self._masks[scope]

    def _select(self, scope: Scope) -> Tensor:
        if self.real is None or self._prompt is None or self._start is None or self._head is None:
            raise EmptyScope(f"the scope {scope} needs token ids as the model's input, padded or not; got texts or embeddings")
        columns = torch.arange(self.past, self.real.shape[1], device=self.real.device)[None]
        real, prompt = self.real[:, self.past :], self._prompt[:, None]
        leads = torch.ones_like(self._start, dtype=torch.bool)  # rows that begin with the ids that begin every prompt
        for k, token in enumerate(first_of(self.model)):
            place = (self._start + k).clamp(max=self._head.shape[1] - 1)[:, None]
            leads = leads & (self._head.gather(1, place)[:, 0] == token)
            real = real & ~((columns == place) & leads[:, None])
        if first_is_sink(self.model):  # a prompt of one token keeps it
            real = real & ~((columns == self._start[:, None]) & (prompt - self._start[:, None] > 1))
        if scope.kind == "prompt":
            return real & (columns < prompt)
        if scope.kind == "body":  # a prompt of one token keeps it
            return real & ~((columns == self._start[:, None]) & (prompt - self._start[:, None] > 1))
        if scope.kind == "content":
            return real & self._content()[:, self.past :]
        if scope.kind == "generated":
            return real & (columns >= prompt - 1)
        if scope.kind == "last":
            return real & (columns < prompt) & (columns >= prompt - scope.k)
        if scope.kind == "after_instruction":
            if self._instruction is None:
                raise EmptyScope(
                    "the end of the instruction is unknown: give prompts with {instruction_end}, or name its last words: "
                    "scope=('marker', '…')"
                )
            return real & (columns >= self._instruction[:, None])
        return real & (columns >= self._marked(scope.text)[:, None])

    def _content(self) -> Tensor:
        """Which tokens are text, `row x column`: in a prompt no first token and nothing of a chat template, behind it all."""
        assert self.real is not None
        assert self._head is not None
        assert self._start is not None
        assert self._prompt is not None
        out = self.real.clone()
        for row, (start, end) in enumerate(zip(self._start.tolist(), self._prompt.tolist(), strict=True)):
            text = torch.tensor(content(self.model.tokenizer, self._head[row, start:end].tolist()))
            text[0] &= end - start == 1  # a prompt of one token keeps it
            out[row, start:end] &= text.to(out.device)
        return out

    def _marked(self, text: str) -> Tensor:
        """The column of the token that completes a text's last occurrence, per row."""
        columns = []
        tokenizer, head = self.model.tokenizer, self._head
        assert head is not None
        assert self._start is not None
        assert self._prompt is not None
        for row, (start, end) in enumerate(zip(self._start.tolist(), self._prompt.tolist(), strict=True)):
            ids = head[row, start:end].tolist()
            token = token_of(tokenizer, ids, text)
            if token is None:
                raise EmptyScope(f"the marker {text!r} is not in row {row}, which ends: {tokenizer.decode(ids)[-60:]!r}")
            columns.append(start + token)
        return torch.tensor(columns, device=head.device)

    @property
    def compares(self) -> bool:
        """Whether the current pass holds all tokens that a scope selects: any but a step of generation."""
        return not self.past or self._resumed

    def spare(self, mask: Bool[Tensor, "row position"], norms: Float[Tensor, "row position"]) -> Bool[Tensor, "row position"]:
        """Leave attention sinks out of the tokens that a scope selects.

        Args:
            mask: The tokens of this pass that the scope selects.
            norms: Norms of the stream at the place in question (`sinks.lengths`).

        Returns:
            The mask without tokens of the prompt that are sinks among those it selects. In a pass that continues from a cache, and
            for tokens after the prompt, nothing is left out: a step of generation has no other tokens to compare with.
        """
        if not self.compares or self._prompt is None or norms.shape != mask.shape:
            return mask
        columns = torch.arange(self.past, self.past + mask.shape[1], device=mask.device)
        prompt = columns < self._prompt[:, None].to(mask.device)
        return mask & ~outliers(norms.to(mask.device), mask & prompt)

    def prompt_rows(self) -> Bool[Tensor, "row position"] | None:
        """Return which tokens of the current forward pass are prompt.

        Returns:
            True for each token of a prompt but its beginning-of-text token (and a first token that is always a sink); `None` in a
            step of generation.
        """
        return self._select(Scope("prompt")) if self.compares else None

    def close(self) -> None:
        """Follow no longer. It may be called more than once."""
        unhook(self._target, self._enter)
        self.owner.leave()


def _seen(kwargs: dict[str, Any]) -> int:
    """Number of columns that the cache of keys and values holds already."""
    cache = kwargs.get("past_key_values", kwargs.get("past_kv_cache"))
    if cache is None:
        return 0
    length = getattr(cache, "get_seq_length", None)
    if length is not None:
        return int(length())
    entries = getattr(cache, "entries", None)  # TransformerLens's own
    return int(entries[0].past_keys.shape[1]) if entries else 0
