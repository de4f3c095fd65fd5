"""What a model would answer at every layer: the answer words read off each layer by a lens, against controls."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..activations import Activations, capture
from ..core.errors import BadInput, EmptyPromptSet
from ..core.nulls import central
from ..core.ranking import auroc_influence
from ..core.seeds import numpy_rng
from ..core.tables import sentences_of
from ..interventions.answer_layers import answer_lens, answer_margins
from ..models.known import info
from ..prompts import PromptSet, udhr
from .jacobian import fit_jacobian_lens
from .lenses import KINDS, Lens
from .streams import Texts
from .tuned import train_tuned_lens

LOGIT = "logit lens"
SHUFFLED, EXCHANGED, UNTRAINED = "shuffled labels", "layers exchanged", "untrained copy"
TEXTS = 400  # statements of other identities that a lens is made from by default


def lens(
    model: Any,
    prompts: PromptSet,
    kind: str | Lens = "logit",
    *,
    texts: Texts | None = None,
    untrained: Any = None,
    draws: int = 39,
    store: str | Path | None = None,
    seed: int = 0,
    progress: bool | None = None,
    **how: Any,
) -> pd.DataFrame:
    """Read the two answers of each prompt off every layer.

    Args:
        model: What `load_model` returns; edits that are active act on the prompts.
        prompts: Contrast pairs.
        kind: "logit", "tuned", "jacobian", or a `Lens` that was made before.
        texts: What a lens is made from; by default statements of the project about identities that are not in `prompts`.
        untrained: An untrained copy of the model (`wb.untrained_copy`), to be read by its own logit lens as a control.
        draws: Shuffles of the labels; 39 or more give their ends 95 %.
        store: A folder: reading and training resume there after a kill.
        seed: Draws the texts, the training, the shuffles and the exchange of layers.
        progress: Show bars.
        how: Further arguments of `train_tuned_lens` or `fit_jacobian_lens`.

    Returns:
        Rows `lens, control, form, condition, layer, metric, value, low, high, n, note`. Metrics are those of `interventions.answer_lens`:
        "auroc", "yes", "agrees", "kl". `control` is "" for what was asked for; "shuffled labels" (of the AUROC: the central part of the
        draws, labels exchanged among the items of one sentence); with a tuned or a Jacobian lens "layers exchanged" (each layer read with
        the map of another); "untrained copy" where one was given. Beside every other lens stands the logit lens. Intervals are 95 %,
        clustered by identity. `condition` is the claim, or "no claim"; `form` the template.

    Raises:
        EmptyPromptSet: The prompts are no contrast pairs.
        BadInput: There is no such kind, or an option that it does not take. WrongModel: A lens of another model.

    Note:
        That a layer already says the answer does not show that the model has settled it there: later layers may overwrite it.

    Example:
        >>> import workbench as wb
        >>> table = wb.lens(wb.load_model("bundled"), wb.prompts.udhr("since_claim", "harm", n=16), progress=False)
        >>> sorted(set(table["metric"]))
        ['agrees', 'auroc', 'kl', 'yes']

    References:
        nostalgebraist 2020 (logit lens); Belrose et al. 2023, arXiv 2303.08112 (tuned lens).
    """
    if not isinstance(prompts, PromptSet) or prompts.single:
        raise EmptyPromptSet("a lens reads the answers of contrast pairs: give a PromptSet with two endings each (prompts.as_questions)")
    if isinstance(kind, str) and kind not in ("logit", *KINDS):
        raise BadInput(f"kind {kind!r}: logit, {', '.join(KINDS)}, or a Lens")
    if how and (isinstance(kind, Lens) or kind == "logit"):
        raise BadInput(f"{', '.join(how)}: nothing is trained for {'a lens that is there' if isinstance(kind, Lens) else 'the logit lens'}")
    if isinstance(kind, Lens):
        kind.check_model(model)
    if untrained is not None and (info(untrained).n_layers, info(untrained).d_model) != (info(model).n_layers, info(model).d_model):
        raise BadInput("the untrained copy has another number of layers or another width than the model")
    folder = None if store is None else Path(store)
    made = kind if isinstance(kind, Lens) else made_lens(model, kind, texts or others(prompts, seed), folder, seed, progress, **how)
    read: dict[str, Any] = {"position": "stem_last", "progress": progress}
    acts = capture(model, prompts, **read, store=None if folder is None else folder / "answers", note="read where the answer forms")
    blank = None if untrained is None else capture(untrained, prompts, **read, note="read an untrained copy")
    frame, parts = prompts.to_frame(), []
    cells = frame["template"].astype(str) + "\n" + frame["claim"].fillna("").astype(str)
    for cell in dict.fromkeys(cells):
        form, claim = cell.split("\n")
        index = np.flatnonzero(cells == cell)
        own = acts.subset(index)
        table = read_answers(model, own, made, draws=draws, seed=seed)
        if blank is not None:
            bare = answer_lens(untrained, blank.subset(index), whole=True)
            table = pd.concat([table, bare.assign(lens=LOGIT, control=UNTRAINED, note="")], ignore_index=True)
        parts.append(table.assign(form=form, condition=claim or "no claim"))
    columns = ["lens", "control", "form", "condition", "layer", "metric", "value", "low", "high", "n", "note"]
    return pd.concat(parts, ignore_index=True)[columns]


def others(prompts: PromptSet, seed: int = 0) -> list[str]:
    """Return statements of the project about identities that some prompts are not about.

    Args:
        prompts: The prompts.
        seed: Draws the statements.

    Returns:
        Texts with their answers, under every claim and under none.
    """
    about = set(prompts.to_frame()["identity"])
    cells = [("base_short", None), *((form, c) for form in ("since_claim", "consider_claim") for c in ("good", "harm"))]
    every = [p for form, claim in cells for p in udhr(form, claim, n=4 * TEXTS, seed=seed) if p.identity not in about]
    if not every:
        raise BadInput("the prompts are about every identity of the project: say what the lens is made from (texts=)")
    order = numpy_rng(seed, "texts of a lens").permutation(len(every))[:TEXTS]
    return [every[i].stem + (every[i].positive if k % 2 else every[i].negative) for k, i in enumerate(order)]


def made_lens(model: Any, kind: str, texts: Texts, store: Path | None, seed: int, progress: bool | None, **how: Any) -> Lens | None:
    """Make the lens of a kind from texts.

    Args:
        model: What `load_model` returns.
        kind: "logit", "tuned" or "jacobian".
        texts, store, seed, progress, how: As for `train_tuned_lens` and `fit_jacobian_lens`.

    Returns:
        The lens; `None` for the logit lens, which has no parameters.
    """
    if kind == "logit":
        return None
    fit: Any = train_tuned_lens if kind == "tuned" else fit_jacobian_lens
    return fit(model, texts, seed=seed, store=None if store is None else store / kind, progress=progress, **how)


def read_answers(model: Any, acts: Activations, made: Lens | None, *, draws: int = 39, whole: bool = True, seed: int = 0) -> pd.DataFrame:
    """Read the answers of one condition by a lens, with the logit lens and the controls beside it.

    Args:
        model: What `load_model` returns.
        acts: As for `interventions.answer_lens`.
        made: The lens; `None` for the logit lens alone.
        draws, seed: Of the shuffled labels, and of the exchange of layers.
        whole: As for `interventions.answer_lens`.

    Returns:
        `lens, control, layer, metric, value, low, high, n, note`.
    """
    name = LOGIT if made is None else f"{made.kind} lens"
    through = None if made is None else made.at
    parts = [answer_lens(model, acts, through, whole=whole).assign(lens=name, control="", note="")]
    parts.append(_shuffled(model, acts, through, draws, seed).assign(lens=name, control=SHUFFLED))
    if made is not None:
        parts.append(answer_lens(model, acts, whole=whole).assign(lens=LOGIT, control="", note=""))
        if len(made.layers) > 2:
            turned = answer_lens(model, acts, made.exchanged(seed).at, whole=whole)
            parts.append(turned.assign(lens=name, control=EXCHANGED, note=""))
    return pd.concat(parts, ignore_index=True)


def _shuffled(model: Any, acts: Activations, through: Any, draws: int, seed: int) -> pd.DataFrame:
    """The AUROC against labels that were exchanged within each sentence: the same exchanges at every layer."""
    y, shown = acts.rows["label"].to_numpy().astype(int), sentences_of(acts.rows)
    columns = ["layer", "metric", "value", "low", "high", "n", "note"]
    if len(np.unique(y)) < 2:
        return pd.DataFrame(columns=columns)
    rng, names = numpy_rng(seed, "shuffled labels of a lens"), np.asarray(shown) if shown is not None else np.zeros(len(y), int)
    labels = np.tile(y, (draws, 1))
    for k in range(draws):
        for group in np.unique(names):
            here = np.flatnonzero(names == group)
            labels[k, here] = y[rng.permutation(here)]
    rows = []
    for layer, margin in answer_margins(model, acts, through).items():
        ends = central([auroc_influence(margin, own, shown)[0] for own in labels])
        rows.append(dict(zip(columns, (layer, "auroc", ends.middle, ends.low, ends.high, ends.draws, ends.note), strict=True)))
    return pd.DataFrame(rows, columns=columns)
