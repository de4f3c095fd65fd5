"""Facts of a model that is not loaded: its folder, its sizes, whether it fits into memory, which words are single tokens."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import try_to_load_from_cache

from ..core.errors import OutOfMemory
from .dequantised import ready
from .load import load_tokenizer
from .source import check_folder, check_memory


def find(name: str) -> tuple[Path | None, str]:
    """Return the folder of a model, local or in the hub's cache (`None` for neither), and the name to show.

    Raises:
        UnknownModel: There is no such folder or bundled model.
        DamagedModel: The folder cannot be read as a model.
    """
    source, shown = ready(name)
    folder = Path(source)
    if not folder.is_dir():
        cached = try_to_load_from_cache(source, "config.json")
        if not isinstance(cached, str):
            return None, shown
        folder = Path(cached).parent
    check_folder(folder)
    return folder, shown


def sizes(folder: Path) -> str:
    """Return a model's type and sizes from its configuration, as text."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    inner = {**config, **(config.get("text_config") or {})}

    def first(*names: str) -> object:
        return next((inner[n] for n in names if inner.get(n)), "?")

    layers, width = first("num_hidden_layers", "n_layer"), first("hidden_size", "n_embd")
    context = first("max_position_embeddings", "n_positions", "n_ctx")
    return f"{config['model_type']}, {layers} layers, d_model {width}, context {context} tokens"


def fits(folder: Path) -> tuple[str, str]:
    """Return the widest dtype whose weights fit the free memory ("" for none), and a sentence that says how."""
    device = torch.device("cuda") if torch.cuda.is_available() else None
    weights = sum(f.stat().st_size for f in folder.glob("*.safetensors")) / 1e9
    refusal = ""
    for kind in (torch.float32, torch.bfloat16):
        name = str(kind).removeprefix("torch.")
        try:
            check_memory(folder, kind, device)
        except OutOfMemory as error:
            refusal = str(error)
            continue
        return name, f"{weights:.2f} GB of weights on disk; they fit in {name} (activations come on top)"
    return "", refusal


def single_words(folder: Path, shown: str, pairs: Iterable[tuple[str, str]]) -> tuple[int, tuple[str, str] | None]:
    """Find the first pair of words that are single, distinct tokens after a space.

    Args:
        folder: The model's folder.
        shown: The model's name in errors.
        pairs: Pairs of words, the preferred first; without their leading space.

    Returns:
        The size of the vocabulary, and the pair; `None` where no pair fits.

    Raises:
        MissingTokenizer: The folder has no tokenizer.
    """
    tokenizer: Any = load_tokenizer(str(folder), shown, {})
    for pair in pairs:
        ids = [tokenizer(f" {word}", add_special_tokens=False)["input_ids"] for word in pair]
        if all(len(i) == 1 and i[0] != tokenizer.unk_token_id for i in ids) and ids[0] != ids[1]:
            return len(tokenizer), pair
    return len(tokenizer), None
