"""What a gguf file says of itself: settings, and which values lie where. No values are read.

Layout (version 2 and 3): magic, version, number of tensors, number of settings; the settings; for each tensor its name, shape, type and
offset; then, aligned, the values.
"""

from __future__ import annotations

import math
import mmap
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.errors import BadInput, DamagedModel, UnknownModel

_WIDTH = {0: "<B", 1: "<b", 7: "<?", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 10: "<Q", 11: "<q", 12: "<d"}
_TEXT, _LIST = 8, 9
_PART = re.compile(r"-\d{5}-of-(\d{5})\.gguf$", re.IGNORECASE)
PLAIN = ("F32", "F16", "BF16", "F64")


@dataclass(frozen=True, kw_only=True)
class Header:
    """What a gguf file says of itself.

    Attributes:
        path: The file.
        settings: Its settings by name; of a list of texts the length only.
        tensors: Shape (fastest axis first) and type of each tensor.
    """

    path: Path
    settings: dict[str, Any]
    tensors: dict[str, tuple[tuple[int, ...], str]]

    @property
    def architecture(self) -> str:
        """As llama.cpp names it."""
        return str(self.settings.get("general.architecture", ""))

    def own(self, name: str, default: Any = None) -> Any:
        """Return a setting of the architecture (`rope.scaling.type`)."""
        return self.settings.get(f"{self.architecture}.{name}", default)

    @property
    def size(self) -> int:
        """Number of values."""
        return sum(math.prod(shape) for shape, _ in self.tensors.values())

    @property
    def weights(self) -> str:
        """What kind of weights these are, in words."""
        from gguf import LlamaFileType

        count: dict[str, int] = {}
        for shape, kind in self.tensors.values():
            count[kind] = count.get(kind, 0) + (math.prod(shape) if len(shape) > 1 else 0)
        quantised = {kind: n for kind, n in count.items() if kind not in PLAIN}
        if not quantised:
            return f"weights in {max(count, key=lambda k: count[k])} out of a gguf file, not quantised"
        name = max(quantised, key=lambda k: quantised[k])
        try:
            label = LlamaFileType(int(self.settings["general.file_type"])).name.removeprefix("MOSTLY_")
        except (KeyError, ValueError, TypeError):
            label = ""
        if any(label.startswith(kind) for kind in quantised):  # "Q4_K_M" of tensors in Q4_K and Q6_K
            name = label
        bits = re.search(r"Q(\d)", name)
        return (
            f"dequantised {bits[1]}-bit weights ({name}), not the original" if bits else f"dequantised weights ({name}), not the original"
        )


def gguf_of(path: Path) -> Path | None:
    """Return the gguf file that a path means: the file itself, or the only one in a folder without config.json; else `None`.

    Args:
        path: A file or a folder.

    Returns:
        The file.

    Raises:
        UnknownModel: A name ends in .gguf, and there is no such file.
        BadInput: A folder holds several.
    """
    if path.suffix.lower() == ".gguf" and not path.is_dir():
        if not path.is_file():
            raise UnknownModel(f"no file {str(path)!r}")
        return path
    if not path.is_dir() or (path / "config.json").is_file():
        return None
    files = sorted(p for p in path.iterdir() if p.suffix.lower() == ".gguf" and p.is_file())
    if not files:
        return None
    if len(files) > 1 and not all(_PART.search(p.name) for p in files):
        names = ", ".join(p.name for p in files[:5])
        raise BadInput(f"{path.name} holds {len(files)} gguf files ({names}); pass the path of one of them")
    return files[0]


