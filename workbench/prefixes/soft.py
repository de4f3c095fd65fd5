"""Soft prefixes: vectors in front of a prompt, trained by gradient, in place of words, and what words near them lose.

The vectors stand where the first tokens' embeddings would, in front of all tokens (prompt tuning). No text has them: the nearest tokens are
words that anybody can type, and what those still do is measured like any other words.

References:
    Lester et al. 2021, arXiv 2104.08691.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes

from ..activations.files import write_file
from ..core.errors import BadInput, DamagedStore, NotFinite, PromptTooLong, ShapeMismatch, WrongModel
from ..core.provenance import provenance, redact
from ..core.seeds import numpy_rng, torch_rng
from ..core.show import Shown, number
from ..core.types import Float
from ..models.differentiable import Learner
from ..models.known import context_of, info
from ..models.lora import CONFIG, RECORD, WEIGHTS
from ..models.prompt_tuning import TENSOR, prompt_config, read_prompt_config
from ..models.tokens import encode_pairs
from ..models.trees import plant
from ..prompts import PromptSet
from ..training.loop import Plan, batches, train
from .held_out import held_out
from .objective import ENOUGH, Objective
from .prefix import Prefix
from .vocabulary import allowed, text_of

BATCH = 16  # prompts of a step
ROWS = 32  # prompts of a pass without gradients


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class SoftPrefix(Shown):
    """Vectors that stand in front of all tokens of a prompt.

    Attributes:
        vectors: `token x d_model`, in place of token embeddings, as the model scales those.
        towards: What they were trained for: "safe", "harm", or a text.
        loss: On validation prompts, in nats (0: every prompt is won).
        history: What the training measured, a row each time.
        config: What peft's `adapter_config.json` says.
        provenance: Model, prompts, settings, versions.
    """

    vectors: Float[torch.Tensor, "token d_model"]
    towards: str = ""
    loss: float = float("nan")
    history: pd.DataFrame = field(default_factory=pd.DataFrame)
    config: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2 or not len(self.vectors):
            raise ShapeMismatch(f"a soft prefix is token x d_model, one token at least; got {tuple(self.vectors.shape)}")
        if not bool(self.vectors.isfinite().all()):
            raise NotFinite("the vectors of a soft prefix hold NaN or infinity")

    def says(self, model: Any, prompts: PromptSet) -> Float[torch.Tensor, "item vocabulary"]:
        """Return what a model says next after each prompt behind these vectors.

        Args:
            model: What `load_model` returns; no edits may be active.
            prompts: Contrast pairs.

        Returns:
            Log-probabilities, natural log, float32 on the CPU.

        Raises:
            WrongModel: The vectors were trained on another model. ShapeMismatch: they have another width.
            BadInput: The model cannot be run from embeddings, or edits are active.
        """
        made = self.provenance.get("model") or {}
        if made and made.get("digest") != info(model).key().get("digest"):
            raise WrongModel(f"the soft prefix was trained on {made.get('name')!r}; {info(model).name!r} has other weights")
        if self.vectors.shape[1] != int(model.cfg.d_model):
            raise ShapeMismatch(f"vectors of width {self.vectors.shape[1]}, and d_model of {info(model).name} is {model.cfg.d_model}")
        learner, out = Learner(model), []
        stems = [pair.negative[: pair.stem] for pair in encode_pairs(model, prompts)]
        _room(model, stems, len(self.vectors))
        for start in range(0, len(stems), ROWS):
            rows = stems[start : start + ROWS]
            with torch.no_grad():
                out.append(torch.log_softmax(_behind(learner, self.vectors, rows, [[len(r) - 1] for r in rows]), -1).cpu())
        return torch.cat(out)

    def nearest(self, model: Any, words: str | Sequence[str] = "ascii") -> tuple[Prefix, pd.DataFrame]:
        """Return the words whose token embeddings are nearest, and how near they are.

        Args:
            model: The model of the vectors.
            words: The tokens that may be used, as for `search_prefix`.

        Returns:
            The words, to stand before the question, which may be cut into other tokens than these; and a row for each vector: `place,
            token, distance` (Euclidean), `cosine, norm` (of the vector), and `between`, the middle distance from a token that may be used
            to the nearest other one, beside which `distance` is read.
        """
        tokens = allowed(model, words)
        table = Learner(model).embed(torch.from_numpy(tokens)).detach().float().cpu()
        vectors = self.vectors.float()
        apart = torch.cdist(vectors, table)
        best = apart.argmin(1)
        rng = numpy_rng(0, "distances between tokens")
        some = torch.from_numpy(rng.choice(len(table), min(len(table), 512), replace=False))
        others = torch.cdist(table[some], table)
        others[torch.arange(len(some)), some] = torch.inf
        rows = {
            "place": range(len(vectors)),
            "token": [text_of(model.tokenizer, [int(tokens[k])]) for k in best],
            "distance": apart.gather(1, best[:, None])[:, 0].numpy(),
            "cosine": torch.cosine_similarity(vectors, table[best], dim=1).numpy(),
            "norm": vectors.norm(dim=1).numpy(),
            "between": float(others.amin(1).median()),
        }
        return Prefix(text=text_of(model.tokenizer, tokens[best.numpy()].tolist()), towards=self.towards), pd.DataFrame(rows)

    def shuffled(self, count: int, *, seed: int = 0) -> list[SoftPrefix]:
        """Return controls: vectors of the same lengths in directions drawn at random.

        Args:
            count: How many.
            seed: Draws them.
        """
        out = []
        for k in range(count):
            drawn = torch.randn(self.vectors.shape, generator=torch_rng(seed, "soft control", k))
            unit = torch.nn.functional.normalize(drawn, dim=1)
            out.append(replace(self, vectors=unit * self.vectors.float().norm(dim=1, keepdim=True), history=pd.DataFrame()))
        return out

    def save(self, folder: str | Path) -> Path:
        """Write `adapter_config.json` and `adapter_model.safetensors`, which peft reads as prompt tuning, and `workbench.json`."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_file(folder / WEIGHTS, to_bytes({TENSOR: self.vectors.float().contiguous()}))
        write_file(folder / CONFIG, (json.dumps(dict(self.config), indent=1) + "\n").encode())
        record = {"kind": "soft prefix", "towards": self.towards, "loss": self.loss, "provenance": redact(dict(self.provenance))}
        record["history"] = json.loads(self.history.to_json(orient="records"))
        write_file(folder / RECORD, (json.dumps(record, indent=1, ensure_ascii=False, default=str) + "\n").encode())
        return folder

    @classmethod
    def load(cls, folder: str | Path) -> SoftPrefix:
        """Return what `save`, or peft's prompt tuning, wrote.

        Raises:
            BadInput: The folder holds no soft prefix. DamagedStore: It cannot be read.
        """
        folder = Path(folder)
        config = read_prompt_config(folder)
        try:
            vectors = load_file(folder / WEIGHTS)[TENSOR]
            told = json.loads((folder / RECORD).read_text(encoding="utf-8")) if (folder / RECORD).is_file() else {}
            facts = {k: told[k] for k in ("towards", "loss", "provenance") if k in told}
            return cls(vectors=vectors, config=config, history=pd.DataFrame(told.get("history", [])), **facts)
        except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
            raise DamagedStore(f"{folder} holds no soft prefix that can be read ({type(error).__name__})") from error

    def _shown(self) -> tuple[str, Mapping[str, Any]]:
        line = f"{len(self.vectors)} vectors in front of the prompt, towards {self.towards or 'unknown'}"
        return line, {"vectors": len(self.vectors), "towards": self.towards, "loss on validation prompts": number(self.loss)}


