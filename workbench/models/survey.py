"""What can be said of a model without loading it: where it lies, its sizes, whether it fits, which words are single tokens."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import try_to_load_from_cache

from ..core.errors import OutOfMemory
from .load import load_tokenizer
from .source import check_folder, check_memory, locate


def find(name: str) -> tuple[Path | None, str]:
    """Return the folder of a model, here or in the hub's cache (`None` for neither), and the name to show.

    Raises:
        UnknownModel, DamagedModel: No such model, or not one that can be read.
    """
    source, shown = locate(name)
    folder = Path(source)
    if not folder.is_dir():
        cached = try_to_load_from_cache(source, "config.json")
        if not isinstance(cached, str):
            return None, shown
        folder = Path(cached).parent
    check_folder(folder)
    return folder, shown


def sizes(folder: Path) -> str:
    """Return a model's kind and sizes as its configuration names them."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    inner = {**config, **(config.get("text_config") or {})}

    def first(*names: str) -> object:
        return next((inner[n] for n in names if inner.get(n)), "?")

    layers, width = first("num_hidden_layers", "n_layer"), first("hidden_size", "n_embd")
    context = first("max_position_embeddings", "n_positions", "n_ctx")
    return f"{config['model_type']}, {layers} layers, d_model {width}, context {context} tokens"


def fits(folder: Path) -> tuple[str, str]:
    """Return the widest dtype whose weights fit the memory that is free ("" for none), and what was found."""
    device = torch.device("cuda") if torch.cuda.is_available() else None
    weights = sum(f.stat().st_size for f in folder.glob("*.safetensors")) / 1e9
    said = ""
    for kind in (torch.float32, torch.bfloat16):
        name = str(kind).removeprefix("torch.")
        try:
            check_memory(folder, kind, device)
        except OutOfMemory as error:
            said = str(error)
            continue
        return name, f"{weights:.2f} GB of weights on disk; they fit in {name} (activations come on top)"
    return "", said


def single_words(folder: Path, shown: str, pairs: Iterable[tuple[str, str]]) -> tuple[int, tuple[str, str] | None]:
    """Return how many tokens there are, and the first pair of words that are single, distinct tokens after a space.

    Raises:
        MissingTokenizer: There is none.
    """
    tokenizer: Any = load_tokenizer(str(folder), shown, {})
    for pair in pairs:
        ids = [tokenizer(f" {word}", add_special_tokens=False)["input_ids"] for word in pair]
        if all(len(i) == 1 and i[0] != tokenizer.unk_token_id for i in ids) and ids[0] != ids[1]:
            return len(tokenizer), pair
    return len(tokenizer), None
