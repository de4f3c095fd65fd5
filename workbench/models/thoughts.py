"""Where a thought ends and the answer begins, in what a model wrote and in the prompt before it.

Models that think write a passage between two markers (`<think>`, `</think>`) before they answer, or name a channel for each
passage ("analysis", "final"). Every text is read once from left to right.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_WORDS = "think|thinking|thoughts?|reasoning|reflection|scratchpad|scratchpad_reasoning|seed:think"
_PIPED = "(?:thought|think|thinking|reasoning)"
# every alternative begins with a character of its own and gives nothing back
_MARKER = re.compile(
    rf"(?=[<\[◁])(?:<(?P<shut>/?)(?P<word>{_WORDS})[ \t]*+>"
    rf"|<\|(?:(?P<piped>(?:begin|start)_(?:of_)?{_PIPED}|{_PIPED}_(?:begin|start))|(?P<piped_shut>end_(?:of_)?{_PIPED}|{_PIPED}_end))\|>"
    r"|(?P<square>\[THINK\])|(?P<square_shut>\[/THINK\])"
    r"|(?P<kimi>◁think▷)|(?P<kimi_shut>◁/think▷)"
    r"|(?P<gemma><\|channel>thought\b)|(?P<gemma_shut><channel\|>)"
    r"|(?P<unused><unused94>thought\b)|(?P<unused_shut><unused95>))",
    re.IGNORECASE,
)
_SHUT = {"square": "[/THINK]", "kimi": "◁/think▷", "gemma": "<channel|>", "unused": "<unused95>"}
_CHANNEL = re.compile(r"<\|channel\|>\s*+(analysis|commentary|final)\b(?:[^<]*+(?:<\|constrain\|>[^<]*+)?+<\|message\|>)?+")
_MESSAGE_END = re.compile(r"<\|(?:end|return|call|start)\|>")
# where special tokens were left out of a text, the names of its channels stand bare
_BARE, _BARE_FINAL = re.compile(r"\s*+(?:analysis|commentary)(?=[A-Z\"“'])"), "assistantfinal"
_QUOTED = frozenset("\"'`“”‘’«»")

FINAL = "<|channel|>final<|message|>"
UNFINISHED = "the thought has no end, so that there is no answer"
ONLY_THOUGHT = "nothing follows the thought"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a model answered, apart from what it thought.

    Attributes:
        text: What stands outside of thoughts: the whole text where there is none, "" where one has no end.
        thought: "" for none, "closed", or "unfinished" for one without an end.
    """

    text: str
    thought: str

    @property
    def missing(self) -> str:
        """Why a thought leaves no answer; "" where it leaves one."""
        if self.thought == "unfinished":
            return UNFINISHED
        return ONLY_THOUGHT if self.thought and not self.text.strip() else ""


@dataclass(frozen=True, kw_only=True)
class _Opened:
    """A thought that has begun: where, the kind of its markers, the one that ends it, and whether it is more than a mention."""

    at: int
    family: str
    shut: str
    sure: bool


def answer_of(text: str, prompt: str = "") -> Answer:
    r"""Return what a model answered, apart from what it thought.

    A passage between two markers of a thought is left out wherever it stands. So is all that stands before a closing marker
    without an opening one, which the chat template wrote. Of named channels only "final" is the answer. A marker between
    quotation marks, and an opening one amid a sentence ("the <think> tag") that nothing closes, is spoken of and is none.

    Args:
        text: What the model wrote.
        prompt: What it continued, which may end inside a thought.

    Returns:
        The answer, and whether there was a thought.

    Example:
        >>> answer_of("<think>I can't.</think>\n\nSure.")
        Answer(text='Sure.', thought='closed')
        >>> answer_of("I could say no", prompt="User: Hi\n<think>\n").thought
        'unfinished'
    """
    channel = _channel_at_end(prompt)
    if channel or _CHANNEL.search(text):
        return _of_channels(text, channel)
    if _BARE.match(text):
        _, mark, final = text.rpartition(_BARE_FINAL)
        return Answer(text=final.lstrip() if mark else "", thought="closed" if mark else "unfinished")
    before = _open_at_end(prompt)
    outside, opened, thought = _scan(text, before and _Opened(at=0, family=before.family, shut=before.shut, sure=True))
    if opened is not None and opened.sure:
        return Answer(text="", thought="unfinished")
    return Answer(text=outside.strip() if thought else text, thought="closed" if thought else "")


