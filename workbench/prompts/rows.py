"""Rows of outside files in several formats, and of data sets on the hub, with errors that name the file and the row."""

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
    """Read a json list, jsonl, csv or parquet file (the first three also gzipped).

    Args:
        path: The file.
        label: Its name in errors; by default the file's name, never the whole path.

    Returns:
        One mapping of columns to values per row.

    Raises:
        BadInput: The file does not exist, is empty, has another ending, or has a line that cannot be read; the message gives
            the line or the row.
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
        rows = json.loads(text)
    except json.JSONDecodeError as error:
        raise BadInput(f"{label}, line {error.lineno} column {error.colno}: not JSON ({error.msg})") from None
    if not isinstance(rows, list):
        raise BadInput(f"{label}: a list of objects is needed, and it holds one {type(rows).__name__}")
    for i, row in enumerate(rows):
        if not isinstance(row, dict):
            raise BadInput(f"{label}, row {i}: an object is needed, got {type(row).__name__}")
    return rows


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
    """Find the files of a data set.

    Args:
        path: A file (returned as it is) or a folder.
        patterns: Globs under the folder, the preferred first.
        several: Allow several files that are not shards of one table.

    Returns:
        The file; or the files of the folder that match the first pattern with a match, sorted by name.

    Raises:
        BadInput: The path does not exist, no file matches, or several do.
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
    """Yield every row of the files with its place in words ("test.csv, row 3")."""
    for file in files:
        for i, row in enumerate(read_rows(file)):
            yield f"{file.name}, row {i}", row


def need(row: Mapping[str, Any], columns: Sequence[str], where: str) -> None:
    """Raise unless a row has these columns.

    Raises:
        MissingColumn: A column is missing; the message lists those that exist.
    """
    for column in columns:
        if column not in row:
            raise MissingColumn(f"{where}: no column {column!r}; it has: {', '.join(map(str, row)) or 'none'}")


def text_of(row: Mapping[str, Any], column: str, where: str) -> str:
    """Return the text of a column, which must not be blank.

    Raises:
        MissingColumn: The column is missing.
        BadInput: The value is not a text, or blank.
    """
    need(row, (column,), where)
    value = row[column]
    if not isinstance(value, str) or not value.strip():
        raise BadInput(f"{where}: {column!r} is {value!r}, and must be text")
    return value


def normal(text: str) -> str:
    """Return a text without case and with single spaces; two questions are the same if these are equal."""
    return " ".join(text.split()).casefold()


def text_id(text: str) -> str:
    """Return a stable id of a text (10 hex digits); case and white space do not count."""
    return hashlib.sha256(normal(text).encode()).hexdigest()[:10]


def sample(items: Sequence[T], limit: int | None, seed: int, what: str) -> list[T]:
    """Draw some of the items. A smaller draw is a subset of a larger one with the same seed.

    Args:
        items: The items.
        limit: Number of items to draw, at least 1; `None`, or more than there are, for all.
        seed: Draws the items.
        what: What the items are, in the singular; it separates the draws of different data sets, and is named in errors.

    Returns:
        The drawn items, in their order.

    Raises:
        BadInput: The limit is below 1.
    """
    if limit is None:
        return list(items)
    if limit < 1:
        raise BadInput(f"limit is the number of {what} items to draw, 1 at least; got {limit}")
    drawn = numpy_rng(seed, "sample", what).permutation(len(items))[:limit]
    return [items[i] for i in sorted(drawn.tolist())]


def hub_rows(dataset: str, config: str | None = None, *, split: str, folder: str | None = None) -> list[tuple[str, Row]]:
    """Load one split of a public dataset from the hub or its cache.

    Args:
        dataset: Name on the hub.
        config: Configuration of the dataset; `None` for the default.
        split: Name of the split.
        folder: Folder of the dataset to read; `None` for all.

    Returns:
        Every row with its place in words.

    Raises:
        NetworkNeeded: The dataset is not in the cache and the hub cannot be reached.
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
    """Turn an error of the hub client into an error that says what to do."""
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in chain:
        chain.append(cause)
        cause = cause.__cause__ or cause.__context__
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
