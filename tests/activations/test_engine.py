"""The trunk gives the Bridge's numbers for less work, and steps aside where it would give others."""

import warnings

import pytest
import torch
from conftest import tiny_model

import workbench as wb
from workbench.activations import choose, engine
from workbench.activations.choose import choose as choose_engine
from workbench.activations.engine import Engine, Job
from workbench.activations.planner import build
from workbench.core import errors
from workbench.models import Edit, attention, edited, info, wrap
from workbench.models import trunk as trunk_module
from workbench.models.attention import attend
from workbench.models.known import KNOWN, trunk_of
from workbench.models.tokens import encode_pairs
from workbench.models.trunk import Trunk
from workbench.prompts import ContrastPair, PromptSet

TOLERANCE = {"gemma2": 1e-4}


def apart(got, want):
    """Largest difference, relative to the layer's largest value."""
    scale = want.flatten(3).abs().amax((0, 1, 3)).clamp(min=1e-9)
    return float(((got - want).flatten(3).abs().amax((0, 1, 3)) / scale).max())


# ------------------------------------------------------------------ attention


@pytest.mark.parametrize("softcap", [None, 3.0])
@pytest.mark.parametrize("form", ["causal", "mask", "free"])
def test_attend_is_softmax(softcap, form, monkeypatch):
    rng = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 3, 7, 8, generator=rng) for _ in range(3))
    mask = {"causal": torch.ones(7, 7).tril().bool(), "mask": torch.rand(2, 1, 7, 7, generator=rng) < 0.7, "free": None}[form]
    if form == "mask":
        mask[..., 0] = True
    scores = q @ k.transpose(-1, -2) * 0.3
    scores = scores if softcap is None else softcap * torch.tanh(scores / softcap)
    scores = scores if mask is None else scores.masked_fill(~mask, float("-inf"))
    for size in (2**20, 60):  # whole, and a query or two at a time
        monkeypatch.setitem(attention.SCORES, "cpu", size)
        out, top, total = attend(q, k, v, mask=mask if form == "mask" else None, causal=form == "causal", scale=0.3, softcap=softcap)
        assert torch.allclose(out, scores.softmax(-1) @ v, atol=1e-6)
        assert torch.allclose(top + total.log(), scores.logsumexp(-1), atol=1e-6)


def test_a_query_that_may_look_at_nothing_gives_nothing():
    q = torch.ones(1, 1, 2, 4)
    mask = torch.tensor([[True, True], [False, False]])[None, None]
    out, top, total = attend(q, q, q, mask=mask, causal=False, scale=1.0, softcap=None)
    assert top[0, 0, 1] == float("-inf")
    assert total[0, 0, 1] == 0
    assert (out[0, 0, 1] == 0).all()
    assert torch.isfinite(out).all()


# ------------------------------------------------------------------ exactness


@pytest.mark.parametrize("budget", [24, 4096])
def test_the_trunk_gives_the_bridges_numbers_at_every_site(sharp, branching, budget):
    kind, bridge = sharp
    for site in ("resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out", "z"):
        if kind == "neox" and site == "resid_mid":
            continue  # parallel blocks have none
        fast = wb.capture(bridge, branching, site=site, engine="trunk", batch_tokens=budget, progress=False)
        slow = wb.capture(bridge, branching, site=site, engine="bridge", progress=False)
        assert fast.provenance["reader"] == "trunk"
        assert apart(fast.values, slow.values) < TOLERANCE.get(kind, 1e-5), site


@pytest.mark.parametrize("limit", [1, 6])
def test_wherever_the_trie_is_cut(sharp, branching, limit, monkeypatch):
    kind, bridge = sharp
    monkeypatch.setattr(engine, "LIMIT", limit)
    for position in ("last", "stem_last", "instruction_last", "mean", "all"):
        fast = wb.capture(bridge, branching, position=position, engine="trunk", batch_tokens=32, progress=False)
        slow = wb.capture(bridge, branching, position=position, engine="bridge", progress=False)
        assert apart(fast.values, slow.values) < TOLERANCE.get(kind, 1e-5), position
        if position == "all":
            assert torch.equal(fast.mask, slow.mask)
            assert (fast.values[~fast.mask[:, :, None].expand(-1, -1, 3, -1)] == 0).all()


