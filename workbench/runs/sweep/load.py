"""A sweep from a toml file, from the folder of one that was begun, or from the name of a study."""

from __future__ import annotations

import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

from ...core.errors import BadInput
from ..registry import find
from .document import TOML, Sweep
from .toml import beside, check_types


def load_sweep(path: str | Path) -> Sweep:
    """Read a sweep from a toml file.

    Args:
        path: The file. Tables and studies of your own and model folders are looked for from where it lies, too.

    Returns:
        The sweep, checked.

    Raises:
        BadInput: There is no such file, it is no toml, or it has a key that a sweep has not.
    """
    path = Path(path)
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise BadInput(f"no file {str(path)!r}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadInput(f"{path.name} is not a toml file: {error}") from None
    known = [f.name for f in fields(Sweep)]
    if isinstance(name := given.get("study"), str):
        given["study"] = beside(path.parent, name)
        study = find(given["study"])
        own = {k: given.pop(k) for k in list(given) if k not in known and k in study.inside}
        given["settings"] = own | given["settings"] if isinstance(given.get("settings"), dict) else own or given.get("settings", {})
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


def as_sweep(sweep: Any) -> Sweep:
    """Return a sweep.

    Args:
        sweep: A `Sweep`, a toml file, the folder of one that was begun, or the name of a study.

    Returns:
        The sweep; of a study, one of a single cell.
    """
    if isinstance(sweep, Sweep):
        return sweep
    path = Path(sweep)
    if (path / TOML).is_file():
        return load_sweep(path / TOML)
    if path.suffix == ".toml":
        return load_sweep(path)
    return Sweep(name=find(sweep).name, study=str(sweep))


def placed(sweep: Any, out: str | Path | None) -> tuple[Sweep, Path]:
    """Return a sweep with its paths whole, and its folder: the one named, the one it was begun in, or `figures/NAME`.

    Args:
        sweep: As for `as_sweep`.
        out: The folder that was named.

    Returns:
        The sweep and the folder.
    """
    begun = Path(sweep) if isinstance(sweep, str | Path) and (Path(sweep) / TOML).is_file() else None
    whole = as_sweep(sweep).resolved()
    return whole, (Path(out) if out else begun or Path("figures") / whole.name.replace(" ", "-")).resolve()
