"""The report of a dictionary, splicing, and looking at latents: on dictionaries whose quality is known."""

import numpy as np
import pytest
import torch

from workbench.core.errors import BadInput, UnknownName, WrongModel
from workbench.core.tables import pick
from workbench.evaluation.texts import text_nll
from workbench.features import Dictionary, latent_tokens, quality_table, read_streams, splice, top_contexts
from workbench.features.quality import rows_quality

TEXTS = [
    "women have the right to rest", "Statement: do you agree? Answer: yes", "the right to have the right", "true false true false yes no",
    "do women have the right? yes", "Sorry no the statement A B", "rest the rest women agree", "Answer: Sure",
]  # fmt: skip
D = 32


@pytest.fixture(scope="module")
def streams(tiny):
    return read_streams(tiny, TEXTS, layer=1, progress=False)


def exact(streams, **more):
    """Every activation is the sum of its positive and negative coordinates: nothing is lost."""
    eye = torch.eye(D)
    given = {
        "kind": "standard", "encoder": torch.cat([eye, -eye], 1), "decoder": torch.cat([eye, -eye]), "bias": torch.zeros(D),
        "vectors": {"b_enc": torch.zeros(2 * D)}, "provenance": streams.provenance,
    }  # fmt: skip
    return Dictionary(**given | more)


def test_a_dictionary_that_loses_nothing_has_everything_and_its_mean_alone_nothing(tiny, streams):
    flat = exact(streams, vectors={"b_enc": torch.full((2 * D,), -1e6)}, bias=streams.rows.mean(0))
    table = quality_table(tiny, {"exact": exact(streams), "flat": flat}, streams, TEXTS, streams.rows.mean(0))

    def value(name, metric):
        return pick(table, dictionary=name, metric=metric)["value"].iloc[0]

    assert value("exact", "explained variance") == pytest.approx(1, abs=1e-5)
    assert value("exact", "cross-entropy recovered") == pytest.approx(1, abs=1e-3)
    assert value("exact", "latents per token") == pytest.approx(D, abs=0.01)
    assert value("flat", "explained variance") == pytest.approx(0, abs=1e-5)
    assert value("flat", "cross-entropy recovered") == pytest.approx(0, abs=1e-3)
    assert value("flat", "dead latents") == 1
    assert value("flat", "latents per token") == 0


def test_explained_variance_is_its_equation(streams):
    g = torch.Generator().manual_seed(0)
    d = exact(streams, decoder=torch.randn(2 * D, D, generator=g) * 0.05)
    x, out = streams.rows, d.reconstruct(streams.rows)
    by_hand = 1 - float(((x - out) ** 2).sum() / ((x - x.mean(0)) ** 2).sum())
    e = rows_quality(d, streams)["explained variance"]
    assert e.value == pytest.approx(by_hand, rel=1e-4)
    assert e.low < e.value < e.high
    assert e.clusters == len(TEXTS)


def test_splicing_a_dictionary_that_loses_nothing_changes_nothing_and_one_without_a_place_is_refused(tiny, streams):
    before, now = text_nll(tiny, TEXTS), text_nll(tiny, TEXTS, splice(exact(streams)))
    np.testing.assert_allclose(now["nll"], before["nll"], rtol=1e-3)
    broken = text_nll(tiny, TEXTS, splice(exact(streams, decoder=torch.zeros(2 * D, D) + 1e-3)))
    assert (np.abs(broken["nll"] - before["nll"]) > 0.05).any()
    with pytest.raises(BadInput, match="does not say at which site"):
        splice(exact(streams, provenance={}))
    other = exact(streams, provenance={**streams.provenance, "layer": 2})
    with pytest.raises(WrongModel, match="layer"):
        rows_quality(other, streams)


def test_contexts_are_those_of_the_largest_activations_each_once(tiny, streams):
    d = exact(streams)
    table = top_contexts(tiny, d, streams, [3], k=4)
    latents = d.encode(streams.rows)[:, 3]
    assert table["activation"].iloc[0] == pytest.approx(float(latents.max()))
    assert table["activation"].is_monotonic_decreasing
    best = int(latents.argmax())
    ids = streams.tokens[int(streams.text[best])]
    assert table["token"].iloc[0] == tiny.tokenizer.decode([ids[int(streams.place[best])]])
    assert table["acts"].iloc[0] == pytest.approx(float((latents > 0).float().mean()))
    only = top_contexts(tiny, d, streams, [3], k=9, word="sorry")
    assert 0 < len(only) < len(top_contexts(tiny, d, streams, [3], k=99))
    assert not len(top_contexts(tiny, d, streams, [3], word="xyzzy"))
    with pytest.raises(UnknownName, match="latent 64"):
        top_contexts(tiny, d, streams, [64])


def test_tokens_of_a_latent_are_those_of_its_direction(tiny, streams):
    import workbench as wb

    d = exact(streams)
    table = latent_tokens(tiny, d, [0, D], k=3)
    own = wb.top_tokens(tiny, d.latent(0), 3)
    assert pick(table, latent=0)["token"].tolist() == own["token"].tolist()
    # the latent of the opposite direction points the other way
    assert pick(table, latent=D, side="towards")["token"].tolist() == pick(table, latent=0, side="away")["token"].tolist()