def test_exact_but_for_rounding(tiny_pair, words, branching):
    """Scores of several hundred, where float32 itself is off by 1e-4.

    In float64 the trunk is GPT-2's forward to 1e-10; the other architectures take softmax and norm in float32 whatever the dtype.
    """
    kind, _, bridge = tiny_pair
    hf = tiny_model(kind, len(words)).double()
    double = wrap(tiny_model(kind, len(words)).double(), words, name=kind, bos=None if kind == "qwen2" else 0, device="cpu")
    rows = [r for x in encode_pairs(bridge, branching) for r in (x.negative, x.positive)]
    with torch.no_grad():
        states = [hf(torch.tensor([r]), output_hidden_states=True).hidden_states for r in rows]
    want = torch.stack([torch.stack([s[layer + 1][0, -1] for layer in (0, 1)]) for s in states])
    exact = read(Engine(model=double, site="resid_post", trunk=trunk_of(double), budget=40), rows)
    assert exact.dtype == torch.float64
    assert float(((exact - want).abs().amax((0, 2)) / want.abs().amax((0, 2))).max()) < (1e-10 if kind == "gpt2" else 2e-5)
    ours, theirs = (read(choose_engine(bridge, way=way, budget=40), rows).double() for way in ("trunk", "bridge"))
    assert (ours - want).abs().max() < 5 * max(float((theirs - want).abs().max()), 1e-6), "no further from the truth than plain float32"


def read(reader, rows):
    got = reader.read([Job(ids=r, read=[len(r) - 1]) for r in rows], [0, 1], [])
    return got.values[[int(a[0]) for a in got.at]]


@pytest.mark.parametrize("tiny_pair", ["gemma2"], indirect=True)
def test_the_window_is_felt(tiny_pair, branching):
    """With a window of 8 Gemma-2 must differ from itself without: otherwise the test above proves nothing about windows."""
    _, _, bridge = tiny_pair
    shell = trunk_of(bridge).shell
    want = wb.capture(bridge, branching, engine="trunk", progress=False).values
    blocks = [layer.self_attn for layer in shell.model.layers if layer.self_attn.sliding_window]
    assert blocks
    try:
        for block in blocks:
            block.sliding_window = 10_000
        assert apart(wb.capture(bridge, branching, engine="trunk", progress=False).values, want) > 1e-2
    finally:
        for block in blocks:
            block.sliding_window = 8


def test_answers_come_from_the_same_pass(tiny_pair, branching):
    kind, _, bridge = tiny_pair
    acts = wb.capture(bridge, branching, logits="answers", progress=False)
    asked, alone = wb.answers_of(acts), wb.answers(bridge, branching, progress=False)
    for i, (pair, ids) in enumerate(zip(branching, encode_pairs(bridge, branching), strict=True)):
        logp = bridge(torch.tensor([ids.negative[: ids.stem]]), return_type="logits")[0, -1].float().log_softmax(-1)
        for column, ending in (("logp_negative", pair.negative), ("logp_positive", pair.positive)):
            tokens = wb.models.tokens.answer_tokens(bridge, (pair.negative, pair.positive))[ending == pair.positive]
            assert asked[column][i] == pytest.approx(float(logp[tokens].logsumexp(0)), abs=1e-3 if kind == "gemma2" else 1e-4)
    assert abs(asked["margin"] - alone["margin"]).max() < 1e-4
    assert apart(acts.values, wb.capture(bridge, branching, progress=False).values) < 1e-5
    # a kept prefix must reach the blocks above the highest layer read, too
    low = wb.answers_of(wb.capture(bridge, branching, layers=[0], batch_tokens=24, logits="answers", progress=False))
    assert abs(low["margin"] - alone["margin"]).max() < (1e-2 if kind == "gemma2" else 1e-3)
    few = wb.capture(bridge, branching, logits=[7, 3], position="instruction_last", progress=False)
    assert few.logp.shape == (len(branching), 2)
    stem = encode_pairs(bridge, branching)[0]
    logp = bridge(torch.tensor([stem.negative[: stem.stem]]), return_type="logits")[0, -1].log_softmax(-1)
    assert torch.allclose(few.logp[0], logp[[7, 3]], atol=1e-3)


# ------------------------------------------------------------------ work


