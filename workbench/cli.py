"""The command line: `workbench run STUDY | SWEEP.toml`, what may be done with a run afterwards, and what there is."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from typing import Any

from .arguments import parser, run_parser, with_settings
from .core.terminal import screens


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: The words behind `workbench`; by default those of the process.

    Returns:
        The exit status: 0; 1 where cells failed or numbers differ; 2 for an error that says what to do; 130 when stopped.
    """
    with screens() as out:
        status = _main(list(sys.argv[1:] if arguments is None else arguments))
        out.flush()
        if out.failed is not None:
            print(f"workbench: what was printed is not whole: {out.failed}", file=sys.stderr)
            return 2
        return status


def _main(words: list[str]) -> int:
    running = words[:1] == ["run"]
    args = None if running else parser().parse_args(words)
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
    first, _ = run_parser().parse_known_args(plain) if plain else (None, [])
    if first is None:
        run_parser().parse_args(words)
    assert first is not None
    from . import runs

    sweep = first.study.endswith(".toml") or (Path(first.study) / "sweep.toml").is_file()
    study = None if sweep else runs.find(first.study)
    whole = run_parser(first.study)
    if study is not None:
        with_settings(whole, study)
    args = whole.parse_args(words)
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
    if "seed" in options and args.seed is not None:
        raise BadInput("seed is given twice, by --seed and by --set")
    seed = options.pop("seed", args.seed or 0)
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
            given[name] = [words] if isinstance(words, str) else words
    return {name: from_words(study, name, words) for name, words in given.items()}


def _models(study: Any, words: Sequence[str] | None) -> dict[str, str]:
    """Models by role, from NAME or ROLE=NAME."""
    from .runs.roles import roles_of

    if not words:
        return {}
    if len(words) == 1 and words[0].partition("=")[0] not in study.models:
        return roles_of(study, words[0])
    roles = f"ROLE=NAME for a study of several models; its roles: {', '.join(study.models) or 'none'}"
    return roles_of(study, models=_pairs("--model", words, roles))


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
            _write_csv(args.out, comparison.rows)
        print(comparison)
    else:
        cache = runs.Cache()
        for kind, size in cache.sizes().items():
            print(f"{kind:<8} {size / 1e6:10.1f} MB")
        weights = sum(p.stat().st_size for p in (cache.root / "weights").rglob("*") if p.is_file())
        print(f"{'weights':<8} {weights / 1e6:10.1f} MB (models that were fetched or converted; --clear keeps them)")
        print(cache.root)
        if args.clear:
            print(f"deleted {cache.clear() / 1e6:.1f} MB")
    return 0


def _rerun(args: argparse.Namespace) -> int:
    from . import runs

    named = [w.split("=", 1) for w in args.model or [] if "=" in w]
    model = args.model[0] if args.model and not named else None
    models = dict(named) or None
    inputs = _pairs("--input", args.input or [], "SETTING=PATH")
    how = {"out": args.out, "model": model, "models": models, "study": args.study, "tolerance": args.tolerance, "inputs": inputs}
    agreement = runs.rerun(args.folder, **how, say=lambda line: print(line, file=sys.stderr, flush=True))
    print(agreement)
    return 0 if agreement.agrees else 1


def _pairs(flag: str, words: Sequence[str], wanted: str) -> dict[str, str]:
    from .core.errors import BadInput

    for word in words:
        if "=" not in word:
            raise BadInput(f"{flag} {word!r}: {wanted}")
    return dict(word.split("=", 1) for word in words)


def _write_csv(path: str, table: Any) -> None:
    from .core.tables import write_csv
    from .core.whole import file_for

    with file_for(path) as file:
        write_csv(file, table)


def _redraw(args: argparse.Namespace) -> int:
    from pathlib import Path

    from . import runs
    from .core.whole import file_for, write_whole

    if args.write_captions:
        words = runs.captions_of(args.folder)
        with file_for(args.write_captions) as file:
            write_whole(file, words)
        print(f"wrote {args.write_captions}; change it, then: workbench redraw {args.folder} --captions {args.write_captions}")
        return 0
    how = {"theme": args.theme, "captions": args.captions, "formats": args.formats, "only": args.only, "single_file": args.single_file}
    page = runs.redraw(args.folder, out=args.out, **how, say=lambda line: print(line, file=sys.stderr))
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
    elif args.command == "get":
        from .models import get_model

        get_model(args.model, source=getattr(args, "from"), force=args.force)
    elif args.command == "datasets":
        _print_datasets()
    elif args.command == "train":
        from .organism import SPECS, train_organism

        how = {"seed": args.seed, "steps": args.steps, "checkpoints": args.checkpoints}
        train_organism(args.organism, args.out, **how, log=lambda line: print(line, flush=True))
        measure = "run geometry" if args.organism.startswith("harm-safety") else "check"
        print(f"known organisms: {', '.join(SPECS)}; measure it with: workbench {measure} --model {args.out}")
    elif args.command == "dictionary":
        from .features.making import from_sources

        print(from_sources(**{k: v for k, v in vars(args).items() if k != "command"}).to_string(index=False))
    elif args.command == "check":
        from pathlib import Path

        from .core.whole import check_writable
        from .organism import check

        if args.out:
            check_writable(Path(args.out).parent)
        table, passed = check(args.model, n=args.n, log=lambda line: print(line, flush=True))
        if args.out:
            _write_csv(args.out, table)
        return 0 if passed else 1
    return 0


def _print_models() -> None:
    from .models import available_models

    table = available_models()
    table["parameters"] = [f"{x:.1f} M" for x in table["parameters"]]
    table["disk"] = [f"{x:,.0f} MB" for x in table["disk"]]
    lines = [list(table.columns), *table.to_numpy().tolist()]
    widths = [max(len(str(line[i])) for line in lines) for i in range(len(table.columns))]
    print("\n".join("  ".join(str(x).ljust(w) for x, w in zip(line, widths, strict=True)).rstrip() for line in lines))
    print("\nalso: any hub name, any folder that save_pretrained wrote, any gguf file")


def _print_datasets() -> None:
    from . import prompts

    people, rights, claims, templates = (len(x()) for x in (prompts.identities, prompts.rights, prompts.claims, prompts.templates))
    print(f"udhr         {people} identities x {rights} rights x {claims} claims, {templates} templates")
    print(f"requests     {len(prompts.request_pairs())} matched pairs of a harmful and a harmless request")


if __name__ == "__main__":
    sys.exit(main())
