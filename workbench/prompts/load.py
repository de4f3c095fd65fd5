"""One door for other people's files: which published layout is it, what is in it, and what was left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from ..core.errors import BadInput, EmptyPromptSet, UnknownName, unknown
from ..core.show import card, short
from .cells import Place
from .layouts import LAYOUTS, Layout
from .left_out import Skipped, leave_out, leaving_out
from .pairs import ContrastPair, PromptSet
from .peek import TEXT, Peek
from .published import Found
from .rows import ENDINGS, ending_of, normal, sample
from .table import Source


class Loaded(PromptSet):
    """Prompts from a file of somebody else's.

    Attributes:
        kind: Name of the layout that was recognised.
        items: What the file holds, before it was put into prompts: questions with options, statements, …
        skipped: The rows that were left out, each with its number and what is wrong with it.
        notes: What a reader should know of how the file was read.
    """

    def __init__(
        self, pairs: Sequence[ContrastPair], name: str, *, kind: str, items: Sequence[Any], skipped: Sequence[Skipped], notes: Sequence[str]
    ) -> None:
        super().__init__(pairs, name)
        self.kind, self.items, self.skipped, self.notes = kind, tuple(items), tuple(skipped), tuple(notes)

    def __repr__(self) -> str:
        return f"{self.kind}: {super().__repr__()}{_left(self.skipped)}"

    def _repr_html_(self) -> str:
        return super()._repr_html_() + card(
            f"read as {self.kind}", {**_facts(self)}, tables=[left_out_table(self.skipped)[:5]] if self.skipped else []
        )


class Listing(Sequence[Any]):
    """A list from a file of somebody else's that is no set of prompts: identities, rights, prompt forms, open questions.

    Attributes:
        kind: Name of the layout that was recognised.
        name: Name of the list.
        skipped: The rows that were left out.
        notes: What a reader should know of how the file was read.
    """

    def __init__(self, items: Sequence[Any], name: str, *, kind: str, skipped: Sequence[Skipped] = (), notes: Sequence[str] = ()) -> None:
        self.kind, self.name, self.skipped, self.notes = kind, name, tuple(skipped), tuple(notes)
        self._items = tuple(items)

    @property
    def items(self) -> tuple[Any, ...]:
        """What the file holds."""
        return self._items

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: Any) -> Any:
        return self._items[index]

    def to_frame(self) -> pd.DataFrame:
        """Return the list as a table, one row an item."""
        return pd.DataFrame([vars(i) if hasattr(i, "__dataclass_fields__") else {"text": i} for i in self._items])

    def __repr__(self) -> str:
        first = short(repr(self._items[0]), 100)
        return f"{self.kind}: Listing({self.name!r}, {len(self):,} items, first: {first}){_left(self.skipped)}"

    def _repr_html_(self) -> str:
        return card(f"{self.name}: {len(self):,} items", _facts(self), tables=[self.to_frame()[:5]])


def _left(skipped: Sequence[Skipped]) -> str:
    return f", {len(skipped):,} rows left out (first: {short(str(skipped[0]), 160)})" if skipped else ""


def _facts(loaded: Loaded | Listing) -> dict[str, Any]:
    return {"layout": loaded.kind, "left out": f"{len(loaded.skipped):,} rows", **{f"note {i}": n for i, n in enumerate(loaded.notes, 1)}}


def left_out_table(skipped: Sequence[Skipped]) -> pd.DataFrame:
    """Return rows that were left out as a table: `source, row, why`."""
    return pd.DataFrame([{"source": s.source, "row": s.row, "why": s.why} for s in skipped], columns=["source", "row", "why"])


@dataclass(frozen=True, kw_only=True)
class Asked:
    """How what is loaded is to be put into prompts; what a layout does not use must be left at its default.

    Attributes:
        behaviour: Of a folder of behaviours, which.
        split: Of a folder with splits, which.
        columns: The column of each field, for tables with names of their own.
        template, claim, asking: For statements: the question form, as for `from_table`.
        model: For questions with options, the model whose tokenizer decides the form.
        seed: Draws what is drawn.
    """

    behaviour: str | None = None
    split: str | None = None
    columns: Mapping[str, str] | None = None
    template: Any = None
    claim: str | None = None
    model: Any = None
    n: int | None = None
    seed: int = 0
    asking: Mapping[str, Any] = field(default_factory=dict)


def load(
    source: Source,
    kind: str | None = None,
    *,
    strict: bool = False,
    behaviour: str | None = None,
    split: str | None = None,
    columns: Mapping[str, str] | None = None,
    template: Any = None,
    claim: str | None = None,
    model: Any = None,
    n: int | None = None,
    seed: int = 0,
    name: str | None = None,
    **asking: Any,
) -> Any:
    """Load a file, a folder, a table in memory or a data set of the hub in a published layout.

    Args:
        source: A csv, json, jsonl, parquet or text file, a folder, a data frame, a list of mappings, or "owner/name" on the hub.
        kind: The layout, of `layouts()`; by default it is recognised.
        strict: Raise an error at the first row that cannot be used or stands there twice. By default such rows are left out and named in
            `.skipped`.
        behaviour: Of a folder in the CAA layout, one behaviour; by default all.
        split: Of a source with splits, one of them; by default all. ("test" on the hub.)
        columns: The column of each field, `{"statement": "text"}`, where the file names them otherwise.
        template, claim: For statements: ask whether one agrees with them, in this form (as for `from_table`); by default they stand alone.
        model: For questions with options: the model whose tokenizer decides how answers are written.
        n: Number of items to draw; `None` for all.
        seed: Draws items, orders of options, and splits of files that have none.
        name: Name of the set; by default the file's.
        asking: For statements and the student project's folder, further arguments of `from_table` (`answers=`, `chat=`, …).

    Returns:
        A prompt set (`Loaded`) with `.kind`, `.items`, `.skipped` and `.notes`; a `Listing` for what is no prompt: identities, rights,
        prompt forms, open questions. Questions with options have the option that is right (or matches the behaviour) as the positive
        ending; requests have refusing and complying endings, statements none.

    Raises:
        UnknownName: There is no such layout, behaviour or split.
        BadInput: The layout is not recognised (the message says what the source holds), or does not fit; or a row, with `strict`.
        EmptyPromptSet: No row can be used; the message gives the first.
        NetworkNeeded, GatedModel: The hub was asked and cannot answer.

    Example:
        >>> import workbench as wb
        >>> rows = [{"statement": "Ice is cold.", "label": 1}, {"statement": "Ice is hot.", "label": 0}, {"statement": "", "label": 1}]
        >>> facts = wb.prompts.load(rows)
        >>> facts.kind, len(facts), facts.skipped[0].row
        ('statements', 2, 2)
    """
    if kind is not None and kind not in LAYOUTS:
        raise unknown(UnknownName, "kind", kind, LAYOUTS)
    asked = Asked(
        behaviour=behaviour, split=split, columns=columns, template=template, claim=claim, model=model, n=n, seed=seed, asking=asking
    )
    with leaving_out() as skipped:
        peek = Peek.at(source, columns)
        named, found = _read(peek, LAYOUTS.get(kind or ""), asked)
        found = _once(found, peek.name)
    if strict and skipped:
        raise BadInput(f"{skipped[0]} ({len(skipped):,} rows cannot be used)")
    if not found.items and not found.pairs:
        why = f": {skipped[0]}" if skipped else ""
        raise EmptyPromptSet(f"{peek.name}, read as {named}: no row can be used{why}")
    called = name or found.name or peek.name
    facts: dict[str, Any] = {"kind": named, "skipped": skipped, "notes": found.notes}
    if found.pairs is None:
        return Listing(found.items, called, **facts)
    return Loaded(found.pairs, called, items=found.items, **facts)


def _once(found: Found, name: str) -> Found:
    """Without prompts that stand there twice."""
    if found.pairs is None:
        return found
    seen: dict[Any, tuple[Place, int]] = {}
    kept, items = [], []
    for i, pair in enumerate(found.pairs):
        place = Place(str(pair.meta.get("dataset") or name), int(pair.meta.get("row", i)))
        key = (normal(pair.stem), pair.template, pair.claim, pair.meta.get("part"), *sorted((pair.negative, pair.positive)))
        first, label = seen.setdefault(key, (place, pair.label))
        if first is place:
            kept.append(pair)
            items += [found.items[i]] if len(found.items) == len(found.pairs) else []
        else:
            there = f"row {first.row}" + ("" if first.source == place.source else f" of {first.source}")
            leave_out(
                place, place.error(f"it stands there already, in {there}" + (", with the other label" if label != pair.label else ""))
            )
    return replace(found, pairs=kept, items=items or found.items)


def _read(peek: Peek, layout: Layout | None, asked: Asked) -> tuple[str, Found]:
    """The layout's name and what was read; of a folder in no layout, all its files, where they are in one."""
    layout = layout or next((layout for layout in LAYOUTS.values() if layout.fits(peek)), None)
    if layout is not None:
        return layout.name, layout.read(peek, asked)
    if peek.folder is not None:
        return _files(peek, asked)
    raise BadInput(
        f"{peek.name}: no layout is recognised. It holds: {peek.says}. Layouts: {', '.join(LAYOUTS)}; name one with kind=, or name the "
        "columns: columns={'statement': …, 'label': …}"
    )


