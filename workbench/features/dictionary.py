"""A dictionary of latents (a sparse autoencoder) as a frozen value: encode, decode, latents as directions.

With x the activations, normalised where the dictionary asks for it, and b = b_dec where it is subtracted from the input (0 otherwise):

    pre = (x - b) W_enc + b_enc
    standard     a = ReLU(pre)
    topk         a = ReLU(pre) of the k largest of each row, 0 elsewhere
    jumprelu     a = ReLU(pre) where pre > threshold, 0 elsewhere      (BatchTopK and Matryoshka dictionaries are read so)
    gated        a = ReLU((x - b) (W_enc exp(r)) + b_mag) where (x - b) W_enc + b_gate > 0, 0 elsewhere
    decode       x' = a W_dec + b_dec

References:
    Bricken et al. 2023 (Towards Monosemanticity); Gao et al. 2024, arXiv 2406.04093 (TopK); Rajamanoharan et al. 2024, arXiv 2404.16014
    (gated) and 2407.14435 (JumpReLU); Bussmann et al. 2024, arXiv 2412.06410 (BatchTopK) and 2025, arXiv 2503.17547 (Matryoshka).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from ..core.direction import Direction
from ..core.errors import BadInput, NotFinite, ShapeMismatch, UnknownName, WrongModel, unknown
from ..core.provenance import content_hash
from ..core.seeds import torch_rng
from ..core.show import Shown, axes, origin
from ..core.types import Bool, Float, Tensor
from ..models.hooks import check_layer
from ..models.known import info
from .saelens_files import NEEDS, arguments, read, write

KINDS = ("standard", "gated", "topk", "jumprelu")
NORMALISATIONS = ("none", "layer_norm", "constant_norm_rescale")
EPS = 1e-5  # of layer_norm, SAELens's


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Dictionary(Shown):
    """A trained dictionary.

    Attributes:
        kind: How latents are chosen: "standard", "gated", "topk" or "jumprelu".
        encoder: W_enc.
        decoder: W_dec; the row of a latent is its direction.
        bias: b_dec.
        vectors: Further parameters, one number per latent: `b_enc`, `threshold`, `b_gate`, `b_mag`, `r_mag`, as the kind needs.
        k: Latents per row, for "topk".
        normalisation: Of each row before it is encoded, undone after it is decoded: "none", "layer_norm" (mean 0 and standard deviation
            1) or "constant_norm_rescale" (length sqrt(d_in)).
        subtract: Whether b_dec is subtracted from the input.
        rescale: Whether pre-activations are multiplied by the norms of the latents' directions, and activations divided by them ("topk").
        trained_as: The architecture that was trained, where it is read as another ("batchtopk" is read as "jumprelu").
        provenance: Model, site, layer, texts, versions, seed; what is not known is missing.
    """

    kind: str
    encoder: Float[Tensor, "d_in width"]
    decoder: Float[Tensor, "width d_in"]
    bias: Float[Tensor, " d_in"]
    vectors: Mapping[str, Tensor]
    k: int = 0
    normalisation: str = "none"
    subtract: bool = True
    rescale: bool = False
    trained_as: str = ""
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise unknown(UnknownName, "kind of dictionary", self.kind, KINDS)
        if self.normalisation not in NORMALISATIONS:
            raise unknown(UnknownName, "normalisation", self.normalisation, NORMALISATIONS)
        d, width = self.encoder.shape
        if self.decoder.shape != (width, d) or self.bias.shape != (d,):
            raise ShapeMismatch(
                f"an encoder {tuple(self.encoder.shape)}, a decoder {tuple(self.decoder.shape)} and a bias {tuple(self.bias.shape)}"
            )
        if lost := [name for name in NEEDS[self.kind] if name not in self.vectors]:
            raise BadInput(
                f"a {self.kind} dictionary needs {', '.join(lost)}; there {'is' if len(self.vectors) == 1 else 'are'} "
                f"{', '.join(self.vectors) or 'none'}"
            )
        for name, v in self.vectors.items():
            if v.shape != (width,):
                raise ShapeMismatch(f"{name} of shape {tuple(v.shape)} in a dictionary of {width} latents")
        for name, v in {"W_enc": self.encoder, "W_dec": self.decoder, "b_dec": self.bias, **self.vectors}.items():
            if not bool(v.isfinite().all()):
                raise NotFinite(f"{name} of the dictionary holds NaN or infinity")
        if self.kind == "topk" and not 1 <= self.k <= width:
            raise BadInput(f"k={self.k} of {width} latents")
        if not bool((self.decoder.norm(dim=1) > 0).any()):
            raise BadInput("a dead dictionary: every latent has a direction of length 0")

    @property
    def width(self) -> int:
        """Number of latents."""
        return self.encoder.shape[1]

    @property
    def d_in(self) -> int:
        """Width of the activations that it encodes."""
        return self.encoder.shape[0]

    @property
    def key(self) -> str:
        """A hash of everything that decides what it computes."""
        parts = {"W_enc": self.encoder, "W_dec": self.decoder, "b_dec": self.bias, **self.vectors}
        raw = {n: content_hash(v.detach().contiguous().cpu().numpy().tobytes().hex()) for n, v in sorted(parts.items())}
        return content_hash(self.kind, self.k, self.normalisation, self.subtract, self.rescale, raw)

    def encode(self, x: Float[Tensor, "*rows d_in"]) -> Float[Tensor, "*rows width"]:
        """Return the activations of the latents.

        Args:
            x: Activations of the model at the dictionary's place, in raw units.

        Returns:
            0 or more, in the dictionary's dtype; mostly 0.

        Raises:
            ShapeMismatch: Another width than the dictionary's.
            NotFinite: NaN or infinity.

        Note:
            A steering vector or a difference of means is no activation: it lies far from what the encoder was trained on, and its negative
            parts are lost (Mayne et al. 2024, arXiv 2411.08790). Use `decompose`.
        """
        return self._encode(self._normalised(self._checked(x))[0])

    def _checked(self, x: Tensor) -> Tensor:
        if x.shape[-1] != self.d_in:
            raise ShapeMismatch(f"a dictionary of activations of width {self.d_in}, given a width of {x.shape[-1]}")
        if not bool(x.isfinite().all()):
            raise NotFinite("the activations hold NaN or infinity")
        return x.to(self.encoder)

    def _normalised(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Rows as the encoder wants them, and what undoes it: x = normalised * scale + shift."""
        one, zero = x.new_ones(()), x.new_zeros(())
        if self.normalisation == "layer_norm":
            shift = x.mean(-1, keepdim=True)
            scale = (x - shift).std(-1, keepdim=True)
            return (x - shift) / (scale + EPS), scale, shift
        if self.normalisation == "constant_norm_rescale":
            up = self.d_in**0.5 / x.norm(dim=-1, keepdim=True)
            return x * up, 1 / up, zero
        return x, one, zero

    def _encode(self, x: Tensor) -> Tensor:
        x, v = x - self.bias if self.subtract else x, self.vectors
        if self.kind == "gated":
            return ((x @ self.encoder + v["b_gate"]) > 0) * (x @ (self.encoder * v["r_mag"].exp()) + v["b_mag"]).relu()
        pre = x @ self.encoder + v["b_enc"]
        if self.rescale:
            pre = pre * self.decoder.norm(dim=1)
        if self.kind == "jumprelu":
            return pre.relu() * (pre > v["threshold"])
        if self.kind == "topk":
            top = pre.topk(self.k, dim=-1)
            return torch.zeros_like(pre).scatter(-1, top.indices, top.values.relu())
        return pre.relu()

    def decode(self, latents: Float[Tensor, "*rows width"], like: Float[Tensor, "*rows d_in"] | None = None) -> Float[Tensor, "*rows d_in"]:
        """Return the activations that latents stand for.

        Args:
            latents: What `encode` returns, or changed.
            like: The activations that were encoded: a dictionary that normalises rows needs their mean and length to undo it.

        Returns:
            Activations in raw units.

        Raises:
            ShapeMismatch: Not as many latents as the dictionary has.
            BadInput: The dictionary normalises, and `like` is missing.
        """
        if latents.shape[-1] != self.width:
            raise ShapeMismatch(f"a dictionary of {self.width} latents, given {latents.shape[-1]}")
        if self.rescale:
            latents = latents / self.decoder.norm(dim=1)
        out = latents @ self.decoder + self.bias
        if self.normalisation == "none":
            return out
        if like is None:
            raise BadInput(f"this dictionary normalises rows ({self.normalisation}): give the activations that were encoded (like=)")
        _, scale, shift = self._normalised(self._checked(like))
        return out * scale + shift

    def reconstruct(self, x: Float[Tensor, "*rows d_in"]) -> Float[Tensor, "*rows d_in"]:
        """Return what is left of activations after encoding and decoding.

        Args:
            x: Activations in raw units.
        """
        return self.decode(self.encode(x), x)

    def dead(self, latents: Float[Tensor, "row width"]) -> Bool[Tensor, " width"]:
        """Return which latents never act on some rows.

        Args:
            latents: What `encode` returned for the rows.
        """
        return ~(latents > 0).any(0)

    def latent(self, index: int) -> Direction:
        """Return the direction of a latent, to steer, ablate or clamp with.

        Args:
            index: Which one, counted from 0.

        Returns:
            The latent's row of the decoder; a coefficient of 1 adds what an activation of 1 would.

        Raises:
            UnknownName: There is no such latent.
            ZeroDirection: The latent's direction has no length.
        """
        self.check_latent(index)
        row = self.decoder[index] / self.decoder[index].norm() if self.rescale else self.decoder[index]
        place = {k: self.provenance[k] for k in ("model", "site", "layer") if k in self.provenance}
        return Direction.of(row, method=f"latent {index}", provenance={**place, "dictionary": self.key})

    def check_latent(self, index: int) -> None:
        """Raise unless there is a latent of this number.

        Raises:
            UnknownName: There is not.
        """
        if isinstance(index, bool) or not 0 <= int(index) < self.width:
            raise UnknownName(f"latent {index} of a dictionary that has latents 0-{self.width - 1}")

    def check_place(self, model: Any = None, place: Mapping[str, Any] | None = None) -> None:
        """Raise unless the dictionary belongs to a model, or to the place that something else was read at. Unknown facts are not compared.

        Args:
            model: What `load_model` returns.
            place: Provenance of a direction or of activations: `model`, `site`, `layer`.

        Raises:
            WrongModel: Another model, site or layer, or another width.
            UnknownLayer: The model has no such layer.
        """
        if model is not None:
            known = info(model)
            if known.d_model != self.d_in and self.provenance.get("site") != "z":
                raise WrongModel(f"a dictionary of width {self.d_in} and {known.name!r}, whose stream has {known.d_model}")
            if "layer" in self.provenance:
                check_layer(model, self.provenance["layer"])
            place = {"model": known.key(), **(place or {})}
        Direction.of(torch.ones(self.d_in), method="dictionary", provenance=self.provenance).check_place(place or {})

    def permuted(self, seed: int = 0) -> Dictionary:
        """Return a control: the coordinates of every latent's direction are permuted, each latent's in another way.

        Args:
            seed: Draws the permutations.

        Returns:
            A dictionary whose directions have the same numbers and lengths, and nothing to do with the model.
        """
        order = torch.rand(self.width, self.d_in, generator=torch_rng(seed, "permuted dictionary")).argsort(1)
        return replace(
            self, decoder=self.decoder.gather(1, order.to(self.decoder.device)), trained_as=f"{self.trained_as or self.kind}, permuted"
        )

    def save(self, folder: str | Path) -> None:
        """Write the dictionary as SAELens does (`cfg.json`, `sae_weights.safetensors`), its provenance in the metadata.

        Args:
            folder: Made if it is not there; a dictionary in it is replaced.
        """
        state = {"W_enc": self.encoder, "W_dec": self.decoder, "b_dec": self.bias, **self.vectors}
        facts = {f: getattr(self, f) for f in ("kind", "k", "normalisation", "subtract", "rescale", "trained_as", "provenance")}
        write(Path(folder), state, **facts)

    @classmethod
    def load(cls, source: str | Path, id: str = "", *, model: Any = None) -> Dictionary:
        """Read a dictionary from a folder, or from a repository of the hub.

        Args:
            source: A folder as SAELens writes it, or one of Gemma Scope 2 (`params.safetensors`); "bundled", the dictionary that is part of
                the project; or a repository ("google/gemma-scope-2-270m-pt").
            id: The folder inside a repository ("resid_post/layer_9_width_16k_l0_medium").
            model: Check that it belongs to this model.

        Returns:
            The dictionary, on the CPU, in float32.

        Raises:
            UnknownName: There is no such folder or release.
            DamagedStore: The files cannot be read as a dictionary.
            NetworkNeeded, GatedModel: The hub cannot be reached, or asks for a licence.
            BadInput: An architecture or a normalisation that cannot be read here.
            WrongModel: It belongs to another model.
        """
        out = cls(**read(str(source), id))
        if model is not None:
            out.check_place(model)
        return out

    @classmethod
    def of_saelens(cls, cfg: Mapping[str, Any], state: Mapping[str, Any], **facts: Any) -> Dictionary:
        """Return a dictionary from the configuration and the tensors that SAELens writes.

        Args:
            cfg: The content of `cfg.json`.
            state: Tensors by name.
            facts: Attributes in place of those that the configuration says.

        Returns:
            The dictionary.
        """
        return cls(**{**arguments(cfg, state), **facts})

    def _shown(self) -> tuple[str, Mapping[str, Any]]:
        where = ", ".join(f"{k} {self.provenance[k]}" for k in ("site", "layer") if k in self.provenance)
        line = f"{self.trained_as or self.kind}, {self.width:,} latents of {self.d_in}{', ' + where if where else ''}"
        return line, {
            "kind": f"{self.kind}{f', trained as {self.trained_as}' if self.trained_as else ''}",
            "shape": axes(width=self.width, d_in=self.d_in),
            "k": str(self.k) if self.k else "",
            "normalisation": self.normalisation,
            **origin(self.provenance),
        }
