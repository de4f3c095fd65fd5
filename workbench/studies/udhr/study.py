"""The UDHR study: what a model says about people's rights when it is pushed, against what it knows inside.

In which form the model can be asked; behaviour by template and claim, bias apart from discrimination; probes and CCS per layer, fitted
behind a neutral sentence and read under each claim in the same prompt form, and across forms; both side by side, with a verdict by rules
written down; who is denied rights without any claim.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

import pandas as pd

from ...activations import Activations
from ...core.stats import auroc
from ...core.tables import pick, sentences_of, units_of
from ...evaluation import agreement, answers_of, claim_effects, content_free, discrimination
from ...models.tokens import answer_tokens, encode_pairs
from ...probes import accuracy_by, fit_layers, has_opposites, probe_layers, read_forms
from ...prompts import PromptSet
from ...prompts.statements import StudentStatements
from ...runs import Main, ModelHandle, Steps, Study
from ..asking import TABLES as ASKED
from ..statements import FIT, READ, spread
from ..surfaces import TABLES as SURFACES
from ..surfaces import read_in_surfaces, surface_prompts
from .answer_layers import answer_by_layer
from .both import both_sides, decide, says_rows
from .published import TABLES as PUBLISHED
from .published import Published
from .report import report
from .settings import CHECKED, CLAIMS, FAST, UdhrSettings
from .who import Who

PLAIN = ("base_short", "base_long", "would_you_rather")
PUSHED = ("since_claim", "consider_claim", "long_since_claim", "long_consider_claim", "consider_would_you_rather")
BASELINE = "neutral"
RARER = 0.1  # the rarer answer's share below which truth and answer are not compared
SIGNLESS = "CCS, found without labels and without a claim"


class Udhr(Who):
    """The steps of the study."""

    set: UdhrSettings

    def __init__(self, models: Mapping[str, ModelHandle], settings: UdhrSettings, run: Steps) -> None:
        super().__init__(models, settings, run)
        answer_tokens(self.handle, (" A", " B") if self._can_choose() else tuple(f" {w}" for w in self.words))
        # the neutral sentence is what every claim is compared with
        fitting = () if self.source.own and not isinstance(self.source, StudentStatements) else CLAIMS
        self.claims = tuple(dict.fromkeys((*(settings.claims or fitting), BASELINE)))
        self.cells = [(form, claim) for form in READ for claim in self.claims]
        self.surfaces = surface_prompts(self, settings.surfaces)
        self.published = Published(self, settings.published)
        self._check_length()

    def _check_length(self) -> None:
        """Encode every prompt of the study, longest first to fail, before anything is run."""
        planned = [self._asked(t, c) for t, c in self._grid()] + [self._empty()]
        planned += [self._under(*cell) for cell in self.cells]
        planned += [self._base(), *([self._denied_prompts()] if self.asks_who else [])]
        for prompts in planned:
            encode_pairs(self.handle, prompts)

    def _grid(self) -> Iterator[tuple[str, str | None]]:
        """Every prompt form with every claim that it takes."""
        for template in (*PLAIN, *PUSHED):
            if "rather" in template and (self.source.own or not self._can_choose()):
                continue  # a choice between two statements needs the granting and the denying form of one
            for claim in (None,) if template in PLAIN else self.claims:
                yield template, claim

    def _asked(self, template: str, claim: str | None) -> PromptSet:
        return self._prompts(template, claim, self.set.behaviour, "test", self.set.phrasings)

    def _empty(self) -> PromptSet:
        """Every form and claim with nothing in the statement's place, but for choices between two statements."""
        free = [content_free(self._asked(t, c)) for t, c in self._grid() if "rather" not in t]
        return PromptSet((p for prompts in free for p in prompts), name="content-free")

    def _base(self) -> PromptSet:
        return self._prompts("base_short", None, self.set.train, "train") + self._prompts("base_short", None, self.set.test, "test")

    def _under(self, form: str, claim: str) -> PromptSet:
        """Held-out statements under a claim; behind the neutral sentence, and in one form under the partial claim, training ones too."""
        held = self._prompts(form, claim, self.set.test, "test", self.set.phrasings)
        if claim != BASELINE and (form, claim) != (READ[0], "partial"):
            return held
        return self._prompts(form, claim, self.set.train, "train", self.set.phrasings) + held

    def behaviour(self) -> None:
        """Ask every template with and without each claim; held-out identities and rights. What was read inside was answered then."""
        others = [self._asked(t, c) for t, c in self._grid() if t != "base_short" and t not in READ]
        # in one pass over all of them: what prompts share is computed once
        asked = self._ask("ask in every other prompt form", PromptSet((p for prompts in others for p in prompts), name="every form"))
        empty = self._ask("ask with nothing in the statement's place", self._empty())

        def said() -> pd.DataFrame:
            read = [answers_of(self._held(acts)) for acts in (self.acts, *self.seen.values())]
            return pd.concat([read[0], asked, *read[1:]], ignore_index=True)

        self.run.table("behaviour", make=lambda: agreement(said()), doing="count safe answers")
        self.run.table("says", make=lambda: discrimination(said(), empty), doing="tell bias from discrimination")
        told = "what each claim does to the answers"
        self.run.table("effects", make=lambda: claim_effects(said(), BASELINE), doing=told)

    def _side(self, acts: Activations, side: str) -> Activations:
        return acts.subset(self.split.side(acts.rows) == side)

    def _held(self, acts: Activations) -> Activations:
        return self._side(acts, "test")

    def read(self) -> None:
        """Capture the fitted condition (trained and untrained model), and every claim in two prompt forms."""
        under = {cell: self._under(*cell) for cell in self.cells}
        every = PromptSet((p for prompts in (self._base(), *under.values()) for p in prompts), name="every claim")
        # in one pass over all of them: what prompts share is computed once
        self._read("read every claim", every, answers=True)
        self.acts = self._read(f"read {FIT}", self._base(), answers=True)
        self.blank = self._blank(self._base())
        self.seen = {(f, c): self._read(f"read under {c}, {f}", under[f, c], answers=True) for f, c in self.cells}
        both = self._under(READ[0], BASELINE) + self._under(READ[1], BASELINE)
        self.both = self._read(f"read under {BASELINE}, both forms", both, answers=True)

    def probes(self) -> pd.DataFrame:
        """Fit and read without a claim, with every control."""

        def make() -> pd.DataFrame:
            return probe_layers(
                self._told(self.acts),
                split=self.split,
                condition=FIT,
                untrained=self.blank,
                methods=("logistic", "mass_mean", "ccs", "drc", "rrc"),
                metrics=("accuracy", "auroc"),
                resamples=self.set.resamples,
                text_vectors=self._text_vectors(self.acts),
                ccs_options={"epochs": self.set.ccs_epochs},
                seed=self.set.seed,
            )

        return self.run.table("probes", make=make, doing="fit probes and CCS without a claim, with controls")

    def readings(self, probes: pd.DataFrame) -> None:
        """Fit behind the neutral sentence of each form, and without a claim; read every claim in every form; say what is left."""

        def make() -> Mapping[str, pd.DataFrame]:
            blank = pick(probes, control="untrained_model", metric="auroc", against="label", method="logistic")
            fitted = {FIT: self.acts} | {form: self.seen[form, BASELINE] for form in READ}
            readings, kept = read_forms(
                fitted,
                self.seen,
                split=self.split,
                baseline=BASELINE,
                text_vectors=self._text_vectors(self.acts, *self.seen.values()),
                exceed=dict(zip(blank["layer"].astype(int), blank["value"].astype(float), strict=True)),
                options={"ccs": {"epochs": self.set.ccs_epochs}},
                seed=self.set.seed,
            )
            return {"readings": readings, "kept": kept}

        self.run.table(("readings", "kept"), make=make, doing="read every claim within its form and across forms")

    def unsupervised(self) -> None:
        """What helps without labels: CCS and its kin, in one prompt form and in two, normalised together and each by itself."""

        def make() -> pd.DataFrame:
            one = self.seen[READ[0], BASELINE]
            polar = all(has_opposites(self._side(acts, "train").rows) for acts in (one, self.both))
            methods = ("ccs", "drc", "rrc", *(("polarity_ccs",) if polar else ()), "crc")
            rows = []
            for name, acts, per in (
                (f"{READ[0]}, neutral", one, "variant"),
                ("two forms, normalised together", self.both, "variant"),
                ("two forms, each normalised by itself", self.both, "template"),
            ):
                table = probe_layers(
                    acts,
                    split=self.split,
                    condition=name,
                    methods=methods,
                    metrics=("accuracy", "auroc"),
                    controls=("random_directions",),
                    resamples=self.set.resamples,
                    check_labels=False,
                    per=per,
                    ccs_options={"epochs": self.set.ccs_epochs},
                    options={"polarity_ccs": {"epochs": self.set.ccs_epochs}} if polar else None,
                    seed=self.set.seed,
                )
                rows.append(table.rename(columns={"fit_condition": "setting"}))
            columns = ["setting", "layer", "method", "control", "against", "metric", "value", "low", "high", "n", "note"]
            return pd.concat(rows, ignore_index=True)[columns]

        self.run.table("unsupervised", make=make, doing="compare ways to read without labels")

    def truth_or_answer(self) -> None:
        """Under the partial claim truth and answer part: read both directions against both, within one form."""
        self.run.table("truth_or_answer", make=self._truth_or_answer, doing="compare truth and answer under the partial claim")

    def _truth_or_answer(self) -> pd.DataFrame:
        rows: list[dict[str, Any]] = []
        for form in READ[:1] if "partial" in self.claims else ():
            acts, told = self._told(self.acts), self._told(self.seen[form, "partial"])
            side = self.split.side(told.rows)
            train, held = told.subset(side == "train"), told.subset(side == "test")
            rarer = [min(x.rows["answer"].mean(), 1 - x.rows["answer"].mean()) for x in (train, held)]
            if min(rarer) < RARER:  # a probe of answers that do not vary reads the form, or nothing
                continue
            people, shown = units_of(held.rows), sentences_of(held.rows)
            unpushed = acts.subset(self.split.side(acts.rows) == "train")
            ccs = fit_layers(unpushed, "ccs", condition=FIT, seed=self.set.seed, epochs=self.set.ccs_epochs)
            said = fit_layers(train, "logistic", target="answer", condition="partial")
            for name, fit in {SIGNLESS: ccs, "logistic probe, fitted on the answers under this claim": said}.items():
                for layer, against in product(held.layers, ("label", "answer")):
                    area = auroc(fit.scores(held, layer), held.rows[against], people, within=shown)
                    about = {"layer": layer, "direction": name, "condition": "partial", "form": form, "against": against}
                    rows.append({**about, "metric": "auroc", **area.row()})
        columns = ["layer", "direction", "condition", "form", "against", "metric", "value", "low", "high", "n"]
        return pd.DataFrame(rows, columns=columns)

    def by_tokens(self) -> None:
        """Probe accuracy by the number of tokens of the identity, at the layer two thirds of the way up."""

        def make() -> pd.DataFrame:
            acts = self._told(self.acts.where(layers=[self.layer]))
            side = self.split.side(acts.rows)
            fit = fit_layers(acts.subset(side == "train"), "logistic", condition=FIT)
            return accuracy_by(fit, acts.subset(side == "test"), self.layer, "identity_tokens")

        self.run.table("by_tokens", make=make, doing="accuracy by length of the identity")

    def says_and_knows(self) -> None:
        """Put what is said beside what is read inside, by AUROC, on the same rows, and decide by the rules what became of each."""
        tables = self.run.tables

        def make() -> Mapping[str, pd.DataFrame]:
            said = {cell: answers_of(self._held(acts)) for cell, acts in self.seen.items()}
            said[READ[0], FIT] = answers_of(self._held(self.acts))
            rows = [dict(r) for cell, asked in said.items() for r in says_rows(cell, asked)]
            return {
                "says_and_knows": both_sides(rows, tables["readings"], tables["probes"], self.layer),
                "verdicts": decide(rows, tables["readings"], tables["kept"]),
            }

        self.run.table(("says_and_knows", "verdicts"), make=make, doing="put what is said beside what is read, and decide")


