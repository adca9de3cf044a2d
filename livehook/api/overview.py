"""``GET /v1/lanes``, and ``GET /v1/status``, which ``livehook status`` shows."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request, Response

from livehook.api import bodies, openapi
from livehook.api.parameters import page
from livehook.api.ports import Overview


def router(overview: Overview) -> APIRouter:
    """The routes."""

    async def list_lanes(request: Request) -> Response:
        """How far each lane is, and what it is doing, by webhook and partition."""
        size, after = page(request)
        following = [lane for lane in await overview.lanes() if _place(lane) > after]
        next_cursor = _place(following[size - 1]) if len(following) > size else None
        return bodies.json_response({"items": following[:size], "nextCursor": next_cursor})

    async def get_status(_: Request) -> Response:
        """Lanes, topics and roles at a glance."""
        lanes, topics, roles = await asyncio.gather(overview.lanes(), overview.sizes(), overview.workers())
        return bodies.json_response({"lanes": lanes, "topics": topics, "roles": roles})

    made = APIRouter(tags=["Status"])
    made.add_api_route("/v1/lanes", list_lanes, methods=["GET"], **openapi.LIST_LANES)
    made.add_api_route("/v1/status", get_status, methods=["GET"], **openapi.STATUS)
    return made


def _place(lane: Mapping[str, Any]) -> str:
    """Where a lane stands in the list; `!` sorts before every sign of a name."""
    return f"{lane['webhook']}!{lane['partition']:02}"
