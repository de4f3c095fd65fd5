"""Continuations with and without edits, side by side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import pandas as pd

from ..core.errors import BadInput
from ..models import Edit, Edits, edited, generate_texts
from ..models.thoughts import answer_of
from ..models.tokens import encode_pairs
from ..prompts import PromptSet

UNSTEERED = "unsteered"


def generate(
    model: Any,
    prompts: Sequence[str] | PromptSet,
    edits: Iterable[Edit] | Mapping[str, Iterable[Edit]] | None = None,
    *,
    max_new_tokens: int = 64,
    temperature: float = 0.0,
    top_p: float = 1.0,
    stop: Sequence[str] = (),
    samples: int = 1,
    batch_size: int = 32,
    seed: int = 0,
    progress: bool | None = None,
) -> pd.DataFrame:
    """Continue prompts in batches, without edits and under each of several.

    Args:
        model: What `load_model` returns; edits that are active already act in every column.
        prompts: Texts, or a prompt set, whose stems are continued.
        edits: Edits, or several by name; `None` for none.
        max_new_tokens, temperature, top_p, stop: As for `models.generate_texts`.
        samples: Continuations per prompt (with a temperature above 0).
        batch_size: Rows of a pass.
        seed: The same draws for each column: row i of every column uses the same random numbers, so that they differ by the edits alone.
        progress: Show progress bars.

    Returns:
        One row per prompt and sample: `prompt, sample`, a column of continuations per condition ("unsteered" first, then the names, or
        "steered"), `stopped: NAME` for why each ended, and `thought: NAME`: "closed" where a thought stands before the answer (in
        the continuation, or begun by the prompt), "unfinished" where it has no end and there is no answer, else "". Continuations
        are whole; `models.thoughts.answer_of` gives the answer, which is what judges read.

    Raises:
        NotFinite: Under some edit the model gives NaN; the message says which edit and after which block.
        EmptyScope, WrongModel, PromptTooLong, BadInput: As elsewhere.
        ControlToken: A prompt holds a control token that its form does not mean, and is no rendered chat.
    """
    if samples < 1 or (samples > 1 and temperature == 0):
        raise BadInput(f"samples={samples} at temperature {temperature}: at temperature 0 every sample is the same")
    named: dict[str, Edits] = {UNSTEERED: Edits()}
    if isinstance(edits, Mapping):
        if UNSTEERED in edits:
            raise BadInput(f"{UNSTEERED!r} is the name of the column without edits; call yours otherwise")
        named |= {str(k): Edits(v) for k, v in edits.items()}
    elif edits is not None:
        named["steered"] = Edits(edits)
    rows: list[Any]
    ends: list[int] | None = None
    if isinstance(prompts, PromptSet):
        pairs = encode_pairs(model, prompts)
        rows, ends = [p.negative[: p.stem] for p in pairs for _ in range(samples)], [p.instruction for p in pairs for _ in range(samples)]
        texts = [p.stem for p in prompts]
    else:
        texts = list(prompts)
        if not texts or not all(isinstance(t, str) for t in texts):
            raise BadInput("prompts are texts, one at least, or a prompt set")
        rows = [t for t in texts for _ in range(samples)]
    out = pd.DataFrame({"prompt": [t for t in texts for _ in range(samples)], "sample": list(range(samples)) * len(texts)})
    why: dict[str, list[str]] = {}
    thoughts: dict[str, list[str]] = {}
    for name, acting in named.items():
        with edited(model, acting) if len(acting) else nullcontext():
            written = generate_texts(
                model,
                rows,
                max_new_tokens=max_new_tokens,
                temperature=temperature,
                top_p=top_p,
                stop=stop,
                seed=seed,
                batch_size=batch_size,
                instruction=ends,
                progress=progress,
                note=f"generate, {name}",
            )
        out[name] = [g.text for g in written]
        why[f"stopped: {name}"] = [g.stopped for g in written]
        thoughts[f"thought: {name}"] = [answer_of(g.text, prompt).thought for g, prompt in zip(written, out["prompt"], strict=True)]
    return out.assign(**why, **thoughts)
