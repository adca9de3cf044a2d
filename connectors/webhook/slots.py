"""
Which lanes this process has, and the one consumer that reads them all: a thread of its own, since librdkafka calls back in whoever polls.

The consumer subscribes to ``slots``, a topic of empty partitions, and gives itself, next to the slots that the group assigns, the lanes
that hash to them. So a new lane needs no rebalance, and commits are fenced by the group's generation all the same. In: records of lanes,
rebalances. Out: calls into the event loop (:class:`Events`), in the order in which things happened here. Called by sink.py.

A commit during a rebalance is refused (ILLEGAL_GENERATION, REBALANCE_IN_PROGRESS); it is no error: the next one holds it too.
Source: docs/explanation/lanes.md; KIP-429 (incremental cooperative rebalancing).
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from connectors.kafka.config import KafkaConfig
from connectors.kafka.errors import KafkaUnavailable, mapped, passes
from connectors.webhook.lease import uptime_s
from connectors.webhook.offsets import BadMetadata, Start, decode
from schemas.errors import Fatal

logger = logging.getLogger(__name__)

COMMIT_LANES_MAX = 100  # a commit call with more of our metadata is refused
BATCH_RECORDS_MAX = 256
BATCH_BYTES_MAX = 4 * 1024 * 1024
HANDED_RECORDS_MAX = 2_048
HANDED_BYTES_MAX = 32 * 1024 * 1024
POLL_S = 0.01
ENDS_EVERY_S = 1.0
LEADERS_TIMEOUT_S = 2.0
COMMITTED_TIMEOUT_S = 10.0
COMMITTED_TRIES = 6
REFUSED_FOR_NOW = frozenset({KafkaError.ILLEGAL_GENERATION, KafkaError.REBALANCE_IN_PROGRESS, KafkaError.UNKNOWN_MEMBER_ID})
ABSENT = frozenset({KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION})

T = TypeVar("T")
Place = tuple[str, int]
"""Topic and partition."""


class KnownLane(msgspec.Struct, frozen=True):
    """A lane that exists: the topic of a webhook's deliveries."""

    webhook: str
    uid: str
    topic: str
    partitions: int


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

    async def drain(self, webhooks: Sequence[str], timeout_s: float) -> Sequence[Commit]:
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


