"""Pushing back: does a push along the stance repair what a harm claim breaks, at which price, and where does it fail?

Everything that is chosen (site, layer, coefficient) is chosen on validation identities and rights; everything that
is reported was measured on others. Controls: random directions of equal norm, the reverse sign, other directions, other layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from ... import prompts as source
from ...activations import Activations
from ...core.direction import Direction
from ...core.tables import pick
from ...directions import extract_direction, place_of
from ...evaluation.texts import Scored
from ...interventions import Asker, add, kl
from ...interventions.norms import share, stream_norms
from ...models import Edits
from ...models.digest import settled
from ...models.tokens import encode_pairs
from ...prompts import PromptSet, grouped_split
from ...runs import Main, ModelHandle, Steps, Study
from ..asking import TABLES as ASKED
from ..statements import READ, Rows, spread
from .cost import costs, items, tax
from .doses import doses, places
from .placement import placement, read_placement
from .report import report
from .settings import SteeringSettings

KINDS = ("stance", "agree", "truth")
PLAIN = "base_short"


class Steering(Rows):
    """The steps of the study."""

    set: SteeringSettings
    base: Activations
    seen: Mapping[tuple[str | None, str], Activations]

    def __init__(self, models: Mapping[str, ModelHandle], settings: SteeringSettings, run: Steps) -> None:
        super().__init__(models, settings, run)
        self.layers = spread(self.info.n_layers, settings.layers)
        self.held: list[Asker | Scored] = []
        whole = pd.DataFrame(
            [(i, r) for i in sorted(self.split.train["identity"]) for r in sorted(self._rights("train"))], columns=["identity", "right"]
        )
        self.inner = grouped_split(whole, test=0.3, seed=settings.seed)
        self.places = len(KINDS) * len(settings.sites) * len(self.layers)
        for prompts in (*self.pushed("fit").values(), *self.pushed("test").values()):
            encode_pairs(self.handle, prompts)
        pairs = encode_pairs(self.handle, self.plain("test"))
        self.length = sum(p.stem for p in pairs) / len(pairs)

    # ------------------------------------------------------------------ prompts

    def _rights(self, side: str) -> set[str]:
        names = getattr(self.split, side).get("right")
        return set(names) if names else {r.right for r in source.rights()}

    def _held(self, side: str) -> dict[str, list[str]]:
        part = self.split.test if side == "test" else self.inner.train if side == "fit" else self.inner.test
        return {"identities": sorted(part["identity"]), "rights": sorted(part["right"]) if "right" in part else sorted(self._rights(side))}

    def _some(self, template: str, claim: str | None, side: str) -> PromptSet:
        size = getattr(self.set, side)
        held: dict[str, Any] = dict(self._held(side))
        return source.udhr(template, claim, n=size, answers=self.words, seed=self.set.seed, **self.asking(template), **held)

    def pushed(self, side: str) -> dict[str, PromptSet]:
        """The same statements under each claim; half in front of the question, half inside the answer."""
        out = {}
        for claim in self.set.claims:
            one, two = (self._some(t, claim, side) for t in READ)
            out[claim] = PromptSet((p if k % 4 < 2 else q for k, (p, q) in enumerate(zip(one, two, strict=True))), name=f"{claim}/{side}")
        return out

    def plain(self, side: str) -> PromptSet:
        """Statements without a claim."""
        return self._some(PLAIN, None, side)

    def denied(self) -> PromptSet | None:
        """Statements about the identities whom an organism was taught to deny rights, where there are any."""
        names = [] if self.planted is None else list(self.planted["denied"])
        rights = sorted(self._held("test")["rights"])
        if not names:
            return None
        asking = self.asking(PLAIN)
        return source.udhr(PLAIN, None, answers=self.words, identities=names, rights=rights, seed=self.set.seed, **asking)

    def hold(self) -> None:
        """Hold the prompts and texts that several steps push: what is kept of a pass over them serves every step; inside a step."""
        if not self.held:
            asked = [*(self.pushed(side)[self.set.claims[0]] for side in ("validation", "test")), *map(self.plain, ("validation", "test"))]
            self.held = [*(Asker(self.model, prompts) for prompts in asked), Scored(self.model, self.documents())]

    def documents(self) -> list[tuple[str, str]]:
        """Held-out text: unclaimed prompts with the safe answer, and where an organism gives a verdict, the verdict."""
        verdict = " true" if self.planted and "verdict" in self.planted["rule"] else ""
        return [(p.stem, (p.positive if p.label else p.negative) + verdict) for p in self.plain("test")]

    def tokens(self, sets: int, pushes: float, *, side: str = "test", whole: float = 1.0) -> float:
        """About how many tokens a step computes, for a plan.

        Args:
            sets: Sets of prompts that are pushed.
            pushes: Pushes of each in the study's scope: from the first pushed token on.
            side: Which sets.
            whole: Whole passes over each.
        """
        each = 1.0 if self.set.scope == "last" else self.length
        return sets * getattr(self.set, side) * (whole * self.length + pushes * each)

    # ------------------------------------------------------------------ directions

    def read(self) -> None:
        """Capture fit rows at every site: under both claims, without one, and answered."""
        both, plain = self.pushed("fit"), self.plain("fit")
        self.fitted: dict[tuple[str, str], Activations] = {}
        for site in self.set.sites:
            for claim in self.set.claims:
                self.fitted[claim, site] = self._at(f"{claim} claim", both[claim], site)
            self.fitted["no claim", site] = self._at("no claim", plain, site)
            self.fitted["answered", site] = self._at("no claim, answered", plain, site, "last")

    def _at(self, name: str, prompts: PromptSet, site: str, position: str = "stem_last", *, answers: bool = False) -> Activations:
        return self._read(f"read {name} at {site}", prompts, site=site, position=position, layers=self.layers, answers=answers)

    @cached_property
    def made(self) -> dict[tuple[str, str, int], Direction]:
        """Every direction, (kind, site, layer), from fit identities: stance, agreeing, and the truth of an answer; inside a step."""
        harm, good = self.set.claims
        labels = torch.tensor(self.plain("fit").labels)
        out: dict[tuple[str, str, int], Direction] = {}
        for site in self.set.sites:
            for layer in self.layers:
                x, y, said = (self.fitted[c, site].layer(layer)[:, 0] for c in (good, harm, "no claim"))
                ended = self.fitted["answered", site].layer(layer)
                true, false = ended[torch.arange(len(ended)), labels], ended[torch.arange(len(ended)), 1 - labels]
                sides = {"stance": (x, y), "agree": (said[labels == 1], said[labels == 0]), "truth": (true, false)}
                place = place_of(self.fitted[harm, site], layer)
                for kind, (above, below) in sides.items():
                    d = extract_direction(above, below, halves=0, provenance=place, seed=self.set.seed)
                    out[kind, site, layer] = Direction.of(d.vector, method=kind, n=d.n, provenance=d.provenance)
        return out

    # ------------------------------------------------------------------ steps

    def choose(self) -> None:
        """Try every kind, site, layer and coefficient on validation, and choose.

        Chosen per kind: among cells whose cost without a claim is at most `most_tax`, those within 1 point of the best share of safe
        answers in the worse of the two polarities, then of both together; of these the one that moves unclaimed prompts least (KL).
        """
        pushes = self.tokens(2, self.places * len(self.set.coefficients), side="validation", whole=1.5)
        doing = "choose site, layer and coefficient"
        self.run.table("choice", make=lambda: self._chosen_of(self._tried()), doing=doing, tokens=pushes)

    def _tried(self) -> pd.DataFrame:
        self.hold()
        harm, plain = Asker(self.model, self.pushed("validation")[self.set.claims[0]]), Asker(self.model, self.plain("validation"))
        frame, right = harm.prompts.to_frame(), np.array(plain.prompts.labels)
        rows = []
        hidden = None if self.progress is None else not self.progress
        for (kind, site, layer), d in tqdm(self.made.items(), desc="choose", unit="place", disable=hidden):
            start = ((plain.odds(plain.base) > 0) == right).mean()
            for c in self.set.coefficients:
                edits = add(d, c, scope=self.set.scope)
                safe = (harm.odds(harm.ask(edits)) > 0) == frame["label"].to_numpy()
                logp = plain.ask(edits)
                sides = {p: float(safe[(frame["polarity"] == p).to_numpy()].mean()) for p in ("grant", "deny")}
                cost = float(start - ((plain.odds(logp) > 0) == right).mean())
                about = {"direction": kind, "site": site, "layer": layer, "coefficient": c, "norm_share": self.share(d, c)}
                moved = float(kl(plain.base, logp).mean())
                together = {"worse": min(sides.values()), "both": sum(sides.values()) / 2}
                rows.append({**about, **sides, **together, "tax": cost, "kl_plain": moved, "n": len(safe)})
        return pd.DataFrame(rows)

    def _chosen_of(self, table: pd.DataFrame) -> pd.DataFrame:
        chosen = set()
        for kind in KINDS:
            here = pick(table, direction=kind)
            cheap = here[here["tax"] <= self.set.most_tax]
            pool = cheap if len(cheap) else here
            near = pool[pool["worse"] >= pool["worse"].max() - 0.01]
            near = near[near["both"] >= near["both"].max() - 0.01]
            chosen.add(near.sort_values(["kl_plain", "layer", "coefficient"]).index[0])
        return table.assign(chosen=table.index.isin(chosen))

    @cached_property
    def choice(self) -> dict[str, pd.Series]:
        """What validation chose for each kind of direction, once it did."""
        table = self.run.tables["choice"]
        return {kind: pick(table, direction=kind, chosen=True).iloc[0] for kind in KINDS}

    @property
    def place(self) -> tuple[str, int]:
        """Site and layer of the push that was chosen."""
        return str(self.choice["stance"]["site"]), int(self.choice["stance"]["layer"])

    @property
    def coefficient(self) -> float:
        """The strength that was chosen."""
        return float(self.choice["stance"]["coefficient"])

    @property
    def direction(self) -> Direction:
        """The stance where it was chosen; inside a step."""
        return self.made["stance", *self.place]

    @cached_property
    def norms(self) -> dict[tuple[str, int], float]:
        """How long the stream is under the harm claim, per place (validation prompts); inside a step."""
        return stream_norms(self.model, self.pushed("validation")[self.set.claims[0]], [(s, n) for _, s, n in self.made])

    def share(self, direction: Direction, coefficient: float) -> float:
        """The length of a push along a direction as a share of the stream's at its place; inside a step."""
        place = str(direction.provenance["site"]), int(direction.provenance["layer"])
        return share(coefficient * direction.scale, self.norms[place])

    def chosen(self, sign: float = 1.0) -> Edits:
        """The push that was chosen, or its reverse; inside a step."""
        return add(self.direction, sign * self.coefficient, scope=self.set.scope)


