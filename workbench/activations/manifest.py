"""A store's manifest: reading it, checking every value in it, sealing it, and comparing its model with another."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..core.errors import BadInput, DamagedStore, OutputFolder, WrongModel
from .files import CLAIMS, LOCK, digest, own_folder, plain, read_file, write_file

SCHEMA = 3
UNSEALED = 2  # had no seal, and no checksum of a shard's header; it is read, and sealed when the store is next written to
MANIFEST = "manifest.json"
STAMPS = ".whole.json"
TABLES = "prompts"
AGAIN = "run the capture again (or save again) to write it anew"
_PARTS = ("schema", "model", "settings", "requests", "shards")
_HEX = "[0-9a-f]"
_SHARD = re.compile(rf"{_HEX}{{16}}\.safetensors")
TABLE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_PART = re.compile(r"(layer|sinks)\.-?[0-9]{1,6}|mask|logp\.[A-Za-z0-9_]{1,64}")
_SHA256 = re.compile(rf"{_HEX}{{64}}")
_TEMPORARY = re.compile(rf"\.(manifest\.json|\.whole\.json|{_HEX}{{16}}\.safetensors|[A-Za-z0-9_.-]+\.parquet)(\.\d+\.{_HEX}{{8}})?\.tmp")


class _Damaged(ValueError):
    """What is wrong with a manifest that nothing can be read from. The next capture into its folder may replace it."""


def model_of(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Return the model that a provenance names, as a key of a model (`ModelInfo.key`); empty where it names none."""
    model = provenance.get("model", {})
    return dict(model) if isinstance(model, Mapping) else {"name": str(model)}


def same_model(have: Mapping[str, Any], want: Mapping[str, Any]) -> None:
    """Raise unless two model keys name the same weights, dtype, processing mode and vocabulary.

    Args:
        have: The key of the model that the activations come from (`ModelInfo.key`).
        want: The key of the model that they should come from.

    Raises:
        WrongModel: The keys differ.
    """
    for key in ("digest", "dtype", "processing", "vocabulary"):
        if have.get(key) != want.get(key):
            raise WrongModel(
                f"these activations come from {have.get('name')!r} ({key} {have.get(key)!r}), not from {want.get('name')!r} "
                f"({key} {want.get(key)!r}). Capture them again from the model you mean"
            )


def again(manifest: Mapping[str, Any]) -> str:
    """Return what to do about a file of a store that is missing or damaged, in words."""
    return f"{'save it' if manifest['settings'].get('origin') == 'saved' else 'run the capture'} again to write it anew"


def unfinished(manifest: Mapping[str, Any], lacking: str = "") -> str:
    """Return what to do about activations that were not written to the end, in words; `lacking` says what is missing."""
    if manifest["settings"].get("origin") == "saved":
        return f"it was not saved to the end{lacking}; save it again"
    return f"the capture did not finish{lacking}; run it again with the same store to resume"


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read a folder's manifest.

    Raises:
        DamagedStore: The manifest is missing, damaged, or written by another version, or it is not one that this package wrote.
    """
    try:
        return _parse(folder.name, read_file(folder / MANIFEST))
    except FileNotFoundError:
        raise DamagedStore(f"{folder.name}: not an activation folder (no {MANIFEST})") from None
    except OSError as error:
        raise DamagedStore(f"{folder.name}: {MANIFEST} cannot be read ({error.strerror or error})") from None
    except _Damaged as error:
        raise DamagedStore(f"{folder.name}: its {MANIFEST} {error}; {AGAIN}") from None


def manifest_to_continue(folder: Path) -> dict[str, Any] | None:
    """Read the manifest of a folder that activations will be written to. The caller holds the lock, if there is one yet.

    Returns:
        The manifest; `None` where a new one may be written: the folder is empty, a process was killed before it wrote the first
        manifest, or the manifest of a store is damaged.

    Raises:
        OutputFolder: The folder holds something else, which stays as it is.
    """
    data = b""
    try:
        data = read_file(folder / MANIFEST)
        return _parse(folder.name, data)
    except FileNotFoundError:
        if _strange(folder):
            raise OutputFolder(f"{folder.name} holds something else; choose an empty folder for activations") from None
    except OSError as error:
        raise OutputFolder(f"{folder.name}: {MANIFEST} cannot be read ({error.strerror or error}); choose an empty folder") from None
    except DamagedStore as error:
        raise OutputFolder(f"{error}; choose an empty folder") from None
    except _Damaged as error:
        if not _a_stores(folder, data):
            raise OutputFolder(f"{folder.name}: its {MANIFEST} {error}; choose an empty folder") from None
    return None


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write a manifest with its seal. The caller holds the lock.

    Raises:
        BadInput: It holds what JSON cannot keep, or a name that no file of a store has.
    """
    try:  # as it will be read
        body = json.loads(json.dumps({**manifest, "schema": SCHEMA}, default=str))
        _check(body)
    except (TypeError, ValueError, RecursionError) as error:
        raise BadInput(f"these activations cannot be kept in a store: its {MANIFEST} {error}") from None
    write_file(folder / MANIFEST, json.dumps({**body, "seal": _seal(body)}, indent=1).encode())


def sweep(folder: Path) -> None:
    """Remove the temporary files that killed processes left. The caller holds the lock, under which there are no others."""
    for place in (folder, folder / TABLES):
        if place.is_dir() and not (place.is_symlink() and place != folder):
            for path in place.iterdir():
                if _TEMPORARY.fullmatch(path.name):
                    path.unlink(missing_ok=True)


def _seal(manifest: Mapping[str, Any]) -> str:
    return digest(json.dumps({k: v for k, v in manifest.items() if k != "seal"}, sort_keys=True).encode())


