"""A gguf file as a model folder: its values as plain numbers in safetensors, its settings and tokenizer as transformers reads them.

Converted once, into the cache, by the content of the file. The values are those that the quantised ones stand for, kept exactly.
"""

from __future__ import annotations

import json
import math
import shutil
import tempfile
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from ..core.errors import DamagedModel, DiskFull, MissingTokenizer, OutOfMemory, QuantisedModel, WorkbenchError
from ..core.machine import memory
from ..core.provenance import versions
from ..core.terminal import heard
from ..core.whole import write_whole, writing
from .gguf_header import Header
from .gguf_light import light
from .plain import check_gguf
from .rope import settle_rope
from .shelf import SHELF, SOURCE, sha256_of, weights_folder
from .source import building, check_complete, check_folder, locate, split_dtype

SAMPLE = "Everyone has 12 rights; do you agree?  Yes, <b>always</b>.\n\tÜber naïve façades 東京 🙂"
ORIGINAL = (
    "Use the model's original repository, or let llama.cpp write it anew in a type that transformers reads (llama-quantize IN OUT F16)"
)


def ready(name: str, *, say: Callable[[str], None] | None = None) -> tuple[str, str]:
    """Return what to load of a name, as `locate` does; a gguf file is converted first, where it was not before.

    Args:
        name: As for `load_model`.
        say: Receives a line where a file is converted.

    Returns:
        A folder or a hub name, and the name to show.

    Raises:
        UnknownModel, NotFetched, BadInput, DamagedModel: As for `locate` and `check_gguf`.
        QuantisedModel: transformers cannot read this file.
        OutOfMemory, DiskFull, OutputFolder: There is no room for the conversion.
    """
    source, shown = locate(name)
    name, _ = split_dtype(name)
    if name in SHELF and not is_whole(Path(source)):
        raise DamagedModel(f"{name}: the folder {source} is damaged. Make it anew: `workbench get {name}`")
    if not source.lower().endswith(".gguf") or Path(source).is_dir():
        return source, shown
    file = Path(source)
    header = check_gguf(file)
    digest = sha256_of(file)
    target = weights_folder() / "gguf" / digest[:32]
    if not is_whole(target):
        convert(header, target, facts={"origin": file.name, "sha256": digest}, say=say)
    return str(target), shown


def is_whole(folder: Path) -> bool:
    """Whether a folder that was fetched or converted is there and can be read, as far as that shows without reading values."""
    try:
        check_folder(folder)
    except (WorkbenchError, OSError):
        return False
    return (folder / SOURCE).is_file()


def convert(header: Header, target: Path, *, facts: Mapping[str, Any], say: Callable[[str], None] | None = None) -> None:
    """Write a gguf file as a model folder, whole or not at all; several processes may ask for the same one.

    Args:
        header: What `check_gguf` returned.
        target: The folder. It is replaced.
        facts: Written beside the weights, with what they are in words.
        say: Receives a line.

    Raises:
        QuantisedModel, DamagedModel, MissingTokenizer: The file cannot be read.
        OutOfMemory, DiskFull, OutputFolder: There is no room.
    """
    with writing(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
        before = _stamp(target)
        with FileLock(target.with_name(f".{target.name}.lock")):
            if before != _stamp(target):  # another process has written it while this one waited
                return
            for left in target.parent.glob(f".{target.name}.*.tmp"):  # of a process that was killed
                shutil.rmtree(left, ignore_errors=True)
            _check_room(header, target.parent)
            heard(say)(f"converting {header.path.name} to safetensors ({header.size / 1e6:.0f} M values, {4 * header.size / 1e6:.0f} MB)")
            temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent))
            try:
                _write(header, temporary)
                seal(temporary, {"weights": header.weights, "file": header.path.name, **facts})
                put(temporary, target)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)


def _stamp(folder: Path) -> tuple[int, int] | None:
    try:
        found = (folder / SOURCE).stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def seal(folder: Path, facts: Mapping[str, Any]) -> None:
    """Write where a model's weights come from beside them."""
    write_whole(folder / SOURCE, json.dumps({**facts, "versions": versions()}, indent=1) + "\n")


def put(temporary: Path, target: Path) -> None:
    """Rename a folder into its place. One that stands there goes first; what is open of it stays readable.

    Args:
        temporary: The folder.
        target: Its place.
    """
    old = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent))
    try:
        if target.exists():
            target.replace(old / "old")
        temporary.chmod(0o755)
        temporary.replace(target)
    finally:
        shutil.rmtree(old, ignore_errors=True)


