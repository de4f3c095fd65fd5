"""Dose and response, items, equal cost, multiple choice, capability, texts: against planted truths and slow loops."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

import workbench as wb
from workbench.core import errors
from workbench.core.paired import paired_proportions
from workbench.directions import place_of
from workbench.evaluation import fluency, fluency_break, perplexity, perplexity_ratio, text_nll
from workbench.evaluation.dose import per_item
from workbench.evaluation.multiple_choice import truth_scores
from workbench.interventions import custom_edit, norms
from workbench.interventions.norms import stream_norms
from workbench.models import Change, Edit, edited, reweighted
from workbench.models.forward import run
from workbench.models.tokens import encode, encode_pairs, pad
from workbench.models.weights import parameters
from workbench.prompts import Choice, MultiTruth, choices_to_prompts

FEW = {"progress": False}


@pytest.fixture(scope="module")
def stance(organism):
    """The push that repairs answers under a harm claim, and held-out prompts."""
    truth = wb.models.planted(organism)
    held = {"identities": truth["held_out_identities"], "rights": truth["held_out_rights"]}
    people = [i.identity for i in wb.prompts.identities() if i.identity not in set(truth["held_out_identities"]) | set(truth["denied"])]
    sets = {c: wb.prompts.udhr("consider_claim", c, n=48, identities=people[:60]) for c in ("harm", "good")}
    acts = {c: wb.capture(organism, p, layers=[1], position="stem_last", progress=False) for c, p in sets.items()}
    d = wb.extract_direction(acts["good"].layer(1)[:, 0], acts["harm"].layer(1)[:, 0], halves=0, provenance=place_of(acts["harm"], 1))
    return d, wb.prompts.udhr("consider_claim", "harm", n=48, **held), wb.prompts.udhr("base_short", n=48, **held)


def test_a_push_along_the_stance_repairs_both_polarities_and_random_ones_do_not(organism, stance):
    d, harm, plain = stance
    texts = [(p.stem, p.positive if p.label else p.negative) for p in plain]
    table = wb.dose_response(organism, harm, d, [-1, 1], scope="last", texts=texts, **FEW)
    cell = table.set_index(["method", "coefficient", "condition", "metric"]).sort_index()
    for polarity in ("grant", "deny"):
        assert cell.loc[("direction", 0.0, polarity, "safe_score"), "value"] == 0.0
        assert cell.loc[("direction", 1.0, polarity, "safe_score"), "value"] >= 0.9
        assert cell.loc[("random", 1.0, polarity, "safe_score"), "high"] < 0.2
    assert cell.loc[("direction", 0.0, "all", "kl"), "value"] == 0.0
    assert cell.loc[("direction", 1.0, "all", "kl"), "value"] > 1
    assert cell.loc[("random", 1.0, "all", "safe_score"), "n"] == 20
    assert cell.loc[("direction", 1.0, "all", "perplexity_ratio"), "high"] < 1.05
    broken = fluency_break(wb.dose_response(organism, plain, d, [-2, -1, 1], scope="last", random=0, texts=texts, **FEW)).set_index("side")
    assert broken.loc["negative", "coefficient"] in (-1.0, -2.0)
    assert math.isnan(broken.loc["positive", "coefficient"])
    with pytest.raises(errors.BadInput, match="give dose_response some texts"):
        fluency_break(table[table["metric"] != "perplexity_ratio"])
    with pytest.raises(errors.BadInput, match="a band needs 20"):
        wb.dose_response(organism, harm, d, [1], random=3)


def test_a_way_to_push_of_ones_own_has_the_same_control(organism, stance):
    """wb.add passed as a function gives what wb.add gives; random directions are pushed by the function, too."""
    d, harm, _ = stance
    few, seen = harm.subset(range(8)), []

    def by_hand(direction, c):
        seen.append(direction.method)
        return wb.add(direction, c, scope="last")

    theirs = wb.dose_response(organism, few, d, [1], scope="last", random=20, **FEW)
    mine = wb.dose_response(organism, few, d, [1], push=by_hand, random=20, **FEW)
    pd.testing.assert_frame_equal(mine, theirs)
    assert {f"random {k}" for k in range(20)} <= set(seen)
    assert mine.attrs["provenance"]["unit"] == "that of by_hand"
    for more in ({"unit": "unit"}, {"scope": "last"}, {"layer": 2}, {"text_scope": "last"}, {"norm": 1.0}):
        with pytest.raises(errors.BadInput, match="push= makes its own edits: leave unit"):
            wb.dose_response(organism, few, d, [1], push=by_hand, random=0, **more, **FEW)
    with pytest.raises(errors.BadInput, match="got Tensor"):
        wb.dose_response(organism, few, d, [1], push=lambda d, c: d.vector, random=0, **FEW)


def test_an_edit_of_ones_own_goes_wherever_edits_go(organism, stance):
    d, harm, plain = stance
    few = harm.subset(range(8))
    repair = custom_edit(lambda x: x + d.vector, layer=1, scope="last", label="by hand")
    price = wb.capability(organism, {"by hand": repair, "add": wb.add(d, scope="last")}, answers={"plain": plain}, **FEW)
    assert price.query("edit == 'by hand'")["value"].tolist() == price.query("edit == 'add'")["value"].tolist()
    families = {
        "by hand": lambda c: custom_edit(lambda x: x + c * d.vector, layer=1, scope="last"),
        "add": lambda c: wb.add(d, c, scope="last"),
    }
    cost = wb.equal_cost(organism, few, families, target=0.5, starts=dict.fromkeys(families, 0.2), **FEW).set_index(["method", "metric"])
    assert cost.loc[("by hand", "log_odds"), "strength"] == pytest.approx(cost.loc[("add", "log_odds"), "strength"], rel=1e-3)
    items, _ = wb.steerability(organism, few, families["by hand"], [-0.5, 0, 0.5], **FEW)
    assert np.allclose(items["slope"], wb.steerability(organism, few, d, [-0.5, 0, 0.5], scope="last", **FEW)[0]["slope"], atol=1e-3)


def test_where_what_it_writes_itself_breaks(organism, stance):
    """A push far along one token's unembedding makes the model repeat it."""
    from workbench.models import unembedding

    token = organism.tokenizer(" yes", add_special_tokens=False)["input_ids"][0]
    d = wb.Direction.of(unembedding(organism)[:, token], method="yes", provenance={"site": "resid_post", "layer": 5})
    table = wb.dose_response(organism, stance[2].subset(range(12)), d, [1, 300], random=0, new_tokens=6, **FEW)
    for metric in ("distinct_2", "repetition"):
        found = fluency_break(table, metric=metric).set_index("side")["coefficient"]
        assert found["positive"] == 300.0
        assert math.isnan(found["negative"])


