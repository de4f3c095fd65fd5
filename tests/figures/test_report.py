import itertools
import re
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go
import pytest
from browser import page

from workbench.core import errors
from workbench.figures import Drawing, Finding, Panel, browser, style, themed, write_report

in_browser = pytest.mark.skipif(browser() is None, reason="no Chrome or Chromium here to open the report in")


@dataclass(frozen=True, kw_only=True)
class Drawn(Drawing):
    """A drawing that is a figure already."""

    made: go.Figure

    def figure(self, theme="light", words=None):
        return themed(self.made, theme)


def panel(name="one", table="scores", caption="A caption, n=3.", figure=None, theme="light"):
    if figure is None:
        figure = style(
            go.Figure(go.Scatter(x=[1, 2], y=[3, 4], name="first")), "A title that is long enough to need two lines on a phone, surely"
        )
    return Panel(name=name, table=table, caption=caption, theme=theme, drawing=Drawn(name="udhr.none", rows={}, made=figure))


def scores():
    return pd.DataFrame(
        {
            "site": ["resid_mid", "attn_out", "mlp_out", "resid_post"], "value": [10.0, 9.0, float("nan"), 2.5e-7],
            "big": [123456.7, float("inf"), -3.0, 0.1 + 0.2], "chosen": [True, False, True, False], "note": ["", "b", "a10", "a9"],
        }
    )  # fmt: skip


def report(folder: Path, **changes) -> Path:
    prompts = pd.DataFrame({"prompt": [f"row {k}" for k in range(450)], "k": range(450)})
    prompts.loc[7, "prompt"] = "word " * 100 + "NEEDLE"
    given = {
        "title": "A title", "subtitle": "what it is about", "convention": "Positive is safe.", "limits": ["Only one model."], "made": ["By hand."],
        "findings": [Finding("Repair: it rises to 0.82 [0.71, 0.90] of items.", "scores", "prompts"), "A plain one: 0.5 [0.4, 0.6]."],
        "panels": [panel()], "tables": {"scores": scores(), "prompts": prompts}, "steps": [{"step": "read", "seconds": 1.0, "cached": False}],
        "settings": {"seed": 0}, "stills": ("png",), "links": [("Cell 1", "cells/1/index.html")], "warning": "A fast run.",
    }  # fmt: skip
    return write_report(folder / "index.html", **{**given, **changes})


