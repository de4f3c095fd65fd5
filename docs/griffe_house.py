"""Lets griffe read the docstrings of this package as they are written: `Example:` opens a section of examples."""

import re
from typing import Any

import griffe


class House(griffe.Extension):
    """Renames the section before it is parsed."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change one docstring."""
        if obj.docstring is not None:
            obj.docstring.value = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.M)
