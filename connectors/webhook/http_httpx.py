"""
The sender on httpx: for calls that go through a proxy. Measured at 0.5 to 1.4 ms CPU a call; without a proxy ``http1.py`` is used.

It is the second engine of tests/contract/test_sender.py as well: a rule that both keep is a rule of HTTP, not of one implementation. By
itself it calls any address: engines.py puts the egress rules before it.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from types import MappingProxyType
from typing import Any

import h11
import httpx

from connectors.webhook.calls import Failure, Request, Response, unsendable
from connectors.webhook.http import IDLE_S_MAX, READ_BYTES_MAX, text_of
from connectors.webhook.tls import trusted
from schemas.attempts import BODY_BYTES_MAX, ErrorCode

logger = logging.getLogger(__name__)

IDLE_MAX = 256
CLOSE_S_MAX = 2.0


class HttpxSender:
    """
    The sender on httpx: HTTP/1.1, a pool of one connection for each call under way.

    One pool shared by many calls searches all its connections at every call; so a pool here is small, used by one call at a time, and
    kept for a few seconds for the next call to the same origin.

    Args:  tls: None: this machine's authorities. proxy: URL of the HTTP proxy for all calls, with credentials if it wants any.
    """

    def __init__(self, *, tls: ssl.SSLContext | None = None, proxy: str | None = None) -> None:
        self._tls = trusted() if tls is None else tls
        self._proxy = None if proxy is None else httpx.Proxy(proxy, ssl_context=trusted() if proxy.startswith("https:") else None)
        self._idle = _Idle()

    async def send(self, request: Request, *, timeout_s: float) -> Response | Failure:
        """Send it once and wait for the whole answer."""
        if (why := unsendable(request)) is not None:
            return Failure(ErrorCode.TEMPLATE, why)
        try:
            call = _call(request)
        except (httpx.InvalidURL, ValueError, TypeError) as error:
            return _refused(error)
        origin = (call.url.scheme, call.url.host, call.url.port, request.identity)
        pool = self._idle.take(origin) or self._pool(request.identity or self._tls)
        reusable = False
        try:
            async with asyncio.timeout(timeout_s):
                response = await _exchange(pool, call)
            if response.status == 101:
                return Failure(ErrorCode.PROTOCOL, "the receiver wants to change the protocol, which nobody asked for")
            reusable = not _has_surplus(pool)
        except TimeoutError:
            return Failure(ErrorCode.TIMEOUT, f"no whole answer within {timeout_s:g} s")
        except (httpx.TransportError, OSError) as error:
            return _failure(error)
        finally:
            await self._idle.put(origin, pool) if reusable else await _close(pool)
        return response

    async def close(self) -> None:
        """Close the connections that are idle."""
        await self._idle.close()

    def _pool(self, tls: ssl.SSLContext) -> httpx.AsyncHTTPTransport:
        limits = httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=IDLE_S_MAX)
        return httpx.AsyncHTTPTransport(verify=tls, trust_env=False, limits=limits, proxy=self._proxy)


Origin = tuple[str, str, int | None, ssl.SSLContext | None]


class _Idle:
    """Pools between two calls: the last one used goes first, the oldest is closed when there are too many or it is too old."""

    def __init__(self) -> None:
        self._by_origin: dict[Origin, list[httpx.AsyncHTTPTransport]] = {}
        self._since: dict[httpx.AsyncHTTPTransport, tuple[float, Origin]] = {}  # oldest first

    def take(self, origin: Origin) -> httpx.AsyncHTTPTransport | None:
        pools = self._by_origin.get(origin)
        if not pools:
            return None
        pool = pools.pop()
        if not pools:
            del self._by_origin[origin]
        del self._since[pool]
        return pool

    async def put(self, origin: Origin, pool: httpx.AsyncHTTPTransport) -> None:
        now = time.monotonic()
        self._by_origin.setdefault(origin, []).append(pool)
        self._since[pool] = now, origin
        # While one is being closed, other calls take pools away: perhaps all of them.
        while self._since and (len(self._since) > IDLE_MAX or next(iter(self._since.values()))[0] < now - IDLE_S_MAX):
            await self._close_oldest()

    async def close(self) -> None:
        while self._since:
            await self._close_oldest()

    async def _close_oldest(self) -> None:
        pool, (_, origin) = next(iter(self._since.items()))
        del self._since[pool]
        pools = self._by_origin[origin]
        pools.remove(pool)
        if not pools:
            del self._by_origin[origin]
        await _close(pool)


def _call(request: Request) -> httpx.Request:
    # An answer that is packed anyway is kept as it came: nothing is ever unpacked here.
    headers = [*request.headers, ("accept", "*/*"), ("accept-encoding", "identity")]
    return httpx.Request(request.method, request.url, headers=headers, content=request.body, extensions={"timeout": _NO_OTHER_TIMEOUT})


_NO_OTHER_TIMEOUT: MappingProxyType[str, float | None] = MappingProxyType({})


async def _exchange(pool: httpx.AsyncHTTPTransport, call: httpx.Request) -> Response:
    answer = await pool.handle_async_request(call)
    try:
        body, truncated = await _body(answer.stream)  # type: ignore[arg-type]
    finally:
        await answer.aclose()
    headers = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in answer.headers.raw)
    return Response(answer.status_code, headers, body, truncated)


async def _body(stream: AsyncIterator[bytes]) -> tuple[bytes, bool]:
    kept = bytearray()
    read = 0
    async for part in stream:
        read += len(part)
        kept += part[: BODY_BYTES_MAX - len(kept)]
        if read > READ_BYTES_MAX:
            break
    return bytes(kept), read > len(kept)


def _has_surplus(pool: Any) -> bool:
    """
    Whether more came than the answer: the next call would take it for its own.

    httpcore keeps what came in the same piece as the answer's end for the next one, and has no public way to see it.
    """
    return any(_h11_of(connection).trailing_data[0] for connection in pool._pool.connections)


def _h11_of(connection: Any) -> h11.Connection:
    """Behind one more layer where a proxy stands between."""
    while not hasattr(connection, "_h11_state"):
        connection = connection._connection
    state: h11.Connection = connection._h11_state
    return state


async def _close(pool: httpx.AsyncHTTPTransport) -> None:
    try:
        async with asyncio.timeout(CLOSE_S_MAX):
            await pool.aclose()
    except (httpx.TransportError, OSError) as error:  # TimeoutError is an OSError
        logger.debug("a connection did not close cleanly: %s", type(error).__name__)


def _failure(error: Exception) -> Failure:
    causes = list(_causes(error))
    if isinstance(error, httpx.UnsupportedProtocol | httpx.LocalProtocolError):
        return _refused(error)
    if isinstance(error, httpx.TimeoutException):
        return Failure(ErrorCode.TIMEOUT, type(error).__name__)
    if isinstance(error, httpx.ConnectError):
        return _unconnected(error, causes)
    if isinstance(error, httpx.ProxyError):
        return Failure(ErrorCode.CONNECT, f"the proxy does not connect: {text_of(error)}")
    if isinstance(error, httpx.RemoteProtocolError):
        return _unreadable(error, causes)
    return Failure(ErrorCode.RESET, f"the connection was lost: {text_of(error)}")


def _refused(error: Exception) -> Failure:
    # Its text may show a header of the user's, which may be a secret.
    return Failure(ErrorCode.TEMPLATE, f"the request cannot be sent: {type(error).__name__}")


def _unconnected(error: Exception, causes: list[BaseException]) -> Failure:
    for cause in causes:
        if isinstance(cause, ssl.SSLError):
            return Failure(ErrorCode.TLS, text_of(cause))
        if isinstance(cause, socket.gaierror):
            return Failure(ErrorCode.DNS, text_of(cause))
    return Failure(ErrorCode.CONNECT, text_of(error))


def _unreadable(error: Exception, causes: list[BaseException]) -> Failure:
    if any(isinstance(cause, h11.RemoteProtocolError) and cause.error_status_hint == 431 for cause in causes):
        return Failure(ErrorCode.TOO_LARGE, "the head of the answer is too large")
    text = text_of(error)
    # httpcore and h11 tell the end of a connection from bad bytes only in words.
    if text.startswith(("Server disconnected", "peer closed connection")):
        return Failure(ErrorCode.RESET, text)
    return Failure(ErrorCode.PROTOCOL, text)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
