"""
What a lane tells: attempts, notices, metrics, the last error; and, as the one thing that is waited for, dead letters.

Attempts and notices are sent without waiting and may be lost: writing them can neither block nor fail nor repeat a delivery.
Called by work.py.
"""

from __future__ import annotations

import asyncio
import logging
from typing import NamedTuple

from connectors.webhook.attempts import DETAIL_CHARS_MAX, attempt_of, attempt_record, dead_letter
from connectors.webhook.calls import Failure, Request, Response
from connectors.webhook.held import Held
from connectors.webhook.ownership import KnownLane
from connectors.webhook.retry import OUTCOMES, DeadLetter, Decision, Delivered, error_of
from connectors.webhook.shared import Shared
from connectors.webhook.view import Seen
from schemas.gaps import Gap
from schemas.notices import Notice, NoticeKind
from schemas.records import encode_notice
from schemas.topics import Record

logger = logging.getLogger(__name__)


class _Call(NamedTuple):
    """A call that has ended; times are seconds since 1970."""

    held: Held
    attempt: int
    request: Request
    result: Response | Failure
    decision: Decision
    started: float
    ended: float


class Reports:
    """Of one lane."""

    def __init__(self, known: KnownLane, shared: Shared) -> None:
        self._known, self._shared = known, shared
        self.metrics = shared.metrics.lane(known.webhook)
        self.seen = Seen()
        self._untold: list[_Call] = []

    def place(self, partition: int, offset: int) -> str:
        """A place in the lane as receivers see it."""
        return str(offset) if self._known.partitions == 1 else f"{partition}:{offset}"

    def attempted(
        self, held: Held, request: Request, result: Response | Failure, decision: Decision, *, started: float, ended: float
    ) -> None:
        """A call has ended, which :meth:`tell_soon` tells; times are seconds since 1970."""
        self.metrics.attempted(OUTCOMES[type(decision)], ended - started)
        if isinstance(decision, Delivered):
            self.metrics.delivered(ended - held.delivery.change.appended_us / 1_000_000)
            self.seen.delivered_at = ended
        elif (error := error_of(result)) is not None:
            self.seen.failed(ended, error)
        self._untold.append(_Call(held, held.attempt, request, result, decision, started, ended))

    def tell_soon(self) -> None:
        """Write the attempts of this turn of the loop in the next one: requests go out first."""
        if self._untold:
            asyncio.get_running_loop().call_soon(self._tell)

    def _tell(self) -> None:
        """All in one: one after the other they take a third less time than each between two calls."""
        calls, self._untold = self._untold, []
        shared = self._shared
        for call in calls:
            held = call.held
            attempt = attempt_of(
                held.delivery, self._known.webhook, call.request, call.result, call.decision,
                offset=self.place(held.partition, held.offset), attempt=call.attempt, started=call.started, ended=call.ended,
                rng=shared.rng,
            )  # fmt: skip
            shared.attempts.send_soon(attempt_record(attempt, shared.attempts_topic))

    async def bury(self, partition: int, offset: int, key: bytes | None, value: bytes | None, dead: DeadLetter) -> None:
        """Put a record of the lane into the dead letters, and tell so once it is safe there."""
        source = f"{self._known.topic}/{partition}/{offset}"
        await self._shared.producer.send([dead_letter(key, value, source, dead, self._shared.dead_letters_topic)])
        self._shared.metrics.dead_letters.labels(dead.reason.value).inc()
        document = None if key is None else key.decode(errors="replace")
        self.notice(NoticeKind.DEAD, dead.detail, document=document, place=self.place(partition, offset))

    def missing(self, gap: Gap) -> None:
        """Deliveries were gone before they were sent."""
        self.metrics.gap()
        place = f"{self._known.topic}/{gap.partition}"
        logger.error("%s: deliveries from offset %d to %d were removed before they were sent", place, gap.begin, gap.place)

    def parked(self, held: Held) -> None:
        """A delivery waits long, and its document with it."""
        delivery, error = held.delivery, self.seen.error
        detail = f"attempt {held.attempt} failed: {error.detail}" if error is not None else "it waits for its first attempt"
        place = self.place(held.partition, held.offset)
        self.notice(NoticeKind.PARKED, detail, document=delivery.change.key, delivery_id=delivery.webhook_id, place=place)

    def notice(
        self, kind: NoticeKind, detail: str, *, document: str | None = None, delivery_id: str | None = None, place: str | None = None
    ) -> None:
        """Something happened; what came before it is told first."""
        self._tell()
        shared, webhook = self._shared, self._known.webhook
        at_us = int(shared.now() * 1_000_000)
        id_ = f"ntc_{at_us:014x}{shared.rng.getrandbits(64):016x}"
        notice = Notice(id_, kind, webhook, at_us, detail[:DETAIL_CHARS_MAX], document, delivery_id, place)
        shared.attempts.send_soon(Record(shared.attempts_topic, webhook.encode(), encode_notice(notice)))
