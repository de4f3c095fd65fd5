"""Directions as values, how they are extracted, the 2x2, subspaces, erasure, models against models."""

import numpy as np
import pytest
import torch

import workbench as wb
from workbench.core import errors
from workbench.core.seeds import numpy_rng, torch_rng
from workbench.core.stats import wilson
from workbench.directions import (
    METHODS,
    carried,
    compare_subspaces,
    direction_efficiency,
    erase_and_reprobe,
    fit_eraser,
    fit_map,
    from_statistics,
    head_directions,
    linear_cka,
    mutual_knn,
    optimise_direction,
    place_of,
    sample,
)

PLACE = {"model": {"name": "m", "digest": "d", "processing": "none"}, "site": "resid_post", "layer": 3}


def pairs(n=200, d=24, signal=4.0, seed=0, spread=None):
    """Rows of two kinds about the same items, apart along the first axis."""
    g = numpy_rng(seed, "directions")
    scale = np.ones(d) if spread is None else np.asarray(spread)
    common = 3 * g.standard_normal((n, d)) * scale
    v = np.eye(d)[0] * signal / 2
    return tuple(torch.tensor(common + s * v + g.standard_normal((n, d)) * scale).float() for s in (1, -1))


# ------------------------------------------------------------------ the value


def test_a_direction_is_saved_with_its_provenance_and_loaded_only_where_it_belongs(tmp_path):
    x, y = pairs()
    d = wb.extract_direction(x, y, provenance=PLACE)
    d.save(tmp_path / "d.safetensors")
    again = wb.Direction.load(tmp_path / "d.safetensors", place=PLACE)
    assert torch.equal(again.unit, d.unit)
    assert (again.scale, again.method, again.reliability, again.n) == (d.scale, d.method, d.reliability, d.n)
    assert again.provenance["site"] == "resid_post"
    for other, match in (({"layer": 4}, "layer 3"), ({"model": {"digest": "x", "processing": "none"}}, "another processing mode")):
        with pytest.raises(errors.WrongModel, match=match):
            wb.Direction.load(tmp_path / "d.safetensors", place=other)
    (tmp_path / "e.safetensors").write_bytes(b"nothing")
    with pytest.raises(errors.DamagedStore, match="holds no direction"):
        wb.Direction.load(tmp_path / "e.safetensors")


def test_arithmetic_keeps_provenance_and_refuses_strangers():
    x, y = pairs()
    one = wb.extract_direction(x, y, provenance=PLACE)
    two = wb.Direction.of(torch.eye(24)[1] * 2, method="made", provenance=PLACE)
    both = one + two
    torch.testing.assert_close(both.vector, one.vector + two.vector, atol=1e-5, rtol=0)
    assert [p["method"] for p in both.provenance["made_of"]] == ["mean_difference", "made"]
    assert both.provenance["layer"] == 3
    torch.testing.assert_close((one - two).vector, one.vector - two.vector, atol=1e-5, rtol=0)
    torch.testing.assert_close((-2 * one).vector, -2 * one.vector, atol=1e-5, rtol=0)
    torch.testing.assert_close((-one).unit, -one.unit)
    assert abs(float(one.without(two).unit @ two.unit)) < 1e-6
    with pytest.raises(errors.ZeroDirection, match="nothing is left"):
        two.without(two)
    with pytest.raises(errors.WrongModel, match="layer 3"):
        one + wb.Direction.of(torch.ones(24), provenance={**PLACE, "layer": 1})
    with pytest.raises(errors.ZeroDirection, match="zeros"):
        wb.Direction.of(torch.zeros(4))
    with pytest.raises(errors.NotFinite, match="NaN"):
        wb.Direction.of(torch.full((4,), float("nan")))
    with pytest.raises(errors.ShapeMismatch, match="width 24 and 3"):
        one + wb.Direction.of(torch.ones(3))
    with pytest.raises(errors.ZeroDirection, match="length 1"):
        wb.Direction(unit=torch.full((3,), float("nan")), scale=1.0)
    with pytest.raises(errors.ShapeMismatch, match="width 24"):
        one.project(torch.zeros(3, 5))


