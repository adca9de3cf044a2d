"""``/v1/attempts``: what was sent and what came of it, and sending it again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from fastapi import APIRouter, Request, Response

from connectors.activity.matching import selects
from connectors.activity.recent import Recent
from connectors.activity.store import Activity
from livehook.api import bodies, openapi
from livehook.api.activity_input import attempt_filters, cursor_of, ended, number_of, query_reader
from livehook.api.parameters import limit
from livehook.api.problems import not_found
from livehook.api.resend import Resends, Resent
from schemas.attempt_json import attempt_json
from schemas.attempts import Attempt
from schemas.errors import FieldError
from schemas.reader import Reader
from schemas.records import decode_attempt

NUMBER_DIGITS_MAX = 18


class Attempts:
    """The endpoints."""

    def __init__(self, activity: Activity, recent: Recent, resends: Resends, now_us: Callable[[], int]) -> None:
        self._activity, self._recent, self._resends, self._now_us = activity, recent, resends, now_us

    def router(self) -> APIRouter:
        """The routes."""
        router = APIRouter(tags=["Attempts"])
        router.add_api_route("/v1/attempts", self.list, methods=["GET"], **openapi.LIST_ATTEMPTS)
        router.add_api_route("/v1/attempts/resend", self.resend_many, methods=["POST"], status_code=202, **openapi.RESEND_MANY)
        router.add_api_route("/v1/attempts/{id}", self.get, methods=["GET"], **openapi.GET_ATTEMPT)
        router.add_api_route("/v1/attempts/{id}/resend", self.resend, methods=["POST"], status_code=202, **openapi.RESEND)
        return router

    async def list(self, request: Request) -> Response:
        """The attempts that the filters select, newest first; with ``follow`` in the order in which they come, from now on."""
        size, errors = limit(request), list[FieldError]()
        reader = query_reader(request.query_params, errors)
        filters = attempt_filters(reader, self._now_us())
        ended(reader)
        following = request.query_params.get("follow")
        if following is not None:
            number = self._followed(following)
            come = self._recent.since(number, size)
            attempts = [attempt for attempt in (decode_attempt(value) for _, value in come) if selects(filters, attempt)]
            return _page(attempts, f"{self._recent.token}.{come[-1][0] + 1 if come else number}")
        cursor = request.query_params.get("cursor")
        before = number_of(cursor) if cursor else None
        page = await asyncio.to_thread(self._activity.attempts, filters, limit=size, before=before)
        return _page(page.items, None if page.cursor is None else cursor_of(page.cursor))

    async def get(self, request: Request) -> Response:
        """One attempt, with request and response."""
        return bodies.json_response(attempt_json(await self._found(request)))

    async def resend(self, request: Request) -> Response:
        """Send the delivery again, and all later ones of its document."""
        reader = Reader(await bodies.read_json(request, empty={}), "", [])
        only = reader.truth("only")
        ended(reader)
        return _resent(await self._resends.one(await self._found(request), only=only), 202)

    async def resend_many(self, request: Request) -> Response:
        """Send the deliveries of the attempts that the filters select again, and all later ones of their documents."""
        reader = Reader(await bodies.read_json(request), "", [])
        filters = attempt_filters(reader, self._now_us())
        only, dry_run = reader.truth("only"), reader.truth("dryRun")
        ended(reader)
        resent = await self._resends.many(filters, only=only, dry_run=dry_run)
        return _resent(resent, 200 if dry_run else 202)

    async def _found(self, request: Request) -> Attempt:
        """Raises Problem: not-found."""
        id_ = request.path_params["id"]
        attempt = await asyncio.to_thread(self._activity.attempt, id_)
        if attempt is None:
            raise not_found(f"the attempt {id_:.60}")
        return attempt

    def _followed(self, cursor: str) -> int:
        """The number to go on with; of another process, or an earlier life of this one: from now on."""
        token, _, number = cursor.partition(".")
        is_ours = token == self._recent.token and number.isdecimal() and len(number) <= NUMBER_DIGITS_MAX
        return int(number) if is_ours else self._recent.end


def _page(attempts: Sequence[Attempt], cursor: str | None) -> Response:
    return bodies.json_response({"items": [attempt_json(attempt, in_full=False) for attempt in attempts], "nextCursor": cursor})


def _resent(resent: Resent, status: int) -> Response:
    answer = {"id": resent.id, "deliveries": resent.deliveries, "from": resent.begin, "until": resent.until}
    return bodies.json_response(answer, status)
