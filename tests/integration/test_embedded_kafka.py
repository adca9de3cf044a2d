"""The embedded Kafka, for real: durable, one user a folder, and gone when its parent is gone."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from connectors.kafka.admin import ensure_topics, topic_ids
from connectors.kafka.config import KafkaConfig
from connectors.kafka.embedded import EmbeddedKafka
from connectors.kafka.embedded_jars import KAFKA_VERSION, default_cache, find_runtime, locked_jars
from connectors.kafka.errors import EmbeddedKafkaError
from schemas.topics import TopicSpec
from tests.broker import without_broker
from tests.processes import runs

pytestmark = pytest.mark.timeout(180)  # these tests start brokers of their own

PATIENCE_S = 30.0
TOPIC = TopicSpec("kept", 1, {})
CHILD = """
import sys, threading
from pathlib import Path
from connectors.kafka.embedded import EmbeddedKafka
from connectors.kafka.embedded_jars import KAFKA_VERSION, default_cache, find_runtime, locked_jars
kafka = EmbeddedKafka(Path(sys.argv[1]))
kafka.start()
print(kafka.pid, flush=True)
threading.Event().wait()
"""


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A running broker with TOPIC, for tests that leave it alone; its folder has a name with everything that paths may have."""
    kafka = EmbeddedKafka(tmp_path_factory.mktemp("shared") / "a, b=c: \u00fc #1")
    try:
        kafka.start()
    except EmbeddedKafkaError as error:
        without_broker(str(error))
    with kafka:
        yield kafka


@pytest.fixture
def directory(shared, tmp_path):
    """A folder in which a cluster has been made, and was stopped: what a second start finds."""
    shutil.copytree(shared.logs.parent / "data", tmp_path / "kafka" / "data", ignore=shutil.ignore_patterns("__*"))
    return tmp_path


@pytest.fixture
def embedded(directory):
    """Makes embedded Kafkas in the test's folder, and ends them."""
    made = []

    def make(port: int = 0) -> EmbeddedKafka:
        made.append(EmbeddedKafka(directory, port=port))
        return made[-1]

    yield make
    for each in made:
        each.kill()


def produce(kafka: EmbeddedKafka, *values: bytes) -> None:
    """Append records to TOPIC and wait until all are acknowledged."""
    producer, errors = Producer(config(kafka).librdkafka() | {"log_level": 0}), []
    for value in values:
        producer.produce(TOPIC.name, value, on_delivery=lambda error, _: errors.append(error))
    producer.flush(PATIENCE_S)
    assert [None] * len(values) == errors


def held(kafka: EmbeddedKafka, count: int) -> list[bytes | None]:
    """The first ``count`` records of TOPIC."""
    consumer = Consumer(config(kafka).librdkafka() | {"group.id": "test", "log_level": 0})
    consumer.assign([TopicPartition(TOPIC.name, 0, 0)])
    records = consumer.consume(count, PATIENCE_S)
    consumer.close()
    return [record.value() for record in records]


def config(kafka: EmbeddedKafka) -> KafkaConfig:
    """How our clients reach it."""
    return KafkaConfig(bootstrap_servers=kafka.bootstrap_servers)


def test_a_second_start_keeps_everything(embedded, directory):
    """Records, topics and the cluster's identity are there for another object, on another port, after an orderly stop."""
    with embedded() as first:
        pid = first.pid
        ensure_topics(config(first), [TOPIC], replication=None, timeout_s=PATIENCE_S)
        produce(first, b"one", b"two")
        ids = topic_ids(config(first), [TOPIC.name], timeout_s=PATIENCE_S)
        cluster = identity(directory)
    assert (128 + signal.SIGTERM, False) == (first.poll(), runs(pid))
    with embedded() as second:
        assert [b"one", b"two"] == held(second, 2)
        assert (ids, cluster) == (topic_ids(config(second), [TOPIC.name], timeout_s=PATIENCE_S), identity(directory))


def test_after_a_crash_it_comes_back_on_its_port_with_its_records(embedded, directory):
    """What was acknowledged survives kill -9, clients keep the address they know, and the locks left behind mean nothing."""
    kafka = embedded().start()
    ensure_topics(config(kafka), [TOPIC], replication=None, timeout_s=PATIENCE_S)
    produce(kafka, b"one")
    address = kafka.bootstrap_servers
    os.kill(kafka.pid, signal.SIGKILL)
    assert -signal.SIGKILL == kafka.wait(PATIENCE_S)
    assert (directory / "kafka/lock").exists()
    assert (directory / "kafka/data/.lock").exists()
    kafka.start()
    assert address == kafka.bootstrap_servers
    assert [b"one"] == held(kafka, 1)


