"""Both themes: colours that stay apart for every kind of eye and stand out; nothing light is left in the dark one; words."""

import itertools

import numpy as np
import plotly.graph_objects as go
import pytest

from workbench.core import errors
from workbench.figures import THEMES, reworded, style, themed, words_of
from workbench.figures import theme as colours

NAMES = ("BLUE", "ORANGE", "GREEN", "RED", "PURPLE", "SKY", "GREY")
# Machado, Oliveira and Fernandes 2009, severity 1, on linear RGB
EYES = {
    "normal": np.eye(3),
    "protanope": np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]),
    "deuteranope": np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]),
    "tritanope": np.array([[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]),
}


def linear(colour):
    c = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def lab(rgb):
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ rgb / np.array([0.9505, 1, 1.089])
    f = np.where(xyz > 0.008856, np.cbrt(np.clip(xyz, 1e-9, None)), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def contrast(one, two):
    low, high = sorted(float(linear(c) @ [0.2126, 0.7152, 0.0722]) for c in (one, two))
    return (high + 0.05) / (low + 0.05)


def palette(theme):
    light = {name: getattr(colours, name) for name in NAMES}
    return light if theme == "light" else {name: colours.DARK[c] for name, c in light.items()}


@pytest.mark.parametrize("eyes", EYES)
@pytest.mark.parametrize("theme", THEMES)
def test_any_two_colours_stay_apart(theme, eyes):
    seen = {n: lab(np.clip(EYES[eyes] @ linear(c), 0, 1)) for n, c in palette(theme).items()}
    near = min((float(np.linalg.norm(a - b)), m, n) for (m, a), (n, b) in itertools.combinations(seen.items(), 2))
    assert near[0] >= 20, near


def test_the_measure_catches_a_pair_that_only_some_can_tell_apart():
    one, two = (lab(np.clip(EYES["deuteranope"] @ linear(c), 0, 1)) for c in ("#009E73", "#7a7a7a"))
    assert np.linalg.norm(one - two) < 20


@pytest.mark.parametrize("theme", THEMES)
def test_every_colour_stands_out(theme):
    paper = colours.PAPER if theme == "light" else colours.DARK[colours.PAPER]
    assert {n: contrast(c, paper) for n, c in palette(theme).items() if contrast(c, paper) < 3} == {}
    ink = colours.INK if theme == "light" else colours.DARK[colours.INK]
    assert contrast(ink, paper) > 7


def drawn():
    figure = go.Figure(go.Scatter(x=["yes", "no"], y=[0.1, 0.2], name="a line", marker={"color": colours.BLUE}))
    figure.add_scatter(x=["yes", "no"], y=[0, 1], fill="toself", fillcolor="rgba(93,93,93,0.22)", name="null")
    figure.add_annotation(text="chance", x="yes", y=0.1)
    figure.update_xaxes(title="answer")
    return style(figure, "A title")


def test_dark_exchanges_every_colour_and_nothing_else():
    light, dark = drawn(), themed(drawn(), "dark")
    assert themed(drawn(), "light").to_json() == light.to_json()
    text = dark.to_json()
    for colour in (colours.BLUE, colours.INK, colours.PAPER, colours.GRID):
        assert f'"{colour}"' not in text
    assert dark.layout.paper_bgcolor == colours.DARK[colours.PAPER]
    assert dark.data[1].fillcolor.startswith("rgba(104,104,104,")
    assert list(dark.data[0].y) == list(light.data[0].y)
    with pytest.raises(errors.BadInput, match="theme 'sepia'"):
        themed(drawn(), "sepia")


def test_a_word_that_is_also_a_colour_stays_a_word():
    figure = style(go.Figure(go.Bar(x=["white", "#222222"], y=[1, 2], name="white", marker={"color": "white"})), "white")
    dark = themed(figure, "dark")
    assert list(dark.data[0].x) == ["white", "#222222"]
    assert (dark.data[0].name, dark.layout.title.text) == ("white", "white")
    assert dark.data[0].marker.color == colours.DARK["white"]


def test_words_are_found_and_exchanged_wherever_they_stand():
    figure = drawn()
    assert {"yes", "no", "a line", "null", "chance", "answer", "A title"} <= set(words_of(figure))
    other = reworded(figure, {"yes": "ja", "chance": "Zufall", "answer": "Antwort", "A title": "Ein Titel", "0.1": "never"})
    assert list(other.data[0].x) == ["ja", "no"]
    assert other.layout.annotations[0].text == "Zufall"
    assert other.layout.annotations[0].x == "ja"
    assert other.layout.title.text == "Ein Titel"
    assert list(other.data[0].y) == [0.1, 0.2]
    assert figure.layout.title.text == "A title"
