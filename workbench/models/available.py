"""The models that can be used by name: those of the project, those that can be fetched, and gguf files that were converted."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from .shelf import SHELF, is_fetched, place, told, weights_folder
from .source import bundled_models

if TYPE_CHECKING:
    import pandas as pd

HERE, FETCH = "here", "workbench get"


def available_models() -> pd.DataFrame:
    """List the models that can be used by name.

    Returns:
        A table: `name` (for `load_model`; of a gguf file that was converted, the file's), `state` ("bundled", "here", "converted", or the
        command that fetches it), `architecture`, `parameters`
        (millions), `disk` (MB it takes, or will take), `licence`, `weights` (where they come from).

    Example:
        >>> import workbench as wb
        >>> wb.available_models()["name"].tolist()[-2:]
        ['smollm2', 'gemma3-270m']
    """
    import pandas as pd

    rows: list[dict[str, Any]] = [
        _row(name, "bundled", folder, licence="MIT", weights="trained for this project") for name, folder in bundled_models().items()
    ]
    for name, one in SHELF.items():
        if is_fetched(name):
            rows.append(_row(name, HERE, place(name), licence=one.licence, weights=told(place(name))["weights"]))
            continue
        rows.append(
            {
                "name": name,
                "state": f"{FETCH} {name}",
                "architecture": one.architecture,
                "parameters": one.parameters / 1e6,
                "disk": one.disk / 1e6,
                "licence": one.licence,
                "weights": f"from the hub as published, else {one.weights}, a download of {one.download / 1e6:.0f} MB",
            }
        )
    for folder in sorted(p for p in (weights_folder() / "gguf").glob("*") if (p / "config.json").is_file()):
        kept = told(folder)
        rows.append(_row(kept["origin"] or folder.name, "converted", folder, licence="that of the file", weights=kept["weights"]))
    return pd.DataFrame(rows)


def _row(name: str, state: str, folder: Path, *, licence: str, weights: str) -> dict[str, Any]:
    files = [folder] if folder.is_file() else [p for p in folder.rglob("*") if p.is_file()]
    kept = weights_folder() / "files" / name
    files += [p for p in kept.glob("*") if p.is_file()] if state == HERE else []
    return {
        "name": name,
        "state": state,
        "architecture": _architecture(folder),
        "parameters": _parameters(folder) / 1e6,
        "disk": sum(p.stat().st_size for p in files) / 1e6,
        "licence": licence,
        "weights": weights,
    }


def _architecture(folder: Path) -> str:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return "?"
    layers = config.get("num_hidden_layers", config.get("n_layer", "?"))
    width = config.get("hidden_size", config.get("n_embd", "?"))
    return f"{config.get('model_type', '?')}, {layers} layers, d_model {width}"


def _parameters(folder: Path) -> int:
    count = 0
    for file in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(file, "pt") as handle:
                count += sum(math.prod(handle.get_slice(name).get_shape()) for name in handle.keys())  # noqa: SIM118
        except (SafetensorError, OSError):
            return 0
    return count
