"""What stands beside a reading: which controls `probe_layers` makes, and how its intervals are drawn."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import numpy as np

from ..activations import Activations
from ..core.errors import BadInput, UnknownName, unknown
from ..core.types import Float

CONTROLS = ("shuffled_labels", "random_directions", "bag_of_words", "ngrams")


Options = TypeVar("Options")


def _taken(kind: type[Options], given: Any, keywords: dict[str, Any], argument: str, **first: Any) -> Options:
    """Options of a call, as an object or made of keywords, which are removed from the others.

    Args:
        kind: The class of the options.
        given: An object of this class, or `None`.
        keywords: Further keyword arguments of the call.
        argument: Name of the argument that takes the object.
        first: Options that were given in another form.
    """
    own = {f.name: keywords.pop(f.name) for f in fields(kind) if f.name in keywords}  # pyright: ignore[reportArgumentType]
    if not isinstance(given, kind):
        return kind(**first, **own)
    if own:
        name = next(iter(own))
        raise BadInput(
            f"{name}= is given twice: as a keyword and in {argument}={kind.__name__}(…). Leave the keyword out: {kind.__name__}({name}=…)"
        )
    return given


@dataclass(frozen=True, kw_only=True)
class Controls:
    """Which controls stand beside a reading.

    Attributes:
        names: Any of "shuffled_labels" (every method, fitted again on labels permuted within identities and compared with held-out labels
            permuted so), "random_directions" (drawn, and oriented on training labels), and of the text column alone "bag_of_words" and
            "ngrams" (runs of up to three words and letters, tuned as a probe is).
        untrained: The fitted condition read from an untrained copy of the model: the same prompts in the same order.
        embedding: The same read before the first block (`site="resid_pre"`, layer 0); in tables at layer -1.
        random_directions: How many directions are drawn per layer, 1 or more; 39 or more for a range that holds 95 %.
        shuffles: How many permutations of the labels, 1 or more. The smallest p is 1 / (shuffles + 1); every one is a fit per method and
            layer, tuned as the real one was (searches without labels: none).
        text: Column of the rows with the text for the bag of words and the runs.
        text_vectors: A vector by text, from `models.mean_embeddings`: adds the control "token_embeddings", a tuned classifier on what the
            model's first layer has of the words.
        control_task: With nonlinear methods: the column whose values get random labels, for the selectivity.
        burns_exact: Add what the reference protocol of CCS would claim: normalised with test statistics, the better sign taken
            on test labels. It is there to be compared with, not to be believed.

    Raises:
        UnknownName: No control of this name.
        BadInput: Too few draws.
    """

    names: Iterable[str] = CONTROLS
    untrained: Activations | None = None
    embedding: Activations | None = None
    random_directions: int = 199
    shuffles: int = 19
    text: str = "statement"
    text_vectors: Mapping[str, Float[np.ndarray, " d_model"]] | None = None
    control_task: str = "right"
    burns_exact: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", (self.names,) if isinstance(self.names, str) else tuple(self.names))
        for name in self.names:
            if name not in CONTROLS:
                raise unknown(UnknownName, "control", name, CONTROLS)
        for name, control, draws in (
            ("random_directions", "random_directions", self.random_directions),
            ("shuffles", "shuffled_labels", self.shuffles),
        ):
            if draws < 0 or (control in self.names and draws < 1):
                raise BadInput(f"{name}={draws}: the control {control!r} needs 1 draw at least; to leave it out, leave it out of names")

    @classmethod
    def of(cls, given: Controls | Iterable[str] | None, keywords: dict[str, Any]) -> Controls:
        """Return the controls of a call: as given, by their names, or by keywords, which are removed from `keywords`."""
        if given is None or isinstance(given, Controls):
            return _taken(cls, given, keywords, "controls")
        return _taken(cls, None, keywords, "controls", names=given)


@dataclass(frozen=True, kw_only=True)
class Resampling:
    """Which intervals a table has.

    Attributes:
        resamples: With 0 only accuracies are reported; any other number reports every metric. The intervals are in closed form, and
            nothing is drawn for them.
        level: Confidence level of intervals and bands, between 0 and 1; the spread of controls is its central part too.
        bands: Give accuracies a second interval that holds for all layers at once.

    Raises:
        BadInput: `resamples` is negative, or `level` out of range.
    """

    resamples: int = 1000
    level: float = 0.95
    bands: bool = True

    def __post_init__(self) -> None:
        if self.resamples < 0:
            raise BadInput(f"resamples={self.resamples}: 0 or more")
        if not 0 < self.level < 1:
            raise BadInput(f"level={self.level}: between 0 and 1")

    @classmethod
    def of(cls, given: Any, keywords: dict[str, Any]) -> Resampling:
        """Return the resampling of a call: as given, or by keywords, which are removed from `keywords`.

        Raises:
            BadInput: What was given is no `Resampling`, or an option is given twice.
        """
        if given is not None and not isinstance(given, Resampling):
            raise BadInput(f"resampling= takes a Resampling(resamples=…), got {type(given).__name__}")
        return _taken(cls, given, keywords, "resampling")

    @property
    def outside(self) -> float:
        """The share outside the interval, without the rounding of 1 - .95."""
        return round(1 - self.level, 12)