def test_a_dose_that_breaks_the_model_says_where(organism, stance):
    d, harm, _ = stance
    with pytest.raises(errors.NotFinite, match=r"no longer finite after block \d\. Acting: add 1e\+38"):
        wb.dose_response(organism, harm.subset(range(4)), d, [1e38], scope="last", random=0, **FEW)
    one, two = (wb.dose_response(organism, harm.subset(range(4)), d, [1], scope=s, random=0, **FEW) for s in ("generated", "last"))
    assert one["value"].equals(two["value"]), "an answer of one token is written from the prompt's last"


def test_items_that_go_the_other_way_are_counted(organism, stance):
    d, harm, _ = stance
    items, summary = wb.steerability(organism, harm, d, [-0.5, 0, 0.5, 1], scope="last", **FEW)
    # towards the safe answer is up for granting and down for denying statements
    share = summary.set_index("metric").loc["anti_steerable"]
    assert abs(share["value"] - (items["polarity"] == "deny").mean()) < 1e-9
    assert (items.groupby("polarity")["slope"].mean() > 0).to_dict() == {"grant": True, "deny": False}
    doses = np.array([-1.0, 0.0, 2.0])
    slope, rank = per_item(np.stack([2 * doses + 1, -doses, np.ones(3), doses**2], 1), doses)
    assert np.allclose(slope[:3], [2, -1, 0])
    assert np.allclose(rank[:2], [1, -1])
    assert math.isnan(rank[2])
    with pytest.raises(errors.BadInput, match="three or more"):
        wb.steerability(organism, harm, d, [1], **FEW)


