"""Write docs/real-models.md from the tables of full runs: `python docs/make_real_models.py FOLDER …` after `workbench run udhr --model NAME`.

The tables that the page shows are kept in docs/real-models/; without folders the page is written from these.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pandas as pd

DOCS = Path(__file__).resolve().parent
KEPT = DOCS / "real-models"
NAMES = {
    "udhr-organism-faint": "The organism with a faint truth, in which the finding is planted",
    "smollm2": "SmolLM2-135M-Instruct",
    "gemma3-270m": "Gemma 3 270M (base)",
}
SHORT = {"udhr-organism-faint": "organism (planted)", "smollm2": "SmolLM2 (found)", "gemma3-270m": "Gemma (found)"}
HEAD = """# Real models

The UDHR study on two real models, beside the organism with a faint truth, in which the finding is planted. All numbers on this page come from the runs named below;
the tables lie in `docs/real-models/`, and `tests/test_real_models.py` decides every verdict again from them. How to get the models:
[Get a real model](how-to/real-models.md). Which words follow from which numbers: [Verdicts](verdicts.md).

![What each model says, and what it knows inside](real-models/finding.svg)

AUROC on held-out identities and rights: 1 puts every right statement above every wrong one, .5 tells nothing. *Says*: the margin between the two
answer words. *Knows*: a probe fitted behind the neutral sentence of the same prompt form, two thirds of the way up. Grey: the central 95 % of random
directions.