def own_text(path):
    """The page without its scripts."""
    return re.sub(r"<script.*?</script>", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return report(tmp_path_factory.mktemp("plain"))


NUMBERS = [
    "100.0% [94.0%, 100.0%], n=600", "0.82 [0.71, 0.90]", "+.0 points [-6.3, +6.3]", "-.5 [-.7, -.1]", "+0.0 points [-6.3, +6.3] (n=300)",
    "1.2e-05 [1e-06, 3e-05]", "−0.3 [−0.4, −0.2]", "0.00 (0.00 to 0.10)", "12 % [3 %, 20 %]",
]  # fmt: skip


def test_numbers_with_their_interval_become_links_and_nothing_else_does(tmp_path):
    others = "resid_mid[1], n=150, (n=33), 0.75, [1, 2], x0.82 [0.71, 0.90], a (b to c)"
    said = [Finding(f"Lead: before {n}, after.", "prompts", "scores") for n in NUMBERS]
    text = own_text(report(tmp_path, findings=[*said, Finding(others, "scores"), f"no tables: {NUMBERS[0]}"]))
    assert re.findall(r'<a class="number" href="#table-prompts">(.*?)</a>', text) == NUMBERS
    assert text.count('class="number"') == len(NUMBERS)
    assert others in text
    assert text.count("<strong>Lead.</strong>") == len(NUMBERS)


def test_a_finding_ends_with_all_its_tables(plain):
    text = own_text(plain)
    assert '<a href="#table-scores"><bdi>scores</bdi></a>, <a href="#table-prompts"><bdi>prompts</bdi></a></span></li>' in text
    assert text.count('class="number"') == 1, "a plain sentence has no table to link to"


def test_figures_stay_as_they_were(tmp_path):
    one = panel()
    before = one.figure.to_plotly_json()
    report(tmp_path, panels=[one])
    assert one.figure.to_plotly_json() == before
    assert one.figure.layout.width == 760
    assert one.figure.layout.title.text.startswith("A title")


def test_further_pages_are_relative(tmp_path):
    outside = (
        "https://example.invalid/",
        "//host/x",
        "/etc/passwd",
        "javascript:x",
        " javascript:x",
        "java\nscript:x",
        "\\\\host\\x",
        "C:/x",
        "",
    )
    for address in outside:
        with pytest.raises(errors.BadInput, match="relative address"):
            report(tmp_path, links=[("out", address)])
    assert 'href="a.html?x=1:2"' in own_text(report(tmp_path, links=[("in", "../other/index.html#table-x"), ("in", "a.html?x=1:2")]))


def test_unknown_names_raise(tmp_path):
    with pytest.raises(errors.UnknownName, match=r"no table of this report named 'score'.*Did you mean 'scores'"):
        report(tmp_path, findings=[Finding("x", "score")])
    with pytest.raises(errors.UnknownName, match="no table of this report named 'nope'"):
        report(tmp_path, panels=[panel(table="nope")])
    with pytest.raises(errors.BadInput, match="theme 'sepia'"):
        report(tmp_path, theme="sepia")


def test_an_empty_run_says_so_in_words(tmp_path):
    text = own_text(report(tmp_path, findings=[], panels=[], tables={}, limits=[], links=[], warning=""))
    for sentence in ("wrote no findings", "drew no figures", "wrote no tables", "states no limits"):
        assert sentence in text
    assert "Further pages" not in text
    assert "<table" in text, "steps and settings remain"


def test_ids_are_unique_whatever_the_names(tmp_path):
    tables = {name: scores() for name in ("a b", "a-b", "a/b", "../..", "é", "", "scores")}
    text = own_text(report(tmp_path, tables=tables, findings=[Finding("x", "a/b")], panels=[panel("p q"), panel("p-q"), panel("p q")]))
    ids = re.findall(r'\bid="([^"]*)"', text)
    assert len(ids) == len(set(ids))
    assert all(re.fullmatch(r"[A-Za-z0-9_-]+", i) for i in ids)
    assert 'href="#table-a-b-3"' in text
    assert "tables/..%2F...csv" in text


def test_no_document_is_fetched_by_the_markup(plain):
    text = own_text(plain)
    assert "default-src 'none'" in text
    assert len(re.findall(r"'sha256-[A-Za-z0-9+/]{43}='", text)) == 2
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", text)


@in_browser
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_page_draws_fits_and_can_be_read(tmp_path, theme):
    wide = "unbroken" * 40
    tables = {"scores": scores().assign(**{wide: wide}), "prompts": scores()}
    path = report(
        tmp_path,
        theme=theme,
        title=wide,
        limits=[wide],
        panels=[panel(theme=theme), panel("two", theme=theme)],
        tables=tables,
        settings={wide: wide},
    )
    with page(path) as tab:
        assert tab.errors == []
        assert tab.requests == [path.resolve().as_uri()]
        sizes = "[...document.querySelectorAll('.js-plotly-plot .main-svg')].map((s) => s.getBoundingClientRect()).map((r) => [r.width, r.height])"
        drawn = tab.evaluate(sizes)
        assert len(drawn) >= 4
        assert min(w for w, _ in drawn) > 700
        assert min(h for _, h in drawn) > 300
        tab.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
        tab.media(prefers_color_scheme="light" if theme == "dark" else "dark")
        contrast = tab.evaluate(CONTRAST)
        assert len(contrast) > 30
        assert [c for c in contrast if c[0] < 4.5] == []
        paper = tab.evaluate("getComputedStyle(document.body).backgroundColor")
        assert paper == {"light": "rgb(255, 255, 255)", "dark": "rgb(22, 24, 28)"}[theme], "figures come in one theme, so does the page"
        for width in (1280, 390):
            tab.resize(width)
            tab.evaluate("new Promise((done) => setTimeout(done, 200))")
            ends = tab.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth, document.body.scrollWidth]")
            assert max(ends[0], ends[2]) <= ends[1], width
        assert {w for w, _ in tab.evaluate(sizes)} == {560}
        frame = tab.evaluate(
            "(() => { const f = document.querySelector('.frame'); return [f.tabIndex, f.scrollWidth > f.clientWidth, f.getAttribute('aria-label')]; })()"
        )
        assert frame[:2] == [0, True]
        assert "scrolls sideways" in frame[2]


