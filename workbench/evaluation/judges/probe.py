"""The judge that reads a model's own activations over the answer, along a fitted probe or a direction."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

import pandas as pd
import torch
from scipy.special import expit
from torch import Tensor

from ...core.direction import Direction
from ...core.errors import BadInput, NotFinite, PromptTooLong, ShapeMismatch
from ...models.forward import residuals
from ...models.hooks import hook_point
from ...models.known import info
from ...models.tokens import encode, pad, shared
from ...probes.linear import LinearProbe
from .base import BLANK, blank, check_template, table, texts

_NOT_VECTORS = ("z", "pattern")


@dataclass(frozen=True, eq=False)
class ProbeJudge:
    """A judge that projects what a model computes while it reads question and answer.

    The value v of an answer is, for a probe, its score (log-odds of class 1) and, for a direction, the coordinate in raw
    units of the activations, averaged over the answer's tokens or read at the last one. The first special token and the
    question are never among them. The verdict is v > threshold. The score is 1 / (1 + exp(-v)) for a probe and
    1 / (1 + exp(-(v - threshold) / scale)) for a direction.

    Attributes:
        model: What `load_model` returns; it need not be the model that wrote the answers.
        probe: A probe fitted on rows (not on contrast pairs), or a direction; class 1, or the positive end, is the behaviour.
        layer: Block, counted from 0.
        site: Where in the block; one that carries vectors of `d_model`.
        threshold: In the units of v; raising it makes the judge call fewer answers.
        pool: "mean" over the answer's tokens, or "last".
        scale: Raw units of a direction that count as one unit of log-odds; by default the direction's own scale.
        template: How question and answer are put together; it ends with `{answer}`.
        batch_size: Answers in a pass.
        name: The judge's name; by default it says what is read where.

    Raises:
        UnknownSite, UnknownLayer: At construction, before any forward pass.
        WrongModel: The direction comes from another model, processing mode, site or layer.
        BadInput, ShapeMismatch, TemplateField: A probe of pairs, another width, no such pooling, a wrong template.

    Note:
        The score orders answers; it is a calibrated probability only for a probe fitted on answers read in the same way. A
        probe fitted on last tokens sees averages here with `pool="mean"`, which have another spread. Inside an `edited`
        block the edited stream is read: judge outside it, or the push that made the answers also moves their judge.
    """

    model: Any = field(repr=False)
    probe: LinearProbe | Direction
    layer: int
    site: str = "resid_post"
    threshold: float = 0.0
    pool: str = "mean"
    _: KW_ONLY
    scale: float | None = None
    template: str = "{question}\n{answer}"
    batch_size: int = 16
    name: str = ""

    def __post_init__(self) -> None:
        check_template(self.template, ends=True)
        if self.pool not in ("mean", "last"):
            raise BadInput(f"pool={self.pool!r}: 'mean' over the answer's tokens, or 'last'")
        if self.batch_size < 1:
            raise BadInput(f"batch_size={self.batch_size}: 1 at least")
        if not math.isfinite(self.threshold):
            raise BadInput(f"threshold={self.threshold}: a finite number")
        known = info(self.model)
        hook_point(self.model, self.site, self.layer)
        if self.site in _NOT_VECTORS:
            raise BadInput(
                f"site {self.site!r} carries no vector of d_model per token; use resid_pre, resid_mid, resid_post, attn_out or mlp_out"
            )
        if isinstance(self.probe, Direction):
            self.probe.check_place({"model": known.key(), "site": self.site, "layer": self.layer})
            width, name = len(self.probe.unit), f"direction layer {self.layer}"
        else:
            if self.probe.paired:
                raise BadInput("this probe reads contrast pairs, and an answer is one row; fit it on rows of two classes (without labels=)")
            width, name = len(self.probe.weight), f"probe layer {self.layer}"
        if width != known.d_model:
            raise ShapeMismatch(f"a {name.split()[0]} of width {width} and a model of width {known.d_model}")
        if self.scale is not None and (isinstance(self.probe, LinearProbe) or not 0 < self.scale < math.inf):
            raise BadInput(
                f"scale={self.scale}: a positive number of raw units, for a direction only (a probe's score is in log-odds already)"
            )
        if not self.name:
            object.__setattr__(self, "name", name)

    def judge(self, questions: Sequence[str], answers: Sequence[str]) -> pd.DataFrame:
        """Judge answers by what the model computes over them.

        Returns:
            The table of a `Judge`; the note holds v. A blank answer, or one that does not fit the model's context, gets no
            verdict.

        Raises:
            NotFinite: Activations are NaN or infinite.
        """
        q, a = texts(questions, answers)
        notes = [BLANK if blank(answer) else "" for answer in a]
        known = info(self.model)
        full = [i for i, note in enumerate(notes) if not note]
        prompts = self._ids([self.template.format(question=q[i], answer=a[i]) for i in full])
        rows: dict[int, tuple[list[int], int]] = {}
        for i, ids in zip(full, prompts, strict=True):
            if ids is None:
                notes[i] = f"no verdict: question and answer are longer than the model's context of {known.context} tokens"
                continue
            head = self.model.tokenizer(self.template.removesuffix("{answer}").format(question=q[i]), add_special_tokens=False)["input_ids"]
            # a token that merges the end of the question's part with the answer's beginning counts as the answer's
            own = len(_bare(ids, known.first)) - shared(_bare(ids, known.first), _bare(head, known.first))
            if own:
                rows[i] = ids, len(ids) - own
            else:
                notes[i] = "no verdict: the answer has no token of its own"
        values = dict(zip(rows, self._values(list(rows.values())), strict=True)) if rows else {}
        scores = [self._score(values[i]) if i in values else math.nan for i in range(len(a))]
        verdicts = [values[i] > self.threshold if i in values else None for i in range(len(a))]
        notes = [f"{values[i]:.4g}" if i in values else note for i, note in enumerate(notes)]
        facts = {
            "kind": "probe",
            "model": known.key(),
            "method": self.probe.method,
            "site": self.site,
            "layer": self.layer,
            "pool": self.pool,
            "threshold": self.threshold,
            "scale": self.scale,
            "template": self.template,
        }
        return table(self.name, scores, verdicts, notes, facts)

    def _score(self, value: float) -> float:
        if isinstance(self.probe, Direction):
            return float(expit((value - self.threshold) / (self.scale or self.probe.scale)))
        return float(expit(value))

    def _ids(self, prompts: list[str]) -> list[list[int] | None]:
        """The ids of prompts, `None` for one that does not fit; one by one, which takes longer, only where one does not."""
        if not prompts:
            return []
        try:
            return [*encode(self.model, prompts)]
        except PromptTooLong:
            pass
        out: list[list[int] | None] = []
        for prompt in prompts:
            try:
                out.append(encode(self.model, [prompt])[0])
            except PromptTooLong:
                out.append(None)
        return out

    def _values(self, rows: list[tuple[list[int], int]]) -> list[float]:
        vectors = torch.empty(len(rows), info(self.model).d_model)
        order = sorted(range(len(rows)), key=lambda i: len(rows[i][0]))
        for start in range(0, len(order), self.batch_size):
            chunk = order[start : start + self.batch_size]
            vectors[chunk] = self._pooled([rows[i] for i in chunk])
        if not bool(vectors.isfinite().all()):
            raise NotFinite(f"activations at {self.site}[{self.layer}] are NaN or infinite; load the model with dtype='float32'")
        if isinstance(self.probe, Direction):
            return self.probe.project(vectors).tolist()
        return self.probe.score(vectors).tolist()

    def _pooled(self, rows: list[tuple[list[int], int]]) -> Tensor:
        """One vector per row, `row x d_model`, in float32 on the CPU."""
        batch = pad(self.model, [ids for ids, _ in rows])
        last = torch.tensor([[len(ids) - 1] for ids, _ in rows])
        first = last if self.pool == "last" else torch.tensor([[f] for _, f in rows])
        index = first + torch.arange(int((last - first).max()) + 1)
        real = index <= last
        # beyond its end a row is read at its last token again, and that is then not counted
        columns = batch.starts[:, None] + index.minimum(last).to(batch.starts.device)
        values, _ = residuals(self.model, batch, columns, site=self.site, layers=[self.layer])
        assert values is not None
        weight = real[:, :, None].float()
        return (values[:, :, 0].float().cpu() * weight).sum(1) / weight.sum(1)


def _bare(ids: Sequence[int], first: Sequence[int]) -> list[int]:
    return list(ids[len(first) :] if list(ids[: len(first)]) == list(first) else ids)
