"""Whether the workbench gives a model's own numbers: each use is right, refused, or wrong. Hugging Face's pass is the oracle."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd
import torch

from .activations.choose import choose
from .activations.engine import Job
from .core.direction import Direction
from .core.errors import Disagrees, HookNotFired, UnknownSite, WorkbenchError
from .core.seeds import derive, torch_rng
from .core.types import Tensor
from .interventions.lens import top_tokens
from .interventions.orthogonal import orthogonalised
from .models import Edit, Read, edited, info, load_model, readout, unembedding
from .models.beginning import beginning
from .models.checked import allowed, allowed_nats
from .models.forward import run
from .models.generate import generate_texts
from .models.hooks import hook_point
from .models.load import untouched
from .models.tokens import pad
from .models.untouched import Untouched

LENGTHS = (47, 19, 31)  # of the rows; other than those that were tried when the model was loaded
NEW_TOKENS = 8
ORTHOGONAL = 1e-4  # share of the stream's length that may be left along a direction that was removed
USES = ("capture", "answers", "edits", "generation", "generation, edited", "orthogonalisation", "lens")


@dataclass(frozen=True)
class _Case:
    """A model, its oracle, and what both are run on."""

    model: Any
    oracle: Untouched
    rows: list[list[int]]
    vector: Tensor
    limit: float
    nats: float


class _Wrong(Exception):
    """A use gave other numbers than the oracle."""


def verify(model: Any, oracle: Untouched, *, seed: int = 0) -> pd.DataFrame:
    """Compare every use of a model with Hugging Face's own model.

    Args:
        model: What `load_model` returns.
        oracle: The same weights, untouched by TransformerLens (`models.load.untouched`).
        seed: Draws the rows, the vector that is added, and the direction that is removed.

    Returns:
        One row per use: `use`, `verdict` ("right", "refused" or "wrong"), `apart` (the largest difference: a share of the
        largest value; nats for answers and generation; for orthogonalisation the share of the stream left along the
        direction; NaN where it was refused) and `says`.
    """
    known = info(model)
    draw = torch_rng(seed, "verify")
    plain = sorted(set(range(int(oracle.hf.config.get_text_config().vocab_size))) - set(model.tokenizer.all_special_ids))
    rows = []
    for length in LENGTHS:
        picked = torch.randint(len(plain), (length,), generator=draw).tolist()
        rows.append([*known.first, *(plain[i] for i in picked)][: known.context - NEW_TOKENS])
    rows[1][: len(rows[1]) // 2] = rows[0][: len(rows[1]) // 2]
    vector = torch.randn(known.d_model, generator=draw)
    case = _Case(model, oracle, rows, vector / vector.norm(), allowed(model), allowed_nats(model))
    return pd.DataFrame([_row(use, _LOOKS[use], case) for use in USES])


def compared(name: str, dtype: str) -> Iterator[tuple[str, Literal["good", "note", "bad"], str, str]]:
    """Load a model twice, once untouched, and say of every use what was found (for `doctor`).

    Args:
        name, dtype: As for `load_model`.

    Yields:
        The use, "good" (right), "note" (refused) or "bad" (wrong), what was found, and what to do.

    Raises:
        WorkbenchError: The model cannot be loaded.
    """
    model = load_model(name, dtype=dtype)
    try:
        first = beginning(model)
        nats = ", ".join(f"{value:.2f} after {lead}" for lead, value in first.nats.items())
        same = first.declared == first.does
        todo = "" if same else "load_model(…, bos='declared') puts the declared token in front, bos=None nothing"
        found = f"declared {first.declared}, put in front {first.does}; nats a token of a plain sentence: {nats}"
        yield "first token", "good" if same else "note", found, todo
    except Disagrees as error:
        yield "first token", "note", f"not read: {error}", ""
    for row in verify(model, untouched(name, dtype=dtype)).itertuples():
        apart = f", largest difference {row.apart:.0e}" if row.verdict == "right" else ""
        found = f"{row.verdict}{apart}{f' ({row.says})' if row.says else ''}"
        if row.verdict == "wrong":
            yield str(row.use), "bad", found, "use another version of transformer-lens or transformers, and report it"
        else:
            yield str(row.use), "good" if row.verdict == "right" else "note", found, ""


def verify_named(name: str, *, device: str = "auto", dtype: str = "auto", seed: int = 0) -> pd.DataFrame:
    """Load a model twice, once untouched, and compare every use (`verify`).

    Args:
        name, device, dtype: As for `load_model`.
        seed: As for `verify`.

    Returns:
        One row per use.

    Raises:
        WorkbenchError: The model cannot be loaded.
    """
    return verify(load_model(name, device=device, dtype=dtype), untouched(name, device=device, dtype=dtype), seed=seed)


def _row(use: str, look: Callable[[_Case], float], case: _Case) -> dict[str, Any]:
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            apart = look(case)
        more = next((str(w.message) for w in said if issubclass(w.category, UserWarning)), "")
        return {"use": use, "verdict": "right", "apart": apart, "says": more}
    except _Wrong as error:
        return {"use": use, "verdict": "wrong", "apart": error.args[1], "says": error.args[0]}
    except WorkbenchError as error:
        return {"use": use, "verdict": "refused", "apart": float("nan"), "says": f"{type(error).__name__}: {error}"}
    except Exception as error:  # neither right nor refused
        first = (str(error).splitlines() or [""])[0]
        return {"use": use, "verdict": "wrong", "apart": float("nan"), "says": f"failed with {type(error).__name__}: {first[:200]}"}


def _close(what: str, apart: float, limit: float) -> float:
    if not apart <= limit:
        raise _Wrong(f"{what}: {apart:.1e}, where {limit:.0e} is rounding", apart)
    return apart


def _share(got: Tensor, want: Tensor) -> float:
    return float((got - want).abs().max() / want.abs().max().clamp(min=1e-12))


def _capture(case: _Case) -> float:
    """Every token of every block, at the two sites that Hugging Face gives."""
    layers = list(range(case.oracle.count))
    want = [case.oracle.read(row)[0] for row in case.rows]
    worst = 0.0
    for site, depth in (("resid_pre", 0), ("resid_post", 1)):
        got = choose(case.model, site=site).read([Job(ids=row, read=range(len(row))) for row in case.rows], layers, [])
        assert got.values is not None
        for at, states in zip(got.at, want, strict=True):
            values = got.values[torch.from_numpy(at)].float()
            for layer in layers:
                worst = max(worst, _close(f"{site}[{layer}]", _share(values[:, layer], states[layer + depth]), case.limit))
    return worst


def _answers(case: _Case) -> float:
    """Log-probabilities of every token of the vocabulary after the last token."""
    want = [case.oracle.read(row)[1][-1].log_softmax(-1) for row in case.rows]
    ids = list(range(len(want[0])))
    got = choose(case.model).read([Job(ids=row, ask=len(row) - 1) for row in case.rows], [], ids)
    assert got.logp is not None
    apart = max(float((got.logp[int(at)] - logp).abs().max()) for at, logp in zip(got.asked, want, strict=True))
    return _close("log-probabilities", apart, case.nats)


def _edits(case: _Case) -> float:
    """A vector added to the input and to the output of the first, the middle and the last block, in a padded batch."""
    batch = pad(case.model, case.rows)
    length = float(case.oracle.read(case.rows[0])[0].norm(dim=-1).median())
    worst = 0.0
    for layer in sorted({0, case.oracle.count // 2, case.oracle.count - 1}):
        for site in ("resid_pre", "resid_post"):
            push = case.vector * length
            with edited(case.model, Edit(site=site, layer=layer, function=lambda x, v=push: x + v.to(x))):
                got = run(case.model, batch).float().cpu()
            for i, row in enumerate(case.rows):
                want = case.oracle.pushed(row, layer, push, entry=site == "resid_pre").log_softmax(-1)
                apart = float((got[i, : len(row)].log_softmax(-1) - want).abs().max())
                worst = max(worst, _close(f"edit at {site}[{layer}], log-probabilities", apart, case.nats))
    return worst


def _generation(case: _Case) -> float:
    """Greedy continuations of a batch: each token is the likeliest of a whole pass of Hugging Face's."""
    wrote = generate_texts(case.model, case.rows, max_new_tokens=NEW_TOKENS, progress=False)
    apart = max(float(case.oracle.follow(row, list(w.ids)).max()) for row, w in zip(case.rows, wrote, strict=True))
    return _close("nats below the likeliest token", apart, case.nats)