def closing(prompt: str) -> str:
    """Return what closes the thought inside which a prompt ends, and begins the answer; "" where it ends outside of thoughts."""
    if _channel_at_end(prompt) not in ("", "final"):
        return f"<|end|><|start|>assistant{FINAL}"
    opened = _open_at_end(prompt)
    return "" if opened is None else opened.shut


def is_marker(text: str) -> bool:
    """Whether a text is a marker that begins or ends a thought, and nothing else."""
    return _MARKER.fullmatch(text) is not None


def _open_at_end(prompt: str) -> _Opened | None:
    """The thought inside which a prompt ends. A prompt may ask about a marker: one that begins a line or ends the prompt counts."""
    _, opened, _ = _scan(prompt, None)
    if opened is None:
        return None
    marker = _MARKER.match(prompt, opened.at)
    ends = marker is not None and not prompt[marker.end() :].strip()
    return opened if ends or _begins(prompt, opened.at, "\n>]") else None


def _scan(text: str, opened: _Opened | None) -> tuple[str, _Opened | None, bool]:
    """What stands outside of thoughts, the thought that is open at the end, and whether any was closed."""
    kept: list[str] = []
    at, thought = 0, False
    for found in _MARKER.finditer(text):
        start, end = found.span()
        if text[max(0, start - 1) : start] in _QUOTED and text[end : end + 1] in _QUOTED:
            continue
        word, kind = found["word"], str(found.lastgroup)
        # models take <thinking> for <think>
        family = kind.removesuffix("_shut") if not word else "think" if word[:5].lower() in ("think", "thoug") else word.lower()
        if not (found["shut"] or kind.endswith("_shut")):
            if opened is None or not opened.sure:
                following = text[end : end + 1]
                sure = following.isalpha() or following == "\n" or _begins(text, start)
                if opened is None or sure:
                    opened = _Opened(at=start, family=family, shut=_shut(found[0], family), sure=sure)
        elif opened is None or opened.family == family:
            if opened is None:
                kept.clear()
            else:
                kept.append(text[at : opened.at])
            at, opened, thought = end, None, True
    return "".join([*kept, text[at:]]), opened, thought


def _shut(marker: str, family: str) -> str:
    if family == "piped":
        return re.sub("begin|start", "end", marker) if marker.islower() else re.sub("BEGIN|START", "END", marker)
    return _SHUT.get(family) or f"</{marker[1:]}"


def _begins(text: str, at: int, after: str = "\n>].!?:;…。！？▷)") -> bool:
    """Whether a passage may begin here: at the beginning, or after one of these characters and blanks."""
    before = text[max(0, at - 64) : at].rstrip(" \t\r")
    return not before or before[-1] in after


def _channel_at_end(prompt: str) -> str:
    """The name of the channel inside which a prompt ends; "" for none."""
    at = prompt.rfind("<|channel|>")
    found = _CHANNEL.match(prompt, at) if at >= 0 else None
    return "" if found is None or _MESSAGE_END.search(prompt, found.end()) else found[1]


def _of_channels(text: str, name: str) -> Answer:
    finals: list[str] = []
    thought, at = False, 0
    for found in [*_CHANNEL.finditer(text), None]:
        stop = len(text) if found is None else found.start()
        end = _MESSAGE_END.search(text, at, stop)
        passage = text[at : end.start() if end else stop]
        if name == "final" or (not name and passage.strip()):
            finals.append(passage)
        thought = thought or name not in ("", "final")
        if found is not None:
            name, at = found[1], found.end()
    if not finals:
        return Answer(text="", thought="unfinished")
    return Answer(text="\n".join(finals).strip(), thought="closed" if thought else "")