# ------------------------------------------------------------------ extraction


@pytest.mark.parametrize("method", METHODS)
def test_every_method_finds_a_planted_direction_and_says_how_reliably(method):
    """With one loud nuisance common to both rows of an item, which paired differences do not see."""
    x, y = pairs(signal=6.0)
    d = wb.extract_direction(x, y, method)
    assert float(d.unit[0]) > (0.75 if method == "lat" else 0.9), f"{method}: {d.unit[:3]}"  # random pairs see the nuisance too
    assert d.reliability > (0.35 if method == "lat" else 0.6)
    null = wb.extract_direction(
        *(v - v.mean(0) + 0.01 * torch.eye(24)[2] * s for v, s in zip(pairs(signal=0.0), (1, -1), strict=True)), method
    )
    assert abs(float(null.unit[0])) < 0.7


def test_the_scale_is_the_length_of_the_mean_difference():
    x, y = pairs(n=2000, signal=4.0)
    for method in ("mean_difference", "pca", "ccs"):
        assert wb.extract_direction(x, y, method, halves=0).scale == pytest.approx(4.0, rel=0.05)


def test_halves_share_no_cluster():
    """Eight rows of one identity share noise: halves that part rows see it, halves that part identities do not."""
    g = torch_rng(0, "clusters")
    people = np.repeat(np.arange(12), 8)
    x, y = ((torch.randn(12, 64, generator=g)[people] + 0.3 * torch.randn(96, 64, generator=g)) for _ in range(2))
    names = ([f"a{p}" for p in people], [f"b{p}" for p in people])
    assert wb.extract_direction(x, y).reliability > 0.7
    assert abs(wb.extract_direction(x, y, clusters=names).reliability) < 0.35


def test_extraction_errors():
    x, y = pairs(20)
    for error, match, call in (
        (errors.UnknownName, "no method named 'mean'", lambda: wb.extract_direction(x, y, "mean")),
        (errors.ShapeMismatch, "contrast pairs", lambda: wb.extract_direction(x, y[:5], "pca")),
        (errors.ShapeMismatch, "differ in width", lambda: wb.extract_direction(x, y[:, :3])),
        (errors.TooFew, "at least", lambda: wb.extract_direction(x[:2], y)),
        (errors.ZeroDirection, "zeros", lambda: wb.extract_direction(x, x)),
        (errors.ShapeMismatch, "clusters", lambda: wb.extract_direction(x, y, clusters=[1, 2])),
    ):
        with pytest.raises(error, match=match):
            call()


def test_streamed_statistics_give_the_same_direction(organism):
    prompts = wb.prompts.udhr(n=24)
    acts = wb.capture(organism, prompts, layers=[3], progress=False)
    streamed = wb.stream_statistics(organism, prompts, layers=[3], second=True, progress=False)
    names = streamed.groups
    assert len(names) == 2, names
    one = from_statistics(streamed, 3, names[1], names[0])
    x = acts.layer(3)
    two = wb.extract_direction(x[:, 1], x[:, 0], provenance=place_of(acts, 3))
    assert abs(float(one.unit @ two.unit)) > 0.9999
    assert one.scale == pytest.approx(two.scale, rel=1e-4)
    assert from_statistics(streamed, 3, names[1], names[0], whitened=True).method.startswith("whitened")


def test_head_directions_add_up_to_that_of_the_attention_output(organism):
    prompts = wb.prompts.udhr(n=40)
    z = wb.capture(organism, prompts, site="z", layers=[2], progress=False).layer(2)
    out = wb.capture(organism, prompts, site="attn_out", layers=[2], progress=False).layer(2)
    table, found = head_directions(z[:, 1], z[:, 0], wb.models.head_outputs(organism, 2))
    assert len(table) == 4
    assert table["share"].sum() == pytest.approx(1)
    together = sum(d.vector for d in found)
    torch.testing.assert_close(together, out[:, 1].mean(0) - out[:, 0].mean(0), atol=1e-3, rtol=1e-3)


