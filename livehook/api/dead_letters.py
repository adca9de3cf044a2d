"""``/v1/dead-letters``: what could not be applied or delivered, and what to do with it."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Request, Response

from connectors.activity.model import Letter, LetterPage
from connectors.activity.store import Activity
from livehook.api import bodies, openapi
from livehook.api.activity_input import ended, letter_filters, query_reader
from livehook.api.parameters import limit
from livehook.api.problems import Problem, invalid_field, not_found
from livehook.api.redrive import Redrives
from schemas import strict_json
from schemas.dead_letters import letter_id, letter_place
from schemas.deliveries import Delivery
from schemas.errors import BadRecord, FieldError
from schemas.mutations import Mutation
from schemas.positions import Position
from schemas.reader import Reader, shown
from schemas.records import decode_delivery, decode_mutation
from schemas.times import rfc3339

REDRIVEN_MAX = 100  # at once: each delivery looks through its lane


class DeadLetters:
    """The endpoints."""

    def __init__(self, activity: Activity, redrives: Redrives, now_us: Callable[[], int]) -> None:
        self._activity, self._redrives, self._now_us = activity, redrives, now_us

    def router(self) -> APIRouter:
        """The routes."""
        router = APIRouter(tags=["Dead letters"])
        one = "/v1/dead-letters/{id}"
        router.add_api_route("/v1/dead-letters", self.list, methods=["GET"], **openapi.LIST_LETTERS)
        router.add_api_route("/v1/dead-letters/redrive", self.redrive_many, methods=["POST"], status_code=202, **openapi.REDRIVE_MANY)
        router.add_api_route(one, self.get, methods=["GET"], **openapi.GET_LETTER)
        router.add_api_route(one, self.delete, methods=["DELETE"], status_code=204, **openapi.DELETE_LETTER)
        router.add_api_route(f"{one}/redrive", self.redrive, methods=["POST"], status_code=202, **openapi.REDRIVE)
        return router

    async def list(self, request: Request) -> Response:
        """The dead letters that the filters select, newest first."""
        size, errors = limit(request), list[FieldError]()
        reader = query_reader(request.query_params, errors)
        filters = letter_filters(reader, self._now_us())
        ended(reader)
        beyond = _cursor(request.query_params.get("cursor"))
        page = await asyncio.to_thread(self._activity.letters, filters, limit=size, beyond=beyond)
        return bodies.json_response({"items": [letter_json(letter) for letter in page.items], "nextCursor": _next_cursor(page)})

    async def get(self, request: Request) -> Response:
        """One dead letter."""
        return bodies.json_response(letter_json(await self._found(request)))

    async def delete(self, request: Request) -> Response:
        """Discard it."""
        await self._redrives.discard(await self._found(request))
        return Response(status_code=204)

    async def redrive(self, request: Request) -> Response:
        """Send it on its way again."""
        redriven = await self._redrives.redrive([(await self._found(request)).place])
        if redriven.left:
            raise Problem("conflict", redriven.left[0].detail)
        return bodies.json_response({"redriven": redriven.redriven, "left": [], "nextCursor": None}, 202)

    async def redrive_many(self, request: Request) -> Response:
        """Send those that the filters select on their way again, the oldest REDRIVEN_MAX of them first."""
        reader = Reader(await bodies.read_json(request, empty={}), "", [])
        filters, beyond = letter_filters(reader, self._now_us()), _cursor(reader.text("cursor"))
        ended(reader)
        page = await asyncio.to_thread(self._activity.letters, filters, limit=REDRIVEN_MAX, beyond=beyond, oldest_first=True)
        redriven = await self._redrives.redrive([letter.place for letter in page.items])
        return bodies.json_response({"redriven": redriven.redriven, "left": redriven.left, "nextCursor": _next_cursor(page)}, 202)

    async def _found(self, request: Request) -> Letter:
        """Raises Problem: not-found."""
        id_ = request.path_params["id"]
        place = letter_place(id_)
        letter = None if place is None else await asyncio.to_thread(self._activity.letter, place)
        if letter is None:
            raise not_found(f"the dead letter {id_:.40}")
        return letter


def letter_json(letter: Letter) -> dict[str, Any]:
    """A dead letter as the API answers it. Source: docs/reference/http-api.md, "Dead letters"."""
    value = None if letter.truncated else _value(letter)
    found = {
        "id": letter_id(letter.place),
        "at": rfc3339(letter.at_us),
        "reason": letter.reason,
        "detail": letter.detail,
        "source": letter.source,
        "webhook": letter.webhook,
        "key": None if letter.key is None else letter.key.decode(errors="replace"),
        "value": value,
        "valueTruncated": letter.truncated,
    }
    if value is None and letter.value is not None:
        found["valueBase64"] = base64.b64encode(letter.value).decode()
    return found


def _value(letter: Letter) -> Any:
    """The value as JSON; None: it has none, or it cannot be read, which may be why it is here."""
    if letter.value is None:
        return None
    try:
        if letter.webhook is not None:
            return _delivery_json(decode_delivery(letter.value))
        return strict_json.decode(letter.value)
    except (BadRecord, strict_json.NotStrict):
        return _mutation_json(letter)


def _mutation_json(letter: Letter) -> Any:
    try:
        mutation = decode_mutation(letter.key, letter.value)
    except BadRecord:
        return None
    if not isinstance(mutation, Mutation):
        return None
    value = None if mutation.value is None else strict_json.decode(mutation.value)
    return {"method": mutation.method.value, "collection": mutation.collection, "id": mutation.id, "value": value}


def _delivery_json(delivery: Delivery) -> dict[str, Any]:
    change = delivery.change
    old, new = (None if document is None else strict_json.decode(document) for document in (change.old, change.new))
    return {
        "deliveryId": delivery.webhook_id,
        "match": delivery.match.value,
        "txnId": change.txn_id,
        "version": change.version,
        "oldValue": old,
        "newValue": new,
    }


def _next_cursor(page: LetterPage) -> str | None:
    return letter_id(page.items[-1].place) if page.cursor is not None else None


def _cursor(text: str | None) -> Position | None:
    """Raises Problem: invalid."""
    if not text:
        return None
    if (place := letter_place(text)) is None:
        raise invalid_field("cursor", f"is {shown(text)}, must be nextCursor of an answer")
    return place
