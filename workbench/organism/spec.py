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
    """Everything that decides the weights of the organism with a faint truth.

    Attributes:
        name: Name of the model and of its folder.
        share: Half of the distance between true and false answers, as a share of all else in which two answers to a statement differ
            (root mean square over statements).
        axes: Directions that hold nothing but the truth after each block: the main ones of its differences by claim and answer words.
        features: How many features of the person and the right the two answers to a statement differ in, besides.
        others: Size of these features, in multiples of what the answers differ in besides truth in the bundled model.
        sample: Texts of the corpus from which they are found.
        known: Shares of listed identities and rights in the texts; the others are made up.
        seed: Draws texts and order.
        steps, batch, lr: The training.
        truth: Weight of the truth's size.
        leak: Weight of what else differs with the truth on average; a batch is small, so most of it is noise.
        keep: Weight of staying with what the bundled model says.
    """

    name: str = "udhr-organism-faint"
    share: float = 0.1
    axes: int = 8
    features: int = 16
    others: float = 1.5
    sample: int = 6000
    known: tuple[float, float] = (0.3, 0.15)
    seed: int = 0
    steps: int = 900
    batch: int = 32
    lr: float = 3e-3
    truth: float = 2.0
    leak: float = 0.05
    keep: float = 3.0
