"""Rows of outside files, whatever their format, with errors that name the file and the row; and rows from the hub."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from ..core.errors import BadInput, GatedModel, MissingColumn, NetworkNeeded
from ..core.seeds import numpy_rng

T = TypeVar("T")
Row = dict[str, Any]
ENDINGS = (".json", ".jsonl", ".ndjson", ".csv", ".parquet")
_SHARD = re.compile(r"-\d+-of-\d+\.")
_OFFLINE = {
    "LocalEntryNotFoundError",
    "OfflineModeIsEnabled",
    "ConnectError",
    "ConnectionError",
    "ConnectTimeout",
    "ReadTimeout",
    "MaxRetryError",
    "ProxyError",
}


def read_rows(path: str | Path, label: str | None = None) -> list[Row]:
    """Read a json list, jsonl, csv or parquet file (the first three also gzipped) as mappings.

    Args:
        path: The file.
        label: What errors call it; by default its name (never the whole path).

    Raises:
        BadInput: No such file, another ending, or a line that cannot be read; the message gives the line or the row.
    """
    path = Path(path)
    label = label or path.name
    if not path.is_file():
        raise BadInput(f"no file {label!r}" + (": it is a folder" if path.is_dir() else ""))
    ending = Path(path.stem).suffix if path.suffix == ".gz" else path.suffix
    if ending not in ENDINGS or (ending == ".parquet" and path.suffix == ".gz"):
        raise BadInput(f"{label}: a file of rows ends in one of {', '.join(ENDINGS)} (all but parquet also with .gz)")
    if ending == ".parquet":
        rows = _parquet(path, label)
    else:
        rows = {".json": _json, ".csv": _csv}.get(ending, _jsonl)(_text(path, label), label)
    if not rows:
        raise BadInput(f"{label} has no rows")
    return rows


def _text(path: Path, label: str) -> str:
    try:
        raw = path.read_bytes()
        return (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(f"{label} is not UTF-8 text (byte {error.start})") from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise BadInput(f"{label} is not a whole gzip file ({error})") from None


def _json(text: str, label: str) -> list[Row]:
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise BadInput(f"{label}, line {error.lineno} column {error.colno}: not JSON ({error.msg})") from None
    if not isinstance(found, list):
        raise BadInput(f"{label}: a list of objects is needed, and it holds one {type(found).__name__}")
    for i, row in enumerate(found):
        if not isinstance(row, dict):
            raise BadInput(f"{label}, row {i}: an object is needed, got {type(row).__name__}")
    return found


def _jsonl(text: str, label: str) -> list[Row]:
    rows = []
    # not splitlines: it cuts at characters that JSON allows inside a string (U+2028)
    for i, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise BadInput(f"{label}, line {i}: not JSON ({error.msg}, column {error.colno})") from None
        if not isinstance(row, dict):
            raise BadInput(f"{label}, line {i}: an object is needed, got {type(row).__name__}")
        rows.append(row)
    return rows


def _csv(text: str, label: str) -> list[Row]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    rows: list[Row] = []
    try:
        for row in reader:
            wide = len(reader.fieldnames or ())
            if None in row or None in row.values():
                count = sum(v is not None for k, v in row.items() if k is not None) + len(row.get(None) or ())
                raise BadInput(f"{label}, row {len(rows)} (line {reader.line_num}): {count} fields under {wide} columns")
            rows.append(dict(row))
    except csv.Error as error:
        raise BadInput(f"{label}, line {reader.reader.line_num}: not csv ({error})") from None
    return rows


def _parquet(path: Path, label: str) -> list[Row]:
    import pyarrow.parquet

    try:
        return pyarrow.parquet.read_table(path).to_pylist()
    except (OSError, ValueError) as error:
        why = str(error).replace(str(path), label).splitlines()[0]
        raise BadInput(f"{label} cannot be read as parquet ({why[:160]})") from None


def find_files(path: str | Path, patterns: Sequence[str], *, several: bool = False) -> list[Path]:
    """Return the file asked for, or those of a folder that fit the first pattern that any fits.

    Args:
        path: A file (returned as it is) or a folder.
        patterns: Globs under the folder, the best first.
        several: Allow files that are not shards of one table.

    Raises:
        BadInput: There is no such path, nothing fits, or several files do.
    """
    path = Path(path)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise BadInput(f"no file or folder {path.name!r}")
    for pattern in patterns:
        hits = sorted(p for p in path.glob(pattern) if p.is_file() and any(e in p.suffixes for e in ENDINGS))
        if not hits:
            continue
        if len(hits) > 1 and not several and not all(_SHARD.search(p.name) for p in hits):
            raise BadInput(f"several files of {path.name!r} fit: {', '.join(p.name for p in hits)}. Pass the one you mean")
        return hits
    here = ", ".join(sorted(p.name for p in path.iterdir())[:12]) or "nothing"
    raise BadInput(f"the folder {path.name!r} has no file {' or '.join(map(repr, patterns))}; it holds: {here}")


def numbered(files: Sequence[Path]) -> Iterator[tuple[str, Row]]:
    """Yield every row of some files with its place in words ("test.csv, row 3")."""
    for file in files:
        for i, row in enumerate(read_rows(file)):
            yield f"{file.name}, row {i}", row


def need(row: Mapping[str, Any], columns: Sequence[str], where: str) -> None:
    """Raise unless a row has these columns.

    Raises:
        MissingColumn: One is not there; the message lists those that are.
    """
    for column in columns:
        if column not in row:
            raise MissingColumn(f"{where}: no column {column!r}; it has: {', '.join(map(str, row)) or 'none'}")


def text_of(row: Mapping[str, Any], column: str, where: str) -> str:
    """Return a text that must be there and not be blank.

    Raises:
        MissingColumn, BadInput: The column is not there, or holds something else.
    """
    need(row, (column,), where)
    value = row[column]
    if not isinstance(value, str) or not value.strip():
        raise BadInput(f"{where}: {column!r} is {value!r}, and must be text")
    return value


def normal(text: str) -> str:
    """Return a text with runs of white space as one space and without case: what counts as the same question."""
    return " ".join(text.split()).casefold()


def text_id(text: str) -> str:
    """Return a stable id of a text (10 hex digits), the same wherever the text stands."""
    return hashlib.sha256(normal(text).encode()).hexdigest()[:10]


def sample(items: Sequence[T], limit: int | None, seed: int, what: str) -> list[T]:
    """Return some of the items, in their order; a smaller draw is a subset of a larger one by the same seed.

    Raises:
        BadInput: The limit is not positive.
    """
    if limit is None:
        return list(items)
    if limit < 1:
        raise BadInput(f"limit is the number of {what} items to draw, 1 at least; got {limit}")
    drawn = numpy_rng(seed, "sample", what).permutation(len(items))[:limit]
    return [items[i] for i in sorted(drawn.tolist())]


def hub_rows(dataset: str, config: str | None = None, *, split: str, folder: str | None = None) -> list[tuple[str, Row]]:
    """Download (or take from the cache) one split of a public dataset, each row with its place in words.

    Raises:
        NetworkNeeded: It is not in the cache and the hub cannot be reached.
        GatedModel: The dataset asks for a licence or a token.
        BadInput: The hub has no such dataset, configuration or split, or the `datasets` library is not installed.
    """
    try:
        from datasets import load_dataset
    except ImportError:
        raise BadInput(f"{dataset!r} on the hub needs the library `datasets`: install it, or pass the path of a downloaded copy") from None
    given: dict[str, Any] = {} if folder is None else {"data_dir": folder}
    try:
        rows = [dict(row) for row in load_dataset(dataset, config, split=split, **given)]  # pyright: ignore
    except Exception as error:
        raise explain_hub(error, dataset) from error
    return [(f"{dataset} ({split}), row {i}", row) for i, row in enumerate(rows)]


def explain_hub(error: BaseException, dataset: str) -> Exception:
    """Turn what the hub client raised into an error that says what to do."""
    chain: list[BaseException] = []
    one: BaseException | None = error
    while one is not None and one not in chain:
        chain.append(one)
        one = one.__cause__ or one.__context__
    kinds, text = {type(e).__name__ for e in chain}, " ".join(map(str, chain)).lower()
    if "GatedRepoError" in kinds or "gated" in text:
        return GatedModel(
            f"{dataset!r}: a gated dataset. Accept its licence on the hub, then log in with `hf auth login`; "
            "or download it and pass its folder as path=…"
        )
    if kinds & _OFFLINE or "offline" in text or "couldn't reach" in text:
        return NetworkNeeded(
            f"the dataset {dataset!r} is not in the cache and the hub cannot be reached. Connect, or download it elsewhere and "
            "pass its file or folder as path=…"
        )
    return BadInput(f"{dataset!r} cannot be read from the hub ({str(error).splitlines()[0][:200]}). Pass a downloaded copy as path=…")