def test_each_prefix_is_computed_once_and_nothing_that_nobody_reads(tiny, branching):
    wb.capture(tiny, branching, layers=[0], progress=False)  # the first reading tries the trunk out, in passes of its own
    shell = trunk_of(tiny).shell
    counts = {"embed": 0, "layer 1": 0, "layer 2": 0, "head": 0}

    def count(name):
        def add(module, args, out):
            counts[name] += out.shape[-2] if name != "embed" else args[0].numel()

        return add

    places = {
        "embed": shell.model.embed_tokens,
        "layer 1": shell.model.layers[1].mlp,
        "layer 2": shell.model.layers[2],
        "head": shell.lm_head,
    }
    handles = [m.register_forward_hook(count(n)) for n, m in places.items()]
    rows = [r for x in encode_pairs(tiny, branching) for r in (x.negative, x.positive)]
    try:
        wb.capture(tiny, branching, layers=[0, 1], batch_tokens=40, progress=False)
        unique = len(build(rows))
        assert counts == {"embed": unique, "layer 1": unique, "layer 2": 0, "head": 0}
        assert unique < sum(map(len, rows)) / 3
        wb.answers(tiny, branching, progress=False)
        assert counts["head"] == len({tuple(x.negative[: x.stem]) for x in encode_pairs(tiny, branching)}), (
            "one row of logits per distinct stem"
        )
    finally:
        for handle in handles:
            handle.remove()


def test_the_shell_shares_every_parameter(tiny_pair):
    _, _, bridge = tiny_pair
    mine = {p.data_ptr() for p in bridge.parameters()}
    assert {p.data_ptr() for p in trunk_of(bridge).shell.parameters()} <= mine


# ------------------------------------------------------------------ where it must step aside


def test_a_steered_capture_differs_and_equals_the_slow_way(tiny, branching, tmp_path):
    plain = wb.capture(tiny, branching, progress=False)
    edit = Edit(site="resid_post", layer=0, function=lambda x: x + 0.5, label="push", key="half")
    with edited(tiny, edit):
        pushed = wb.capture(tiny, branching, store=tmp_path / "pushed", progress=False)
        with pytest.raises(errors.BadInput, match="cannot be read through the trunk: an edit is active"):
            wb.capture(tiny, branching, engine="trunk", progress=False)
    assert pushed.provenance["reader"] == "bridge: an edit is active"
    assert pushed.provenance["edits"] == ["push at resid_post[0] half"]
    assert apart(pushed.values, plain.values) > 0.01
    for i in (0, 7, 17):
        ids = encode_pairs(tiny, branching)[i].positive
        with tiny.hooks(fwd_hooks=[("blocks.0.hook_resid_post", lambda x, hook: x + 0.5)]):
            _, cache = tiny.run_with_cache(torch.tensor([ids]))
        want = torch.stack([cache[f"blocks.{n}.hook_resid_post"][0, -1] for n in (1, 2)])
        assert torch.allclose(pushed.values[i, 1, 1:], want, atol=1e-4)
    # a store of one is not taken for the other
    with pytest.raises(errors.OutputFolder, match="with edits"):
        wb.capture(tiny, branching, store=tmp_path / "pushed", progress=False)
    nameless = edited(tiny, Edit(site="resid_post", layer=0, function=lambda x: x))
    with pytest.raises(errors.BadInput, match="give the edit a key"), nameless:
        wb.capture(tiny, branching, store=tmp_path / "nameless", progress=False)
    assert not (tmp_path / "nameless").exists()


def test_changed_weights_are_read_as_they_are(words, branching):
    model = wrap(tiny_model("gpt2", len(words)), words, name="mine", bos=0, device="cpu")
    before = wb.capture(model, branching, progress=False)
    with torch.no_grad():
        model.blocks[0].attn.q.weight.mul_(3)  # a copy that only the Bridge has: the shell would not see it
    after = wb.capture(model, branching, progress=False)
    slow = wb.capture(model, branching, engine="bridge", progress=False)
    assert after.provenance["reader"] == "bridge: its weights have changed since it was loaded"
    assert after.provenance["model"]["digest"] != before.provenance["model"]["digest"]
    assert torch.equal(after.values, slow.values)


def test_changes_that_torch_does_not_count(words, branching):
    model = wrap(tiny_model("gpt2", len(words), std=None), words, name="mine", bos=0, device="cpu")
    assert wb.capture(model, branching, progress=False).provenance["reader"] == "trunk"
    digest = info(model).digest
    model.blocks[1].mlp.out.weight.data[5] = 0  # one row, and `.data` leaves no trace
    acts = wb.capture(model, branching, progress=False)
    assert acts.provenance["reader"] == "bridge: its weights have changed since it was loaded"
    assert info(model).digest != digest


def test_answers_that_are_nan_are_not_a_no(words, branching):
    model = wrap(tiny_model("gpt2", len(words), std=None), words, name="mine", bos=0, device="cpu")
    with torch.no_grad():
        model.blocks[2].mlp.out.bias[0] = float("nan")  # above the layer that is read
    with pytest.raises(errors.NotFinite, match="the first in item 0, variant 0, the log-probabilities"):
        wb.capture(model, branching, layers=[0], logits="answers", progress=False)
    acts = wb.capture(model, branching, layers=[0], logits="answers", on_nan="count", progress=False)
    with pytest.raises(errors.NotFinite, match="the answer of item 0 is NaN"):
        wb.answers_of(acts)
    with pytest.raises(errors.NotFinite):
        wb.answers(model, branching, progress=False)


