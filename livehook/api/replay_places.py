"""From when to when a replay goes, as offsets of a lane; and the deliveries in between. Shell around what Kafka is asked."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from operator import le
from typing import TypeVar

import msgspec

from livehook.api.ports import LogRecord, Logs
from livehook.api.problems import Problem, invalid_field
from livehook.api.replay_input import AtBeginning, AtOffset, AtTime, AtTxn, Moment
from schemas.deliveries import Delivery
from schemas.errors import BadRecord
from schemas.positions import Origin
from schemas.records import decode_delivery, decode_delivery_order
from schemas.topics import TopicSpec

CLOCKS_US_MAX = 3_600_000_000
"""A delivery may stand in its lane for so long before its ``txnId``, by clocks of several machines that disagree."""

T = TypeVar("T")
Place = tuple[str, int]


class Kept(msgspec.Struct, frozen=True):
    """What a lane holds: for each partition the first offset, and the one after the last."""

    topic: str
    first: tuple[int, ...]
    end: tuple[int, ...]

    @property
    def places(self) -> list[Place]:
        """Its partitions."""
        return [(self.topic, partition) for partition in range(len(self.end))]


class Places:
    """Args: logs: of the lanes."""

    def __init__(self, logs: Logs) -> None:
        self._logs = logs

    async def kept(self, lane: TopicSpec) -> Kept:
        """
        What a lane holds now.

        Raises:  Problem: conflict: it is not there yet, or not any more.
        """
        places = [(lane.name, partition) for partition in range(lane.partitions)]
        found = await self._logs.ends(places)
        if len(found) < len(places):
            raise Problem("conflict", f"the lane {lane.name} is not there: the webhook is being made or deleted, try again")
        return Kept(lane.name, tuple(found[place][0] for place in places), tuple(found[place][1] for place in places))

    async def ends(self, place: Place) -> tuple[int, int]:
        """First and end offset of a lane's partition; nothing, if it is not there any more."""
        return (await self._logs.ends([place])).get(place, (0, 0))

    async def past(self, moment: Moment, kept: Kept) -> int | None:
        """From which ``txnId`` on ``changes`` have to serve what the lane does not keep any more; None: the lane keeps all of it."""
        lost = [(place, first, end) for place, first, end in zip(kept.places, kept.first, kept.end, strict=True) if first]
        match moment:
            case AtBeginning() if lost:
                return 0
            case AtTime(us) if lost:
                found = await self._logs.offsets_at([place for place, _, _ in lost], us)
                return us if any(found[place] <= first for place, first, _ in lost) else None
            case AtTxn(txn_id):
                lowest = [await self._first_txn(*at) for at in lost]
                return txn_id if any(txn_id < first or not first for first in lowest) else None
        return None

    async def begin(self, moment: Moment, kept: Kept) -> tuple[int, ...]:
        """
        The first offset of each partition, from ``moment`` on.

        Raises:  Problem: invalid: it lies outside of what is kept.
        """
        match moment:
            case AtOffset():
                partition = _partition("from.offset", moment, kept)
                _check_kept("from.offset", moment.offset, kept, partition, is_end=False)
                return tuple(moment.offset if at == partition else end for at, end in enumerate(kept.end))
            case AtTime(us):
                return await self._at_time(us, kept)
            case AtTxn(txn_id):
                return await self._at_txn("from.txnId", txn_id, kept)
        return kept.first

    async def until(self, moment: Moment | None, kept: Kept, begin: tuple[int, ...]) -> tuple[int, ...]:
        """
        The offset after the last one of each partition, before ``moment``.

        Raises:  Problem: invalid: it lies outside of what is kept, or before the begin.
        """
        until = kept.end
        field = "until"
        match moment:
            case AtOffset():
                field = "until.offset"
                partition = _partition(field, moment, kept)
                _check_kept(field, moment.offset, kept, partition, is_end=True)
                until = tuple(moment.offset if at == partition else first for at, first in enumerate(begin))
            case AtTime(us):
                field, until = "until.time", await self._at_time(us, kept)
            case AtTxn(txn_id):
                field, until = "until.txnId", await self._at_txn("until.txnId", txn_id, kept)
        if all(map(le, until, begin)) and until != begin:
            raise invalid_field(field, f"lies before from: that is {shown_places(begin)}, this {shown_places(until)}")
        return tuple(map(max, until, begin))

    async def _at_time(self, us: int, kept: Kept) -> tuple[int, ...]:
        found = await self._logs.offsets_at(kept.places, us)
        return tuple(min(max(found[place], first), end) for place, first, end in zip(kept.places, kept.first, kept.end, strict=True))

    async def _at_txn(self, field: str, txn_id: int, kept: Kept) -> tuple[int, ...]:
        """
        By looking through the lane: several partitions of ``mutations`` meet there, so that numbers do not grow along it.

        Nothing that came into the lane long before that number's time can have it.
        """
        hints = await self._at_time(max(txn_id - CLOCKS_US_MAX, 0), kept)
        found: list[int] = []
        highest = lowest_kept = 0
        for place, first, hint, end in zip(kept.places, kept.first, hints, kept.end, strict=True):
            lowest_kept = max(lowest_kept, await self._first_txn(place, first, end) if first else 0)
            offset, seen = await self._first_from(place, txn_id, hint, end)
            highest = max(highest, seen)
            found.append(offset)
        if txn_id < lowest_kept:
            raise invalid_field(field, f"is {txn_id}, and the lane begins at {lowest_kept}: what was before is not kept any more")
        if highest < txn_id:
            latest = f"the last one is {highest}" if highest else "there is none from that time on"
            raise invalid_field(field, f"is {txn_id}, and the lane holds no delivery with that txnId or a higher one: {latest}")
        return tuple(found)

    async def _first_from(self, place: Place, txn_id: int, start: int, end: int) -> tuple[int, int]:
        """The first offset with that number or a higher one, ``end`` if there is none; and the highest number up to there."""
        highest = 0
        async for batch in self._logs.read(*place, start, end):
            for record in batch:
                found = _txn_of(record)
                highest = max(highest, found)
                if found >= txn_id:
                    return record.offset, highest
        return end, highest

    async def _first_txn(self, place: Place, first: int, end: int) -> int:
        async for batch in self._logs.read(*place, first, end):
            for record in batch:
                if found := _txn_of(record):
                    return found
        return 0

    async def deliveries(self, place: Place, begin: int, until: int, uid: str) -> AsyncIterator[list[tuple[LogRecord, Delivery]]]:
        """What a lane that begins there would send, in batches: no repeats of another writer, nothing of an earlier webhook of the name."""
        fresh = _Fresh(uid)
        async for batch in self._logs.read(*place, begin, until):
            found = ((record, _decoded(decode_delivery, record)) for record in batch)
            yield [(record, delivery) for record, delivery in found if delivery is not None and fresh(delivery.webhook_uid, delivery.order)]

    async def count(self, place: Place, begin: int, until: int, uid: str, wants: Callable[[Delivery], bool] | None) -> int:
        """How many of them are wanted; None: all, which spares reading their documents."""
        fresh = _Fresh(uid)
        count = 0
        async for batch in self._logs.read(*place, begin, until):
            if wants is None:
                found = [_decoded(decode_delivery_order, record) for record in batch]
                count += sum([fresh(*one) for one in found if one is not None])
            else:
                deliveries = [_decoded(decode_delivery, record) for record in batch]
                count += sum([fresh(one.webhook_uid, one.order) and wants(one) for one in deliveries if one is not None])
        return count


