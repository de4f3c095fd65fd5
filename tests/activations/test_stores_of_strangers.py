"""Folders that somebody else made: no name leads out of a store, no value of a manifest ends in a raw error, and files of others stay."""

import copy as copies
import errno
import json
import os
from contextlib import suppress

import numpy as np
import pandas as pd
import pytest
import torch
from stores import MANIFEST, ROWS, copy, fill, overwrite, read, rewrite, shards

import workbench as wb
from workbench.activations.files import digest
from workbench.activations.stamps import Stamps
from workbench.activations.store import Store
from workbench.core import errors

PROMPTS = "0123456789abcdef"


def filled(folder):
    return fill(folder).values


def acts(**options):
    values = torch.arange(18.0 * 2 * 4).reshape(18, 2, 1, 4)
    return wb.Activations(**{"values": values, "layers": [1], "site": "resid_post", "position": "last", "rows": ROWS, **options})


def tree(folder):
    """Everything in a folder: its kind, and what it holds."""
    return {
        p.relative_to(folder).as_posix(): (p.lstat().st_mode, p.read_bytes() if p.is_file() and not p.is_symlink() else b"")
        for p in folder.rglob("*")
    }


# ------------------------------------------------------------------ names that lead out


OUTSIDE = ("../victim.txt", "prompts/../../victim.txt", "{folder}/victim.txt", "..", "../..", ".claims/../../victim.txt")


@pytest.mark.parametrize("seal", [True, False])
@pytest.mark.parametrize("where", ["shards", "requests"])
@pytest.mark.parametrize("write", [fill, lambda folder: acts().save(folder)], ids=["fill", "save"])
@pytest.mark.parametrize("name", OUTSIDE)
def test_a_name_outside_the_folder_is_refused(tmp_path, name, write, where, seal):
    (tmp_path / "victim.txt").write_text("precious")
    store = tmp_path / "store"
    write(store)
    manifest = read(store)
    manifest[where][name.format(folder=tmp_path)] = next(iter(manifest[where].values()))
    rewrite(store, manifest, seal=seal)
    before = tree(tmp_path)
    with pytest.raises(errors.DamagedStore, match="outside the folder"):
        wb.Activations.load(store)
    with pytest.raises(errors.OutputFolder, match=r"outside the folder.*choose an empty folder"):
        write(store)
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    "name", ["victim.txt", "prompts/x", "0123456789abcdef.SAFETENSORS", ".manifest.lock", "manifest.json", "a\0b", "\ud800", ""]
)
def test_a_name_that_is_no_shards_is_never_touched(tmp_path, name):
    acts().save(tmp_path)
    (tmp_path / "victim.txt").write_text("precious")
    manifest = read(tmp_path)
    manifest["shards"][name] = next(iter(manifest["shards"].values()))
    rewrite(tmp_path, manifest)
    with pytest.raises(errors.DamagedStore, match="is malformed: it names"):
        wb.Activations.load(tmp_path)
    acts().save(tmp_path)
    assert torch.equal(wb.Activations.load(tmp_path).values, acts().values)
    assert (tmp_path / "victim.txt").read_text() == "precious"


@pytest.mark.parametrize("prompts", ["../../victim", "/tmp/x", "a/b", "", "..", "x" * 500, "ä b", 7, ["a", "b"]])
def test_the_name_of_a_prompt_set_stays_in_the_folder(tmp_path, prompts):
    acts(provenance={"prompts": prompts, "model": "a name only"}).save(tmp_path / "in" / "store")
    assert [p.name for p in tmp_path.iterdir()] == ["in"]
    assert len([*(tmp_path / "in" / "store" / "prompts").iterdir()]) == 1
    back = wb.Activations.load(tmp_path / "in" / "store")
    assert torch.equal(back.values, acts().values)
    assert "a name only" in repr(back)
    with pytest.raises(errors.BadInput, match="cannot be kept in a store"):
        Store.existing(tmp_path / "in" / "store").ask("../x", ROWS, ["k"] * 18, parts=["layer.0"], provenance={})


# ------------------------------------------------------------------ links, pipes, folders in the place of files


PLACES = (MANIFEST, "SHARD", "prompts", "TABLE", ".claims", "CLAIM", ".manifest.lock", ".whole.json")


def place(store, name):
    names = {"SHARD": shards(store)[1].name, "TABLE": f"prompts/{PROMPTS}.parquet", "CLAIM": f".claims/{shards(store)[1].name}.lock"}
    return store / names.get(name, name)


