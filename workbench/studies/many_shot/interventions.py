"""What may be done against demonstrations: an open list. Each asks the same questions behind the same demonstrations.

An intervention is a function of (study, questions) that returns log-probabilities, `item x 2`, of the negative and the positive answer. It
runs inside a step. What changes the words gives other prompts to `study.ask`; what changes the model asks under edits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from ...core.types import Float
from ...interventions import add, random_directions
from ...models import Edit
from ...prompts import claims

if TYPE_CHECKING:
    from .study import ManyShot

Logp = Float[np.ndarray, "item 2"]
Answerer = Callable[["ManyShot"], Logp]
RANDOM = 3  # directions of the control; each is a pass over all questions


def _plain(study: ManyShot) -> Logp:
    return study.said(study.kinds[0])


def _system(study: ManyShot) -> Logp:
    return study.ask(study.prompts(study.kinds[0], system=claims()["good"]))


def _pushed(study: ManyShot, edits: Iterable[Edit]) -> Logp:
    asker = study.pushable()
    logp = asker.ask(list(edits))
    odds, both = asker.odds(logp), np.log(np.maximum(asker.answered(logp), 1e-30))
    return np.stack([both - np.logaddexp(0, odds), both - np.logaddexp(0, -odds)], 1)


def _steer(study: ManyShot) -> Logp:
    return _pushed(study, add(study.stance(), study.set.coefficient, scope="last"))


def _random(study: ManyShot) -> Logp:
    drawn = random_directions(study.stance(), RANDOM, study.set.seed)
    return np.mean([_pushed(study, add(d, study.set.coefficient, scope="last")) for d in drawn], 0)


INTERVENTIONS: dict[str, Answerer] = {"none": _plain, "system": _system, "steer": _steer, "steer, random": _random}
EDITED = ("steer", "steer, random")
SAYS: Mapping[str, str] = {
    "none": "demonstrations alone",
    "system": "behind a sentence that everyone should have equal rights",
    "steer": "with the stance added at the last token",
    "steer, random": f"with random directions of equal norm added (mean of {RANDOM})",
}
