"""Facts of a loaded model: its name, its sizes, its first token, and whether its weights are still the loaded ones.

A model is the TransformerLens object that users know. Facts that it does not hold itself stand in a side table.
"""

from __future__ import annotations

import weakref
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from transformer_lens.model_bridge import TransformerBridge

from ..core.errors import BadInput, MissingTokenizer
from ..core.provenance import content_hash
from ..core.show import Shown, axes
from .digest import weights_digest, weights_state


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
        first: Ids put in front of every prompt; of most models one (the beginning of text) or none.
        vocabulary: Hash of the ids of a sample text, the first token included.
        weights: What is known of where the weights come from ("dequantised 4-bit weights (Q4_1), not the original"), or "".
    """

    name: str
    revision: str
    digest: str
    dtype: str
    processing: str
    n_layers: int
    d_model: int
    context: int
    first: tuple[int, ...]
    vocabulary: str
    weights: str = ""

    @property
    def bos(self) -> int | None:
        """The id that every prompt begins with, or `None`."""
        return self.first[0] if self.first else None

    def _shown(self) -> tuple[str, dict[str, Any]]:
        shape = axes(layer=self.n_layers, d_model=self.d_model)
        more = f", {self.weights}" if self.weights else ""
        return f"{self.name}, {shape}, {self.dtype}, context {self.context:,}, weights {self.digest}{more}", {
            "name": self.name,
            "revision": self.revision,
            "weights": self.digest,
            "they come from": self.weights or "as they were given",
            "dtype": self.dtype,
            "shape": shape,
            "layers": f"0 to {self.n_layers - 1}",
            "context": f"{self.context:,} tokens",
            "weights are": "raw" if self.processing == "none" else f"processed ({self.processing})",
            "first token": f"id {', '.join(map(str, self.first))} before every prompt" if self.first else "none",
            "vocabulary": self.vocabulary,
        }

    def key(self) -> dict[str, Any]:
        """Return what two readings must share to be comparable: digest, dtype, processing mode, vocabulary; and the name."""
        return {k: v for k, v in asdict(self).items() if k in ("name", "revision", "digest", "dtype", "processing", "vocabulary")}


class Described:
    """A model that is described and not loaded: it has a tokenizer and sizes, and no weights.

    Functions that need no forward pass take it in place of a model: `info`, `tokens.encode`, `planted`, answer words, chat
    templates.

    Attributes:
        info: What identifies the model and what limits it.
        tokenizer: The Hugging Face tokenizer.
        folder: The model's folder; `None` for a model from the hub or made in memory.
    """

    info: ModelInfo
    tokenizer: Any
    folder: Path | None


@dataclass(frozen=True, kw_only=True)
class Known:
    """An entry of the side table of models.

    Attributes:
        name, revision: As the model was loaded by.
        first: Ids put in front of every prompt.
        folder: The model's folder; `None` for a model from the hub or made in memory.
        trunk: The engine's shell around the model's weights.
        state: The state of the weights when they were loaded (`weights_state`).
        reference: What Hugging Face's untouched model gives on a few rows (`reference.Reference`); a text says why there is
            none, and `None` stands for a model that was booted elsewhere.
        weights: Where they come from, in words.
        verdict: How TransformerLens's pass compares with it (`verdict.Verdict`).
    """

    name: str
    revision: str
    first: tuple[int, ...]
    folder: Path | None = None
    trunk: Any = None
    state: tuple[float, ...] = ()
    reference: Any = None
    verdict: Any = None
    weights: str = ""


KNOWN: weakref.WeakKeyDictionary[Any, Known] = weakref.WeakKeyDictionary()


def is_model(thing: object) -> bool:
    """Whether this is a model that the workbench can read."""
    return isinstance(thing, TransformerBridge) or type(thing).__name__ == "HookedTransformer"


def info(model: Any) -> ModelInfo:
    """Return what identifies a model and what limits it. The weights are hashed again only after they changed.

    Args:
        model: What `load_model` returns, or a described model.

    Returns:
        Its facts. A model that was not loaded through `load_model` is entered in the side table under its own name.

    Raises:
        BadInput: This is not a model.
    """
    if isinstance(model, Described):
        return model.info
    known = _entry(model)
    processed = type(model).__name__ == "HookedTransformer" or bool(getattr(model, "compatibility_mode", False))
    return ModelInfo(
        name=known.name,
        revision=known.revision,
        digest=weights_digest(model),
        dtype=str(next(model.parameters()).dtype).removeprefix("torch."),
        processing="compatibility" if processed else "none",
        n_layers=int(model.cfg.n_layers),
        d_model=int(model.cfg.d_model),
        context=context_of(model),
        first=known.first,
        vocabulary=vocabulary_hash(model.tokenizer, known.first),
        weights=known.weights,
    )


def _entry(model: Any) -> Known:
    """A model's entry in the side table, which is made where there is none."""
    if not is_model(model):
        raise BadInput(f"a model is what load_model returns, a TransformerBridge or a HookedTransformer; got {type(model).__name__}")
    known = KNOWN.get(model)
    if known is None:
        known = KNOWN[model] = Known(name=str(model.cfg.model_name), revision="", first=first_tokens(_unbooted(model.tokenizer)))
    return known


