"""Where studies are found: folders of the package, entry points of installed packages, and files of the user's own.

    workbench/studies/NAME/study.py          a study of this package
    [project.entry-points."workbench.studies"]
    NAME = "package.module:STUDY"            a study of another package
    workbench run my_study.py                a file, or a folder that holds study.py

Each defines one `Study`, by custom called `STUDY`.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from importlib import metadata
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from ..core.errors import BadInput, BrokenStudy, UnknownStudy, WorkbenchError, unknown
from ..core.provenance import content_hash, source_hash
from .study import Study

GROUP = "workbench.studies"
HOME = Path(__file__).resolve().parents[1] / "studies"
# how results look, and the engine, which computes nothing itself: a change there recomputes no table
ASIDE = ("figures/", "runs/", "studies/", "cli.py", "doctor.py", "__init__.py", "core/show.py", "core/notebook.py", "core/machine.py")


def own_names() -> list[str]:
    """Return the names of this package's studies."""
    return sorted(p.parent.name for p in HOME.glob("*/study.py"))


def _entries() -> dict[str, metadata.EntryPoint]:
    return {e.name: e for e in metadata.entry_points(group=GROUP)}


def names() -> list[str]:
    """Return the names of the studies that are installed: this package's, then those of other packages."""
    own = own_names()
    return [*own, *(n for n in sorted(_entries()) if n not in own)]


def listed() -> dict[str, str]:
    """Return the studies that are installed with their questions. This package's are read without being imported."""
    out = {name: _asks(HOME / name / "study.py") for name in own_names()}
    for name in names():
        if name not in out:
            try:
                out[name] = find(name).asks
            except WorkbenchError as error:
                out[name] = f"cannot be loaded: {error}"
    return out


def _asks(path: Path) -> str:
    """The question in a study's file, read as text."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Study":
            for keyword in node.keywords:
                if keyword.arg == "asks":
                    return str(ast.literal_eval(keyword.value))
    return ""


def is_path(name: Any) -> bool:
    """Whether a study is named by its file or its folder."""
    text = str(name)
    return text.endswith(".py") or (("/" in text or Path(text).is_dir()) and (Path(text).expanduser() / "study.py").is_file())


def find(name: Any) -> Study:
    """Return a study.

    Args:
        name: A `Study`, the name of one that is installed, or the path of a file or of a folder that holds `study.py`.

    Returns:
        The study, with the file that it was declared in.

    Raises:
        UnknownStudy: No study of this name is installed.
        BadInput: There is no such file.
        BrokenStudy: The file cannot be imported, or defines no study.
    """
    if isinstance(name, Study):
        return name if name.file else replace(name, file=_file_of(name))
    text = str(name)
    if "\0" in text:
        raise BadInput(f"a study named {text[:60]!r}: no file and no study has such a name")
    if text in own_names():
        return _load_own(text)
    if text in (entries := _entries()):
        return _loaded(text, entries[text].load)
    if is_path(text):
        return _load_file(Path(text).expanduser())
    if "/" in text or "." in text:
        raise BadInput(
            f"no file {text!r}; a sweep is a .toml file, a study of your own a .py file, and the studies are: {', '.join(names())}"
        )
    raise unknown(UnknownStudy, "study", text, names())


@cache
def _load_own(name: str) -> Study:
    module = importlib.import_module(f"workbench.studies.{name}.study")
    return _with_file(_declared(module, name), module)


def _loaded(name: str, load: Any) -> Study:
    try:
        study = load()
    except Exception as error:
        raise BrokenStudy(f"the study {name!r} of another package cannot be imported: {type(error).__name__}: {error}") from error
    study = _declared(study, name) if isinstance(study, ModuleType) else study
    if not isinstance(study, Study):
        raise BrokenStudy(f"the entry point {name!r} of the group {GROUP!r} is a {type(study).__name__}, not a Study")
    if study.name != name:
        raise BrokenStudy(f"the entry point {name!r} holds a study that calls itself {study.name!r}; they must agree")
    return study if study.file else replace(study, file=_file_of(study))


def _load_file(path: Path) -> Study:
    path = (path / "study.py" if path.is_dir() else path).resolve()
    if not path.is_file():
        raise BadInput(f"no file {path.name!r} in {str(path.parent)!r}")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    name = f"workbench_study_{content_hash(str(path))[:8]}_{digest}"
    module = sys.modules.get(name)
    if module is None:
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is None or spec.loader is None:
            raise BrokenStudy(f"{path.name} cannot be imported")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # dataclasses look their module up there
        beside = str(path.parent)
        sys.path.insert(0, beside)
        try:
            spec.loader.exec_module(module)
        except BaseException as error:
            sys.modules.pop(name, None)
            if not isinstance(error, Exception) or isinstance(error, WorkbenchError):
                raise
            raise BrokenStudy(f"{path.name} cannot be imported: {type(error).__name__}: {error}") from error
        finally:
            sys.path.remove(beside)
    return _with_file(_declared(module, path.name), module)


def _declared(module: ModuleType, name: str) -> Study:
    there = getattr(module, "STUDY", None)
    if isinstance(there, Study):
        return there
    several = [v for v in vars(module).values() if isinstance(v, Study)]
    if len(several) != 1:
        raise BrokenStudy(f"{name} defines {len(several)} studies; it must define one, called STUDY")
    return several[0]


def _with_file(study: Study, module: ModuleType) -> Study:
    return study if study.file or not module.__file__ else replace(study, file=Path(module.__file__))


def _file_of(study: Study) -> Path | None:
    """The file that a study's `compute` was written in, `None` for one written in a notebook."""
    module = sys.modules.get(getattr(study.compute, "__module__", ""))
    file = getattr(module, "__file__", None)
    return Path(file) if file and module is not None and module.__name__ != "__main__" else None


