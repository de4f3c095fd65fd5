"""What studies have computed, by content, for all of them: a step is never repeated.

    ROOT/acts/HASH/          activations of one model, site and position: every prompt set that any study read there
    ROOT/tables/HASH.parquet tables, each with a digest of its name and its bytes in HASH.sha256
    ROOT/folders/HASH/       anything else that a step wrote to files (vectors, adapters, dictionaries), sealed by seal.json
    ROOT/models/HASH.json    what a model's files load as, by the content of the files
    ROOT/journal.jsonl       how long each step took, for `--plan`

ROOT is `WORKBENCH_CACHE`, or `~/.cache/workbench`. Keys hold a hash of the code that computes the thing: activations depend on `core`,
`models` and `activations`; tables and folders on every room below the studies and on the study's own folder. Versions of the packages are
in both. A digest is of the name and the content: neither a changed file nor the whole one of another step is taken for a result.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock, Timeout

from ..core.errors import DamagedStore
from ..core.paths import cache_root
from ..core.provenance import content_hash, source_hash, versions
from ..core.whole import write_whole
from .digests import file_digest
from .shape import Maybe, misfit, read_json

READS = ("core/", "models/", "activations/")
SHOWS = ("core/show.py", "core/notebook.py", "core/machine.py")  # how things look in a notebook, and the doctor
KINDS = ("acts", "tables", "folders", "models")
SEAL = "seal.json"
_KEPT = 4000
_TOLD = {
    "study": str,
    "step": str,
    "seconds": float,
    "tokens": Maybe(float),
    "read": Maybe(float),
    "size": Maybe((float, None)),
    "fast": Maybe((bool, None)),
    "source": Maybe((str, None)),
}


class Cache:
    """A cache folder.

    Args:
        root: The folder; by default `cache_root()`.
    """

    def __init__(self, root: str | Path | None = None) -> None:
        self.root = Path(root) if root is not None else cache_root()

    # ------------------------------------------------------------------ where things lie

    def activations(self, key: Any) -> Path:
        """Return the folder of the activations of one model, site and position."""
        return self.root / "acts" / content_hash(source_hash(only=READS, without=SHOWS), versions(), key)

    def table(self, name: str, key: Any, source: str = "") -> Path:
        """Return the file of a step's table.

        Args:
            name: The step.
            key: Everything else that decides the result, JSON-like.
            source: Hash of the code that computes it.
        """
        return self.root / "tables" / f"{content_hash(source, versions(), name, key)}.parquet"

    def folder(self, name: str, key: Any, source: str = "") -> Path:
        """Return the folder of a step's files.

        Args:
            name: The step.
            key: Everything else that decides the result, JSON-like.
            source: Hash of the code that computes it.
        """
        return self.root / "folders" / content_hash(source, versions(), name, key)

    # ------------------------------------------------------------------ tables

    def write(self, path: Path, table: pd.DataFrame) -> None:
        """Write a table whole or not at all; several processes may write the same one."""
        path.parent.mkdir(parents=True, exist_ok=True)
        buffer = io.BytesIO()
        table.to_parquet(buffer)
        with FileLock(path.with_suffix(".lock")):  # two files that belong together
            for one in (path, path.with_suffix(".sha256")):
                _clear_away(one, folder=False)
            write_whole(path, buffer.getvalue())
            write_whole(path.with_suffix(".sha256"), _seal(path.stem, buffer.getvalue()))

    def read(self, path: Path) -> pd.DataFrame:
        """Return a cached table.

        Raises:
            DamagedStore: It is not what was written under this name.
        """
        try:
            data = self._sealed(path)
            return pd.read_parquet(io.BytesIO(data))
        except FileNotFoundError as error:
            raise DamagedStore(f"the cached table {path.name} lacks {Path(error.filename).name}") from None
        except (OSError, ValueError) as error:
            raise DamagedStore(f"the cached table {path.name} cannot be read ({type(error).__name__})") from None

    def _sealed(self, path: Path) -> bytes:
        data, seal = path.read_bytes(), path.with_suffix(".sha256").read_text(encoding="utf-8")
        if seal != _seal(path.stem, data):
            with suppress(OSError), FileLock(path.with_suffix(".lock")):  # another process may have been between the two files
                data, seal = path.read_bytes(), path.with_suffix(".sha256").read_text(encoding="utf-8")
        if seal != _seal(path.stem, data):
            raise DamagedStore(f"the cached table {path.name} is not what was written: its digest is another")
        return data

    # ------------------------------------------------------------------ folders

    def fill(self, path: Path, make: Callable[..., Any], *, resumes: bool = False) -> None:
        """Make a folder whole or not at all: `make` writes into an empty one beside it, which is sealed and then renamed.

        Args:
            path: The folder.
            make: Receives the empty folder, and with `resumes` the one of its state too.
            resumes: Whether `make` keeps how far it is.
        """
        if resumes:
            with self.state(path) as kept:
                return self.fill(path, lambda place: make(place, kept))
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f"{path.name}.", suffix=".tmp", dir=path.parent))
        try:
            make(temporary)
            (temporary / SEAL).write_text(json.dumps(_sealed_files(temporary, path.name)), encoding="utf-8")
            with FileLock(path.with_suffix(".lock")):
                if not self._made_meanwhile(path):
                    _clear_away(path, folder=True)
                    temporary.replace(path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    @contextmanager
    def state(self, path: Path) -> Iterator[Path]:
        """Yield a folder in which a step keeps how far it is: what a killed process left is found there by the next; in the end it goes.

        Two processes at one step do not share it: the second keeps its state in a folder of its own.

        Args:
            path: The step's folder.
        """
        place = path.with_suffix(".state")
        lock = FileLock(path.with_suffix(".state.lock"), timeout=0)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire()
        except Timeout:
            with tempfile.TemporaryDirectory(prefix=f"{path.name}.", suffix=".tmp", dir=path.parent) as own:
                yield Path(own)
            return
        try:
            if place.is_symlink() or place.is_file():
                _clear_away(place, folder=True)
            place.mkdir(exist_ok=True)
            yield place
            shutil.rmtree(place, ignore_errors=True)
        finally:
            lock.release()

    def _made_meanwhile(self, path: Path) -> bool:
        """Whether another process made the folder, whole: others may be reading it."""
        try:
            return self.whole(path)
        except DamagedStore:
            return False

    def lock(self, path: Path) -> FileLock:
        """Return a lock on a path outside of the cache, for every process that uses this cache."""
        place = self.root / "locks"
        place.mkdir(parents=True, exist_ok=True)
        return FileLock(place / f"{content_hash(str(path.resolve()))}.lock")

    def whole(self, path: Path) -> bool:
        """Whether a folder is there and every file is what was written.

        Raises:
            DamagedStore: It is there, and it is not.
        """
        if not path.is_dir():
            return False
        try:
            good = read_json(path / SEAL) == _sealed_files(path, path.name)
        except (OSError, ValueError):
            raise DamagedStore(f"the cached folder {path.name} has no readable seal") from None
        if not good:
            raise DamagedStore(f"the cached folder {path.name} is not what was written: its digests are others")
        return True

    # ------------------------------------------------------------------ models

    def remember(self, content: str, entry: Mapping[str, Any]) -> None:
        """Keep what a model's files load as.

        Args:
            content: Hash of the files.
            entry: What is kept, JSON-like.
        """
        path = self.root / "models" / f"{content}.json"
        with suppress(OSError):  # a convenience: without it the model is loaded once more
            path.parent.mkdir(parents=True, exist_ok=True)
            text = json.dumps(entry)
            write_whole(path, json.dumps({"entry": text, "seal": _seal(content, text.encode())}))

    def recall(self, content: str) -> Any:
        """Return what was remembered of a model's files, `None` for nothing, or for something else than what was written."""
        with suppress(OSError, ValueError):
            kept = read_json(self.root / "models" / f"{content}.json")
            if not misfit(kept, {"entry": str, "seal": str}) and kept["seal"] == _seal(content, kept["entry"].encode()):
                return json.loads(kept["entry"])
        return None

    # ------------------------------------------------------------------ the journal

    def note(self, **entry: Any) -> None:
        """Add a line to the journal."""
        path = self.root / "journal.jsonl"
        with suppress(OSError):  # a journal is a convenience: a full or read-only disk fails where it matters
            self.root.mkdir(parents=True, exist_ok=True)
            with FileLock(path.with_suffix(".lock")), path.open("a", encoding="utf-8") as handle:
                handle.write(json.dumps(entry, default=str) + "\n")

    def journal(self) -> list[dict[str, Any]]:
        """Return the journal's latest lines."""
        out: list[dict[str, Any]] = []
        with suppress(OSError):
            for line in (self.root / "journal.jsonl").read_text(encoding="utf-8", errors="replace").splitlines()[-_KEPT:]:
                with suppress(ValueError, RecursionError):  # a line that was cut off when a process was killed
                    out.append(json.loads(line))
        return [entry for entry in out if not misfit(entry, _TOLD)]

    # ------------------------------------------------------------------ all of it

    def sizes(self) -> Mapping[str, int]:
        """Return the bytes of each kind of thing that is kept."""
        return {kind: sum(_size(p) for p in _files(self.root / kind)) for kind in KINDS}

    def clear(self) -> int:
        """Delete everything that can be computed again and return the number of bytes; the journal stays."""
        freed = sum(self.sizes().values())
        for kind in KINDS:
            shutil.rmtree(self.root / kind, ignore_errors=True)
        return freed


def _seal(name: str, data: bytes) -> str:
    return hashlib.sha256(f"{name}\n".encode() + data).hexdigest()


def _sealed_files(folder: Path, name: str) -> dict[str, Any]:
    """The digests of a folder's files, and a digest of these and the folder's name."""
    files = {p.relative_to(folder).as_posix(): file_digest(p) for p in sorted(folder.rglob("*")) if p.is_file() and p != folder / SEAL}
    return {"files": files, "seal": _seal(name, json.dumps(files).encode())}


def _clear_away(path: Path, *, folder: bool) -> None:
    """Delete what stands in the place of a file or a folder that is to be renamed there, where renaming would not replace it."""
    if path.is_symlink() or (folder and path.is_file()):
        path.unlink()
    elif path.is_dir():
        shutil.rmtree(path)


def _files(folder: Path) -> Iterable[Path]:
    return (p for p in folder.rglob("*") if p.is_file()) if folder.is_dir() else ()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
