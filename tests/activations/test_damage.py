"""Kills, damage and hostile content: a store gives the values that were written, or an error whose advice helps; nothing else is touched."""

import io
import os
import signal
import subprocess
import sys
from contextlib import suppress

import numpy as np
import pytest
import torch
from stores import ITEMS, MANIFEST, copy, fill, overwrite, read, rewrite, shards

import workbench as wb
from workbench.activations.engine import Engine
from workbench.activations.files import claimed
from workbench.activations.store import Store
from workbench.core import errors

LAYERS = [0, 2]


@pytest.fixture
def capture(calm, branching, one_thread):
    """Capture into a folder, in shards of seven, seven and four items."""
    return lambda folder, **options: wb.capture(
        calm, branching, **{"layers": LAYERS, "store": folder, "shard_items": ITEMS, "progress": False, **options}
    )


@pytest.fixture
def filled(tmp_path):
    """A store that nothing happened to, and its values."""
    return tmp_path / "whole", fill(tmp_path / "whole").values


@pytest.fixture
def whole(capture, tmp_path):
    """The same, by a model."""
    return tmp_path / "whole", capture(tmp_path / "whole").values


# ------------------------------------------------------------------ one bit


def flipped(store, kind, draw):
    """Flip a bit of a store, somewhere in a kind of place."""
    path = draw.choice({"manifest": [store / MANIFEST], "rows": [*store.glob("prompts/*")]}.get(kind, shards(store)))
    data = bytearray(path.read_bytes())
    header = 8 + int.from_bytes(data[:8], "little")
    low, high = {"header": (0, header), "tensors": (header, len(data))}.get(kind, (0, len(data)))
    data[draw.integers(low, high)] ^= 1 << draw.integers(8)
    overwrite(path, bytes(data))
    return store