def test_optimising_on_the_sphere_finds_the_lowest_and_keeps_away():
    target = torch.eye(16)[5]
    start = wb.Direction.of(torch.ones(16), method="start")
    found, losses = optimise_direction(lambda v: -(v @ target), start, steps=200)
    assert float(found.unit @ target) > 0.99
    assert losses[-1] < losses[0]
    assert found.scale == pytest.approx(4.0)
    apart, _ = optimise_direction(lambda v: -(v @ (target + torch.eye(16)[6])), start, steps=200, away_from=[found])
    assert abs(float(apart.unit @ found.unit)) < 1e-4


def test_efficiency_rises_with_rows():
    table = direction_efficiency(*pairs(400, signal=2.0), methods=["mean_difference"], sizes=[4, 64], paired=True)
    assert table["value"].iloc[1] > table["value"].iloc[0] + 0.2


# ------------------------------------------------------------------ 2x2 and subspaces


def factorial(angle=90.0, interaction=0.0, n=200, seed=0):
    g = numpy_rng(seed, "factorial")
    e = np.eye(40) * 5
    a, b = e[0], np.cos(np.radians(angle)) * e[0] + np.sin(np.radians(angle)) * e[1]
    base = g.standard_normal((n, 40))
    return {
        (i, j): base + g.standard_normal((n, 40)) + i * a + j * b + i * j * interaction * e[2] for i in (0, 1) for j in (0, 1)
    }, list(range(n))  # fmt: skip


def test_main_effects_lie_at_the_planted_angle_and_the_sum_is_the_whole():
    cells, items = factorial(120)
    found = wb.factorial_geometry(cells, ("harm", "safety"), items=items, draws=200)
    assert found.reports["harm", "safety"].verdict == "partly opposite"
    effects = found.effects.set_index("effect")
    assert effects.loc["harm", "value"] == pytest.approx(5, rel=0.1)
    assert effects.loc["harm x safety", "low"] == 0
    assert effects.loc["harm", "p"] < 0.01
    assert {r.verdict for r in found.additive.values()} == {"aligned"}
    spots = found.cells.set_index("cell")
    assert spots.loc["11", "harm"] - spots.loc["01", "harm"] == pytest.approx(1, abs=0.1)


def test_an_effect_without_measurable_length_is_no_ruler():
    cells, items = factorial(90)
    flat = {(i, j): rows - i * np.eye(40)[0] * 5 for (i, j), rows in cells.items()}  # the first factor does nothing
    spots = [wb.factorial_geometry(flat, ("harm", "safety"), items=items, draws=0).cells]
    spots += [
        wb.factorial_geometry({c: r[k:] for c, r in flat.items()}, ("harm", "safety"), items=items[k:], draws=0).cells for k in (10, 20, 30)
    ]
    undefined = [bool(s["harm"].isna().all()) for s in spots]
    assert any(undefined), "planted so that some squared length falls below 0"
    for table, nothing in zip(spots, undefined, strict=True):
        assert nothing or table["harm"].abs().max() < 1e6
        assert table["safety"].notna().all()


def test_an_interaction_is_seen_where_there_is_one():
    cells, items = factorial(90, interaction=3.0)
    found = wb.factorial_geometry(cells, ("harm", "safety"), items=items, draws=0)
    effects = found.effects.set_index("effect")
    assert effects.loc["harm x safety", "share"] == pytest.approx(56 / (56 + 81 + 81), abs=0.03)
    assert next(iter(found.additive.values())).verdict == "partly aligned"
    with pytest.raises(errors.BadInput, match="2x2"):
        wb.factorial_geometry({(0, 0): cells[0, 0]})


