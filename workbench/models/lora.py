"""The one door to peft: LoRA modules in a copy of a model, peft's files, and other people's adapters."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..core.errors import BadInput, MissingTool, NoEffect, UnknownName, WrongModel, unknown
from ..core.seeds import derive

PARTS = {
    "attention": ("q_proj", "k_proj", "v_proj", "o_proj", "qkv_proj", "c_attn", "query_key_value", "Wqkv", "dense", "out_proj",
                  "attn.c_proj", "attention.dense", "self_attn.dense"),
    "mlp": ("gate_proj", "up_proj", "down_proj", "gate_up_proj", "c_fc", "mlp.c_proj", "dense_h_to_4h", "dense_4h_to_h", "fc1", "fc2",
            "fc_in", "fc_out"),
    "down": ("down_proj", "mlp.c_proj", "dense_4h_to_h", "fc2", "fc_out"),
}  # fmt: skip
CONFIG, WEIGHTS, RECORD = "adapter_config.json", "adapter_model.safetensors", "workbench.json"


def peft_package() -> Any:
    """Return peft, which is loaded when it is needed.

    Raises:
        MissingTool: It is not installed.
    """
    if find_spec("peft") is None:
        raise MissingTool("LoRA and the files of soft prefixes need a package: pip install peft. Residual adapters work without it")
    import peft

    return peft


def matrices(shell: Any, parts: str | Sequence[str], blocks: Mapping[int, str], layers: Sequence[int]) -> list[str]:
    """Return the paths of the linear modules that LoRA changes.

    Args:
        shell: A Hugging Face model.
        parts: "attention", "mlp", "down" (what the MLP writes with), or names of matrices ("q_proj", "down_proj"); several with a comma,
            or a list.
        blocks: The path of each block, by its number.
        layers: Blocks.

    Returns:
        Paths, in the order of the modules.

    Raises:
        UnknownName: No matrix has such a name in these blocks.
    """
    asked = [p.strip() for p in parts.split(",")] if isinstance(parts, str) else list(parts)
    linear = {n: m for n, m in shell.named_modules() if isinstance(m, nn.Linear) or type(m).__name__ == "Conv1D"}
    inside = {n: n[len(blocks[k]) + 1 :] for k in layers for n in linear if n.startswith(f"{blocks[k]}.")}
    out: list[str] = []
    for part in asked:
        names = PARTS.get(part, (part,))
        found = [n for n, local in inside.items() if any(local == s or local.endswith(f".{s}") for s in names)]
        if part == "attention":
            found = [n for n in found if "mlp" not in inside[n]]
        if not found:
            raise unknown(UnknownName, "matrix", part, [*PARTS, *dict.fromkeys(local.split(".")[-1] for local in inside.values())])
        out += [n for n in found if n not in out]
    return out


def inject(shell: Any, paths: Sequence[str], rank: int, alpha: float, seed: int) -> dict[str, tuple[nn.Parameter, nn.Parameter]]:
    """Put LoRA modules into a Hugging Face model.

    Args:
        shell: The model; it is changed.
        paths: Modules.
        rank: Of each pair of matrices.
        alpha: The product is multiplied by alpha / rank.
        seed: Draws A; B is 0.

    Returns:
        By path the trainable A, `rank x width_in`, and B, `width_out x rank`.
    """
    peft = peft_package()
    config = peft.LoraConfig(r=rank, lora_alpha=alpha, target_modules=list(paths), lora_dropout=0.0, bias="none")
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="fan_in_fan_out")  # which peft then sets by itself
        torch.manual_seed(derive(seed, "lora"))
        peft.inject_adapter_in_model(config, shell)
    out = {}
    for path in paths:
        module = shell.get_submodule(path)
        out[path] = module.lora_A["default"].weight, module.lora_B["default"].weight
    for name, parameter in shell.named_parameters():
        parameter.requires_grad_("lora_" in name)
    return out


def switch(shell: Any, on: bool) -> None:
    """Let LoRA modules act, or not.

    Args:
        shell: A Hugging Face model.
        on: Whether they act.
    """
    for module in shell.modules():
        if hasattr(module, "lora_A"):
            module.enable_adapters(on)


def write_config(folder: Path, paths: Sequence[str], rank: int, alpha: float, base: str) -> None:
    """Write peft's `adapter_config.json`.

    Args:
        folder: Where to.
        paths: Modules that are changed.
        rank, alpha: Of the matrices.
        base: Name of the base model.
    """
    config = peft_package().LoraConfig(
        r=rank,
        lora_alpha=alpha,
        target_modules=list(paths),
        lora_dropout=0.0,
        bias="none",
        base_model_name_or_path=base,
        task_type="CAUSAL_LM",
    )
    config.inference_mode = True
    config.save_pretrained(str(folder))


def state_names(path: str) -> tuple[str, str]:
    """Return the names of A and B of a module in peft's file."""
    return f"base_model.model.{path}.lora_A.weight", f"base_model.model.{path}.lora_B.weight"