def test_methods_at_equal_cost(organism, stance):
    d, harm, _ = stance
    late = wb.Direction.of(torch.randn(128, generator=torch.Generator().manual_seed(0)), provenance={"site": "resid_post", "layer": 1})
    families = {"stance": lambda c: wb.add(d, c, scope="last"), "random 0": lambda c: wb.add(late, c * d.scale / late.scale, scope="last")}
    table = wb.equal_cost(organism, harm, families, target=0.5, starts=dict.fromkeys(families, 0.2), **FEW)
    reached = table[table["metric"] == "kl"].set_index("method")
    assert ((reached["value"] / 0.5 - 1).abs() < 0.11).all()
    assert (reached["value"] - reached["kl"]).abs().max() < 1e-6


def letters(count=6):
    items = [
        Choice(question=f"Is {w} a word?", options=("Yes, it is.", "No, it is not."), target=0, name=w)
        for w in ("rest", "women", "true", "right", "have", "agree")[:count]
    ]
    return items


def test_multiple_choice_in_both_orders(organism):
    """A push along the unembedding of one letter favours that letter: a position bias, and no behaviour."""
    prompts = choices_to_prompts(letters(), model=organism, orders="both")
    from workbench.models import unembedding

    w = unembedding(organism)
    a, b = (organism.tokenizer(x, add_special_tokens=False)["input_ids"][0] for x in (prompts[0].positive, prompts[0].negative))
    d = wb.Direction.of((w[:, a] - w[:, b]) * 5, provenance={"site": "resid_post", "layer": 5})
    table = wb.multiple_choice(organism, prompts, d, [-20, 20], scope="last", **FEW).set_index(["coefficient", "metric"])["value"]
    assert table[20.0, "position_bias"] > 0.4
    assert table[-20.0, "position_bias"] < -0.4
    assert abs(table[20.0, "p_matching"] - 0.5) < 0.02, "over both orders a letter is no answer"
    plain = wb.answers(organism, prompts, progress=False)
    p = 1 / (1 + np.exp(-plain["margin"]))
    assert abs(table[0.0, "p_matching"] - p.mean()) < 1e-6
    first = np.where(plain["letter"] == "A", p, 1 - p) - 0.5
    assert abs(table[0.0, "position_bias"] - first.mean()) < 1e-6
    early = wb.Direction.of(d.vector, provenance={"site": "resid_post", "layer": 3})
    with pytest.raises(errors.WrongModel, match=r"read at resid_post\[3\] is to act at resid_post\[5\]"):
        wb.multiple_choice(organism, prompts, {5: early}, [1], scope="last", **FEW)
    moved = wb.multiple_choice(organism, prompts, early, [1], scope="last", layer=5, transfer=True, **FEW)
    assert set(moved["layer"]) == {5}, "rows are called by the layer that was pushed"
    swept = wb.multiple_choice(organism, prompts, {4: early, 5: early}, [20], scope="last", transfer=True, **FEW).set_index(
        ["layer", "coefficient", "metric"]
    )["value"]
    assert swept[4, 20.0, "answered"] != swept[5, 20.0, "answered"]
    theirs = wb.multiple_choice(organism, prompts, {5: d}, [20], scope="last", **FEW)
    mine = wb.multiple_choice(organism, prompts, {5: d}, [20], push=lambda d, c: wb.add(d, c, scope="last"), **FEW)
    pd.testing.assert_frame_equal(mine, theirs)
    assert set(wb.multiple_choice(organism, prompts, d, [20], push=lambda d, c: wb.add(d, c, scope="last"), **FEW)["layer"]) == {5}
    with pytest.raises(errors.BadInput, match="push= makes its own edits: leave unit"):
        wb.multiple_choice(organism, prompts, d, [20], push=wb.add, scope="last", **FEW)
    with pytest.raises(errors.BadInput, match="the mapping names the layers"):
        wb.multiple_choice(organism, prompts, {5: d}, [20], layer=5, **FEW)
    given = choices_to_prompts(letters(), model=organism)
    sets = {"none": given, "told": choices_to_prompts(letters(), model=organism, system="Say yes.")}
    both = wb.multiple_choice(organism, sets, {5: d}, [-1], scope="last", **FEW)
    assert set(both["system"]) == set(sets)
    for name, asked in sets.items():
        norm = stream_norms(organism, asked, [("resid_post", 5)])["resid_post", 5]
        part = both[both["system"] == name].set_index("coefficient")["norm_share"]
        assert part[-1.0].to_numpy() == pytest.approx(d.scale / norm), "of the stream on the prompts of that system"
        assert (part[0.0] == 0).all()
    tenth = wb.multiple_choice(organism, given, d, [0.1], scope="last", unit="norm", norm=5.0, **FEW)
    norm = stream_norms(organism, given, [("resid_post", 5)])["resid_post", 5]
    assert sorted(set(tenth["norm_share"])) == pytest.approx([0.0, 0.5 / norm])
    assert "position_bias" not in set(both["metric"]), "one order says nothing of it"


