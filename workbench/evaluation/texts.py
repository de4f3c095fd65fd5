"""How likely a model finds texts, and how repetitive its own are: what a push must not break."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import torch

from ..core.errors import BadInput, EmptyScope, NotFinite
from ..core.stats import Estimate, exp_ratio, mean
from ..core.types import Float, Tensor
from ..models import Edit
from ..models.hooks import active_edits
from ..models.repeated import Repeated, repeated
from ..models.spans import cut
from ..models.tokens import encode, shared

Text = str | tuple[str, str]
ROWS = 32


@torch.no_grad()
def text_nll(model: Any, texts: Sequence[Text], edits: Iterable[Edit] | None = None) -> pd.DataFrame:
    """Return the negative log-likelihood of texts under edits.

    Args:
        model: What `load_model` returns.
        texts: Texts; or pairs (prompt, continuation), of which only the continuation is scored. A pair also tells edits with a scope what
            is prompt. A text by itself is all prompt: edits with the scope "generated" or "last" are refused there.
        edits: What acts, beside the edits that are active already; `None` for nothing more.

    Returns:
        One row per text: `nll` (nats, summed over scored tokens) and `tokens`.

    Raises:
        PromptTooLong, BadInput: A text does not fit, or has nothing to score.
        ControlToken: A text holds a control token of the tokenizer, and does not begin as a rendered chat does.
        EmptyScope: An edit could touch nothing that is scored.
        NotFinite: The model gives NaN.
    """
    if not len(texts):
        raise BadInput("no text to score")
    return Scored(model, texts).under(edits)


class Scored:
    """Texts made ready to be scored again and again under edits; arguments and errors as for `text_nll`."""

    def __init__(self, model: Any, texts: Sequence[Text]) -> None:
        if not len(texts):
            raise BadInput("no text to score")
        self.model = model
        self.pairs = [t if isinstance(t, tuple) else ("", t) for t in texts]
        rows = encode(model, [a + b for a, b in self.pairs])
        self.starts = [_start(model, a + b, len(a), row) for (a, b), row in zip(self.pairs, rows, strict=True)]
        # the tokens that are scored, and those after which they are
        self._scored = [range(max(1, start), len(row)) for start, row in zip(self.starts, rows, strict=True)]
        if empty := [i for i, places in enumerate(self._scored) if not len(places)]:
            raise BadInput(f"text {empty[0]} has no token to score: {self.pairs[empty[0]][1][:40]!r}")
        self._rows = rows
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        self._chunks = [order[k : k + ROWS] for k in range(0, len(order), ROWS)]
        self._parts = [
            repeated(model, [rows[i] for i in chunk], prompt=[self.starts[i] or len(rows[i]) for i in chunk]) for chunk in self._chunks
        ]

    def under(self, edits: Iterable[Edit] | None = None) -> pd.DataFrame:
        """Return what `text_nll` does.

        Args:
            edits: What acts, beside the edits that are active already.

        Raises:
            EmptyScope, NotFinite: As for `text_nll`.
        """
        acting = list(edits or ())
        out = np.zeros((len(self._rows), 2))
        _check_scopes([*active_edits(self.model), *acting], self.starts)
        for chunk, part in zip(self._chunks, self._parts, strict=True):
            logp, sizes = self._logp(chunk, part, acting), [len(self._scored[i]) for i in chunk]
            for k, i in enumerate(chunk):
                here = logp[k, : sizes[k]]
                if not bool(here.isfinite().all()):
                    raise NotFinite(f"text {i} has a likelihood that is not finite under {', '.join(e.label for e in acting) or 'no edit'}")
                out[i] = float(-here.double().sum()), sizes[k]
        return pd.DataFrame({"nll": out[:, 0], "tokens": out[:, 1].astype(int)})

    def _logp(self, chunk: Sequence[int], part: Repeated, acting: Sequence[Edit]) -> Float[Tensor, "row k"]:
        """Log-probabilities of the scored tokens of some texts; shorter rows name their last one again."""
        most = max(len(self._scored[i]) for i in chunk)
        places = [[*self._scored[i], *[self._scored[i][-1]] * (most - len(self._scored[i]))] for i in chunk]
        at = torch.tensor(places)
        logits, _ = part.ask(at - 1, acting)
        wanted = torch.tensor([[self._rows[i][p] for p in row] for i, row in zip(chunk, places, strict=True)], device=logits.device)
        return (logits.gather(2, wanted[..., None])[..., 0] - logits.logsumexp(-1)).cpu()

    def forget(self) -> None:
        """Free what is kept between passes."""
        for part in self._parts:
            part.forget()


def _start(model: Any, text: str, prompt: int, row: Sequence[int]) -> int:
    """Where the continuation of a prompt of so many characters begins: the first token that holds some of it; 0 without a prompt."""
    if not prompt:
        return 0
    at = cut(model.tokenizer, row, text, prompt)
    # a tokenizer that cannot say where its tokens stand: the first token that the prompt by itself would not have
    return shared(row, encode(model, [text[:prompt]])[0]) if at is None else at[1]


def _check_scopes(acting: Sequence[Edit], starts: Sequence[int]) -> None:
    """Raise where an edit could touch nothing that is scored: a likelihood that cannot change looks like a push without a price."""
    blind = [e for e in acting if e.scope is not None and e.scope.kind in ("last", "generated")]
    if blind and not all(starts):
        raise EmptyScope(
            f"{blind[0].label} acts on the scope {blind[0].scope}, and a text by itself is all prompt: nothing that is scored would be "
            "touched. Give (prompt, continuation) pairs, or another scope (text_scope= in dose_response)"
        )


def perplexity(scored: pd.DataFrame, clusters: Sequence[Any] | None = None) -> Estimate:
    """Return the perplexity of texts, exp(sum of nll / sum of tokens).

    Args:
        scored: What `text_nll` returns.
        clusters: One name per text; texts of one name are one unit. Without it each text is one.

    Returns:
        The estimate with its 95 % interval; 1 for texts that are certain, the size of the vocabulary for guessing.
    """
    nll, tokens = scored["nll"].to_numpy(), scored["tokens"].to_numpy()
    return exp_ratio(nll, tokens, clusters)


def perplexity_ratio(now: pd.DataFrame, before: pd.DataFrame, clusters: Sequence[Any] | None = None) -> Estimate:
    """Return the perplexity of the same texts under edits, divided by that without them.

    Args:
        now: What `text_nll` returns under edits.
        before: What it returns for the same texts without them.
        clusters: As for `perplexity`.

    Returns:
        The ratio with its 95 % interval: 1.05 is 5 % worse, below 1 is better.

    Raises:
        BadInput: The two tables do not score the same texts.
    """
    if not np.array_equal(now["tokens"], before["tokens"]):
        raise BadInput("the two tables score different texts")
    gap, tokens = (now["nll"] - before["nll"]).to_numpy(), now["tokens"].to_numpy()
    return exp_ratio(gap, tokens, clusters)


def continuation_logp(model: Any, pairs: Sequence[tuple[str, str]], edits: Iterable[Edit] | None = None) -> np.ndarray:
    """Return the log-probability of each whole continuation after its prompt, in nats; arguments and errors as for `text_nll`."""
    return -text_nll(model, list(pairs), edits)["nll"].to_numpy()


def fluency(texts: Sequence[str]) -> pd.DataFrame:
    """Measure how repetitive texts are.

    Args:
        texts: Generated continuations, split into words at white space.

    Returns:
        Rows `metric, value, low, high, n`: "distinct_1", "distinct_2", "distinct_3" (distinct runs of words among all, per text, then
        averaged), "repetition" (share of words that repeat the word before) and "empty" (share of texts without a word). Texts
        too short for a run are left out of its average.

    References:
        Li et al. 2016, arXiv 1510.03055 (distinct-n).
    """
    words = [t.split() for t in texts]
    values: dict[str, list[float]] = {}
    for k in (1, 2, 3):
        runs = [[tuple(w[i : i + k]) for i in range(len(w) - k + 1)] for w in words]
        values[f"distinct_{k}"] = [len(set(r)) / len(r) for r in runs if r]
    values["repetition"] = [float(np.mean([a == b for a, b in pairwise(w)])) for w in words if len(w) > 1]
    values["empty"] = [float(not w) for w in words]
    return pd.DataFrame([{"metric": m, **mean(v).row()} for m, v in values.items()])
