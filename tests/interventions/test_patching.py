"""Patching: laws, the replay against whole passes, TransformerLens's own loops, planted truths, alignment, gradients."""

import numpy as np
import pytest
import torch

import workbench as wb
from workbench.core import errors
from workbench.interventions import align, alignment_table, probe_metric, random_directions
from workbench.interventions.alignment import segments
from workbench.interventions.patching import patched_values
from workbench.models import replay
from workbench.models.forward import run
from workbench.models.hooks import attached_hooks
from workbench.models.tokens import encode_pairs, pad
from workbench.prompts import ContrastPair, PromptSet

SITES = ("resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out", "z", "pattern")


def pairs(stems, labels=None):
    return PromptSet(
        ContrastPair(stem=s, negative=" no", positive=" yes", label=(labels or [1] * len(stems))[i], identity=str(i))
        for i, s in enumerate(stems)
    )


CLEAN = ["women have the right to rest true? Answer:", "Statement: do you agree? true Answer:", "women have the right yes? Answer:"]
WRONG = ["women have the right to rest false? Answer:", "Statement: do you agree? false Answer:", "women have the right no? Answer:"]


@pytest.fixture(scope="module")
def two(sharp):
    _, model = sharp
    return model, pairs(CLEAN), pairs(WRONG)


@pytest.mark.parametrize("site", SITES)
def test_the_replay_gives_the_numbers_of_whole_passes(two, site):
    model, clean, corrupted = two
    if f"blocks.0.{wb.models.SITES[site]}" not in model.hook_dict:
        with pytest.raises(errors.UnknownSite):
            wb.patch(model, clean, corrupted, site=site, progress=False)
        return
    how = {"site": site, "positions": [-1, -3], "progress": False}
    quick, slow = (wb.patch(model, clean, corrupted, engine=e, **how) for e in ("replay", "full"))
    assert np.allclose(quick["patched"], slow["patched"], atol=1e-4)
    assert replay.why_not(model) == ""
    same = wb.patch(model, clean, clean, "kl", **how)
    assert same["patched"].abs().max() < 1e-5, "clean into clean changes nothing"
    assert attached_hooks() == 0


def test_all_tokens_of_a_layer_at_once_is_the_other_run(calm):
    clean, corrupted = pairs(CLEAN[:1]), pairs(WRONG[:1])
    positions = align(calm, clean, corrupted, positions="token")[0].groups
    from workbench.interventions import alignment

    def whole(model, pair, x, y, found, wanted, item):
        return {"all": list(range(len(found)))}

    original = alignment._groups
    try:
        alignment._groups = whole
        for way, end in (("denoise", 1.0), ("noise", 0.0)):
            for site in ("resid_pre", "resid_post"):
                got = patched_values(calm, clean, corrupted, "logit_diff", site=site, layers=None, positions="token", way=way)
                share = (got.values - got.corrupted) / (got.clean - got.corrupted)
                assert np.allclose(share, end, atol=1e-3), (way, site)
    finally:
        alignment._groups = original
    assert len(positions) > 3


def test_it_is_what_transformer_lens_patching_gives(calm):
    """Against its own loop over layers and positions, at sites whose hook is the stream itself."""
    from transformer_lens import patching as theirs

    clean, corrupted = pairs(CLEAN[:1]), pairs(WRONG[:1])
    ids = [torch.tensor([encode_pairs(calm, p)[0].negative[: encode_pairs(calm, p)[0].stem]]) for p in (clean, corrupted)]
    no, yes = (calm.tokenizer(w, add_special_tokens=False)["input_ids"][0] for w in (" no", " yes"))
    with torch.no_grad():
        _, cache = calm.run_with_cache(ids[0])
        for site, function in (
            ("resid_pre", theirs.get_act_patch_resid_pre),
            ("attn_out", theirs.get_act_patch_attn_out),
            ("mlp_out", theirs.get_act_patch_mlp_out),
        ):
            want = function(calm, ids[1], cache, lambda logits: logits[0, -1, yes] - logits[0, -1, no])
            got = wb.patch(calm, clean, corrupted, lambda logits, items: logits[:, yes] - logits[:, no], site=site, progress=False)
            table = got.pivot(index="layer", columns="position", values="patched")
            table = table[sorted(table.columns, key=int)].to_numpy()
            assert np.allclose(table, want.numpy(), atol=1e-4), site


