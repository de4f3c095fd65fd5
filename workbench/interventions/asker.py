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
from ..models import Edit, edited
from ..models.forward import run
from ..models.generate import where_not_finite
from ..models.tokens import answer_tokens, encode_pairs, pad
from ..prompts import PromptSet

ROWS = 64  # prompts of a pass


class Asker:
    """Prompts made ready to be asked again and again: what comes right after each stem, under whatever edits.

    Args:
        model: What `load_model` returns.
        prompts: Contrast pairs; their stems are asked.

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
        self._batches = []
        for start in range(0, len(pairs), ROWS):
            some = [pairs[i] for i in self._order[start : start + ROWS]]
            rows = [p.negative[: p.stem] for p in some]
            self._batches.append(pad(model, rows, prompt=[p.stem for p in some], instruction=[p.instruction for p in some]))
        self._back = torch.argsort(torch.tensor(self._order))

    def ask(self, edits: Iterable[Edit] | None = None) -> Tensor:
        """Return log-probabilities of every token after each stem, `item x vocabulary`, float32 on the CPU.

        Raises:
            NotFinite: The model gives NaN; the message says after which block, under what.
        """
        out = []
        acting = list(edits) if edits is not None else []
        with torch.no_grad(), edited(self.model, acting) if acting else nullcontext():
            for batch in self._batches:
                last = batch.starts + batch.mask.sum(1) - 1
                logits = run(self.model, batch)
                here = logits[torch.arange(len(last), device=logits.device), last.to(logits.device)].float()
                if not bool(here.isfinite().all()):
                    row = int((~here.isfinite().all(1)).nonzero()[0])
                    ids = batch.ids[row][batch.mask[row].bool()].tolist()
                    raise NotFinite(
                        f"the model gives NaN or infinity after a prompt. {where_not_finite(self.model, ids, len(ids), self._ends(batch, row))}"
                    )
                out.append(torch.log_softmax(here, -1).cpu())
        return torch.cat(out)[self._back]

    @staticmethod
    def _ends(batch: Any, row: int) -> int | None:
        return None if batch.layout is None or batch.layout.instruction is None else int(batch.layout.instruction[row])

    def odds(self, logp: Tensor) -> np.ndarray:
        """Return the log-odds of the positive ending, per item, over all token forms of both."""
        out = torch.empty(len(logp), dtype=torch.float64)
        for (negative, positive), rows in self._same:
            some = logp[rows].double()
            out[rows] = some[:, positive].logsumexp(1) - some[:, negative].logsumexp(1)
        return out.numpy()

    def positive(self) -> Tensor:
        """Return the log-probability of the positive ending, in whatever order, with gradients of the edits that are active."""
        out = []
        with torch.enable_grad():
            for start, batch in zip(range(0, len(self._order), ROWS), self._batches, strict=True):
                last = batch.starts + batch.mask.sum(1) - 1
                logp = torch.log_softmax(run(self.model, batch)[torch.arange(len(last)), last].float(), -1)
                out += [row[self._forms[i][1]].logsumexp(0) for row, i in zip(logp, self._order[start : start + ROWS], strict=True)]
        return torch.stack(out)

    def answered(self, logp: Tensor) -> np.ndarray:
        """Return the probability that both endings hold together, per item."""
        out = torch.empty(len(logp), dtype=torch.float64)
        for (negative, positive), rows in self._same:
            some = logp[rows].double()
            out[rows] = some[:, positive].exp().sum(1) + some[:, negative].exp().sum(1)
        return out.numpy()

    @cached_property
    def base(self) -> Tensor:
        """What the model says as it is when this is first asked for: without edits, unless some were active then."""
        return self.ask()

    def subset(self, most: int) -> Asker:
        """Return an asker of some of the prompts, evenly spread."""
        if most >= len(self.prompts):
            return self
        return Asker(self.model, self.prompts.subset(np.unique(np.linspace(0, len(self.prompts) - 1, most).round().astype(int))))
