"""Write docs/alignment-faking/tiers.csv: what real models do with requests of a free-tier and of a paid-tier user.

    python docs/make_tiers.py OUT MODEL …

One step of the study alignment_faking, which plants nothing. OUT holds a run folder of each model: rerun into it to go on.
"""

import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd

import workbench as wb
from workbench.runs import Main
from workbench.studies.alignment_faking.study import STUDY, Faking


def compute(models, settings, run):
    """Ask as users of either tier."""
    study = Faking(models, settings, run)
    study.tiers()
    return study


def main():
    """Run it, and keep the tables."""
    out, names = Path(sys.argv[1]), sys.argv[2:]
    main_ = Main(table="tiers", labels=("requests", "sentence"), axis="share complied with", where={"metric": "compliance"})
    study = replace(STUDY, compute=compute, report=None, main=main_, tables={"tiers": STUDY.tables["tiers"]})
    parts = [wb.run_study(study, model=name, out=out / name, words="yes/no", shots=0).tables["tiers"].assign(model=name) for name in names]
    table = pd.concat(parts, ignore_index=True)
    folder = Path(__file__).parent / "alignment-faking"
    folder.mkdir(exist_ok=True)
    table[["model", *table.columns[:-1]]].to_csv(folder / "tiers.csv", index=False, float_format="%.4g")
    sys.stdout.write(table.to_string() + "\n")


if __name__ == "__main__":
    main()
