"""The command line: `workbench run STUDY`, `workbench studies | models | datasets`, `workbench train`, `workbench check`."""

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
    run = commands.add_parser("run", help="run a study and write its report")
    run.add_argument("study", help="name of a study (see `workbench studies`)")
    run.add_argument("--model", default="bundled", help="bundled name, hub name or local folder (default: bundled)")
    run.add_argument("--out", help="folder for tables, figures and report (default: figures/STUDY)")
    run.add_argument("--fast", action="store_true", help="a small grid, for a first look")
    run.add_argument("--seed", type=int, default=0)
    run.add_argument("--data", help="a folder of data, for studies that take one (caa)")
    run.add_argument("--behaviours", nargs="+", help="which behaviours of the folder (caa)")
    run.add_argument("--layers", nargs="+", type=int, help="which layers (caa, patching)")
    run.add_argument("--coefficients", nargs="+", type=float, help="how far to push (caa, steering)")
    run.add_argument("--quiet", action="store_true", help="no progress")
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


def _dispatch(args: argparse.Namespace) -> int:
    if args.command == "run":
        from .studies import main_run, run_study

        make = run_study if args.quiet else main_run
        given = {k: getattr(args, k) for k in ("data", "behaviours", "layers", "coefficients")}
        options: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in given.items() if v is not None}
        run = make(args.study, model=args.model, out=args.out, fast=args.fast, seed=args.seed, **options)
        print("\n".join(f"- {finding}" for finding in run.findings))
        if "figures" in run.record:
            print(f"\nfigures: {run.record['figures']}")
        print(f"\nreport: {run.report} ({run.record['seconds']:.0f} s)")
    elif args.command == "studies":
        from .studies import STUDIES

        print("\n".join(f"{name:<12} {text}" for name, text in STUDIES.items()))
    elif args.command == "models":
        from .models import bundled_models

        for name, folder in bundled_models().items():
            size = sum(f.stat().st_size for f in folder.iterdir()) / 1e6
            print(f"{name:<28} {size:.1f} MB")
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
