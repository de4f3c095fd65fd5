"""The command line: `workbench run STUDY | SWEEP.toml`, what may be done with a run afterwards, and what there is."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from typing import Any

FORMATS = "of the figures: html, png, svg, pdf (default: html, and png and svg where a browser is found)"
RUN = (
    "Settings of the study follow as --SETTING VALUE, or as --set SETTING=VALUE; `workbench run STUDY --help` lists them. The same command "
    "resumes a run that was stopped."
)


def _run_parser(name: str = "") -> argparse.ArgumentParser:
    """The arguments of `workbench run`; with those of a study where one is named."""
    prog = f"workbench run {name or 'STUDY'}"
    text = "Run a study, or a sweep from a toml file, and write its report."
    parser = argparse.ArgumentParser(prog=prog, description=text, epilog=RUN, allow_abbrev=False)
    parser.add_argument(
        "study",
        help="name of a study (`workbench studies`), a .py file that holds one, a .toml file, or the folder of a sweep that was begun",
    )
    parser.add_argument(
        "--model",
        action="append",
        help="bundled name, hub name or local folder (default: bundled); of a study of several models ROLE=NAME, once for each",
    )
    parser.add_argument("--out", help="folder for tables, figures and report (default: figures/STUDY)")
    parser.add_argument("--fast", action="store_true", help="a small grid, for a first look")
    parser.add_argument("--seed", type=int, help="draws everything (default: 0)")
    parser.add_argument("--set", metavar="SETTING=VALUE", action="append", default=[], help="any setting of the study; may be repeated")
    parser.add_argument("--plan", action="store_true", help="say what would run, what is cached and how long it will take, and stop")
    parser.add_argument("--resume", action="store_true", help="resume a sweep that was begun, failed cells too")
    parser.add_argument("--workers", type=int, default=1, help="processes for the cells of a sweep (default: 1)")
    parser.add_argument("--address", help="a Ray cluster for the cells of a sweep: its address, or `local` to start one here")
    parser.add_argument("--cache", help="folder of what is computed once for all studies (default: WORKBENCH_CACHE or ~/.cache/workbench)")
    parser.add_argument("--formats", nargs="+", help=FORMATS)
    parser.add_argument("--quiet", action="store_true", help="no progress")
    return parser


def _with_settings(parser: argparse.ArgumentParser, study: Any) -> None:
    """Add a flag for every setting of a study, with what its docstring says of it."""
    group = parser.add_argument_group(f"settings of {study.name}", study.asks)
    told, defaults = study.told(), study.settings.__dataclass_fields__
    taken = {action.dest for action in parser._actions}
    for name in study.fields:
        if name in taken:
            continue
        default = defaults[name].default
        shown = "" if not isinstance(default, str | int | float | tuple) or default in ("", ()) else f" (default: {_shown(default)})"
        text = (told.get(name, "") + shown).replace("%", "%%")
        group.add_argument(f"--{name.replace('_', '-')}", dest=f"setting:{name}", nargs="+", metavar=name.upper(), help=text)


def _shown(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="workbench", description="What a language model says, what it knows inside, and along which directions."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("run", help="run a study, or a sweep from a toml file, and write its report", add_help=False)
    again = commands.add_parser("rerun", help="run a run again from its own folder and say whether the numbers agree")
    again.add_argument("folder")
    again.add_argument("--out", help="folder of the new run (default: FOLDER-rerun)")
    again.add_argument("--model", action="append", help="where the model lies now; of a run of several models ROLE=NAME, once for each")
    again.add_argument("--study", help="the study's .py file, for a study that is not installed")
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
    commands.add_parser("models", help="list the bundled models")
    commands.add_parser("datasets", help="list the bundled prompts")
    checked = commands.add_parser(
        "check-study", help="check that a study keeps the contract of studies: plan, resume, cache, rerun, redraw"
    )
    checked.add_argument("study", help="name of a study, or a .py file that holds one")
    checked.add_argument("--model", action="append", help="as for `workbench run`")
    checked.add_argument("--set", metavar="SETTING=VALUE", action="append", default=[], help="any setting of the study; may be repeated")
    train = commands.add_parser("train", help="train a bundled model organism anew")
    train.add_argument("organism", help="udhr-organism, udhr-organism-no-verdict, harm-safety-bipolar or harm-safety-independent")
    train.add_argument("--out", required=True, help="folder for the model")
    train.add_argument("--seed", type=int, default=0)
    train.add_argument("--steps", type=int, help="fewer training steps, to try it out")
    train.add_argument("--checkpoints", type=int, default=0, metavar="N", help="also keep N models on the way, in OUT/checkpoints")
    check = commands.add_parser("check", help="measure a bundled organism against what was planted")
    check.add_argument("--model", default="bundled")
    check.add_argument("--out", help="write the table to this csv file")
    check.add_argument("--n", type=int, default=2000, help="items per condition, at least (default: 2000)")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: The words behind `workbench`; by default those of the process.

    Returns:
        The exit status: 0; 1 where cells failed or numbers differ; 2 for an error that says what to do; 130 when stopped.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    running = words[:1] == ["run"]
    args = None if running else _parser().parse_args(words)
    from .core.errors import WorkbenchError

    warnings.filterwarnings("ignore", category=FutureWarning)
    try:
        return _run(words[1:]) if args is None else _dispatch(args)
    except WorkbenchError as error:
        print(f"workbench: {type(error).__name__}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("workbench: stopped; the same command resumes", file=sys.stderr)
        return 130


def _run(words: Sequence[str]) -> int:
    """`workbench run`: a study, or a sweep."""
    from pathlib import Path

    plain = [w for w in words if w not in ("-h", "--help")]
    first, _ = _run_parser().parse_known_args(plain) if plain else (None, [])
    if first is None:
        _run_parser().parse_args(words)
    assert first is not None
    from . import runs

    sweep = first.study.endswith(".toml") or (Path(first.study) / "sweep.toml").is_file()
    study = None if sweep else runs.find(first.study)
    parser = _run_parser(first.study)
    if study is not None:
        _with_settings(parser, study)
    args = parser.parse_args(words)
    own = {k: v for k in ("model", "seed") if (v := getattr(args, k)) is not None} | ({"fast": True} if args.fast else {})
    if study is None:
        return _run_sweep(args, own)
    return _run_study(args, study)


def _run_sweep(args: argparse.Namespace, own: dict[str, Any]) -> int:
    from . import runs
    from .core.errors import BadInput

    if own or args.set:
        given = sorted({*own, *(word.partition("=")[0] for word in args.set)})
        raise BadInput(f"{', '.join(given)} of a sweep stand in its toml file: change them there")
    if args.plan:
        return _print_plan(runs.plan(args.study, out=args.out, cache=args.cache, say=_sayer(args)), args.workers)
    run = runs.run_sweep(
        args.study,
        out=args.out,
        workers=args.workers,
        address=args.address,
        resume=args.resume,
        progress=False if args.quiet else None,
        say=_sayer(args),
        cache=args.cache,
        formats=args.formats,
    )
    _print_run(run)
    return 1 if len(run.failed) else 0


def _run_study(args: argparse.Namespace, study: Any) -> int:
    from . import runs
    from .core.errors import BadInput

    if args.resume or args.workers != 1 or args.address:
        raise BadInput("--resume, --workers and --address are for sweeps (a .toml file); a study resumes by itself when it is run again")
    options = _settings(study, args)
    models = _models(study, args.model)
    seed = args.seed or 0
    if args.plan:
        entry = (models if len(study.models) > 1 else models[study.models[0]]) if models else "bundled"
        name = args.study if study.name != args.study else study.name
        document = runs.Sweep(name=study.name, study=name, models=(entry,), seeds=(seed,), fast=args.fast, settings=options)
        return _print_plan(runs.plan(document, out=args.out, cache=args.cache, say=_sayer(args)))
    run = runs.run_study(
        study,
        models=models,
        out=args.out,
        fast=args.fast,
        seed=seed,
        progress=False if args.quiet else None,
        say=_sayer(args),
        cache=args.cache,
        formats=args.formats,
        **options,
    )
    _print_run(run)
    return 0


def _settings(study: Any, args: argparse.Namespace) -> dict[str, Any]:
    """The settings that were given, as flags or by --set."""
    from .core.errors import BadInput
    from .runs.settings import from_words

    given: dict[str, list[str]] = {}
    for word in args.set:
        name, sign, value = word.partition("=")
        if not sign:
            raise BadInput(f"--set {word!r}: SETTING=VALUE, as in train=400 or claims=harm,good")
        given.setdefault(name, []).append(value)
    for dest, words in vars(args).items():
        if dest.startswith("setting:") and words is not None:
            name = dest.removeprefix("setting:")
            if name in given:
                raise BadInput(f"{name} is given twice, by --{name} and by --set")
            given[name] = words
    return {name: from_words(study, name, words) for name, words in given.items()}


def _models(study: Any, words: Sequence[str] | None) -> dict[str, str]:
    """Models by role, from NAME or ROLE=NAME."""
    from .core.errors import BadInput
    from .runs.execute import roles_of

    if not words:
        return {}
    if len(words) == 1 and words[0].partition("=")[0] not in study.models:
        return roles_of(study, words[0])
    for word in words:
        if "=" not in word:
            raise BadInput(f"--model {word!r}: ROLE=NAME for a study of several models; its roles: {', '.join(study.models) or 'none'}")
    return roles_of(study, models=dict(word.split("=", 1) for word in words))


def _sayer(args: argparse.Namespace) -> Any:
    return (lambda line: None) if args.quiet else (lambda line: print(line, file=sys.stderr, flush=True))


def _print_plan(table: Any, workers: int = 1) -> int:
    from . import runs

    if table["cell"].nunique() == 1:
        print(table.drop(columns="cell").to_string(index=False), end="\n\n")
    print(runs.spoken(table, workers))
    return 0


def _print_run(run: Any) -> None:
    print("\n".join(f"- {finding}" for finding in run.findings))
    if "figures" in run.record:
        print(f"\nfigures: {run.record['figures']}")
    print(f"\nreport: {run.report} ({run.record['seconds']:.0f} s)")


def _afterwards(args: argparse.Namespace) -> int:
    """`workbench rerun | redraw | compare | cache | check-study`."""
    from . import runs

    if args.command == "rerun":
        return _rerun(args)
    if args.command == "redraw":
        return _redraw(args)
    if args.command == "check-study":
        study = runs.find(args.study)
        args.set = args.set or []
        models = _models(study, args.model)
        checked = runs.check_study(study, models=models, say=lambda line: print(line, flush=True), **_settings(study, args))
        print(f"{study.name} keeps the contract: {checked.steps} steps; the runs are in {checked.run.folder.parent}")
    elif args.command == "compare":
        comparison = runs.compare_runs(args.first, args.second)
        if args.out:
            comparison.rows.to_csv(args.out, index=False, float_format="%.6g")
        print(comparison)
    else:
        cache = runs.Cache()
        for kind, size in cache.sizes().items():
            print(f"{kind:<8} {size / 1e6:10.1f} MB")
        print(cache.root)
        if args.clear:
            print(f"deleted {cache.clear() / 1e6:.1f} MB")
    return 0


def _rerun(args: argparse.Namespace) -> int:
    from . import runs

    named = [w.split("=", 1) for w in args.model or [] if "=" in w]
    model = args.model[0] if args.model and not named else None
    models = dict(named) or None
    how = {"out": args.out, "model": model, "models": models, "study": args.study, "tolerance": args.tolerance}
    agreement = runs.rerun(args.folder, **how, say=lambda line: print(line, file=sys.stderr, flush=True))
    print(agreement)
    return 0 if agreement.agrees else 1


def _redraw(args: argparse.Namespace) -> int:
    from pathlib import Path

    from . import runs

    if args.write_captions:
        Path(args.write_captions).write_text(runs.captions_of(args.folder), encoding="utf-8")
        print(f"wrote {args.write_captions}; change it, then: workbench redraw {args.folder} --captions {args.write_captions}")
        return 0
    how = {"theme": args.theme, "captions": args.captions, "formats": args.formats, "only": args.only, "single_file": args.single_file}
    page = runs.redraw(args.folder, out=args.out, **how)
    if args.only:
        written = [f for name in args.only for f in sorted((Path(args.out or args.folder) / "figures").glob(f"{name}[.-]*"))]
        print("\n".join(map(str, written)))
    else:
        print(f"report: {page}")
    return 0


def _dispatch(args: argparse.Namespace) -> int:
    if args.command in ("rerun", "redraw", "compare", "cache", "check-study"):
        return _afterwards(args)
    if args.command == "doctor":
        from .doctor import main as doctor

        return doctor(args.model)
    if args.command == "studies":
        from .runs import listed

        print("\n".join(f"{name:<12} {asks}" for name, asks in listed().items()))
    elif args.command == "models":
        _print_models()
    elif args.command == "datasets":
        _print_datasets()
    elif args.command == "train":
        from .organism import SPECS, train_organism

        how = {"seed": args.seed, "steps": args.steps, "checkpoints": args.checkpoints}
        train_organism(args.organism, args.out, **how, log=lambda line: print(line, flush=True))
        measure = "run geometry" if args.organism.startswith("harm-safety") else "check"
        print(f"known organisms: {', '.join(SPECS)}; measure it with: workbench {measure} --model {args.out}")
    elif args.command == "check":
        from .organism import check

        table, passed = check(args.model, n=args.n, log=lambda line: print(line, flush=True))
        if args.out:
            table.to_csv(args.out, index=False, float_format="%.6g")
        return 0 if passed else 1
    return 0


def _print_models() -> None:
    from .core.paths import data_path  # not through models/, which would load TransformerLens to list two folders

    for folder in sorted(p.parent for p in data_path("models").glob("*/config.json")):
        size = sum(f.stat().st_size for f in folder.iterdir()) / 1e6
        print(f"{folder.name:<28} {size:.1f} MB")
    print("any hub name, or any folder that save_pretrained wrote")


def _print_datasets() -> None:
    from . import prompts

    people, rights, claims, templates = (len(x()) for x in (prompts.identities, prompts.rights, prompts.claims, prompts.templates))
    print(f"udhr         {people} identities x {rights} rights x {claims} claims, {templates} templates")
    print(f"requests     {len(prompts.request_pairs())} matched pairs of a harmful and a harmless request")


if __name__ == "__main__":
    sys.exit(main())
