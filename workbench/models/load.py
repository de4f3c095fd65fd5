"""Loading a model, from wherever it lies, and what must be known about it.

A model is a `TransformerBridge` (or, while TransformerLens 3 has it, a `HookedTransformer`): the object that users of
TransformerLens know. What the workbench has to remember beside it (its name, revision, rule for the first token) is
kept in a side table.
"""

from __future__ import annotations

import tempfile
import warnings
import weakref
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformer_lens.model_bridge import TransformerBridge
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from ..core.errors import BadInput, GatedModel, MissingTokenizer, NetworkNeeded, UnknownModel, WorkbenchError
from ..core.provenance import content_hash
from ..core.seeds import derive
from ..core.show import Shown, axes
from .digest import weights_digest, weights_state
from .source import building, check_complete, check_folder, check_memory, explain, locate


@dataclass(frozen=True, kw_only=True, repr=False)
class ModelInfo(Shown):
    """What identifies a model and what limits it.

    Attributes:
        name: Bundled name, hub name or the folder's name.
        revision: Hub revision, or "".
        digest: Hash of the weights (16 hex digits).
        dtype: "float32", "bfloat16", …
        processing: "none" for raw weights, "compatibility" where TransformerLens has folded and centred them.
        n_layers, d_model, context: Its sizes.
        bos: Id put in front of every prompt, or `None`.
        vocabulary: Hash of how a sample text is tokenised, the first token included.
    """

    name: str
    revision: str
    digest: str
    dtype: str
    processing: str
    n_layers: int
    d_model: int
    context: int
    bos: int | None
    vocabulary: str

    def _shown(self) -> tuple[str, dict[str, Any]]:
        return f"{self.name}, {axes(layer=self.n_layers, d_model=self.d_model)}, {self.dtype}, context {self.context:,}, weights {self.digest}", {
            "name": self.name, "revision": self.revision, "weights": self.digest, "dtype": self.dtype, "shape": axes(layer=self.n_layers, d_model=self.d_model),
            "layers": f"0 to {self.n_layers - 1}", "context": f"{self.context:,} tokens", "weights are": "raw" if self.processing == "none" else f"processed ({self.processing})",
            "first token": "none" if self.bos is None else f"id {self.bos} before every prompt", "vocabulary": self.vocabulary,
        }  # fmt: skip

    def key(self) -> dict[str, Any]:
        """Return what two readings must share to be comparable: digest, dtype, processing mode (and the name, to show)."""
        return {k: v for k, v in asdict(self).items() if k in ("name", "revision", "digest", "dtype", "processing", "vocabulary")}


@dataclass(frozen=True, kw_only=True)
class _Known:
    name: str
    revision: str
    bos: int | None
    folder: Path | None = None
    trunk: Any = None
    state: tuple[float, ...] = ()


_KNOWN: weakref.WeakKeyDictionary[Any, _Known] = weakref.WeakKeyDictionary()


def is_model(thing: object) -> bool:
    """Whether this is a model that the workbench can read."""
    return isinstance(thing, TransformerBridge) or type(thing).__name__ == "HookedTransformer"


def info(model: Any) -> ModelInfo:
    """Return what identifies a loaded model.

    Raises:
        BadInput: This is not a model.
    """
    if not is_model(model):
        raise BadInput(f"a model is what load_model returns, a TransformerBridge or a HookedTransformer; got {type(model).__name__}")
    known = _KNOWN.get(model)
    if known is None:
        known = _KNOWN[model] = _Known(name=str(model.cfg.model_name), revision="", bos=_bos(model.tokenizer))
    config = getattr(getattr(model, "original_model", None), "config", None)
    text = getattr(config, "text_config", config)
    context = getattr(text, "max_position_embeddings", None) or model.cfg.n_ctx
    processed = type(model).__name__ == "HookedTransformer" or bool(getattr(model, "compatibility_mode", False))
    return ModelInfo(
        name=known.name, revision=known.revision, digest=weights_digest(model),
        dtype=str(next(model.parameters()).dtype).removeprefix("torch."), processing="compatibility" if processed else "none",
        n_layers=int(model.cfg.n_layers), d_model=int(model.cfg.d_model), context=int(context), bos=known.bos,
        vocabulary=_vocabulary(model.tokenizer, known.bos),
    )  # fmt: skip


