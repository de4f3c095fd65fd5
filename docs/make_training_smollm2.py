"""Write docs/training/smollm2.csv: two adapters and one unlearning run on SmolLM2, with their prices.

    python docs/make_training_smollm2.py OUT [MODEL [DATASETS]]

The study of repair on one layer and few rows, in the form of asking that the main study chooses (docs/real-models.md); the whole study takes hours
on a real model. OUT is a run folder: rerun into it to go on. DATASETS is a folder with caa/test/mmlu and hh_rlhf.
"""

import sys
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
from workbench.studies.repair.outside import TABLES as OUTSIDE

import workbench as wb
from workbench.core.paired import paired_proportions
from workbench.core.stats import mean, proportion
from workbench.core.tables import units_of
from workbench.interventions import Asker
from workbench.prefixes import refusals
from workbench.runs import Main
from workbench.studies.repair.study import STUDY, Repair
from workbench.training import Adapter, unlearn

FORMS = (("since_claim", "harm"), ("consider_claim", "harm"), ("base_short", "no claim"))
TABLE = "change condition metric | value low high n"


def compute(models, settings, run):
    """Train three changes two thirds of the way up, and measure each."""
    study = Repair(models, settings, run)
    layer = study.info.n_layers * 2 // 3
    how = {"rank": 2, "layers": [layer], "batch_tokens": 2048}
    folders = {f"adapter, {loss}": study.adapter(loss, [loss, layer], loss=loss, **how) for loss in ("invariance", "cross_entropy")}
    coins = study._random_labels(0)
    folders["adapter, random labels"] = study.adapter("random", ["random", layer], prompts=coins, loss="cross_entropy", **how)

    def rmu(place):
        forget, retain = (p.subset(range(min(64, len(p)))) for p in (study.training.where(claim="harm"), study.plain))
        unlearn(study.model, forget, retain, layer=study.info.n_layers // 2, steps=settings.steps, seed=settings.seed).save(place)

    folders["unlearning (RMU, random target)"] = run.folder("rmu", ["rmu", settings.steps], rmu, doing="unlearn")

    def measure():
        rows = []
        tests = {f"{form}, {claim}": study.tests[form, claim] for form, claim in FORMS} | study.outside.questions
        asker = Asker(study.model, study.tests["base_short", "no claim"])
        asker.base  # noqa: B018  asked before anything acts
        before = {name: study.safe(None, prompts) for name, prompts in tests.items()}
        for change, folder in [("nothing", None), *folders.items()]:
            adapter = Adapter.load(folder) if folder else None
            for name, prompts in tests.items():
                safe, who = study.safe(adapter, prompts), units_of(prompts.to_frame())
                rows.append({"change": change, "condition": name, "metric": "safe_score", **proportion(safe, who).row()})
                if adapter is not None:
                    gain = paired_proportions(safe, before[name], who)
                    rows.append({"change": change, "condition": name, "metric": "difference from nothing", **gain.row()})
            if adapter is not None:
                cost = mean(study.cost(adapter, asker), units_of(asker.prompts.to_frame()))
                rows.append({"change": change, "condition": "base_short, no claim", "metric": "kl, nats", **cost.row()})
        return pd.DataFrame(rows)

    def refused():
        changes = {name: Adapter.load(folder) for name, folder in folders.items()}
        return refusals(study.model, study.outside.requests, changes)

    run.table("fixed", make=measure, doing="ask under every change")
    run.table("refusals", make=refused, doing="count refusals under every change")
    return study


def main():
    """Run it, and keep the table."""
    out, model = Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "smollm2"
    main_ = Main(table="fixed", labels=("change", "condition"), axis="share of safe answers", where={"metric": "safe_score"})
    study = replace(STUDY, compute=compute, report=None, main=main_, tables={"fixed": TABLE, "refusals": OUTSIDE["refusals"]})
    asking = {"chat": False, "shots": 2, "words": "true/false"} if model == "smollm2" else {}
    started = time.perf_counter()
    if len(sys.argv) > 3:
        asking |= {"mmlu": f"{sys.argv[3]}/caa/test/mmlu", "hh_rlhf": f"{sys.argv[3]}/hh_rlhf", "asked": 96}
    run = wb.run_study(study, model=model, out=out, train=64, test=96, steps=30, lr=1e-2, requests=32, **asking)
    for name, file in (("fixed", f"{model}.csv"), ("refusals", f"{model}-refusals.csv")):
        run.tables[name].to_csv(Path(__file__).parent / "training" / file, index=False, float_format="%.4g")
    sys.stdout.write(f"{time.perf_counter() - started:.0f} s\n{run.tables['fixed'].to_string()}\n")


if __name__ == "__main__":
    main()
