"""Generate in batches: padded on the left, with a random generator per row, stopped row by row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from ..core.errors import BadInput, NotFinite, PromptTooLong
from ..core.seeds import derive
from ..core.show import Shown, short
from .decode import fresh_cache, next_logits
from .forward import run
from .hooks import Read, active_edits, edited
from .known import context_of, info, n_layers
from .tokens import encode, pad
from .verdict import Verdict, decodes
from .watch import Layout, laid_out


@dataclass(frozen=True, kw_only=True, repr=False)
class Generated(Shown):
    """What a model wrote after a prompt.

    Attributes:
        text: The continuation, without the stop text and what follows it.
        ids: Its tokens, the stop token included.
        stopped: "end of text", "stop text" or "length".
    """

    text: str
    ids: tuple[int, ...]
    stopped: str

    def _shown(self) -> tuple[str, dict[str, Any]]:
        return f"{short(self.text, 160)!r}, {len(self.ids)} tokens, stopped by {self.stopped}", {
            "text": self.text,
            "tokens": len(self.ids),
            "stopped by": self.stopped,
        }


@dataclass(frozen=True)
class _Rule:
    """How tokens are chosen, and when a continuation ends."""

    max_new_tokens: int
    temperature: float
    top_p: float
    stop: Sequence[str]


@torch.no_grad()
def generate_texts(
    model: Any,
    prompts: Sequence[str] | Sequence[Sequence[int]],
    *,
    max_new_tokens: int = 64,
    temperature: float = 0.0,
    top_p: float = 1.0,
    stop: Sequence[str] = (),
    seed: int = 0,
    batch_size: int = 32,
    instruction: Sequence[int] | None = None,
    progress: bool | None = None,
    note: str = "generate",
) -> list[Generated]:
    """Continue prompts; edits that are active act.

    Args:
        model: What `load_model` returns.
        prompts: Texts, or rows of ids that are read exactly as given.
        max_new_tokens: The largest number of new tokens, at least 1.
        temperature: 0 takes the likeliest token; raising it flattens the distribution that is drawn from.
        top_p: Draw among the likeliest tokens that hold this much probability together, above 0 up to 1.
        stop: Texts at which a continuation ends.
        seed: Draws the tokens. The draws of row i depend on the seed and on i, not on how rows are put into batches.
        batch_size: Rows of one forward pass; rows of like length go together. Raising it takes more memory.
        instruction: Number of tokens of each prompt up to and including the last of its instruction, for the scope
            "after_instruction"; `None` where it is unknown.
        progress: Show a progress bar; by default only in a terminal or a notebook.
        note: The text before the bar.

    Returns:
        One continuation per prompt, in the order of the prompts.

    Note:
        Keys and values of earlier tokens are kept where that gives the numbers of a whole pass, which was tried when the model
        was loaded. Elsewhere each step reads the whole text, or one row at a time, which is slower; a warning says so once.

    Raises:
        BadInput: An argument cannot be used.
        PromptTooLong: A prompt and its continuation do not fit the context.
        Disagrees: No way to continue a text with this model gives Hugging Face's numbers.
        NotFinite: The logits hold NaN or infinity; the message names the block after which the stream does, and the active
            edits.
    """
    if max_new_tokens < 1 or batch_size < 1:
        raise BadInput("max_new_tokens and batch_size are at least 1")
    if temperature < 0 or not 0 < top_p <= 1:
        raise BadInput(f"temperature {temperature} and top_p {top_p}: not negative, and above 0 up to 1")
    if not len(prompts):
        raise BadInput("no prompt to continue")
    rows: list[list[int]] = encode(model, prompts) if isinstance(prompts[0], str) else [list(p) for p in prompts]  # pyright: ignore
    longest = max(map(len, rows))
    if longest + max_new_tokens > context_of(model):
        raise PromptTooLong(
            f"a prompt of {longest} tokens and {max_new_tokens} new ones; {info(model).name} reads {info(model).context}. Generate fewer"
        )
    how = decodes(model)
    batch_size = batch_size if how.padded else 1
    rule = _Rule(max_new_tokens, temperature, top_p, stop)
    out: list[Generated | None] = [None] * len(rows)
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    with tqdm(total=len(rows), desc=note, unit="row", disable=None if progress is None else not progress) as bar:
        for start in range(0, len(order), batch_size):
            chunk = order[start : start + batch_size]
            ends = None if instruction is None else [instruction[i] for i in chunk]
            seeds = [derive(seed, "generate", i) for i in chunk]
            written = _batch(model, [rows[i] for i in chunk], ends, seeds, rule, how)
            for i, continuation in zip(chunk, written, strict=True):
                out[i] = continuation
            bar.update(len(chunk))
    return [continuation for continuation in out if continuation is not None]


def _batch(
    model: Any, rows: list[list[int]], instruction: list[int] | None, seeds: list[int], rule: _Rule, how: Verdict
) -> list[Generated]:
    batch = pad(model, rows, "left")
    device = batch.ids.device
    layout = Layout(prompt=torch.tensor([len(r) for r in rows]), instruction=None if instruction is None else torch.tensor(instruction))
    ends = _end_ids(model)
    draws = [torch.Generator().manual_seed(s) for s in seeds]
    written: list[list[int]] = [[] for _ in rows]
    why: list[str] = ["" for _ in rows]
    cache = fresh_cache(model) if how.decoding == "cached" else None
    ids, mask, filler = batch.ids, batch.mask, model.tokenizer.pad_token_id or 0
    with laid_out(layout):
        for step in range(rule.max_new_tokens):
            logits = next_logits(model, ids if cache is None or step == 0 else ids[:, -1:], mask, cache)
            if not bool(logits.isfinite().all()):
                row = int((~logits.isfinite().all(1)).nonzero()[0])
                end = None if instruction is None else instruction[row]
                cause = where_not_finite(model, [*rows[row], *written[row]], len(rows[row]), end)
                raise NotFinite(f"the model gives NaN or infinity at step {step} of row {row}. {cause}")
            picked = _pick(logits, rule.temperature, rule.top_p, draws)
            for i, token in enumerate(picked):
                if why[i]:
                    continue
                written[i].append(token)
                if token in ends:
                    why[i] = "end of text"
                elif rule.stop and any(s in model.tokenizer.decode(written[i]) for s in rule.stop):
                    why[i] = "stop text"
            if all(why):
                break
            live = torch.tensor([filler if w else t for w, t in zip(why, picked, strict=True)], device=device)
            ids = torch.cat([ids, live[:, None]], 1)
            mask = torch.cat([mask, torch.ones_like(mask[:, :1])], 1)
    return [_finish(model, w, y or "length", rule.stop) for w, y in zip(written, why, strict=True)]


def _pick(logits: Tensor, temperature: float, top_p: float, draws: Sequence[torch.Generator]) -> list[int]:
    if temperature == 0:
        return logits.argmax(-1).tolist()
    p = torch.softmax(logits.cpu() / temperature, -1)
    if top_p < 1:
        value, order = p.sort(-1, descending=True)
        value[value.cumsum(-1) - value > top_p] = 0.0
        p = torch.zeros_like(p).scatter_(1, order, value)
    return [int(torch.multinomial(row, 1, generator=g)) for row, g in zip(p, draws, strict=True)]


def _end_ids(model: Any) -> set[int]:
    config = getattr(getattr(model, "original_model", None), "generation_config", None)
    declared = getattr(config, "eos_token_id", None)
    ids = {declared} if isinstance(declared, int) else set(declared or ())
    return ids | ({model.tokenizer.eos_token_id} - {None})


def _finish(model: Any, ids: list[int], stopped: str, stop: Sequence[str]) -> Generated:
    kept = ids[:-1] if stopped == "end of text" else ids
    text = model.tokenizer.decode(kept)
    cuts = [text.index(s) for s in stop if s in text]
    return Generated(text=text[: min(cuts)] if cuts else text, ids=tuple(ids), stopped=stopped)


@torch.no_grad()
def where_not_finite(model: Any, ids: Sequence[int], prompt: int | None = None, instruction: int | None = None) -> str:
    """Find the block after which a row's stream is no longer finite. It runs one forward pass.

    Args:
        model: What `load_model` returns; edits that are active act.
        ids: The row.
        prompt: Number of its tokens that are prompt, for edits with a scope; by default all.
        instruction: Number of its tokens up to and including the last of the instruction; `None` where it is unknown.

    Returns:
        Sentences for an error: the block, the active edits, and what to try.
    """
    bad: list[int] = []

    def reader(layer: int) -> Read:
        return Read(site="resid_post", layer=layer, function=lambda x: bad.append(layer) if not bool(x.isfinite().all()) else None)

    row = pad(
        model,
        [list(ids)],
        prompt=[len(ids) if prompt is None else prompt],
        instruction=None if instruction is None else [instruction],
    )
    with edited(model, [reader(layer) for layer in range(n_layers(model))]):
        run(model, row)
    place = "The stream is finite in all blocks of a whole pass over it"
    if bad:
        place = f"The stream is no longer finite after block {min(bad)}"
    acting = ", ".join(f"{e.label} at {e.site}[{e.layer}]" for e in active_edits(model))
    return f"{place}. {f'Acting: {acting}; use a smaller coefficient' if acting else 'Load the model with dtype=float32'}"
