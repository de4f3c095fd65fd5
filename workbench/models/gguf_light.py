"""Reading a gguf file with transformers in little memory: long lists of settings are counted, and values made plain piece by piece.

transformers reads a gguf file three times with the package gguf, which makes several arrays of each word of the vocabulary, and several
copies of each matrix.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

LONG = 4096  # entries of a list that is only counted
PIECE = 2**22  # values that are made plain at a time


@contextmanager
def light() -> Iterator[None]:
    """Let transformers read gguf files in little memory inside the block.

    The settings of a model hold no long lists; those of a tokenizer do, and are read by transformers' own reader, without the package
    gguf. An older version of transformers, which reads them with the package, is left alone.
    """
    import gguf

    try:
        from transformers.integrations.gguf import get_gguf_tokenizer  # noqa: F401
    except ImportError:
        yield
        return
    before = gguf.GGUFReader, gguf.dequantize
    readers: dict[str, Any] = {}

    class Counting(gguf.GGUFReader):
        """Knows of a long list only how long it is."""

        def _get_field_parts(self, orig_offs: Any, raw_type: Any) -> Any:
            if int(raw_type) == gguf.GGUFValueType.ARRAY:
                kind, count = int(self._get(orig_offs, np.uint32)[0]), int(self._get(orig_offs + 4, np.uint64)[0])
                if count > LONG and kind != gguf.GGUFValueType.ARRAY:
                    size = self._length(orig_offs + 12, kind, count)
                    entry = np.zeros(1, np.uint8) if kind == gguf.GGUFValueType.STRING else self._get(orig_offs + 12, self._kind(kind))
                    types = [gguf.GGUFValueType.ARRAY, gguf.GGUFValueType(kind)]
                    return 12 + size, [entry], [0] * count, types
            return super()._get_field_parts(orig_offs, raw_type)

        def _kind(self, kind: Any) -> Any:
            return self.gguf_scalar_to_np[gguf.GGUFValueType(kind)]

        def _length(self, start: Any, kind: Any, count: Any) -> int:
            if kind != gguf.GGUFValueType.STRING:
                return count * np.dtype(self._kind(kind)).itemsize
            raw, at = np.asarray(self.data).data, int(start)
            for _ in range(count):
                at += 8 + int.from_bytes(raw[at : at + 8], "little")
            return at - start

    def read(path: Any, *more: Any) -> Any:
        if str(path) not in readers:
            readers[str(path)] = Counting(path, *more)
        return readers[str(path)]

    gguf.GGUFReader, gguf.dequantize = read, lambda data, kind: _plain(before[1], data, kind)  # type: ignore[assignment]
    try:
        yield
    finally:
        gguf.GGUFReader, gguf.dequantize = before  # type: ignore[misc]


def _plain(dequantize: Any, data: np.ndarray, kind: Any) -> np.ndarray:
    """The values of a matrix, made plain some rows at a time: each row is made of whole blocks."""
    first = dequantize(data[:1], kind)
    step = max(1, PIECE // max(1, first.size))
    if data.ndim < 2 or len(data) <= step:
        return dequantize(data, kind)
    out = np.empty((len(data), *first.shape[1:]), first.dtype)
    for at in range(0, len(data), step):
        out[at : at + step] = dequantize(data[at : at + step], kind)
    return out
