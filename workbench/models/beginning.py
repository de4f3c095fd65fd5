"""What a model makes of a plain sentence after nothing, after what prompts begin with, and after the declared first token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from .first import declared_bos
from .forward import run
from .known import info
from .tokens import pad

SENTENCE = "The children walked to the river in the morning, and came home when the sun went down behind the hills."


@dataclass(frozen=True)
class Beginning:
    """What a tokenizer declares as beginning of text, what it puts in front of one, and what the model makes of both.

    Attributes:
        declared: The declared token, or "none".
        does: What the tokenizer puts in front of a text, or "none".
        nats: Nats per token of a plain sentence after nothing, after what the tokenizer does, and after the declared token; the
            sentence's first token is left out, because nothing comes before it in the first case.
    """

    declared: str
    does: str
    nats: dict[str, float]


@torch.no_grad()
def beginning(model: Any) -> Beginning:
    """Read a plain sentence with and without a first token.

    Args:
        model: What `load_model` returns; it is read through TransformerLens's pass.

    Returns:
        What the tokenizer declares and does, and the nats of the sentence after each.

    Raises:
        Disagrees: That pass is not Hugging Face's.
    """
    tokenizer = model.tokenizer
    bare = tokenizer(SENTENCE, add_special_tokens=False)["input_ids"]
    declared, known = declared_bos(tokenizer), info(model)
    leads = {"nothing": (), "what prompts begin with": known.first, "the declared token": () if declared is None else (declared,)}
    nats: dict[str, float] = {}
    for name, lead in leads.items():
        row = [*lead, *bare]
        logp = run(model, pad(model, [row]))[0].float().log_softmax(-1).cpu()
        nats[name] = -float(logp[len(lead) : -1].gather(1, torch.tensor(bare[1:])[:, None]).mean())
    said = "none" if declared is None else repr(tokenizer.convert_ids_to_tokens(declared))
    does = " ".join(map(repr, tokenizer.convert_ids_to_tokens(list(known.first)))) or "none"
    return Beginning(said, does, nats)
