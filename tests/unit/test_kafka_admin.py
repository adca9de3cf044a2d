"""Rules of what is asked of Kafka's admin side, with answers that a real broker gives only in bad moments."""

from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any, cast

import pytest
from confluent_kafka import OFFSET_INVALID, KafkaError, KafkaException, TopicPartition

from connectors.kafka import admin
from connectors.kafka.config import KafkaConfig


class NotYet:
    """A consumer that is told twice that the coordinator is elsewhere, as after a broker's restart."""

    def __init__(self, *_):
        self.refusals = 2
        self.is_closed = False

    def committed(self, partitions, timeout):
        if self.refusals:
            self.refusals -= 1
            raise KafkaException(KafkaError(KafkaError.NOT_COORDINATOR))
        return [TopicPartition("t", 0, 5)]

    def close(self):
        self.is_closed = True


def test_commits_are_asked_for_again_while_their_coordinator_moves(monkeypatch):
    """A worker that has just been started does not end for that."""
    consumer = NotYet()
    monkeypatch.setattr(admin, "Consumer", lambda settings: consumer)
    found = admin.committed_offsets(KafkaConfig(bootstrap_servers="localhost:1"), "g", [("t", 0)], timeout_s=10)
    assert {("t", 0): admin.Committed(5, "")} == found
    assert consumer.is_closed


class Moving:
    """A client that answers without an offset while the leader moves: seen with librdkafka 2.16, right after an election."""

    def __init__(self, *answers):
        self.answers = list(answers)

    def list_offsets(self, request, **_):
        answered: Future[Any] = Future()
        answered.set_result(SimpleNamespace(offset=self.answers.pop(0)))
        return dict.fromkeys(request, answered)


def test_an_answer_without_an_offset_is_asked_for_again(monkeypatch):
    """It is no place in the log."""
    client = Moving(OFFSET_INVALID, 3, OFFSET_INVALID, OFFSET_INVALID, 7)
    monkeypatch.setattr(admin, "_client", lambda config: cast(Any, client))
    monkeypatch.setattr(admin._Asking, "check_present", lambda *_: None)
    found = admin.offsets(KafkaConfig(bootstrap_servers="localhost:1"), [("t", 0)], timeout_s=10)
    assert {("t", 0): admin.Offsets(3, 7)} == found
    assert [] == client.answers


class Deleting:
    """A client that is asked to delete topics."""

    def __init__(self):
        self.deleted = []

    def delete_topics(self, names, **_):
        self.deleted += names
        done: Future[None] = Future()
        done.set_result(None)
        return dict.fromkeys(names, done)


@pytest.mark.parametrize(("ids", "expected"), [(["old", "old", "new"], ["t"]), (["new"], [])])
def test_a_topic_that_was_made_again_meanwhile_is_not_deleted(monkeypatch, ids, expected):
    """A topic is deleted once; what has another id is gone, whatever its name."""
    client, ids = Deleting(), [*ids]
    monkeypatch.setattr(admin, "_client", lambda config: cast(Any, client))
    monkeypatch.setattr(admin._Asking, "describe", lambda *_: {"t": SimpleNamespace(topic_id=ids.pop(0) if ids[1:] else ids[0])})
    admin.delete_topic(KafkaConfig(bootstrap_servers="localhost:1"), "t", topic_id="old", timeout_s=10)
    assert expected == client.deleted


@pytest.mark.parametrize(
    ("leader", "in_sync", "needed", "expected"),
    [(1, 2, "2", True), (1, 1, "2", False), (None, 2, "2", False), (-1, 2, "2", False), (1, 1, None, True)],
)
def test_a_partition_takes_writes_with_a_leader_and_enough_copies(monkeypatch, leader, in_sync, needed, expected):
    """A role that waits for those has not stalled."""
    node = None if leader is None else SimpleNamespace(id=leader)
    partitions = [SimpleNamespace(leader=node, isr=[node] * in_sync)]
    monkeypatch.setattr(admin._Asking, "describe", lambda *_: {"t": SimpleNamespace(partitions=partitions)})
    monkeypatch.setattr(admin._Asking, "topic_configs", lambda *_: {"t": {"min.insync.replicas": needed}})
    assert admin.takes_writes(KafkaConfig(bootstrap_servers="localhost:1"), ["t"], timeout_s=1) is expected


def test_a_topic_that_is_not_there_takes_no_writes(monkeypatch):
    """Somebody has deleted it, or its brokers are gone with all copies."""
    monkeypatch.setattr(admin._Asking, "describe", lambda *_: {})
    monkeypatch.setattr(admin._Asking, "topic_configs", lambda *_: {})
    assert not admin.takes_writes(KafkaConfig(bootstrap_servers="localhost:1"), ["t"], timeout_s=1)
