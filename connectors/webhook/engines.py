"""
Which engine makes the calls: ours, or httpx through a proxy where the settings name one. Used by the roles.

Without a proxy every address is checked when it is dialled (dial.py). A proxy looks names up and dials by itself: here the scheme, the
port and every address that stands in the URL are checked, and what a name leads to is the proxy's to refuse.
"""

from __future__ import annotations

from collections.abc import Callable

import httpx

from connectors.webhook.calls import Failure, Request, Response
from connectors.webhook.dial import Dialler, Refused
from connectors.webhook.egress import Class, Rules
from connectors.webhook.http import Sender
from connectors.webhook.http1 import Http1Sender
from connectors.webhook.http_httpx import HttpxSender
from schemas.attempts import ErrorCode

_PORTS = {"http": 80, "https": 443}


def make_engine(rules: Rules, *, proxy: str | None, refused: Callable[[Class], None]) -> Sender:
    """
    The sender of a role.

    Args:  proxy: URL of a proxy, or None. refused: told of every target that may not be called.
    """
    if proxy is None:
        return Http1Sender(Dialler(rules, refused=refused))
    return GuardedSender(HttpxSender(proxy=proxy), rules, refused=refused)


class GuardedSender:
    """Checks, before each call, what can be checked without a look-up."""

    def __init__(self, sender: Sender, rules: Rules, *, refused: Callable[[Class], None] = lambda found: None) -> None:
        self._sender, self._rules, self._refused = sender, rules, refused

    async def send(self, request: Request, *, timeout_s: float) -> Response | Failure:
        """Send it once and wait for the whole answer."""
        if (found := self._class_of(request.url)) is None:
            return await self._sender.send(request, timeout_s=timeout_s)
        self._refused(found)
        return Failure(ErrorCode.EGRESS, str(Refused(found)))

    async def close(self) -> None:
        """Close the connections that are idle."""
        await self._sender.close()

    def _class_of(self, text: str) -> Class | None:
        try:
            url = httpx.URL(text)  # as the sender reads it: two readers of URLs may differ in where a host ends
        except (httpx.InvalidURL, TypeError):
            return None  # the sender says what is wrong with it
        port = url.port or _PORTS.get(url.scheme, 0)
        return self._rules.refused_call(is_tls=url.scheme == "https", port=port) or self._rules.refused_host(url.host)
