"""Lenses: planted maps are found, Jacobians are those of a literal loop, controls stand beside, and what is refused."""

import numpy as np
import pytest
import torch

import workbench as wb
from workbench.core.errors import BadInput, DamagedStore, EmptyPromptSet, NotFinite, ShapeMismatch, TooFew, UnknownName, WrongModel
from workbench.core.tables import pick
from workbench.features import by_layer, jacobian, tuned
from workbench.features.jacobian import fit_jacobian_lens
from workbench.features.lenses import Lens
from workbench.features.tuned import train_tuned_lens
from workbench.interventions.answer_layers import answer_lens
from workbench.models import Edit, edited
from workbench.models.forward import run
from workbench.models.readout import readout
from workbench.models.tokens import encode, pad

TEXTS = [p.stem + p.positive for p in wb.prompts.udhr(n=40, seed=3)]


def prompts(n=24, claim="harm"):
    return wb.prompts.udhr("since_claim", claim, n=n)


def planted(model, monkeypatch, first):
    """Let a tuned lens read streams of one layer that are a known function of the last one's."""
    last = torch.randn(4000, int(model.cfg.d_model), generator=torch.Generator().manual_seed(0)) * 3
    text = torch.arange(4000) // 40
    monkeypatch.setattr(tuned, "_read", lambda *_: (torch.stack([first(last), last]), text, "planted"))
    monkeypatch.setattr(tuned, "n_layers", lambda _: 2)


def test_a_planted_map_is_found_and_noise_has_none(tiny, monkeypatch):
    d = int(tiny.cfg.d_model)
    g = torch.Generator().manual_seed(1)
    turn = torch.linalg.qr(torch.randn(d, d, generator=g)).Q
    shift = torch.randn(d, generator=g)
    how = {"steps": 500, "rate": 2e-2, "progress": False}
    planted(tiny, monkeypatch, lambda last: last @ turn.T + shift)
    made = train_tuned_lens(tiny, [], **how)
    (told,) = made.provenance["held_out"]["kl"]
    assert told["tuned"] < 0.02 * told["logit"]
    # the map undoes the turn, as far as the norm lets it be seen
    cosine = torch.nn.functional.cosine_similarity((made.weight[0] @ turn).flatten(), torch.eye(d).flatten(), dim=0)
    assert float(cosine) > 0.95
    planted(tiny, monkeypatch, lambda last: torch.randn(last.shape, generator=torch.Generator().manual_seed(2)))
    (null,) = train_tuned_lens(tiny, [], **how).provenance["held_out"]["kl"]
    assert null["tuned"] > 0.3 * null["logit"]


def test_a_tuned_lens_of_the_organism_is_nearer_the_end_at_every_layer_and_exchanged_layers_are_not(organism):
    made = train_tuned_lens(organism, by_layer.others(prompts()), tokens=4000, steps=250, progress=False)
    for told in made.provenance["held_out"]["kl"]:
        assert told["tuned"] < 0.5 * told["logit"]
    acts = wb.capture(organism, prompts(), position="stem_last", progress=False)

    def kl(through):
        return pick(answer_lens(organism, acts, through, whole=True), metric="kl").set_index("layer")["value"]

    own, turned = kl(made.at), kl(made.exchanged(0).at)
    assert own[5] == turned[5] == pytest.approx(0, abs=1e-5)
    assert (turned[:4] > own[:4]).all()


@torch.enable_grad()
def by_hand(model, ids, layer):
    """The Jacobian of one text, one entry of the output at a time, through the Bridge: summed over later positions, averaged over earlier."""
    kept = {}

    def hold(x):
        kept["low"] = x.detach().clone().requires_grad_()
        return kept["low"]

    last = model.cfg.n_layers - 1
    edits = [
        Edit(site="resid_post", layer=layer, function=hold),
        wb.Read(site="resid_post", layer=last, function=lambda x: kept.update(top=x)),
    ]
    with edited(model, edits):
        run(model, pad(model, [ids]))
    low, top = kept["low"], kept["top"]
    d, n = top.shape[-1], len(ids)
    out = torch.zeros(d, d)
    for j in range(d):
        for q in range(1, n):
            (g,) = torch.autograd.grad(top[0, q, j], low, retain_graph=True)
            out[j] += g[0, 1 : q + 1].sum(0)
    return out / (n - 1)


