"""Text that would like to run: in every field of a report, in a real browser."""

import re

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from browser import page
from labels import as_drawn, every
from labels import hostile as labels
from listener import listening
from test_report import in_browser, own_text, panel, report

from workbench.core.show import visible
from workbench.figures import Finding, style, udhr

ATTACKS = [
    "<script>window.hacked=1</script>",
    '"><img src=missing onerror=window.hacked=2>',
    "' onfocus='window.hacked=3' autofocus='",
    "</script><script>window.hacked=4</script>",
    "<!--<script>",
    "--></title></style></textarea><svg onload=window.hacked=5>",
    '<a href="javascript:window.hacked=6">go</a>',
    '<A HREF="https://example.invalid/">out</A>',
    "{{ 7*7 }}{% raw %}",
    "\u202egnp.exe\u2066\u200f",
    "nul\x00bell\x07esc\x1b",
    "half \ud800 pair",
]
EVIL = " ".join(ATTACKS)


def hostile(rows, columns):
    """A table of objects: pandas' own text cannot hold half a pair."""
    return pd.DataFrame(rows, columns=pd.Index(columns, dtype=object), dtype=object)


def test_escapes_everything(tmp_path):
    table = hostile([[EVIL, EVIL, 0.5]], [EVIL, EVIL, "value"])
    path = report(
        tmp_path, title=EVIL, subtitle=EVIL, convention=EVIL, limits=[EVIL], made=[EVIL], warning=EVIL, settings={EVIL: EVIL}, tables={EVIL: table},
        findings=[Finding(EVIL, EVIL), EVIL, f"{ATTACKS[1]}: 0.5 [0.4, 0.6]"], steps=[{"step": EVIL, "seconds": 1.0, "cached": False}],
        panels=[panel(EVIL, EVIL, EVIL)], links=[(EVIL, "cells/1.html")],
    )  # fmt: skip
    whole, text = path.read_text(encoding="utf-8"), own_text(path)
    assert "window.hacked" in text
    assert not re.search(r"<(script|img|svg|a href=.?javascript)[^>]*hacked", text, flags=re.IGNORECASE)
    assert "&lt;script&gt;window.hacked=1&lt;/script&gt;" in text
    assert "⟪U+202E⟫gnp.exe⟪U+2066⟫⟪U+200F⟫" in text
    assert "nul⟪U+0000⟫bell⟪U+0007⟫esc⟪U+001B⟫" in text
    assert "half ⟪U+D800⟫ pair" in text
    # in the whole page, the figures' data too
    assert not re.search("[\x00-\x08\u202a-\u202e\u2066-\u2069]", re.sub(r"<script>.*?</script>", "", whole, flags=re.DOTALL))


def test_the_data_of_a_figure_cannot_leave_its_element(tmp_path):
    figure = style(go.Figure(go.Bar(x=np.array(ATTACKS, dtype=object), y=list(range(len(ATTACKS))), name=EVIL)), EVIL)
    whole = report(tmp_path, panels=[panel(figure=figure)]).read_text(encoding="utf-8")
    (data,) = re.findall(r'<script type="application/json">(.*?)</script>', whole, flags=re.DOTALL)
    assert "hacked=4" in data
    assert not re.search("[<>&]", data)
    assert r"\u0026lt;a href" in data, "a label with a link must show as text"


