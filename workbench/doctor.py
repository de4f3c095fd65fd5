"""What this machine and this installation can do: one line a check, and what to do where something is missing."""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlparse
from urllib.request import url2pathname

from .core import machine
from .core.paths import cache_root, data_path
from .core.provenance import redact
from .core.show import short

State = Literal["good", "note", "bad"]
DISTRIBUTION = "workbench-interp"
EXTRAS = {
    "notebooks": "the notebooks in Jupyter",
    "ray": "capture by several processes",
    "judge": "a judge behind an endpoint",
}
FEWEST_GB = 2.0
HEADROOM = 0.8
_COLOURS = {"good": "32", "note": "33", "bad": "31"}


@dataclass(frozen=True)
class Check:
    """What one check found.

    Attributes:
        name: What was looked at.
        state: "good", "note" (works, with something to know) or "bad" (has to be repaired first).
        found: What there is.
        todo: What to do; "" for nothing.
    """

    name: str
    state: State
    found: str
    todo: str = ""


def _python() -> Check:
    good = sys.version_info >= (3, 11)
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    return Check("python", "good" if good else "bad", found, "" if good else "install Python 3.11 or later")


def _installation() -> Check:
    here = Path(__file__).resolve().parent.parent
    try:
        found = metadata.distribution(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return Check("workbench", "note", f"runs from {here}, not installed", f"pip install -e {here}")
    source = json.loads(found.read_text("direct_url.json") or "{}")
    editable = source.get("dir_info", {}).get("editable") and Path(url2pathname(urlparse(source["url"]).path))
    if editable and editable.resolve() != here:
        gone = "" if editable.is_dir() else ", a folder that is gone"
        return Check("workbench", "note", f"runs from {here}; installed from {editable}{gone}", f"pip install -e {here}")
    return Check("workbench", "good", f"{found.version} from {here}")


def _lacking(extra: str = "") -> list[str]:
    """Requirements of the package (of one extra) that are not met, in words."""
    from packaging.requirements import Requirement

    out = []
    for requirement in map(Requirement, metadata.requires(DISTRIBUTION) or ()):
        always = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if always == bool(extra) or (extra and requirement.marker is not None and not requirement.marker.evaluate({"extra": extra})):
            continue
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            out.append(f"{requirement.name} is missing")
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            out.append(f"{requirement.name} {version} ({requirement.specifier} is needed)")
    return out


def _packages() -> list[Check]:
    try:
        lacking = _lacking()
    except metadata.PackageNotFoundError:
        return [Check("packages", "note", f"{DISTRIBUTION} is not installed, so nothing says what it needs", "pip install -e .")]
    todo = f"pip install --upgrade {DISTRIBUTION}, or the packages named" if lacking else ""
    said = "; ".join(lacking) or "all that are required, in versions that fit"
    out = [Check("packages", "bad" if lacking else "good", said, todo)]
    for extra, what in EXTRAS.items():
        if missing := _lacking(extra):
            more = f"pip install '{DISTRIBUTION}[{extra}]' (for {what})"
            out.append(Check(f"extra {extra}", "note", "; ".join(missing), more))
    if len(out) == 1:
        out.append(Check("extras", "good", ", ".join(EXTRAS)))
    return out


def _torch() -> list[Check]:
    try:
        import torch
    except (ImportError, OSError) as error:
        return [Check("torch", "bad", f"cannot be imported ({short(error, 160)})", "pip install torch, for this Python and machine")]
    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU build"
    threads, cores = torch.get_num_threads(), machine.cores()
    found = f"{torch.__version__}, {build}, {threads} threads on {cores} cores, MKL {'yes' if torch.backends.mkl.is_available() else 'no'}"
    slow = f"set OMP_NUM_THREADS={cores}: more threads than cores wait for each other" if threads > cores else ""
    return [Check("torch", "note" if slow else "good", found, slow), _device(torch)]


def _device(torch: Any) -> Check:
    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        kind = "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
        more = f" (and {torch.cuda.device_count() - 1} more)" if torch.cuda.device_count() > 1 else ""
        name = torch.cuda.get_device_name()
        return Check(
            "device", "good", f"{name}{more}, {free / 1e9:.1f} of {total / 1e9:.1f} GB free; {kind} for large models, else float32"
        )
    if torch.backends.mps.is_available():
        return Check("device", "good", "Apple GPU (mps), memory shared with the machine; float32, or float16 for large models")
    if shutil.which("nvidia-smi") and not torch.version.cuda:
        return Check("device", "note", "CPU; an NVIDIA driver is here, but this torch is a CPU build", "install a CUDA build of torch")
    return Check("device", "good", "CPU; float32 (bfloat16 halves the memory, and is slower on most)")


def _memory() -> Check:
    total, available = machine.memory()
    if not available:
        known = f"{total / 1e9:.1f} GB, " if total else ""
        return Check("memory", "note", f"{known}what is free is not known on this system")
    room = HEADROOM * available
    fits = f"weights of up to {room / 4e9:.1f}B parameters in float32, {room / 2e9:.1f}B in bfloat16"
    found = f"{available / 1e9:.1f} of {total / 1e9:.1f} GB available: {fits} ({HEADROOM:.0%} of it / 4 or 2 bytes)"
    low = available < FEWEST_GB * 1e9
    return Check("memory", "note" if low else "good", found, "close other programs: torch alone needs about 1 GB" if low else "")


def _disk() -> Check:
    folder = cache_root()
    there = next(p for p in (folder, *folder.parents) if p.exists())
    todo = "set WORKBENCH_CACHE to a folder that can be written"
    try:
        with tempfile.TemporaryFile(dir=there) as handle:
            handle.write(b"0")
    except OSError as error:
        return Check("disk", "bad", f"the cache {folder} cannot be written ({error.strerror or type(error).__name__})", todo)
    free = shutil.disk_usage(there).free / 1e9
    low = free < FEWEST_GB
    found = f"{free:.1f} GB free for the cache {folder}" + ("" if folder.is_dir() else " (not made yet)")
    return Check("disk", "note" if low else "good", found, "make room, or set WORKBENCH_CACHE to another disk" if low else "")


def _browser() -> Check:
    from .figures.export import HINT, browser

    path = browser()
    if path is None:
        return Check("browser", "note", "no Chrome or Chromium: figures are html only", HINT)
    try:
        good = machine.draws(path)
    except OSError as error:
        return Check("browser", "note", f"{path} cannot be started ({error.strerror or type(error).__name__}): figures are html only", HINT)
    if not good:
        return Check("browser", "note", f"{path} starts and draws nothing within 8 s: figures are html only", HINT)
    return Check("browser", "good", f"{path} draws: figures as html, png, svg and pdf")


def _hub() -> Check:
    from huggingface_hub import constants, get_token

    login = "logged in" if get_token() else "not logged in (gated models need `hf auth login`)"
    if constants.HF_HUB_OFFLINE:
        found = f"HF_HUB_OFFLINE is set: bundled models, folders, and what is in the hub's cache; {login}"
        return Check("hub", "note", found, "unset HF_HUB_OFFLINE to download models")
    if not machine.reachable(constants.ENDPOINT):
        todo = "connect, or set a proxy; without it set HF_HUB_OFFLINE=1, so that nothing waits for it"
        return Check("hub", "note", f"the hub cannot be reached: only bundled models and folders; {login}", todo)
    return Check("hub", "good", f"the hub can be reached; {login}")


def _bundled() -> Check:
    from safetensors import safe_open

    where, names = data_path("models"), []
    for config in sorted(where.glob("*/config.json")):
        json.loads(config.read_text(encoding="utf-8"))
        with safe_open(config.parent / "model.safetensors", "pt") as handle:
            handle.keys()
        names.append(config.parent.name)
    if "udhr-organism" not in names:
        found = f"{where} lacks the model that 'bundled' names (there are: {', '.join(names) or 'none'})"
        return Check("data", "bad", found, f"pip install --force-reinstall {DISTRIBUTION}")
    return Check("data", "good", f"{where.parent}, models {', '.join(names)}")


def _jupyter() -> Check:
    todo = f"pip install '{DISTRIBUTION}[notebooks]'"
    try:
        from jupyter_client.kernelspec import KernelSpecManager
    except ImportError:
        return Check("jupyter", "note", "not installed", todo)
    specs = KernelSpecManager().get_all_specs()
    # a kernel that names no path is started with the Python that Jupyter itself runs on
    mine = [k for k, v in specs.items() if v["spec"]["argv"][0] in ("python", "python3", sys.executable)]
    if not mine:
        return Check(
            "jupyter", "note", f"no kernel runs this Python (kernels: {', '.join(specs) or 'none'})", f"{todo}, then `jupyter lab`"
        )
    return Check("jupyter", "good", f"kernel {', '.join(mine)}")


def _model(name: str) -> list[Check]:
    from .core.errors import MissingTokenizer, WorkbenchError
    from .evaluation.agreement import ANSWERS
    from .models.survey import find, fits, single_words, sizes
    from .verify import compared

    title = f"model {short(name, 60)}"
    try:
        folder, shown = find(name)
    except WorkbenchError as error:
        todo = "pass a bundled name, a hub name, or a folder with config.json, *.safetensors and a tokenizer"
        return [Check(title, "bad", f"{type(error).__name__}: {error}", todo)]
    if folder is None:
        todo = "loading it downloads it, which needs the hub; or pass a folder that save_pretrained wrote"
        return [Check(title, "note", "no folder, and not in the hub's cache here", todo)]
    kind, said = fits(folder)
    todo = {"float32": "", "": "a smaller model, or device_map='auto' over several GPUs"}.get(kind, f"load_model(…, dtype={kind!r})")
    out = [
        Check(title, "good", f"{shown}, {sizes(folder)}"),
        Check("  memory", "bad" if not kind else "note" if todo else "good", said, todo),
    ]
    try:
        count, pair = single_words(folder, shown, ANSWERS)
    except MissingTokenizer as error:
        return [*out, Check("  tokenizer", "bad", str(error), "save a tokenizer into the folder, or load_model(…, tokenizer=…)")]
    words = f"answer words {'/'.join(pair)} are single tokens" if pair else f"none of {', '.join(map('/'.join, ANSWERS))} are single tokens"
    ask = "" if pair else "pass answers=(no, yes) of your own"
    out.append(Check("  tokenizer", "note" if ask else "good", f"{count:,} tokens; {words}", ask))
    if not kind:
        return out
    try:
        return [*out, *(Check(f"  {n}", state, said, more) for n, state, said, more in compared(name, kind))]
    except WorkbenchError as error:
        return [*out, Check("  uses", "note", f"not compared with Hugging Face's model ({type(error).__name__}: {error})")]


_CHECKS: tuple[tuple[str, State, str], ...] = (
    ("python", "bad", "_python"), ("workbench", "note", "_installation"), ("packages", "bad", "_packages"), ("torch", "bad", "_torch"),
    ("memory", "note", "_memory"), ("disk", "bad", "_disk"), ("data", "bad", "_bundled"), ("browser", "note", "_browser"),
    ("hub", "note", "_hub"), ("jupyter", "note", "_jupyter"),
)  # fmt: skip


def _guarded(name: str, state: State, look: Callable[[], Check | Sequence[Check]]) -> list[Check]:
    """Run one check; what it raises is what it found."""
    try:
        found = look()
    except Exception as error:
        said = redact(short(error, 160))
        found = Check(
            name, state, f"could not be looked at ({type(error).__name__}: {said})", "repair what it names; the other checks stand"
        )
    return [found] if isinstance(found, Check) else list(found)


def checkup(model: str | None = None) -> list[Check]:
    """Look at the machine and the installation, and at one model if it is named. Nothing is downloaded.

    A model that is here is loaded twice, once untouched, and every use of it is compared with Hugging Face's own (`verify`).

    Args:
        model: Bundled name, hub name or folder.
    """
    out = [check for name, state, look in _CHECKS for check in _guarded(name, state, globals()[look])]
    return out + (_guarded(f"model {short(model, 60)}", "bad", lambda: _model(model)) if model else [])


def report(checks: Iterable[Check], *, colour: bool = False) -> str:
    """Return one line a check, and below it what to do where there is something to do.

    Args:
        checks: What `checkup` found.
        colour: Colour the states, for a terminal.
    """
    checks = list(checks)
    width = max((len(c.name) for c in checks), default=0)
    lines = []
    for c in checks:
        state = f"\033[{_COLOURS[c.state]}m{c.state:<4}\033[0m" if colour else f"{c.state:<4}"
        lines.append(f"{state}  {c.name:<{width}}  {short(c.found, 400)}")
        lines += [f"{'':<{width + 8}}-> {short(c.todo, 400)}"] if c.todo else []
    count = {s: sum(c.state == s for c in checks) for s in ("good", "note", "bad")}
    return "\n".join([*lines, "", f"{count['good']} good, {count['note']} to note, {count['bad']} bad"])


def main(model: str | None = None) -> int:
    """Print the report; 0, or 1 where something is bad."""
    checks = checkup(model)
    sys.stdout.write(report(checks, colour=sys.stdout.isatty() and "NO_COLOR" not in os.environ) + "\n")
    return int(any(c.state == "bad" for c in checks))