def test_a_jacobian_is_that_of_a_literal_loop(calm):
    text = TEXTS[0]
    (ids,) = encode(calm, [text])
    made = fit_jacobian_lens(calm, [text], length=10, progress=False)
    want = by_hand(calm, ids[:10], 0)
    torch.testing.assert_close(made.weight[0], want, rtol=1e-3, atol=1e-4)
    assert torch.equal(made.weight[-1], torch.eye(made.d_model))
    assert float((want - torch.eye(made.d_model)).abs().max()) > 0.01  # it is not the identity by itself
    both = fit_jacobian_lens(calm, TEXTS[:2], length=10, batch=2, progress=False)
    single = [fit_jacobian_lens(calm, [t], length=10, progress=False).weight for t in TEXTS[:2]]
    torch.testing.assert_close(both.weight, (single[0] + single[1]) / 2, rtol=1e-3, atol=1e-4)


def test_blocks_that_add_nothing_have_the_identity(words):
    from conftest import tiny_model

    from workbench.models import wrap

    bare = tiny_model("llama", len(words))
    with torch.no_grad():
        for block in bare.model.layers:
            block.self_attn.o_proj.weight.zero_()
            block.mlp.down_proj.weight.zero_()
    made = fit_jacobian_lens(wrap(bare, words, name="still", bos=0, device="cpu"), TEXTS[:2], progress=False)
    torch.testing.assert_close(made.weight, torch.eye(made.d_model).expand_as(made.weight), atol=1e-6, rtol=0)


def test_training_and_fitting_go_on_after_a_kill(calm, tmp_path, monkeypatch):
    how = {"tokens": 600, "steps": 40, "batch": 16, "progress": False}
    whole = train_tuned_lens(calm, TEXTS, **how)
    kl, calls = tuned._kl, []

    def dies(read, rows, chosen, through):
        if len(calls) == 60:
            raise KeyboardInterrupt
        calls.append(1)
        return kl(read, rows, chosen, through)

    monkeypatch.setattr(tuned, "_kl", dies)
    with pytest.raises(KeyboardInterrupt):
        train_tuned_lens(calm, TEXTS, store=tmp_path, **how)
    again = []
    monkeypatch.setattr(tuned, "_kl", lambda *a: again.append(1) or kl(*a))
    resumed = train_tuned_lens(calm, TEXTS, store=tmp_path, **how)
    assert torch.equal(resumed.weight, whole.weight)
    assert len(again) < 60

    fit = {"count": 6, "batch": 2, "length": 8, "progress": False}
    full = fit_jacobian_lens(calm, TEXTS, **fit)
    own, done = jacobian._jacobians, []

    def stops(*a):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(1)
        return own(*a)

    monkeypatch.setattr(jacobian, "_jacobians", stops)
    with pytest.raises(KeyboardInterrupt):
        fit_jacobian_lens(calm, TEXTS, store=tmp_path, **fit)
    (file,) = tmp_path.glob("jacobian-*")
    later = []
    monkeypatch.setattr(jacobian, "_jacobians", lambda *a: later.append(1) or own(*a))
    assert torch.equal(fit_jacobian_lens(calm, TEXTS, store=tmp_path, **fit).weight, full.weight)
    assert len(later) == 1
    assert not file.exists()
    file.write_bytes(b"no sums")
    with pytest.raises(DamagedStore, match="delete it to begin anew"):
        fit_jacobian_lens(calm, TEXTS, store=tmp_path, **fit)


def test_the_table_has_every_control_and_the_last_layer_is_the_model(organism):
    said = prompts() + prompts(claim="good")
    made = fit_jacobian_lens(organism, TEXTS, count=2, length=12, progress=False)
    bare = wb.untrained_copy(organism)
    table = wb.lens(organism, said, made, untrained=bare, progress=False)
    assert set(table["condition"]) == {"harm", "good"}
    assert set(zip(table["lens"], table["control"], strict=True)) == {
        ("jacobian lens", ""), ("jacobian lens", "shuffled labels"), ("jacobian lens", "layers exchanged"),
        ("logit lens", ""), ("logit lens", "untrained copy"),
    }  # fmt: skip
    last = pick(table, layer=5, control="")
    assert (pick(last, metric="agrees")["value"] == 1).all()
    assert np.allclose(pick(last, metric="kl")["value"], 0, atol=1e-5)
    asked = wb.answers(organism, prompts(), progress=False)
    for lens in ("jacobian lens", "logit lens"):
        yes = pick(last, lens=lens, metric="yes", condition="harm")["value"].item()
        assert yes == pytest.approx(asked["answer"].mean())
    # the model says the opposite of the label under the harm claim, which no shuffle of the labels does
    area, null = (
        pick(last, lens="logit lens", metric="auroc", condition="harm"),
        pick(table, layer=5, control="shuffled labels", condition="harm"),
    )
    assert area["value"].item() < null["low"].item()
    untrained = pick(table, layer=5, control="untrained copy", metric="auroc", condition="harm")
    assert untrained["low"].item() < 0.5 < untrained["high"].item()
    assert (table["n"] > 0).all()


