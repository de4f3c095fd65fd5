"""What pushes do to the answers: by dose, against random directions, and by kind, site and layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd
from tqdm.auto import tqdm

from ...core.stats import proportion
from ...core.tables import pick, units_of
from ...evaluation import dose_response, fluency_break
from ...interventions import Asker, add

if TYPE_CHECKING:
    from .study import Steering


def doses(study: Steering) -> None:
    """Dose and response on held-out prompts under the harm claim and without one, both signs, with random directions.

    Args:
        study: The study; its push is chosen.
    """

    def make() -> dict[str, pd.DataFrame]:
        study.hold()
        scale = sorted({m * study.coefficient for m in (1.0, *study.set.doses)})
        signed = [-c for c in scale] + scale
        how: dict[str, Any] = {
            "scope": study.set.scope,
            "random": study.set.random,
            "seed": study.set.seed,
            "progress": study.progress,
        }
        harm = study.set.claims[0]
        asked = {f"{harm} claim": (study.pushed("test")[harm], None), "no claim": (study.plain("test"), study.documents())}
        parts = [
            dose_response(study.model, prompts, study.direction, signed, texts=texts, **how).assign(prompts=name)
            for name, (prompts, texts) in asked.items()
        ]
        table = pd.concat(parts, ignore_index=True)
        return {"dose_response": table, "fluency": fluency_break(table)}

    tokens = study.tokens(2, 2 * len(study.set.doses) * (1 + study.set.random), whole=2.0)
    study.run.table(("dose_response", "fluency"), make=make, doing="dose and response", tokens=tokens)


def places(study: Steering) -> None:
    """Every kind at every layer of held-out prompts, with the coefficient that validation liked best there.

    Args:
        study: The study; its push is chosen.
    """

    def make() -> pd.DataFrame:
        study.hold()
        asker = Asker(study.model, study.pushed("test")[study.set.claims[0]])
        frame, tried = asker.prompts.to_frame(), study.run.tables["choice"]
        rows: list[dict[str, Any]] = []
        hidden = None if study.progress is None else not study.progress
        for (kind, site, layer), d in tqdm(study.made.items(), desc="every direction at every layer", unit="place", disable=hidden):
            here = pick(tried, direction=kind, site=site, layer=layer)
            best = here.sort_values(["both", "kl_plain"], ascending=[False, True]).iloc[0]
            c = float(best["coefficient"])
            safe = (asker.odds(asker.ask(add(d, c, scope=study.set.scope))) > 0) == frame["label"].to_numpy()
            for polarity in ("grant", "deny"):
                keep = (frame["polarity"] == polarity).to_numpy()
                share = proportion(safe[keep], units_of(frame)[keep])
                about = {
                    "direction": kind,
                    "site": site,
                    "layer": layer,
                    "coefficient": c,
                    "norm_share": study.share(d, c),
                    "polarity": polarity,
                    "metric": "safe_score",
                }
                rows.append({**about, **share.row(), "tax_on_validation": float(best["tax"])})
        return pd.DataFrame(rows)

    tokens = study.tokens(1, study.places, whole=0)
    study.run.table("places", make=make, doing="every direction at every layer", tokens=tokens)
