"""Figures: a table in, a plotly figure out; themes, words, export; the html report."""

from . import udhr
from .export import browser, export
from .markup import BREAK, bold
from .panel import Drawing, Finding, Panel, recipes
from .report import write_report
from .style import style
from .theme import THEMES, themed
from .words import reworded, words_of

__all__ = [
    "BREAK",
    "Drawing",
    "Finding",
    "Panel",
    "THEMES",
    "bold",
    "browser",
    "export",
    "recipes",
    "reworded",
    "style",
    "themed",
    "udhr",
    "words_of",
    "write_report",
]
