"""A direction as a plain value: unit vector, length, and where it comes from."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .errors import DamagedStore, NotFinite, ShapeMismatch, WrongModel, ZeroDirection
from .provenance import redact
from .show import Shown, axes, number, origin
from .types import Float

PLACE = ("model", "site", "layer")


@dataclass(frozen=True, kw_only=True, repr=False)
class Direction(Shown):
    """A unit vector with its length in raw activation units.

    Attributes:
        unit: `d_model`, of length 1.
        scale: Length of the vector that it came from, in raw activation units: a coefficient of 1 adds that much.
        method: How it was estimated.
        reliability: Cosine between the directions of two halves of the rows (`nan` where it is unknown).
        n: Number of rows of the smaller side.
        clusters: Number of independent clusters among them.
        provenance: Model, site, layer, position, prompts, versions, and for sums the directions that were added.
    """

    unit: Float[Tensor, " d_model"]
    scale: float
    method: str = ""
    reliability: float = math.nan
    n: int = 0
    clusters: int = 0
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, kind in (("scale", float), ("reliability", float), ("n", int), ("clusters", int)):
            object.__setattr__(self, name, kind(getattr(self, name)))  # numpy's scalars do not survive being saved
        if self.unit.ndim != 1:
            raise ShapeMismatch(f"a direction has one axis, got {tuple(self.unit.shape)}")
        if not abs(float(self.unit.norm()) - 1) <= 1e-3:
            raise ZeroDirection(f"the unit vector of a direction has length 1, got {float(self.unit.norm()):.3g}")

    @classmethod
    def of(cls, vector: Float[Tensor, " d_model"], **facts: Any) -> Direction:
        """Return the direction of a vector.

        Args:
            vector: In raw activation units.
            facts: Further attributes of the direction: `method`, `reliability`, `n`, `clusters`, `provenance`.

        Returns:
            The unit vector in float32 on the CPU, with the length of the vector as its scale. The sign stays.

        Raises:
            NotFinite: The vector holds NaN or infinity.
            ZeroDirection: The vector has no length.
        """
        v = vector.detach().double().cpu()
        if not bool(v.isfinite().all()):
            raise NotFinite("the vector of a direction holds NaN or infinity")
        length = float(v.norm())
        if not length > 0:
            raise ZeroDirection("a vector of zeros has no direction")
        return cls(unit=(v / length).float(), scale=length, **facts)

    @property
    def vector(self) -> Float[Tensor, " d_model"]:
        """The vector in raw activation units.

        Returns:
            Unit vector times scale.
        """
        return self.unit * self.scale

    def project(self, x: Float[Tensor, "*rows d_model"]) -> Float[Tensor, "*rows"]:
        """Return the coordinate of activations along the unit vector.

        Args:
            x: Activations, in raw units; the last axis is that of the residual stream (or of the site).

        Returns:
            One coordinate per activation vector, in raw units and float32; positive on the side that the direction points to.

        Raises:
            ShapeMismatch: The activations have another width than the direction.
        """
        if x.shape[-1] != len(self.unit):
            raise ShapeMismatch(f"a direction of width {len(self.unit)} and activations of width {x.shape[-1]}")
        return x.float() @ self.unit.to(x.device)

    def check_place(self, other: Mapping[str, Any]) -> None:
        """Raise unless both come from one place of one model. A fact that either side lacks is not compared.

        Args:
            other: Provenance with the keys `model`, `site` and `layer`.

        Raises:
            WrongModel: The model, its processing mode, the site or the layer differs.
        """
        for key in PLACE:
            mine, theirs = self.provenance.get(key), other.get(key)
            if mine is None or theirs is None:
                continue
            if key == "model" and isinstance(mine, Mapping) and isinstance(theirs, Mapping):
                both = [k for k in ("digest", "processing") if k in mine and k in theirs]
                if any(mine[k] != theirs[k] for k in both):
                    names = f"{mine.get('name')!r} and one of {theirs.get('name')!r}"
                    raise WrongModel(f"a direction of {names}, or of another processing mode")
            elif mine != theirs:
                raise WrongModel(f"a direction read at {key} {mine!r} and something at {key} {theirs!r}")

    def _check(self, other: Direction) -> None:
        self.check_place(other.provenance)
        if len(self.unit) != len(other.unit):
            raise ShapeMismatch(f"directions of width {len(self.unit)} and {len(other.unit)}")

    def _with(self, vector: Tensor, how: str, *others: Direction) -> Direction:
        terms = [{"method": d.method, "scale": d.scale, "provenance": dict(d.provenance)} for d in (self, *others)]
        same = [k for k in (*PLACE, "position") if k in self.provenance and all(d.provenance.get(k) == self.provenance[k] for d in others)]
        place = {k: self.provenance[k] for k in same}
        return Direction.of(vector, method=how, n=min(d.n for d in (self, *others)), provenance=place | {"made_of": terms})

    def __neg__(self) -> Direction:
        return replace(self, unit=-self.unit, method=f"-({self.method})")

    def __add__(self, other: Direction) -> Direction:
        self._check(other)
        return self._with(self.vector.double() + other.vector.double(), f"({self.method}) + ({other.method})", other)

    def __sub__(self, other: Direction) -> Direction:
        self._check(other)
        return self._with(self.vector.double() - other.vector.double(), f"({self.method}) - ({other.method})", other)

    def __mul__(self, factor: float) -> Direction:
        return self._with(self.vector.double() * factor, f"{factor:g} * ({self.method})")

    __rmul__ = __mul__

    def without(self, other: Direction) -> Direction:
        """Return the component of this direction that is orthogonal to another.

        v - (v · u) u, with v this direction's raw vector and u the other's unit vector.

        Args:
            other: The direction whose component is removed.

        Returns:
            A direction with the length of the component that remains, in raw units.

        Raises:
            ZeroDirection: The two directions are parallel, so that nothing remains.
            ShapeMismatch: They have different widths.
            WrongModel: They come from different places.
        """
        self._check(other)
        v, u = self.vector.double(), other.unit.double()
        left = v - (v @ u) * u
        if float(left.norm()) <= 1e-6 * self.scale:
            raise ZeroDirection("nothing is left: the two directions are one")
        return self._with(left, f"({self.method}) without ({other.method})", other)

    def save(self, path: str | Path) -> None:
        """Write the direction to a safetensors file, with all its attributes.

        Args:
            path: The file; an existing one is replaced.
        """
        facts = {"scale": self.scale, "method": self.method, "reliability": self.reliability, "n": self.n, "clusters": self.clusters}
        text = json.dumps(redact({**facts, "provenance": dict(self.provenance)}), default=str)
        save_file({"unit": self.unit.contiguous()}, str(path), metadata={"direction": text})

    @classmethod
    def load(cls, path: str | Path, *, place: Mapping[str, Any] | None = None) -> Direction:
        """Read a direction from a file.

        Args:
            path: A file that `save` wrote.
            place: Model key, site and layer that it must come from; `None` accepts any.

        Returns:
            The direction as it was saved.

        Raises:
            DamagedStore: The file cannot be read as a direction.
            WrongModel: It comes from another place than `place`.
        """
        try:
            with safe_open(str(path), framework="pt") as file:
                unit, text = file.get_tensor("unit"), (file.metadata() or {})["direction"]
            direction = cls(unit=unit, **json.loads(text))
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise DamagedStore(f"{Path(path).name} holds no direction ({type(error).__name__})") from None
        direction.check_place(place or {})
        return direction

    def _shown(self) -> tuple[str, Mapping[str, Any]]:
        where = ", ".join(f"{k} {self.provenance[k]}" for k in ("site", "layer", "position") if k in self.provenance)
        sure = f"reliability {self.reliability:.2f}" if self.reliability == self.reliability else "reliability unknown"
        line = f"{self.method}, d_model {len(self.unit)}, scale {self.scale:.3g}, {sure}, n={self.n}{', ' + where if where else ''}"
        return line, {
            "method": self.method,
            "shape": axes(d_model=len(self.unit)),
            "length in raw units": number(self.scale, 4),
            "reliability (half-sample cosine)": number(self.reliability) if self.reliability == self.reliability else "unknown",
            "rows of the smaller side": f"{self.n:,}" if self.n else "",
            "independent clusters": f"{self.clusters:,}" if self.clusters else "",
            **origin(self.provenance),
            "made of": " and ".join(str(d.get("method", "?")) for d in self.provenance.get("made_of", ()) if isinstance(d, Mapping)),
            "mind": "two halves of the rows give directions that hardly agree" if self.reliability < 0.5 else "",
        }
