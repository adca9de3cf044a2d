"""What the API needs of the outside, as it sees it; ``livehook/roles.py`` puts the real ones in, tests put in fakes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from schemas.attempts import Attempt
from schemas.registry import Registry
from schemas.topics import Record, TopicSpec
from schemas.webhooks import WebhookRevision


class Producer(Protocol):
    """Produces; gives up after a bounded time."""

    async def send(self, records: Sequence[Record]) -> list[int]:
        """Send all, in this order, and give their offsets once each is acknowledged. Raises KafkaUnavailable, KafkaRefused."""
        ...


class TopicAdmin(Protocol):
    """Makes and deletes topics. Raises KafkaUnavailable, KafkaRefused."""

    async def existing(self, names: Sequence[str]) -> Mapping[str, str]:
        """Those of the topics that are there, each with its id: a topic that is made again has another one."""
        ...

    async def ensure(self, topic: TopicSpec) -> None:
        """Create the topic unless it is there. Raises TopicMismatch when it is there and differs."""
        ...

    async def end(self, name: str) -> int:
        """How many records were ever written to the first partition of a topic that is there."""
        ...

    async def delete(self, name: str, topic_id: str) -> None:
        """Delete the topic and wait until it is gone; nothing happens when it is not there, or is another one of that name by now."""
        ...


class WebhooksView(Protocol):
    """The ``webhooks`` topic, folded."""

    registry: Registry

    def names(self) -> list[str]:
        """Every name that was ever used, those of deleted and of unfinished webhooks too."""
        ...

    def offset(self, revision: WebhookRevision) -> int:
        """Where the last record of a revision that was folded in stands. Raises KeyError: there is none."""
        ...

    async def catch_up(self) -> None:
        """Until everything that is in the topic now is folded in. Raises KafkaUnavailable."""
        ...

    async def wait_until(self, offset: int) -> None:
        """Until the record at this offset is folded in. Raises KafkaUnavailable."""
        ...


class LogRecord(msgspec.Struct, frozen=True, gc=False):
    """A record that was read."""

    offset: int
    key: bytes | None
    value: bytes | None
    headers: Mapping[str, bytes | None] = {}


class Logs(Protocol):
    """Partitions to look into. Raises KafkaUnavailable, KafkaRefused."""

    async def ends(self, partitions: Sequence[tuple[str, int]]) -> dict[tuple[str, int], tuple[int, int]]:
        """First and end offset of each partition; those that are not there are left out."""
        ...

    async def offsets_at(self, partitions: Sequence[tuple[str, int]], us: int) -> dict[tuple[str, int], int]:
        """In each partition the first offset that was written at that time or later (µs since 1970), or its end."""
        ...

    def read(self, topic: str, partition: int, start: int, end: int) -> AsyncIterator[Sequence[LogRecord]]:
        """What stands from ``start`` to before ``end``, in batches."""
        ...


class Commits(Protocol):
    """How far groups are. Raises KafkaUnavailable, KafkaRefused."""

    async def commits(self, group: str, partitions: Sequence[tuple[str, int]]) -> dict[tuple[str, int], tuple[int, str]]:
        """The committed offsets, each with the text beside it; partitions without one are left out."""
        ...


class Overview(Protocol):
    """What runs, and how far it is. Raises KafkaUnavailable."""

    async def lanes(self) -> Sequence[Mapping[str, Any]]:
        """The items of ``GET /v1/lanes``, by webhook and partition."""
        ...

    async def sizes(self) -> Sequence[Mapping[str, Any]]:
        """The topics: ``{"name", "partitions", "records"}``."""
        ...

    async def workers(self) -> Sequence[Mapping[str, Any]]:
        """The processes: ``{"role", "worker", "status", "checks"}``."""
        ...


class History(Protocol):
    """The changes that are kept. Raises KafkaUnavailable, KafkaRefused."""

    def values(self, since_us: int, until_us: int | None) -> Iterator[Sequence[bytes]]:
        """The records of ``changes`` between two times, µs since 1970; None: to the present end. Blocks; in batches that may be empty."""
        ...


TestCall = Callable[[WebhookRevision, Mapping[str, Any], Mapping[str, Any] | None], Awaitable[Attempt]]
"""One attempt now, outside the lane: the webhook, the document, and the one before it, if any."""
