"""The outside of the API in memory: a fake Kafka that keeps the rules the API relies on. For tests; ships with the ports it fills."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from connectors.activity.testing import FedActivity
from connectors.kafka.errors import KafkaUnavailable, TopicMismatch
from livehook.api.app import Services
from livehook.api.lane_copies import LaneCopies
from livehook.api.past import Past
from livehook.api.ports import LogRecord
from livehook.api.redrive import Redrives
from livehook.api.register import Register
from livehook.api.replay_metrics import ReplayMetrics
from livehook.api.replay_records import ReplayRecords
from livehook.api.replaying import Replaying
from livehook.api.resend import Resends
from livehook.checks import check_identity, check_query
from schemas.attempts import Attempt, Exchanged, Outcome
from schemas.changes import Change
from schemas.keys import partition_of
from schemas.records import encode_change, encode_status
from schemas.registry import Registry
from schemas.signing import new_secret
from schemas.topics import Record, Topics, TopicSpec
from schemas.webhook_checks import Checks
from schemas.webhooks import WebhookRevision, WebhookStatus

NOW_US = 1_790_000_000_000_000


class FakeKafka:
    """
    Producer, topic admin, logs and view of ``webhooks`` at once, with an activity log that is never behind.

    is_down:     nothing is acknowledged.
    fail_after:  so many sends go well, the next ones do not; None: all do.
    removed:     how many of a partition's first records retention has taken. written_us: when a record was written.
    committed:   offset and metadata of a lane's partition, as sinks commit them.
    failures:    what the API's background has told that it cannot go on with.
    calls:       what was done, in order: the topic of each record, and each topic made or deleted.
    """

    def __init__(self, topics: Topics, activity: Path | None = None) -> None:
        """``activity``: the file for an activity log; None: there is none."""
        self.topics = topics
        self.fed = FedActivity(topics, activity)
        self.registry = Registry()
        self.log: dict[tuple[str, int], list[Record]] = {}
        self.lanes: dict[str, str] = {}  # with the id of each
        self.calls: list[str] = []
        self.failures: list[BaseException] = []
        self.history = FakeHistory()
        self.is_down = False
        self.fail_after: int | None = None
        self.removed: dict[tuple[str, int], int] = {}
        self.written_us: dict[tuple[str, int, int], int] = {}
        self.committed: dict[tuple[str, int], tuple[int, str]] = {}
        self._names: set[str] = set()
        self._topic_ids = itertools.count(1)

    async def send(self, records: Sequence[Record]) -> list[int]:
        """Append, and fold what belongs to ``webhooks``."""
        if self.is_down or self.fail_after == 0:
            raise KafkaUnavailable("the broker does not answer")
        if self.fail_after is not None:
            self.fail_after -= 1
        return [self._append(record) for record in records]

    def status(self, status: WebhookStatus) -> None:
        """What a sink writes to ``webhooks``."""
        self._append(Record(self.topics.webhooks.name, f"{status.name}/status".encode(), encode_status(status)))

    def _append(self, record: Record) -> int:
        partition = partition_of(record.key or b"", self.topics.partitions) if record.partition is None else record.partition
        if record.topic == self.topics.webhooks.name:
            partition = 0
            name = self.registry.apply(record.key or b"", record.value)
            self._names |= set() if name is None else {name}
        self.calls.append(record.topic)
        log = self.log.setdefault((record.topic, partition), [])
        log.append(record)
        self.fed.feed(record, partition, len(log) - 1, NOW_US)
        return len(log) - 1

    async def ends(self, partitions: Sequence[tuple[str, int]]) -> dict[tuple[str, int], tuple[int, int]]:
        """See :class:`livehook.api.ports.Logs`; a lane is there once it was made."""
        there = [place for place in partitions if place in self.log or place[0] in self.lanes or place[0] == self.topics.mutations.name]
        return {place: (self.removed.get(place, 0), len(self.log.get(place, []))) for place in there}

    async def offsets_at(self, partitions: Sequence[tuple[str, int]], us: int) -> dict[tuple[str, int], int]:
        """See :class:`livehook.api.ports.Logs`; a record was written at NOW_US unless ``written_us`` says otherwise."""
        found = {}
        for place in partitions:
            times = [self.written_us.get((*place, offset), NOW_US) for offset in range(len(self.log.get(place, [])))]
            found[place] = next((offset for offset, at in enumerate(times) if at >= us), len(times))
        return found

    async def commits(self, group: str, partitions: Sequence[tuple[str, int]]) -> dict[tuple[str, int], tuple[int, str]]:
        """See :class:`livehook.api.ports.Commits`."""
        return {place: self.committed[place] for place in partitions if place in self.committed}

    async def read(self, topic: str, partition: int, start: int, end: int) -> AsyncIterator[Sequence[LogRecord]]:
        """See :class:`livehook.api.ports.Logs`."""
        for offset, record in list(enumerate(self.log.get((topic, partition), [])))[start:end]:
            yield [LogRecord(offset, record.key, record.value, dict(record.headers))]

    def records(self, topic: str) -> list[Record]:
        """Every record of a topic, partition by partition."""
        return [record for (name, _), log in sorted(self.log.items()) for record in log if name == topic]

    def names(self) -> list[str]:
        """See :class:`livehook.api.ports.WebhooksView`."""
        return sorted(self._names)

    def offset(self, revision: WebhookRevision) -> int:
        """See :class:`livehook.api.ports.WebhooksView`."""
        keys = [record.key for record in self.log[self.topics.webhooks.name, 0]]
        return len(keys) - 1 - keys[::-1].index(revision.key.encode())

    async def catch_up(self) -> None:
        """See :class:`livehook.api.ports.WebhooksView`."""

    async def wait_until(self, offset: int) -> None:
        """See :class:`livehook.api.ports.WebhooksView`; everything is folded at once."""
        assert offset < len(self.log[self.topics.webhooks.name, 0])  # noqa: S101

    async def existing(self, names: Sequence[str]) -> Mapping[str, str]:
        """See :class:`livehook.api.ports.TopicAdmin`."""
        return {name: self.lanes[name] for name in names if name in self.lanes}

    async def ensure(self, topic: TopicSpec) -> None:
        """See :class:`livehook.api.ports.TopicAdmin`."""
        if topic.partitions != 1:
            raise TopicMismatch([f"{topic.name} has 1 partition, must have {topic.partitions}"])
        self.calls.append(f"ensure {topic.name}")
        self.lanes.setdefault(topic.name, f"id-{next(self._topic_ids)}")

    async def end(self, name: str) -> int:
        """See :class:`livehook.api.ports.TopicAdmin`."""
        return len(self.log.get((name, 0), []))

    async def delete(self, name: str, topic_id: str) -> None:
        """See :class:`livehook.api.ports.TopicAdmin`."""
        if self.lanes.get(name) == topic_id:
            self.calls.append(f"delete {name}")
            del self.lanes[name]
            self.log = {place: log for place, log in self.log.items() if place[0] != name}


class FakeOverview:
    """Nothing runs."""

    async def lanes(self) -> Sequence[Mapping[str, Any]]:
        """See :class:`livehook.api.ports.Overview`."""
        return []

    async def sizes(self) -> Sequence[Mapping[str, Any]]:
        """See :class:`livehook.api.ports.Overview`."""
        return []

    async def workers(self) -> Sequence[Mapping[str, Any]]:
        """See :class:`livehook.api.ports.Overview`."""
        return []


class FakeHistory:
    """Changes in memory, each with the time of its record, µs since 1970."""

    def __init__(self) -> None:
        self.changes: list[tuple[int, Change]] = []

    def values(self, since_us: int, until_us: int | None) -> Iterator[list[bytes]]:
        """See :class:`livehook.api.ports.History`."""
        for at_us, change in self.changes:
            if at_us >= since_us and (until_us is None or at_us < until_us):
                yield [encode_change(change)]


async def fake_test_call(revision: WebhookRevision, doc: Mapping[str, Any], old: Mapping[str, Any] | None) -> Attempt:
    """A receiver that answered 204."""
    return Attempt(
        id="att_1",
        webhook=revision.name,
        delivery_id="msg_1",
        collection="people",
        document=f"people/{doc['_id']}",
        match="create" if old is None else "update",
        txn_id=1,
        version=1,
        offset="",
        attempt=1,
        started_us=1_790_000_000_000_000,
        duration_us=1_500,
        outcome=Outcome.DELIVERED,
        request=Exchanged({"livehook-test": "true"}, b"{}", body_truncated=False, method="POST", url=revision.spec.url),
        response=Exchanged({}, b"", body_truncated=False, status=204),
        test=True,
    )


def fake_services(
    kafka: FakeKafka,
    *,
    allow_private: bool = True,
    is_loopback: bool = True,
    token: str | None = None,
    ticks: Iterator[int] | None = None,
) -> Services:
    """
    Services on a fake Kafka; uids, secrets and ids are counted.

    Args:  ticks: the time at each look, µs since 1970; None: it stands still but for a microsecond a look.
    """
    ticks = itertools.count(NOW_US) if ticks is None else ticks
    registry = CollectorRegistry()
    uids, secrets, ids, replays = (itertools.count(1) for _ in range(4))
    register = Register(
        topics=kafka.topics,
        producer=kafka,
        admin=kafka,
        view=kafka,
        now_us=lambda: next(ticks),
        new_uid=lambda: f"whk_{next(uids)}",
        new_secret=lambda scheme: new_secret(scheme, lambda count: next(secrets).to_bytes(count)),
    )
    copies = LaneCopies(kafka, kafka)
    shared: dict[str, Any] = {
        "topics": kafka.topics,
        "register": register,
        "activity": kafka.fed.activity,
        "producer": kafka,
        "copies": copies,
        "now_us": lambda: next(ticks),
    }
    timed: dict[str, Any] = {"topics": kafka.topics, "register": register, "now_us": shared["now_us"]}
    records = ReplayRecords(**timed, producer=kafka, view=kafka)
    logs: dict[str, Any] = {"producer": kafka, "logs": kafka, "commits": kafka, "activity": kafka.fed.activity}
    logs |= {"past": Past(kafka.topics, kafka, kafka), "metrics": ReplayMetrics(registry)}
    replaying = Replaying(**timed, **logs, records=records, new_id=lambda: f"rpl_{next(replays)}", fail=kafka.failures.append)
    return Services(
        producer=kafka,
        mutations=kafka.topics.mutations.name,
        register=register,
        overview=FakeOverview(),
        activity=kafka.fed.activity,
        recent=kafka.fed.recent,
        resends=Resends(**shared, new_id=lambda: f"rpl_{next(replays)}"),
        redrives=Redrives(**shared, logs=kafka, new_token=lambda: f"token-{next(replays)}"),
        history=kafka.history,
        replaying=replaying,
        test_call=fake_test_call,
        checks=Checks(check_query, lambda host, port: None, check_identity, allow_private=allow_private),
        health={"kafka": lambda: "the broker does not answer" if kafka.is_down else "ok"},
        new_id=lambda: f"id-{next(ids)}",
        now_us=lambda: next(ticks),
        is_loopback=is_loopback,
        token=token,
        metrics=registry,
    )
