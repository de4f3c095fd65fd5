# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Figures for a post
#
# **Question.** Can one notebook make every figure of a post from tables, with n and interval in the caption, so that a reader can reproduce it?
#
# **Expectation.** Yes: a study writes tables, a figure is a function of a table, and a run folder can be redrawn without a model. This
# notebook exports the set into `figures/post`: html to embed (opens without a network), svg where Chrome is found (in full runs also png and pdf), the rows of each figure
# as csv, in the light and the dark theme, and the captions as a file.
#
# With the small grids it takes under a minute; set `WORKBENCH_FULL=1` for numbers to publish.

# %%
import json
import os
from pathlib import Path

import pandas as pd

import workbench as wb
from workbench.figures import browser
from workbench.figures.tokens import save_view, token_view

MODEL = os.environ.get("WORKBENCH_MODEL", "bundled")
FAST = not os.environ.get("WORKBENCH_FULL")
ROOT = Path("..") if Path("../pyproject.toml").is_file() else Path()
POST = ROOT / "figures" / "post"
FORMATS = ("html", *(("svg",) if browser() else ()), *(("png", "pdf") if browser() and not FAST else ()))
FORMATS

# %% [markdown]
# ## The runs
#
# Steps that an earlier run has computed come from the cache.

# %%
small = (
    {
        "train": 160,
        "test": 100,
        "behaviour": 40,
        "rights_per_identity": 3,
        "resamples": 100,
        "ccs_epochs": 300,
        "claims": ("neutral", "partial", "harm"),
    }
    if FAST
    else {}
)
udhr = wb.run_study("udhr", model=MODEL, fast=FAST, out=POST / "udhr", formats=("html",), progress=False, **small)
udhr

# %%
lines = {"items": 10, "fit": 64, "sites": ("resid_post",), "heads": False, "sample": 2, "random": 2} if FAST else {}
patching = wb.run_study("patching", model=MODEL, fast=FAST, out=POST / "patching", formats=("html",), progress=False, **lines)
patching

# %% [markdown]
# ## The set
#
# `CHOSEN` names the figures of the post. `redraw` draws each of them from the rows kept in the run, without a model.

# %%
CHOSEN = {udhr: ("says_and_knows", "layers", "effects"), patching: ("maps", "lines")}
for run, names in CHOSEN.items():
    for theme in ("light", "dark"):
        wb.redraw(run.folder, out=POST / theme, only=names, theme=theme, formats=FORMATS)
sorted(p.name for p in (POST / "light" / "figures").iterdir())

# %% [markdown]
# Captions come from the run and contain n and the interval. To change them or translate them, use a captions file:
# `workbench redraw FOLDER --write-captions words.toml`, edit it, `workbench redraw FOLDER --captions words.toml`.

# %%
captions = {}
for run, names in CHOSEN.items():
    document = json.loads((run.folder / "report.json").read_text(encoding="utf-8"))
    captions |= {panel["name"]: panel["caption"] for panel in document["panels"] if panel["name"] in names}
(POST / "captions.json").write_text(json.dumps(captions, indent=1, ensure_ascii=False), encoding="utf-8")
captions["says_and_knows"]

# %%
wb.redraw(
    udhr.folder, out=POST / "german", only=("says_and_knows",), formats=("html",),
    captions={
        "figures": {"says_and_knows": {"title": "Was das Modell sagt, und was es innen weiß"}},
        "labels": {
            "AUROC, held-out items": "AUROC, ungesehene Sätze", "no claim": "ohne Behauptung", "harm": "schädlich",
            "neutral": "neutral", "partial": "teilweise", "chance": "Zufall",
        },
    },
)  # fmt: skip
null = pd.read_csv(udhr.folder / "figures" / "says_and_knows-null.csv")  # what random directions read: the control
wb.figures.udhr.says_and_knows(udhr.tables["says_and_knows"], null)

# %% [markdown]
# ## Tokens along a direction
#
# A self-contained view: it opens without a network and can be embedded unchanged.

# %%
model = wb.load_model(MODEL)
words = wb.choose_answers(model)
layer = max(1, model.cfg.n_layers // 6)
rows = {
    claim: wb.directions.sample(
        wb.capture(
            model, wb.prompts.udhr("consider_claim", claim, n=96, answers=words), layers=[layer], position="stem_last", progress=False
        ),
        layer,
    )
    for claim in ("good", "harm")
}
stance = wb.extract_direction(rows["good"], rows["harm"])
text = wb.prompts.udhr("consider_claim", "harm", n=1, answers=words)[0].stem
view = token_view(wb.project_tokens(model, text, stance), label="stance")
save_view(view, POST / "tokens.html")
view

# %% [markdown]
# ## What came out, as code

# %%
for names in CHOSEN.values():
    for name in names:
        for theme in ("light", "dark"):
            assert all((POST / theme / "figures" / f"{name}.{kind}").is_file() for kind in FORMATS), f"{name} in the {theme} theme"
        assert "n=" in captions[name] or "statements" in captions[name], f"the caption of {name} states n"
        assert "interval" in captions[name], f"the caption of {name} states the interval"
page = (POST / "light" / "figures" / "says_and_knows.html").read_text(encoding="utf-8")
assert 'src="http' not in page, "it opens without a network"
assert "ohne Behauptung" in (POST / "german" / "figures" / "says_and_knows.html").read_text(encoding="utf-8")
if wb.models.planted(model):
    both = udhr.tables["says_and_knows"].query("metric == 'auroc' and form == 'since_claim'").set_index(["condition", "what"])
    assert both.loc["harm"].filter(like="says", axis=0)["high"].iloc[0] < 0.5
    assert both.loc["harm"].filter(like="CCS", axis=0)["low"].iloc[0] > 0.5

# %% [markdown]
# **What it does not show.** A figure is no better than its run: the fast grids here only test the export. Publish numbers of full
# runs, and state the model on which they were measured.
