"""The grid of the probe bench."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...core.errors import BadInput
from ...probes.methods import name_of
from ..asking import AskSettings
from ..statements import check_claims
from .training import steps_in

METHODS = (
    "logistic",
    "lda",
    "mass_mean",
    "difference_in_means",
    "ridge",
    "svm",
    "mlp",
    "quadratic",
    "rbf",
    "knn",
    "ccs",
    "ccs_circle",
    "hinge",
    "bimodal",
    "spin",
    "infonce",
    "drc",
    "rrc",
    "polarity_ccs",
    "crc",
    "vinc",
    "kmeans",
    "ccs:mlp",
)
FEW = ("logistic", "lda", "mass_mean", "mlp", "knn", "ccs", "hinge", "rrc", "polarity_ccs", "crc")


@dataclass(frozen=True, kw_only=True)
class ProbeSettings(AskSettings):
    """The grid of the study.

    Attributes:
        train, test: Items per condition.
        surfaces: Training statements that are also put in other surface forms, half as many held out; 0 leaves this out.
        methods: For the table of all layers.
        layers: Layers at most on which every method is fitted, evenly spread, the one of the other steps among them; 0 for all.
        claims: Claims to push with.
        repeats: Draws for each training size.
        draws: Random directions.
        resamples: Bootstrap draws.
        false_alarms: Share of unpushed prompts that the detector of tampering may flag; few identities or rights allow no low share.
        checkpoints: A folder of checkpoints named `step-N` (`workbench train … --checkpoints`). Empty: none.
        seed: Draws everything.
    """

    train: int = 800
    test: int = 400
    surfaces: int = 96
    methods: tuple[str, ...] = METHODS
    layers: int = 0
    claims: tuple[str, ...] = ("good", "neutral", "partial", "harm")
    repeats: int = 10
    draws: int = 200
    resamples: int = 1000
    false_alarms: float = 0.1
    checkpoints: str = ""
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("train", "test"):
            if getattr(self, name) < 100:
                raise BadInput(f"{name}: 100 items at least, got {getattr(self, name)}")
        if self.layers < 0:
            raise BadInput(f"layers: 0 or more, got {self.layers}")
        check_claims(self.claims)
        for method in self.methods:
            name_of(method)
        if "harm" not in self.claims:
            raise BadInput("the study pushes with the harm claim: claims= must hold it")
        if self.checkpoints and not steps_in(self.checkpoints):
            raise BadInput(f"no folder step-N in {Path(self.checkpoints).name}: make them with `workbench train … --checkpoints 12`")
