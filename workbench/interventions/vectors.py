"""Steering vectors as files: one per behaviour and layer, with where they come from; made comparable, compared, and carried elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import norm as gaussian

from ..activations import Activations, capture
from ..core.direction import Direction
from ..core.errors import BadInput, DamagedStore, OutputFolder, ShapeMismatch, UnknownName, unknown
from ..core.show import Shown, axes, origin, some
from ..directions import extract_direction, place_of
from ..models import info
from ..prompts import PromptSet
from .control_vectors import read_control_vector, write_control_vector

Key = tuple[str, int]


@dataclass(frozen=True, repr=False)
class VectorSet(Shown, Mapping[Key, Direction]):
    """Steering vectors by (behaviour, layer).

    Attributes:
        vectors: The directions.

    Example:
        >>> import torch, workbench as wb
        >>> v = wb.Direction.of(torch.ones(4) * 2, method="made up")
        >>> wb.VectorSet({("kindness", 3): v}).normalised()["kindness", 3].scale
        4.0
    """

    vectors: Mapping[Key, Direction]

    def __post_init__(self) -> None:
        for key in self.vectors:
            behaviour, layer = key
            if not behaviour or not isinstance(layer, int) or layer < 0:
                raise BadInput(f"a vector is kept under a behaviour and a layer, got {key!r}")
        if len({len(d.unit) for d in self.vectors.values()}) > 1:
            raise ShapeMismatch("vectors of different widths do not belong into one set")

    def __getitem__(self, key: Key) -> Direction:
        if key not in self.vectors:
            raise unknown(UnknownName, "vector", f"{key[0]}, layer {key[1]}", [f"{b}, layer {n}" for b, n in self.vectors])
        return self.vectors[key]

    def __iter__(self) -> Iterator[Key]:
        return iter(self.vectors)

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def behaviours(self) -> list[str]:
        """The behaviours, in order."""
        return list(dict.fromkeys(b for b, _ in self.vectors))

    @property
    def layers(self) -> list[int]:
        """The layers, sorted."""
        return sorted({n for _, n in self.vectors})

    def normalised(self) -> VectorSet:
        """Give all behaviours of a layer the same length, their mean, so that one coefficient pushes equally far along each.

        Returns:
            Another set; each vector's provenance says which length it had, and with which behaviours it shares the new one.

        References:
            Rimsky et al. 2023, arXiv 2312.06681, section 3.
        """
        mean = {n: float(np.mean([d.scale for (_, m), d in self.vectors.items() if m == n])) for n in self.layers}
        return VectorSet(
            {
                (b, n): replace(d, scale=mean[n], provenance={**d.provenance, "normalised": {"from": d.scale, "across": self.behaviours}})
                for (b, n), d in self.vectors.items()
            }
        )

    def similarity(self, other: VectorSet | None = None) -> pd.DataFrame:
        """Compare vectors with each other: behaviours with behaviours, layers with layers, or with another model's.

        Args:
            other: Another set of the same width (a base model's against its chat model's); by default this one.

        Returns:
            One row per pair: `first, first_layer, second, second_layer, cosine` (-1 to 1), `chance` (the cosine that 95 % of pairs of
            random directions stay below in size), `reliability_first, reliability_second` (half-sample cosines).

        Raises:
            ShapeMismatch: The two sets differ in width.

        Note:
            Cosines of estimated vectors shrink with noise, and those of vectors from shared rows are pulled together:
            `wb.compare_directions` corrects for both.
        """
        theirs = self if other is None else other
        rows = []
        for (b, n), d in self.vectors.items():
            for (c, m), e in theirs.vectors.items():
                if len(d.unit) != len(e.unit):
                    raise ShapeMismatch(f"vectors of width {len(d.unit)} and {len(e.unit)}: cosines need one width; see wb.compare_spaces")
                rows.append(
                    {
                        "first": b,
                        "first_layer": n,
                        "second": c,
                        "second_layer": m,
                        "cosine": float(d.unit.double() @ e.unit.double()),
                        "chance": float(gaussian.ppf(0.975)) / len(d.unit) ** 0.5,
                        "reliability_first": d.reliability,
                        "reliability_second": e.reliability,
                    }
                )
        return pd.DataFrame(rows)

    def save(self, folder: str | Path) -> Path:
        """Write to a folder: BEHAVIOUR/layer_LL.safetensors, each with its provenance.

        Args:
            folder: An empty or new folder, or one that holds vectors, which are replaced.

        Returns:
            The folder.

        Raises:
            OutputFolder: The folder holds something else.
            BadInput: A behaviour's name cannot be the name of a folder.
        """
        folder = Path(folder)
        if folder.is_file() or (folder.is_dir() and any(p for p in folder.rglob("*") if p.is_file() and p.suffix != ".safetensors")):
            raise OutputFolder(f"{folder.name} holds something else than vectors; choose an empty folder")
        for (behaviour, layer), d in self.vectors.items():
            if Path(behaviour).name != behaviour or behaviour.startswith("."):
                raise BadInput(f"a behaviour named {behaviour!r} makes no folder name")
            place = folder / behaviour
            place.mkdir(parents=True, exist_ok=True)
            temporary = place / f"layer_{layer:02d}.tmp"
            d.save(temporary)
            temporary.replace(temporary.with_suffix(".safetensors"))
        return folder

    @classmethod
    def load(cls, folder: str | Path, *, model: Any = None) -> VectorSet:
        """Read a folder that `save` wrote.

        Args:
            folder: The folder.
            model: A loaded model that the vectors must come from; `None` accepts any.

        Raises:
            DamagedStore: There are none, or one cannot be read.
            WrongModel: They come from another model.
        """
        files = sorted(Path(folder).glob("*/layer_*.safetensors"))
        if not files:
            raise DamagedStore(f"{Path(folder).name} holds no vectors (BEHAVIOUR/layer_LL.safetensors)")
        place = {} if model is None else {"model": info(model).key()}
        return cls({(f.parent.name, int(f.stem.removeprefix("layer_"))): Direction.load(f, place=place) for f in files})

    def to_gguf(self, path: str | Path, behaviour: str, *, coefficient: float = 1.0, hint: str = "llama") -> Path:
        """Write one behaviour's vectors as a llama.cpp control vector (`--control-vector FILE`).

        Args:
            path: The file.
            behaviour: Which.
            coefficient: Multiplies every vector; llama.cpp can scale it again.
            hint: The architecture's name in llama.cpp.

        Returns:
            The path.

        Raises:
            UnknownName: No such behaviour.
            BadInput: A vector was not read at `resid_post`, or is of block 0, where llama.cpp adds none.
            MissingTool: The package `gguf` is not installed.
        """
        mine = {n: d for (b, n), d in self.vectors.items() if b == behaviour}
        if not mine:
            raise unknown(UnknownName, "behaviour", behaviour, self.behaviours)
        return write_control_vector(path, behaviour, mine, coefficient=coefficient, hint=hint)

    @classmethod
    def from_gguf(cls, path: str | Path, behaviour: str | None = None) -> VectorSet:
        """Read a llama.cpp control vector: `direction.L` acts after block L, at `resid_post`.

        Args:
            path: The file.
            behaviour: What it is called here; by default the file's name.

        Returns:
            Its vectors; which model they are for is not in the file.

        Raises:
            DamagedStore: It is not such a file.
            MissingTool: The package `gguf` is not installed.
        """
        name = behaviour or Path(path).stem
        return cls({(name, layer): d for layer, d in read_control_vector(path, name).items()})

    def to_frame(self) -> pd.DataFrame:
        """Return one row per vector: `behaviour, layer, site, method, length, reliability, n, clusters`."""
        return pd.DataFrame(
            [
                {
                    "behaviour": b,
                    "layer": n,
                    "site": d.provenance.get("site", ""),
                    "method": d.method,
                    "length": d.scale,
                    "reliability": d.reliability,
                    "n": d.n,
                    "clusters": d.clusters,
                }
                for (b, n), d in self.vectors.items()
            ]
        )

    def _shown(self) -> tuple[str, Mapping[str, Any]]:
        line = f"{some(self.behaviours)}; layers {some(self.layers, 20)}"
        first = next(iter(self.vectors.values()), None)
        if first is None:
            return "no vector", {}
        model = {k: v for k, v in origin(first.provenance).items() if k == "model"}
        return line, {
            "behaviours": some(self.behaviours, 20),
            "layers": some(self.layers, 40),
            "shape": axes(vector=len(self), d_model=len(first.unit)),
            **model,
        }

    def _shown_tables(self) -> tuple[pd.DataFrame, ...]:
        return (self.to_frame(),)


def fit_vectors(
    model: Any,
    behaviours: Mapping[str, PromptSet],
    *,
    layers: Sequence[int] | None = None,
    site: str = "resid_post",
    position: str = "last",
    halves: int = 10,
    store: str | Path | None = None,
    progress: bool | None = None,
    seed: int = 0,
) -> tuple[VectorSet, dict[str, Activations]]:
    """Make a steering vector per behaviour and layer: the mean difference between the two endings of contrast pairs.

    Args:
        model: What `load_model` returns.
        behaviours: Contrast pairs by behaviour; the positive ending shows it.
        layers: Blocks; `None` for all.
        site, position: Where the stream is read; "last" is the ending's last token (for A or B, the letter).
        halves: Splits into halves that share no identity, for the reliability; raising it steadies that number, 0 leaves it out.
        store: A folder to stream activations to, so that a killed run can be resumed.
        progress: Show progress bars.
        seed: Draws the splits.

    Returns:
        The vectors, and the activations that they were made from (for `contrast_components`).

    References:
        Rimsky et al. 2023, arXiv 2312.06681, section 3.
    """
    read = {
        name: capture(model, prompts, site=site, layers=layers, position=position, store=store, progress=progress, note=f"read {name}")
        for name, prompts in behaviours.items()
    }
    return vectors_from(read, halves=halves, seed=seed), read


def vectors_from(behaviours: Mapping[str, Activations], *, halves: int = 10, seed: int = 0) -> VectorSet:
    """Make a steering vector per behaviour and layer from activations of contrast pairs: the mean difference of the two endings.

    Args:
        behaviours: Activations of contrast pairs by behaviour; the positive ending shows it. An identity is a cluster.
        halves: Splits for the reliability, which share no identity and have equal shares of the answers (column `letter`).
        seed: For the splits.

    Returns:
        The vectors of every behaviour and layer.

    References:
        Rimsky et al. 2023, arXiv 2312.06681, section 3.
    """
    vectors: dict[Key, Direction] = {}
    for name, acts in behaviours.items():
        people = [str(who) if who else str(i) for i, who in enumerate(acts.rows["identity"])]
        for layer in acts.layers:
            x = acts.layer(layer)
            d = extract_direction(
                x[:, 1],
                x[:, 0],
                paired=True,
                clusters=people,
                strata=acts.rows.get("letter", None),
                halves=halves,
                provenance=place_of(acts, layer),
                seed=seed,
            )
            vectors[name, layer] = replace(d, method=f"{name} (mean difference)")
    return VectorSet(vectors)
