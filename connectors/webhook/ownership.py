"""
Whose lanes are whose, as data, and what an owner is told: between slots.py, which reads lanes and commits, and sink.py, which serves them.

Pure, but for the log.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import msgspec
from confluent_kafka import TopicPartition

from connectors.webhook.offsets import BadMetadata, Start, decode
from schemas.replays import Replay, ReplayState

logger = logging.getLogger(__name__)

Place = tuple[str, int]
"""Topic and partition."""


class Jump(msgspec.Struct, frozen=True, kw_only=True):
    """
    A lane that is to go on elsewhere: back, for a rewind, or forward, over what is left of a rewind that was cancelled.

    number:  grows from jump to jump of a webhook. replay: the id of the rewind.
    to:      for each partition. until: where it ends; the ends of the lane when a rewind was asked for.
    """

    number: int
    replay: str
    is_forward: bool
    to: tuple[int, ...]
    until: tuple[int, ...]

    def moves(self, partition: int, start: Start) -> Start:
        """
        Where a partition goes on that would have gone on at ``start``. Nothing that was never sent is jumped over.

        After a step back no origin has been seen. That is safe: from the first delivery on the vector only grows, so that each document's
        deliveries are in order, and what another writer repeated is at most sent once more.
        """
        to = self.to[partition]
        if self.is_forward:
            place = max(to, start.offset)
            finished = frozenset(offset for offset in start.finished if offset >= place)
        elif to > start.offset:  # the lane has not come to it; what is finished beyond it is sent again all the same
            place = start.offset
            finished = frozenset(offset for offset in start.finished if offset < to)
        else:
            return Start(to, rewind=self.number, moved=True)
        return Start(place, finished, start.vector, self.number, moved=True)


class KnownLane(msgspec.Struct, frozen=True):
    """A lane that exists: the topic of a webhook's deliveries. ``jumps``: in order of their numbers."""

    webhook: str
    uid: str
    topic: str
    partitions: int
    jumps: tuple[Jump, ...] = ()

    @property
    def places(self) -> list[Place]:
        """Each of its partitions."""
        return [(self.topic, partition) for partition in range(self.partitions)]

    def replay_at(self, partition: int, offset: int) -> str | None:
        """The id of the newest rewind that goes over this delivery; None: none does."""
        for jump in reversed(self.jumps):
            if not jump.is_forward and jump.to[partition] <= offset < jump.until[partition]:
                return jump.replay
        return None


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
    """
    Where a partition goes on; what cannot be read, or is of an older webhook, is never trusted to skip anything.

    Each jump is carried out once: its number is committed with the place that it led to. Where no number is on record, the lane begins
    anew, or where somebody set it by hand; jumps of before that are over.
    """
    over = lane.jumps[-1].number if lane.jumps else 0
    if committed.offset < 0:
        return Start(rewind=over, moved=over > 0)
    if not committed.metadata:
        logger.info("%s/%d goes on at %d, which somebody set by hand", lane.topic, committed.partition, committed.offset)
        return Start(committed.offset, rewind=over, moved=over > 0)
    try:
        start = decode(committed.offset, committed.metadata, lane.uid)
    except BadMetadata as error:
        logger.warning("%s/%d begins anew: the metadata of its commit cannot be used: %s", lane.topic, committed.partition, error)
        return Start(rewind=over, moved=over > 0)
    for jump in lane.jumps:
        if jump.number > start.rewind:
            start = jump.moves(committed.partition, start)
            logger.info("%s/%d goes on at %d, for %s", lane.topic, committed.partition, start.offset, jump.replay)
    return start


def jumps_of(replays: Iterable[Replay]) -> tuple[Jump, ...]:
    """The jumps of a lane that its rewinds lead to. One that was cancelled while another ran leads nowhere: the lane goes on with that."""
    rewinds = [replay for replay in replays if replay.is_jump]
    jumps = [
        Jump(number=one.cancelled, replay=one.id, is_forward=True, to=one.committed, until=())
        if one.state is ReplayState.CANCELLED
        else Jump(number=one.number, replay=one.id, is_forward=False, to=one.begin, until=one.until)
        for one in rewinds
        if one.state is not ReplayState.CANCELLED or one.cancelled
    ]
    return tuple(sorted(jumps, key=lambda jump: jump.number))