@pytest.mark.parametrize("kind", ["link", "dangling", "pipe", "folder"])
@pytest.mark.parametrize("name", PLACES)
def test_what_is_no_plain_file_is_neither_read_nor_followed(tmp_path, name, kind):
    (tmp_path / "in").mkdir()
    want = filled(tmp_path / "in" / "store")
    store = tmp_path / "in" / "store"
    twin = copy(store).rename(tmp_path / "outside")  # what a link leads to is a whole store: following it would go unnoticed
    path = place(store, name)
    path.rename(tmp_path / "away") if path.exists() else None
    if kind == "link":
        path.symlink_to(place(twin, name))
    elif kind == "dangling":
        path.symlink_to(tmp_path / "nothing")
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    before = tree(twin)
    for again in (wb.Activations.load, lambda s: (overwrite(shards(s)[0], b"damage"), fill(s))[1], wb.Activations.load):
        with suppress(errors.DamagedStore, errors.OutputFolder):
            assert torch.equal(again(store).values, want)
            assert name not in (MANIFEST, "SHARD", "prompts", "TABLE") or not path.is_symlink(), "it was followed"
    assert tree(twin) == before
    assert not (tmp_path / "nothing").exists()


def test_a_link_to_the_folder_itself_is_followed(tmp_path):
    want = filled(tmp_path / "store")
    (tmp_path / "link").symlink_to("store")
    assert torch.equal(wb.Activations.load(tmp_path / "link").values, want)
    assert torch.equal(filled(tmp_path / "link"), want)
    (tmp_path / "dangling").symlink_to("nothing")
    with pytest.raises(errors.OutputFolder, match="cannot be written"):
        fill(tmp_path / "dangling")


# ------------------------------------------------------------------ folders of others


@pytest.mark.parametrize(
    "files", [["thesis.txt"], ["model.safetensors"], ["prompts/mine.txt"], [".claims/mine"], ["0123456789abcdef.safetensors", "thesis.txt"]]
)
@pytest.mark.parametrize("manifest", [None, '{"name": "an app"}', "{", ""])
def test_files_of_others_stay(tmp_path, files, manifest):
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("precious")
    if manifest is not None:
        (tmp_path / MANIFEST).write_text(manifest)
    before = tree(tmp_path)
    for write in (fill, acts().save):
        with pytest.raises(errors.OutputFolder, match="choose an empty folder"):
            write(tmp_path)
    assert tree(tmp_path) == before


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    fill(tmp_path / "store")

    def refuses(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    for module, name in ((os, "mkdir"), (os, "fsync"), (os, "replace")):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, refuses)
            with pytest.raises(errors.OutputFolder, match=r"cannot be written \(Permission denied\); choose another folder"):
                fill(tmp_path / name)


# ------------------------------------------------------------------ manifests of every kind


RAW = (b"", b" ", b"null", b"[]", b"{", b'"x"', b"NaN", b"1e999", b"\xff\xfe\x00", b"\xef\xbb\xbf{}", b"\0" * 64, b"1" * 5000)
RAW = (*RAW, b"[" * 100_000, b'{"a":' * 100_000, b'{"schema": 3, "model": ' + b"[" * 100_000)


@pytest.mark.parametrize("number", range(len(RAW)))
def test_a_manifest_that_is_none(tmp_path, number):
    want = filled(tmp_path / "store")
    (tmp_path / "store" / MANIFEST).write_bytes(RAW[number])
    with pytest.raises(errors.DamagedStore, match=r"manifest\.json (cannot be read|is not that of).*; run the capture again"):
        wb.Activations.load(tmp_path / "store")
    assert torch.equal(filled(tmp_path / "store"), want)
    assert torch.equal(wb.Activations.load(tmp_path / "store").values, want)


def spots(value, path=()):
    yield path
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from spots(inner, (*path, key))


def changed(manifest, path, value):
    out = copies.deepcopy(manifest)
    where = out
    for key in path[:-1]:
        where = where[key]
    if value == "DELETE":
        del where[path[-1]]
    else:
        where[path[-1]] = value
    return out


def failure(read):
    """The error of the package that a reading ends in; `None` where it gives the right values."""
    try:
        assert read()
    except errors.WorkbenchError as error:
        return error
    return None


WRONG = (None, True, -1, 0, 10**400, float("nan"), float("inf"), "", "\ud800", "\x1b[2J", "../x", [], {}, [[]], {"a": {}}, [None], "DELETE")


def test_a_wrong_value_anywhere_in_a_manifest(tmp_path):
    store = tmp_path / "store"
    want = fill(store)

    def right(acts):  # fewer layers are right too
        return len(acts) == len(want) and all(torch.equal(acts.layer(layer), want.layer(layer)) for layer in acts.layers)

    good = read(store)
    good["shards"][shards(store)[0].name]["not_finite"] = {"0" * 16: [1, 0, "layer.0"]}
    refused, number = 0, 0
    for path in [p for p in spots(good) if p and p != ("seal",)]:
        for value in WRONG:
            number += 1
            rewrite(store, changed(good, path, value), seal=number % 3 > 0)
            error = failure(lambda: right(wb.Activations.load(store)))
            refused += error is not None
            assert error is None or str(error).isprintable(), (path, value)
            if number % 8 == 0:
                mended = copy(store)
                error = failure(lambda: right(fill(mended)))  # noqa: B023
                assert error is None or path[0] in ("settings", "schema"), (path, value, error)
    assert refused > number / 2


