"""Readers of whole partitions, on a real Kafka: holes that compaction leaves, restarts, and what ends them."""

from __future__ import annotations

import asyncio
import queue
import threading
import time

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from connectors.kafka.admin import delete_topic, ensure_topics, offsets
from connectors.kafka.compacted import CompactedReader
from connectors.kafka.config import KafkaConfig
from connectors.kafka.embedded import EmbeddedKafka
from connectors.kafka.errors import EmbeddedKafkaError, KafkaRefused, KafkaUnavailable, UnknownTopic
from connectors.kafka.reading import BATCH_MAX, offset_of, read_partition
from schemas.topics import TopicSpec
from tests.broker import without_broker
from tests.integration.cluster import wait_until

TIMEOUT_S = 30.0


class Log:
    """A topic of one partition that tests append to."""

    def __init__(self, config: KafkaConfig, name: str, configs: dict[str, str] | None = None) -> None:
        self.config, self.name = config, name
        ensure_topics(config, [TopicSpec(name, 1, configs or {"cleanup.policy": "compact"})], replication=None, timeout_s=TIMEOUT_S)
        self.producer = Producer(config.librdkafka() | {"linger.ms": 0, "enable.idempotence": True, "log_level": 0})

    def append(self, *records: tuple[str, str | None]) -> int:
        """Append (key, value) pairs; the offset after the last, once all are acknowledged."""
        ends: queue.Queue[int | None] = queue.Queue()
        for key, value in records:
            self.producer.produce(self.name, value, key, 0, on_delivery=lambda error, message: ends.put(-1 if error else message.offset()))
        assert 0 == self.producer.flush(TIMEOUT_S)
        acknowledged = [ends.get_nowait() for _ in records]
        assert -1 not in acknowledged
        return max(offset or 0 for offset in acknowledged) + 1

    def append_aborted(self) -> None:
        """A transaction that was taken back: the offsets of its record and its marker hold nothing to read, as after compaction."""
        producer = Producer(self.config.librdkafka() | {"transactional.id": self.name, "log_level": 0})
        producer.init_transactions(TIMEOUT_S)
        producer.begin_transaction()
        producer.produce(self.name, "x", "aborted", 0)
        producer.flush(TIMEOUT_S)
        before = self._end()
        producer.abort_transaction(TIMEOUT_S)
        # The coordinator answers before the marker stands in the log; what is appended next must stand behind it.
        wait_until(lambda: self._end() > before, TIMEOUT_S, "the marker is not there")

    def _end(self) -> int:
        return offsets(self.config, [(self.name, 0)], timeout_s=TIMEOUT_S)[self.name, 0].end


class Fold:
    """What a reader's callback saw; ``refuse`` is a key that it cannot bear."""

    def __init__(self, refuse: bytes | None = None) -> None:
        self.seen: list[tuple[bytes, bytes | None, int]] = []
        self.refuse = refuse

    def __call__(self, key: bytes, value: bytes | None, offset: int) -> None:
        if key == self.refuse:
            raise ValueError(f"{key!r} is refused")
        self.seen.append((key, value, offset))


@pytest.fixture
def log(kafka, topic_prefix):
    """An empty compacted topic."""
    return Log(kafka.config, f"{topic_prefix}log")


@pytest.fixture
def reading():
    """Starts readers and stops them."""
    started: list[CompactedReader] = []

    def start(log: Log, on_record, **more) -> CompactedReader:
        reader = CompactedReader(log.config, log.name, on_record, **more)
        started.append(reader)
        reader.start()
        return reader

    yield start
    for reader in started:
        reader.stop()


def test_everything_is_read_in_order_and_then_what_comes(log, reading):
    """Keys, values, tombstones and offsets, from the start of the topic on."""
    log.append(("a", "1"), ("b", "2"), ("a", None))
    fold = Fold()
    reader = reading(log, fold)
    reader.wait_ready(TIMEOUT_S)
    assert (True, 3) == (reader.ready, reader.position)
    end = log.append(("c", "3"))
    reader.wait_until(end, TIMEOUT_S)
    assert [(b"a", b"1", 0), (b"b", b"2", 1), (b"a", None, 2), (b"c", b"3", 3)] == fold.seen