CONTRAST = """(() => {
  const rgb = (s) => { const m = s.match(/[\\d.]+/g).map(Number); return m.length > 3 && m[3] === 0 ? null : m.slice(0, 3); };
  const light = (c) => c.map((v) => v / 255).map((v) => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, k) => sum + v * [.2126, .7152, .0722][k], 0);
  const out = [];
  for (const e of document.querySelectorAll('body *')) {
    if (e.closest('svg, script, .unseen, .plot') || ![...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim())) continue;
    let back = null;
    for (let p = e; p && !back; p = p.parentElement) back = rgb(getComputedStyle(p).backgroundColor);
    const [a, b] = [light(rgb(getComputedStyle(e).color)), light(back)];
    out.push([(Math.max(a, b) + .05) / (Math.min(a, b) + .05), e.tagName, e.textContent.slice(0, 40)]);
  }
  return out;
})()"""


def column(tab, k, table="scores"):
    return tab.evaluate(f"[...document.querySelectorAll('#table-{table} tbody tr:not([hidden])')].map((r) => r.cells[{k}].textContent)")


@in_browser
def test_tables_open_sort_and_search_from_the_keyboard(plain):
    with page(plain) as tab:
        is_open = "document.querySelector('#table-scores').open"
        tab.evaluate("document.querySelector('.number').focus()")
        assert not tab.evaluate(is_open)
        tab.press("Enter")
        assert tab.evaluate(is_open)
        assert tab.evaluate("document.activeElement.closest('details').id") == "table-scores"
        assert tab.evaluate("(() => { const y = document.activeElement.getBoundingClientRect().y; return y >= 0 && y < innerHeight; })()")
        # a second time, though the address stays the same
        tab.evaluate("document.querySelector('#table-scores').open = false")
        tab.click(".number")
        assert tab.evaluate(is_open)

        assert column(tab, 1) == ["10", "9", "nan", "2.5e-07"]
        assert column(tab, 2) == ["123457", "inf", "-3", "0.3"]
        head = "document.querySelectorAll('#table-scores thead th')"
        tab.evaluate(f"{head}[1].querySelector('button').focus()")
        for key, sort, order in (
            ("Enter", "ascending", ["2.5e-07", "9", "10", "nan"]),
            ("Space", "descending", ["10", "9", "2.5e-07", "nan"]),
            ("Enter", "none", ["10", "9", "nan", "2.5e-07"]),
        ):
            tab.press(key)
            assert tab.evaluate(f"{head}[1].getAttribute('aria-sort')") == sort
            assert column(tab, 1) == order
        for _ in range(2):
            tab.evaluate(f"{head}[2].querySelector('button').click()")
        assert column(tab, 2) == ["inf", "123457", "0.3", "-3"]
        tab.evaluate(f"{head}[4].querySelector('button').click()")
        assert column(tab, 4) == ["a9", "a10", "b", ""]
        assert tab.evaluate(f"[...{head}].map((h) => h.getAttribute('aria-sort'))") == ["none"] * 4 + ["ascending"]
        tab.press("Tab")
        assert tab.evaluate("document.activeElement.matches('button, summary, a, .scroll')")

        said = "document.querySelector('#table-prompts [role=status]').textContent"
        tab.evaluate("document.querySelector('#table-prompts').open = true; document.querySelector('#table-prompts input').focus()")
        assert tab.evaluate(said) == "400 of 400 rows"
        tab.write("ROW 39")
        assert tab.evaluate(said) == "11 of 400 rows"
        assert column(tab, 0, "prompts") == ["row 39", *(f"row {k}" for k in range(390, 400))]
        tab.evaluate("document.querySelector('#table-prompts input').select()")
        tab.write("needle")
        assert tab.evaluate(said) == "1 of 400 rows"
        assert tab.evaluate("document.querySelector('#table-prompts .clip > summary').textContent.length") <= 302
        assert "first 400 rows; 50 more are in the csv" in tab.evaluate("document.querySelector('#table-prompts .more').textContent")
        assert tab.errors == []
    with page(plain, anchor="table-prompts") as tab:
        assert tab.evaluate("document.querySelector('#table-prompts').open")