@in_browser
def test_hostile_text_runs_nothing_even_without_the_policy(tmp_path):
    (tmp_path / "control.html").write_text(f"<!doctype html><title>x</title>{ATTACKS[0]}")
    with page(tmp_path / "control.html", bypass_policy=True) as tab:
        assert tab.evaluate("window.hacked") == 1, "the canary sings where text is not escaped"
    table = hostile([[EVIL + " long" * 100, a, 0.5] for a in ATTACKS], [EVIL, "attack", EVIL])
    figure = style(go.Figure(go.Bar(x=ATTACKS, y=list(range(len(ATTACKS))), name=EVIL, text=ATTACKS, hovertext=ATTACKS)), EVIL)
    figure.add_annotation(text=EVIL, x=1, y=1)
    figure.update_xaxes(title=EVIL)
    path = report(
        tmp_path, title=EVIL, subtitle=EVIL, convention=EVIL, limits=ATTACKS, made=ATTACKS, warning=EVIL, settings={a: a for a in ATTACKS},
        tables={EVIL: table, **dict.fromkeys(ATTACKS, table)}, findings=[*(Finding(f"{a} 0.5 [0.4, 0.6]", EVIL, a) for a in ATTACKS), EVIL],
        steps=[{"step": a, "seconds": 1.0, "cached": False} for a in ATTACKS], panels=[panel(EVIL, EVIL, EVIL, figure), *(panel(a, a, a) for a in ATTACKS[:3])],
        links=[(a, "cells/1.html") for a in ATTACKS],
    )  # fmt: skip
    with page(path, bypass_policy=True) as tab:
        tab.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
        tab.evaluate("document.querySelectorAll('th button').forEach((b) => b.click())")
        tab.evaluate("document.querySelectorAll('a[href^=\"#\"]').forEach((a) => a.click())")
        tab.settle()
        assert tab.evaluate("window.hacked ?? 0") == 0
        assert tab.errors == []
        assert tab.requests == [path.resolve().as_uri()]
        assert tab.evaluate("document.querySelectorAll('svg a').length") == 0
        assert tab.evaluate("document.querySelectorAll('.plot .main-svg').length") >= 8
        hrefs = set(tab.evaluate("[...document.querySelectorAll('a')].map((a) => a.getAttribute('href'))"))
        assert {re.match(r"#[\w-]+$|tables/[^/]+\.csv$|figures/[^/]+\.(csv|png)$|cells/1\.html$", h) is not None for h in hrefs} == {True}
        assert tab.evaluate("document.querySelectorAll('main [onfocus], main [autofocus], main img').length") == 0
        assert "⟪U+202E⟫" in tab.evaluate("document.title")
        ends = tab.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
        assert ends[0] <= ends[1]


@in_browser
def test_the_policy_stops_what_escaping_would_have_missed(tmp_path):
    hole = '<h2 id="h-figures">'
    added = '<script>window.hacked=1</script><img src="https://example.invalid/x.png" onerror="window.hacked=2"><link rel=stylesheet href="x.css">'
    text = report(tmp_path).read_text(encoding="utf-8")
    assert hole in text
    (tmp_path / "index.html").write_text(text.replace(hole, added + hole), encoding="utf-8")
    with page(tmp_path / "index.html") as tab:
        assert tab.evaluate("window.hacked ?? 0") == 0
        assert len(tab.errors) >= 3
        assert tab.requests == [(tmp_path / "index.html").resolve().as_uri()]
        assert tab.evaluate("document.querySelectorAll('.main-svg').length") > 0, "the page's own scripts run"


@in_browser
def test_every_field_of_the_page_reads_as_it_is_written_and_asks_for_nothing(tmp_path):
    with listening() as server:
        names = labels(server.address)
        table = pd.DataFrame({"name": names, "value": 0.5, **dict.fromkeys(names, 0.5)})
        drawn = udhr.denied(every(identity=names).assign(denied=False), title=names[0], axis=names[1])
        path = report(
            tmp_path, title=names[0], subtitle=names[0], convention=names[0], warning=names[0], limits=names, made=names, settings={n: n for n in names},
            tables=dict.fromkeys(names[:4], table) | {"scores": table}, findings=[Finding(f"{n}: 0.5 [0.4, 0.6]", "scores") for n in names],
            steps=[{"step": n, "seconds": 1.0, "cached": False} for n in names], panels=[panel(n, "scores", n, drawn) for n in names[:3]],
            links=[(n, "cells/1.html") for n in names],
        )  # fmt: skip
        with page(path, bypass_policy=True) as tab:
            read = "(css) => [...document.querySelectorAll(css)].map((e) => e.textContent)"
            for css in (
                ".limits li",
                "#made > p",
                ".further li",
                "#table-scores tbody td:first-child",
                "#table-scores th bdi",
                ".plain tbody code",
            ):
                assert [n for n in names if visible(n) not in tab.evaluate(f"({read})({css!r})")] == [], css
            for css in ("h1", ".sub", ".convention", "figure h3"):
                assert tab.evaluate(f"({read})({css!r})")[0] == as_drawn(names[0]), css
            captions = tab.evaluate(f"({read})('figcaption')")
            assert [n for n, text in zip(names[:3], captions, strict=True) if not text.startswith(as_drawn(n))] == []
            assert tab.evaluate("document.title") == names[0]
            assert tab.errors == []
            assert tab.requests == [path.resolve().as_uri()]
        assert server.asked == []
