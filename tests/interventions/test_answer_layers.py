"""The answer read off every layer is the model's own at the last one."""

import numpy as np
import pytest

import workbench as wb
from workbench.core import errors
from workbench.interventions import answer_layers
from workbench.interventions.answer_layers import answer_lens


def test_the_last_layer_says_what_the_model_says(tiny):
    model = tiny
    prompts = wb.prompts.udhr("since_claim", "harm", n=24)
    acts = wb.capture(model, prompts, position="stem_last", logits="answers")
    asked = wb.answers_of(acts)
    margins = answer_layers._margins(model, answer_layers.readout(model), acts.layer(acts.layers[-1])[:, 0].float(), acts.rows)
    assert np.allclose(margins, asked["margin"], atol=2e-4)
    table = answer_lens(model, acts)
    last = table[table["layer"] == max(acts.layers)].set_index("metric")["value"]
    assert last["agrees"] == 1
    assert last["yes"] == pytest.approx(asked["answer"].mean())


def test_another_place_is_refused(organism):
    acts = wb.capture(organism, wb.prompts.udhr(n=4), layers=[1])
    with pytest.raises(errors.BadInput, match="read off resid_post at stem_last"):
        answer_lens(organism, acts)