def read_config(folder: Path) -> dict[str, Any]:
    """Return peft's configuration of an adapter.

    Raises:
        BadInput: There is none, or it is no LoRA with plain matrices.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise BadInput(f"{folder.name} holds no adapter: it has no {CONFIG}")
    config = json.loads(path.read_text(encoding="utf-8"))
    odd = [k for k in ("use_dora", "rank_pattern", "alpha_pattern", "use_rslora", "modules_to_save") if config.get(k)]
    if config.get("peft_type") != "LORA" or odd:
        kind = ", ".join([str(config.get("peft_type")), *odd])
        raise BadInput(
            f"{folder.name} is an adapter of another kind ({kind}): read it with wb.load_model(base, adapter=…), which merges it"
        )
    return config


def merged(hf: Any, adapter: str | Path, *, name: str) -> Any:
    """Merge anybody's peft adapter into a Hugging Face model.

    Args:
        hf: The base model; it is changed.
        adapter: A folder or a hub name.
        name: The base model's name, for errors.

    Returns:
        The model with the adapter in its weights.

    Raises:
        BadInput: There is no such adapter, or it cannot be merged. WrongModel: it does not fit the model.
        NoEffect: It changes no weight.
    """
    record = Path(adapter) / RECORD
    if record.is_file() and json.loads(record.read_text(encoding="utf-8")).get("kind") != "lora":
        raise BadInput(f"{adapter} is no change that peft merges: use `with wb.adapted(model, wb.Adapter.load({str(adapter)!r})):`")
    peft = peft_package()
    before = {n: _sums(p) for n, p in hf.named_parameters()}
    try:
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():  # matrices are drawn before they are read
            warnings.filterwarnings("ignore", message="fan_in_fan_out")
            loaded = peft.PeftModel.from_pretrained(hf, str(adapter), use_safetensors=True)
        if not hasattr(loaded, "merge_and_unload") or type(getattr(loaded, "base_model", None)).__name__ == "PromptTuning":
            raise BadInput(f"the adapter {adapter} is no change of weights and cannot be merged")
        out = loaded.merge_and_unload()
    except BadInput:
        raise
    except (RuntimeError, KeyError) as error:
        raise WrongModel(f"the adapter {adapter} does not fit {name}: {str(error).splitlines()[0][:200]}") from error
    except (ValueError, OSError, AttributeError) as error:
        raise BadInput(f"the adapter {adapter} cannot be merged into {name}: {str(error).splitlines()[0][:200]}") from error
    if all(_sums(p) == before[n] for n, p in out.named_parameters() if n in before):
        raise NoEffect(f"the adapter {adapter} changes no weight of {name}: it is empty, or was made for other matrices")
    return out


def _sums(weight: torch.Tensor) -> tuple[float, float]:
    """Two sums that a change of a weight changes, so that no second copy of a model is kept."""
    x = weight.detach().double().flatten()
    return float(x.sum()), float(x.dot(x))


def pairs(state: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return A and B by the path of the module, from the tensors of peft's file.

    Args:
        state: Tensors by name.

    Returns:
        A, `rank x width_in`, and B, `width_out x rank`.

    Raises:
        BadInput: A tensor has no counterpart.
    """
    out: dict[str, tuple[Any, Any]] = {}
    for key in state:
        path, mark, _ = key.removeprefix("base_model.model.").partition(".lora_A.")
        if not mark:
            continue
        other = key.replace(".lora_A.", ".lora_B.")
        if other not in state:
            raise BadInput(f"the adapter has {key} and no {other}")
        out[path] = state[key], state[other]
    if not out or len(out) * 2 != len(state):
        raise BadInput("the adapter's file holds other things than pairs of LoRA matrices")
    return out
