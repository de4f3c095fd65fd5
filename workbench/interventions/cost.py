"""What an edit costs: how far the next token's distribution moves, and edits of different kinds tuned to move it equally far."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..core.direction import Direction
from ..core.errors import BadInput
from ..core.seeds import torch_rng
from ..core.show import Shown, number
from ..core.types import Float
from ..models import Edit, Read, Scope, edited
from ..models.forward import run
from ..prompts import PromptSet
from .asker import Asker
from .placing import ScopeLike, place

TRIAL = 96  # prompts on which a strength is sought before it is corrected on all
FARTHEST = 1e4  # times the first guess: beyond it a search gives up


def kl(base: Float[Tensor, "item vocabulary"], now: Float[Tensor, "item vocabulary"]) -> np.ndarray:
    """Return how far one next-token distribution is from another, KL(base || now) = sum p_base (log p_base - log p_now).

    Args:
        base: Log-probabilities of the model as it is, `item x vocabulary`, natural log.
        now: Those under edits, for the same items.

    Returns:
        `item`, float64, in nats; 0 where nothing changed, unbounded above.
    """
    return (base.exp() * (base - now)).sum(-1).double().clamp(min=0).numpy()


@dataclass(frozen=True, kw_only=True, repr=False)
class Tuned(Shown):
    """A strength and what it costs.

    Attributes:
        strength: What the family of edits was given.
        kl: Mean KL from the unedited model at that strength, nats.
        asked: The KL that was asked for.
        note: Empty, or why the two differ.
    """

    strength: float
    kl: float
    asked: float
    note: str = ""

    def _shown(self) -> tuple[str, dict[str, Any]]:
        return (
            f"strength {self.strength:.4g}, KL {self.kl:.3g} of {self.asked:.3g} nats asked for{f'; {self.note}' if self.note else ''}",
            {
                "strength": number(self.strength, 4),
                "mean KL from the unedited model, nats": number(self.kl),
                "asked for": number(self.asked),
                "mind": self.note,
            },
        )


def tune(
    model: Any,
    prompts: PromptSet | Asker,
    family: Callable[[float], Iterable[Edit]],
    target: float = 0.1,
    *,
    start: float = 1.0,
    tolerance: float = 0.05,
    most: float = FARTHEST,
) -> Tuned:
    """Find the strength at which a family of edits moves the next token's distribution a given distance, on average over prompts.

    Args:
        model: What `load_model` returns.
        prompts: What is asked.
        family: Maps a strength to edits, for example `lambda c: wb.add(d, c)`. The distance should rise with the strength.
        target: Mean KL(unedited || edited) in nats, above 0. Raising it asks for a stronger push.
        start: The first strength that is tried; one of the right order saves passes.
        tolerance: How near is near enough, relative to the target; .05 stops within 5 %. Lowering it costs passes.
        most: The search gives up at `start` times this.

    Returns:
        The strength that comes nearest, and how near.

    Raises:
        BadInput: The target is not above 0.
    """
    if not target > 0:
        raise BadInput(f"a KL of {target} nats: above 0")
    asker = prompts if isinstance(prompts, Asker) else Asker(model, prompts)
    trial = asker.subset(TRIAL)

    def distance(where: Asker) -> Callable[[float], float]:
        return lambda c: float(kl(where.base, where.ask(family(c))).mean())

    size, slope = sought(distance(trial), target, start, tolerance, most)
    best: tuple[float, float] | None = None
    for _ in range(4):  # corrected on all prompts
        apart = distance(asker)(size)
        if best is None or abs(np.log(max(apart, 1e-12) / target)) < abs(np.log(max(best[1], 1e-12) / target)):
            best = size, apart
        ratio = target / max(apart, 1e-12)
        if trial is asker or abs(ratio - 1) <= tolerance or not 0.2 < ratio < 5:
            break
        size *= ratio ** (1 / slope)
    assert best is not None
    note = "" if abs(best[1] / target - 1) <= 2 * tolerance else f"{best[1]:.3g} nats is as near as it comes to {target:g}"
    return Tuned(strength=best[0], kl=best[1], asked=target, note=note)


def sought(distance: Callable[[float], float], target: float, start: float, tolerance: float, most: float) -> tuple[float, float]:
    """Search the size at which a distance has a given value.

    The first steps follow the square-root law of small pushes. Once the size is bracketed, it is interpolated in the logarithms of both.

    Args:
        distance: Maps a size above 0 to a distance, at least 0; called 16 times at most.
        target: The distance that is wanted, above 0.
        start: The first size.
        tolerance: How near is near enough, relative to the target.
        most: No size above `start` times this is tried.

    Returns:
        The size that came nearest, and the slope of log distance on log size around it, held between 1 and 20 (2 for a small push).
    """
    low: tuple[float, float] | None = None
    high: tuple[float, float] | None = None
    size, tried = start, {}
    for _ in range(16):
        apart = tried[size] = max(distance(size), 1e-12)
        if abs(apart / target - 1) <= tolerance or (apart < target and size >= most * start):
            break
        low, high = ((size, apart), high) if apart < target else (low, (size, apart))
        if low and high:
            reach = np.log(high[0] / low[0])
            step = np.log(target / low[1]) / np.log(high[1] / low[1])
            size = low[0] * float(np.exp(reach * min(0.85, max(0.15, step))))
        else:
            size *= min(4.0, max(0.1, (target / apart) ** 0.5))
        size = min(size, most * start)
    near = sorted(tried, key=lambda c: abs(np.log(tried[c] / target)))
    slope = 2.0 if len(near) < 2 else float(np.log(tried[near[1]] / tried[near[0]]) / np.log(near[1] / near[0]))
    return near[0], min(20.0, max(1.0, slope))


def mean_norm(
    model: Any,
    prompts: PromptSet,
    direction: Direction | None = None,
    *,
    site: str | None = None,
    layer: int | None = None,
    scope: ScopeLike = "prompt",
) -> float:
    """Measure the mean norm of the stream at a place: what unit="norm" multiplies.

    Args:
        model: What `load_model` returns.
        prompts: Whose stems are read.
        direction: Whose place, where `site` and `layer` are not given.
        site, layer: The place; by default the direction's own.
        scope: Which tokens, as for `wb.add`; "all" is taken as "prompt". Attention sinks, whose norm can be hundreds of times that of the
            others, are never among them.

    Returns:
        The mean of |x| over all these tokens of all prompts, in raw activation units.

    Raises:
        BadInput: No place, or a scope that chooses no tokens of a prompt.
    """
    if direction is not None:
        site, (layer, *_) = place(direction, site, layer, True)
    if site is None or layer is None:
        raise BadInput("whose norm? give a direction that knows its place, or site= and layer=")
    chosen = Scope.of("prompt" if scope in ("all", None) else scope)
    total, count = 0.0, 0

    asker = Asker(model, prompts)
    kept: list[Tensor] = []
    # an edit that changes nothing has a scope, a reading has none
    spy = Edit(site=site, layer=layer, function=lambda x: x, scope=chosen, label="mean norm")
    with (
        torch.no_grad(),
        edited(model, [spy, Read(site=site, layer=layer, function=lambda x: kept.append(x.float().norm(dim=-1).cpu()))]) as fired,
    ):
        for batch in asker.batches:
            run(model, batch, at=batch.starts[:, None])
            mask, norms = fired.entries[0].chosen, kept.pop()
            if mask is None:
                raise BadInput(f"the scope {chosen} says nothing of which tokens")
            total += float(norms[mask.cpu()].sum())
            count += int(mask.sum())
    return total / count


def random_directions(like: Direction, count: int, seed: int = 0, *, name: str = "random") -> list[Direction]:
    """Draw random directions of the same place and length as another: the control of every push.

    Args:
        like: Its model, site, layer, width and scale are taken over.
        count: How many; 0 for none.
        seed: Draws them. The first k are the same whatever `count` is.
        name: Their method is this and a number.

    Returns:
        Directions, uniform on the sphere.
    """
    keep = {k: v for k, v in like.provenance.items() if k in ("model", "site", "layer", "position")}
    out: list[Direction] = []
    for k in range(count):
        v = torch.randn(len(like.unit), generator=torch_rng(seed, "random direction", keep.get("site"), keep.get("layer"), k))
        out.append(Direction(unit=v / v.norm(), scale=like.scale, method=f"{name} {k}", provenance=keep))
    return out


def strengths(values: Sequence[float]) -> list[float]:
    """Return coefficients, sorted, each once, with 0 among them.

    Args:
        values: In any order.

    Returns:
        At least two numbers, ascending.

    Raises:
        BadInput: There is none, or one is not finite.
    """
    doses = sorted({float(v) for v in values} | {0.0})
    if len(doses) < 2 or not np.isfinite(doses).all():
        raise BadInput(f"coefficients {list(values)}: finite numbers, one of them not 0")
    return doses