def test_the_organism_carries_the_claim_to_the_last_token_in_one_head_of_block_0(organism):
    truth = wb.models.planted(organism)
    held = {"identities": truth["held_out_identities"], "rights": truth["held_out_rights"]}
    good = "All people should have equal rights."
    clean, corrupted = (wb.prompts.udhr("consider_claim", c, n=16, **held) for c in (good, "harm"))
    maps = wb.patch(organism, clean, corrupted, site="resid_pre", positions="segment", progress=False).set_index(["layer", "position"])
    assert maps.loc[(0, "claim"), "low"] > 0.9, "before block 0 the claim's own tokens hold all of it"
    assert maps.loc[(1, "claim"), "high"] < 0.1, "after it they are no longer needed"
    assert maps.loc[(1, "last"), "low"] > 0.9
    assert maps.loc[(0, "last"), "high"] < 0.1
    heads = wb.patch(organism, clean, corrupted, site="z", heads=True, positions="last", layers=[0], progress=False)
    assert (heads["value"] > 0.9).sum() == 1
    stance = truth["stance"]
    assert (stance["layer"], stance["position"]) == (0, "stem_last")


def test_one_line_of_the_stream(organism):
    good = "All people should have equal rights."
    sets = {c: wb.prompts.udhr("consider_claim", c, n=48, seed=3) for c in (good, "harm")}
    from workbench.directions import place_of

    acts = {c: wb.capture(organism, p, layers=[0], position="stem_last", progress=False) for c, p in sets.items()}
    d = wb.extract_direction(acts[good].layer(0)[:32, 0], acts["harm"].layer(0)[:32, 0], halves=0, provenance=place_of(acts[good], 0))
    clean, corrupted = sets[good].subset(range(32, 48)), sets["harm"].subset(range(32, 48))
    how = {"site": "resid_post", "layers": [0], "positions": "last", "progress": False}
    assert wb.patch(organism, clean, corrupted, along=d, **how)["low"].iloc[0] > 0.8
    assert abs(wb.patch(organism, clean, corrupted, along=random_directions(d, 1)[0], **how)["value"].iloc[0]) < 0.1
    with pytest.raises(errors.BadInput, match="no direction for layer 1"):
        wb.patch(organism, clean, corrupted, along={0: d}, site="resid_post", layers=[0, 1], progress=False)
    with pytest.raises(errors.BadInput, match="no component at 'z'"):
        wb.patch(organism, clean, corrupted, along=d, site="z", progress=False)


def test_a_probe_reads_what_patching_moves(calm):
    clean, corrupted = pairs(CLEAN), pairs(WRONG)
    unit = torch.nn.functional.normalize(torch.randn(32, generator=torch.Generator().manual_seed(1)), dim=0)
    d = wb.Direction.of(unit, provenance={"site": "resid_post", "layer": 1})
    metric = probe_metric(calm, d)
    got = wb.patch(calm, clean, corrupted, metric, site="resid_post", positions="last", progress=False)
    slow = wb.patch(calm, clean, corrupted, metric, site="resid_post", positions="last", progress=False, engine="full")
    assert np.allclose(got["patched"], slow["patched"], atol=1e-5)
    by = got.set_index("layer")
    assert abs(by.loc[1, "value"] - 1) < 1e-4, "patched where it is read, all is recovered"
    assert abs(by.loc[2, "value"]) < 1e-6, "patched above where it is read, nothing"
    rows = torch.cat([run_last(calm, clean), run_last(calm, corrupted)])
    assert np.allclose(
        by.loc[1, ["clean", "corrupted"]].to_numpy(float), [float((rows[:3] @ unit).mean()), float((rows[3:] @ unit).mean())], atol=1e-4
    )


