"""A sweep as a document: models x datasets x templates x sites x layers x methods x seeds, in a toml file or a dataclass.

    name = "two-models"
    study = "reading"                      # or udhr, probes, geometry, steering, patching, caa
    models = ["udhr-organism", "gpt2"]     # every combination of models, datasets, templates, sites, positions, seeds and [grid] is a cell
    datasets = ["udhr", "mine.csv"]
    sites = ["resid_post", "attn_out"]
    seeds = [0, 1]
    layers = [2, 3, 4]                     # layers, methods and claims lie inside a cell
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

import hashlib
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from itertools import product
from pathlib import Path
from typing import Any

from ..core.errors import BadInput, UnknownStudy, unknown
from ..core.provenance import content_hash
from ..models import bundled_models, check_source
from ..models.source import locate
from .names import STUDIES
from .running import modules, settings_of
from .sweep_file import beside, check_types, key_text, toml_text

# axis of the sweep -> setting of a study; the first that the study has is taken
AXES = {"datasets": ("data",), "templates": ("template",), "sites": ("site",), "positions": ("position",)}
INSIDE = ("layers", "methods", "claims", "sites", "positions", "behaviours", "coefficients")
_PLURAL = {"seeds": "seed", "models": "model"}


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One run of a sweep.

    Attributes:
        name: Its folder.
        model: What `load_model` takes.
        axes: What tells it from the others, in order.
        settings: Settings of its study, without the seed.
        seed: Its seed.
        key: Hash of all that decides it but the weights and the code.
    """

    name: str
    model: str
    axes: Mapping[str, Any]
    settings: Mapping[str, Any]
    seed: int
    key: str


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """A grid of runs of one study. The same as a toml file (see the module), to be written in a notebook.

    Attributes:
        name: Name of its folder.
        study: Which study each cell runs.
        models: Bundled names, hub names or folders.
        datasets: "udhr", "requests" or tables of your own; for the studies that take data.
        templates, sites, positions: Where a study takes one of these.
        seeds: Each draws everything anew.
        layers, methods, claims: Inside each cell; none for what the study does by itself.
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
    models: Sequence[str] = ("bundled",)
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
        if self.study not in STUDIES:
            raise unknown(UnknownStudy, "study", self.study, STUDIES)
        if not re.fullmatch(r"[\w][\w .+-]*", self.name):
            raise BadInput(f"name {self.name!r}: letters, digits, spaces and . + - _ only: it names a folder")
        for one in ("models", "datasets", "templates", "sites", "positions", "seeds", "layers", "methods", "claims"):
            value = getattr(self, one)
            if isinstance(value, str):  # a sequence, of letters
                raise BadInput(f"{one} = {value!r}: a list, even of one")
            object.__setattr__(self, one, tuple(value))
            if len(set(value)) < len(value):
                raise BadInput(f"{one} names something twice: {', '.join(map(str, value))}")
        for one in ("models", "seeds"):
            if not getattr(self, one):
                raise BadInput(f"{one}: one at least")
        for name, values in self.grid.items():
            if not values:
                raise BadInput(f"[grid] {name}: one value at least")
            if name in self.settings:
                raise BadInput(f"{name} stands under [grid] and under [settings]")
        taken = {"seed": "seeds", "model": "models", "fast": "fast", "study": "study", "name": "name"} | (
            {"columns": "columns"} if self.columns else {}
        )
        taken |= {setting: axis for axis, settings in AXES.items() for setting in settings if getattr(self, axis)}
        taken |= {inner: inner for inner in INSIDE if getattr(self, inner, ())}
        for name in (*self.grid, *self.settings):
            if name in taken:
                raise BadInput(f"{name} stands under [grid] or [settings]; the sweep has a key for it: {taken[name]}")
        for model in self.models:
            check_source(model)
        self.cells()

    def _inside(self) -> dict[str, Any]:
        """Settings that are the same in every cell."""
        known = set(modules(self.study)[0].Settings.__dataclass_fields__)
        out = dict(self.settings)
        for name in INSIDE:
            value = getattr(self, name, ())
            if value and name in known:
                out[name] = value
            elif value and not self._axis(name, known):
                raise BadInput(f"the study {self.study!r} has no {name}; it has: {', '.join(sorted(known))}")
        if self.columns:
            if "columns" not in known:
                raise BadInput(f"the study {self.study!r} takes no table of your own, so no [columns]")
            out["columns"] = dict(self.columns)
        return out

    @staticmethod
    def _axis(name: str, known: set[str]) -> str:
        return next((s for s in AXES.get(name, ()) if s in known and name not in known), "")

    def cells(self) -> list[Cell]:
        """Return every cell, those of one model together.

        Raises:
            BadInput: The study has no such setting, or it cannot have this value.
        """
        known = set(modules(self.study)[0].Settings.__dataclass_fields__)
        inside = self._inside()
        axes: dict[str, Sequence[Any]] = {"model": self.models}
        for name in AXES:
            if values := getattr(self, name):
                setting = self._axis(name, known)
                if not setting and name not in known:
                    raise BadInput(f"the study {self.study!r} takes no {name}; it has: {', '.join(sorted(known))}")
                if setting:
                    axes[setting] = values
        axes |= dict(self.grid) | {"seed": self.seeds}
        shown = {k: _short(k, v) for k, v in axes.items()}
        weights = {m: _weights(m) for m in self.models}
        out = []
        for values in product(*axes.values()):
            chosen = dict(zip(axes, values, strict=True))
            own = {k: v for k, v in chosen.items() if k not in ("model", "seed")}
            settings_of(self.study, seed=chosen["seed"], fast=self.fast, **inside, **own)
            told = {k: shown[k][repr(v)] if k != "seed" else v for k, v in chosen.items() if len(axes[k]) > 1}
            name = "_".join(f"{k}-{_slug(str(v))}" for k, v in told.items()) or "all"
            # a table by what it holds, not by where it lies: workers and later runs may see it elsewhere
            whole = {**inside, **chosen}
            key = content_hash(
                self.study, whole | {"data": _content(str(whole.get("data", ""))), "model": weights[chosen["model"]]}, self.fast
            )
            out.append(
                Cell(name=name, model=chosen["model"], axes=told, settings={**inside, **own}, seed=chosen["seed"], key=key)
            )  # fmt: skip
        if len({c.name for c in out}) < len(out):  # two folders of one last name, for example
            out = [Cell(**(asdict(c) | {"name": f"{c.name}-{c.key[:6]}"})) for c in out]
        return out

    def resolved(self) -> Sweep:
        """Return the sweep with folders and files named from the root, so that workers find them wherever they run."""

        def whole(value: str) -> str:
            named = value in (*bundled_models(), "bundled", "udhr", "requests", "")
            return value if named or not Path(value).expanduser().exists() else str(Path(value).expanduser().resolve())

        given = {k: whole(v) if k == "data" and isinstance(v, str) else v for k, v in self.settings.items()}
        return replace(self, models=tuple(map(whole, self.models)), datasets=tuple(map(whole, self.datasets)), settings=given)

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
        import html

        cells = self.cells()
        names = "".join(f"<li><code>{html.escape(c.name)}</code></li>" for c in cells[:12])
        more = f"<li>… {len(cells) - 12} more</li>" if len(cells) > 12 else ""
        return f"<p><b>{html.escape(self.name)}</b>: {len(cells)} cells of the study {html.escape(self.study)}</p><ul>{names}{more}</ul>"


def _content(data: str) -> Any:
    """What a table or a folder of data holds."""
    path = Path(data)
    if not data or not path.exists():
        return data
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    return [(p.relative_to(path).as_posix(), hashlib.sha256(p.read_bytes()).hexdigest()) for p in files]


def _weights(model: str) -> Any:
    """What tells a model folder from what lay there before; weights are too large to read for this."""
    where, _ = locate(model)
    if not Path(where).is_dir():
        return where
    return [where, *((p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in sorted(Path(where).iterdir()) if p.is_file())]


def _short(name: str, values: Sequence[Any]) -> dict[str, str]:
    """Values of an axis by the names they go by in tables and folders: paths by their last part, as long as that tells them apart."""
    ends = (".csv", ".jsonl", ".ndjson", ".parquet")

    def short(value: Any) -> str:
        if isinstance(value, list | tuple):
            return " ".join(map(str, value))
        text = str(value)
        last = Path(text).name if name in ("model", "data") else text
        return last.removesuffix(Path(last).suffix) if last.endswith(ends) else last

    found = [short(v) for v in values]
    return {repr(v): (f if found.count(f) == 1 else str(v)) for v, f in zip(values, found, strict=True)}


def _slug(text: str) -> str:
    return re.sub(r"[^\w.+-]+", "-", text).strip("-.") or "x"


def load_sweep(path: str | Path) -> Sweep:
    """Read a sweep from a toml file; tables of your own and model folders are looked for from where the file lies, too.

    Raises:
        BadInput: There is no such file, it is no toml, or it has a key that a sweep has not.
    """
    path = Path(path)
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise BadInput(f"no file {str(path)!r}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"{path.name} is not a toml file: {error}") from None
    known = [f.name for f in fields(Sweep)]
    for key in given:
        if key not in known:
            hint = f" Did you mean {key + 's'!r}?" if key + "s" in known else " A setting of the study goes under [settings] or [grid]."
            raise BadInput(f"{path.name}: a sweep has no {key!r}; it has: {', '.join(known)}.{hint}")
    check_types(path.name, given)
    given.setdefault("name", path.stem)
    for key in ("models", "datasets"):
        if isinstance(given.get(key), list):
            given[key] = [beside(path.parent, v) for v in given[key]]
    return Sweep(**given)
