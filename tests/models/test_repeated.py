"""Passes that take tokens before an edit from an earlier pass give what whole passes give."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from workbench.core import errors
from workbench.models import Change, Edit, Gate, Scope, edited, prefix, reweighted
from workbench.models import repeated as module
from workbench.models.forward import run
from workbench.models.narrow import narrowed
from workbench.models.repeated import Repeated, repeated
from workbench.models.tokens import encode, pad

TEXTS = ["women have the right to rest. do you agree?", "Statement: rest", "do you agree? Answer: yes no true false women"]
V = torch.linspace(-1, 1, 32)


def asked(model, rows, edits, *, share, read=("resid_post", 2), back=1):
    repeated = Repeated(model, rows, prompt=[len(r) for r in rows], instruction=[len(r) - 2 for r in rows])
    repeated.share = share
    at = torch.tensor([[len(r) - k for k in range(back, 0, -1)] for r in rows])
    repeated.ask(at)
    return *repeated.ask(at, edits, read=read), repeated


SITES = [("resid_post", s) for s in ("last", ("last", 2), "generated", "after_instruction", ("marker", " "), "prompt", "content", "all")]


@pytest.mark.parametrize(("site", "scope"), [*SITES, ("resid_pre", "last"), ("attn_out", "last"), ("mlp_out", ("last", 2))])
def test_a_resumed_pass_is_a_whole_one(tiny_pair, site, scope):
    name, _, model = tiny_pair
    rows = encode(model, TEXTS)
    if scope == ("marker", " "):
        rows = [r for r in rows if " " in model.tokenizer.decode(r)]
    edits = [Edit(site=site, layer=1, function=lambda x: x + 3 * V.to(x), scope=Scope.of(scope))]
    want, stream, _ = asked(model, rows, edits, share=False, back=2)
    got, other, repeated = asked(model, rows, edits, share=True, back=2)
    close = 1e-4 * float(want.abs().max())
    assert torch.allclose(got, want, atol=close), name
    assert torch.allclose(other, stream, atol=1e-4 * float(stream.abs().max()))
    plain, _, _ = asked(model, rows, [], share=False, back=2)
    assert not torch.allclose(want, plain, atol=10 * close), "the push does something"
    if scope == "last" and name in ("llama", "gpt2"):
        assert repeated.kept > 0, "it was shared"


def test_sinks_are_left_out_alike(tiny):
    """Of several tokens that a scope selects, one is far longer than the rest."""
    rows = encode(tiny, TEXTS[:1])
    long = Edit(site="resid_pre", layer=0, function=lambda x: x * 50, positions=torch.tensor([[len(rows[0]) - 2]]))
    push = Edit(site="resid_post", layer=1, function=lambda x: x + 3 * V, scope=Scope("last", k=4))
    made = {}
    for share in (False, True):
        repeated = Repeated(tiny, rows)
        repeated.share = share
        at = torch.tensor([[len(rows[0]) - 1]])
        repeated.ask(at)
        made[share] = repeated.ask(at, lambda batch: [long, push])[0]
        assert bool(repeated.kept) == share
    assert torch.allclose(made[True], made[False], atol=1e-4)
    everything = Repeated(tiny, rows).ask(at, [long, Edit(site="resid_post", layer=1, function=lambda x: x + 3 * V)])[0]
    assert not torch.allclose(everything, made[False], atol=1e-2)


def test_what_is_kept_is_of_these_weights_and_of_no_other_edit(tiny):
    rows = encode(tiny, TEXTS)
    at = torch.tensor([[len(r) - 1] for r in rows])
    repeated, push = Repeated(tiny, rows), [Edit(site="resid_post", layer=1, function=lambda x: x + V, scope=Scope("last"))]
    before = repeated.ask(at, push)[0]
    assert repeated.kept
    with reweighted(tiny, [Change(parameter="model.layers.0.mlp.up_proj.weight", function=lambda w: w * 0.5, label="half")]):
        halved = repeated.ask(at, push)[0]
        whole = Repeated(tiny, rows)
        whole.share = False
        assert torch.allclose(halved, whole.ask(at, push)[0], atol=1e-4)
    assert not torch.allclose(halved, before, atol=1e-2)
    assert torch.allclose(repeated.ask(at, push)[0], before, atol=1e-5)
    with edited(tiny, Edit(site="resid_post", layer=0, function=lambda x: -x, scope=Scope("prompt"))):
        outer = repeated.ask(at, push)[0]
        whole = Repeated(tiny, rows)
        whole.share = False
        assert torch.equal(outer, whole.ask(at, push)[0])
    gate = Gate(site="resid_post", layer=0, score=lambda x: x[..., 0] * 0 + 1, threshold=2.0)
    gated = [Edit(site="resid_post", layer=1, function=lambda x: x + V, scope=Scope("last"), gate=gate)]
    plain = Repeated(tiny, rows).ask(at)[0]
    assert torch.allclose(repeated.ask(at, gated)[0], plain, atol=1e-4), "a gate that lets no row through"
    with pytest.raises(errors.EmptyScope, match="marker 'nowhere'"):
        repeated.ask(at, [Edit(site="resid_post", layer=1, function=torch.neg, scope=Scope("marker", text="nowhere"))])


def test_no_more_is_kept_than_there_is_room_for(tiny, monkeypatch):
    rows = encode(tiny, TEXTS)
    at = torch.tensor([[len(r) - 1] for r in rows])
    push = [Edit(site="resid_post", layer=1, function=lambda x: x + V, scope=Scope("last"))]
    first = Repeated(tiny, rows)
    want = first.ask(at, push)[0]
    monkeypatch.setattr(module, "BYTES", first.kept + 10)
    second = Repeated(tiny, rows)
    assert torch.allclose(first.ask(at, push)[0], want, atol=1e-5)
    assert torch.allclose(second.ask(at, push)[0], want, atol=1e-5)
    assert first.kept > 0, "it was asked since the other was made"
    assert second.kept == 0
    assert torch.allclose(second.ask(at, push)[0], want, atol=1e-5)
    assert second.kept > 0, "asked again, and the other was not"
    assert first.kept == 0
    for _ in range(3):
        first.ask(at, push)
        second.ask(at, push)
        assert second.kept > 0, "the two take turns: neither frees the other"
    third = Repeated(tiny, rows)
    assert torch.allclose(third.ask(at, push)[0], want, atol=1e-5)
    assert second.kept == 0, "not asked any more: it makes room"
    assert third.kept > 0


def test_the_same_rows_are_read_once_as_long_as_somebody_holds_them(tiny):
    rows = encode(tiny, TEXTS)
    ends = {"prompt": [len(r) for r in rows]}
    held = repeated(tiny, rows, **ends)
    assert repeated(tiny, rows, **ends) is held
    assert repeated(tiny, rows, prompt=[len(r) - 1 for r in rows]) is not held
    assert repeated(tiny, rows[:2], prompt=ends["prompt"][:2]) is not held
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(lambda: repeated(tiny, rows, **ends)).result() is not held, "two threads do not run one at a time"


def test_a_gate_on_the_last_token_is_decided_in_a_resumed_pass(tiny):
    """It lets some rows through, and not others."""
    rows = encode(tiny, TEXTS)
    at = torch.tensor([[len(r) - 1] for r in rows])
    _, stream = Repeated(tiny, rows).ask(at, read=("resid_post", 0))
    middle = float(stream[:, 0, 0].median()) - 1e-3
    made = {}
    for pool in ("last", "mean"):
        gate = Gate(site="resid_post", layer=0, score=lambda x: x[..., 0], threshold=middle, pool=pool)
        push = [Edit(site="resid_post", layer=1, function=lambda x: x + 3 * V, scope=Scope("last"), gate=gate)]
        one, whole = Repeated(tiny, rows), Repeated(tiny, rows)
        whole.share = False
        want, made[pool] = whole.ask(at, push)[0], one.ask(at, push)[0]
        assert torch.allclose(made[pool], want, atol=1e-4)
        assert bool(one.kept) == (pool == "last"), "the mean is over all of the prompt"
    moved = (made["last"] - Repeated(tiny, rows).ask(at)[0]).abs().amax((1, 2)) > 1e-2
    assert moved.tolist() == (stream[:, 0, 0] > middle).tolist()
    assert 0 < int(moved.sum()) < len(rows)


def test_only_the_tokens_asked_for_are_unembedded(tiny_pair):
    name, _, model = tiny_pair
    batch = pad(model, encode(model, TEXTS))
    at = torch.tensor([[1, 2], [0, 1], [3, 1]])
    seen = []
    hook = model.unembed.register_forward_hook(lambda _, args, out: seen.append(tuple(out.shape[:2])))
    try:
        with torch.no_grad():
            whole, few = run(model, batch), run(model, batch, at=at)
    finally:
        hook.remove()
    assert torch.allclose(few, whole[torch.arange(3)[:, None], at], atol=1e-5), name
    assert seen == [tuple(batch.ids.shape), (3, 2)]
    with torch.no_grad(), narrowed(model, at[:2]) as narrow:  # a pass of other rows is left whole
        assert narrow(model(batch.ids, return_type="logits", attention_mask=batch.mask)).shape[:2] == (2, 2)


def test_a_read_under_edits_sees_the_edited_stream(tiny):
    rows, at = encode(tiny, TEXTS[:1]), torch.tensor([[4]])
    push = Edit(site="resid_post", layer=1, function=lambda x: x * 0, scope=Scope("last"))
    _, stream = Repeated(tiny, [rows[0][:5]]).ask(at, [push], read=("resid_post", 1))
    assert float(stream.abs().max()) == 0.0


def test_blocks_below_an_edit_are_not_computed_again(tiny_pair, monkeypatch):
    name, _, model = tiny_pair
    rows, runs = encode(model, TEXTS), []
    at = torch.tensor([[len(r) - 1] for r in rows])
    push = [Edit(site="resid_mid" if name == "llama" else "resid_post", layer=2, function=lambda x: x + 3 * V, scope=Scope("prompt"))]
    repeated, whole = Repeated(model, rows), Repeated(model, rows)
    whole.share = False
    want = whole.ask(at, push)[0]
    for _ in range(2):
        assert torch.allclose(repeated.ask(at, push)[0], want, atol=1e-5 * float(want.abs().max())), name
    for k, block in enumerate(model.blocks):
        own = block.ln1.forward
        monkeypatch.setitem(block.ln1.__dict__, "forward", lambda *args, k=k, own=own, **more: (runs.append(k), own(*args, **more))[1])
    repeated.ask(at, push)
    assert set(runs) == {2}, "only the edited block and those above it"
    repeated.ask(at, push, read=("resid_post", 1))
    runs.clear()
    repeated.ask(at, push, read=("resid_post", 1))
    assert set(runs) == {1, 2}
    lower = [Edit(site="resid_post", layer=1, function=lambda x: -x, scope=Scope("prompt"))]
    assert torch.allclose(repeated.ask(at, lower)[0], whole.ask(at, lower)[0], atol=1e-5 * float(want.abs().max()))
    broken = [Edit(site="resid_post", layer=2, function=lambda x: x / 0, scope=Scope("prompt"))]
    repeated.ask(at, broken)
    assert torch.allclose(repeated.ask(at, push)[0], want, atol=1e-5 * float(want.abs().max()))
    assert not any("forward" in b.__dict__ for b in model.blocks)


def test_a_resumed_pass_begins_at_the_edited_block(tiny, monkeypatch):
    rows, runs = encode(tiny, TEXTS), []
    at = torch.tensor([[len(r) - 1] for r in rows])
    repeated, whole = Repeated(tiny, rows), Repeated(tiny, rows)
    whole.share = False

    def push(layer, c=3.0):
        return [Edit(site="resid_post", layer=layer, function=lambda x: x + c * V.to(x), scope=Scope("last"))]

    repeated.ask(at, push(1))
    for k, block in enumerate(tiny.blocks):
        own = block.ln1.forward
        monkeypatch.setitem(block.ln1.__dict__, "forward", lambda x, k=k, own=own: (runs.append((k, x.shape[1])), own(x))[1])
    got, stream = repeated.ask(at, push(1, -2.0), read=("resid_post", 2))
    assert repeated.kept > 0
    assert set(runs) == {(1, 1), (2, 1)}, "one token, from the block of the push on"
    want, other = whole.ask(at, push(1, -2.0), read=("resid_post", 2))
    assert torch.allclose(got, want, atol=1e-5 * float(want.abs().max()))
    assert torch.allclose(stream, other, atol=1e-5)
    with reweighted(tiny, [Change(parameter="model.layers.0.mlp.up_proj.weight", function=lambda w: w * 0.5, label="half")]):
        assert torch.allclose(repeated.ask(at, push(1))[0], whole.ask(at, push(1))[0], atol=1e-4)
    assert torch.allclose(repeated.ask(at, push(0))[0], whole.ask(at, push(0))[0], atol=1e-4)


@pytest.mark.parametrize("beginning", ["Statement: women have the right to rest. do you agree? ", ""])
def test_what_all_rows_begin_with_is_read_once(tiny_pair, beginning, monkeypatch):
    name, _, model = tiny_pair
    rows, seen = encode(model, [beginning + t for t in TEXTS]), []
    at = torch.tensor([[len(r) - 1] for r in rows])
    push = [Edit(site="resid_post", layer=1, function=lambda x: x + 3 * V.to(x), scope=Scope("last"))]
    whole, shared = Repeated(model, rows), Repeated(model, rows)
    whole.share = False
    want = whole.ask(at, push)[0]
    Repeated(model, rows).ask(at, push)  # the trial
    monkeypatch.setattr(prefix, "_run", lambda m, ids, *rest, own=prefix._run: (seen.append(tuple(ids.shape)), own(m, ids, *rest))[1])
    got = shared.ask(at, push)[0]
    assert torch.allclose(got, want, atol=1e-4 * float(want.abs().max())), name
    if shared.kept:
        widest = max(map(len, rows))
        common = prefix._common(shared._left)
        assert (common >= prefix.COMMON) == bool(beginning)
        least = widest - min(map(len, rows))
        assert least > 0, "rows of unequal length"
        assert seen == ([(1, common), (len(rows), widest - 1 - common)] if beginning else [(len(rows), widest - 1)])
