"""How well words do on one model: the loss of many texts over many prompts, read through one trie, and its gradient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from ..activations.choose import choose
from ..activations.engine import Job
from ..core.errors import AnswerTokens, BadInput, NotFinite, PromptTooLong, TokenBoundary
from ..core.types import Float
from ..models.control import control_tokens
from ..models.known import context_of, first_of, is_model, name_of
from ..models.tokens import answer_tokens, encode_pairs
from ..prompts import PromptSet
from .gradients import Gradients
from .placing import Slot, put, slots

SEEN = 32  # characters on either side of the words that decide how they are cut into tokens
ENOUGH = 8.0  # log-odds, in nats, past which a prompt is won and counts no more
ROWS = 64  # prompts of a pass with gradients


@dataclass(frozen=True, kw_only=True)
class Losses:
    """What texts do, one after another.

    Attributes:
        odds: Log-odds of what is wanted against everything else, `text x item`, in nats; minus infinity for a text that does not
            tokenise back to itself in place.
        loss: Mean over prompts of what the log-odds lack of `enough`, per text, in nats.
        fluency: Mean negative log-probability of the text's own tokens where it stands, per text, in nats.
    """

    odds: np.ndarray
    loss: np.ndarray
    fluency: np.ndarray


class Objective:
    """Prompts of one model into which words are put, and what the model should then say.

    Args:
        model: What `load_model` returns.
        prompts: Contrast pairs.
        towards: "safe" (the answer that the label names), "harm" (the other one), or a text that should follow each prompt.
        where: Where the words go.
        enough: Log-odds past which a prompt counts no more. Raising it asks for more than a safe answer; at a low one what is found holds
            for these prompts only.

    Attributes:
        counted: Pairs of a text and a prompt that were scored.
        tokens: Tokens that were computed for it.
        plain: Tokens that it would have been without sharing what texts and prompts have in common.

    Raises:
        BadInput: This is no model with gradients, or the target is empty.
        AnswerTokens: An answer is not a single token.
        TokenBoundary: The target merges with the prompt's last token.
    """

    def __init__(self, model: Any, prompts: PromptSet, towards: str, where: str = "before", *, enough: float = ENOUGH) -> None:
        if not is_model(model):
            raise BadInput(
                f"a search needs log-probabilities and gradients of a loaded model, and this is {type(model).__name__}. What an endpoint "
                "says under words that were found elsewhere can still be asked: prefix.put(prompts) gives the texts"
            )
        self.model, self.prompts, self.towards, self.where, self.enough = model, prompts, towards, where, enough
        self.tokenizer = model.tokenizer
        self.first = list(first_of(model))
        self.barred = set(control_tokens(self.tokenizer))
        encode_pairs(model, prompts)  # which refuses what cannot be read, before anything is searched
        self.places = slots(prompts, where, model)
        self.wanted = self._wanted(prompts, towards)
        self._known = {s.fill("."): self._frame(s) for s in self.places}
        self.frames = [self._known[s.fill(".")] for s in self.places]
        self.contexts = list({(s.head[-SEEN:], s.tail[:SEEN]): s for s in self.places}.values())
        self.counted = self.tokens = self.plain = 0

    def _wanted(self, prompts: PromptSet, towards: str) -> list[list[list[int]]]:
        """Per prompt what should follow: the forms of one token of an answer, or the tokens of a target one after another."""
        if towards in ("safe", "harm"):
            if prompts.single:
                raise AnswerTokens("single statements have no answers; put them in question form (prompts.as_questions)")
            known = {ends: answer_tokens(self.model, ends) for ends in sorted({(p.negative, p.positive) for p in prompts})}
            return [[known[p.negative, p.positive][p.label if towards == "safe" else 1 - p.label]] for p in prompts]
        if not towards.strip():
            raise BadInput("towards= is 'safe', 'harm', or a text that should follow each prompt; it is empty")
        out = []
        for pair in prompts:
            text = towards if towards[:1].isspace() or pair.stem[-1:].isspace() else f" {towards}"
            stem, whole = self._ids([pair.stem, pair.stem + text])
            if whole[: len(stem)] != stem or len(whole) == len(stem):
                raise TokenBoundary(f"the target {towards!r} merges with the end of {pair.stem[-20:]!r} in {name_of(self.model)}")
            if self.tokenizer.unk_token_id is not None and self.tokenizer.unk_token_id in whole[len(stem) :]:
                raise AnswerTokens(f"{name_of(self.model)} has no token for a part of the target {towards!r}")
            out.append([[t] for t in whole[len(stem) :]])
        return out

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        raw = self.tokenizer(list(texts), add_special_tokens=False)["input_ids"] if texts else []
        return [ids if ids[: len(self.first)] == self.first else [*self.first, *ids] for ids in raw]

    def _frame(self, slot: Slot) -> tuple[list[int], list[int]]:
        """The tokens before the words and behind them, as they are around a word that merges with neither side."""
        head = self._ids([slot.head])[0] if slot.head else list(self.first)
        whole = self._ids([slot.head + slot.lead("x") + "x" + slot.tail])[0]
        tail = self._ids([slot.tail])[0][len(self.first) :] if slot.tail else []
        if whole[: len(head)] != head:
            raise TokenBoundary(f"words behind {slot.head[-20:]!r} change its tokens in {name_of(self.model)}; use another place (where=)")
        # what stands behind the words may begin with another token than it has alone
        keep = next((k for k in range(len(tail) + 1) if whole[len(whole) - len(tail) + k :] == tail[k:]), len(tail))
        if tail and keep == len(tail):
            raise TokenBoundary(f"words before {slot.tail[:20]!r} change its tokens in {name_of(self.model)}; use another place (where=)")
        return head, tail[keep:]

    def tokens_of(self, texts: Sequence[str]) -> list[list[int] | None]:
        """Return the tokens that texts have in place.

        Args:
            texts: Words, as they are put into every prompt.

        Returns:
            Their ids where they stand, the same in every prompt; `None` for a text that is cut otherwise in different prompts, merges with
            what stands around it, or holds a control token.
        """
        out: list[list[int] | None] = []
        for k, slot in enumerate(self.contexts):
            head, tail = self._known[slot.fill(".")]
            rows = self._ids([slot.fill(t) if t else slot.bare for t in texts])
            for i, row in enumerate(rows):
                middle = row[len(head) : len(row) - len(tail)]
                fits = row[: len(head)] == head and row[len(row) - len(tail) :] == tail and middle and not self.barred & set(middle)
                found = middle if fits else None
                if k == 0:
                    out.append(found)
                elif out[i] != found:
                    out[i] = None
        return out

    def check(self, text: str) -> None:
        """Raise unless a text tokenises back to itself in every prompt, and the prompts with it fit the context.

        Raises:
            TokenBoundary: It does not.
            PromptTooLong: A prompt is longer than the context.
        """
        ids = self.tokens_of([text])[0]
        for slot, (head, tail) in zip(self.places, self.frames, strict=True):
            row = self._ids([slot.fill(text)])[0]
            if ids is None or row != [*head, *ids, *tail]:
                raise TokenBoundary(
                    f"the words {text!r} merge with what stands around them in {name_of(self.model)}: {slot.fill(text)[:80]!r}"
                )
        self.room(len(ids or ()))

    def room(self, length: int) -> None:
        """Raise unless every prompt fits the context with so many tokens of words.

        Args:
            length: Tokens of the words.

        Raises:
            PromptTooLong: One does not.
        """
        longest = max(len(h) + len(t) + len(w) for (h, t), w in zip(self.frames, self.wanted, strict=True)) + length
        if longest > context_of(self.model):
            raise PromptTooLong(
                f"with a prefix of {length} tokens a prompt has {longest}, and {name_of(self.model)} reads {context_of(self.model)}: fewer "
                "tokens (length=), or shorter prompts"
            )

    @cached_property
    def _engine(self) -> Any:
        return choose(self.model)

    @cached_property
    def _gradients(self) -> Gradients:
        return Gradients(self.model)

    def losses(self, texts: Sequence[str], *, items: Sequence[int] | None = None, fluency: bool = False) -> Losses:
        """Score texts over prompts. What texts or prompts share from their beginning on is computed once.

        Args:
            texts: Words.
            items: Numbers of the prompts; `None` for all.
            fluency: Also read how likely the words themselves are where they stand, in the first prompt.

        Returns:
            The losses.

        Raises:
            NotFinite: The model gives NaN.
        """
        chosen = list(range(len(self.prompts))) if items is None else list(items)
        rows = self.tokens_of(texts)
        jobs: list[Job] = []
        asks: list[tuple[int, int, list[int]]] = []  # text, item (or -1: the words themselves), tokens that count
        for n, ids in enumerate(rows):
            if ids is None:
                continue
            for i in chosen:
                head, tail = self.frames[i]
                row, want = [*head, *ids, *tail], self.wanted[i]
                for k, forms in enumerate(want):
                    jobs.append(Job(ids=[*row, *(w[0] for w in want[:k])], ask=len(row) + k - 1))
                    asks.append((n, i, forms))
            if fluency:
                head = self.frames[chosen[0]][0]
                for k, token in enumerate(ids):
                    if len(head) + k:
                        jobs.append(Job(ids=[*head, *ids[:k]], ask=len(head) + k - 1))
                        asks.append((n, -1, [token]))
        logp, own = np.full((len(texts), len(chosen)), -np.inf), np.full(len(texts), np.inf)
        if jobs:
            good = [n for n, ids in enumerate(rows) if ids is not None]
            logp[good], own[good] = (
                x[good] for x in self._read(jobs, asks, (len(texts), len(chosen)), {i: k for k, i in enumerate(chosen)})
            )
            self.counted += len(good) * len(chosen)
        with np.errstate(divide="ignore"):
            odds = logp - np.log(-np.expm1(np.minimum(logp, -1e-7)))
        return Losses(odds=odds, loss=np.maximum(self.enough - odds, 0).mean(1), fluency=own)

    def _read(self, jobs: list[Job], asks: list[Any], shape: tuple[int, int], column: dict[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """Log-probability of what is wanted, `text x item`, and how unlikely the words themselves are."""
        tokens = sorted({t for _, _, forms in asks for t in forms})
        at = {t: k for k, t in enumerate(tokens)}
        self._engine.tick = self._count
        reading = self._engine.read(jobs, [], tokens)
        logp = reading.logp[torch.from_numpy(reading.asked)].double().numpy()
        if not np.isfinite(logp).all():
            raise NotFinite(f"{name_of(self.model)} gives NaN; load it with dtype='float32'")
        sums, own, counts = np.zeros(shape), np.zeros(shape[0]), np.zeros(shape[0])
        for row, (n, i, forms) in zip(logp, asks, strict=True):
            value = np.logaddexp.reduce(row[[at[t] for t in forms]])
            if i >= 0:
                sums[n, column[i]] += value
            else:
                own[n] -= value
                counts[n] += 1
        self.plain += sum(len(j.ids) for j in jobs)
        return sums, own / np.maximum(counts, 1)

    def _count(self, tokens: int) -> None:
        self.tokens += tokens

    def gradient(self, text: str) -> tuple[list[int], Float[np.ndarray, "position d_model"]]:
        """Return the gradient of the loss with respect to the embedding of each token of the words.

        Args:
            text: Words that tokenise to themselves in place.

        Returns:
            The ids of the words, and the gradient of the mean over prompts.
        """
        ids = self.tokens_of([text])[0]
        assert ids is not None
        total = torch.zeros(len(ids), int(self.model.cfg.d_model))
        for start in range(0, len(self.frames), ROWS):
            items = range(start, min(start + ROWS, len(self.frames)))
            rows = [[*self.frames[i][0], *ids, *self.frames[i][1], *(w[0] for w in self.wanted[i][:-1])] for i in items]
            # after each of these places of a row, a token of what is wanted
            asks = [[(r, len(rows[r]) - len(self.wanted[i]) + k) for k in range(len(self.wanted[i]))] for r, i in enumerate(items)]
            places = [[len(self.frames[i][0]) + k for k in range(len(ids))] for i in items]
            total += self._gradients.of(rows, asks, places, lambda logits, items=items: self.lacking(logits, items))
        return ids, (total / len(self.frames)).numpy()

    def lacking(self, logits: Float[torch.Tensor, "asked vocabulary"], items: Sequence[int]) -> Float[torch.Tensor, ""]:
        """Return what the log-odds of prompts lack of enough, summed, with gradients.

        Args:
            logits: After each token that comes before a wanted one, prompt by prompt.
            items: Numbers of the prompts.

        Returns:
            The sum, in nats.
        """
        given = iter(torch.log_softmax(logits, -1))
        said = torch.stack([torch.stack([next(given)[forms].logsumexp(0) for forms in self.wanted[i]]).sum() for i in items])
        odds = said - torch.log(-torch.expm1(said.clamp(max=-1e-6)))
        return (self.enough - odds).clamp(min=0).sum()

    def with_text(self, text: str, name: str = "") -> PromptSet:
        """Return the prompts with words put into them."""
        return put(self.prompts, text, self.where, model=self.model, name=name)
