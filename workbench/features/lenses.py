"""A lens with parameters as a frozen value: an affine map of each layer's stream to the stream after the last block.

    logit lens      unembed(norm(x_l))
    tuned lens      unembed(norm(W_l x_l + b_l)), W and b trained so that this says what the model says in the end
    Jacobian lens   unembed(norm(J_l x_l)), J_l the mean Jacobian of the last stream with respect to layer l's

References:
    nostalgebraist 2020 (logit lens); Belrose et al. 2023, arXiv 2303.08112 (tuned lens); Gurnee et al. 2026, arXiv 2607.15495
    (Jacobian lens).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ..core.direction import Direction
from ..core.errors import BadInput, DamagedStore, NotFinite, ShapeMismatch, UnknownName, WrongModel, unknown
from ..core.seeds import numpy_rng
from ..core.show import Shown, axes, origin
from ..core.types import Float, Tensor
from ..core.whole import replacing
from ..models.known import info

KINDS = ("tuned", "jacobian")


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Lens(Shown):
    """Maps of layers to the last stream.

    Attributes:
        kind: "tuned" or "jacobian".
        layers: Blocks, counted from 0, in ascending order; the last one is mapped to itself.
        weight: Of each layer, W in W x + b.
        bias: Of each layer, b; 0 for a Jacobian lens.
        provenance: Model, texts, how it was made.
    """

    kind: str
    layers: tuple[int, ...]
    weight: Float[Tensor, "layer d_model d_model"]
    bias: Float[Tensor, "layer d_model"]
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise unknown(UnknownName, "kind of lens", self.kind, KINDS)
        n, d = len(self.layers), self.weight.shape[-1]
        if self.weight.shape != (n, d, d) or self.bias.shape != (n, d) or not n:
            raise ShapeMismatch(f"{n} layers, maps {tuple(self.weight.shape)} and biases {tuple(self.bias.shape)}")
        if list(self.layers) != sorted(set(self.layers)):
            raise BadInput(f"layers of a lens in ascending order, each once; got {self.layers}")
        if not bool(self.weight.isfinite().all() and self.bias.isfinite().all()):
            raise NotFinite("the maps of the lens hold NaN or infinity")

    @property
    def d_model(self) -> int:
        """Width of the stream."""
        return self.weight.shape[-1]

    def at(self, layer: int, x: Float[Tensor, "*row d_model"]) -> Float[Tensor, "*row d_model"]:
        """Return what a layer's stream becomes at the last layer, by this lens.

        Args:
            layer: The block.
            x: Its stream, in raw units.

        Returns:
            Streams in raw units; `Readout.logits` of them is what the layer would answer.

        Raises:
            BadInput: The lens has no such layer. ShapeMismatch: The width is another.
        """
        if layer not in self.layers:
            raise BadInput(f"layer {layer}: this lens has layers {', '.join(map(str, self.layers))}")
        if x.shape[-1] != self.d_model:
            raise ShapeMismatch(f"a lens of width {self.d_model}, given a stream of width {x.shape[-1]}")
        k = self.layers.index(layer)
        return x @ self.weight[k].T.to(x) + self.bias[k].to(x)

    def check_model(self, model: Any) -> None:
        """Raise unless the lens is of this model.

        Args:
            model: What `load_model` returns.

        Raises:
            WrongModel: Another model, other weights, another width, or not all of its layers.
        """
        known = info(model)
        if known.d_model != self.d_model or max(self.layers) != known.n_layers - 1:
            own = f"{max(self.layers) + 1} layers of width {self.d_model}"
            raise WrongModel(f"a lens of {own}, and {known.name!r} with {known.n_layers} of {known.d_model}")
        here = Direction.of(torch.ones(self.d_model), method=f"{self.kind} lens", provenance=self.provenance)
        here.check_place({"model": known.key()})

    def exchanged(self, seed: int = 0) -> Lens:
        """Return a control: every layer but the last has the map of another layer.

        Args:
            seed: Draws by how many layers the maps are turned round.

        Returns:
            A lens with the same maps at other layers.

        Raises:
            BadInput: Fewer than two layers below the last.
        """
        n = len(self.layers) - 1
        if n < 2:
            raise BadInput(f"{n} layers below the last: maps of two at least can be exchanged")
        turn = int(numpy_rng(seed, "exchanged layers").integers(1, n))
        order = [*((k + turn) % n for k in range(n)), n]
        return replace(self, weight=self.weight[order], bias=self.bias[order])

    def save(self, path: str | Path) -> None:
        """Write the lens to a safetensors file, its provenance in the metadata.

        Args:
            path: The file; its folder is made.
        """
        file = Path(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        facts = {"kind": self.kind, "layers": list(self.layers), "provenance": dict(self.provenance)}
        tensors = {"weight": self.weight.detach().float().cpu().contiguous(), "bias": self.bias.detach().float().cpu().contiguous()}
        with replacing(file) as temporary:
            save_file(tensors, str(temporary), metadata={"lens": json.dumps(facts, default=str)})

    @classmethod
    def load(cls, path: str | Path, *, model: Any = None) -> Lens:
        """Read a lens that was saved.

        Args:
            path: The file.
            model: Check that it belongs to this model.

        Returns:
            The lens, on the CPU.

        Raises:
            UnknownName: There is no such file. DamagedStore: It cannot be read as a lens. WrongModel: It is of another model.
        """
        if not Path(path).is_file():
            raise UnknownName(f"no lens {str(path)!r}: train one with features.train_tuned_lens or fit_jacobian_lens, and save it there")
        try:
            with safe_open(str(path), framework="pt") as file:
                facts = json.loads((file.metadata() or {})["lens"])
                tensors = {name: file.get_tensor(name) for name in ("weight", "bias")}
            kind, layers, provenance = facts["kind"], tuple(facts["layers"]), facts["provenance"]
        except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
            raise DamagedStore(f"{Path(path).name} cannot be read as a lens ({type(error).__name__})") from None
        out = cls(kind=kind, layers=layers, provenance=provenance, **tensors)
        if model is not None:
            out.check_model(model)
        return out

    def _shown(self) -> tuple[str, Mapping[str, Any]]:
        line = f"{self.kind} lens of {len(self.layers)} layers"
        return line, {"kind": self.kind, "shape": axes(layer=len(self.layers), d_model=self.d_model), **origin(self.provenance)}
