"""Decomposition: planted directions are found exactly, against controls that are not; two directions side by side."""

import numpy as np
import pytest
import torch
from jaxtyping import config as shapes
from scipy.optimize import nnls

from workbench.core.direction import Direction
from workbench.core.errors import BadInput, ShapeMismatch, UnknownName, WrongModel, ZeroDirection
from workbench.core.tables import pick
from workbench.features import bootstrap_directions, decompose, f1, matched, shuffled_directions, side_by_side
from workbench.features.dictionary import Dictionary
from workbench.features.pursuit import pursue, unit_rows

D, WIDTH = 24, 60
PLACE = {"site": "resid_post", "layer": 1, "model": {"digest": "d"}}


def dictionary(seed=0, width=WIDTH, d=D, decoder=None, provenance=PLACE):
    rows = torch.randn(width, d, generator=torch.Generator().manual_seed(seed)) if decoder is None else decoder
    return Dictionary(
        kind="standard", encoder=rows.T.contiguous(), decoder=rows, bias=torch.zeros(rows.shape[1]), vectors={"b_enc": torch.zeros(len(rows))},
        provenance=provenance,
    )  # fmt: skip


SAE = dictionary()
UNITS = unit_rows(SAE.decoder.double().numpy())


def planted(*parts, noise=0.0, seed=0):
    v = sum(c * torch.from_numpy(UNITS[i]).float() for i, c in parts)
    return v + noise * torch.randn(D, generator=torch.Generator().manual_seed(seed)) / D**0.5


def test_a_planted_direction_is_found_exactly_in_nearly_every_seed():
    rng, exact = np.random.default_rng(0), 0
    for seed in range(60):
        i, j = rng.choice(WIDTH, 2, replace=False)
        v = planted((i, 1.0), (j, float(rng.choice([-1, 1])) * 0.8), noise=0.15, seed=seed)
        path = pursue(v.double().numpy(), UNITS, 8)
        exact += set(path.latents[: path.needed(0.9)]) == {i, j}
    assert exact / 60 >= 0.95


def test_a_planted_direction_stands_out_from_every_control_and_a_random_one_does_not():
    d = Direction.of(planted((3, 2.0), (17, -1.5)), method="planted", n=100, provenance=PLACE)
    parts = decompose(d, SAE, random=39)
    assert parts.needed == 2
    assert dict(zip(parts.parts["latent"], parts.parts["coefficient"].round(3), strict=True)) == {3: 2.0, 17: -1.5}
    own = pick(parts.table, subject="direction", metric="explained", latents=2)["value"].iloc[0]
    for control in ("random directions", "permuted dictionary"):
        row = next(pick(parts.table, subject=control, metric="explained", latents=2).itertuples())
        assert own > row.high
        assert row.note.endswith("p = 0.025")
        assert row.n == 39
    drawn = torch.randn(D, generator=torch.Generator().manual_seed(5))
    null = decompose(drawn, SAE, random=39).table
    row = next(pick(null, subject="random directions", metric="explained", latents=2).itertuples())
    assert row.low <= pick(null, subject="direction", metric="explained", latents=2)["value"].iloc[0] <= row.high


def test_non_negative_least_squares_is_scipys_and_misses_what_is_negative():
    v = planted((3, 2.0), (17, 1.5)).double().numpy()
    path = pursue(v, UNITS, 8, "nnls")
    assert set(path.latents[: path.needed(0.9)]) == {3, 17}
    assert (path.coefficients >= 0).all()
    full = nnls(UNITS[list(path.latents)].T, v)[0]
    np.testing.assert_allclose(path.coefficients[-1], full, atol=1e-6)
    negative = pursue(planted((3, 2.0), (17, -1.5)).double().numpy(), UNITS, 2, "nnls")
    assert 17 not in negative.latents


def test_a_path_is_least_squares_at_each_number():
    v = torch.randn(D, generator=torch.Generator().manual_seed(9)).double().numpy()
    path = pursue(v, UNITS, 6)
    for k in range(1, 7):
        chosen = UNITS[list(path.latents[:k])].T
        c = np.linalg.lstsq(chosen, v, rcond=None)[0]
        np.testing.assert_allclose(path.coefficients[k - 1, :k], c, atol=1e-8)
        assert path.at(k) == pytest.approx(1 - np.linalg.norm(v - chosen @ c) ** 2 / np.linalg.norm(v) ** 2)
    first = UNITS @ v
    assert path.latents[0] == int(np.abs(first).argmax())
    assert path.needed(2.0) == 0


