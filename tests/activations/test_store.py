"""The store: asked again it computes nothing; killed, damaged, full or shared, it stays whole and says what is wrong."""

import errno
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from conftest import tiny_model

import workbench as wb
from workbench.activations import reading
from workbench.activations.engine import Engine
from workbench.activations.store import Store
from workbench.core import errors
from workbench.models import Edit, edited, info, wrap
from workbench.models.tokens import encode_pairs


@pytest.fixture
def work(monkeypatch):
    """Counts the jobs that reach the engine, and the layers asked of it."""
    done = []
    real = Engine.read

    def read(self, jobs, layers, ids):
        done.append((len(jobs), tuple(layers)))
        return real(self, jobs, layers, ids)

    monkeypatch.setattr(Engine, "read", read)
    return done


def shards(folder):
    return {p.name: p.read_bytes() for p in folder.glob("*.safetensors")}


def test_asking_again_computes_nothing(calm, branching, tmp_path, work):
    first = wb.capture(calm, branching, store=tmp_path, shard_items=5, progress=False)
    assert len(shards(tmp_path)) == 4
    assert torch.allclose(first.values, wb.capture(calm, branching, progress=False).values, atol=1e-4)
    work.clear()
    again = wb.capture(calm, branching, store=tmp_path, shard_items=7, progress=False)
    assert work == []
    assert torch.equal(again.values, first.values)
    assert again.rows.equals(branching.to_frame())


def test_more_prompts_and_layers_compute_what_is_missing(calm, branching, tmp_path, work):
    some = wb.capture(calm, branching.subset(range(6)), layers=[1], store=tmp_path, progress=False)
    assert work == [(12, (1,))]
    work.clear()
    wb.capture(calm, branching.subset(range(6)), layers=[0, 1], store=tmp_path, progress=False)
    assert work == [(12, (0,))]
    work.clear()
    whole = wb.capture(calm, branching, layers=[0, 1], logits="answers", store=tmp_path, progress=False)
    # six items lack their answers only, the twelve new ones everything
    assert sorted(work) == [(6, ()), (36, (0, 1))]
    assert torch.equal(whole.layer(1)[:6], some.layer(1))
    plain = wb.capture(calm, branching, layers=[0, 1], logits="answers", progress=False)
    assert torch.allclose(whole.values, plain.values, atol=1e-4)
    assert torch.allclose(whole.logp, plain.logp, atol=1e-4)
    # each prompt set is still there under its own name, in its own order
    mixed = branching.subset([5, 2, 9])
    assert torch.equal(wb.capture(calm, mixed, layers=[1], store=tmp_path, progress=False).layer(1), whole.layer(1)[[5, 2, 9]])
    assert len(wb.Activations.load(tmp_path, prompts=branching.subset(range(6)))) == 6
    with pytest.raises(errors.WrongModel, match=r"holds no prompt set .* Capture it with store= to add it"):
        wb.Activations.load(tmp_path, prompts=branching.subset([0, 1]))
    with pytest.raises(errors.UnknownLayer, match="layer 2 is not in"):
        wb.Activations.load(tmp_path, layers=[2])


def test_an_item_that_occurs_twice_is_read_once(calm, ragged, tmp_path, work):
    acts = wb.capture(calm, ragged, store=tmp_path, progress=False)
    assert work == [(8, (0, 1, 2))], "four distinct texts, two variants each"
    assert torch.equal(acts.values[0], acts.values[4])


def test_reading_touches_only_what_is_asked_for(calm, branching, tmp_path, monkeypatch):
    whole = wb.capture(calm, branching, store=tmp_path, shard_items=5, progress=False)
    values = whole.values
    acts = wb.Activations.load(tmp_path)
    touched = []
    real = Store.tensor
    monkeypatch.setattr(Store, "tensor", lambda self, name, part: touched.append((name, part)) or real(self, name, part))
    assert acts.shape == (18, 2, 3, 32)
    assert "18, 2, 3, 32" in repr(acts)
    assert touched == []
    some = acts.where(layers=[1], label=1, group="b")
    keep = torch.tensor(((branching.to_frame()["label"] == 1) & (branching.to_frame()["group"] == "b")).tolist())
    touched.clear()
    assert torch.equal(some.layer(1), values[keep][:, :, 1])
    assert {part for _, part in touched} == {"layer.1"}
    assert len({name for name, _ in touched}) < 4
    with pytest.raises(errors.MissingColumn, match="no column 'colour'"):
        acts.where(colour="red")
    with pytest.raises(errors.BadInput, match="no item has group='z'"):
        acts.where(group="z")
    with pytest.raises(errors.UnknownLayer, match="layer 7 was not captured"):
        acts.where(layers=[7])
    with pytest.raises(errors.BadInput, match="item 18 of 18 items"):
        acts.subset([18])