@in_browser
def test_screen_readers_find_names_order_and_landmarks(plain):
    with page(plain, width=390) as tab:
        tab.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
        nodes = [n for n in tab.send("Accessibility.getFullAXTree")["nodes"] if not n.get("ignored")]
        found = {}
        for node in nodes:
            found.setdefault(node["role"]["value"], []).append(node.get("name", {}).get("value", ""))
        for role in ("button", "link", "searchbox", "DisclosureTriangle", "image", "region", "table", "columnheader"):
            assert found.get(role), role
            assert all(name.strip() for name in found[role]), role
        assert found["searchbox"] == ["Search the rows of scores", "Search the rows of prompts"]
        assert len(found["main"]) == len(found["banner"]) == len(found["navigation"]) == 1
        (name,) = (n for n in found["image"] if "A title that is long" in n)
        assert "A caption, n=3." in name
        levels = tab.evaluate("[...document.querySelectorAll('h1, h2, h3, h4')].map((h) => Number(h.tagName[1]))")
        assert levels[0] == 1
        assert levels.count(1) == 1
        assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
        assert tab.evaluate("document.documentElement.lang") == "en"
        dead = "[...document.querySelectorAll('a[href^=\"#\"]')].filter((a) => !document.getElementById(a.hash.slice(1))).length"
        assert tab.evaluate(dead) == 0
        # the first stop of the keyboard leads past the head
        tab.press("Tab")
        assert tab.evaluate("document.activeElement.className") == "skip"
        assert tab.evaluate("document.activeElement.getBoundingClientRect().x") >= 0
        assert tab.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        tab.press("Enter")
        assert tab.evaluate("document.activeElement.id") == "findings"


@in_browser
def test_on_paper(plain, tmp_path):
    with page(plain) as tab:
        shown = "(css) => [...document.querySelectorAll(css)].filter((e) => e.checkVisibility()).length"
        tab.evaluate("document.querySelector('#table-scores').open = true")
        assert tab.evaluate(f"({shown})('input, nav, details.table, .skip')") > 3
        assert tab.evaluate(f"({shown})('.on-paper')") == 0
        tab.media("print")
        assert tab.evaluate(f"({shown})('input, nav, details.table, .skip, .hint')") == 0
        assert tab.evaluate(f"({shown})('.on-paper, .findings, figure, .limits')") == 4
        assert "tables/scores.csv (4 rows)" in tab.evaluate("document.querySelector('.on-paper').textContent")
        assert tab.evaluate("getComputedStyle(document.querySelector('figure')).breakInside") == "avoid"
        assert tab.evaluate("getComputedStyle(document.querySelector('.number')).color") == "rgb(0, 0, 0)"
        tab.media()
        state = "[[...document.querySelectorAll('.plain')].map((d) => d.open), document.querySelector('.plot')._fullLayout.width]"
        before = tab.evaluate(state)
        tab.evaluate("window.seen = null; addEventListener('beforeprint', () => { window.seen = " + state + "; })")
        tab.pdf(tmp_path / "report.pdf")
        assert (tmp_path / "report.pdf").read_bytes()[:5] == b"%PDF-"
        assert tab.evaluate("window.seen") == [[True, True], 760]
        tab.settle()
        assert tab.evaluate(state) == before == [[False, False], before[1]]
        assert tab.errors == []
