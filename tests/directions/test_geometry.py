"""Angles with an interval and a verdict: against literal loops, planted truth, null twins, constructions that fool the naive cosine."""

import itertools

import numpy as np
import pytest
import torch

import workbench as wb
from workbench.core import errors
from workbench.core.seeds import numpy_rng
from workbench.directions import Cells, null, plant, verdict
from workbench.directions.cross import _kernels, cross, fieller, pair, resampled

SHARED = torch.tensor([[1.0, -1.0, 0.0], [0.0, -1.0, 1.0]]).double()


def three(n=24, d=6, seed=0):
    rng = numpy_rng(seed, "cells")
    return {k: torch.tensor(rng.standard_normal((n, d))) for k in ("harm", "base", "safety")}


def by_cell(make):
    return {k: make(k) for k in ("harm", "base", "safety")}


STRUCTURES = {
    "independent": (None, None),
    "items": (by_cell(lambda k: [f"i{i}" for i in range(24)]), None),
    "items in clusters": (by_cell(lambda k: [f"i{i}" for i in range(24)]), by_cell(lambda k: [f"p{i // 3}" for i in range(24)])),
    "clusters across cells": (None, by_cell(lambda k: [f"p{i // 3}" for i in range(24)])),
    "clusters inside cells": (None, by_cell(lambda k: [f"{k}{i // 3}" for i in range(24)])),
    "unequal clusters": (None, by_cell(lambda k: [f"p{int(i**0.5)}" for i in range(24)])),
}


def literal(cells, multiplicity=None):
    """Average product of rows of different clusters, cell by cell, by counting."""
    k = len(cells.names)
    times = np.ones(cells.clusters) if multiplicity is None else multiplicity
    out = np.zeros((k, k))
    for g, h in itertools.product(range(k), repeat=2):
        total = count = 0.0
        for i, j in itertools.product(np.flatnonzero(cells.cell == g), np.flatnonzero(cells.cell == h)):
            if cells.cluster[i] != cells.cluster[j]:
                weight = times[cells.cluster[i]] * times[cells.cluster[j]]
                total += weight * float(cells.rows[i] @ cells.rows[j])
                count += weight
        out[g, h] = total / count
    return SHARED.numpy() @ out @ SHARED.numpy().T


@pytest.mark.parametrize("name", STRUCTURES)
def test_products_equal_a_literal_loop(name):
    items, clusters = STRUCTURES[name]
    cells = Cells.of(three(), items=items, clusters=clusters)
    found = cross(cells, SHARED)
    np.testing.assert_allclose(found.value.numpy(), literal(cells), atol=1e-10)
    for c in (0, cells.clusters - 1):
        keep = cells.cluster != c
        part = Cells(
            names=cells.names, rows=cells.rows[torch.as_tensor(keep)], cell=cells.cell[keep],
            cluster=np.unique(cells.cluster[keep], return_inverse=True)[1], block=cells.block[keep],
        )  # fmt: skip
        np.testing.assert_allclose(found.left[c].numpy(), literal(part), atol=1e-10)


@pytest.mark.parametrize("name", ["independent", "items in clusters", "clusters inside cells"])
def test_a_bootstrap_leaves_out_clusters_that_meet_themselves(name, monkeypatch):
    items, clusters = STRUCTURES[name]
    cells = Cells.of(three(), items=items, clusters=clusters)
    drawn = []
    inner = wb.directions.cross._draws
    monkeypatch.setattr("workbench.directions.cross._draws", lambda *a: drawn.append(inner(*a)) or drawn[-1])
    found = resampled(cells, SHARED, resamples=3)
    for k in range(3):
        np.testing.assert_allclose(found[k].numpy(), literal(cells, drawn[0][k]), atol=1e-5)


@pytest.mark.parametrize("name", STRUCTURES)
def test_the_null_equals_the_estimate_on_permuted_labels_and_keeps_the_construction(name):
    items, clusters = STRUCTURES[name]
    cells = Cells.of(three(), items=items, clusters=clusters)
    crossed, naive = null.permuted(cells, SHARED, draws=6)
    labels, inside = null._labels(
        cells.cell.tobytes(), cells.cluster.tobytes(), cells.block.tobytes(), np.zeros(72, np.int64).tobytes(), 6, 0
    )
    assert len({row.tobytes() for row in labels}) == 6
    for k, row in enumerate(labels):
        part = Cells(names=cells.names, rows=cells.rows, cell=row.astype(np.int64), cluster=cells.cluster, block=cells.block)
        found = cross(part, SHARED)
        np.testing.assert_allclose(crossed[k].numpy(), found.value.numpy(), atol=1e-5)
        np.testing.assert_allclose(naive[k].numpy(), found.naive.numpy(), atol=1e-5)
        unit = cells.block if name in ("items", "items in clusters") else cells.cluster
        if inside and name != "clusters inside cells":
            for u in np.unique(unit):
                assert sorted(row[unit == u]) == sorted(cells.cell[unit == u]), "labels stay inside an item"


