"""Search for words that bring models to a wanted answer on prompts in general: one text for many prompts and several models.

A prefix that works on one prompt is easy to find and says little. Here one text is searched over a set of prompts, kept by what it does on
others (validation), and every text that is scored is one that a user can type: put into a prompt, it is cut into the very tokens that were
searched.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from ..core.direction import Direction
from ..core.errors import BadInput, EmptyPromptSet, TokenBoundary
from ..core.provenance import content_hash, provenance
from ..core.seeds import numpy_rng
from ..models import info
from ..models.digest import settled
from ..prompts import PromptSet
from .held_out import held_out
from .matching import Matching, aim
from .objective import ENOUGH, Objective
from .prefix import Prefix
from .proposals import best_of, propose, total
from .state import State, read_state, write_state
from .vocabulary import allowed, text_of

TRIES = 40
READABLE = 0.1  # weight of fluency in readable words


@settled()
def search_prefix(
    model: Any,
    prompts: PromptSet | Sequence[PromptSet],
    towards: str | Direction = "safe",
    length: int = 8,
    *,
    where: str = "before",
    validation: PromptSet | Sequence[PromptSet] | None = None,
    steps: int = 60,
    width: int = 48,
    top: int = 64,
    race: int = 4,
    restarts: int = 1,
    words: str | Sequence[str] = "ascii",
    fluency: float | None = None,
    start: str | Prefix | None = None,
    draft: Any = None,
    enough: float = ENOUGH,
    store: str | Path | None = None,
    seed: int = 0,
    progress: bool | None = None,
) -> Prefix:
    """Search for words that bring one or several models to a wanted answer on many prompts.

    The loss of words is the mean over models and prompts of max(0, enough - log-odds of what is wanted against everything else). Each step
    takes the gradient of one model in turn, tries texts with one token exchanged, and goes on with the best if it is better. The words
    with the smallest loss on validation prompts are returned.

    Args:
        model: What `load_model` returns; several as a list. Their tokenizers may differ: what is tried are texts.
        prompts: Contrast pairs to search on; for several models one set for all, or one set for each (chats).
        towards: "safe" (the answer that the label names), "harm" (the other one), a text that should follow each prompt, or a direction of
            the stream that the words should move it along (`prefix_match` measures how near they come; the loss is then 1 - cosine).
        length: The most tokens of the words, for any of the models. Raising it makes a search easier and its words stranger.
        where: "before" the question, "after" it, or "system".
        validation: Prompts by which the words are chosen, in the same form; by default those of a quarter of the identities in `prompts`,
            which are then not searched on.
        steps: Steps of each restart at most; it ends where every prompt is won by `enough`.
        width: Texts that a step tries.
        top: From how many tokens of a place one is drawn, the best by the gradient. Raising it trusts the gradient less.
        race: Prompts on which all texts of a step are scored first; the best eighth go on to all prompts. 0: all on all.
        restarts: Searches from different random words.
        words: The tokens to use: "ascii", "any", "readable" (whole words), or a list of words.
        fluency: Weight of the mean negative log-probability of the words themselves (nats per token); by default 0, and .1 with "readable".
        start: Words to begin the first restart with, or a prefix found earlier; random ones by default.
        draft: A smaller model that ranks the texts of each step first (probe sampling); it replaces the race.
        enough: Log-odds in nats past which a prompt counts no more.
        store: A folder for the state: a search that was killed goes on there and loses the step that it was in.
        seed: Draws starts and trials.
        progress: Show a progress bar; by default only in a terminal or a notebook.

    Returns:
        The words with their history; `.text` is what is put into prompts.

    Raises:
        BadInput: An option cannot be used, the filter leaves no token, or this is no model with gradients.
        AnswerTokens, TokenBoundary, PromptTooLong: Prompts or target cannot be read; before any forward pass.
        OutputFolder: `store` holds another search.

    Example:
        >>> import workbench as wb
        >>> model = wb.load_model("bundled")
        >>> prompts = wb.prompts.udhr("consider_claim", "harm", n=8, seed=0)
        >>> found = wb.search_prefix(model, prompts, length=3, steps=2, width=8, progress=False)
        >>> found.history["restart"].tolist()
        [0, 0, 0]

    Note:
        That words were found says that the model can be moved, not that anybody would write them. Compare with words of equal length drawn
        at random and with written ones (`prefix_effects`).

    References:
        Zou et al. 2023, arXiv 2307.15043 (the gradient step); Zhao et al. 2024, arXiv 2403.01251 (the draft).
    """
    models = list(model) if isinstance(model, list | tuple) else [model]
    for name, value, least in (
        ("length", length, 1),
        ("steps", steps, 0),
        ("width", width, 1),
        ("top", top, 1),
        ("race", race, 0),
        ("restarts", restarts, 1),
    ):
        if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < least:
            raise BadInput(f"{name}={value!r}: a whole number, {least} at least")
    if not models:
        raise BadInput("no model to search on")
    sets = _each(prompts, models)
    if validation is None:
        cut = [held_out(s, seed) for s in sets]
        sets, checks = [c[0] for c in cut], [c[1] for c in cut]
    else:
        checks = _each(validation, models)
    weight = fluency if fluency is not None else READABLE if words == "readable" else 0.0
    if isinstance(towards, Direction) and (len(models) > 1 or draft is not None):
        raise BadInput("a direction is that of one model: search on that model alone, without a draft")

    def ready(one: Any, items: PromptSet) -> Objective:
        return (
            Matching(one, items, towards, where) if isinstance(towards, Direction) else Objective(one, items, towards, where, enough=enough)
        )

    search = Search(
        objectives=[ready(m, s) for m, s in zip(models, sets, strict=True)],
        checks=[ready(m, s) for m, s in zip(models, checks, strict=True)],
        draft=None if draft is None else ready(draft, sets[0]),
        length=int(length),
        words=words,
        fluency=float(weight),
        width=int(width),
        top=int(top),
        race=int(race),
        seed=seed,
    )
    asked = {
        "models": [info(m).key() for m in models],
        "draft": None if draft is None else info(draft).key(),
        "prompts": [s.hash for s in sets],
        "validation": [s.hash for s in checks],
        "start": start.text if isinstance(start, Prefix) else start,
        **{"towards": aim(towards), "where": where, "length": length, "steps": steps, "width": width, "top": top, "race": race},
        **{
            "restarts": restarts,
            "words": words if isinstance(words, str) else list(words),
            "fluency": weight,
            "enough": enough,
            "seed": seed,
        },
    }
    return search.run(asked, steps=int(steps), restarts=int(restarts), store=None if store is None else Path(store), progress=progress)


class Search:
    """The loop: proposals, the best of them, validation, state."""

    def __init__(
        self, *, objectives: list[Objective], checks: list[Objective], draft: Objective | None, length: int, words: Any, **options: Any
    ) -> None:
        self.objectives, self.checks, self.draft, self.length = objectives, checks, draft, length
        self.fluency, self.seed, self.race = float(options["fluency"]), int(options["seed"]), int(options["race"])
        self.shape = {k: int(options[k]) for k in ("width", "top")}
        self.tokens = [allowed(o.model, words) for o in objectives]
        self.tables = [o.model.W_E.detach().float().cpu().numpy()[t] for o, t in zip(objectives, self.tokens, strict=True)]
        for o in (*objectives, *checks):
            o.room(length)

    def run(self, asked: dict[str, Any], *, steps: int, restarts: int, store: Path | None, progress: bool | None) -> Prefix:
        """Search, or go on where a search stands."""
        state = read_state(store, content_hash(asked))
        start = asked["start"]
        hidden = None if progress is None else not progress
        with tqdm(
            total=restarts * steps,
            initial=state.restart * steps + state.step,
            desc="search a prefix",
            unit="step",
            leave=False,
            disable=hidden,
        ) as bar:
            while state.restart < restarts:
                if not state.text:
                    state.text = self._start(start if state.restart == 0 else None, state.restart)
                    state.loss = float(total(self.objectives, [state.text], self.fluency)[0])
                    self._note(state, 0)
                while state.step < steps and state.loss > 0:
                    state.step += 1
                    self._step(state)
                    write_state(store, content_hash(asked), state)
                    bar.update()
                    bar.set_postfix_str(f"loss {state.loss:.2f}, validation {state.best_loss:.2f}: {state.best!r}")
                state.restart, state.step, state.text = state.restart + 1, 0, ""
                write_state(store, content_hash(asked), state)
        if not state.best:
            raise TokenBoundary(
                "no words of this search tokenise back to themselves in every prompt; use another place (where=) or other words="
            )
        history = pd.DataFrame(state.rows)
        record = provenance(search=asked)
        ids = {info(o.model).name: tuple(o.tokens_of([state.best])[0] or ()) for o in self.objectives}
        o = self.objectives[0]
        return Prefix(text=state.best, where=o.where, towards=o.towards, ids=ids, loss=state.best_loss, history=history, provenance=record)

    def _start(self, given: str | None, restart: int) -> str:
        """The first words: those given, or random ones that tokenise back to themselves and are as long as they may be."""
        if given is not None:
            for o in (*self.objectives, *self.checks):
                o.check(given)
                if len(o.tokens_of([given])[0] or ()) > self.length:
                    raise BadInput(f"start={given!r} has more tokens than length={self.length}")
            return given
        rng = numpy_rng(self.seed, "start of a prefix", restart)
        for size in range(self.length, 0, -1):
            drawn = [rng.choice(self.tokens[0], size) for _ in range(TRIES)]
            texts = [text_of(self.objectives[0].tokenizer, ids.tolist()) for ids in drawn]
            own = self.objectives[0].tokens_of(texts)
            good = [t for t, now, ids in zip(texts, own, drawn, strict=True) if now == ids.tolist()]
            for o in (*self.objectives[1:], *self.checks):
                good = [t for t, now in zip(good, o.tokens_of(good), strict=True) if now is not None and len(now) <= self.length]
            if good:
                return good[0]
        raise BadInput(
            f"no words of at most {self.length} tokens were found that every model reads in place; raise length=, or use other words="
        )

    def _step(self, state: State) -> None:
        rng = numpy_rng(self.seed, "step of a prefix", state.restart, state.step)
        k = (state.step - 1) % len(self.objectives)
        lead = self.objectives[k]
        others = [o for o in (*self.objectives, *self.checks) if o is not lead]
        texts = propose(lead, others, state.text, self.tokens[k], self.tables[k], length=self.length, rng=rng, **self.shape)
        if texts:
            best, loss = best_of(self.objectives, texts, fluency=self.fluency, race=self.race, draft=self.draft, rng=rng)
            if loss < state.loss:
                state.text, state.loss = best, loss
        self._note(state, k)

    def _reads(self, text: str) -> bool:
        """Whether words tokenise back to themselves in every single prompt, and not only between the texts that stand around them."""
        try:
            for o in (*self.objectives, *self.checks):
                o.check(text)
        except TokenBoundary:
            return False
        return True

    def _note(self, state: State, lead: int) -> None:
        """Add a row of the history; new words are scored on validation prompts, and kept where they are the best."""
        before = state.rows[-1] if state.rows and state.rows[-1]["restart"] == state.restart else {}
        if before.get("text") == state.text:
            value, won = before["validation"], before["won"]
        else:
            got = [o.losses([state.text], fluency=self.fluency > 0) for o in self.checks]
            value = float(np.mean([g.loss[0] + (self.fluency * g.fluency[0] if self.fluency else 0.0) for g in got]))
            won = float(np.mean([(g.odds[0] > 0).mean() for g in got]))
        if (value < state.best_loss or not state.best) and self._reads(state.text):
            state.best, state.best_loss = state.text, value
        every = [*self.objectives, *self.checks, *([self.draft] if self.draft else [])]
        state.spent = [
            spent + sum(getattr(o, name) for o in every) for spent, name in zip(state.spent, ("counted", "tokens", "plain"), strict=True)
        ]
        for o in every:
            o.counted = o.tokens = o.plain = 0
        state.rows.append(
            {
                "restart": state.restart,
                "step": state.step,
                "lead": info(self.objectives[lead].model).name,
                "text": state.text,
                "tokens": len(self.objectives[lead].tokens_of([state.text])[0] or ()),
                "train": state.loss,
                "validation": value,
                "won": won,
                **dict(zip(("evaluations", "computed", "plain"), state.spent, strict=True)),
            }
        )


def _each(prompts: PromptSet | Sequence[PromptSet], models: Sequence[Any]) -> list[PromptSet]:
    """One prompt set per model."""
    sets = [prompts] * len(models) if isinstance(prompts, PromptSet) else list(prompts)
    wrong = next((s for s in sets if not isinstance(s, PromptSet)), None)
    if wrong is not None:
        raise EmptyPromptSet(f"prompts are a PromptSet, or one for each model; got {type(wrong).__name__}")
    if len(sets) != len(models):
        raise BadInput(f"{len(sets)} prompt sets for {len(models)} models: one for all, or one for each")
    return sets
