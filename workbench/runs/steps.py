"""The steps of a study: the only way to compute.

`run.table`, `run.activations` and `run.folder` have a name, a key and a `make`. The result of `make` is cached by content: what it was
made of (models, settings, the contents of files) and by which code. A step whose result is cached is not computed again, so a finished
run makes no forward pass. Models can be loaded, and results of earlier steps can be looked into, inside `make` only; so a plan can walk
through a study without computing anything.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

import pandas as pd

from ..activations import Activations, capture
from ..core.errors import BadInput, BrokenStudy, DamagedRun, DamagedStore, UnknownLayer, WrongModel
from ..prompts import PromptSet
from .amount import Amount, Tally
from .cache import SEAL
from .handle import ModelHandle, inside_step, is_inside_step
from .keys import settings_key, settled
from .made import as_tables
from .record import check_name
from .registry import source_of
from .run import Run
from .study import Study

RESERVED = ("tables", "figures", "inputs", "cells")


class Steps:
    """What a study computes with; it is given to `compute` as `run`.

    Attributes:
        run: The run that is being filled.
        tables: The result tables that were made so far.
        progress: Whether long steps show their progress; `None` for in a terminal or a notebook only.
    """

    def __init__(self, run: Run, study: Study, settings: Any, models: Mapping[str, ModelHandle], *, progress: bool | None = None) -> None:
        self.run = run
        self.progress = progress
        self.source = source_of(study)
        self.everything = [{role: m.key for role, m in models.items()}, settings_key(study, settings)]
        self._used: set[tuple[str, str]] = set()
        self.tally = Tally()

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """The result tables that were made so far.

        Returns:
            Tables by name.
        """
        return self.run.tables

    @overload
    def table(
        self,
        name: str,
        key: Any = None,
        make: Callable[[], pd.DataFrame] | None = None,
        *,
        doing: str = "",
        keep: bool = True,
        items: int = 0,
        tokens: float = 0,
    ) -> pd.DataFrame: ...
    @overload
    def table(
        self,
        name: tuple[str, ...],
        key: Any = None,
        make: Callable[[], Mapping[str, pd.DataFrame]] | None = None,
        *,
        doing: str = "",
        keep: bool = True,
        items: int = 0,
        tokens: float = 0,
    ) -> dict[str, pd.DataFrame]: ...
    def table(
        self,
        name: Any,
        key: Any = None,
        make: Any = None,
        *,
        doing: str = "",
        keep: bool = True,
        items: int = 0,
        tokens: float = 0,
    ) -> Any:
        """Compute a table, or several, unless it is cached.

        Args:
            name: The table; a tuple of names for several that are made together.
            key: Everything that decides the result, JSON-like; a `Path` counts by what it holds. By default all models and settings of
                the run, which is never wrong; a narrower key lets other settings share the result. The code is always part of it.
            make: Makes the table; for several, a mapping from names to tables. Results of earlier steps are touched in here only, for in
                a plan there are none.
            doing: What the step does, for the log; by default its name.
            keep: Whether the table is a result (`tables/NAME.csv`, `run.tables`), or only an input of later steps.
            items: Items that the model reads for it, where that is what takes the time; for `--plan`.
            tokens: Tokens that the model computes for it, about, where `items` would not tell: pushed passes resume behind the tokens
                before the push. By default `items` as long as those that the study has read.

        Returns:
            The table, or a mapping from names to tables.

        Raises:
            BadInput: The name cannot be that of a table, or was used before.
        """
        names = (name,) if isinstance(name, str) else tuple(name)
        self._begin(doing or names[0], "table", names if keep else (), make)
        paths = {one: self.run.cache.table(one, self._key(key), self.source) for one in names}
        tables = self._tables(paths, make, doing or names[0], self.tally.declared(items, tokens), single=isinstance(name, str))
        if keep:
            self._publish(tables)
        return tables[name] if isinstance(name, str) else tables

    def choose(
        self,
        name: str,
        key: Any,
        make: Callable[[], pd.DataFrame],
        pick: Callable[[pd.DataFrame], Any],
        otherwise: Any,
        *,
        items: int = 0,
        tokens: float = 0,
    ) -> Any:
        """Compute a table and decide by it how the study goes on.

        What it decides may be used outside of a step: later steps can be made of it. A plan that finds no such table goes on with what
        would otherwise be taken.

        Args:
            name, key, make, items, tokens: As for `table`.
            pick: Decides by the table.
            otherwise: What a plan assumes.

        Returns:
            What was decided.
        """
        return pick(self.table(name, key, make, items=items, tokens=tokens))

    def _publish(self, tables: Mapping[str, pd.DataFrame]) -> None:
        for name, table in tables.items():
            self.run.keep(name, table)

    def _tables(self, paths: Mapping[str, Path], make: Any, doing: str, amount: Amount, *, single: bool) -> dict[str, pd.DataFrame]:
        started = time.perf_counter()
        tables = self._cached(paths, doing)
        cached = tables is not None
        if tables is None:
            self.run.say(f"  {doing} …")
            with inside_step(doing):
                computed = make()
            for name, table in as_tables(doing, tuple(paths), computed, single).items():
                self.run.cache.write(paths[name], table)
            # read back: what is computed now and what is found later are the same, to the dtype
            tables = {name: self.run.cache.read(path) for name, path in paths.items()}
        self.run.log(doing, started, cached, amount)
        return tables

    def _cached(self, paths: Mapping[str, Path], doing: str) -> dict[str, pd.DataFrame] | None:
        if not all(path.is_file() for path in paths.values()):
            return None
        try:
            return {name: self.run.cache.read(path) for name, path in paths.items()}
        except DamagedStore as error:
            self.run.say(f"  {doing}: {error}: computed anew")
            return None

    def activations(
        self,
        name: str,
        key: Any,
        prompts: PromptSet,
        make: Callable[[Path], Activations],
        *,
        layers: Sequence[int] | None = None,
        answers: bool = False,
    ) -> Activations:
        """Capture activations, unless they are cached; they stream into the cache and resume item by item.

        Args:
            name: What the step does, for the log.
            key: What decides the store: model, site, position. Prompt sets of one key share a folder.
            prompts: What is read.
            make: Receives the folder to stream to.
            layers: The layers that are needed; `None` for those that are there.
            answers: Whether the log-probabilities of the answers are needed.

        Returns:
            The activations, read from disk as they are needed.

        Raises:
            DamagedStore: A shard cannot be read and could not be mended.
        """
        self._begin(name, make=make)
        started = time.perf_counter()
        folder = self.run.cache.activations(settled(key))
        cached = True
        try:
            out = Activations.load(folder, prompts=prompts.hash, layers=layers)
            if answers and not out.answered:
                raise DamagedStore("read without answers")
        except (DamagedStore, WrongModel, UnknownLayer):  # none yet, unfinished, less than asked or damaged: capture resumes and mends it
            cached = False
            self.run.say(f"  {name} …")
            folder.parent.mkdir(parents=True, exist_ok=True)
            with inside_step(name):
                out = make(folder)
        self.run.log(name, started, cached, self.tally.reads(prompts, layers, folder.name))
        return out

    def read(
        self,
        name: str,
        model: ModelHandle,
        prompts: PromptSet,
        *,
        site: str = "resid_post",
        position: str = "last",
        layers: Sequence[int] | None = None,
        answers: bool = False,
    ) -> Activations:
        """Capture a model's activations on prompts, unless they are cached: `run.activations` with `wb.capture`.

        Args:
            name: What the step does, for the log.
            model: Handle of the model.
            prompts: What is read.
            site, position: Where, as for `wb.capture`.
            layers: Blocks; `None` for all.
            answers: Also keep the log-probabilities of the answers, from the same forward pass.

        Returns:
            The activations. Every study's readings of one model, site and position lie in one store.
        """
        wanted = list(range(model.info.n_layers)) if layers is None else list(layers)

        def make(folder: Path) -> Activations:
            return capture(
                model.load(),
                prompts,
                site=site,
                layers=wanted,
                position=position,
                store=folder,
                logits="answers" if answers else None,
                progress=self.progress,
                note=name,
            )

        return self.activations(name, [model.key, site, position], prompts, make, layers=wanted, answers=answers)

    def folder(self, name: str, key: Any = None, make: Any = None, *, doing: str = "", keep: bool = True, resumes: bool = False) -> Path:
        """Compute files (adapters, dictionaries, vectors, generated texts), unless they are cached.

        Args:
            name: The step; where it is kept, the folder's name in the run.
            key: As for `table`.
            make: Receives an empty folder and writes into it.
            doing: What the step does, for the log; by default its name.
            keep: Whether a copy is put into the run folder under this name.
            resumes: Whether `make` also receives a folder for how far it is, which outlives a kill and goes when the step is done.

        Returns:
            The folder in the cache: read from it, do not write to it.

        Raises:
            BadInput: The name cannot be that of a folder of a run.
        """
        self._begin(doing or name, "folder", (name,) if keep else (), make)
        started = time.perf_counter()
        path = self.run.cache.folder(name, self._key(key), self.source)
        cached = self._whole(path, doing or name)
        if not cached:
            self.run.say(f"  {doing or name} …")
            with inside_step(doing or name):
                self.run.cache.fill(path, make, resumes=resumes)
        if keep:
            self._copy(path, name)
        self.run.log(doing or name, started, cached, self.tally.declared())
        return path

    def _whole(self, path: Path, doing: str) -> bool:
        try:
            return self.run.cache.whole(path)
        except DamagedStore as error:
            self.run.say(f"  {doing}: {error}: computed anew")
            return False

    def _copy(self, path: Path, name: str) -> None:
        target = self.run.folder / name
        if target.is_symlink():
            raise DamagedRun(f"{name} in {self.run.folder.name} is a link; a run writes inside its own folder only")
        with self.run.cache.lock(target):
            shutil.rmtree(target, ignore_errors=True)  # that of an earlier run into this folder
            shutil.copytree(path, target, ignore=lambda folder, _: {SEAL} if Path(folder) == path else set())
        self.run.record["folders"] = sorted({*self.run.record.get("folders", []), name})

    def _key(self, key: Any) -> Any:
        return self.everything if key is None else settled(key)

    def _begin(self, doing: str, kind: str = "", names: Sequence[str] = (), make: Any = None) -> None:
        """Refuse a step that a plan could not see or that has nothing to do, and names that cannot be those of results."""
        if not callable(make):
            raise BrokenStudy(f"the step {doing!r} has no make=: give it a function that computes its result")
        if is_inside_step():
            raise BrokenStudy(
                f"the step {doing!r} begins inside another step, where no plan can see it: make it before, and use its result there"
            )
        for name in names:
            try:
                check_name(name, self.run.folder)
            except DamagedRun:
                raise BadInput(
                    f"{name!r} cannot be the name of a result: letters, digits, spaces and . + - _ only, or keep=False"
                ) from None
            if (kind == "folder" and name in RESERVED) or (kind, name) in self._used:
                raise BadInput(f"the name {name!r} is taken in this run; give the step another")
            self._used.add((kind, name))