def test_capability_counts_the_change_item_by_item(organism, stance):
    d, _, plain = stance
    texts = {"short": ["Statement: do you agree?", "Request: rest. Reply: Sure"]}
    wrong = [Edit(site="resid_post", layer=5, function=lambda x: -x, label="minus")]
    table = wb.capability(
        organism,
        {"nothing": wb.add(d, 0.0), "minus": wrong},
        answers={"plain": plain},
        texts=texts,
        choices={"letters": choices_to_prompts(letters(), model=organism)},
        **FEW,
    )
    by = table.set_index(["edit", "task", "metric"])
    assert by.loc[("nothing", "plain", "accuracy"), "value"] == by.loc[("none", "plain", "accuracy"), "value"]
    assert by.loc[("nothing", "plain", "accuracy"), "change"] == 0.0
    assert by.loc[("nothing", "plain", "accuracy"), "change_high"] > 0.01, "no change in 48 rows is no proof of none"
    assert by.loc[("minus", "plain", "accuracy"), "change_high"] < -0.2
    assert by.loc[("minus", "short", "perplexity"), "change"] > 2
    assert by.loc[("nothing", "short", "perplexity"), "change"] == 1.0
    with pytest.raises(errors.BadInput, match="nothing to measure"):
        wb.capability(organism, {})
    with pytest.raises(errors.BadInput, match="call yours otherwise"):
        wb.capability(organism, {"none": wrong}, texts=texts)
    with pytest.raises(errors.BadInput, match="among choices and among answers"):
        wb.capability(organism, {}, choices={"plain": choices_to_prompts(letters(), model=organism)}, answers={"plain": plain})


def test_paired_proportions():
    one = paired_proportions([1] * 50, [1] * 50)
    assert one.value == 0.0
    assert one.low < 0 < one.high < 0.08
    all_of = paired_proportions([1] * 50, [0] * 50)
    assert all_of.value == 1.0
    assert 0.85 < all_of.low < 1.0
    rng = np.random.default_rng(0)
    for gain, loss in ((0.05, 0.05), (0.3, 0.3), (0.45, 0.45), (0.6, 0.2), (0.1, 0.0)):
        hits = 0
        for _ in range(400):
            kind = rng.random(100)
            e = paired_proportions((kind < gain).astype(float), ((kind >= gain) & (kind < gain + loss)).astype(float))
            hits += e.low <= gain - loss <= e.high
        assert 0.925 <= hits / 400 <= 0.99, (gain, loss, hits / 400)
    with pytest.raises(errors.ShapeMismatch):
        paired_proportions([1], [1, 0])


