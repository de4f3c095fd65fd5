"""A page per latent of a dictionary, and a page that lists them and searches by word: html that opens without a network."""

from __future__ import annotations

import html
from typing import Any

import pandas as pd

from ..core.show import visible
from .page import hashed, policy
from .report import read_own
from .style import BLUE, INK, PAPER
from .tokens import tokens_html

OWN = """
.latents td, .latents th { text-align: left; padding: .35rem .8rem .35rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
.latents th, .latents td.num, .latents td:first-child { white-space: nowrap; overflow-wrap: normal; }
.latents { border-collapse: collapse; width: 100%; font-size: .92rem; }
.find { width: 100%; padding: .5rem .7rem; font: inherit; margin: 0 0 1rem; border: 1px solid var(--soft); background: var(--paper);
  color: var(--ink); }
.context { margin: 0 0 .4rem; }
.context figure { margin: 0; overflow-x: auto; }
.num { font-variant-numeric: tabular-nums; }
"""
FIND = """"use strict";
(() => {
  const field = document.getElementById("find"), rows = [...document.querySelectorAll("tr[data-words]")];
  const count = document.getElementById("count");
  const show = () => {
    const word = field.value.trim().toLowerCase();
    let n = 0;
    for (const row of rows) { row.hidden = !row.dataset.words.includes(word); n += !row.hidden; }
    count.textContent = `${n} of ${rows.length} latents`;
  };
  field.addEventListener("input", show);
  show();
})();"""
_PAGE = """<!doctype html>
<html lang="en" data-theme="light">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>{title}</title>
<style>{css}</style>
</head>
<body>
{body}
</body>
</html>
"""


def _page(title: str, body: str, *scripts: str) -> str:
    css = f":root {{ --ink: {INK}; --paper: {PAPER}; }}\n{read_own('report.css')}{OWN}"
    allowed = policy(*(hashed(s) for s in scripts)) if scripts else policy("'none'")
    whole = body + "".join(f"\n<script>{s}</script>" for s in scripts)
    return _PAGE.format(policy=allowed, title=_text(title), css=css, body=whole)


def _text(value: Any) -> str:
    return html.escape(visible(str(value)), quote=True)


def latent_page(latent: int, contexts: pd.DataFrame, tokens: pd.DataFrame, histogram: pd.DataFrame, about: str = "") -> str:
    """Return the page of one latent.

    Args:
        latent: Which.
        contexts: Its contexts: `rank, token, activation, peak`, one row per token; of one rank in reading order.
        tokens: `side, rank, token, cosine, chance`, from `features.latent_tokens`.
        histogram: `left, right, count, rows`: how often it acts how much; `rows` is the number of all tokens.
        about: A line on where the dictionary comes from.

    Returns:
        The html, which runs no script and fetches nothing. Text of tokens is escaped.
    """
    acts = int(histogram["count"].sum())
    rows = int(histogram["rows"].iloc[0]) if len(histogram) else 0
    share = f"acts on {acts:,} of {rows:,} tokens ({acts / rows:.2%})" if rows else "no token was read"
    body = [f'<header><h1>Latent {latent}</h1><p class="sub">{_text(about)}</p><p><a href="index.html">All latents</a></p></header><main>']
    body.append(f"<h2>How often it acts</h2><p>It {share}.</p>{_bars(histogram)}")
    body.append("<h2>Where it acts most</h2>")
    if not len(contexts):
        body.append("<p>It never acts on these texts: a dead latent here.</p>")
    for rank, own in contexts.groupby("rank", sort=True):
        shown = tokens_html(
            own.rename(columns={"activation": "projection"}), caption=f"{rank}. largest activation {own['activation'].max():.3g}"
        )
        body.append(f'<div class="context">{shown}</div>')
    body.append("<h2>Tokens that its direction points at, and away from</h2>")
    body.append(
        "<p>Cosine with the unembedding, through the final norm; beside it the mean of random directions at that rank.</p>"
        '<table class="latents"><thead><tr><th>towards</th><th>cosine (random)</th>'
        "<th>away</th><th>cosine (random)</th></tr></thead><tbody>"
    )
    sides = [tokens[tokens["side"] == side].sort_values("rank").to_dict("records") for side in ("towards", "away")]
    for pair in zip(*sides, strict=False):
        cells = "".join(
            f'<td><code>{_text(t["token"])}</code></td><td class="num">{t["cosine"]:+.2f} ({t["chance"]:+.2f})</td>' for t in pair
        )
        body.append(f"<tr>{cells}</tr>")
    body.append("</tbody></table></main>")
    return _page(f"Latent {latent}", "\n".join(body))


def _bars(histogram: pd.DataFrame) -> str:
    """A histogram as an inline picture, its axis labelled."""
    if not len(histogram) or not histogram["count"].max():
        return ""
    width, height, n = 640, 130, len(histogram)
    top, step = int(histogram["count"].max()), width / n
    parts = []
    for k, row in enumerate(histogram.to_dict("records")):
        tall = height * row["count"] / top
        told = _text(f"{row['left']:.3g} to {row['right']:.3g}: {int(row['count']):,}")
        parts.append(
            f'<rect x="{k * step + 1:.1f}" y="{height - tall + 16:.1f}" width="{step - 2:.1f}" height="{tall:.1f}" fill="{BLUE}">'
            f"<title>{told}</title></rect>"
        )
    low, high = histogram["left"].iloc[0], histogram["right"].iloc[-1]
    label = f"number of tokens (highest bar {top:,}) by activation where it acts"
    return (
        f'<svg viewBox="0 0 {width} {height + 40}" role="img" aria-label="{label}" style="width:100%;max-width:{width}px;font-size:12px">'
        f'<text x="0" y="11" fill="currentColor">{label}</text>{"".join(parts)}'
        f'<line x1="0" x2="{width}" y1="{height + 16}" y2="{height + 16}" stroke="currentColor"/>'
        f'<text x="0" y="{height + 34}" fill="currentColor">{low:.3g}</text>'
        f'<text x="{width}" y="{height + 34}" text-anchor="end" fill="currentColor">{high:.3g} activation</text></svg>'
    )


def latent_index(table: pd.DataFrame, title: str, about: str = "") -> str:
    """Return the page that lists latents and searches their words.

    Args:
        table: `latent, acts` (share of tokens), `tokens` (what the direction points at), `context` (where it acts most), `words` (what is
            searched).
        title: Of the page.
        about: A line on where the dictionary comes from.

    Returns:
        The html, which fetches nothing and runs its own search alone.
    """
    rows = "\n".join(
        f'<tr data-words="{_text(str(r["words"]).lower())}"><td><a href="latent-{int(r["latent"])}.html">{int(r["latent"])}</a></td>'
        f'<td class="num">{r["acts"]:.2%}</td><td dir="auto">{_text(r["tokens"])}</td><td dir="auto">{_text(r["context"])}</td></tr>'
        for r in table.to_dict("records")
    )
    body = (
        f'<header><h1>{_text(title)}</h1><p class="sub">{_text(about)}</p></header><main>'
        '<label for="find">Search by word: in contexts and in tokens</label><input class="find" id="find" type="search" autocomplete="off">'
        '<p class="hint" id="count" aria-live="polite"></p><table class="latents"><thead><tr><th>latent</th><th>acts on</th>'
        f"<th>points at</th><th>acts most in</th></tr></thead><tbody>{rows}</tbody></table></main>"
    )
    return _page(title, body, FIND)
