"""How files are written (csv, json, jsonl, parquet, text): their rows, each with its place. Every reader of outside files reads here."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..core.errors import BadInput
from .cells import Place, check_text
from .left_out import leave_out

Row = dict[str, Any]


def checked_path(path: Any) -> Path:
    """Return the path of a file after checking that it is one.

    Raises:
        BadInput: It is neither a text nor a path, or holds a control character.
    """
    return path if isinstance(path, Path) else Path(check_text(path, "the path of a file"))


def read_text(path: Path, label: str) -> str:
    """Return the text of a UTF-8 file (also gzipped, by its ending).

    Args:
        path: The file.
        label: Its name in errors.

    Returns:
        The text without a byte-order mark and with its line ends as they are.

    Raises:
        BadInput: The file is not UTF-8, or not a whole gzip file.
    """
    try:
        raw = path.read_bytes()
        raw = gzip.decompress(raw) if path.suffix.lower() == ".gz" else raw
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise BadInput(f"{label} is not a whole gzip file ({error})") from None
    except OSError as error:
        raise BadInput(f"{label} cannot be read ({error.strerror})") from None
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")) or raw.count(0) > len(raw) // 4:
        raise BadInput(f"{label} is not UTF-8 text (byte 0): it looks like UTF-16; save it as UTF-8")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        start = error.start + (3 if raw.startswith(b"\xef\xbb\xbf") else 0)  # counted without the mark
        line = raw.count(b"\n", 0, start) + 1
        raise BadInput(f"{label} is not UTF-8 text (byte {start}), line {line}: save it as UTF-8") from None


def csv_lines(text: str, label: str, delimiters: str = ",") -> Iterator[tuple[int, list[str]]]:
    """Yield the rows of csv text.

    Args:
        text: The text, with its line ends as they are: those inside quotes belong to the cell.
        label: Name of the file in errors.
        delimiters: What may separate cells; of several, the one that the first line holds most often.

    Returns:
        The line on which each row begins, and its cells; empty lines are left out.

    Raises:
        BadInput: The text is not csv; the message gives the line on which the broken row begins.
    """
    first = text[: text.find("\n") + 1] or text
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(delimiters, key=first.count), strict=True)
    begins = 1
    while True:
        limit = csv.field_size_limit(2**31 - 1)  # the default of 131,072 characters is shorter than a long conversation
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise BadInput(f"{label}, line {begins}: not csv ({error})") from None
        finally:
            csv.field_size_limit(limit)
        if cells is None:
            return
        if cells:
            yield begins, cells
        begins = reader.line_num + 1


def check_columns(names: Sequence[Any], label: str) -> None:
    """Raise unless every column of a table has a name of its own.

    Raises:
        BadInput: Two columns have one name, or a name holds a control character or half a character; the message gives the places.
    """
    places: dict[str, int] = {}
    for i, name in enumerate(map(str, names), 1):
        check_text(name, f"{label}: the name of column {i}", blank=True)
        if name in places:
            raise BadInput(f"{label} has two columns named {name!r} (columns {places[name]} and {i}): rename or remove one")
        places[name] = i


def csv_rows(text: str, label: str) -> list[tuple[Place, Row]]:
    """Return the rows of csv text; the first line names the columns."""
    rows: list[tuple[Place, Row]] = []
    head: list[str] | None = None
    count = 0
    for line, cells in csv_lines(text, label):
        if head is None:
            check_columns(head := cells, label)
            continue
        place = Place(label, count, f"line {line}")
        count += 1
        if len(cells) == len(head):
            rows.append((place, dict(zip(head, cells, strict=True))))
            continue
        why = f"{len(cells)} fields under {len(head)} columns; a text with a comma needs quotes"
        leave_out(place, BadInput(f"{label}, row {place.row} (line {line}): {why}"))
    return rows


class _Doubled(dict[str, Any]):
    """A JSON object with a key that it has twice."""

    key = ""


def _object(pairs: list[tuple[str, Any]]) -> Row:
    out = dict(pairs)
    inner = next((value.key for value in out.values() if isinstance(value, _Doubled)), "")
    if inner or len(out) < len(pairs):
        out, keys = _Doubled(out), [key for key, _ in pairs]
        out.key = inner or next(key for key in keys if keys.count(key) > 1)
    return out


_DECODER = json.JSONDecoder(object_pairs_hook=_object)
_BETWEEN = re.compile(r"[ \t\n\r,]*")


def json_rows(text: str, label: str) -> list[tuple[Place, Row]]:
    """Return the rows of a JSON list of objects."""
    values = _decode(text, label)
    if not isinstance(values, list):
        raise BadInput(f"{label}: a list of objects is needed, and it holds one {type(values).__name__}")
    out, line, seen, at = [], 1, 0, text.find("[") + 1
    for i in range(len(values)):  # once more value by value: on which line does each begin?
        at = _BETWEEN.match(text, at).end()  # pyright: ignore[reportOptionalMemberAccess]
        line, seen = line + text.count("\n", seen, at), at
        value, at = _DECODER.raw_decode(text, at)
        _keep(out, value, Place(label, i, f"line {line}"))
    return out


def jsonl_rows(text: str, label: str) -> list[tuple[Place, Row]]:
    """Return the rows of JSON objects, one a line."""
    out: list[tuple[Place, Row]] = []
    count = 0
    # not splitlines: it cuts at characters that JSON allows inside a string (U+2028)
    for i, line in enumerate(text.split("\n"), 1):
        if line.strip(" \t\r"):
            place = Place(label, count, f"line {i}")
            count += 1
            try:
                value = _decode(line, label, i)
            except BadInput as error:
                leave_out(place, error)
            else:
                _keep(out, value, place)
    return out


def _decode(text: str, label: str, line: int | None = None) -> Any:
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError as error:
        if line is None:
            raise BadInput(f"{label}, line {error.lineno} column {error.colno}: not JSON ({error.msg})") from None
        raise BadInput(f"{label}, line {line}: not JSON ({error.msg}, column {error.colno})") from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, brackets in brackets
        raise BadInput(f"{label}{'' if line is None else f', line {line}'}: not JSON that can be read ({error})") from None


def _keep(rows: list[tuple[Place, Row]], value: Any, place: Place) -> None:
    """Add a JSON value to the rows, if it is one."""
    if isinstance(value, dict) and not isinstance(value, _Doubled):
        rows.append((place, value))
        return
    twice = f"two columns named {value.key!r}: rename or remove one" if isinstance(value, _Doubled) else ""
    leave_out(place, place.error(twice or f"an object is needed, got {type(value).__name__}"))


def parquet_rows(path: Path, label: str) -> list[tuple[Place, Row]]:
    """Return the rows of a parquet file."""
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            table = file.read()
        check_columns(table.column_names, label)
        # pandas keeps the row numbers of a part of a table as a column
        rows = table.drop_columns([c for c in table.column_names if re.fullmatch(r"__index_level_\d+__", c)]).to_pylist()
    except BadInput:
        raise
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        why = (str(error).replace(str(path), label).splitlines() or ["no reason given"])[0]
        raise BadInput(f"{label} cannot be read as parquet ({why[:160]})") from None
    return [(Place(label, i), row) for i, row in enumerate(rows)]
