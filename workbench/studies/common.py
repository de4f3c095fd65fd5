"""What studies over the UDHR statements share: the split, prompts by side and claim, captures into one store, export."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .. import prompts as source
from ..activations import Activations, capture
from ..core.errors import MissingTool
from ..core.provenance import content_hash
from ..core.seeds import numpy_rng
from ..evaluation import answers_of, choose_answers
from ..figures import Panel, browser, export, write_report
from ..models import info, planted, untrained_copy
from ..models.tokens import encode
from ..prompts import PromptSet, Split, grouped_split
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
        names = [[i.identity for i in source.identities()], [r.right for r in source.rights()]]
        self.split = self._split(pd.MultiIndex.from_product(names, names=["identity", "right"]).to_frame(index=False))

    def _can_choose(self) -> bool:
        return all(len(self.model.tokenizer(w, add_special_tokens=False)["input_ids"]) == 1 for w in (" A", " B"))

    def _split(self, rows: pd.DataFrame) -> Split:
        if self.planted is None:
            return grouped_split(rows, seed=self.set.seed)
        held = {"identity": self.planted["held_out_identities"], "right": self.planted["held_out_rights"]}
        return Split(
            test={k: frozenset(v) for k, v in held.items()},
            train={k: frozenset(set(rows[k]) - set(v)) for k, v in held.items()},
        )

    def _prompts(self, template: str, claim: str | None, n: int, side: str | None) -> PromptSet:
        held: dict[str, Any] = {} if side is None else {"identities": sorted(getattr(self.split, side)["identity"])}
        if side is not None and "right" in getattr(self.split, side):
            held["rights"] = sorted(getattr(self.split, side)["right"])
        return source.udhr(template, claim, n=n, answers=self.words, seed=self.set.seed, **held)

    def _pushed(self, claim: str, size: int, side: str) -> PromptSet:
        """Each identity and right under one of two prompt forms, by the toss of a coin: neither goes with a form."""
        one, two = (self._prompts(t, claim, size, side) for t in READ)
        cells = {(p.identity, p.right): None for p in one}
        coin = dict(zip(cells, numpy_rng(self.set.seed, "form", side).integers(0, 2, len(cells)), strict=True))
        return PromptSet((a, b)[coin[a.identity, a.right]] for a, b in zip(one, two, strict=True))

    def _blank(self, base: PromptSet) -> Activations | None:
        """Read an untrained copy; a model without a Hugging Face configuration has none."""
        if getattr(getattr(self.model, "original_model", None), "config", None) is None:
            return None
        key = [self.info.key(), self.set.seed, "untrained"]

        def make(folder: Path) -> Activations:
            blank = untrained_copy(self.model, seed=self.set.seed)
            return capture(blank, base, store=folder, progress=self.progress, note="read an untrained copy")

        return self.run.activations("read an untrained copy", key, base.hash, make)

    def _capture(self, name: str, prompts: PromptSet) -> Activations:
        """Read activations and, in the same pass, the answers; all conditions lie in one store."""
        acts = self.run.activations(
            name, [self.info.key(), "resid_post", "last"], prompts.hash,
            lambda folder: capture(self.model, prompts, store=folder, logits="answers", progress=self.progress, note=name),
        )  # fmt: skip
        asked = answers_of(acts)
        tokens = [len(x) for x in encode(self.model, asked["identity"].tolist())]
        return acts.with_column("answer", asked["answer"]).with_column("identity_tokens", np.array(tokens) - (self.info.bos is not None))

    @property
    def layer(self) -> int:
        """The layer that single-layer statements use, fixed before any result: two thirds of the way up."""
        return min(self.info.n_layers - 1, self.info.n_layers * 2 // 3)


def export_panels(run: Run, shown: list[Panel]) -> tuple[str, ...]:
    """Write the figures of a run, with stills where a browser is found, and return the formats of the stills."""
    stills = ("png", "svg") if browser() else ()
    note = ""
    try:
        _export(run, shown, stills)
    except MissingTool as error:
        stills, note = (), str(error)
    if not stills:
        run.record["figures"] = f"html only: {note or 'no Chrome or Chromium found'}"
    return stills


def pick(table: pd.DataFrame, **where: Any) -> pd.DataFrame:
    """Return the rows of a table with these values."""
    for name, value in where.items():
        table = table[table[name] == value]
    return table


def publish(
    run: Run, study: Any, *, findings: list[str], panels: list[Panel], title: str, subtitle: str, convention: str, limits: tuple[str, ...],
    made: list[str], warning: str = "",
) -> None:  # fmt: skip
    """Write a study's figures and its report into the run's folder; arguments as for `write_report`."""
    run.findings = findings
    stills = export_panels(run, panels)
    write_report(
        run.report, title=title, subtitle=subtitle, findings=findings, convention=convention, panels=panels, limits=limits, tables=run.tables,
        made=[*made, "Rerunning the command with the same folder repeats nothing that is cached; run.json holds settings, versions and times."],
        steps=run.record["steps"], settings={**asdict(study.set), "model": study.info.key(), **run.record["versions"], "commit": run.record["code"]},
        stills=stills, warning=warning,
    )  # fmt: skip


def _export(run: Run, shown: list[Panel], stills: tuple[str, ...]) -> None:
    """Write the figures that have changed since they were last written (drawing stills takes a browser and seconds)."""
    folder, seal = run.folder / "figures", run.folder / "cache" / "figures.json"
    old = json.loads(seal.read_text(encoding="utf-8")) if seal.is_file() else {}
    new = {p.name: content_hash(p.figure.to_json(), run.tables[p.table].to_csv(), stills) for p in shown}
    fresh = [p for p in shown if old.get(p.name) != new[p.name] or not (folder / f"{p.name}.html").is_file()]
    export({p.name: p.figure for p in fresh}, folder, tables={p.name: run.tables[p.table] for p in fresh}, formats=("html", *stills))
    seal.write_text(json.dumps(new), encoding="utf-8")
