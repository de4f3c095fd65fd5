"""Edits along directions: their laws, their units, what they refuse; weights orthogonalised; cost."""

import numpy as np
import pytest
import torch

import workbench as wb
from workbench.core import errors
from workbench.interventions import Asker, kl, random_directions
from workbench.interventions.cost import sought, strengths
from workbench.models import Read, edited, info
from workbench.models.forward import run
from workbench.models.tokens import encode, pad

TEXTS = ["women have the right to rest", "do you agree?"]

EVERY = {"scope": "all"}


def direction(seed=0, scale=3.0, width=32, **place):
    v = torch.randn(width, generator=torch.Generator().manual_seed(seed))
    return wb.Direction.of(v / v.norm() * scale, method=f"d{seed}", provenance={"site": "resid_post", "layer": 1} | place)


def stream(model, edits, site="resid_post", layer=1):
    """The stream and the logits under edits."""
    kept = []
    with torch.no_grad(), edited(model, [*edits, Read(site=site, layer=layer, function=lambda x: kept.append(x.clone()))]):
        logits = run(model, pad(model, encode(model, TEXTS)))
    return kept[0], logits


def test_laws_of_adding(tiny):
    d, e = direction(0), direction(1)
    x, plain = stream(tiny, [])
    assert torch.equal(stream(tiny, wb.add(d, 0.0, **EVERY))[1], plain)
    assert torch.allclose(stream(tiny, wb.add(d, 1.5, **EVERY))[0] - x, (1.5 * d.vector).expand_as(x), atol=1e-5)
    assert torch.allclose(
        stream(tiny, wb.add(d, 1.0, **EVERY) | wb.add(e, 1.0, **EVERY))[1], stream(tiny, wb.add(d + e, 1.0, **EVERY))[1], atol=1e-4
    )
    assert torch.allclose(stream(tiny, wb.add(d, 1.0, **EVERY) | wb.add(d, -1.0, **EVERY))[1], plain, atol=1e-4)
    assert torch.allclose(stream(tiny, wb.add(d, 2.0, unit="unit", **EVERY))[0] - x, (2 * d.unit).expand_as(x), atol=1e-5)
    assert torch.allclose(stream(tiny, wb.add(d, 0.5, unit="norm", norm=8.0, **EVERY))[0] - x, (4 * d.unit).expand_as(x), atol=1e-5)


def test_laws_of_ablating_clamping_and_turning(tiny):
    d, e = direction(0), direction(1)
    x, plain = stream(tiny, [])
    gone, _ = stream(tiny, wb.ablate(d, **EVERY))
    assert (gone @ d.unit).abs().max() < 1e-5
    assert torch.allclose(stream(tiny, wb.ablate(d, **EVERY) | wb.ablate(d, **EVERY))[0], gone, atol=1e-6), "idempotent"
    both, _ = stream(tiny, wb.ablate([d, e], **EVERY))
    assert max((both @ d.unit).abs().max(), (both @ e.unit).abs().max()) < 1e-5
    one_by_one, _ = stream(tiny, wb.ablate(d, **EVERY) | wb.ablate(e, **EVERY))
    assert (one_by_one @ d.unit).abs().max() > 1e-2, "directions that are not orthogonal: one by one is not both"
    held, _ = stream(tiny, wb.clamp(d, 2.0, **EVERY))
    assert torch.allclose(held @ d.unit, torch.full(x.shape[:2], 2.0), atol=1e-5)
    assert torch.allclose(held - (held @ d.unit)[..., None] * d.unit, gone, atol=1e-5), "nothing else moves"
    assert torch.allclose(stream(tiny, wb.clamp(d, 2.0, unit="raw", **EVERY))[0] @ d.unit, torch.full(x.shape[:2], 6.0), atol=1e-4)
    for second in (None, e):
        turned, _ = stream(tiny, wb.rotate(d, 25.0, second, **EVERY))
        assert torch.allclose(turned.norm(dim=-1), x.norm(dim=-1), rtol=1e-4)
        assert not torch.allclose(turned, x, atol=1e-2)
        back = stream(tiny, wb.rotate(d, 25.0, second, **EVERY) | wb.rotate(d, -25.0, second, **EVERY))[0]
        assert torch.allclose(back, x, atol=1e-4)
        assert torch.equal(stream(tiny, wb.rotate(d, 0.0, second, **EVERY))[1], plain)
    before, after = (torch.rad2deg(torch.acos((y @ d.unit) / y.norm(dim=-1))) for y in (x, stream(tiny, wb.rotate(d, 25.0, **EVERY))[0]))
    assert torch.allclose(before - after, torch.full_like(before, 25.0), atol=1e-2)
    there = stream(tiny, wb.rotate(d, 180.0, **EVERY))[0]
    assert torch.allclose(there, x.norm(dim=-1, keepdim=True) * d.unit, atol=1e-3), "it stops at the direction"


