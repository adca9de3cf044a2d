"""``/v1/webhooks/{name}/replay`` and ``/v1/replays``: going back, how far that is, and ending it. Resends are shown here, too."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Request, Response

from connectors.activity.model import Progress as ResendProgress
from connectors.activity.store import Activity
from livehook.api import bodies, openapi
from livehook.api.activity_input import ended
from livehook.api.parameters import name_in_path
from livehook.api.problems import Problem, not_found
from livehook.api.replay_input import asked_of
from livehook.api.replay_places import places_json
from livehook.api.replay_progress import Progress
from livehook.api.replaying import Replaying
from schemas.replays import Replay
from schemas.times import rfc3339


class Replays:
    """The endpoints."""

    def __init__(self, replaying: Replaying, activity: Activity, now_us: Callable[[], int]) -> None:
        self._replaying, self._activity, self._now_us = replaying, activity, now_us

    def router(self) -> APIRouter:
        """The routes."""
        router = APIRouter(tags=["Replays"])
        one = "/v1/replays/{id}"
        router.add_api_route("/v1/webhooks/{name}/replay", self.replay, methods=["POST"], status_code=202, **openapi.REPLAY)
        router.add_api_route(one, self.get, methods=["GET"], **openapi.GET_REPLAY)
        router.add_api_route(one, self.cancel, methods=["DELETE"], **openapi.CANCEL_REPLAY)
        return router

    async def replay(self, request: Request) -> Response:
        """Send deliveries again: all from a place on, or some."""
        name = name_in_path(request)
        asked, reader = asked_of(await bodies.read_json(request), self._now_us())
        ended(reader)
        replay, found = await self._replaying.ask(name, asked)
        answer = {
            "id": None if replay is None else replay.id,
            "deliveries": found.deliveries,
            "from": places_json(found.begin) if found.first_txn is None else {"txnId": found.first_txn},
            "until": places_json(found.until) if found.until_txn is None else {"txnId": found.until_txn},
        }
        return bodies.json_response(answer, 200 if asked.dry_run else 202)

    async def get(self, request: Request) -> Response:
        """How far a replay or a resend is."""
        id_ = request.path_params["id"]
        replay = self._replaying.get(id_)
        if replay is not None:
            return bodies.json_response(replay_json(replay, await self._replaying.progress(replay)))
        return bodies.json_response(resend_json(await self._resend(id_)))

    async def cancel(self, request: Request) -> Response:
        """End a replay before it is done."""
        id_ = request.path_params["id"]
        replay = self._replaying.get(id_)
        if replay is None:
            await self._resend(id_)
            raise Problem("conflict", f"{id_} is a resend: what it sends is in the lane already, it cannot be cancelled")
        progress = await self._replaying.progress(replay)
        return bodies.json_response(replay_json(await self._replaying.cancel(replay), progress))

    async def _resend(self, id_: str) -> ResendProgress:
        """Raises Problem: not-found."""
        progress = await asyncio.to_thread(self._activity.progress, id_)
        if progress is None:
            raise not_found(f"the replay {id_:.60}")
        return progress


def replay_json(replay: Replay, progress: Progress) -> dict[str, Any]:
    """The answer of ``GET /v1/replays/{id}``. Source: docs/reference/http-api.md."""
    return {
        "id": replay.id,
        "webhook": replay.webhook,
        "state": replay.state.value,
        "deliveries": replay.deliveries,
        "delivered": progress.delivered,
        "startedAt": rfc3339(replay.started_us),
        "endedAt": None if replay.ended_us is None else rfc3339(replay.ended_us),
    }


def resend_json(progress: ResendProgress) -> dict[str, Any]:
    """The same for a resend."""
    resend, is_done = progress.resend, progress.finished >= progress.resend.deliveries
    return {
        "id": resend.id,
        "webhook": resend.webhook,
        "state": "done" if is_done else "running",
        "deliveries": resend.deliveries,
        "delivered": progress.delivered,
        "startedAt": rfc3339(resend.started_us),
        "endedAt": rfc3339(progress.ended_us) if is_done and progress.ended_us is not None else None,
    }