def n_layers(model: Any) -> int:
    """Return the number of blocks, without looking at the weights.

    Raises:
        BadInput: This is not a model.
    """
    return int(model.cfg.n_layers) if is_model(model) else info(model).n_layers


def load_model(
    name: Any = "bundled", *, device: str | torch.device = "auto", dtype: str | torch.dtype = "auto",
    revision: str | None = None, device_map: Any = None, tokenizer: Any = None,
) -> Any:  # fmt: skip
    """Load a model.

    Args:
        name: "bundled" or the name of a bundled model, a hub name ("gpt2", "google/gemma-2-2b-it"), a local folder
            written by `save_pretrained`, or a `TransformerBridge` or `HookedTransformer` that is ready.
        device: "auto" (a GPU if there is one), "cpu", "cuda", "cuda:1", "mps".
        dtype: "auto" (float32 on a CPU, what the model was saved in on a GPU), or a dtype or its name.
        revision: Branch, tag or commit on the hub.
        device_map: Passed through to spread a model over several GPUs.
        tokenizer: A tokenizer to use instead of the model's own.

    Returns:
        A `TransformerBridge` in evaluation mode, without gradients on its weights; a ready model is returned as it is.

    Raises:
        UnknownModel: No such bundled model, folder or repository.
        DamagedModel: The folder is there but cannot be read as a model.
        MissingTokenizer: The folder or repository has no tokenizer.
        NetworkNeeded: The model must be downloaded and the hub cannot be reached.
        GatedModel: The repository asks for a licence or a token.
        OutOfMemory: The weights do not fit the memory that is free.

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
    source, shown = locate(str(name))
    local = source != str(name) or Path(source).is_dir()
    device = _device(device)
    kwargs: dict[str, Any] = {"revision": revision} if revision and not local else {}
    if local:
        check_folder(Path(source))
    try:
        config = AutoConfig.from_pretrained(source, **kwargs)
        kind = _dtype(dtype, config, torch.device(device))
        if local:
            check_memory(Path(source), kind, torch.device(device) if device_map is None else None)
        tokens = tokenizer or _tokenizer(source, shown, kwargs)
        bos = _bos(tokens)
        spread = {"device_map": device_map} if device_map else {}
        with building():
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                source, dtype=kind, attn_implementation="eager", trust_remote_code=False, output_loading_info=True, **spread, **kwargs
            )
        hf, found = loaded
        check_complete(shown, found)
    except WorkbenchError:
        raise
    except Exception as error:
        raise explain(error, shown, local=local) from error
    try:
        model = wrap(hf, tokens, name=shown, revision=revision or "", bos=bos, device=None if device_map else device)
    except Exception as error:
        raise explain(error, shown, local=local) from error
    _KNOWN[model] = replace(_KNOWN[model], folder=Path(source) if local else None)
    return model


def bos_of(model: Any) -> int | None:
    """Return the id put in front of every prompt, or `None`, without looking at the weights."""
    known = _KNOWN.get(model)
    return info(model).bos if known is None else known.bos


def same_weights(model: Any) -> bool:
    """Whether the weights are, as far as can be seen cheaply, those that were loaded."""
    known = _KNOWN.get(model)
    return known is not None and known.state == weights_state(model)


def vouch(model: Any) -> None:
    """Take the weights as they are now for those that were loaded: they were changed and have been put back bit for bit."""
    if model in _KNOWN:
        _KNOWN[model] = replace(_KNOWN[model], state=weights_state(model))


def folder_of(model: Any) -> Path | None:
    """Return the folder that a model was loaded from, `None` for one from the hub or made in memory."""
    known = _KNOWN.get(model)
    return None if known is None else known.folder


def wrap(hf: Any, tokenizer: Any, *, name: str, revision: str = "", bos: int | None = None, device: Any = None) -> TransformerBridge:
    """Boot a Hugging Face model that is in memory as a `TransformerBridge` and remember what it is."""
    from .trunk import Trunk

    trunk = Trunk(hf)
    # booting draws initial weights before it is given the real ones: keep the caller's generator out of it
    with building(), warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")
        if not getattr(tokenizer, "init_kwargs", {}).get("name_or_path"):
            # TransformerLens loads a tokenizer anew from where it came from; one made in memory must come from somewhere
            tokenizer.save_pretrained(folder)
            tokenizer = AutoTokenizer.from_pretrained(folder)
        source = getattr(hf.config, "_name_or_path", "") or name
        place: dict[str, Any] = {} if device is None else {"device": str(device)}
        model = TransformerBridge.boot_transformers(source, hf_model=hf, tokenizer=tokenizer, dtype=hf.dtype, **place)
    model.eval()
    model.requires_grad_(False)
    if device is not None:
        trunk.to(device)
    _KNOWN[model] = _Known(name=name, revision=revision, bos=bos, trunk=trunk, state=weights_state(model))
    return model


def trunk_of(model: Any) -> Any:
    """Return the engine's shell around this model's weights (`trunk.Trunk`), or in words why there is none to be read.

    Raises:
        BadInput: This is not a model.
    """
    info(model)
    known = _KNOWN[model]
    if known.trunk is None:
        return "it was booted elsewhere; load it by name or folder through load_model"
    if known.trunk.why_not:
        return known.trunk.why_not
    if known.state != weights_state(model):
        return "its weights have changed since it was loaded"
    if model.training:
        return "it is in training mode"
    return known.trunk


def untrained_copy(model: Any, seed: int = 0) -> TransformerBridge:
    """Return a model of the same architecture and tokenizer with weights drawn anew: a control.

    Raises:
        BadInput: The model carries no Hugging Face configuration to build from.
    """
    config = getattr(getattr(model, "original_model", None), "config", None)
    if config is None:
        raise BadInput("an untrained copy needs a TransformerBridge; this model carries no Hugging Face configuration")
    known, parameter = info(model), next(model.parameters())
    with building():
        torch.manual_seed(derive(seed, "untrained"))
        hf = AutoModelForCausalLM.from_config(config, attn_implementation="eager").to(parameter.dtype)
    return wrap(hf, model.tokenizer, name=f"{known.name} (untrained)", bos=known.bos, device=parameter.device)


def _tokenizer(source: str, shown: str, kwargs: dict[str, Any]) -> Any:
    path = Path(source)
    names = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "tokenizer_config.json")
    if path.is_dir() and not any((path / n).is_file() for n in names[:-1]):
        raise MissingTokenizer(f"{shown}: no tokenizer in the folder ({', '.join(names[:-1])}). Save it there, or pass tokenizer=…")
    try:
        return AutoTokenizer.from_pretrained(source, **kwargs)
    except Exception as error:
        kind = explain(error, shown, local=path.is_dir())
        if isinstance(kind, NetworkNeeded | GatedModel):
            raise kind from error
        raise MissingTokenizer(f"{shown}: its tokenizer cannot be loaded ({str(error).splitlines()[0][:200]}); pass tokenizer=…") from error


def _bos(tokenizer: Any) -> int | None:
    """The id that this tokenizer's model saw first in training, or `None`.

    Only what the tokenizer itself declares counts: TransformerLens, when it boots, falls back to the end-of-text token
    where none is declared.
    """
    if tokenizer is None:
        raise MissingTokenizer("the model has no tokenizer; pass tokenizer=…")
    declared = getattr(tokenizer, "init_kwargs", {}).get("bos_token", getattr(tokenizer, "bos_token", None))
    return None if declared is None else tokenizer.bos_token_id


def _vocabulary(tokenizer: Any, bos: int | None) -> str:
    sample = 'Consider that "Everyone should have rights." Answer: yes no A B Sorry Sure, a poor person'
    return content_hash(bos, tokenizer(sample, add_special_tokens=False)["input_ids"])


def _device(device: str | torch.device) -> torch.device:
    if str(device) != "auto":
        try:
            found = torch.device(device)
        except RuntimeError as error:
            raise BadInput(f"no device {device!r}: {error}") from None
        if found.type == "cuda" and not torch.cuda.is_available():
            raise BadInput(f"no device {device!r}: this torch sees no GPU. Use device='cpu'")
        return found
    return torch.device("cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu")


def _dtype(dtype: str | torch.dtype, config: Any, device: torch.device) -> torch.dtype:
    if isinstance(dtype, torch.dtype):
        return dtype
    if dtype == "auto":
        saved = getattr(config, "dtype", None)
        return saved if device.type == "cuda" and isinstance(saved, torch.dtype) else torch.float32
    found = getattr(torch, dtype, None)
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise BadInput(f"dtype {dtype!r}: use 'auto', 'float32', 'bfloat16' or 'float16'")
    return found