def n_layers(model: Any) -> int:
    """Return the number of blocks, without hashing the weights.

    Raises:
        BadInput: This is not a model.
    """
    return int(model.cfg.n_layers) if is_model(model) else info(model).n_layers


def first_of(model: Any) -> tuple[int, ...]:
    """Return the ids put in front of every prompt, without hashing the weights."""
    return model.info.first if isinstance(model, Described) else _entry(model).first


def name_of(model: Any) -> str:
    """Return a model's name, without hashing the weights."""
    return model.info.name if isinstance(model, Described) else _entry(model).name


def context_of(model: Any) -> int:
    """Return how many tokens a model reads, without hashing the weights."""
    if isinstance(model, Described):
        return model.info.context
    config = getattr(getattr(model, "original_model", None), "config", None)
    text = getattr(config, "text_config", config)
    return int(getattr(text, "max_position_embeddings", None) or model.cfg.n_ctx)


def bos_of(model: Any) -> int | None:
    """Return the id that every prompt begins with, or `None`, without hashing the weights."""
    first = first_of(model)
    return first[0] if first else None


def same_weights(model: Any) -> bool:
    """Whether the weights are the loaded ones, as far as `weights_state` tells."""
    known = KNOWN.get(model)
    return known is not None and known.state == weights_state(model)


def vouch(model: Any) -> None:
    """Treat the current weights as the loaded ones, after they were changed and restored bit for bit."""
    if model in KNOWN:
        KNOWN[model] = replace(KNOWN[model], state=weights_state(model))


def folder_of(model: Any) -> Path | None:
    """Return the folder that a model was loaded from; `None` for a model from the hub or made in memory."""
    if isinstance(model, Described):
        return model.folder
    known = KNOWN.get(model)
    return None if known is None else known.folder


def trunk_of(model: Any) -> Any:
    """Return the engine's shell around a model's weights (`trunk.Trunk`), or a text that says why it must not be read.

    Raises:
        BadInput: This is not a model.
    """
    if isinstance(model, Described):
        raise BadInput(f"{model.info.name} is described and not loaded; a forward pass needs its weights")
    info(model)
    known = KNOWN[model]
    if known.trunk is None:
        return "it was booted elsewhere; load it by name or folder through load_model"
    if known.trunk.why_not:
        return known.trunk.why_not
    if known.state != weights_state(model):
        return "its weights have changed since it was loaded"
    if model.training:
        return "it is in training mode"
    return known.trunk


def declared_bos(tokenizer: Any) -> int | None:
    """Return the beginning-of-text id that a tokenizer declares, or `None`.

    TransformerLens falls back to the end-of-text token when it boots a model whose tokenizer declares none; that fallback
    does not count here.
    """
    if tokenizer is None:
        raise MissingTokenizer("the model has no tokenizer; pass tokenizer=…")
    declared = getattr(tokenizer, "init_kwargs", {}).get("bos_token", getattr(tokenizer, "bos_token", None))
    return None if declared is None else tokenizer.bos_token_id


def first_tokens(tokenizer: Any) -> tuple[int, ...]:
    """Return the ids that a tokenizer puts in front of a text, as it does; what it declares does not count.

    Args:
        tokenizer: A Hugging Face tokenizer.

    Raises:
        MissingTokenizer: There is none.
    """
    if tokenizer is None:
        raise MissingTokenizer("the model has no tokenizer; pass tokenizer=…")
    for text in ("Hello", "a", "1"):
        bare, whole = tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer(text)["input_ids"]
        for start in range(len(whole) - len(bare) + 1):
            if bare and whole[start : start + len(bare)] == bare:
                return tuple(whole[:start])
    return ()


def _unbooted(tokenizer: Any) -> Any:
    """The tokenizer as its files say: TransformerLens makes the one of a booted model put a first token in front."""
    where = str(getattr(tokenizer, "name_or_path", "") or "")
    if not Path(where).is_dir():
        return tokenizer
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(where, trust_remote_code=False)
    except Exception:
        return tokenizer


def vocabulary_hash(tokenizer: Any, first: tuple[int, ...]) -> str:
    """Return a hash of the ids of a sample text, the first tokens included."""
    sample = 'Consider that "Everyone should have rights." Answer: yes no A B Sorry Sure, a poor person'
    lead = list(first) if len(first) > 1 else first[0] if first else None
    return content_hash(lead, tokenizer(sample, add_special_tokens=False)["input_ids"])
