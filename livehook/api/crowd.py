"""
How many requests may be under way: each may hold a body, and without a bound whoever sends many at once decides what we take of memory.

An ASGI middleware behind the guard. Health and metrics always answer.
"""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from livehook.api.problems import Problem

UNDER_WAY_MAX = 256
AGAIN_S = 1


class Crowd:
    """
    Args:  under_way_max: requests of ``/v1`` at a time; one more is answered 503, and nothing of it is read.
    """

    def __init__(self, app: ASGIApp, *, under_way_max: int = UNDER_WAY_MAX) -> None:
        self._app = app
        self._under_way_max = under_way_max
        self._under_way = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 503."""
        if scope["type"] != "http" or not scope["path"].startswith("/v1"):
            await self._app(scope, receive, send)
            return
        if self._under_way >= self._under_way_max:
            detail = f"{self._under_way_max} requests are under way, which is all there may be; nothing of this one was done"
            response = Problem("unavailable", detail, title="Too many requests at once").response()
            response.headers["retry-after"] = str(AGAIN_S)
            await response(scope, receive, send)
            return
        self._under_way += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._under_way -= 1
