"""
A sink process of the simulation: Livehook's own lanes (runner.py, work.py and all below them) on an event loop that the world runs.

Written here again is only what stands around them: who owns which lane, reading, committing, and the network. One effect a step.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

from confluent_kafka import TopicPartition
from prometheus_client import CollectorRegistry

from connectors.webhook.calls import Failure, Request, Response
from connectors.webhook.lease import Lease
from connectors.webhook.metrics import SinkMetrics
from connectors.webhook.ownership import Commit, KnownLane, LaneRecord, Place, Taken, start_of
from connectors.webhook.parked import Bodies, Troubles
from connectors.webhook.rates import Share
from connectors.webhook.runner import LaneRunner
from connectors.webhook.shared import Shared
from schemas.deliveries import Match
from schemas.parked import Down, Parked
from schemas.records import decode_parked
from schemas.registry import Registry
from schemas.topics import Record
from tests.simulation.loop import Loop
from tests.simulation.processes import IDLE, Steps
from tests.simulation.topics import DEAD_LETTERS

if TYPE_CHECKING:
    from tests.simulation.world import World

SESSION_S = 30.0
ACTS_MAX = 2  # of a step, and callbacks of the loop before each
CALLBACKS_MAX = 4
SHOW_SHARE = 0.1
DRAIN_S = 8.0
LANE_BYTES_MAX = 8_000
PARKED_MAX = 20
METRICS = SinkMetrics(CollectorRegistry())  # of all processes of all worlds: nobody looks


class Sink:
    """One life of a sink process. It owns a lane as long as ``world.owners`` says so; one that was frozen finds out late."""

    def __init__(self, world: World, number: int) -> None:
        self.world, self.number = world, number
        self.loop = Loop(world.read_clock)  # type: ignore[abstract]
        self.lanes: dict[str, LaneRunner] = {}
        self.calls = Calls(self)
        self.writer = Writer(self)
        self.reader = Reader(self)
        self.lease = Lease(SESSION_S / 2)
        self.shared = Shared(
            sender=self.calls, producer=self.writer, attempts=self.writer, reading=self.reader, records=self.reader, metrics=METRICS,
            lease=self.lease, calls=Share(world.rng.choice([2, 8])), held_bytes=Share(3 * LANE_BYTES_MAX // 2), failed=self._failed,
            attempts_topic="attempts", dead_letters_topic=DEAD_LETTERS, webhooks_topic="webhooks", parked_topic=world.topics.parked,
            parked_max=PARKED_MAX, origin_partitions=world.partitions, user_agent="livehook/1", worker="", rng=world.rng,
            now=world.read_clock, uptime=world.read_clock, lane_bytes_max=LANE_BYTES_MAX,
        )  # fmt: skip
        self._registry = Registry()
        self._webhooks_read = 0
        self._new: list[tuple[str, LaneRunner]] = []  # taken, and what is parked of them is not known yet
        self._draining: dict[str, asyncio.Task[list[Commit]]] = {}
        self._committing: tuple[float, list[Commit]] | None = None
        self._is_lost = False
        world.members[number] = self
        for name, owner in world.owners.items():
            if owner is not None and owner.number == number:
                world.owners[name] = None  # it is known by its name, and has its lanes at once

    def run(self) -> Steps:
        """Until it is closed, which is kill -9."""
        rng = self.world.rng
        try:
            while True:
                with self.loop:
                    for _ in range(rng.randint(1, ACTS_MAX)):
                        has_run = self._run_callbacks(rng.randint(0, CALLBACKS_MAX))
                        possible = self._possible()
                        rng.choice(possible)()
                yield IDLE if not has_run and len(possible) == 1 else None
        finally:
            self.loop.close()

    def _run_callbacks(self, count: int) -> bool:
        """Up to so many; whether there was one, or whether nobody knows."""
        for number in range(count):
            if not self.loop.run_one():
                self.world.sleep(self.loop.next_due)
                return number > 0
        return True

    def _possible(self) -> list[Callable[[], object]]:
        """What could happen next."""
        world, calls, lanes = self.world, self.calls, self.lanes
        found: list[Callable[[], object]] = [self._commit]
        if world.rng.random() < SHOW_SHARE:
            found.append(self._show)
        if calls.sent:
            found.append(calls.arrive)
        if calls.arrived:
            found.append(calls.answer)
        if self.writer.queue:
            found.append(self.writer.write)
        if self.reader.asked:
            found.append(self.reader.answer)
        if self._webhooks_read < len(world.webhooks.records):
            found.append(self._notice)
        if self._new:
            found.append(self._restore)
        if any(map(self.reader.has_more, lanes)):
            found.append(self.reader.poll)
        for name, number in world.wanted.items():
            if (number == self.number) != (world.owners.get(name) is self):
                found.append(self._hand_over)
                break
        if self._draining:
            found.append(self._hand_over)
        return found

    @property
    def is_busy(self) -> bool:
        """Whether it has just taken a lane, or has parked something of one."""
        return bool(self._new) or any(item["parked"] for runner in self.lanes.values() for item in runner.items())

    def left_over(self) -> list[str]:
        """What of the budgets that its lanes share was never given back."""
        calls, held = self.shared.calls.used, self.shared.held_bytes.used
        return [f"sink {self.number}: {calls} calls and {held} bytes are counted, and nothing is under way"] if calls or held else []

    def owns(self, name: str) -> bool:
        """Whether the group would take a commit of the lane from this process."""
        return self.world.owners.get(name) is self

    def _failed(self, error: BaseException) -> None:
        raise error

    # What webhooks there are; as connectors.webhook.sink does it.

    def _notice(self) -> None:
        world, changed = self.world, set()
        for offset, key, value, _ in world.read(world.webhooks, self._webhooks_read, world.rng.randint(1, 4)):
            self._webhooks_read = offset + 1
            changed.add(self._registry.apply(key, value))
        for name, runner in list(self.lanes.items()):
            webhook = self._registry.webhook(name)
            if self._known(name) != runner.taken.lane:
                self._close(name)
                world.owners[name] = None if self.owns(name) else world.owners[name]
            elif webhook is not None and name in changed and webhook != runner.webhook:
                runner.update(webhook)

    def _known(self, name: str) -> KnownLane:
        return KnownLane(name, name, name, 1, tuple(self.world.jumps[name]))

    # Who owns which lane; as connectors.webhook.slots does it.

    def _hand_over(self) -> None:
        self._give_up()
        self._take()

    def _take(self) -> None:
        world = self.world
        if world.members[self.number] is not self:
            return
        for name, number in world.wanted.items():
            webhook = self._registry.webhook(name)
            if number != self.number or world.owners.get(name) is not None or webhook is None:
                continue
            if name in self.lanes:
                self._close(name)
            world.owners[name] = self
            lane = self._known(name)
            offset, metadata = world.lane_commits.get(name, (-1001, ""))
            start = start_of(lane, TopicPartition(name, 0, offset, metadata))
            self.lanes[name] = LaneRunner(Taken(lane, {0: start}), webhook, self.shared)
            self.reader.taken(name, start.offset)
            self.calls.taken(name)
            self._new.append((name, self.lanes[name]))

    def _restore(self) -> None:
        while self._webhooks_read < len(self.world.webhooks.records):
            self._notice()
        while self._new:
            name, runner = self._new.pop()
            webhook = self._registry.webhook(name)
            if self.lanes.get(name) is runner and webhook is not None:
                records = [decode_parked(value) for key, value in self.world.parked.items() if key.startswith(f"{name}/".encode())]
                parked = tuple(record for record in records if isinstance(record, Parked))
                down = next((record for record in records if isinstance(record, Down)), None)
                runner.restore(Troubles(parked, down), self._registry.gaps(webhook.current))
                log = self.world.lanes[name]
                if log.start == len(log.records):
                    runner.emptied(0, log.start)

    def _give_up(self) -> None:
        for name in list(self.lanes):
            drained = self._draining.get(name)
            if not self.owns(name) or (self.world.wanted[name] == self.number and drained is None):
                continue
            if drained is None:
                self._draining[name] = self.loop.create_task(self.lanes[name].drain(DRAIN_S))
            elif drained.done():
                if self.world.rng.random() < 0.8:  # else its last commit fails
                    self._put(drained.result())
                self._close(name)
                self.world.owners[name] = None

    def _close(self, name: str) -> None:
        self._draining.pop(name, None)
        self.lanes.pop(name).halt()
        self.reader.gone(name)

    # Commits; as connectors.webhook.commits and connectors.webhook.sink do it.

    def _commit(self) -> None:
        if self._committing is None:
            if self._is_lost:
                return
            commits = [commit for runner in self.lanes.values() for commit in runner.commits()]
            self._committing = self.world.read_clock(), commits
            return
        (sent, commits), self._committing = self._committing, None
        if any(not self.owns(name) for name in self.lanes):
            self._lose()
            return
        if self.world.rng.random() < 0.1:
            return  # refused, as during a rebalance
        self._put(commits)
        was_held = self.lease.held(self.world.read_clock())
        self.lease.renewed(sent)
        for commit in commits:
            if commit.topic in self.lanes:
                self.lanes[commit.topic].committed(commit)
        if not was_held:
            for runner in self.lanes.values():
                runner.go_on()

    def _put(self, commits: Sequence[Commit]) -> None:
        for commit in commits:
            if self.owns(commit.topic):
                self.world.lane_commits[commit.topic] = commit.offset, commit.metadata

    def _lose(self) -> None:
        self._is_lost = True
        self.lease.lost()
        for name in list(self.lanes):
            self._close(name)

    def _show(self) -> None:
        for runner in self.lanes.values():
            runner.show()


class Calls:
    """The network: calls under way, each of which arrives at some moment, and is answered at a later one, or is lost."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self.sent: list[tuple[Request, asyncio.Future[Response | Failure]]] = []
        self.arrived: list[tuple[Request, Response | Failure, asyncio.Future[Response | Failure]]] = []
        self._delivered: dict[str, set[str]] = {}

    async def send(self, request: Request, *, timeout_s: float) -> Response | Failure:
        world, headers = self._sink.world, dict(request.headers)
        name, offset = headers["livehook-webhook"], int(headers["livehook-offset"])
        # A second copy in the lane is known by its origin; not in a snapshot, nor when a rewind has begun between the two.
        is_marker = headers["livehook-match"] == Match.REQUERY_REQUIRED.value  # is made by the sink, and stands in no lane
        is_known_by_origin = is_marker or (not world.jumps[name] and world.delivery(name, offset).order is not None)
        id_ = headers["webhook-id"] if is_known_by_origin else str(offset)
        if id_ in self._delivered[name]:
            what = f"{headers.get('livehook-document')} version {headers.get('livehook-version')}"
            world.violations.append(f"repeat: {name} {what} after a 2xx")
        future: asyncio.Future[Response | Failure] = self._sink.loop.create_future()
        self.sent.append((request, future))
        found = await future
        if isinstance(found, Response) and found.status == 200:
            self._delivered[name].add(id_)
        return found

    async def close(self) -> None:
        return None

    def taken(self, name: str) -> None:
        """A new life of the lane, which may repeat what the one before has not committed."""
        self._delivered[name] = set()

    def arrive(self) -> None:
        if self.sent:
            request, future = self.sent.pop(self._sink.world.rng.randrange(len(self.sent)))
            if not future.cancelled():
                self.arrived.append((request, self._sink.world.receivers.receive(request), future))

    def answer(self) -> None:
        if self.arrived:
            _, answer, future = self.arrived.pop(self._sink.world.rng.randrange(len(self.arrived)))
            if not future.cancelled():
                future.set_result(answer)


