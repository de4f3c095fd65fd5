"""Text from data in figures: drawn as it is written, and nothing is asked of a network for it."""

import importlib
import inspect
import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import plotly.graph_objects as go
import pytest
from browser import page
from labels import CASES, as_drawn, every, figures, hostile, telling
from listener import listening
from test_report import in_browser, panel, report

import workbench.figures
from workbench.core import errors
from workbench.figures import BREAK, bold, export, reworded, style, udhr, words_of
from workbench.figures.markup import LONG, drawn, escaped, marked, plain, tamed
from workbench.figures.panel import drawings

ROOMS = sorted(p.stem for p in Path(workbench.figures.__file__).parent.glob("*.py") if p.stem != "__init__")
TEXTS = "[...document.querySelectorAll('text')].map((t) => t.textContent)"


def texts_of(svg):
    """What a reader reads in an svg, text by text."""
    return ["".join(e.itertext()) for e in ElementTree.parse(svg).getroot().iter("{http://www.w3.org/2000/svg}text")]


def lost(names, texts):
    return [n for n in names if not any(as_drawn(n) in text for text in texts)]


def raw(names):
    """A figure of plotly's own, which no function of `figures` drew."""
    figure = style(
        go.Figure(go.Bar(x=list(names), y=list(range(len(names))), name=names[0], text=list(names), hovertext=list(names))), names[0]
    )
    figure.add_annotation(text=names[0], x=0, y=1)
    figure.update_xaxes(title=names[0], dtick=1)
    figure.update_layout(showlegend=True, legend={"title": {"text": names[0]}})
    return figure


def test_every_drawing_function_escapes_its_labels_and_is_tried_here():
    assert set(CASES) == {f"{room}.{name}" for room in ROOMS for name in drawings(room)}
    assert len(CASES) > 30
    for room in ROOMS:
        module = importlib.import_module(f"workbench.figures.{room}")
        own = [f for n, f in inspect.getmembers(module, inspect.isfunction) if f.__module__ == module.__name__ and not n.startswith("_")]
        bare = {
            f.__name__ for f in own if str(inspect.signature(f).return_annotation).endswith("Figure") and not getattr(f, "draws", False)
        }
        assert bare <= {"style", "themed", "reworded"}, f"{room}: not drawn"


@in_browser
def test_labels_of_every_figure_are_drawn_as_they_are_written(tmp_path):
    with listening() as server:
        shown = figures(telling(server.address))
        path = report(tmp_path, panels=[panel(f"p{k}", figure=figure) for k, (figure, _) in enumerate(shown.values())])
        with page(path, bypass_policy=True) as tab:  # escaping holds without the policy
            heads = tab.evaluate("[...document.querySelectorAll('figure h3')].map((h) => h.textContent)")
            plots = tab.evaluate(
                "[...document.querySelectorAll('.plot')].map((p) => [...p.querySelectorAll('text')].map((t) => t.textContent))"
            )
            # plotly complains of a path where long names leave a narrow figure no room
            assert [e for e in tab.errors if not e.startswith("Error: <path> attribute d")] == []
            assert tab.requests == [path.resolve().as_uri()]
            assert tab.evaluate("document.querySelectorAll('svg a, svg image[href^=http], svg [style*=\"url(http\"]').length") == 0
        assert server.asked == []
    assert len(plots) == len(shown)
    missing = {name: lost(names, [*texts, head]) for (name, (_, names)), texts, head in zip(shown.items(), plots, heads, strict=True)}
    assert {k: v for k, v in missing.items() if v} == {}


@in_browser
def test_nothing_is_asked_of_a_network_while_figures_are_written_nor_when_they_are_opened(tmp_path):
    with listening() as server:
        names = hostile(server.address)
        own = udhr.denied(every(identity=names).assign(denied=False), top=99, title=names[0], axis=names[1])
        export({"own": own, "raw": raw(names)}, tmp_path, formats=("html", "png", "svg", "pdf"))
        assert server.asked == []
        for file in ("own.html", "raw.html", "own.svg", "raw.svg"):
            with page(tmp_path / file) as tab:
                allowed = {(tmp_path / f).resolve().as_uri() for f in (file, "plotly.min.js")}
                assert set(tab.requests) <= allowed
                assert tab.errors == []
                texts = tab.evaluate(TEXTS)
                assert lost(names if file.startswith("own") else names[:2], texts) == []
        assert server.asked == []
        assert lost(names, texts_of(tmp_path / "own.svg")) == []
        # the canary sings: the same figure as plotly itself writes it
        raw(names).write_html(tmp_path / "canary.html", include_plotlyjs="directory")
        with page(tmp_path / "canary.html"):
            assert server.wait()


