"""
One lane, from being taken to being given up: what came before, what is read, edited and committed, and how it looks to people.

Its calls are made in work.py. All of it runs in the event loop. Called by sink.py.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import msgspec

from connectors.webhook.health import Health
from connectors.webhook.lanes import Lane
from connectors.webhook.metrics import LaneState
from connectors.webhook.ownership import Commit, LaneRecord, Place, Taken
from connectors.webhook.pace import Pace
from connectors.webhook.parked import Troubles
from connectors.webhook.shared import Shared
from connectors.webhook.view import item_of, lag_of
from connectors.webhook.work import LaneWork
from schemas.gaps import Gap
from schemas.notices import NoticeKind
from schemas.parked import Parked
from schemas.records import encode_status
from schemas.registry import Webhook
from schemas.topics import Record
from schemas.webhooks import State, WebhookStatus

logger = logging.getLogger(__name__)

COMMIT_AGAIN_S = 6 * 3_600.0
"""Kafka forgets a commit after a week (``offsets.retention.minutes``), of an idle lane too: what was sent would seem to be missing."""


class LaneRunner:
    """One webhook's lane. Nothing of it is taken in or sent before :meth:`restore`."""

    def __init__(self, taken: Taken, webhook: Webhook, shared: Shared) -> None:
        self.taken = taken
        self.webhook = webhook
        self._shared = shared
        self._lane = Lane(
            taken.starts, uid=taken.lane.uid, concurrency=1, origin_partitions=shared.origin_partitions, bytes_max=shared.lane_bytes_max,
            parked_max=shared.parked_max,
        )  # fmt: skip
        self._work = LaneWork(taken.lane, self._lane, shared, self._disable)
        self._acknowledged = dict.fromkeys(taken.starts, 0)  # the version of the offsets that is committed
        self._committing: dict[int, Commit] = {}
        # Not for all lanes of a process at the same time, and not only in processes that live long.
        self._commit_again = dict.fromkeys(taken.starts, shared.now() + COMMIT_AGAIN_S * shared.rng.random())
        self._ends: dict[int, int] = {}
        self._is_parked_full = False
        self.backfilled_to: Sequence[int] | None = ()
        """For each partition where what its backfill has put into the lane ends; None: it has not ended. Empty: there is none."""
        shared.calls.lanes += 1
        shared.held_bytes.lanes += 1
        self.update(webhook)

    @property
    def state(self) -> LaneState:
        """What the lane is doing, as people see it."""
        state = self._work.state
        return LaneState.BACKFILLING if state is LaneState.RUNNING and self._is_backfilling else state

    @property
    def _is_backfilling(self) -> bool:
        """Whether something from before the webhook's time is still to be sent, or to come."""
        to = self.backfilled_to
        return to is None or any(
            offsets.commit < to[partition] for partition, offsets in self._lane.partitions.items() if partition < len(to)
        )

    def restore(self, troubles: Troubles, gaps: Sequence[Gap] = ()) -> None:
        """What was parked before this process took the lane, what was missing, and whether its endpoint was down; now it can begin."""
        self._work.gaps.know(gaps)
        self._lane.restore(self._again(record) for record in troubles.parked)
        down = troubles.down
        if down is not None and down.webhook_uid == self.taken.lane.uid:
            since = max(down.since_us, self.webhook.current.updated_us) / 1_000_000  # who resumes it gives it another disableAfter
            self._work.sending.health = Health(self._shared.rng, since=since)
        self._work.intake.is_open = True
        self.go_on()

    def update(self, webhook: Webhook) -> None:
        """The webhook was edited, or its status has changed."""
        before, self.webhook = self.webhook, webhook
        self._work.serve(webhook)
        if before.state is State.DISABLED and webhook.state is State.ACTIVE:
            self._work.forgive_all()
        elif before.current.edit != webhook.current.edit:
            self._work.sending.health.breaker.nudge()
        is_resumed = before.state is State.PAUSED and webhook.state is State.ACTIVE
        if is_resumed or before.current.spec.url != webhook.current.spec.url:
            self._work.sending.health.pace = Pace()  # what the old endpoint asked for is no wish of the new one, or of the repaired one
        self.go_on()

    def _again(self, parked: Parked) -> Parked:
        """What a jump goes over is sent when its turn comes: whoever asked for it has repaired the receiver."""
        start = self.taken.starts.get(parked.partition)
        is_over = start is None or not start.moved or parked.offset < start.offset
        return parked if is_over else msgspec.structs.replace(parked, attempt=0, due_us=0)

    # Records in.

    def read(self, record: LaneRecord) -> None:
        """A record of the lane, in order for each partition; :meth:`go_on` after the last one of a batch."""
        if not self._work.is_ending:  # then no later one is taken either: the commit stays below it
            self._work.intake.read(record)

    def go_on(self) -> None:
        """Do what can be done now."""
        self._work.go_on()

    def _disable(self, reason: str) -> list[Record]:
        """At once here; gives what says so on record, where it holds until the next edit."""
        if self.webhook.state is not State.ACTIVE:
            return []
        current = self.webhook.current
        at_us = int(self._shared.now() * 1_000_000)
        status = WebhookStatus(current.uid, current.name, current.edit, State.DISABLED, reason, at_us)
        self.update(Webhook(current, status))
        logger.warning("webhook %s is disabled: %s", current.name, reason)
        self._work.reports.notice(NoticeKind.DISABLED, reason)
        return [Record(self._shared.webhooks_topic, status_key(current.name), encode_status(status), partition=0)]

    # Commits, and the end.

    def commits(self) -> list[Commit]:
        """What has changed since the last acknowledged commit, and what has not changed for long."""
        lane, now = self.taken.lane, self._shared.now()
        fresh = [
            Commit(lane.topic, partition, offsets.commit, offsets.metadata(lane.uid), offsets.version)
            for partition, offsets in self._lane.partitions.items()
            if offsets.version != self._acknowledged[partition] or now >= self._commit_again[partition]
        ]
        self._committing |= {commit.partition: commit for commit in fresh}
        return fresh

    def committed(self, commit: Commit) -> None:
        """It is acknowledged; one that is not our newest does not count, it may be of an earlier life of this lane."""
        if self._committing.get(commit.partition) is commit:
            self._acknowledged[commit.partition] = commit.version
            self._commit_again[commit.partition] = self._shared.now() + COMMIT_AGAIN_S

    async def drain(self, timeout_s: float) -> list[Commit]:
        """Start nothing more; finish what is under way within the time, abandon the rest; then say what to commit."""
        await self._work.drain(timeout_s)
        return self.commits()

    def halt(self) -> None:
        """It is not ours any more: at once, nothing of it is sent, and nothing of what is shared is used."""
        self._work.give_up()
        self._shared.calls.lanes -= 1
        self._shared.held_bytes.lanes -= 1
        self._work.reports.metrics.remove()

    async def halted(self) -> None:
        """Until the connections of what was under way are closed."""
        await self._work.ended()

    async def forget(self) -> None:
        """The webhook was deleted; to be called when it has :meth:`halted`."""
        if self._work.intake.is_open:
            await self._work.parker.forget()

    # For people.

    @property
    def stopped_places(self) -> list[Place]:
        """The partitions that are not read for now: the consumer does not know their end."""
        return self._work.intake.stopped

    def emptied(self, partition: int, log_start: int) -> None:
        """The log of a partition is empty, and goes on at this offset."""
        self._work.intake.begins_at(partition, log_start)
        self.go_on()

    def ends_at(self, partition: int, end: int) -> None:
        """The offset after the last record of the partition, as Kafka has it."""
        self._ends[partition] = end

    @property
    def waiting(self) -> int | None:
        """How many attempts were made, while another could be and none is under way; None: nothing is to be done now."""
        return self._work.sending.attempts if self._work.is_overdue else None

    def show(self) -> None:
        """Set the gauges; called once a second. What was parked before is not known at first: nothing is shown then, rather than 0."""
        if not self._work.intake.is_open:
            return
        lane, parking = self._lane, self._lane.parking
        parked = {partition: parking.count_in(partition) for partition in lane.partitions}
        lag = sum(lag_of(offsets, self._end(partition), parked[partition]) for partition, offsets in lane.partitions.items())
        self._work.reports.metrics.shows(self.state, lag=lag, in_flight=lane.in_flight, parked=sum(parked.values()))
        if parking.full and not self._is_parked_full:
            logger.warning("%d deliveries of webhook %s are parked: its lane is not read on", parking.count, self.taken.lane.webhook)
        self._is_parked_full = parking.full
        if self.stopped_places:
            self.go_on()  # what is slow may stand in the way by now

    def items(self) -> list[dict[str, Any]]:
        """The items of ``GET /v1/lanes``, one a partition; none before the lane can begin."""
        if not self._work.intake.is_open:
            return []
        name, seen, health = self.taken.lane.webhook, self._work.reports.seen, self._work.sending.health
        return [
            item_of(
                self._lane, partition, self._end(partition), webhook=name, state=self.state, health=health, seen=seen,
                worker=self._shared.worker, now=self._shared.now(),
            )
            for partition in sorted(self._lane.partitions)
        ]  # fmt: skip

    def _end(self, partition: int) -> int:
        return max(self._ends.get(partition, 0), self._work.intake.read_to(partition))


def status_key(webhook: str) -> bytes:
    """The key of a webhook's status in ``webhooks``."""
    return f"{webhook}/status".encode()
