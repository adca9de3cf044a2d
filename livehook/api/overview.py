"""``GET /v1/lanes``, and ``GET /v1/status``, which ``livehook status`` shows."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request, Response

from livehook.api import bodies, openapi
from livehook.api.ports import Overview


def router(overview: Overview) -> APIRouter:
    """The routes."""

    async def list_lanes(_: Request) -> Response:
        """How far each lane is, and what it is doing."""
        return bodies.json_response({"items": await overview.lanes(), "nextCursor": None})

    async def get_status(_: Request) -> Response:
        """Lanes, topics and roles at a glance."""
        lanes, topics, roles = await asyncio.gather(overview.lanes(), overview.sizes(), overview.workers())
        return bodies.json_response({"lanes": lanes, "topics": topics, "roles": roles})

    made = APIRouter(tags=["Status"])
    made.add_api_route("/v1/lanes", list_lanes, methods=["GET"], **openapi.LIST_LANES)
    made.add_api_route("/v1/status", get_status, methods=["GET"], **openapi.STATUS)
    return made
