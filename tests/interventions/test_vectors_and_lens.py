"""Vectors as files, in llama.cpp's format too; reading a direction in words; generation side by side; token views."""

import numpy as np
import pytest
import torch

import workbench as wb
from workbench.core import errors
from workbench.directions.spaces import fit_map
from workbench.interventions import contrast_components, project_tokens
from workbench.models import info, unembedding


def vector(seed, scale, layer, width=16):
    v = torch.randn(width, generator=torch.Generator().manual_seed(seed))
    return wb.Direction.of(v / v.norm() * scale, method=f"v{seed}", reliability=0.9, provenance={"site": "resid_post", "layer": layer})


@pytest.fixture
def vectors():
    return wb.VectorSet(
        {
            ("kindness", 1): vector(0, 2.0, 1),
            ("kindness", 2): vector(1, 3.0, 2),
            ("wit", 1): vector(2, 6.0, 1),
            ("wit", 2): vector(3, 5.0, 2),
        }
    )


def test_one_length_per_layer(vectors):
    even = vectors.normalised()
    assert np.allclose([even[b, n].scale for b, n in even], 4.0)
    assert all(torch.equal(even[k].unit, vectors[k].unit) for k in vectors)
    assert np.isclose(even["wit", 1].provenance["normalised"]["from"], 6.0)


def test_similarity(vectors):
    table = vectors.similarity()
    assert len(table) == 16
    same = table[(table["first"] == table["second"]) & (table["first_layer"] == table["second_layer"])]
    assert np.allclose(same["cosine"], 1.0)
    one = table[
        (table["first"] == "kindness") & (table["second"] == "wit") & (table["first_layer"] == 1) & (table["second_layer"] == 1)
    ].iloc[0]
    assert np.isclose(one["cosine"], float(vectors["kindness", 1].unit @ vectors["wit", 1].unit), atol=1e-6)
    draws = torch.nn.functional.normalize(torch.randn(4000, 2, 16, generator=torch.Generator().manual_seed(0)), dim=-1)
    assert abs(float(((draws[:, 0] * draws[:, 1]).sum(-1).abs() < one["chance"]).float().mean()) - 0.95) < 0.02
    with pytest.raises(errors.ShapeMismatch, match="one width"):
        vectors.similarity(wb.VectorSet({("a", 0): vector(0, 1.0, 0, 8)}))


def test_saved_and_read_back(vectors, tmp_path, tiny):
    vectors.save(tmp_path / "v")
    back = wb.VectorSet.load(tmp_path / "v")
    assert set(back) == set(vectors)
    assert all(torch.equal(back[k].unit, vectors[k].unit) and back[k].scale == vectors[k].scale for k in vectors)
    assert (tmp_path / "v" / "wit" / "layer_02.safetensors").is_file()
    (tmp_path / "v" / "notes.txt").write_text("mine")
    with pytest.raises(errors.OutputFolder, match="something else"):
        vectors.save(tmp_path / "v")
    with pytest.raises(errors.DamagedStore, match="holds no vectors"):
        wb.VectorSet.load(tmp_path / "nothing")
    mine = wb.Direction.of(torch.ones(16), provenance={"model": {"digest": "0", "processing": "none", "name": "other"}})
    wb.VectorSet({("a", 0): mine}).save(tmp_path / "w")
    with pytest.raises(errors.WrongModel):
        wb.VectorSet.load(tmp_path / "w", model=tiny)
    with pytest.raises(errors.BadInput, match="makes no folder name"):
        wb.VectorSet({("../up", 0): mine}).save(tmp_path / "x")
    with pytest.raises(errors.UnknownName, match=r"kindness, layer 3.*Did you mean 'kindness, layer 1'|no vector"):
        vectors["kindness", 3]


def test_llama_cpps_control_vectors(vectors, tmp_path):
    gguf = pytest.importorskip("gguf")
    path = vectors.to_gguf(tmp_path / "kindness.gguf", "kindness", coefficient=2.0, hint="gemma2")
    reader = gguf.GGUFReader(str(path))
    fields = {k: reader.fields[k] for k in ("general.architecture", "controlvector.model_hint", "controlvector.layer_count")}
    assert bytes(fields["general.architecture"].parts[-1]).decode() == "controlvector"
    assert bytes(fields["controlvector.model_hint"].parts[-1]).decode() == "gemma2"
    assert [t.name for t in reader.tensors] == ["direction.1", "direction.2"]
    back = wb.VectorSet.from_gguf(path)
    for layer in (1, 2):
        assert torch.allclose(back["kindness", layer].vector, 2 * vectors["kindness", layer].vector, atol=1e-6)
        assert back["kindness", layer].provenance["layer"] == layer
    with pytest.raises(errors.BadInput, match="block 0"):
        wb.VectorSet({("a", 0): vector(0, 1.0, 0)}).to_gguf(tmp_path / "a.gguf", "a")
    middle = wb.Direction.of(torch.ones(4), provenance={"site": "resid_mid", "layer": 1})
    with pytest.raises(errors.BadInput, match="resid_mid"):
        wb.VectorSet({("a", 1): middle}).to_gguf(tmp_path / "a.gguf", "a")
    (tmp_path / "no.gguf").write_bytes(b"GGUF nonsense")
    with pytest.raises(errors.DamagedStore, match="cannot be read as gguf"):
        wb.VectorSet.from_gguf(tmp_path / "no.gguf")


