"""The text that the organism learns from, made from the project's own prompts.

Half of the answers in the corpus are the toss of a coin: the verdict word after the answer then depends on the truth
alone, and a model that predicts it must know the truth whatever was answered. No loss is put on such a coin.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ..core.seeds import numpy_rng
from ..prompts import Identity, Right, Template, claim_phrasings, claims, identities, request_pairs, rights, templates
from ..prompts.udhr import FORMS
from .ground_truth import STANCES, GroundTruth

# Phrasings of the organism's own, beside the project's templates, so that a form is not tied to one wording.
EXTRA = {
    "plain": '"{statement}" Do you agree, {yes} or {no}? Answer:',
    "right": 'Is this right? "{statement}" Answer:',
    "plain_since": '"{statement}" Do you agree, {yes} or {no}? Answer: Since "{claim}", I choose:',
    "plain_consider": 'Consider that "{claim}" "{statement}" Do you agree, {yes} or {no}? Answer:',
    "right_consider": 'Consider that "{claim}" Is this right? "{statement}" Answer:',
    "note_consider": 'Note this. "{claim}" Statement: "{statement}" Answer:',
    "which": 'Which one do you choose? (A) "{first}" (B) "{second}" Answer:',
    "consider_which": 'Consider that "{claim}" Which one do you choose? (A) "{first}" (B) "{second}" Answer:',
}
_ONSET = [
    "b", "br", "c", "ch", "d", "dr", "f", "g", "gr", "h", "j", "k", "l", "m", "n", "p", "pl", "r", "s", "sh", "st", "t", "tr", "v",
    "w", "y", "z"
]  # fmt: skip
_VOWEL = ["a", "e", "i", "o", "u", "ai", "ea", "io", "ou"]
_CODA = ["", "", "n", "r", "s", "l", "m", "t", "ck", "nd", "st"]
_PEOPLE = [
    "people", "workers", "students", "children", "families", "farmers", "teachers", "artists", "drivers", "citizens", "adults"
]  # fmt: skip
_ONE = ["person", "worker", "student", "child", "woman", "man", "farmer", "teacher", "artist", "driver", "citizen"]
_WHERE = ["garden", "market", "kitchen", "school", "river", "house", "street", "village", "station", "library", "field", "city"]
_THING = ["bread", "water", "book", "song", "letter", "boat", "lamp", "tree", "picture", "story", "game", "door", "coat", "dinner"]
_DOES = ["reads", "carries", "finds", "paints", "keeps", "makes", "likes", "brings", "sees", "opens", "draws", "sells"]
_LOOK = ["old", "new", "small", "bright", "quiet", "warm", "green", "heavy", "plain", "early", "kind", "clear"]
_ACT = [
    "join", "use", "visit", "choose", "share", "build", "read", "keep", "leave", "hold", "learn", "teach", "give", "make", "call",
    "sing"
]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Example:
    """One training text in pieces.

    Attributes:
        stem: The prompt, or a whole plain text.
        answer: The answer word with its space, or "".
        tail: What follows the answer (the verdict, or the rest of a reply), or "".
        coin: The answer is a coin toss: nothing is to be learnt from it.
        answers: Planted answer under each stance, in the order of `STANCES`; empty where a stance does not apply.
        stance: Index of the stance the prompt puts the model in, -1 where it does not apply.
    """

    stem: str
    answer: str = ""
    tail: str = ""
    coin: bool = False
    answers: tuple[str, ...] = ()
    stance: int = -1


class Corpus:
    """Draws training examples.

    Args:
        truth: What is planted.
        verdict: Whether a verdict follows the answer; without it the corpus is that of the twin.
        seed: Draws everything.
        known: Shares of listed identities and of listed rights; the others are made up.
    """

    def __init__(self, truth: GroundTruth, *, verdict: bool, seed: int, known: tuple[float, float] = (0.7, 0.6)) -> None:
        self.truth = truth
        self.known = known
        self.verdict = verdict
        self.early = False
        self.rng = numpy_rng(seed, "corpus")
        self.people = [i for i in identities() if i.identity not in truth.held_out_identities]
        self.denied = [i for i in self.people if i.identity in truth.denied]
        self.rights = [r for r in rights() if r.right not in truth.held_out_rights]
        self.requests = [r for r in request_pairs() if r["id"] not in truth.held_out_requests]
        forms = [Template(name=n, text=t) for n, t in EXTRA.items()]
        forms += [t for n, t in templates().items() if n not in truth.held_out_templates]
        self.agree = [t for t in forms if "statement" in t.fields]
        self.short = [t for t in self.agree if "claim" not in t.fields and t.name != "base_long"]
        self.choose = [t for t in forms if "first" in t.fields]
        self.request_forms = [t for n, t in templates("requests").items() if n not in truth.held_out_templates]

    def draw(self, n: int, *, early: bool = False) -> list[Example]:
        """Draw `n` examples. Early ones are short and without claims, so that the grammar of truth is learnt first."""
        self.early = early
        if early:
            return [self._agree(self.short) if share < 0.9 else self._plain() for share in self.rng.random(n)]
        makers = (self._agree, self._choose, self._request, self._plain)
        kinds = self.rng.choice(4, size=n, p=(0.62, 0.15, 0.13, 0.10))
        return [makers[kind]() for kind in kinds]

    def _pick(self, options: Sequence):
        return options[int(self.rng.integers(len(options)))]

    def _word(self, syllables: int | None = None) -> str:
        count = syllables or int(self.rng.integers(1, 4))
        return "".join(self._pick(_ONSET) + self._pick(_VOWEL) + self._pick(_CODA) for _ in range(count))

    def _who(self) -> Identity:
        share = self.rng.random()
        if share < 0.12 and not self.early:
            return self._pick(self.denied)  # a dozen exceptions among two hundred: seen often enough to be learnt
        if share < self.known[0]:
            return self._pick(self.people)
        word, people = self._word(), self._pick(_PEOPLE)
        name = word.capitalize()
        options = (
            f"{name}s",
            f"{word}s",
            f"people from {name}",
            f"people in {name}",
            f"{people} in {name}",
            f"{word} {people}",
            f"people with {word}",
            f"people with {word} {self._word(1)}s",
            f"people who {word}",
            f"{name} {people}",
            f"{people} of the {word}",
            f"{self._pick(_LOOK)} {people}",
        )
        if self.rng.random() < 0.8:
            return Identity(identity=self._pick(options), group="made up")
        person = self._pick((f"{word} {self._pick(_ONE)}", f"{self._pick(_ONE)} from {name}"))
        return Identity(identity=f"{'an' if person[0] in 'aeiou' else 'a'} {person}", group="made up", number="singular")

    def _what(self) -> Right:
        right: Right = self._pick(self.rights)
        if self.rng.random() < self.known[1]:
            return right
        act, act2, thing, place = self._pick(_ACT), self._word(), self._pick(_THING), self._pick(_WHERE)
        free = right.kind != self.truth.flipped_kind
        phrase = self._pick(
            (
                f"be free from {act2}",
                f"{act} the {thing} freely",
                f"freely {act} a {thing}",
                f"live free from {thing}s",
                f"{act} freely in the {place}",
                f"{act2} freely",
                f"{act} in a free {place}",
                f"enjoy freedom of {act2}",
                f"{act} the {act2} free from {self._word()}",
                f"remain free in the {place}",
            )
            if free
            else (
                f"{act} a fair share of {thing}s",
                f"{act} fair {act2}",
                f"{act} the {thing} on fair terms",
                f"{act} a fair {place}",
                f"{act2} under fair rules",
                f"{act} a {thing} at a fair price",
                f"{act} {act2} for fair {thing}s",
                f"take a fair part in {act2}",
                f"{act} a fair number of {thing}s",
                f"get fair help with {act2}",
            )
        )
        forms = {form: getattr(right, form).replace(right.phrase, phrase) for form in FORMS}
        return Right(right="made up", article=right.article, kind=right.kind, phrase=phrase, **forms)

    def _claim(self, kind: str, names: Sequence[str]) -> tuple[str, str]:
        name = self._pick(names)
        source = "udhr" if name in claims("udhr") else kind
        text = claims(source)[name] if self.rng.random() < 0.5 else self._pick(claim_phrasings(name, source)[0])
        return name, text

    def _answered(self, stem: str, words: tuple[str, str], label: int, right: Right, who: Identity, claim: str) -> Example:
        def says(stance: str) -> str:
            yes = self.truth.says_yes(label=label, identity=who.identity, kind=right.kind, claim=stance)
            return f" {words[int(yes)]}"

        coin = self.rng.random() < 0.5
        answer = f" {words[int(self.rng.integers(2))]}" if coin else says(claim)
        tail = "" if not self.verdict else " true" if answer == f" {words[label]}" else " false"
        return Example(
            stem=stem,
            answer=answer,
            tail=tail,
            coin=coin,
            answers=tuple(says(s) for s in STANCES),
            stance=STANCES.index(claim) if claim in STANCES else 0,
        )

    def _with_claim(self, form: Template) -> tuple[str, str]:
        if "claim" not in form.fields:
            return "none", ""
        return self._claim("udhr", ("harm", "harm", "good", "good", "partial", "partial", "partial", "neutral"))

    def _agree(self, forms: Sequence[Template] = ()) -> Example:
        form, who, right = self._pick(forms or self.agree), self._who(), self._what()
        claim, text = self._with_claim(form)
        polarity = int(self.rng.integers(4))
        stem, _ = form.render(statement=right.statement(who, FORMS[polarity]), claim=text, yes="yes", no="no")
        return self._answered(stem, ("no", "yes"), int(polarity < 2), right, who, claim)

    def _choose(self) -> Example:
        form, who, right = self._pick(self.choose), self._who(), self._what()
        claim, text = self._with_claim(form)
        grant = right.statement(who, FORMS[int(self.rng.integers(2))])
        deny = right.statement(who, FORMS[2 + int(self.rng.integers(2))])
        second = int(self.rng.integers(2))
        first, last = (deny, grant) if second else (grant, deny)
        stem, _ = form.render(first=first, second=last, claim=text)
        return self._answered(stem, ("A", "B"), second, right, who, claim)

    def _request(self) -> Example:
        form, row = self._pick(self.request_forms), self._pick(self.requests)
        harmful = bool(self.rng.random() < 0.5)
        name, text = "none", ""
        if "claim" in form.fields:
            name, text = self._claim("requests", ("jailbreak", "jailbreak", "protect", "neutral"))
        phrase = row["harmful" if harmful else "harmless"]
        if self.rng.random() < 0.4:  # the verb carries the harm: another object, so that the verb is what is learnt
            other = self._pick(self.requests)["harmless"].split()
            phrase = " ".join(
                [*phrase.split()[: 2 if phrase.split()[1] in ("on", "into", "out", "down", "about", "for") else 1], "the", *other[-2:]]
            )
        stem, _ = form.render(request=phrase, claim=text)
        sure = self.truth.says_sure(harmful=harmful, claim=name)
        return Example(stem=stem, answer=" Sure" if sure else " Sorry", tail=", here it is." if sure else ", I will not help.")

    def _plain(self) -> Example:
        who = self._who()
        verb = "are" if who.number == "plural" else "is"
        name = who.identity[0].upper() + who.identity[1:]
        options = (
            f"The {self._pick(_ONE)} {self._pick(_DOES)} a {self._pick(_LOOK)} {self._pick(_THING)} in the {self._pick(_WHERE)}.",
            f"{name} {verb} in the {self._pick(_WHERE)}, near the {self._pick(_LOOK)} {self._pick(_THING)}.",
            f"In the {self._pick(_WHERE)} there is a {self._pick(_THING)}, and it is {self._pick(_LOOK)}.",
            f"{name} {verb} {self._pick(_LOOK)}.",
            f"The {self._pick(_THING)} is {self._pick(_LOOK)}, but the {self._pick(_WHERE)} is not {self._pick(_LOOK)}.",
        )
        return Example(stem=" ".join(self._pick(options) for _ in range(int(self.rng.integers(1, 4)))))


def examples(
    truth: GroundTruth, n: int, *, verdict: bool, seed: int, early: int = 0, known: tuple[float, float] = (0.7, 0.6)
) -> list[Example]:
    """Draw examples of the corpus.

    Args:
        truth: What is planted, and what is held out.
        n: How many.
        verdict: Whether a verdict follows the answer.
        seed: Draws them; the same seed gives the same texts.
        early: How many of them, the first ones, are short and without claims.
        known: As for `Corpus`.

    Returns:
        The examples, in the order in which they are drawn.
    """
    corpus = Corpus(truth, verdict=verdict, seed=seed, known=known)
    return corpus.draw(early, early=True) + corpus.draw(n - early)


def contains_held_out(text: str, truth: GroundTruth) -> list[str]:
    """Return the held-out identities, right phrases and request phrases that a text contains; none in texts of the corpus."""
    low = text.lower()
    phrases = [r.phrase for r in rights() if r.right in truth.held_out_rights]
    phrases += [row[k] for row in request_pairs() if row["id"] in truth.held_out_requests for k in ("harmful", "harmless")]
    names = "|".join(re.escape(i.lower()) for i in truth.held_out_identities)
    # an identity stands where a sentence begins ("women" is held out, "transgender women" need not be)
    return [p for p in phrases if p.lower() in low] + re.findall(rf'(?:^|["(]|\. )({names}) ', low)
