"""Where does a claim override the truth? Patching by layer and part of the prompt, heads, and along single directions.

The same statements under two claims of equal length in tokens: *clean* under the good claim, *corrupted* under the harm claim.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import torch

from ... import prompts as source
from ...core.direction import Direction
from ...core.errors import BadInput, UnknownSite, unknown
from ...core.stats import paired_difference
from ...core.tables import units_of
from ...directions import extract_direction, place_of
from ...evaluation import answers, answers_of, discrimination
from ...interventions import alignment_table, attribution_error, patch, random_directions
from ...models.hooks import SITES, check_layer
from ...models.tokens import encode_pairs
from ...prompts import PromptSet
from ...prompts.templates import claim_phrasings
from ...runs import Main, ModelHandle, Steps, Study
from ..answering import TABLES as SAID
from ..asking import TABLES as ASKED
from ..asking import AskSettings
from ..statements import Rows, check_claims
from .report import HALF, report

MAPPED = ("resid_pre", "resid_post", "attn_out", "mlp_out")


@dataclass(frozen=True, kw_only=True)
class PatchingSettings(AskSettings):
    """The grid of the study.

    Attributes:
        items: Held-out statements that are patched.
        fit: Statements per claim, of training identities, that directions are made from.
        template: Where the claim stands.
        metric: What is recovered.
        sites: Maps of layer by part of the prompt.
        layers: Blocks. Empty: all.
        heads: Whether heads are patched one by one.
        random: Random directions of the control.
        sample: Items on which attribution patching is compared with exact patching.
        claims: Corrupted, and clean.
        seed: Draws everything.
    """

    items: int = 48
    fit: int = 400
    template: str = "consider_claim"
    metric: str = "logit_diff"
    sites: tuple[str, ...] = MAPPED
    layers: tuple[int, ...] = ()
    heads: bool = True
    random: int = 5
    sample: int = 6
    claims: tuple[str, ...] = ("harm", "good")
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.items < 8 or self.fit < 32:
            raise BadInput(f"items: 8 at least, fit: 32 at least; got {self.items} and {self.fit}")
        if "resid_post" not in self.sites:
            raise BadInput(f"sites: resid_post must be among them (the findings are read there), got {', '.join(self.sites)}")
        for site in self.sites:
            if site not in SITES:
                raise unknown(UnknownSite, "site", site, SITES)
        if len(self.claims) != 2:
            raise BadInput("claims=: two of them, the corrupted one and the clean one")
        check_claims(self.claims)


class Patching(Rows):
    """The steps of the study."""

    set: PatchingSettings

    def __init__(self, models: Mapping[str, ModelHandle], settings: PatchingSettings, run: Steps) -> None:
        super().__init__(models, settings, run)
        self.layers = list(settings.layers) or list(range(self.info.n_layers))
        for layer in self.layers:
            check_layer(self.handle, layer)
        self.texts, self.align_by = self._claims()
        self.clean, self.corrupted = (self._under(self.texts[c], "test", settings.items) for c in (settings.claims[1], settings.claims[0]))
        for prompts in (self.clean, self.corrupted):
            encode_pairs(self.handle, prompts)

    def _claims(self) -> tuple[dict[str, str], str]:
        """A wording of each claim such that both have as many tokens, so that every token of one prompt has its place in the other."""
        harm, good = self.set.claims
        known = source.claims()
        forms = {c: [known[c], *claim_phrasings(c)[0]] for c in self.set.claims}

        def size(text: str) -> int:
            return len(self.handle.tokenizer(f' "{text}"', add_special_tokens=False)["input_ids"])

        for a, b in sorted(product(range(len(forms[harm])), range(len(forms[good]))), key=sum):
            if size(forms[harm][a]) == size(forms[good][b]):
                return {harm: forms[harm][a], good: forms[good][b]}, "same"
        return {c: forms[c][0] for c in self.set.claims}, "diff"

    def _under(self, text: str, side: str, n: int) -> PromptSet:
        return self._prompts(self.set.template, text, n, side)

    def _patch(self, **how: Any) -> pd.DataFrame:
        common: dict[str, Any] = {
            "layers": self.layers,
            "positions": "segment",
            "align_by": self.align_by,
        }
        return patch(self.model, self.clean, self.corrupted, self.set.metric, progress=self.progress, **(common | how))

    # ------------------------------------------------------------------ steps

    def _sites(self) -> list[str]:
        """The sites of the settings that this model has."""
        return [s for s in self.set.sites if f"blocks.0.{SITES[s]}" in self.model.hook_dict]

    def maps(self) -> None:
        """Every layer and part of the prompt: denoising at each site, noising in the stream."""
        self.run.table(
            "alignment",
            make=lambda: alignment_table(self.model, self.clean, self.corrupted, 0, how=self.align_by),
            doing="lay the prompts side by side",
        )
        parts = [self._map(site, "denoise") for site in self.set.sites] + [self._map("resid_post", "noise")]

        def make() -> pd.DataFrame:
            table = pd.concat([p for p in parts if len(p)], ignore_index=True)
            return table.assign(map=table["site"] + ", " + table["way"])

        self.run.table("maps", make=make, doing="put the maps together")

    def _map(self, site: str, way: str) -> pd.DataFrame:
        """One map; empty where the model has no such site."""

        def make() -> pd.DataFrame:
            return self._patch(site=site, way=way) if site in self._sites() else pd.DataFrame()

        return self.run.table(f"patch {site}, {way}", make=make, keep=False, items=len(self.clean) * len(self.layers))

    def head_map(self) -> None:
        """Each head's output at the last token."""

        def make() -> pd.DataFrame:
            return self._patch(site="z", heads=True, positions="last")

        self.run.table("heads", make=make, doing="patch heads at the last token")

    def read(self) -> None:
        """Capture the last prompt token under each claim and without one, training identities."""
        harm, good = self.set.claims
        self.acts = {
            c: self._read(
                f"read {c} claim, training", self._under(self.texts[c], "train", self.set.fit), position="stem_last", layers=self.layers
            )
            for c in (harm, good)
        }
        self.plain = self._prompts("base_short", None, self.set.fit, "train")
        self.said = self._read("read no claim, training", self.plain, position="stem_last", layers=self.layers, answers=True)

    def answers(self) -> None:
        """Count answers without a claim and under both, and how far apart the two claims move them."""
        corrupted, clean = self.set.claims

        def make() -> dict[str, pd.DataFrame]:
            under = {clean: self.clean, corrupted: self.corrupted}
            asked = {c: answers(self.model, p, progress=self.progress).assign(claim=c) for c, p in under.items()}
            says = discrimination(pd.concat([answers_of(self.said), *asked.values()], ignore_index=True))
            # of the answer that grants the right; item i of one stands beside item i of the other
            granted = {c: x["margin"] * (2 * x["label"] - 1) for c, x in asked.items()}
            apart = paired_difference(granted[clean], granted[corrupted], units_of(asked[clean]))
            about = {"template": self.set.template, "clean": clean, "corrupted": corrupted, "metric": "log-odds of the safe answer"}
            return {"says": says, "apart": pd.DataFrame([about | apart.row()])}

        self.run.table(("says", "apart"), make=make, doing="ask under both claims and without one")

    def _directions(self) -> dict[str, dict[int, Direction]]:
        """Directions at the last prompt token from training identities: stance (good minus harm), agreeing, and random ones."""
        harm, good = self.set.claims
        labels = torch.tensor(self.plain.labels)
        out: dict[str, dict[int, Direction]] = {"stance": {}, "agree": {}} | {f"random {k}": {} for k in range(self.set.random)}
        for layer in self.layers:
            x, y, s = (a.layer(layer)[:, 0] for a in (self.acts[good], self.acts[harm], self.said))
            for name, above, below in (("stance", x, y), ("agree", s[labels == 1], s[labels == 0])):
                made = extract_direction(above, below, halves=0, provenance=place_of(self.acts[harm], layer), seed=self.set.seed)
                out[name][layer] = Direction.of(made.vector, method=name, n=made.n, provenance=made.provenance)
            for k, d in enumerate(random_directions(out["stance"][layer], self.set.random, self.set.seed)):
                out[f"random {k}"][layer] = d
        return out

    def lines(self) -> None:
        """Exchange the whole stream at the last token, or its component along one direction."""

        def make() -> pd.DataFrame:
            parts = [self._patch(site="resid_post", positions="last").assign(line="the whole stream")]
            for name, by_layer in self._directions().items():
                parts.append(self._patch(site="resid_post", positions="last", along=by_layer).assign(line=name))
            table = pd.concat(parts, ignore_index=True)
            chance = table[table["line"].str.startswith("random")].groupby("layer")["value"].agg(["mean", "min", "max", "size"])
            pooled = parts[0].set_index("layer").loc[chance.index].reset_index()
            pooled = pooled.assign(
                value=chance["mean"].to_numpy(),
                low=chance["min"].to_numpy(),
                high=chance["max"].to_numpy(),
                n=chance["size"].to_numpy(),
                line=f"random ({self.set.random}: mean, smallest, largest)",
                patched=np.nan,
            )
            return pd.concat([table[~table["line"].str.startswith("random")], pooled], ignore_index=True)

        self.run.table("lines", make=make, doing="patch along directions")

    def guess(self) -> None:
        """How good a gradient's first-order guess is, at every mapped site."""

        def make() -> pd.DataFrame:
            how: dict[str, Any] = {"layers": self.layers, "positions": "segment", "align_by": self.align_by, "sample": self.set.sample}
            parts = [
                attribution_error(self.model, self.clean, self.corrupted, self.set.metric, site=site, progress=self.progress, **how)
                for site in self._sites()
            ]
            return pd.concat(parts, ignore_index=True)

        self.run.table("attribution", make=make, doing="attribution patching against exact patching")

    @property
    def place(self) -> tuple[int, str]:
        """Where the override is first carried: the lowest layer of the stream at which the last token alone recovers a half."""
        maps = self.run.tables["maps"]
        here = maps[(maps["site"] == "resid_post") & (maps["way"] == "denoise") & (maps["position"] == "last")].sort_values("layer")
        found = here[here["value"] >= HALF]
        return (int(found["layer"].iloc[0]), "last") if len(found) else (int(here.sort_values("value")["layer"].iloc[-1]), "last")


