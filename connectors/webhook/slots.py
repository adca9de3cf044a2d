"""
Which lanes this process has, and the one consumer that reads them all: a thread of its own, since librdkafka calls back in whoever polls.

The consumer subscribes to ``slots``, a topic of empty partitions, and gives itself, next to the slots that the group assigns, the lanes
that hash to them. So a new lane needs no rebalance, and commits are fenced by the group's generation all the same. In: records of lanes,
rebalances. Out: calls into the event loop (:class:`ownership.Events`), in the order in which things happened here. Called by sink.py.

Source: docs/explanation/lanes.md; KIP-429 (incremental cooperative rebalancing).
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from connectors.kafka.config import KafkaConfig
from connectors.kafka.logs import librdkafka_logger
from connectors.webhook.commits import ABSENT, Commits, commit_now
from connectors.webhook.consumer import check, end_of, learn_leaders, starts_of
from connectors.webhook.consumer import settings as consumer_settings
from connectors.webhook.ownership import Commit, Events, KnownLane, LaneRecord, Place, Taken, slot_of

logger = logging.getLogger(__name__)

BATCH_RECORDS_MAX = 256
HANDED_RECORDS_MAX = 2_048
HANDED_BYTES_MAX = 32 * 1024 * 1024
POLL_S = 0.01
ENDS_EVERY_S = 1.0
DRAIN_SLACK_S = 5.0
STOP_SLACK_S = 10.0


class Slots:
    """
    Args:  slots_topic: and how many partitions it has.
           client_id: how the other roles find this process (see sink.py).
           instance_id: its lasting name in the group: started again within the session timeout it has its slots again at once, and nobody
               else had them meanwhile. None: its slots go to others as soon as it leaves.
           make_consumer: with librdkafka's settings, and a logger.
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
        instance_id: str | None = None,
        session_timeout_s: float = 30.0,
        drain_s: float = 8.0,
        make_consumer: Callable[..., Any] = Consumer,
    ) -> None:
        self._events = events
        self._slots_topic, self._slots = slots_topic, slots
        self._drain_s = drain_s
        self._loop = asyncio.get_running_loop()
        self._commits = Commits(slots_topic, lambda commits, sent: self._tell(events.committed, commits, sent))
        settings = config.librdkafka() | consumer_settings(group, client_id, session_timeout_s)
        if instance_id is not None:
            settings["group.instance.id"] = instance_id
        self._consumer = make_consumer(
            settings | {"on_commit": self._commits.answered, "error_cb": check}, logger=librdkafka_logger("lanes")
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
        self._has_new_slots = False
        self._leaderless: list[str] = []  # topics of lanes that are new here
        self._ours: set[Place] = set()
        self._ends_due = 0.0
        self._absent: set[str] = set()

    # Called in the event loop.

    def start(self) -> None:
        """Join the group and begin to read."""
        self._thread.start()

    def know(self, lanes: Mapping[str, KnownLane]) -> None:
        """All lanes there are, by webhook: new ones of our slots are taken, those that are gone are given up."""
        self._commands.append(lambda: self._learn(lanes))

    def commit(self, commits: Sequence[Commit]) -> None:
        """
        Commit soon; a newer commit of a partition replaces one that has not been sent. Without any, only ask whether we are a member.

        What is refused is forgotten: who has not heard of :meth:`Events.committed` asks again.
        """
        self._commands.append(lambda: self._commits.want(one for one in commits if (one.topic, one.partition) in self._ours))

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
        """
        Give everything up, drained and committed unless told not to, and leave the group.

        A Kafka that does not answer is not waited for longer than STOP_SLACK_S: the thread is left behind, and others take over after the
        session timeout.
        """
        self._drain_at_end = drain
        self._stopping.set()
        if self._thread.is_alive():
            await self._loop.run_in_executor(None, self._thread.join, self._drain_s + STOP_SLACK_S)
            if self._thread.is_alive():
                logger.warning("Kafka does not answer: left without the last commit, some deliveries will be repeated")
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
            self._lanes.clear()
            self._consumer.close()

    def _obey(self) -> None:
        while self._commands:
            self._commands.popleft()()
        if self._has_new_slots:
            self._has_new_slots = False
            self._take_new()
        if self._leaderless:
            topics, self._leaderless = self._leaderless, []
            learn_leaders(self._consumer, topics)
        self._commits.send(self._consumer, self._mine)
        if time.monotonic() >= self._ends_due:
            self._ends_due = time.monotonic() + ENDS_EVERY_S
            self._tell(self._events.ends, {place: end for place in self._ours if (end := end_of(self._consumer, place)) >= 0})

    def _fetch(self) -> list[LaneRecord]:
        """
        What is there now; waits for the first record only.

        One call for many records: each gives up the interpreter's lock, and may wait for milliseconds to have it again. Rebalances are told
        meanwhile. They take lanes away but give none, so that a record of a lane that is still ours is of its present life.
        """
        first = self._consumer.poll(POLL_S)
        if first is None:
            return []
        messages = [first, *self._consumer.consume(BATCH_RECORDS_MAX - 1, 0)]
        return [record for message in messages if (record := self._record(message)) is not None]

    def _record(self, message: Message) -> LaneRecord | None:
        error = message.error()
        if error is not None:
            self._complain(message, error)
            return None
        topic, partition = message.topic(), message.partition()
        if (topic, partition) not in self._ours:
            return None
        return LaneRecord(topic, partition, message.offset(), message.key(), message.value())  # type: ignore[arg-type]

    def _hand_over(self, records: Sequence[LaneRecord]) -> None:
        """Tell what was fetched, and wait until there is room for more."""
        if records:
            with self._handed:
                self._handed_records += len(records)
                self._handed_bytes += sum([record.size for record in records])
            self._tell(self._events.records, records)
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
        self._has_new_slots = True
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
        places = [place for lane in new for place in lane.places]
        starts = starts_of(self._consumer, {place: lane for lane in new for place in lane.places})
        taken = [Taken(lane, {partition: starts[topic, partition] for topic, partition in lane.places}) for lane in new]
        self._lanes |= {lane.webhook: lane for lane in new}
        self._ours.update(places)
        self._tell(self._events.taken, taken)
        self._consumer.incremental_assign([TopicPartition(*place, starts[place].offset) for place in places])
        self._consumer.resume([TopicPartition(*place) for place in places])  # one may have been paused when it was ours before
        self._leaderless += [lane.topic for lane in new]
        self._absent -= {lane.topic for lane in new}

    def _give_up(self, names: list[str]) -> None:
        """In order: drained, committed, unassigned."""
        if not names:
            return
        try:
            asked = asyncio.run_coroutine_threadsafe(self._events.drain(names, self._drain_s), self._loop)
            commits = asked.result(timeout=self._drain_s + DRAIN_SLACK_S)
            commit_now(self._consumer, commits)
        except (KafkaException, TimeoutError) as error:
            logger.warning("%d lanes are given up without their last commit; some deliveries will be repeated: %s", len(names), error)
        self._drop(names)

    def _drop(self, names: list[str]) -> None:
        if not names:
            return
        places = [place for name in names for place in self._lanes.pop(name).places]
        self._ours.difference_update(places)
        self._commits.forget(places)
        self._tell(self._events.given_up, names)
        self._consumer.incremental_unassign([TopicPartition(*place) for place in places])

    def _each(self, act: Callable[[list[TopicPartition]], None], places: Sequence[Place]) -> None:
        act([TopicPartition(*place) for place in places if place in self._ours])

    # The rest.

    def _complain(self, message: Message, error: KafkaError) -> None:
        topic = message.topic() or ""
        if error.code() in ABSENT:
            if topic not in self._absent:
                logger.info("%s is not there yet, or not any more", topic)
                self._absent.add(topic)
            return
        check(error)
        logger.warning("reading %s: %s", topic or "lanes", error.str())

    def _tell(self, event: Callable[..., None], *what: Any) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(event, *what)
