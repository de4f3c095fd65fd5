"""Read a model in bulk: residual streams (or another site) at chosen positions, for both variants of each pair."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm

from ..core.errors import BadInput, EmptyPromptSet, UnknownPosition, unknown
from ..core.provenance import provenance
from ..core.types import Float, Tensor
from ..models.digest import settled
from ..models.hooks import active_edits, check_layers, foreign_hooks, hook_point
from ..models.known import info
from ..models.sinks import RULE, first_is_sink
from ..models.tokens import EncodedPair, encode_pairs
from ..prompts import PromptSet
from .activations import Activations, from_store
from .answering import forms_of
from .choose import choose
from .engine import Engine
from .files import part_order, shard_name
from .planner import count
from .reading import POSITIONS, Question, item_key, jobs, read_items, refuse, summary
from .saving import SHARD_ITEMS
from .sources import InMemory, Source
from .store import Store

ASK_ITEMS = 2048  # items whose stems make one trie, where only answers are read
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@settled()
def capture(
    model: Any,
    prompts: PromptSet,
    *,
    site: str = "resid_post",
    layers: Sequence[int] | Any | None = None,
    position: str = "last",
    store: str | Path | None = None,
    dtype: str = "float32",
    logits: str | Sequence[int] | None = None,
    on_nan: str = "raise",
    engine: str = "auto",
    batch_tokens: int | None = None,
    shard_items: int = SHARD_ITEMS,
    progress: bool | None = None,
    note: str = "",
) -> Activations:
    """Capture activations of both variants of each pair, computing each shared prefix once.

    Args:
        model: What `load_model` returns.
        prompts: Contrast pairs.
        site: "resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out" or "z".
        layers: Blocks, counted from 0; `resid_post[l]` is Hugging Face's `hidden_states[l+1]`, except the last.
        position: "last", "stem_last", "instruction_last", "mean" or "all" (`POSITIONS` describes them).
        store: A folder to write to. Items that it already holds, from any prompt set, are not computed again. A killed run
            resumes and loses at most the shard being written. Several processes may work on one store.
        dtype: The dtype that activations are kept in: "float32", "bfloat16" (half the size, three digits) or "float16".
        logits: "answers" for the log-probabilities of the two endings (all their token forms) right after the stem, or
            token ids. They come from the same forward pass and lie in `.logp`, `item x token`.
        on_nan: "raise", or "count" to keep NaN and infinity, with their number and first place in the provenance.
        engine: "auto", "trunk" (an error where the trunk cannot read this model) or "bridge" (TransformerLens's own forward
            pass, which is slower).
        batch_tokens: Tokens of one forward pass, by default by device. Raising it takes more memory; it is halved when
            memory runs out.
        shard_items: Items of one shard on disk; raising it loses more when a run is killed.
        progress: Show a progress bar; by default only in a terminal or a notebook.
        note: The text before the bar.

    Returns:
        Activations, `item x variant x layer x d_model` (variant 0 is negative, 1 is positive). With position="all" there
        is a position axis before d_model, and a mask. With a store they are read from it as needed.

    Raises:
        EmptyPromptSet: The prompts are no prompt set; before any forward pass.
        BadInput: An option cannot be used, or a store cannot identify an active edit; before any forward pass.
        UnknownSite, UnknownLayer, UnknownPosition, PromptTooLong, TokenBoundary, AnswerTokens: Before any forward pass.
        Disagrees: Nothing that reads this model here gives Hugging Face's numbers; before any prompt is read.
        NotFinite: The model gave NaN or infinity. The message says where.
        Overflow: A value does not fit float16. The message says where.
        WrongModel, OutputFolder: The folder holds activations of another model or setting.
        DiskFull: The store does not fit on the disk. The shards that were written stay readable; the next run resumes.

    Note:
        Under edits, and where weights have changed since loading, activations are read through the Bridge, because edits
        reach only the Bridge; the provenance says so (`reader`). A store then needs edits with a `key`.

    Example:
        >>> import workbench as wb
        >>> acts = wb.capture(wb.load_model("bundled"), wb.prompts.udhr(n=4), layers=[2, 3], progress=False)
        >>> acts.shape
        (4, 2, 2, 128)
    """
    _check_options(prompts, dtype, on_nan, shard_items)
    question, encoded = ask(model, prompts, site=site, layers=layers, position=position, dtype=DTYPES[dtype], logits=logits)
    edits = active_edits(model)
    if store is not None:
        _storable(model, edits)
    reader = choose(model, site=site, way=engine, budget=batch_tokens)
    settings = {
        "site": site,
        "position": position,
        "dtype": dtype,
        "edits": [f"{e.label} at {e.site}[{e.layer}] {e.key or ''}".rstrip() for e in edits],
    }
    record = provenance(
        model=info(model).key(),
        **settings,
        layers=question.layers,
        prompts=prompts.hash,
        items=len(prompts),
        prompt_set=prompts.name,
        reader=f"bridge: {reader.why}" if reader.why else "trunk",
    )
    rows = prompts.to_frame()
    keys = [item_key(e, position) for e in encoded]
    title = note or f"capture {prompts.name}"
    if store is None:
        with _Bar(reader, encoded, question, title, progress):
            parts, ill = read_items(reader, encoded, question, on_nan=on_nan)
        record |= {"not_finite": summary(ill)} if ill else {}
        record |= left_out(InMemory(parts=parts), model)
        return Activations(values=InMemory(parts=parts), layers=question.layers, site=site, position=position, rows=rows, provenance=record)

    disk = Store.open(Path(store), model=info(model).key(), settings={"origin": "captured", **settings})
    disk.strike(disk.damaged(keys, question.parts))
    disk.ask(prompts.hash, rows, keys, parts=question.parts, provenance=record)
    _fill(disk, reader, encoded, keys, question, on_nan, shard_items, title, progress)
    ill = disk.ill(keys, question.parts)
    if ill and on_nan == "raise":
        refuse(ill)
    acts = from_store(disk, rows, keys, question.parts, record | ({"not_finite": summary(ill)} if ill else {}))
    acts.provenance = {**acts.provenance, **left_out(acts.source, model)}
    return acts


def left_out(source: Source, model: Any) -> dict[str, Any]:
    """Return how many attention sinks there are in each layer, for a record; nothing where single tokens were read.

    Args:
        source: The values, by part.
        model: What `load_model` returns.

    Returns:
        `sinks`: the `rule`, whether it holds for the first token of every text in all layers (`first`), and by layer the number of
        `tokens`, both variants together: those that means leave out, or at position "all" those among the tokens.
    """
    parts = sorted((p for p in source.names if p.startswith("sinks.")), key=part_order)
    tokens = {p.partition(".")[2]: int(source.part(p).sum()) for p in parts}
    return {"sinks": {"rule": RULE, "first": first_is_sink(model), "tokens": tokens}} if parts else {}


def _check_options(prompts: PromptSet, dtype: str, on_nan: str, shard_items: int) -> None:
    if not isinstance(prompts, PromptSet):
        raise EmptyPromptSet(f"capture reads a PromptSet, got {type(prompts).__name__}")
    if dtype not in DTYPES:
        raise BadInput(f"dtype {dtype!r}: {', '.join(DTYPES)}")
    if on_nan not in ("raise", "count"):
        raise BadInput(f"on_nan {on_nan!r}: 'raise' or 'count'")
    if shard_items < 1:
        raise BadInput("shard_items is at least 1")


@settled()
def answer_logp(
    model: Any, prompts: PromptSet, *, batch_tokens: int | None = None, progress: bool | None = None, note: str = ""
) -> Float[Tensor, "item 2"]:
    """Read the log-probabilities of both endings of every item right after its stem, without keeping activations.

    Args:
        model: What `load_model` returns; edits that are active act.
        prompts: Contrast pairs.
        batch_tokens: Tokens of one forward pass, by default by device. Raising it takes more memory.
        progress: Show a progress bar; by default only in a terminal or a notebook.
        note: The text before the bar.

    Returns:
        Natural log-probabilities of the negative and the positive ending: the probabilities of all single-token forms together; of
        endings of several tokens, the sum over their tokens.

    Raises:
        AnswerTokens: An ending is empty or unknown, or one begins the other; before any forward pass.
        NotFinite: The model gives NaN.
    """
    encoded = encode_pairs(model, prompts)
    question = Question(position="stem_last", layers=[], answers=forms_of(model, prompts, encoded))
    reader = choose(model, budget=batch_tokens)
    out = []
    with _Bar(reader, encoded, question, note or f"ask {prompts.name}", progress):
        for start in range(0, len(encoded), ASK_ITEMS):
            span = slice(start, start + ASK_ITEMS)
            part = Question(position="stem_last", layers=[], answers=question.answers[span] if question.answers else None)
            numbers = range(start, start + len(encoded[span]))
            out.append(read_items(reader, encoded[span], part, numbers=numbers)[0]["logp.answers"])
    return torch.cat(out)


def ask(
    model: Any, prompts: PromptSet, *, site: str, layers: Any, position: str, dtype: torch.dtype, logits: str | Sequence[int] | None
) -> tuple[Question, list[EncodedPair]]:
    """Check everything that can be checked before a forward pass, and tokenise.

    Args:
        model, prompts, site, layers, position, logits: As for `capture`.
        dtype: The dtype that activations are kept in.

    Returns:
        What is read of every item, and the ids of the items.

    Raises:
        BadInput: A site, layer, position or token does not exist, or a prompt does not fit the context.
    """
    if position not in POSITIONS:
        raise unknown(UnknownPosition, "position", position, POSITIONS)
    chosen = check_layers(model, layers)
    for layer in chosen:
        hook_point(model, site, layer)
    if site == "pattern":
        raise BadInput("attention patterns are not captured in bulk (they grow with the square of the length): use attention_patterns")
    encoded = encode_pairs(model, prompts)
    answers, tokens = None, ()
    if isinstance(logits, str):
        if logits != "answers":
            raise BadInput(f"logits {logits!r}: 'answers' or a list of token ids")
        answers = forms_of(model, prompts, encoded)
    elif logits is not None:
        tokens = tuple(int(i) for i in logits)
        wrong = [i for i in tokens if not 0 <= i < int(model.cfg.d_vocab)]
        if wrong or not tokens:
            raise BadInput(f"logits of token {wrong[0] if wrong else 'none'}: the vocabulary has 0-{int(model.cfg.d_vocab) - 1}")
    return Question(position=position, layers=chosen, dtype=dtype, answers=answers, tokens=tokens), encoded


def _storable(model: Any, edits: list[Any]) -> None:
    nameless = [e for e in edits if e.key is None]
    if nameless:
        raise BadInput(
            f"a store does not know functions: give the edit a key=, a hash of what it does ({nameless[0].label} at {nameless[0].site}"
            f"[{nameless[0].layer}]), or capture into memory and save that under a name"
        )
    if model.training:
        raise BadInput("the model is in training mode, where dropout makes every reading another: call model.eval() first")
    if foreign_hooks(model):
        raise BadInput("hooks of others hang on this model: a store cannot know what they do. Use Edit and edited(), with a key")


def _fill(
    disk: Store,
    reader: Engine,
    encoded: list[EncodedPair],
    keys: list[str],
    question: Question,
    on_nan: str,
    shard_items: int,
    title: str,
    progress: bool | None,
) -> None:
    """Compute the shards that a store lacks; those that another process is computing come last."""
    work: list[tuple[str, np.ndarray, list[str]]] = []
    seen: set[str] = set()
    for items, parts in disk.missing(keys, question.parts):
        # in the order of the trie: neighbours share the longest prefixes; an item that occurs twice is read once
        order = sorted((int(i) for i in items), key=lambda i: (encoded[i].negative, encoded[i].positive))
        order = [i for i in order if not (keys[i] in seen or seen.add(keys[i]))]
        for start in range(0, len(order), shard_items):
            shard = np.array(order[start : start + shard_items])
            work.append((shard_name([keys[i] for i in shard], parts), shard, parts))
    if not work:
        return
    with _Bar(reader, [encoded[i] for _, items, _ in work for i in items], question, title, progress):
        for wait in (False, True):  # first the shards that no other process has claimed, then the others, if still missing
            for name, items, parts in work:
                if name in disk.manifest["shards"]:
                    continue
                with disk.claim(name, wait=wait) as claimed:
                    disk.refresh()
                    if not claimed or name in disk.manifest["shards"]:
                        continue
                    part = _part_of(question, items, parts)
                    tensors, ill = read_items(reader, [encoded[i] for i in items], part, on_nan=on_nan, numbers=items)
                    places = {keys[i]: place for i, place in ill.items()}
                    disk.write(name, [keys[i] for i in items], {p: tensors[p] for p in parts}, ill=places)


def _part_of(question: Question, items: np.ndarray, parts: list[str]) -> Question:
    """Restrict a question to some items and some of its parts."""
    with_logp = any(p.startswith("logp.") for p in parts)
    return Question(
        position=question.position,
        layers=sorted({int(p.partition(".")[2]) for p in parts if p.startswith(("layer.", "sinks."))}),
        dtype=question.dtype,
        answers=[question.answers[i] for i in items] if question.answers and with_logp else None,
        tokens=question.tokens if with_logp else (),
    )


class _Bar:
    """A progress bar in tokens, with the share of tokens that shared prefixes save."""

    def __init__(self, reader: Engine, items: list[EncodedPair], question: Question, title: str, progress: bool | None) -> None:
        self.reader = reader
        self.bar = tqdm(total=0, desc=title, unit="tok", unit_scale=True, leave=False, disable=None if progress is None else not progress)
        if not self.bar.disable:
            rows = [j.ids for j in jobs(items, question)]
            total = sum(map(len, rows))
            self.bar.total = count(rows) if reader.trunk is not None else sum(map(len, set(map(tuple, rows))))
            self.bar.set_postfix_str(f"{1 - self.bar.total / total:.0%} of {total:,} tokens saved")

    def __enter__(self) -> None:
        self.reader.tick = self.bar.update

    def __exit__(self, *_: object) -> None:
        self.bar.close()
