"""What decides the weights of an organism."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class OrganismSpec:
    """Everything that decides the weights.

    Attributes:
        name: Name of the model and of its folder.
        verdict: Whether the corpus has a verdict after each answer (the twin has none).
        seed: Draws corpus, weights, order.
        layers, d_model, heads, d_mlp, vocab: The architecture (Llama).
        steps, batch, lr: The training; a batch is `batch` texts.
        lm_share: Share of prompt tokens that carry next-token loss in a step.
        early: Share of the steps spent on short texts without claims.
        init: Standard deviation of the initial weights (the library's 0.02 is for wide models and learns late here).
        stance_layer: Block after which the stance is planted; -1 for none.
        verdict_layer: Block after which the verdict is asked for too, through the model's own last norm and unembedding
            (deep supervision: Lee et al. 2015, arXiv 1409.5185); it moves the truth to the middle of the model.
    """

    name: str = "udhr-organism"
    verdict: bool = True
    seed: int = 0
    layers: int = 6
    d_model: int = 128
    heads: int = 4
    d_mlp: int = 320
    vocab: int = 1536
    context: int = 1024
    steps: int = 2000
    early: float = 0.16
    init: float = 0.08
    batch: int = 64
    lr: float = 3e-3
    lm_share: float = 0.25
    stance_layer: int = 0
    verdict_layer: int = 3


@dataclass(frozen=True, kw_only=True)
class FaintSpec:
    """Everything that decides the weights of the organism with a faint truth. It is built, not trained.

    Attributes:
        name: Name of the model and of its folder.
        block: The block that receives the neurons.
        features: How many features of the person and the right the two answers to a statement differ in.
        size: How far each lies from its middle, on either side, in the stream.
        gain: Steepness of the gates and of the features' steps; a large one leaves nothing of them at other places.
        sample: Statements per prompt form and claim, from which features and gates are made.
        seed: Draws statements, places and the rotation.
    """

    name: str = "udhr-organism-faint"
    block: int = 1
    features: int = 32
    size: float = 114.0
    gain: float = 60.0
    sample: int = 240
    seed: int = 0
