"""Two threads on one model: edits and readings act in their own, and changed weights are refused to others."""

import asyncio
import contextvars
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

import workbench as wb
from workbench.core import errors
from workbench.models import Change, Edit, Read, Scope, edited, generate_texts, info, reweighted
from workbench.models.forward import run
from workbench.models.hooks import active_edits, attached_hooks, foreign_hooks
from workbench.models.known import trunk_of
from workbench.models.tokens import encode, pad
from workbench.models.weights import parameters

TEXTS = ["women have the right to rest", "do you agree?"]


def logits(model, texts=TEXTS):
    with torch.no_grad():
        return run(model, pad(model, encode(model, texts)))


def push(size, scope="last"):
    return Edit(site="resid_post", layer=0, function=lambda x: x + size, scope=Scope.of(scope))


def halved(model):
    name = next(n for n in parameters(model) if n.endswith("down_proj.weight"))
    return reweighted(model, Change(parameter=name, function=lambda w: w / 2))


class Meanwhile:
    """Another thread, which enters a block and holds it open while this thread does something."""

    def __init__(self, block):
        self.block, self.open, self.done, self.error = block, threading.Event(), threading.Event(), None

    def _hold(self):
        try:
            with self.block():
                self.open.set()
                self.done.wait(60)
        except BaseException as error:
            self.error = error
        finally:
            self.open.set()

    def __enter__(self):
        self.thread = threading.Thread(target=self._hold)
        self.thread.start()
        assert self.open.wait(60)
        return self

    def __exit__(self, *_):
        self.done.set()
        self.thread.join(60)


def test_edits_and_readings_act_in_their_own_thread(tiny):
    plain, seen = logits(tiny), []
    with Meanwhile(lambda: edited(tiny, [push(3.0), Read(site="resid_post", layer=0, function=seen.append)])) as other:
        assert attached_hooks() > 0
        assert torch.equal(logits(tiny), plain)
        assert active_edits(tiny) == []
        assert not foreign_hooks(tiny)
        with edited(tiny, push(1.0)):
            mine = logits(tiny)
        assert [e.label for e in active_edits(tiny)] == []
    assert isinstance(other.error, errors.HookNotFired), "its own edit has fired in no pass of its own"
    assert seen == []
    assert not torch.equal(mine, plain)
    with edited(tiny, push(1.0)):
        assert torch.equal(logits(tiny), mine)


def test_threads_with_edits_of_their_own_do_not_mix(tiny):
    def under(size, scope, texts):
        with edited(tiny, push(size, scope)):
            return logits(tiny, texts)

    work = [(float(k), scope, TEXTS[: 1 + k % 2]) for k in range(4) for scope in ("last", "prompt", "generated")]
    alone = [under(*w) for w in work]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(4):
            together = list(pool.map(lambda w: under(*w), work))
            assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))
    assert attached_hooks() == 0


def test_threads_capture_at_once_and_beside_edits(tiny, ragged):
    alone = wb.capture(tiny, ragged, progress=False)
    with ThreadPoolExecutor(3) as pool:
        for acts in pool.map(lambda _: wb.capture(tiny, ragged, progress=False), range(6)):
            assert torch.equal(acts.values[:], alone.values[:])
    with Meanwhile(lambda: edited(tiny, push(3.0))):
        acts = wb.capture(tiny, ragged, progress=False)
    assert acts.provenance["reader"] == "trunk"
    assert torch.equal(acts.values[:], alone.values[:])


def test_weights_changed_in_another_thread_are_refused(tiny, ragged, tmp_path):
    plain, trunk = logits(tiny), trunk_of(tiny)
    with Meanwhile(lambda: halved(tiny)) as other:
        for use in (
            lambda: logits(tiny),
            lambda: tiny(torch.tensor([[0, 5]])),
            lambda: tiny.original_model(torch.tensor([[0, 5]])),
            lambda: tiny.blocks[1](torch.zeros(1, 2, 32)),
            lambda: tiny.generate(torch.tensor([[0, 5]]), max_new_tokens=1, verbose=False),
            lambda: trunk.shell.model(input_ids=torch.tensor([[0, 5]])),
            lambda: trunk.logits(torch.zeros(1, 32)),
            lambda: wb.capture(tiny, ragged, progress=False),
            lambda: wb.capture(tiny, ragged, progress=False, store=tmp_path / "store"),
            lambda: generate_texts(tiny, TEXTS, max_new_tokens=1),
            lambda: info(tiny),
            lambda: halved(tiny).__enter__(),
        ):
            with pytest.raises(errors.ModelInUse, match="another thread has changed the weights"):
                use()
    assert other.error is None
    assert torch.equal(logits(tiny), plain)
    assert not isinstance(trunk_of(tiny), str)
    assert not (tmp_path / "store").exists()


def test_weights_are_not_changed_under_a_pass_of_another_thread(tiny):
    inside, go_on, out = threading.Event(), threading.Event(), []
    plain = logits(tiny)

    def slow(x):
        inside.set()
        go_on.wait(60)

    def other():
        with edited(tiny, Read(site="resid_post", layer=0, function=slow)):
            out.append(logits(tiny))

    thread = threading.Thread(target=other)
    thread.start()
    assert inside.wait(60)
    try:
        with pytest.raises(errors.ModelInUse, match="another thread is in a forward pass"), halved(tiny):
            pass
    finally:
        go_on.set()
        thread.join(60)
    assert torch.equal(out[0], plain)
    with halved(tiny):
        assert not torch.equal(logits(tiny), plain)
    assert torch.equal(logits(tiny), plain)


def test_a_thread_that_is_given_the_context(tiny):
    """`asyncio.to_thread` and `copy_context` mean that the block should act there: edits raise, weights are shared on purpose."""
    with pytest.raises(errors.ModelInUse, match="entered in another thread"), edited(tiny, push(1.0)):
        asyncio.run(asyncio.to_thread(logits, tiny))
    with halved(tiny), ThreadPoolExecutor(1) as pool:
        here = logits(tiny)
        assert torch.equal(pool.submit(contextvars.copy_context().run, logits, tiny).result(), here)


def test_asynchronous_tasks_are_apart(tiny):
    plain = logits(tiny)

    async def steered(open_, done):
        with edited(tiny, push(2.0)):
            mine = logits(tiny)
            open_.set()
            await done.wait()
            return mine

    async def main():
        open_, done = asyncio.Event(), asyncio.Event()
        task = asyncio.create_task(steered(open_, done))
        await open_.wait()
        beside = logits(tiny)
        done.set()
        return await task, beside

    edited_there, beside = asyncio.run(main())
    assert torch.equal(beside, plain)
    assert not torch.equal(edited_there, plain)


def test_blocks_left_in_another_order(tiny):
    plain = logits(tiny)
    outer, inner = edited(tiny, push(1.0)), edited(tiny, push(2.0))
    outer.__enter__()
    inner.__enter__()
    both = logits(tiny)
    outer.__exit__(None, None, None)
    one = logits(tiny)
    inner.__exit__(None, None, None)
    with edited(tiny, push(2.0)):
        assert torch.equal(logits(tiny), one)
    assert not torch.equal(both, one)
    assert torch.equal(logits(tiny), plain)
    assert attached_hooks() == 0