def _steered(case: _Case) -> float:
    """The same with a vector added to every token after the middle block."""
    layer = case.oracle.count // 2
    push = case.vector * float(case.oracle.read(case.rows[0])[0].norm(dim=-1).median())
    with edited(case.model, Edit(site="resid_post", layer=layer, function=lambda x: x + push.to(x))):
        wrote = generate_texts(case.model, case.rows, max_new_tokens=NEW_TOKENS, progress=False)
    apart = max(float(case.oracle.follow(row, list(w.ids), (layer, push)).max()) for row, w in zip(case.rows, wrote, strict=True))
    return _close("nats below the likeliest token", apart, case.nats)


def _orthogonal(case: _Case) -> float:
    """After orthogonalisation the stream holds nothing of the direction at any site, at any token."""
    left: list[float] = []
    u = case.vector

    def keep(x: Tensor) -> None:
        x = x[0].float().cpu()
        left.append(float(((x @ u).abs() / x.norm(dim=-1).clamp(min=1e-12)).max()))

    reads = []
    for layer in range(case.oracle.count):
        for site in ("resid_pre", "resid_mid", "resid_post"):
            try:
                hook_point(case.model, site, layer)
            except UnknownSite:
                continue
            reads.append(Read(site=site, layer=layer, function=keep))
    batch = pad(case.model, case.rows[:1])
    with orthogonalised(case.model, Direction.of(u, provenance={"model": info(case.model).key()})):
        try:
            with edited(case.model, reads):
                changed = run(case.model, batch)
        except HookNotFired as error:
            raise _Wrong(str(error), float("nan")) from error
    if not bool(changed.isfinite().all()):
        raise _Wrong("the logits are not finite", float("nan"))
    return _close("share of the stream along the direction", max(left), ORTHOGONAL if case.limit < 0.01 else 0.02)


def _lens(case: _Case) -> float:
    """The readout gives the logits of the last block's output, and a token's own column ranks it first."""
    states, logits = case.oracle.read(case.rows[0])
    worst = _close("logits of the last block's output", _share(readout(case.model).logits(states[-1]), logits), case.limit)
    w = unembedding(case.model).double()
    w = w - w.mean(1, keepdim=True)
    draw = torch_rng(derive(0, "lens"), "tokens")
    for token in torch.randint(w.shape[1], (8,), generator=draw).tolist():
        own = Direction.of(w[:, token].float(), provenance={"model": info(case.model).key()})
        table = top_tokens(case.model, own, k=1)
        if int(table.loc[table.side == "towards", "id"].iloc[0]) != token:
            raise _Wrong(f"another token than {token} ranks first in its own readout", float("nan"))
    return worst


_LOOKS: dict[str, Callable[[_Case], float]] = dict(
    zip(USES, (_capture, _answers, _edits, _generation, _steered, _orthogonal, _lens), strict=True)
)
