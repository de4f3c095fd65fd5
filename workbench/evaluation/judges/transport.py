"""Connections to an endpoint: each try is bounded in time and in size, down to the last byte."""

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Callable, Iterable
from typing import Any

import httpcore2
import httpx2

MOST = 2**21  # bytes of a response, as sent and after decompression
_MOST_OF_AN_ERROR = 2**16
_GZIP_OR_ZLIB = 47  # window bits of zlib that recognise both


class _Stream(httpcore2.NetworkStream):
    """A connection that reads and writes no longer than is left of a try; the timeouts of httpx hold for each read alone."""

    def __init__(self, stream: httpcore2.NetworkStream, left: Callable[[], float]) -> None:
        self._stream, self._left = stream, left

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._left())

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._left())

    def start_tls(self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None) -> httpcore2.NetworkStream:
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, self._left()), self._left)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)

    def close(self) -> None:
        self._stream.close()


class _Network(httpcore2.NetworkBackend):
    def __init__(self, network: httpcore2.NetworkBackend, left: Callable[[], float]) -> None:
        self._network, self._left = network, left

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:
        return _Stream(self._network.connect_tcp(host, port, self._left(), local_address, socket_options), self._left)


class Connections(httpx2.HTTPTransport):
    """Connections of several threads.

    Args:
        most: Connections at once.
        proxy: Address of a proxy; those that the environment names are not used.
    """

    def __init__(self, most: int, proxy: str | None = None) -> None:
        super().__init__(limits=httpx2.Limits(max_connections=most), proxy=proxy)
        self._now = threading.local()
        self._pool._network_backend = _Network(self._pool._network_backend, self._left)

    def fetch(self, request: httpx2.Request, seconds: float) -> tuple[int, httpx2.Headers, bytes, bool]:
        """Send a request and read the response.

        Args:
            request: What is sent.
            seconds: Most that this may take in all.

        Returns:
            Status, headers, body (decompressed), and whether the body is whole: one of more than `MOST` bytes (64 KiB for an error)
            is cut there, and the rest is neither read nor decompressed.
        """
        self._now.ends = time.monotonic() + seconds
        request.extensions["timeout"] = {"pool": seconds}
        response = self.handle_request(request)
        try:
            return response.status_code, response.headers, *_body(response)
        finally:
            response.close()

    def _left(self) -> float:
        left = self._now.ends - time.monotonic()
        if left <= 0:
            raise httpcore2.ReadTimeout("the response takes too long")
        return left


def _body(response: httpx2.Response) -> tuple[bytes, bool]:
    coding = response.headers.get("content-encoding", "").strip().lower()
    if coding not in ("", "identity", "gzip", "deflate"):
        raise httpx2.DecodingError(f"the response is compressed as {coding!r}, which was not asked for")
    inflate = zlib.decompressobj(_GZIP_OR_ZLIB) if coding in ("gzip", "deflate") else None
    body, sent, most = bytearray(), 0, MOST if response.is_success else _MOST_OF_AN_ERROR
    assert isinstance(response.stream, httpx2.SyncByteStream)
    for chunk in response.stream:
        sent += len(chunk)
        try:
            body += inflate.decompress(chunk, most + 1 - len(body)) if inflate else chunk
        except zlib.error:
            raise httpx2.DecodingError(f"the response is not {coding}, as it says") from None
        if max(sent, len(body)) > most:
            return bytes(body[:most]), False
    if inflate and sent and not inflate.eof:
        raise httpx2.DecodingError(f"the response ends within its {coding} data")
    return bytes(body), True