@pytest.mark.parametrize("position", ["last", "stem_last", "mean", "all"])
def test_every_position_comes_back(calm, branching, tmp_path, position, monkeypatch):
    monkeypatch.setattr(reading, "BLOCK_BYTES", 30_000)  # blocks of a few items
    want = wb.capture(calm, branching, position=position, layers=[0, 2], progress=False)
    wb.capture(calm, branching, position=position, layers=[0, 2], store=tmp_path / "a", shard_items=4, progress=False)
    got = wb.Activations.load(tmp_path / "a", model=info(calm).key())
    assert torch.allclose(got.values, want.values, atol=1e-4)
    want.save(tmp_path / "b")
    back = wb.Activations.load(tmp_path / "b")
    assert torch.equal(back.values, want.values)
    assert back.rows.equals(want.rows)
    assert (back.layers, back.position, back.provenance["model"]) == ((0, 2), position, info(calm).key())
    if position == "all":
        assert torch.equal(got.mask, want.mask)
        assert torch.equal(back.mask, want.mask)
        assert got.subset([0]).values.shape[3] <= want.values.shape[3]


@pytest.mark.parametrize("position", ["mean", "all", "stem_last"])
def test_answers_asked_later(calm, branching, tmp_path, position, work):
    some = branching.subset(range(7))
    first = wb.capture(calm, some, position=position, store=tmp_path, progress=False)
    work.clear()
    later = wb.capture(calm, some, position=position, logits="answers", store=tmp_path, progress=False)
    assert work == [(7, ())]
    assert torch.equal(later.values, first.values)
    assert torch.allclose(later.logp, wb.capture(calm, some, logits="answers", progress=False).logp, atol=1e-4)


def test_answers_are_not_taken_from_other_tokens(calm, branching, tmp_path):
    answers = wb.capture(calm, branching, logits="answers", store=tmp_path, progress=False).logp
    other = wb.capture(calm, branching, logits=[7, 3], store=tmp_path, progress=False)
    assert not torch.allclose(other.logp, answers)
    with pytest.raises(errors.BadInput, match="carry no answers"):
        wb.answers_of(other)
    assert torch.equal(wb.Activations.load(tmp_path).logp, answers)


def test_layers_of_different_widths(calm, branching, tmp_path):
    """Short and long items in shards of their own for one layer, together for another."""
    order = sorted(range(len(branching)), key=lambda i: len(branching[i].stem))
    short, long = branching.subset(order[:3]), branching.subset(order[-3:])
    for some in (short, long):
        wb.capture(calm, some, layers=[0], position="all", store=tmp_path, progress=False)
    wb.capture(calm, short + long, layers=[0, 1], position="all", store=tmp_path, progress=False)
    for some in (short, long, short + long):
        got = wb.capture(calm, some, layers=[0, 1], position="all", store=tmp_path, progress=False)
        want = wb.capture(calm, some, layers=[0, 1], position="all", progress=False)
        assert torch.allclose(got.values, want.values, atol=1e-4)
        assert torch.equal(got.mask, want.mask)


def test_saving_again_keeps_the_new_rows(calm, branching, tmp_path):
    acts = wb.capture(calm, branching, progress=False)
    acts.save(tmp_path)
    acts.with_column("answer", np.arange(len(acts))).save(tmp_path)
    assert wb.Activations.load(tmp_path).rows["answer"].tolist() == list(range(len(acts)))
    assert len(shards(tmp_path)) == 1


def test_what_is_not_finite_is_known_to_whoever_reads_it(calm, branching, tmp_path):
    def spoil(x):
        return torch.where(torch.arange(x.shape[1])[None, :, None] >= 25, float("nan"), x)

    with edited(calm, Edit(site="resid_post", layer=1, function=spoil, key="spoil")):
        settings = {"store": tmp_path, "layers": [1], "batch_tokens": 1, "shard_items": 4, "progress": False}
        with pytest.raises(errors.NotFinite, match=r"the first in item \d+, variant 0, layer 1"):
            wb.capture(calm, branching, **settings)
        acts = wb.capture(calm, branching, on_nan="count", **settings)
        ill = torch.isnan(acts.values).flatten(1).any(1).nonzero().flatten().tolist()
        assert 0 < len(ill) < len(branching)
        assert acts.provenance["not_finite"] == {"count": len(ill) * 64, "item": ill[0], "variant": 0, "part": "layer.1"}
        with pytest.raises(errors.NotFinite, match=f"the first in item {ill[0]}, variant 0, layer 1"):
            wb.capture(calm, branching, **settings)  # all is there, and the default is to raise
        fine = [i for i in range(len(branching)) if i not in ill]
        assert "not_finite" not in wb.capture(calm, branching.subset(fine), **settings).provenance