def test_it_ends_with_its_parent_even_when_that_is_killed(embedded, directory):
    """kill -9 of the parent takes the broker down, and a start right after that waits until it is."""
    with subprocess.Popen([sys.executable, "-c", CHILD, str(directory)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        broker = int(parent.stdout.readline())
        assert runs(broker)
        parent.kill()
        parent.wait()
        embedded().start()
        assert not runs(broker)


def test_an_occupied_port_is_one_clear_line(embedded):
    """It names the port and the way around it; the folder is free again."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        for _ in range(2):
            with pytest.raises(EmbeddedKafkaError) as problem:
                embedded(port).start()
            assert f'port {port} is in use: stop what uses it, or run make dev ARGS="--kafka-port 0"' == str(problem.value)


def test_a_second_user_of_the_folder_is_told_who_has_it(shared):
    """The line names the process; the first one is not disturbed."""
    folder = shared.logs.parent
    with pytest.raises(EmbeddedKafkaError) as problem:
        EmbeddedKafka(folder.parent).start()
    assert f"{folder} is in use by process {os.getpid()}: stop it, or choose another folder with --dir" == str(problem.value)
    assert shared.poll() is None


def test_data_that_kafka_cannot_read_is_one_clear_line(embedded, directory):
    """The line holds Kafka's own reason and where its log is; nothing is left running."""
    meta = directory / "kafka/data/meta.properties"
    meta.write_text(meta.read_text().replace("node.id=1", "node.id=7"))
    kafka = embedded()
    with pytest.raises(EmbeddedKafkaError, match=r"^Kafka ended with code 1 while it started \(Stored node id 7 .*\): see .*logs.*--dir$"):
        kafka.start()
    assert 1 == kafka.poll()


def test_a_folder_that_cannot_be_used_is_one_clear_line(tmp_path):
    """A file where the folder should be."""
    (tmp_path / "taken").write_text("")
    with pytest.raises(EmbeddedKafkaError, match=r"^cannot use .*taken/kafka .*: choose another folder with --dir$"):
        EmbeddedKafka(tmp_path / "taken").start()


def test_a_running_one_is_not_started_twice(shared):
    """That would be a mistake of ours, not of the user's."""
    with pytest.raises(RuntimeError, match="running already"):
        shared.start()


def test_a_heap_that_kafka_cannot_live_in_is_refused(tmp_path):
    """By name, before anything starts."""
    with pytest.raises(ValueError, match="heap_mib is 64, it must be 128 or more"):
        EmbeddedKafka(tmp_path, heap_mib=64)


def identity(directory: Path) -> set[str]:
    """What Kafka calls the cluster and its node, without the comment that says when."""
    return {line for line in (directory / "kafka/data/meta.properties").read_text().splitlines() if not line.startswith("#")}


def test_the_classes_of_one_start_are_archived_for_the_next(shared, tmp_path):
    """The archive is made once, Java accepts it, and a damaged one costs nothing but its use."""
    jars = locked_jars()
    find_runtime(default_cache(os.environ, sys.platform), stderr=sys.stderr)
    kept = tmp_path / "cache" / f"kafka-{KAFKA_VERSION}"
    kept.mkdir(parents=True)
    for jar in jars:
        (kept / jar.filename).symlink_to(default_cache(os.environ, sys.platform) / kept.name / jar.filename)
    kafka = EmbeddedKafka(tmp_path, cache=tmp_path / "cache")
    with kafka:
        kafka.archive_classes()
        (archive,) = kept.glob("*.jsa")
        made_at = archive.stat().st_mtime_ns
        kafka.archive_classes()
    assert [archive] == [path for path in kept.iterdir() if "classes" in path.name]
    assert made_at == archive.stat().st_mtime_ns

    with kafka:
        if sys.platform == "linux":
            assert str(archive) in Path(f"/proc/{kafka.pid}/maps").read_text()
        assert "" == (kafka.logs / "console.log").read_text()

    with archive.open("r+b") as file:
        file.seek(archive.stat().st_size // 2)
        file.write(os.urandom(4096))
    with kafka:
        assert kafka.poll() is None
