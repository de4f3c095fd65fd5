"""Hold debates, with seats and names exchanged, consultancies for both answers, and questions that nobody argues about."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tqdm.auto import tqdm

from ...core.errors import BadInput
from .cases import Case, Speech, Transcript, called
from .debaters import Debater

PROTOCOLS = ("none", "consultancy", "debate")


def hold(case: Case, debaters: tuple[Debater, Debater], order: Sequence[int], turns: int, strength: float = float("nan")) -> Transcript:
    """Let sides speak in turn.

    Args:
        case: The question.
        debaters: Who argues for the negative and for the positive answer.
        order: The sides in the order in which they speak: both, or one for a consultancy.
        turns: Speeches of each side.
        strength: How strong they are, where it is known.

    Returns:
        What was said; in a debate the one who speaks first is called Debater A.

    Raises:
        BadInput: No turn, or an order that is none.
    """
    if turns < 1 or not order or sorted(set(order)) != sorted(order) or not set(order) <= {0, 1}:
        raise BadInput(f"turns={turns}, order={list(order)}: one turn at least, and each side once")
    said: list[Speech] = []
    for turn in range(turns):
        for side in order:
            said.append(Speech(side=side, text=debaters[side].speak(case, side, tuple(said), turn)))
    protocol = "debate" if len(order) == 2 else "consultancy"
    names = called(order) if protocol == "debate" else called(order, ("Consultant", ""))
    return Transcript(case=case, protocol=protocol, speeches=tuple(said), called=names, strength=strength)


def debate(case: Case, debaters: tuple[Debater, Debater], turns: int = 2, *, strength: float = float("nan")) -> list[Transcript]:
    """Return the debate in four seatings: each side speaks first, and each is called A.

    Args:
        case: The question.
        debaters: Who argues for the negative and for the positive answer.
        turns: Speeches of each side.
        strength: How strong they are, where it is known.

    Returns:
        Four transcripts. What is said does not depend on the names, so two of them repeat the speeches of the others under exchanged names.
    """
    out = []
    for order in ((0, 1), (1, 0)):
        held = hold(case, debaters, order, turns, strength)
        other = Transcript(case=case, protocol="debate", speeches=held.speeches, called=called(order[::-1]), strength=strength)
        out += [held, other]
    return out


def consultancy(case: Case, debaters: tuple[Debater, Debater], turns: int = 2, *, strength: float = float("nan")) -> list[Transcript]:
    """Hold a consultancy for each answer, for nobody says beforehand which is right.

    Args:
        case, debaters, turns, strength: As for `debate`.

    Returns:
        Two transcripts.
    """
    return [hold(case, debaters, (side,), turns, strength) for side in (0, 1)]


def undebated(case: Case) -> list[Transcript]:
    """Return the question alone.

    Args:
        case: The question.
    """
    return [Transcript(case=case, protocol="none")]


def every(
    cases: Sequence[Case], debaters: tuple[Debater, Debater], turns: int, *, strength: float = float("nan"), progress: bool | None = None
) -> Iterator[Transcript]:
    """Hold consultancies and debates of all cases.

    Args:
        cases: The questions.
        debaters, turns, strength: As for `debate`.
        progress: Show a progress bar.

    Returns:
        Six transcripts of each case.
    """
    for case in tqdm(cases, desc="debates", unit="case", leave=False, disable=None if progress is None else not progress):
        yield from consultancy(case, debaters, turns, strength=strength)
        yield from debate(case, debaters, turns, strength=strength)
