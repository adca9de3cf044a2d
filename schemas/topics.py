"""
Topic names, keys and configs, in one place. Source: docs/reference/topics.md.

The names hang on a prefix (``livehook.`` unless set). Partition counts of ``mutations`` and ``changes`` are fixed for ever:
a document's key must find the same partition as long as its history is kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

DAY_MS = 86_400_000
MESSAGE_BYTES_MAX = 4 * 1024 * 1024
BATCH_RECORDS_MAX = 2_000  # what a hop works on at once, of one partition: so many only when it is behind
BATCH_BYTES_MAX = 1024 * 1024  # a batch of every partition may be under way, each in several forms
SLOTS = 256  # at most so many sinks have something to do; a lone broker spends a second at each start on them
SLOTS_IN_DEV = 16
PARTITIONS_MAX = 128  # a lane's commit names the last origin of each partition, in 4,095 characters
DEAD_LETTER_BYTES_MAX = MESSAGE_BYTES_MAX + 1024 * 1024


class TopicSpec(msgspec.Struct, frozen=True):
    """A topic as it must be: created like this when missing, refused when it differs."""

    name: str
    partitions: int
    configs: Mapping[str, str]


class Record(msgspec.Struct, frozen=True, gc=False):
    """A record to produce; ``partition`` None: where Java's default partitioner puts the key."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()
    partition: int | None = None


class Topics(msgspec.Struct, frozen=True):
    """Every topic of one installation."""

    prefix: str = "livehook."
    partitions: int = 8
    slot_count: int = SLOTS

    @property
    def mutations(self) -> TopicSpec:
        """What was asked of documents; LogAppendTime, since ``txnId`` comes from the broker's clock alone."""
        return self._spec("mutations", self.partitions, _deleted(7), {"message.timestamp.type": "LogAppendTime"})

    @property
    def changes(self) -> TopicSpec:
        """What happened to documents: every change for seven days, the latest of each document for ever."""
        return self._spec("changes", self.partitions, _COMPACTED, {"min.compaction.lag.ms": str(7 * DAY_MS)})

    @property
    def webhooks(self) -> TopicSpec:
        """Revisions and status of webhooks; one partition, so that its offsets order everything that was registered."""
        return self._spec("webhooks", 1, _COMPACTED)

    @property
    def attempts(self) -> TopicSpec:
        """One record an HTTP call."""
        return self._spec("attempts", self.partitions, _deleted(7))

    @property
    def parked(self) -> TopicSpec:
        """Deliveries that were set aside because their document fails; those of a webhook are in one partition."""
        return self._spec("parked", self.partitions, _COMPACTED)

    @property
    def dead_letters(self) -> TopicSpec:
        """What could not be applied or delivered, untouched, with headers ``reason``, ``detail``, ``source``."""
        # Larger than what it holds: a record at the limit must still fit once reason, detail and source are added.
        return self._spec("dead-letters", 1, _deleted(30), {"max.message.bytes": str(DEAD_LETTER_BYTES_MAX)})

    @property
    def slots(self) -> TopicSpec:
        """Empty partitions that sinks share out among themselves; a lane belongs to who holds its slot."""
        return self._spec("slots", self.slot_count, _deleted(7))

    def lane(self, webhook: str, partitions: int = 1) -> TopicSpec:
        """The ordered log of one webhook's deliveries."""
        return self._spec(f"deliveries.{webhook}", partitions, _deleted(7))

    def webhook_of_lane(self, topic: str) -> str | None:
        """The webhook whose lane this topic is, or None when it is no lane."""
        head = f"{self.prefix}deliveries."
        return topic.removeprefix(head) if topic.startswith(head) else None

    @property
    def group_sink(self) -> str:
        """The consumer group of all sinks: their lanes' offsets are committed here."""
        return f"{self.prefix}sink"

    @property
    def group_streams(self) -> str:
        """The consumer group of all streams workers."""
        return f"{self.prefix}streams"

    def fixed(self) -> list[TopicSpec]:
        """The topics that exist whatever the webhooks."""
        return [self.mutations, self.changes, self.webhooks, self.attempts, self.parked, self.dead_letters, self.slots]

    def _spec(self, name: str, partitions: int, *configs: Mapping[str, str]) -> TopicSpec:
        merged = {"max.message.bytes": str(MESSAGE_BYTES_MAX)}
        for config in configs:
            merged |= config
        return TopicSpec(f"{self.prefix}{name}", partitions, merged)


_COMPACTED = {"cleanup.policy": "compact"}


def _deleted(days: int) -> dict[str, str]:
    return {"cleanup.policy": "delete", "retention.ms": str(days * DAY_MS)}
