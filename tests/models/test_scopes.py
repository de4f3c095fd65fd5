"""Which tokens an edit touches, whatever the padding and the cache; edits that the stream runs past; gates."""

import pytest
import torch
from transformers import AutoTokenizer

from workbench.core import errors
from workbench.models import Edit, Edits, Gate, Read, Scope, edited, generate_texts
from workbench.models.forward import run
from workbench.models.hooks import SITES, attached_hooks
from workbench.models.tokens import encode, pad

TEXTS = ["women have the right to rest", "do you agree?", "Statement: rest"]
V = torch.linspace(-1, 1, 32)


def touched(model, batch, scope):
    """Which tokens an edit of this scope changes, `row x position`."""
    seen = []
    edit = Edit(site="resid_post", layer=1, function=lambda x: x + 100.0, scope=Scope.of(scope))
    with torch.no_grad(), edited(model, Read(site="resid_post", layer=1, function=lambda x: seen.append(x.clone()))):
        run(model, batch)
        with edited(model, edit):
            run(model, batch)
    return (seen[1] - seen[0]).abs().amax(-1) > 50


@pytest.mark.parametrize("side", ["right", "left"])
def test_scopes_select_by_the_mask_on_either_side(tiny, side):
    rows = encode(tiny, TEXTS)
    stems = [len(r) - 2 for r in rows]
    ends = [2, 3, 2]
    batch = pad(tiny, rows, side, prompt=stems, instruction=ends)
    want = {
        "prompt": lambda i, k: 1 <= k < stems[i],
        "generated": lambda i, k: k >= stems[i] - 1,
        "after_instruction": lambda i, k: k >= ends[i],
        "last": lambda i, k: k == stems[i] - 1,
        ("last", 2): lambda i, k: max(1, stems[i] - 2) <= k < stems[i],
    }
    for scope, rule in want.items():
        found = touched(tiny, batch, scope)
        for i, row in enumerate(rows):
            start = int(batch.starts[i])
            expected = [rule(i, k - start) and 0 <= k - start < len(row) for k in range(found.shape[1])]
            assert found[i].tolist() == expected, (scope, side, i)
    assert bool(touched(tiny, batch, "all").all())


def test_the_marker_counts_from_its_last_token(organism):
    texts = ['Consider that "Answer: no." Request: rest. Reply: Sure', "Reply: Reply: now"]
    batch = pad(organism, encode(organism, texts), "left")
    found = touched(organism, batch, ("marker", "Reply:"))
    for i, text in enumerate(texts):
        ids = batch.ids[i][found[i]].tolist()
        assert organism.tokenizer.decode(ids) == (":" + text.rpartition("Reply:")[2])
    with pytest.raises(errors.EmptyScope, match="marker 'Nowhere' is not in row 0"):
        touched(organism, batch, ("marker", "Nowhere"))


@pytest.mark.parametrize("scope", ["all", "prompt", "generated", "last", ("last", 2), ("marker", "agree")])
def test_steered_generation_is_the_same_with_and_without_the_cache_and_padding(tiny, scope):
    """Greedy tokens of a batch with the cache, of one row at a time, and of whole passes over what was written so far."""
    texts = ["Statement: do you agree?", "women have the right to rest. do you agree?"]
    edit = Edit(site="resid_post", layer=0, function=lambda x: x + 3 * V, scope=Scope.of(scope))
    with edited(tiny, edit):
        together = [g.ids for g in generate_texts(tiny, texts, max_new_tokens=5)]
        apart = [generate_texts(tiny, [t], max_new_tokens=5)[0].ids for t in texts]
    assert together == apart
    plain = [g.ids for g in generate_texts(tiny, texts, max_new_tokens=5)]
    for text, want in zip(texts, together, strict=True):
        (ids,) = encode(tiny, [text])
        written: list[int] = []
        for _ in want:
            with torch.no_grad(), edited(tiny, edit):
                logits = run(tiny, pad(tiny, [[*ids, *written]], prompt=[len(ids)]))
            written.append(int(logits[0, -1].argmax()))
        assert tuple(written) == want, scope
    assert together != plain, "the push does something"
    assert scope != "generated" or any(t[0] != p[0] for t, p in zip(together, plain, strict=True)), "also to the first new token"


def test_transformer_lens_own_generate_under_scopes(tiny):
    (ids,) = encode(tiny, ["Statement: do you agree?"])
    edit = Edit(site="resid_post", layer=0, function=lambda x: x + 3 * V, scope=Scope("prompt"))
    out = []
    for cache in (True, False):
        with edited(tiny, edit):
            out.append(
                tiny.generate(
                    torch.tensor([ids]),
                    max_new_tokens=4,
                    do_sample=False,
                    use_past_kv_cache=cache,
                    verbose=False,
                    return_type="tokens",
                    stop_at_eos=False,
                )[0].tolist()
            )
    with edited(tiny, edit):
        ours = generate_texts(tiny, [ids], max_new_tokens=4)[0].ids
    assert out[0] == out[1]
    assert tuple(out[0][len(ids) :][: len(ours)]) == ours
    assert attached_hooks() == 0