@in_browser
@pytest.mark.parametrize("belt", ["flags", "policy"])
def test_the_browser_that_draws_has_no_network_even_for_a_figure_that_nobody_tamed(belt, tmp_path, monkeypatch):
    from choreographer.browsers import Chromium

    from workbench.figures import renderer

    def ask(address):
        tag = f'<span style="cursor:url({address}/c),auto;mask:url({address}/m)">z</span>'
        figure = {"data": [{"type": "scatter", "x": [1], "y": [1], "name": tag, "showlegend": True}], "layout": {}}
        figure["layout"]["images"] = [{"source": f"{address}/i.png", "x": 0, "y": 1, "sizex": 0.5, "sizey": 0.5}]
        jobs = [renderer.Still(path=tmp_path / "x.svg", figure=figure, kind="svg", scale=1)]
        (drawn,) = renderer.draw(jobs, workbench.figures.browser(), 30)
        assert drawn[1].startswith(b"<svg")

    policy = renderer._Page.generate_index
    if belt == "flags":
        monkeypatch.setattr(renderer._Page, "generate_index", lambda self: super(renderer._Page, self).generate_index())
    else:
        monkeypatch.setattr(renderer._Offline, "get_cli", Chromium.get_cli)
    with listening() as server:
        ask(server.address)
        assert server.asked == []
        monkeypatch.setattr(renderer._Page, "generate_index", lambda self: super(renderer._Page, self).generate_index())
        monkeypatch.setattr(renderer._Offline, "get_cli", Chromium.get_cli)
        ask(server.address)
        assert server.wait(), "without both it is asked"
    assert policy is not renderer._Page.generate_index


@in_browser
def test_what_the_pointer_shows_is_as_it_is_written(tmp_path):
    names = hostile("http://127.0.0.1:9")[:20]
    table = every(condition=["harm"], what=names)
    export({"one": udhr.says_and_knows(table)}, tmp_path, formats=("html",))
    with page(tmp_path / "one.html") as tab:
        shown = tab.evaluate(
            f"""(async () => {{
              const out = [];
              for (let k = 0; k < {len(names)}; k++) {{
                Plotly.Fx.unhover("figure");
                Plotly.Fx.hover("figure", [{{curveNumber: k, pointNumber: 0}}]);
                await new Promise((done) => setTimeout(() => requestAnimationFrame(done), 50));
                out.push([...document.querySelectorAll(".hoverlayer text")].map((t) => t.textContent));
              }}
              return out;
            }})()"""
        )
        assert tab.errors == []
    assert [n for n, texts in zip(names, shown, strict=True) if as_drawn(n) not in texts] == []


@in_browser
def test_names_that_are_numbers_or_dates_stay_names(tmp_path):
    names = ["1984", "2020-01-01", "1e3"]
    export({"one": udhr.denied(every(identity=names).assign(denied=False))}, tmp_path, formats=("svg",))
    assert lost(names, texts_of(tmp_path / "one.svg")) == []


@in_browser
def test_long_labels_are_cut_and_stay_apart(tmp_path):
    names = ["a" * 5000, "a" * 2000 + "b" + "a" * 2999, "word " * 900 + "end", "short"]
    figure = udhr.denied(every(identity=names).assign(denied=False))
    (drawn,) = {tuple(t.y) for t in figure.data if t.y is not None and len(t.y)}
    assert len(set(drawn)) == 4
    assert max(map(len, drawn)) <= LONG + 10
    assert "short" in drawn
    assert any(label.endswith("end") for label in drawn)
    export({"one": figure}, tmp_path, formats=("html", "svg"))
    texts = texts_of(tmp_path / "one.svg")
    assert all(label in texts for label in drawn)
    with page(tmp_path / "one.html") as tab:  # all of a long label can be seen
        left = tab.evaluate("Math.min(...[...document.querySelectorAll('.ytick text')].map((t) => t.getBoundingClientRect().left))")
        assert left >= 0


def test_a_table_with_ordinary_labels_gives_the_figure_it_gave_before():
    for name, (figure, _) in figures(["Kurds", "Roma people", "men's rights", "Sámi", "a-b", "c/d", "50 %", "$5"]).items():
        text = figure.to_json()
        assert "&" not in text.replace("\\u0026", "&"), name
        assert "automargin" not in text, name
        assert "namelength" not in text, name


def test_the_markup_of_the_house_is_markup_and_that_of_data_is_not():
    @drawn
    def one(label):
        return go.Figure(go.Bar(x=[bold(label) + BREAK + "0.5", label], y=[1, 2], name=label), {"title": {"text": f"A{BREAK}{label}"}})

    figure = one("<b>x</b> & <br>")
    assert list(figure.data[0].x) == ["<b>&lt;b&gt;x&lt;/b&gt; &amp; &lt;br&gt;</b><br>0.5", "&lt;b&gt;x&lt;/b&gt; &amp; &lt;br&gt;"]
    assert figure.layout.title.text == "A<br>&lt;b&gt;x&lt;/b&gt; &amp; &lt;br&gt;"
    assert plain(figure.layout.title.text) == "A <b>x</b> & <br>"
    # half of the house's marks in data is no markup
    assert one("half \ufdd1 of it").data[0].name == "half ⟪U+FDD1⟫ of it"


