"""
Replays from being asked for to their end. A rewind is a record of ``webhooks``, which the sink that holds the lane carries out;
whether it has is seen from the commits of the lane. Called by replays.py.

Whatever a crash cuts off is taken up again by :meth:`Replaying.start`. Source: docs/explanation/replay.md.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

import msgspec

from connectors.kafka.errors import KafkaRefused, KafkaUnavailable
from connectors.webhook.offsets import BadMetadata, decode
from livehook.api.ports import Commits, Logs
from livehook.api.problems import Problem
from livehook.api.register import Register
from livehook.api.replay_input import Asked
from livehook.api.replay_places import Kept, Places
from livehook.api.replay_records import ReplayRecords
from schemas.registry import Webhook
from schemas.replays import Replay, ReplayState
from schemas.topics import Topics, TopicSpec

logger = logging.getLogger(__name__)

WATCH_EVERY_S = 1.0


class Found(msgspec.Struct, frozen=True):
    """What a replay comes to: in each partition of the lane, from where to before where, and how many deliveries."""

    begin: tuple[int, ...]
    until: tuple[int, ...]
    deliveries: int


class Progress(msgspec.Struct, frozen=True):
    """How many of a replay's deliveries are done; ``is_over``: all there is to do."""

    delivered: int
    is_over: bool


class Replaying:
    """
    Args:  new_id: makes a replay's id. now_us: µs since 1970.
    """

    def __init__(
        self,
        *,
        topics: Topics,
        register: Register,
        records: ReplayRecords,
        logs: Logs,
        commits: Commits,
        new_id: Callable[[], str],
        now_us: Callable[[], int],
    ) -> None:
        self._topics, self._register, self._records, self._commits = topics, register, records, commits
        self._places = Places(logs)
        self._new_id, self._now_us = new_id, now_us
        self._watching: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Look after the replays that are running, until :meth:`stop`."""
        self._watching = asyncio.create_task(self._watch(), name="replays")

    async def stop(self) -> None:
        """What is running goes on in the sinks, and is looked after again after the next start."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait({self._watching})

    async def ask(self, name: str, asked: Asked) -> tuple[Replay | None, Found]:
        """
        Begin a replay, or only count; None: nothing is to be sent.

        Raises:  Problem: not-found, invalid, conflict. KafkaUnavailable: whether it has begun is unknown.
        """
        webhook = self._register.get(name)
        kept = await self._places.kept(self._lane(webhook))
        begin = await self._places.begin(asked.begin, kept)
        until = await self._places.until(asked.until, kept, begin)
        found = Found(begin, until, await self._count(kept, begin, until, webhook.current.uid))
        if asked.dry_run or not found.deliveries:
            return None, found
        committed = await self._committed(webhook)
        resume = tuple(0 if commit is None else commit[0] for commit in committed)

        def make(number: int) -> Replay:
            uid, count = webhook.current.uid, found.deliveries
            return Replay(self._new_id(), name, uid, number, begin, until, kept.end, resume, count, self._now_us())

        return await self._records.begin(webhook, make), found

    def get(self, id_: str) -> Replay | None:
        """A replay of a webhook that is there."""
        return self._records.get(id_)

    async def cancel(self, replay: Replay) -> Replay:
        """
        End a replay before it is done; one that was cancelled stays so.

        Raises:  Problem: conflict: it is done. KafkaUnavailable.
        """
        ended = await self._records.end(replay, ReplayState.CANCELLED)
        if ended.state is ReplayState.DONE:
            raise Problem("conflict", f"the replay {replay.id} is done")
        return ended

    async def progress(self, replay: Replay) -> Progress:
        """How far it is. Raises KafkaUnavailable."""
        if replay.state is ReplayState.DONE:
            return Progress(replay.deliveries, is_over=True)
        webhook = self._register.get(replay.webhook)
        return rewound(replay, await self._committed(webhook))

    async def _count(self, kept: Kept, begin: Sequence[int], until: Sequence[int], uid: str) -> int:
        count = 0
        for place, first, end in zip(kept.places, begin, until, strict=True):
            async for deliveries in self._places.deliveries(place, first, end, uid):
                count += len(deliveries)
        return count

    async def _committed(self, webhook: Webhook) -> list[tuple[int, int] | None]:
        """For each partition of the lane the committed offset, and the number of the last jump; None: nothing is, of this webhook."""
        lane, uid = self._lane(webhook), webhook.current.uid
        places = [(lane.name, partition) for partition in range(lane.partitions)]
        commits = await self._commits.commits(self._topics.group_sink, places)
        return [_read(commits[place], uid) if place in commits else None for place in places]

    def _lane(self, webhook: Webhook) -> TopicSpec:
        current = webhook.current
        return self._topics.lane(current.name, current.spec.delivery.partitions)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(WATCH_EVERY_S)
            await self.look()

    async def look(self) -> None:
        """Put on record which replays are done."""
        for replay in self._records.running():
            try:
                await self._look_after(replay)
            except (KafkaUnavailable, KafkaRefused, TimeoutError, Problem) as error:
                logger.info("how far the replay %s is, is not known: %s", replay.id, error)

    async def _look_after(self, replay: Replay) -> None:
        progress = await self.progress(replay)
        if progress.is_over:
            await self._records.end(replay, ReplayState.DONE)


def rewound(replay: Replay, committed: Sequence[tuple[int, int] | None]) -> Progress:
    """How far a rewind is, by what is committed of its lane: offset and number of the last jump of each partition. Pure."""
    passed = total = 0
    for commit, begin, until in zip(committed, replay.begin, replay.until, strict=True):
        total += until - begin
        if commit is not None and commit[1] >= replay.number:
            passed += min(max(commit[0] - begin, 0), until - begin)
    return Progress(replay.deliveries * passed // max(total, 1), is_over=passed == total)


def _read(commit: tuple[int, str], uid: str) -> tuple[int, int] | None:
    offset, metadata = commit
    try:
        return offset, decode(offset, metadata, uid).rewind
    except BadMetadata:
        return None  # set by hand, or of an earlier webhook: the sink that takes the lane writes it anew
