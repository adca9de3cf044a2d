"""
One lane at work: what may start is started, what is missing is put on record, what is parked is written and read back, in time. The shell
around lanes.py; its calls are in sending.py.

All of it runs in the event loop. Called by runner.py.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from connectors.webhook.health import Health, Policy
from connectors.webhook.held import Held
from connectors.webhook.intake import Intake
from connectors.webhook.lanes import Lane
from connectors.webhook.metrics import LaneState
from connectors.webhook.offsets import Entry
from connectors.webhook.ownership import KnownLane, LaneRecord
from connectors.webhook.parker import Parker
from connectors.webhook.parking import Document
from connectors.webhook.rates import Rate
from connectors.webhook.render import Endpoint, endpoint_of
from connectors.webhook.reports import Reports
from connectors.webhook.retry import DeadLetter, schedule_of
from connectors.webhook.sending import Sending
from connectors.webhook.shared import Shared
from schemas.attempts import AttemptError, ErrorCode
from schemas.durations import seconds
from schemas.errors import Invalid
from schemas.gaps import encode_gap, gap_of
from schemas.registry import Webhook
from schemas.topics import Record
from schemas.webhooks import State, WebhookRevision

logger = logging.getLogger(__name__)

TIMER_S_MAX = 60.0  # so that a step of the wall clock is noticed
_STATES = {State.ACTIVE: LaneState.RUNNING, State.PAUSED: LaneState.PAUSED, State.DISABLED: LaneState.DISABLED}


class LaneWork:
    """
    Sends what stands in a lane; nothing before ``is_open``.

    Args:  disable: called with the reason when the endpoint wants no more, or was down for too long; must :meth:`serve` the webhook anew,
               and gives what is to be put on record.
    """

    def __init__(self, known: KnownLane, lane: Lane, shared: Shared, disable: Callable[[str], Sequence[Record]]) -> None:
        self.reports = Reports(known, shared)
        self.is_ending = False
        self._lane, self._shared = lane, shared
        self.intake = Intake(
            known,
            lane,
            reading=shared.reading,
            held_bytes=shared.held_bytes,
            count=self._count,
            duplicates=shared.metrics.duplicates.labels("lane"),
            due=self._first_due,
            bury=lambda record, dead, entry: self._spawn(self._bury(record, dead, entry)),
        )
        self.gaps = self.intake.gaps
        self.parker = Parker(known, lane, shared, self.reports, self.gaps.marker)
        self.sending = Sending(
            known.webhook, lane, shared, self.reports, self.parker,
            swept=self._swept, turned=self.go_on, spawn=self._spawn, disable=disable,
        )  # fmt: skip
        self.tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = 0.0
        self._counted = 0  # bytes of ours that the process's budget knows of
        self._webhook_state = LaneState.PAUSED
        self._revision: WebhookRevision | None = None
        self._is_noting = False
        self._endpoint: Endpoint | None = None
        self._rate: Rate | None = None
        self._concurrency = 1

    @property
    def state(self) -> LaneState:
        """What the lane is doing; a webhook that this program cannot send is as good as disabled."""
        if self._endpoint is None:
            return LaneState.DISABLED
        is_down = self._webhook_state is LaneState.RUNNING and self.sending.health.is_down
        return LaneState.DOWN if is_down else self._webhook_state

    def serve(self, webhook: Webhook) -> None:
        """How the webhook is to be served from now on; what is under way ends as it began."""
        self._revision = webhook.current
        spec = webhook.current.spec
        try:
            self._endpoint = endpoint_of(webhook.current, user_agent=self._shared.user_agent)
            self.sending.policy = Policy(schedule_of(spec.retry), seconds(spec.retry.disable_after), spec.retry.disable_after)
        except (Invalid, ValueError) as error:
            self._endpoint = None
            self.reports.seen.failed(self._shared.now(), AttemptError(ErrorCode.TEMPLATE, str(error)))
            logger.error("webhook %s cannot be sent by this version: %s", spec.name, error)
        self._webhook_state = _STATES[webhook.state]
        self._concurrency, self.sending.timeout_s = spec.delivery.concurrency, spec.delivery.timeout_seconds
        self._lane.ordered = spec.delivery.order != "none"
        limit = spec.delivery.rate_limit
        if limit is None:
            self._rate = None
        elif self._rate is None or self._rate.per_s != limit:
            self._rate = Rate(limit, self._shared.now())

    @property
    def is_overdue(self) -> bool:
        """Whether something could be sent now and no call is under way: true for a moment at most, or nobody has thought of it."""
        now, lane = self._shared.now(), self._lane
        if lane.in_flight or self.parker.is_reading or not self._may_start() or self._room(now) <= 0:
            return False
        return lane.has_ready or any(due <= now for due in lane.dues)

    def forgive_all(self) -> None:
        """The webhook was resumed: its endpoint has a fresh start."""
        if self.sending.health.is_down:
            self.parker.down(None)
        self.sending.health = Health(self._shared.rng)

    def _first_due(self) -> float:
        schedule = self.sending.policy.schedule
        return self._shared.now() + schedule.wait_s(1, self._shared.rng) if schedule.waits_s[0] else 0.0

    async def _bury(self, record: LaneRecord, dead: DeadLetter, entry: Entry) -> None:
        await self.reports.bury(record.partition, record.offset, record.key, record.value, dead)
        self._lane.settled(record.partition, entry)
        self.go_on()  # a marker may have waited for it

    # Calls out.

    def go_on(self) -> None:
        """Take in what waits, park what stands in the way, and start what may start."""
        if self.is_ending:
            return
        now = self._shared.now()  # once: what comes due between two looks at the clock would be sent by neither, and never
        if self.intake.refill():
            self._shared.blocked[self] = None
        self._note_gaps()
        if self.state is LaneState.RUNNING:
            for partition in self._lane.partitions:
                self._lane.relieve(partition, now)
        self._begin(self._startable(now), now)
        self._write_parked()
        self._read_parked(now)
        self._arm(now)

    def _startable(self, now: float) -> list[Held]:
        """What may be called now, counted as begun."""
        shared, lane, health = self._shared, self._lane, self.sending.health
        if lane.in_flight >= self._concurrency or not self._may_start():
            return []
        share = shared.calls.allows(lane.in_flight)
        lane.concurrency = health.pace.concurrency(self._concurrency)
        found = lane.ready(now, min(share, self._room(now)))
        if len(found) >= share and lane.has_ready:
            shared.blocked[self] = None
        shared.calls.used += len(found)
        if self._rate is not None:
            self._rate.started(len(found))
        health.pace.started(now, len(found))
        if health.is_down:  # then it is a probe
            for held in found:
                health.started(held.place)
        return found

    def _room(self, now: float) -> int:
        """How many calls the webhook's own limits and the state of its endpoint allow."""
        room = self.sending.health.room(now)
        room = self._lane.concurrency if room is None else room
        return room if self._rate is None else min(room, self._rate.allowed(now))

    def _may_start(self) -> bool:
        is_wanted = self._endpoint is not None and self._webhook_state is LaneState.RUNNING and self.intake.is_open
        return is_wanted and not self.is_ending and self._shared.lease.held(self._shared.uptime())

    def _begin(self, found: Sequence[Held], now: float) -> None:
        if found and self._endpoint is not None:
            self.sending.begin(found, self._endpoint, now)

    def _swept(self) -> None:
        """Calls have ended."""
        self._count()
        now = self._shared.now()
        following = self._startable(now)
        self._begin(following, now)
        if self._lane.parking.documents or (self.intake.is_stopped and (not following or self.intake.has_room)):
            self.go_on()
        if not following:
            self._write_parked()
        self._arm(now)

    def _count(self) -> None:
        """Keep the process's budget of bytes up to date."""
        self._shared.held_bytes.used += self._lane.bytes - self._counted
        self._counted = self._lane.bytes

    # What is missing.

    def _note_gaps(self) -> None:
        """Only what is about to be sent is missed: a lane that is paused for weeks may lose more all the time."""
        if self.gaps.is_found and not self._is_noting and self._may_start():
            self._is_noting = True
            self._spawn(self._note())

    async def _note(self) -> None:
        """On record first, so that whoever has the lane next sends the same marker; then into the lane."""
        try:
            if (revision := self._revision) is not None and (missing := self.gaps.unrecorded()):
                noted_us = int(self._shared.now() * 1_000_000)
                fresh = [gap_of(one, revision, self.gaps.count + number, noted_us) for number, one in enumerate(missing)]
                topic = self._shared.webhooks_topic
                await self._shared.producer.send([Record(topic, gap.key.encode(), encode_gap(gap), partition=0) for gap in fresh])
                for gap in fresh:
                    self.reports.missing(gap)
                self.gaps.know(fresh)
            self.gaps.take()
        finally:
            self._is_noting = False
        self._count()
        self.go_on()

    # Parked documents.

    def _write_parked(self) -> None:
        if self.parker.begin():
            self._spawn(self._write())

    async def _write(self) -> None:
        await self.parker.write()
        self._count()
        self.go_on()

    def _read_parked(self, now: float) -> None:
        """Read back what is due, as much as may be sent."""
        if not self._lane.parking.documents or not self._may_start() or (self._lane.has_ready and self.sending.health.is_down):
            return
        if documents := self.parker.due(now, min(self._room(now), self._shared.calls.allows(self._lane.in_flight))):
            self._spawn(self._read_back(documents))

    async def _read_back(self, documents: Sequence[Document]) -> None:
        await self.parker.read(documents)
        self._count()
        self.go_on()

    # Time.

    def _arm(self, now: float) -> None:
        """
        Wake up when the next retry is due, or the next call allowed.

        Args:  now: when it was last looked what may start.
        """
        due = self._next(now)
        if due is None or not self._may_start():  # whatever changes the latter makes the lane go on
            return
        if self._timer is not None:
            if self._timer_due <= due:
                return
            self._timer.cancel()
        self._timer_due = due
        self._timer = asyncio.get_running_loop().call_later(min(due - now, TIMER_S_MAX), self._wake)

    def _next(self, now: float) -> float | None:
        """When there will be something to do, if nothing else happens. What is due already waits for a call to end, not for a time."""
        times = self._lane.dues
        if self._lane.has_ready or any(due <= now for due in times):
            times.append(self.sending.health.due(now))
            if self._rate is not None:
                times.append(self._rate.due(now))
        return min((at for at in times if at > now), default=None)

    def _wake(self) -> None:
        self._timer = None
        self.go_on()

    # The end.

    async def drain(self, timeout_s: float) -> None:
        """Start nothing more; finish what is under way within the time, abandon the rest."""
        self.is_ending = True
        self._spawn(self.sending.rest())  # begun before, calls are all that is waited for beside tasks
        deadline = self._shared.uptime() + timeout_s
        while self.tasks and (left_s := deadline - self._shared.uptime()) > 0:
            await asyncio.wait(set(self.tasks), timeout=left_s)
        self._stop()
        await self.ended()

    def give_up(self) -> None:
        """At once; nothing of what is shared is used any more."""
        self._stop()
        shared = self._shared
        shared.blocked.pop(self, None)
        shared.calls.used -= self._lane.in_flight
        shared.held_bytes.used -= self._counted
        for lane in list(shared.blocked):
            asyncio.get_running_loop().call_soon(lane.go_on)
        shared.blocked.clear()

    async def ended(self) -> None:
        """Until the connections of what was under way are closed."""
        if self.tasks:
            await asyncio.wait(set(self.tasks))

    def _stop(self) -> None:
        self.is_ending = True
        if self._timer is not None:
            self._timer.cancel()
        for task in self.tasks:
            task.cancel()
        for closing in self.sending.cancel():
            self._keep(closing)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self._keep(asyncio.get_running_loop().create_task(work))

    def _keep(self, task: asyncio.Task[None]) -> None:
        self.tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._shared.failed(error)
