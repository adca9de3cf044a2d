"""
``/livez /readyz /metrics /version`` of every role, and the server they stand on.

A role that is no API serves just these (and what it adds); the API mounts the same routes.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
import uvicorn
from prometheus_client import REGISTRY, CollectorRegistry, disable_created_metrics
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from livehook import __version__

logger = logging.getLogger(__name__)

LISTEN_FD = "LIVEHOOK_LISTEN_FD"  # a socket that listens already, handed over by `livehook dev`
DRAIN_S_MAX = 5
BACKLOG = 1_024
PATHS = ("/livez", "/readyz", "/metrics", "/version")

Checks = Mapping[str, Callable[[], str]]
"""What must be well for a role to be ready: each answers ``ok``, or why not, at once."""


class PortInUse(OSError):
    """Somebody else listens there; the message is one line that says what to do."""


def listen(host: str, port: int, *, environment: Mapping[str, str] = os.environ) -> socket.socket:
    """
    A socket that listens on ``host`` and ``port`` (0: any free one), or the one that our parent hands over.

    Raises:  PortInUse; OSError: the host is none of this machine's.
    """
    if (fd := environment.get(LISTEN_FD)) is not None:
        return socket.socket(fileno=int(fd))
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        if error.errno is not None and "in use" in os.strerror(error.errno):
            raise PortInUse(f"port {port} is in use: stop what uses it, or choose another one with --port") from error
        raise
    return sock


def address(sock: socket.socket) -> str:
    """``http://host:port`` at which others reach the socket; a wildcard becomes this machine's name."""
    host, port = sock.getsockname()[:2]
    if ipaddress.ip_address(host).is_unspecified:
        host = socket.gethostname()
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def routes(checks: Checks, registry: CollectorRegistry = REGISTRY, alive: Checks | None = None) -> list[BaseRoute]:
    """The routes that every role has; ``alive``: what else than answering at all makes it alive."""
    # A series beside every counter and histogram says when it began: no metric of ours, and as many again for Prometheus to keep.
    disable_created_metrics()  # type: ignore[no-untyped-call]

    async def livez(_: Request) -> Response:
        return _checked(alive or {})

    async def readyz(_: Request) -> Response:
        return _checked(checks)

    async def metrics(request: Request) -> Response:
        encode, media_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), headers={"content-type": media_type})

    async def version(_: Request) -> Response:
        return _json({"version": __version__})

    return [Route(path, endpoint) for path, endpoint in zip(PATHS, (livez, readyz, metrics, version), strict=True)]


def app(checks: Checks, extra: Sequence[BaseRoute] = (), registry: CollectorRegistry = REGISTRY, alive: Checks | None = None) -> ASGIApp:
    """The app of a role that is no API."""
    return Starlette(routes=[*routes(checks, registry, alive), *extra])


class Gate:
    """
    What a role serves from its first moment on.

    Health is answered at once: first that it is starting, then by the role. Everything else waits until the role has started, so that a
    caller of a role that is started again is not refused.
    """

    def __init__(self) -> None:
        self._opened = asyncio.Event()
        self._app: ASGIApp
        self.wait("role", "starting")

    def wait(self, check: str, why: str) -> None:
        """Not ready, for this reason."""
        self._app = app({check: lambda: why}, registry=CollectorRegistry())

    def show(self, app: ASGIApp) -> None:
        """The role's own health from now on."""
        self._app = app

    def open(self) -> None:
        """It has started: everything is the role's."""
        self._opened.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope.get("path") not in PATHS:
            await self._opened.wait()
        await self._app(scope, receive, send)


def _checked(checks: Checks) -> Response:
    found = {name: check() for name, check in checks.items()}
    is_ok = all(answer == "ok" for answer in found.values())
    return _json({"status": "ok" if is_ok else "failing", "checks": found}, 200 if is_ok else 503)


def _json(value: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: roles have their own, and end in an order of their own."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Serving:
    """A server that runs until it is stopped."""

    def __init__(self, asgi: ASGIApp, sock: socket.socket) -> None:
        config = uvicorn.Config(
            asgi,
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            ws="none",
            lifespan="off",
            backlog=BACKLOG,
            timeout_graceful_shutdown=DRAIN_S_MAX,
        )
        self._server = _Server(config)
        self._sock = sock
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Answer from now on; must be called inside a running loop."""
        self._task = asyncio.create_task(self._server.serve(sockets=[self._sock]), name="http")
        logger.info("listening on %s", address(self._sock))

    async def stop(self) -> None:
        """Finish the requests under way, for a while, and end."""
        self._server.should_exit = True
        if self._task is not None:
            await self._task
