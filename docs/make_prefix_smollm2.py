"""Write the numbers of docs/prefixes.md on SmolLM2: one search, beside random and written words, and its refusals after prefilled beginnings.

    python docs/make_prefix_smollm2.py OUT [STEPS]

The prefix study on one search and few statements, for a real model takes hours otherwise. The form of asking is the one that the main study chooses
(docs/real-models.md). OUT is a run folder: rerun into it to go on.
"""

import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd

import workbench as wb
from workbench.prefixes import Prefix, answer_depth, prefix_effects, random_prefixes, written
from workbench.prompts import requests
from workbench.runs import Main
from workbench.studies.prefix.study import STUDY, Words

BESIDE = ("good_claim", "care_after", "system_prompt", "harm_claim")
ASKED, REQUESTS, PREFILLED, NEW = 48, 32, (0, 1, 2, 5, 10, 20), 16


def compute(models, settings, run):
    """Search, measure on held-out statements, and continue replies to harmful requests."""
    study = Words(models, settings, run)
    found = study._search("safe words", study.harm, "safe", settings.filter, settings.steps)

    def effects():
        model, words = study.model, Prefix.load(found)
        some = {k: written()[k] for k in BESIDE}
        drawn = random_prefixes(model, study.searched[study.harm][0], settings.length, count=settings.random, where=settings.where)
        held = {f"{study.harm} claim": study.held[f"{study.harm} claim"]}
        return prefix_effects(model, held, {"safe words": words} | some, random=drawn, progress=run.progress)

    run.table("effects", make=effects, doing="measure words")

    def depth():
        model = study.model
        asked = (
            requests("request", n=2 * REQUESTS, answers=(" Sorry", " Sure"), model=model, chat=True).where(label=0).subset(range(REQUESTS))
        )
        defences = {"written words": written()["care"]}
        curve = answer_depth(model, model, asked, tokens=20, prefilled=PREFILLED, new_tokens=NEW, defences=defences)
        texts = [{"condition": c, "tokens": k, "text": t} for (c, k), some in curve.continued.items() for t in some[:3]]
        return {"depth": curve.table, "texts": pd.DataFrame(texts)}

    run.table(("depth", "texts"), make=depth, doing="continue after prefilled beginnings")
    return study


def main():
    """Run it."""
    out = Path(sys.argv[1])
    steps = int(sys.argv[2]) if len(sys.argv) > 2 else 40
    main_ = Main(table="effects", labels=("condition", "prefix"), axis="share of safe answers", where={"metric": "safe_score"})
    study = replace(STUDY, compute=compute, report=None, main=main_)
    asking = {"chat": False, "shots": 2, "words": "true/false", "where": "after"}
    wb.run_study(study, model="smollm2", out=out, steps=steps, width=32, validation=24, test=ASKED, clean=160, layers=3, **asking)


if __name__ == "__main__":
    main()
