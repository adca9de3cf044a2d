"""
One lane at work: starts calls, and does what is decided about each. The shell around lanes.py, retry.py and offsets.py.

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
from connectors.webhook.intake import Intake
from connectors.webhook.lanes import Held, Lane
from connectors.webhook.lease import uptime_s
from connectors.webhook.metrics import LaneState
from connectors.webhook.offsets import Entry
from connectors.webhook.ownership import Commit, LaneRecord, Place, Taken
from connectors.webhook.rates import Rate
from connectors.webhook.render import Endpoint, endpoint_of, prepare
from connectors.webhook.retry import OUTCOMES, DeadLetter, Decision, Delivered, Disable, RetryAt, Schedule, decide, error_of, schedule_of
from connectors.webhook.shared import Shared
from schemas.attempts import AttemptError, ErrorCode
from schemas.errors import Invalid
from schemas.records import encode_status
from schemas.registry import Webhook
from schemas.times import rfc3339
from schemas.topics import Record
from schemas.webhooks import State, WebhookStatus

logger = logging.getLogger(__name__)

TIMER_S_MAX = 60.0  # so that a step of the wall clock is noticed
_STATES = {State.ACTIVE: LaneState.RUNNING, State.PAUSED: LaneState.PAUSED, State.DISABLED: LaneState.DISABLED}


class LaneRunner:
    """One webhook's lane, from being taken to being given up."""

    def __init__(self, taken: Taken, webhook: Webhook, shared: Shared) -> None:
        self.taken = taken
        self.webhook = webhook
        self._shared = shared
        self._metrics = shared.metrics.lane(taken.lane.webhook)
        self._lane = Lane(taken.starts, concurrency=1, origin_partitions=shared.origin_partitions)
        self._intake = Intake(
            taken.lane,
            self._lane,
            reading=shared.reading,
            held_bytes=shared.held_bytes,
            duplicates=shared.metrics.duplicates.labels("lane"),
            due=self._first_due,
            bury=lambda record, dead, entry: self._spawn(self._bury(record, dead, entry)),
        )
        self._acknowledged = dict.fromkeys(taken.starts, 0)  # the version of the offsets that is committed
        self._committing: dict[int, Commit] = {}
        self._ends: dict[int, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = 0.0
        self._ending = False
        self._endpoint: Endpoint | None = None
        self._schedule = Schedule((0.0,))
        self._rate: Rate | None = None
        self._delivered_at: float | None = None
        self._last_error: tuple[float, AttemptError] | None = None
        shared.calls.lanes += 1
        shared.held_bytes.lanes += 1
        self.update(webhook)

    @property
    def state(self) -> LaneState:
        """What the lane is doing; a webhook that this program cannot send is as good as disabled."""
        return LaneState.DISABLED if self._endpoint is None else _STATES[self.webhook.state]

    def update(self, webhook: Webhook) -> None:
        """The webhook was edited, or its status has changed; what is under way ends as it began."""
        self.webhook = webhook
        spec = webhook.current.spec
        try:
            self._endpoint = endpoint_of(webhook.current, user_agent=self._shared.user_agent)
            self._schedule = schedule_of(spec.retry)
        except (Invalid, ValueError) as error:
            self._endpoint = None
            self._last_error = self._shared.now(), AttemptError(ErrorCode.TEMPLATE, str(error))
            logger.error("webhook %s cannot be sent by this version: %s", spec.name, error)
        self._lane.concurrency = spec.delivery.concurrency
        self._lane.ordered = spec.delivery.order != "none"
        limit = spec.delivery.rate_limit
        if limit is None:
            self._rate = None
        elif self._rate is None or self._rate.per_s != limit:
            self._rate = Rate(limit, self._shared.now())
        self.go_on()

    # Records in.

    def read(self, record: LaneRecord) -> None:
        """A record of the lane, in order for each partition; :meth:`go_on` after the last one of a batch."""
        if not self._ending:  # then no later one is taken either: the commit stays below it
            self._intake.read(record)

    def _first_due(self) -> float:
        wait_s = self._schedule.wait_s(1, self._shared.rng)
        return self._shared.now() + wait_s if wait_s else 0.0

    async def _bury(self, record: LaneRecord, dead: DeadLetter, entry: Entry) -> None:
        await self._dead_letter(record.partition, record.offset, record.key, record.value, dead)
        self._lane.settled(record.partition, entry)

    # Calls out.

    def go_on(self) -> None:
        """Take in what waits and start what may start."""
        if self._ending:
            return
        if self._intake.refill():
            self._shared.blocked[self] = None
        for held in self._startable():
            self._spawn(self._work(held))
        self._arm()

    def _startable(self, at_most: int | None = None) -> list[Held]:
        """What may be called now, counted as begun."""
        shared = self._shared
        if not self._may_start():
            return []
        now = shared.now()
        share = shared.calls.allows(self._lane.in_flight)
        room = share if at_most is None else min(share, at_most)
        if self._rate is not None:
            room = min(room, self._rate.allowed(now))
        found = self._lane.ready(now, room)
        if len(found) >= share and self._lane.has_ready:
            shared.blocked[self] = None
        shared.calls.used += len(found)
        if self._rate is not None:
            self._rate.started(len(found))
        return found

    def _may_start(self) -> bool:
        return not self._ending and self.state is LaneState.RUNNING and self._shared.lease.held(uptime_s())

    async def _work(self, held: Held) -> None:
        while True:
            await self._attempt(held)
            self._shared.calls.used -= 1  # a call that is cancelled is counted off in close
            self._shared.freed()
            if self._intake.stopped:
                self.go_on()
            following = self._startable(1)
            if not following:
                return self._arm()
            held = following[0]

    async def _attempt(self, held: Held) -> None:
        shared, webhook, schedule, endpoint = self._shared, self.webhook, self._schedule, self._endpoint
        if endpoint is None:  # edited since it was started
            self._lane.give_back(held)
            return
        started, began = shared.now(), uptime_s()
        request = prepare(held.delivery, endpoint, offset=self._place(held), attempt=held.attempt, now=started)
        result = await shared.sender.send(request, timeout_s=webhook.current.spec.delivery.timeout_seconds)
        ended = started + uptime_s() - began
        decision = decide(result, held.attempt, schedule, ended, shared.rng)
        self._note(held, request, result, decision, started, ended)
        await self._carry_out(held, decision)

    async def _carry_out(self, held: Held, decision: Decision) -> None:
        match decision:
            case Delivered():
                self._finished(held)
            case RetryAt(at):
                self._lane.retry_at(held, at)
                self._arm()
            case DeadLetter():
                await self._dead_letter(held.partition, held.offset, held.key, held.value, decision)
                self._finished(held)
            case Disable(reason):
                await self._disable(reason)
                self._lane.give_back(held)

    def _finished(self, held: Held) -> None:
        before = self._lane.bytes
        self._lane.finished(held)
        self._shared.held_bytes.used += self._lane.bytes - before

    def _note(self, held: Held, request: Request, result: Response | Failure, decision: Decision, started: float, ended: float) -> None:
        """Attempts, metrics and the last error; none of it can hold up the delivery."""
        self._metrics.attempted(OUTCOMES[type(decision)], ended - started)
        if isinstance(decision, Delivered):
            self._metrics.delivered(ended - held.delivery.change.appended_us / 1_000_000)
            self._delivered_at = ended
        elif (error := error_of(result)) is not None:
            self._last_error = ended, error
        attempt = attempt_of(
            held.delivery, self.taken.lane.webhook, request, result, decision,
            offset=self._place(held), attempt=held.attempt, started=started, ended=ended, rng=self._shared.rng,
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
        await self._shared.producer.send(
            [Record(self._shared.webhooks_topic, status_key(current.name), encode_status(status), partition=0)]
        )

    def _arm(self) -> None:
        """Wake up when the next retry is due, or the rate allows the next call."""
        if not self._may_start():
            return  # whatever changes that makes the lane go on
        now = self._shared.now()
        due = self._lane.next_due
        if self._rate is not None and self._lane.has_ready and not self._rate.allowed(now):
            due = min(self._rate.due(now), due or float("inf"))
        if due is None:
            return
        if self._timer is not None:
            if self._timer_due <= due:
                return
            self._timer.cancel()
        self._timer_due = due
        self._timer = asyncio.get_running_loop().call_later(min(max(due - now, 0.0), TIMER_S_MAX), self._wake)

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
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=timeout_s)
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
        shared.held_bytes.used -= self._lane.bytes
        shared.held_bytes.lanes -= 1
        self._metrics.remove()

    async def halted(self) -> None:
        """Until the connections of what was under way are closed."""
        if self._tasks:
            await asyncio.wait(set(self._tasks))

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
        """Set the gauges."""
        lag = sum(self._lag(partition) for partition in self._lane.partitions)
        self._metrics.shows(self.state, lag=lag, in_flight=self._lane.in_flight)

    def items(self) -> list[dict[str, Any]]:
        """The items of ``GET /v1/lanes``, one a partition."""
        return [self._item(partition) for partition in sorted(self._lane.partitions)]

    def _item(self, partition: int) -> dict[str, Any]:
        offsets = self._lane.partitions[partition]
        under_way = sum(1 for held in self._lane.under_way if held.partition == partition)
        error = self._last_error
        return {
            "webhook": self.taken.lane.webhook,
            "partition": partition,
            "state": self.state.value,
            "lag": self._lag(partition),
            "offset": {"committed": offsets.commit, "end": self._end(partition)},
            "inFlight": under_way,
            "queued": offsets.unfinished - under_way,
            "parked": 0,
            "breaker": "closed",
            "nextProbeAt": None,
            "lastDeliveredAt": _time(self._delivered_at),
            "lastError": None if error is None else {"at": _time(error[0]), "code": error[1].code.value, "detail": error[1].detail},
            "worker": self._shared.worker,
        }

    def _end(self, partition: int) -> int:
        return max(self._ends.get(partition, 0), self._intake.read_to(partition))

    def _lag(self, partition: int) -> int:
        offsets = self._lane.partitions[partition]
        return self._end(partition) - offsets.position + offsets.unfinished

    def _place(self, held: Held) -> str:
        return str(held.offset) if len(self.taken.starts) == 1 else f"{held.partition}:{held.offset}"


def status_key(webhook: str) -> bytes:
    """The key of a webhook's status in ``webhooks``."""
    return f"{webhook}/status".encode()


def _time(at: float | None) -> str | None:
    return None if at is None else rfc3339(int(at * 1_000_000))
