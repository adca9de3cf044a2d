"""
One lane at work: starts calls, and does what is decided about each. The shell around lanes.py, health.py and offsets.py.

All of it runs in the event loop. A sending task works as long as the lane has something for it, then ends; there are never more of them
than calls are allowed. Called by sink.py.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from connectors.webhook.attempts import attempt_of, attempt_record, dead_letter
from connectors.webhook.calls import Failure, Request, Response
from connectors.webhook.health import Health, Policy, Turn, Verdict
from connectors.webhook.intake import Intake
from connectors.webhook.lanes import Held, Lane
from connectors.webhook.lease import uptime_s
from connectors.webhook.metrics import LaneState
from connectors.webhook.notices import Notices
from connectors.webhook.offsets import Entry
from connectors.webhook.ownership import Commit, LaneRecord, Place, Taken
from connectors.webhook.parked import Troubles
from connectors.webhook.parker import Parker
from connectors.webhook.rates import Rate
from connectors.webhook.render import Endpoint, endpoint_of, prepare
from connectors.webhook.retry import OUTCOMES, DeadLetter, Decision, Delivered, Disable, RetryAt, Returned, Schedule, error_of, schedule_of
from connectors.webhook.shared import Shared
from connectors.webhook.view import Seen, item_of, lag_of
from schemas.attempts import AttemptError, ErrorCode
from schemas.durations import seconds
from schemas.errors import Invalid
from schemas.notices import NoticeKind
from schemas.records import encode_status
from schemas.registry import Webhook
from schemas.topics import Record
from schemas.webhooks import State, WebhookStatus

logger = logging.getLogger(__name__)

TIMER_S_MAX = 60.0  # so that a step of the wall clock is noticed
_STATES = {State.ACTIVE: LaneState.RUNNING, State.PAUSED: LaneState.PAUSED, State.DISABLED: LaneState.DISABLED}


class LaneRunner:
    """One webhook's lane, from being taken to being given up. Nothing of it is read or sent before :meth:`restore`."""

    def __init__(self, taken: Taken, webhook: Webhook, shared: Shared) -> None:
        self.taken = taken
        self.webhook = webhook
        self._shared = shared
        self._metrics = shared.metrics.lane(taken.lane.webhook)
        self._notices = Notices(taken.lane.webhook, shared)
        self._lane = Lane(
            taken.starts, uid=taken.lane.uid, concurrency=1, origin_partitions=shared.origin_partitions, parked_max=shared.parked_max
        )
        self._intake = Intake(
            taken.lane,
            self._lane,
            reading=shared.reading,
            held_bytes=shared.held_bytes,
            count=self._count,
            duplicates=shared.metrics.duplicates.labels("lane"),
            due=self._first_due,
            bury=lambda record, dead, entry: self._spawn(self._bury(record, dead, entry)),
        )
        self._parker = Parker(taken.lane, self._lane, shared, self._bury_place)
        self._health = Health(shared.rng)
        self._acknowledged = dict.fromkeys(taken.starts, 0)  # the version of the offsets that is committed
        self._committing: dict[int, Commit] = {}
        self._ends: dict[int, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = 0.0
        self._ending = False
        self._counted = 0  # bytes of ours that the process's budget knows of
        self._endpoint: Endpoint | None = None
        self._policy = Policy(Schedule((0.0,)), 0.0)
        self._rate: Rate | None = None
        self._seen = Seen()
        self._parked_full = False
        shared.calls.lanes += 1
        shared.held_bytes.lanes += 1
        self.update(webhook)

    @property
    def state(self) -> LaneState:
        """What the lane is doing; a webhook that this program cannot send is as good as disabled."""
        if self._endpoint is None:
            return LaneState.DISABLED
        state = _STATES[self.webhook.state]
        return LaneState.DOWN if state is LaneState.RUNNING and self._health.is_down else state

    def update(self, webhook: Webhook) -> None:
        """The webhook was edited, or its status has changed; what is under way ends as it began."""
        before, self.webhook = self.webhook, webhook
        spec = webhook.current.spec
        try:
            self._endpoint = endpoint_of(webhook.current, user_agent=self._shared.user_agent)
            self._policy = Policy(schedule_of(spec.retry), seconds(spec.retry.disable_after), spec.retry.disable_after)
        except (Invalid, ValueError) as error:
            self._endpoint = None
            self._seen.failed(self._shared.now(), AttemptError(ErrorCode.TEMPLATE, str(error)))
            logger.error("webhook %s cannot be sent by this version: %s", spec.name, error)
        self._lane.ordered = spec.delivery.order != "none"
        limit = spec.delivery.rate_limit
        if limit is None:
            self._rate = None
        elif self._rate is None or self._rate.per_s != limit:
            self._rate = Rate(limit, self._shared.now())
        if before.state is State.DISABLED and webhook.state is State.ACTIVE:
            self._resumed()
        elif before.current.edit != webhook.current.edit:
            self._health.breaker.nudge()
        self.go_on()

    def restore(self, troubles: Troubles) -> None:
        """What was parked before this process took the lane, and whether its endpoint was down; now it can begin."""
        self._lane.restore(troubles.parked)
        down = troubles.down
        if down is not None and down.webhook_uid == self.taken.lane.uid:
            since = max(down.since_us, self.webhook.current.updated_us) / 1_000_000  # who resumes it gives it another disableAfter
            self._health = Health(self._shared.rng, since=since)
        self._intake.is_open = True
        self.go_on()

    def _resumed(self) -> None:
        if self._health.is_down:
            self._parker.down(None)
        self._health = Health(self._shared.rng)

    # Records in.

    def read(self, record: LaneRecord) -> None:
        """A record of the lane, in order for each partition; :meth:`go_on` after the last one of a batch."""
        if not self._ending:  # then no later one is taken either: the commit stays below it
            self._intake.read(record)

    def _first_due(self) -> float:
        wait_s = self._policy.schedule.wait_s(1, self._shared.rng)
        return self._shared.now() + wait_s if wait_s else 0.0

    async def _bury(self, record: LaneRecord, dead: DeadLetter, entry: Entry) -> None:
        await self._dead_letter(record.partition, record.offset, record.key, record.value, dead)
        self._notices.about_place(NoticeKind.DEAD, record.key, self._place(record.partition, record.offset), dead.detail)
        self._lane.settled(record.partition, entry)

    async def _bury_place(self, partition: int, offset: int, key: bytes | None, dead: DeadLetter) -> None:
        await self._dead_letter(partition, offset, key, None, dead)
        self._notices.about_place(NoticeKind.DEAD, key, self._place(partition, offset), dead.detail)

    # Calls out.

    def go_on(self) -> None:
        """Take in what waits, park what stands in the way, and start what may start."""
        if self._ending:
            return
        if self._intake.refill():
            self._shared.blocked[self] = None
        if self.state is LaneState.RUNNING:
            now = self._shared.now()
            for partition in self._lane.partitions:
                self._lane.relieve(partition, now)
        for held in self._startable():
            self._spawn(self._work(held))
        self._write_parked()
        self._read_parked()
        self._arm()

    def _startable(self, at_most: int | None = None) -> list[Held]:
        """What may be called now, counted as begun."""
        shared, lane, health = self._shared, self._lane, self._health
        if not self._may_start():
            return []
        now = shared.now()
        share = shared.calls.allows(lane.in_flight)
        lane.concurrency = health.pace.concurrency(self.webhook.current.spec.delivery.concurrency)
        found = lane.ready(now, min(share, self._room(now), share if at_most is None else at_most))
        if len(found) >= share and lane.has_ready:
            shared.blocked[self] = None
        shared.calls.used += len(found)
        if self._rate is not None:
            self._rate.started(len(found))
        health.pace.started(now, len(found))
        for held in found:
            health.started(held.place)
        return found

    def _room(self, now: float) -> int:
        """How many calls the webhook's own limits and the state of its endpoint allow."""
        room = self._health.room(now)
        room = self._lane.concurrency if room is None else room
        return room if self._rate is None else min(room, self._rate.allowed(now))

    def _may_start(self) -> bool:
        is_wanted = self.state in (LaneState.RUNNING, LaneState.DOWN) and self._intake.is_open
        return is_wanted and not self._ending and self._shared.lease.held(uptime_s())

    async def _work(self, held: Held) -> None:
        while True:
            await self._attempt(held)
            self._shared.calls.used -= 1  # a call that is cancelled is counted off in halt
            self._shared.freed()
            if self._intake.stopped or self._lane.parking.documents:
                self.go_on()
            following = self._startable(1)
            if not following:
                self._write_parked()
                return self._arm()
            held = following[0]

    async def _attempt(self, held: Held) -> None:
        shared, webhook, endpoint = self._shared, self.webhook, self._endpoint
        if endpoint is None:  # edited since it was started
            self._health.abandoned(held.place)
            self._lane.give_back(held)
            return
        started, began = shared.now(), uptime_s()
        place = self._place(held.partition, held.offset)
        request = prepare(held.delivery, endpoint, offset=place, attempt=held.attempt, now=started)
        result = await shared.sender.send(request, timeout_s=webhook.current.spec.delivery.timeout_seconds)
        ended = started + uptime_s() - began
        verdict = self._health.judge(result, held.place, held.key, held.attempt, self._policy, started=started, now=ended)
        self._note(held, request, result, verdict.decision, started, ended)
        self._turn(verdict, result)
        await self._carry_out(held, verdict.decision, ended)

    def _turn(self, verdict: Verdict, result: Response | Failure) -> None:
        """The endpoint went down, or came back."""
        if verdict.turn is None:
            return
        name = self.taken.lane.webhook
        if verdict.turn is Turn.UP:
            logger.info("the endpoint of webhook %s is up again", name)
            self._parker.down(None)
            self._notices.about(NoticeKind.UP, "a call has succeeded")
        else:
            error = error_of(result)
            detail = "" if error is None else error.detail
            logger.warning("the endpoint of webhook %s is down: %s", name, detail)
            self._lane.forgive(verdict.forgiven)
            self._parker.down(self._health.breaker.since)
            self._notices.about(NoticeKind.DOWN, detail)
        asyncio.get_running_loop().call_soon(self.go_on)

    async def _carry_out(self, held: Held, decision: Decision, now: float) -> None:
        match decision:
            case Delivered():
                self._finished(held)
            case RetryAt(at):
                self._retry_at(held, at, now)
            case Returned():
                self._lane.give_back(held, last=True)
            case DeadLetter(_, detail):
                await self._dead_letter(held.partition, held.offset, held.key, held.value, decision)
                self._notices.about_delivery(NoticeKind.DEAD, held, self._place(held.partition, held.offset), detail)
                self._finished(held)
            case Disable(reason):
                await self._disable(reason)
                self._lane.give_back(held)

    def _retry_at(self, held: Held, at: float, now: float) -> None:
        was_parked = held.document is not None
        self._lane.retry_at(held, at, now)
        self._count()
        if not was_parked and not held.waits:
            detail = f"attempt {held.attempt} failed; the next one is at {at:.0f}" if self._seen.error is None else self._seen.error.detail
            self._notices.about_delivery(NoticeKind.PARKED, held, self._place(held.partition, held.offset), detail)
        self._arm()

    def _finished(self, held: Held) -> None:
        self._lane.finished(held)
        self._count()

    def _count(self) -> None:
        """Keep the process's budget of bytes up to date."""
        self._shared.held_bytes.used += self._lane.bytes - self._counted
        self._counted = self._lane.bytes

    def _note(self, held: Held, request: Request, result: Response | Failure, decision: Decision, started: float, ended: float) -> None:
        """Attempts, metrics and the last error; none of it can hold up the delivery."""
        self._metrics.attempted(OUTCOMES[type(decision)], ended - started)
        if isinstance(decision, Delivered):
            self._metrics.delivered(ended - held.delivery.change.appended_us / 1_000_000)
            self._seen.delivered_at = ended
        elif (error := error_of(result)) is not None:
            self._seen.failed(ended, error)
        attempt = attempt_of(
            held.delivery, self.taken.lane.webhook, request, result, decision, offset=self._place(held.partition, held.offset),
            attempt=held.attempt, started=started, ended=ended, rng=self._shared.rng,
        )  # fmt: skip
        self._shared.attempts.send_soon(attempt_record(attempt, self._shared.attempts_topic))

    async def _dead_letter(self, partition: int, offset: int, key: bytes | None, value: bytes | None, dead: DeadLetter) -> None:
        source = f"{self.taken.lane.topic}/{partition}/{offset}"
        await self._shared.producer.send([dead_letter(key, value, source, dead, self._shared.dead_letters_topic)])
        self._shared.metrics.dead_letters.labels(dead.reason.value).inc()

    async def _disable(self, reason: str) -> None:
        """At once here, and on record, where it holds until the next edit."""
        if self.webhook.state is not State.ACTIVE:
            return
        current = self.webhook.current
        at_us = int(self._shared.now() * 1_000_000)
        status = WebhookStatus(current.uid, current.name, current.edit, State.DISABLED, reason, at_us)
        self.update(Webhook(current, status))
        logger.warning("webhook %s is disabled: %s", current.name, reason)
        self._notices.about(NoticeKind.DISABLED, reason)
        await self._shared.producer.send(
            [Record(self._shared.webhooks_topic, status_key(current.name), encode_status(status), partition=0)]
        )

    # Parked documents.

    def _write_parked(self) -> None:
        if self._parker.begin():
            self._spawn(self._park())

    async def _park(self) -> None:
        await self._parker.write()
        self._count()
        self.go_on()

    def _read_parked(self) -> None:
        """Read back what is due, as much as may be sent."""
        if not self._may_start() or (self._lane.has_ready and self._health.is_down):
            return
        now = self._shared.now()
        if documents := self._parker.due(now, min(self._room(now), self._shared.calls.allows(self._lane.in_flight))):
            self._spawn(self._read_back(documents))

    async def _read_back(self, documents: list[Any]) -> None:
        await self._parker.read(documents)
        self._count()
        self.go_on()

    # Time.

    def _arm(self) -> None:
        """Wake up when the next retry is due, or the next call allowed."""
        if not self._may_start():
            return  # whatever changes that makes the lane go on
        now = self._shared.now()
        due = self._next(now)
        if due is None:
            return
        if self._timer is not None:
            if self._timer_due <= due:
                return
            self._timer.cancel()
        self._timer_due = due
        self._timer = asyncio.get_running_loop().call_later(min(due - now, TIMER_S_MAX), self._wake)

    def _next(self, now: float) -> float | None:
        """When there will be something to do, if nothing else happens. What is due already waits for a call to end, not for a time."""
        due = self._lane.next_due
        times = [] if due is None else [due]
        if self._lane.has_ready or (due is not None and due <= now):
            times.append(self._health.due(now))
            if self._rate is not None:
                times.append(self._rate.due(now))
        return min((at for at in times if at > now), default=None)

    def _wake(self) -> None:
        self._timer = None
        self.go_on()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._shared.failed(error)

    # Commits, and the end.

    def commits(self) -> list[Commit]:
        """What has changed since the last acknowledged commit."""
        lane = self.taken.lane
        fresh = [
            Commit(lane.topic, partition, offsets.commit, offsets.metadata(lane.uid), offsets.version)
            for partition, offsets in self._lane.partitions.items()
            if offsets.version != self._acknowledged[partition]
        ]
        self._committing |= {commit.partition: commit for commit in fresh}
        return fresh

    def committed(self, commit: Commit) -> None:
        """It is acknowledged; one that is not our newest does not count, it may be of an earlier life of this lane."""
        if self._committing.get(commit.partition) is commit:
            self._acknowledged[commit.partition] = commit.version

    async def drain(self, timeout_s: float) -> list[Commit]:
        """Start nothing more; finish what is under way within the time, abandon the rest; then say what to commit."""
        self._ending = True
        deadline = uptime_s() + timeout_s
        while self._tasks and (left_s := deadline - uptime_s()) > 0:
            await asyncio.wait(set(self._tasks), timeout=left_s)
        self._stop_tasks()
        await self.halted()
        return self.commits()

    def halt(self) -> None:
        """It is not ours any more: at once, nothing of it is sent, and nothing of what is shared is used."""
        self._stop_tasks()
        shared = self._shared
        shared.blocked.pop(self, None)
        shared.calls.used -= self._lane.in_flight
        shared.calls.lanes -= 1
        shared.held_bytes.used -= self._counted
        shared.held_bytes.lanes -= 1
        self._metrics.remove()

    async def halted(self) -> None:
        """Until the connections of what was under way are closed."""
        if self._tasks:
            await asyncio.wait(set(self._tasks))

    async def forget(self) -> None:
        """The webhook was deleted; to be called when it has :meth:`halted`."""
        if self._intake.is_open:
            await self._parker.forget()

    def _stop_tasks(self) -> None:
        self._ending = True
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()

    # For people.

    @property
    def stopped_places(self) -> list[Place]:
        """The partitions that are not read for now: the consumer does not know their end."""
        return self._intake.stopped

    def ends_at(self, partition: int, end: int) -> None:
        """The offset after the last record of the partition, as Kafka has it."""
        self._ends[partition] = end

    def show(self) -> None:
        """Set the gauges; called once a second."""
        lane = self._lane
        parked = {partition: lane.parking.count_in(partition) for partition in lane.partitions}
        lag = sum(lag_of(offsets, self._end(partition), parked[partition]) for partition, offsets in lane.partitions.items())
        self._metrics.shows(self.state, lag=lag, in_flight=lane.in_flight, parked=sum(parked.values()))
        if lane.parking.full != self._parked_full:
            self._parked_full = lane.parking.full
            if self._parked_full:
                logger.warning(
                    "%d deliveries of webhook %s are parked: its lane is not read on", lane.parking.count, self.taken.lane.webhook
                )
        if self._intake.stopped:
            self.go_on()  # what is slow may stand in the way by now

    def items(self) -> list[dict[str, Any]]:
        """The items of ``GET /v1/lanes``, one a partition."""
        return [
            item_of(
                self._lane, partition, self._end(partition), webhook=self.taken.lane.webhook, state=self.state, health=self._health,
                seen=self._seen, worker=self._shared.worker,
            )
            for partition in sorted(self._lane.partitions)
        ]  # fmt: skip

    def _end(self, partition: int) -> int:
        return max(self._ends.get(partition, 0), self._intake.read_to(partition))

    def _place(self, partition: int, offset: int) -> str:
        return str(offset) if len(self.taken.starts) == 1 else f"{partition}:{offset}"


def status_key(webhook: str) -> bytes:
    """The key of a webhook's status in ``webhooks``."""
    return f"{webhook}/status".encode()
