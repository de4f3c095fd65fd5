"""Public data about harm: harmful requests, requests that only look harmful, and pairs of conversations with a preference."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from ..core.errors import BadInput, MissingColumn, UnknownName, unknown
from .cells import Place, check_answers, check_text, name_of, need, shown, text_of
from .chat import Chat, ending
from .left_out import each
from .pairs import ContrastPair, PromptSet
from .rows import find_files, hub_rows, normal, numbered, sample, text_id
from .table import open_table
from .templates import Template

XSTEST_HUB = "Paul/XSTest"
HH_HUB = "Anthropic/hh-rlhf"
# the hub's copies of the same sources (AdvBench, Alpaca), in splits of their own
INSTRUCTIONS_HUB = {"harmful": "mlabonne/harmful_behaviors", "harmless": "mlabonne/harmless_alpaca"}
KINDS = ("harmful", "harmless")


def xstest(path: str | Path | None = None, *, limit: int | None = None, seed: int = 0) -> pd.DataFrame:
    """Load XSTest: safe prompts that look unsafe, and unsafe ones beside them.

    Args:
        path: xstest_prompts.csv, or a folder with it. `None` takes `Paul/XSTest` from the hub.
        limit: Number of prompts to draw; `None` for all (250 safe, 200 unsafe).
        seed: Draws the prompts.

    Returns:
        Columns `question`, `safe` (bool), `kind` ("homonyms", "contrast_homonyms", …) and `focus` (the word or topic that
        makes it look unsafe).

    Raises:
        NetworkNeeded, GatedModel: The hub was asked and cannot answer.
        MissingColumn, BadInput: A file in another layout; the message names file, row and columns.

    References:
        Röttger et al. 2024, "XSTest: A Test Suite for Identifying Exaggerated Safety Behaviours", arXiv:2308.01263.
    """
    patterns = ("xstest_prompts.csv", "xstest*.csv", "*.csv", "*.parquet", "*.jsonl")
    rows = hub_rows(XSTEST_HUB, split="train") if path is None else list(numbered(find_files(path, patterns)))
    return pd.DataFrame(sample(each(rows, xstest_row), limit, seed, "xstest"))


def xstest_row(row: Mapping[str, Any], where: Place) -> dict[str, Any]:
    """Return one row of XSTest: `question`, `safe`, `kind`, `focus`.

    Raises:
        MissingColumn, BadInput: It is not one.
    """
    need(row, ("prompt", "type", "focus"), where)
    kind = text_of(row, "type", where)
    # in copies without a label the kind gives it: the unsafe kinds are contrasts of the safe ones
    label = row.get("label", "unsafe" if kind.startswith("contrast_") else "safe")
    if label not in ("safe", "unsafe"):
        raise where.error(f"'label' is {shown(label)}, and must be 'safe' or 'unsafe'")
    return {"question": text_of(row, "prompt", where), "safe": label == "safe", "kind": kind, "focus": name_of(row, "focus", where)}


def hh_rlhf(
    path: str | Path | None = None, split: str = "test", *, subset: str = "harmless-base", limit: int | None = None, seed: int = 0
) -> list[dict[str, str]]:
    """Load pairs of conversations, of which people preferred one; `conversations` makes contrast pairs of them.

    Args:
        path: A jsonl file (also gzipped), a folder with `SPLIT.jsonl.gz`, or one with such a folder named `SUBSET`. `None`
            takes `Anthropic/hh-rlhf` from the hub.
        split: "train" or "test".
        subset: "harmless-base", "helpful-base", …
        limit: Number of pairs to draw; `None` for all.
        seed: Draws the pairs.

    Returns:
        Mappings with the keys `chosen` (the preferred conversation) and `rejected`.

    Raises:
        NetworkNeeded, GatedModel: The hub was asked and cannot answer.
        MissingColumn, BadInput: A file in another layout; the message names file, row and columns.

    References:
        Bai et al. 2022, "Training a Helpful and Harmless Assistant with RLHF", arXiv:2204.05862.
    """
    patterns = (f"{subset}/{split}.jsonl*", f"{split}.jsonl*", f"{split}-*.parquet", f"{subset}*{split}*.jsonl*", f"*{split}*.jsonl*")
    rows = hub_rows(HH_HUB, split=split, folder=subset) if path is None else list(numbered(find_files(path, patterns)))
    pairs = each(rows, lambda row, where: {name: text_of(row, name, where) for name in ("chosen", "rejected")})
    return sample(pairs, limit, seed, "hh_rlhf")


def instructions(
    path: str | Path | None = None, kind: str = "harmful", split: str = "train", *, limit: int | None = None, seed: int = 0
) -> pd.DataFrame:
    """Load harmful or harmless instructions in the layout of the refusal-direction repository.

    Args:
        path: A folder with `KIND_SPLIT.json` (also as `dataset/splits` inside it), or one such file. `None` takes copies
            of the same sources from the hub, with other splits: "train" and "test" of `mlabonne/harmful_behaviors` and
            `mlabonne/harmless_alpaca`.
        kind: "harmful" or "harmless"; for a file, what the file holds.
        split: "train", "val" or "test".
        limit: Number of instructions to draw; `None` for all.
        seed: Draws the instructions.

    Returns:
        Columns `instruction`, `category` ("" where the file has none) and `harmful` (bool).

    Raises:
        UnknownName: There is no such kind.
        NetworkNeeded, GatedModel: The hub was asked and cannot answer.
        MissingColumn, BadInput: A file in another layout; the message names file, row and columns.

    References:
        Arditi et al. 2024, "Refusal in Language Models Is Mediated by a Single Direction", arXiv:2406.11717.
    """
    if kind not in KINDS:
        raise unknown(UnknownName, "kind", kind, KINDS)
    if path is None:
        rows, column = hub_rows(INSTRUCTIONS_HUB[kind], split=split), "text"
    else:
        name = f"{kind}_{split}.json"
        file, column = find_files(path, (name, f"splits/{name}", f"dataset/splits/{name}"))[0], "instruction"
        other = next(k for k in KINDS if k != kind)
        if file.name.startswith(f"{other}_"):
            raise BadInput(f"{file.name} says that it holds {other} instructions, and kind={kind!r} was asked for")
        rows = list(numbered([file]))

    def one(row: Mapping[str, Any], where: Place) -> dict[str, Any]:
        return {"instruction": text_of(row, column, where), "category": name_of(row, "category", where), "harmful": kind == "harmful"}

    return pd.DataFrame(sample(each(rows, one), limit, seed, f"{kind} instruction"))


def instruction_pairs(
    harmful: pd.DataFrame | Iterable[str],
    harmless: pd.DataFrame | Iterable[str],
    *,
    answers: tuple[str, str] = ("Sorry", "Sure"),
    template: str | Template = "{instruction}",
    model: Any = None,
    system: str | None = None,
    chat: bool | None = None,
    chat_options: Mapping[str, Any] | None = None,
    name: str = "instructions",
) -> PromptSet:
    """Make contrast pairs of harmful and harmless instructions: refuse or comply.

    Args:
        harmful: Instructions that should be refused: a table from `instructions`, or texts. White space around an instruction is
            left out, as chat templates leave it out.
        harmless: Instructions that should be followed, in the same form.
        answers: First word of a refusal and of compliance.
        template: A form with `{instruction}`; the text after its `{instruction_end}` begins the reply.
        model: If its tokenizer has a chat template, the instruction becomes the user's turn.
        system: A system message, as for `choices_to_prompts`.
        chat: `None` uses the chat template if there is one, `False` never, `True` insists.
        chat_options: Variables of the chat template, as for `choices_to_prompts`.
        name: Name of the set.

    Returns:
        A prompt set, harmful ones first: variant 0 refuses, variant 1 complies; `label` is 0 for a harmful instruction
        (refusing is right) and 1 for a harmless one. `identity` is an id of the text, so that the same instruction is one
        cluster. Further columns: `input_harm` (0 or 1), `statement` (the instruction), `category`; `thought` and `chat_options`
        as for `choices_to_prompts`.

    Raises:
        BadInput: An instruction is blank, no text, or holds a control character or half a character, or is among both kinds.
        MissingColumn: A table has no column `instruction`.
        TemplateField: The template lacks `{instruction}` or names another field.
        UnknownName, ControlToken: As for `choices_to_prompts`.
    """
    named = "instruction" if template == "{instruction}" else "custom"
    form = template if isinstance(template, Template) else Template(name=named, text=template)
    form.check(("instruction",), ("instruction",))
    kinds = [_texts(given, kind) for given, kind in ((harmful, "harmful"), (harmless, "harmless"))]
    answers = check_answers(answers)
    both = {normal(text) for text, _ in kinds[0]} & {normal(text) for text, _ in kinds[1]}
    if both:
        raise BadInput(f"{len(both)} instructions are among the harmful and the harmless, for one {sorted(both)[0][:60]!r}")
    how = Chat(model=model, system=system, chat=chat, options=chat_options)
    pairs = []
    for harm, texts in ((1, kinds[0]), (0, kinds[1])):
        for text, category in texts:
            rendered, end = form.render(instruction=text)
            end = len(rendered) if end is None else end
            stem = how.stem(rendered[:end], rendered[end:], called=f"the instruction {text[:60]!r}")
            pairs.append(
                ContrastPair(
                    stem=stem.text,
                    negative=ending(stem.text, answers[0]),
                    positive=ending(stem.text, answers[1]),
                    label=1 - harm,
                    identity=text_id(text),
                    group=KINDS[1 - harm],
                    template=form.name,
                    instruction_end=stem.end,
                    meta={"input_harm": harm, "statement": text, "category": category, **stem.meta},
                    wording=stem.wording + form.wording,
                )
            )
    return PromptSet(pairs, name=name)


def _texts(given: pd.DataFrame | Iterable[str], kind: str) -> list[tuple[str, str]]:
    """The instructions, each with its category."""
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise BadInput(f"{kind} instructions are a list of texts or a table, got {shown(given)}")
    if not isinstance(given, pd.DataFrame):
        return [(check_text(text, f"{kind} instruction {i}").strip(), "") for i, text in enumerate(given)]
    table = open_table(given, f"the {kind} table")
    if "instruction" not in table.columns:
        raise MissingColumn(f"the {kind} table has no column 'instruction'; it has: {', '.join(map(str, given.columns))}")
    return [(text_of(row, "instruction", place).strip(), name_of(row, "category", place)) for place, row in table.rows]