def test_the_closed_form_is_the_average_over_all_half_splits():
    rng = numpy_rng(0, "halves")
    x, y, z = (torch.tensor(rng.standard_normal((6, 4))) for _ in range(3))
    ids = by_cell(lambda k: list(range(6)))
    cells = Cells.of({"harm": x, "base": z, "safety": y}, items=ids, fewest=6)
    a, b = x - z, y - z
    splits = []
    for half in itertools.combinations(range(6), 3):
        one, two = list(half), [i for i in range(6) if i not in half]
        splits.append(float(a[one].mean(0) @ b[two].mean(0) + a[two].mean(0) @ b[one].mean(0)) / 2)
    assert float(cross(cells, SHARED).value[0, 1]) == pytest.approx(np.mean(splits), abs=1e-12)


def test_reliability_is_the_half_sample_cosine_as_a_ratio_of_averages():
    rng = numpy_rng(1, "halves")
    x, z = torch.tensor(rng.standard_normal((6, 4)) + 1), torch.tensor(rng.standard_normal((6, 4)))
    cells = Cells.of({"x": x, "z": z}, items={"x": range(6), "z": range(6)}, fewest=6)
    d = x - z
    up, down = [], []
    for half in itertools.combinations(range(6), 3):
        one, two = d[list(half)].mean(0), d[[i for i in range(6) if i not in half]].mean(0)
        up.append(float(one @ two))
        down.append(float(one @ one + two @ two) / 2)
    assert cross(cells, torch.tensor([[1.0, -1.0]])).reliability(0) == pytest.approx(np.mean(up) / np.mean(down), abs=1e-12)


def test_kernels_are_the_same_in_both_spaces_and_equal_a_loop():
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 9, 5, generator=g, dtype=torch.float64)
    small, ranks = _kernels(x, y)
    wide = [torch.cat([v, torch.zeros(9, 20, dtype=v.dtype)], 1) for v in (x, y)]
    np.testing.assert_allclose(small, _kernels(*wide)[0], atol=1e-10)
    assert ranks == pytest.approx(_kernels(*wide)[1])
    k = {"ab": (x @ y.T + y @ x.T) / 2, "aa": x @ x.T, "bb": y @ y.T}
    for i, one in enumerate(k.values()):
        for j, two in enumerate(k.values()):
            loop = sum(float(one[c, e] * two[c, e]) for c in range(9) for e in range(9) if c != e)
            assert small[i, j] == pytest.approx(loop, abs=1e-9)


def test_translation_changes_nothing():
    """Residual streams have a large common mean; no contrast may see it, also where clusters are unequal."""
    items, clusters = STRUCTURES["unequal clusters"]
    one = three()
    two = {k: v + 1e4 for k, v in one.items()}
    found = [cross(Cells.of(c, items=items, clusters=clusters), SHARED).value for c in (one, two)]
    torch.testing.assert_close(*found, atol=1e-6, rtol=0)


def rows(cosine, signal, n=256, d=128, seed=0, **how):
    made = plant(numpy_rng(seed, "rows"), cosine=cosine, signal=signal, n=n, d=d, **how)
    return made.harm, made.safety


@pytest.mark.parametrize("construction", ["shared", "disjoint", "chain"])
@pytest.mark.parametrize(
    ("cosine", "word"), [(1, "aligned"), (0.5, "partly aligned"), (0, "orthogonal"), (-0.5, "partly opposite"), (-1, "opposite")]
)
def test_planted_angles_are_found_in_every_construction(cosine, word, construction):
    harm, safety = rows(cosine, 5, construction=construction)
    report = wb.compare_directions(harm=harm, safety=safety, draws=0)
    assert report.verdict == word
    assert report.interval[0] - 0.02 <= cosine <= report.interval[1] + 0.02
    assert min(report.reliability.values()) > 0.5