def test_an_empty_topic_is_ready_at_once(log, reading):
    """There is nothing to wait for."""
    reader = reading(log, Fold())
    reader.wait_ready(TIMEOUT_S)
    assert (True, 0, None) == (reader.ready, reader.position, reader.failed)


def test_a_reader_that_has_not_started_is_not_ready(kafka, topic_prefix):
    """Even of an empty topic: it cannot know."""
    assert not CompactedReader(kafka.config, f"{topic_prefix}any", Fold()).ready


def test_a_new_record_is_seen_within_milliseconds(log, reading):
    """From its acknowledgement on, half of them within 20 ms, on a busy machine too."""
    reader = reading(log, Fold())
    reader.wait_ready(TIMEOUT_S)
    waits_s = []
    for number in range(21):
        end = log.append((str(number), "x"))
        begun = time.perf_counter()
        reader.wait_until(end, TIMEOUT_S)
        waits_s.append(time.perf_counter() - begun)
    assert sorted(waits_s)[10] < 0.02


async def test_an_event_loop_waits_without_standing_still(log, reading):
    """The future is resolved in the loop's own thread, and other tasks go on meanwhile."""
    reader = reading(log, Fold())
    await reader.wait_ready_async(TIMEOUT_S)
    waiting = asyncio.create_task(reader.wait_until_async(2, TIMEOUT_S))
    await asyncio.to_thread(log.append, ("a", "1"))
    assert not waiting.done()
    await asyncio.to_thread(log.append, ("b", "2"))
    await waiting
    assert 2 == reader.position


async def test_a_wait_has_an_end(log, reading):
    """In both ways to wait; the line says how far the reader has come."""
    reader = reading(log, Fold())
    reader.wait_ready(TIMEOUT_S)
    with pytest.raises(KafkaUnavailable, match=r"log has only come to offset 0 after 0\.05 s"):
        reader.wait_until(1, 0.05)
    with pytest.raises(KafkaUnavailable, match="has only come to offset 0"):
        await reader.wait_until_async(1, 0.05)


async def test_what_the_callback_raises_ends_the_reader_and_every_wait(log, reading):
    """It is in ``failed``, ``on_failure`` is told once, and waits raise it; what came before was folded."""
    told: queue.Queue[Exception] = queue.Queue()
    fold = Fold(refuse=b"bad")
    reader = reading(log, fold, on_failure=told.put)
    waiting = asyncio.create_task(reader.wait_until_async(3, TIMEOUT_S))
    await asyncio.to_thread(log.append, ("good", "1"), ("bad", "2"), ("never", "3"))
    with pytest.raises(ValueError, match="b'bad' is refused"):
        await waiting
    with pytest.raises(ValueError, match="b'bad' is refused"):
        reader.wait_until(3, TIMEOUT_S)
    assert told.get(timeout=TIMEOUT_S) is reader.failed
    assert ([(b"good", b"1", 0)], 1) == (fold.seen, reader.position)


@pytest.mark.parametrize("made_anew", [False, True])
def test_a_topic_that_is_deleted_ends_the_reader(log, reading, made_anew):
    """Another one of the same name is not the same log, even when it goes as far."""
    log.append(("a", "1"))
    fold = Fold()
    reader = reading(log, fold, check_every_s=0.05)
    reader.wait_ready(TIMEOUT_S)
    delete_topic(log.config, log.name, timeout_s=TIMEOUT_S)
    if made_anew:
        Log(log.config, log.name)
    with pytest.raises(UnknownTopic, match="log was deleted or made anew"):
        reader.wait_until(2, TIMEOUT_S)


def test_a_stopped_reader_ends_waits_and_has_not_failed(log, reading):
    """Its thread is gone too."""
    reader = reading(log, Fold())
    reader.wait_ready(TIMEOUT_S)
    ended: queue.Queue[Exception] = queue.Queue()

    def wait() -> None:
        try:
            reader.wait_until(1, TIMEOUT_S)
        except KafkaUnavailable as error:
            ended.put(error)

    thread = threading.Thread(target=wait)
    thread.start()
    reader.stop()
    thread.join(TIMEOUT_S)
    assert "was stopped" in str(ended.get_nowait())
    assert reader.failed is None


