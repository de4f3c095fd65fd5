"""A sweep as a document: models x datasets x templates x sites x layers x methods x seeds, in a toml file or a dataclass.

    name = "two-models"
    study = "reading"                      # any study (`workbench studies`), or the path of one of your own
    models = ["udhr-organism", "gpt2"]     # every combination of models, datasets, templates, sites, positions, seeds and [grid] is a cell;
                                           # of a study of several models: [{weak = "gpt2", strong = "gpt2-xl"}]
    datasets = ["udhr", "mine.csv"]
    sites = ["resid_post", "attn_out"]
    seeds = [0, 1]
    layers = [2, 3, 4]                     # layers, methods, claims: lists that a cell takes whole
    methods = ["logistic", "ccs"]
    claims = ["harm"]
    fast = true

    [columns]                              # of tables of your own
    statement = "text"

    [grid]                                 # any other setting of the study, all of its values
    train = [100, 400]

    [settings]                             # any other setting, one value
    resamples = 200

Everything is checked before anything runs.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

from ...core.errors import BadInput
from ...core.provenance import content_hash, versions
from ...models import bundled_models, check_source
from ...models.outline import folder_content
from ...models.shelf import sha256_of
from ...models.source import locate
from ..keys import content_of
from ..registry import find, is_path, source_of
from ..roles import DEFAULT_MODEL, roles_of
from ..settings import settings_of
from ..study import Study
from .toml import key_text, toml_text

TOML = "sweep.toml"
# axis of the sweep -> the setting of a study that takes one of its values
AXES = {"datasets": "data", "templates": "template", "sites": "site", "positions": "position"}
LISTS = ("layers", "methods", "claims", "sites", "positions")  # taken inside a cell by studies that say so (`Study.inside`)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One run of a sweep.

    Attributes:
        name: Its folder.
        models: What each role of the study is given.
        axes: What tells it from the others, in order.
        settings: Settings of its study, without the seed.
        seed: Its seed.
        key: Hash of all that decides it but the code.
        code: Hash of the code.
    """

    name: str
    models: Mapping[str, str]
    axes: Mapping[str, Any]
    settings: Mapping[str, Any]
    seed: int
    key: str
    code: str


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """A grid of runs of one study. The same as a toml file (see the module), to be written in a notebook.

    Attributes:
        name: Name of its folder.
        study: Which study each cell runs.
        models: Bundled names, hub names or folders; for a study of several models, mappings from its roles to these.
        datasets: "udhr", "requests" or tables of your own; for the studies that take data.
        templates, sites, positions: Where a study takes one of these.
        seeds: Each draws everything anew.
        layers, methods, claims: Taken whole by each cell. Empty: the study's default.
        columns: Which column of a table of your own holds which field.
        grid: Other settings of the study with all their values: every combination is a cell.
        settings: Other settings of the study, the same in every cell.
        fast: Begin from the study's small grid.
        description: What the sweep asks, in words; the report shows it.

    Raises:
        UnknownStudy, UnknownModel, BadInput: Before anything runs; the message names the key.

    Example:
        >>> import workbench as wb
        >>> sweep = wb.Sweep(name="two sites", sites=("resid_post", "attn_out"), seeds=(0, 1), fast=True)
        >>> [cell.name for cell in sweep.cells()][:2]
        ['site-resid_post_seed-0', 'site-resid_post_seed-1']
    """

    name: str
    study: str = "reading"
    models: Sequence[str | Mapping[str, str]] = (DEFAULT_MODEL,)
    datasets: Sequence[str] = ()
    templates: Sequence[str] = ()
    sites: Sequence[str] = ()
    positions: Sequence[str] = ()
    seeds: Sequence[int] = (0,)
    layers: Sequence[int] = ()
    methods: Sequence[str] = ()
    claims: Sequence[str] = ()
    columns: Mapping[str, str] = field(default_factory=dict)
    grid: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    fast: bool = False
    description: str = ""

    def __post_init__(self) -> None:
        study = find(self.study)
        if not re.fullmatch(r"[\w][\w .+-]*", self.name):
            raise BadInput(f"name {self.name!r}: letters, digits, spaces and . + - _ only: it names a folder")
        for axis in ("models", "datasets", "templates", "sites", "positions", "seeds", "layers", "methods", "claims"):
            value = getattr(self, axis)
            if isinstance(value, str):  # a sequence, of letters
                raise BadInput(f"{axis} = {value!r}: a list, even of one")
            object.__setattr__(self, axis, tuple(value))
            if len({repr(v) for v in value}) < len(value):
                raise BadInput(f"{axis} names something twice: {', '.join(map(str, value))}")
        for axis in ("models", "seeds"):
            if not getattr(self, axis):
                raise BadInput(f"{axis}: one at least")
        self._check_places(study)
        for model in self.models:
            for name in roles_of(study, **_as_roles(study, model)).values():
                check_source(name)
        self.cells()

    def _check_places(self, study: Study) -> None:
        """Each setting stands in one place of the document."""
        for name, values in self.grid.items():
            if not values:
                raise BadInput(f"[grid] {name}: one value at least")
            if name in self.settings:
                raise BadInput(f"{name} stands under [grid] and under [settings]")
        taken = {"seed": "seeds", "model": "models", "fast": "fast", "study": "study", "name": "name"}
        taken |= {"columns": "columns"} if self.columns else {}
        taken |= {setting: axis for axis, setting in AXES.items() if getattr(self, axis)}
        taken |= {inner: inner for inner in LISTS if getattr(self, inner) and inner in study.fields}
        for name in (*self.grid, *self.settings):
            if name in taken:
                raise BadInput(f"{name} stands under [grid] or [settings]; the sweep has a key for it: {taken[name]}")

    def _inside(self, study: Study) -> dict[str, Any]:
        """Settings that are the same in every cell."""
        out = dict(self.settings)
        for name in LISTS:
            value = getattr(self, name)
            if value and name in study.inside:
                out[name] = value
            elif value and not self._axis(name, study):
                raise BadInput(f"the study {study.name!r} has no {name}; it has: {', '.join(sorted(study.fields))}")
        if self.columns:
            if "columns" not in study.fields:
                raise BadInput(f"the study {study.name!r} takes no table of your own, so no [columns]")
            out["columns"] = dict(self.columns)
        return out

    @staticmethod
    def _axis(name: str, study: Study) -> str:
        """The setting that an axis gives single values of, "" where the study has none or takes the whole list."""
        setting = AXES.get(name, "")
        return setting if setting in study.fields and name not in study.inside else ""

    def _axes(self, study: Study) -> dict[str, Sequence[Any]]:
        """Every axis with its values: models first, so that cells of one model follow each other."""
        axes: dict[str, Sequence[Any]] = {"model": self.models} if study.models else {}
        for name in AXES:
            if values := getattr(self, name):
                setting = self._axis(name, study)
                if not setting and name not in study.inside:
                    raise BadInput(f"the study {study.name!r} takes no {name}; it has: {', '.join(sorted(study.fields))}")
                if setting:
                    axes[setting] = values
        return axes | dict(self.grid) | {"seed": self.seeds}

    def cells(self) -> list[Cell]:
        """Return every cell, those of one model together.

        Returns:
            The cells, in the order in which they run.

        Raises:
            BadInput: The study has no such setting, or it cannot have this value.
        """
        study = find(self.study)
        inside, axes = self._inside(study), self._axes(study)
        shown, code = {k: _short(k, v) for k, v in axes.items()}, content_hash(source_of(study), versions())
        out = []
        for values in product(*axes.values()):
            chosen = dict(zip(axes, values, strict=True))
            own = {k: v for k, v in chosen.items() if k not in ("model", "seed")}
            settings_of(study, seed=chosen["seed"], fast=self.fast, **inside, **own)
            told = {k: shown[k][repr(v)] if k != "seed" else v for k, v in chosen.items() if len(axes[k]) > 1}
            models = roles_of(study, **_as_roles(study, chosen["model"])) if study.models else {}
            # a table and a model by what they hold, not by where they lie: workers and later runs may see them elsewhere
            decides = {**inside, **chosen, "model": {role: _weights(m) for role, m in models.items()}}
            decides |= {name: _content(str(decides[name])) for name in study.inputs if decides.get(name)}
            out.append(
                Cell(
                    name="_".join(f"{k}-{_slug(str(v))}" for k, v in told.items()) or "all",
                    models=models,
                    axes=told,
                    settings={**inside, **own},
                    seed=chosen["seed"],
                    key=content_hash(study.name, decides, self.fast),
                    code=code,
                )
            )
        if len({c.name for c in out}) < len(out):  # two folders of one last name, for example
            out = [replace(c, name=f"{c.name}-{c.key[:6]}") for c in out]
        return out

    def resolved(self) -> Sweep:
        """Return the sweep with folders and files named from the root, so that workers find them wherever they run."""

        def whole(value: Any) -> Any:
            if isinstance(value, Mapping):
                return {k: whole(v) for k, v in value.items()}
            named = value in (*bundled_models(), "bundled", "udhr", "requests", "")
            return value if named or not Path(value).expanduser().exists() else str(Path(value).expanduser().resolve())

        study = find(self.study)
        given = {k: whole(v) if k in study.inputs and isinstance(v, str) else v for k, v in self.settings.items()}
        where = whole(self.study) if is_path(self.study) else self.study
        return replace(self, study=where, models=tuple(map(whole, self.models)), datasets=tuple(map(whole, self.datasets)), settings=given)

    def to_toml(self) -> str:
        """Return the sweep as a toml file."""
        flat, tables = [], []
        for f in fields(self):
            value = getattr(self, f.name)
            if isinstance(value, Mapping):
                if value:
                    tables += ["", f"[{f.name}]", *(f"{key_text(k)} = {toml_text(v)}" for k, v in value.items())]
            elif value != f.default or f.name == "study":
                flat.append(f"{f.name} = {toml_text(value)}")
        return "\n".join([*flat, *tables]) + "\n"

    def _repr_html_(self) -> str:
        cells = self.cells()
        names = "".join(f"<li><code>{html.escape(c.name)}</code></li>" for c in cells[:12])
        more = f"<li>… {len(cells) - 12} more</li>" if len(cells) > 12 else ""
        return f"<p><b>{html.escape(self.name)}</b>: {len(cells)} cells of the study {html.escape(self.study)}</p><ul>{names}{more}</ul>"


