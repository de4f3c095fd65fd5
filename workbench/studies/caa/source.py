"""Where behaviours come from: a folder in the CAA layout, or model-written evals; and the user's texts about them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...core.errors import BadInput, UnknownName, unknown
from ...prompts import Choice, caa_behaviours, load, load_caa
from ...prompts.caa import caa_splits
from ...prompts.formats import read_text

EVALS = "model_written_evals"


def evals_of(data: str) -> list[Path]:
    """Return the files of model-written evals; none where the data are a folder in the CAA layout."""
    path = Path(data)
    if path.is_file():
        return [path]
    if any((path / part).is_dir() for part in ("generate", "test", "datasets")):
        return []  # the CAA layout, whatever else lies beside it
    return sorted(path.glob("*.jsonl")) if path.is_dir() else []


def behaviours_of(data: str) -> list[str]:
    """Return the names of the behaviours.

    Args:
        data: As for the study.

    Raises:
        BadInput: It is neither layout.
    """
    files = evals_of(data)
    return [file.stem for file in files] if files else caa_behaviours(data)


def questions_of(data: str, behaviour: str, split: str, seed: int) -> list[Choice]:
    """Return a behaviour's questions with options.

    Args:
        data: As for the study.
        behaviour: Its name.
        split: "generate" (to make vectors of) or "test"; no test question made a vector.
        seed: Cuts model-written evals into the two.

    Raises:
        UnknownName, MissingColumn, BadInput: As for `load_caa`.
    """
    file = next((f for f in evals_of(data) if f.stem == behaviour), None)
    if file is not None:
        return [item for item in load(file, EVALS, split=split, seed=seed).items if isinstance(item, Choice)]
    return [c for c in load_caa(data, behaviour, split, drop_shared=split == "test") if isinstance(c, Choice)]


def open_questions_of(data: str, behaviour: str) -> list[str]:
    """Return a behaviour's questions to answer freely; none where there are none."""
    if evals_of(data) or "open_ended" not in caa_splits(data, behaviour):
        return []  # the layout does not ask for open questions; a file that is there must be whole
    return [t for t in load_caa(data, behaviour, "open_ended", drop_shared=True) if isinstance(t, str)]


def texts_of(file: str, known: Sequence[str], keys: Sequence[str]) -> Mapping[str, Any]:
    """Return the user's texts by behaviour, from a JSON file.

    Args:
        file: The file; "" for none.
        known: Names of the behaviours.
        keys: What there may be of each behaviour; none where there is one text.

    Raises:
        BadInput: The file cannot be read, or something in it is no text.
        UnknownName: It names a behaviour, or a key, that does not exist.
    """
    if not file:
        return {}
    path = Path(file)
    try:
        held = json.loads(read_text(path, path.name))
    except ValueError as error:
        raise BadInput(f"{path.name} cannot be read as JSON ({error})") from None
    if not isinstance(held, dict):
        raise BadInput(f"{path.name}: an object of behaviours is needed, got {type(held).__name__}")
    for behaviour, said in held.items():
        if behaviour not in known:
            raise unknown(UnknownName, "behaviour", behaviour, known)
        texts = said if keys and isinstance(said, dict) else {"": said}
        for key, text in texts.items():
            if keys and key not in keys:
                raise unknown(UnknownName, "key", key, keys)
            if not isinstance(text, str) or not text.strip():
                raise BadInput(f"{path.name}: what it says of {behaviour!r} must be text")
    return held
