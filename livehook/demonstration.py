"""
``livehook dev --demo``: a receiver, a webhook and real documents, one of which goes on changing. Everything goes through the public API.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from importlib.resources import files
from typing import Any

import httpx
import msgspec

from connectors.webhook.testing import Receiver
from schemas.attempts import Attempt

logger = logging.getLogger(__name__)

COLLECTION = "airports"
WEBHOOK = "demo"
CHANGING = "KSFO"
EVERY_S = 1.0


async def start_receiver(port: int) -> Receiver:
    """A receiver that answers 200 on any path; on another port than this when somebody else has it."""
    receiver = Receiver(port=port, keep=1)
    try:
        await receiver.start()
    except OSError:
        receiver = Receiver(keep=1)
        await receiver.start()
    return receiver


class Demonstration:
    """
    Args:  api: a client whose base URL is the API's. now: the time of day to write into the changing document.
    """

    def __init__(self, api: httpx.AsyncClient, receiver_url: str, now: Callable[[], str]) -> None:
        self._api = api
        self._receiver_url = receiver_url
        self._now = now
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """
        Put webhook and documents, and begin to change one.

        Raises:  httpx.HTTPError.
        """
        await self._call("PUT", f"/v1/webhooks/{WEBHOOK}", {"collections": [COLLECTION], "url": f"{self._receiver_url}/{WEBHOOK}"})
        documents = files("livehook").joinpath("demo", f"{COLLECTION}.ndjson").read_bytes()
        answer = await self._api.post(
            f"/v1/collections/{COLLECTION}/documents", content=documents, headers={"content-type": "application/x-ndjson"}
        )
        answer.raise_for_status()
        self._task = asyncio.create_task(self._change(), name="change a document")

    async def stop(self) -> None:
        """Change nothing any more."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _change(self) -> None:
        while True:
            try:
                await self._call("PATCH", f"/v1/collections/{COLLECTION}/documents/{CHANGING}", {"seenAt": self._now()})
            except httpx.HTTPError as error:  # the API is being started again, perhaps
                logger.info("the changing document was not changed: %s", type(error).__name__)
            await asyncio.sleep(EVERY_S)

    async def _call(self, method: str, path: str, body: Any) -> None:
        answer = await self._api.request(method, path, content=msgspec.json.encode(body), headers={"content-type": "application/json"})
        answer.raise_for_status()


def delivery_line(attempt: Attempt, clock: Callable[[int], str]) -> str:
    """
    ``12:00:01.123  delivered  create  airports/KSFO -> demo  200  3 ms``.

    Args:  clock: µs since 1970 as a time of day.
    """
    status = "-" if attempt.response is None else str(attempt.response.status)
    said = status if attempt.error is None or attempt.response is not None else attempt.error.code.value
    duration_ms = round(attempt.duration_us / 1_000)
    document = "".join(sign if sign.isprintable() else "?" for sign in attempt.document)
    ended = clock(attempt.started_us + attempt.duration_us)
    return f"{ended}  {attempt.outcome.value}  {attempt.match}  {document} -> {attempt.webhook}  {said}  {duration_ms} ms"
