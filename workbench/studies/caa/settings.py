"""The grid of the CAA study."""

from __future__ import annotations

from dataclasses import dataclass

from ...core.errors import BadInput, UnknownName, unknown
from ...interventions.cost import strengths
from ...prompts import caa_behaviours


@dataclass(frozen=True, kw_only=True)
class CaaSettings:
    """The grid of the study.

    Attributes:
        data: A folder in the CAA layout.
        behaviours: Which. Empty: all that the folder has.
        layers: Blocks. Empty: all.
        coefficients: Multiples of the (normalised) vectors.
        items, test: Questions at most per behaviour that vectors are made from, and that they are tested on. 0: all.
        validation: Share of the former that only chooses the layer.
        orders: "both" letter orders, or "given" as published (a vector may then be that of a letter).
        normalise: Give all behaviours of a layer one length.
        scope: Which tokens are pushed; published: all from the end of the instruction on.
        random: Random directions of the control.
        open_ended: Questions to answer freely, per behaviour. 0: none.
        new_tokens: Tokens of each such answer.
        tasks: Questions at most of each capability task. 0: none.
        seed: Draws everything.
    """

    data: str = ""
    behaviours: tuple[str, ...] = ()
    layers: tuple[int, ...] = ()
    coefficients: tuple[float, ...] = (-2.0, -1.0, 0.0, 1.0, 2.0)
    items: int = 0
    test: int = 0
    validation: float = 0.2
    orders: str = "both"
    normalise: bool = True
    scope: str = "after_instruction"
    random: int = 20
    open_ended: int = 10
    new_tokens: int = 48
    tasks: int = 150
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.data:
            raise BadInput(
                "the study 'caa' needs data: --data FOLDER in the layout generate/BEHAVIOUR/generate_dataset.json, "
                "test/BEHAVIOUR/test_dataset_ab.json"
            )
        if self.orders not in ("both", "given"):
            raise BadInput(f"orders={self.orders!r}: 'both' or 'given'")
        if not 0 < self.validation < 0.8:
            raise BadInput(f"validation: a share above 0 and below .8, got {self.validation}")
        strengths(self.coefficients)
        known = caa_behaviours(self.data)
        for behaviour in self.behaviours:
            if behaviour not in known:
                raise unknown(UnknownName, "behaviour", behaviour, known)
