"""Prompt forms: one string with named fields, checked before anything is rendered."""

from __future__ import annotations

import string
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property

from ..core.errors import BadInput, TemplateField, UnknownClaim, UnknownTemplate, unknown
from ..core.paths import data_path
from ..core.provenance import content_hash
from .cells import are_texts, check_count, check_text

END = "instruction_end"
_MARK = "\x00"


@dataclass(frozen=True, kw_only=True)
class Template:
    """A prompt form.

    Attributes:
        name: Its name in tables.
        text: The form, with fields in braces: `{statement}`, `{claim}`, … `{instruction_end}` prints nothing and marks the
            end of the instruction.
    """

    name: str
    text: str

    def __post_init__(self) -> None:
        check_text(self.name, "the name of a template")
        check_text(self.text, f"the text of template {self.name!r}")

    @property
    def fields(self) -> frozenset[str]:
        """The fields that the form names, without the mark.

        Raises:
            TemplateField: The text is not a format string.
        """
        return frozenset({f for _, f, _, _ in self._parts() if f is not None} - {END})

    @cached_property
    def wording(self) -> str:
        """The form without its fields, whose control tokens are meant.

        Raises:
            TemplateField: The text is not a format string.
        """
        return "\n".join(part for part, *_ in self._parts())

    def _parts(self) -> list[tuple[str, str | None, str | None, str | None]]:
        try:
            return list(string.Formatter().parse(self.text))
        except ValueError as error:
            raise TemplateField(f"template {self.name!r} is not a format string: {error}") from None

    def check(self, known: Iterable[str], required: Iterable[str]) -> None:
        """Raise unless every field is known and every required one is in the text.

        Args:
            known: Names of the fields that may be used.
            required: Names of the fields that must be used.

        Raises:
            TemplateField: A field is unknown or missing; the message lists the fields.
        """
        known = sorted(known)
        listing = ", ".join("{" + f + "}" for f in [*known, END])
        for name in sorted(self.fields - set(known)):
            raise TemplateField(f"template {self.name!r} names an unknown field {{{name}}}. The fields are: {listing}")
        for name in sorted(set(required) - self.fields):
            raise TemplateField(f"template {self.name!r} lacks the field {{{name}}}. The fields are: {listing}")

    def render(self, **values: str) -> tuple[str, int | None]:
        """Fill in the fields.

        Args:
            values: The text of each field; fields that the form does not name are ignored.

        Returns:
            The text, and the character offset at which the instruction ends (`None` without a mark).

        Raises:
            TemplateField: A field has no value.
            BadInput: A value is no text, or holds a control character or half a character.
        """
        fields = self.fields
        if not are_texts(values[field] for field in fields & set(values)):
            for field in sorted(fields & set(values)):
                check_text(values[field], f"the text for {{{field}}}", blank=True)
        missing = sorted(fields - set(values))
        if missing:
            raise TemplateField(f"template {self.name!r} needs a value for {{{missing[0]}}}; given: {', '.join(values)}")
        text = self.text.format_map({**values, END: _MARK})
        end = text.find(_MARK)
        return text.replace(_MARK, ""), (end if end >= 0 else None)


@cache
def _load(kind: str, file: str) -> Mapping[str, Mapping[str, object]]:
    return tomllib.loads(data_path(kind, file).read_text(encoding="utf-8"))


def templates(kind: str = "udhr") -> dict[str, Template]:
    """Return the templates written for `udhr` or `requests`, by name."""
    return {name: Template(name=name, text=str(entry["text"])) for name, entry in _load(kind, "templates.toml").items()}


def get_template(template: str | Template, kind: str = "udhr") -> Template:
    """Return a template.

    Args:
        template: A name, a text with fields in braces (your own template, named "custom"), or a template as it is.
        kind: Where to look for the name: "udhr" or "requests".

    Returns:
        The template; its fields are not checked yet.

    Raises:
        UnknownTemplate: No template has this name.
        BadInput: It is no text.
    """
    if isinstance(template, Template):
        return template
    known = templates(kind)
    template = check_text(template, "a template", blank=True)
    if template in known:
        return known[template]
    if "{" in template:
        return Template(name="custom", text=template)
    raise unknown(UnknownTemplate, "template", template, known)


def claims(kind: str = "udhr") -> dict[str, str]:
    """Return the sentence of each claim, by name."""
    return {name: str(entry["text"]) for name, entry in _load(kind, "claims.toml").items()}


def claim_phrasings(name: str, kind: str = "udhr") -> tuple[list[str], list[str]]:
    """Return other wordings of a claim.

    Args:
        name: Name of the claim.
        kind: "udhr" or "requests".

    Returns:
        The wordings for training, and the held-out ones.
    """
    entry = _load(kind, "claims.toml")[name]
    return [*entry["paraphrases"]], [*entry["held_out"]]  # pyright: ignore[reportGeneralTypeIssues]


def get_claim(claim: str | None, kind: str = "udhr") -> tuple[str, str]:
    """Return the name and the sentence of a claim; a text with a space is the user's own sentence.

    Raises:
        UnknownClaim: No claim has this name.
    """
    if claim is None or claim == "none":
        return "none", ""
    known = claims(kind)
    claim = check_text(claim, "a claim", blank=True)
    if claim in known:
        return claim, known[claim]
    if " " in claim:
        # named by content, so that two sentences are two claims and are not pooled
        return f"custom {content_hash(claim)[:6]}", claim
    raise unknown(UnknownClaim, "claim", claim, [*known, "none"])


def with_claim(template: Template, claim: str | None, kind: str = "udhr") -> tuple[str, str]:
    """Return a claim's name and sentence, after checking that the template shows a claim if and only if there is one.

    Args:
        template: The template.
        claim: Name of a claim, your own sentence, or `None`.
        kind: "udhr" or "requests".

    Returns:
        The name ("none" without a claim) and the sentence ("" without a claim).

    Raises:
        UnknownClaim: No claim has this name.
        TemplateField: The template has a `{claim}` and none was given, or the reverse.
    """
    name, text = get_claim(claim, kind)
    has = "claim" in template.fields
    if has and name == "none":
        free = ", ".join(n for n, t in templates(kind).items() if "claim" not in t.fields)
        raise TemplateField(f"template {template.name!r} needs a claim; without one use one of: {free}")
    if not has and name != "none":
        fit = ", ".join(n for n, t in templates(kind).items() if "claim" in t.fields)
        raise TemplateField(f"template {template.name!r} has no field {{claim}} for {name!r}; use one of: {fit}")
    return name, text


def sentences(name: str, text: str, count: int, kind: str = "udhr") -> list[str]:
    """Return sentences of a claim: its text, and paraphrases of it.

    Args:
        name, text: The claim, as `with_claim` returns it.
        count: How many.
        kind: "udhr" or "requests".

    Returns:
        The sentences, the claim's own text first.

    Raises:
        BadInput: There are not so many.
    """
    if check_count(count, "phrasings is the number of sentences of a claim") == 1:
        return [text]
    if name == "none" or name.startswith("custom "):
        raise BadInput(f"phrasings={count}: {'there is no claim' if name == 'none' else 'your own claim is one sentence'}")
    every = [text, *claim_phrasings(name, kind)[0]]
    if count > len(every):
        raise BadInput(f"phrasings={count}: the claim {name!r} has {len(every)} sentences")
    return every[:count]
