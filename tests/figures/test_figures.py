import itertools

import pandas as pd
import plotly.graph_objects as go
import pytest

from workbench.core import errors
from workbench.figures import browser, export, geometry, probes, steering, style, udhr
from workbench.figures.looks import looks
from workbench.figures.style import BLUE, INK, RED, band


def simple():
    return style(go.Figure(go.Scatter(x=[1, 2], y=[3, 4])), "A title")


def test_export_html_opens_without_a_network(tmp_path):
    (file,) = export({"one": simple()}, tmp_path, formats=("html",))
    text = file.read_text()
    assert "A title" in text
    assert 'src="http' not in text


def test_stills(tmp_path):
    if browser() is None:
        pytest.skip("no Chrome or Chromium here")
    files = export({"one": simple(), "two": simple()}, tmp_path, formats=("png", "svg", "pdf"))
    assert len(files) == 6
    assert (tmp_path / "one.pdf").read_bytes()[:4] == b"%PDF"
    assert (tmp_path / "one.png").read_bytes()[:4] == b"\x89PNG"
    assert "A title" in (tmp_path / "two.svg").read_text()


def test_without_chrome_html_is_written_and_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.delenv("BROWSER_PATH", raising=False)
    monkeypatch.setattr("shutil.which", lambda _: None)
    with pytest.raises(errors.MissingTool, match="apt-get install chromium"):
        export({"one": simple()}, tmp_path)
    assert (tmp_path / "one.html").is_file()


def test_band():
    assert band("#0072B2", 0.5) == "rgba(0,114,178,0.5)"


ENDS = {"low": 0.4, "high": 0.6, "n": 10}


def table(**columns):
    """Every combination of the values, each with a value and an interval."""
    return pd.DataFrame(itertools.product(*columns.values()), columns=list(columns)).assign(value=0.5, **ENDS)


def probed(*methods):
    return table(layer=[0, 1], method=list(methods), condition=["no claim", "harm"], control=[""]).assign(
        metric="accuracy", against="label", kind=lambda t: t["method"].map(lambda m: "nonlinear" if m == "mine" else "my kind")
    )


def entries(figure):
    """Colour, symbol and dash by the names in the legend: of what is drawn with values."""
    shown = [t for t in figure.data if t.name and t.showlegend is not False and len(t.x)]
    return {t.name: (t.marker.color, t.marker.symbol, t.line.dash) for t in shown if t.marker.color is not None}


MINE = ("logistic", "ccs", "mine", "another")
PUSHED = ["a", "b", "c", "d", "e", "f", "g", "h", "i"]