class _Fresh:
    """Whether a lane takes the next delivery of a log for new, as :class:`connectors.webhook.offsets.Offsets` does it."""

    def __init__(self, uid: str) -> None:
        self._uid = uid
        self._seen: dict[int, Origin] = {}

    def __call__(self, uid: str, order: Origin | None) -> bool:
        if uid != self._uid:
            return False
        if order is None:
            return True
        last = self._seen.get(order.partition)
        if last is not None and order <= last:
            return False
        self._seen[order.partition] = order
        return True


def _decoded(decode: Callable[[bytes], T], record: LogRecord) -> T | None:
    """What a record of a lane holds; None: it is none."""
    try:
        return decode(record.value or b"")
    except BadRecord:
        return None


def _txn_of(record: LogRecord) -> int:
    delivery = _decoded(decode_delivery, record)
    return 0 if delivery is None else delivery.change.txn_id


def _partition(field: str, moment: AtOffset, kept: Kept) -> int:
    partitions = len(kept.end)
    if moment.partition is None and partitions > 1:
        raise invalid_field(field, f"is {moment.offset}, must be partition:offset, since the lane has {partitions} partitions")
    partition = moment.partition or 0
    if partition >= partitions:
        raise invalid_field(field, f"names partition {partition}, must be 0 to {partitions - 1}")
    return partition


def _check_kept(field: str, offset: int, kept: Kept, partition: int, *, is_end: bool) -> None:
    first, last = kept.first[partition], kept.end[partition] - (not is_end)
    if last < first:
        raise invalid_field(field, f"is {offset}, and the lane is empty")
    if not first <= offset <= last:
        raise invalid_field(field, f"is {offset}, must be {first} to {last}: that is what the lane keeps")


def shown_places(offsets: Sequence[int]) -> str:
    """Offsets as they stand in ``livehook-offset``."""
    return str(offsets[0]) if len(offsets) == 1 else ", ".join(f"{partition}:{offset}" for partition, offset in enumerate(offsets))


def places_json(offsets: Sequence[int]) -> Mapping[str, object]:
    """``from`` and ``until`` of an answer."""
    return {"offset": offsets[0]} if len(offsets) == 1 else {"offsets": {str(at): offset for at, offset in enumerate(offsets)}}
