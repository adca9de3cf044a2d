"""
What is asked of the cluster itself: topics made and compared with what they must be, their offsets, the members and offsets of a group.

Everything here blocks, at most ``timeout_s``; asyncio programs call it through ``asyncio.to_thread``. Every function raises
KafkaUnavailable (not reached or no answer in time) or KafkaRefused (Kafka says no), each with a line that names what was asked.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import msgspec
from confluent_kafka import Consumer, IsolationLevel, KafkaException, Node, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, OffsetSpec, ResourceType, TopicDescription

from connectors.kafka.config import KafkaConfig
from connectors.kafka.errors import KafkaUnavailable, TopicExists, TopicMismatch, UnknownTopic, mapped
from schemas.topics import TopicSpec

CLIENTS_MAX = 8
RETRY_DELAY_S = 0.05
# librdkafka ends a request by its own limit; a future that it never resolves must not hold us for longer than this on top.
FUTURE_GRACE_S = 1.0
NO_OFFSET = -1001
NO_LATER = -1
_BROKERS_DEFAULT = -1
_LISTS = frozenset({"cleanup.policy"})  # their order means nothing

Answer = TypeVar("Answer")

Partition = tuple[str, int]


class Offsets(NamedTuple):
    """A partition's log: the first offset it still holds, and the one its next record will get."""

    log_start: int
    end: int


class Committed(msgspec.Struct, frozen=True):
    """What a group has committed for a partition: the next offset to process, and the text beside it (empty when none)."""

    offset: int
    metadata: str


def ensure_topics(config: KafkaConfig, specs: Sequence[TopicSpec], *, replication: int | None, timeout_s: float) -> None:
    """
    Make the topics that are missing, wait until every one can be used, and compare all with what they must be.

    Args:    replication: of topics that are made; None: the broker's default. Not compared: an operator may raise it.
    Raises:  TopicMismatch: a topic differs in its partitions or in a config that we set; a line for each such topic.
    """
    asking = _Asking(config, timeout_s)
    names = [spec.name for spec in specs]
    present = asking.again_until(lambda: asking.describe(names))
    missing = [spec for spec in specs if spec.name not in present]
    asking.again_until(lambda: asking.create(missing, replication))
    described = asking.again_until(lambda: _usable(asking.describe(names), names))
    configs = asking.again_until(lambda: asking.topic_configs(names))
    lines = [
        difference
        for spec in specs
        if (difference := topic_difference(spec, len(described[spec.name].partitions), configs[spec.name])) is not None
    ]
    if lines:
        raise TopicMismatch(lines)


def topic_difference(spec: TopicSpec, partitions: int, configs: Mapping[str, str | None]) -> str | None:
    """One line that says what differs between a topic and its spec and must be changed, or None. Pure."""
    found = [f"partitions is {partitions}, must be {spec.partitions}"] if partitions != spec.partitions else []
    for name, expected in spec.configs.items():
        actual = configs.get(name)
        if not _same(name, expected, actual):
            found.append(f"{name} is {actual}, must be {expected}")
    return f"topic {spec.name}: {'; '.join(found)}" if found else None


def delete_topic(config: KafkaConfig, name: str, *, timeout_s: float, topic_id: str | None = None) -> None:
    """
    Delete a topic and wait until it is gone, so that it can be made anew; one that is not there is no error.

    Args:  topic_id: as :func:`topic_ids` gives it; another topic that somebody has made of that name meanwhile stays. None: whichever
           there is. librdkafka (2.16) deletes by name only, so the id is looked at right before.
    """
    asking = _Asking(config, timeout_s)

    def is_there() -> bool:
        found = asking.describe([name]).get(name)
        return found is not None and topic_id in (None, str(found.topic_id))

    def delete() -> bool:
        if is_there():
            with contextlib.suppress(UnknownTopic):
                asking.one(f"delete topic {name}", asking.client.delete_topics([name], **asking.limits())[name])
        return True

    asking.again_until(delete)
    asking.again_until(lambda: not is_there() or None)  # None: ask again


def topic_ids(config: KafkaConfig, names: Collection[str], *, timeout_s: float) -> dict[str, str]:
    """The id of each of these topics that exists; a topic that was deleted and made anew has another one."""
    asking = _Asking(config, timeout_s)
    described = asking.again_until(lambda: asking.describe(names))
    return {name: str(topic.topic_id) for name, topic in described.items()}


def partitions_of(config: KafkaConfig, topic: str, *, timeout_s: float) -> int:
    """How many partitions a topic has. Raises UnknownTopic."""
    described = _Asking(config, timeout_s).describe([topic])
    if topic not in described:
        raise UnknownTopic(f"there is no topic {topic}")
    return len(described[topic].partitions)


