"""What the streams need of the outside, as they see it; ``connectors`` has it, ``livehook`` puts it in, tests and simulation fake it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Protocol

from schemas.topics import Record


class Read(Protocol):
    """A record that was read from a partition whose number is known."""

    @property
    def offset(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...


class Received(Protocol):
    """A record as the consumer gives it; ``timestamp``: ms since 1970, by the broker's clock for ``mutations``."""

    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes | None]]: ...


Place = tuple[str, int]


class Fetcher(Protocol):
    """Reads partitions, named by topic and number, ahead of whoever takes the records."""

    def begin(self, offsets: Mapping[Place, int | None]) -> None:
        """Read these, each from its offset on; None: from the first record kept. None of them may be read already."""
        ...

    def end(self, places: Collection[Place]) -> None:
        """Read these no more, and forget what was not taken."""
        ...

    def take(self, places: Collection[Place]) -> Mapping[Place, Sequence[Received]]:
        """The next batch of each of these that has something; raises what makes reading on impossible."""
        ...

    def has(self, place: Place) -> bool:
        """Whether something of it waits to be taken."""
        ...

    async def wait(self, timeout_s: float) -> None:
        """Until something came after the last ``take``, or ``wake`` was called."""
        ...

    def wake(self) -> None:
        """End the present ``wait``."""
        ...

    def log_end(self, place: Place) -> int | None:
        """The offset after the partition's last record, as far as is known; None: not known."""
        ...

    def position(self, place: Place) -> int | None:
        """All before this offset was received, or is nothing that can be received (the end of a transaction); None: not known yet."""
        ...


class Agent(Protocol):
    """What works through the batches of one topic."""

    topic: str

    async def process(self, batch: Sequence[Received]) -> None:
        """One batch of one partition; when this returns, what it leads to is durable. Any error ends the process."""
        ...

    def progress(self, partition: int) -> int:
        """How far the preparation of a partition has come that goes before its first batch; any number that grows with each step."""
        ...

    def assigned(self, partitions: Collection[int]) -> None:
        """These partitions of its topic are ours from now on, and no others."""
        ...

    def revoked(self) -> None:
        """Partitions may have had other owners from here on."""
        ...

    def close(self) -> None:
        """Let go of what is open; no batch is under way."""
        ...


class Producer(Protocol):
    """Produces; per partition what is written is always a prefix of what was sent."""

    async def send(self, records: Sequence[Record], *, gone_ok: bool = False) -> list[int]:
        """Send all in this order and give their offsets once every one is acknowledged; -1 for a topic that is gone, if that is ok."""
        ...


class Reader(Protocol):
    """A partition that is read on and on; not for several threads at once, and every call may block."""

    @property
    def position(self) -> int:
        """The next offset: everything below it was read, or is not kept any more."""
        ...

    def read(self, timeout_s: float) -> Sequence[Read]:
        """The next records as soon as there are any; none after the time."""
        ...

    def close(self) -> None:
        """Give up the connections."""
        ...


class Log(Protocol):
    """Topics as something to look into, from any thread. Every call raises Unavailable when Kafka does not answer in time."""

    def offsets(self, topic: str, partition: int) -> tuple[int, int]:
        """First offset kept, and the offset after the last."""
        ...

    def offset_at(self, topic: str, partition: int, us: int) -> int:
        """The first offset that was written at that time or later, µs since 1970; the end if there is none."""
        ...

    def follow(self, topic: str, partition: int, start: int) -> Reader:
        """Read on from ``start``, or from the first record kept."""
        ...

    def committed(self, topic: str, partition: int) -> int | None:
        """The commit of the streams workers' group; None when there is none."""
        ...

    def read(self, topic: str, partition: int, start: int, end: int) -> Iterator[Sequence[Read]]:
        """What stands from ``start`` to before ``end``, in batches."""
        ...
