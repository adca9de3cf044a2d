"""Copies of deliveries appended to their lane, in order, until none of their documents ends on an old value. Shell around copies.py."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from connectors.activity.copies import Copies
from livehook.api.ports import LogRecord, Logs, Producer
from schemas.deliveries import Delivery
from schemas.errors import BadRecord
from schemas.records import decode_delivery, encode_delivery
from schemas.topics import Record

ROUNDS_MAX = 200  # each one as long as a write and a read of what came meanwhile

Lane = tuple[str, int]
"""Topic and partition."""


class Appended(msgspec.Struct, frozen=True):
    """
    What was copied, or in a dry run would be.

    first:  the offset of the first delivery that was copied; None: none was. until: the end of what was looked through at first.
    """

    deliveries: int
    first: int | None
    until: int


class LaneCopies:
    """Args: logs, producer: of the lanes."""

    def __init__(self, logs: Logs, producer: Producer) -> None:
        self._logs = logs
        self._producer = producer

    async def append(self, lane: Lane, copies: Copies, *, start: int, dry_run: bool = False) -> Appended | None:
        """
        Copy what is wanted of a lane from ``start`` on, or from where it begins now; None: the lane is not there, or not any more.

        Raises:  TimeoutError: documents go on changing faster than they can be copied; what was copied may stand behind newer deliveries.
        """
        kept = (await self._logs.ends([lane])).get(lane)
        if kept is None:
            return None
        position, until = max(start, kept[0]), kept[1]
        first: int | None = None
        count, end = 0, until
        for _ in range(ROUNDS_MAX):
            copied, first_here = await self._pass(lane, copies, position, end, dry_run=dry_run)
            first = first_here if first is None else first
            count += copied
            if not copied or dry_run:
                return Appended(count, first, until)
            # Asked for only now that the copies are acknowledged: whatever stands before them is below this end.
            if (kept := (await self._logs.ends([lane])).get(lane)) is None:
                return None
            position, end = end, kept[1]
        raise TimeoutError(f"documents of {lane[0]} go on changing while they are resent: send it again")

    async def note(self, lane: Lane, copies: Copies, start: int) -> None:
        """Look for copies that were written before a crash, from ``start`` on."""
        first, end = (await self._logs.ends([lane])).get(lane, (0, 0))
        async for batch in self._logs.read(*lane, max(start, first), end):
            for record in batch:
                if copies.wants(record.key) and (delivery := _delivery(record)) is not None:
                    copies.note(record.key or b"", delivery)

    async def write(self, lane: Lane, key: bytes | None, deliveries: Sequence[Delivery]) -> None:
        """Append copies, and wait until they are there."""
        topic, partition = lane
        await self._producer.send([Record(topic, key, encode_delivery(delivery), partition=partition) for delivery in deliveries])

    async def _pass(self, lane: Lane, copies: Copies, start: int, end: int, *, dry_run: bool) -> tuple[int, int | None]:
        """How many were copied, and the offset of the first."""
        topic, partition = lane
        count, first = 0, None
        async for batch in self._logs.read(topic, partition, start, end):
            made = [(record, copy) for record in batch if (copy := _copy(copies, record)) is not None]
            if made and first is None:
                first = made[0][0].offset
            count += len(made)
            if made and not dry_run:
                await self._producer.send([Record(topic, record.key, encode_delivery(copy), partition=partition) for record, copy in made])
        return count, first


def _copy(copies: Copies, record: LogRecord) -> Delivery | None:
    if not copies.wants(record.key) or (delivery := _delivery(record)) is None:
        return None
    return copies.take(record.key or b"", delivery)


def _delivery(record: LogRecord) -> Delivery | None:
    try:
        return decode_delivery(record.value or b"")
    except BadRecord:
        return None  # it is for the sink to say what is wrong with it
