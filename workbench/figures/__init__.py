"""Figures: a table in, a plotly figure out; export; the html report."""

from . import udhr
from .export import browser, export
from .report import Panel, write_report
from .style import style

__all__ = ["Panel", "browser", "export", "style", "udhr", "write_report"]
