"""In which form a model can be asked: chat or plain text, how many examples, which answer words. Judged without labels.

A form serves where the model answers (the two words hold the probability), where it does not give one word to everything, and where it
says of a statement what it says when the question is worded otherwise. None of these looks at which answer is right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from ..core.errors import AnswerTokens, BadInput
from ..core.provenance import provenance
from ..core.stats import Estimate, bootstrap, mean, proportion, undefined
from ..core.tables import units_of
from ..models.known import info
from ..models.tokens import answer_tokens
from ..prompts import PromptSet
from .agreement import answers

# the negative and the positive word, and what tells the model of them
WORDS: Mapping[tuple[str, str], str] = {
    ("no", "yes"): "",
    ("No", "Yes"): "Answer Yes or No.",
    ("false", "true"): "Answer true or false.",
    ("disagree", "agree"): "Answer agree or disagree.",
    ("B", "A"): "(A) yes (B) no",
    ("0", "1"): "Answer 1 for yes or 0 for no.",
}
SHOTS = (0, 2, 6)
USEFUL = 0.05  # below it a form is not asked in a second wording
COLUMNS = ["form", "chat", "shots", "words", "metric", "value", "low", "high", "n", "note"]


@dataclass(frozen=True, kw_only=True)
class Form:
    """A way to ask.

    Attributes:
        chat: Through the chat template.
        shots: Examples in front.
        answers: The negative and the positive answer word.
        legend: What tells the answer words.
    """

    chat: bool = False
    shots: int = 0
    answers: tuple[str, str] = ("no", "yes")
    legend: str = ""

    @property
    def name(self) -> str:
        """The form in words."""
        shots = f"{self.shots} examples" if self.shots else "no examples"
        return f"{'chat' if self.chat else 'plain'}, {shots}, {self.answers[1]}/{self.answers[0]}"


def forms(
    model: Any,
    *,
    chat: bool | None = None,
    shots: Sequence[int] = SHOTS,
    words: Mapping[tuple[str, str], str] = WORDS,
) -> list[Form]:
    """List the forms that a model's tokenizer admits.

    Args:
        model: What `load_model` returns, or a described model.
        chat: `None` for plain text and, where there is one, the chat template; or one of the two.
        shots: Numbers of examples.
        words: Negative and positive answer word, with what tells the model of them. Words that are no single tokens are left out.

    Returns:
        The forms; the first of them is the simplest.

    Raises:
        AnswerTokens: No pair of words will do.
        BadInput: A chat template is asked for and there is none.
    """
    there = bool(getattr(model.tokenizer, "chat_template", None))
    if chat and not there:
        raise BadInput(f"chat=True: the tokenizer of {info(model).name} has no chat template")
    usable = {}
    for pair, legend in words.items():
        try:
            answer_tokens(model, tuple(f" {w}" for w in pair))
        except AnswerTokens:
            continue
        usable[pair] = legend
    if not usable:
        shown = ", ".join("/".join(pair) for pair in words)
        raise AnswerTokens(f"{info(model).name} writes none of {shown} as single tokens; give answer words of your own")
    ways = (False, True) if chat is None and there else (bool(chat),)
    return [Form(chat=w, shots=k, answers=pair, legend=text) for w in ways for k in shots for pair, text in usable.items()]


def elicitation(
    model: Any, asked: Mapping[Form, Sequence[PromptSet]], *, resamples: int = 200, progress: bool | None = None, seed: int = 0
) -> pd.DataFrame:
    """Compare forms of asking, without labels.

    Args:
        model: What `load_model` returns.
        asked: Per form the same statements in several wordings of the question, two at least.
        resamples: Bootstrap draws.
        progress: Show progress bars.
        seed: Draws the resamples.

    Returns:
        Rows `form, chat, shots, words, metric, value, low, high, n, note`, intervals clustered by identity. Metrics: "answered" (the
        probability that the two words hold), "yes" (share of the positive word), "same" (share of statements answered alike in both
        wordings), "agreement" (correlation of the margins in both wordings) and "score": answered x 4·yes·(1 - yes) x agreement, each
        the lowest over the wordings; 0 for a form of no use, 1 for the best. A form that is of no use in the first wording is not asked
        in another. "chosen" is 1 for the form of the highest score.

    Raises:
        BadInput: There is no form, or a form has fewer than two wordings or other statements in one of them.
    """
    if not asked:
        raise BadInput("no form to ask in")
    for form, sets in asked.items():
        if len(sets) < 2 or len({len(s) for s in sets}) > 1:
            raise BadInput(f"{form.name}: the same statements in two wordings of the question at least")
    first = _asked(model, [sets[0] for sets in asked.values()], progress, "ask in every form")
    said = {form: [answered] for form, answered in zip(asked, first, strict=True)}
    # a form in which nearly all answers are one word, or none, is not asked again
    useful = [form for form, answered in said.items() if _usable(answered) >= USEFUL]
    again = iter(_asked(model, [s for form in useful for s in asked[form][1:]], progress, "ask again in other words"))
    for form in useful:
        said[form] += [next(again) for _ in asked[form][1:]]
    rows: list[dict[str, Any]] = []
    for form in asked:
        place = {"form": form.name, "chat": form.chat, "shots": form.shots, "words": "/".join(form.answers[::-1])}
        for metric, estimate in _measures(said[form], resamples, seed).items():
            rows.append(place | {"metric": metric, **estimate.row(), "note": estimate.note})
    table = pd.DataFrame(rows, columns=COLUMNS)
    score = table[table["metric"] == "score"].set_index("form")["value"]
    best = score.idxmax()
    chosen = table[table["metric"] == "score"].assign(metric="chosen", note="", low=np.nan, high=np.nan)
    chosen["value"] = (chosen["form"] == best).astype(float)
    table = pd.concat([table, chosen], ignore_index=True)
    table.attrs["provenance"] = provenance(model=info(model).key(), prompts=[s.hash for sets in asked.values() for s in sets])
    return table


def _asked(model: Any, sets: Sequence[PromptSet], progress: bool | None, note: str) -> list[pd.DataFrame]:
    """Ask several prompt sets in one pass: what their prompts share is computed once."""
    if not sets:
        return []
    every = PromptSet((p for prompts in sets for p in prompts), name=note)
    table = answers(model, every, progress=progress, note=note)
    ends = np.cumsum([len(s) for s in sets])
    return [table.iloc[end - len(s) : end].reset_index(drop=True) for end, s in zip(ends, sets, strict=True)]


def best_form(table: pd.DataFrame, among: Sequence[Form]) -> Form:
    """Return the chosen form of a table.

    Args:
        table: What `elicitation` returns.
        among: The forms that were asked.

    Returns:
        The form of the highest score.
    """
    name = table.loc[(table["metric"] == "chosen") & (table["value"] == 1), "form"].iloc[0]
    return next(form for form in among if form.name == name)


def _measures(said: Sequence[pd.DataFrame], resamples: int, seed: int) -> dict[str, Any]:
    people = units_of(said[0])
    masses = [mean(s["answered"], people) for s in said]
    shares = [proportion(s["answer"], people) for s in said]
    same = agree = undefined("not asked in another wording: of no use in the first", len(people))
    if len(said) > 1:
        a, b = (s["margin"].to_numpy(float) for s in said[:2])
        same = proportion((said[0]["answer"] == said[1]["answer"]).astype(int), people)
        agree = _correlated(a, b, people, resamples, seed)
    score = _usable(said) * max(0.0, agree.value if np.isfinite(agree.value) else 0.0)
    return {
        "answered": min(masses, key=lambda m: m.value),
        "yes": max(shares, key=lambda s: abs(s.value - 0.5)),
        "same": same,
        "agreement": agree,
        "score": replace(undefined("a product of the three above", len(people)), value=score),
    }


def _usable(said: Sequence[pd.DataFrame]) -> float:
    """The probability of the two answers times the balance of the two, each the lowest over the wordings."""
    shares = [s["answer"].mean() for s in said]
    return float(min(s["answered"].mean() for s in said) * min(4 * p * (1 - p) for p in shares))


def _correlated(a: np.ndarray, b: np.ndarray, people: Any, resamples: int, seed: int) -> Estimate:
    """Pearson's correlation; its interval is that of Fisher's z, so that it stays between -1 and 1."""
    z = bootstrap(lambda w: np.arctanh(np.clip(_correlation(a, b, w), -0.9999, 0.9999)), len(a), people, resamples=resamples, seed=seed)
    return replace(z, value=float(_correlation(a, b, np.ones((1, len(a))))[0]), low=float(np.tanh(z.low)), high=float(np.tanh(z.high)))


def _correlation(a: np.ndarray, b: np.ndarray, weights: np.ndarray) -> np.ndarray:
    total = weights.sum(1, keepdims=True)
    x, y = a - (weights @ a)[:, None] / total, b - (weights @ b)[:, None] / total
    with np.errstate(invalid="ignore", divide="ignore"):
        return (weights * x * y).sum(1) / np.sqrt((weights * x * x).sum(1) * (weights * y * y).sum(1))