def test_templates_and_formats_are_code():
    figure = go.Figure(
        go.Bar(
            x=["a"],
            y=[1],
            hovertemplate="x < %{x}<br><b>%{y:.2f}</b><a href='x'>%{customdata[0]}</a><extra></extra>",
            texttemplate="%{y:>5.1f}",
        ),
        {"xaxis": {"tickformat": ">10.2f"}, "yaxis": {"tickformat": "%Y<b style='x'>"}},
    )
    spec = tamed(figure)
    assert spec["data"][0]["hovertemplate"] == "x &lt; %{x}<br><b>%{y:.2f}</b>&lt;a href='x'&gt;%{customdata[0]}&lt;/a&gt;<extra></extra>"
    assert spec["data"][0]["texttemplate"] == "%{y:>5.1f}"
    assert spec["layout"]["xaxis"]["tickformat"] == ">10.2f"
    assert "<" not in spec["layout"]["yaxis"]["tickformat"]


def test_of_a_figure_from_elsewhere_bare_tags_are_markup_and_all_else_is_text():
    kept = [
        "<b>bold</b>",
        "one<br>two",
        "x<sub>i</sub><SUP>2</SUP>",
        "<b>a<br><i>b</i></b>",
        "R&amp;D",
        "5 apples",
        "tom & jerry",
        "<span>x</span>",
    ]
    assert [marked(t) for t in kept] == kept
    assert marked("a<b and c>d") == "a&lt;b and c&gt;d"
    assert marked("<b>x") == "&lt;b&gt;x"
    assert marked("<b><i>x</b></i>") == "&lt;b&gt;&lt;i&gt;x&lt;/b&gt;&lt;/i&gt;"
    assert marked("<b>x</b><a href='y'>z</a>") == "&lt;b&gt;x&lt;/b&gt;&lt;a href='y'&gt;z&lt;/a&gt;"
    assert marked("half \ud800 of a pair") == "half ⟪U+D800⟫ of a pair"
    for text in [*hostile("http://x"), *kept, "\ud800", "&amp;lt;"]:
        assert marked(marked(text)) == marked(text)
        assert marked(escaped(text)) == escaped(text)
        assert "<" not in escaped(text)


def test_a_figure_stays_as_it_was_when_it_is_written(tmp_path):
    figure = raw(hostile("http://x"))
    before = figure.to_json()
    export({"one": figure}, tmp_path, formats=("html",))
    assert figure.to_json() == before
    numbers = go.Figure(go.Scatter(x=np.arange(3), y=np.arange(3.0)))
    assert tamed(numbers) == numbers.to_dict()


def test_captions_are_read_and_written_as_a_reader_reads_them():
    names = ["a<b and c>d", "R&D", "plain"]
    figure = udhr.denied(every(identity=names).assign(denied=False), title="x < y")
    assert {*names, "x < y"} <= set(words_of(figure))
    same = reworded(figure, {n: n for n in words_of(figure)})
    assert json.loads(same.to_json()) == json.loads(figure.to_json())
    new = {"R&D": "F<br>E", "plain": "<b style='background:url(http://x)'>x</b>", "x < y": "y > x"}
    other = reworded(figure, new)
    (drawn,) = {tuple(t.y) for t in other.data if t.y is not None and len(t.y)}
    assert set(drawn) == {"a&lt;b and c&gt;d", "F<br>E", "&lt;b style='background:url(http://x)'&gt;x&lt;/b&gt;"}
    assert other.layout.title.text == "y &gt; x"


@pytest.mark.parametrize(
    ("figure", "what"),
    [
        (
            go.Figure(layout={"images": [{"source": "https://example.invalid/x.png"}]}),
            "shows a picture from 'https://example.invalid/x.png'",
        ),
        (go.Figure(go.Image(source="https://example.invalid/x.png")), "shows a picture from"),
        (go.Figure(go.Scattermap(lat=[1], lon=[2])), "the map of a scattermap comes from a server"),
        (go.Figure(go.Choropleth(locations=["DE"], z=[1])), "the map of a choropleth"),
    ],
)
def test_a_figure_that_needs_a_network_is_refused_before_anything_is_written(figure, what, tmp_path):
    with pytest.raises(errors.BadInput, match=what):
        export({"good": raw(["a", "b"]), "bad": figure}, tmp_path / "out")
    assert not (tmp_path / "out").exists()
