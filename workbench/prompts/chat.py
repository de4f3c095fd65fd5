"""Questions as plain text, or as the user's turn of the tokenizer's chat template."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

from ..core.errors import BadInput, UnknownName
from ..models.control import check_plain, template_of
from ..models.thoughts import FINAL, answer_of, closing

# some templates write today's date into the system turn; a fixed date keeps the hash of a prompt set the same every day
_DATE = "26 Jul 2024"
_NOW = re.compile(r"""strftime_now\(\s*(["'])([^"']*)\1\s*\)""")
_OPEN = "([{\"'“‘"
_OURS = ("messages", "add_generation_prompt", "continue_final_message", "chat_template", "tokenize", "raise_exception", "strftime_now")
_PROBE = "9f3c the text of the user 9f3c"


@dataclass(frozen=True, kw_only=True)
class Stem:
    """The beginning of a prompt, up to where the answer begins.

    Attributes:
        text: The whole text.
        end: Character offset at which the user's text ends.
        thought: "closed" where the chat template opens a thought, which is closed at once; "skipped" where the template, or the
            channel that the answer is put into, leaves it out; "" where there is none.
        wording: What the chat template wrote; "" without one.
        options: The options of the chat template, as JSON; "" without any.
    """

    text: str
    end: int
    thought: str
    wording: str
    options: str

    @property
    def meta(self) -> dict[str, str]:
        """What a contrast pair keeps of this: `thought` and `chat_options`, where there is something to say."""
        return {k: v for k, v in (("thought", self.thought), ("chat_options", self.options)) if v}


@dataclass(frozen=True, kw_only=True)
class Chat:
    """How a question becomes a prompt: plain text, or the user's turn of a chat template.

    Attributes:
        model: The model whose chat template to use; `None` for plain text.
        system: A system message. It gets the system role where the chat template has one, else it precedes the user's text.
        chat: `None` uses the template if the tokenizer has one, `False` never, `True` insists.
        options: Variables of the chat template (`{"enable_thinking": False}`), the `chat_options=` of what makes prompts.

    Raises:
        BadInput: There is no chat template where one is needed, or an option that is not the caller's or cannot be kept.
        UnknownName: The chat template ignores an option.
        ControlToken: The system message holds a control token.
    """

    model: Any = None
    system: str | None = None
    chat: bool | None = None
    options: Mapping[str, Any] | None = None
    used: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "used", has_chat(self.model, self.chat))
        options = {} if self.options is None else self.options
        if not isinstance(options, Mapping) or not all(isinstance(k, str) for k in options):
            raise BadInput(f"chat_options={options!r}: names and values, as in {{'enable_thinking': False}}")
        object.__setattr__(self, "options", dict(options))
        if self.used and self.system:
            check_plain(self.model.tokenizer, self.system, "the system message")
        if options:
            self._check(options)

    def _check(self, options: Mapping[str, Any]) -> None:
        named = ", ".join(map(repr, options))
        if not self.used:
            why = "chat=False" if self.chat is False else "no model is given" if self.model is None else "its tokenizer has none"
            raise BadInput(f"chat_options are variables of a chat template, and none is used here ({why}); leave out {named}")
        try:
            json.dumps(dict(options), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise BadInput(f"chat_options are kept with the prompts as JSON: {error}") from None
        ours = [name for name in options if name in _OURS or name.endswith("_token")]
        if ours:
            raise BadInput(f"chat_options: {ours[0]!r} is set by the workbench or the tokenizer and cannot be chosen")
        reads = _variables(template_of(self.model.tokenizer))
        for name, value in options.items():
            if name not in reads or self._idle(name, value):
                there = f"it reads {', '.join(sorted(reads))}" if reads else "it reads no option"
                what = f"changes nothing with {name}={value!r}" if name in reads else f"ignores {name!r}"
                raise UnknownName(
                    f"the chat template {what}; {there}. Leave it out of chat_options: a thought that the template opens is closed anyway"
                )

    def _idle(self, name: str, value: Any) -> bool:
        """Whether a switch or a number makes no difference, whatever its value; of texts that cannot be said."""
        if not isinstance(value, bool | int | float):
            return False
        others = {k: v for k, v in (self.options or {}).items() if k != name}
        variants = [others, others | {name: value}, others | {name: not value if isinstance(value, bool) else value + 1}]
        try:
            return len({self._rendered(_PROBE, variant) for variant in variants}) == 1
        except Exception:  # the template itself objects: it reads the option
            return False

    def stem(self, user: str, tail: str, called: str = "the user's text", turns: Sequence[tuple[str, str]] = ()) -> Stem:
        """Join the system text, earlier turns, the user's text and the beginning of the answer; a thought in between is closed.

        Args:
            user: The user's text.
            tail: The text between the user's text and the answer; in a chat the beginning of the assistant's turn.
            called: What the user's text is called in messages.
            turns: What was asked and answered before; in plain text each is followed by an empty line.

        Returns:
            The stem.

        Raises:
            BadInput: The chat template changes the user's text, so that its end cannot be found, or it refuses the chat.
            ControlToken: The text holds a control token.
        """
        if not self.used:
            text = "\n\n".join([*((self.system,) if self.system else ()), *(asked + said for asked, said in turns), user])
            return Stem(text=text + tail, end=len(text), thought="", wording="", options="")
        tokenizer = self.model.tokenizer
        check_plain(tokenizer, user, called)
        check_plain(tokenizer, tail, "the beginning of the answer")
        for k, turn in enumerate(turns):
            check_plain(tokenizer, "".join(turn), f"example {k}")
        text, user_text = self._rendered(user, self.options or {}, turns), user.strip()
        place = text.rfind(user_text) if turns else self._place(text, user_text)
        place = None if place == -1 else place
        if place is None:
            raise BadInput(f"the chat template does not keep the user's text as it is ({user_text[:60]!r}); use chat=False")
        end = place + len(user_text)
        said, thought = self._thought(text[end:])
        text = text[:end] + said
        joint = "" if not tail.strip() or text[-1:].isspace() else " "
        before = text[:place].replace(self.system.strip(), "\n") if self.system and self.system.strip() else text[:place]
        return Stem(
            text=text + joint + tail.lstrip(),
            end=end,
            thought=thought,
            wording=f"{before}\n{said}",
            options=json.dumps(self.options, sort_keys=True, ensure_ascii=False) if self.options else "",
        )

    def _thought(self, opening: str) -> tuple[str, str]:
        """What the template writes behind the user's text, with its thought closed; and what was done."""
        template, shut = template_of(self.model.tokenizer), closing(opening)
        if shut.startswith("</"):
            lines = len(opening) - len(opening.rstrip("\n"))
            return f"{opening}{chr(10) * max(0, 2 - lines)}{shut}\n\n", "closed"
        if shut:
            respond = "<|START_RESPONSE|>"  # Cohere's models announce the answer too
            return opening + shut + (respond if shut == "<|END_THINKING|>" and respond in template else ""), "closed"
        if "<|channel|>" in template and opening.endswith("<|start|>assistant"):
            return opening + FINAL, "skipped"
        return opening, "skipped" if answer_of(opening).thought else ""

    def _place(self, text: str, user: str) -> int | None:
        """Where the user's text begins in a rendered chat. It may occur elsewhere too: "user" is the name of a role."""
        before, after = self._frame
        if before is not None and text.startswith(before) and text.endswith(after):
            within = text[len(before) : len(text) - len(after)]
            if within.strip() == user:
                return len(before) + len(within) - len(within.lstrip())
        place = text.rfind(user)
        return None if place < 0 else place

    @cached_property
    def _frame(self) -> tuple[str | None, str]:
        before, found, after = self._rendered(_PROBE, self.options or {}).partition(_PROBE)
        return (before, after) if found else (None, "")

    def _rendered(self, user: str, options: Mapping[str, Any], turns: Sequence[tuple[str, str]] = ()) -> str:
        from jinja2 import TemplateError

        tokenizer, system = self.model.tokenizer, self.system
        template = template_of(tokenizer)
        given: dict[str, Any] = {"date_string": _DATE, **options}
        if _NOW.search(template):
            given["chat_template"] = _NOW.sub(lambda m: repr(datetime.strptime(_DATE, "%d %b %Y").strftime(m[2])), template)

        def apply(*said: tuple[str, str]) -> str:
            messages = [{"role": role, "content": content} for role, content in said]
            return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, **given)

        before = [part for asked, said in turns for part in (("user", asked), ("assistant", said.strip()))]
        talk = [*before, ("user", user)]
        if system:
            with suppress(TemplateError):  # "System role not supported"
                text = apply(("system", system), *talk)
                if system.strip() in text:  # a template without a system role may also leave the message out in silence
                    return text
            talk[0] = ("user", f"{system}\n\n{talk[0][1]}")
        try:
            return apply(*talk)
        except TemplateError as error:
            raise BadInput(f"the chat template refuses this chat{f' with {dict(options)}' if options else ''}: {error}") from None


def has_chat(model: Any, chat: bool | None = None) -> bool:
    """Whether to use the chat template of a model.

    Args:
        model: What `load_model` returns, or `None` for plain text.
        chat: `None` uses the template if the tokenizer has one, `False` never, `True` insists.

    Raises:
        BadInput: `chat` is `True` and the tokenizer has no chat template.
    """
    there = model is not None and bool(getattr(model.tokenizer, "chat_template", None))
    if chat and not there:
        raise BadInput(
            "chat=True needs a model whose tokenizer has a chat template; " + ("pass model=…" if model is None else "use chat=None")
        )
    return there if chat is None else chat


def compose(
    user: str,
    tail: str,
    *,
    model: Any = None,
    system: str | None = None,
    chat: bool | None = None,
    chat_options: Mapping[str, Any] | None = None,
) -> tuple[str, int]:
    r"""Join the system text, the user's text and the beginning of the answer.

    Args:
        user: The user's text.
        tail: The text between the user's text and the answer ("\n\nAnswer: ("); in a chat the beginning of the assistant's
            turn.
        model: The model whose chat template to use.
        system: A system message. It gets the system role where the chat template has one, else it precedes the user's text.
        chat: As for `has_chat`.
        chat_options: Variables of the chat template, as for `Chat`.

    Returns:
        The stem, and the character offset at which the user's text ends. A thought that the chat template opens is closed.

    Raises:
        BadInput: The chat template changes the user's text, so that its end cannot be found; or as for `Chat`.
        UnknownName: The chat template ignores an option.
        ControlToken: A text holds a control token.
    """
    stem = Chat(model=model, system=system, chat=chat, options=chat_options).stem(user, tail)
    return stem.text, stem.end


def ending(stem: str, word: str) -> str:
    """Return a word as it follows a stem: without a space after an opening bracket, a quote or white space, else with one."""
    return word if stem[-1:].isspace() or stem[-1:] in _OPEN else f" {word}"


def _variables(template: str) -> set[str]:
    """The variables that a chat template reads and that a caller may set."""
    from jinja2 import Environment, TemplateError, meta

    source = re.sub(r"\{%-?\s*(?:end)?generation\s*-?%\}", "", template)
    try:
        found = meta.find_undeclared_variables(Environment(extensions=["jinja2.ext.loopcontrols"]).parse(source))
    except TemplateError as error:
        raise BadInput(f"the chat template cannot be read: {error}") from None
    return {name for name in found if name not in _OURS and not name.endswith("_token")}