def test_hooks_of_others_are_respected(tiny, branching, tmp_path):
    plain = wb.capture(tiny, branching, progress=False)
    with tiny.hooks(fwd_hooks=[("blocks.0.hook_resid_post", lambda x, hook: x * 2)]):
        theirs = wb.capture(tiny, branching, progress=False)
        with pytest.raises(errors.BadInput, match="hooks of others"):
            wb.capture(tiny, branching, store=tmp_path / "x", progress=False)
    assert theirs.provenance["reader"] == "bridge: hooks of others hang on it"
    assert torch.allclose(theirs.layer(0), plain.layer(0) * 2, atol=1e-4)
    assert wb.capture(tiny, branching, progress=False).provenance["reader"] == "trunk"


def test_an_architecture_that_fails_the_trial_is_read_through_the_bridge(words, branching, monkeypatch):
    """Attention that forgets the prefix: the trial must see it, say so once per call, and the numbers must be right."""
    model = wrap(tiny_model("llama", len(words), std=None), words, name="odd", bos=0, device="cpu")
    real = trunk_module.trie_attention

    def forgets(module, query, *args, **kwargs):
        kept = trunk_module.CURRENT.get()
        kept.now = type(kept.now)(**{**kept.now.__dict__, "prefixed": ()})
        return real(module, query, *args, **kwargs)

    registry = trunk_module.AttentionInterface._global_mapping
    monkeypatch.setitem(registry, trunk_module.NAME, forgets)
    with pytest.warns(UserWarning, match=r"odd is read through the Bridge, without sharing prefixes: in a trial .* differed"):
        acts = wb.capture(model, branching, progress=False)
    monkeypatch.undo()
    choose._TRIED.clear()
    want = wb.capture(model, branching, engine="trunk", progress=False)
    assert apart(acts.values, want.values) < 1e-5


