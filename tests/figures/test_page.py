"""The page of one figure, the drawing library beside it, the svg: what they may do, and what they may not."""

import re
from pathlib import Path

import plotly.graph_objects as go
import pytest
from browser import page
from listener import listening
from test_labels import raw
from test_report import in_browser, report

from workbench.core import errors
from workbench.figures import export, style
from workbench.figures.export import _inert
from workbench.figures.page import LIBRARY, figure_page


def simple():
    return style(go.Figure(go.Heatmap(z=[[1, 2], [3, 4]], x=["a", "b"], y=["c", "d"])), "A title & more")


def policy_of(path):
    (found,) = re.findall(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)">', path.read_text(encoding="utf-8"))
    return dict(part.strip().split(" ", 1) for part in found.split(";"))


@pytest.mark.parametrize("single_file", [False, True])
def test_the_policy_of_a_figure_s_page(single_file, tmp_path):
    (path,) = export({"one": simple()}, tmp_path, formats=("html",), single_file=single_file)
    found = policy_of(path)
    nothing = {k for k, v in found.items() if v == "'none'"}
    assert {"default-src", "connect-src", "font-src", "base-uri", "form-action"} <= nothing
    assert found["img-src"] == "data: blob:", "the button that saves a picture makes it of a blob"
    assert "unsafe" not in found["script-src"]
    assert len(found["script-src"].split()) == 2
    assert ("'nonce-" in found["script-src"]) != single_file
    assert policy_of(report(tmp_path))["img-src"] == "data:"
    assert "<title>A title &amp; more</title>" in path.read_text(encoding="utf-8")
    assert export({"one": simple()}, tmp_path / "again", formats=("html",), single_file=single_file)[0].read_bytes() == path.read_bytes()


@in_browser
@pytest.mark.parametrize("single_file", [False, True])
def test_a_page_draws_saves_and_does_nothing_that_was_put_into_it(single_file, tmp_path):
    with listening() as server:
        (path,) = export({"one": simple()}, tmp_path, formats=("html",), single_file=single_file)
        with page(path) as tab:
            assert tab.errors == []
            assert tab.evaluate("document.querySelectorAll('.main-svg').length") > 0
            assert tab.evaluate("Plotly.toImage('figure', {format: 'png'}).then((text) => text.slice(0, 22))") == "data:image/png;base64,"
            titles = tab.evaluate("[...document.querySelectorAll('.modebar-btn')].map((b) => b.dataset.title)")
            assert titles
            assert not [t for t in titles if "share" in t.lower() or "cloud" in t.lower()], "a chart is not sent to a server"
        added = f'<script>window.hacked=1</script><img src="{server.address}/i.png" onerror="window.hacked=2"><link rel=stylesheet href="{server.address}/x.css">'
        added += f"<b style='background:url({server.address}/b)'>x</b><iframe src='{server.address}/f'></iframe>"
        path.write_text(path.read_text(encoding="utf-8").replace("<body>", f"<body>{added}"), encoding="utf-8")
        with page(path) as tab:
            assert tab.evaluate("window.hacked ?? 0") == 0
            assert len(tab.errors) >= 4
            assert tab.evaluate("document.querySelectorAll('.main-svg').length") > 0, "the page's own scripts run"
        assert server.asked == []


@in_browser
def test_an_animated_figure_is_played(tmp_path):
    figure = go.Figure(go.Scatter(x=[1, 2], y=[1, 2]), frames=[go.Frame(data=[go.Scatter(x=[1, 2], y=[5, 6])])])
    export({"one": figure}, tmp_path, formats=("html",))
    with page(tmp_path / "one.html") as tab:
        tab.evaluate("new Promise((done) => setTimeout(done, 1500))")
        assert tab.errors == []
        assert tab.evaluate("document.getElementById('figure').data[0].y") == [5, 6]