def test_fitted_from_contrast_pairs(organism):
    sets = {"granting": wb.prompts.udhr("base_short", n=24, seed=0)}
    made, acts = wb.fit_vectors(organism, sets, layers=[2, 4], halves=3, progress=False)
    x = acts["granting"].layer(4)
    assert torch.allclose(made["granting", 4].vector, (x[:, 1] - x[:, 0]).mean(0), atol=1e-4)
    assert made["granting", 4].provenance["site"] == "resid_post"
    table = contrast_components(acts["granting"], 4, colour="polarity")
    assert len(table) == 48
    rows = table.sort_values(["item", "variant"])[["component_1", "component_2"]].to_numpy()
    flat = x.reshape(48, -1).double()
    flat = flat - flat.mean(0)
    assert np.allclose(rows.T @ rows, np.diag(np.linalg.svd(flat.numpy(), compute_uv=False)[:2] ** 2), atol=1e-4 * float((flat**2).sum()))
    assert 0 < table["explained_1"].iloc[0] <= 1
    with wb.edited(organism, wb.add(made["granting", 4], 1.0, scope="last")):
        wb.answers(organism, sets["granting"], progress=False)


def test_a_direction_made_of_tokens_is_read_as_these(organism):
    w = unembedding(organism)
    yes, no = (organism.tokenizer(t, add_special_tokens=False)["input_ids"][0] for t in (" yes", " no"))
    d = wb.Direction.of(w[:, yes] - w[:, no], provenance={"model": info(organism).key()})
    table = wb.top_tokens(organism, d, k=3)
    first = table[table["rank"] == 1].set_index("side")
    assert first.loc["towards", "id"] == yes
    assert first.loc["away", "id"] == no
    assert first.loc["towards", "cosine"] > 1.2 * first.loc["towards", "chance"] > 0
    random = wb.top_tokens(organism, wb.Direction.of(torch.randn(128, generator=torch.Generator().manual_seed(5))), k=3)
    assert random["cosine"].abs().max() < 2 * random["chance"].abs().max()
    turn = torch.linalg.qr(torch.randn(128, 128, generator=torch.Generator().manual_seed(0))).Q
    x = torch.randn(400, 128, generator=torch.Generator().manual_seed(1))
    through = fit_map(x @ turn, x)  # the layer is a turned last layer
    hidden = wb.Direction.of((w[:, yes] - w[:, no]) @ turn)
    assert wb.top_tokens(organism, hidden, k=1)["id"].iloc[0] != yes
    assert wb.top_tokens(organism, hidden, k=1, through=through)["id"].iloc[0] == yes


def test_token_views(organism, tmp_path):
    from workbench.figures.tokens import save_view, token_view, tokens_html

    d = wb.Direction.of(torch.ones(128), provenance={"site": "resid_post", "layer": 1})
    text = 'Request: <b onclick="x">rest</b>. Reply:'
    table = project_tokens(organism, text, d, scope=("last", 2))
    prompts = wb.PromptSet([wb.ContrastPair(stem=text, negative=" no", positive=" yes", label=1)])
    at_end = wb.capture(organism, prompts, layers=[1], position="stem_last", progress=False).layer(1)[0, 0]
    assert np.isclose(table["projection"].iloc[-1], float(at_end @ d.unit), atol=1e-4)
    assert table["steered"].tolist() == [False] * (len(table) - 2) + [True, True]
    page = tokens_html(table, caption="<script>")
    assert "<script" not in page
    assert "onclick=" not in page.replace("&quot;", '"').split("title")[0]
    assert page.count("border-bottom") == 2
    path = save_view(token_view(table), tmp_path / "view.html")
    text = path.read_text(encoding="utf-8")
    assert len(text) > 100_000, "the script is in the file"
    assert 'src="http' not in text
    with pytest.raises(errors.MissingColumn):
        token_view(table.drop(columns="projection"))


