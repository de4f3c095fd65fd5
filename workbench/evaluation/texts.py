"""How likely a model finds texts, and how repetitive its own are: what a push must not break."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import torch

from ..core.errors import BadInput, EmptyScope, NotFinite
from ..core.stats import Estimate, bootstrap, mean
from ..models import Edit, edited
from ..models.forward import run
from ..models.hooks import active_edits
from ..models.tokens import encode, pad

Text = str | tuple[str, str]
ROWS = 32


@torch.no_grad()
def text_nll(model: Any, texts: Sequence[Text], edits: Iterable[Edit] | None = None) -> pd.DataFrame:
    """Return the negative log-likelihood of texts under edits.

    Args:
        model: What `load_model` returns.
        texts: Texts; or pairs (prompt, continuation), of which only the continuation is scored, and which say to edits with a scope
            what is prompt. A text by itself is all prompt: edits with the scope "generated" or "last" are refused there.
        edits: What acts.

    Returns:
        One row per text: `nll` (nats, summed over scored tokens) and `tokens`.

    Raises:
        PromptTooLong, BadInput: A text does not fit, or has nothing to score. NotFinite: the model gives NaN.
    """
    if not len(texts):
        raise BadInput("no text to score")
    pairs = [t if isinstance(t, tuple) else ("", t) for t in texts]
    rows = encode(model, [a + b for a, b in pairs])
    heads = encode(model, [a for a, _ in pairs if a]) if any(a for a, _ in pairs) else []
    heads_in_order = iter(heads)
    starts = []
    for (a, _), row in zip(pairs, rows, strict=True):
        start = 0
        if a:
            # where the cut falls inside a token, that token is scored: it holds some of the continuation
            head = next(heads_in_order)
            while start < len(head) and start < len(row) and head[start] == row[start]:
                start += 1
        starts.append(start)
    out = np.zeros((len(rows), 2))
    acting = list(edits or ())
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    with edited(model, acting) if acting else nullcontext():
        _scored(model, starts)
        for begin in range(0, len(order), ROWS):
            chunk = order[begin : begin + ROWS]
            batch = pad(model, [rows[i] for i in chunk], prompt=[starts[i] or len(rows[i]) for i in chunk])
            logits = run(model, batch)
            logp = torch.log_softmax(logits[:, :-1].float(), -1).gather(2, batch.ids[:, 1:, None])[..., 0].cpu()
            for k, i in enumerate(chunk):
                first = max(1, starts[i])
                some = logp[k, first - 1 : len(rows[i]) - 1]
                if not len(some):
                    raise BadInput(f"text {i} has no token to score: {pairs[i][1][:40]!r}")
                if not bool(some.isfinite().all()):
                    raise NotFinite(f"text {i} has a likelihood that is not finite under {', '.join(e.label for e in acting) or 'no edit'}")
                out[i] = float(-some.double().sum()), len(some)
    return pd.DataFrame({"nll": out[:, 0], "tokens": out[:, 1].astype(int)})


def _scored(model: Any, starts: Sequence[int]) -> None:
    """Raise where an edit could touch nothing that is scored: a likelihood that cannot change looks like a push without a price."""
    blind = [e for e in active_edits(model) if e.scope is not None and e.scope.kind in ("last", "generated")]
    if blind and not all(starts):
        raise EmptyScope(
            f"{blind[0].label} acts on the scope {blind[0].scope}, and a text by itself is all prompt: nothing that is scored would be touched. Give "
            "(prompt, continuation) pairs, or another scope (text_scope= in dose_response)"
        )


def perplexity(scored: pd.DataFrame, clusters: Sequence[Any] | None = None, *, resamples: int = 1000, seed: int = 0) -> Estimate:
    """Return exp(nll per token) over texts, with a bootstrap over clusters of texts (each text by itself if none are given)."""
    nll, tokens = scored["nll"].to_numpy(), scored["tokens"].to_numpy()
    return bootstrap(lambda w: np.exp((w @ nll) / (w @ tokens)), len(nll), clusters, resamples=resamples, seed=seed)


def perplexity_ratio(
    now: pd.DataFrame, before: pd.DataFrame, clusters: Sequence[Any] | None = None, *, resamples: int = 1000, seed: int = 0
) -> Estimate:
    """Return the perplexity under edits over that without, text by text the same: 1.05 is 5 % worse."""
    if not np.array_equal(now["tokens"], before["tokens"]):
        raise BadInput("the two tables score different texts")
    gap, tokens = (now["nll"] - before["nll"]).to_numpy(), now["tokens"].to_numpy()
    return bootstrap(lambda w: np.exp((w @ gap) / (w @ tokens)), len(gap), clusters, resamples=resamples, seed=seed)


def continuation_logp(model: Any, pairs: Sequence[tuple[str, str]], edits: Iterable[Edit] | None = None) -> np.ndarray:
    """Return the log-probability of each continuation after its prompt, in nats."""
    return -text_nll(model, list(pairs), edits)["nll"].to_numpy()


def fluency(texts: Sequence[str], *, resamples: int = 1000, seed: int = 0) -> pd.DataFrame:
    """Measure how repetitive texts are.

    Args:
        texts: Generated continuations.

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
    return pd.DataFrame([{"metric": m, **mean(v, resamples=resamples, seed=seed).row()} for m, v in values.items()])
