"""Which ways of running a model agree with Hugging Face's own forward pass; what disagrees is refused with its numbers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..core.errors import Disagrees
from .known import KNOWN


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the comparison with Hugging Face found.

    Attributes:
        bridge: Why TransformerLens's pass must not be used, or "".
        sites: Sites that must not be read or edited, and why.
        decoding: "cached" (keys and values are kept), "whole" (each step reads the whole text), or "" (not at all).
        padded: Whether rows of several lengths may share a batch while they are continued.
        why: Why decoding is not "cached" with padding, or "".
        scale: The factor between the unembedding of the final stream and the logits.
        apart: The largest differences, each as a share of the largest value: "logits", "stream", "cached", …
    """

    bridge: str = ""
    sites: dict[str, str] = field(default_factory=dict)
    decoding: str = "cached"
    padded: bool = True
    why: str = ""
    scale: float = 1.0
    apart: dict[str, float] = field(default_factory=dict)


def verdict(model: Any) -> Verdict | None:
    """Return what the comparison found when the model was loaded; `None` for a model that was booted elsewhere."""
    known = KNOWN.get(model)
    return None if known is None else known.verdict


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
