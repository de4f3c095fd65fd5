"""Losses with the prompts that they are computed on: what a training adds up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..core.errors import AnswerTokens, BadInput, TooFew
from ..core.tables import units_of
from ..core.types import Float
from ..models.tokens import answer_tokens, encode, encode_pairs
from ..probes.weak_labels import STUDENT_LOSSES, check_targets, soft_targets
from ..prompts import PromptSet
from ..prompts.unclaimed import without_claim
from . import measures
from .rows import Got, Passes, Row, Task

NONE = "no label"
LABELS = "the labels of the training rows"
TARGETS = "the targets that it was given in place of labels"
RISING = 0.2  # of the updates, over which the weight of the model's own answers rises
LOSSES = {
    "invariance": (NONE, "answers under a claim pulled to the model's own without one (context distillation)"),
    "ccs": (NONE, "consistency and confidence of the answers to a statement and its negation (Burns et al. 2022)"),
    "ccs_probe": (NONE, "the same of a frozen probe's reading of the two variants"),
    "contrast": (NONE, "more of what the two variants differ in along a closed-form contrast direction"),
    "infonce": (NONE, "streams matched with those of the same statement without a claim (van den Oord et al. 2018)"),
    "spin": (NONE, "self-play fine-tuning towards the model's own answers without a claim (Chen et al. 2024)"),
    "dpo": (LABELS, "the right answer preferred to the wrong one (Rafailov et al. 2023)"),
    "cross_entropy": (LABELS, "the right answer made likely"),
    "cross_entropy_away": (LABELS, "the wrong answer made likely (CAA's other direction)"),
    "confidence": (LABELS, "the right answer, and the model's own hard answers, half of which are yes (Burns et al. 2023)"),
    "log_confidence": (LABELS, "the same, as many of its own answers yes as the labels say (their released code)"),
}


@dataclass(frozen=True, kw_only=True)
class Answered:
    """What a loss of your own is given: answers of a batch of items.

    Attributes:
        now: Log-probabilities of the negative and the positive answer, `item x 2`, with gradients.
        base: Those of the unchanged model.
        towards: Those of the unchanged model without the claim.
        rows: Numbers of the items in the training prompts.
    """

    now: Tensor
    base: Tensor
    towards: Tensor
    rows: Sequence[int]

    @property
    def odds(self) -> Float[Tensor, " item"]:
        """Log-odds of the positive answer, now.

        Returns:
            `item`, natural log, with gradients.
        """
        return self.now[:, 1] - self.now[:, 0]


class Items:
    """Prompts made ready: their stems as rows, and the ids of their answers.

    Args:
        model: What `load_model` returns.
        prompts: Contrast pairs.

    Raises:
        AnswerTokens: An answer is no single token.
        TokenBoundary, PromptTooLong: As for `encode_pairs`.
    """

    def __init__(self, model: Any, prompts: PromptSet) -> None:
        if prompts.single:
            raise AnswerTokens("a training on answers needs contrast pairs; these are single statements (prompts.as_questions makes pairs)")
        self.prompts = prompts
        self.pairs = encode_pairs(model, prompts)
        self.rows = [Row(ids=tuple(p.negative[: p.stem]), ask=(p.stem - 1,)) for p in self.pairs]
        known = {ends: answer_tokens(model, ends) for ends in {(p.negative, p.positive) for p in prompts}}
        self.forms = [known[p.negative, p.positive] for p in prompts]
        frame = prompts.to_frame()
        self.people = [str(x) for x in units_of(frame)]
        self.near = [f"{p.identity}|{p.right}|{p.meta.get('statement', p.stem)}" for p in prompts]
        self.labels = torch.tensor(prompts.labels, dtype=torch.float32)

    def answers(self, logits: Tensor, items: Sequence[int]) -> Tensor:
        """Return log-probabilities of both answers, all token forms together, `item x 2`, in the order of `items`."""
        logp = logits.log_softmax(-1)
        out = [torch.stack([row[self.forms[i][k]].logsumexp(0) for k in (0, 1)]) for row, i in zip(logp, items, strict=True)]
        return torch.stack(out)


def build(
    name: str | Callable[[Answered], Tensor],
    model: Any,
    prompts: PromptSet,
    *,
    towards: PromptSet | None = None,
    probe: tuple[Tensor, float] | None = None,
    read: int | None = None,
    beta: float = 0.1,
    temperature: float = 0.1,
    targets: Sequence[float] | None = None,
    own: float = 0.5,
) -> tuple[Task, Callable[[Passes], None]]:
    """Return a loss with its rows, and what must be read of the unchanged model before it can be computed.

    Args:
        name: One of `LOSSES`, or a function of `Answered` that returns a loss for each item.
        model: What `load_model` returns.
        prompts: Training prompts.
        towards: The same items without a claim, in the same order; by default made by `without_claim`.
        probe: A frozen probe, weight and bias, at block `read`; for "ccs_probe" and "contrast".
        read: The block that "ccs_probe", "contrast" and "infonce" read.
        beta, temperature: Of "dpo" and "spin", and of "infonce".
        targets: A teacher's probability of the positive answer by item, which "cross_entropy", "confidence" and "log_confidence" are
            given in place of the labels.
        own: Weight of the model's own answers in the last two.

    Returns:
        The task, whose rows begin with those of the items; and a function that reads the unchanged model.

    Raises:
        UnknownName: There is no such loss.
        BadInput, TooFew: The loss lacks rows that it needs: pairs of a statement and its negation, other items without a claim, a probe.
    """
    items = Items(model, prompts)
    count = len(items.rows)
    kept: dict[str, Any] = {}
    if callable(name) or name in ("invariance", "spin", "infonce"):
        bare = without_claim(prompts) if towards is None else towards
        _check_same(prompts, bare)
        other = Items(model, bare)
    else:
        other = items

    def answer_task(sees: str, each: Callable[[Tensor, Sequence[int], float], Tensor], label: str) -> tuple[Task, Callable[[Passes], None]]:
        def loss(units: Sequence[int], got: Got) -> Tensor:
            return each(items.answers(got.logits, units), units, got.done).mean()

        rows = items.rows if other is items else [*items.rows, *other.rows]
        units = [(i,) for i in range(count)]

        def prepare(passes: Passes) -> None:
            kept["base"] = items.answers(passes.all(range(count)).logits, range(count))
            if other is not items:
                kept["towards"] = other.answers(passes.all(range(count, 2 * count)).logits, range(count))

        whole = callable(name) or name in STUDENT_LOSSES  # the latter have a threshold over the batch, and a function may
        return Task(name=label, sees=sees, rows=rows, units=units, people=items.people, near=items.near, loss=loss, whole=whole), prepare

    if callable(name):

        def custom(now: Tensor, at: Sequence[int], _: float) -> Tensor:
            where = torch.tensor(at)
            return name(Answered(now=now, base=kept["base"][where], towards=kept["towards"][where], rows=at))

        return answer_task("whatever the function uses", custom, getattr(name, "__name__", "custom"))
    sees = _known(name)
    if targets is not None and name not in (*STUDENT_LOSSES, "cross_entropy"):
        raise BadInput(f"targets= are for 'cross_entropy', 'confidence' and 'log_confidence'; the loss {name!r} has no use for them")
    if name == "invariance":
        return answer_task(sees, lambda now, at, _: measures.invariance(now, kept["towards"][torch.tensor(at)]), name)
    if name == "spin":

        def spin(now: Tensor, at: Sequence[int], _: float) -> Tensor:
            where = torch.tensor(at)
            return measures.spin(now, kept["base"][where], kept["towards"][where], beta)

        return answer_task(sees, spin, name)
    if name == "dpo":

        def dpo(now: Tensor, at: Sequence[int], _: float) -> Tensor:
            where = torch.tensor(at)
            base = kept["base"][where]
            return measures.dpo(now[:, 1] - now[:, 0], base[:, 1] - base[:, 0], items.labels[where].to(now.device), beta)

        return answer_task(sees, dpo, name)
    if name.startswith("cross_entropy") or name in STUDENT_LOSSES:
        answer = items.labels
        if targets is not None:
            answer = torch.as_tensor(check_targets(targets, count, "plain" if name not in STUDENT_LOSSES else name, own)).float()
            sees = TARGETS
        answer = 1 - answer if name == "cross_entropy_away" else answer

        def entropy(now: Tensor, at: Sequence[int], done: float) -> Tensor:
            odds, goal = now[:, 1] - now[:, 0], answer[torch.tensor(at)].to(now.device)
            if name in STUDENT_LOSSES:
                goal = soft_targets(odds, goal, name, own * min(1.0, done / RISING))
            return measures.cross_entropy(odds, goal)

        return answer_task(sees, entropy, name)
    if name == "ccs":
        return _ccs(items, sees)
    if read is None:
        raise BadInput(f"the loss {name!r} reads the stream of a block: read=")
    if name == "infonce":
        return _infonce(items, other, read, temperature, sees)
    if probe is None:
        raise BadInput(f"the loss {name!r} needs a frozen probe: probe=(weight, bias) of block {read}")
    return _variants(name, items, probe, read, sees)


def _known(name: str) -> str:
    from ..core.errors import UnknownName, unknown

    if name not in LOSSES:
        raise unknown(UnknownName, "loss", name, LOSSES)
    return LOSSES[name][0]


def _check_same(prompts: PromptSet, bare: PromptSet) -> None:
    if len(prompts) != len(bare):
        raise BadInput(f"towards= has {len(bare)} items and the training prompts {len(prompts)}: they must be the same items, in order")
    for i, (a, b) in enumerate(zip(prompts, bare, strict=True)):
        if (a.identity, a.right, a.label) != (b.identity, b.right, b.label):
            raise BadInput(
                f"towards=: item {i} is about {b.identity!r} and {b.right!r}, and the training item about {a.identity!r} and {a.right!r}"
            )


def _pairs(prompts: PromptSet) -> list[tuple[int, int]]:
    """Items that state the same right of the same identity, once granting and once denying, in the same form and under the same claim."""
    seen: dict[tuple[str, ...], dict[str, int]] = {}
    for i, p in enumerate(prompts):
        polarity = str(p.meta.get("polarity", ""))
        seen.setdefault((p.identity, p.right, p.claim, p.template, str(p.meta.get("phrasing", ""))), {})[polarity] = i
    return [(v["grant"], v["deny"]) for v in seen.values() if {"grant", "deny"} <= set(v)]


def _ccs(items: Items, sees: str) -> tuple[Task, Callable[[Passes], None]]:
    units = _pairs(items.prompts)
    if not units:
        raise TooFew(
            "the loss 'ccs' needs statements with their negations: items of one identity and right with the polarities 'grant' and 'deny'"
        )

    def loss(chosen: Sequence[int], got: Got) -> Tensor:
        flat = [i for u in chosen for i in units[u]]
        now = items.answers(got.logits, flat)
        odds = (now[:, 1] - now[:, 0]).view(-1, 2)
        return measures.ccs(odds[:, 0], odds[:, 1]).mean()

    people = [items.people[a] for a, _ in units]
    return Task(name="ccs", sees=sees, rows=items.rows, units=units, people=people, loss=loss), lambda _: None


def _infonce(items: Items, other: Items, read: int, temperature: float, sees: str) -> tuple[Task, Callable[[Passes], None]]:
    count = len(items.rows)
    kept: dict[str, Tensor] = {}

    def at_last(row: Row) -> Row:
        return replace(row, ask=(), read=row.ask)

    def loss(units: Sequence[int], got: Got) -> Tensor:
        if len(units) < 2:
            return got.streams[read].sum() * 0
        return measures.infonce(got.streams[read], kept["there"][torch.tensor(units)], temperature).mean()

    def prepare(passes: Passes) -> None:
        kept["there"] = passes.all(range(count, 2 * count), read=(read,)).streams[read]

    rows = [at_last(r) for r in (*items.rows, *other.rows)]
    units = [(i,) for i in range(count)]
    return Task(name="infonce", sees=sees, rows=rows, units=units, people=items.people, loss=loss, read=(read,), whole=True), prepare


def _variants(name: str, items: Items, probe: tuple[Tensor, float], read: int, sees: str) -> tuple[Task, Callable[[Passes], None]]:
    """Losses of both variants of each item, read at their last token by a frozen probe."""
    count = len(items.pairs)
    rows = [Row(ids=tuple(ids), read=(len(ids) - 1,)) for p in items.pairs for ids in (p.negative, p.positive)]
    weight, bias = probe[0].float(), float(probe[1])

    def loss(units: Sequence[int], got: Got) -> Tensor:
        both = got.streams[read].view(len(units), 2, -1)
        w = weight.to(both.device)
        if name == "contrast":
            return measures.contrast(both[:, 0], both[:, 1], w / w.norm())
        odds = both @ w + bias
        return measures.ccs(odds[:, 0], odds[:, 1]).mean()

    units = [(2 * i, 2 * i + 1) for i in range(count)]
    return Task(name=name, sees=sees, rows=rows, units=units, people=items.people, loss=loss, read=(read,)), lambda _: None


def leash(model: Any, retain: PromptSet | Sequence[str], weight: float) -> tuple[Task, Callable[[Passes], None]]:
    """Return the task that holds the model near the unchanged one: KL(base || now) after the stems of prompts, or within texts.

    Args:
        model: What `load_model` returns.
        retain: Prompts, asked at the end of their stems; or texts, asked at every fourth token.
        weight: Of the mean KL in nats.

    Raises:
        BadInput: There is nothing to retain.
    """
    if len(retain) == 0:
        raise BadInput("retain= is empty: a leash needs prompts or texts")
    if isinstance(retain, PromptSet):
        rows, people = Items(model, retain).rows, [str(x) for x in units_of(retain.to_frame())]
    else:
        ids = encode(model, list(retain))
        rows = [Row(ids=tuple(x), ask=tuple(range(min(3, len(x) - 1), len(x), 4))) for x in ids]
        people = [f"text {i}" for i in range(len(rows))]
    kept: dict[int, Tensor] = {}

    def loss(units: Sequence[int], got: Got) -> Tensor:
        base = torch.cat([kept[u] for u in units]).to(got.logits.device)
        return measures.kl(got.logits.log_softmax(-1), base).mean()

    def prepare(passes: Passes) -> None:
        for k in range(len(rows)):
            kept[k] = passes.all([k]).logits.log_softmax(-1)

    units, counts = [(i,) for i in range(len(rows))], [len(r.ask) for r in rows]
    return Task(name="leash", sees=NONE, rows=rows, units=units, people=people, loss=loss, weight=weight, counts=counts), prepare
