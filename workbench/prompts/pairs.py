"""Contrast pairs and sets of them: the form in which text enters the workbench."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import pandas as pd

from ..core.errors import BadInput, EmptyPromptSet
from ..core.show import Shown, card, short
from .cells import are_texts, check_text, is_missing, name_flaw, shown, to_label, to_name

if TYPE_CHECKING:
    from .splits import Split

NAMES = ("identity", "group", "right", "claim", "template")
COLUMNS = (*NAMES, "label", "stem", "negative", "positive")


@dataclass(frozen=True, kw_only=True, repr=False)
class ContrastPair(Shown):
    """One prompt with two endings, of which one is true; or, with both endings empty, a single statement that is true or false.

    Attributes:
        stem: The text that both variants begin with.
        negative: Ending of variant 0, with its leading space (" no"); "" of a single statement.
        positive: Ending of variant 1 (" yes"); "" of a single statement.
        label: Which variant is true, or whether the statement is, 0 or 1 (also True and False, "0", "1", "true", "false", "yes", "no").
        identity: The person or people that the item is about; the unit of clustering and of held-out splits.
        group: The kind of identity ("religion").
        right: The right that the item is about; the second unit of held-out splits.
        claim: Name of the claim that pushes, "none" without one.
        template: Name of the prompt form.
        instruction_end: Character offset in `stem` where the instruction ends; `None` means at the end of the stem.
        meta: Anything else, by name; scalars only, and no name of another field.
        wording: What the prompt form holds by itself; a control token (`<|im_end|>`) that stands elsewhere in the prompt is
            refused when it is read. `None` for a stem that you wrote as a whole, which may be a rendered chat.
    """

    stem: str
    negative: str
    positive: str
    label: int
    identity: str = ""
    group: str = ""
    right: str = ""
    claim: str = "none"
    template: str = ""
    instruction_end: int | None = None
    meta: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    wording: str | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        label = to_label(self.label)
        if label is None:
            raise BadInput(f"label must be 0 or 1 (which variant is true), got {shown(self.label)}")
        object.__setattr__(self, "label", label)
        if not isinstance(self.meta, Mapping):
            raise BadInput(f"meta is a mapping of names to values, got {shown(self.meta)}")
        texts = [self.stem] if self.single else [self.stem, self.negative, self.positive]
        more = [getattr(self, name) for name in NAMES] + [*self.meta] + [v for v in self.meta.values() if not isinstance(v, int | float)]
        if not are_texts(texts + more) or not all(map(str.strip, texts)):
            self._check_texts()
        if self.positive == self.negative and not self.single:
            raise BadInput(f"both variants end in {self.positive!r}: a contrast pair needs two different endings")
        end = self.instruction_end
        if end is not None and not (isinstance(end, int) and 0 < end <= len(self.stem)):
            raise BadInput(f"instruction_end {shown(end)} lies outside the stem of {len(self.stem)} characters")
        if taken := [key for key in self.meta if key in COLUMNS]:
            raise BadInput(
                f"meta has a value named {taken[0]!r}, which is a column of its own (of {', '.join(COLUMNS)}): name it otherwise"
            )

    def _check_texts(self) -> None:
        """Raise for the first text that is none, say which; make whole numbers that are names texts, NumPy's scalars plain ones."""
        check_text(self.stem, "the stem of a contrast pair")
        for variant, text in enumerate(() if self.single else (self.negative, self.positive)):
            check_text(text, f"the ending of variant {variant}")
        for name in NAMES:
            value = to_name(given := getattr(self, name))
            if value is None or (is_missing(given) and not isinstance(given, str)):
                raise BadInput(f"the {name} of a contrast pair {name_flaw(given)}")
            if not isinstance(given, str):
                object.__setattr__(self, name, value)
        object.__setattr__(self, "meta", {k: v.item() if isinstance(v, np.generic) else v for k, v in self.meta.items()})
        for key, value in self.meta.items():
            check_text(key, "a name in the meta of a contrast pair", blank=True)
            if isinstance(value, str):
                check_text(value, f"{key!r} in the meta of a contrast pair", blank=True)
            elif not isinstance(value, bool | int | float):
                raise BadInput(f"{key!r} in the meta of a contrast pair is {shown(value)}, and must be text, a number or a truth value")

    def _shown(self) -> tuple[str, Mapping[str, Any]]:
        true = bool(self.label) if self.single else (self.negative, self.positive)[self.label]
        about = ", ".join(v for v in (self.identity, self.right) if v)
        ends = (
            "a single statement" if self.single else " / ".join(short(repr(e), 30) for e in (self.negative, self.positive))
        )  # with their spaces
        line = f"{short(self.stem, 120)!r} ¦ {ends}, true: {self.label}"
        return line + (f", {short(about, 40)}" if about else ""), {
            "stem": self.stem,
            "endings (0 / 1)": "none: a single statement" if self.single else f"{self.negative!r} / {self.positive!r}",
            "true": f"{true!r} (label {self.label})",
            **{k: getattr(self, k) for k in NAMES},
            **{f"meta: {k}": v for k, v in self.meta.items()},
        }

    @property
    def single(self) -> bool:
        """Whether this is a single statement, without endings."""
        return self.negative == "" == self.positive

    @property
    def text(self) -> tuple[str, str]:
        """The two full texts, negative first; of a single statement the same."""
        return self.stem + self.negative, self.stem + self.positive


