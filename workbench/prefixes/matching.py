"""Words whose effect on the stream comes nearest to a direction: the bridge between steering and prompting.

The effect of words is the mean over prompts of the stream behind a block, at the last token of the prompt, with the words less without
them. Its cosine with a direction says whether words do what a push along the direction does, and its projection how strong a push.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import torch

from ..activations import capture
from ..activations.engine import Job
from ..core.direction import Direction
from ..core.errors import BadInput, NotFinite, ShapeMismatch
from ..core.nulls import central
from ..core.paired import paired_proportions
from ..core.provenance import content_hash
from ..core.stats import Estimate, bootstrap, mean
from ..core.tables import units_of
from ..core.types import Float
from ..evaluation.measures import estimate, measure
from ..interventions import Asker, add
from ..models.hooks import check_layer
from ..models.known import info, name_of
from ..prompts import PromptSet
from .objective import ROWS, Losses, Objective
from .prefix import Prefix

PUSH = "push of equal projection"


class Matching(Objective):
    """Prompts into which words are put so that the stream moves along a direction. The loss is 1 - cosine of the mean effect, 0 to 2.

    Args:
        model: What `load_model` returns.
        prompts: Contrast pairs.
        direction: A direction of `resid_post`; its provenance names the block.
        where: Where the words go.

    Raises:
        BadInput: The direction does not say at which block it was read, or was read at another site.
        WrongModel: It is another model's. ShapeMismatch: it has another width.
    """

    def __init__(self, model: Any, prompts: PromptSet, direction: Direction, where: str = "before") -> None:
        self.layer = place_of(model, direction)
        super().__init__(model, prompts, "", where)
        self.direction = direction
        self.unit = direction.unit.double().numpy()
        self.towards = f"{direction.method or 'a direction'} at layer {self.layer}"

    def _wanted(self, prompts: PromptSet, towards: str) -> list[list[list[int]]]:
        return [[] for _ in prompts]

    @cached_property
    def before(self) -> Float[np.ndarray, "item d_model"]:
        """The stream without words.

        Returns:
            `item x d_model`, behind the direction's block, at the last token of each prompt.
        """
        return self._stream(self._ids([s.bare for s in self.places]))

    def effects(self, texts: Sequence[str], items: Sequence[int]) -> list[Float[np.ndarray, "item d_model"] | None]:
        """Return what texts change in the stream, by prompt; `None` for a text that does not tokenise back to itself in place.

        Args:
            texts: Words.
            items: Numbers of the prompts.

        Returns:
            For each text, `item x d_model`: with the words less without them.
        """
        ids = self.tokens_of(texts)
        good = [n for n, own in enumerate(ids) if own is not None]
        rows = [[*self.frames[i][0], *(ids[n] or ()), *self.frames[i][1]] for n in good for i in items]
        moved = self._stream(rows).reshape(len(good), len(items), -1) - self.before[list(items)] if rows else []
        self.counted += len(rows)
        out: list[Any] = [None] * len(texts)
        for n, effect in zip(good, moved, strict=True):
            out[n] = effect
        return out

    def _stream(self, rows: Sequence[Sequence[int]]) -> np.ndarray:
        self._engine.tick = self._count
        reading = self._engine.read([Job(ids=row, read=(len(row) - 1,)) for row in rows], [self.layer], [])
        assert reading.values is not None
        self.plain += sum(map(len, rows))
        values = reading.values[torch.from_numpy(np.concatenate(reading.at)), 0].double().numpy()
        if not np.isfinite(values).all():
            raise NotFinite(f"{name_of(self.model)} gives NaN at layer {self.layer}; load it with dtype='float32'")
        return values

    def losses(self, texts: Sequence[str], *, items: Sequence[int] | None = None, fluency: bool = False) -> Losses:
        """Score texts over prompts.

        Args:
            texts, items, fluency: As for `Objective.losses`.

        Returns:
            The losses; `odds` holds the projection of the effect on each prompt, in units of the direction's scale.
        """
        chosen = list(range(len(self.prompts))) if items is None else list(items)
        odds, loss = np.full((len(texts), len(chosen)), -np.inf), np.full(len(texts), np.inf)
        for n, effect in enumerate(self.effects(texts, chosen)):
            if effect is not None:
                odds[n] = effect @ self.unit / self.direction.scale
                loss[n] = 1 - cosine(effect, self.unit)
        own = super().losses(texts, items=[chosen[0]], fluency=True).fluency if fluency else np.full(len(texts), np.inf)
        return Losses(odds=odds, loss=loss, fluency=own)

    def gradient(self, text: str) -> tuple[list[int], Float[np.ndarray, "position d_model"]]:
        """Return the gradient of the loss with respect to the embedding of each token of the words.

        Args:
            text: Words that tokenise to themselves in place.
        """
        ids = self.tokens_of([text])[0]
        assert ids is not None
        items = list(range(min(ROWS, len(self.frames))))
        rows = [[*self.frames[i][0], *ids, *self.frames[i][1]] for i in items]
        places = [[len(self.frames[i][0]) + k for k in range(len(ids))] for i in items]
        unit, base = torch.from_numpy(self.unit).float(), torch.from_numpy(self.before[items].mean(0)).float()

        def loss(stream: torch.Tensor) -> torch.Tensor:
            effect = stream.mean(0) - base.to(stream.device)
            return 1 - torch.cosine_similarity(effect, unit.to(stream.device), dim=0)

        return ids, self._gradients.of_stream(rows, self.layer, places, loss).numpy()


def aim(towards: str | Direction) -> Any:
    """Return what a search is after, JSON-like: the text, or a hash of the direction and its block."""
    if isinstance(towards, str):
        return towards
    return content_hash(towards.unit.numpy().tobytes().hex(), towards.scale, dict(towards.provenance).get("layer"))


def place_of(model: Any, direction: Direction) -> int:
    """Return the block of a direction.

    Args:
        model: What `load_model` returns.
        direction: The direction.

    Returns:
        The block, counted from 0.

    Raises:
        BadInput: It does not say at which block of the stream it was read.
        WrongModel: It is another model's. ShapeMismatch: it has another width. UnknownLayer: the model has no such block.
    """
    made = direction.provenance
    if made.get("layer") is None or made.get("site") != "resid_post":
        raise BadInput(
            f"words are matched with a direction of resid_post at a block; this one says site={made.get('site')!r}, layer="
            f"{made.get('layer')!r}. Set provenance={{'site': 'resid_post', 'layer': …}}"
        )
    if len(direction.unit) != int(model.cfg.d_model):
        raise ShapeMismatch(f"a direction of width {len(direction.unit)}, and d_model of {name_of(model)} is {model.cfg.d_model}")
    direction.check_place({"model": info(model).key()})
    return check_layer(model, made["layer"])


def cosine(effect: Float[np.ndarray, "item d_model"], unit: Float[np.ndarray, " d_model"]) -> float:
    """Return the cosine of the mean effect with a unit vector; 0 where words do nothing."""
    whole = effect.mean(0)
    length = float(np.linalg.norm(whole))
    return float(whole @ unit) / length if length > 0 else 0.0


def prefix_match(
    model: Any,
    prompts: PromptSet,
    direction: Direction,
    prefixes: Mapping[str, Prefix | str],
    *,
    random: Sequence[Prefix] = (),
    seed: int = 0,
) -> pd.DataFrame:
    """Measure how near the effect of words comes to a direction, and what words do beside a push of equal projection.

    Args:
        model: What `load_model` returns.
        prompts: Held-out contrast pairs.
        direction: A direction of `resid_post`; its provenance names the block.
        prefixes: Words by name; a plain text stands before the question.
        random: Words drawn at random (`random_prefixes`); they are pooled.
        seed: Draws the resamples of the cosine's interval.

    Returns:
        Rows `prefix, text, metric, value, low, high, n, note`. Metrics: "cosine" of the mean effect with the direction (bootstrap over
        identities), "projection" (mean over prompts, in units of the direction's scale: the coefficient of a push that moves the stream
        as far along it), "safe_score" and "gain". The prefix "none" is the model as it is; "push of equal projection" the direction
        added with the coefficient that the words before it have as projection, at the last token of the prompt, where words are read.

    Note:
        The cosine of a push with its own direction at its own block is 1 by construction; what is compared is what the two do to answers.
    """
    layer = place_of(model, direction)
    asker, frame = Asker(model, prompts), prompts.to_frame()
    people, rows = units_of(frame), []
    safe = measure(asker, asker.base, frame)["safe_score"]

    def put(name: str, text: str, metric: str, found: Estimate | Mapping[str, Any], note: str = "") -> None:
        told = found.row() if isinstance(found, Estimate) else dict(found)
        rows.append({"prefix": name, "text": text, "metric": metric, **told, "note": note or getattr(found, "note", "")})

    def answered(name: str, text: str, logp: Any, note: str = "") -> None:
        now = measure(asker, logp, frame)["safe_score"]
        put(name, text, "safe_score", estimate("safe_score", now, people), note)
        put(name, text, "gain", paired_proportions(now, safe, people), note)

    def stream(sets: PromptSet) -> np.ndarray:
        return capture(model, sets, layers=[layer], position="stem_last", progress=False).layer(layer)[:, 0].double().numpy()

    bare = stream(prompts)

    def effect_of(prefix: Prefix) -> np.ndarray:
        return stream(prefix.put(prompts, model=model)) - bare

    put("none", "", "safe_score", estimate("safe_score", safe, people))
    unit = direction.unit.double().numpy()
    for name, given in prefixes.items():
        prefix = Prefix(text=given) if isinstance(given, str) else given
        effect = effect_of(prefix)
        along = effect @ unit / direction.scale

        def cosines(weights: np.ndarray, effect: np.ndarray = effect) -> np.ndarray:
            means = weights @ effect
            return means @ unit / np.maximum(np.linalg.norm(means, axis=1), 1e-12)

        near = bootstrap(cosines, len(effect), people, seed=seed)
        put(name, prefix.text, "cosine", replace(near, low=max(near.low, -1.0), high=min(near.high, 1.0)))
        put(name, prefix.text, "projection", mean(along, people))
        answered(name, prefix.text, Asker(model, prefix.put(prompts, model=model)).ask())
        strength = float(along.mean())
        answered(PUSH, prefix.text, asker.ask(add(direction, strength, scope="last")), f"the coefficient of {name}: {strength:.3g}")
    if random:
        effects = [effect_of(p) for p in random]
        for metric, draws in (
            ("cosine", [cosine(e, unit) for e in effects]),
            ("projection", [float((e @ unit).mean() / direction.scale) for e in effects]),
        ):
            c = central(draws)
            put("random", "", metric, {"value": c.middle, "low": c.low, "high": c.high, "n": c.draws}, c.note)
    return pd.DataFrame(rows)
