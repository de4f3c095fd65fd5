"""A key that must not be shown, and the texts of a server that may hold it."""

from __future__ import annotations

import base64
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain

from ...core.provenance import redact
from ...core.show import short

HIDDEN = "[redacted]"
_PIECE = 8  # so many characters of a key in a row are hidden; a shorter key is hidden as a whole
_LINE = 300  # characters of a text that are shown
_LOWER = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}  # `str.lower` can change the length of a text
_ESCAPED = re.compile(r"(?:\\{1,8}u00|\\{1,8}x|%)([0-9a-f]{2})|&#(?:x0{0,4}([0-9a-f]{2})|0{0,4}(\d{2,3}));?", re.IGNORECASE)
_BETWEEN = re.compile(r"[^\x21-\x7e]+|\\+")
_LOGGERS = ("httpcore2.connection", "httpcore2.http11", "httpcore2.proxy")  # at level DEBUG they write what a server sent


@dataclass(frozen=True)
class Secret:
    """A key, and how a text is shown without it.

    Hidden are the key and every eight characters of it in a row, in small or capital letters, in base64 and in hexadecimal digits. A
    text that holds it in another way (percent-encoded, escaped as in JSON or HTML, with white space or invisible characters between
    its letters) is hidden as a whole.
    """

    key: str = field(repr=False)

    @cached_property
    def _pieces(self) -> frozenset[str]:
        raw = self.key.encode()
        forms = [self.key, self.key.replace("\\", ""), raw.hex()]
        for before in range(3):  # base64 depends on where in a group of three bytes the key begins
            code = base64.b64encode(bytes(before) + raw).decode().rstrip("=")
            own = code[(before * 8 + 5) // 6 : len(code) - bool((before + len(raw)) % 3)]
            forms += [own, own.replace("+", "-").replace("/", "_")]
        low = [form.translate(_LOWER) for form in forms]
        return frozenset(form[i : i + _PIECE] for form in low for i in range(len(form) - _PIECE + 1))

    def hide(self, text: str) -> str:
        """Return a text without the key."""
        if len(self.key) < _PIECE:
            return text.replace(self.key, HIDDEN) if self.key else text
        spans: list[list[int]] = []
        for i in self._places(text):
            if spans and i <= spans[-1][1]:
                spans[-1][1] = i + _PIECE
            else:
                spans.append([i, i + _PIECE])
        edges = [0, *chain.from_iterable(spans), len(text)]
        shown = HIDDEN.join(text[a:b] for a, b in zip(edges[::2], edges[1::2], strict=True))
        return HIDDEN if self._places(_decoded(shown)) else shown

    def shown(self, text: str) -> str:
        """Return a text as it may be shown and kept: without the key, then on one short line, with nothing invisible in it."""
        return short(redact(self.hide(text)), _LINE)

    @contextmanager
    def unlogged(self) -> Iterator[None]:
        """Hide the key in what the connections write to their logs."""

        def clean(record: logging.LogRecord) -> bool:
            record.msg, record.args = self.hide(record.getMessage()), ()
            return True

        loggers = [logging.getLogger(name) for name in _LOGGERS]
        for logger in loggers:
            logger.addFilter(clean)
        try:
            yield
        finally:
            for logger in loggers:
                logger.removeFilter(clean)

    def _places(self, text: str) -> list[int]:
        low = text.translate(_LOWER)
        return [i for i in range(len(low) - _PIECE + 1) if low[i : i + _PIECE] in self._pieces]


def _decoded(text: str) -> str:
    """A text with its escapes read, three times over, and without white space, backslashes and what is outside ASCII."""
    for _ in range(3):
        text = _ESCAPED.sub(lambda hit: chr(int(hit[3]) if hit[3] else int(hit[1] or hit[2], 16)), text)
    return _BETWEEN.sub("", text)
