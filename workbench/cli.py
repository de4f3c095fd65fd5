"""The command line: `workbench run STUDY | SWEEP.toml`, what may be done with a run afterwards, and what there is."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from typing import Any


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="workbench", description="What a language model says, what it knows inside, and along which directions."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="run a study, or a sweep from a toml file, and write its report")
    run.add_argument("study", help="name of a study (see `workbench studies`), a .toml file, or the folder of a sweep that was begun")
    run.add_argument("--model", help="bundled name, hub name or local folder (default: bundled)")
    run.add_argument("--out", help="folder for tables, figures and report (default: figures/STUDY)")
    run.add_argument("--fast", action="store_true", help="a small grid, for a first look")
    run.add_argument("--seed", type=int)
    run.add_argument("--data", help="statements of your own (udhr, reading: a csv, jsonl or parquet file) or a folder of data (caa)")
    run.add_argument(
        "--columns", nargs="+", metavar="FIELD=COLUMN", help="which column of your table is statement, label, identity, right, group"
    )
    run.add_argument("--claims", nargs="+", help="which claims to push with")
    run.add_argument("--behaviours", nargs="+", help="which behaviours of the folder (caa)")
    run.add_argument("--layers", nargs="+", type=int, help="which layers (caa, patching, reading)")
    run.add_argument("--methods", nargs="+", help="which probes (probes, reading)")
    run.add_argument("--coefficients", nargs="+", type=float, help="how far to push (caa, steering)")
    run.add_argument("--plan", action="store_true", help="say what would run, what is cached and how long it will take, and stop")
    run.add_argument("--resume", action="store_true", help="go on with a sweep that was begun, failed cells too")
    run.add_argument("--workers", type=int, default=1, help="processes for the cells of a sweep (default: 1)")
    run.add_argument("--address", help="a Ray cluster for the cells of a sweep: its address, or `local` to start one here")
    run.add_argument("--cache", help="folder of what is computed once for all studies (default: WORKBENCH_CACHE or ~/.cache/workbench)")
    run.add_argument(
        "--formats", nargs="+", help="of the figures: html, png, svg, pdf (default: html, and png and svg where a browser is found)"
    )
    run.add_argument("--quiet", action="store_true", help="no progress")
    again = commands.add_parser("rerun", help="run a run again from its own folder and say whether the numbers agree")
    again.add_argument("folder")
    again.add_argument("--out", help="folder of the new run (default: FOLDER-rerun)")
    again.add_argument("--model", help="where the model lies now")
    again.add_argument("--tolerance", type=float, default=1e-3, help="largest relative error that counts as agreement (default: 0.001)")
    draw = commands.add_parser("redraw", help="draw a run's figures and report again from its tables, without a model")
    draw.add_argument("folder")
    draw.add_argument("--out", help="another folder (default: over those that are there)")
    draw.add_argument("--theme", choices=("light", "dark"), default="light")
    draw.add_argument("--captions", help="a toml file with other titles, captions and labels")
    draw.add_argument("--write-captions", metavar="FILE", help="write such a file, with the words as they are, and stop")
    draw.add_argument("--formats", nargs="+", help="html, png, svg, pdf (default: html, and png and svg where a browser is found)")
    draw.add_argument("--only", nargs="+", help="names of figures; the report is left as it is")
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
    """Run the command line and return the exit status: 0, or 2 for an error that says what to do."""
    args = _parser().parse_args(arguments)
    from .core.errors import WorkbenchError

    warnings.filterwarnings("ignore", category=FutureWarning)
    try:
        return _dispatch(args)
    except WorkbenchError as error:
        print(f"workbench: {type(error).__name__}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("workbench: stopped; the same command resumes", file=sys.stderr)
        return 130


def _run(args: argparse.Namespace) -> int:
    """`workbench run`: a study, or a sweep."""
    from pathlib import Path

    given = {k: getattr(args, k) for k in ("data", "claims", "behaviours", "layers", "methods", "coefficients")}
    options: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in given.items() if v is not None}
    if args.columns:
        options["columns"] = _columns(args.columns)
    sweep = args.study.endswith(".toml") or (Path(args.study) / "sweep.toml").is_file()
    own = {k: getattr(args, k) for k in ("model", "seed") if getattr(args, k) is not None} | ({"fast": True} if args.fast else {})
    from . import studies
    from .core.errors import BadInput

    if sweep and (options or own):
        raise BadInput(f"{', '.join(sorted({**options, **own}))} of a sweep stand in its toml file: change them there")
    if not sweep and (args.resume or args.workers != 1 or args.address):
        raise BadInput("--resume, --workers and --address are for sweeps (a .toml file); a study goes on by itself when it is run again")
    say = (lambda line: None) if args.quiet else (lambda line: print(line, file=sys.stderr, flush=True))
    progress = False if args.quiet else None
    if args.plan:
        planned: Any = args.study
        if not sweep:
            studies.settings_of(args.study, seed=own.get("seed", 0), fast=args.fast, **options)
            models, seeds = (str(own.get("model", "bundled")),), (int(own.get("seed", 0)),)
            planned = studies.Sweep(name=args.study, study=args.study, models=models, seeds=seeds, fast=args.fast, settings=options)
        table = studies.plan(planned, out=args.out, cache=args.cache, say=say)
        if table["cell"].nunique() == 1:
            print(table.drop(columns="cell").to_string(index=False), end="\n\n")
        print(studies.spoken(table, args.workers))
        return 0
    if sweep:
        run = studies.run_sweep(
            args.study,
            out=args.out,
            workers=args.workers,
            address=args.address,
            resume=args.resume,
            progress=progress,
            say=say,
            cache=args.cache,
            formats=args.formats,
        )
    else:
        run = studies.run_study(
            args.study, out=args.out, progress=progress, say=say, cache=args.cache, formats=args.formats, **own, **options
        )
    print("\n".join(f"- {finding}" for finding in run.findings))
    if "figures" in run.record:
        print(f"\nfigures: {run.record['figures']}")
    print(f"\nreport: {run.report} ({run.record['seconds']:.0f} s)")
    return 1 if sweep and len(run.failed) else 0


def _columns(words: Sequence[str]) -> dict[str, str]:
    from .core.errors import BadInput

    for word in words:
        if "=" not in word:
            raise BadInput(f"--columns {word!r}: FIELD=COLUMN, as in statement=text label=is_true")
    return dict(word.split("=", 1) for word in words)


def _afterwards(args: argparse.Namespace) -> int:
    """`workbench rerun | redraw | compare | cache`."""
    from pathlib import Path

    from . import studies

    if args.command == "rerun":
        found = studies.rerun(
            args.folder, out=args.out, model=args.model, tolerance=args.tolerance, say=lambda line: print(line, file=sys.stderr, flush=True)
        )
        print(found)
        return 0 if found.agrees else 1
    if args.command == "redraw":
        if args.write_captions:
            Path(args.write_captions).write_text(studies.captions_of(args.folder), encoding="utf-8")
            print(f"wrote {args.write_captions}; change it, then: workbench redraw {args.folder} --captions {args.write_captions}")
            return 0
        page = studies.redraw(args.folder, out=args.out, theme=args.theme, captions=args.captions, formats=args.formats, only=args.only)
        if args.only:
            written = [f for name in args.only for f in sorted((Path(args.out or args.folder) / "figures").glob(f"{name}[.-]*"))]
            print("\n".join(map(str, written)))
        else:
            print(f"report: {page}")
    elif args.command == "compare":
        found = studies.compare_runs(args.first, args.second)
        if args.out:
            found.rows.to_csv(args.out, index=False, float_format="%.6g")
        print(found)
    else:
        cache = studies.Cache()
        for kind, size in cache.sizes().items():
            print(f"{kind:<8} {size / 1e6:10.1f} MB")
        print(cache.root)
        if args.clear:
            print(f"deleted {cache.clear() / 1e6:.1f} MB")
    return 0


def _dispatch(args: argparse.Namespace) -> int:
    if args.command == "run":
        return _run(args)
    if args.command in ("rerun", "redraw", "compare", "cache"):
        return _afterwards(args)
    if args.command == "doctor":
        from .doctor import main as doctor

        return doctor(args.model)
    if args.command == "studies":
        from .studies import STUDIES

        print("\n".join(f"{name:<12} {text}" for name, text in STUDIES.items()))
    elif args.command == "models":
        from .core.paths import data_path  # not through models/, which would load TransformerLens to list two folders

        for folder in sorted(p.parent for p in data_path("models").glob("*/config.json")):
            size = sum(f.stat().st_size for f in folder.iterdir()) / 1e6
            print(f"{folder.name:<28} {size:.1f} MB")
        print("any hub name, or any folder that save_pretrained wrote")
    elif args.command == "datasets":
        from . import prompts

        print(f"udhr         {len(prompts.identities())} identities x {len(prompts.rights())} rights x {len(prompts.claims())} claims, "
              f"{len(prompts.templates())} templates")  # fmt: skip
        print(f"requests     {len(prompts.request_pairs())} matched pairs of a harmful and a harmless request")
    elif args.command == "train":
        from .organism import SPECS, train_organism

        train_organism(
            args.organism,
            args.out,
            seed=args.seed,
            steps=args.steps,
            checkpoints=args.checkpoints,
            log=lambda line: print(line, flush=True),
        )
        how = "run geometry" if args.organism.startswith("harm-safety") else "check"
        print(f"known organisms: {', '.join(SPECS)}; measure it with: workbench {how} --model {args.out}")
    elif args.command == "check":
        from .organism import check

        table, passed = check(args.model, n=args.n, log=lambda line: print(line, flush=True))
        if args.out:
            table.to_csv(args.out, index=False, float_format="%.6g")
        return 0 if passed else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
