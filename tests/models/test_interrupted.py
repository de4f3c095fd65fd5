"""Ctrl-C at every line of entering and leaving: weights are bit-equal, no hook is left, and the interruption arrives."""

import contextlib
import dis
import functools
import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from conftest import tiny_model
from torch import nn

import workbench as wb
from workbench.core import errors
from workbench.core.direction import Direction
from workbench.models import Change, Edit, Gate, Read, Scope, acting, edited, hold, reweighted, wrap
from workbench.models.acting import attached_hooks
from workbench.models.known import KNOWN, trunk_of
from workbench.models.replay import replayable
from workbench.models.taps import Tap, tapped
from workbench.models.tokens import encode, pad
from workbench.models.weights import parameters

MODELS = Path(wb.__file__).parent / "models"


@pytest.fixture(scope="module")
def model(words):
    return wrap(tiny_model("gpt2", len(words)), words, name="tiny gpt2", bos=0, device="cpu")


def snapshot(model):
    """Everything that must be as before: bits, which parameters there are and where, hooks, whose block this is."""
    shell = KNOWN[model].trunk.shell
    modules = [*model.modules(), *model.original_model.modules(), *shell.modules()]
    return (
        [(id(p), p.detach().clone()) for p in (*model.parameters(), *shell.parameters())],
        [(len(m._forward_hooks), len(m._forward_pre_hooks), len(getattr(m, "fwd_hooks", ()))) for m in modules],
        signal.getsignal(signal.SIGINT),
    )


def same(before, now):
    return (
        all(a[0] == b[0] and torch.equal(a[1], b[1]) for a, b in zip(before[0], now[0], strict=True))
        and len(before[0]) == len(now[0])
        and before[1:] == now[1:]
    )


def edits(model):
    gate = Gate(site="resid_pre", layer=0, score=lambda x: x.sum(-1), threshold=-1e9)
    return edited(
        model,
        [
            Edit(site="resid_mid", layer=1, function=lambda x: x + 1, scope=Scope("last"), gate=gate),
            Read(site="resid_post", layer=1, function=lambda x: None),
            Edit(site="resid_post", layer=1, function=lambda x: x),
        ],
    )


def tied(model):
    names = [n for n in parameters(model) if n.endswith(("wte.weight", "mlp.c_proj.weight"))]
    assert names
    return reweighted(model, [Change(parameter=n, function=lambda w: w * 2) for n in names])


def without(model):
    draw = torch.Generator().manual_seed(0)
    return wb.orthogonalised(model, Direction.of(torch.randn(32, generator=draw)))


def taps(model):
    shell = KNOWN[model].trunk.shell
    modules = [m for m in shell.modules() if isinstance(m, nn.LayerNorm)][:3]
    return tapped([Tap(module=m, entry=k != 1, function=lambda x: None) for k, m in enumerate(modules)], stop=True)


def kept(model):
    """Not a block of its own: a pass that is kept for being resumed attaches hooks, and takes them off."""
    replayable(model, pad(model, encode(model, ["no"])))
    return contextlib.nullcontext()


BLOCKS = {"edited": edits, "reweighted": tied, "orthogonalised": without, "tapped": taps, "both": (tied, edits), "replayed": kept}


def use(model, block):
    """Enter and leave, with nothing in between."""
    outer, inner = block if isinstance(block, tuple) else (lambda _: contextlib.nullcontext(), block)
    with contextlib.suppress(errors.HookNotFired), outer(model), inner(model):
        pass


@functools.cache
def exits(code):
    """Where a `with` statement is about to leave, without an exception: a signal is not handled there, and the lock is let go next."""
    out, start, none = set(), 0, 0
    for step in dis.get_instructions(code):
        if step.starts_line is not None:
            start, none = step.offset, 0
        none = none + 1 if step.opname == "LOAD_CONST" and step.argval is None else 0
        if none == 3:  # `__exit__(None, None, None)`
            out.add(start)
    return out


def lines(where, run, at=0, how=None):
    """Run with every line noted that is executed in code which `where` accepts; at one of them, counted from 1, `how` is called.

    Returns:
        The lines, and whether a KeyboardInterrupt came out.
    """
    seen = []

    def local(frame, event, _):
        if event == "line" and frame.f_lasti not in exits(frame.f_code):
            seen.append((frame.f_code, frame.f_lineno))
            if len(seen) == at:
                sys.settrace(None)
                how()
        return local

    try:
        sys.settrace(lambda frame, event, _: local if event == "call" and where(frame.f_code) else None)
        run()
    except KeyboardInterrupt:
        return seen, True
    finally:
        sys.settrace(None)
    return seen, False


def are_free(*locks):
    """Whether another thread can take these locks."""

    def take():
        return all(lock.acquire(timeout=5) and lock.release() is None for lock in locks)

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(take).result()


def raised():
    raise KeyboardInterrupt


def ctrl_c():
    os.kill(os.getpid(), signal.SIGINT)


def mashed():
    for _ in range(3):
        signal.raise_signal(signal.SIGINT)


FILES = {str(MODELS / f"{n}.py") for n in ("hooks", "acting", "weights", "hold", "owner", "origin", "taps", "watch", "replay", "restore")}
TORCH = {"register_forward_hook", "register_forward_pre_hook", "__setattr__", "register_parameter"}


def ours(code):
    return code.co_filename in FILES


def everywhere(code):
    """Also where a real signal may come: the context managers around ours, and torch while it registers a hook or a parameter."""
    return ours(code) or code.co_filename == contextlib.__file__ or ("torch" in code.co_filename and code.co_name in TORCH)


@pytest.mark.parametrize(("how", "where"), [(raised, ours), (ctrl_c, everywhere), (mashed, ours)], ids=["raised", "ctrl-c", "mashed"])
@pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS)
def test_an_interruption_at_any_line_leaves_nothing_changed(model, block, how, where):
    def run():
        use(model, block)

    run()  # what is made once is made
    before, (passed, _) = snapshot(model), lines(where, run)
    assert len(set(passed)) > 30
    first = {line: k for k, line in reversed(list(enumerate(passed, 1)))}
    last = {line: k for k, line in enumerate(passed, 1)}
    places = sorted({*first.values(), *last.values()})
    unsent = []
    step = -(-len(places) // (12 if block is without else 60))  # each of the three ways begins elsewhere, to meet other lines
    for at in places[[raised, ctrl_c, mashed].index(how) % step :: step]:
        place = passed[at - 1]
        seen, arrived = lines(where, run, at, how)
        if len(seen) < at:  # this run took fewer lines than the first one (something was at hand by then): nothing was sent
            unsent.append(place)
            continue
        assert arrived, f"a KeyboardInterrupt was swallowed at {place}"
        assert same(before, snapshot(model)), place
        assert attached_hooks() == 0, place
        assert are_free(acting._LOCK, hold._LOCK), place
    assert len(unsent) <= 2, unsent
    assert not isinstance(trunk_of(model), str)
    logits = model(torch.tensor([[0, 5]]))
    with tied(model):
        assert not torch.equal(model(torch.tensor([[0, 5]])), logits)
