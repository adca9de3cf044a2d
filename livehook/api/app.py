"""The API, wired on one screen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse
from prometheus_client import REGISTRY, CollectorRegistry

from connectors.activity.recent import Recent
from connectors.activity.store import Activity
from livehook import __version__, health
from livehook.api import openapi, overview, problems
from livehook.api.attempts import Attempts
from livehook.api.crowd import Crowd
from livehook.api.dead_letters import DeadLetters
from livehook.api.documents import Documents
from livehook.api.guard import Guard
from livehook.api.ports import History, Overview, Producer, TestCall
from livehook.api.query import Queries
from livehook.api.redrive import Redrives
from livehook.api.register import Register
from livehook.api.replaying import Replaying
from livehook.api.replays import Replays
from livehook.api.resend import Resends
from livehook.api.webhooks import Webhooks
from schemas.webhook_checks import Checks


class Services(msgspec.Struct, frozen=True):
    """
    What the API stands on.

    new_id:       makes the id of a document that has none. now_us: µs since 1970.
    is_loopback:  it listens on a loopback address. token: needed for ``/v1``; None: none is.
    """

    producer: Producer
    mutations: str
    register: Register
    overview: Overview
    activity: Activity
    recent: Recent
    resends: Resends
    redrives: Redrives
    history: History
    replaying: Replaying
    test_call: TestCall
    checks: Checks
    health: health.Checks
    new_id: Callable[[], str]
    now_us: Callable[[], int]
    is_loopback: bool
    token: str | None
    metrics: CollectorRegistry = REGISTRY


def create_app(services: Services) -> FastAPI:
    """The ASGI app."""
    app = FastAPI(title="Livehook", version=__version__, docs_url=None, redoc_url=None, redirect_slashes=False)
    problems.install(app)
    app.add_middleware(Crowd)
    app.add_middleware(Guard, is_loopback=services.is_loopback, token=services.token)
    app.include_router(Documents(services.producer, services.mutations, services.new_id).router())
    app.include_router(Webhooks(services.register, services.checks, services.test_call, services.now_us).router())
    app.include_router(Attempts(services.activity, services.recent, services.resends, services.now_us).router())
    app.include_router(Replays(services.replaying, services.activity, services.now_us).router())
    app.include_router(DeadLetters(services.activity, services.redrives, services.now_us).router())
    app.include_router(overview.router(services.overview))
    app.include_router(Queries(services.history, services.now_us).router())
    app.router.routes += health.routes(services.health, services.metrics)
    _describe(app)
    return app


def _describe(app: FastAPI) -> None:
    """``/openapi.json`` with our schemas, and ``/docs`` made from it."""
    generate = app.openapi

    def described() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = generate()
            openapi.complete(document)
            app.openapi_schema = document
        return app.openapi_schema

    async def docs(_: Request) -> HTMLResponse:
        return HTMLResponse(openapi.page(described()))

    app.openapi = described  # type: ignore[method-assign]  # the way FastAPI documents
    app.add_route("/docs", docs, include_in_schema=False)
