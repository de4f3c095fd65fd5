"""Soft prefixes in the form of peft's prompt tuning: vectors that stand in front of all tokens, also of the first one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..core.errors import BadInput
from .lora import CONFIG, peft_package

TENSOR = "prompt_embeddings"


def prompt_config(model: Any, count: int, base: str) -> dict[str, Any]:
    """Return what peft's `adapter_config.json` says of a soft prefix.

    Args:
        model: What `load_model` returns.
        count: Vectors.
        base: Name of the base model.

    Returns:
        The configuration, JSON-like.

    Raises:
        MissingTool: peft is not installed.
    """
    config = peft_package().PromptTuningConfig(
        task_type="CAUSAL_LM",
        num_virtual_tokens=count,
        token_dim=int(model.cfg.d_model),
        num_transformer_submodules=1,
        num_attention_heads=int(model.cfg.n_heads),
        num_layers=int(model.cfg.n_layers),
        base_model_name_or_path=base,
        inference_mode=True,
    )
    return json.loads(json.dumps(config.to_dict(), default=lambda x: sorted(x) if isinstance(x, set) else str(x)))


def read_prompt_config(folder: Path) -> Mapping[str, Any]:
    """Return what peft's `adapter_config.json` says of a soft prefix.

    Args:
        folder: Where it is.

    Returns:
        The configuration.

    Raises:
        BadInput: There is none, or it is no prompt tuning.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise BadInput(f"{folder.name} holds no soft prefix: it has no {CONFIG}")
    config = json.loads(path.read_text(encoding="utf-8"))
    if config.get("peft_type") != "PROMPT_TUNING":
        raise BadInput(f"{folder.name} is no soft prefix: peft calls it {config.get('peft_type')}, and a soft prefix PROMPT_TUNING")
    return config
