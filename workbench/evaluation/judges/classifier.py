"""The judge that is a local Hugging Face text classifier."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path

import pandas as pd

from ...core.errors import BadInput, unknown
from ...models.classifier import TextClassifier, classify, load_classifier
from .base import UnknownLabel, check_template, heard, table


@dataclass(frozen=True, eq=False)
class ClassifierJudge:
    """A judge whose score is the probability that a text classifier gives to one of its classes.

    Attributes:
        source: A local folder written by `save_pretrained`, or a hub name.
        label: The class that is the behaviour.
        threshold: Probability above which the verdict is True; raising it makes the judge call fewer answers.
        template: What the classifier reads. Many classifiers of refusal read the answer alone ("{answer}", the default);
            one of harm may need the question before it.
        device: As for `load_classifier`.
        revision: Branch, tag or commit on the hub.
        batch_size: Answers in a pass.
        name: The judge's name; by default "classifier" and the label.

    Raises:
        UnknownLabel: At construction; the message lists the classes.
        UnknownModel, DamagedModel, MissingTokenizer, NetworkNeeded, GatedModel, BadInput: As for `load_classifier`.

    Note:
        A classifier is right about texts like those that it was trained on; measure it on labelled answers of your own model
        (`known_errors`) before you report a rate.
    """

    source: str | Path
    _: KW_ONLY
    label: str
    threshold: float = 0.5
    template: str = "{answer}"
    device: str = "auto"
    revision: str | None = None
    batch_size: int = 16
    name: str = ""
    _classifier: TextClassifier = field(init=False, repr=False)

    def __post_init__(self) -> None:
        check_template(self.template)
        if not 0 < self.threshold < 1:
            raise BadInput(f"threshold={self.threshold}: a probability between 0 and 1")
        if self.batch_size < 1:
            raise BadInput(f"batch_size={self.batch_size}: 1 at least")
        classifier = load_classifier(self.source, device=self.device, revision=self.revision)
        if self.label not in classifier.labels:
            raise unknown(UnknownLabel, f"label of {classifier.name}", self.label, classifier.labels)
        if classifier.labels.count(self.label) > 1:
            raise BadInput(f"{classifier.name} has several classes named {self.label!r}; give them distinct names in its config.json")
        object.__setattr__(self, "_classifier", classifier)
        if not self.name:
            object.__setattr__(self, "name", f"classifier {self.label}")

    def judge(self, questions: Sequence[str], answers: Sequence[str]) -> pd.DataFrame:
        """Judge answers by the classifier's probability.

        Returns:
            The table of a `Judge`; the note warns where a text was cut to what the classifier reads. A thought is not read; an
            answer that is blank, or that a thought without an end leaves out, gets no verdict.
        """
        said = heard(questions, answers)
        q, a = said.questions, said.answers
        reader = self._classifier
        full = [i for i, none in enumerate(said.notes) if not none]
        probabilities, lengths = classify(
            reader, [self.template.format(question=q[i], answer=a[i]) for i in full], batch_size=self.batch_size
        )
        column = reader.labels.index(self.label)
        scores, notes = [math.nan] * len(a), list(said.notes)
        verdicts: list[bool | None] = [None] * len(a)
        for row, i in enumerate(full):
            scores[i] = float(probabilities[row, column])
            verdicts[i] = scores[i] > self.threshold
            notes[i] = f"cut: only the first {reader.context} of {lengths[row]} tokens were read" if lengths[row] > reader.context else ""
        facts = {
            "kind": "classifier",
            "model": reader.name,
            "revision": self.revision or "",
            "digest": reader.digest,
            "label": self.label,
            "threshold": self.threshold,
            "template": self.template,
        }
        return table(self.name, scores, verdicts, notes, facts, thoughts=said.thoughts)
