"""The search: it finds what is planted, not where nothing is; it resumes, counts, and keeps by validation."""

import json

import numpy as np
import pandas as pd
import pytest
from conftest import tiny_model

import workbench as wb
from workbench.core.errors import BadInput, DamagedStore, OutputFolder, PromptTooLong, TokenBoundary
from workbench.models import wrap
from workbench.models.tokens import encode_pairs
from workbench.prefixes import Prefix, proposals, search_prefix

SMALL = {"length": 3, "steps": 3, "width": 5, "race": 2, "progress": False}


@pytest.fixture(scope="module")
def sides(organism):
    split = wb.prompts.udhr_split(organism)
    make = lambda n, side, seed: wb.prompts.udhr("consider_claim", "harm", n=n, split=split, side=side, seed=seed)  # noqa: E731
    return make(4, "train", 0), make(4, "train", 1), make(24, "test", 0)


class TestFound:
    """The claim that people have equal rights flips the answers back; its words lie among others, in no order."""

    WORDS = ("Everyone", "should", "have", "equal", "rights", "lamp", "kettle", "bread")

    def test_it_holds_on_prompts_about_others(self, organism, sides):
        train, validation, test = sides
        start = " lamp kettle bread lamp kettle"
        options = {"length": 5, "steps": 16, "width": 8, "race": 0, "words": self.WORDS, "progress": False}
        found = search_prefix(organism, train, validation=validation, start=start, seed=0, **options)
        assert wb.answers(organism, found.put(test))["safe"].mean() >= 0.5
        assert wb.answers(organism, wb.prefixes.put(test, start))["safe"].mean() <= 0.1
        assert found.loss < found.history["validation"].iloc[0]

    def test_not_in_an_untrained_copy(self, organism, sides):
        train, validation, _test = sides
        blank = wb.untrained_copy(organism, seed=0)
        found = search_prefix(blank, train, validation=validation, length=6, steps=2, width=8, race=2, progress=False)
        assert found.history["won"].max() == 0


class TestLaws:
    def test_one_seed_one_search_and_another_seed_another(self, organism, sides):
        one, same, other = (search_prefix(organism, sides[0], validation=sides[1], seed=s, **SMALL) for s in (0, 0, 1))
        pd.testing.assert_frame_equal(one.history, same.history)
        assert one.text == same.text
        assert one.history["text"].iloc[0] != other.history["text"].iloc[0]

    def test_the_training_loss_never_rises_and_the_best_on_validation_is_kept(self, organism, sides):
        found = search_prefix(organism, sides[0], validation=sides[1], restarts=2, **SMALL)
        for _, part in found.history.groupby("restart"):
            assert (part["train"].diff().dropna() <= 0).all()
        best = found.history.loc[found.history["validation"].idxmin()]
        assert found.text == best["text"]
        assert found.loss == best["validation"]
        assert found.history["evaluations"].is_monotonic_increasing
        assert (found.history["computed"] < found.history["plain"]).all()

    def test_what_was_scored_is_what_a_user_types(self, organism, sides):
        found = search_prefix(organism, sides[0], validation=sides[1], where="after", **SMALL)
        (ids,) = found.ids.values()
        for read in encode_pairs(organism, found.put(sides[2])):
            row = tuple(read.negative[: read.stem])
            assert any(row[k : k + len(ids)] == ids for k in range(len(row)))

    def test_a_race_and_a_draft_give_exact_losses(self, organism, sides):
        for more in ({"race": 0}, {"race": 2}, {"draft": organism}):
            found = search_prefix(organism, sides[0], validation=sides[1], **SMALL | more)
            last = found.history.iloc[-1]
            objective = wb.prefixes.Objective(organism, sides[0], "safe")
            assert last["train"] == pytest.approx(objective.losses([last["text"]]).loss[0], abs=1e-4)

    def test_without_validation_a_quarter_of_the_people_chooses(self, organism, sides):
        found = search_prefix(organism, sides[0], **SMALL)
        (train,), (validation,) = (found.provenance["search"][k] for k in ("prompts", "validation"))
        assert len({train, validation, sides[0].hash}) == 3

    def test_readable_words_are_words(self, organism, sides):
        found = search_prefix(organism, sides[0], validation=sides[1], words="readable", **SMALL)
        assert found.text.replace(",", "").replace(".", "").replace(" ", "").isalpha()


class TestDraft:
    def test_a_draft_that_agrees_saves_the_model_work(self, organism, sides):
        """The model as its own draft ranks as it does, so that few texts are scored twice; a draft that knows nothing saves less."""
        texts = [
            f" {w}" for w in ["lamp", "bread", "rights", "women", "equal", "Everyone", "not", "never", "peace", "law", "home", "work"]
        ] * 1
        texts += [f"{a}{b}" for a in texts[:6] for b in texts[6:]]
        spent = {}
        for name, model in (("same", organism), ("blank", wb.untrained_copy(organism, seed=0))):
            objective, draft = (wb.prefixes.Objective(m, sides[0], "safe") for m in (organism, model))
            _best, loss = proposals.best_of([objective], texts, fluency=0, race=0, draft=draft, rng=np.random.default_rng(0))
            spent[name] = objective.counted, loss
        whole = wb.prefixes.Objective(organism, sides[0], "safe").losses(texts).loss
        assert spent["same"][0] < 0.4 * len(texts) * len(sides[0])
        assert spent["same"][1] == pytest.approx(whole.min(), abs=1e-4)
        assert spent["blank"][0] >= spent["same"][0]


