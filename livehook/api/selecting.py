"""
The deliveries of a selection: which of a lane they are, and copying them behind its end, a bounded part at a time. Called by replaying.py.

Copies bear the id of the replay; whoever goes on with a job that a crash cut off looks for them behind where the lane ended at first.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from itertools import pairwise

import msgspec

from livehook.api.ports import Producer
from livehook.api.problems import invalid
from livehook.api.replay_places import Place, Places
from livehook.checks import query_field_error
from schemas.deliveries import Delivery
from schemas.errors import Invalid
from schemas.keys import partition_of
from schemas.markers import is_marker
from schemas.records import encode_delivery
from schemas.replays import Replay, Selected
from schemas.topics import Record, TopicSpec
from streams.query import QueryError, compile_query
from streams.query.compile import Predicate

AHEAD_MAX = 5_000  # copies in a lane that are not finished: what is new waits for no more than these
LOOK_AGAIN_S = 0.2  # and so much later each time that the lane has not moved
LOOKS_MAX = 5  # at a lane that does not move: 3 s in all

_decode = msgspec.json.decode


class LaneStalled(Exception):
    """
    A lane holds as many unfinished copies as it may, and does not move: others have their turn.

    place:  the partition. end: where the copies end.
    """

    def __init__(self, place: Place, end: int) -> None:
        super().__init__(f"{place[0]}/{place[1]} does not move")
        self.place, self.end = place, end


class Selection:
    """
    Which deliveries of a lane are wanted. Pure.

    Args:    failed: the ``webhook-id`` of each delivery that failed, if only those are.
    Raises:  Problem: invalid: the query is none.
    """

    def __init__(self, selected: Selected, failed: Collection[str]) -> None:
        self._matches = None if selected.query is None else _compiled(selected.query)
        self._ids = frozenset(selected.ids)
        self._failed = frozenset(failed) if selected.failed else None

    def wants(self, delivery: Delivery) -> bool:
        """
        Whether it is to be sent again.

        A copy is not: what it is a copy of stands in the lane before it. Nor is a marker: it tells of no document.
        """
        change = delivery.change
        if delivery.replay is not None or is_marker(delivery) or (self._ids and change.id not in self._ids):
            return False
        if self._failed is not None and delivery.webhook_id not in self._failed:
            return False
        if self._matches is None:
            return True
        return any(self._matches(_decode(document)) for document in (change.new, change.old) if document is not None)


def _compiled(text: str) -> Predicate:
    try:
        return compile_query(text).matches
    except QueryError as error:
        raise invalid(Invalid([query_field_error(error)])) from error


class Copying:
    """
    Args:  places, producer: of the lanes. committed: up to where a partition of a lane is finished.
    """

    def __init__(self, places: Places, producer: Producer, committed: Callable[[Place], Awaitable[int]]) -> None:
        self._places, self._producer, self._committed = places, producer, committed

    async def copy(self, lane: str, replay: Replay, selection: Selection, *, is_running: Callable[[], bool]) -> None:
        """
        Copy what is wanted, but for what has been; ends early once ``is_running`` says no.

        Raises:  KafkaUnavailable; LaneStalled: some of it may be copied; to be called again.
        """
        for partition, (begin, until) in enumerate(zip(replay.begin, replay.until, strict=True)):
            place = (lane, partition)
            copied = await self._copied(place, replay)
            async for batch in self._places.deliveries(place, begin, until, replay.uid):
                copies = [
                    Record(lane, record.key, encode_delivery(msgspec.structs.replace(delivery, replay=replay.id)), partition=partition)
                    for record, delivery in batch
                    if selection.wants(delivery) and (not copied or delivery.webhook_id not in copied)
                ]
                if copies and not await self._append(place, copies, is_running):
                    return

    async def copy_past(
        self, lane: TopicSpec, replay: Replay, past: AsyncIterator[list[Delivery]], selection: Selection, *, is_running: Callable[[], bool]
    ) -> None:
        """The same of deliveries that the lane does not keep any more; raises as :meth:`copy`."""
        places = [(lane.name, partition) for partition in range(lane.partitions)]
        copied = set().union(*[await self._copied(place, replay) for place in places])
        async for batch in past:
            copies: dict[Place, list[Record]] = {}
            for delivery in batch:
                if selection.wants(delivery) and delivery.webhook_id not in copied:
                    key = delivery.change.key.encode()
                    place = places[partition_of(key, lane.partitions)]
                    copy = encode_delivery(msgspec.structs.replace(delivery, replay=replay.id))
                    copies.setdefault(place, []).append(Record(lane.name, key, copy, partition=place[1]))
            for place, records in copies.items():
                if not await self._append(place, records, is_running):
                    return

    async def _append(self, place: Place, copies: list[Record], is_running: Callable[[], bool]) -> bool:
        """Write them, and wait until the lane has come near; False: the replay was cancelled."""
        for first, last in pairwise([*range(0, len(copies), AHEAD_MAX), len(copies)]):
            if not is_running():
                return False
            end = (await self._producer.send(copies[first:last]))[-1] + 1
            if not await self._until_near(place, end, is_running):
                return False
        return True

    async def _until_near(self, place: Place, end: int, is_running: Callable[[], bool]) -> bool:
        """Until the lane has come near; False: the replay was cancelled."""
        before, looks = -1, 0
        while (committed := await self._committed(place)) + AHEAD_MAX < end:
            if not is_running():
                return False
            looks = looks + 1 if committed == before else 0
            if looks == LOOKS_MAX:
                raise LaneStalled(place, end)
            before = committed
            await asyncio.sleep(LOOK_AGAIN_S * (looks + 1))
        return True

    async def has_moved(self, stalled: LaneStalled) -> bool:
        """Whether the lane has come near since. Raises KafkaUnavailable."""
        return await self._committed(stalled.place) + AHEAD_MAX >= stalled.end

    async def _copied(self, place: Place, replay: Replay) -> set[str]:
        """The ``webhook-id`` of each copy that was written before a crash."""
        kept = await self._places.ends(place)
        found: set[str] = set()
        async for batch in self._places.deliveries(place, max(kept[0], replay.end[place[1]]), kept[1], replay.uid):
            found.update(delivery.webhook_id for _, delivery in batch if delivery.replay == replay.id)
        return found
