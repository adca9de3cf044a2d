"""Rules of the thread that reads lanes, with a consumer that does what the test says."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence
from typing import Any

from confluent_kafka import TopicPartition

from connectors.kafka.config import KafkaConfig
from connectors.webhook.ownership import KnownLane
from connectors.webhook.slots import BATCH_RECORDS_MAX, HANDED_RECORDS_MAX, Slots

ONE = KnownLane("one", "uid", "lane", 1)


class Scripted:
    """A consumer: each call of ``poll`` or ``consume`` does the next step of the script, and gives what that gives."""

    def __init__(self, settings: dict[str, Any], logger: object) -> None:
        self.steps: list[Callable[[], Any]] = []
        self.callbacks: dict[str, Callable[..., None]] = {}

    def subscribe(self, topics: Sequence[str], **callbacks: Callable[..., None]) -> None:
        self.callbacks = callbacks

    def poll(self, timeout_s: float) -> Any:
        return self.steps.pop(0)() if self.steps else None

    def consume(self, at_most: int, timeout_s: float) -> list[Any]:
        return (self.steps.pop(0)() if self.steps else None) or []

    def committed(self, places: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        return [TopicPartition(place.topic, place.partition, 5) for place in places]

    def get_watermark_offsets(self, place: TopicPartition, *, cached: bool) -> None:
        return None

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_, **__: None


class Message:
    """What ``poll`` gives."""

    def __init__(self, offset: int) -> None:
        self._offset = offset

    def error(self) -> None:
        return None

    def topic(self) -> str:
        return "lane"

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return self._offset

    def key(self) -> bytes:
        return b"k"

    value = key


class Told:
    """The events, in order."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.done = asyncio.Event()

    def records(self, records: Sequence[Any]) -> None:
        self.events.append([record.offset for record in records])
        if self.events[-1] == [6]:
            self.done.set()

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_: self.events.append(name) if name in ("taken", "given_up", "lost", "failed") else None


async def test_what_was_read_before_a_lane_was_lost_is_not_of_its_next_life():
    """A rebalance is told while records are polled for: those in hand of a lane that is gone are nobody's, or it would begin with them."""
    told = Told()
    consumers: list[Scripted] = []

    def make(settings: dict[str, Any], logger: object) -> Scripted:
        consumers.append(Scripted(settings, logger))
        return consumers[0]

    slots = Slots(
        KafkaConfig(bootstrap_servers="x:1"), told, group="g", slots_topic="slots", slots=1, client_id="c", make_consumer=make  # type: ignore[arg-type]
    )  # fmt: skip
    consumer = consumers[0]

    def rebalance(name: str, given: Any = None) -> Any:
        consumer.callbacks[name](consumer, [TopicPartition("slots", 0)])
        return given

    consumer.steps = [
        lambda: rebalance("on_assign", Message(4)),  # not of a life that begins after this call
        lambda: None,
        lambda: Message(5),
        lambda: [Message(6)],
        lambda: Message(100),
        lambda: rebalance("on_lost", [Message(101)]),
        lambda: rebalance("on_assign"),
        lambda: Message(5),
        lambda: None,
        lambda: Message(6),
    ]
    slots.know({"one": ONE})
    slots.start()
    async with asyncio.timeout(5):
        await told.done.wait()
    await slots.stop(drain=False)
    assert ["taken", [5, 6], "lost", "given_up", "taken", [5], [6]] == told.events[:7]


class Endless(Scripted):
    """A consumer that always has another record; ``asked`` is set when it is told to pause something."""

    def __init__(self, settings: dict[str, Any], logger: object) -> None:
        super().__init__(settings, logger)
        self.offsets = itertools.count()
        self.asked = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self.steps = [lambda: self.callbacks["on_assign"](self, [TopicPartition("slots", 0)])]

    def poll(self, timeout_s: float) -> Message | None:
        return super().poll(timeout_s) if self.steps else Message(next(self.offsets))

    def consume(self, at_most: int, timeout_s: float) -> list[Message]:
        return [Message(next(self.offsets)) for _ in range(at_most)]

    def pause(self, places: list[TopicPartition]) -> None:
        self._loop.call_soon_threadsafe(self.asked.set)


class Slow:
    """Takes records, and is not done with them before it says so."""

    def __init__(self) -> None:
        self.waiting: list[Any] = []
        self.full = asyncio.Event()

    def records(self, records: Sequence[Any]) -> None:
        self.waiting += records
        if len(self.waiting) > HANDED_RECORDS_MAX:
            self.full.set()

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_: None


async def test_what_waits_between_the_threads_is_bounded():
    """A loop that does not come to its records is handed no more of them; its wishes are heard all the same, and then it goes on."""
    slow, consumers = Slow(), list[Endless]()

    def make(settings: dict[str, Any], logger: object) -> Endless:
        consumers.append(Endless(settings, logger))
        return consumers[0]

    slots = Slots(
        KafkaConfig(bootstrap_servers="x:1"), slow, group="g", slots_topic="slots", slots=1, client_id="c", make_consumer=make  # type: ignore[arg-type]
    )  # fmt: skip
    slots.know({"one": ONE})
    slots.start()
    async with asyncio.timeout(5):
        for _ in range(2):
            await slow.full.wait()
            for _ in range(5):  # between two wishes an unbounded one would read another batch
                consumers[0].asked.clear()
                slots.pause([])
                await consumers[0].asked.wait()
            assert len(slow.waiting) <= HANDED_RECORDS_MAX + BATCH_RECORDS_MAX
            done, slow.waiting = slow.waiting, []
            slow.full.clear()
            slots.handled(done)
    await slots.stop(drain=False)
