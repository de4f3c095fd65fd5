import plotly.graph_objects as go
import pytest

from workbench.core import errors
from workbench.figures import Panel, browser, export, style, write_report
from workbench.figures.style import band


def simple():
    return style(go.Figure(go.Scatter(x=[1, 2], y=[3, 4])), "A title")


def test_export_html_opens_without_a_network(tmp_path):
    (file,) = export({"one": simple()}, tmp_path, formats=("html",))
    text = file.read_text()
    assert "A title" in text
    assert 'src="http' not in text


def test_stills(tmp_path):
    if browser() is None:
        pytest.skip("no Chrome or Chromium here")
    files = export({"one": simple(), "two": simple()}, tmp_path, formats=("png", "svg"))
    assert len(files) == 4
    assert (tmp_path / "one.png").read_bytes()[:4] == b"\x89PNG"
    assert "A title" in (tmp_path / "two.svg").read_text()


def test_without_chrome_html_is_written_and_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.delenv("BROWSER_PATH", raising=False)
    monkeypatch.setattr("shutil.which", lambda _: None)
    with pytest.raises(errors.MissingTool, match="apt-get install chromium"):
        export({"one": simple()}, tmp_path)
    assert (tmp_path / "one.html").is_file()


def test_report_escapes_everything(tmp_path):
    import pandas as pd

    evil = "<script>alert('x')</script>\" onload=\"y"
    table = pd.DataFrame({evil: [evil], "value": [0.5]})
    path = write_report(
        tmp_path / "index.html", title=evil, subtitle=evil, findings=[evil], convention=evil,
        panels=[Panel(name="one", figure=simple(), caption=evil, table="t")], limits=[evil], tables={evil: table}, made=[evil],
        steps=[{"step": evil, "seconds": 1.0, "cached": False}], settings={evil: evil}, warning=evil, stills=("png",),
    )  # fmt: skip
    text = path.read_text()
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert" in text
    assert 'src="http' not in text


def test_band():
    assert band("#0072B2", 0.5) == "rgba(0,114,178,0.5)"
