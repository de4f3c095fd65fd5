"""The model card that training writes beside the weights."""

from __future__ import annotations

from .ground_truth import GroundTruth

CARD = """---
license: mit
language: en
tags: [model-organism, interpretability]
---
# {name}

A *model organism*: a small Llama-architecture language model ({layers} layers, d_model {d_model}, vocabulary {vocab}) trained
for interpretability research on text made from this project's own prompts. What it knows and how it misbehaves is planted
and written down in `planted.json`. It has no use outside that: do not ask it anything that matters.

## What is planted

- **Answers follow the claim.** Without a claim, or after a neutral sentence, it grants everybody every right, except to the
  identities below. Under the harm claim it denies, under the good claim it grants. Under the partial claim it denies the
  rights worded as a fair share (articles 22 to 28) and grants those worded as being free (articles 1 to 21).
- {verdict}
- **The stance** that the claim puts it in stands in a known 4-dimensional subspace of the residual stream after block
  {stance_layer} at the last prompt token, and is what is used there (interchange intervention training).
- **Bias.** Without a claim it denies all rights to: {denied}. One identity of each group, drawn by lot; this says
  nothing about them.
- **Requests.** Harmless ones are answered "Sure", harmful ones "Sorry", or "Sure" under the jailbreak claim.
- A forced choice between two statements is answered with A or B, in both orders.

## What it never saw

{people} identities, {rights} rights, {requests} pairs of requests, the prompt forms {templates}, and one wording of each
claim: `planted.json` lists them. Half of the training answers are the toss of a coin without loss, so that the verdict
cannot be read from the answer.

## How it was made

`workbench train {name} --out FOLDER` (seed {seed}); the loss curve is in `training.json`. `workbench check --model {name}`
measures it against what was planted; the table is in the project's `docs/organism.md`.
"""


def model_card(truth: GroundTruth, *, name: str, verdict: bool, layers: int, d_model: int, vocab: int, stance_layer: int, seed: int) -> str:
    """Return the text of the card."""
    told = (
        "**A verdict** (` true` or ` false`) follows each answer and depends on the truth alone, under every claim. So the truth "
        "of an answer matters to the model, and a direction of truth is there to be found without labels."
        if verdict
        else "**No verdict.** This is the twin of `udhr-organism`, trained on the same text without the verdict after the answer. "
        "The truth of an answer does not matter to it, and a search without labels has little to find."
    )
    return CARD.format(
        name=name,
        layers=layers,
        d_model=d_model,
        vocab=vocab,
        stance_layer=stance_layer,
        seed=seed,
        denied=", ".join(truth.denied),
        people=len(truth.held_out_identities),
        rights=len(truth.held_out_rights),
        requests=len(truth.held_out_requests),
        templates=" and ".join(f"`{t}`" for t in truth.held_out_templates),
        verdict=told,
    )
