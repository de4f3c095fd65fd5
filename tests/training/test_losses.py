"""The losses on tensors, each beside a literal computation; and on planted answers, which of them sees what."""

import math

import pytest
import torch

from workbench.training import measures


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_ccs_is_burns_two_terms():
    a, b = numbers(5), numbers(5, seed=1)
    p, q = torch.sigmoid(a), torch.sigmoid(b)
    want = [(float(x) + float(y) - 1) ** 2 + min(float(x), float(y)) ** 2 for x, y in zip(p, q, strict=True)]
    assert measures.ccs(a, b).tolist() == pytest.approx(want, rel=1e-5)


def test_a_claim_that_flips_every_answer_leaves_ccs_where_it_was():
    a, b = 6 * numbers(50).sign(), None
    b = -a
    assert float(measures.ccs(a, b).mean()) == pytest.approx(float(measures.ccs(-a, -b).mean()))
    assert float(measures.ccs(a, b).mean()) < 1e-4
    assert float(measures.ccs(torch.zeros(5), torch.zeros(5)).mean()) == pytest.approx(0.25)


def test_invariance_is_zero_at_the_target_and_counts_what_is_neither_answer():
    target = torch.tensor([[0.7, 0.2], [0.1, 0.1]]).log()
    assert measures.invariance(target, target).tolist() == pytest.approx([0, 0], abs=1e-6)
    now = torch.tensor([[0.2, 0.7], [0.45, 0.45]]).log()
    want = [0.7 * math.log(0.7 / 0.2) + 0.2 * math.log(0.2 / 0.7), 2 * 0.1 * math.log(0.1 / 0.45) + 0.8 * math.log(0.8 / 0.1)]
    assert measures.invariance(now, target).tolist() == pytest.approx(want, rel=1e-4)


def test_cross_entropy_and_dpo_fall_as_the_answer_gets_likelier():
    y = torch.tensor([1.0, 0.0])
    odds = torch.tensor([2.0, 2.0])
    assert measures.cross_entropy(odds, y).tolist() == pytest.approx([math.log(1 + math.exp(-2)), math.log(1 + math.exp(2))])
    soft = torch.tensor([0.3])
    want = [-0.3 * math.log(1 / (1 + math.exp(-2))) - 0.7 * math.log(1 / (1 + math.exp(2)))]
    assert measures.cross_entropy(odds[:1], soft).tolist() == pytest.approx(want)
    base = torch.tensor([1.0, 1.0])
    assert measures.dpo(odds, base, y, 0.5).tolist() == pytest.approx([math.log(1 + math.exp(-0.5)), math.log(1 + math.exp(0.5))])
    assert measures.dpo(base, base, y, 0.5).tolist() == pytest.approx([math.log(2)] * 2)


def test_spin_is_the_expectation_over_both_answers():
    now, then, target = (numbers(3, 2, seed=s).log_softmax(1) for s in range(3))
    want = []
    for i in range(3):
        total = 0.0
        for y in range(2):
            for z in range(2):
                gap = (now[i, y] - then[i, y]) - (now[i, z] - then[i, z])
                total += float(target[i, y].exp() * then[i, z].exp()) * math.log(1 + math.exp(-2 * float(gap)))
        want.append(total)
    assert measures.spin(now, then, target, 2.0).tolist() == pytest.approx(want, rel=1e-5)


def test_infonce_is_log_items_for_strangers_and_small_for_matches():
    h = numbers(200, 64)
    assert float(measures.infonce(h, h, 0.05).mean()) < 0.01
    strangers = float(measures.infonce(h, numbers(200, 64, seed=3), 1.0).mean())
    assert strangers == pytest.approx(math.log(200), abs=0.1)


def test_contrast_is_the_share_that_lies_elsewhere():
    u = torch.eye(8)[0]
    x = numbers(100, 8)
    apart = numbers(100, 1, seed=1) * u
    assert float(measures.contrast(x, x + apart, u)) == pytest.approx(0, abs=1e-5)
    assert float(measures.contrast(x, x + apart, torch.eye(8)[1])) == pytest.approx(1, abs=1e-5)


def test_kl_and_rmu_are_what_they_say():
    p, q = numbers(4, 7).log_softmax(1), numbers(4, 7, seed=1).log_softmax(1)
    want = torch.nn.functional.kl_div(q, p, reduction="none", log_target=True).sum(1)
    assert measures.kl(q, p).tolist() == pytest.approx(want.tolist(), rel=1e-5)
    h, goal, r, base = numbers(3, 4), numbers(4, seed=1), numbers(2, 4, seed=2), numbers(2, 4, seed=3)
    forget, retain = measures.rmu(h, goal, r, base, 3.0)
    assert float(forget) == pytest.approx(float(((h - goal) ** 2).mean()))
    assert float(retain) == pytest.approx(3 * float(((r - base) ** 2).mean()))