def rows_of(v, n=60, noise=2.0, seed=0):
    g = torch.Generator().manual_seed(seed)
    base = torch.randn(n, D, generator=g)
    return base + v / 2 + noise * torch.randn(n, D, generator=g) / D**0.5, base - v / 2 + noise * torch.randn(n, D, generator=g) / D**0.5


def test_resamples_say_which_latents_come_back_and_shuffled_labels_have_none():
    v = planted((3, 2.0), (17, -1.5))
    positive, negative = rows_of(v)
    clusters = np.repeat(np.arange(20), 3)
    d = Direction.of((positive - negative).mean(0), n=60, provenance=PLACE)
    parts = decompose(
        d, SAE, random=5,
        resampled=bootstrap_directions(positive, negative, clusters, resamples=39, provenance=PLACE),
        shuffled=shuffled_directions(positive, negative, clusters, draws=39, provenance=PLACE),
    )  # fmt: skip
    back = parts.parts.set_index("latent")["returns"]
    assert back[3] == back[17] == 1.0
    row = next(pick(parts.table, subject="direction", metric="explained", latents=2).itertuples())
    shuffled = next(pick(parts.table, subject="shuffled labels", metric="explained", latents=2).itertuples())
    assert shuffled.high < row.low <= row.value <= row.high
    lengths = [x.scale for x in shuffled_directions(positive, negative, clusters, draws=20)]
    assert max(lengths) < d.scale


def test_resampled_directions_are_means_over_clusters(monkeypatch):
    positive, negative = rows_of(planted((1, 1.0)), n=8)
    names = np.repeat(list("abcd"), 2)
    from workbench.core.stats import cluster_weights

    one = bootstrap_directions(positive, negative, names, resamples=3, seed=4)[2]
    weights = cluster_weights(names, 8, 3, 4)[2]
    by_hand = sum(w * (p - q) for w, p, q in zip(weights, positive, negative, strict=True)) / weights.sum()
    torch.testing.assert_close(one.vector, by_hand.float(), rtol=1e-4, atol=1e-5)
    monkeypatch.setattr(shapes, "jaxtyping_disable", True)  # as for users, who have no checks of types
    with pytest.raises(ShapeMismatch, match="paired rows"):
        bootstrap_directions(positive, negative[:5])
    with pytest.raises(BadInput, match="3 clusters"):
        shuffled_directions(positive[:6], negative[:6], list("aabbcc"))


def test_latents_come_back_in_dictionaries_of_other_seeds_or_do_not():
    d = planted((3, 2.0), (17, -1.5))
    order = torch.randperm(WIDTH, generator=torch.Generator().manual_seed(0))
    same = dictionary(decoder=SAE.decoder[order] + 0.1 * torch.randn(WIDTH, D, generator=torch.Generator().manual_seed(1)))
    assert decompose(d, SAE, random=2, seeds=[same, same]).parts["seeds"].tolist() == [1.0, 1.0]
    assert decompose(d, SAE, random=2, seeds=[dictionary(9)]).parts["seeds"].tolist() == [0.0, 0.0]
    bare = decompose(d, SAE, random=2, untrained=[dictionary(9), dictionary(10)])
    row = next(pick(bare.table, subject="untrained model's dictionary", metric="explained", latents=2).itertuples())
    assert row.n == 2
    assert row.high < 0.9


def test_two_directions_share_oppose_and_differ():
    a = decompose(planted((3, 2.0), (17, -1.5), (5, 1.2)), SAE, random=2)
    b = decompose(planted((3, 1.5), (17, 1.5), (40, 1.2)), SAE, random=2)
    table = side_by_side(a, b, draws=99).set_index("relation")
    assert table["value"].to_dict() == {"shared": 1, "opposed": 1, "only first": 1, "only second": 1}
    assert table.loc["opposed", "p"] <= 0.1
    self = side_by_side(a, a, draws=19).set_index("relation")["value"]
    assert (self["shared"], self["opposed"]) == (3, 0)
    drawn = decompose(torch.randn(D, generator=torch.Generator().manual_seed(3)), SAE, random=2)
    null = side_by_side(a, drawn, draws=99).set_index("relation")
    assert null.loc["shared", "p"] > 0.05
    with pytest.raises(BadInput, match="one dictionary"):
        side_by_side(a, decompose(planted((3, 1.0)), dictionary(4), random=2))


