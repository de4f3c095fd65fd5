"""How activations are displayed: one line in a terminal, a small table in a notebook."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from ..core.show import Shown, origin, short, some
from .manifest import model_of
from .sources import OnDisk, Source


class ShownActivations(Shown):
    """The display of `Activations`."""

    layers: tuple[int, ...]
    site: str
    position: str
    rows: pd.DataFrame
    source: Source
    provenance: Mapping[str, Any]

    def _shown(self) -> tuple[str, Mapping[str, Any]]:
        items, variants, *rest = self.source.shape
        shape = (items, variants, len(self.layers), *rest)
        last = ["head", "d_head"] if self.site == "z" else ["d_model"]
        names = ["item", "variant", "layer", *(["position"] if "mask" in self.source.names else []), *last]
        axes = " x ".join(names) if len(names) == len(shape) else "item x variant x layer x …"
        model = model_of(self.provenance).get("name", "?")
        on_disk = self.source.store.folder.name if isinstance(self.source, OnDisk) else ""
        where = f" in {on_disk!r}" if on_disk else ""
        line = f"{axes} = {shape}, {self.site} at {self.position!r}, layers {some(self.layers, 40)}, of {short(model, 40)!r}{where}"
        size = f"{float(np.prod([float(n) for n in shape])) * 4 / 1e6:,.1f} MB in float32"
        edits = self.provenance.get("edits")
        return line, {
            "shape": f"{axes} = {shape}",
            "layers": some(self.layers, 60),
            "variants": "0 negative, 1 positive",
            "size": size + (f", read from {on_disk!r} as needed" if on_disk else ", in memory"),
            **origin(
                {k: v for k, v in self.provenance.items() if k in ("model", "prompts")} | {"site": self.site, "position": self.position}
            ),
            "row table": some(self.rows.columns, 20),
            "answers": "captured" if "logp.answers" in self.source.names else "",
            "attention sinks": _sinks(self.provenance.get("sinks"), self.position),
            "not finite": short(self.provenance.get("not_finite", ""), 200),
            "read under": some(map(str, edits)) if isinstance(edits, list | tuple) else "",
        }


def _sinks(found: Any, position: str) -> str:
    tokens = found.get("tokens") if isinstance(found, Mapping) else None
    if not isinstance(tokens, Mapping) or not tokens:
        return ""
    most = max(tokens.values(), key=lambda n: int(n) if str(n).isdigit() else 0)
    return f"{most} tokens at most in a layer{', left out' if position == 'mean' else ''}"
