"""Two themes, light and dark: colours that stay apart for colour-blind readers and stand out from their background.

The hues are those of Okabe and Ito (2008), moved until any two of them are at least 20 apart (CIE76) for normal, protanope, deuteranope and
tritanope eyes (simulated after Machado et al. 2009) and each has a contrast of 3:1 at least against its background, as WCAG 2.1 asks of
graphics (`tests/figures/test_theme.py` measures both). Drawing functions use the light colours; the dark theme exchanges them.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import plotly.graph_objects as go

from ..core.errors import BadInput

BLUE, ORANGE, GREEN, RED, PURPLE, SKY, GREY = "#0e4a91", "#d17f00", "#068549", "#af2d00", "#c17eac", "#2498f3", "#5d5d5d"
INK, FAINT, GRID, PAPER = "#222222", "#d9d9d9", "#efefef", "#ffffff"
DARK = {
    BLUE: "#228cef",
    ORANGE: "#fed219",
    GREEN: "#29d687",
    RED: "#e17327",
    PURPLE: "#cc7cbd",
    SKY: "#bef2fa",
    GREY: "#686868",
    INK: "#e8e8e8",
    FAINT: "#454b54",
    GRID: "#2a2f36",
    PAPER: "#16181c",
    "white": "#16181c",
    "rgba(255,255,255,.85)": "rgba(22,24,28,.85)",
}
THEMES = ("light", "dark")
_RGBA = re.compile(r"rgba\((\d+),(\d+),(\d+),([\d.]+)\)")


def _rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


_BY_RGB = {_rgb(light): _rgb(dark) for light, dark in DARK.items() if light.startswith("#")}


def _swap(value: Any, colour: bool = False) -> Any:
    """Exchange colours where plotly keeps colours: a word may be called "white", too."""
    if isinstance(value, dict):
        return {k: _swap(v, k.endswith(("color", "colors", "colorscale"))) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_swap(v, colour) for v in value]
    if isinstance(value, np.ndarray):
        return _swap(value.tolist(), colour) if colour and value.dtype == object else value
    if not colour or not isinstance(value, str):
        return value
    if value in DARK:
        return DARK[value]
    faint = _RGBA.fullmatch(value)
    if faint and (rgb := _BY_RGB.get((int(faint[1]), int(faint[2]), int(faint[3])))):
        return "rgba({},{},{},{:.2f})".format(*rgb, min(1.0, 1.6 * float(faint[4])))  # a veil shows less on dark
    return value


def themed(figure: go.Figure, theme: str) -> go.Figure:
    """Return a figure in a theme.

    Args:
        figure: Drawn by a function of `workbench.figures`, in its light colours.
        theme: "light" or "dark".

    Returns:
        The figure itself for "light"; for "dark" another one with every colour of the light palette exchanged for its dark counterpart.

    Raises:
        BadInput: There is no such theme.
    """
    if theme not in THEMES:
        raise BadInput(f"theme {theme!r}: there are {', '.join(THEMES)}")
    if theme == "light":
        return figure
    swapped = go.Figure(_swap(figure.to_dict()))
    # what a figure leaves to plotly's default template is light
    swapped.update_layout(hoverlabel={"bgcolor": DARK[FAINT], "font": {"color": DARK[INK]}})
    swapped.update_coloraxes(colorbar={"tickfont": {"color": DARK[INK]}})
    return swapped
