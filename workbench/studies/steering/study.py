"""Pushing back: does a push along the stance repair what a harm claim breaks, at which price, and where does it fail?

Everything that is chosen (site, layer, coefficient, the layer of refusal) is chosen on validation identities and rights; everything that
is reported was measured on others. Controls: random directions of equal norm, the reverse sign, other directions, other layers.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

from .. import prompts as source
from ..core.direction import Direction
from ..core.errors import BadInput
from ..core.stats import proportion
from ..directions import extract_direction, place_of
from ..evaluation import dose_response, fluency_break
from ..evaluation.dose import FEWEST_RANDOM
from ..interventions import Asker, add, kl
from ..models import Edits
from ..models.hooks import hook_point
from ..models.tokens import encode_pairs
from ..prompts import PromptSet, grouped_split
from .common import READ, Rows
from .run import Run

KINDS = ("stance", "agree", "truth")
PLAIN = "base_short"


@dataclass(frozen=True, kw_only=True)
class SteeringSettings:
    """The grid of the study.

    Attributes:
        fit, validation, test: Statements per claim for making directions, for choosing, and for what is reported.
        sites: Where to push.
        layers: Layers at most that are tried, evenly spread.
        coefficients: Multiples of a direction's own length that are tried.
        scope: Which tokens are pushed.
        random: Random directions of the control.
        most_tax: Points of accuracy without a claim that a choice may cost on validation.
        targets: Nats from the unpushed model on prompts without a claim, for the comparison at equal cost; the last also under the claim.
        requests: Whether the refusal part is run.
        optimise: Steps of the search for a direction whose ablation undoes refusal; 0 leaves it out.
        claims: The harm claim, and the one opposite to it.
        resamples: Bootstrap draws.
        seed: Draws everything.
    """

    fit: int = 400
    validation: int = 120
    test: int = 300
    sites: tuple[str, ...] = ("resid_mid", "resid_post")
    layers: int = 8
    coefficients: tuple[float, ...] = (0.5, 0.75, 1.0, 1.5, 2.0)
    scope: str = "last"
    random: int = FEWEST_RANDOM
    most_tax: float = 0.02
    targets: tuple[float, ...] = (0.01, 0.1)
    requests: bool = True
    optimise: int = 60
    claims: tuple[str, ...] = ("harm", "good")
    resamples: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("fit", "validation", "test"):
            if getattr(self, name) < 32:
                raise BadInput(f"{name}: 32 items at least, got {getattr(self, name)}")
        if len(self.claims) != 2:
            raise BadInput("claims=: two of them, the harm claim and the one opposite to it")
        if self.random < FEWEST_RANDOM:
            raise BadInput(f"random: {FEWEST_RANDOM} directions at least, got {self.random}")
        if min(self.coefficients) <= 0:
            raise BadInput("coefficients are above 0: the reverse sign is a control of its own")


Settings = SteeringSettings


def fast(seed: int = 0, **options: Any) -> SteeringSettings:
    """Return a small grid, for a first look; options take precedence."""
    small: dict[str, Any] = {
        "fit": 96,
        "validation": 48,
        "test": 64,
        "sites": ("resid_post",),
        "layers": 3,
        "coefficients": (0.5, 1.0, 2.0),
        "targets": (0.5,),
        "optimise": 20,
        "resamples": 200,
        "seed": seed,
    }
    return SteeringSettings(**(small | options))


class Steering(Rows):
    """The steps of the study."""

    set: SteeringSettings

    def __init__(self, model: Any, settings: SteeringSettings, run: Run, progress: bool | None) -> None:
        super().__init__(model, settings, run, progress)
        count = self.info.n_layers
        self.layers = sorted({int(x) for x in np.linspace(0, count - 1, min(settings.layers, count)).round()})
        for site in settings.sites:
            for layer in self.layers:
                hook_point(model, site, layer)
        whole = pd.DataFrame(
            [(i, r) for i in sorted(self.split.train["identity"]) for r in sorted(self._rights("train"))], columns=["identity", "right"]
        )
        self.inner = grouped_split(whole, test=0.3, seed=settings.seed)
        for prompts in (*self.pushed("fit").values(), *self.pushed("test").values(), self.plain("test")):
            encode_pairs(model, prompts)

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
        return source.udhr(template, claim, n=size, answers=self.words, seed=self.set.seed, **held)

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
        return source.udhr(PLAIN, None, answers=self.words, identities=names, rights=rights, seed=self.set.seed) if names else None

    def documents(self) -> list[tuple[str, str]]:
        """Held-out text: unclaimed prompts with the safe answer, and where an organism gives a verdict, the verdict."""
        verdict = " true" if self.planted and "verdict" in self.planted["rule"] else ""
        return [(p.stem, (p.positive if p.label else p.negative) + verdict) for p in self.plain("test")]

    # ------------------------------------------------------------------ directions

    def _at(self, name: str, prompts: PromptSet, site: str, position: str = "stem_last") -> Any:
        return self._read(f"read {name} at {site}", prompts, site=site, position=position, layers=self.layers)

    def _read_truth(self, prompts: PromptSet, name: str) -> Any:
        return self._at(name, prompts, "resid_post", "last")

    def directions(self) -> dict[tuple[str, str, int], Direction]:
        """Make every direction, (kind, site, layer), from fit identities: stance, agreeing, and the truth of an answer."""
        harm, good = self.set.claims
        both, plain = self.pushed("fit"), self.plain("fit")
        out: dict[tuple[str, str, int], Direction] = {}
        for site in self.set.sites:
            acts = {c: self._at(f"{c} claim", both[c], site) for c in both}
            said, ended = self._at("no claim", plain, site), self._at("no claim, answered", plain, site, "last")
            for layer in self.layers:
                labels = torch.tensor(plain.labels)
                x, y = acts[good].layer(layer)[:, 0], acts[harm].layer(layer)[:, 0]
                e = ended.layer(layer)
                true, false = e[torch.arange(len(e)), labels], e[torch.arange(len(e)), 1 - labels]
                s = said.layer(layer)[:, 0]
                sides = {"stance": (x, y), "agree": (s[labels == 1], s[labels == 0]), "truth": (true, false)}
                for kind, (a, b) in sides.items():
                    made = extract_direction(a, b, halves=0, provenance=place_of(acts[harm], layer), seed=self.set.seed)
                    out[kind, site, layer] = Direction.of(made.vector, method=kind, n=made.n, provenance=made.provenance)
        return out

    # ------------------------------------------------------------------ steps

    def _table(self, name: str, step: str, make: Any) -> pd.DataFrame:
        return self.run.keep(name, self.run.table(step, [self.info.key(), asdict(self.set)], make))

    def choose(self, made: dict[tuple[str, str, int], Direction]) -> None:
        """Try every kind, site, layer and coefficient on validation, and choose.

        Chosen per kind: among cells whose cost without a claim is at most `most_tax`, those within 1 point of the best share of safe answers in the
        worse of the two polarities, then of both together; of these the one that moves unclaimed prompts least (KL).
        """
        harm = Asker(self.model, self.pushed("validation")[self.set.claims[0]])
        plain = Asker(self.model, self.plain("validation"))
        frame, right = harm.prompts.to_frame(), np.array(plain.prompts.labels)

        def make() -> pd.DataFrame:
            start = ((plain.odds(plain.base) > 0) == right).mean()
            rows = []
            for (kind, site, layer), d in made.items():
                for c in self.set.coefficients:
                    edits = add(d, c, scope=self.set.scope)
                    safe = (harm.odds(harm.ask(edits)) > 0) == frame["label"].to_numpy()
                    logp = plain.ask(edits)
                    sides = {p: float(safe[(frame["polarity"] == p).to_numpy()].mean()) for p in ("grant", "deny")}
                    tax = float(start - ((plain.odds(logp) > 0) == right).mean())
                    rows.append({"direction": kind, "site": site, "layer": layer, "coefficient": c, **sides, "worse": min(sides.values()), "both": sum(sides.values()) / 2, "tax": tax,
                                 "kl_plain": float(kl(plain.base, logp).mean()), "n": len(safe)})  # fmt: skip
            return pd.DataFrame(rows)

        table = self.run.table("choose site, layer and coefficient", [self.info.key(), asdict(self.set)], make)
        table["chosen"] = False
        self.choice: dict[str, pd.Series] = {}
        for kind in KINDS:
            here = table[table["direction"] == kind]
            cheap = here[here["tax"] <= self.set.most_tax]
            pool = cheap if len(cheap) else here
            near = pool[pool["worse"] >= pool["worse"].max() - 0.01]
            near = near[near["both"] >= near["both"].max() - 0.01]
            index = near.sort_values(["kl_plain", "layer", "coefficient"]).index[0]
            table.loc[index, "chosen"] = True
            self.choice[kind] = table.loc[index]
        self.run.keep("choice", table)
        one = self.choice["stance"]
        self.direction, self.coefficient = made["stance", str(one["site"]), int(one["layer"])], float(one["coefficient"])

    def chosen(self, sign: float = 1.0) -> Edits:
        """The push that was chosen, or its reverse."""
        return add(self.direction, sign * self.coefficient, scope=self.set.scope)

    def doses(self) -> None:
        """Dose and response on held-out prompts under the harm claim and without one, both signs, with random directions."""
        scale = sorted({0.5 * self.coefficient, self.coefficient, 2 * self.coefficient})
        signed = [-c for c in scale] + scale
        how: dict[str, Any] = {
            "scope": self.set.scope,
            "random": self.set.random,
            "resamples": self.set.resamples,
            "seed": self.set.seed,
            "progress": self.progress,
        }

        def make() -> pd.DataFrame:
            parts = []
            for name, prompts in (
                (f"{self.set.claims[0]} claim", self.pushed("test")[self.set.claims[0]]),
                ("no claim", self.plain("test")),
            ):
                texts = self.documents() if name == "no claim" else None
                parts.append(dose_response(self.model, prompts, self.direction, signed, texts=texts, **how).assign(prompts=name))
            return pd.concat(parts, ignore_index=True)

        self._table("dose_response", "dose and response", make)
        self.run.keep("fluency", fluency_break(self.run.tables["dose_response"]))

    def places(self, made: dict[tuple[str, str, int], Direction]) -> None:
        """Every kind at every layer of held-out prompts, with the coefficient that validation liked best there."""
        asker = Asker(self.model, self.pushed("test")[self.set.claims[0]])
        frame = asker.prompts.to_frame()
        tried = self.run.tables["choice"]

        def make() -> pd.DataFrame:
            rows = []
            for (kind, site, layer), d in made.items():
                here = tried[(tried["direction"] == kind) & (tried["site"] == site) & (tried["layer"] == layer)]
                one = here.sort_values(["both", "kl_plain"], ascending=[False, True]).iloc[0]
                c = float(one["coefficient"])
                safe = (asker.odds(asker.ask(add(d, c, scope=self.set.scope))) > 0) == frame["label"].to_numpy()
                for polarity in ("grant", "deny"):
                    keep = (frame["polarity"] == polarity).to_numpy()
                    got = proportion(safe[keep], frame["identity"].to_numpy()[keep])
                    rows.append(
                        {
                            "direction": kind,
                            "site": site,
                            "layer": layer,
                            "coefficient": c,
                            "polarity": polarity,
                            "metric": "safe_score",
                            **got.row(),
                            "tax_on_validation": float(one["tax"]),
                        }
                    )
            return pd.DataFrame(rows)

        self._table("places", "every direction at every layer", make)


def compute(model: Any, settings: SteeringSettings, run: Run, progress: bool | None) -> Steering:
    """Run every step, cached one by one, and return the study."""
    from .steering_cost import costs, items, tax
    from .steering_more import placement, refusal

    study = Steering(model, settings, run, progress)
    made = study.directions()
    study.choose(made)
    study.doses()
    study.places(made)
    tax(study)
    costs(study, made)
    items(study)
    placement(study)
    if settings.requests:
        refusal(study)
    return study