def test_training_mode_never_enters_a_store(words, branching, tmp_path):
    model = wrap(tiny_model("gpt2", len(words), std=None), words, name="mine", bos=0, device="cpu")
    model.train()
    with pytest.raises(errors.BadInput, match=r"call model\.eval\(\) first"):
        wb.capture(model, branching, store=tmp_path / "x", progress=False)


def test_a_store_that_cannot_be_written_can_be_read(calm, branching, tmp_path, monkeypatch):
    want = wb.capture(calm, branching, store=tmp_path, progress=False).values
    for path in tmp_path.glob("*.safetensors"):
        os.utime(path)  # as after a copy: the stamps no longer fit

    def refuses(*_):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("workbench.activations.store.write_file", refuses)
    assert torch.equal(wb.Activations.load(tmp_path).values, want)


# ------------------------------------------------------------------ killed, damaged, full


CHILD = """
import sys, workbench as wb
wb.capture(wb.load_model("bundled", device="cpu"), wb.prompts.udhr("base_short", n=96, seed=1), store=sys.argv[1], shard_items=8, progress=False)
"""


@pytest.fixture
def undisturbed(organism, tmp_path_factory, one_thread):
    folder = tmp_path_factory.mktemp("whole")
    wb.capture(organism, wb.prompts.udhr("base_short", n=96, seed=1), store=folder, shard_items=8, progress=False)
    return shards(folder)


def child(folder, code=CHILD):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-c", code, str(folder)], env=environment, stderr=subprocess.PIPE, text=True)


def wait_for_shards(folder, count, process, seconds=120):
    end = time.monotonic() + seconds
    while len(list(folder.glob("*.safetensors"))) < count:
        assert process.poll() is None, process.stderr.read()[-2000:]
        assert time.monotonic() < end, "no shard was written"
        time.sleep(0.005)


def test_killed_at_any_moment_it_goes_on_with_the_same_bytes(organism, tmp_path, undisturbed, work):
    work.clear()
    for count in (1, 5):
        process = child(tmp_path)
        wait_for_shards(tmp_path, count, process)
        process.send_signal(signal.SIGKILL)
        process.wait()
        there = Store.existing(tmp_path)
        assert there.damaged() == [], "what is entered is whole"
        if len(there.manifest["shards"]) < 12:
            with pytest.raises(errors.DamagedStore, match=r"did not finish .* run it again with the same store"):
                wb.Activations.load(tmp_path)
    left = 12 - len(there.manifest["shards"])
    wb.capture(organism, wb.prompts.udhr("base_short", n=96, seed=1), store=tmp_path, shard_items=8, progress=False)
    assert len(work) == left, "only what was missing, the shard in flight with it"
    assert shards(tmp_path) == undisturbed
    assert len(wb.Activations.load(tmp_path)) == 96


def test_two_processes_on_one_store_share_the_work(organism, tmp_path, undisturbed, work):
    work.clear()
    process = child(tmp_path)
    wait_for_shards(tmp_path, 1, process)
    acts = wb.capture(organism, wb.prompts.udhr("base_short", n=96, seed=1), store=tmp_path, shard_items=8, progress=False)
    assert process.wait() == 0, process.stderr.read()[-2000:]
    assert shards(tmp_path) == undisturbed
    assert len(work) < 12, "some were the other's"
    assert sorted(Store.existing(tmp_path).manifest["shards"]) == sorted(undisturbed)
    assert len(acts) == 96