def test_the_kl_is_that_of_a_literal_loop(tiny):
    acts = wb.capture(tiny, prompts(8), position="stem_last", progress=False)
    read, got = readout(tiny), pick(answer_lens(tiny, acts, whole=True), metric="kl").set_index("layer")["value"]
    for layer in acts.layers:
        total = 0.0
        for k in range(len(acts)):
            p, q = (read.logits(acts.layer(x)[k, 0]).double().log_softmax(-1) for x in (acts.layers[-1], layer))
            total += float(sum(p[i].exp() * (p[i] - q[i]) for i in range(len(p))))
        assert got[layer] == pytest.approx(total / len(acts), abs=1e-4)


def test_texts_of_a_lens_are_about_others():
    few = prompts(16)
    about = set(few.to_frame()["identity"])
    texts = by_layer.others(few)
    assert len(texts) == by_layer.TEXTS
    assert not [name for name in about for t in texts if f'"{name} ' in t]


def test_a_lens_is_saved_loaded_and_refused_elsewhere(organism, tiny, tmp_path):
    made = fit_jacobian_lens(organism, TEXTS, count=1, length=8, progress=False)
    made.save(tmp_path / "a" / "lens.safetensors")
    again = Lens.load(tmp_path / "a" / "lens.safetensors", model=organism)
    assert torch.equal(again.weight, made.weight)
    assert again.provenance["model"]["name"] == made.provenance["model"]["name"]
    assert "jacobian lens of 6 layers" in repr(again)
    with pytest.raises(WrongModel, match="a lens of 6 layers of width 128"):
        again.check_model(tiny)
    other = wb.untrained_copy(organism)
    with pytest.raises(WrongModel, match="or of another processing mode"):
        wb.lens(other, prompts(), again, progress=False)
    with pytest.raises(UnknownName, match="train one with"):
        Lens.load(tmp_path / "none.safetensors")
    (tmp_path / "x.safetensors").write_bytes(b"no lens")
    with pytest.raises(DamagedStore, match="cannot be read as a lens"):
        Lens.load(tmp_path / "x.safetensors")


def test_what_cannot_be_read_is_refused_before_anything_is_computed(organism, monkeypatch):
    monkeypatch.setattr(by_layer, "capture", None)
    with pytest.raises(BadInput, match="kind 'magic': logit, tuned, jacobian"):
        wb.lens(organism, prompts(), "magic")
    with pytest.raises(BadInput, match="steps: nothing is trained for the logit lens"):
        wb.lens(organism, prompts(), steps=3)
    single = wb.prompts.single_statements([{"statement": "Ice is cold.", "label": 1}])
    with pytest.raises(EmptyPromptSet, match="two endings"):
        wb.lens(organism, single)
    with pytest.raises(BadInput, match="count=0"):
        fit_jacobian_lens(organism, TEXTS, count=0)
    with pytest.raises(BadInput, match="tokens=5"):
        train_tuned_lens(organism, TEXTS, tokens=5)
    with pytest.raises(TooFew, match="3 texts"):
        train_tuned_lens(organism, TEXTS[:3], progress=False)
    with pytest.raises(BadInput, match="edits are active"), edited(organism, wb.Edit(site="resid_post", layer=0, function=lambda x: x)):
        train_tuned_lens(organism, TEXTS)
    eye = torch.eye(4)[None]
    good = {"kind": "tuned", "layers": (0,), "weight": eye, "bias": torch.zeros(1, 4)}
    with pytest.raises(UnknownName, match="kind of lens"):
        Lens(**good | {"kind": "logit"})
    with pytest.raises(NotFinite, match="NaN"):
        Lens(**good | {"weight": eye * float("nan")})
    with pytest.raises(BadInput, match="ascending"):
        Lens(kind="tuned", layers=(1, 0), weight=torch.eye(4).expand(2, 4, 4), bias=torch.zeros(2, 4))
    one = Lens(**good)
    with pytest.raises(BadInput, match="layer 3: this lens has layers 0"):
        one.at(3, torch.zeros(2, 4))
    with pytest.raises(ShapeMismatch, match="width 4"):
        one.at(0, torch.zeros(2, 5))
    with pytest.raises(BadInput, match="two at least"):
        one.exchanged()