def fit_soft_prefix(
    model: Any,
    prompts: PromptSet,
    towards: str = "safe",
    length: int = 8,
    *,
    validation: PromptSet | None = None,
    words: str | Sequence[str] = "ascii",
    enough: float = ENOUGH,
    plan: Plan | None = None,
    place: str | Path | None = None,
    progress: bool | None = None,
    seed: int = 0,
    **planned: Any,
) -> SoftPrefix:
    """Train vectors in front of prompts by gradient. The loss is that of `search_prefix`.

    Args:
        model: What `load_model` returns, with nothing changed.
        prompts: Contrast pairs to train on.
        towards: "safe" (the answer that the label names), "harm" (the other one), or a text that should follow each prompt.
        length: Vectors.
        validation: Prompts by which the best state is chosen; by default those of a quarter of the identities in `prompts`, which are then
            not trained on.
        words: Tokens whose embeddings, drawn at random, the vectors begin with.
        enough: Log-odds in nats past which a prompt counts no more.
        plan: How the training goes on.
        place: A folder for checkpoints: a training that was killed goes on from there.
        progress: Show a progress bar; by default only in a terminal or a notebook.
        seed: Draws the first vectors and the batches.
        planned: Single values of the plan (`steps=60, lr=3e-2, …`).

    Returns:
        The vectors of the best validation loss.

    Raises:
        BadInput, AnswerTokens, TokenBoundary, PromptTooLong: Before any training.
        Diverged: A loss is not finite.

    Example:
        >>> import workbench as wb
        >>> model = wb.load_model("bundled")
        >>> prompts = wb.prompts.udhr("consider_claim", "harm", n=8, seed=0)
        >>> soft = wb.prefixes.fit_soft_prefix(model, prompts, length=2, steps=2, progress=False)
        >>> soft.vectors.shape
        torch.Size([2, 128])

    Note:
        The best vectors do at least what the best words in front of all tokens do; those that a training reaches need not
        (docs/prefixes.md has a case). They show nothing that anybody could type.

    References:
        Lester et al. 2021, arXiv 2104.08691.
    """
    if not isinstance(length, int) or length < 1:
        raise BadInput(f"length={length!r}: a whole number, 1 at least")
    plan = replace(plan or Plan(steps=200, lr=0.03, every=10), **planned)
    own, held = held_out(prompts, seed) if validation is None else (prompts, validation)
    objective, check = (Objective(model, items, towards, enough=enough) for items in (own, held))
    learner = Learner(model)
    stems = [[pair.negative[: pair.stem] for pair in encode_pairs(model, items)] for items in (own, held)]
    _room(model, [*stems[0], *stems[1]], length + max(len(w) for w in (*objective.wanted, *check.wanted)) - 1)
    tokens = numpy_rng(seed, "soft prefix").choice(allowed(model, words), length)
    vectors = learner.embed(torch.from_numpy(tokens)).detach().float().clone().requires_grad_(True)

    def loss(of: Objective, rows: Sequence[Sequence[int]], items: Sequence[int]) -> torch.Tensor:
        whole = [[*rows[i], *(w[0] for w in of.wanted[i][:-1])] for i in items]
        asks = [[len(rows[i]) - 1 + k for k in range(len(of.wanted[i]))] for i in items]
        return of.lacking(_behind(learner, vectors, whole, asks), list(items)) / len(items)

    def order(turn: int) -> list[int]:
        return numpy_rng(seed, "order of a soft prefix", turn).permutation(len(own)).tolist()

    def step(batch: int) -> dict[str, torch.Tensor]:
        with torch.enable_grad():
            return {"loss": loss(objective, stems[0], batches(range(len(own)), BATCH, batch, order))}

    def validate() -> dict[str, float]:
        parts = [range(i, min(i + ROWS, len(held))) for i in range(0, len(held), ROWS)]
        return {"validation": sum(float(loss(check, stems[1], p)) * len(p) for p in parts) / len(held)}

    facts = {
        "model": info(model).key(), "towards": towards, "length": length, "prompts": own.hash, "validation": held.hash, "enough": enough,
        "words": words if isinstance(words, str) else list(words), "seed": seed,
    }  # fmt: skip
    ended = train({"vectors": vectors}, step, validate, plan, place=place, key=facts, progress=progress, what="train a soft prefix")
    return SoftPrefix(
        vectors=vectors.detach().cpu().clone(),
        towards=towards,
        loss=ended.best[0],
        history=ended.table(),
        config=prompt_config(model, length, info(model).name),
        provenance=provenance(**facts, steps=ended.step, best_step=ended.best[1]),
    )


