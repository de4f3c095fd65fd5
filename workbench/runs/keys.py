"""Keys of steps: JSON-like, with the contents of files in place of their paths."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..core.provenance import content_hash
from .study import Study


def settings_key(study: Study, settings: Any) -> dict[str, Any]:
    """Return all settings of a study as part of a key: files and folders count by what they hold.

    Args:
        study: The study; its `inputs` name files and folders.
        settings: Its settings.

    Returns:
        JSON-like.
    """
    return {k: content_of(Path(v)) if k in study.inputs and v and Path(v).exists() else settled(v) for k, v in asdict(settings).items()}


def settled(key: Any) -> Any:
    """Return a key in which every path is replaced by a hash of what it holds.

    Args:
        key: JSON-like, with paths.

    Returns:
        JSON-like.
    """
    if isinstance(key, Path):
        return content_of(key)
    if isinstance(key, Mapping):
        return {str(k): settled(v) for k, v in key.items()}
    if isinstance(key, list | tuple | set | frozenset):
        values = [settled(v) for v in key]
        return sorted(values, key=str) if isinstance(key, set | frozenset) else values
    return key


def content_of(path: Path) -> Any:
    """Return what stands for a file or a folder in a key: a hash of what it holds. Of its name only the suffix counts."""
    if path.is_dir():
        return content_hash([(p.relative_to(path).as_posix(), content_of(p)) for p in sorted(path.rglob("*")) if p.is_file()])
    try:
        with path.open("rb") as handle:
            return [path.suffix, hashlib.file_digest(handle, "sha256").hexdigest()]
    except OSError:
        return str(path)
