"""The lists and prompt files of the student project that this one grows from (`udhr_ccs`).

Identities stand in groups under headings ("ind: Religion (12)"), separated by commas over several lines. Rights stand one a line behind the
number of their article, with `{people}` for whom they are about; a second file has their negations. Prompt forms have the fields `{right}`,
`{clime}`, `{pos}` and `{neg}`, and answers 0 and 1.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..core.errors import BadInput
from .cells import Place
from .left_out import distinct, leave_out
from .lists import numbered_lines
from .rows import normal
from .templates import END, Template
from .udhr import Identity

PEOPLE = "{people}"
_HEADING = re.compile(r"\s*ind:\s*(?P<group>.*?)\s*\((?P<count>\d+)\)\s*")
_NUMBERED = re.compile(r"\s*(?P<article>\d+)\s+(?P<text>.*" + re.escape(PEOPLE) + r".*?)\s*")
_HEAD = re.compile(r"people (?:from|with|of|in) ")
_PEOPLE = re.compile(r"\bpeople\b", re.IGNORECASE)
_BARE = re.compile(
    r"(?!.*\b(?:people|men|women|children|persons?)\b)(?!(?:an?|some\w+|every\w+|nobody)\b).*[^s]", re.IGNORECASE
)  # no plural
_SINGULAR = ("a ", "an ", "someone", "somebody", "everyone", "nobody")
# `{pos}` and `{neg}` say what 1 and 0 stand for
_FIELDS = {"right": "{statement}", "clime": "{claim}", "pos": "agree", "neg": "disagree"}


@dataclass(frozen=True, kw_only=True)
class Sentence:
    """A sentence about a right, with a place for whom it is about.

    Attributes:
        article: Article of the Declaration.
        text: The sentence, with `{people}`.
    """

    article: int
    text: str

    def about(self, who: Identity) -> str:
        """Return the sentence about somebody, with a capital and a full stop."""
        said = self.text.replace(PEOPLE, who.identity).rstrip(". ")
        return f"{said[0].upper()}{said[1:]}."


def number_of(identity: str) -> str:
    """Return the grammatical number of an identity, by the word that it begins with."""
    return "singular" if identity.lower().startswith(_SINGULAR) else "plural"


def is_identities(lines: Iterable[str]) -> bool:
    """Whether lines are identities under headings."""
    return any(_HEADING.fullmatch(line) for line in lines)


def is_rights(lines: Iterable[str]) -> bool:
    """Whether lines are rights behind the numbers of their articles."""
    held = list(lines)
    return bool(held) and all(_NUMBERED.fullmatch(line) for line in held)


def is_form(text: str) -> bool:
    """Whether a text is a prompt form of the project."""
    return any("{" + field + "}" in text for field in ("right", "clime"))


def student_identities(path: str | Path) -> list[Identity]:
    """Read identities in groups.

    Args:
        path: A UTF-8 file with headings "ind: GROUP (COUNT)" and, below each, identities separated by commas or line ends.

    Returns:
        The identities in the order of the file; the group is the heading's. A list that says a word once for all ("people from Africa,
        Asia, …", "short, slim, … people") gets it for each: "people from Asia", "short people".

    Raises:
        EmptyPromptSet, BadInput: As for `read_lines`; an identity stands before the first heading, or twice.
    """
    path = Path(path)
    group, row, found = "", 0, []
    for line, text in numbered_lines(path):
        if heading := _HEADING.fullmatch(text):
            group = heading["group"]
            continue
        for name in filter(None, (part.strip() for part in text.split(","))):
            place = Place(path.name, row, f"line {line}")
            row += 1
            if not group:
                leave_out(place, place.error(f"{name!r} stands before the first heading, 'ind: GROUP (COUNT)'"))
                continue
            found.append((place, group, name))
    names = _spelled_out([(group, name) for _, group, name in found])
    people = [
        (place, Identity(identity=name, group=group, number=number_of(name))) for (place, group, _), name in zip(found, names, strict=True)
    ]
    return distinct(people, lambda who: normal(who.identity))


def _spelled_out(listed: Sequence[tuple[str, str]]) -> list[str]:
    """The names of a list of (group, name), each with the word that its group says once."""
    by_group: dict[str, list[str]] = {}
    for group, name in listed:
        by_group.setdefault(group, []).append(name)
    out = []
    for group, name in listed:
        first, *others = by_group[group]
        head = _HEAD.match(first)
        if head and others and not any(_PEOPLE.search(other) for other in others):
            out.append(name if name == first else f"{head[0]}{name}")
        elif _BARE.fullmatch(name) and any(_PEOPLE.search(other) for other in by_group[group]):
            out.append(f"{name} people")
        else:
            out.append(name)
    return out


def student_rights(path: str | Path) -> list[Sentence]:
    """Read sentences about rights.

    Args:
        path: A UTF-8 file with lines "ARTICLE {people} …". A line with two sentences ("{people} are … {people} should be …") is cut before
            the second `{people}`; " - R " between them, a mark of the project for a reversed right, is left out.

    Returns:
        The sentences in the order of the file, those of a line side by side.

    Raises:
        EmptyPromptSet, BadInput: As for `read_lines`; or a line has no article or no `{people}`.
    """
    path = Path(path)
    out = []
    for row, (line, text) in enumerate(numbered_lines(path)):
        place = Place(path.name, row, f"line {line}")
        match = _NUMBERED.fullmatch(text)
        if match is None:
            leave_out(place, place.error(f"a line is a number of an article and a sentence with {PEOPLE}, got {text[:60]!r}"))
            continue
        parts = [part for part in re.split(r"(?=\{people\})", re.sub(r"\s+-\s+R\s+", " ", match["text"])) if part.strip()]
        out += [Sentence(article=int(match["article"]), text=part.strip()) for part in parts]
    return out


def student_form(text: str, name: str) -> Template:
    """Return a prompt form of the project as a template: its fields by this project's names, the instruction ending before "Answer:".

    Args:
        text: The form, with `{right}` and possibly `{clime}`, `{pos}`, `{neg}`.
        name: Name of the template.

    Raises:
        BadInput: It names no right, or a field that the project has not.
    """
    fields = set(re.findall(r"\{(\w+)\}", text))
    if "right" not in fields or fields - set(_FIELDS):
        raise BadInput(
            f"{name}: a form has {{right}} and possibly {{clime}}, {{pos}}, {{neg}}; it has {', '.join(sorted(fields)) or 'none'}"
        )
    body = text.strip().replace("\r\n", "\n")
    for old, new in _FIELDS.items():
        body = body.replace("{" + old + "}", new)
    at = body.rfind("\nAnswer:")
    return Template(name=name, text=body if at < 0 else body[:at] + "{" + END + "}" + body[at:])
