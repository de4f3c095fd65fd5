"""What a user meets shows itself: one line in a terminal, a small table in a notebook, everything from outside escaped."""

import importlib
import pkgutil
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
import torch

import workbench as wb
from workbench.activations import Activations, AttentionPattern, Statistics
from workbench.core import show, stats
from workbench.directions import compare_directions, compare_subspaces, factorial_geometry
from workbench.directions.erasure import fit_eraser
from workbench.directions.spaces import fit_map
from workbench.interventions.cost import Tuned
from workbench.models import Edit, Edits, Read, Scope
from workbench.models.classifier import TextClassifier
from workbench.models.edits import Gate
from workbench.models.generate import Generated
from workbench.models.known import ModelInfo
from workbench.probes import (
    HonestyPanel,
    fit_contrast,
    fit_knn,
    fit_layers,
    fit_mlp,
    fit_multiclass,
    fit_quadratic,
    fit_rbf,
    fit_tamper,
)
from workbench.prompts import ContrastPair, PromptSet, grouped_folds, grouped_split

HOSTILE = '<script>alert("x")</script>\'&'
MODEL = {"name": HOSTILE, "revision": "main", "digest": "abcd1234", "dtype": "float32", "processing": "none"}
N, D = 48, 6


class Page(HTMLParser):
    """Collects tags and text, and sees that every tag is closed."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.open, self.text = set(), [], ""
        self.feed(page)
        self.close()
        assert not self.open, f"tags left open: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        assert not [v for k, v in attrs if k == "style" and ("color" in v or "background" in v)], "a colour of its own"
        self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def pairs(n=N):
    return [
        ContrastPair(
            stem=f"{HOSTILE} {i}",
            negative=" no",
            positive=" yes",
            label=i % 2,
            identity=f"{HOSTILE}{i % 8}",
            right=f"right {i % 6}",
            group="g",
            template=HOSTILE,
            meta={"note": HOSTILE},
        )
        for i in range(n)
    ]


@pytest.fixture(scope="module")
def acts():
    rng = torch.Generator().manual_seed(0)
    rows = PromptSet(pairs()).to_frame()
    values = torch.randn(N, 2, 2, D, generator=rng)
    values[:, 1, :, 0] += torch.tensor(rows["label"].to_numpy() * 4.0 - 2)[:, None]
    provenance = {"model": MODEL, "prompts": "cafe0123", "edits": [f"{HOSTILE} at resid_post[1]"]}
    logp = torch.randn(N, 2, generator=rng).log_softmax(1)
    return Activations(values=values, layers=(1, 3), site="resid_post", position="last", rows=rows, provenance=provenance, logp=logp)


@pytest.fixture(scope="module")
def stored(acts, tmp_path_factory):
    folder = tmp_path_factory.mktemp("store") / "acts"
    acts.save(folder)
    return Activations.load(folder)


def two(seed=0, shift=1.0):
    x = torch.randn(40, D, generator=torch.Generator().manual_seed(seed))
    return x + torch.eye(D)[0] * shift, x - torch.eye(D)[0] * shift


def cases(acts, stored):
    """Name: (object, what its page must say, whether hostile text went in)."""
    x, y = acts.layer(1)[:, 1], acts.layer(1)[:, 0]
    labels, folds = acts.labels, grouped_folds(acts.rows, 3, seed=0)
    positive, negative = two()
    d = wb.extract_direction(positive, negative, provenance={"model": MODEL, "site": "resid_post", "layer": 3, "position": "last"})
    gate = Gate(site="resid_post", layer=1, score=lambda a: a[..., 0], threshold=0.25, label=HOSTILE, origin={"model": MODEL})
    edit = Edit(site="resid_post", layer=3, function=torch.neg, scope=Scope("last", k=2), gate=gate, origin={"model": MODEL}, label=HOSTILE)
    apart = {HOSTILE: (two(1, 2.0)), "safety": two(2, 2.0)}
    parts = {"a": two(5, 3.0), "b": two(6, 3.0)}
    cells = {(i, j): two(10 + 2 * i + j)[0] + torch.eye(D)[1] * 3 * i + torch.eye(D)[2] * 3 * j for i in (0, 1) for j in (0, 1)}
    ccs = wb.fit_ccs(x, y, restarts=3, epochs=50)
    mlps = {
        k: f(x, y, labels, folds=folds) for k, f in (("mlp", fit_mlp), ("quadratic", fit_quadratic), ("rbf", fit_rbf), ("knn", fit_knn))
    }
    fit = fit_layers(acts, "logistic", condition=HOSTILE, folds=3)
    panel = HonestyPanel(
        table=pd.DataFrame({"what": [HOSTILE], "value": [0.5]}), findings=(f"With «{HOSTILE}» put in", "second"), layer=3, found=HOSTILE
    )
    table = {
        "activations": (acts, ["item x variant x layer x d_model", "(48, 2, 2, 6)", "1, 3", "resid_post", "abcd1234", "identity", "captured"], True),
        "activations on disk": (stored, ["(48, 2, 2, 6)", "read from", "as needed"], True),
        "logistic": (wb.fit_logistic(x, y, labels, c=[0.1, 1.0], folds=folds), ["logistic", "d_model 6", "48 training pairs", "of 2 by validation", "mean_std"], False),
        "mass mean": (wb.fit_mass_mean(positive, negative), ["mass_mean", "single rows", "80 training rows", "says 1 above"], False),
        "ccs": (ccs, ["ccs", "not resolved", "3, losses"], False),
        "ccs, oriented": (wb.resolve_sign(ccs, (x, y), labels, rows=HOSTILE), ["from 48", "restarts"], True),
        "contrast with an mlp": (fit_contrast(x, y, body="mlp", hidden=4, restarts=2, epochs=20), ["d_model 6", "2, losses"], False),
        **{k: (v, [k, "d_model 6", "chosen on folds"], False) for k, v in mlps.items()},
        "classes": (fit_multiclass(x, np.array([HOSTILE, "b"])[labels]), ["class 2 x d_model 6", "48 training rows", "sum to 1"], True),
        "layers": (fit, ["logistic", "1, 3", "column 'label', seen in fitting", "48 training pairs"], True),
        "panel": (panel, ["second", "CCS found"], True),
        "tamper": (fit_tamper(acts, layer=1, method="logistic", false_alarms=0.2, folds=2), ["logistic", "layer 1", "20.0%", "calibration rows"], False),
        "direction": (d, ["mean_difference", "d_model 6", "reliability", "layer 3", "abcd1234", "40"], True),
        "sum of directions": (d + d, ["made of", "mean_difference"], True),
        "geometry": (compare_directions(**apart, draws=50), ["verdict", "cosine, cross-fitted", "naive cosine", "p, two-sided", "40"], True),
        "factorial": (factorial_geometry(cells, (HOSTILE, "claim"), draws=50), ["Interaction", "reliability", "share"], True),
        "subspace": (compare_subspaces(**{HOSTILE: parts, "safety": {k: (v[0] + 1, v[1]) for k, v in parts.items()}}), ["dimensions, effective rank", "principal cosine"], True),
        "split": (grouped_split(acts.rows, seed=3), ["for training", "held out: identity", "no identity and no right is on both sides", "3"], True),
        "estimate": (stats.proportion([1, 0, 1, 1] * 5, np.repeat(range(5), 4)), ["0.75", "95% interval", "20", "5", "Wilson"], False),
        "no estimate": (stats.undefined(HOSTILE, 3), ["undefined", "3"], True),
        "edit": (edit, ["resid_post of block 3", "last 2", "mean score above 0.25", "abcd1234", "no: nothing says"], True),
        "edits": (Edits([edit, edit]), ["2 edits", "resid_post[3]", "last 2", "gated"], True),
        "read": (Read(site="z", layer=2, function=print, label=HOSTILE), ["z of block 2", "changes"], True),
        "gate": (gate, ["resid_post of block 1", "above 0.25"], True),
        "scope": (Scope("marker", text=HOSTILE), ["from the last token of a text in the prompt on"], True),
        "vectors": (wb.VectorSet({(HOSTILE, 3): d}), ["vector 1 x d_model 6", "reliability", "abcd1234"], True),
        "model": (ModelInfo(name=HOSTILE, revision="", digest="abcd1234", dtype="float32", processing="none", n_layers=6, d_model=128,
                  context=1024, first=(), vocabulary="v"), ["layer 6 x d_model 128", "1,024 tokens", "0 to 5", "abcd1234", "none"], True),
        "prompts": (PromptSet(pairs(), HOSTILE), ["48 contrast pairs", "8 identities", "6 rights", "' no' / ' yes'", "50%"], True),
        "pair": (pairs(1)[0], ["' no' / ' yes'", "right 0", "label 0"], True),
        "statistics": (Statistics(groups=(HOSTILE,), count=torch.tensor([7]), mean=torch.zeros(1, 2, D), scatter=None, layers=(1, 3), site="resid_post",
                       position="last", provenance={"model": MODEL}), ["group 1 x layer 2 x d_model 6", "7", "abcd1234"], True),
        "pattern": (AttentionPattern(item=0, variant=1, tokens=(HOSTILE,), values=torch.ones(2, 3, 4, 4), layers=(0, 1)), ["layer 2 x head 3", "positive"], True),
        "map": (fit_map(positive, negative), ["ridge", "d_second 6 x d_first 6"], False),
        "projection": (fit_eraser(torch.cat([positive, negative]), np.r_[np.ones(40), np.zeros(40)], "mean_projection"), ["d_model 6 x k 1"], False),
        "tuned": (Tuned(strength=2.5, kl=0.1, asked=0.12, note=HOSTILE), ["2.5", "0.12"], True),
        "generated": (Generated(text=HOSTILE, ids=(1, 2), stopped="length"), ["length", "2"], True),
        "classifier": (TextClassifier(name="c", digest="abcd", labels=(HOSTILE,), independent=True, context=64, model=None, tokenizer=None),
                       ["64 tokens", "one per label"], True),
    }  # fmt: skip
    return table


NAMES = [
    "activations", "activations on disk", "logistic", "mass mean", "ccs", "ccs, oriented", "contrast with an mlp", "mlp", "quadratic", "rbf", "knn",
    "classes", "layers", "panel", "tamper", "direction", "sum of directions", "geometry", "factorial", "subspace", "split", "estimate", "no estimate",
    "edit", "edits", "read", "gate", "scope", "vectors", "model", "prompts", "pair", "statistics", "pattern", "map", "projection", "tuned", "generated",
    "classifier",
]  # fmt: skip


@pytest.fixture(scope="module")
def table(acts, stored):
    return cases(acts, stored)


def test_every_case_is_tried(table):
    assert sorted(NAMES) == sorted(table)


@pytest.mark.parametrize("name", NAMES)
def test_line(name, table):
    line = repr(table[name][0])
    assert "\n" not in line
    assert 5 < len(line) <= 250
    assert "tensor(" not in line
    assert " object at 0x" not in line


@pytest.mark.parametrize("name", NAMES)
def test_page(name, table):
    thing, wanted, hostile = table[name]
    page = thing._repr_html_()
    read = Page(page)
    assert "script" not in read.tags
    assert "<script" not in page
    if hostile:
        assert "&lt;script&gt;alert(" in page
        assert "alert(" in read.text
    missing = [w for w in wanted if w not in read.text]
    assert not missing, read.text
    assert len(page) < 20_000


def test_no_dataclass_prints_all_that_it_holds():
    for room in pkgutil.iter_modules(wb.__path__):
        importlib.import_module(f"workbench.{room.name}")
    every, new = set(), {show.Shown}
    while new:
        every |= new
        new = {c for k in new for c in k.__subclasses__()} - every
    assert len(every) > 25
    own = {c.__name__ for c in every if c.__repr__ is not show.Shown.__repr__}
    assert not own, f"without repr=False: {own}"


def test_nothing_is_read_from_a_store_to_show_it(stored, monkeypatch):
    def read(*_, **__):
        raise AssertionError("read from disk")

    monkeypatch.setattr(type(stored.source), "part", read)
    assert "48" in repr(stored)
    assert "48" in stored._repr_html_()


def test_an_open_sign_and_a_weak_direction_are_said():
    assert "hardly agree" in wb.extract_direction(two(3)[0], two(4)[0])._repr_html_()
    assert "hardly agree" not in wb.extract_direction(*two(3, 3.0))._repr_html_()


def test_values_that_were_not_finite_are_said(acts):
    ill = Activations(
        values=acts.values, layers=acts.layers, site="resid_post", position="last", rows=acts.rows, provenance={"not_finite": {"count": 3}}
    )
    assert "not finite" in ill._repr_html_()
    assert "not finite" not in acts._repr_html_()


def test_the_space_before_an_ending_is_shown():
    assert "¦ ' no' / ' yes', true: 0" in repr(pairs(1)[0])


def test_pieces():
    assert show.short("a\n  b" * 200, 20) == "a ba ba ba ba ba ba…"
    assert show.some(range(12), 3) == "0, 1, 2, … (12)"
    assert show.between(float("nan"), 0, 1) == "undefined"
    assert show.between(0.5, float("nan"), 1) == "0.500"
    assert show.number(float("inf")) == "inf"
    assert show.card("t", {"empty": "", "none": None}) == "<p><b>t</b></p>"
    many = pd.DataFrame({"x": range(500)})
    assert show.card("t", {}, tables=[many]).count("<tr") < 50
