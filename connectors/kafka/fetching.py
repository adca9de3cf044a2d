"""
Many partitions read ahead of whoever takes the records: no group, nothing committed; who owns which partition is decided elsewhere.

librdkafka's consumer decodes a record in about a microsecond; the Python client through which Faust keeps its group needs half a ms of
CPU for each of the small answers that a quiet topic gives. A thread of its own polls, for librdkafka's calls block; what it received waits
here, bounded in records and bytes for each partition. Every other call to the consumer is made in that thread too: the Python binding
(2.16) blocks for good when another thread asks a consumer that is being polled for its watermarks. Used by livehook/streams_role.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence

import msgspec
from confluent_kafka import OFFSET_BEGINNING, TIMESTAMP_NOT_AVAILABLE, Consumer, KafkaError, Message, TopicPartition

from connectors.kafka.config import KafkaConfig
from connectors.kafka.errors import mapped, passes
from connectors.kafka.logs import librdkafka_logger
from schemas.topics import BATCH_BYTES_MAX, BATCH_RECORDS_MAX

logger = logging.getLogger(__name__)

HELD_RECORDS_MAX = 4 * BATCH_RECORDS_MAX
HELD_BYTES_MAX = 2 * 1024 * 1024
CONSUMED_MAX = 500  # records by one call: more would hold up the commands that wait behind it
_POLL_S = 0.1
_POLL_PAUSED_S = 0.005  # a partition that is to be read on waits for no longer than this
_STOP_S = 10.0
_SETTINGS: dict[str, str | int | float | bool] = {
    "group.id": "livehook.unused",  # librdkafka wants one; nobody joins it and nothing is committed to it
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "auto.offset.reset": "earliest",  # what retention has removed before it was read is reported at assignment
    "isolation.level": "read_committed",  # what a producer took back was never accepted
    "enable.partition.eof": True,  # tells how far it has read where the last offset is no record's (the end of a transaction)
    "topic.metadata.refresh.interval.ms": 10_000,  # where a leader is not found at once, it is not looked for only after five minutes
    "fetch.wait.max.ms": 100,  # a partition that is new, or read on, is part of the next fetch; an idle one must not hold that up
    "fetch.queue.backoff.ms": 10,
    "fetch.error.backoff.ms": 100,
    "queued.min.messages": 5 * BATCH_RECORDS_MAX,
    "queued.max.messages.kbytes": 16 * 1024,
}

Place = tuple[str, int]


class Received(msgspec.Struct, frozen=True, gc=False):
    """A record; ``timestamp``: ms since 1970, the broker's clock where the topic says so, -1 without one."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    timestamp: int
    headers: Sequence[tuple[str, bytes | None]]

    @property
    def size(self) -> int:
        """Bytes of key and value."""
        return len(self.key or b"") + len(self.value or b"")


class Held:
    """
    What of one partition was received and not taken. Pure.

    reading:     librdkafka has begun; what came before belongs to an assignment that was ended.
    position:    all before this offset was received, or is nothing that can be received; None: not known yet.
    log_end:     the offset after the partition's last record, as the last answer had it.
    Guarantees:  every record once, in order.
    """

    __slots__ = ("_bytes", "_records", "log_end", "paused", "position", "reading")

    def __init__(self) -> None:
        self._records: deque[Received] = deque()
        self._bytes = 0
        self.log_end: int | None = None
        self.position: int | None = None
        self.paused = False
        self.reading = False

    def put(self, record: Received) -> None:
        """The next record."""
        self._records.append(record)
        self._bytes += record.size
        self.position = record.offset + 1

    def take(self) -> list[Received]:
        """What comes next, at most BATCH_RECORDS_MAX records and, where one record alone is not larger, BATCH_BYTES_MAX bytes."""
        batch: list[Received] = []
        size = 0
        while self._records and len(batch) < BATCH_RECORDS_MAX:
            size += self._records[0].size
            if batch and size > BATCH_BYTES_MAX:
                break
            batch.append(self._records.popleft())
        self._bytes -= sum(record.size for record in batch)
        return batch

    @property
    def empty(self) -> bool:
        """Nothing is there to be taken."""
        return not self._records

    @property
    def full(self) -> bool:
        """Nothing more should be received for now."""
        return len(self._records) >= HELD_RECORDS_MAX or self._bytes >= HELD_BYTES_MAX

    @property
    def thin(self) -> bool:
        """A full one may be read on: there is room worth a fetch."""
        return len(self._records) <= HELD_RECORDS_MAX // 2 and self._bytes <= HELD_BYTES_MAX // 2


