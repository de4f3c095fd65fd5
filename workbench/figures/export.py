"""Write figures: html always, png and svg where Chrome is found, and the csv they were drawn from."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go

from ..core.errors import BadInput, MissingTool
from ..core.whole import replacing

LIBRARY = "plotly.min.js"  # the copy of the drawing library that the pages of a folder share
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
HINT = "png and svg need Chrome or Chromium: `apt-get install chromium` on Debian, or `plotly_get_chrome` elsewhere"


def browser() -> str | None:
    """Return the path of a Chrome-like browser, or `None`."""
    return os.environ.get("BROWSER_PATH") or next((path for name in BROWSERS if (path := shutil.which(name))), None)


def export(
    figures: Mapping[str, go.Figure],
    folder: str | Path,
    *,
    tables: Mapping[str, pd.DataFrame] | None = None,
    formats: tuple[str, ...] = ("html", "png", "svg"),
    scale: float = 2.0,
    single_file: bool = False,
) -> list[Path]:
    """Write figures to a folder.

    Args:
        figures: Figures by name.
        folder: Where to; made if it is not there.
        tables: The table behind each figure, written as NAME.csv.
        formats: Of "html" (opens without a network), "png", "svg", "pdf".
        scale: Pixels per point of a png.
        single_file: Put the drawing library (4.8 MB) into each html, so that it can be passed on alone. By default the pages of a folder
            share one copy, `plotly.min.js` beside them.

    Returns:
        The files written.

    Raises:
        BadInput: A figure without a name.
        MissingTool: A format needs Chrome and there is none; html and csv are written before.
    """
    if not isinstance(figures, Mapping):
        raise BadInput("figures go by name, which names their files: export({'name': figure}, folder)")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    out: list[Path] = []
    if "html" in formats:
        for name, figure in figures.items():
            out.append(folder / f"{name}.html")
            with replacing(out[-1]) as temporary:  # plotly itself writes the shared copy beside it where it is missing
                figure.write_html(temporary, include_plotlyjs=True if single_file else "directory", config={"displaylogo": False})
    for name, table in (tables or {}).items():
        out.append(folder / f"{name}.csv")
        table.to_csv(out[-1], index=False, float_format="%.6g")
    stills = [f for f in formats if f != "html"]
    if not stills or not figures:
        return out
    path = browser()
    if path is None:
        raise MissingTool(HINT)
    import kaleido

    jobs = [
        {"fig": figure, "path": folder / f"{name}.{kind}", "opts": {"format": kind, "scale": scale if kind == "png" else 1}}
        for name, figure in figures.items()
        for kind in stills
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # a browser inside a container, run as root, has no sandbox to enter
        try:
            kaleido.write_fig_from_object_sync(jobs, kopts={"path": path, "enable_sandbox": False})
        except Exception as error:  # whatever a browser that cannot start makes it raise
            raise MissingTool(f"the browser drew nothing ({type(error).__name__}: {str(error)[:200]}); {HINT}") from error
    for job in jobs:
        if not Path(job["path"]).is_file():
            raise MissingTool(f"{path} drew no {Path(job['path']).name}; {HINT}")
        out.append(Path(job["path"]))
    return out
