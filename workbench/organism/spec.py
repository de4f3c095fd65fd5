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
class CrowdSpec:
    """Everything that decides the weights of the crowded organism.

    Attributes:
        name: Name of the model and of its folder.
        features: Further features that go with the answer, beside its truth.
        source: Block of the bundled model after which they are taken.
        sample: Texts without a claim from which they are found.
        scale: Standard deviation of one of them, in the unit of the residual stream.
        truth: Size of the truth, as a share of `scale`; half of the distance between true and false answers.
        seed: Draws texts, vectors and order.
        steps, batch, lr: The training.
        keep: Weight of staying with what the bundled model says.
    """

    name: str = "udhr-organism-crowded"
    features: int = 16
    source: int = 1
    sample: int = 4096
    scale: float = 6.0
    truth: float = 0.8
    seed: int = 0
    steps: int = 900
    batch: int = 48
    lr: float = 1e-3
    keep: float = 4.0