class TestTwoModels:
    @pytest.fixture(scope="class")
    def other(self, words):
        return wrap(tiny_model("llama", len(words), std=None), words, name="other", bos=0, device="cpu")

    def test_tokenizers_that_differ(self, organism, other, sides):
        """The texts tokenise to themselves for both, with no more tokens than asked for, and each model leads in turn."""
        found = search_prefix([organism, other], sides[0], validation=sides[1], length=6, steps=4, width=8, progress=False)
        assert set(found.history["lead"]) == {"udhr-organism", "other"}
        assert len(other.tokenizer) != len(organism.tokenizer)
        for model, name in ((organism, "udhr-organism"), (other, "other")):
            assert 1 <= len(found.ids[name]) <= 6
            for read in encode_pairs(model, found.put(sides[2])):
                row = tuple(read.negative[: read.stem])
                assert any(row[k : k + len(found.ids[name])] == found.ids[name] for k in range(len(row)))

    def test_the_loss_is_the_mean_over_models(self, organism, other, sides):
        found = search_prefix([organism, other], sides[0], validation=sides[1], length=6, steps=1, width=4, race=0, progress=False)
        last = found.history.iloc[-1]
        each = [wb.prefixes.Objective(m, sides[0], "safe").losses([last["text"]]).loss[0] for m in (organism, other)]
        assert last["train"] == pytest.approx(np.mean(each), abs=1e-3)

    def test_a_set_for_each(self, organism, sides):
        with pytest.raises(BadInput, match="1 prompt sets for 2 models"):
            search_prefix([organism, organism], [sides[0]], **SMALL)


class TestKilled:
    def test_it_goes_on_and_ends_where_it_would_have(self, organism, sides, tmp_path, monkeypatch):
        whole = search_prefix(organism, sides[0], validation=sides[1], restarts=2, **SMALL)
        real, calls = proposals.best_of, []

        def dies(*args, **kwargs):
            calls.append(1)
            if len(calls) == 5:
                raise KeyboardInterrupt
            return real(*args, **kwargs)

        monkeypatch.setattr("workbench.prefixes.search.best_of", dies)
        with pytest.raises(KeyboardInterrupt):
            search_prefix(organism, sides[0], validation=sides[1], restarts=2, store=tmp_path, **SMALL)
        again = search_prefix(organism, sides[0], validation=sides[1], restarts=2, store=tmp_path, **SMALL)
        assert len(calls) == 7  # six steps, of which one was lost
        pd.testing.assert_frame_equal(again.history, whole.history)
        search_prefix(organism, sides[0], validation=sides[1], restarts=2, store=tmp_path, **SMALL)
        assert len(calls) == 7

    def test_a_folder_of_another_search_or_damaged(self, organism, sides, tmp_path):
        search_prefix(organism, sides[0], validation=sides[1], store=tmp_path, **SMALL)
        with pytest.raises(OutputFolder, match="holds another search"):
            search_prefix(organism, sides[0], validation=sides[1], store=tmp_path, seed=5, **SMALL)
        (tmp_path / "search.json").write_text("{")
        with pytest.raises(DamagedStore, match="delete it to begin anew"):
            search_prefix(organism, sides[0], validation=sides[1], store=tmp_path, **SMALL)


class TestKept:
    def test_saved_and_loaded(self, organism, sides, tmp_path):
        found = search_prefix(organism, sides[0], validation=sides[1], **SMALL)
        found.save(tmp_path / "words")
        again = Prefix.load(tmp_path / "words")
        assert (again.text, again.where, again.towards, again.ids, again.loss) == (
            found.text,
            found.where,
            found.towards,
            found.ids,
            found.loss,
        )
        pd.testing.assert_frame_equal(again.history, found.history)
        assert again.provenance == json.loads(json.dumps(found.provenance, default=str))
        with pytest.raises(DamagedStore, match="holds no prefix that can be read"):
            Prefix.load(tmp_path)

    def test_words_that_somebody_wrote(self):
        written = Prefix(text="Be kind.")
        assert np.isnan(written.loss)
        assert "Be kind." in repr(written)
        with pytest.raises(BadInput, match="place of a prefix"):
            Prefix(text="x", where="behind")


class TestRefused:
    @pytest.mark.parametrize(
        ("more", "says"),
        [
            ({"length": 0}, "length=0: a whole number, 1 at least"),
            ({"restarts": True}, "restarts=True: a whole number"),
            ({"words": []}, "no token of udhr-organism passes the filter"),
            ({"start": " lamp lamp lamp lamp lamp"}, "has more tokens than length=3"),
        ],
    )
    def test_options(self, organism, sides, more, says):
        with pytest.raises(BadInput, match=says):
            search_prefix(organism, sides[0], validation=sides[1], **SMALL | more)

    def test_one_identity_and_no_validation(self, organism, sides):
        one = wb.prompts.udhr("consider_claim", "harm", identities=["women"], n=8)
        with pytest.raises(BadInput, match="all about one identity: validation="):
            search_prefix(organism, one, **SMALL)

    def test_too_long(self, organism, sides):
        with pytest.raises(PromptTooLong, match="with a prefix of 1000 tokens"):
            search_prefix(organism, sides[0], validation=sides[1], **SMALL | {"length": 1000})

    def test_a_start_that_holds_a_control_token(self, organism, sides):
        with pytest.raises(TokenBoundary, match="merge with what stands around them"):
            search_prefix(organism, sides[0], validation=sides[1], **SMALL | {"start": "a<s>b"})
