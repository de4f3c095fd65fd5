"""Token views: which tokens were read, which were steered, and how far each lies along a direction. They open without a network."""

from __future__ import annotations

import html
import json
import re
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch

from ..core.errors import MissingColumn
from ..core.show import visible
from ..core.whole import write_whole
from .page import hashed, policy


@dataclass(frozen=True, kw_only=True)
class TokenView:
    """A circuitsvis view that asks no server for anything: circuitsvis' own looks for a network, and runs a script from there.

    Attributes:
        local_src: HTML with the script in it.
    """

    local_src: str

    def __repr__(self) -> str:
        return f"TokenView({len(self.local_src) // 1000:,} kB of html)"

    def _repr_html_(self) -> str:
        return f'<div class="tex2jax_ignore mathjax_ignore">{self.local_src}</div>'


def token_view(table: pd.DataFrame, *, label: str = "projection") -> TokenView:
    """Show tokens coloured by their projection on a direction, as an interactive circuitsvis view.

    Args:
        table: From `wb.project_tokens`.
        label: What the colour is, for the reader.

    Returns:
        A view for a notebook, with ▸ before tokens that are steered and ◂ after tokens that are read. `save_view` writes it to
        a file that opens without a network.

    Raises:
        MissingColumn: The table has no column `token` or `projection`.
    """
    from circuitsvis import tokens

    if not {"token", "projection"} <= set(table.columns):
        raise MissingColumn("a token view needs the columns token and projection, as wb.project_tokens gives them")
    values = table["projection"].to_numpy(float)
    size = max(1e-9, float(abs(values).max()))
    none = [False] * len(table)
    shown = [html.escape(visible(token)) for token in table["token"]]  # circuitsvis takes tokens for html, and the label for text
    marks = zip(shown, table.get("steered", none), table.get("read", none), strict=True)
    names = [("▸" if steered else "") + token + ("◂" if read else "") for token, steered, read in marks]
    text = f"{visible(label)} (1 = {size:.3g})"
    source = tokens.colored_tokens_multi(names, torch.as_tensor(values / size)[:, None], labels=[text]).local_src
    named = json.dumps(text)
    return TokenView(local_src=source.replace(named, named.replace("<", "\\u003c")))  # a label cannot end the script that it stands in


def save_view(view: TokenView, path: str | Path) -> Path:
    """Write a circuitsvis view to one html file that opens without a network.

    Args:
        view: From `token_view`.
        path: The file; an existing one is replaced.

    Returns:
        The path.
    """
    path = Path(path)
    scripts = re.findall(r"<script[^>]*>(.*?)</script>", view.local_src, flags=re.DOTALL)
    allowed = policy(*(hashed(script) for script in scripts))
    head = f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{allowed}"><title>tokens</title>'
    page = f'<!doctype html><html lang="en"><head>{head}</head><body>{view.local_src}</body></html>'
    write_whole(path, page)
    return path


def tokens_html(table: pd.DataFrame, *, caption: str = "") -> str:
    """Return tokens as plain html, without a script: blue lies along the direction, red against it, underlined tokens were steered.

    Args:
        table: From `wb.project_tokens`: `token, projection`, and `steered` if there.
        caption: Under the tokens.

    Returns:
        One `<figure>`; text of tokens and caption is escaped.
    """
    size = max(1e-9, float(table["projection"].abs().max()))
    cells = []
    for row in table.to_dict("records"):
        share = float(row["projection"]) / size
        colour = f"rgba(0,114,178,{share:.2f})" if share >= 0 else f"rgba(213,94,0,{-share:.2f})"
        line = "border-bottom:3px solid #222;" if row.get("steered") else ""
        title = html.escape(f"{row['projection']:.3g}", quote=True)
        look = f"background:{colour};{line}padding:1px 2px;white-space:pre-wrap"
        cells.append(f'<span title="{title}" style="{look}">{html.escape(visible(row["token"]))}</span>')
    note = f"<figcaption>{html.escape(visible(caption))}</figcaption>" if caption else ""
    return f'<figure class="tex2jax_ignore mathjax_ignore" style="font:14px/2 monospace">{"".join(cells)}{note}</figure>'