def test_likelihood_of_texts_against_a_loop(tiny_pair):
    _, _, model = tiny_pair
    texts = ["Statement: do you agree?", ("women have the right", " to rest. true"), "no yes no"]
    scored = text_nll(model, texts)
    for k, text in enumerate(texts):
        whole = "".join(text)
        (ids,) = encode(model, [whole])
        start = len(encode(model, [text[0]])[0]) if isinstance(text, tuple) else 1
        with torch.no_grad():
            logp = torch.log_softmax(run(model, pad(model, [ids]))[0].float(), -1)
        want = -sum(float(logp[i - 1, ids[i]]) for i in range(start, len(ids)))
        assert scored["tokens"][k] == len(ids) - start
        assert abs(scored["nll"][k] - want) < 1e-3 * max(1, want)
    total = perplexity(scored)
    assert np.isclose(total.value, np.exp(scored["nll"].sum() / scored["tokens"].sum()))
    assert perplexity_ratio(scored, scored).value == 1.0
    with pytest.raises(errors.BadInput, match="different texts"):
        perplexity_ratio(scored, scored.iloc[::-1].reset_index(drop=True))


def test_a_continuation_is_what_follows_the_prompt_for_scopes(organism):
    text = ("Request: How do I rest?", " Reply: Sure")
    d = wb.Direction.of(torch.ones(128) * 20, provenance={"site": "resid_post", "layer": 1})
    plain = text_nll(organism, [text])["nll"][0]
    assert abs(text_nll(organism, [text], wb.add(d, scope="generated"))["nll"][0] - plain) > 1e-3
    assert abs(text_nll(organism, [text], wb.add(d, scope="last"))["nll"][0] - plain) > 1e-3
    for scope in ("last", "generated"):
        with pytest.raises(errors.EmptyScope, match="a text by itself is all prompt"):
            text_nll(organism, [text, "".join(text)], wb.add(d, scope=scope))
    assert abs(text_nll(organism, ["".join(text)], wb.add(d, scope="prompt"))["nll"][0]) > 0


def test_truthful_answers_by_their_likelihood(organism):
    items = [
        MultiTruth(
            question="Is it",
            best="Sure",
            correct=("Sure", "Sure, here it is."),
            incorrect=("the the the", "in Norway Norway"),
            category="",
            name="a",
        ),
        MultiTruth(
            question="Is it", best="the the the", correct=("the the the",), incorrect=("Sure", "Sure, here it is."), category="", name="b"
        ),
    ]
    one, two = truth_scores(organism, items)
    from workbench.evaluation.texts import continuation_logp

    logp = dict(
        zip(
            ("Sure", "Sure, here it is.", "the the the", "in Norway Norway"),
            continuation_logp(
                organism, [("Q: Is it\nA:", f" {a}") for a in ("Sure", "Sure, here it is.", "the the the", "in Norway Norway")]
            ),
            strict=True,
        )
    )
    assert one.tolist() == [
        float(logp["Sure"] > max(logp["the the the"], logp["in Norway Norway"])),
        float(logp["the the the"] > max(logp["Sure"], logp["Sure, here it is."])),
    ]
    p = {k: np.exp(v) for k, v in logp.items()}
    assert np.isclose(two[0], (p["Sure"] + p["Sure, here it is."]) / sum(p.values()))
    assert np.isclose(two[1], p["the the the"] / (sum(p.values()) - p["in Norway Norway"]))


def test_fluency():
    table = fluency(["a b a b", "one two three", "", "x x x x"]).set_index("metric")["value"]
    assert np.isclose(table["distinct_1"], np.mean([0.5, 1.0, 0.25]))
    assert np.isclose(table["distinct_2"], np.mean([2 / 3, 1.0, 1 / 3]))
    assert np.isclose(table["repetition"], np.mean([0, 0, 1]))
    assert table["empty"] == 0.25


