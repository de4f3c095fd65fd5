"""The row tables of a store: one parquet file per prompt set, with the key of each item."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd

from ..core.errors import BadInput
from .files import digest, own_folder, read_file, write_file
from .manifest import TABLE_NAME, TABLES

KEY = "item_key"


def table_bytes(rows: pd.DataFrame, keys: Sequence[str]) -> bytes:
    """Return a row table and the keys of its items as parquet.

    Raises:
        BadInput: A column holds what parquet cannot.
    """
    try:
        return rows.assign(**{KEY: list(keys)}).to_parquet()
    except (ValueError, TypeError, NotImplementedError, OverflowError) as error:
        raise BadInput(f"the row table cannot be kept: a column holds what parquet cannot ({error})") from None


def write_table(folder: Path, prompts: str, data: bytes) -> None:
    """Write the row table of a prompt set. The caller holds the store's lock.

    Raises:
        BadInput: The name cannot be that of a file.
        OSError: It cannot be written.
    """
    if not TABLE_NAME.fullmatch(prompts):
        raise BadInput(f"a prompt set named {prompts!r} cannot be kept in a store: letters, digits, '_', '-' and '.' make a name")
    write_file(own_folder(folder / TABLES, make=True) / f"{prompts}.parquet", data)


def whole_table(folder: Path, prompts: str, entry: Mapping[str, Any]) -> bytes | None:
    """Return the file of a row table, if it is as it was written.

    Args:
        folder: The store's folder.
        prompts: The prompt set, one that the manifest names.
        entry: What the manifest says of it.

    Returns:
        The bytes, compared with their checksum, or with that of the rows that were about to replace them; `None` where they
        differ, or the file is missing or a link.
    """
    try:
        data = read_file(own_folder(folder / TABLES) / f"{prompts}.parquet")
    except OSError:
        return None
    return data if digest(data) in (entry["sha256"], entry.get("coming")) else None


def read_table(folder: Path, prompts: str, entry: Mapping[str, Any]) -> tuple[pd.DataFrame, list[str]] | None:
    """Return a row table and the keys of its items.

    Args:
        folder, prompts, entry: As for `whole_table`.

    Returns:
        The rows, and the key of each; `None` where they are not as they were written.
    """
    data = whole_table(folder, prompts, entry)
    if data is not None:
        with suppress(Exception):  # the manifest names these bytes: if they are no such table, this package wrote neither
            frame = pd.read_parquet(io.BytesIO(data))
            keys = frame.pop(KEY).tolist()
            if keys and all(isinstance(k, str) for k in keys):
                return frame, keys
    return None
