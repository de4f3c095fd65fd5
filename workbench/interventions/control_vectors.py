"""Steering vectors in the format of llama.cpp (gguf)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..core.direction import Direction
from ..core.errors import BadInput, DamagedStore, MissingTool


def write_control_vector(path: str | Path, behaviour: str, vectors: Mapping[int, Direction], *, coefficient: float, hint: str) -> Path:
    """Write vectors by layer as a control vector; arguments and errors as for `VectorSet.to_gguf`."""
    gguf = _gguf()
    for layer, d in vectors.items():
        site = d.provenance.get("site", "resid_post")
        if site != "resid_post":
            raise BadInput(f"{behaviour}, layer {layer} was read at {site}; llama.cpp adds after a block, at resid_post")
        if layer == 0:
            raise BadInput(f"{behaviour} has a vector of block 0, after which llama.cpp adds nothing; leave that layer out")
    writer = gguf.GGUFWriter(str(path), "controlvector")
    writer.add_string("controlvector.model_hint", hint)
    writer.add_uint32("controlvector.layer_count", len(vectors))
    for layer, d in sorted(vectors.items()):
        writer.add_tensor(f"direction.{layer}", (d.vector * coefficient).float().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return Path(path)


def read_control_vector(path: str | Path, name: str) -> dict[int, Direction]:
    """Read a control vector; return its directions by layer, which bear the name.

    Raises:
        DamagedStore: It is not such a file.
        MissingTool: The package `gguf` is not installed.
    """
    gguf = _gguf()
    try:
        reader = gguf.GGUFReader(str(path))
        tensors = {str(t.name): torch.from_numpy(np.array(t.data, dtype=np.float32).reshape(-1)) for t in reader.tensors}
    except Exception as error:
        raise DamagedStore(f"{Path(path).name} cannot be read as gguf ({type(error).__name__})") from None
    vectors: dict[int, Direction] = {}
    for key, value in tensors.items():
        kind, _, layer = key.partition(".")
        if kind == "direction" and layer.isdigit():
            facts = {"site": "resid_post", "layer": int(layer), "file": Path(path).name}
            vectors[int(layer)] = Direction.of(value, method=f"{name} (gguf)", provenance=facts)
    if not vectors:
        raise DamagedStore(f"{Path(path).name} holds no control vector (tensors named direction.L)")
    return dict(sorted(vectors.items()))


def _gguf() -> Any:
    try:
        import gguf
    except ImportError:
        raise MissingTool("control vectors of llama.cpp need the package gguf: pip install 'workbench-interp[gguf]'") from None
    return gguf
