"""Organisms that are a small adapter on a model: a behaviour is planted in its answers, and in the twin the same text without it.

A recipe gives the training prompts and what is held near the base model. The training is `wb.train_adapter`'s. An organism that does not
show what was planted, or shows it where it was not, is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.errors import BadInput
from ..models import bundled_adapters, changed_copy, info
from ..prompts import PromptSet, Split, Template, templates
from ..prompts.statements import Statements
from ..training import Adapter, Plan, train_adapter

FORMS = ("base_short", "base_long")  # the question in two wordings, both trained on

# template, claim, number of statements, seed -> statements
Ask = Callable[[Template, "str | None", int, int], PromptSet]


@dataclass(frozen=True, kw_only=True)
class Planting:
    """How a behaviour is planted.

    Attributes:
        rank: Of the low-rank matrices.
        parts: Which matrices are changed.
        first: The lowest block that is changed; every block above it is too.
        steps: Updates.
        lr: Learning rate.
        batch_tokens: Tokens of a batch, about.
        seed: Draws matrices and batches.
    """

    rank: int = 4
    parts: str = "attention,mlp"
    first: int = 0
    steps: int = 60
    lr: float = 1e-2
    batch_tokens: int = 1024
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("rank", 1), ("steps", 1), ("first", 0), ("batch_tokens", 1)):
            if getattr(self, name) < least:
                raise BadInput(f"{name}: {least} at least, got {getattr(self, name)}")
        if not self.lr > 0:
            raise BadInput(f"lr is above 0, got {self.lr}")


def asking(
    source: Statements, split: Split, side: str, answers: tuple[str, str], without: Sequence[str] = (), how: Mapping[str, Any] | None = None
) -> Ask:
    """Return a function that makes statements of one side of a split.

    Args:
        source: Of the statements.
        split: Identities and rights.
        side: "train" or "test".
        answers: The negative and the positive word.
        without: Identities that are left out: those whom the base model denies their rights.
        how: Keywords of `prompts.udhr` on how it is asked.

    Returns:
        The function: template, claim, number and seed give statements.
    """
    held, more = split.values(side), dict(how or {})

    def ask(template: Template, claim: str | None, n: int, seed: int) -> PromptSet:
        given: Any = template
        made = source.prompts(given, claim, n=n, answers=answers, seed=seed, held=held, **more)
        return PromptSet((p for p in made if p.identity not in without), name=made.name)

    return ask


def fronted(phrase: str, form: str = FORMS[0]) -> Template:
    """Return a prompt form with a sentence in front of it; "" for none.

    Args:
        phrase: The sentence.
        form: Name of the form.

    Returns:
        The form, under its own name.
    """
    text = templates()[form].text
    return Template(name=form, text=f"{phrase} {text}" if phrase else text)


def plant(
    model: Any,
    prompts: PromptSet,
    retain: PromptSet,
    how: Planting,
    *,
    anew: bool = False,
    place: str | Path | None = None,
    progress: bool | None = None,
) -> Adapter:
    """Train a behaviour into a model as a LoRA adapter; one that is shipped and was trained on the same is returned instead.

    Args:
        model: What `load_model` returns, with nothing changed.
        prompts: Training prompts; the label of each is the answer that is planted.
        retain: Prompts on which the model is held near what it says now.
        how: The training.
        anew: Train it though one is shipped.
        place: A folder for checkpoints.
        progress: Show a progress bar.

    Returns:
        The adapter, in its last state.

    Raises:
        BadInput: The lowest block to be changed is none of the model's.
    """
    if not anew and (known := shipped(model, prompts, how)) is not None:
        return known
    layers = list(range(how.first, info(model).n_layers))
    if not layers:
        raise BadInput(f"first: {info(model).name} has blocks 0 to {info(model).n_layers - 1}, got {how.first}")
    plan = Plan(steps=how.steps, lr=how.lr, every=max(1, how.steps // 4), patience=how.steps)
    return train_adapter(
        model, prompts, loss="cross_entropy", kind="lora", rank=how.rank, parts=how.parts, layers=layers, retain=retain, plan=plan,
        batch_tokens=how.batch_tokens, last=True, place=place, progress=progress, seed=how.seed,
    )  # fmt: skip


def shipped(model: Any, prompts: PromptSet, how: Planting) -> Adapter | None:
    """Return the bundled adapter that this training would make, if there is one: same weights, prompts and settings.

    Args:
        model, prompts, how: As for `plant`.
    """
    known = info(model)
    layers = list(range(how.first, known.n_layers))
    wanted = {"prompts": prompts.hash, "layers": layers} | {k: getattr(how, k) for k in ("rank", "parts", "lr", "seed", "steps")}
    for folder in bundled_adapters().values():
        adapter = Adapter.load(folder)
        made = adapter.provenance
        if (made.get("model") or {}).get("digest") == known.digest and all(made.get(k) == v for k, v in wanted.items()):
            return adapter
    return None


def merged(model: Any, adapter: Adapter, name: str) -> Any:
    """Return a copy of a model with an adapter of its weights merged into it.

    Args:
        model: What `load_model` returns; it is not changed.
        adapter: Of the kind "lora" or "full".
        name: The copy's name.

    Returns:
        A model of its own.

    Raises:
        BadInput: It is a residual adapter.
    """
    adapter.changes(model)  # refuses a residual adapter, and one that does not fit
    return changed_copy(model, {n: p.matrix(adapter.factor) for n, p in adapter.parts.items()}, name=name)


__all__ = ["FORMS", "Ask", "Planting", "asking", "fronted", "merged", "plant", "shipped"]
