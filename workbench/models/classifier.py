"""Hugging Face text classifiers: loading one, and the probabilities that it gives to texts."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification

from ..core.errors import BadInput, NotFinite, WorkbenchError
from ..core.show import Shown, some
from .dequantised import ready
from .digest import weights_digest
from .load import device_of, load_tokenizer
from .source import building, check_complete, check_folder, check_memory, dtype_of, explain

# these models count positions from behind the padding token, and so read fewer tokens than they have positions
_OFFSET = ("roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "longformer", "mpnet")


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class TextClassifier(Shown):
    """A classifier of texts, ready to use.

    Attributes:
        name: Hub name or the folder's name.
        digest: Hash of its weights (16 hex digits).
        labels: Its classes, in the order of its outputs.
        independent: Each class has a probability of its own (several may be true at once); otherwise they sum to 1.
        context: Number of tokens that it reads of a text.
        model, tokenizer: The Hugging Face objects.
    """

    name: str
    digest: str
    labels: tuple[str, ...]
    independent: bool
    context: int
    model: Any
    tokenizer: Any

    def _shown(self) -> tuple[str, dict[str, Any]]:
        return f"{self.name}, {len(self.labels)} labels: {some(self.labels)}", {
            "name": self.name,
            "weights": self.digest,
            "labels": some(self.labels, 30),
            "context": f"{self.context:,} tokens",
            "probabilities": "one per label" if self.independent else "sum to 1 over labels",
        }


def load_classifier(source: str | Path, *, device: str | torch.device = "auto", revision: str | None = None) -> TextClassifier:
    """Load a sequence classifier in evaluation mode.

    Args:
        source: A local folder written by `save_pretrained`, or a hub name.
        device: "auto" (a GPU if there is one), "cpu", "cuda", …
        revision: Branch, tag or commit on the hub.

    Returns:
        The classifier, without gradients on its weights.

    Raises:
        UnknownModel, NetworkNeeded, GatedModel: The model cannot be found or downloaded.
        DamagedModel: The folder cannot be read, or holds no classification head (a language model has none, and one drawn
            at random would classify at random).
        MissingTokenizer: The folder or repository has no tokenizer.
        BadInput: The model is a regression, whose outputs are no probabilities.
    """
    path, shown = ready(str(source))
    local, place = Path(path).is_dir(), device_of(device)
    kwargs: dict[str, Any] = {"revision": revision} if revision and not local else {}
    if local:
        check_folder(Path(path))
    try:
        config: Any = AutoConfig.from_pretrained(path, trust_remote_code=False, **kwargs)
        if local:
            check_memory(Path(path), dtype_of("auto", config, place), place)
        if config.problem_type == "regression":
            raise BadInput(f"{shown} is a regression; its output is no probability. Use a classifier")
        tokenizer = load_tokenizer(path, shown, kwargs)
        with building():
            loaded: Any = AutoModelForSequenceClassification.from_pretrained(
                path,
                dtype=dtype_of("auto", config, place),
                trust_remote_code=False,
                use_safetensors=True,
                output_loading_info=True,
                **kwargs,
            )
        model, report = loaded
        check_complete(shown, report)
    except WorkbenchError:
        raise
    except Exception as error:
        raise explain(error, shown, local=local) from error
    model.eval().requires_grad_(False).to(place)
    tokenizer.padding_side = "right"
    if model.config.pad_token_id is None:
        model.config.pad_token_id = tokenizer.pad_token_id
    return TextClassifier(
        name=shown,
        digest=weights_digest(model),
        labels=tuple(str(config.id2label[i]) for i in range(config.num_labels)),
        # a single output has nothing to sum to 1 with
        independent=config.problem_type == "multi_label_classification" or config.num_labels == 1,
        context=_context(model.config, tokenizer),
        model=model,
        tokenizer=tokenizer,
    )


@torch.no_grad()
def classify(classifier: TextClassifier, texts: Sequence[str], *, batch_size: int = 16) -> tuple[np.ndarray, list[int]]:
    """Return the probability of each class for each text, and how long the texts are.

    Args:
        classifier: What `load_classifier` returns.
        texts: Texts; of a text longer than `classifier.context` only the beginning is read.
        batch_size: Texts of one forward pass; raising it takes more memory.

    Returns:
        Probabilities, `text x label`, and each text's number of tokens, special ones included.

    Raises:
        NotFinite: A logit is NaN or infinite.
    """
    model, tokenizer = classifier.model, classifier.tokenizer
    out = np.full((len(texts), len(classifier.labels)), np.nan)
    if not len(texts):
        return out, []
    plain: dict[str, Any] = {"split_special_tokens": True}  # "[SEP]" in a text is text
    lengths = [len(ids) for ids in tokenizer(list(texts), verbose=False, **plain)["input_ids"]]
    takes = inspect.signature(model.forward).parameters
    if tokenizer.pad_token_id is None:
        batch_size = 1  # nothing to fill shorter rows with
    order = sorted(range(len(texts)), key=lambda i: lengths[i])
    for start in range(0, len(order), batch_size):
        chunk = order[start : start + batch_size]
        batch = tokenizer(
            [texts[i] for i in chunk],
            padding=len(chunk) > 1,
            truncation=True,
            max_length=classifier.context,
            return_tensors="pt",
            **plain,
        )
        logits = model(**{k: v.to(model.device) for k, v in batch.items() if k in takes}).logits.float()
        out[chunk] = (logits.sigmoid() if classifier.independent else logits.softmax(-1)).cpu().numpy()
    if not np.isfinite(out).all():
        raise NotFinite(f"{classifier.name}: the logits of {int((~np.isfinite(out)).any(1).sum())} texts are NaN or infinite")
    return out, lengths


def _context(config: Any, tokenizer: Any) -> int:
    positions = getattr(config, "max_position_embeddings", None) or tokenizer.model_max_length
    if config.model_type in _OFFSET and config.pad_token_id is not None:
        positions -= config.pad_token_id + 1
    return int(min(positions, tokenizer.model_max_length))
