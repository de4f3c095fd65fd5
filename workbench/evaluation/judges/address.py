"""Addresses of endpoints: which may be sent a key, and which need none."""

from __future__ import annotations

import ipaddress
import socket

import httpx2

from ...core.errors import BadInput
from .base import MissingKey

TAIL = "/chat/completions"


def _number(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that a host is, however it is written (also 2130706433, 0x7f.1, ::ffff:127.0.0.1); `None` for a name."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        try:
            return ipaddress.IPv4Address(socket.inet_aton(host))
        except OSError:
            return None
    return getattr(address, "ipv4_mapped", None) or address


def _here(host: str) -> bool:
    """Whether a host is this machine."""
    number = _number(host)
    return number.is_loopback if number else host == "localhost"


def _near(host: str) -> bool:
    """Whether a host is on this machine or a local network."""
    number = _number(host)
    return number.is_private if number else "." not in host or host.endswith((".local", ".internal", ".lan"))


def _parsed(url: str, name: str) -> httpx2.URL:
    try:
        return httpx2.URL(url)
    except (httpx2.InvalidURL, TypeError, ValueError):
        raise BadInput(f"{name}: no address of a web endpoint; it looks like https://host/v1") from None


def checked_url(url: str, key_variable: str | None) -> str:
    """Return the full address of an endpoint; no message shows an address that might hold a password.

    Args:
        url: Its address, with or without `/chat/completions`.
        key_variable: Environment variable of the key, or `None` where no key is sent.

    Raises:
        BadInput: No such address, one that carries a secret, or one that would carry the key in the clear.
        MissingKey: No key, for an endpoint that is not on this machine.
    """
    parsed = _parsed(url, "url")
    host = parsed.raw_host.decode("ascii")
    if parsed.userinfo or parsed.query or parsed.fragment:
        raise BadInput(f"url: give the address of {host} without user, password, query or fragment; the key goes into the environment")
    if parsed.scheme not in ("http", "https") or not host:
        raise BadInput(f"url={url!r}: no address of a web endpoint; it looks like https://host/v1")
    if key_variable is None and not _here(host):
        raise MissingKey(f"{host} is not this machine: name the environment variable of its key with key_variable=")
    if parsed.scheme == "http" and not _near(host):
        raise BadInput(f"http would send the key to {host} in the clear; use https")
    path = parsed.path.rstrip("/")
    return str(parsed.copy_with(path=path if path.endswith(TAIL) else f"{path}{TAIL}"))


def checked_proxy(proxy: str, variable: str) -> str:
    """Return the address of a proxy, which may hold a password and is never shown.

    Args:
        proxy: Its address.
        variable: The environment variable that holds it.

    Raises:
        BadInput: No such address.
    """
    parsed = _parsed(proxy, variable)
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise BadInput(f"{variable}: no address of a proxy; it looks like http://host:3128")
    return proxy