def run_last(model, prompts):
    return wb.capture(model, prompts, layers=[1], position="stem_last", progress=False).layer(1)[:, 0]


@pytest.mark.parametrize("site", SITES)
def test_attribution_is_exact_where_the_metric_is_linear_above(calm, site):
    """At the last block's output with a metric that reads the stream there, gradient times difference is the whole effect."""
    clean, corrupted = pairs(CLEAN[:2]), pairs(WRONG[:2])
    d = wb.Direction.of(torch.ones(32), provenance={"site": "resid_post", "layer": 2})
    how = {"site": site, "layers": [2], "positions": "last", "progress": False}
    exact, guess = (wb.patch(calm, clean, corrupted, probe_metric(calm, d), method=m, **how) for m in ("exact", "attribution"))
    if site in ("resid_post", "mlp_out"):
        assert np.allclose(exact["patched"], guess["patched"], atol=1e-4)
    else:
        assert np.isfinite(guess["patched"]).all()
    error = wb.attribution_error(calm, clean, corrupted, site=site, positions=[-1, -2, -3], progress=False)
    assert list(error["layer"]) == [0, 1, 2]
    assert error["correlation"].notna().any()


def test_small_steps_make_attribution_exact(calm):
    """The gradient is that of the patched place: an infinitesimal exchange is predicted, at every site."""
    clean, corrupted = pairs(CLEAN[:1]), pairs(WRONG[:1])
    from workbench.interventions.chunk import Chunk
    from workbench.interventions.metrics import metric_of

    metric = metric_of(calm, "logit_diff", clean)
    for site in SITES:
        chunk = Chunk.read(calm, align(calm, clean, corrupted, positions="token"), [0], site, [1], False, metric, "auto")
        for k in chunk.donor:
            (mine,) = (run_site(calm, corrupted, site, k),)
            chunk.donor[k] = mine + 1e-3 * (chunk.donor[k] - mine)
        work = [(0, -1, p) for p in chunk.aligned[0].groups]
        exact, guess = chunk.patch(1, work, None, 64) - chunk.corrupted[0], chunk.attribute(1, work, None) - chunk.corrupted[0]
        assert np.abs(exact - guess).max() <= 0.02 * np.abs(exact).max() + 1e-6, site


def run_site(model, prompts, site, layer):
    kept = []
    item = encode_pairs(model, prompts)[0]
    with torch.no_grad(), wb.edited(model, wb.Read(site=site, layer=layer, function=lambda x: kept.append(x.clone()))):
        run(model, pad(model, [item.negative[: item.stem]]))
    return kept[0]


def test_alignment(calm, organism):
    clean, longer = pairs(CLEAN[:1]), pairs(["true " + WRONG[0]])
    with pytest.raises(errors.Alignment, match="align='diff'"):
        wb.patch(calm, clean, longer, progress=False)
    for how in ("diff", "end"):
        table = wb.patch(calm, clean, longer, align_by=how, positions="last", progress=False)
        assert abs(table[table["layer"] == 2]["value"].iloc[0] - 1) < 1e-4, how
    with pytest.raises(errors.Alignment, match="has no counterpart"):
        wb.patch(calm, clean, longer, align_by="end", positions=[-40], progress=False)
    with pytest.raises(errors.ShapeMismatch, match="they go in pairs"):
        wb.patch(calm, clean, pairs(WRONG), progress=False)
    with pytest.raises(errors.BadInput, match="distances from the end"):
        wb.patch(calm, clean, clean, positions=[0], progress=False)
    with pytest.raises(errors.BadInput, match="patterns can be exchanged"):
        wb.patch(calm, clean, longer, align_by="end", site="pattern", progress=False)
    shown = alignment_table(calm, clean, pairs(WRONG[:1]), positions="token")
    assert shown["same"].tolist().count(False) >= 1
    assert shown.loc[~shown["same"], "clean"].str.strip().tolist() == ["true"]
    prompt = wb.prompts.udhr("consider_claim", "harm", n=1)[0]
    item = encode_pairs(organism, [prompt])[0]
    names = segments(organism, prompt, item.negative[: item.stem])
    assert list(dict.fromkeys(names)) == ["before claim", "claim", "between", "statement", "after statement", "last"]
    text = organism.tokenizer.decode([i for i, n in zip(item.negative, names, strict=False) if n == "claim"])
    assert text.strip(" .") == "Nobody should have rights and freedoms"


