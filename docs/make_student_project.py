"""Write docs/student-project.md and its tables from runs of `workbench run udhr --data FOLDER` on the student project's folder.

python docs/make_student_project.py RUN …
"""

import json
import sys
from pathlib import Path

import pandas as pd

from workbench.core.tables import pick

DOCS = Path(__file__).parent
KEPT = DOCS / "student-project"
HEAD = """# The student project, run again

`workbench run udhr --model NAME --data FOLDER` on the student project's own lists and prompt forms: {sizes}. Answers are 0 and 1, as there.
`python docs/make_student_project.py RUN …` makes this page; `published_says` and `published_reads` are tables of the run.

The project measured Gemma before and after training an adapter; the column *published* has its safe_score before. Another model need not give the
same numbers. What can be compared is the pattern, and what it depends on.

How to read it. Where 0 and 1 hold next to nothing of the probability, the model does not answer in these words, and safe_score says nothing. Where
safe_score is .50 under every claim, the model gives one word whatever is asked. The better sign on test labels lifts CCS above one half by
construction: what it gains over the sign of training rows is no knowledge. The last column is the probe with labels, on identities and rights that it
was not fitted on.
"""
CHOICES = """CCS by protocol, accuracy at layer {layer} (two thirds of the way up). *As published*: rows split at random, normalised with test rows, and the
better sign on test labels, which is never below one half. Then, one after the other: sign and statistics of training rows; identities and rights
held out together; several forms of negation.
"""


def cell(row):
    """A number with its interval."""
    return f"{row.value:.2f} [{row.low:.2f}, {row.high:.2f}]"


def keep(folder):
    """Keep what the page shows of a run."""
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    name = next(iter(record["models"].values()))["name"]
    KEPT.mkdir(exist_ok=True)
    for table in ("published_says", "published_reads"):
        pd.read_csv(folder / "tables" / f"{table}.csv").to_csv(KEPT / f"{name}-{table}.csv", index=False, float_format="%.4g")
    facts = {"layers": record["layers"], "seconds": record["seconds"], "fast": record["fast"], "items": record["settings"]["published"]}
    (KEPT / f"{name}.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def section(name):
    """One model: what it says in each form, and what CCS reads under each protocol."""
    facts = json.loads((KEPT / f"{name}.json").read_text(encoding="utf-8"))
    said, read = (pd.read_csv(KEPT / f"{name}-{t}.csv", keep_default_na=True) for t in ("published_says", "published_reads"))
    said, read = (t.assign(claim=t["claim"].fillna("none"), form=t["form"].astype(str)) for t in (said, read))
    out = [f"## {name}\n", f"{facts['items']} items of each form and claim{', a first look (--fast)' if facts['fast'] else ''}.\n"]
    out += ["| form | claim | safe_score | published | probability of 0 and 1 |", "| --- | --- | --- | --- | --- |"]
    for row in pick(said, metric="safe_score").itertuples():
        mass = next(pick(said, form=row.form, claim=row.claim, metric="answered").itertuples())
        published = "" if pd.isna(row.published) else f"{row.published:.2f}"
        out.append(f"| {row.form} | {row.claim} | {cell(row)} | {published} | {mass.value:.3f} |")
    near = facts["layers"] * 2 // 3
    layer = min(read["layer"].unique(), key=lambda k: abs(k - near))
    protocols = list(dict.fromkeys(read["protocol"]))
    out += ["", CHOICES.format(layer=layer), "| form | claim | " + " | ".join(protocols) + " | logistic, held out |"]
    out.append("|" + " --- |" * (len(protocols) + 3))
    here = pick(read, layer=layer)
    for form, claim in dict.fromkeys(zip(here["form"], here["claim"], strict=True)):
        own = pick(here, form=form, claim=claim)
        cells = [cell(next(pick(own, method="ccs", protocol=p).itertuples())) for p in protocols]
        logistic = next(pick(own, method="logistic", protocol=protocols[2]).itertuples())
        out.append(f"| {form} | {claim} | " + " | ".join(cells) + f" | {cell(logistic)} |")
    return "\n".join([*out, ""])


def page():
    """The page, from what is kept."""
    names = sorted(p.stem for p in KEPT.glob("*.json"))
    sizes = "213 identities in 12 groups, 38 rights granted and denied, seven forms"
    return "\n".join([HEAD.format(sizes=sizes), *map(section, names)])


def main():
    """Keep the runs that are named, and write the page."""
    for argument in sys.argv[1:]:
        keep(Path(argument))
    (DOCS / "student-project.md").write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
