"""The grid of the weak-to-strong study."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...core.errors import BadInput, UnknownName, unknown
from ...probes import STUDENT_LOSSES
from ..asking import AskSettings
from ..statements import check_claims

TEACHERS = ("probe", "answers")
STUDENTS = ("probe", "adapter", "full")


@dataclass(frozen=True, kw_only=True)
class WeakToStrongSettings(AskSettings):
    """The grid of the study.

    Attributes:
        data: Statements that are taught: empty for the UDHR statements, or a table of your own with `statement` and `label`.
        other: A file or a folder of further true/false statements, on which everybody is read and nobody is taught.
        claims: Claims under which the held-out statements are read again; nobody is taught under a claim.
        teacher: "probe", a logistic probe on the weak model that saw the truth of other people's statements; or "answers", what the weak
            model answers by itself.
        weak_layer: The weak model's block that is read; -1 for the middle one.
        students: Of `STUDENTS`: a probe of the strong model, a low-rank adapter in it, full changes of all its weight matrices.
        losses: Of `STUDENT_LOSSES`.
        own: Weight of the student's own answers in the confidence losses.
        teach: Statements that the teacher is taught the truth of.
        train: Statements of other people that it labels for the student.
        test: Held-out statements, of each set.
        rank: Of the adapter.
        steps: Updates of each adapter and of each full fine-tuning: all are made, none is chosen by a label.
        lr, full_lr: Their learning rates.
        batch: Tokens of a batch.
        seed: Draws everything.
    """

    data: str = ""
    other: str = ""
    claims: tuple[str, ...] = ("harm", "partial")
    teacher: str = "probe"
    weak_layer: int = -1
    students: tuple[str, ...] = STUDENTS
    losses: tuple[str, ...] = STUDENT_LOSSES
    own: float = 0.5
    teach: int = 120
    train: int = 240
    test: int = 240
    rank: int = 2
    steps: int = 60
    lr: float = 1e-2
    full_lr: float = 3e-3
    batch: int = 768
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_claims(self.claims)
        if self.teacher not in TEACHERS:
            raise unknown(UnknownName, "teacher", self.teacher, TEACHERS)
        for name, known in (("students", STUDENTS), ("losses", STUDENT_LOSSES)):
            given = getattr(self, name)
            for one in given:
                if one not in known:
                    raise unknown(UnknownName, name, one, known)
            if not given or len(set(given)) < len(given):
                raise BadInput(f"{name}: one at least, each once, of {', '.join(known)}; got {given}")
        for name, least in (("teach", 40), ("train", 40), ("test", 40), ("rank", 1), ("steps", 1), ("batch", 64)):
            if getattr(self, name) < least:
                raise BadInput(f"{name}: {least} at least, got {getattr(self, name)}")
        if not 0 <= self.own < 1:
            raise BadInput(f"own: the weight of the student's own answers, from 0 to below 1; got {self.own}")
        if not (self.lr > 0 and self.full_lr > 0):
            raise BadInput("lr and full_lr are above 0")
        if self.weak_layer < -1:
            raise BadInput(f"weak_layer: a block counted from 0, or -1 for the middle one; got {self.weak_layer}")
        if self.other and not Path(self.other).exists():
            raise BadInput(f"other: there is no file or folder {self.other!r}")