def takes_writes(config: KafkaConfig, names: Collection[str], *, timeout_s: float) -> bool:
    """Whether all these topics are there, and each of their partitions has a leader and as many copies in sync as a write needs."""
    asking = _Asking(config, timeout_s)
    return _take_writes(asking.describe(names), asking.topic_configs(names), names)


def offsets(config: KafkaConfig, partitions: Iterable[Partition], *, timeout_s: float) -> dict[Partition, Offsets]:
    """Log start and end of each partition. Raises UnknownTopic: one of them is not there."""
    asking, wanted = _Asking(config, timeout_s), list(partitions)

    def ask(which: OffsetSpec) -> dict[Partition, int]:
        try:
            return asking.list_offsets(wanted, which)
        except KafkaUnavailable:
            asking.check_present(wanted)  # librdkafka says only that it found no leader
            raise

    starts = asking.again_until(lambda: ask(OffsetSpec.earliest()))
    ends = asking.again_until(lambda: ask(OffsetSpec.latest()))
    return {partition: Offsets(starts[partition], ends[partition]) for partition in wanted}


def readable_ends(config: KafkaConfig, partitions: Iterable[Partition], *, timeout_s: float) -> dict[Partition, int]:
    """Up to where a consumer that leaves out what is not committed can read each partition now."""
    asking, wanted = _Asking(config, timeout_s), list(partitions)
    return asking.again_until(lambda: asking.list_offsets(wanted, OffsetSpec.latest(), isolation=IsolationLevel.READ_COMMITTED))


def offsets_at(config: KafkaConfig, partitions: Iterable[Partition], time_ms: int, *, timeout_s: float) -> dict[Partition, int]:
    """The first offset of each partition whose record is of that time (ms since 1970) or later; partitions without one are left out."""
    asking, wanted = _Asking(config, timeout_s), list(partitions)
    found = asking.again_until(lambda: asking.list_offsets(wanted, OffsetSpec.for_timestamp(time_ms), none=NO_LATER))
    return {partition: offset for partition, offset in found.items() if offset >= 0}


def group_client_ids(config: KafkaConfig, group: str, *, timeout_s: float) -> list[str]:
    """The ``client.id`` of each member that the group has now, in any order; none when nobody ever joined."""
    asking = _Asking(config, timeout_s)

    def describe() -> Any:
        return asking.one(f"describe group {group}", asking.client.describe_consumer_groups([group], **asking.limits())[group])

    description = asking.again_until(describe)  # the coordinator of a group may just be moving, or reading what it is to know
    return [member.client_id for member in description.members]


def committed_offsets(config: KafkaConfig, group: str, partitions: Iterable[Partition], *, timeout_s: float) -> dict[Partition, Committed]:
    """
    What the group has committed for these partitions; those without a commit are left out.

    Asked by a consumer that joins nothing. librdkafka's admin client (2.16) ends the process when a coordinator answers that it is not
    ready, as after a broker's restart: it turns to the consumer that is to find another one, and an admin client has none.
    """
    wanted = [TopicPartition(topic, partition) for topic, partition in partitions]
    if not wanted:
        return {}
    asking = _Asking(config, timeout_s)
    consumer = Consumer(config.librdkafka() | {"group.id": group, "enable.auto.commit": False, "log_level": 0})
    try:
        return asking.again_until(lambda: _committed(consumer, wanted, f"read the offsets of group {group}", asking.left_s()))
    finally:
        consumer.close()


def _committed(consumer: Consumer, wanted: list[TopicPartition], doing: str, timeout_s: float) -> dict[Partition, Committed]:
    try:
        answer = consumer.committed(wanted, timeout=timeout_s)
    except KafkaException as error:
        raise mapped(error.args[0], doing) from error
    found = {}
    for entry in answer:
        if entry.error is not None:
            raise mapped(entry.error, doing)
        if entry.offset != NO_OFFSET:
            found[entry.topic, entry.partition] = Committed(entry.offset, entry.metadata or "")
    return found