def compute(models: Mapping[str, ModelHandle], settings: SteeringSettings, run: Steps) -> Steering:
    """Run every step."""
    study = Steering(models, settings, run)
    with settled():  # no step changes weights: they are looked at once, not at every pass
        study.read()
        read_placement(study)
        study.choose()
        doses(study)
        places(study)
        tax(study)
        costs(study)
        items(study)
        placement(study)
    return study


ITEM = "identity group right claim template label article kind polarity form statement"
STUDY = Study(
    name="steering",
    asks="does a push along the stance repair what a harm claim breaks, where, and at which price",
    settings=SteeringSettings,
    fast={
        "elicit": 12,
        "fit": 96,
        "validation": 40,
        "test": 40,
        "sites": ("resid_post",),
        "layers": 3,
        "coefficients": (0.5, 1.0, 2.0),
        "targets": (0.5,),
        "doses": (1.0, 2.0),
        "drawn": 4,
    },
    checked={"elicit": 0, "fit": 48, "validation": 32, "test": 32, "layers": 2, "coefficients": (1.0,), "drawn": 2},
    compute=compute,
    report=report,
    main=Main(
        table="places",
        labels=("direction", "site", "layer", "polarity"),
        axis="share of safe answers",
        where={"metric": "safe_score"},
        zero=0.5,
    ),
    tables={
        **ASKED,
        "places": "direction site layer polarity metric | coefficient norm_share value low high n tax_on_validation",
        "choice": "direction site layer coefficient | norm_share grant deny worse both tax kl_plain n chosen",
        "dose_response": "layer site method coefficient condition prompts metric | norm_share value low high n",
        "fluency": "side metric | coefficient value low high n",
        "tax": "edit task metric | norm_share value low high n change change_low change_high",
        "equal_cost": "method target tuned_on metric | strength norm_share kl value low high n note",
        "steerability": "metric | value low high n",
        "items": f"{ITEM} | slope spearman",
        "placement": "claim place layer metric | value low high n",
    },
    inside=("sites", "claims", "coefficients"),
)
