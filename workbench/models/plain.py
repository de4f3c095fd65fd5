"""Whether weights are plain numbers, or such as can be made plain; quantised ones are refused by name, before any is read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..core.errors import QuantisedModel
from .gguf_header import Header, read_header

# what transformers turns into plain numbers by itself, without a package of its own
DEQUANTISES = ("mxfp4",)
_PACKAGES = {
    "bitsandbytes": "bitsandbytes",
    "gptq": "gptqmodel",
    "awq": "gptqmodel",
    "compressed-tensors": "compressed-tensors",
    "aqlm": "aqlm",
    "quanto": "optimum-quanto",
    "hqq": "hqq",
    "eetq": "eetq",
    "torchao": "torchao",
    "vptq": "vptq",
    "quark": "amd-quark",
    "auto-round": "auto-round",
}
# names of what lies beside the numbers of quantised weights
_TRACES = {
    ".qweight": "gptq or awq",
    ".qzeros": "gptq or awq",
    ".weight.absmax": "bitsandbytes",
    ".weight.quant_map": "bitsandbytes",
    ".SCB": "bitsandbytes",
    ".weight_packed": "compressed-tensors",
    ".weight_scale_inv": "fp8",
}


def check_plain(name: str, config: Any) -> None:
    """Raise where a configuration says that the weights are quantised.

    Args:
        name: The model's name in errors.
        config: A Hugging Face configuration, or what config.json holds.

    Raises:
        QuantisedModel: They are, and transformers does not make them plain by itself.
    """
    for holder in (config, _get(config, "text_config")):
        given = _get(holder, "quantization_config")
        if given is None or given == {}:
            continue
        kind = str(getattr(_get(given, "quant_method"), "value", _get(given, "quant_method") or "")).lower()
        if not kind and (_get(given, "load_in_4bit") or _get(given, "load_in_8bit")):
            kind = "bitsandbytes"
        if kind not in DEQUANTISES:
            raise _refused(name, kind or "of an unknown kind")


def check_names(name: str, tensors: Iterable[str]) -> None:
    """Raise where the names of a folder's weights are those of quantised ones, whatever its configuration says.

    Args:
        name: The model's name in errors.
        tensors: Names of its tensors.

    Raises:
        QuantisedModel: They are.
    """
    for tensor in tensors:
        for end, kind in _TRACES.items():
            if tensor.endswith(end):
                raise _refused(name, kind)


def _get(thing: Any, name: str) -> Any:
    return thing.get(name) if isinstance(thing, Mapping) else getattr(thing, name, None)


def _refused(name: str, kind: str) -> QuantisedModel:
    package = next((p for k, p in _PACKAGES.items() if kind.startswith(k)), "")
    where = f"where the package {package} runs" if package else "where the program that quantised them runs"
    return QuantisedModel(
        f"{name}: its weights are quantised ({kind}). They are packed, and the workbench reads and edits plain numbers. Use the model in "
        f"full precision (its original repository), or a gguf file of it; or make them plain {where}: "
        "AutoModelForCausalLM.from_pretrained(FOLDER).dequantize().save_pretrained(NEW_FOLDER), and the tokenizer likewise"
    )


def check_gguf(file: Path) -> Header:
    """Return the header of a gguf file that can be converted. It reads no values.

    Args:
        file: The file.

    Returns:
        The header.

    Raises:
        DamagedModel, BadInput: As for `read_header`.
        QuantisedModel: transformers does not know its architecture.
    """
    header, names = read_header(file), _architectures()
    if _letters(header.architecture) not in {_letters(n) for n in names}:
        raise QuantisedModel(
            f"{file.name}: transformers cannot dequantise the architecture {header.architecture!r} (it reads {', '.join(sorted(names))}). "
            "Use the model's original repository"
        )
    return header


def _architectures() -> set[str]:
    from transformers.modeling_gguf_pytorch_utils import GGUF_SUPPORTED_ARCHITECTURES

    out = set(map(str, GGUF_SUPPORTED_ARCHITECTURES)) - {"general", "tokenizer"}
    try:
        from transformers.integrations.gguf import GGUF_CONFIG_ARCHS  # where newer versions keep some of them

        out |= set(GGUF_CONFIG_ARCHS)
    except ImportError:
        pass
    return out


def _letters(name: str) -> str:
    return name.replace("-", "").replace("_", "").lower()
