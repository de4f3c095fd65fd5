"""Which colour and symbol a name is drawn in: the house's names have theirs, every other name gets one of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from .theme import BLUE, GREEN, INK, ORANGE, PURPLE, RED, SKY

COLOURS = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY, INK)
SYMBOLS = ("circle", "square", "diamond", "cross", "triangle-up", "triangle-down", "x", "star", "hexagon")
DASHES = ("dot", "dash", "dashdot", "solid", "longdash", "longdashdot")
Look = tuple[str, str]


def look(k: int) -> Look:
    """Return colour and symbol of the k-th line: both go round, at different lengths, so that 63 are told apart."""
    return COLOURS[k % len(COLOURS)], SYMBOLS[k % len(SYMBOLS)]


def looks(names: Iterable[str], known: Mapping[str, Look], *, avoid: Iterable[str] = ()) -> dict[str, Look]:
    """Give every name a look, so that a name of the user's own is never left out of a figure.

    Args:
        names: What is to be drawn.
        known: Colour and symbol of the names that have fixed ones.
        avoid: Colours that something else in the figure has; they are given last.

    Returns:
        Colour and symbol by name: first the known names, in the order of `known`, then the others in their own order. No two looks are the
        same, and no two colours are as long as there are enough.

    Example:
        >>> given = looks(["mine", "ccs", "other"], {"ccs": (BLUE, "circle")})
        >>> list(given), len({colour for colour, _ in given.values()})
        (['ccs', 'mine', 'other'], 3)
    """
    asked = list(dict.fromkeys(names))
    out = {name: own for name, own in known.items() if name in asked}
    used, reserved, late = {c for c, _ in out.values()}, {c for c, _ in known.values()}, set(avoid)
    order = sorted(COLOURS, key=lambda c: (c in used, c in late, c in reserved, COLOURS.index(c)))
    taken = set(out.values())
    for k, name in enumerate(n for n in asked if n not in known):
        turns = ((order[k % len(order)], SYMBOLS[(k + j) % len(SYMBOLS)]) for j in range(len(SYMBOLS)))
        out[name] = next((own for own in turns if own not in taken), look(k))
        taken.add(out[name])
    return out