def test_a_full_disk_leaves_a_readable_store_and_a_clear_error(organism, tmp_path, undisturbed):
    # a limit on the size of a file stands for a full disk: the system refuses the write in the same way
    size = max(map(len, undisturbed.values()))
    few = CHILD.replace("n=96", "n=8")
    assert child(tmp_path, few).wait() == 0
    code = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({size // 2}, {size // 2}))\n{CHILD}"
    process = child(tmp_path, code)
    said = process.communicate()[1]
    assert process.returncode == 1
    assert "DiskFull" in said
    assert "What was written before is whole; free some room and run the same capture again" in said
    assert not list(tmp_path.glob(".*.safetensors.tmp"))
    assert len(wb.Activations.load(tmp_path, prompts=wb.prompts.udhr("base_short", n=8, seed=1)).values) == 8
    prompts = wb.prompts.udhr("base_short", n=96, seed=1)
    assert len(wb.capture(organism, prompts, store=tmp_path, shard_items=8, progress=False).values) == 96


def test_a_damaged_shard_is_named_and_computed_again(calm, branching, tmp_path, work):
    whole = wb.capture(calm, branching, store=tmp_path, shard_items=5, progress=False).values
    before = shards(tmp_path)
    name = sorted(before)[1]
    (tmp_path / name).write_bytes(before[name][:-4] + b"oops")
    with pytest.raises(errors.DamagedStore, match=f"shard {name} is missing or damaged; run the capture again"):
        wb.Activations.load(tmp_path)
    work.clear()
    assert torch.equal(wb.capture(calm, branching, store=tmp_path, shard_items=5, progress=False).values, whole)
    assert len(work) == 1
    assert shards(tmp_path) == before
    (tmp_path / name).unlink()  # a manifest that lists what is not there
    with pytest.raises(errors.DamagedStore, match=f"shard {name} is missing or damaged"):
        wb.Activations.load(tmp_path)
    assert torch.equal(wb.capture(calm, branching, store=tmp_path, progress=False).values, whole)


def test_damage_that_keeps_size_and_time_is_seen_when_read(calm, branching, tmp_path):
    wb.capture(calm, branching, store=tmp_path, progress=False)
    path = next(tmp_path.glob("*.safetensors"))
    stat = path.stat()
    path.write_bytes(path.read_bytes()[:-4] + b"oops")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    acts = wb.Activations.load(tmp_path)  # nothing read yet
    with pytest.raises(errors.DamagedStore, match="missing or damaged"):
        acts.values
    again = wb.capture(calm, branching, store=tmp_path, progress=False)  # the advice of the error works
    assert torch.allclose(again.values, wb.capture(calm, branching, progress=False).values, atol=1e-4)


def test_damaged_rows_and_foreign_manifests(calm, branching, tmp_path):
    whole = wb.capture(calm, branching, store=tmp_path / "a", progress=False)
    (tmp_path / "a" / "prompts" / f"{branching.hash}.parquet").write_bytes(b"oops")
    with pytest.raises(errors.DamagedStore, match=r"\.parquet is missing or damaged"):
        wb.Activations.load(tmp_path / "a")
    assert wb.capture(calm, branching, store=tmp_path / "a", progress=False).rows.equals(whole.rows)
    (tmp_path / "b").mkdir()
    for text, message in (('{"name": "an app"}', "not that of an activation folder"), ("{", "cannot be read")):
        (tmp_path / "b" / "manifest.json").write_text(text)
        with pytest.raises(errors.DamagedStore, match=message):
            wb.Activations.load(tmp_path / "b")
        with pytest.raises(errors.OutputFolder, match="choose an empty folder"):
            wb.capture(calm, branching, store=tmp_path / "b", progress=False)
    manifest = json.loads((tmp_path / "a" / "manifest.json").read_text())
    for schema, message in ((99, "update the workbench"), (1, "capture it again")):
        (tmp_path / "b" / "manifest.json").write_text(json.dumps({**manifest, "schema": schema}))
        with pytest.raises(errors.DamagedStore, match=message):
            wb.Activations.load(tmp_path / "b")


# ------------------------------------------------------------------ what does not belong together


def test_another_model(calm, branching, tmp_path, organism):
    acts = wb.capture(calm, branching, store=tmp_path, progress=False)
    with pytest.raises(errors.WrongModel, match="come from 'tiny llama'"):
        wb.Activations.load(tmp_path, model=info(organism).key())
    with pytest.raises(errors.WrongModel, match="come from 'tiny llama'"):
        wb.capture(organism, branching, store=tmp_path, progress=False)
    with pytest.raises(errors.WrongModel, match="Capture them again"):
        acts.check_same_model(wb.capture(organism, branching, progress=False))


def test_another_setting_or_something_else(calm, branching, tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(errors.OutputFolder, match="holds something else"):
        wb.capture(calm, branching, store=tmp_path, progress=False)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]
    with pytest.raises(errors.DamagedStore, match="not an activation folder"):
        wb.Activations.load(tmp_path)
    with pytest.raises(errors.OutputFolder, match="is a file"):
        wb.capture(calm, branching, store=tmp_path / "thesis.txt", progress=False)
    acts = wb.capture(calm, branching, store=tmp_path / "x", progress=False)
    for change in ({"site": "mlp_out"}, {"position": "mean"}, {"dtype": "bfloat16"}):
        with pytest.raises(errors.OutputFolder, match=f"holds activations with {next(iter(change))} "):
            wb.capture(calm, branching, store=tmp_path / "x", progress=False, **change)
    with pytest.raises(errors.OutputFolder, match="choose another folder"):
        acts.save(tmp_path / "x")
    acts.subset(np.arange(6)).save(tmp_path / "y")
    with pytest.raises(errors.OutputFolder, match="with origin 'saved', not 'captured'"):
        wb.capture(calm, branching, store=tmp_path / "y", progress=False)


def test_the_key_is_what_the_model_sees(calm, branching):
    one = encode_pairs(calm, branching)[0]
    same = reading.item_key(one, "last")
    assert same == reading.item_key(encode_pairs(calm, branching.subset([0]))[0], "last")
    assert len({reading.item_key(x, "last") for x in encode_pairs(calm, branching)}) == len(branching)
    assert reading.item_key(one, "instruction_last") != same