"""


def keep(folder: Path) -> None:
    """Keep what the page needs of a finished run."""
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    if record["study"] != "udhr" or record["status"] != "finished" or record["fast"]:
        raise SystemExit(f"{folder}: not a finished full run of the UDHR study")
    name = record["models"]["model"]["name"]
    tables = {path.stem: pd.read_csv(path) for path in (folder / "tables").glob("*.csv")}
    same = tables["readings"].query("reading == 'same form' and control != control and minus != minus and metric == 'auroc'")
    parts = {
        "says_and_knows": tables["says_and_knows"],
        "null": pd.read_csv(folder / "figures" / "says_and_knows-null.csv"),
        "verdicts": tables["verdicts"],
        "says": tables["says"],
        "effects": tables["effects"].query("metric in ('yes', 'auroc')"),
        "kept": tables["kept"].query("reading == 'same form'"),
        "readings": same,
        "unsupervised": tables["unsupervised"].query("metric == 'accuracy' and layer == layer.max() * 2 // 3 + 1"),
    }
    if "surfaces" in tables:
        parts["surfaces"] = tables["surfaces"].query("surface == 'all' and metric == 'auroc'")
        parts["accuracy_varies"] = tables["accuracy_varies"]
    if "elicitation" in tables:
        parts["elicitation"] = tables["elicitation"]
    for part, table in parts.items():
        table.to_csv(KEPT / f"{name}-{part}.csv", index=False, float_format="%.6g")
    facts = {
        "source": record["models"]["model"]["weights"],
        "seconds": record["seconds"],
        "steps": [s for s in record["steps"] if s["seconds"] >= 10],
        # how it was asked stands in a table
        "findings": [
            f["text"]
            for f in json.loads((folder / "report.json").read_text(encoding="utf-8"))["findings"]
            if not f["text"].startswith("Asked:")
        ],
    }
    (KEPT / f"{name}.json").write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read(name: str) -> dict[str, Any]:
    """What was kept of a model."""
    out: dict[str, Any] = json.loads((KEPT / f"{name}.json").read_text(encoding="utf-8"))
    return out | {p.stem.removeprefix(f"{name}-"): pd.read_csv(p) for p in KEPT.glob(f"{name}-*.csv")}


def page() -> str:
    """The page, from what is kept."""
    parts = [HEAD]
    for name in NAMES:
        if (KEPT / f"{name}.json").exists():
            parts.append(section(name, read(name)))
    return "\n".join([*parts, *times(), *shares(), *notebooks(), *half()])


def times() -> list[str]:
    """How long runs took."""
    lines = ["## Times", "", "Two idle cores, an empty cache, the whole command with start-up and report.", ""]
    lines += ["| `workbench run …` | minutes | peak memory, GB |", "| --- | --- | --- |"]
    for row in pd.read_csv(KEPT / "times.csv").itertuples():
        lines.append(f"| {row.run} | {row.seconds / 60:.1f} | {row.peak_gb} |")
    return [*lines, ""]


def shares() -> list[str]:
    """Where the time of two studies goes."""
    lines = [
        "`steering --fast` and `probes --fast` on SmolLM2 missed their aim of six minutes: they took 876 processor seconds, and more than 1,046 in",
        "which `probes` did not come to its end (one thread beside other work). Where the time went (`py-spy record`, 20 samples a second; parts overlap):",
        "",
        "| study | part | share |",
        "| --- | --- | --- |",
    ]
    for row in pd.read_csv(KEPT / "profile.csv").itertuples():
        lines.append(f"| `{row.study}` | {row.part} | {row.share:.0%} |")
    lines += ["", "Since then the first looks ask less: `probes` fits at nine layers of thirty, on 160 and 100 items; `steering` has 40 held-out items, two doses",
              "besides none, and four random directions in its tables of price. They were not timed on idle cores afterwards.", ""]  # fmt: skip
    return lines


def notebooks() -> list[str]:
    """How long notebooks took on SmolLM2."""
    table = pd.read_csv(KEPT / "notebooks.csv")
    lines = ["## Notebooks", "", "`WORKBENCH_MODEL=smollm2`, one thread beside other work, an empty cache:", ""]
    lines += ["| notebook | processor minutes | peak memory, GB |", "| --- | --- | --- |"]
    lines += [f"| {row.notebook} | {row.seconds / 60:.1f} | {row.peak_gb} |" for row in table.itertuples()]
    return [*lines, ""]


def half() -> list[str]:
    """What bfloat16 changes."""
    table = pd.read_csv(KEPT / "half-precision.csv")
    lines = [
        "## Half precision",
        "",
        "SmolLM2, `--fast`: AUROC in float32 and in bfloat16. With three sentences of a claim intervals are wide.",
        "",
    ]
    lines += ["| form | condition | what | float32 | bfloat16 |", "| --- | --- | --- | --- | --- |"]
    for (form, condition, what), part in table.groupby(["form", "condition", "what"], sort=False):
        cells = [f"{r.value:.2f} [{r.low:.2f}, {r.high:.2f}]" for r in part.itertuples()]
        lines.append(f"| {form} | {condition} | {what} | " + " | ".join(cells) + " |")
    return [*lines, ""]


# how the runs that are kept were timed
BESIDE = "with one thread beside other work; what lay in the cache is not counted"
TIMED = dict.fromkeys(("smollm2",), "on two idle cores with an empty cache")


def section(name: str, kept: dict[str, Any]) -> str:
    """One model: the command, how it was asked, its verdicts, what claims do to the answers, the findings in the report's words."""
    lines = [f"## {NAMES[name]}", ""]
    command = f"workbench run udhr --model {name}"
    origin = f" Weights: {kept['source']}." if kept["source"] else ""
    lines += [
        f"`{command}`: {kept['seconds'] / 60:.1f} minutes {TIMED.get(name, BESIDE)}.{origin}",
        "",
    ]
    if "elicitation" in kept:
        lines += ["How it was asked, the best five forms and the simplest, judged without labels:", "", *asked(kept["elicitation"]), ""]
    lines += ["What each claim does (logistic probes; shares with their intervals):", "", *verdicts(kept), ""]
    lines += ["What each claim does to the answers, against the neutral sentence in the same place:", "", *effects(kept["effects"]), ""]
    lines += ["Read without labels, accuracy two thirds of the way up, behind the neutral sentence:", "", *blind(kept["unsupervised"]), ""]
    if "surfaces" in kept:
        layer = int(kept["says_and_knows"]["layer"].max())
        lines += ["Fitted on four surface forms of the statements, read in four others, AUROC:", "", *others(kept["surfaces"], layer), ""]
        lines += ["What being right in those varies with:", "", *varies(kept["accuracy_varies"]), ""]
    lines += ["The report's findings:", "", *(f"- {text}" for text in kept["findings"]), ""]
    steps = ", ".join(f"{s['step']} {s['seconds']:.0f} s" for s in sorted(kept["steps"], key=lambda s: -s["seconds"]))
    lines += [f"Steps of ten seconds and more: {steps}.", ""] if steps else []
    return "\n".join(lines)


def asked(table: pd.DataFrame) -> list[str]:
    """The forms in which the model was asked."""
    wide = table.pivot_table(index="form", columns="metric", values="value", sort=False)
    first = table["form"].iloc[0]
    best = wide.sort_values("score", ascending=False).head(5)
    rows = [
        [f"**{f}**" if r["chosen"] == 1 else f, *(number(r[c]) for c in ("answered", "yes", "agreement", "score"))]
        for f, r in best.iterrows()
    ]
    if first not in best.index:
        rows.append([first, *(number(wide.loc[first, c]) for c in ("answered", "yes", "agreement", "score"))])
    return markdown(["form", "probability of the two answers", "share of the positive one", "agreement of two wordings", "score"], rows)


def verdicts(kept: dict[str, Any]) -> list[str]:
    """Per form and claim: the verdict, the kept share, the AUROC of the answers before and under the claim."""
    said = kept["says"].query("metric == 'auroc'").set_index(["template", "claim"])
    rows = []
    for row in kept["verdicts"].query("method == 'logistic'").itertuples():
        neutral, claim = (said.loc[(row.form, c)] for c in ("neutral", row.claim))
        share = with_interval(row) if row.layers else "no readable layer"
        rows.append([row.form, row.claim, row.verdict, share, f"{row.layers}", with_interval(neutral), with_interval(claim)])
    return markdown(
        ["form", "claim", "verdict", "kept share inside", "readable layers", "answers, AUROC: neutral", "answers, AUROC: claim"], rows
    )


