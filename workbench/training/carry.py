"""An adapter carried to another model: through maps between the two streams that are fitted on the same prompts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from ..activations import capture
from ..core.errors import BadInput, ShapeMismatch
from ..core.paired import paired_proportions
from ..core.provenance import content_hash
from ..core.seeds import numpy_rng, torch_rng
from ..core.stats import mean, proportion
from ..core.tables import units_of
from ..directions import SpaceMap, fit_map
from ..evaluation import answers
from ..interventions import Asker, kl
from ..models import Edit, Edits, info
from ..models.hooks import check_layer
from ..prompts import PromptSet
from .acting import acting
from .adapter import Adapter, Part

FEWEST_ROWS = 16  # of a map
NOTHING, CARRIED, SAME, SHUFFLED, TURNED = "nothing", "carried", "as it is", "map of shuffled rows", "random rotation"


@dataclass(frozen=True)
class _Carried:
    """h + factor V B A (W h + c), computed in float32: W and c read the stream as the other model has it, V writes back."""

    part: Part
    factor: float
    back: SpaceMap
    there: SpaceMap

    def __call__(self, x: Tensor) -> Tensor:
        assert self.part.down is not None
        down, up, write = (t.float().to(x.device) for t in (self.part.down, self.part.up, self.there.weight))
        weight, bias = self.back.weight.to(x.device), self.back.bias.to(x.device)
        return x + (self.factor * (((x.float() @ weight.T + bias) @ down.T) @ up.T) @ write.T).to(x.dtype)


def carry_adapter(adapter: Adapter, there: SpaceMap, back: SpaceMap, *, layer: int) -> Edits:
    """Return edits that do in a second model what a residual adapter does in the first.

        h' = h + (alpha / rank) V B A (W h + c)

    Args:
        adapter: Of the first model, residual, at one place.
        there: The map of the first model's stream to the second's; its weight is V.
        back: The map of the second model's stream to the first's; W and c.
        layer: The block of the second model after which it acts, at the adapter's site.

    Returns:
        One edit, on the tokens that the adapter changes.

    Raises:
        BadInput: The adapter changes weights, or acts at several places.
        ShapeMismatch: The maps are of other widths.

    Example:
        >>> import workbench as wb
        >>> from workbench.directions import fit_map
        >>> model = wb.load_model("bundled")
        >>> prompts = wb.prompts.udhr("since_claim", "harm", n=24, seed=0)
        >>> adapter = wb.train_adapter(model, prompts, rank=1, layers=[1], steps=2, progress=False)
        >>> rows = wb.capture(model, prompts, layers=[1], position="stem_last").layer(1)[:, 0]
        >>> same = fit_map(rows, rows, method="procrustes")
        >>> len(wb.training.carry_adapter(adapter, same, same, layer=1))
        1
    """
    if adapter.kind != "residual" or len(adapter.parts) != 1:
        raise BadInput(f"only a residual adapter at one place can be carried, got {adapter.kind} at {', '.join(adapter.parts)}")
    (site, _), part = adapter.places[0], next(iter(adapter.parts.values()))
    assert part.down is not None
    width = part.down.shape[1]
    if there.weight.shape[1] != width or back.weight.shape[0] != width or there.weight.shape[0] != back.weight.shape[1]:
        raise ShapeMismatch(
            f"an adapter of width {width} with maps {tuple(there.weight.shape)} there and {tuple(back.weight.shape)} back: "
            "there= takes the adapter's width, and back= gives it"
        )
    key = content_hash(adapter.key, *(t.numpy().tobytes().hex() for t in (there.weight, back.weight, back.bias)))
    function = _Carried(part, adapter.factor, back, there)
    return Edits([Edit(site=site, layer=layer, function=function, scope=adapter.scope, label="carried adapter", key=key)])


def adapter_transfer(
    first: Any,
    second: Any,
    adapter: Adapter,
    fit: PromptSet,
    held: Mapping[str, PromptSet],
    *,
    layer: int | None = None,
    method: str = "procrustes",
    draws: int = 3,
    progress: bool | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Ask a second model under an adapter of the first, carried by maps that are fitted on the same prompts.

    Args:
        first: The model of the adapter.
        second: Another one.
        adapter: Residual, at one place.
        fit: Prompts whose last tokens the maps are fitted on, 16 at least; no label of theirs is used.
        held: By name, labelled prompts on which the second model is asked.
        layer: The block of the second model; by default the one of equal depth.
        method: Of the maps, "procrustes" or "ridge".
        draws: Maps of each control.
        progress: Show a progress bar.
        seed: Draws the controls.

    Returns:
        Rows `map, prompts, metric, value, low, high, n, note`. Maps: "nothing"; "carried"; "as it is" (the identity, where the models are
        equally wide); "map of shuffled rows k" and "random rotation k". Metrics: "safe_score"; "gain" over nothing, paired; "kl" from the
        second model as it is, in nats.

    Raises:
        BadInput, ShapeMismatch, UnknownLayer: Before anything is computed.

    References:
        Directions carried so between models: Lee et al. 2025, arXiv 2503.21073.
    """
    if not held or len(fit) < FEWEST_ROWS:
        raise BadInput(f"fit= needs {FEWEST_ROWS} prompts at least, got {len(fit)}, and held= one set at least, got {len(held)}")
    if adapter.kind != "residual" or len(adapter.places) != 1:
        raise BadInput(f"only a residual adapter at one place can be carried, got {adapter.kind} at {', '.join(adapter.parts)}")
    site, own = adapter.places[0]
    depth = (own + 1) / info(first).n_layers
    at = check_layer(second, max(0, round(depth * info(second).n_layers) - 1) if layer is None else layer)
    x, y = (
        capture(model, fit, site=site, layers=[n], position="stem_last", progress=progress).layer(n)[:, 0]
        for model, n in ((first, own), (second, at))
    )
    ways = dict(_ways(adapter, x, y, method, draws, seed, at))
    rows: list[dict[str, Any]] = []
    for name, prompts in held.items():
        units, asker = units_of(prompts.to_frame()), Asker(second, prompts)
        before, start = asker.base, answers(second, prompts, progress=False)["safe"].to_numpy()
        for way, edits in ways.items():
            about = {"map": way, "prompts": name}
            with acting(second, edits):
                safe = answers(second, prompts, progress=False)["safe"].to_numpy()
                now = before if edits is None else asker.ask()
            rows.append(about | {"metric": "safe_score", **proportion(safe, units).row(), "note": ""})
            if edits is not None:
                rows.append(about | {"metric": "gain", **paired_proportions(safe, start, units).row(), "note": "over nothing done"})
                rows.append(about | {"metric": "kl", **mean(kl(before, now), units).row(), "note": "nats"})
    return pd.DataFrame(rows)