KINDS = ["header", "tensors", "manifest", "rows"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_bit_is_seen_and_mended(filled, kind):
    folder, want = filled
    draw = np.random.default_rng(3)
    for number in range(60):
        store = flipped(copy(folder), kind, draw)
        for _ in range(2):  # the second time it is known already
            with pytest.raises(errors.DamagedStore, match="run the capture again"):
                wb.Activations.load(store).values
        assert torch.equal(fill(store).values, want), number
        assert torch.equal(wb.Activations.load(store).values, want), number
        assert [p.read_bytes() for p in shards(store)] == [p.read_bytes() for p in shards(folder)]


def test_a_capture_mends_it(whole, capture):
    folder, want = whole
    draw = np.random.default_rng(4)
    for number in range(24):
        store = flipped(copy(folder), KINDS[number % 4], draw)
        assert torch.equal(capture(store).values, want), number
        assert torch.equal(wb.Activations.load(store).values, want), number


def test_a_capture_finds_damage_by_itself(whole, capture):
    """Nothing was read before, and size and time are those of the whole file."""
    folder, want = whole
    for path in shards(folder):
        overwrite(path, path.read_bytes()[:-1] + b"\x01")
    assert torch.equal(capture(folder).values, want)
    for path in shards(folder):
        overwrite(path, b"")
    assert torch.equal(capture(folder).values, want)


def test_damage_after_the_first_reading_is_seen(whole, capture):
    folder, want = whole
    acts = wb.Activations.load(folder)
    assert torch.equal(acts.values, want)
    for damage in (lambda data: data[:-1] + bytes([data[-1] ^ 1]), lambda data: data[:100], lambda _: b""):
        path = shards(folder)[0]  # the file is mapped: reading past its end would kill the process
        overwrite(path, damage(path.read_bytes()))
        with pytest.raises(errors.DamagedStore, match=f"shard {path.name} is missing or damaged; run the capture again"):
            acts.values
        assert torch.equal(capture(folder).values, want)
        assert torch.equal(acts.values, want), "what was mended is read again"


def test_damage_in_another_prompt_set_stops_nobody(calm, branching, capture, tmp_path):
    capture(tmp_path)
    other = shards(tmp_path)
    half = wb.prompts.PromptSet([*branching][:9])
    kept = wb.capture(calm, half, layers=[1], store=tmp_path, progress=False).values
    for path in other:
        overwrite(path, path.read_bytes()[:-1] + b"\x01")
    assert torch.equal(wb.Activations.load(tmp_path).values, kept)
    with pytest.raises(errors.DamagedStore, match="missing or damaged"):
        wb.Activations.load(tmp_path, prompts=branching).values


def test_what_another_process_mended_is_not_struck(whole, capture):
    folder, want = whole
    slow = Store.existing(folder)
    path = shards(folder)[0]
    overwrite(path, path.read_bytes()[:-1] + b"\x01")
    bad = slow.damaged()
    assert bad == [path.name]
    capture(folder)
    slow.strike(bad)
    assert torch.equal(wb.Activations.load(folder).values, want)


# ------------------------------------------------------------------ killed


class Dying:
    """The k-th operation on files fails: once, as after Ctrl-C, or from then on, as for a process that was killed."""

    def __init__(self, monkeypatch, at, *, for_good):
        self.left, self.for_good, self.dead = at, for_good, False
        for module, name in ((os, "replace"), (os, "open"), (os, "unlink"), (os, "mkdir"), (os, "fsync"), (io, "open")):
            monkeypatch.setattr(module, name, self.watched(name, getattr(module, name)))

    def watched(self, name, real):
        def operation(*args, **options):
            self.left -= 1
            if self.left == 0 or (self.dead and self.for_good):
                if name == "fsync" and not self.dead:  # part of the file is there
                    os.ftruncate(args[0], os.fstat(args[0]).st_size // 2)
                self.dead = True
                raise KeyboardInterrupt
            return real(*args, **options)

        return operation


def stopped(monkeypatch, at, act, *, for_good):
    """Do something, stopped at an operation; return whether it got that far."""
    with monkeypatch.context() as patch:
        dying = Dying(patch, at, for_good=for_good)
        with suppress(KeyboardInterrupt):
            act()
    return dying.dead


@pytest.mark.parametrize("for_good", [False, True], ids=["interrupted", "killed"])
@pytest.mark.parametrize("what", ["fill", "save", "save again", "fill other rows"])
def test_stopped_at_any_operation_it_goes_on(tmp_path, monkeypatch, what, for_good):
    want = fill(tmp_path / "whole")
    newer = want.with_column("note", np.arange(len(want)))
    begin, act = {
        "fill": (lambda _: None, fill),
        "save": (lambda _: None, want.save),
        "save again": (want.save, newer.save),
        "fill other rows": (fill, lambda folder: fill(folder, newer.rows)),
    }[what]
    at = 0
    for at in range(1, 1000):
        folder = tmp_path / str(at)
        begin(folder)
        if not stopped(monkeypatch, at, lambda: act(folder), for_good=for_good):  # noqa: B023
            break
        if len(what) > 4:  # the old rows or the new ones, nothing between
            there = wb.Activations.load(folder)
            assert torch.equal(there.values, want.values)
            assert there.rows.equals(want.rows) or there.rows.equals(newer.rows)
        act(folder)
        there = wb.Activations.load(folder)
        assert torch.equal(there.values, want.values)
        assert there.rows.equals(newer.rows if len(what) > 4 else want.rows)
        assert not [p.name for p in folder.rglob("*.tmp")]
    assert at > 20, "every operation was tried"


@pytest.mark.parametrize("for_good", [False, True], ids=["interrupted", "killed"])
def test_a_capture_that_is_stopped_goes_on(whole, capture, tmp_path, monkeypatch, for_good):
    at = 0
    for at in range(1 + for_good, 1000, 9):
        folder = tmp_path / str(at)
        if not stopped(monkeypatch, at, lambda: capture(folder), for_good=for_good):  # noqa: B023
            break
        assert torch.equal(capture(folder).values, whole[1]), at
    assert at > 60


CHILD = """
import os, signal, sys
import workbench as wb
from workbench.activations import files
real = os.fsync
count = [int(sys.argv[2])]
def fsync(handle):
    count[0] -= 1
    if count[0] == 0:
        os.kill(os.getpid(), getattr(signal, sys.argv[3]))
    real(handle)
os.fsync = fsync
wb.capture(wb.load_model("bundled", device="cpu"), wb.prompts.udhr("base_short", n=8, seed=1), store=sys.argv[1], shard_items=4, progress=False)
"""


@pytest.mark.parametrize(("write", "how"), [(1, "SIGKILL"), (4, "SIGINT")])
def test_a_process_that_is_killed_while_it_writes(organism, tmp_path, one_thread, write, how):
    prompts = wb.prompts.udhr("base_short", n=8, seed=1)
    settings = {"shard_items": 4, "progress": False}
    want = wb.capture(organism, prompts, store=tmp_path / "whole", **settings)
    command = [sys.executable, "-c", CHILD, str(tmp_path / "x"), str(write), how]
    done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert done.returncode == -getattr(signal, how), done.stderr[-2000:]
    assert bool(list((tmp_path / "x").rglob("*.tmp"))) == (how == "SIGKILL")
    assert torch.equal(wb.capture(organism, prompts, store=tmp_path / "x", **settings).values, want.values)
    assert not list((tmp_path / "x").rglob("*.tmp"))


def test_what_an_earlier_version_left_when_it_was_killed(capture, tmp_path):
    (tmp_path / ".manifest.lock").touch()
    (tmp_path / ".manifest.json.tmp").write_text('{"schema": 2, "mod')
    assert torch.allclose(capture(tmp_path).values, capture(None).values, atol=1e-4)
    assert not (tmp_path / ".manifest.json.tmp").exists()


def test_a_claim_is_freed_when_its_work_is_interrupted(tmp_path):
    def work():
        with claimed(tmp_path, "x"):
            raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            work()
    with claimed(tmp_path, "x") as one, claimed(tmp_path, "x") as two:
        assert (one, two) == (True, False)


# ------------------------------------------------------------------ earlier versions


def test_a_store_of_the_version_before_is_read_and_sealed(whole, capture, monkeypatch):
    folder, want = whole
    manifest = read(folder)
    for entry in manifest["shards"].values():
        del entry["header"]
    rewrite(folder, manifest, seal=False)
    broken = copy(folder)
    asked = []
    real = Engine.read
    monkeypatch.setattr(Engine, "read", lambda self, *args: asked.append(args) or real(self, *args))
    assert torch.equal(wb.Activations.load(folder).values, want)
    assert torch.equal(capture(folder).values, want)
    assert asked == [], "nothing is computed again"
    capture(folder, layers=[1])
    assert {"seal", "schema"} <= set(read(folder))
    assert read(folder)["schema"] == 3
    assert torch.equal(wb.Activations.load(folder, layers=LAYERS).values, want)
    for at in (3, 30, 200, -5):  # its headers are compared as parts of the whole file
        store = copy(broken, "old")
        data = bytearray(shards(store)[0].read_bytes())
        data[at] ^= 4
        overwrite(shards(store)[0], bytes(data))
        with pytest.raises(errors.DamagedStore, match="run the capture again"):
            wb.Activations.load(store).values
        assert torch.equal(capture(store).values, want)