@pytest.mark.parametrize(("construction", "naive"), [("shared", 0.5), ("chain", -0.5), ("disjoint", 0.0)])
def test_without_signal_the_naive_cosine_follows_the_construction_and_the_report_refuses(construction, naive):
    reports = [
        wb.compare_directions(**dict(zip(("harm", "safety"), rows(0, 0, seed=s, construction=construction), strict=True)), draws=0)
        for s in range(20)
    ]
    assert np.mean([r.naive_cosine for r in reports]) == pytest.approx(naive, abs=0.05)
    assert sum(r.verdict in ("refused", "undetermined") for r in reports) >= 19
    harm, safety = rows(0, 0, construction=construction)
    report = wb.compare_directions(harm=harm, safety=safety, draws=300)
    assert report.null["naive"] == pytest.approx(naive, abs=0.05)
    assert report.p["harm"] > 0.01


def test_one_contrast_used_twice_is_refused():
    x, y = rows(0, 5)[0]
    for second, sign in (((y, x), -1), ((x, y), 1)):
        report = wb.compare_directions(harm=(x, y), safety=second)
        assert report.verdict == "refused"
        assert report.cosine == sign
        assert "by construction" in report.reason


def test_rows_of_one_identity_are_not_independent():
    """32 identities x 8 rows, 20 % shared variance, no signal: pairs of one identity look like a signal."""
    made = [plant(numpy_rng(s, "people"), cosine=0, signal=0, n=256, d=128, rows_per_cluster=8, shared_variance=0.2) for s in range(8)]
    people = made[0].clusters
    clusters = {"harm": (people, [f"b{p}" for p in people]), "safety": ([f"s{p}" for p in people], [f"b{p}" for p in people])}
    alone = [wb.compare_directions(harm=m.harm, safety=m.safety, draws=0).reliability["harm"] for m in made]
    together = [wb.compare_directions(harm=m.harm, safety=m.safety, clusters=clusters, draws=0).reliability["harm"] for m in made]
    assert np.mean(alone) > 0.3
    assert abs(np.mean(together)) < 0.1


def test_whitening_with_the_same_rows_invents_an_angle_and_is_refused():
    """No signal at all: the covariance of the rows themselves makes reliabilities of .5; that of other rows does not."""
    spread = 8 * np.arange(1, 513) ** -0.7
    g = numpy_rng(0, "uneven")
    x, y, u, other = (g.standard_normal((128, 512)) * spread for _ in range(4))
    own = np.concatenate([v - v.mean(0) for v in (x, y, u)])
    with pytest.raises(errors.SharedRows, match="other items"):
        wb.compare_directions(harm=(x, y), safety=(u, y), metric="whitened", covariance=own)
    found = {}
    for name, rows in (("own", own + 1e-9), ("other", other)):  # a hair's breadth apart is past what can be detected
        found[name] = wb.compare_directions(harm=(x, y), safety=(u, y), metric="whitened", covariance=rows, paired=True, draws=0)
    assert min(found["own"].reliability.values()) > 0.4
    assert max(found["other"].reliability.values()) < 0.15
    assert found["other"].verdict in ("refused", "undetermined")


def test_metrics_change_the_angle_as_they_should():
    """Orthogonal in raw units, aligned in the causal product: only the coordinate that the unembedding reads counts."""
    g = numpy_rng(0, "metric")
    e = np.eye(32)
    x, y, u = (g.standard_normal((300, 32)) + v for v in (4 * e[0] + 4 * e[1], 0 * e[0], 4 * e[0] - 4 * e[1]))
    assert wb.compare_directions(harm=(x, y), safety=(u, y), draws=0).verdict == "orthogonal"
    head = g.standard_normal((32, 500)) * np.r_[10.0, np.full(31, 0.1)][:, None]
    assert wb.compare_directions(harm=(x, y), safety=(u, y), metric="causal", unembedding=head, draws=0).verdict == "aligned"
    noise = g.standard_normal((2000, 32)) * np.r_[1.0, np.full(31, 10.0)]
    whitened = wb.compare_directions(harm=(x, y), safety=(u, y), metric="whitened", covariance=noise, draws=0)
    assert whitened.verdict == "partly aligned", "the quiet dimension counts more, as far as shrinking lets it"


def test_massive_dimensions_are_counted_and_left_out():
    harm, safety = rows(0, 8, n=256, d=64, spread=[60.0] * 2 + [1.0] * 62)
    report = wb.compare_directions(harm=harm, safety=safety, draws=0)
    assert report.massive[0] == 2
    assert abs(report.massive[1]) < 0.15
    assert max(report.rank.values()) < 5
    assert report.variance == "jackknife"


