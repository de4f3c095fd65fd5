"""What is known to be planted in a bundled model organism."""

from __future__ import annotations

import json
from typing import Any

from .load import info
from .source import bundled_models


def planted(model: Any) -> dict[str, Any] | None:
    """Return the ground truth that travels with a bundled organism (`planted.json`), or `None` for any other model."""
    folder = bundled_models().get(info(model).name)
    if folder is None or not (folder / "planted.json").is_file():
        return None
    return json.loads((folder / "planted.json").read_text(encoding="utf-8"))
