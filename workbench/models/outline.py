"""Facts of a model whose weights are not read: sizes, tokenizer, and the content of its files.

A study is planned on the outline alone, and so is a finished one opened again.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open
from transformers import AutoConfig

from ..core.errors import WorkbenchError
from ..core.provenance import content_hash, versions
from .dequantised import ready
from .known import Described, ModelInfo, first_tokens, vocabulary_hash
from .load import device_of, load_tokenizer
from .plain import check_plain
from .shelf import told
from .source import check_folder, check_memory, dtype_of, explain, split_dtype

UNREAD = "unread"


@dataclass(frozen=True, kw_only=True)
class Outline(Described):
    """A model as its configuration, its tokenizer and its files describe it.

    Attributes:
        info: As for a loaded model; the digest of the weights is "unread".
        tokenizer: The Hugging Face tokenizer.
        folder: The model's folder; `None` for a model from the hub.
        content: Hash of every file's bytes, of the dtype and of the packages' versions. Models of equal content have equal
            weights digests.
        size: Number of parameters; 0 where it is unknown before the download.
    """

    info: ModelInfo
    tokenizer: Any
    folder: Path | None
    content: str
    size: int


def outline(name: str) -> Outline:
    """Describe a model without reading its weights into memory.

    Args:
        name: As for `load_model`. A gguf file is converted first, where it was not before.

    Returns:
        The outline. The files of a local folder are hashed completely; a hub model is identified by its commit.

    Raises:
        UnknownModel, NotFetched, QuantisedModel, DamagedModel, MissingTokenizer, NetworkNeeded, GatedModel, OutOfMemory: As for
            `load_model`.
    """
    source, shown = ready(name)
    folder = Path(source) if Path(source).is_dir() else None
    if folder is not None:
        check_folder(folder)
    try:
        config: Any = AutoConfig.from_pretrained(source, trust_remote_code=False)
    except WorkbenchError:
        raise
    except Exception as error:
        raise explain(error, shown, local=folder is not None) from error
    check_plain(shown, config)
    kind = dtype_of(split_dtype(name)[1] or "auto", config, device_of("auto"))
    if folder is not None:
        check_memory(folder, kind, device_of("auto"))
    tokenizer = load_tokenizer(source, shown, {})
    text, first = config.get_text_config(), first_tokens(tokenizer)
    known = ModelInfo(
        name=shown,
        revision="",
        digest=UNREAD,
        dtype=str(kind).removeprefix("torch."),
        processing="none",
        n_layers=int(text.num_hidden_layers),
        d_model=int(text.hidden_size),
        context=int(getattr(text, "max_position_embeddings", None) or 2048),
        first=first,
        vocabulary=vocabulary_hash(tokenizer, first),
        weights=told(folder)["weights"],
    )
    files = folder_content(folder) if folder is not None else [source, str(getattr(config, "_commit_hash", ""))]
    content = content_hash(shown, files, str(kind), versions())
    return Outline(info=known, tokenizer=tokenizer, folder=folder, content=content, size=_parameters(folder))


def folder_content(folder: Path) -> list[tuple[str, str]]:
    """Return every file of a folder with a hash of its bytes."""
    out = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        with path.open("rb") as handle:
            out.append((path.relative_to(folder).as_posix(), hashlib.file_digest(handle, "sha256").hexdigest()))
    return out


def _parameters(folder: Path | None) -> int:
    count = 0
    for file in sorted(folder.glob("*.safetensors")) if folder is not None else ():
        with safe_open(file, "pt") as handle:
            for name in handle.keys():  # noqa: SIM118
                size = 1
                for extent in handle.get_slice(name).get_shape():
                    size *= extent
                count += size
    return count
