"""What studies over statements share: the split, prompts by side and claim, readings and answers of one model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ..activations import Activations
from ..core.errors import AnswerTokens, PromptTooLong, UnknownClaim, unknown
from ..core.seeds import derive
from ..evaluation import answers_of, choose_answers
from ..evaluation.eliciting import Form, best_form, elicitation, forms
from ..models import info, mean_embeddings, planted
from ..models.tokens import encode, encode_pairs
from ..prompts import ContrastPair, PromptSet, Split, check_sides, claims, grouped_split, statements, udhr_split
from ..prompts.statements import FIT
from ..runs import ModelHandle, Steps
from ..runs.amount import tokens_of
from .asking import WORDINGS, AskSettings, examples, numbers, reply_words, simplest, uses_chat, vocabulary

READ = ("since_claim", "consider_claim")
ROOM = 40  # tokens that a claim and a longer statement may take


def check_claims(names: Sequence[str]) -> None:
    """Raise unless every claim exists.

    Args:
        names: Names of claims, of statements or of requests.

    Raises:
        UnknownClaim: One does not.
    """
    known = claims() | claims("requests")
    for claim in names:
        if claim not in known:
            raise unknown(UnknownClaim, "claim", claim, known)


class Rows:
    """The steps of a study share a model's handle, its answer words, the split and the run.

    Args:
        models: Handles by role; the role is "model".
        settings: The study's settings.
        run: The steps.
    """

    set: Any

    def __init__(self, models: Mapping[str, ModelHandle], settings: Any, run: Steps) -> None:
        self.handle = models["model"]
        self.set = settings
        self.run = run
        self.info = info(self.handle)
        self.planted = planted(self.handle)
        self.source = statements(getattr(settings, "data", ""), getattr(settings, "columns", None), getattr(settings, "says", None))
        self.split = self._split(self.source.rows())
        check_sides(self.source, self.split)
        self.asks: AskSettings = settings
        self.form = self._form()
        self.words = self.form.answers

    @property
    def model(self) -> Any:
        """The model, loaded: inside a step only."""
        return self.handle.load()

    @property
    def progress(self) -> bool | None:
        """Whether long steps show their progress."""
        return self.run.progress

    def _can_choose(self) -> bool:
        return all(len(self.handle.tokenizer(w, add_special_tokens=False)["input_ids"]) == 1 for w in (" A", " B"))

    def _split(self, rows: pd.DataFrame) -> Split:
        if self.source.own:
            # with two columns the test rows are those held out in both: half and half leaves enough of them
            two = rows["identity"].nunique() > 1 and rows["right"].nunique() > 1
            return grouped_split(rows, test=0.45 if two else 0.35, seed=self.set.seed)
        return udhr_split(self.handle, seed=self.set.seed) if self.source.name == "udhr" else grouped_split(rows, seed=self.set.seed)

    # ------------------------------------------------------------------ how the model is asked

    def _form(self) -> Form:
        """The form in which the model is asked: given, or found on training rows without labels."""
        chat = uses_chat(self.asks, self.handle, self.planted is not None)
        if self.source.kind == "requests":  # a reply is told by its first word
            return Form(chat=chat, answers=reply_words(self.handle, self.asks.words))
        try:
            among = forms(self.handle, chat=self.asks.chat, shots=numbers(self.asks), words=vocabulary(self.asks))
        except AnswerTokens:
            if self.asks.words:
                raise
            among = [Form(chat=chat, shots=self.asks.shots or 0, answers=choose_answers(self.handle))]
        plain = simplest(among, chat)
        if self.planted is not None or not self.asks.elicit or len(among) == 1:
            return plain
        asked = {form: [self._ask_in(form, t, None, self.asks.elicit, "train") for t in WORDINGS] for form in among}
        among = [form for form in among if self._fits(asked[form])]
        asked = {form: asked[form] for form in among}
        if len(among) < 2:
            return among[0] if among else plain

        def make() -> pd.DataFrame:
            return elicitation(self.model, asked, progress=self.progress, seed=self.set.seed)

        key = [self.handle.key, {form.name: [s.hash for s in sets] for form, sets in asked.items()}, self.set.seed]
        tokens = sum(tokens_of(s) for sets in asked.values() for s in sets)
        return self.run.choose("elicitation", key, make, lambda table: best_form(table, among), plain, tokens=tokens)

    def _fits(self, sets: Sequence[PromptSet]) -> bool:
        """Whether prompts fit the model's context, with room for a claim: examples may not."""
        try:
            longest = max(len(pair.positive) for prompts in sets for pair in encode_pairs(self.handle, prompts))
        except PromptTooLong:
            return False
        return longest + ROOM <= self.info.context

    def _ask_in(self, form: Form, template: str, claim: str | None, n: int | None, side: str | None, phrasings: int = 1) -> PromptSet:
        held = {} if side is None else self.split.values(side)
        asking: dict[str, Any] = self.asking(template, form)
        if phrasings > 1 and claim is not None:
            asking["phrasings"] = phrasings
        prompts = self.source.prompts(template, claim, n=n, answers=form.answers, seed=self.set.seed, held=held, **asking)
        told = {p.meta.get("statement") for p in asking.get("shots", ())}
        if not told or side == "test":
            return prompts
        return PromptSet((p for p in prompts if p.meta.get("statement") not in told), name=prompts.name)

    def asking(self, template: str, form: Form | None = None) -> dict[str, Any]:
        """How prompts are asked, as keywords of what makes them.

        Args:
            template: The prompt form; examples are worded like it, without a claim.
            form: By default that of the study.

        Returns:
            Keywords of `prompts.udhr`: `model`, `chat`, `system`, `chat_options`, `legend`, `shots`.
        """
        form = form or self.form
        chat = self._chat(form)
        if self.source.kind != "udhr" or "rather" in template:
            return chat
        return chat | {"legend": form.legend, "shots": self._examples(form, WORDINGS["long" in template])}

    @property
    def chat(self) -> dict[str, Any]:
        """How requests are asked: keywords of `prompts.requests`."""
        return self._chat(self.form)

    def _chat(self, form: Form) -> dict[str, Any]:
        return self.asks.through(self.handle, form.chat)

    def _examples(self, form: Form, template: str) -> tuple[ContrastPair, ...]:
        """Training statements with their right answers."""
        if not form.shots:
            return ()
        held = {k: sorted(v) for k, v in self.split.train.items()}
        seed = derive(self.set.seed, "examples")
        some = self.source.prompts(
            template, None, n=8 * form.shots, answers=form.answers, seed=seed, held=held, chat=False, legend=form.legend
        )
        return examples(some, form.shots, self.set.seed)

    def _prompts(self, template: str, claim: str | None, n: int | None, side: str | None, phrasings: int = 1) -> PromptSet:
        return self._ask_in(self.form, template, claim, n, side, phrasings)

    def _blank(self, base: PromptSet) -> Activations | None:
        """Read an untrained copy; a model without a Hugging Face configuration has none."""
        if not self.handle.configured:
            return None
        return self.run.read("read an untrained copy", self.handle.untrained(self.set.seed), base)

    def _read(
        self,
        name: str,
        prompts: PromptSet,
        *,
        site: str = "resid_post",
        position: str = "last",
        layers: Sequence[int] | None = None,
        answers: bool = False,
    ) -> Activations:
        return self.run.read(name, self.handle, prompts, site=site, position=position, layers=layers, answers=answers)

    def _text_vectors(self, *read: Activations) -> dict[str, np.ndarray] | None:
        """The mean token embedding of every statement in these rows: a control on what the words alone say; inside a step."""
        if not all("statement" in acts.rows for acts in read):
            return None
        return mean_embeddings(self.model, (text for acts in read for text in acts.rows["statement"]))

    def _told(self, acts: Activations) -> Activations:
        """Activations with the model's answer and the number of tokens that name the identity in their rows; inside a step."""
        asked = answers_of(acts)
        tokens = [len(x) for x in encode(self.handle, asked["identity"].tolist())]
        counts = np.array(tokens) - len(self.info.first)
        return acts.with_column("answer", asked["answer"]).with_column("identity_tokens", counts)

    @property
    def layer(self) -> int:
        """The layer that single-layer statements use, fixed before any result: two thirds of the way up."""
        return min(self.info.n_layers - 1, self.info.n_layers * 2 // 3)


def spread(count: int, most: int) -> list[int]:
    """Return at most so many layers, evenly spread from the first to the last.

    Args:
        count: Layers of the model.
        most: Layers at most.

    Returns:
        Layers in order, the first and the last among them.
    """
    return sorted({int(x) for x in np.linspace(0, count - 1, min(most, count)).round()})


def subtitle(study: Any, more: str = "") -> str:
    """Return the line under a report's title: the model and its sizes.

    Args:
        study: What `compute` returned.
        more: Put behind it.
    """
    known = study.info
    form = getattr(study, "form", Form())
    asked = "" if form == Form() else f"; asked: {form.name}"
    return f"{known.name}: {known.n_layers} layers, d_model {known.d_model}, {known.dtype}{weights_of(known)}{more}{asked}."


def weights_of(known: Any) -> str:
    """Return where a model's weights come from as a part of a sentence, "" where that is not known.

    Args:
        known: What `info` returns.
    """
    return f", {known.weights}" if known.weights else ""


__all__ = ["FIT", "READ", "Rows", "check_claims", "spread", "subtitle", "weights_of"]
