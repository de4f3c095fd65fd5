"""Which tokens of a continuation are scored."""

import numpy as np
import pytest
import torch
from conftest import tiny_model
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from workbench.core import errors
from workbench.evaluation.texts import text_nll
from workbench.models import wrap
from workbench.models.forward import run
from workbench.models.tokens import encode, pad


def test_only_tokens_that_hold_some_of_the_continuation_are_scored():
    """The prompt by itself would be "d", "ab"; with its continuation it is "d", "a", "bc"."""
    vocab = {c: i for i, c in enumerate(["a", "b", "c", "d", " ", "ab", "bc"])}
    tok = Tokenizer(models.BPE(vocab=vocab, merges=[("b", "c"), ("a", "b")]))
    tok.pre_tokenizer = pre_tokenizers.Split(" ", "isolated")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=tok)
    model = wrap(tiny_model("llama", 64, layers=1), tokenizer, name="made up", device="cpu")
    (row,) = encode(model, ["dabc d"])
    assert tokenizer.convert_ids_to_tokens(row) == ["d", "a", "bc", " ", "d"]
    with torch.no_grad():
        logp = torch.log_softmax(run(model, pad(model, [row])).float(), -1)[0]
    for prompt, first in (("d", 1), ("da", 2), ("dab", 2), ("dabc", 3), ("dabc ", 4)):
        scored = text_nll(model, [(prompt, "dabc d"[len(prompt) :])])
        want = -sum(float(logp[k - 1, row[k]]) for k in range(first, len(row)))
        assert scored["tokens"][0] == len(row) - first, prompt
        assert np.isclose(scored["nll"][0], want, atol=1e-5)


def test_a_text_with_a_control_token_is_refused(tiny):
    with pytest.raises(errors.ControlToken, match=r"text 1 holds '</s>' \(in 'women </s> agree'\)"):
        text_nll(tiny, ["women agree", "women </s> agree"])
