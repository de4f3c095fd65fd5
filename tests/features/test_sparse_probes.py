"""Sparse probing: a planted latent is found on training rows and reads held-out ones; without a signal nothing does."""

import numpy as np
import pytest
import torch

from workbench.core.errors import BadInput, OneClass, ShapeMismatch
from workbench.core.tables import pick
from workbench.features.dictionary import Dictionary
from workbench.features.sparse_probes import Labelled, sparse_probes

D, WIDTH = 16, 40
G = torch.Generator().manual_seed(0)
DECODER = torch.nn.functional.normalize(torch.randn(WIDTH, D, generator=G), dim=1)
SAE = Dictionary(
    kind="topk", k=6, encoder=DECODER.T.contiguous(), decoder=DECODER, bias=torch.zeros(D), vectors={"b_enc": torch.zeros(WIDTH)}
)


def rows(latent=None, n=160, people="train", seed=1):
    """Rows of random latents; where the label is 1, one more latent acts."""
    g = torch.Generator().manual_seed(seed)
    y = np.arange(n) % 2
    acts = torch.rand(n, WIDTH, generator=g) * (torch.rand(n, WIDTH, generator=g) < 0.1)
    if latent is not None:
        acts[:, latent] = torch.from_numpy(y).float() * 2
    names = np.array([f"{people} {k // 4}" for k in range(n)])
    return Labelled(x=acts @ DECODER, y=y, people=names)


def test_a_planted_latent_is_found_and_reads_held_out_people():
    table = sparse_probes(SAE, rows(7), rows(7, people="test", seed=2), numbers=(1, 4))
    own = pick(table, subject="latents", metric="auroc").set_index("latents")
    assert own.loc[1, "note"] == "latents 7"
    assert own.loc[1, "value"] > 0.95
    for control in ("shuffled labels", "random latents"):
        null = pick(table, subject=control, metric="auroc", latents=1)
        assert own.loc[1, "low"] > null["value"].item()
        assert null["n"].item() == 39
    # a shuffle may choose the planted latent by chance, in one draw of forty
    assert pick(table, subject="shuffled labels", metric="auroc", latents=1)["note"].item().endswith(("p = 0.025", "p = 0.05"))
    assert own.loc[1, "value"] > pick(table, subject="axes of the stream", metric="auroc", latents=1)["value"].item()
    assert pick(table, subject="dense probe on the stream", metric="auroc")["value"].item() > 0.95


def test_without_a_signal_nothing_is_read():
    table = sparse_probes(SAE, rows(), rows(people="test", seed=2), numbers=(1, 8))
    for row in pick(table, metric="auroc").itertuples():
        assert row.low < 0.5 < row.high, row
    own = pick(table, subject="latents", metric="accuracy")
    assert (own["low"] < 0.5).all()


def test_latents_are_chosen_on_training_rows_alone():
    one = sparse_probes(SAE, rows(7), rows(7, people="test", seed=2), numbers=(2,), draws=3)
    other = sparse_probes(SAE, rows(7), rows(9, people="test", seed=2), numbers=(2,), draws=3)
    notes = [pick(t, subject="latents", metric="auroc")["note"].item() for t in (one, other)]
    assert notes[0] == notes[1]
    # another latent carries the label of these rows: what was chosen says nothing about it
    assert pick(other, subject="latents", metric="auroc")["low"].item() < 0.5


def test_what_cannot_be_probed_is_refused():
    train, test = rows(7), rows(7, people="test")
    with pytest.raises(BadInput, match="40 identities are on both sides, 'train 0'"):
        sparse_probes(SAE, train, train)
    with pytest.raises(BadInput, match="1 to 16"):
        sparse_probes(SAE, train, test, numbers=(17,))
    with pytest.raises(OneClass, match="both of them"):
        Labelled(x=train.x, y=np.zeros(160, int), people=train.people)
    with pytest.raises(ShapeMismatch, match="3 labels"):
        Labelled(x=train.x, y=np.arange(3), people=train.people)
    paired = Labelled.of_pairs(train.x[:3], train.x[3:6], ["a", "b", "c"])
    assert paired.y.tolist() == [1, 1, 1, 0, 0, 0]
    assert paired.people.tolist() == ["a", "b", "c", "a", "b", "c"]
