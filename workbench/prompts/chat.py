"""Questions as plain text, or as the user's turn of the tokenizer's chat template."""

from __future__ import annotations

from typing import Any

from ..core.errors import BadInput

# some templates write today's date into the system turn; a fixed date keeps the hash of a prompt set the same every day
_DATE = "26 Jul 2024"
_OPEN = "([{\"'“‘"


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


def compose(user: str, tail: str, *, model: Any = None, system: str | None = None, chat: bool | None = None) -> tuple[str, int]:
    r"""Join the system text, the user's text and the beginning of the answer.

    Args:
        user: The user's text.
        tail: The text between the user's text and the answer ("\n\nAnswer: ("); in a chat the beginning of the assistant's
            turn.
        model: The model whose chat template to use.
        system: A system message. It gets the system role where the chat template has one, else it precedes the user's text.
        chat: As for `has_chat`.

    Returns:
        The stem, and the character offset at which the user's text ends.

    Raises:
        BadInput: The chat template changes the user's text, so that its end cannot be found.
    """
    if not has_chat(model, chat):
        text = f"{system}\n\n{user}" if system else user
        return text + tail, len(text)
    text, user_text = _rendered(model.tokenizer, user, system), user.strip()
    place = text.rfind(user_text)
    if place < 0:
        raise BadInput(f"the chat template does not keep the user's text as it is ({user_text[:60]!r}); use chat=False")
    joint = "" if not tail.strip() or text[-1:].isspace() else " "
    return text + joint + tail.lstrip(), place + len(user_text)


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
    """Return a word as it follows a stem: without a space after an opening bracket, a quote or white space, else with one."""
    return word if stem[-1:].isspace() or stem[-1:] in _OPEN else f" {word}"