@pytest.mark.parametrize("content", ["[1]", "null", "{", '{"a": 1}', "[" * 100_000, '{"%s": [1, 2, 3]}', "\ud800"])
def test_stamps_prove_nothing(tmp_path, content):
    want = filled(tmp_path)
    path = shards(tmp_path)[0]
    (tmp_path / ".whole.json").write_bytes(content.replace("%s", path.name).encode("utf-8", "surrogatepass"))
    assert torch.equal(wb.Activations.load(tmp_path).values, want)
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    Stamps(tmp_path).add([path.name], read(tmp_path)["shards"])  # somebody vouches for the damaged file
    with pytest.raises(errors.DamagedStore, match=f"shard {path.name} is missing or damaged"):
        wb.Activations.load(tmp_path).values
    assert torch.equal(filled(tmp_path), want)


# ------------------------------------------------------------------ files that fit a manifest and are still wrong


def test_shards_and_rows_that_this_package_would_not_write(tmp_path):
    """Whoever made the folder made its checksums too."""
    from safetensors.torch import save

    store = tmp_path / "store"
    want = filled(store)
    path, good = shards(store)[-1], read(store)
    count = good["shards"][path.name]["items"]
    keys = json.dumps({"items": Store.existing(store).keys(path.name)})
    right = {p: torch.zeros(count, 2, 4) for p in ("layer.0", "layer.2")}
    bad = [
        (right, None), (right, {}), (right, {"workbench": "["}), (right, {"workbench": "[]"}), (right, {"workbench": '{"items": 7}'}),
        (right, {"workbench": json.dumps({"items": [1] * count})}), (right, {"workbench": '{"items": ["a"]}'}),
        ({"layer.0": right["layer.0"]}, {"workbench": keys}),
        *(({**right, "layer.0": t}, {"workbench": keys}) for t in (
            torch.zeros(0), torch.zeros(()), torch.zeros(count), torch.zeros(count, 2), torch.zeros(count - 1, 2, 4), torch.zeros(count, 3, 4),
            torch.zeros(count, 2, 5), torch.zeros(count, 2, 4, 4), torch.zeros(count, 2, 4, dtype=torch.int8),
        )),
    ]  # fmt: skip
    contents = [save(tensors, header) for tensors, header in bad] + [b"", b"\xff" * 64, (2**62).to_bytes(8, "little") + b"{}"]
    for number, data in enumerate(contents):
        path.write_bytes(data)
        manifest = copies.deepcopy(good)
        tensors = bad[number][0] if number < len(bad) else right
        manifest["shards"][path.name] |= {
            "sha256": digest(data), "bytes": max(1, len(data)), "header": digest(data[: 8 + int.from_bytes(data[:8], "little")]),
            "tensors": {p: digest(tensors.get(p, torch.zeros(1)).numpy().tobytes()) for p in ("layer.0", "layer.2")},
        }  # fmt: skip
        rewrite(store, manifest)
        with pytest.raises(errors.DamagedStore):
            wb.Activations.load(store).values
        if number not in (14, 15, 16):  # shards that fit their checksums and not each other
            assert torch.equal(filled(copy(store)), want), number
    rewrite(store, good)
    for frame in (pd.DataFrame({"a": [1]}), pd.DataFrame({"item_key": [1, 2]}), pd.DataFrame({"item_key": []}), None):
        data = b"PAR1 is how it begins" if frame is None else frame.to_parquet()
        next(store.glob("prompts/*")).write_bytes(data)
        manifest = copies.deepcopy(good)
        manifest["requests"][PROMPTS]["sha256"] = digest(data)
        rewrite(store, manifest)
        with pytest.raises(errors.DamagedStore, match="is missing or damaged"):
            wb.Activations.load(store)


def test_what_cannot_be_kept_is_said_before_it_is_written(tmp_path):
    with pytest.raises(errors.BadInput, match="no items"):
        acts(values=torch.zeros(0, 2, 1, 4), rows=ROWS[:0]).save(tmp_path / "a")
    with pytest.raises(errors.BadInput, match="a column holds what parquet cannot"):
        acts().with_column("x", np.array([{}, 1j] * 9, dtype=object)).save(tmp_path / "b")
    with pytest.raises(errors.BadInput, match="cannot be kept in a store"):
        acts(provenance={"x": {(1, 2): 3}}).save(tmp_path / "c")
    with pytest.raises(errors.BadInput, match="cannot be kept in a store"):
        acts(site="\x1b[2J").save(tmp_path / "d")
    acts(provenance={"prompts": "\ud800", "of": ROWS, "note": "\ud800"}).save(tmp_path / "e")
    assert torch.equal(wb.Activations.load(tmp_path / "e").values, acts().values)
    with pytest.raises(errors.MissingColumn, match="no column 'label'"):
        _ = acts(rows=ROWS[["identity"]]).labels