def test_paired_rows_take_out_what_both_share():
    harm, safety = rows(-0.5, 2, n=200, paired=0.9)
    with pytest.warns(UserWarning, match="go together"):
        loose = wb.compare_directions(harm=harm, safety=safety, draws=0)
    tight = wb.compare_directions(harm=harm, safety=safety, paired=True, draws=0)
    assert tight.verdict == "partly opposite"
    assert tight.reliability["harm"] > 0.8
    assert np.diff(tight.interval) < np.diff(loose.interval)


def test_the_bootstrap_agrees_with_the_interval():
    harm, safety = rows(-0.5, 5, n=256)
    report = wb.compare_directions(harm=harm, safety=safety, resamples=800, draws=0)
    assert report.bootstrap == pytest.approx(report.interval, abs=0.04)


def test_fieller_is_without_end_where_the_denominator_may_be_zero():
    assert fieller(0.1, 0.1, np.eye(2), 2.0) == (-np.inf, np.inf)
    low, high = fieller(0.5, 1.0, np.eye(2) * 1e-6, 2.0)
    assert low < 0.5 < high
    assert high - low < 0.01


@pytest.mark.parametrize(
    ("interval", "word"),
    [((-1.1, -0.92), "opposite"), ((-0.89, -0.21), "partly opposite"), ((-0.19, 0.19), "orthogonal"), ((0.21, 0.8), "partly aligned"),
     ((0.95, 1.02), "aligned"), ((-0.3, 0.1), "undetermined"), ((0.15, 0.25), "undetermined"), ((-np.inf, np.inf), "undetermined")],
)  # fmt: skip
def test_a_verdict_holds_the_whole_interval(interval, word):
    assert verdict(interval) == word


def test_margins_are_arguments():
    assert verdict((0.25, 0.28), margins=(0.3, 0.9)) == "orthogonal"
    with pytest.raises(errors.BadInput, match="margins"):
        verdict((0, 0), margins=(0.9, 0.2))


def test_variances_differ_by_the_degenerate_part():
    harm, safety = rows(0, 1.5, n=64, d=256)
    cells = Cells.of({"a": torch.tensor(harm[0]), "b": torch.tensor(harm[1]), "c": torch.tensor(safety[0])})
    found = cross(cells, SHARED)
    plain, less = (pair(found, variance=v).covariance[0, 0] for v in ("jackknife", "jackknife - degenerate"))
    assert 0.5 * plain <= less < 0.8 * plain


def test_bad_input_says_what_to_do():
    g = torch.Generator().manual_seed(0)
    x, y, u = torch.randn(3, 40, 8, generator=g)
    cases = [
        (errors.TooFew, "16 at least", {"harm": (x[:8], y), "safety": (u, y)}),
        (errors.ZeroDirection, "the same", {"harm": (x, x), "safety": (u, y)}),
        (errors.ZeroDirection, "same mean", {"harm": (x.double(), 2 * x.double().mean(0) - x.double()), "safety": (u, y)}),
        (errors.ShapeMismatch, "widths", {"harm": (x, y), "safety": (u[:, :4], y[:, :4])}),
        (errors.NotFinite, "first is row 3", {"harm": (torch.where(torch.arange(40)[:, None] == 3, torch.nan, x), y), "safety": (u, y)}),
        (errors.SharedRows, "items=", {"harm": (x, y), "safety": (u, torch.cat([y[:30], torch.randn(10, 8, generator=g)]))}),
        (errors.SharedRows, "items=", {"harm": (x, y), "safety": (u, y.flip(0)), "paired": True}),
        (errors.BadInput, "level=95", {"harm": (x, y), "safety": (u, y), "level": 95}),
        (errors.BadInput, "variance='jacknife'", {"harm": (x, y), "safety": (u, y), "variance": "jacknife"}),
        (errors.BadInput, "label is missing", {"harm": (x, y), "safety": (u, y), "clusters": [None, *range(39)]}),
        (errors.BadInput, "one label per row", {"harm": (x, y), "safety": (u, y), "clusters": "identity"}),
        (errors.NotFinite, "unembedding", {"harm": (x, y), "safety": (u, y), "metric": "causal", "unembedding": torch.full((8, 20), torch.nan)}),
        (errors.BadInput, "two concepts", {"harm": (x, y)}),
        (errors.BadInput, r"pair \(rows, baseline\)", {"harm": x, "safety": (u, y)}),
        (errors.BadInput, "needs unembedding", {"harm": (x, y), "safety": (u, y), "metric": "causal"}),
        (errors.BadInput, "needs covariance", {"harm": (x, y), "safety": (u, y), "metric": "whitened"}),
        (errors.BadInput, "metric='cosine'", {"harm": (x, y), "safety": (u, y), "metric": "cosine"}),
        (errors.ShapeMismatch, "paired", {"harm": (x, y[:20]), "safety": (u, y[:20]), "paired": True}),
        (errors.BadInput, "two clusters", {"harm": (x, y), "safety": (u, y), "items": ["a"] * 40, "clusters": [str(i) for i in range(40)]}),
        (errors.TooFew, "four at least", {"harm": (x, y), "safety": (u, y), "clusters": ["a", "b"] * 20}),
        (errors.BadInput, "says nothing of 'safety'", {"harm": (x, y), "safety": (u, y), "clusters": {"harm": ["a"] * 40}}),
    ]  # fmt: skip
    for error, match, arguments in cases:
        with pytest.raises(error, match=match):
            wb.compare_directions(**arguments)


