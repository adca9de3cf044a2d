"""
Whose lanes are whose, as data, and what an owner is told: between slots.py, which reads lanes and commits, and sink.py, which serves them.

Pure, but for the log.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec
from confluent_kafka import TopicPartition

from connectors.webhook.offsets import BadMetadata, Start, decode

logger = logging.getLogger(__name__)

Place = tuple[str, int]
"""Topic and partition."""


class KnownLane(msgspec.Struct, frozen=True):
    """A lane that exists: the topic of a webhook's deliveries."""

    webhook: str
    uid: str
    topic: str
    partitions: int

    @property
    def places(self) -> list[Place]:
        """Each of its partitions."""
        return [(self.topic, partition) for partition in range(self.partitions)]


class Taken(msgspec.Struct, frozen=True):
    """A lane that is ours now, and where each of its partitions goes on."""

    lane: KnownLane
    starts: Mapping[int, Start]


class Commit(msgspec.Struct, frozen=True):
    """What is to be committed for a partition; ``version`` is the committer's own, to know it again."""

    topic: str
    partition: int
    offset: int
    metadata: str
    version: int = 0


class LaneRecord(msgspec.Struct, frozen=True, gc=False):
    """A record of a lane as it was read."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None

    @property
    def size(self) -> int:
        """Bytes of the value."""
        return len(self.value or b"")


class Events(Protocol):
    """What the thread tells the event loop; each call happens there, one after the other."""

    def rebalanced(self) -> None:
        """The group's slots were given out anew, whether ours have changed or not."""

    def taken(self, lanes: Sequence[Taken]) -> None:
        """These are ours from now on."""

    def records(self, records: Sequence[LaneRecord]) -> None:
        """Read, in order for each partition; to be answered with :meth:`Slots.handled`."""

    async def drain(self, webhooks: Sequence[str], timeout_s: float) -> list[Commit]:
        """These are about to be given up: start nothing more, finish within the time what is under way, say what to commit."""

    def given_up(self, webhooks: Sequence[str]) -> None:
        """These are not ours any more; nothing of them may be sent."""

    def lost(self) -> None:
        """The group has gone on without us: nothing may be sent or committed."""

    def committed(self, commits: Sequence[Commit], sent: float) -> None:
        """Acknowledged; ``sent`` is when it was sent, by :func:`lease.uptime_s`. Empty: only that we are a member still."""

    def ends(self, ends: Mapping[Place, int]) -> None:
        """The offset after the last record of each partition, as far as is known."""

    def failed(self, error: BaseException) -> None:
        """The thread has ended and reads no more."""


def slot_of(webhook: str, slots: int) -> int:
    """The slot that a webhook's lane belongs to; must never change."""
    return zlib.crc32(webhook.encode()) % slots


def start_of(lane: KnownLane, committed: TopicPartition) -> Start:
    """Where a partition goes on; what cannot be read, or is of an older webhook, is never trusted to skip anything."""
    if committed.offset < 0:
        return Start()
    if not committed.metadata:
        logger.info("%s/%d goes on at %d, which somebody set by hand", lane.topic, committed.partition, committed.offset)
        return Start(committed.offset)
    try:
        return decode(committed.offset, committed.metadata, lane.uid)
    except BadMetadata as error:
        logger.warning("%s/%d begins anew: the metadata of its commit cannot be used: %s", lane.topic, committed.partition, error)
        return Start()
