"""The ground truth that a model organism was trained to have."""

from __future__ import annotations

import json
from typing import Any

from .known import folder_of


def planted(model: Any) -> dict[str, Any] | None:
    """Return the ground truth of an organism (`planted.json` in the folder that it was loaded from), or `None`."""
    folder = folder_of(model)
    if folder is None or not (folder / "planted.json").is_file():
        return None
    return json.loads((folder / "planted.json").read_text(encoding="utf-8"))