def effects(table: pd.DataFrame) -> list[str]:
    """Per template and claim: the change of the share of yes, and of the AUROC."""
    wide = {key: rows.set_index("metric") for key, rows in table.groupby(["template", "claim"], sort=False)}
    rows = [[t, c, *(with_interval(r.loc[m]) if m in r.index else "" for m in ("yes", "auroc"))] for (t, c), r in wide.items()]
    return markdown(["form", "claim", "change of the share of the positive answer (bias)", "change of the AUROC (discrimination)"], rows)


def with_interval(row: Any) -> str:
    """A value with its interval."""
    return f"{number(row.value)} [{number(row.low)}, {number(row.high)}]"


def number(x: float) -> str:
    """Two digits, without a leading zero."""
    return "–" if pd.isna(x) else f"{x:.2f}".replace("0.", ".", 1) if abs(x) < 1 else f"{x:.2f}"


def markdown(head: list[str], rows: list[list[str]]) -> list[str]:
    """A table of the page."""
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]


def blind(table: pd.DataFrame) -> list[str]:
    """What is read without labels: per setting and method, beside random directions."""
    rows = []
    for setting, part in table.groupby("setting", sort=False):
        null = part[part["control"] == "random_directions"].iloc[0]
        own = part[part["control"].isna() | (part["control"] == "")].set_index("method")
        rows.append([setting, *(with_interval(own.loc[m]) for m in ("ccs", "crc")), f"{number(null.low)} to {number(null.high)}"])
    return markdown(["prompts", "CCS", "first component of the differences", "random directions, central 95 %"], rows)


def others(table: pd.DataFrame, layer: int) -> list[str]:
    """Per probe and control on the words alone: in forms that were fitted on, in others, and the difference."""
    rows = []
    for (at, method), part in table[table["layer"].isin((layer, -1))].groupby(["layer", "method"], sort=False):
        own = part.set_index("reading")
        rows.append(
            [method if at >= 0 else f"{method} (words alone)", *(with_interval(own.loc[r]) for r in ("seen", "unseen", "unseen - seen"))]
        )
    return markdown([f"layer {layer}", "fitted on this form among others", "fitted on other forms only", "difference"], rows)


def varies(table: pd.DataFrame) -> list[str]:
    """The variance components."""
    rows = [[r.factor, f"{r.levels:.0f}", f"{r.value:.4f} [{r.low:.4f}, {r.high:.4f}]", f"{r.share:.0%}"] for r in table.itertuples()]
    return markdown(["factor", "levels", "variance", "share"], rows)


def sentence(name: str) -> str:
    """One model in one sentence, for the README: what it says and what is read inside, behind the neutral sentence and under harm."""
    kept = read(name)
    rows = kept["says_and_knows"].query("form == 'since_claim' and metric == 'auroc'").set_index(["what", "condition"])
    says, knows = "says: order of the answers", "knows: logistic probe"
    a, b, c, d = (with_interval(rows.loc[w, k]) for w in (says, knows) for k in ("neutral", "harm"))
    found = kept["verdicts"].query("method == 'logistic' and claim == 'harm'").set_index("form")["verdict"]
    verdict = " / ".join(f"*{v}*" for v in dict.fromkeys(found))
    where = "in both forms" if found.nunique() == 1 else f"({' / '.join(found.index)})"
    return (
        f"- **{NAMES[name]}**: the answers follow the statements with an AUROC of {a} behind the neutral sentence and {b} under the harm "
        f"claim (`since_claim`); a probe at layer {int(rows.loc[(knows, 'harm'), 'layer'])} reads {c} and {d}. Verdict {where}: {verdict}."
    )


def picture() -> None:
    """Draw all models in one figure, for this page and for the README."""
    import workbench as wb

    tables, nulls = [], []
    for name in NAMES:
        if (KEPT / f"{name}.json").exists():
            kept = read(name)
            tables.append(kept["says_and_knows"].assign(model=SHORT[name]))
            nulls.append(kept["null"].assign(model=SHORT[name]))
    figure = wb.figures.udhr.says_and_knows(pd.concat(tables, ignore_index=True), pd.concat(nulls, ignore_index=True))
    made = wb.figures.export({"finding": figure}, DOCS.parent / "build" / "real-models", formats=("svg", "png"))
    for target, suffix in ((KEPT / "finding.svg", ".svg"), (DOCS.parent / "figures" / "finding.png", ".png")):
        target.write_bytes(next(p for p in made if p.suffix == suffix).read_bytes())


if __name__ == "__main__":
    KEPT.mkdir(exist_ok=True)
    for argument in sys.argv[1:]:
        keep(Path(argument))
    picture()
    (DOCS / "real-models.md").write_text(page(), encoding="utf-8")
    sys.stdout.write("".join(f"{sentence(name)}\n" for name in NAMES if (KEPT / f"{name}.json").exists()))