def _room(model: Any, rows: Sequence[Sequence[int]], more: int) -> None:
    longest = max(map(len, rows)) + more
    if longest > context_of(model):
        raise PromptTooLong(f"with {more} vectors a prompt has {longest} places, and {info(model).name} reads {context_of(model)}")


def _behind(learner: Learner, vectors: torch.Tensor, rows: Sequence[Sequence[int]], asks: Sequence[Sequence[int]]) -> torch.Tensor:
    """Logits, in float32, after places of rows that stand behind vectors; gradients pass to the vectors."""
    count = len(vectors)
    trees = plant([[*[rows[0][0]] * count, *row] for row in rows])
    embeds = learner.embed(trees.ids).detach()
    # rows that begin alike share a tree, and with it the vectors
    cells = sorted(
        {
            (k, int(tree), int(at))
            for r in range(len(rows))
            for k, (tree, at) in enumerate(zip(*trees.where([(r, p) for p in range(count)]), strict=True))
        }
    )
    which, tree, at = (torch.tensor(x, device=embeds.device) for x in zip(*cells, strict=True))
    whole = embeds.index_put((tree, at), vectors.to(embeds)[which])
    logits, _ = learner.run(trees, embeds=whole, ask=[(r, count + p) for r, ask in enumerate(asks) for p in ask])
    assert logits is not None
    return logits


__all__ = ["SoftPrefix", "fit_soft_prefix"]
