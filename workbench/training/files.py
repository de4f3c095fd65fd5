"""Adapters on disk: safetensors, and a record beside it; LoRA in peft's own form."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pandas as pd
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes

from ..activations.files import write_file
from ..core.errors import BadInput, DamagedStore
from ..core.provenance import redact
from ..models import Scope
from ..models.lora import CONFIG, WEIGHTS, pairs, read_config, state_names, write_config
from .adapter import Adapter, Part

RECORD = "workbench.json"


def save(adapter: Adapter, folder: Path) -> Path:
    """Write an adapter into a folder, which is made; each file is written whole or not at all.

    Raises:
        DiskFull, OSError: It cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {}
    for place, part in adapter.parts.items():
        if adapter.kind == "lora":
            names = state_names(place.removesuffix(".weight"))
        else:
            names = f"{place}.down", f"{place}.up"
        for name, value in zip(names, (part.down, part.up), strict=True):
            if value is not None:
                tensors[name] = value.contiguous()
    write_file(folder / WEIGHTS, to_bytes(tensors))
    if adapter.kind == "lora":
        made = adapter.provenance.get("model") or {}
        paths = [p.removesuffix(".weight") for p in adapter.parts]
        write_config(folder, paths, adapter.rank, adapter.alpha, str(made.get("name", "")))
    record = {
        "kind": adapter.kind,
        "rank": adapter.rank,
        "alpha": adapter.alpha,
        "scope": {"kind": adapter.scope.kind, "k": adapter.scope.k, "text": adapter.scope.text},
        "places": list(adapter.parts),
        "key": adapter.key,
        "provenance": redact(dict(adapter.provenance)),
        "history": json.loads(adapter.history.to_json(orient="records")),
    }
    write_file(folder / RECORD, (json.dumps(record, indent=1, ensure_ascii=False, default=str) + "\n").encode())
    return folder


def load(folder: Path) -> Adapter:
    """Read an adapter of the workbench, or peft's LoRA."""
    weights, record = folder / WEIGHTS, folder / RECORD
    if not weights.is_file():
        raise BadInput(f"{folder} holds no adapter: it has no {WEIGHTS}")
    try:
        tensors = load_file(weights)
    except (SafetensorError, OSError) as error:
        raise DamagedStore(f"{weights} cannot be read: {str(error).splitlines()[0][:160]}") from error
    if not record.is_file():
        config = read_config(folder)
        parts = {f"{path}.weight": Part(down=a, up=b) for path, (a, b) in pairs(tensors).items()}
        made = {"loss": "unknown: made elsewhere", "sees": "unknown", "base": config.get("base_model_name_or_path")}
        return Adapter(kind="lora", parts=parts, rank=int(config["r"]), alpha=float(config["lora_alpha"]), provenance=made)
    try:
        told = json.loads(record.read_text(encoding="utf-8"))
        if told["kind"] == "lora":
            parts = {f"{path}.weight": Part(down=a, up=b) for path, (a, b) in pairs(tensors).items()}
            parts = {place: parts[place] for place in told["places"]}
        else:
            parts = {place: Part(down=tensors.get(f"{place}.down"), up=tensors[f"{place}.up"]) for place in told["places"]}
        adapter = Adapter(
            kind=told["kind"],
            parts=parts,
            rank=told["rank"],
            alpha=told["alpha"],
            scope=Scope(**told["scope"]),
            provenance=told["provenance"],
            history=pd.read_json(io.StringIO(json.dumps(told["history"])), orient="records"),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedStore(f"{record} is not what the workbench wrote ({type(error).__name__}: {error})") from error
    if adapter.key != told["key"]:
        raise DamagedStore(f"{weights} does not hold what {RECORD} says: it was changed or damaged")
    return adapter


__all__ = ["CONFIG", "RECORD", "WEIGHTS", "load", "save"]