class PromptSet(Sequence[ContrastPair]):
    """An immutable, ordered set of contrast pairs, or of single statements.

    Args:
        pairs: The pairs, in order.
        name: A short name for tables and progress bars.

    Raises:
        EmptyPromptSet: There is no pair.
        BadInput: Something is no pair, or some are single statements and some are not.

    Example:
        >>> import workbench as wb
        >>> prompts = wb.prompts.udhr(template="base_short", n=4, seed=0)
        >>> len(prompts), prompts.to_frame().columns[:3].tolist()
        (4, ['identity', 'group', 'right'])
    """

    def __init__(self, pairs: Iterable[ContrastPair], name: str = "prompts") -> None:
        self._pairs = tuple(pairs)
        self.name = name
        for i, pair in enumerate(self._pairs):
            if not isinstance(pair, ContrastPair):
                raise BadInput(f"item {i} of the prompt set {name!r} is {shown(pair)}, and must be a ContrastPair")
        if len({pair.single for pair in self._pairs}) > 1:
            raise BadInput(f"the prompt set {name!r} mixes contrast pairs with single statements: keep them in sets of their own")
        if not self._pairs:
            raise EmptyPromptSet(f"the prompt set {name!r} is empty: check the filters that made it")

    def __len__(self) -> int:
        return len(self._pairs)

    @overload
    def __getitem__(self, index: int) -> ContrastPair: ...
    @overload
    def __getitem__(self, index: slice) -> PromptSet: ...
    def __getitem__(self, index: int | slice) -> ContrastPair | PromptSet:
        return PromptSet(self._pairs[index], self.name) if isinstance(index, slice) else self._pairs[index]

    def __iter__(self) -> Iterator[ContrastPair]:
        return iter(self._pairs)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PromptSet) and self._pairs == other._pairs

    def __hash__(self) -> int:
        return hash(self.hash)

    def __add__(self, other: PromptSet) -> PromptSet:
        return PromptSet((*self, *other), self.name if self.name == other.name else f"{self.name}+{other.name}")

    @property
    def hash(self) -> str:
        """Content hash (sha256, 16 hex digits) of every field of every pair, in order."""
        cached = self.__dict__.get("_hash")
        if cached is None:
            digest = hashlib.sha256()
            for pair in self._pairs:
                content = {k: v for k, v in asdict(pair).items() if k != "wording"}  # it decides what is refused, not what is read
                digest.update(json.dumps(content, sort_keys=True, ensure_ascii=False).encode())
            cached = self.__dict__["_hash"] = digest.hexdigest()[:16]
        return cached

    @property
    def single(self) -> bool:
        """Whether these are single statements, without endings."""
        return self._pairs[0].single

    @property
    def labels(self) -> list[int]:
        """Which variant is true, per item."""
        return [pair.label for pair in self._pairs]

    def subset(self, indices: Iterable[int] | np.ndarray) -> PromptSet:
        """Return the items at some indices.

        Args:
            indices: Indices counted from 0; one may occur several times. Of a mask take `np.flatnonzero(mask)`.

        Returns:
            The items in the order of the indices.

        Raises:
            BadInput: An index is no whole number, or lies outside the set.
            EmptyPromptSet: There is no index.
        """
        given = list(indices)
        wrong = [i for i in given if isinstance(i, bool | np.bool_) or not isinstance(i, int | np.integer)]
        if wrong:
            raise BadInput(f"an index is a whole number, got {shown(wrong[0])}; of a mask take np.flatnonzero(mask)")
        chosen = [int(i) for i in given]
        bad = [i for i in chosen if not 0 <= i < len(self)]
        if bad:
            raise BadInput(f"index {bad[0]} of a prompt set of {len(self)} items (0-{len(self) - 1})")
        return PromptSet((self._pairs[i] for i in chosen), self.name)

    def where(self, **columns: object) -> PromptSet:
        """Return the items that have given values in the columns of `to_frame`.

        Args:
            columns: The value of each named column, or a list of values.

        Returns:
            The items, in their order.

        Raises:
            BadInput: There is no such column.
            EmptyPromptSet: No item has these values.
        """
        frame = self.to_frame()
        keep = pd.Series(True, index=frame.index)
        for name, value in columns.items():
            if name not in frame:
                raise BadInput(f"no column {name!r}. There are: {', '.join(frame.columns)}")
            keep &= frame[name].isin(list(value)) if isinstance(value, list | tuple | set) else frame[name] == value
        return self.subset(frame.index[keep])

    def split(self, split: Split) -> tuple[PromptSet, PromptSet]:
        """Return the training and the test items of a grouped split.

        Args:
            split: The split, made for these items.

        Returns:
            The training items and the test items. An item with one value of each side is in neither.

        Raises:
            SplitLeak: The split was made for other items.
            EmptyPromptSet: A side has no item.
        """
        return self.side(split, "train"), self.side(split, "test")

    def side(self, split: Split, side: str) -> PromptSet:
        """Return the items of one side ("train" or "test") of a grouped split that was made for these items or for more.

        Raises:
            UnknownName: There is no such side.
            SplitLeak: The split was made for other items.
            EmptyPromptSet: The side has no item.
        """
        split.values(side)
        return self.subset((split.side(self.to_frame()) == side).nonzero()[0])

    def to_frame(self) -> pd.DataFrame:
        """Return the items as a table.

        Returns:
            One row per item, with the columns `identity, group, right, claim, template, label`, those of `meta`, and
            `stem, negative, positive`.
        """
        first = ("identity", "group", "right", "claim", "template", "label")
        rows: list[dict[str, Any]] = [
            {name: getattr(pair, name) for name in first}
            | dict(pair.meta)
            | {"stem": pair.stem, "negative": pair.negative, "positive": pair.positive}
            for pair in self._pairs
        ]
        return pd.DataFrame(rows)

    def token_ids(self, model: Any) -> list[tuple[list[int], list[int]]]:
        """Return the ids that the model will read.

        Args:
            model: What `load_model` returns, or a described model.

        Returns:
            Per item the ids of the negative and of the positive variant.

        Raises:
            TokenBoundary: A token spans the boundary between stem and ending.
            PromptTooLong: A prompt does not fit the model's context.
        """
        from ..models.tokens import encode_pairs

        return [(item.negative, item.positive) for item in encode_pairs(model, self._pairs)]

    def __repr__(self) -> str:
        first = short(f"{self._pairs[0].stem} ¦{self._pairs[0].positive}".removesuffix(" ¦"), 120)
        return f"PromptSet({short(self.name, 40)!r}, {len(self):,} items, hash {self.hash}, first: {first!r})"

    def _repr_html_(self) -> str:
        columns = ("identity", "group", "right", "claim", "template")
        values = {c: {v for p in self._pairs if (v := getattr(p, c))} for c in columns}
        named = {1: {}, 2: {"identity": "identities"}}
        counts = (f"{len(v):,} {named[min(len(v), 2)].get(c, c if len(v) == 1 else c + 's')}" for c, v in values.items() if v)
        first = pd.DataFrame(
            [
                {
                    "identity": p.identity,
                    "right": p.right,
                    "claim": p.claim,
                    "template": p.template,
                    "label": p.label,
                    "prompt": p.stem,
                    "endings (0 / 1)": f"{p.negative!r} / {p.positive!r}",
                }
                for p in self._pairs[:5]
            ]
        )
        facts = {"holds": ", ".join(counts), "label 1 in": f"{sum(self.labels) / len(self):.0%}", "hash": self.hash}
        kind = "single statements" if self.single else "contrast pairs"
        return card(f"PromptSet {self.name}: {len(self):,} {kind}", facts, tables=[first])
