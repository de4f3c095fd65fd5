"""Pages of latents: what stands on them is what a literal look finds; hostile tokens stay text; nothing is fetched."""

import re

import pandas as pd
import pytest

import workbench as wb
from workbench.core.errors import BadInput, UnknownName, WrongModel
from workbench.features import latent_tables, read_streams, top_contexts, write_latents
from workbench.figures.latent_pages import latent_index, latent_page


@pytest.fixture(scope="module")
def read(organism):
    sae = wb.Dictionary.load("bundled", model=organism)
    return sae, read_streams(organism, wb.prompts.udhr("since_claim", "harm", n=12), layer=2, progress=False)


def test_contexts_and_histograms_are_those_of_a_literal_look(organism, read):
    sae, streams = read
    active = sae.encode(streams.rows)
    latent = int((active > 0).sum(0).argmax())
    contexts, bars = latent_tables(organism, sae, streams, [latent], k=3, around=4)
    peaks = contexts[contexts["peak"]]
    assert peaks["activation"].iloc[0] == pytest.approx(float(active[:, latent].max()))
    assert peaks["activation"].tolist() == pytest.approx(top_contexts(organism, sae, streams, [latent], k=3)["activation"].tolist())
    assert bars["count"].sum() == int((active[:, latent] > 0).sum())
    assert (bars["rows"] == len(streams)).all()
    row = int(active[:, latent].argmax())
    own = contexts[contexts["rank"] == 1].set_index("position")
    for other in range(len(streams)):
        if streams.text[other] == streams.text[row] and abs(int(streams.place[other] - streams.place[row])) <= 4:
            assert own.loc[int(streams.place[other]), "activation"] == pytest.approx(float(active[other, latent]))


def test_a_folder_of_pages_is_written_and_searched(organism, read, tmp_path):
    sae, streams = read
    alive = (~sae.dead(sae.encode(streams.rows))).nonzero().flatten().tolist()[:3]
    dead = sae.dead(sae.encode(streams.rows)).nonzero().flatten().tolist()[0]
    index = write_latents(organism, sae, streams, tmp_path / "pages", [*alive, dead], k=2)
    pages = sorted(p.name for p in index.parent.iterdir())
    assert pages == sorted(["index.html", *(f"latent-{i}.html" for i in (*alive, dead))])
    assert "never acts on these texts" in (index.parent / f"latent-{dead}.html").read_text()
    text = index.read_text()
    first = latent_tables(organism, sae, streams, alive[:1], k=1)[0]
    word = max(first["token"].str.strip().str.lower(), key=len)
    row = re.search(rf'<tr data-words="([^"]*)"><td><a href="latent-{alive[0]}\.html"', text)
    assert row is not None
    assert word in row.group(1)
    for page in index.parent.iterdir():
        assert "default-src 'none'" in page.read_text()
        assert "http" not in re.sub(r"http-equiv", "", page.read_text())


def test_what_is_not_there_is_refused(organism, tiny, read, tmp_path):
    sae, streams = read
    with pytest.raises(UnknownName, match="latent 512 of a dictionary that has latents 0-511"):
        write_latents(organism, sae, streams, tmp_path, [512])
    with pytest.raises(WrongModel):
        write_latents(tiny, sae, streams, tmp_path)
    with pytest.raises(BadInput, match="no latent acts"):
        write_latents(organism, sae, streams, tmp_path, [])
    assert not list(tmp_path.iterdir())


def test_hostile_tokens_stay_text():
    bad = '<script>alert(1)</script>"&'
    contexts = pd.DataFrame([(1, bad, 2.0, True), (1, " calm", 0.0, False)], columns=["rank", "token", "activation", "peak"])
    tokens = pd.DataFrame([(side, 1, bad, 0.5, 0.1) for side in ("towards", "away")], columns=["side", "rank", "token", "cosine", "chance"])
    bars = pd.DataFrame([(0.0, 1.0, 3, 10)], columns=["left", "right", "count", "rows"])
    page = latent_page(3, contexts, tokens, bars, bad)
    assert "acts on 3 of 10 tokens (30.00%)" in page
    assert "<script" not in page
    assert "script-src 'none'" in page
    listed = latent_index(pd.DataFrame([(3, 0.1, bad, bad, bad)], columns=["latent", "acts", "tokens", "context", "words"]), bad)
    assert listed.count("<script") == 1
