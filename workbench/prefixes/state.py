"""Where a search stands, on disk: a search that was killed goes on there."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..core.errors import DamagedStore, OutputFolder
from ..core.whole import write_whole, writing

STATE = "search.json"


@dataclass
class State:
    """Where a search stands; written after each step.

    Attributes:
        restart, step: How far it is.
        text, loss: The present words; "" before a restart has begun.
        best, best_loss: The best so far on validation prompts.
        rows: The history.
        spent: Texts times prompts, tokens computed, and tokens without sharing.
    """

    restart: int = 0
    step: int = 0
    text: str = ""
    loss: float = float("inf")
    best: str = ""
    best_loss: float = float("inf")
    rows: list[dict[str, Any]] = field(default_factory=list)
    spent: list[int] = field(default_factory=lambda: [0, 0, 0])


def read_state(store: Path | None, key: str) -> State:
    """Return the state that a folder holds, or that of a search which has not begun.

    Args:
        store: The folder; `None` for none.
        key: What decides the search.

    Returns:
        The state.

    Raises:
        DamagedStore: The file cannot be read.
        OutputFolder: It is that of another search.
    """
    if store is None or not (store / STATE).is_file():
        return State()
    try:
        kept = json.loads((store / STATE).read_text(encoding="utf-8"))
        found, state = kept.pop("key"), State(**kept["state"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DamagedStore(f"{store / STATE} cannot be read ({type(error).__name__}): delete it to begin anew") from error
    if found != key:
        raise OutputFolder(
            f"{store} holds another search (other models, prompts or settings): choose another folder, or delete {STATE} there"
        )
    return state


def write_state(store: Path | None, key: str, state: State) -> None:
    """Write the state, whole or not at all; without a folder nothing.

    Args:
        store: The folder.
        key: What decides the search.
        state: Where it stands.
    """
    if store is None:
        return
    with writing(store):
        store.mkdir(parents=True, exist_ok=True)
        write_whole(store / STATE, json.dumps({"key": key, "state": asdict(state)}, ensure_ascii=False))
