"""The student project's folder as a whole: every identity with every right, granted and denied, in its own prompt forms."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from ..core.errors import BadInput, UnknownTemplate, unknown
from .drawing import draw
from .formats import read_text
from .loaders import from_table
from .pairs import PromptSet
from .peek import Peek
from .student import Sentence, student_form, student_identities, student_rights
from .templates import Template, templates
from .udhr import Identity

FILES = {"identities": "UDHR_raw_identities.txt", "granting": "UDHR_raw_rights.txt", "denying": "UDHR_raw_rights_neg.txt"}
FORM = "UDHR_CCS_Prompt_"
ANSWERS = ("0", "1")


@dataclass(frozen=True, kw_only=True)
class StudentProject:
    """What the folder holds.

    Attributes:
        name: Name of the folder.
        identities: In groups.
        granting, denying: Sentence k of both is about the same right.
        forms: Prompt forms by name ("1" to "4", "base_short", "base_long", "base_short_rather").
    """

    name: str
    identities: tuple[Identity, ...]
    granting: tuple[Sentence, ...]
    denying: tuple[Sentence, ...]
    forms: dict[str, Template] = field(hash=False)

    @property
    def says(self) -> str:
        """What there is, in words."""
        groups = len({who.group for who in self.identities})
        return (
            f"{len(self.identities)} identities in {groups} groups, {len(self.granting)} rights granted and denied, "
            f"{len(self.forms)} prompt forms ({', '.join(self.forms)})"
        )

    def __repr__(self) -> str:
        return f"StudentProject({self.name!r}: {self.says})"

    def to_frame(self) -> pd.DataFrame:
        """Return every identity with every right, granted and denied: `statement, label, identity, group, right, article, polarity`."""
        rows = [
            {
                "statement": said.about(who),
                "label": label,
                "identity": who.identity,
                "group": who.group,
                "right": f"right {k + 1}",
                "article": said.article,
                "polarity": polarity,
            }
            for who in self.identities
            for k, two in enumerate(zip(self.granting, self.denying, strict=True))
            for label, polarity, said in ((1, "grant", two[0]), (0, "deny", two[1]))
        ]
        return pd.DataFrame(rows)


def is_project(peek: Peek) -> bool:
    """Whether a source is the student project's folder."""
    return peek.folder is not None and all((peek.folder / file).is_file() for file in FILES.values())


def student_project(folder: str | Path) -> StudentProject:
    """Read the student project's folder.

    Args:
        folder: It holds `UDHR_raw_identities.txt`, `UDHR_raw_rights.txt`, `UDHR_raw_rights_neg.txt`, and `UDHR_CCS_Prompt_NAME.txt`.

    Returns:
        Its lists and its forms.

    Raises:
        BadInput: A file is missing or cannot be read, the two lists of rights have different lengths, or there is no form.
    """
    folder = Path(folder)
    for file in FILES.values():
        if not (folder / file).is_file():
            raise BadInput(f"{folder.name!r} is not the student project's folder: it has no {file}")
    granting, denying = (student_rights(folder / FILES[k]) for k in ("granting", "denying"))
    if len(granting) != len(denying):
        raise BadInput(f"{FILES['granting']} has {len(granting)} sentences, {FILES['denying']} has {len(denying)}: they go in pairs")
    files = sorted(folder.glob(f"{FORM}*.txt"))
    forms = {name: student_form(read_text(f, f.name), name) for f in files if (name := f.stem.removeprefix(FORM))}
    if not forms:
        raise BadInput(f"{folder.name!r} has no prompt form {FORM}NAME.txt")
    people = tuple(student_identities(folder / FILES["identities"]))
    return StudentProject(name=folder.resolve().name, identities=people, granting=tuple(granting), denying=tuple(denying), forms=forms)


def project_pairs(
    project: StudentProject,
    form: str | Template = "base_short",
    claim: str | None = None,
    *,
    n: int | None = None,
    seed: int = 0,
    answers: tuple[str, str] = ANSWERS,
    **asking: Any,
) -> PromptSet:
    """Ask about every identity with every right, granted and denied, as the project did.

    Args:
        project: From `student_project`.
        form: Name of one of its forms, or of a template of `udhr`.
        claim: As for `udhr`; a form with `{clime}` needs one.
        n: Number of items to draw (both statements of a cell are drawn together); `None` for all.
        seed: Draws them.
        answers: The answer words; the project's are 0 and 1.
        asking: As for `from_table`.

    Returns:
        A prompt set; `label` is 1 where the statement grants the right.

    Raises:
        UnknownTemplate, UnknownClaim, TemplateField: As for `udhr`.
    """
    if isinstance(form, str) and form not in project.forms and form not in templates() and "{" not in form:
        raise unknown(UnknownTemplate, "form", form, [*project.forms, *templates()])
    frame = project.to_frame()
    cells = draw(len(frame) // 2, None if n is None else -(-n // 2), seed, "student project")
    rows = [2 * int(cell) + side for cell in cells for side in (0, 1)][:n]
    template = project.forms.get(form, form) if isinstance(form, str) else form
    chosen = frame.iloc[rows].reset_index(drop=True)
    return from_table(chosen, template=template, claim=claim, answers=answers, seed=seed, name=project.name, **asking)
