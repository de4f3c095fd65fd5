"""The grid of the CAA study."""

from __future__ import annotations

from dataclasses import dataclass

from ...core.errors import BadInput, UnknownName, unknown
from ...interventions.cost import strengths
from .source import behaviours_of, texts_of


@dataclass(frozen=True, kw_only=True)
class CaaSettings:
    """The grid of the study.

    Attributes:
        data: A folder in the CAA layout; or one file, or a folder, of model-written evals, which are cut into questions that make vectors
            and questions that test them.
        behaviours: Which. Empty: all that the folder has.
        layers: Blocks. Empty: all.
        coefficients: Multiples of the (normalised) vectors.
        items, test: Questions at most per behaviour that vectors are made from, and that they are tested on. 0: all.
        validation: Share of the former that only chooses the layer.
        orders: "given" as published, or "both" letter orders (a vector of the order given may be that of a letter).
        normalise: Give all behaviours of a layer one length.
        scope: Which tokens are pushed; published: all from the end of the instruction on.
        random: Random directions of the control.
        open_ended: Questions to answer freely, per behaviour. 0: none.
        new_tokens: Tokens of each such answer.
        tasks: Questions at most of each capability task. 0: none.
        task_coefficients: Multipliers of the capability tasks. Empty: all of `coefficients`.
        decoded: Test questions whose answer is read off every layer under the pushes (logit lens). 0: none.
        tuned: Steps of fine-tuning towards the matching answers, the opposite ones, and answers by coin. 0: none.
        system_positive, system_negative: System messages that ask for the behaviour, or against it; `{behaviour}` stands for its name.
        systems: A JSON file with messages of each behaviour's own, {behaviour: {"positive": …, "negative": …}}.
        judge, judge_model: Address and model of an endpoint that judges open answers (the key stands in OPENAI_API_KEY; an endpoint on this
            machine gets none). Without it phrases of refusal are all that judges.
        rubrics: A JSON file with what the judge rates by, {behaviour: text}.
        seed: Draws everything.
    """

    data: str = ""
    behaviours: tuple[str, ...] = ()
    layers: tuple[int, ...] = ()
    coefficients: tuple[float, ...] = (-2.0, -1.0, 0.0, 1.0, 2.0)
    items: int = 0
    test: int = 0
    validation: float = 0.2
    orders: str = "given"
    normalise: bool = True
    scope: str = "after_instruction"
    random: int = 20
    open_ended: int = 10
    new_tokens: int = 48
    tasks: int = 150
    task_coefficients: tuple[float, ...] = ()
    decoded: int = 40
    tuned: int = 60
    system_positive: str = ""
    system_negative: str = ""
    systems: str = ""
    judge: str = ""
    judge_model: str = ""
    rubrics: str = ""
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.data:
            raise BadInput(
                "the study 'caa' needs data: --data FOLDER in the layout generate/BEHAVIOUR/generate_dataset.json, "
                "test/BEHAVIOUR/test_dataset_ab.json; or model-written evals, one .jsonl file or a folder of them"
            )
        if self.orders not in ("both", "given"):
            raise BadInput(f"orders={self.orders!r}: 'both' or 'given'")
        if not 0 < self.validation < 0.8:
            raise BadInput(f"validation: a share above 0 and below .8, got {self.validation}")
        strengths(self.coefficients)
        if bool(self.judge) != bool(self.judge_model) or (self.rubrics and not self.judge):
            raise BadInput("a judge needs an address and the name of a model: judge=, judge_model= (and rubrics=, what it rates by)")
        known = behaviours_of(self.data)
        for file, keys in ((self.systems, ("positive", "negative")), (self.rubrics, ())):
            texts_of(file, known, keys)
        for behaviour in self.behaviours:
            if behaviour not in known:
                raise unknown(UnknownName, "behaviour", behaviour, known)
