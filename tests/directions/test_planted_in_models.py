"""A harm and a safety vector at a known angle, added to the stream of a real model on chosen prompts: from capture to verdict."""

import math

import numpy as np
import pytest
import torch

import workbench as wb
from workbench.core.seeds import torch_rng

ANGLES = {0: "aligned", 60: "partly aligned", 90: "orthogonal", 120: "partly opposite", 180: "opposite"}
LAYER = 1


def planted(model, angle, size=1.0):
    """Rows of three disjoint sets of prompts: under a harm vector, under a safety vector, under none."""
    prompts = wb.prompts.udhr(n=300, seed=1)
    sets = [prompts.subset(np.arange(k, 300, 3)) for k in range(3)]
    base = wb.capture(model, sets[2], layers=[LAYER], position="stem_last", progress=False).layer(LAYER)[:, 0]
    length = size * float((base - base.mean(0)).norm(dim=1).mean())
    u, v = torch.linalg.qr(torch.randn(base.shape[1], 2, generator=torch_rng(0, "planted"))).Q.T
    turn = math.radians(angle)
    out = []
    for prompts, vector in ((sets[0], u), (sets[1], math.cos(turn) * u + math.sin(turn) * v)):
        push = wb.Edit(site="resid_post", layer=LAYER, function=lambda x, w=length * vector: x + w.to(x), label="planted")
        with wb.edited(model, push):
            out.append(wb.capture(model, prompts, layers=[LAYER], position="stem_last", progress=False).layer(LAYER)[:, 0])
    people = [p.to_frame()["identity"].tolist() for p in sets]
    clusters = {"harm": (people[0], people[2]), "safety": (people[1], people[2])}
    return {"harm": (out[0], base), "safety": (out[1], base)}, clusters


@pytest.mark.parametrize("angle", ANGLES)
def test_in_the_bundled_model(organism, angle):
    rows, clusters = planted(organism, angle)
    report = wb.compare_directions(**rows, clusters=clusters, draws=0)
    assert report.verdict == ANGLES[angle], str(report)
    assert report.cosine == pytest.approx(math.cos(math.radians(angle)), abs=0.15)


@pytest.mark.parametrize("angle", [90, 180])
def test_in_a_real_small_model(stories, angle):
    rows, clusters = planted(stories, angle, size=1.5)
    report = wb.compare_directions(**rows, clusters=clusters, draws=0)
    assert report.verdict == ANGLES[angle], str(report)


def test_nothing_planted_is_refused(organism):
    rows, clusters = planted(organism, 90, size=0.0)
    report = wb.compare_directions(**rows, clusters=clusters, draws=0)
    assert report.verdict in ("refused", "undetermined"), str(report)
    assert report.naive_cosine > 0.2, "the shared baseline makes an angle of noise"
