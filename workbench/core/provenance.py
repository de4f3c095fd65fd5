"""Where a result comes from: versions, commit, hashes, with credentials left out."""

from __future__ import annotations

import hashlib
import json
import platform
import re
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

_PACKAGES = ("torch", "transformers", "transformer-lens", "numpy", "scikit-learn", "plotly", "tokenizers", "safetensors")
_SECRET_NAME = re.compile(r"token(?!izer)|secret|password|passwd|api.?key|authorization|credential", re.I)
_SECRET_TEXT = re.compile(r"\b(?:hf_|sk-|ghp_|xox[bap]-|AKIA)[A-Za-z0-9_\-]{8,}|(?<=://)[^/\s:@]+:[^/\s@]+(?=@)")


def redact(value: Any, name: str = "") -> Any:
    """Return a copy of JSON-like data in which credentials are replaced by "[redacted]".

    Args:
        value: JSON-like.
        name: The key that it stands under: what is called a token, secret or password is one.

    Returns:
        The copy.
    """
    if isinstance(value, Mapping):
        return {k: redact(v, str(k)) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [redact(v, name) for v in value]
    if isinstance(value, str):
        # "token_ids" and the like hold no secret: only strings are judged by their name
        return "[redacted]" if _SECRET_NAME.search(name) and value else _SECRET_TEXT.sub("[redacted]", value)
    return value


def content_hash(*parts: Any) -> str:
    """Return a hash (16 hex digits) of JSON-like data; equal content, equal hash."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _git(*args: str) -> str | None:
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None  # an installed wheel may lie inside somebody else's repository
    try:
        out = subprocess.run(["git", *args], cwd=root, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return out.stdout.strip()


@cache
def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that decide results."""
    found = {"python": platform.python_version()}
    for name in ("workbench-interp", *_PACKAGES):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


@cache
def code_version() -> dict[str, Any]:
    """Return the commit of this checkout and whether it has uncommitted changes (`None` outside a checkout)."""
    commit = _git("rev-parse", "HEAD")
    status = _git("status", "--porcelain", "--untracked-files=no") if commit else None
    return {"commit": commit, "dirty": None if status is None else bool(status)}


@cache
def source_hash(package: str = "workbench", *, only: tuple[str, ...] = (), without: tuple[str, ...] = ()) -> str:
    """Return a hash of this package's own source: what a cached step was computed by.

    Args:
        package: The package.
        only: Parts to hash ("core/", "cli.py"); none for all.
        without: Parts to leave out.

    Returns:
        16 hex digits.
    """
    root = Path(sys.modules[package].__file__ or "").parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root).as_posix()
        if (only and not name.startswith(only)) or (without and name.startswith(without)):
            continue
        digest.update(name.encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def provenance(**facts: Any) -> dict[str, Any]:
    """Return a provenance record: what the caller states, versions, commit and dirty flag, machine kind."""
    return redact(
        {
            **facts,
            "versions": versions(),
            "code": code_version(),
            "machine": {"system": platform.system(), "processor": platform.machine()},
        }
    )
