"""A dictionary from texts that are at hand: sources, reading in blocks, a report beside it, and what is not done twice."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from workbench.cli import main
from workbench.core.errors import BadInput, UnknownName
from workbench.core.tables import pick, read_csv
from workbench.features import corpus, make_dictionary, making, streams
from workbench.features.corpus import STATEMENTS
from workbench.models.tokens import encode


def test_texts_come_from_every_kind_of_source_once_and_none_is_cut_short(organism, tmp_path):
    (tmp_path / "a.txt").write_text("Ice is cold in winter.\nToo short.\nIce is cold in winter.\n" + "word " * 200)
    pd.DataFrame({"q": ["Water is wet and blue.", "no"], "n": [1, 2]}).to_csv(tmp_path / "b.csv", index=False)
    (tmp_path / "c.json").write_text(json.dumps([{"text": "Ice is cold in winter.", "other": None}]))
    got = corpus(organism, [str(tmp_path), "docstrings:json", "udhr"], words=80)
    own = got[str(tmp_path)]
    assert sorted(len(t.split()) for t in own) == [5, 5, 40, 80]
    assert {"Ice is cold in winter.", "Water is wet and blue."} <= set(own)
    assert own.count("Ice is cold in winter.") == 1
    assert not [t for t in own if "short" in t]
    assert any("JSON" in t for t in got["docstrings:json"])
    assert len(got["udhr"]) == STATEMENTS


def test_as_many_tokens_as_were_asked_for_from_the_first_sources(organism):
    got = corpus(organism, ["docstrings:json", "udhr"], tokens=3000)
    sizes = [len(ids) for own in got.values() for ids in encode(organism, own)]
    assert 3000 <= sum(sizes) < 3000 + max(sizes)
    assert corpus(organism, ["docstrings:json", "udhr"], tokens=3000) == got
    with pytest.raises(BadInput, match="99,000,000 were asked for: name more sources"):
        corpus(organism, ["docstrings:json"], tokens=99_000_000)


def test_texts_with_control_tokens_are_left_out(organism, tmp_path):
    (tmp_path / "a.txt").write_text("This text holds <s> in the middle.\nThis text holds nothing of it.\n")
    assert corpus(organism, [str(tmp_path / "a.txt")])[str(tmp_path / "a.txt")] == ["This text holds nothing of it."]


def test_sources_that_are_not_there_are_told(organism, tmp_path):
    with pytest.raises(UnknownName, match="sources are also 'udhr' and 'docstrings:PACKAGE'"):
        corpus(organism, [str(tmp_path / "none")])
    with pytest.raises(UnknownName, match="no package 'nowhere_at_all'"):
        corpus(organism, ["docstrings:nowhere_at_all"])
    (tmp_path / "a.txt").write_text("no\n")
    with pytest.raises(BadInput, match="no text"):
        corpus(organism, [str(tmp_path / "a.txt")])


def test_reading_in_blocks_gives_what_reading_at_once_gives(organism, monkeypatch, tmp_path):
    texts = [f"Statement {'one ' * (k % 5 + 1)}is here." for k in range(11)]
    whole = streams.read_streams(organism, texts, layer=1, progress=False)
    monkeypatch.setattr(streams, "BLOCK", 4)
    parts = streams.read_streams(organism, texts, layer=1, store=tmp_path, progress=False)
    torch.testing.assert_close(parts.rows, whole.rows, rtol=1e-5, atol=1e-5)
    assert torch.equal(parts.text, whole.text)
    assert torch.equal(parts.place, whole.place)
    assert parts.tokens == whole.tokens
    assert parts.provenance == whole.provenance


def test_a_dictionary_is_made_reported_and_not_made_twice(organism, tmp_path, monkeypatch, capsys):
    pytest.importorskip("sae_lens")
    rng = np.random.default_rng(0)
    words = ["rights", "people", "law", "work", "rest", "free", "fair", "vote", "speak", "learn"]
    texts = {"mine": [f"{' '.join(rng.choice(words, 9))} {k}" for k in range(60)]}
    how = {"layer": 1, "width": 32, "k": 4, "steps": 20, "batch": 32, "held": 12, "seeds": 2, "progress": False}
    table = make_dictionary(organism, texts, tmp_path / "out", pages=True, **how)
    assert list(dict.fromkeys(table["dictionary"])) == ["seed 0", "seed 1", "permuted"]
    assert set(table["metric"]) == {"explained variance", "latents per token", "dead latents", "cross-entropy recovered"}
    assert set(table["texts"]) == {48}
    pd.testing.assert_frame_equal(read_csv(tmp_path / "out" / "report.csv")[["metric"]], table[["metric"]], check_dtype=False)
    assert (tmp_path / "out" / "pages" / "index.html").is_file()
    assert (tmp_path / "out" / "seed-1" / "cfg.json").is_file()
    monkeypatch.setattr(making, "fit_dictionary", None)
    again = make_dictionary(organism, texts, tmp_path / "out", **how)
    assert pick(again, metric="explained variance")["value"].tolist() == pick(table, metric="explained variance")["value"].tolist()
    with pytest.raises(BadInput, match="60 texts, held=40"):
        make_dictionary(organism, texts, tmp_path / "other", **how | {"held": 40})
    assert main(["dictionary", "--texts", str(tmp_path / "nowhere"), "--layer", "1", "--out", str(tmp_path / "o")]) == 2
    assert "no file or folder" in capsys.readouterr().err