def compute(models: Mapping[str, ModelHandle], settings: PatchingSettings, run: Steps) -> Patching:
    """Run every step."""
    study = Patching(models, settings, run)
    study.maps()
    if settings.heads:
        study.head_map()
    study.read()
    study.answers()
    study.lines()
    study.guess()
    return study


PATCHED = "layer site head position token way method metric"
STUDY = Study(
    name="patching",
    asks="where a claim acts: layer by position, heads, and how much one direction carries",
    settings=PatchingSettings,
    fast={"elicit": 12, "items": 10, "fit": 64, "sites": ("resid_post",), "heads": False, "random": 2, "sample": 3},
    checked={"elicit": 0, "items": 8, "fit": 32, "heads": True, "sites": ("resid_pre", "resid_post"), "layers": (1, 3, 5)},
    compute=compute,
    report=report,
    main=Main(table="lines", labels=("line", "layer"), axis="recovered (0 corrupted, 1 clean)", zero=0.0),
    tables={
        **ASKED,
        **SAID,
        "apart": "template clean corrupted metric | value low high n",
        "lines": f"{PATCHED} line | value low high n clean corrupted patched",
        "maps": f"{PATCHED} map | value low high n clean corrupted patched",
        "heads": f"{PATCHED} | value low high n clean corrupted patched",
        "attribution": "layer site | n correlation slope mean_error mean_effect",
        "alignment": "clean_position corrupted_position | clean corrupted same part",
    },
    inside=("layers", "sites"),
)