def parts(axes, n=120, seed=0):
    g = numpy_rng(seed, "parts")
    e = np.eye(50) * 5
    return {f"p{k}": (g.standard_normal((n, 50)) + e[list(some)].sum(0), g.standard_normal((n, 50))) for k, some in enumerate(axes)}


def test_subspaces_share_what_was_planted():
    """Both concepts hold axis 0; the rest is their own."""
    one, two = parts([(0, 1), (0, 2)], seed=3), parts([(0, 3), (0, 4)], seed=4)
    found = compare_subspaces(harm=one, safety=two)
    assert found.dimensions == {"harm": 2, "safety": 2}
    # the planes meet nowhere; their nearest vectors are (2, 1, 1) and (2, ., ., 1, 1) / sqrt 6: cosine 4/6
    assert found.angles["value"].iloc[0] == pytest.approx(4 / 6, abs=0.08)
    assert found.angles["value"].iloc[1] == pytest.approx(0, abs=0.15)
    # each part, (1, 1) / sqrt 2, has a squared cosine of 1/3 with the other's plane
    assert found.shared["value"].tolist() == pytest.approx([1 / 3, 1 / 3], abs=0.06)
    assert ((found.shared["low"] < 1 / 3) & (found.shared["high"] > 1 / 3)).all()
    assert found.cones["smallest_cosine"].tolist() == pytest.approx([0.5, 0.5], abs=0.08)
    # eigenvalues 3:1, (3 + 1)^2 / (9 + 1)
    assert list(found.effective_rank.values()) == pytest.approx([1.6, 1.6], abs=0.15)


def test_subspaces_without_common_axes_are_orthogonal():
    found = compare_subspaces(harm=parts([(1,), (2,)], seed=1), safety=parts([(3,), (4,)], seed=2))
    assert found.shared["value"].abs().max() < 0.05
    assert found.angles["value"].abs().max() < 0.2
    g = numpy_rng(0, "no signal")
    noise = [{f"p{k}": tuple(g.standard_normal((2, 60, 30))) for k in range(2)} for _ in range(2)]
    nothing = compare_subspaces(harm=noise[0], safety=noise[1])
    assert nothing.shared["value"].isna().all(), "no length to have a share of"
    with pytest.raises(errors.BadInput, match="mapping of parts"):
        compare_subspaces(harm=parts([(1,), (2,)])["p0"], safety=parts([(3,), (4,)]))
    with pytest.raises(errors.BadInput, match="two parts"):
        compare_subspaces(harm=parts([(1,)]), safety=parts([(3,), (4,)]))


# ------------------------------------------------------------------ erasure


