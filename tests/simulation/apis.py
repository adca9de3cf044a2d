"""
API processes of the simulation: the project's own register of webhooks, and what finishes after a crash what it has left, on an event loop
that the world runs.

What they ask of Kafka is done one effect a step: between any two, between an effect and its acknowledgement, and between the records of one
call to different partitions, the process may die, or others may do something. Written here again is only the way to Kafka.
"""

from __future__ import annotations

import asyncio
import functools
from collections import defaultdict
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from connectors.kafka.errors import KafkaUnavailable
from livehook.api.finishing import Finishing
from livehook.api.problems import Problem
from livehook.api.register import Register
from schemas.errors import Invalid
from schemas.registry import Registry, Webhook
from schemas.topics import Record, TopicSpec
from schemas.webhook_validation import Wanted
from schemas.webhooks import WebhookRevision, WebhookSpec
from tests.simulation.loop import Loop
from tests.simulation.processes import Steps

if TYPE_CHECKING:
    from tests.simulation.lives import LivesWorld

Answer = TypeVar("Answer")
ACTS_MAX = 3
CALLBACKS_MAX = 4
NO_ANSWER_SHARE = 0.02
AGAIN_S = 1.0


class Kafka:
    """What the register asks of Kafka: producer, topic admin and view of ``webhooks`` (livehook/api/ports.py)."""

    def __init__(self, world: LivesWorld, loop: Loop) -> None:
        self.registry = Registry()
        self.effects: list[Callable[[], None]] = []
        self._world, self._loop = world, loop
        self._read = 0
        self._names: set[str] = set()
        self._offsets: dict[bytes, int] = {}

    async def _effect(self, do: Callable[[], Answer]) -> Answer:
        """It is done at some step, and known at a later one; or not known, though it was done; or it never is."""
        future: asyncio.Future[Answer] = self._loop.create_future()

        def done() -> None:
            found = do()
            if self._world.rng.random() < self._world.no_answer_share:
                self.effects.append(lambda: future.set_exception(KafkaUnavailable("no answer")))
            else:
                self.effects.append(lambda: future.set_result(found))

        self.effects.append(done)
        return await future

    async def send(self, records: Sequence[Record]) -> list[int]:
        """Those for one partition in their order; partitions in any."""
        places: dict[tuple[str, int], list[int]] = defaultdict(list)
        for index, record in enumerate(records):
            places[record.topic, record.partition or 0].append(index)
        offsets = [-1] * len(records)

        async def send_to_one(indexes: Sequence[int]) -> None:
            for index in indexes:
                offsets[index] = await self._effect(functools.partial(self._world.append, records[index]))

        await asyncio.gather(*map(send_to_one, places.values()))
        return offsets

    async def existing(self, names: Sequence[str]) -> Mapping[str, str]:
        """Of the lanes."""
        return await self._effect(lambda: self._world.existing(names))

    async def ensure(self, topic: TopicSpec) -> None:
        """A lane."""
        await self._effect(lambda: self._world.ensure(topic))

    async def delete(self, name: str, topic_id: str) -> None:
        """A lane."""
        await self._effect(lambda: self._world.drop(name, topic_id))

    async def end(self, name: str) -> int:
        """Of a lane."""
        return await self._effect(lambda: self._world.end(name))

    def names(self) -> list[str]:
        """All that were read of."""
        return sorted(self._names)

    def offset(self, revision: WebhookRevision) -> int:
        """Of its last record."""
        return self._offsets[revision.key.encode()]

    async def catch_up(self) -> None:
        """To the present end."""
        await self.wait_until(await self._effect(lambda: len(self._world.webhooks.records)) - 1)

    async def wait_until(self, offset: int) -> None:
        """To behind that record."""
        await self._effect(lambda: self.fold(offset + 1))

    def fold(self, end: int) -> None:
        """Read on to there."""
        for offset, key, value in self._world.webhooks_between(self._read, end):
            name = self.registry.apply(key, value)
            self._names |= set() if name is None else {name}
            self._offsets[key] = offset
            self._read = offset + 1


class Api:
    """One life of a process."""

    def __init__(self, world: LivesWorld, number: int) -> None:
        self.world, self.number = world, number
        self.loop = Loop(world.read_clock)  # type: ignore[abstract]
        self.kafka = Kafka(world, self.loop)
        self.register = Register(
            topics=world.topics, producer=self.kafka, admin=self.kafka, view=self.kafka, now_us=lambda: int(world.read_clock() * 1e6),
            new_uid=world.new_uid, new_secret=lambda _: "whsec_AAAA",
        )  # fmt: skip
        self._finishing = Finishing(self.register, self._failed)
        self.register.on_unfinished = self._finishing.start
        self._asked: asyncio.Task[None] | None = None

    def run(self) -> Steps:
        """Until it is closed, which is kill -9."""
        rng = self.world.rng
        try:
            with self.loop:
                starting = self.loop.create_task(self._start())
            while True:
                with self.loop:
                    for _ in range(rng.randint(1, ACTS_MAX)):
                        self._act()
                    if starting.done():
                        starting.result()
                        self._serve()
                yield
        finally:
            self.loop.close()
            self.world.died(self.number)

    async def _start(self) -> None:
        """As livehook/api_role.py does it: users are served from then on."""
        while True:
            try:
                await self.kafka.catch_up()
                if not await self.register.finish():
                    self._finishing.start()
                return
            except KafkaUnavailable:  # it ends, and is started again
                await asyncio.sleep(AGAIN_S)

    def _act(self) -> None:
        rng, effects = self.world.rng, self.kafka.effects
        for _ in range(rng.randint(0, CALLBACKS_MAX)):
            if not self.loop.run_one():
                if not effects:
                    self.world.sleep(self.loop.next_due)
                break
        if effects:
            effects.pop(rng.randrange(len(effects)))()
        elif rng.random() < 0.5:
            self.kafka.fold(rng.randint(0, len(self.world.webhooks.records)))

    def _serve(self) -> None:
        """Take up what a user wants, one at a time."""
        if self._asked is not None and self._asked.done():
            self._asked.result()
            self._asked = None
        if self._asked is None and (request := self.world.request_for(self)) is not None:
            self._asked = self.loop.create_task(request)

    def _failed(self, error: BaseException) -> None:
        raise error

    # What users ask for. None: whether it was done is not known, or it was refused.

    async def put(self, spec: WebhookSpec) -> WebhookRevision | None:
        """Make it, or replace it; the webhook as it was answered."""

        async def put() -> WebhookRevision:
            return (await self.register.write(spec.name, lambda present: _wanted(spec, present))).webhook.current

        return await _answered(put())

    async def delete(self, name: str) -> bool | None:
        """End it."""

        async def delete() -> bool:
            await self.register.delete(name)
            return True

        return await _answered(delete())


def _wanted(spec: WebhookSpec, present: Webhook | None) -> Wanted:
    """As livehook/api/webhooks.py has it: where it starts is read when it is made."""
    return Wanted(spec if present is None else msgspec.structs.replace(spec, start=present.current.spec.start))


async def _answered(work: Coroutine[Any, Any, Answer]) -> Answer | None:
    try:
        return await work
    except (KafkaUnavailable, Problem, Invalid):
        return None
