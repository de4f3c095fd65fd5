"""Token views: tokens and labels as they are written, and nothing from a network."""

import urllib.request

import pandas as pd
import pytest
from browser import page
from labels import as_drawn, hostile
from listener import listening
from test_report import in_browser

from workbench.figures.tokens import save_view, token_view, tokens_html

OUT = "</script><script>window.hacked=1</script>"


def rows(tokens):
    return pd.DataFrame({"token": tokens, "projection": [0.1 * k - 1 for k in range(len(tokens))], "steered": False, "read": False})


@in_browser
def test_a_view_shows_tokens_and_label_as_they_are_written_and_asks_for_nothing(tmp_path):
    with listening() as server:
        names = [*hostile(server.address), OUT, f"<img src='{server.address}/x' onerror=window.hacked=2>"]
        path = save_view(token_view(rows(names), label=f"{OUT}<b>&amp;"), tmp_path / "view.html")
        with page(path) as tab:
            assert tab.evaluate("window.hacked ?? 0") == 0
            assert tab.errors == []
            assert tab.requests == [path.resolve().as_uri()]
            text = tab.evaluate("document.body.textContent").replace("\xa0", " ")
            assert f"{OUT}<b>&amp; (1 = " in text
            assert [n for n in names if as_drawn(n) not in text] == []
        with page(path, bypass_policy=True) as tab:
            assert tab.evaluate("window.hacked ?? 0") == 0
        assert server.asked == []


def test_a_view_in_a_notebook_asks_no_server(monkeypatch):
    def asked(*_, **__):
        raise AssertionError("asked for a network")

    monkeypatch.setattr(urllib.request, "urlopen", asked)
    view = token_view(rows(["a", "b"]))
    page = view._repr_html_()
    assert "unpkg.com" not in page
    assert "import {" not in page[:2000]
    assert len(page) > 100_000, "the script is in it"
    assert len(repr(view)) < 60


@in_browser
def test_plain_tokens(tmp_path):
    with listening() as server:
        names = hostile(server.address)
        text = tokens_html(rows(names), caption=names[0])
        (tmp_path / "plain.html").write_text(f"<!doctype html><meta charset=utf-8><title>x</title>{text}", encoding="utf-8")
        with page(tmp_path / "plain.html", bypass_policy=True) as tab:
            shown = tab.evaluate("[...document.querySelectorAll('figure > span')].map((s) => s.textContent)")
            assert shown == [as_drawn(n) if "\n" not in n else n for n in names]
            assert tab.evaluate("document.querySelector('figcaption').textContent") == names[0]
            assert tab.errors == []
        assert server.asked == []
    assert 'class="tex2jax_ignore mathjax_ignore"' in text


@pytest.mark.parametrize("label", ["plain", 'quoted " \\ text', "é ü 日本"])
def test_a_label_without_tags_stays(label):
    import json

    assert json.dumps(f"{label} (1 = 1)") in token_view(rows(["a"]), label=label).local_src
