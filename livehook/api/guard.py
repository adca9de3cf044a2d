"""
Who may call: on loopback whoever names it so, elsewhere whoever has the token. An ASGI middleware in front of everything.

A web page can make a browser call 127.0.0.1, and by DNS rebinding even read the answers; it cannot make it send a loopback Host header for
a name of its own, nor hide where a call comes from (Origin).
"""

from __future__ import annotations

import hmac
import ipaddress
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from livehook.api.problems import Problem

READING = frozenset({"GET", "HEAD", "OPTIONS"})


class Guard:
    """
    Args:  is_loopback: we listen on a loopback address. token: needed for ``/v1``; None: none is.
    """

    def __init__(self, app: ASGIApp, *, is_loopback: bool, token: str | None) -> None:
        self._app = app
        self._is_loopback = is_loopback
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 401 or 403."""
        if scope["type"] == "http":
            problem = self._refused(scope["method"], scope["path"], Headers(scope=scope))
            if problem is not None:
                await problem.response()(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _refused(self, method: str, path: str, headers: Headers) -> Problem | None:
        host = headers.get("host", "")
        if self._is_loopback and not is_loopback(host_of(host)):
            return Problem("forbidden", "the Host header names no loopback address, so this may be another site's page: use 127.0.0.1")
        origin = headers.get("origin")
        if origin is not None and method not in READING and _netloc(origin) != host.lower():
            return Problem("forbidden", "the call comes from another site's page")
        if self._token is not None and path.startswith("/v1") and not self._has_token(headers):
            return Problem("unauthorized", "the header Authorization: Bearer <token> is missing or wrong")
        return None

    def _has_token(self, headers: Headers) -> bool:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(token.strip().encode(), (self._token or "").encode())


def _netloc(origin: str) -> str | None:
    """Host and port of a page; None: it is no URL."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return None


def host_of(netloc: str) -> str:
    """The host of ``host:port``, without the brackets of an IPv6 address."""
    try:
        return urlsplit(f"//{netloc}").hostname or ""
    except ValueError:
        return ""


def is_loopback(host: str) -> bool:
    """Whether a host name means this machine, without asking anybody."""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
