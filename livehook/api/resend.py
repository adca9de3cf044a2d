"""Deliveries of attempts sent again: which, into which lanes, and a record of it. Called by attempts.py and redrive.py."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from connectors.activity.copies import Copies, lane_place
from connectors.activity.model import AttemptFilters, Place
from connectors.activity.store import Activity
from livehook.api.lane_copies import Appended, Lane, LaneCopies
from livehook.api.ports import Producer
from livehook.api.problems import Problem, invalid_field
from livehook.api.register import Register
from schemas.attempts import Attempt
from schemas.positions import Position
from schemas.registry import Webhook
from schemas.resends import Resend, encode_resend
from schemas.times import rfc3339
from schemas.topics import Record, Topics

RESENT_MAX = 10_000
PAGE = 100  # attempts with their bodies
SHOWN_S_MAX = 2.0
LOOK_AGAIN_S = 0.02


class Resent(msgspec.Struct, frozen=True):
    """What was put into lanes again; ``id`` None: nothing was, it was only counted. from and until: as they are answered."""

    id: str | None
    deliveries: int
    begin: Mapping[str, str | int]
    until: Mapping[str, str | int]


class _Tried(msgspec.Struct, frozen=True, gc=False):
    """What is to be known of an attempt to resend its delivery: it may be one of very many, and bodies are large."""

    webhook: str
    document: str
    version: int
    place: Position
    is_copy: bool
    started_us: int


class _Asked(msgspec.Struct):
    """What is wanted of one lane partition."""

    webhook: Webhook
    start: int
    versions: dict[bytes, set[int]]


class Resends:
    """
    Args:  new_id: makes a replay's id. now_us: µs since 1970.
    """

    def __init__(
        self,
        *,
        topics: Topics,
        register: Register,
        activity: Activity,
        producer: Producer,
        copies: LaneCopies,
        new_id: Callable[[], str],
        now_us: Callable[[], int],
    ) -> None:
        self._topics, self._register, self._activity = topics, register, activity
        self._producer, self._copies = producer, copies
        self._new_id, self._now_us = new_id, now_us

    async def one(self, attempt: Attempt, *, only: bool) -> Resent:
        """
        The delivery of one attempt, and unless ``only`` all later ones of its document.

        Raises:  Problem: conflict: it cannot be sent again, the detail says why. KafkaUnavailable; TimeoutError.
        """
        reason = _unsendable(attempt)
        if reason is not None:
            raise Problem("conflict", f"the attempt {attempt.id} cannot be resent: {reason}")
        self._register.get(attempt.webhook)
        resent = await self._resend(_sendable([attempt]), only=only, dry_run=False)
        if not resent.deliveries:
            raise Problem("conflict", f"the lane of {attempt.webhook} holds the delivery of {attempt.id} no more")
        return resent

    async def many(self, filters: AttemptFilters, *, only: bool, dry_run: bool) -> Resent:
        """
        The deliveries of every attempt that the filters select, each once; those that cannot be resent are left out.

        Raises:  Problem: invalid: more than RESENT_MAX. KafkaUnavailable; TimeoutError.
        """
        return await self._resend(await self._selected(filters), only=only, dry_run=dry_run)

    async def _selected(self, filters: AttemptFilters) -> list[_Tried]:
        found: list[_Tried] = []
        before = None
        while True:
            page = await asyncio.to_thread(self._activity.attempts, filters, limit=PAGE, before=before)
            found += _sendable(page.items)
            if len(found) > RESENT_MAX:
                raise invalid_field(
                    "", f"the filters select more than {RESENT_MAX:,} attempts: select fewer, for example with since and until"
                )
            if (before := page.cursor) is None:
                return found

    async def _resend(self, attempts: Sequence[_Tried], *, only: bool, dry_run: bool) -> Resent:
        lanes = self._lanes(attempts)
        replay, started_us = self._new_id(), self._now_us()
        done: dict[Lane, Appended] = {}
        for lane, asked in lanes.items():
            versions = {key: frozenset(found) for key, found in asked.versions.items()}
            copies = Copies(asked.webhook.current.uid, replay, versions, only=only)
            appended = await self._copies.append(lane, copies, start=asked.start, dry_run=dry_run)
            if appended is not None and appended.deliveries:
                done[lane] = appended
        deliveries = sum(appended.deliveries for appended in done.values())
        begin, until = self._range(lanes, done, attempts, started_us)
        if not deliveries or dry_run:
            return Resent(None, deliveries, begin, until)
        names = {lanes[lane].webhook.current.name for lane in done}
        await self._record(Resend(replay, names.pop() if len(names) == 1 else None, deliveries, started_us))
        return Resent(replay, deliveries, begin, until)

    def _lanes(self, attempts: Iterable[_Tried]) -> dict[Lane, _Asked]:
        """What is asked of each lane partition; webhooks that are gone have none."""
        lanes: dict[Lane, _Asked] = {}
        for attempt in attempts:
            try:
                webhook = self._register.get(attempt.webhook)
            except Problem:
                continue
            # A copy's own place says nothing of where the later deliveries of its document stand: these may come before it.
            start = 0 if attempt.is_copy else attempt.place.offset
            lane = self._topics.lane(attempt.webhook).name, attempt.place.partition
            asked = lanes.setdefault(lane, _Asked(webhook, start, {}))
            asked.start = min(asked.start, start)
            asked.versions.setdefault(attempt.document.encode(), set()).add(attempt.version)
        return lanes

    def _range(
        self, lanes: Mapping[Lane, _Asked], done: Mapping[Lane, Appended], attempts: Sequence[_Tried], now_us: int
    ) -> tuple[Mapping[str, str | int], Mapping[str, str | int]]:
        """Offsets where it is all in one lane, as of a replay, else times."""
        if len(done) == 1:
            [(lane, appended)] = done.items()
            first = appended.until if appended.first is None else appended.first
            if lanes[lane].webhook.current.spec.delivery.partitions > 1:
                return {"offset": f"{lane[1]}:{first}"}, {"offset": f"{lane[1]}:{appended.until}"}
            return {"offset": first}, {"offset": appended.until}
        first_us = min((attempt.started_us for attempt in attempts), default=now_us)
        return {"time": rfc3339(first_us)}, {"time": rfc3339(now_us)}

    async def _record(self, resend: Resend) -> None:
        """On record, and shown by this process, unless its activity log is behind."""
        topic = self._topics.attempts.name
        [offset] = await self._producer.send([Record(topic, resend.id.encode(), encode_resend(resend), partition=0)])
        with contextlib.suppress(TimeoutError):
            await projected(self._activity, (topic, 0), offset, SHOWN_S_MAX)


async def projected(activity: Activity, place: Place, offset: int, timeout_s: float) -> None:
    """
    Until the activity log has taken in the record at this offset.

    Raises:  TimeoutError: it has not in time.
    """
    deadline = time.monotonic() + timeout_s
    while await asyncio.to_thread(activity.position, place) <= offset:
        if time.monotonic() > deadline:
            raise TimeoutError(f"the activity log has not read {place[0]} to offset {offset} within {timeout_s:g} s: try again")
        await asyncio.sleep(LOOK_AGAIN_S)


def _sendable(attempts: Iterable[Attempt]) -> list[_Tried]:
    return [
        _Tried(attempt.webhook, attempt.document, attempt.version, place, attempt.replay is not None, attempt.started_us)
        for attempt in attempts
        if _unsendable(attempt) is None and (place := lane_place(attempt.offset)) is not None
    ]


def _unsendable(attempt: Attempt) -> str | None:
    if attempt.test:
        return "it was a test, which is in no lane"
    if lane_place(attempt.offset) is None:
        return f"it names no place in the lane ({attempt.offset!r:.40})"
    return None