@pytest.mark.parametrize(
    ("draw", "names"),
    [
        (lambda: udhr.layer_curves(probed(*MINE), ["no claim", "harm"]), {"mine", "another"}),
        (lambda: udhr.layer_curves(probed("ccs", "mine").query("method != 'mine' or condition == 'harm'"), ["no claim", "harm"]), {"mine"}),
        (
            lambda: udhr.says_and_knows(table(condition=["harm"], what=["says", "knows: mine", "knows: another"])),
            {"knows: mine", "knows: another"},
        ),
        (
            lambda: udhr.behaviour(
                table(template=["t"], claim=["harm", "my claim", "another"]).assign(metric="safe_score", polarity="all")
            ),
            {"harm", "my claim", "another"},
        ),
        (
            lambda: udhr.truth_or_answer(table(direction=["CCS"], layer=[0, 1], against=["label", "answer", "my column"])),
            {"my column"},
        ),
        (lambda: probes.curves(probed(*MINE), ["no claim", "harm"]), {"mine", "another"}),
        (lambda: probes.methods(probed(*MINE), 1, ["no claim", "harm"]), {"nonlinear", "my kind"}),
        (
            lambda: probes.efficiency(
                table(method=["mine", "another"], items=[4, 16], metric=["accuracy", "stability"]).assign(layer=1, world="measured")
            ),
            {"mine", "another"},
        ),
        (lambda: probes.honesty(table(what=["CCS"], against=["label", "my column"]).assign(metric="accuracy")), {"agrees with: my column"}),
        (
            lambda: probes.training(table(method=["ccs", "mine"], step=[1, 9]).assign(what=lambda t: t["method"]), table(method=["mine"])),
            {"mine"},
        ),
        (lambda: steering.doses(dosed(PUSHED), "safe_score", ""), set(PUSHED)),
        (lambda: steering.doses(dosed(["only here"], prompts="other"), "safe_score", ""), {"only here"}),
        (
            lambda: steering.places(table(direction=PUSHED, site=["x", "y", "z"], layer=[0, 1], polarity=["grant", "deny"])),
            {f"{d}, {s}" for d in PUSHED for s in "xyz"},
        ),
        (
            lambda: steering.tax(
                table(edit=["none", "mine"], task=["qa"], metric=["mc1", "mc2"]).assign(change=0.1, change_low=0.0, change_high=0.2)
            ),
            {"qa, mc1", "qa, mc2"},
        ),
        (
            lambda: steering.placement(table(claim=PUSHED, place=["before", "inside"], layer=[0, 1], metric=["safe_score", "truth read"])),
            {f"{c}, {p}" for c in PUSHED for p in ("before", "inside")},
        ),
        (
            lambda: geometry.angles(
                table(position=["last"], metric=["raw", "mine", "another"], layer=[0, 1]).assign(naive_cosine=0.1, verdict="my verdict"), ""
            ),
            {"cross-fitted, mine", "cross-fitted, another"},
        ),
    ],
)
def test_a_name_that_a_figure_does_not_know_is_drawn_in_a_look_of_its_own(draw, names):
    given = entries(draw())
    assert names <= set(given)
    others = [own for name, own in given.items() if name in names]
    assert len(set(others)) == len(others)
    for name in names:
        assert [n for n, own in given.items() if own == given[name]] == [name]


def dosed(conditions, prompts="one"):
    first = table(method=["direction"], coefficient=[-1.0, 0.0, 1.0], condition=["grant"]).assign(prompts="one")
    rest = table(method=["direction"], coefficient=[-1.0, 0.0, 1.0], condition=conditions).assign(prompts=prompts)
    return pd.concat([first, rest]).assign(metric="safe_score")


def test_the_eighth_push_is_drawn_too():
    curve = table(condition=PUSHED).assign(false_alarms=0.1, detected=0.9)
    rows = pd.concat([table(condition=PUSHED, metric=["auroc", "detected"]), table(condition=["all"], metric=["false alarms"])])
    lines = [t for t in probes.tampering(curve, rows).data if t.mode == "markers"]
    assert [t.legendgroup for t in lines] == PUSHED
    assert len({(t.marker.color, t.marker.symbol) for t in lines}) == len(PUSHED)


def test_another_polarity_and_another_way_to_push_have_panels():
    figure = steering.places(table(direction=["d"], site=["x"], layer=[0, 1], polarity=["grant", "mixed"]))
    assert [a.text for a in figure.layout.annotations] == ["statements that grant", "statements that deny", "statements: mixed"]
    pushed = table(pushed=["a", "random"], kind=["add", "subtract", "ablate", "turn"], read=["a", "behaviour"])
    figure = geometry.cross(pushed.assign(layer=1, position="stem_last"), 1)
    assert [a.text for a in figure.layout.annotations] == ["added", "subtracted", "turn"]
    assert "ablate" not in figure.to_json()


def test_methods_of_the_house_that_one_figure_leaves_to_another():
    assert set(entries(probes.curves(probed("logistic", "knn", "hinge:mlp", "mine"), ["harm"]))) == {"logistic", "mine"}
    assert set(entries(udhr.layer_curves(probed("logistic", "knn"), ["harm"]))) == {"logistic probe", "knn"}


def test_looks_are_all_different_and_known_names_keep_theirs():
    known = {"ccs": (BLUE, "circle"), "lda": (RED, "square")}
    names = [*(f"mine {k}" for k in range(40)), "lda"]
    given = looks(names, known, avoid=(INK,))
    assert list(given) == ["lda", *names[:-1]]
    assert given["lda"] == known["lda"]
    assert len(set(given.values())) == len(names)
    assert len({colour for colour, _ in list(given.values())[:6]}) == 6, "colours first, then symbols"
    assert INK not in {colour for colour, _ in list(given.values())[:6]}
