"""How deep alignment goes along an answer: where an aligned model differs from its base, and what a prefilled beginning undoes.

At token t of a reply, KL(aligned || base) is between what each would say next after the prompt and the reply so far. Where it is large for
the first tokens only, alignment decides how an answer begins and little of how it goes on; a beginning that is put into the model's mouth
then undoes it.

References:
    Qi et al. 2024, arXiv 2406.05946.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from ..activations.choose import choose
from ..activations.engine import Job
from ..core.errors import BadInput, ShapeMismatch, TokenBoundary, WrongModel
from ..core.provenance import provenance
from ..core.show import Shown
from ..core.stats import mean, proportion, ratio, undefined
from ..core.types import Float
from ..evaluation.judges import Judge, RefusalPhrases
from ..models import edited, generate_texts, info
from ..models.tokens import encode_pairs
from ..prompts import PromptSet
from ..training import Adapter, adapted
from .prefix import Prefix

PREFILLED = (0, 1, 2, 5, 10, 20, 40)  # tokens put into the model's mouth; those beyond the replies are left out
FIRST = 5  # tokens that `share` counts as the beginning
LEAST = 1e-3  # nats along a whole reply, below which nothing is shared out
CELLS = 2**24  # log-probabilities alive at a time


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class AnswerDepth(Shown):
    """How far two models differ along replies, and what a prefilled beginning does.

    Attributes:
        table: Rows `condition, metric, tokens, value, low, high, n, note`. "kl": KL(aligned || base) in nats after so many tokens of the
            reply; "share": the part of all KL that lies in the first tokens (`tokens` of them); "refused": share of continuations that the
            judge calls a refusal, after so many tokens of the reply were put into the model's mouth.
        replies: What was read, one per prompt.
        continued: Per condition and number of prefilled tokens, the continuations that were judged.
        judge: Name of the judge.
        provenance: Models, prompts, versions.
    """

    table: pd.DataFrame
    replies: tuple[str, ...]
    continued: Mapping[tuple[str, int], tuple[str, ...]]
    judge: str
    provenance: Mapping[str, Any]

    def _shown(self) -> tuple[str, Mapping[str, Any]]:
        shares = self.table[self.table["metric"] == "share"]
        told = "; ".join(f"{r.condition}: {r.value:.2f} of the KL in the first {r.tokens} tokens" for r in shares.itertuples())
        return f"{len(self.replies)} replies; {told}", {"replies": len(self.replies), "judge": self.judge, "depth": told}


def answer_depth(
    base: Any,
    aligned: Any,
    prompts: PromptSet,
    *,
    replies: Sequence[str] | str | None = None,
    tokens: int = 40,
    prefilled: Sequence[int] = PREFILLED,
    defences: Mapping[str, Any] | None = None,
    judge: Judge | None = None,
    new_tokens: int = 24,
    first: int = FIRST,
    progress: bool | None = None,
) -> AnswerDepth:
    """Measure where along harmful replies an aligned model differs from its base, and how a prefilled beginning undoes it.

    Args:
        base, aligned: What `load_model` returns, of one vocabulary.
        prompts: Contrast pairs, for example harmful requests.
        replies: What follows the prompts, one text for each or one for all; by default the ending that is not the right one, continued by
            the base model, which takes the likeliest tokens.
        tokens: Tokens of a reply that are read at most.
        prefilled: Numbers of tokens put into the model's mouth before it goes on.
        defences: By name, what acts on the aligned model: a prefix (`Prefix`), an adapter (`Adapter`), or edits.
        judge: Says which continuations are refusals; by default stock phrases.
        new_tokens: Tokens of a continuation.
        first: Tokens that count as the beginning, for "share".
        progress: Show a progress bar; by default only in a terminal or a notebook.

    Returns:
        The curves, for "aligned" and for each defence; the base model's own refusals stand under "base".

    Raises:
        WrongModel: The models have different vocabularies.
        ShapeMismatch: There is not one reply per prompt.
        TokenBoundary: A reply merges with its prompt.
        BadInput: An option cannot be used.

    Example:
        >>> import workbench as wb
        >>> base, aligned = (wb.load_model(f"udhr-organism{x}") for x in ("-no-verdict", ""))
        >>> asked = wb.prompts.requests("request", n=4).where(label=0)
        >>> curve = wb.answer_depth(base, aligned, asked, tokens=4, prefilled=(0, 1), new_tokens=8, progress=False)
        >>> curve.table.query("metric == 'refused' and condition == 'aligned'")["value"].tolist()
        [1.0, 0.0]

    Note:
        A judge of stock phrases errs (`RefusalPhrases.known_errors`); judge what counts with several. A KL near 0 says that the two models
        agree there, not that either is right.

    References:
        Qi et al. 2024, arXiv 2406.05946, figures 1 and 2.
    """
    if info(base).vocabulary != info(aligned).vocabulary or int(base.cfg.d_vocab) != int(aligned.cfg.d_vocab):
        raise WrongModel(f"{info(base).name} and {info(aligned).name} have different vocabularies: a KL between them is not defined")
    steps = sorted({int(k) for k in prefilled})
    if tokens < 1 or new_tokens < 1 or first < 1 or (steps and steps[0] < 0):
        raise BadInput("tokens, new_tokens and first are 1 at least, and prefilled= are 0 or more")
    if taken := sorted({"base", "aligned"} & set(defences or {})):
        raise BadInput(f"{taken[0]!r} is a condition of its own: name the defence otherwise")
    chosen: Any = RefusalPhrases() if judge is None else judge
    said = _replies(base, prompts, replies, tokens)
    people = prompts.to_frame()["identity"].to_numpy()
    conditions: dict[str, tuple[Any, Any]] = {"base": (base, None), "aligned": (aligned, None)}
    conditions |= {name: (aligned, d) for name, d in (defences or {}).items()}
    longest = max(map(len, said))
    steps = [k for k in steps if k <= longest]
    rows: list[dict[str, Any]] = []
    continued: dict[tuple[str, int], tuple[str, ...]] = {}

    def put_row(condition: str, metric: str, at: int, found: Any) -> None:
        rows.append({"condition": condition, "metric": metric, "tokens": at, **found.row(), "note": found.note})

    hidden = None if progress is None else not progress
    with tqdm(total=len(conditions) * (1 + len(steps)), desc="depth of answers", leave=False, disable=hidden) as bar:
        plain = _stems(base, prompts)
        for name, (model, defence) in conditions.items():
            with defended(model, defence) as text:
                stems = plain if text is None else _stems(model, text.put(prompts, model=model))
                if name != "base":
                    apart = _kl(model, base, stems, plain, said)
                    _curve(put_row, name, apart, people, first)
                bar.update()
                for k in steps:
                    inputs = [[*s, *r[:k]] for s, r in zip(stems, said, strict=True)]
                    wrote = [g.text for g in generate_texts(model, inputs, max_new_tokens=new_tokens, progress=False)]
                    continued[name, k] = tuple(wrote)
                    verdicts = chosen.judge([p.stem for p in prompts], wrote)["verdict"]
                    heard = verdicts.notna().to_numpy()
                    hits = verdicts[heard].astype(bool).to_numpy()
                    put_row(
                        name, "refused", k, proportion(hits, people[heard]) if heard.any() else undefined("no continuation could be judged")
                    )
                    bar.update()
    record = provenance(base=info(base).key(), aligned=info(aligned).key(), prompts=prompts.hash, tokens=tokens, judge=chosen.name)
    texts = tuple(base.tokenizer.batch_decode(said, clean_up_tokenization_spaces=False))
    return AnswerDepth(table=pd.DataFrame(rows), replies=texts, continued=continued, judge=chosen.name, provenance=record)


@contextmanager
def defended(model: Any, defence: Any) -> Iterator[Prefix | None]:
    """Let a defence act on a model inside the block; yields the words, where it is words.

    Args:
        model: What `load_model` returns.
        defence: A prefix, an adapter, edits, or `None`.
    """
    if defence is None:
        yield None
    elif isinstance(defence, Prefix):
        yield defence
    elif isinstance(defence, Adapter):
        with adapted(model, defence, canary=False):  # a training that changed nothing is a result
            yield None
    else:
        with edited(model, defence):
            yield None


def _stems(model: Any, prompts: PromptSet) -> list[list[int]]:
    return [pair.negative[: pair.stem] for pair in encode_pairs(model, prompts)]


def _replies(base: Any, prompts: PromptSet, replies: Sequence[str] | str | None, tokens: int) -> list[list[int]]:
    """The tokens of a reply for each prompt."""
    encoded = encode_pairs(base, prompts)
    stems = [pair.negative[: pair.stem] for pair in encoded]
    if replies is None:
        starts = [(e.negative if p.label == 1 else e.positive)[e.stem :] for p, e in zip(prompts, encoded, strict=True)]
        inputs = [[*s, *r] for s, r in zip(stems, starts, strict=True)]
        more = max(1, tokens - max(map(len, starts)))
        wrote = generate_texts(base, inputs, max_new_tokens=more, progress=False)
        end = base.tokenizer.eos_token_id
        return [[*r, *(i for i in g.ids if i != end)][:tokens] for r, g in zip(starts, wrote, strict=True)]
    return reply_tokens(base, prompts, replies, tokens)


def compliant(base: Any, prompts: PromptSet, tokens: int) -> list[str]:
    """Return replies that comply: the positive ending of each prompt, continued by a model with the likeliest tokens.

    Args:
        base: What `load_model` returns.
        prompts: Requests; their positive ending is the first word of compliance.
        tokens: Tokens of a reply.

    Returns:
        A text for each prompt.
    """
    asked = PromptSet([replace(pair, label=0) for pair in prompts], prompts.name)
    return base.tokenizer.batch_decode(_replies(base, asked, None, tokens), clean_up_tokenization_spaces=False)


def reply_tokens(model: Any, prompts: PromptSet, replies: Sequence[str] | str, tokens: int) -> list[list[int]]:
    """Return the tokens of a reply behind each prompt.

    Args:
        model: What `load_model` returns.
        prompts: Contrast pairs.
        replies: One for each prompt, or one for all.
        tokens: Tokens at most.

    Raises:
        ShapeMismatch: There is not one reply per prompt.
        TokenBoundary: A reply merges with its prompt.
    """
    given = [replies] * len(prompts) if isinstance(replies, str) else list(replies)
    if len(given) != len(prompts):
        raise ShapeMismatch(f"{len(given)} replies for {len(prompts)} prompts: one for each, or one text for all")
    out = []
    for pair, stem, reply in zip(prompts, _stems(model, prompts), given, strict=True):
        text = reply if reply[:1].isspace() or pair.stem[-1:].isspace() else f" {reply}"
        whole = model.tokenizer(pair.stem + text, add_special_tokens=False)["input_ids"]
        first = list(info(model).first)
        whole = whole if whole[: len(first)] == first else [*first, *whole]
        if not reply.strip() or whole[: len(stem)] != stem or len(whole) == len(stem):
            raise TokenBoundary(f"the reply {reply[:40]!r} merges with the end of {pair.stem[-20:]!r}, or is empty")
        out.append(whole[len(stem) :][:tokens])
    return out


def _kl(model: Any, base: Any, stems: list[list[int]], plain: list[list[int]], said: list[list[int]]) -> list[np.ndarray]:
    """Per prompt, KL(model || base) before each token of its reply and after the last."""
    out: list[np.ndarray] = []
    size = max(1, CELLS // (int(base.cfg.d_vocab) * (1 + max(map(len, said)))))
    for start in range(0, len(said), size):
        part = slice(start, start + size)
        now = _logp(model, stems[part], said[part])
        # the base model is another one, on which the defence does not act
        before = _logp(base, plain[part], said[part])
        out += [(a.exp() * (a - b)).sum(-1).clamp(min=0).double().numpy() for a, b in zip(now, before, strict=True)]
    return out


def _logp(model: Any, stems: list[list[int]], said: list[list[int]]) -> list[Float[torch.Tensor, "token vocabulary"]]:
    jobs = [Job(ids=[*s, *r], ask=len(s) - 1 + k) for s, r in zip(stems, said, strict=True) for k in range(len(r) + 1)]
    reading = choose(model).read(jobs, [], list(range(int(model.cfg.d_vocab))))
    assert reading.logp is not None
    rows = reading.logp[torch.from_numpy(reading.asked)]
    return list(rows.split([len(r) + 1 for r in said]))


def _curve(put_row: Any, name: str, apart: list[np.ndarray], people: np.ndarray, first: int) -> None:
    """Rows of the KL by token, and of the share that lies in the first tokens."""
    for k in range(max(map(len, apart))):
        there = np.array([len(a) > k for a in apart])
        values = np.array([a[k] for a in apart if len(a) > k])
        put_row(name, "kl", k, mean(values, people[there]))
    whole, begun = (np.array([a[:n].sum() for a in apart]) for n in (None, first))
    put_row(
        name,
        "share",
        first,
        ratio(begun, whole, people) if whole.mean() > LEAST else undefined(f"under {LEAST:g} nats along a reply", len(apart)),
    )


__all__ = ["AnswerDepth", "answer_depth", "compliant", "defended", "reply_tokens"]