def test_everywhere_is_nowhere_left_and_is_what_orthogonal_weights_do(tiny_pair):
    name, _, model = tiny_pair
    d = direction(0)
    kept = {}
    with (
        torch.no_grad(),
        edited(
            model,
            [
                *wb.ablate_everywhere(model, d),
                *[Read(site="resid_post", layer=k, function=lambda x, k=k: kept.__setitem__(k, x @ d.unit)) for k in range(3)],
            ],
        ),
    ):
        by_hooks = run(model, pad(model, encode(model, TEXTS)))
    size = float(by_hooks.abs().max())
    assert all(v.abs().max() < 1e-4 for v in kept.values())
    if name == "gemma2":
        with pytest.raises(errors.BadInput, match="norm between"):
            wb.orthogonalised(model, d)
        return
    before = info(model).digest
    with wb.orthogonalised(model, d):
        by_weights = stream(model, [])[1]
        assert info(model).digest != before
        pushed = stream(model, wb.add(direction(1, model=None), 1.0))[1]
    assert torch.allclose(by_hooks, by_weights, atol=2e-4 * size), name
    assert not torch.allclose(by_weights, stream(model, [])[1], atol=1e-3 * size)
    assert not torch.allclose(by_weights, pushed)
    assert info(model).digest == before


def test_directions_are_refused_elsewhere(tiny, calm):
    mine = direction(0, model=info(tiny).key())
    with edited(tiny, wb.add(mine, 1.0)):
        run(tiny, pad(tiny, encode(tiny, TEXTS)))
    with pytest.raises(errors.WrongModel, match="To try it all the same, say so: transfer=True"), edited(calm, wb.add(mine, 1.0)):
        pass
    with edited(calm, wb.add(mine, 1.0, transfer=True)):
        run(calm, pad(calm, encode(calm, TEXTS)))
    with pytest.raises(errors.ShapeMismatch, match="16 wide; the model has d_model 32"), edited(tiny, wb.add(direction(0, width=16), 1.0)):
        pass
    with pytest.raises(errors.WrongModel, match=r"read at resid_post\[1\] is to act at resid_post\[2\]"):
        wb.add(mine, layer=2)
    with pytest.raises(errors.WrongModel, match="transfer=True"):
        wb.ablate(mine, site="resid_mid")
    assert [e.layer for e in wb.add(mine, layer=[0, 2], transfer=True)] == [0, 2]
    with pytest.raises(errors.UnknownLayer), edited(tiny, wb.add(mine, layer=9, transfer=True)):
        pass
    with pytest.raises(errors.BadInput, match="does not say where it was read"):
        wb.add(wb.Direction.of(torch.ones(32)))
    with pytest.raises(errors.BadInput, match="cannot act at 'z'"):
        wb.add(mine, site="z", transfer=True)
    with wb.orthogonalised(tiny, direction(3)), edited(tiny, wb.add(mine, 1.0)):
        run(tiny, pad(tiny, encode(tiny, TEXTS)))  # its own model, with weights changed for a while