def test_clusters_that_lie_in_some_cells_only_are_one_stratum():
    """Each identity lies in each cell by the toss of a coin, no common noise: the interval covers as often as it says."""
    hits, count = 0, 120
    for seed in range(count):
        g = numpy_rng(seed, "incomplete")
        a, b = 3 * np.eye(40)[0], 3 * np.eye(40)[1]
        people = {k: [f"p{i}" for i in range(72) if g.random() < 0.5] for k in ("harm", "base", "safety")}
        rows = {k: g.standard_normal((len(v), 40)) + {"harm": a, "safety": b}.get(k, 0) for k, v in people.items()}
        clusters = {"harm": (people["harm"], people["base"]), "safety": (people["safety"], people["base"])}
        found = wb.compare_directions(harm=(rows["harm"], rows["base"]), safety=(rows["safety"], rows["base"]), clusters=clusters, draws=0)
        hits += found.interval[0] <= 0 <= found.interval[1]
    assert hits / count > 0.88, "three standard errors below .95"


def test_names_that_look_like_cells_do_not_collide():
    harm, safety = rows(0, 5, n=64, construction="disjoint")
    plain = wb.compare_directions(a=harm, b=safety, draws=0)
    odd = wb.compare_directions(**{"a": harm, "a baseline": safety}, draws=0)
    assert (odd.cosine, odd.interval) == (plain.cosine, plain.interval)


def test_dead_dimensions_and_numbers_as_clusters():
    harm, safety = rows(0, 5, n=64, d=16)
    wide = [tuple(np.concatenate([v, np.zeros((64, 40))], 1) for v in pair) for pair in (harm, safety)]
    one = wb.compare_directions(harm=wide[0], safety=wide[1], draws=0)
    assert one.cosine == pytest.approx(wb.compare_directions(harm=harm, safety=safety, draws=0).cosine, abs=1e-9)
    two = wb.compare_directions(harm=harm, safety=safety, clusters={"harm": np.arange(64), "safety": np.arange(64) * 1.0}, draws=0)
    assert two.clusters == 64


def test_a_pilot_is_read_by_its_clusters():
    made = plant(numpy_rng(0, "pilot"), cosine=0, signal=6, n=256, d=64, rows_per_cluster=8)
    people = {
        "harm": (made.clusters, [f"b{c}" for c in made.clusters]),
        "safety": ([f"s{c}" for c in made.clusters], [f"b{c}" for c in made.clusters]),
    }
    pilot = wb.compare_directions(harm=made.harm, safety=made.safety, clusters=people, draws=0)
    assert pilot.independent == 32
    by_hand = wb.geometry_power(
        cosine=min(1.0, max(-1.0, pilot.cosine)), reliability=min(pilot.reliability.values()), n=32, rank=min(pilot.rank.values()), ns=(64,), runs=5
    )  # fmt: skip
    assert wb.geometry_power(pilot, ns=(64,), runs=5).equals(by_hand)


def test_report_reads_well():
    harm, safety = rows(0, 5)
    report = wb.compare_directions(harm=harm, safety=safety, draws=100)
    assert str(report).startswith("harm and safety: orthogonal. Cosine")
    assert "naive cosine" in report._repr_html_()
    row = report.row()
    assert {"verdict", "value", "low", "high", "n", "naive_cosine", "metric"} <= set(row)
    assert 80 < report.angle < 100


def test_power_rises_with_clusters():
    table = wb.geometry_power(cosine=-0.5, reliability=0.4, n=64, rank=60, ns=(32, 512), runs=20)
    assert table["value"].iloc[1] > 0.8 > table["value"].iloc[0]
    assert (table["wrong"] <= 0.1).all()
    with pytest.raises(errors.BadInput, match="cosine="):
        wb.geometry_power()