def test_under_edits_that_choose_rows_or_tokens_whole_passes_are_run(calm):
    """A gate is decided, and a scope worked out, when a whole pass begins: gone on from in the middle, the donors' would be left over."""
    clean, corrupted = pairs(CLEAN), pairs(WRONG)
    d = wb.Direction.of(torch.ones(32) * 4, provenance={"site": "resid_post", "layer": 0})
    how = {"site": "resid_post", "layers": [1], "positions": "last", "progress": False}
    plain = wb.patch(calm, clean, corrupted, **how)["patched"][0]  # replay has been tried
    kept = []
    with wb.edited(calm, wb.Read(site="resid_post", layer=0, function=lambda x: kept.append(x[:, 1:].norm(dim=-1).mean()))):
        for p in (clean, corrupted):
            wb.patch(calm, p, p, **how)
    for when in (wb.gate(d, float(np.mean(kept)), similarity="projection"), wb.gate(d, -1e9, similarity="projection", pool="last"), None):
        for scope in ("last", "all", ("marker", "Answer")):
            if when is None and scope == "all":
                continue
            with wb.edited(calm, wb.add(d, scope=scope, when=when)):
                auto, full = (wb.patch(calm, clean, corrupted, engine=e, **how)["patched"][0] for e in ("auto", "full"))
                with pytest.raises(errors.BadInput, match="chooses rows or tokens"):
                    wb.patch(calm, clean, corrupted, engine="replay", **how)
            assert auto == full
    assert replay.why_not(calm) == "", "nothing is held against the model afterwards"
    assert abs(wb.patch(calm, clean, corrupted, engine="replay", **how)["patched"][0] - plain) < 1e-6


def test_parts_of_a_chat_prompt(organism):
    """Special tokens that stand in the text itself, as a chat template puts them, do not shift the names."""
    said = "Women have the right to rest."
    for lead in ("", "<s><s></s>"):
        pair = ContrastPair(
            stem=f'{lead}Statement: "{said}" Do you agree? Answer:', negative=" no", positive=" yes", label=1, meta={"statement": said}
        )
        item = encode_pairs(organism, [pair])[0]
        ids = item.negative[: item.stem]
        names = segments(organism, pair, ids)
        part = organism.tokenizer.decode([i for i, n in zip(ids, names, strict=True) if n == "statement"])
        assert part.strip(' ".') == said.rstrip("."), lead


def test_bad_arguments_cost_nothing(calm):
    clean = pairs(CLEAN[:1])
    for how, error in (
        ({"metric": "logits"}, errors.UnknownName),
        ({"site": "resid"}, errors.UnknownSite),
        ({"layers": [7]}, errors.UnknownLayer),
        ({"way": "up"}, errors.BadInput),
        ({"heads": True}, errors.BadInput),
        ({"engine": "fast"}, errors.BadInput),
    ):
        with pytest.raises(error):
            wb.patch(calm, clean, clean, **how, progress=False)


def test_a_model_that_cannot_be_replayed_is_read_whole(calm, monkeypatch):
    clean, corrupted = pairs(CLEAN[:1]), pairs(WRONG[:1])
    want = wb.patch(calm, clean, corrupted, positions="last", progress=False)["patched"]
    monkeypatch.setitem(replay._TRIED, calm, "made up")
    got = wb.patch(calm, clean, corrupted, positions="last", progress=False)["patched"]
    assert np.allclose(got, want, atol=1e-4)
    with pytest.raises(errors.BadInput, match="made up"):
        wb.patch(calm, clean, corrupted, engine="replay", progress=False)
