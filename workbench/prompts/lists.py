"""Lists of the user's own, from text files with one entry a line: identities and rights."""

from __future__ import annotations

import re
from pathlib import Path

from ..core.errors import BadInput, EmptyPromptSet
from .cells import check_text
from .formats import checked_path, read_text
from .rows import normal
from .udhr import Identity, Right

_THEIRS = re.compile(r"\{people\}|^ind:.*\(\d+\)$")  # the student project's lists, which are written otherwise


def read_lines(path: str | Path) -> list[str]:
    """Read a list from a text file.

    Args:
        path: A UTF-8 file with one entry a line. A line ends at a line feed, also after a carriage return, and nowhere else.

    Returns:
        The lines as they stand there, white space at their ends too; blank lines and lines that start with # are left out.

    Raises:
        EmptyPromptSet: There is no such line.
        BadInput: There is no such file, it is not UTF-8, or a line holds a control character or half a character.
    """
    return [line for _, line in numbered_lines(path)]


def numbered_lines(path: str | Path) -> list[tuple[int, str]]:
    """Return the entries of a text file, each with the number of its line, counted from 1; as for `read_lines`."""
    path = checked_path(path)
    if not path.is_file():
        raise BadInput(f"no file {path.name!r}" + (": it is a folder" if path.is_dir() else ""))
    lines = ((i, line.removesuffix("\r")) for i, line in enumerate(read_text(path, path.name).split("\n"), 1))
    kept = [(i, line) for i, line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not kept:
        raise EmptyPromptSet(f"{path.name} has no entries: write one a line; lines that start with # do not count")
    for i, line in kept:
        check_text(line, f"{path.name}, line {i}")
    return kept


def _distinct(path: str | Path) -> list[str]:
    """The entries without white space at their ends, each once."""
    seen: dict[str, int] = {}
    kept = [(i, line.strip()) for i, line in numbered_lines(path)]
    for i, line in kept:
        if _THEIRS.search(line):
            what = "rights with the numbers of their articles" if "{people}" in line else "identities under headings"
            raise BadInput(f"{Path(path).name}, line {i}: a list of {what}, {line[:60]!r}: read it with prompts.load")
    for i, line in kept:
        if normal(line) in seen:
            raise BadInput(f"{Path(path).name}, line {i}: {line!r} stands in line {seen[normal(line)]} already; keep one of the two")
        seen[normal(line)] = i
    return [line for _, line in kept]


def identities_from_lines(path: str | Path, group: str = "mine") -> list[Identity]:
    """Read a list of identities, one a line.

    Args:
        path: A UTF-8 file. A line that begins with "a", "an", "someone", "somebody", "everyone" or "nobody" is singular, any
            other plural.
        group: The group that all of them get.

    Returns:
        The identities, in the order of the file, without white space at their ends.

    Raises:
        EmptyPromptSet, BadInput: As for `read_lines`; or a line stands there twice.
    """
    singular = ("a ", "an ", "someone", "somebody", "everyone", "nobody")
    return [
        Identity(identity=line, group=group, number="singular" if line.lower().startswith(singular) else "plural")
        for line in _distinct(path)
    ]


def rights_from_lines(granting: str | Path, denying: str | Path) -> list[Right]:
    """Read rights from two text files: one of granting predicates, one of denying ones.

    A line is a predicate that follows an identity ("have the right to life"). Line k of both files makes one right. A file
    has one form per right, so that the plain and the negated form are the same.

    Args:
        granting: A UTF-8 file with one granting predicate a line.
        denying: A UTF-8 file with one denying predicate a line.

    Returns:
        The rights "right 1", "right 2", … in the order of the files.

    Raises:
        EmptyPromptSet, BadInput: As for `read_lines`; or the two have different numbers of lines, a line stands there twice, or
            line k of both says the same.
    """
    grants, denies = _distinct(granting), _distinct(denying)
    if len(grants) != len(denies):
        raise BadInput(f"{Path(granting).name} has {len(grants)} lines, {Path(denying).name} has {len(denies)}: they go in pairs")
    for i, (grant, deny) in enumerate(zip(grants, denies, strict=True), 1):
        if normal(grant) == normal(deny):
            raise BadInput(f"right {i} is granted and denied in the same words, {grant!r}: nobody could say which is right")
    return [
        Right(
            right=f"right {i + 1}",
            article=0,
            kind="mine",
            phrase=g,
            grant_plain=_agree(g),
            grant_negated=_agree(g),
            deny_negated=_agree(d),
            deny_plain=_agree(d),
        )
        for i, (g, d) in enumerate(zip(grants, denies, strict=True))
    ]


def _agree(predicate: str) -> str:
    """Mark the leading verb of a predicate for agreement in number: "have …" becomes "{have|has} …"."""
    verb, _, rest = predicate.partition(" ")
    singular = {"have": "has", "are": "is", "do": "does", "lack": "lacks", "deserve": "deserves"}.get(verb)
    return predicate if singular is None else f"{{{verb}|{singular}}} {rest}"