class Fetcher:
    """See :class:`streams.ports.Fetcher`. All but the polling is called in the event loop that it was made in."""

    def __init__(self, config: KafkaConfig, *, client_id: str) -> None:
        settings = config.librdkafka() | _SETTINGS | {"client.id": client_id}
        self._consumer = Consumer(settings, logger=librdkafka_logger("fetcher"))
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self._lock = threading.Lock()  # over _held, its contents, and the pauses that follow from them
        self._held: dict[Place, Held] = {}
        self._commands: deque[Callable[[], None]] = deque()
        self._stopping = threading.Event()
        self._failed: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="fetcher", daemon=True)

    def start(self) -> None:
        """Begin to poll."""
        self._thread.start()

    async def stop(self) -> None:
        """Give up the connections."""
        self._stopping.set()
        if self._thread.ident is None:
            self._consumer.close()
        else:
            await self._loop.run_in_executor(None, self._thread.join, _STOP_S)

    def begin(self, offsets: Mapping[Place, int | None]) -> None:
        """Read these, each from its offset on; None: from the first record kept. None of them may be read already."""
        begun = {place: Held() for place in offsets}
        with self._lock:
            self._held |= begun
        self._commands.append(lambda: self._assign(dict(offsets), begun))

    def end(self, places: Collection[Place]) -> None:
        """Read these no more, and forget what was not taken."""
        gone = list(places)
        with self._lock:
            for place in gone:
                self._held.pop(place, None)
        self._commands.append(lambda: self._consumer.incremental_unassign([TopicPartition(*place) for place in gone]))

    def take(self, places: Collection[Place]) -> Mapping[Place, Sequence[Received]]:
        """
        The next batch of each of these that has something.

        Raises:  KafkaRefused: a partition cannot be read.
        """
        self._news.clear()
        if self._failed is not None:
            raise self._failed
        with self._lock:
            return {place: batch for place in places if (held := self._held.get(place)) is not None and (batch := held.take())}

    def has(self, place: Place) -> bool:
        """Whether something of it waits to be taken."""
        held = self._held.get(place)
        return held is not None and not held.empty

    async def wait(self, timeout_s: float) -> None:
        """Until something came after the last :meth:`take`, or :meth:`wake` was called."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._news.wait()

    def wake(self) -> None:
        """End the present :meth:`wait`."""
        self._news.set()

    def log_end(self, place: Place) -> int | None:
        """The offset after the partition's last record, as the last answer had it; None before the first one."""
        held = self._held.get(place)
        return None if held is None else held.log_end

    def position(self, place: Place) -> int | None:
        """All before this offset was received, or is nothing that can be received; None: not known yet."""
        held = self._held.get(place)
        return None if held is None else held.position

    # The thread.

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                while self._commands:
                    self._commands.popleft()()
                first = self._consumer.poll(_POLL_PAUSED_S if self._read_on() else _POLL_S)
                if first is not None:
                    # poll alone hands over one record a call, consume alone waits until its batch is full: together they do neither
                    self._keep([first, *self._consumer.consume(CONSUMED_MAX - 1, 0)])
        except Exception as error:  # noqa: BLE001 - raised again by whoever takes next
            self._failed = error
            self._tell()
        finally:
            self._consumer.close()

    def _assign(self, offsets: Mapping[Place, int | None], begun: Mapping[Place, Held]) -> None:
        begins = [TopicPartition(*place, OFFSET_BEGINNING if offset is None else offset) for place, offset in offsets.items()]
        self._consumer.incremental_assign(begins)
        self._consumer.resume(begins)  # one may have been paused when it was read before
        for held in begun.values():  # in this thread, between two polls: no record of an earlier assignment is in hand
            held.reading = True

    def _keep(self, messages: Sequence[Message]) -> None:
        with self._lock:
            touched = {self._keep_one(message) for message in messages}
            for place in touched:
                if place is not None and (held := self._held.get(place)) is not None:
                    held.log_end = self._log_end(place)
        if touched != {None}:
            self._tell()

    def _keep_one(self, message: Message) -> Place | None:
        """The partition that a record came of; None: it was none, or of a partition that was given up in this moment."""
        place = message.topic() or "", message.partition() or 0
        held = self._held.get(place)
        error = message.error()
        if error is not None and error.code() != KafkaError._PARTITION_EOF:
            self._complain(place, error)
        elif held is None or not held.reading:
            return None
        elif error is not None:
            held.position = max(held.position or 0, message.offset() or 0)
        else:
            held.put(_received(message))
            if held.full and not held.paused:
                held.paused = True
                self._consumer.pause([TopicPartition(*place)])
            return place
        return None

    def _read_on(self) -> bool:
        """Resume what has room again; whether anything is still paused."""
        with self._lock:
            paused = [(place, held) for place, held in self._held.items() if held.paused]
            for place, held in paused:
                if held.thin:
                    held.paused = False
                    self._consumer.resume([TopicPartition(*place)])
        return any(held.paused for _, held in paused)

    def _log_end(self, place: Place) -> int | None:
        _, end = self._consumer.get_watermark_offsets(TopicPartition(*place), cached=True) or (-1, -1)
        return end if end >= 0 else None

    def _complain(self, place: Place, error: KafkaError) -> None:
        where = f"{place[0]}/{place[1]}"
        if not passes(error):
            raise mapped(error, f"read {where}")
        logger.info("reading %s: %s", where, error.str())

    def _tell(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended, and with it whoever wanted to know
            self._loop.call_soon_threadsafe(self._news.set)


def _received(message: Message) -> Received:
    kind, timestamp = message.timestamp()
    return Received(
        message.partition() or 0,
        message.offset() or 0,
        message.key(),
        message.value(),
        -1 if kind == TIMESTAMP_NOT_AVAILABLE else timestamp,
        message.headers() or (),  # type: ignore[arg-type]
    )
