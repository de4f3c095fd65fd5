"""Data with a known answer, for the tests of probes."""

import numpy as np
import pandas as pd
import torch

import workbench as wb
from workbench.core.seeds import numpy_rng


def planted(n=400, d=32, signal=3.0, seed=0, nuisance=0.0, common=5.0):
    """Pairs whose difference carries +-signal along a unit direction; returns positive, negative, labels, direction."""
    rng = numpy_rng(seed, "planted")
    direction = rng.standard_normal(d)
    direction /= np.linalg.norm(direction)
    y = rng.integers(0, 2, n)
    shared = common * rng.standard_normal((n, d))
    side = (2 * y - 1)[:, None] * signal / 2 * direction
    other = rng.standard_normal(d)
    push = nuisance * rng.standard_normal((n, 1)) * other / np.linalg.norm(other)
    positive = shared + side + push + 1.0 + rng.standard_normal((n, d))
    negative = shared - side + push - 1.0 + rng.standard_normal((n, d))
    return torch.tensor(positive).float(), torch.tensor(negative).float(), y, direction


def cosine(a, b):
    a, b = np.asarray(a, float), np.asarray(b, float)
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def activations(n_identities=24, n_rights=10, signal=4.0, layers=2, seed=0, d=16, common=5.0):
    """Planted activations with a row table; layer 0 is noise, the last layer carries the truth."""
    rows = pd.DataFrame(
        [{"identity": f"i{i}", "right": f"r{r}", "claim": "none", "template": "t", "statement": f"word{i} word{r}", "stem": f"{i} {r} {k}"}
         for i in range(n_identities) for r in range(n_rights) for k in range(2)]
    )  # fmt: skip
    x, y, labels, _ = planted(len(rows), d, signal, seed, common=common)
    noise = torch.randn(len(rows), 2, d, generator=torch.Generator().manual_seed(seed))
    values = torch.stack([noise, torch.stack([y, x], 1)], 2)
    model = {"name": "m", "digest": "d", "dtype": "float32", "processing": "none"}
    return wb.Activations(
        values=values, layers=tuple(range(layers)), site="resid_post", position="last", rows=rows.assign(label=labels),
        provenance={"model": model},
    )  # fmt: skip