def source_of(study: Study) -> str:
    """Return a hash of the code that decides a study's results: the rooms below, what studies share, and its own folder.

    Reports, figures and the engine are left out: they decide how results look. Of a study in a folder (`study.py`) every Python file of the
    folder counts but `report.py`; of a study in a single file that file; of one written in a notebook the functions and classes of the
    notebook.
    """
    shared = {p.name: _hash(p) for p in sorted(HOME.glob("*.py"))}
    return content_hash(source_hash(without=ASIDE), shared, _own_source(study))


def _own_source(study: Study) -> Mapping[str, str]:
    if study.file is None:
        return _written(study)
    if study.file.name != "study.py":
        return {study.file.name: _hash(study.file)}
    return {p.name: _hash(p) for p in sorted(study.file.parent.glob("*.py")) if p.name != "report.py"}


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _written(study: Study) -> dict[str, str]:
    """The source of every function and class beside a study that was written in a notebook."""
    space = getattr(study.compute, "__globals__", {})
    mine = {k: v for k, v in list(space.items()) if getattr(v, "__module__", None) == study.compute.__module__ and not k.startswith("_")}
    out = {}
    for name, thing in sorted({**mine, "compute": study.compute, "settings": study.settings}.items()):
        if inspect.isfunction(thing) or inspect.isclass(thing):
            try:
                out[name] = inspect.getsource(thing)
            except (OSError, TypeError):
                out[name] = _compiled(thing)
    return out


def _compiled(thing: Any) -> str:
    """What stands for a function or a class whose source cannot be found: its compiled code, defaults and annotations."""
    if isinstance(thing, CodeType):
        return content_hash(thing.co_code.hex(), thing.co_names, [_compiled(c) for c in thing.co_consts])
    if inspect.isfunction(thing):
        return content_hash(_compiled(thing.__code__), repr(thing.__defaults__), repr(thing.__kwdefaults__))
    if inspect.isclass(thing):
        own = {k: v for k, v in vars(thing).items() if inspect.isfunction(v) or k == "__annotations__" or not k.startswith("__")}
        return content_hash({k: _compiled(v) if inspect.isfunction(v) else repr(v) for k, v in own.items()})
    return repr(thing)