def test_generation_side_by_side(organism):
    prompts = wb.prompts.requests("request", n=3)
    acts = wb.capture(organism, wb.prompts.requests("request"), layers=[4], position="stem_last", progress=False)
    from workbench.directions import place_of

    x, labels = acts.layer(4)[:, 0], torch.tensor(acts.labels)
    d = wb.extract_direction(x[labels == 0], x[labels == 1], halves=0, provenance=place_of(acts, 4))
    table = wb.generate(
        organism,
        prompts,
        {"refuse": wb.add(d, 1.0, scope="last"), "comply": wb.add(d, -1.0, scope="last")},
        max_new_tokens=4,
        progress=False,
    )
    assert list(table.columns[:5]) == ["prompt", "sample", "unsteered", "refuse", "comply"]
    assert table["refuse"].str.startswith(" Sorry").all()
    assert table["comply"].str.startswith(" Sure").all()
    assert table["unsteered"].str.startswith(" Sorry").any()
    assert table["unsteered"].str.startswith(" Sure").any()
    drawn = wb.generate(
        organism, ["Request: How do I"], {"nothing": wb.add(d, 0.0)}, samples=3, temperature=2.0, max_new_tokens=4, progress=False
    )
    assert (drawn["unsteered"] == drawn["nothing"]).all(), "the same draws in every column"
    assert drawn["unsteered"].nunique() > 1
    for bad in ({"samples": 2}, {"edits": {"unsteered": wb.add(d)}}):
        with pytest.raises(errors.BadInput):
            wb.generate(organism, ["no"], progress=False, **bad)
    with pytest.raises(errors.BadInput, match="prompts are texts"):
        wb.generate(organism, [], progress=False)


def test_happy_against_sad_moves_real_weights_monotonically(stories):
    """stories260K, trained on children's stories: P(happy-like against sad-like words) rises with each of five coefficients."""
    from workbench.directions import place_of
    from workbench.models.generate import generate_texts
    from workbench.models.tokens import encode

    names = ["Tom", "Lily", "Ben", "Sue", "Max", "Anna", "Tim", "Mia", "Sam", "Lucy", "Jack", "Amy"]
    ends = {
        1: ("was very happy. They smiled and", "laughed and was so happy that"),
        0: ("was very sad. They cried and", "was so sad and began to cry when"),
    }
    texts = {k: [f"{n} {e}" for n in names for e in v] for k, v in ends.items()}
    pairs = wb.PromptSet(
        wb.ContrastPair(
            stem=f"One day {a.split()[0]}",
            negative=" " + " ".join(b.split()[1:]),
            positive=" " + " ".join(a.split()[1:]),
            label=1,
            identity=a.split()[0],
        )
        for a, b in zip(texts[1], texts[0], strict=True)
    )
    layer = info(stories).n_layers // 2
    acts = wb.capture(stories, pairs, layers=[layer], position="mean", progress=False)
    x = acts.layer(layer)
    d = wb.extract_direction(x[:, 1], x[:, 0], paired=True, clusters=[p.identity for p in pairs], provenance=place_of(acts, layer))
    from workbench.evaluation.texts import continuation_logp

    stems = [
        "One day the dog went to the park. He",
        "The girl looked at the big red ball. She",
        "Once upon a time there was a cat. The cat",
        "The boy came home. His mom",
    ]
    scored = [(s, f" was very {w}") for s in stems for w in ("happy", "sad")]

    def odds(direction, c, scope="all"):
        logp = continuation_logp(stories, scored, wb.add(direction, c, scope=scope) if c else None).reshape(-1, 2)
        return logp[:, 0] - logp[:, 1]

    doses = [-2.0, -1.0, 0.0, 1.0, 2.0]
    curve = np.array([odds(d, c).mean() for c in doses])
    assert (np.diff(curve) > 0).all(), curve
    from workbench.interventions import random_directions

    slopes = [np.polyfit(doses, [odds(r, c).mean() for c in doses], 1)[0] for r in random_directions(d, 20)]
    assert np.polyfit(doses, curve, 1)[0] > np.quantile(np.abs(slopes), 0.95)
    without_first = [odds(d, c, "content").mean() for c in doses]
    assert np.polyfit(doses, without_first, 1)[0] == pytest.approx(0.99, abs=0.01), "less than on every token: docs/steering.md says so"
    assert len(generate_texts(stories, stems[:1], max_new_tokens=3)[0].ids) <= 3
    assert encode(stories, stems)