def test_probes_and_vectors_are_directions():
    import workbench as wb

    positive, negative = rows_of(planted((3, 3.0)), n=40)
    probe = wb.fit_mass_mean(positive, negative)
    assert decompose(probe, SAE, random=2).path.latents[0] == 3
    with pytest.raises(BadInput, match="a direction, a linear probe or a vector"):
        decompose("truth", SAE)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: decompose(torch.zeros(D), SAE), ZeroDirection, "no direction"),
        (lambda: decompose(torch.full((D,), float("nan")), SAE), BadInput, "NaN"),
        (lambda: decompose(torch.ones(5), SAE), ShapeMismatch, "width 5"),
        (lambda: decompose(torch.ones(D), SAE, method="ica"), UnknownName, "omp"),
        (lambda: decompose(torch.ones(D), SAE, most=0), BadInput, "most=0"),
        (lambda: decompose(torch.ones(D), SAE, seeds=[dictionary(d=5)]), ShapeMismatch, "width 24 and 5"),
        (lambda: decompose(Direction.of(torch.ones(D), provenance={"layer": 3}), SAE), WrongModel, "layer"),
        (
            lambda: decompose(Direction.of(torch.ones(D), provenance={"model": {"digest": "e"}}), SAE),
            WrongModel,
            "another processing mode|of",
        ),
    ],
)
def test_bad_input_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_recovery_is_one_for_the_features_themselves():
    g = torch.Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(6, 40, generator=g), dim=1)
    present = (torch.rand(300, 6, generator=g) < 0.3) * (1 + torch.rand(300, 6, generator=g))
    one = dictionary(decoder=directions[[3, 1, 2, 0, 5, 4]].contiguous(), provenance={})
    exact = Dictionary(
        kind="standard",
        encoder=torch.linalg.pinv(one.decoder),
        decoder=one.decoder,
        bias=torch.zeros(40),
        vectors={"b_enc": torch.full((6,), -0.01)},
    )
    cosine, which = matched(exact, directions)
    torch.testing.assert_close(cosine, torch.ones(6))
    assert which.tolist() == [3, 1, 2, 0, 5, 4]
    assert (f1(exact, directions, present @ directions, present) == 1).all()
    assert matched(exact.permuted(), directions)[0].mean() < 0.7
    with pytest.raises(ShapeMismatch, match="width 3"):
        matched(exact, torch.ones(2, 3))


def test_what_an_adapter_writes_is_decomposed_and_another_place_is_refused():
    from workbench.training import Adapter
    from workbench.training.adapter import Part

    written = planted((3, 2.0), (17, -1.5))
    up = torch.stack([written, 0.01 * torch.randn(D, generator=torch.Generator().manual_seed(3))], 1)
    part = Part(up=up, down=torch.eye(2, D))
    adapter = Adapter(kind="residual", parts={"resid_post[1]": part}, rank=2, alpha=2.0)
    parts = decompose(adapter, SAE, random=39)
    assert set(parts.chosen) == {3, 17}
    assert parts.signs[3] == -parts.signs[17]
    assert parts.direction.scale == pytest.approx(float(written.norm()), rel=0.05)
    row = next(pick(parts.table, subject="random directions", metric="explained", latents=2).itertuples())
    assert pick(parts.table, subject="direction", metric="explained", latents=2)["value"].item() > row.high
    noise = Adapter(
        kind="residual",
        parts={"resid_post[1]": Part(up=torch.randn(D, 1, generator=torch.Generator().manual_seed(4)), down=torch.eye(1, D))},
        rank=1,
    )
    null = decompose(noise, SAE, random=39).table
    row = next(pick(null, subject="random directions", metric="explained", latents=2).itertuples())
    assert pick(null, subject="direction", metric="explained", latents=2)["value"].item() <= row.high
    elsewhere = Adapter(kind="residual", parts={"resid_post[0]": part}, rank=2)
    with pytest.raises(BadInput, match=r"the dictionary is of resid_post\[1\], and the adapter \(residual\) has resid_post\[0\]"):
        decompose(elsewhere, SAE)