def test_tables_have_the_houses_columns(organism, stance):
    d, harm, _ = stance
    table = wb.dose_response(organism, harm.subset(range(8)), d, [1], scope="last", random=0, **FEW)
    assert {"layer", "site", "method", "condition", "metric", "value", "low", "high", "n", "coefficient"} <= set(table.columns)
    assert table.attrs["provenance"]["model"]["name"] == "udhr-organism"
    assert isinstance(table, pd.DataFrame)


def test_doses_as_shares_of_the_streams_length(organism, stance):
    """By hand: the median length of the content tokens' streams of all prompts, without the first."""
    d, harm, _ = stance
    few = harm.subset(range(8))
    table = wb.dose_response(organism, few, d, [-1, 2], scope="last", random=20, **FEW)
    kept: list[torch.Tensor] = []
    rows = [p.negative[: p.stem] for p in encode_pairs(organism, few)]
    with (
        torch.no_grad(),
        wb.edited(organism, wb.models.Read(site="resid_post", layer=1, function=lambda x: kept.append(x[0, 1:].norm(dim=-1)))),
    ):
        for row in rows:
            run(organism, pad(organism, [row]))
    norm = float(torch.cat(kept).median())
    for method in ("direction", "random"):
        shares = table[table["method"] == method].groupby("coefficient")["norm_share"].unique()
        assert shares[-1.0] == pytest.approx([d.scale / norm], rel=1e-5)
        assert shares[2.0] == pytest.approx([2 * d.scale / norm], rel=1e-5)
    twice = wb.dose_response(organism, few, d, [1], push=lambda d, c: wb.add(d, c) | wb.ablate(d), random=0, **FEW)
    assert twice["norm_share"].isna().all(), "of several edits nobody can say how long they are together"


def test_norms_are_measured_once_under_the_same_weights(organism, stance, monkeypatch):
    harm = stance[1]
    few, place, measured = harm.subset(range(3)), ("resid_post", 2), []
    own = norms._collected
    monkeypatch.setattr(norms, "_collected", lambda m, p, places, of: (measured.append(places), own(m, p, places, of))[1])
    first = stream_norms(organism, few, [place])[place]
    assert stream_norms(organism, few, [place, ("resid_post", 3)])[place] == first
    assert measured == [[place], [("resid_post", 3)]]
    with edited(organism, Edit(site="resid_post", layer=2, function=lambda x: 2 * x)):
        assert stream_norms(organism, few, [place])[place] == pytest.approx(2 * first)
    name = next(n for n in parameters(organism) if n.endswith("mlp.down_proj.weight"))
    with reweighted(organism, [Change(parameter=name, function=lambda w: w * 3, label="tripled")]):
        assert stream_norms(organism, few, [place])[place] != pytest.approx(first)
    assert stream_norms(organism, few, [place])[place] == first


def test_controls_stand_in_the_table_as_one(organism, stance):
    d, harm, plain = stance
    drawn = wb.interventions.random_directions(d, 3)
    edits = {f"r{k}": wb.ablate(r, scope="last") for k, r in enumerate(drawn)}
    texts = {"text": [(p.stem, p.positive) for p in plain.subset(range(6))]}
    how = {"answers": {"under harm": harm.subset(range(12))}, "texts": texts} | FEW
    table = wb.capability(organism, {"own": wb.ablate(d, scope="last")}, controls={"random: ablate": list(edits.values())}, **how)
    apart = wb.capability(organism, edits, **how)
    for task in ("under harm", "text"):
        one = table[(table["edit"] == "random: ablate") & (table["task"] == task)].iloc[0]
        each = apart[(apart["edit"] != "none") & (apart["task"] == task)]
        assert (one["n"], one["value"]) == (3, pytest.approx(each["value"].mean()))
        assert (one["low"], one["high"]) == (each["value"].min(), each["value"].max())
        assert (one["change_low"], one["change_high"]) == (each["change"].min(), each["change"].max())
    assert table["edit"].unique().tolist() == ["none", "own", "random: ablate"]
    with pytest.raises(errors.BadInput, match="an edit and of a control"):
        wb.capability(organism, {"own": wb.ablate(d)}, controls={"own": []}, **how)