def test_every_direction_of_an_edit_must_be_the_models(tiny, calm):
    mine, foreign = direction(0, model=info(tiny).key()), direction(1, model=info(calm).key())
    for make in (lambda: wb.ablate([mine, foreign]), lambda: wb.rotate(mine, 10, foreign)):
        with pytest.raises(errors.WrongModel):
            make()
    with pytest.raises(errors.WrongModel, match="gate at resid_post"), edited(tiny, wb.add(mine, when=wb.gate(foreign))):
        pass
    from workbench.interventions import probe_metric

    with pytest.raises(errors.WrongModel):
        probe_metric(tiny, foreign)
    with pytest.raises(errors.WrongModel), edited(calm, wb.ablate([direction(2), mine])):
        pass


def test_bad_numbers_and_units():
    d = direction()
    with pytest.raises(errors.NotFinite):
        wb.add(d, float("nan"))
    with pytest.raises(errors.NotFinite):
        wb.rotate(d, float("inf"))
    with pytest.raises(errors.BadInput, match="needs the stream's mean norm"):
        wb.add(d, 1.0, unit="norm")
    with pytest.raises(errors.BadInput, match="one of raw, unit, norm"):
        wb.clamp(d, 1.0, unit="metres")
    with pytest.raises(errors.ZeroDirection, match="do not span"):
        wb.ablate([d, d])
    with pytest.raises(errors.BadInput, match="finite numbers"):
        strengths([0.0])


def test_bf16_streams(words):
    import conftest

    from workbench.models import wrap

    model = wrap(conftest.tiny_model("llama", len(words), std=None).to(torch.bfloat16), words, name="half", bos=0, device="cpu")
    d = direction()
    for edits in (wb.add(d), wb.ablate(d), wb.clamp(d, 1.0), wb.rotate(d, 10.0)):
        x, logits = stream(model, edits)
        assert x.dtype == torch.bfloat16
        assert bool(logits.isfinite().all())
    assert (stream(model, wb.ablate(d, **EVERY))[0].float() @ d.unit).abs().max() < 0.02


def test_keys_say_what_an_edit_does():
    d = direction()
    keys = [
        wb.add(d, 1.0),
        wb.add(d, 2.0),
        wb.add(direction(1), 1.0),
        wb.add(d, 1.0, scope="last"),
        wb.ablate(d),
        wb.clamp(d, 1.0),
        wb.rotate(d, 10),
        wb.rotate(d, 10, direction(2)),
    ]
    assert len({e.key for e in keys}) == len(keys)
    assert wb.add(d, 1.0).key == wb.add(direction(), 1.0).key
    assert wb.ablate([d, direction(1)]).key != wb.ablate([d, direction(2)]).key


def test_gates_from_probes_and_directions(organism):
    held = {c: wb.prompts.udhr("consider_claim", c, n=24, seed=1) for c in ("harm", "good")}
    acts = {c: wb.capture(organism, p, layers=[0], position="stem_last", progress=False) for c, p in held.items()}
    x, y = (acts[c].layer(0)[:, 0] for c in ("harm", "good"))
    probe = wb.fit_logistic(x[:12], y[:12])
    gate = wb.gate(probe, site="resid_post", layer=0, pool="last")
    d = wb.extract_direction(x, y, halves=0, provenance={"site": "resid_post", "layer": 0})
    for c, want in (("harm", True), ("good", False)):
        asker = Asker(organism, held[c].subset(range(12, 24)))
        with edited(organism, wb.add(d, 0.5, scope="last", when=gate)) as fired:
            for batch in asker.batches:
                run(organism, batch)
        assert fired.open[0].tolist() == [want] * 12
        rows = [p.negative[: p.stem] for p in wb.models.tokens.encode_pairs(organism, held[c].subset(range(12, 24)))]
        assert np.array_equal(probe.score(acts[c].layer(0)[12:, 0]) > 0, [want] * len(rows))
    cosine = wb.gate(d, 0.0)
    assert cosine.site == "resid_post"
    for bad, message in ((wb.fit_logistic(x, y, [0, 1] * 12), "fitted on rows"), (3, "fitted on rows")):
        with pytest.raises(errors.BadInput, match=message):
            wb.gate(bad, site="resid_post", layer=0)
    with pytest.raises(errors.BadInput, match="needs a place"):
        wb.gate(probe)