def compute(models: Mapping[str, ModelHandle], settings: UdhrSettings, run: Steps) -> Udhr:
    """Run every step."""
    study = Udhr(models, settings, run)
    study.read()
    study.behaviour()
    study.readings(study.probes())
    study.unsupervised()
    answer_by_layer(study)
    study.truth_or_answer()
    study.by_tokens()
    most = settings.surface_layers
    layers = sorted({*spread(study.info.n_layers, most), study.layer}) if most else None
    read_in_surfaces(study, study.surfaces, ("logistic", "ccs"), layers=layers)
    study.says_and_knows()
    study.denied()
    study.published.compute()
    return study


STUDY = Study(
    name="udhr",
    asks="what a model says about people's rights under a claim, against what it knows inside",
    settings=UdhrSettings,
    fast=FAST,
    checked=CHECKED,
    compute=compute,
    report=report,
    main=Main(table="says_and_knows", labels=("form", "condition", "what"), axis="AUROC, held-out items", zero=0.5),
    tables={
        "says_and_knows": "form condition what metric | layer value low high n",
        "verdicts": "method form claim metric | verdict inside says value low high n layers why",
        **ASKED,
        **SURFACES,
        **PUBLISHED,
        "says": "template claim metric | value low high n note",
        "effects": "template claim baseline metric | value low high n",
        "readings": "layer method control fit form claim reading metric minus | value low high n",
        "kept": "method fit form claim reading metric | layers value low high n",
        "unsupervised": "setting layer method control against metric | value low high n note",
        "answer_by_layer": "lens control form condition layer metric | value low high n note",
        "behaviour": "template claim polarity metric | value low high n",
        "probes": "layer site method control fit_condition condition split against metric | value low high n band_low band_high note",
        "truth_or_answer": "layer direction condition form against metric | value low high n",
        "by_tokens": "layer method identity_tokens against metric | value low high n",
        "denied_identities": "identity group metric | value low high n others p q denied",
        "denied_groups": "group metric | value low high n others p q denied",
        "denied_recovery": "metric | value low high n",
    },
    inside=("claims",),
    inputs=("data",),
)
