"""What studies over the UDHR statements share: the split, prompts by side and claim, captures into one store, export."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..activations import Activations, capture
from ..core.seeds import numpy_rng
from ..evaluation import answers_of, choose_answers
from ..figures import Finding, Panel
from ..models import info, planted, untrained_copy
from ..models.tokens import encode
from ..prompts import PromptSet, Split, check_sides, grouped_split, statements
from .planning import Later
from .render import publish_document
from .run import Run

FIT = "no claim"
READ = ("since_claim", "consider_claim")


class Rows:
    """The steps of a study share the model, its answer words, the split and the run."""

    set: Any

    def __init__(self, model: Any, settings: Any, run: Run, progress: bool | None) -> None:
        self.model = model
        self.set = settings
        self.run = run
        self.progress = progress
        self.info = info(model)
        self.planted = planted(model)
        self.words = choose_answers(model)
        self.source = statements(getattr(settings, "data", ""), getattr(settings, "columns", None))
        self.split = self._split(self.source.rows())
        check_sides(self.source, self.split)

    def _can_choose(self) -> bool:
        return all(len(self.model.tokenizer(w, add_special_tokens=False)["input_ids"]) == 1 for w in (" A", " B"))

    def _split(self, rows: pd.DataFrame) -> Split:
        if self.source.own:
            # with two columns the test rows are those held out in both: half and half leaves enough of them
            two = rows["identity"].nunique() > 1 and rows["right"].nunique() > 1
            return grouped_split(rows, test=0.45 if two else 0.35, seed=self.set.seed)
        if self.planted is None or self.source.name != "udhr":
            return grouped_split(rows, seed=self.set.seed)
        held = {"identity": self.planted["held_out_identities"], "right": self.planted["held_out_rights"]}
        return Split(
            test={k: frozenset(v) for k, v in held.items()},
            train={k: frozenset(set(rows[k]) - set(v)) for k, v in held.items()},
        )

    def _prompts(self, template: str, claim: str | None, n: int | None, side: str | None) -> PromptSet:
        held = {} if side is None else {k: sorted(v) for k, v in getattr(self.split, side).items()}
        return self.source.prompts(template, claim, n=n, answers=self.words, seed=self.set.seed, held=held)

    def _pushed(self, claim: str, size: int, side: str) -> PromptSet:
        """Each identity and right under one of two prompt forms, by the toss of a coin: neither goes with a form."""
        one, two = (self._prompts(t, claim, size, side) for t in READ)
        cells = {(p.identity, p.right): None for p in one}
        coin = dict(zip(cells, numpy_rng(self.set.seed, "form", side).integers(0, 2, len(cells)), strict=True))
        return PromptSet((a, b)[coin[a.identity, a.right]] for a, b in zip(one, two, strict=True))

    def _blank(self, base: PromptSet) -> Any:
        """Read an untrained copy; a model without a Hugging Face configuration has none."""
        if getattr(getattr(self.model, "original_model", None), "config", None) is None:
            return None
        key = [self.info.key(), self.set.seed, "untrained"]

        def make(folder: Path) -> Activations:
            blank = untrained_copy(self.model, seed=self.set.seed)
            return capture(blank, base, store=folder, progress=self.progress, note="read an untrained copy")

        return self.run.activations("read an untrained copy", key, base, make)

    def _read(
        self, name: str, prompts: PromptSet, *, site: str = "resid_post", position: str = "last", layers: Sequence[int] | None = None,
        answers: bool = False,
    ) -> Any:  # fmt: skip
        """Return activations (in a rehearsal a stand-in) from the cache, in which every study's readings of one model, site and position lie together."""
        wanted = list(range(self.info.n_layers)) if layers is None else list(layers)

        def make(folder: Path) -> Activations:
            return capture(
                self.model, prompts, site=site, layers=wanted, position=position, store=folder, logits="answers" if answers else None,
                progress=self.progress, note=name,
            )  # fmt: skip

        return self.run.activations(name, [self.info.key(), site, position], prompts, make, layers=wanted, answers=answers)

    def _capture(self, name: str, prompts: PromptSet) -> Any:
        """Read activations and, in the same pass, the answers."""
        acts = self._read(name, prompts, answers=True)
        if isinstance(acts, Later):
            return acts
        asked = answers_of(acts)
        tokens = [len(x) for x in encode(self.model, asked["identity"].tolist())]
        return acts.with_column("answer", asked["answer"]).with_column("identity_tokens", np.array(tokens) - (self.info.bos is not None))

    @property
    def layer(self) -> int:
        """The layer that single-layer statements use, fixed before any result: two thirds of the way up."""
        return min(self.info.n_layers - 1, self.info.n_layers * 2 // 3)


def pick(table: pd.DataFrame, **where: Any) -> pd.DataFrame:
    """Return the rows of a table with these values."""
    for name, value in where.items():
        table = table[table[name] == value]
    return table


def _linked(finding: str, sources: Mapping[str, tuple[str, ...]], run: Run) -> str:
    if getattr(finding, "tables", ()):
        return finding
    tables = next((t for beginning, t in sources.items() if finding.startswith(beginning)), ())
    return Finding(finding, *(t for t in tables if t in run.tables))


def with_n(panel: Panel) -> str:
    """Return a figure's caption with the number of items behind its points, where the rows say it and the caption does not."""
    rows = next(iter(panel.drawing.rows.values()))
    if "n=" in panel.caption or "n" not in rows or not len(rows["n"].dropna()):
        return panel.caption
    return f"{panel.caption} n={span(rows)} per point."


def span(table: pd.DataFrame) -> str:
    """Return the number of items behind the rows of a table: one number, or the smallest and the largest."""
    low, high = int(table["n"].min()), int(table["n"].max())
    return str(low) if low == high else f"{low} to {high}"


def publish(
    run: Run, study: Any, *, findings: list[str], panels: list[Panel], title: str, subtitle: str, convention: str, limits: tuple[str, ...],
    made: list[str], warning: str = "", sources: Mapping[str, tuple[str, ...]] | None = None,
) -> None:  # fmt: skip
    """Write a study's figures and its report into the run's folder.

    Args:
        run, study: The run and what computed it.
        findings, panels, title, subtitle, convention, limits, made, warning: As for `write_report`.
        sources: Tables that a finding's numbers stand in, by how the finding begins; for findings that do not say so themselves.
    """
    settings = {**asdict(study.set), "model": study.info.key(), **run.record["versions"], "commit": run.record["code"]}
    findings = [_linked(f, sources or {}, run) for f in findings]
    rerun = "Rerunning the command repeats nothing that is cached; run.json holds settings, versions and times."
    publish_document(
        run, findings=findings, panels=[replace(p, caption=with_n(p)) for p in panels], title=title, subtitle=subtitle, convention=convention,
        limits=list(limits), warning=warning, made=[*made, rerun], settings=settings,
    )  # fmt: skip
