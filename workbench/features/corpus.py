"""Texts that are at hand without a network: files of the user, statements of the project, documentation inside installed packages."""

from __future__ import annotations

import ast
import importlib.util
import sysconfig
import tokenize
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import BadInput, UnknownName
from ..core.seeds import numpy_rng
from ..models.control import control_tokens
from ..models.tokens import encode
from ..prompts import read_lines, udhr
from ..prompts.table import open_table

DOCSTRINGS = "docstrings:"
TABLES = (".csv", ".json", ".jsonl", ".ndjson", ".parquet")
WORDS = 80  # of one text; longer ones are cut
STATEMENTS = 2000  # of the project's own, which are much alike
LEAST = 4  # words, below which a cell is no text


def corpus(model: Any, sources: Sequence[str], *, tokens: int | None = None, words: int = WORDS, seed: int = 0) -> dict[str, list[str]]:
    """Return texts by source, none of them twice.

    Args:
        model: What `load_model` returns, for its tokenizer.
        sources: In this order, "udhr" (statements of the project), "docstrings:PACKAGE" (of an installed package; "docstrings:stdlib" of
            Python itself), or a file or folder: text files with a text a line, and tables, whose cells of four words or more are texts.
        tokens: Stop when so many are reached; `None` takes everything.
        words: Words of a text at most: longer ones are cut into texts.
        seed: Draws which texts of a source are taken where not all are.

    Returns:
        Texts that hold control tokens of the tokenizer are left out. By source, its texts in an order drawn at random.

    Raises:
        UnknownName: There is no such file, folder or package.
        BadInput: No text at all, or fewer tokens than were asked for.
    """
    if words < LEAST or not sources:
        raise BadInput(f"words={words} ({LEAST} at least) of {len(sources)} sources (1 at least)")
    marks = tuple(control_tokens(model.tokenizer).values())
    out: dict[str, list[str]] = {}
    seen: set[str] = set()
    left = float("inf") if tokens is None else tokens
    for source in sources:
        cut = dict.fromkeys(c for text in _texts(source) for c in _cut(text, words))
        found = [t for t in cut if t not in seen and not any(m in t for m in marks)]
        found = [found[i] for i in numpy_rng(seed, "corpus", source).permutation(len(found))]
        if tokens is not None:
            ends = np.cumsum([len(ids) for ids in encode(model, found)] if found else [0])
            found = found[: int(np.searchsorted(ends, left)) + 1]
            left -= ends[min(len(found), len(ends)) - 1]
        seen.update(found)
        out[source] = found
        if left <= 0:
            break
    if not seen or (tokens is not None and left > 0):
        had = "no text" if not seen else f"{tokens - int(left):,} tokens" if tokens is not None else ""
        raise BadInput(f"{', '.join(sources)} have {had}{'' if tokens is None else f', and {tokens:,} were asked for'}: name more sources")
    return out


def _cut(text: str, words: int) -> Iterator[str]:
    parts = text.split()
    for start in range(0, len(parts), words):
        if len(parts[start : start + words]) >= LEAST:
            yield " ".join(parts[start : start + words])


def _texts(source: str) -> Iterator[str]:
    if source == "udhr":
        yield from (p.stem + p.positive for p in udhr(template="base_short", n=STATEMENTS))
    elif source.startswith(DOCSTRINGS):
        yield from _docstrings(source.removeprefix(DOCSTRINGS))
    else:
        path = Path(source).expanduser()
        if not path.exists():
            raise UnknownName(f"no file or folder {source!r}; sources are also 'udhr' and '{DOCSTRINGS}PACKAGE'")
        for file in sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]:
            yield from _of_file(file)


def _of_file(file: Path) -> Iterator[str]:
    if file.suffix == ".txt":
        yield from read_lines(file)
    elif file.suffix in TABLES:
        for _, row in open_table(file).rows:
            yield from (cell for cell in row.values() if isinstance(cell, str))


def _docstrings(name: str) -> Iterator[str]:
    """Docstrings of every module of a package, read and not imported."""
    if name == "stdlib":
        folders = [Path(sysconfig.get_paths()["stdlib"])]
    else:
        spec = importlib.util.find_spec(name) if name.isidentifier() else None
        if spec is None or not spec.submodule_search_locations:
            raise UnknownName(f"no package {name!r} is installed here whose docstrings could be read")
        folders = [Path(p) for p in spec.submodule_search_locations]
    for folder in folders:
        for file in sorted(folder.rglob("*.py")):
            if {"site-packages", "test", "tests", "__pycache__"} & set(file.relative_to(folder).parts):
                continue
            try:
                with tokenize.open(file) as handle:
                    tree = ast.parse(handle.read())
            except (SyntaxError, UnicodeDecodeError, OSError):
                continue  # samples of other versions
            for node in ast.walk(tree):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module) and (
                    doc := ast.get_docstring(node)
                ):
                    yield doc
