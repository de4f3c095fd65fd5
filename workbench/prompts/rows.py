"""The one reader of outside files (json, jsonl, csv, parquet, text) and of data sets on the hub; errors name the file and the row."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from ..core.errors import BadInput, EmptyPromptSet, GatedModel, NetworkNeeded
from ..core.seeds import numpy_rng
from .cells import Place, check_count
from .formats import Row, checked_path, csv_rows, json_rows, jsonl_rows, parquet_rows, read_text

T = TypeVar("T")
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
        One mapping of columns to values per row. Cells of a csv file are texts, exactly as they stand there.

    Raises:
        EmptyPromptSet: The file has no rows.
        BadInput: The file does not exist, has another ending, is not UTF-8, names a column twice, or has a line that cannot be
            read; the message gives the line or the row.
    """
    return [row for _, row in placed_rows(path, label)]


def placed_rows(path: str | Path, label: str | None = None) -> list[tuple[Place, Row]]:
    """Return the rows of a file, as `read_rows` does, each with its place."""
    path = checked_path(path)
    label = label or path.name
    if not path.is_file():
        raise BadInput(f"no file {label!r}" + (": it is a folder" if path.is_dir() else ""))
    ending = ending_of(path)
    if ending not in ENDINGS or (ending == ".parquet" and path.suffix.lower() == ".gz"):
        raise BadInput(
            f"{label}: a file of rows ends in one of {', '.join(ENDINGS)} (all but parquet also with .gz); "
            "save it as .csv, .jsonl or .parquet"
        )
    if ending == ".parquet":
        rows = parquet_rows(path, label)
    else:
        rows = {".json": json_rows, ".csv": csv_rows}.get(ending, jsonl_rows)(read_text(path, label), label)
    if not rows:
        raise EmptyPromptSet(f"{label} has no rows")
    return rows


def ending_of(path: Path) -> str:
    """Return the ending that says how a file is written: ".csv" of "x.CSV" and of "x.csv.gz"."""
    return (Path(path.stem) if path.suffix.lower() == ".gz" else path).suffix.lower()


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
        hits = sorted(p for p in path.glob(pattern) if p.is_file() and ending_of(p) in ENDINGS)
        if not hits:
            continue
        if len(hits) > 1 and not several and not all(_SHARD.search(p.name) for p in hits):
            raise BadInput(f"several files of {path.name!r} fit: {', '.join(p.name for p in hits)}. Pass the one you mean")
        return hits
    here = ", ".join(sorted(p.name for p in path.iterdir())[:12]) or "nothing"
    raise BadInput(f"the folder {path.name!r} has no file {' or '.join(map(repr, patterns))}; it holds: {here}")


def numbered(files: Sequence[Path], label: str | None = None) -> Iterator[tuple[Place, Row]]:
    """Yield every row of the files with its place.

    Args:
        files: The files.
        label: What to call them in errors; by default each by its name.
    """
    for file in files:
        yield from placed_rows(file, label)


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
        BadInput: The limit is no whole number, or below 1.
    """
    if limit is None:
        return list(items)
    limit = check_count(limit, f"limit is the number of {what} items to draw")
    drawn = numpy_rng(seed, "sample", what).permutation(len(items))[:limit]
    return [items[i] for i in sorted(drawn.tolist())]


def hub_rows(dataset: str, config: str | None = None, *, split: str, folder: str | None = None) -> list[tuple[Place, Row]]:
    """Load one split of a public dataset from the hub or its cache.

    Args:
        dataset: Name on the hub.
        config: Configuration of the dataset; `None` for the default.
        split: Name of the split.
        folder: Folder of the dataset to read; `None` for all.

    Returns:
        Every row with its place.

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
    return [(Place(f"{dataset} ({split})", i), row) for i, row in enumerate(rows)]


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
