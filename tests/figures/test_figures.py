import plotly.graph_objects as go
import pytest

from workbench.core import errors
from workbench.figures import browser, export, style
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
    files = export({"one": simple(), "two": simple()}, tmp_path, formats=("png", "svg", "pdf"))
    assert len(files) == 6
    assert (tmp_path / "one.pdf").read_bytes()[:4] == b"%PDF"
    assert (tmp_path / "one.png").read_bytes()[:4] == b"\x89PNG"
    assert "A title" in (tmp_path / "two.svg").read_text()


def test_without_chrome_html_is_written_and_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.delenv("BROWSER_PATH", raising=False)
    monkeypatch.setattr("shutil.which", lambda _: None)
    with pytest.raises(errors.MissingTool, match="apt-get install chromium"):
        export({"one": simple()}, tmp_path)
    assert (tmp_path / "one.html").is_file()


def test_band():
    assert band("#0072B2", 0.5) == "rgba(0,114,178,0.5)"