MOST_FILES = 300


def _files(peek: Peek, asked: Asked) -> tuple[str, Found]:
    """Every file of a folder, where all are in one layout."""
    assert peek.folder is not None
    files = sorted(
        p for p in peek.folder.rglob("*") if p.is_file() and (ending_of(p) in ENDINGS or p.suffix in TEXT) and p.stem != "README"
    )
    if not files or len(files) > MOST_FILES:
        raise BadInput(f"{peek.name}: no layout is recognised. It holds: {peek.says}. Pass the file that you mean")
    by_kind: dict[str, list[Path]] = {}
    peeks = {file: Peek.at(file, asked.columns) for file in files}
    for file, one in peeks.items():
        kind = next((layout.name for layout in LAYOUTS.values() if layout.fits(one)), "unknown")
        by_kind.setdefault(kind, []).append(file)
    if len(by_kind) > 1 or "unknown" in by_kind:
        said = "; ".join(f"{kind}: {', '.join(f.name for f in some[:3])}{', …' if len(some) > 3 else ''}" for kind, some in by_kind.items())
        raise BadInput(f"{peek.name} holds files of several layouts ({said}): pass one of them, or a folder of one kind")
    (kind,) = by_kind
    found = [(file, LAYOUTS[kind].read(peeks[file], replace(asked, n=None))) for file in files]
    if any(one.pairs is None for _, one in found):
        items = [item for _, one in found for item in one.items]
        return kind, Found(items=sample(items, asked.n, asked.seed, "item"), notes=[f"{len(files)} files"])
    pairs = [
        replace(pair, meta={**pair.meta, "dataset": str(pair.meta.get("dataset") or file.stem)}, identity=_apart(pair, file))
        for file, one in found
        for pair in one.pairs or ()
    ]
    return kind, Found(items=(), pairs=sample(pairs, asked.n, asked.seed, "item"), notes=[f"{len(files)} files; `dataset` names each"])


def _apart(pair: ContrastPair, file: Path) -> str:
    """An item's identity; "row 3" of two files are two."""
    return f"{file.stem}, {pair.identity}" if pair.identity.startswith("row ") else pair.identity
