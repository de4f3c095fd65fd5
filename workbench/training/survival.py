"""What survives an intervention: behaviour where it was made and elsewhere, what is read inside, how deep, and how fast it comes back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from ..activations import Activations, capture
from ..core.direction import Direction
from ..core.errors import BadInput
from ..core.estimate import Estimate
from ..core.paired import paired_proportions
from ..core.provenance import provenance
from ..core.show import Shown
from ..core.stats import proportion
from ..core.tables import units_of
from ..evaluation import answers
from ..interventions import ablate_everywhere, random_directions
from ..models import edited, info
from ..models.hooks import check_layers
from ..prompts import PromptSet, Split, grouped_split
from .acting import Words, acting, kind_of, lowest, under
from .adapter import Adapter
from .depth import knowledge_depth
from .inside import moved, read_inside, row
from .relearn import STEPS, relearning
from .unlearn import direction_of
from .verdict import HALF, survival_verdict

RANDOM = 5  # random directions that are ablated beside a target
COLUMNS = ["aspect", "detail", "layer", "metric", "value", "low", "high", "n", "note"]


@dataclass(frozen=True, kw_only=True, repr=False)
class Survival(Shown):
    """What became of what a model knew.

    Attributes:
        verdict: erased, rotated, hidden, untouched or undetermined (`verdict.survival_verdict`).
        why: The numbers that decided.
        table: `aspect, detail, layer, metric, value, low, high, n, note`. Aspects: behaviour, inside, direction, depth, ablation,
            relearning.
        provenance: Model, prompts, what was changed.
    """

    verdict: str
    why: str
    table: pd.DataFrame
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def _shown(self) -> tuple[str, Mapping[str, Any]]:
        return f"{self.verdict}: {self.why}", {"verdict": self.verdict, "because": self.why, "table": f"{len(self.table)} rows in .table"}


def survival(
    model: Any,
    change: Any,
    prompts: PromptSet,
    *,
    others: Mapping[str, PromptSet] | None = None,
    layers: int | Sequence[int] | None = None,
    split: Split | None = None,
    floor: Mapping[int, float] | None = None,
    depth: int = 64,
    target: Direction | None = None,
    few: PromptSet | None = None,
    never: Any = None,
    steps: Sequence[int] = STEPS,
    progress: bool | None = None,
    seed: int = 0,
) -> Survival:
    """Measure what an intervention did to what a model knew: erased, rotated, hidden, untouched, or undetermined.

    Args:
        model: What `load_model` returns, with nothing changed.
        change: An adapter, a change of `unlearn`, edits of activations, or words (an object with `apply(prompts)`).
        prompts: Contrast pairs about the knowledge in question, at least two identities; what is true is their label. Probes are fitted on
            some identities and read on others.
        others: Further prompts by name, on which only answers are compared: forms, claims, identities, rights never trained on.
        layers: Blocks that are read; by default all from the first changed one on.
        split: Which identities and rights are held out for reading; by default drawn by identity.
        floor: By layer, the AUROC of a control that must be exceeded before the change (an untrained copy's).
        depth: Prompts for patching streams between the model before and after; 0 leaves it out.
        target: A direction of the changed model to ablate, to see whether the old answers come back; of `unlearn`, its own target.
        few: Rows to learn again from (their labels are seen); `None` leaves relearning out. Adapters only.
        never: A model that never knew, to compare the relearning with.
        steps: Updates of relearning after which answers are read.
        progress: Show progress bars.
        seed: Draws the split, folds and matrices.

    Returns:
        The verdict with its table.

    Raises:
        BadInput, WrongModel, ShapeMismatch, UnknownLayer, AnswerTokens: Before any forward pass.

    Example:
        >>> import workbench as wb
        >>> model = wb.load_model("bundled")
        >>> prompts = wb.prompts.udhr("base_short", n=160, seed=0)
        >>> d = wb.Direction.of(__import__("torch").ones(128), provenance={"site": "resid_post", "layer": 3})
        >>> wb.survival(model, wb.add(d, 0.0), prompts, depth=0, progress=False).verdict
        'untouched'

    References:
        arXiv 2605.24614 (erased against hidden, by patching); arXiv 2410.08827 (what fine-tuning on some facts gives back);
        Li et al. 2024, arXiv 2403.03218 (probing and relearning after RMU).
    """
    first = lowest(model, change)
    read = check_layers(model, list(range(first, info(model).n_layers)) if layers is None else layers)
    if prompts.single:
        raise BadInput("survival compares answers: give contrast pairs (prompts.as_questions makes them of single statements)")
    split = split or grouped_split(prompts.to_frame(), by=("identity",), test=0.4, seed=seed)
    rows, changed = _behaviour(model, change, {"prompts": prompts} | dict(others or {}), progress)
    before = capture(model, prompts, layers=read, progress=progress, note="before")
    with acting(model, change):
        after = capture(model, under(change, prompts), layers=read, progress=progress, note="after")
    after = _as_before(after, before)
    inside = read_inside(before, after, split, floor=floor, seed=seed)
    angles = moved(before, after, inside.readable or read, seed)
    rows += inside.rows + angles
    if depth and not isinstance(change, Words):
        some = np.unique(np.linspace(0, len(prompts) - 1, min(depth, len(prompts))).round().astype(int))
        rows += knowledge_depth(model, change, prompts.subset(some), read)
    rows += _ablated(model, change, prompts, target, progress)
    faster = None
    if few is not None and isinstance(change, Adapter):
        test = prompts.side(split, "test")
        more, faster = relearning(model, change, few, test, never=never, steps=steps, seed=seed, progress=progress)
        rows += more
    cosines = [r for r in angles if r["metric"] == "cosine" and np.isfinite(r["high"])]
    turned = sum(r["high"] < HALF for r in cosines), len(cosines)
    verdict, why = survival_verdict(len(inside.readable), inside.old, inside.fresh, changed, faster, turned)
    table = pd.DataFrame(rows, columns=COLUMNS)
    made = provenance(model=info(model).key(), prompts=prompts.hash, change=kind_of(change), layers=read, seed=seed)
    table.attrs["provenance"] = made
    return Survival(verdict=verdict, why=why, table=table, provenance=made)


def _behaviour(model: Any, change: Any, sets: Mapping[str, PromptSet], progress: bool | None) -> tuple[list[dict[str, Any]], Estimate]:
    """Safe answers before and after, their difference over the same items, and the share of answers that changed (of the first set)."""
    rows: list[dict[str, Any]] = []
    changed: Estimate | None = None
    for name, prompts in sets.items():
        then = answers(model, prompts, progress=progress, note=name)
        with acting(model, change):
            now = answers(model, under(change, prompts), progress=progress, note=name)
        units = units_of(then)
        moved_ = proportion((then["answer"] != now["answer"]).to_numpy(), units)
        changed = changed or moved_
        safe = [x["safe"].to_numpy() for x in (then, now)]
        rows.append(row("behaviour", f"{name}: before", -1, "safe_score", proportion(safe[0], units)))
        rows.append(row("behaviour", f"{name}: after", -1, "safe_score", proportion(safe[1], units)))
        rows.append(row("behaviour", f"{name}: after less before", -1, "safe_score", paired_proportions(safe[1], safe[0], units)))
        rows.append(row("behaviour", f"{name}: changed", -1, "answers_changed", moved_))
    assert changed is not None
    return rows, changed


def _as_before(after: Activations, before: Activations) -> Activations:
    """The readings after, with the rows of the readings before: words in front change the stems, not what the items are about."""
    if len(after.rows) != len(before.rows):
        raise BadInput("the words give other items than the prompts: .apply must keep every item, in order")
    return after.with_column("label", before.rows["label"])


def _ablated(model: Any, change: Any, prompts: PromptSet, target: Direction | None, progress: bool | None) -> list[dict[str, Any]]:
    """Take a direction out of the changed model everywhere, and count answers like those before."""
    if target is None and isinstance(change, Adapter) and change.provenance.get("loss") == "rmu":
        target = direction_of(change, model)
    if target is None:
        return []
    then = answers(model, prompts, progress=False)
    units, out = units_of(then), []
    drawn = [(f"random direction {k}", r) for k, r in enumerate(random_directions(target, RANDOM, 0), 1)]
    ways = [(name, ablate_everywhere(model, d)) for name, d in [("the target", target), *drawn]]  # made for the model as it is
    with acting(model, change):
        alone = answers(model, under(change, prompts), progress=False)
        out.append(row("ablation", "nothing ablated", -1, "answers_as_before", _same(alone, then, units)))
        for name, edits in ways:
            with edited(model, edits):
                asked = answers(model, under(change, prompts), progress=progress, note=f"ablate {name}")
            out.append(row("ablation", name, -1, "answers_as_before", _same(asked, then, units)))
            out.append(row("ablation", name, -1, "safe_score", proportion(asked["safe"].to_numpy(), units)))
    return out


def _same(now: pd.DataFrame, then: pd.DataFrame, units: Any) -> Estimate:
    return proportion((now["answer"] == then["answer"]).to_numpy(), units)


__all__ = ["Survival", "survival"]
