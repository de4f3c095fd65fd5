"""The html page of one figure: it opens without a network, and its content security policy lets nothing be fetched or run but its own."""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Mapping
from functools import cache
from typing import Any

from plotly.io.json import to_json_plotly
from plotly.offline import get_plotlyjs

from ..core.show import visible
from .markup import plain, tamed

LIBRARY = "plotly.min.js"  # the copy of the drawing library that the pages of a folder share
_DRAW = """"use strict";
(() => {
  const plot = document.getElementById("figure");
  const { frames, ...figure } = JSON.parse(document.getElementById("data").textContent);
  const config = { displaylogo: false, responsive: true, typesetMath: false, showSendToCloud: false, plotlyServerURL: "" };
  Plotly.newPlot(plot, { ...figure, config }).then(() => {
    if (frames?.length) Plotly.addFrames(plot, frames).then(() => Plotly.animate(plot));
  });
})();"""
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="referrer" content="no-referrer">
<title>{title}</title>
</head>
<body>
<div id="figure" style="width: {width}; height: {height}"></div>
<script type="application/json" id="data">{data}</script>
{library}
<script>{draw}</script>
</body>
</html>
"""


def policy(*scripts: str, images: str = "data:") -> str:
    """Return a content security policy that lets a page run some scripts and fetch nothing.

    Args:
        scripts: What may run: "'sha256-…'" or "'nonce-…'".
        images: Where pictures may come from.

    Returns:
        The policy. Style attributes are allowed, since the drawing library sets them; without a network they can load nothing.
    """
    return (
        f"default-src 'none'; script-src {' '.join(scripts)}; style-src 'unsafe-inline'; img-src {images}; font-src 'none'; "
        "connect-src 'none'; base-uri 'none'; form-action 'none'"
    )


def hashed(script: str) -> str:
    """Return what a policy calls an inline script: "'sha256-…'"."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode('utf-8')).digest()).decode()}'"


@cache
def library() -> tuple[str, str]:
    """Return the drawing library, and what a policy calls it."""
    text = get_plotlyjs().replace("\r\n", "\n")
    return text, hashed(text)


def as_data(spec: Mapping[str, Any]) -> str:
    """Return a figure as JSON that cannot end the element that it stands in."""
    data = str(to_json_plotly(spec))
    for sign in "<>&\u2028\u2029":
        data = data.replace(sign, f"\\u{ord(sign):04x}")
    return data


def figure_page(figure: Any, name: str, *, single_file: bool = False) -> str:
    """Return the html page of a figure.

    Args:
        figure: A plotly figure; its texts are tamed.
        name: Title of the page where the figure has none.
        single_file: Put the drawing library into the page; else it is read from `LIBRARY` beside it.

    Returns:
        The page.
    """
    spec = tamed(figure)
    layout = spec.get("layout", {})
    title = layout.get("title")
    title = plain(str((title.get("text") if isinstance(title, Mapping) else title) or "")).strip()
    data = as_data(spec)
    if single_file:
        script, allowed = library()
        loaded = f"<script>{script}</script>"
    else:
        # no hash lets a page read a script from a file beside it; what names the script follows from the data, so no text can hold it
        key = hashlib.sha256(data.encode("utf-8")).hexdigest()[:32]
        loaded, allowed = f'<script charset="utf-8" nonce="{key}" src="{LIBRARY}"></script>', f"'nonce-{key}'"
    return _PAGE.format(
        # the button that saves a picture makes it of a blob
        policy=policy(allowed, hashed(_DRAW), images="data: blob:"),
        title=html.escape(visible(title or name)),
        width=f"{int(layout['width'])}px" if layout.get("width") else "100%",
        height=f"{int(layout['height'])}px" if layout.get("height") else "100vh",
        data=data,
        library=loaded,
        draw=_DRAW,
    )
