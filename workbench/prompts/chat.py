"""One question as the model should read it: plain text, or the user's turn of the tokenizer's chat template."""

from __future__ import annotations

from typing import Any

from ..core.errors import BadInput

# Some templates write today's date into the system turn; a prompt set must hash alike tomorrow.
_DATE = "26 Jul 2024"
_OPEN = "([{\"'“‘"


def has_chat(model: Any, chat: bool | None = None) -> bool:
    """Return whether to use the chat template of a model.

    Args:
        model: The model, or `None` for plain text.
        chat: `None` for "if its tokenizer has one"; `False` never; `True` insists.

    Raises:
        BadInput: A template was insisted on and there is none.
    """
    there = model is not None and bool(getattr(model.tokenizer, "chat_template", None))
    if chat and not there:
        raise BadInput(
            "chat=True needs a model whose tokenizer has a chat template; " + ("pass model=…" if model is None else "use chat=None")
        )
    return there if chat is None else chat


def compose(user: str, tail: str, *, model: Any = None, system: str | None = None, chat: bool | None = None) -> tuple[str, int]:
    r"""Put system text, the user's text and the beginning of the answer together.

    Args:
        user: What the user says.
        tail: What stands between it and the answer ("\n\nAnswer: ("); in a chat the beginning of the assistant's turn.
        model: Whose chat template to use.
        system: A system message: the system role where the chat template takes one, else in front of the user's text.
        chat: As for `has_chat`.

    Returns:
        The stem, and the character offset at which the user's text ends.

    Raises:
        BadInput: The chat template changes the user's text, so that its end cannot be found.
    """
    if not has_chat(model, chat):
        text = f"{system}\n\n{user}" if system else user
        return text + tail, len(text)
    text, said = _rendered(model.tokenizer, user, system), user.strip()
    place = text.rfind(said)
    if place < 0:
        raise BadInput(f"the chat template does not keep the user's text as it is ({said[:60]!r}); use chat=False")
    joint = "" if not tail.strip() or text[-1:].isspace() else " "
    return text + joint + tail.lstrip(), place + len(said)


def _rendered(tokenizer: Any, user: str, system: str | None) -> str:
    from jinja2 import TemplateError

    def apply(*turns: tuple[str, str]) -> str:
        messages = [{"role": role, "content": content} for role, content in turns]
        return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, date_string=_DATE)

    if not system:
        return apply(("user", user))
    try:
        text = apply(("system", system), ("user", user))
    except TemplateError:  # "System role not supported"
        text = ""
    # a template without a system role may also leave the message out in silence
    return text if system.strip() in text else apply(("user", f"{system}\n\n{user}"))


def ending(stem: str, word: str) -> str:
    """Return a word as it follows a stem: at once after an opening bracket, a quote or white space, else after a space."""
    return word if stem[-1:].isspace() or stem[-1:] in _OPEN else f" {word}"