def test_what_a_short_trial_cannot_show_is_refused(words, branching):
    for change, message in (
        ({"attention_chunk_size": 64}, "chunked attention"),
        ({"layer_types": ["full_attention", "linear_attention", "full_attention"]}, "mix positions in another way"),
        ({"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4}}, "length of the whole batch"),
    ):
        hf = tiny_model("llama", len(words))
        for name, value in change.items():
            setattr(hf.config, name, value)
        assert message in Trunk(hf).why_not


def test_a_bridge_booted_elsewhere(words, branching, monkeypatch):
    model = wrap(tiny_model("llama", len(words), std=None), words, name="mine", bos=0, device="cpu")
    want = wb.capture(model, branching, engine="trunk", progress=False)
    KNOWN.pop(model)  # as if somebody else had booted it
    with pytest.warns(UserWarning, match="is read through the Bridge, without sharing prefixes: it was booted elsewhere; load it by name"):
        acts = wb.capture(model, branching, progress=False)
    assert apart(acts.values, want.values) < 1e-5


# ------------------------------------------------------------------ memory


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
def test_out_of_memory_halves_the_budget_and_says_so_once(tiny, branching, monkeypatch, error):
    want = wb.capture(tiny, branching, progress=False)
    real, sizes = Trunk.run, []

    def small(self, now, kept, taps, *, hidden):
        if len(now.ids) > 60:
            raise error
        sizes.append(len(now.ids))
        return real(self, now, kept, taps, hidden=hidden)

    monkeypatch.setattr(Trunk, "run", small)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        got = wb.capture(tiny, branching, batch_tokens=400, progress=False)
    assert [str(w.message)[:60] for w in said] == ["out of memory: going on with passes of 200 tokens, or fewer "]
    assert apart(got.values, want.values) < 1e-5
    assert max(sizes) > 10


def test_when_nothing_fits(tiny, branching, monkeypatch):
    def never(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Trunk, "run", never)
    with pytest.warns(UserWarning, match="out of memory"), pytest.raises(errors.OutOfMemory, match="not even a pass of one prompt fits"):
        wb.capture(tiny, branching, engine="trunk", progress=False)


def test_other_errors_are_not_taken_for_memory(tiny, monkeypatch):
    reader = choose_engine(tiny)

    def breaks(*_, **__):
        raise RuntimeError("shape mismatch")

    monkeypatch.setattr(Trunk, "run", breaks)
    with pytest.raises(RuntimeError, match="shape mismatch"):
        reader.read([Job(ids=[1, 2], read=[1])], [0], [])
    assert reader.budget == 2048


def test_progress_counts_tokens(tiny, branching):
    done = []
    reader = Engine(model=tiny, site="resid_post", trunk=trunk_of(tiny), budget=50, tick=done.append)
    rows = [r for x in encode_pairs(tiny, branching) for r in (x.negative, x.positive)]
    reader.read([Job(ids=r, read=[len(r) - 1]) for r in rows], [2], [])
    assert sum(done) == len(build(rows))
    assert len(done) > 3


def test_attention_patterns(tiny_pair, branching):
    kind, hf, bridge = tiny_pair
    found = wb.attention_patterns(bridge, branching, [0, 5], variant=0, layers=[0, 2])
    for one, item in zip(found, (0, 5), strict=True):
        ids = encode_pairs(bridge, branching)[item].negative
        assert one.values.shape == (2, 4, len(ids), len(ids))
        assert len(one.tokens) == len(ids)
        assert torch.allclose(one.values.sum(-1), torch.ones(()), atol=1e-5)
        want = hf(torch.tensor([ids]), output_attentions=True).attentions
        assert torch.allclose(one.values, torch.stack([want[0][0], want[2][0]]), atol=1e-3 if kind == "gemma2" else 1e-4)
    with pytest.raises(errors.BadInput, match="no item was named"):
        wb.attention_patterns(bridge, branching, [])
    with pytest.raises(errors.BadInput, match="index 99"):
        wb.attention_patterns(bridge, branching, [99])
    long = PromptSet([ContrastPair(stem="women " * 200, negative=" no", positive=" yes", label=1)] * 1200)
    with pytest.raises(errors.BadInput, match="GiB; name fewer"):
        wb.attention_patterns(bridge, long, range(1200))


@pytest.mark.parametrize("sound", [True, False])
def test_half_precision_that_hides_a_fault_is_tried_in_float32(words, branching, monkeypatch, sound):
    """Where rounding alone moves the numbers past any limit, float32 tells a trunk that is right from one that forgets the prefix."""
    model = wrap(tiny_model("llama", len(words), std=None).to(torch.bfloat16), words, name="coarse", bos=0, device="cpu")
    monkeypatch.setattr(choose, "allowed", lambda _: 1e-9)  # as of a model whose rounding is coarse
    if not sound:
        real = trunk_module.trie_attention

        def forgets(module, query, *args, **kwargs):
            kept = trunk_module.CURRENT.get()
            kept.now = type(kept.now)(**{**kept.now.__dict__, "prefixed": ()})
            return real(module, query, *args, **kwargs)

        monkeypatch.setitem(trunk_module.AttentionInterface._global_mapping, trunk_module.NAME, forgets)
        with pytest.warns(UserWarning, match=r"in float32 too: in a trial the trunk's resid_post differed from Hugging Face's"):
            assert wb.capture(model, branching, progress=False).provenance["reader"].startswith("bridge")
        return
    acts = wb.capture(model, branching, progress=False)
    assert acts.provenance["reader"] == "trunk"
    assert acts.values.dtype == torch.float32
    assert next(model.parameters()).dtype == torch.bfloat16


@pytest.mark.filterwarnings("ignore:smollm2")
def test_a_real_model_in_half_precision_is_read_through_the_trunk_no_worse_than_hugging_face(smollm2_folder):
    """bfloat16 moves this model's last layer by more than half of the largest value: in plain Hugging Face code as well."""
    from transformers import AutoModelForCausalLM

    prompts = wb.prompts.udhr("base_short", n=6, seed=1)
    half = wb.load_model(str(smollm2_folder), device="cpu", dtype="bfloat16")
    acts = wb.capture(half, prompts, position="stem_last", progress=False)
    assert acts.provenance["reader"] == "trunk"
    states = {}
    for dtype in (torch.float32, torch.bfloat16):
        plain = AutoModelForCausalLM.from_pretrained(smollm2_folder, dtype=dtype)
        with torch.no_grad():
            out = [plain(torch.tensor([p.positive[: p.stem]]), output_hidden_states=True) for p in encode_pairs(half, prompts)]
        states[dtype] = torch.stack([torch.stack(o.hidden_states[1:-1])[:, 0, -1].float() for o in out])
    want = states[torch.float32]
    ours, theirs = ((x - want).norm(dim=-1).mean(0) for x in (acts.values[:, 0, :-1], states[torch.bfloat16]))
    assert (ours < 1.5 * theirs).all()
