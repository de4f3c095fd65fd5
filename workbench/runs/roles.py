"""Which model a study is given for each of its roles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..core.errors import BadInput
from .study import Study

DEFAULT_MODEL = "bundled"


def roles_of(study: Study, model: Any = DEFAULT_MODEL, models: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return what each role of a study is given.

    Args:
        study: The study.
        model: For a study of one model: that model.
        models: By role; takes precedence.

    Returns:
        A model for each role; the bundled one for a study of one model where none was named.

    Raises:
        BadInput: A role that the study does not have, `model` for a study of no or of several models, or a role of several without a model.
    """
    given = dict(models or {})
    if stray := sorted(set(given) - set(study.models)):
        roles = ", ".join(study.models) or "none"
        raise BadInput(f"the study {study.name!r} has no role {', '.join(stray)} for a model; its roles: {roles}")
    named = not (isinstance(model, str) and model == DEFAULT_MODEL)
    if named and len(study.models) == 1:
        given.setdefault(study.models[0], model)
    elif named:
        say = f"name one for each role: {_each(study)}" if study.models else "leave it out"
        raise BadInput(f"the study {study.name!r} takes {len(study.models) or 'no'} models; {say}")
    if len(study.models) > 1 and len(given) < len(study.models):  # a default would compare a model with itself
        raise BadInput(f"the study {study.name!r} takes {len(study.models)} models; name one for each role: {_each(study)}")
    return {role: given.get(role, DEFAULT_MODEL) for role in study.models}


def _each(study: Study) -> str:
    return ", ".join(f"{role}=…" for role in study.models)