def _ways(
    adapter: Adapter, x: Tensor, y: Tensor, method: str, draws: int, seed: int, layer: int
) -> Iterator[tuple[str, Edits | None]]:  # fmt: skip
    def fitted(a: Tensor, b: Tensor) -> Edits:
        return carry_adapter(adapter, fit_map(a, b, method=method), fit_map(b, a, method=method), layer=layer)

    yield NOTHING, None
    yield CARRIED, fitted(x, y)
    if x.shape[1] == y.shape[1]:
        yield SAME, carry_adapter(adapter, _linear(torch.eye(x.shape[1])), _linear(torch.eye(x.shape[1])), layer=layer)
    for k in range(1, draws + 1):
        order = torch.from_numpy(numpy_rng(seed, "shuffled rows of a map", k).permutation(len(x)))
        yield f"{SHUFFLED} {k}", fitted(x[order], y)
        drawn = torch.linalg.qr(torch.randn(max(x.shape[1], y.shape[1]), max(x.shape[1], y.shape[1]), generator=torch_rng(seed, "turn", k)))
        turn = drawn.Q[: y.shape[1], : x.shape[1]]
        yield f"{TURNED} {k}", carry_adapter(adapter, _linear(turn), _linear(turn.T), layer=layer)


def _linear(weight: Tensor) -> SpaceMap:
    return SpaceMap(weight=weight, bias=torch.zeros(len(weight)), method="given", strength=float("nan"))


__all__ = ["adapter_transfer", "carry_adapter"]
