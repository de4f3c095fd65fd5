"""Write figures: html always, png and svg where Chrome is found, and the csv they were drawn from."""

from __future__ import annotations

import os
import re
import shutil
import warnings
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pandas as pd
import plotly.graph_objects as go

from ..core.errors import BadInput, MissingTool
from ..core.tables import write_csv
from ..core.whole import write_whole
from .markup import tamed
from .page import LIBRARY, figure_page, library

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
HINT = "png and svg need Chrome or Chromium: `apt-get install chromium` on Debian, or `plotly_get_chrome` elsewhere"
KINDS = ("html", "png", "svg", "pdf")
SECONDS = 60.0
WRITTEN = 2  # one more wherever the files of one and the same figure change: they are then written anew
# kinds of traces whose maps come from a server
_MAPS = re.compile(r"(scatter|density|choropleth)map(box)?|scattergeo|choropleth")
_OUTSIDE = re.compile(r"url\((?![\s'\"]*(?:#|data:))|@import|image-set\(|expression\(", re.IGNORECASE)


def browser() -> str | None:
    """Return the path of a Chrome-like browser, or `None`."""
    return os.environ.get("BROWSER_PATH") or next((path for name in BROWSERS if (path := shutil.which(name))), None)


def export(
    figures: Mapping[str, go.Figure],
    folder: str | Path,
    *,
    tables: Mapping[str, pd.DataFrame] | None = None,
    formats: Sequence[str] = ("html", "png", "svg"),
    scale: float = 2.0,
    single_file: bool = False,
    seconds: float = SECONDS,
) -> list[Path]:
    """Write figures to a folder.

    Args:
        figures: Figures by name. Those of `workbench.figures` draw every text as it is written. In any other, bare tags such as `<b>` and
            `<br>` are markup, and tags with attributes (styles, links) are drawn as text.
        folder: Where to; made if it is not there.
        tables: The table behind each figure, written as NAME.csv.
        formats: Of "html" (opens without a network), "png", "svg", "pdf".
        scale: Pixels per point of a png.
        single_file: Put the drawing library (4.8 MB) into each html, so that it can be passed on alone. By default the pages of a folder
            share one copy, `plotly.min.js` beside them.
        seconds: How long the browser may take for one picture. A browser that takes longer is ended.

    Returns:
        The files written.

    Raises:
        BadInput: A figure without a name, a name that is no file name, no such format, or a figure that shows something from a network.
        MissingTool: A format needs Chrome and there is none, or it drew nothing or did not answer; html and csv are written before.

    Note:
        Neither the browser that draws nor a page that is opened reaches a network.
    """
    if not isinstance(figures, Mapping):
        raise BadInput("figures go by name, which names their files: export({'name': figure}, folder)")
    if strange := [f for f in formats if f not in KINDS]:
        raise BadInput(f"format {strange[0]!r}: there are {', '.join(KINDS)}")
    for name in (*figures, *(tables or {})):
        if not name or name in (".", "..") or any(sign in name for sign in "/\\\0"):
            raise BadInput(f"figure {name!r}: a name of a file, without a folder")
    specs = {name: tamed(figure) for name, figure in figures.items()}
    for name, spec in specs.items():
        _check_inside(name, spec)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    out: list[Path] = []
    if "html" in formats:
        if figures and not single_file:
            _share_library(folder)
        for name, spec in specs.items():
            out.append(folder / f"{name}.html")
            write_whole(out[-1], figure_page(spec, name, single_file=single_file))
    for name, table in (tables or {}).items():
        out.append(folder / f"{name}.csv")
        write_csv(out[-1], table)
    kinds = [f for f in formats if f != "html"]
    return [*out, *_stills(specs, folder, kinds, scale, seconds)] if kinds and figures else out


def _share_library(folder: Path) -> None:
    """Write the drawing library beside the pages, unless it is there; another file of its name would be run in its place."""
    text, path = library()[0].encode("utf-8"), folder / LIBRARY
    if path.is_symlink() or not path.is_file() or path.read_bytes() != text:
        write_whole(path, text)


def _check_inside(name: str, spec: Mapping[str, Any]) -> None:
    todo = "figures are drawn and opened without a network"
    for trace in spec.get("data", ()):
        if _MAPS.fullmatch(str(trace.get("type", ""))):
            raise BadInput(f"figure {name!r}: the map of a {trace['type']} comes from a server; {todo}")
    pictures = [*spec.get("layout", {}).get("images", ()), *(t for t in spec.get("data", ()) if t.get("type") == "image")]
    for picture in pictures:
        if not str(picture.get("source") or "data:").startswith("data:"):
            raise BadInput(f"figure {name!r} shows a picture from {str(picture['source'])[:80]!r}; {todo}: give it as a data: address")


def _stills(specs: Mapping[str, dict[str, Any]], folder: Path, kinds: Sequence[str], scale: float, seconds: float) -> list[Path]:
    path = browser()
    if path is None:
        raise MissingTool(HINT)
    from .renderer import Ended, Still, draw

    jobs = [
        Still(path=folder / f"{name}.{kind}", figure=spec, kind=kind, scale=scale if kind == "png" else 1)
        for name, spec in specs.items()
        for kind in kinds
    ]
    out: list[Path] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with closing(draw(jobs, path, seconds)) as pictures:
                for still, picture in pictures:
                    write_whole(still.path, _inert(picture) if still.kind == "svg" else picture)
                    out.append(still.path)
        except Ended as error:
            raise MissingTool(
                f"{error}; {len(out)} of {len(jobs)} pictures are written, html pages are whole. Try again, give more `seconds`, leave "
                f"{' and '.join(kinds)} out of `formats`, or set BROWSER_PATH to another browser; {HINT}"
            ) from error
    return out


def _inert(svg: bytes) -> bytes:
    """Return an svg without anything that is fetched or run when it is opened; one that holds nothing of the kind stays as it is."""
    root = ElementTree.fromstring(svg)
    clean = True
    for parent in root.iter():
        for name, value in list(parent.attrib.items()):
            bare = name.rpartition("}")[2].lower()
            link = bare in ("href", "src") and not value.strip().startswith(("#", "data:image/"))
            if link or bare.startswith("on") or _OUTSIDE.search(value):
                del parent.attrib[name]
                clean = False
        for child in list(parent):
            tag = str(child.tag).rpartition("}")[2].lower()
            if tag in ("script", "foreignobject", "iframe") or (tag == "style" and _OUTSIDE.search(child.text or "")):
                parent.remove(child)
                clean = False
    return svg if clean else ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
