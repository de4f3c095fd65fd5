"""An irrelevant feature in half of the prompts, which an unsupervised method may find instead of the truth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..core.errors import UnknownName, unknown
from ..core.seeds import numpy_rng
from .pairs import PromptSet

# the sentence of the one half, and that of the other
DISTRACTORS = {
    "word": (" Banana.", " Shed."),
    "speaker": (" Alice is sure of it.", " Alice does not believe it."),
}


def with_distractor(prompts: PromptSet, kind: str = "word", *, seed: int = 0, before: str = "") -> PromptSet:
    """Put one of two irrelevant sentences into every prompt, each into a random half of the prompts.

    The sentence follows the statement (where `meta` holds one that the stem contains), else it begins the stem. Both endings
    share it.

    Args:
        prompts: Contrast pairs.
        kind: "word" (a word without meaning here) or "speaker" (a speaker's opinion of the statement).
        seed: Draws the halves, independently of the labels.
        before: Text after which to put the sentence, in place of the statement.

    Returns:
        The prompts in the same order, with a column "distractor" in their `meta`: 1 for the first sentence, 0 for the second.

    Raises:
        UnknownName: There is no such distractor.

    References:
        Farquhar et al. 2023, arXiv 2312.10029, sections 4.1 and 4.2.
    """
    if kind not in DISTRACTORS:
        raise unknown(UnknownName, "distractor", kind, DISTRACTORS)
    coins = numpy_rng(seed, "distractor", kind).permutation(np.arange(len(prompts)) % 2)
    out = []
    for pair, coin in zip(prompts, coins.tolist(), strict=True):
        text = DISTRACTORS[kind][1 - coin]
        after = before or str(pair.meta.get("statement", ""))
        at = pair.stem.find(after) + len(after) if after and after in pair.stem else 0
        added = text if at else text.strip() + " "
        end = pair.instruction_end
        end = end + len(added) if end is not None and end >= at else end
        stem = pair.stem[:at] + added + pair.stem[at:]
        out.append(replace(pair, stem=stem, instruction_end=end, meta=dict(pair.meta) | {"distractor": coin}))
    return PromptSet(out, f"{prompts.name}, {kind}")
