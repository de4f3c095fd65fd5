"""Addresses of endpoints: which may be sent a key, and which need none."""

from __future__ import annotations

import ipaddress

import httpx

from ...core.errors import BadInput
from .base import MissingKey


def is_loopback(host: str) -> bool:
    """Whether a host is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _near(host: str) -> bool:
    """Whether a host is on this machine or a local network."""
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return "." not in host or host.endswith((".local", ".internal", ".lan"))


def checked_url(url: str, key_variable: str | None) -> str:
    """Return the full address of an endpoint; no message shows an address that might hold a password.

    Args:
        url: Its address, with or without `/chat/completions`.
        key_variable: Environment variable of the key, or `None` where no key is sent.

    Raises:
        BadInput: No such address, one that carries a secret, or one that would carry the key in the clear.
        MissingKey: No key, for an endpoint that is not on this machine.
    """
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, TypeError):
        raise BadInput("url: no address of a web endpoint; it looks like https://host/v1") from None
    if parsed.userinfo or parsed.query or parsed.fragment:
        raise BadInput(
            f"url: give the address of {parsed.host} without user, password, query or fragment; the key goes into the environment"
        )
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise BadInput(f"url={url!r}: no address of a web endpoint; it looks like https://host/v1")
    if key_variable is None and not is_loopback(parsed.host):
        raise MissingKey(f"{parsed.host} is not this machine: name the environment variable of its key with key_variable=")
    if parsed.scheme == "http" and not _near(parsed.host):
        raise BadInput(f"http would send the key to {parsed.host} in the clear; use https")
    path = parsed.path.rstrip("/")
    return str(parsed.copy_with(path=path if path.endswith("/chat/completions") else f"{path}/chat/completions"))
