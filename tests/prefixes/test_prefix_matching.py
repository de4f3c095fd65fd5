"""Words matched with a direction: the gradient and the loss are those of a literal loop, what is planted is found, a random direction is not."""

import numpy as np
import pytest
import torch

import workbench as wb
from workbench.core.errors import BadInput, ShapeMismatch, UnknownLayer, WrongModel
from workbench.directions import extract_direction, place_of
from workbench.interventions import random_directions
from workbench.models.trees import plant
from workbench.prefixes import Matching, Prefix, prefix_match, random_prefixes, search_prefix
from workbench.prefixes.gradients import Gradients
from workbench.prefixes.matching import PUSH, aim

LAYER = 2
GOOD = " Everyone should have equal rights."


def statements(organism, claim, n, side, seed):
    return wb.prompts.udhr("consider_claim", claim, n=n, split=wb.prompts.udhr_split(organism), side=side, seed=seed)


@pytest.fixture(scope="module")
def stance(organism):
    """From the harm claim to the good one, at the last token of the prompt."""
    good, harm = (
        wb.capture(organism, statements(organism, c, 32, "train", 3), layers=[LAYER], position="stem_last", progress=False)
        for c in ("good", "harm")
    )
    x, y = good.layer(LAYER)[:, 0], harm.layer(LAYER)[:, 0]
    return extract_direction(x, y, halves=0, provenance=place_of(good, LAYER), seed=0)


@pytest.fixture(scope="module")
def held(organism):
    return statements(organism, "harm", 16, "test", 0)


def stream(model, prompts):
    return wb.capture(model, prompts, layers=[LAYER], position="stem_last", progress=False).layer(LAYER)[:, 0].double().numpy()


class TestLoss:
    def test_it_is_that_of_two_captures(self, organism, stance, held):
        few = held.subset(range(5))
        matching = Matching(organism, few, stance)
        texts = [GOOD, " lamp kettle"]
        got = matching.losses(texts)
        for text, loss, odds in zip(texts, got.loss, got.odds, strict=True):
            effect = stream(organism, wb.prefixes.put(few, text)) - stream(organism, few)
            unit = stance.unit.double().numpy()
            assert odds == pytest.approx(effect @ unit / stance.scale, abs=1e-4)
            whole = effect.mean(0)
            assert loss == pytest.approx(1 - whole @ unit / np.linalg.norm(whole), abs=1e-4)
        assert matching.counted == 10

    def test_some_prompts_are_those_prompts(self, organism, stance, held):
        matching = Matching(organism, held.subset(range(6)), stance)
        some = Matching(organism, held.subset([1, 4]), stance)
        assert matching.losses([GOOD], items=[1, 4]).loss == pytest.approx(some.losses([GOOD]).loss, abs=1e-5)

    def test_a_control_token_is_never_tried(self, organism, stance, held):
        got = Matching(organism, held.subset(range(2)), stance).losses(["</s>", " lamp"], fluency=True)
        assert np.isinf(got.loss[0])
        assert np.isinf(got.fluency[0])
        assert np.isfinite([got.loss[1], got.fluency[1]]).all()

    @pytest.mark.parametrize("bridge", [False, True])
    def test_the_gradient_is_that_of_finite_differences(self, organism, stance, held, bridge, monkeypatch):
        few = held.subset(range(3))
        matching = Matching(organism, few, stance)
        if bridge:
            matching._gradients.learner = None
        ids, gradient = matching.gradient(" lamp kettle")
        assert gradient.shape == (len(ids), organism.cfg.d_model)
        unit = stance.unit
        base = torch.from_numpy(matching.before.mean(0)).float()
        probe = Gradients(organism)
        place, size = 1, 0.02
        generator = torch.Generator().manual_seed(0)
        step = torch.nn.functional.normalize(torch.randn(organism.cfg.d_model, generator=generator), dim=0)

        def loss(sign):
            rows = [[*h, *ids, *t] for h, t in matching.frames]
            trees = plant(rows)
            embeds = probe.learner.embed(trees.ids).detach().clone()
            at = trees.where([(i, len(head) + place) for i, (head, _) in enumerate(matching.frames)])
            cells = {(int(a), int(b)) for a, b in zip(*at, strict=True)}
            for tree, at in cells:
                embeds[tree, at] += sign * size * step
            with torch.no_grad():
                _, streams = probe.learner.run(trees, embeds=embeds, read=[LAYER])
            ends = trees.where([(i, len(r) - 1) for i, r in enumerate(rows)])
            return float(1 - torch.cosine_similarity(streams[LAYER][ends].mean(0) - base, unit, dim=0))

        slope = (loss(1) - loss(-1)) / (2 * size)
        assert float(gradient[place] @ step.numpy()) == pytest.approx(slope, rel=0.05, abs=1e-4)


