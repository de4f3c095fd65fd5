"""A store's manifest: reading it, and comparing its model with another."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..core.errors import DamagedStore, WrongModel

SCHEMA = 2
MANIFEST = "manifest.json"


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


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read a folder's manifest.

    Raises:
        DamagedStore: The manifest is missing, cannot be read, or was written by another version.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DamagedStore(f"{folder.name}: not an activation folder (no {MANIFEST})") from None
    except (ValueError, OSError) as error:
        raise DamagedStore(f"{folder.name}: {MANIFEST} cannot be read ({error})") from None
    if not isinstance(manifest, dict) or not {"schema", "model", "settings", "requests", "shards"} <= set(manifest):
        raise DamagedStore(f"{folder.name}: its {MANIFEST} is not that of an activation folder")
    if manifest["schema"] != SCHEMA:
        advice = "update the workbench" if manifest["schema"] > SCHEMA else "capture it again"
        raise DamagedStore(f"{folder.name}: written by another version (schema {manifest['schema']}, this is {SCHEMA}); {advice}")
    return manifest