def crossed(n=640, d=30, angle=90.0, seed=0):
    g = numpy_rng(seed, "erasure")
    h, s = np.arange(n) % 2, (np.arange(n) // 2) % 2
    x = g.standard_normal((n, d))
    x[:, 0] += 4 * h + 4 * np.cos(np.radians(angle)) * s
    x[:, 1] += 4 * np.sin(np.radians(angle)) * s
    return x, {"harm": h, "safety": s}, np.arange(n) // 8


@pytest.mark.parametrize("eraser", ["leace", "mean_projection", "inlp"])
def test_erasing_one_leaves_the_other(eraser):
    x, concepts, groups = crossed()
    table = erase_and_reprobe(x, concepts, groups=groups, erasers=(eraser, "random"), draws=2)
    at = table[table["metric"] == "accuracy"].set_index(["erased", "method", "read", "probe"])["value"]
    for probe in ("linear", "nonlinear"):
        assert at["nothing", "none", "harm", probe] > 0.95
        assert at["harm", eraser, "harm", probe] < 0.68
        assert at["harm", eraser, "safety", probe] > 0.9
        assert at["harm", "random", "harm", probe] > 0.9
    loss = table[table["metric"] == "loss"].set_index(["erased", "method", "read", "probe"])
    assert loss.loc[("harm", eraser, "harm", "linear"), "low"] > 0.2
    assert loss.loc[("harm", eraser, "safety", "linear"), "value"] < 0.05


def test_one_bipolar_axis_is_gone_for_both():
    """Harm and safety on one axis: what erases one takes the other along."""
    x, concepts, groups = crossed(angle=180.0)
    table = erase_and_reprobe(x, concepts, groups=groups, erasers=("mean_projection",), probes=("linear",))
    at = table[table["metric"] == "accuracy"].set_index(["erased", "method", "read"])["value"]
    assert at["nothing", "none", "safety"] > 0.7
    assert at["harm", "mean_projection", "safety"] < 0.6


def test_leace_leaves_no_linear_trace_in_training_rows():
    x, concepts, _ = crossed()
    rows = torch.tensor(x).float()
    out = fit_eraser(rows, concepts["harm"])(rows)
    difference = out[concepts["harm"] == 1].mean(0) - out[concepts["harm"] == 0].mean(0)
    assert float(difference.norm()) < 1e-4


def test_erasure_errors():
    x, concepts, groups = crossed(64)
    for error, match, arguments in (
        (errors.TooFew, "ten at least", {"groups": groups}),
        (errors.UnknownName, "no eraser named", {"groups": np.arange(64), "erasers": ("rub",)}),
        (errors.UnknownName, "no probe named", {"groups": np.arange(64), "probes": ("deep",)}),
        (errors.ShapeMismatch, "groups of shape", {"groups": groups[:3]}),
    ):
        with pytest.raises(error, match=match):
            erase_and_reprobe(x, concepts, **arguments)
    with pytest.raises(errors.OneClass, match="all 64 labels"):
        erase_and_reprobe(x, {"harm": np.ones(64, int)}, groups=np.arange(64))


# ------------------------------------------------------------------ models against models


def spaces(n=240, seed=0):
    g = torch_rng(seed, "spaces")
    x = torch.randn(n, 20, generator=g)
    turn = torch.linalg.qr(torch.randn(30, 20, generator=g)).Q
    return x, 3 * x @ turn.T + 0.05 * torch.randn(n, 30, generator=g) + 1, torch.randn(n, 30, generator=g)


def test_similarities_see_a_rotated_copy_and_not_a_stranger():
    x, same, other = spaces()
    for function, chance in ((linear_cka, 0.0), (mutual_knn, 10 / 239)):
        near, far = function(x, same), function(x, other)
        assert near.value > 0.95
        assert far.low - 0.02 <= chance <= far.high + 0.02
        assert near.low <= near.value <= near.high


def test_cka_is_unbiased_where_the_plain_one_is_not():
    """32 rows in 512 dimensions: the biased estimate is near 1 for unrelated rows."""
    g = torch_rng(0, "cka")
    values = [linear_cka(*torch.randn(2, 32, 512, generator=g)).value for _ in range(20)]
    assert abs(np.mean(values)) < 0.05


@pytest.mark.parametrize("method", ["ridge", "procrustes"])
def test_a_direction_is_carried_across_and_a_shuffled_map_carries_nothing(method):
    x, same, _ = spaces(400)
    y = (x[:, 0] > 0).numpy().astype(int)
    d = wb.extract_direction(x[:200][y[:200] == 1], x[:200][y[:200] == 0])
    table = carried(d, x[:200], same[:200], same[200:], y[200:], method=method).set_index("control")
    assert table.loc["", "low"] > 0.9
    assert table.loc["shuffled map", "low"] < 0.5 < table.loc["shuffled map", "high"]
    assert table.loc["", "p"] == 0.01, "1 of 99 shuffles and itself"
    for more, error, text in (
        ({"shuffles": 20}, errors.BadInput, "39 at least"),
        ({"method": "lasso"}, errors.BadInput, "ridge or procrustes"),
    ):
        with pytest.raises(error, match=text):
            carried(d, x[:200], same[:200], same[200:], y[200:], **{"method": method, **more})
    with pytest.raises(errors.ShapeMismatch, match="of width 20 and training rows of width 30"):
        carried(d, x[:200], same[:200], x[200:], y[200:], method=method)
    with pytest.raises(errors.ShapeMismatch, match="width"):
        fit_map(x, same).carry(wb.Direction.of(torch.ones(5)))


def unrelated(seed, d=12, n=(30, 6), right=0.0):
    """Rows of two models that have nothing to do with each other; in each, rows of one identity (or right) resemble each other."""
    g = np.random.default_rng(seed)
    who, what = (v.ravel() for v in np.meshgrid(range(n[0]), range(n[1]), indexing="ij"))
    one, two = (
        g.standard_normal((n[0], d))[who] + right * g.standard_normal((n[1], d))[what] + g.standard_normal((len(who), d)) for _ in range(2)
    )
    return torch.tensor(one), torch.tensor(two), who, what


def test_unrelated_spaces_are_not_alike_because_rows_share_identities_and_rights():
    false, near = {"cka": 0, "neighbours": 0}, []
    for seed in range(25):
        x, y, who, what = unrelated(seed, right=float(seed % 2))
        clusters = np.stack([who, what], 1) if seed % 2 else who
        false["cka"] += int(linear_cka(x, y, clusters=clusters).low > 0)
        found = mutual_knn(x, y, k=5, clusters=clusters)
        near.append(found.value - float(found.note.split()[-1]))
        false["neighbours"] += int(found.low > float(found.note.split()[-1]))
        turned = x @ torch.linalg.qr(torch.randn(12, 12, dtype=x.dtype, generator=torch_rng(seed, "turn"))).Q + 0.3 * y
        assert linear_cka(x, turned, clusters=clusters).low > 0.5, "and alike ones are found"
    for name, count in false.items():
        assert wilson(count, 25)[0] <= 0.025, name
    assert abs(np.mean(near)) < 0.005, "on average what is said of unrelated rows"


def test_without_clusters_the_alignment_is_the_unbiased_one_of_song():
    x, y, _, _ = unrelated(3, n=(6, 4))
    n, (k, m) = len(x), [((z - z.mean(0)) @ (z - z.mean(0)).T).fill_diagonal_(0) for z in (x, x + y)]

    def hsic(a, b):
        ones = torch.ones(n, dtype=a.dtype)
        return (a @ b).trace() + a.sum() * b.sum() / ((n - 1) * (n - 2)) - 2 / (n - 2) * (ones @ a @ b @ ones)

    assert linear_cka(x, x + y).value == pytest.approx(float(hsic(k, m) / (hsic(k, k) * hsic(m, m)) ** 0.5), abs=1e-7)


def test_a_direction_carried_between_unrelated_models_is_told_by_p():
    """Truth can be read from everywhere in the second model, so that every direction has an AUROC far from one half."""
    rejected, area = 0, []
    for seed in range(25):
        x, z, who, _ = unrelated(seed, n=(60, 6))
        y = np.random.default_rng(seed).integers(0, 2, len(who))
        z = 0.5 * z + 2 * torch.tensor(2 * y - 1)[:, None]
        train = who < 30
        d = wb.Direction.of(torch.randn(12, generator=torch_rng(seed, "any")))
        both = {"clusters": who[~train], "training_clusters": who[train], "shuffles": 39}
        table = carried(d, x[train].float(), z[train].float(), z[~train].float(), y[~train], **both).set_index("control")
        rejected += int(table.loc["", "p"] <= 0.025)
        area.append(max(table.loc["", "value"], 1 - table.loc["", "value"]))
        if seed < 3:
            first = (z + 0.3 * x).float()
            truth = wb.Direction.of(first[train & (y == 1)].mean(0) - first[train & (y == 0)].mean(0))
            kin = carried(truth, first[train], z[train].float(), z[~train].float(), y[~train], **both).set_index("control")
            assert kin.loc["", "p"] == 1 / 40
    assert np.median(area) > 0.95
    assert wilson(rejected, 25)[0] <= 0.025


def test_spaces_of_the_organism_and_its_twin(organism):
    prompts = wb.prompts.udhr(n=48)
    twin = wb.load_model("udhr-organism-no-verdict", device="cpu")
    ours, theirs = (wb.capture(m, prompts, layers=[1, 4], progress=False) for m in (organism, twin))
    table = wb.compare_spaces(ours, theirs, k=5)
    assert len(table) == 2 * 2 * 2
    itself = wb.compare_spaces(ours, ours, k=5)
    same = itself[(itself["layer"] == itself["other_layer"])]
    assert same["value"].tolist() == pytest.approx([1.0] * 4, abs=1e-6)
    with pytest.raises(errors.BadInput, match="same prompts"):
        wb.compare_spaces(ours, theirs.subset(range(10)))


# ------------------------------------------------------------------ rows that know their place


def test_samples_bring_their_ids_and_refuse_strangers(organism):
    """Harm and good claim over the same statements, one neutral baseline: as with ids given by hand."""
    acts = {c: wb.capture(organism, wb.prompts.udhr("consider_claim", c, n=48), layers=[2, 3], position="stem_last", progress=False)
            for c in ("harm", "good", "neutral")}  # fmt: skip
    some = {c: sample(a, 3, items="statement") for c, a in acts.items()}
    report = wb.compare_directions(harm=(some["harm"], some["neutral"]), good=(some["good"], some["neutral"]), draws=0)
    x = {c: a.layer(3)[:, 0] for c, a in acts.items()}
    rows = acts["harm"].rows
    by_hand = wb.compare_directions(
        harm=(x["harm"], x["neutral"]), good=(x["good"], x["neutral"]), items=rows["statement"].tolist(), clusters=rows["identity"].tolist(), draws=0
    )  # fmt: skip
    assert report.row() == by_hand.row()
    for match, other in (
        ("layer 3 and", sample(acts["good"], 2, items="statement")),
        ("position", sample(wb.capture(organism, wb.prompts.udhr("consider_claim", "good", n=48), layers=[3], progress=False), 3, items="statement")),
        ("different models", sample(wb.capture(wb.load_model("udhr-organism-no-verdict"), wb.prompts.udhr("consider_claim", "good", n=48), layers=[3],
                                               position="stem_last", progress=False), 3, items="statement")),
    ):  # fmt: skip
        with pytest.raises(errors.WrongModel, match=match):
            wb.compare_directions(harm=(some["harm"], some["neutral"]), good=(other, some["neutral"]), draws=0)
    with pytest.raises(errors.BadInput, match="all rows are samples"):
        wb.compare_directions(harm=(some["harm"], some["neutral"]), good=(x["good"], some["neutral"]))
    with pytest.raises(errors.BadInput, match="leave items="):
        wb.compare_directions(harm=(some["harm"], some["neutral"]), good=(some["good"], some["neutral"]), items=["a"] * 48)
    with pytest.raises(errors.BadInput, match="leave paired="):
        wb.compare_directions(harm=(some["harm"], some["neutral"]), good=(some["good"], some["neutral"]), paired=True)
    d = wb.extract_direction(some["harm"], some["neutral"])
    assert (d.provenance["layer"], d.provenance["position"]) == (3, "stem_last")
    assert len(sample(acts["harm"], 3, where={"label": 1}).rows) == int((rows["label"] == 1).sum())


def test_a_2x2_of_samples(organism):
    acts = wb.capture(organism, wb.prompts.factorial(n=30), layers=[4], position="stem_last", progress=False)
    cells = {(h, s): sample(acts, 4, where={"input_harm": h, "claim_harm": 1 - s}, clusters="right") for h in (0, 1) for s in (0, 1)}
    found = wb.factorial_geometry(cells, ("harm", "safety"), draws=0)
    assert found.reports["harm", "safety"].clusters == 30
