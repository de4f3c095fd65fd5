"""What became of what a model knew: the rule, on numbers with intervals. It reads no model.

*Kept share*: over the readable blocks (at or above the first changed one; those whose AUROC before the change lies above .5 and above the
controls), the AUROC's excess over .5 after the change, over the same sum before it. The *old* probe was fitted before the change; the
*fresh* one after it.

- **erased**: the fresh probe's kept share lies below one half (and what was learned again came back no faster than in a model that
  never knew it, where that was measured);
- **rotated**: the fresh probe's lies above one half, and the old probe's below, or the direction turned: at more than half of the readable
  blocks the cosine between the mean differences before and after lies below one half (a random direction can read what varies most, so
  that an old probe may read by accident);
- **hidden**: the old probe's lies above one half, and more than a tenth of the answers changed; or nothing is read and it came back
  faster than in a model that never knew;
- **untouched**: the old probe's lies above one half, and fewer than a tenth of the answers changed;
- **undetermined**: an interval includes the edge, or no block is readable.
"""

from __future__ import annotations

import math

from ..core.estimate import Estimate

VERDICTS = ("erased", "rotated", "hidden", "untouched", "undetermined")
HALF = 0.5
LITTLE = 0.1  # share of answers that may change in a model that is called untouched


def survival_verdict(
    readable: int,
    old: Estimate | None,
    fresh: Estimate | None,
    changed: Estimate,
    faster: Estimate | None = None,
    turned: tuple[int, int] = (0, 0),
) -> tuple[str, str]:
    """Say what became of what was read, and why.

    Args:
        readable: Number of readable blocks.
        old: Kept share of the probe from before the change; `None` without a readable block.
        fresh: Kept share of a probe fitted after it.
        changed: Share of the answers that changed.
        faster: AUROC of the answers after learning again on a few rows, less that of a model that never knew; `None` where it was not
            measured.
        turned: At how many blocks the direction's cosine lies below one half, of how many where it is told.

    Returns:
        One of `VERDICTS`, and the reason with the numbers that decided.
    """
    if not readable or old is None or fresh is None or not (_known(old) and _known(fresh)):
        return "undetermined", "no block at or above the change was read before it, above .5 and the controls"
    told = (
        f"kept share {_says(fresh)} by a fresh probe, {_says(old)} by the old one, over {readable} blocks; answers changed {_says(changed)}"
    )
    if fresh.high < HALF:
        if faster is not None and _known(faster) and faster.low > 0:
            return "hidden", f"{told}; but learned again {_says(faster)} above a model that never knew"
        return "erased", told
    if fresh.low <= HALF:
        return "undetermined", f"{told}: the fresh probe's interval includes one half"
    away, of = turned
    if old.high < HALF or 2 * away > of:
        return "rotated", f"{told}; the direction turned at {away} of {of} blocks"
    if old.low <= HALF:
        return "undetermined", f"{told}: the old probe's interval includes one half"
    if changed.low > LITTLE:
        return "hidden", told
    if changed.high <= LITTLE:
        return "untouched", told
    return "undetermined", f"{told}: whether more than {LITTLE:.0%} of the answers changed cannot be told"


def _known(e: Estimate) -> bool:
    return all(math.isfinite(x) for x in (e.value, e.low, e.high))


def _says(e: Estimate) -> str:
    return f"{e.value:.2f} [{e.low:.2f}, {e.high:.2f}]"