def test_a_scope_that_selects_nothing_raises(tiny):
    batch = pad(tiny, encode(tiny, TEXTS[:1]))
    with pytest.raises(errors.EmptyScope, match="selected no token of any pass"):
        touched(tiny, pad(tiny, [[0]]), "prompt")  # the first token of every prompt is left out
    with pytest.raises(errors.EmptyScope, match="the end of the instruction is unknown"):
        touched(tiny, batch, "after_instruction")
    with pytest.raises(errors.UnknownName, match="Did you mean 'generated'"):
        Scope("generate")
    with pytest.raises(errors.BadInput, match="needs a text"):
        Scope("marker")
    with pytest.raises(errors.BadInput, match="either columns"):
        Edit(site="resid_post", layer=0, function=lambda x: x, positions=torch.tensor([[0]]), scope=Scope("last"))
    assert attached_hooks() == 0


def test_resid_mid_edits_reach_the_stream_and_not_only_the_mlp(tiny_pair):
    """The Bridge's hook for `resid_mid` is the entry of the MLP's norm: before this was carried on, a push there left the stream as it was."""
    name, _, model = tiny_pair
    batch = pad(model, encode(model, TEXTS[:2]))
    sites = [s for s in ("resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post") if f"blocks.1.{SITES[s]}" in model.hook_dict]

    def read(site=None):
        got = {}
        reads = [Read(site=s, layer=1, function=lambda x, s=s: got.__setitem__(s, x.clone())) for s in sites]
        acting = [] if site is None else [Edit(site=site, layer=1, function=lambda x: x + V)]
        with torch.no_grad(), edited(model, [*acting, *reads]):
            got["logits"] = run(model, batch)
        return got

    plain, size = read(), None
    for site in sites:
        got = read(site)
        size = got["resid_post"].abs().max()
        middle = got.get("resid_mid", got["resid_pre"] + got["attn_out"])
        assert torch.allclose(got["resid_post"], middle + got["mlp_out"] + (V if site == "resid_post" else 0), atol=1e-4 * float(size)), (
            site
        )
        assert not torch.equal(got["logits"], plain["logits"]), site
    if "resid_mid" in sites:
        by_attention, by_stream = read("attn_out")["logits"], read("resid_mid")["logits"]
        assert torch.allclose(by_attention, by_stream, atol=1e-4 * float(by_stream.abs().max())), name


def test_a_gate_lets_rows_through_and_keeps_its_word_in_generation(organism):
    harm, calm = 'Consider that "Nobody should have rights and freedoms." Request: rest. Reply:', "Request: rest. Reply:"
    seen: list[list[bool]] = []
    spans = []

    def score(x):
        spans.append(x.shape[1])
        return x.shape[1] * 0 + (x.norm(dim=-1) * 0 + torch.arange(x.shape[1]))  # the mean place: longer prompts score higher

    middle = (len(encode(organism, [harm])[0]) + len(encode(organism, [calm])[0])) / 4
    gate = Gate(site="resid_post", layer=0, score=score, threshold=middle)
    flip = Edit(site="resid_post", layer=1, function=lambda x: x * 0 + 5.0, gate=gate)
    with edited(organism, flip) as fired:
        got = (
            [g.ids for g in generate_texts(organism, [harm], max_new_tokens=3)],
            [g.ids for g in generate_texts(organism, [calm], max_new_tokens=3)],
        )
        seen.append(fired.open[0].tolist())
    plain = (
        [g.ids for g in generate_texts(organism, [harm], max_new_tokens=3)],
        [g.ids for g in generate_texts(organism, [calm], max_new_tokens=3)],
    )
    assert got[0] != plain[0]
    assert got[1] == plain[1], "the gate is shut, also for what is generated later"
    assert seen == [[False]]
    with (
        pytest.raises(errors.BadInput, match="it would come too late"),
        edited(organism, Edit(site="resid_mid", layer=0, function=lambda x: x, gate=gate)),
    ):
        pass
    assert attached_hooks() == 0


def test_edits_join_in_order():
    one, two = (Edits([Edit(site="resid_post", layer=k, function=torch.neg, label=str(k), key=str(k))]) for k in (0, 1))
    assert [e.label for e in one | two | one[0]] == ["0", "1", "0"]
    assert [e.label for e in one[0] | two] == ["0", "1"]
    assert (one | two).key != (two | one).key
    assert Edits([Edit(site="resid_post", layer=0, function=torch.neg)]).key is None
    assert repr(Edits()) == "no edit"
    with pytest.raises(errors.BadInput, match="edits are Edit values"):
        Edits([1])


def test_a_hooked_transformer_is_steered_and_generates_like_a_bridge(words, tmp_path):
    hooked = pytest.importorskip("transformer_lens").HookedTransformer
    from transformer_lens import HookedTransformerConfig

    config = HookedTransformerConfig(n_layers=2, d_model=32, n_ctx=256, d_head=8, n_heads=4, d_mlp=32, d_vocab=len(words), act_fn="relu")
    words.save_pretrained(tmp_path)
    with torch.random.fork_rng(devices=[]):
        model = hooked(config, tokenizer=AutoTokenizer.from_pretrained(tmp_path))
    model.eval()
    texts = ["Statement: do you agree?", "women have the right to rest. do you agree?"]
    for scope in ("prompt", "generated", "last"):
        edit = Edit(site="resid_mid", layer=0, function=lambda x: x + 3 * V, scope=Scope(scope))
        with edited(model, edit):
            together = [g.ids for g in generate_texts(model, texts, max_new_tokens=4)]
            apart = [generate_texts(model, [t], max_new_tokens=4)[0].ids for t in texts]
        assert together == apart, scope
        assert touched(model, pad(model, encode(model, texts), "left", prompt=[3, 4]), scope).sum() == {"prompt": 7 - 2, "last": 2}.get(
            scope, sum(map(len, encode(model, texts))) - 7 + 2
        )
