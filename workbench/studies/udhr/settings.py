"""The settings of the UDHR study."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ... import prompts as source
from ...core.errors import BadInput
from ...features.lenses import KINDS as LENSES
from ..asking import AskSettings
from ..statements import check_claims

CLAIMS = ("good", "neutral", "partial", "harm")


@dataclass(frozen=True, kw_only=True)
class UdhrSettings(AskSettings):
    """The grid of the study.

    Attributes:
        behaviour: Items per template and claim for the behaviour table.
        train, test: Items per condition for the probes.
        surfaces: Training statements that are also put in other surface forms, without a claim, half as many held out; 0 leaves this out.
        surface_layers: Layers at which they are read, evenly spread; 0 for all.
        rights_per_identity: Rights asked about each identity when looking for who is denied; two statements each.
        resamples: 0 leaves out every metric of probes but accuracy; the intervals are in closed form.
        ccs_epochs: Steps of each CCS restart.
        lens: How the answer is read off each layer: "logit" (as the stream is), "tuned" or "jacobian" (through a map of each layer that is
            made from training prompts; the logit lens and exchanged layers stand beside it).
        claims: Claims to push with; the neutral sentence is always among them. By default those that fit the statements: all where they
            are about rights, and none where they are a table of your own, of which nobody knows.
        phrasings: Sentences of each claim; each identity with a right is shown one of them.
        data: Statements of your own in place of the project's: a csv, jsonl or parquet file with a statement and a label (whether agreeing
            is right) in each row and, where there are any, `identity`, `right`, `group`; or the folder of the student project, whose
            experiment is then run as it was, too. Empty: the project's.
        published: Items of each form and claim of that experiment; 0 leaves it out.
        columns: Which column holds which of these, where it has another name.
        says: What the report says of such a table: `asks` (what the statements are about), `positive` and `negative` (what an answer is
            that the label calls right, or wrong).
        seed: Draws items, splits, restarts and controls.
    """

    behaviour: int = 400
    train: int = 1000
    test: int = 600
    surfaces: int = 96
    surface_layers: int = 0
    rights_per_identity: int = 12
    resamples: int = 500
    ccs_epochs: int = 1000
    lens: str = "logit"
    claims: tuple[str, ...] = ()
    phrasings: int = 5
    published: int = 300
    data: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)
    says: Mapping[str, str] = field(default_factory=dict)
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.phrasings <= 5:
            raise BadInput(f"phrasings: 1 to 5 sentences of a claim, got {self.phrasings}")
        for name in ("behaviour", "train", "test"):
            if getattr(self, name) < 16:
                raise BadInput(f"{name}: 16 items at least, got {getattr(self, name)}")
        if self.lens not in ("logit", *LENSES):
            raise BadInput(f"lens {self.lens!r}: logit, {', '.join(LENSES)}")
        check_claims(self.claims)
        source.statements(self.data, self.columns, self.says)  # a table that cannot be used is refused before a model is loaded
        for name in ("rights_per_identity", "ccs_epochs"):
            if getattr(self, name) < 1:
                raise BadInput(f"{name}: 1 at least, got {getattr(self, name)}")


# a first look asks less, and `check_study` as little as shows that every step runs
FAST: dict[str, Any] = {
    "behaviour": 32,
    "train": 160,
    "test": 96,
    "rights_per_identity": 1,
    "phrasings": 3,
    "resamples": 200,
    "ccs_epochs": 400,
    "surfaces": 32,
    "surface_layers": 6,
    "published": 80,
    "elicit": 8,
}
CHECKED: dict[str, Any] = {
    "behaviour": 20,
    "train": 80,
    "test": 60,
    "rights_per_identity": 2,
    "resamples": 30,
    "ccs_epochs": 80,
    "surfaces": 24,
    "published": 40,
    "claims": ("harm", "partial"),
    "elicit": 8,
}