def test_a_drawing_library_that_is_another_is_replaced(tmp_path):
    export({"one": simple()}, tmp_path, formats=("html",))
    library = tmp_path / LIBRARY
    good, state = library.read_bytes(), library.stat()
    export({"two": simple()}, tmp_path, formats=("html",))
    assert library.stat().st_mtime_ns == state.st_mtime_ns, "the same is left alone"
    library.write_text("window.hacked = 1")
    export({"three": simple()}, tmp_path, formats=("html",))
    assert library.read_bytes() == good


def test_links_in_a_folder_are_replaced_and_never_followed(tmp_path):
    import pandas as pd

    outside, folder = tmp_path / "outside", tmp_path / "run"
    folder.mkdir()
    outside.write_text("mine")
    for name in ("one.html", "one.csv", LIBRARY, "index.html"):
        (folder / name).symlink_to(outside)
    export({"one": simple()}, folder, tables={"one": pd.DataFrame({"a": [1]})}, formats=("html",))
    report(folder)
    assert outside.read_text() == "mine"
    assert not any(p.is_symlink() for p in folder.iterdir())


@in_browser
def test_a_picture_replaces_a_link_too(tmp_path):
    outside = tmp_path / "outside"
    outside.write_text("mine")
    for kind in ("png", "svg"):
        (tmp_path / f"one.{kind}").symlink_to(outside)
    export({"one": simple()}, tmp_path, formats=("png", "svg"))
    assert outside.read_text() == "mine"
    assert (tmp_path / "one.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "a\\b", "a\0b"])
def test_a_figure_s_name_is_the_name_of_a_file(name, tmp_path):
    with pytest.raises(errors.BadInput, match="a name of a file, without a folder"):
        export({name: simple()}, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_unknown_format_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(errors.BadInput, match="format 'jpeg': there are html, png, svg, pdf"):
        export({"one": simple()}, tmp_path / "out", formats=("html", "jpeg"))
    assert not (tmp_path / "out").exists()


SVG = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">{}</svg>'
INERT = [
    "<text>url(http://x/1) @import onload= javascript:</text>",
    '<g clip-path="url(#clip)"><use xlink:href="#a"/></g>',
    '<image xlink:href="data:image/png;base64,AAAA"/>',
    "<g style=\"fill: url('#g')\"/>",
    '<rect fill="url( #g )"/>',
]
ACTIVE = [
    '<image href="http://x/1"/>', '<image xlink:href="//x/1"/>', '<a xlink:href="javascript:x()"><text>t</text></a>', '<use href="x.svg#a"/>',
    '<g style="background: url(http://x/1)"/>', '<g style="mask: URL( \'http://x/1\' )"/>', '<rect fill="url(//x/1)"/>', '<g onload="x()"/>',
    "<script>x()</script>", "<foreignObject><p/></foreignObject>", "<style>@import 'http://x/1'</style>", "<style>a { fill: url(http://x/1) }</style>", '<g style="mask: image-set(\'http://x/1\' 1x)"/>',
    '<image href="data:text/html,x"/>', '<image href=" HTTP://x/1"/>', '<set attributeName="href" to="url(http://x/1)"/>',
]  # fmt: skip


@pytest.mark.parametrize("inside", INERT)
def test_an_svg_that_fetches_nothing_stays_as_it_is(inside):
    svg = SVG.format(inside).encode()
    assert _inert(svg) == svg


@pytest.mark.parametrize("inside", ACTIVE)
def test_an_svg_loses_what_is_fetched_or_run(inside):
    out = _inert(SVG.format(f"{inside}<text>kept url(#a)</text>").encode()).decode()
    assert "//x/1" not in out
    assert "x()" not in out
    assert "x.svg" not in out
    assert "text/html" not in out
    assert "<p" not in out
    assert "kept url(#a)" in out


def test_the_data_of_a_page_cannot_leave_their_element():
    text = figure_page(
        raw(["</script><script>window.hacked=1</script>", "<!--<script>", "\u2028"]), "</title><script>window.hacked=2</script>"
    )
    assert text.count("<script") == 3
    assert "&lt;/script&gt;" in text
    assert Path(LIBRARY).name in text