class Slots:
    """
    Args:  slots_topic: and how many partitions it has.
           client_id: how the other roles find this process (see sink.py).
           drain_s: how long a lane that is given up may take to finish what is under way.
    """

    def __init__(
        self,
        config: KafkaConfig,
        events: Events,
        *,
        group: str,
        slots_topic: str,
        slots: int,
        client_id: str,
        session_timeout_s: float = 30.0,
        drain_s: float = 8.0,
    ) -> None:
        self._events = events
        self._slots_topic, self._slots = slots_topic, slots
        self._drain_s = drain_s
        self._loop = asyncio.get_running_loop()
        self._consumer = Consumer(
            config.librdkafka() | _consumer_settings(group, client_id, session_timeout_s) | {"on_commit": self._on_commit}
        )
        self._thread = threading.Thread(target=self._run, name="slots", daemon=True)
        self._stopping = threading.Event()
        self._drain_at_end = False
        self._commands: deque[Callable[[], None]] = deque()
        self._handed = threading.Condition()
        self._handed_records = self._handed_bytes = 0
        # From here on: the thread's own.
        self._known: Mapping[str, KnownLane] = {}
        self._mine: set[int] = set()
        self._lanes: dict[str, KnownLane] = {}
        self._leaderless: list[str] = []  # topics of lanes that are new here
        self._ours: set[Place] = set()
        self._wanted: dict[Place, Commit] = {}
        self._commit_asked = False
        self._sent: tuple[float, list[Commit]] | None = None  # the one commit under way
        self._ends_due = 0.0
        self._absent: set[str] = set()

    # Called in the event loop.

    def start(self) -> None:
        """Join the group and begin to read."""
        self._thread.start()

    def know(self, lanes: Mapping[str, KnownLane]) -> None:
        """All lanes there are, by webhook: new ones of our slots are taken, those that are gone are given up."""
        self._commands.append(lambda: self._learn(lanes))

    def commit(self, commits: Iterable[Commit]) -> None:
        """
        Commit soon; a newer commit of a partition replaces one that has not been sent. Without any, only ask whether we are a member.

        What is refused is forgotten: who has not heard of :meth:`Events.committed` asks again.
        """
        fresh = {(commit.topic, commit.partition): commit for commit in commits}
        self._commands.append(lambda: self._want(fresh))

    def pause(self, places: Sequence[Place]) -> None:
        """Read no more of these until resumed; what is on the way still comes."""
        self._commands.append(lambda: self._each(self._consumer.pause, places))

    def resume(self, places: Sequence[Place]) -> None:
        """Read on."""
        self._commands.append(lambda: self._each(self._consumer.resume, places))

    def handled(self, records: Sequence[LaneRecord]) -> None:
        """These need no room between the threads any more."""
        with self._handed:
            self._handed_records -= len(records)
            self._handed_bytes -= sum(record.size for record in records)
            self._handed.notify()

    async def stop(self, *, drain: bool) -> None:
        """Give everything up, drained and committed unless told not to, and leave the group."""
        self._drain_at_end = drain
        self._stopping.set()
        if self._thread.is_alive():
            await self._loop.run_in_executor(None, self._thread.join)
        elif self._thread.ident is None:  # never started
            await self._loop.run_in_executor(None, self._consumer.close)

    # The thread.

    def _run(self) -> None:
        try:
            self._consumer.subscribe([self._slots_topic], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost)
            while not self._stopping.is_set():
                self._obey()
                self._hand_over(self._fetch())
            if self._drain_at_end:
                self._give_up(list(self._lanes))
            self._drop(list(self._lanes))
            self._consumer.close()
        except Exception as error:  # noqa: BLE001  whatever it is, the sink must not go on without its consumer
            self._tell(self._events.failed, error)

    def _obey(self) -> None:
        while self._commands:
            self._commands.popleft()()
        if self._leaderless:
            self._learn_leaders()
        self._send_commit()
        if time.monotonic() >= self._ends_due:
            self._ends_due = time.monotonic() + ENDS_EVERY_S
            self._tell(self._events.ends, {place: end for place in self._ours if (end := self._end(place)) >= 0})

    def _fetch(self) -> list[LaneRecord]:
        """What is there now; waits for the first record only. One at a time, so that none is in hand while a callback changes the lanes."""
        batch: list[LaneRecord] = []
        size = 0
        message = self._consumer.poll(POLL_S)
        while message is not None:
            record = self._record(message)
            if record is not None:
                batch.append(record)
                size += record.size
            if len(batch) >= BATCH_RECORDS_MAX or size >= BATCH_BYTES_MAX:
                break
            message = self._consumer.poll(0)
        return batch

    def _record(self, message: Message) -> LaneRecord | None:
        error = message.error()
        if error is not None:
            self._complain(message, error)
            return None
        return LaneRecord(message.topic(), message.partition(), message.offset(), message.key(), message.value())  # type: ignore[arg-type]

    def _hand_over(self, batch: list[LaneRecord]) -> None:
        if not batch:
            return
        with self._handed:
            self._handed_records += len(batch)
            self._handed_bytes += sum(record.size for record in batch)
        self._tell(self._events.records, batch)
        while not self._stopping.is_set():
            with self._handed:
                if self._handed_records <= HANDED_RECORDS_MAX and self._handed_bytes <= HANDED_BYTES_MAX:
                    return
                self._handed.wait(POLL_S)
            self._obey()

    # Lanes and slots.

    def _on_assign(self, consumer: Consumer, slots: list[TopicPartition]) -> None:
        consumer.incremental_assign(slots)
        self._mine |= {slot.partition for slot in slots}
        self._take_new()
        self._tell(self._events.rebalanced)

    def _on_revoke(self, consumer: Consumer, slots: list[TopicPartition]) -> None:
        gone = {slot.partition for slot in slots}
        self._give_up([name for name in self._lanes if slot_of(name, self._slots) in gone])
        self._mine -= gone
        consumer.incremental_unassign(slots)

    def _on_lost(self, consumer: Consumer, slots: list[TopicPartition]) -> None:
        logger.warning("the group has given %d slots away", len(slots))
        self._tell(self._events.lost)
        self._drop(list(self._lanes))
        self._mine.clear()
        consumer.incremental_unassign(slots)

    def _learn(self, lanes: Mapping[str, KnownLane]) -> None:
        self._known = lanes
        self._drop([name for name, lane in self._lanes.items() if lanes.get(name) != lane])
        self._take_new()

    def _take_new(self) -> None:
        new = [lane for name, lane in self._known.items() if name not in self._lanes and slot_of(name, self._slots) in self._mine]
        if not new:
            return
        places = [TopicPartition(topic, partition) for topic, partition in self._places(new)]
        found = {(at.topic, at.partition): at for at in self._committed(places)}
        taken = [
            Taken(lane, {partition: start_of(lane, found[lane.topic, partition]) for partition in range(lane.partitions)}) for lane in new
        ]
        self._lanes |= {lane.webhook: lane for lane in new}
        self._ours.update(self._places(new))
        self._tell(self._events.taken, taken)
        self._consumer.incremental_assign(
            [TopicPartition(each.lane.topic, partition, start.offset) for each in taken for partition, start in each.starts.items()]
        )
        self._consumer.resume(places)  # one that was paused when it was ours before
        self._leaderless += [lane.topic for lane in new]

    def _learn_leaders(self) -> None:
        """
        librdkafka looks for the leader of a new topic only once a second; when it is asked for the topic, it knows at once.

        Not to be called in a callback: Python's binding loses its state there in list_topics, and the next callback ends the process.
        """
        topics, self._leaderless = self._leaderless, []
        try:
            self._consumer.list_topics(topics[0] if len(topics) == 1 else None, timeout=LEADERS_TIMEOUT_S)
        except KafkaException as error:
            logger.info("the leaders of %d lanes are not known yet: %s", len(topics), error)

    def _committed(self, places: list[TopicPartition]) -> list[TopicPartition]:
        for tries in range(1, COMMITTED_TRIES + 1):
            try:
                return self._consumer.committed(places, timeout=COMMITTED_TIMEOUT_S)
            except KafkaException as error:
                reason = error.args[0]
                if not passes(reason) or tries == COMMITTED_TRIES:
                    raise mapped(reason, "read the committed offsets of the lanes") from error
                logger.info("the committed offsets are not there yet: %s", reason.str())
        raise KafkaUnavailable("cannot read the committed offsets of the lanes")

    def _give_up(self, names: list[str]) -> None:
        """In order: drained, committed, unassigned."""
        if not names:
            return
        try:
            asked = asyncio.run_coroutine_threadsafe(_list(self._events.drain(names, self._drain_s)), self._loop)
            commits = asked.result(timeout=self._drain_s + 5.0)
            for first in range(0, len(commits), COMMIT_LANES_MAX):
                self._consumer.commit(offsets=_offsets(commits[first : first + COMMIT_LANES_MAX]), asynchronous=False)
        except (KafkaException, TimeoutError) as error:
            logger.warning("%d lanes are given up without their last commit; some deliveries will be repeated: %s", len(names), error)
        self._drop(names)

    def _drop(self, names: list[str]) -> None:
        if not names:
            return
        lanes = [self._lanes.pop(name) for name in names]
        self._ours.difference_update(self._places(lanes))
        for place in self._places(lanes):
            self._wanted.pop(place, None)
        self._tell(self._events.given_up, names)
        self._consumer.incremental_unassign([TopicPartition(topic, partition) for topic, partition in self._places(lanes)])

    def _places(self, lanes: Iterable[KnownLane]) -> list[Place]:
        return [(lane.topic, partition) for lane in lanes for partition in range(lane.partitions)]

    def _each(self, act: Callable[[list[TopicPartition]], None], places: Sequence[Place]) -> None:
        act([TopicPartition(*place) for place in places if place in self._ours])

    # Commits.

    def _want(self, fresh: Mapping[Place, Commit]) -> None:
        self._wanted |= {place: commit for place, commit in fresh.items() if place in self._ours}
        self._commit_asked = True

    def _send_commit(self) -> None:
        if self._sent is not None or not self._commit_asked or not self._mine:
            return
        commits = [self._wanted.pop(place) for place in list(self._wanted)[: COMMIT_LANES_MAX - 1]]
        # A slot beside the lanes: it is always there and always ours, so its acknowledgement says that we are a member of the group.
        member = TopicPartition(self._slots_topic, min(self._mine), 0)
        self._sent = uptime_s(), commits
        self._commit_asked = bool(self._wanted)
        self._consumer.commit(offsets=[member, *_offsets(commits)], asynchronous=True)

    def _on_commit(self, error: KafkaError | None, offsets: list[TopicPartition]) -> None:
        if self._sent is None:
            return  # a commit of _give_up, whose caller knows
        sent, commits = self._sent
        self._sent = None
        if error is not None and error.code() not in ABSENT:
            level = logging.INFO if error.code() in REFUSED_FOR_NOW or passes(error) else logging.WARNING
            logger.log(level, "a commit was refused and is tried again: %s", error.str())
            return
        refused = {(at.topic, at.partition) for at in offsets if at.error is not None}
        if any(topic == self._slots_topic for topic, _ in refused):
            return
        self._tell(self._events.committed, [commit for commit in commits if (commit.topic, commit.partition) not in refused], sent)

    # The rest.

    def _end(self, place: Place) -> int:
        _, end = self._consumer.get_watermark_offsets(TopicPartition(*place), cached=True) or (-1, -1)
        return end

    def _complain(self, message: Message, error: KafkaError) -> None:
        topic = message.topic() or ""
        if error.code() in ABSENT:
            if topic not in self._absent:
                logger.info("%s is not there yet, or not any more", topic)
                self._absent.add(topic)
            return
        self._on_error(error)
        logger.warning("reading %s: %s", topic or "lanes", error.str())

    def _on_error(self, error: KafkaError) -> None:
        if error.fatal():
            raise Fatal(f"the consumer of the lanes cannot go on: {error.str()}")
        logger.info("Kafka: %s", error.str())

    def _tell(self, event: Callable[..., None], *what: Any) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(event, *what)


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


def _offsets(commits: Sequence[Commit]) -> list[TopicPartition]:
    return [TopicPartition(commit.topic, commit.partition, commit.offset, commit.metadata) for commit in commits]


async def _list(drained: Coroutine[Any, Any, Sequence[T]]) -> list[T]:
    return list(await drained)


def _consumer_settings(group: str, client_id: str, session_timeout_s: float) -> dict[str, Any]:
    return {
        "group.id": group,
        "client.id": client_id,
        "partition.assignment.strategy": "cooperative-sticky",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "earliest",
        "session.timeout.ms": int(session_timeout_s * 1000),
        "heartbeat.interval.ms": int(session_timeout_s * 100),
        # A lane that is resumed is part of the next fetch; an idle fetch must not hold that up.
        "fetch.wait.max.ms": 100,
        "fetch.queue.backoff.ms": 10,
        "queued.max.messages.kbytes": 64 * 1024,
        "topic.metadata.refresh.interval.ms": 30_000,
    }