class TestFound:
    WORDS = ("Everyone", "should", "have", "equal", "rights", "lamp", "kettle", "bread")

    def search(self, organism, direction):
        train, validation = (statements(organism, "harm", 4, "train", k) for k in (0, 1))
        options = {"start": " lamp kettle bread lamp", "steps": 6, "width": 6, "race": 0, "words": self.WORDS, "progress": False}
        return search_prefix(organism, train, direction, 4, validation=validation, seed=0, **options)

    def test_words_of_the_stance_and_not_of_a_random_direction(self, organism, stance, held):
        found = self.search(organism, stance)
        (other,) = random_directions(stance, 1, 0)
        null = self.search(organism, other)
        table = prefix_match(organism, held, stance, {"found": found, "null": null}, random=random_prefixes(organism, held, 4, count=3))
        value = table.set_index(["prefix", "metric"])["value"]
        low = table.set_index(["prefix", "metric"])["low"]
        assert low["found", "cosine"] > 0.8
        assert low["found", "projection"] > 0.1
        assert value["random", "cosine"] < 0.6
        assert null.loss > 0.5  # no words move the stream along a direction drawn at random
        assert found.towards == "mean_difference at layer 2"

    def test_the_push_is_as_strong_as_the_words(self, organism, stance, held):
        table = prefix_match(organism, held, stance, {"good": GOOD})
        strength = table.query("prefix == 'good' and metric == 'projection'")["value"].iloc[0]
        with wb.edited(organism, wb.add(stance, float(strength), scope="last")):
            asked = wb.answers(organism, held)
        row = table[(table["prefix"] == PUSH) & (table["metric"] == "safe_score")].iloc[0]
        assert row["value"] == asked["safe"].mean()
        assert f"{strength:.3g}" in row["note"]
        said = table.query("prefix == 'good' and metric == 'safe_score'")["value"].iloc[0]
        assert said == wb.answers(organism, Prefix(text=GOOD).put(held))["safe"].mean()


class TestRefused:
    def test_a_direction_of_no_place(self, organism, held):
        for made in ({}, {"site": "resid_post"}, {"site": "resid_mid", "layer": 1}):
            with pytest.raises(BadInput, match="a direction of resid_post at a block"):
                search_prefix(organism, held, wb.Direction.of(torch.ones(128), provenance=made))

    def test_another_width_model_or_layer(self, organism, held, stance):
        made = {"site": "resid_post", "layer": 9}
        with pytest.raises(UnknownLayer):
            search_prefix(organism, held, wb.Direction.of(torch.ones(128), provenance=made))
        with pytest.raises(ShapeMismatch, match="width 5"):
            search_prefix(organism, held, wb.Direction.of(torch.ones(5), provenance=made))
        twin = wb.load_model("udhr-organism-no-verdict", device="cpu")
        with pytest.raises(WrongModel):
            prefix_match(twin, held, stance, {"x": GOOD})

    def test_two_models_have_no_direction_in_common(self, organism, held, stance):
        with pytest.raises(BadInput, match="that of one model"):
            search_prefix([organism, organism], held, stance)

    def test_two_directions_are_two_searches(self, stance):
        assert aim(stance) != aim(-stance) != aim("safe")