def _check_room(header: Header, folder: Path) -> None:
    need, free = 4 * header.size, memory()[1]
    if free and need > free:
        raise OutOfMemory(
            f"{header.path.name}: about {need / 1e9:.1f} GB as plain numbers, {free / 1e9:.1f} GB of memory free. Use a smaller model"
        )
    room = shutil.disk_usage(folder).free
    if need > room:
        raise DiskFull(
            f"{header.path.name}: {need / 1e6:.0f} MB as plain numbers, {room / 1e6:.0f} MB free in {folder}. Make room, or set "
            "WORKBENCH_CACHE to another disk"
        )


def _write(header: Header, folder: Path) -> None:
    """Read a gguf file with transformers and save what it holds."""
    file = header.path
    try:
        model, tokenizer = _load(file)
        _check_all_read(header, model)
        settle_rope(model.config, header)
    except WorkbenchError:
        raise
    except MemoryError:
        raise OutOfMemory(f"{file.name}: its weights do not fit the memory") from None
    except (NotImplementedError, ImportError) as error:
        raise QuantisedModel(f"{file.name}: transformers cannot read it ({_line(error)}). {ORIGINAL}") from error
    except Exception as error:
        if "not supported" in str(error) or "Cannot build a tokenizer" in str(error):
            raise QuantisedModel(f"{file.name}: transformers cannot read it ({_line(error)}). {ORIGINAL}") from error
        raise DamagedModel(f"{file.name} cannot be read as a model ({type(error).__name__}: {_line(error)})") from error
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    _check_tokenizer(tokenizer, folder, file.name)


def _check_tokenizer(tokenizer: Any, folder: Path, name: str) -> None:
    """Raise unless the saved tokenizer is read again as the one that was made of the file."""
    try:
        again = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        same = [(t(SAMPLE)["input_ids"], t.chat_template, len(t)) for t in (tokenizer, again)]
    except Exception as error:
        raise MissingTokenizer(f"{name}: its tokenizer cannot be used ({_line(error)}). {ORIGINAL}") from error
    if same[0] != same[1]:
        raise MissingTokenizer(f"{name}: its tokenizer does not survive being saved. {ORIGINAL}")


def _load(file: Path) -> tuple[Any, Any]:
    """The model and its tokenizer, out of the file alone: what else lies in its folder may be another model's."""
    with building(), light(), warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")
        (Path(folder) / "model.gguf").symlink_to(file.absolute())
        where: dict[str, Any] = {"gguf_file": "model.gguf", "trust_remote_code": False, "local_files_only": True}
        tokenizer = AutoTokenizer.from_pretrained(folder, **where)
        config = AutoConfig.from_pretrained(folder, **where)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder, config=config, dtype=torch.float32, output_loading_info=True, ignore_mismatched_sizes=True, **where, **_at_once()
        )
    model, report = loaded
    if others := sorted(map(str, report.get("mismatched_keys", ()))):
        raise QuantisedModel(
            f"{file.name}: of its settings transformers builds {len(others)} weights in other shapes than the file holds, the first "
            f"{others[0]}. {ORIGINAL}"
        )
    check_complete(file.name, report)
    # what transformers keeps of the reading: with it `save_pretrained` refuses
    model.hf_quantizer, model.is_quantized = None, False
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    return model, tokenizer


def _at_once() -> dict[str, Any]:
    """Ask for plain numbers, where transformers would else keep the quantised ones."""
    try:
        from transformers import GgufConfig
    except ImportError:  # older versions dequantise always
        return {}
    return {"quantization_config": GgufConfig(dequantize=True)}


def _check_all_read(header: Header, model: Any) -> None:
    """Raise where values of the file went nowhere: transformers leaves out in silence what it has no name for."""
    tied = {"output.weight"} if getattr(model.config, "tie_word_embeddings", False) else set()
    layers = int(getattr(model.config.get_text_config(), "num_hidden_layers", 0) or 10**9)
    more = {n for n in header.tensors if n.startswith("blk.") and int(n.split(".")[1]) >= layers}  # to predict several tokens at once
    left_out = {"rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"} | tied | more
    wanted = sum(math.prod(shape) for name, (shape, _) in header.tensors.items() if name not in left_out)
    buffers = sum(b.numel() for name, b in model.named_buffers() if name in model.state_dict())
    there = sum(p.numel() for p in model.parameters())
    if wanted not in (there, there + buffers):
        raise QuantisedModel(
            f"{header.path.name}: transformers reads {there:,} of the {wanted:,} values of this {header.architecture!r} file, so the model "
            f"would be another one. {ORIGINAL}"
        )


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0][:240]
