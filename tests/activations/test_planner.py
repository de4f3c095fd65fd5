"""The planner computes every distinct prefix once, and lets every token see its ancestors and nothing else."""

import numpy as np
import pytest

from workbench.activations.planner import build, count, cut, passes


def rows_of(seed, n=40, alphabet=3, longest=30):
    rng = np.random.default_rng(seed)
    heads = [rng.integers(0, alphabet, rng.integers(1, longest)).tolist() for _ in range(4)]
    return [heads[rng.integers(4)][: rng.integers(1, longest)] + rng.integers(0, alphabet, rng.integers(1, 8)).tolist() for _ in range(n)]


@pytest.mark.parametrize("seed", range(20))
def test_every_prefix_once_and_in_its_place(seed):
    rows = rows_of(seed)
    trie = build(rows)
    prefixes = {tuple(r[: k + 1]) for r in rows for k in range(len(r))}
    assert len(trie) == len(prefixes) == count(rows)
    assert trie.total == sum(map(len, rows))
    named = {}
    for row, places in zip(rows, trie.at, strict=True):
        assert trie.ids[places].tolist() == row
        assert trie.depth[places].tolist() == list(range(len(row)))
        for k, place in enumerate(places):
            # one place for one prefix, whichever row names it
            assert named.setdefault(int(place), tuple(row[: k + 1])) == tuple(row[: k + 1])
    for i, one in named.items():
        for j, other in named.items():
            assert (one[: len(other)] == other) == (j <= i < trie.end[j])


def test_wanted_depths_only():
    trie = build([[5, 6, 7], [5, 6], [5, 6, 7]], [[2], [0, 1], [0]])
    assert [a.tolist() for a in trie.at] == [[2], [0, 1], [0]]
    assert trie.ids.tolist() == [5, 6, 7]
    assert (len(trie), trie.total) == (3, 8)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize(("budget", "limit"), [(1, 1), (8, 4), (64, 16), (10_000, 64)])
def test_a_token_sees_its_ancestors_and_nothing_else(seed, budget, limit):
    trie = build(rows_of(seed))
    seen = np.zeros(len(trie), dtype=int)
    kept: dict[int, list[int]] = {}
    for now, places in passes(trie, budget=budget, limit=limit):
        seen[places] += 1
        assert now.ids.tolist() == trie.ids[places].tolist()
        assert now.positions.tolist() == trie.depth[places].tolist()
        sees = {int(p): set() for p in places}
        covered = []
        for bucket in now.buckets:
            width = bucket.index.shape[1]
            covered += bucket.packed.tolist()
            for real, packed in zip(bucket.real.tolist(), bucket.packed.tolist(), strict=True):
                unit, row = divmod(real, width)
                assert bucket.index[unit, row] == packed
                look = range(row + 1) if bucket.mask is None else bucket.mask[unit, 0, row].nonzero().flatten().tolist()
                inside = {int(places[bucket.index[unit, c]]) for c in look}
                assert len(inside) == len(list(look)), "a token looks at padding"
                sees[int(places[packed])] |= inside
        assert sorted(covered) == list(range(len(places)))
        for begin, end, prefix in now.prefixed:
            for p in places[begin:end]:
                assert not sees[int(p)] & set(kept[prefix])
                sees[int(p)] |= set(kept[prefix])
        for p, got in sees.items():
            assert got == {j for j in range(p + 1) if p < trie.end[j]}
        for begin, end, name, prefix in now.keep:
            kept[name] = kept.get(prefix, []) + places[begin:end].tolist()
        for name in now.drop:
            del kept[name]
    assert (seen == 1).all()
    assert not kept, "every prefix is let go"


def test_a_prompt_alone_stays_whole_and_long_shared_ones_are_cut():
    alone = build([list(range(500))])
    assert [(u.begin, u.end, u.prefix) for u in cut(alone, 64)] == [(0, 500, -1)]
    pair = build([[*range(500), 900], [*range(500), 901]])
    assert [(u.begin, u.end, u.prefix, u.name) for u in cut(pair, 64)] == [(0, 500, -1, 0), (500, 501, 0, -1), (501, 502, 0, -1)]
    short = build([[1, 2, 3, 4], [1, 2, 3, 5]])
    assert [(u.begin, u.end) for u in cut(short, 64)] == [(0, 5)]


def test_few_prefixes_are_alive_at_a_time():
    """200 long stems with two long endings each: what is kept is bounded by the budget, not by their number."""
    rng = np.random.default_rng(0)
    stems = [rng.integers(0, 1000, 80).tolist() for _ in range(200)]
    trie = build([s + [e] * 40 for s in stems for e in (1, 2)])
    alive, most, sizes = set(), 0, {}
    for now, _ in passes(trie, budget=1024, limit=64):
        for begin, end, name, _ in now.keep:
            alive.add(name)
            sizes[name] = end - begin
        most = max(most, sum(sizes[n] for n in alive))
        alive -= set(now.drop)
    assert most <= 3 * 1024