def read_header(path: Path) -> Header:
    """Read what a gguf file says of itself, and check that it is a whole model.

    Args:
        path: The file.

    Returns:
        The header.

    Raises:
        DamagedModel: It is no gguf file, or it is cut off.
        BadInput: It is one piece of several, an adapter or a control vector.
    """
    import gguf

    if split := _PART.search(path.name):
        raise _in_pieces(path, int(split[1]))
    try:
        settings, found, start, end = _read(path)
    except OSError as error:
        raise DamagedModel(f"{path.name} cannot be opened ({error.strerror})") from None
    except (struct.error, ValueError, TypeError, IndexError, OverflowError, RecursionError) as error:
        raise DamagedModel(f"{path.name} is damaged or cut off: its header cannot be read ({error}). Copy it again") from None
    pieces = settings.get("split.count")
    if isinstance(pieces, int) and pieces > 1:
        raise _in_pieces(path, pieces)
    kind = str(settings.get("general.type", "model"))
    if kind not in ("model", "") or settings.get("general.architecture") == "controlvector":
        hint = ". Read it with wb.VectorSet.from_gguf" if settings.get("general.architecture") == "controlvector" else ""
        raise BadInput(f"{path.name} holds no whole model but {'a control vector' if hint else f'something else ({kind})'}{hint}")
    if not isinstance(settings.get("general.architecture"), str):
        raise DamagedModel(f"{path.name} names no architecture (general.architecture)")
    if not found:
        raise DamagedModel(f"{path.name} holds no weights, only settings")
    tensors = {}
    for name, (shape, number, offset) in found.items():
        try:
            block, width = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType(number)]
        except (ValueError, KeyError):
            raise DamagedModel(
                f"{path.name}: {name} is of the unknown type {number}; a newer version of the package gguf may know it"
            ) from None
        tensors[name] = shape, gguf.GGMLQuantizationType(number).name
        stop = start + offset + math.prod(shape) // block * width
        if stop > end:
            raise DamagedModel(f"{path.name} is cut off: {name} ends at byte {stop:,} of a file of {end:,}. Copy or download it again")
    return Header(path=path, settings=settings, tensors=tensors)


def _in_pieces(path: Path, count: int) -> BadInput:
    return BadInput(
        f"{path.name} is one of {count} pieces of a model. Join them first (`llama-gguf-split --merge FIRST_PIECE.gguf WHOLE.gguf`), and "
        "pass the whole file"
    )


def _read(path: Path) -> tuple[dict[str, Any], dict[str, tuple[tuple[int, ...], int, int]], int, int]:
    """Settings, tensors, where the values begin, and the file's length."""
    with path.open("rb") as handle:
        if handle.read(4) != b"GGUF":
            raise DamagedModel(f"{path.name} is no gguf file: it does not begin with the letters GGUF")
        data = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)
    with data:
        (version,) = struct.unpack_from("<I", data, 4)
        if version not in (2, 3):
            raise DamagedModel(f"{path.name}: gguf of version {version}; versions 2 and 3 (of little-endian machines) can be read")
        tensors, settings = struct.unpack_from("<QQ", data, 8)
        at, values = 24, {}
        for _ in range(settings):
            name, at = _text(data, at)
            (kind,) = struct.unpack_from("<I", data, at)
            values[name], at = _value(data, at + 4, kind)
        found = {}
        for _ in range(tensors):
            name, at = _text(data, at)
            (axes,) = struct.unpack_from("<I", data, at)
            shape = struct.unpack_from(f"<{min(axes, 64)}Q", data, at + 4)
            kind, offset = struct.unpack_from("<IQ", data, at + 4 + 8 * axes)
            found[name], at = (shape, kind, offset), at + 16 + 8 * axes
        step = int(values.get("general.alignment", 32)) or 32
        return values, found, -(-at // step) * step, len(data)


def _text(data: mmap.mmap, at: int) -> tuple[str, int]:
    (length,) = struct.unpack_from("<Q", data, at)
    if at + 8 + length > len(data):
        raise IndexError("a text longer than the file")
    return data[at + 8 : at + 8 + length].decode("utf-8"), at + 8 + length


def _value(data: mmap.mmap, at: int, kind: int) -> tuple[Any, int]:
    if kind in _WIDTH:
        return struct.unpack_from(_WIDTH[kind], data, at)[0], at + struct.calcsize(_WIDTH[kind])
    if kind == _TEXT:
        return _text(data, at)
    if kind != _LIST:
        raise IndexError(f"a setting of the unknown type {kind}")
    inner, count = struct.unpack_from("<IQ", data, at)
    at += 12
    if inner in _WIDTH:
        width = struct.calcsize(_WIDTH[inner])
        if at + count * width > len(data):
            raise IndexError("a list longer than the file")
        return struct.unpack_from(f"<{count}{_WIDTH[inner][1]}", data, at), at + count * width
    for _ in range(count):
        _, at = _value(data, at, inner) if inner == _LIST else (None, _text(data, at)[1])
    return count, at