def _as_roles(study: Study, model: str | Mapping[str, str]) -> dict[str, Any]:
    """What `roles_of` is given for one entry of `models`."""
    if isinstance(model, Mapping):
        return {"models": model}
    return {"model": model} if study.models else {}


def _content(data: str) -> Any:
    """What a table or a folder of data holds; a dataset's name as it is."""
    path = Path(data)
    return content_of(path) if data and path.exists() else data


def _weights(model: str) -> Any:
    """What a model folder or file holds; a hub name as it is."""
    where, _ = locate(model)
    path = Path(where)
    if path.is_file():
        return sha256_of(path)
    if not path.is_dir():
        return where
    # the time of the last change of a file's entry cannot be set by hand: what it says is the same holds the same
    state = tuple((p.name, (s := p.stat()).st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino) for p in sorted(path.iterdir()) if p.is_file())
    return _hashed(path.resolve(), state)


@cache
def _hashed(folder: Path, state: tuple[Any, ...]) -> str:
    return content_hash(folder_content(folder))


def _short(name: str, values: Sequence[Any]) -> dict[str, str]:
    """Values of an axis by the names they go by in tables and folders: paths by their last part, as long as that tells them apart."""
    ends = (".csv", ".jsonl", ".ndjson", ".parquet")

    def short(value: Any) -> str:
        if isinstance(value, Mapping):
            return " ".join(Path(str(v)).name for v in value.values())
        if isinstance(value, list | tuple):
            return " ".join(map(str, value))
        text = str(value)
        last = Path(text).name if name in ("model", "data") else text
        return last.removesuffix(Path(last).suffix) if last.endswith(ends) else last

    found = [short(v) for v in values]
    return {repr(v): (f if found.count(f) == 1 else str(v)) for v, f in zip(values, found, strict=True)}


def _slug(text: str) -> str:
    return re.sub(r"[^\w.+-]+", "-", text).strip("-.") or "x"