def test_an_end_without_a_record_is_reached(log, reading):
    """Offsets that hold no record any more, at the very end too, are passed: ``ready`` and waits do not hang there."""
    log.append(("a", "1"))
    log.append_aborted()
    fold = Fold()
    reader = reading(log, fold)
    reader.wait_ready(TIMEOUT_S)
    assert 3 == reader.position
    assert [(b"a", b"1", 0)] == fold.seen


@pytest.mark.timeout(180)  # it starts a broker of its own, twice
def test_a_reader_lives_through_a_restart_of_the_broker(tmp_path, reading):
    """It goes on where it was: every record once, in order."""
    kafka = EmbeddedKafka(tmp_path)
    try:
        kafka.start()
    except EmbeddedKafkaError as error:
        without_broker(str(error))
    with kafka:
        log = Log(KafkaConfig(bootstrap_servers=kafka.bootstrap_servers), "log")
        log.append(("a", "1"), ("b", "2"))
        fold = Fold()
        reader = reading(log, fold)
        reader.wait_ready(TIMEOUT_S)
        kafka.kill()
        kafka.start()
        end = log.append(("c", "3"))
        reader.wait_until(end, TIMEOUT_S)
        assert [0, 1, 2] == [offset for _, _, offset in fold.seen]
        assert reader.failed is None


def test_a_range_is_read_exactly(log):
    """From the first offset to before the last, in batches that are bounded."""
    end = log.append(*((f"key-{number}", "x" * 100) for number in range(2 * BATCH_MAX + 100)))
    batches = list(read_partition(log.config, log.name, 0, 7, end - 3))
    assert list(range(7, end - 3)) == [offset_of(record) for batch in batches for record in batch]
    assert max(len(batch) for batch in batches) <= BATCH_MAX


@pytest.mark.parametrize(("start", "until"), [(0, 0), (5, 5), (3, 2)])
def test_an_empty_range_is_nothing(log, start, until):
    """And asks nothing of Kafka."""
    assert [] == list(read_partition(log.config, log.name, 0, start, until))


def test_a_range_ends_where_its_last_offset_holds_no_record(log):
    """Without waiting for one that cannot come."""
    log.append(("a", "1"))
    log.append_aborted()
    begun = time.monotonic()
    (batch,) = read_partition(log.config, log.name, 0, 0, 3, stall_s=TIMEOUT_S)
    assert [0] == [offset_of(record) for record in batch]
    assert time.monotonic() - begun < TIMEOUT_S / 2


def test_a_range_is_read_over_holes(log):
    """Offsets without records in its middle are passed like any others."""
    log.append(("a", "1"))
    log.append_aborted()
    end = log.append(("b", "2"))
    records = [record for batch in read_partition(log.config, log.name, 0, 0, end) for record in batch]
    assert [(0, b"a"), (3, b"b")] == [(offset_of(record), record.key()) for record in records]


def test_a_range_that_the_log_does_not_hold_any_more_is_refused(kafka, topic_prefix):
    """A gap must not be read as if there were nothing."""
    log = Log(kafka.config, f"{topic_prefix}log", {"cleanup.policy": "delete"})
    end = log.append(("a", "1"), ("b", "2"), ("c", "3"))
    client = AdminClient(log.config.librdkafka())
    (deleted,) = client.delete_records([TopicPartition(log.name, 0, 2)]).values()
    deleted.result(TIMEOUT_S)
    with pytest.raises(KafkaRefused, match=r"log/0 from offset 0: the log does not hold it \(any more\)"):
        list(read_partition(log.config, log.name, 0, 0, end))


def test_a_range_whose_end_does_not_come_is_given_up(log):
    """After ``stall_s`` without progress."""
    end = log.append(("a", "1"))
    with pytest.raises(KafkaUnavailable, match=r"no record after offset 1 for"):
        list(read_partition(log.config, log.name, 0, 0, end + 1, stall_s=0.3))