def test_tuning_to_one_cost(organism):
    prompts = wb.prompts.udhr("base_short", n=24, seed=0)
    acts = wb.capture(organism, prompts, layers=[4], position="stem_last", progress=False)
    x, labels = acts.layer(4)[:, 0], torch.tensor(prompts.labels)
    from workbench.directions import place_of

    d = wb.extract_direction(x[labels == 1], x[labels == 0], halves=0, provenance=place_of(acts, 4))
    asker = Asker(organism, prompts)
    for family in (lambda c: wb.add(d, c, scope="last"), lambda c: wb.add(random_directions(d, 1)[0], c, scope="last")):
        found = wb.tune(organism, asker, family, 0.2, start=0.2)
        assert abs(kl(asker.base, asker.ask(family(found.strength))).mean() / 0.2 - 1) < 0.11, found
    never = wb.tune(organism, asker, lambda c: wb.ablate(random_directions(d, 1)[0], scope="last"), 5.0)
    assert "as near as it comes" in never.note
    size, _ = sought(lambda c: c**2, 0.09, 1.0, 0.01, 100)
    assert abs(size - 0.3) < 0.01
    norms = x.norm(dim=-1)
    assert abs(wb.mean_norm(organism, prompts, d, scope="last") - float(norms.mean())) < 1e-3 * float(norms.mean())
    with pytest.raises(errors.BadInput, match="whose norm"):
        wb.mean_norm(organism, prompts)


def test_an_asker_says_what_answers_says(organism):
    prompts = wb.prompts.udhr("base_short", n=40, seed=0) + wb.prompts.requests("request", n=6)
    asker, want = Asker(organism, prompts), wb.answers(organism, prompts, progress=False)
    assert np.allclose(asker.odds(asker.base), want["margin"], atol=1e-4)
    assert np.allclose(asker.answered(asker.base), want["answered"], atol=1e-5)
    d = direction(width=128, scale=30.0)
    with edited(organism, wb.add(d, scope="last")):
        under = wb.answers(organism, prompts, progress=False)["margin"]
    assert np.allclose(asker.odds(asker.ask(wb.add(d, scope="last"))), under, atol=1e-4)
    assert not np.allclose(under, want["margin"], atol=0.1)
    with pytest.raises(errors.NotFinite, match="Acting: add 1e"):
        asker.ask(wb.add(direction(width=128, scale=1e38), 1e10, scope="last"))


def test_capture_under_a_scope_edits_the_prompts_last_token_and_not_the_endings(organism):
    prompts = wb.prompts.udhr("base_short", n=4)
    d = direction(width=128, scale=5.0, layer=0)
    plain = wb.capture(organism, prompts, layers=[0], position="last", progress=False).layer(0)
    with edited(organism, wb.add(d, scope="last")):
        stems = wb.capture(organism, prompts, layers=[0], position="stem_last", progress=False).layer(0)
        last = wb.capture(organism, prompts, layers=[0], position="last", progress=False).layer(0)
    with edited(organism, wb.add(d, scope="generated")):
        from_stem = wb.capture(organism, prompts, layers=[0], position="stem_last", progress=False).layer(0)
    assert torch.equal(from_stem, stems), "the answer is written from the prompt's last token"
    with edited(organism, wb.add(d, scope="generated")):
        ending = wb.capture(organism, prompts, layers=[0], position="last", progress=False).layer(0)
    base = wb.capture(organism, prompts, layers=[0], position="stem_last", progress=False).layer(0)
    assert torch.allclose(stems - base, d.vector.expand_as(base), atol=1e-4)
    assert torch.allclose(last, plain, atol=1e-4), "the answer's own token is not pushed, and block 0 does not carry it there"
    assert torch.allclose(ending - plain, d.vector.expand_as(plain), atol=1e-4)
