"""Which ways of running a model agree with Hugging Face's own forward pass; what disagrees is refused with its numbers."""

from __future__ import annotations

import functools
import warnings
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..core.errors import Disagrees
from .known import KNOWN, Described, info

# how a Bridge that was booted elsewhere is compared; `rebuilt`, which stands above this file, sets it
first_use: Callable[[Any], None] | None = None
_WARNED: weakref.WeakSet[Any] = weakref.WeakSet()


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the comparison with Hugging Face found.

    Attributes:
        bridge: Why TransformerLens's pass must not be used, or "".
        sites: Sites that must not be read or edited, and why.
        decoding: "cached" (keys and values are kept), "whole" (each step reads the whole text), or "" (not at all).
        padded: Whether rows of several lengths may share a batch while they are continued.
        why: Why decoding is not "cached" with padding, or "".
        apart: The largest differences, each as a share of the largest value: "logits", "stream", "cached", …
    """

    bridge: str = ""
    sites: dict[str, str] = field(default_factory=dict)
    decoding: str = "cached"
    padded: bool = True
    why: str = ""
    apart: dict[str, float] = field(default_factory=dict)


def verdict(model: Any) -> Verdict | None:
    """Return what the comparison with Hugging Face found; `None` for a model that cannot be compared (a `HookedTransformer`).

    A model is compared when it is loaded, and one that was booted elsewhere when it is used for the first time.
    """
    if isinstance(model, Described):
        return None
    if model not in KNOWN:
        info(model)
    if KNOWN[model].reference is None and first_use is not None:
        first_use(model)
    return KNOWN[model].verdict


def require(model: Any, *sites: str) -> None:
    """Raise unless TransformerLens's pass over this model agrees with Hugging Face's.

    Args:
        model: What `load_model` returns.
        *sites: Sites that will be read or edited.

    Raises:
        Disagrees: It does not, or a site is not what its name says; the message gives the numbers.
    """
    found = verdict(model)
    if found is None:
        return
    name = KNOWN[model].name
    if found.bridge:
        raise Disagrees(
            f"{name}: {found.bridge}. Edits, patching and generation are refused, because they would act on another model. "
            "Use a version of transformer-lens that reads this architecture right"
        )
    for site in sites:
        if site in found.sites:
            raise Disagrees(f"{name}: {site!r} is refused: {found.sites[site]}. Use another site")


def guard(model: Any) -> None:
    """Keep TransformerLens's own `generate` from giving other numbers than Hugging Face's.

    Args:
        model: A Bridge that was compared. Where its decoding differs, its `generate` reads whole texts; where its pass does, or
            nothing agrees, it raises `Disagrees`.
    """
    found = verdict(model)
    if found is None or (found.decoding == "cached" and not found.bridge):
        return
    for name in ("generate", "generate_stream"):
        own = getattr(model, name, None)
        if own is not None:
            setattr(model, name, _guarded(model, own))


def _guarded(model: Any, own: Callable[..., Any]) -> Callable[..., Any]:
    known = weakref.ref(model)  # the model holds the function

    @functools.wraps(own)
    def generate(*args: Any, **kwargs: Any) -> Any:
        decodes(known())
        return own(*args, **kwargs | {"use_past_kv_cache": False})

    return generate


def decodes(model: Any) -> Verdict:
    """Return how texts may be continued with a model; the first time warns where that is a slow way.

    Args:
        model: What `load_model` returns.

    Returns:
        What the comparison found; of a model that was booted elsewhere, that keys and values are kept.

    Raises:
        Disagrees: No way gives Hugging Face's numbers.
    """
    require(model)
    found = verdict(model) or Verdict()
    if not found.decoding:
        raise Disagrees(f"{KNOWN[model].name}: {found.why}, so that it cannot be continued")
    if found.why and model not in _WARNED:
        _WARNED.add(model)
        slow = "each step reads the whole text" if found.decoding == "whole" else "rows are continued one at a time"
        warnings.warn(f"{KNOWN[model].name}: {slow}, because with a cache of keys and values {found.why}", stacklevel=3)
    return found