def _parse(name: str, data: bytes) -> dict[str, Any]:
    try:
        manifest = json.loads(data.decode())
        _seal(manifest if isinstance(manifest, dict) else {})
    except (ValueError, RecursionError) as error:
        raise _Damaged(f"cannot be read ({error})") from None
    if not isinstance(manifest, dict) or not set(_PARTS) <= set(manifest):
        raise _Damaged("is not that of an activation folder")
    for file in [f for part in ("requests", "shards") if isinstance(manifest[part], dict) for f in manifest[part]]:
        if ".." in file or file.startswith(("/", "\\")):
            raise DamagedStore(f"{name}: its {MANIFEST} names {_few(file)!r} outside the folder, which this package never writes")
    _check_seal(name, manifest)
    _check(manifest)
    manifest.pop("seal", None)
    return manifest


def _check_seal(name: str, manifest: Mapping[str, Any]) -> None:
    """Raise unless a manifest is of a known version and as it was written."""
    schema = manifest["schema"]
    if type(schema) is not int:
        raise _Damaged("has a schema that is no whole number")
    whole = manifest["seal"] == _seal(manifest) if "seal" in manifest else schema < SCHEMA
    if whole and schema in (UNSEALED, SCHEMA):
        return
    if schema in (UNSEALED, SCHEMA):
        raise _Damaged("is damaged: it differs from its seal")
    advice = "update the workbench" if schema > SCHEMA else "capture it again"
    version = f"written by another version (schema {_few(schema)}, this is {SCHEMA}); {advice}"
    if not whole and manifest.get("seal") == _seal({**manifest, "schema": SCHEMA}):
        raise _Damaged(f"is damaged, or {version}")
    raise DamagedStore(f"{name}: {version}")


def _check(manifest: Mapping[str, Any]) -> None:
    """Raise unless every value of a manifest has the type that it should have."""
    _need(manifest, "model", dict)
    settings = _need(manifest, "settings", dict)
    for key in ("site", "position"):
        if not _need(settings, key, str).isprintable():
            raise _Damaged(f"is malformed: {key} {settings[key]!r}")
    for prompts, request in _need(manifest, "requests", dict).items():
        _name(prompts, TABLE_NAME)
        _check_parts(_entry(prompts, request))
        if not any(p.startswith("layer.") for p in request["parts"]):
            raise _Damaged(f"is malformed: {prompts} names no layer")
        _name(request.get("coming", request["sha256"]), _SHA256)
        if not isinstance(_need(request, "provenance", dict).get("model", {}), dict):
            raise _Damaged(f"is malformed: the model of {prompts}")
    for shard, entry in _need(manifest, "shards", dict).items():
        _name(shard, _SHARD)
        _check_parts(_entry(shard, entry))
        if _need(entry, "bytes", int) < 1 or set(_need(entry, "tensors", dict)) != set(entry["parts"]):
            raise _Damaged(f"is malformed: the size or the tensors of {shard}")
        for checksum in [*entry["tensors"].values(), *([entry["header"]] if "header" in entry else [])]:
            _name(checksum, _SHA256)
        for place in _need({"not_finite": {}, **entry}, "not_finite", dict).values():
            if not isinstance(place, list) or [type(x) for x in place] != [int, int, str]:
                raise _Damaged(f"is malformed: what is not finite in {shard}")


def _entry(name: str, entry: Any) -> Mapping[str, Any]:
    if not isinstance(entry, dict):
        raise _Damaged(f"is malformed: {name} is no object")
    _name(_need(entry, "sha256", str), _SHA256)
    if not 0 < _need(entry, "items", int) < 2**53:
        raise _Damaged(f"is malformed: the number of items of {name}")
    return entry


def _check_parts(entry: Mapping[str, Any]) -> None:
    parts = _need(entry, "parts", list)
    for part in parts:
        _name(part, _PART)
    if len(set(parts)) != len(parts):
        raise _Damaged("is malformed: a part is named twice")


def _need(where: Mapping[str, Any], key: str, kind: type) -> Any:
    if type(where.get(key)) is not kind:
        raise _Damaged(f"is malformed: {key} is missing or no {kind.__name__}")
    return where[key]


def _name(text: Any, pattern: re.Pattern[str]) -> None:
    if not isinstance(text, str) or not pattern.fullmatch(text):
        raise _Damaged(f"is malformed: it names {_few(text)!r}")


def _few(value: object) -> object:
    """Return a value, or the beginning of its text where that is long."""
    text = str(value)
    return value if len(text) < 80 else f"{text[:80]}…"


def _strange(folder: Path) -> bool:
    """Whether a folder holds anything that a store would not hold."""
    try:
        for path in folder.iterdir():
            if path.name in (CLAIMS, TABLES):
                suffix = r".+\.lock" if path.name == CLAIMS else rf"{_HEX}{{16}}\.parquet"
                good = all(re.fullmatch(suffix, p.name) or _TEMPORARY.fullmatch(p.name) for p in own_folder(path).iterdir())
            else:
                good = path.name in (MANIFEST, LOCK, STAMPS) or _SHARD.fullmatch(path.name) or _TEMPORARY.fullmatch(path.name)
                with suppress(FileNotFoundError):  # the temporary file of another process, already renamed
                    plain(path)
            if not good:
                return True
    except OSError:
        return True
    return False


def _a_stores(folder: Path, data: bytes) -> bool:
    """Whether a damaged manifest was that of a store: by most of its words, or by what lies beside it."""
    if sum(f'"{word}"'.encode() in data for word in (*_PARTS, "seal")) >= len(_PARTS) - 1:
        return True
    beside = [p for p in folder.iterdir() if _SHARD.fullmatch(p.name) or p.name == TABLES]
    return not _strange(folder) and bool(beside or not data.strip())
