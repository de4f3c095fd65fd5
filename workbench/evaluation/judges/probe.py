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
from ...core.errors import BadInput, ControlToken, NotFinite, PromptTooLong, ShapeMismatch
from ...models.forward import residuals
from ...models.hooks import hook_point
from ...models.known import info
from ...models.sinks import STREAM, outliers
from ...models.spans import cut
from ...models.thoughts import closing
from ...models.tokens import encode, pad, shared
from ...probes.linear import LinearProbe
from .base import check_template, heard, table

_NOT_VECTORS = ("z", "pattern")


@dataclass(frozen=True, eq=False)
class ProbeJudge:
    """A judge that projects what a model computes while it reads question and answer.

    The value v of an answer is, for a probe, its score (log-odds of class 1) and, for a direction, the coordinate in raw
    units of the activations, averaged over the answer's tokens or read at the last one. The first special token, the
    question and attention sinks are never among them. The verdict is v > threshold. The score is 1 / (1 + exp(-v)) for a probe and
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
            The table of a `Judge`; the note holds v. Thoughts are not read. An answer that is blank, that a thought without an end
            leaves out, that does not fit the model's context or holds a control token gets no verdict.

        Raises:
            NotFinite: Activations are NaN or infinite.
        """
        said = heard(questions, answers)
        # a prompt that ends inside a thought: what is read is the answer behind it
        q, a, notes = [q + closing(q) for q in said.questions], said.answers, list(said.notes)
        known = info(self.model)
        full = [i for i, note in enumerate(notes) if not note]
        prompts = [self.template.format(question=q[i], answer=a[i]) for i in full]
        rows: dict[int, tuple[list[int], int]] = {}
        for i, prompt, ids in zip(full, prompts, self._ids(prompts), strict=True):
            if isinstance(ids, str):
                notes[i] = f"no verdict: {ids}"
                continue
            first = self._first(prompt, self.template.removesuffix("{answer}").format(question=q[i]), ids)
            if first < len(ids):
                rows[i] = ids, first
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
        return table(self.name, scores, verdicts, notes, facts, thoughts=said.thoughts)

    def _score(self, value: float) -> float:
        if isinstance(self.probe, Direction):
            return float(expit((value - self.threshold) / (self.scale or self.probe.scale)))
        return float(expit(value))

    def _ids(self, prompts: list[str]) -> list[list[int] | str]:
        """The ids of prompts, or why one has none; one by one, which takes longer, only where one does not."""
        if not prompts:
            return []
        try:
            return [*encode(self.model, prompts)]
        except (PromptTooLong, ControlToken):
            pass
        out: list[list[int] | str] = []
        for prompt in prompts:
            try:
                out.append(encode(self.model, [prompt])[0])
            except PromptTooLong:
                out.append(f"question and answer are longer than the model's context of {info(self.model).context} tokens")
            except ControlToken as error:
                out.append(str(error).removeprefix("text 0 "))
        return out

    def _first(self, prompt: str, head: str, ids: list[int]) -> int:
        """The first token of the answer; one that holds the end of what stands before it too counts as the answer's."""
        at = cut(self.model.tokenizer, ids, prompt, len(head))
        return shared(ids, encode(self.model, [head])[0] if head else []) if at is None else at[1]

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
        vectors = values[:, :, 0].float().cpu()
        if self.site in STREAM:
            real = real & ~outliers(vectors.norm(dim=-1), real)
        weight = real[:, :, None].float()
        return (vectors * weight).sum(1) / weight.sum(1)