class Writer:
    """The producer: records are written one after the other, and acknowledged together, later."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self.queue: list[tuple[list[Record], asyncio.Future[list[int]]]] = []

    async def send(self, records: Sequence[Record]) -> list[int]:
        future: asyncio.Future[list[int]] = self._sink.loop.create_future()
        self.queue.append(([*records], future))
        return await future

    def send_soon(self, record: Record) -> bool:
        return True

    def write(self) -> None:
        if not self.queue:
            return
        records, future = self.queue[0]
        if records:
            for record in records[: self._sink.world.rng.randint(1, 3)]:
                self._sink.world.written(record)
                del records[0]
        else:
            del self.queue[0]
            if not future.cancelled():
                future.set_result([])


class Reader:
    """The consumer, and what is read back of parked deliveries."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._positions: dict[str, int] = {}
        self._paused: set[str] = set()
        self.asked: list[tuple[str, Collection[int], asyncio.Future[Bodies]]] = []

    def taken(self, name: str, position: int) -> None:
        self._positions[name] = position
        self._paused.discard(name)

    def gone(self, name: str) -> None:
        self._positions.pop(name, None)

    def has_more(self, name: str) -> bool:
        """Whether there is something to read."""
        return name not in self._paused and self._positions[name] < len(self._sink.world.lanes[name].records) and self._sink.owns(name)

    def poll(self) -> None:
        world = self._sink.world
        for name, runner in self._sink.lanes.items():
            if not self.has_more(name):
                continue
            records = world.read(world.lanes[name], self._positions[name], world.rng.randint(0, 4))
            for offset, key, value, _ in records:
                runner.read(LaneRecord(name, 0, offset, key, value))
                self._positions[name] = offset + 1
            if records:
                runner.go_on()

    def pause(self, places: Sequence[Place]) -> None:
        self._paused |= {name for name, _ in places}

    def resume(self, places: Sequence[Place]) -> None:
        self._paused -= {name for name, _ in places}

    async def bodies(self, topic: str, partition: int, wanted: Collection[int]) -> Bodies:
        future: asyncio.Future[Bodies] = self._sink.loop.create_future()
        self.asked.append((topic, wanted, future))
        return await future

    def answer(self) -> None:
        if not self.asked:
            return
        name, wanted, future = self.asked.pop(0)
        log, rng = self._sink.world.lanes[name], self._sink.world.rng
        found = {offset: log.records[offset] for offset in wanted if rng.random() < 0.9}  # the rest: ask again
        records = {offset: LaneRecord(name, 0, offset, one[0], one[1]) for offset, one in found.items() if one is not None}
        if not future.cancelled():
            future.set_result(Bodies(records, frozenset(offset for offset in wanted if offset < log.start)))