class _Asking:
    """One call of ours: a client, and the moment by which all its requests must have been answered."""

    def __init__(self, config: KafkaConfig, timeout_s: float) -> None:
        self.client = _client(config)
        self._deadline = time.monotonic() + timeout_s

    def left_s(self) -> float:
        return max(self._deadline - time.monotonic(), RETRY_DELAY_S)

    def limits(self) -> dict[str, float]:
        """For every request of librdkafka's admin client."""
        return {"request_timeout": self.left_s()}

    def one(self, doing: str, future: concurrent.futures.Future[Any]) -> Any:
        """What a future of librdkafka's brings; its errors become ours here and nowhere else."""
        try:
            return future.result(self.left_s() + FUTURE_GRACE_S)
        except KafkaException as error:
            raise mapped(error.args[0], doing) from error
        except concurrent.futures.TimeoutError as error:
            raise KafkaUnavailable(f"cannot {doing}: Kafka did not answer in time") from error

    def again_until(self, ask: Callable[[], Answer | None]) -> Answer:
        """Ask until there is an answer: brokers learn what the controller decided a little later, and a leader may just be moving."""
        while True:
            try:
                answer, unavailable = ask(), None
            except KafkaUnavailable as error:
                answer, unavailable = None, error
            if answer is not None:
                return answer
            if time.monotonic() + RETRY_DELAY_S > self._deadline:
                raise unavailable or KafkaUnavailable("Kafka did what was asked, but its brokers did not show it in time")
            time.sleep(RETRY_DELAY_S)

    def create(self, specs: Sequence[TopicSpec], replication: int | None) -> bool:
        """Make topics; one that somebody else made meanwhile is as good. True when all are there."""
        if not specs:
            return True
        copies = _BROKERS_DEFAULT if replication is None else replication
        topics = [NewTopic(spec.name, spec.partitions, copies, config=dict(spec.configs)) for spec in specs]
        for name, future in self.client.create_topics(topics, **self.limits()).items():
            with contextlib.suppress(TopicExists):
                self.one(f"create topic {name}", future)
        return True

    def describe(self, names: Collection[str]) -> dict[str, TopicDescription]:
        """The topics among these that exist."""
        if not names:
            return {}
        found = {}
        for name, future in self.client.describe_topics(TopicCollection(list(names)), **self.limits()).items():
            with contextlib.suppress(UnknownTopic):
                found[name] = self.one(f"describe topic {name}", future)
        return found

    def check_present(self, partitions: Sequence[Partition]) -> None:
        """Raises UnknownTopic: one of these is not there."""
        described = self.describe({topic for topic, _ in partitions})
        for topic, partition in partitions:
            if topic not in described or partition >= len(described[topic].partitions):
                raise UnknownTopic(f"there is no partition {topic}/{partition}")

    def topic_configs(self, names: Collection[str]) -> dict[str, dict[str, str | None]]:
        """Every config of each topic, defaults included."""
        resources = [ConfigResource(ResourceType.TOPIC, name) for name in names]
        found = {}
        for resource, future in self.client.describe_configs(resources, **self.limits()).items() if resources else ():
            entries = self.one(f"read the configs of topic {resource.name}", future)
            found[resource.name] = {name: entry.value for name, entry in entries.items()}
        return found

    def list_offsets(
        self,
        partitions: Sequence[Partition],
        which: OffsetSpec,
        *,
        none: int | None = None,
        isolation: IsolationLevel = IsolationLevel.READ_UNCOMMITTED,
    ) -> dict[Partition, int]:
        """The same offset of each partition's log: its earliest, its latest, or of a time. ``none``: how Kafka says that it has none."""
        request = {TopicPartition(topic, partition): which for topic, partition in partitions}
        found = {}
        for key, future in self.client.list_offsets(request, isolation_level=isolation, **self.limits()).items() if request else ():
            doing = f"read the offsets of {key.topic}/{key.partition}"
            offset = int(self.one(doing, future).offset)
            if offset < 0 and offset != none:  # while a leader moves, librdkafka may answer without having heard of one
                raise KafkaUnavailable(f"cannot {doing}: there is no leader yet")
            found[key.topic, key.partition] = offset
        return found


@functools.lru_cache(CLIENTS_MAX)
def _client(config: KafkaConfig) -> AdminClient:
    """One connection for all calls of a process; it reconnects by itself. Silent, since every failure is raised where it was asked."""
    return AdminClient(config.librdkafka() | {"log_level": 0})


def _usable(described: dict[str, TopicDescription], names: Collection[str]) -> dict[str, TopicDescription] | None:
    """The topics, once all of them are known and each partition has a leader."""
    if any(name not in described for name in names):
        return None
    leaders: list[Node | None] = [partition.leader for name in names for partition in described[name].partitions]
    return described if all(leader is not None and leader.id >= 0 for leader in leaders) else None


def _take_writes(described: dict[str, TopicDescription], configs: Mapping[str, Mapping[str, str | None]], names: Collection[str]) -> bool:
    if _usable(described, names) is None:
        return False
    return all(
        len(partition.isr) >= int(configs[name].get("min.insync.replicas") or 1)
        for name in names
        for partition in described[name].partitions
    )


def _same(name: str, expected: str, actual: str | None) -> bool:
    if actual is None or name not in _LISTS:
        return expected == actual
    return set(expected.split(",")) == set(actual.split(","))
