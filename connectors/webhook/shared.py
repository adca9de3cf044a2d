"""
What all lanes of a process have in common: whom they send through, what they write with, and what they share out among themselves.

Made by sink.py, used by runner.py and intake.py.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from connectors.webhook.http import Sender
from connectors.webhook.lanes import BYTES_MAX
from connectors.webhook.lease import Lease, uptime_s
from connectors.webhook.metrics import SinkMetrics
from connectors.webhook.ownership import Place
from connectors.webhook.parked import Records
from connectors.webhook.rates import Share
from schemas.topics import Record, TopicSpec


class Producer(Protocol):
    """What must be written: status, dead letters, pointers to what is parked."""

    async def send(self, records: Sequence[Record]) -> list[int]:
        """Send all and give their offsets once every one is acknowledged."""
        ...


class AttemptsProducer(Protocol):
    """
    What may be lost: attempts.

    Another producer than that of the rest: when ``attempts`` cannot be written, a full buffer must not hold up a dead letter.
    """

    def send_soon(self, record: Record) -> bool:
        """Send without waiting; whether it was taken at all."""
        ...


class Reading(Protocol):
    """What a lane can ask of the consumer."""

    def pause(self, places: Sequence[Place]) -> None:
        """Read no more of these for now."""
        ...

    def resume(self, places: Sequence[Place]) -> None:
        """Read on."""
        ...


class Blocked(Protocol):
    """A lane that waits for the others to free something."""

    def go_on(self) -> None:
        """Take in what waits and start what may start."""
        ...


@dataclass(slots=True)
class Shared:
    """
    What all lanes of a process have in common.

    calls, held_bytes:  how much of them the process may have at a time; every lane has a fair share.
    parked_max:         deliveries that one lane may park.
    lane_bytes_max:     of the deliveries that one lane holds.
    blocked:            lanes that wait for the others to free something, in order.
    failed:             told of what must end the process.
    now:                the wall clock, seconds since 1970. uptime: the clock of the lease, seconds.
    """

    sender: Sender
    producer: Producer
    attempts: AttemptsProducer
    reading: Reading
    records: Records
    metrics: SinkMetrics
    lease: Lease
    calls: Share
    held_bytes: Share
    failed: Callable[[BaseException], None]
    attempts_topic: str
    dead_letters_topic: str
    webhooks_topic: str
    parked_topic: TopicSpec
    parked_max: int
    origin_partitions: int
    user_agent: str
    worker: str
    rng: random.Random = field(default_factory=random.Random)
    now: Callable[[], float] = time.time
    uptime: Callable[[], float] = uptime_s
    lane_bytes_max: int = BYTES_MAX
    blocked: dict[Blocked, None] = field(default_factory=dict)

    def freed(self) -> None:
        """A call has ended: whoever waited longest may look again."""
        if self.blocked:
            lane = next(iter(self.blocked))
            del self.blocked[lane]
            lane.go_on()
