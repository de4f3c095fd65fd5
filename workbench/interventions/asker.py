"""Ask a model what comes right after each prompt, again and again, under whatever edits."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import nullcontext
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..core.errors import NotFinite
from ..core.types import Float, Int
from ..models import Edit, edited
from ..models.forward import run
from ..models.generate import where_not_finite
from ..models.repeated import TURN, repeated
from ..models.tokens import Batch, answer_tokens, encode_pairs
from ..prompts import PromptSet

ROWS = 64  # prompts of a pass


class Asker:
    """Prompts made ready to be asked again and again: what comes right after each stem, under whatever edits.

    Args:
        model: What `load_model` returns.
        prompts: Contrast pairs; their stems are asked. They are tokenised here, once.

    Raises:
        AnswerTokens, TokenBoundary, PromptTooLong: Before any forward pass.
    """

    def __init__(self, model: Any, prompts: PromptSet) -> None:
        self.model, self.prompts = model, prompts
        pairs = encode_pairs(model, prompts)
        known: dict[tuple[str, str], list[list[int]]] = {}
        for p in prompts:
            if (p.negative, p.positive) not in known:
                known[p.negative, p.positive] = answer_tokens(model, (p.negative, p.positive))
        self._forms = [known[p.negative, p.positive] for p in prompts]
        # items with the same two endings are read together
        self._same = [
            (forms, torch.tensor([i for i, p in enumerate(prompts) if (p.negative, p.positive) == ends])) for ends, forms in known.items()
        ]
        # rows of like length side by side, and back in order at the end
        self._order = sorted(range(len(pairs)), key=lambda i: pairs[i].stem)
        self._parts = []
        for start in range(0, len(pairs), ROWS):
            chunk = [pairs[i] for i in self._order[start : start + ROWS]]
            ends = {"prompt": [p.stem for p in chunk], "instruction": [p.instruction for p in chunk]}
            self._parts.append(repeated(model, [p.negative[: p.stem] for p in chunk], **ends))
        self._few: dict[int, Asker] = {}
        self._back = torch.argsort(torch.tensor(self._order))

    def ask(self, edits: Iterable[Edit] | None = None) -> Float[Tensor, "item vocabulary"]:
        """Ask what comes right after each stem.

        Args:
            edits: What acts, beside the edits that are active already; `None` for nothing more.

        Returns:
            Log-probabilities of every token (natural log), `item x vocabulary`, float32 on the CPU.

        Raises:
            NotFinite: The model gives NaN; the message says after which block, under what.
        """
        out = []
        acting = list(edits) if edits is not None else []
        for part in self._parts:
            batch = part.whole
            here = part.ask(_last(batch), acting)[0][:, 0]
            if not bool(here.isfinite().all()):
                row = int((~here.isfinite().all(1)).nonzero()[0])
                ids = batch.ids[row][batch.mask[row].bool()].tolist()
                with edited(self.model, acting) if acting else nullcontext():
                    where = where_not_finite(self.model, ids, len(ids), self._ends(batch, row))
                raise NotFinite(f"the model gives NaN or infinity after a prompt. {where}")
            out.append(torch.log_softmax(here, -1).cpu())
        return torch.cat(out)[self._back]

    def forget(self) -> None:
        """Free what is kept between passes; it is made again when it is needed."""
        for part in self._parts:
            part.forget()

    def renew(self) -> None:
        """Say that these prompts are asked from now on: what is kept of others may be freed for them."""
        for part in self._parts:
            part.since = next(TURN)

    @property
    def batches(self) -> list[Batch]:
        """The stems, padded on the right, by length."""
        return [part.whole for part in self._parts]

    @staticmethod
    def _ends(batch: Batch, row: int) -> int | None:
        return None if batch.layout is None or batch.layout.instruction is None else int(batch.layout.instruction[row])

    def odds(self, logp: Float[Tensor, "item vocabulary"]) -> np.ndarray:
        """Return the log-odds of the positive ending against the negative one.

        Args:
            logp: What `ask` returns.

        Returns:
            `item`, float64, natural log; above 0 where the positive ending is likelier. All token forms of an ending count together.
        """
        out = torch.empty(len(logp), dtype=torch.float64)
        for (negative, positive), rows in self._same:
            here = logp[rows].double()
            out[rows] = here[:, positive].logsumexp(1) - here[:, negative].logsumexp(1)
        return out.numpy()

    def positive(self) -> Float[Tensor, " item"]:
        """Return the log-probability of the positive ending, with gradients through the edits that are active.

        Returns:
            `item`, natural log, float32 on the model's device, by length of the prompt and not in the order of the prompts: for sums and
            means.
        """
        out = []
        with torch.enable_grad():
            for start, batch in zip(range(0, len(self._order), ROWS), self.batches, strict=True):
                logp = torch.log_softmax(run(self.model, batch, at=_last(batch))[:, 0].float(), -1)
                out += [row[self._forms[i][1]].logsumexp(0) for row, i in zip(logp, self._order[start : start + ROWS], strict=True)]
        return torch.stack(out)

    def answered(self, logp: Float[Tensor, "item vocabulary"]) -> np.ndarray:
        """Return the probability of both endings together.

        Args:
            logp: What `ask` returns.

        Returns:
            `item`, float64, 0 to 1. Where it is low the model would say something else, and the log-odds tell little.
        """
        out = torch.empty(len(logp), dtype=torch.float64)
        for (negative, positive), rows in self._same:
            here = logp[rows].double()
            out[rows] = here[:, positive].exp().sum(1) + here[:, negative].exp().sum(1)
        return out.numpy()

    @cached_property
    def base(self) -> Float[Tensor, "item vocabulary"]:
        """What `ask()` returned when this was first asked for, kept for comparison.

        Returns:
            Log-probabilities, `item x vocabulary`: those of the model without edits, unless some were active at that moment.
        """
        return self.ask()

    def subset(self, most: int) -> Asker:
        """Return an asker of at most so many of the prompts, evenly spread; itself where it has no more than that."""
        if most >= len(self.prompts):
            return self
        if most not in self._few:
            chosen = np.unique(np.linspace(0, len(self.prompts) - 1, most).round().astype(int))
            self._few[most] = Asker(self.model, self.prompts.subset(chosen))
        return self._few[most]


def _last(batch: Batch) -> Int[Tensor, "row 1"]:
    """The number of each row's last token."""
    return batch.mask.sum(1, keepdim=True) - 1
