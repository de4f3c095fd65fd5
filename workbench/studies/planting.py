"""What studies of planted behaviours share: an organism and its twin, trained into the model as adapters and models from then on."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from ..organism import Ask, Planting, asking, merged, plant
from ..prompts import PromptSet
from ..runs import ModelHandle
from ..training import Adapter
from .statements import Rows

TWIN, BASE = "twin", "before"


class Planted(Rows):
    """Steps over a model in which a behaviour is planted.

    Attributes:
        models: Handles by name: the organism, its twin, and the model before.
    """

    models: dict[str, ModelHandle]

    def _asks(self, side: str) -> Ask:
        denied = (self.planted or {}).get("denied", ())
        return asking(self.source, self.split, side, self.words, denied, self.asking("base_short"))

    @cached_property
    def train(self) -> Ask:
        """Makes training statements."""
        return self._asks("train")

    @cached_property
    def test(self) -> Ask:
        """Makes held-out statements."""
        return self._asks("test")

    def plant(self, organism: str, recipe: Any, how: Planting) -> None:
        """Train the organism and its twin, each in a step of its own.

        Args:
            organism: Its name.
            recipe: The module of its recipe: `corpus(ask, planted)` and `kept(ask)`.
            how: The training.
        """
        kept: PromptSet = recipe.kept(self.train)
        self.models = {}
        for name in (organism, TWIN):
            prompts = recipe.corpus(self.train, name == organism)

            def make(place: Path, state: Path, prompts: PromptSet = prompts) -> None:
                plant(self.model, prompts, kept, how, place=state, progress=self.progress).save(place)

            key = [self.handle.key, prompts.hash, kept.hash, str(how)]
            folder = self.run.folder(name, key=key, make=make, doing=f"train the {name}", resumes=True)
            self.models[name] = self.handle.derived(name, key, self._merging(folder, name))
        self.models[BASE] = self.handle

    def _merging(self, folder: Path, name: str) -> Any:
        return lambda model: merged(model, Adapter.load(folder), f"{self.info.name} ({name})")


def identities(prompts: PromptSet, half: int) -> list[int]:
    """Return the rows of one half of the identities, so that two directions share no row and no identity.

    Args:
        prompts: The prompts.
        half: 0 or 1.

    Returns:
        Numbers of rows, in order.
    """
    order = sorted({p.identity for p in prompts})
    mine: Mapping[str, int] = {name: k % 2 for k, name in enumerate(order)}
    return [i for i, p in enumerate(prompts) if mine[p.identity] == half]


__all__ = ["BASE", "TWIN", "Planted", "identities"]
