"""Rules of what is asked of Kafka's admin side, with answers that a real broker gives only in bad moments."""

from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any, cast

from confluent_kafka import OFFSET_INVALID

from connectors.kafka import admin
from connectors.kafka.config import KafkaConfig


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
