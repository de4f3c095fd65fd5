"""Draw docs/gallery.md from full runs of every study on the bundled model: `make gallery`. What is cached is not run again.

`python docs/make_gallery.py udhr` draws one study and keeps the rest of the page.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import workbench as wb

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
STUDIES = {
    "udhr": (
        "says_and_knows",
        "behaviour",
        "effects",
        "layers",
        "answer_by_layer",
        "unsupervised",
        "truth_or_answer",
        "denied",
        "groups",
        "by_tokens",
    ),
    "probes": ("layers", "methods", "transfer", "sample_efficiency", "ccs_honesty", "tampering"),
    "geometry": ("stance", "request", "plane", "points", "erasure", "cross_steering"),
    "steering": ("dose_response", "places", "tax", "cost", "placement"),
    "refusal": ("refusal",),
    "patching": ("maps", "lines", "heads"),
}
HEAD = """---
hide: [navigation]
---

# Gallery

Every figure on this page comes from a full run of a study on the bundled model (`make gallery`), in which the finding is planted: they show what the
instruments see, not what other models hold. Each is a function of one table; `workbench redraw FOLDER` draws it again from its csv, in the light or
the dark theme, with other words.

"""
SWEEP = wb.Sweep(
    name="organism and twin", models=("udhr-organism", "udhr-organism-no-verdict"), sites=("resid_post", "attn_out"), methods=("logistic", "ccs"),
    claims=("harm",), description="The organism, and its twin that was never asked for a verdict: two sites, two methods.",
)  # fmt: skip


def part(study: str, command: str, run: wb.runs.Run, names: tuple[str, ...]) -> str:
    """Draw figures in both themes and return their part of the page."""
    document = json.loads((run.folder / "report.json").read_text(encoding="utf-8"))
    panels = {p["name"]: p for p in document["panels"]}
    there = [n for n in names if n in panels]
    for theme in ("light", "dark"):
        folder = ROOT / "build" / "gallery" / study / theme
        wb.redraw(run.folder, out=folder, theme=theme, formats=("svg",), only=there)
        for name in there:
            shutil.copyfile(folder / "figures" / f"{name}.svg", DOCS / "gallery" / f"{study}-{name}-{theme}.svg")
    lines = [f"## {study}", "", f"`{command}`", ""]
    for name in there:
        panel, file = panels[name], f"gallery/{study}-{name}"
        title = wb.figures.Drawing.load(run.folder / "figures", name, panel).figure().layout.title.text
        lines += [
            f"### {title}",
            "",
            f"![{title}]({file}-light.svg#only-light)",
            f"![{title}]({file}-dark.svg#only-dark)",
            "",
            panel["caption"],
            "",
        ]
        lines += [f"`wb.figures.{panel['draw']}`, table `{panel['table']}`.", ""]
    return "\n".join(lines)


def main() -> None:
    """Run, draw, write."""
    os.chdir(ROOT)
    only = sys.argv[1:] or [*STUDIES, "sweep"]
    page = (DOCS / "gallery.md").read_text(encoding="utf-8").removeprefix(HEAD)
    kept = {
        text.partition("\n")[0]: f"## {text}".rstrip("\n") + "\n"
        for text in page.split("\n## ")
        if text
        for text in [text.removeprefix("## ")]
    }
    for study in only:
        for old in (DOCS / "gallery").glob(f"{study}-*.svg"):
            old.unlink()
    (DOCS / "gallery").mkdir(exist_ok=True)
    parts = []
    for study, names in STUDIES.items():
        if study not in only:
            parts.append(kept[study])
            continue
        run = wb.run_study(study, out=f"figures/{study}", say=lambda line: sys.stderr.write(f"{line}\n"), progress=False)
        parts.append(part(study, f"workbench run {study}", run, names))
    if "sweep" in only:
        run = wb.run_study(SWEEP, out="figures/sweep", progress=False)
        parts.append(part("sweep", "workbench run sweep.toml", run, ("cells", "layers_harm")))
    else:
        parts.append(kept["sweep"])
    (DOCS / "gallery.md").write_text(HEAD + "\n".join(parts), encoding="utf-8")


if __name__ == "__main__":
    main()
