"""One run of the simulation: users, faults and processes taking turns by a seed, and then peace until nothing moves."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable

from schemas.parked import DOWN
from tests.simulation.oracle import QUERIES, violations
from tests.simulation.processes import Process, Steps
from tests.simulation.sinks import SESSION_S, Sink
from tests.simulation.topics import MemoryDocuments
from tests.simulation.workers import documents, matching
from tests.simulation.world import World

STEPS = 300
SHAKY_STEPS = 40  # of peace, but for the receivers
NAMES = ("one", "two")
IDS = "abcd"
STRAY = "d"  # is always written to the wrong partition
HURRY_AT_LAST = 0.8
LOOKS_EVERY = 2  # steps of every process, while the world comes to rest
LOOKS_MAX = 1_000
DOWN_KEY_END = f"/{DOWN}".encode()


def broken(seed: int) -> tuple[World | None, list[str]]:
    """A run, and what it broke; whatever it raises is a broken promise too."""
    try:
        world = run(seed)
    except Exception as error:  # noqa: BLE001  a bug may show as anything
        return None, [f"ended: {error!r}"]
    return world, violations(world)


def run(seed: int) -> World:
    """A run with faults, then one without until nothing moves."""
    storm = Storm(World(seed))
    storm.rage()
    storm.calm()
    return storm.world


class Storm:
    """What happens to a world."""

    def __init__(self, world: World) -> None:
        self.world, self.rng = world, world.rng
        rng = self.rng
        world.receivers.failing = rng.choice((0.0, 0.2, 0.5))
        world.receivers.poison = {(name, f"c/{id_}") for name in NAMES for id_ in IDS if rng.random() < 0.2}
        self._rewinding = rng.choice((0.0, 0.0, 0.01))
        self._stores: dict[int, MemoryDocuments] = {}
        self._putting: dict[str, Steps] = {}
        self._sinks = [Process(f"sink {number}", functools.partial(_sink, world, number)) for number in (1, 2)]
        self._processes = [Process(f"documents {p}", functools.partial(self._documents, p)) for p in range(world.partitions)]
        self._processes += [Process(f"matching {p}", functools.partial(matching, world, p)) for p in range(world.partitions)]
        self._processes += self._sinks
        self._often = [*self._processes, *self._sinks]
        self._mishaps: tuple[tuple[float, Callable[[], None]], ...] = (
            (0.02, self._crash), (0.01, self._freeze), (0.01, self._rebalance), (0.01, self._turn_down), (0.01, self._cure),
            (0.01, world.compact), (self._rewinding, self._rewind), (0.005, self._cancel), (0.01, self._edit),
        )  # fmt: skip

    def rage(self) -> None:
        """Mutations, webhooks edited, and everything that can go wrong."""
        rng = self.rng
        for step in range(STEPS):
            if rng.random() < 0.18:
                self.world.mutate(asked := mutation(rng), wrong_partition=asked["id"] == STRAY)
            self._put_webhooks(begins=step > 5)
            rng.choice(self._often).step(rng)
            for chance, mishap in self._mishaps:
                if rng.random() < chance:
                    mishap()

    def calm(self) -> None:
        """No more faults; for a while the receivers still fail. Raises AssertionError when there is no end."""
        world = self.world
        for name in sorted(self._putting):
            list(self._putting[name])
        for name in NAMES:
            world.edit_webhook(name, is_paused=False)
        for process in self._processes:
            process.heal()
        world.tell("calm")
        self._turns(SHAKY_STEPS)
        world.receivers.heal()
        world.hurry = HURRY_AT_LAST
        self._come_to_rest()
        for process in self._sinks:  # their next lives find what a frozen one has written late
            process.crash()
        self._come_to_rest()
        if left := [key for key in world.parked if not key.endswith(DOWN_KEY_END)]:
            world.violations.append(f"lost: parked for ever: {left}")
        for sink in world.members.values():
            world.violations += sink.left_over()
        for process in self._processes:
            process.close()

    def _come_to_rest(self) -> None:
        for _ in range(LOOKS_MAX):
            self._turns(LOOKS_EVERY)
            if self.world.is_at_rest():
                return
        self.world.violations.append("lost: it does not come to rest")

    def _turns(self, count: int) -> None:
        for _ in range(count):
            for process in self._processes:
                process.step(self.rng)

    def _documents(self, partition: int) -> Steps:
        """A zombie shares nothing with its successor: each works on its own copy of the store, and the store may be lost."""
        before = self._stores.get(partition)
        store = self._stores[partition] = MemoryDocuments() if before is None or self.rng.random() < 0.3 else before.copy()
        return documents(self.world, partition, store)

    def _put_webhooks(self, *, begins: bool) -> None:
        if begins and self.rng.random() < 0.02:
            name = self.rng.choice(NAMES)
            if name not in self._putting:
                self._putting[name] = self.world.put_webhook(name, self.rng.choice([*QUERIES]))
        for name, steps in list(self._putting.items()):
            if self.rng.random() < 0.5 and next(steps, self) is self:
                del self._putting[name]

    # What goes wrong.

    def _crash(self) -> None:
        process = self.rng.choice(self._processes)
        self.world.tell(f"kill -9 {process.name}")
        process.crash()

    def _freeze(self) -> None:
        process = self.rng.choice(self._processes)
        self.world.tell(f"freeze {process.name}")
        process.freeze()
        if process in self._sinks:
            self.world.now_s += SESSION_S  # before that its lanes are given to nobody

    def _rebalance(self) -> None:
        if self.world.wanted:
            name, number = self.rng.choice([*self.world.wanted]), self.rng.choice((1, 2))
            self.world.wanted[name] = number
            self.world.tell(f"lane {name} goes to sink {number}")

    def _turn_down(self) -> None:
        name = self.rng.choice(NAMES)
        self.world.receivers.down ^= {name}
        self.world.tell(f"endpoint of {name} {'down' if name in self.world.receivers.down else 'up'}")

    def _cure(self) -> None:
        if poison := sorted(self.world.receivers.poison):
            self.world.receivers.poison.remove(self.rng.choice(poison))

    def _rewind(self) -> None:
        if self.world.made:
            self.world.rewind(self.rng.choice([*self.world.made]))

    def _cancel(self) -> None:
        if running := [one for one in self.world.rewinds if one.is_running]:
            self.world.cancel(self.rng.choice(running))

    def _edit(self) -> None:
        name = self.rng.choice(NAMES)
        if name not in self._putting:
            self.world.edit_webhook(name, is_paused=self.rng.random() < 0.3)


def mutation(rng: random.Random) -> dict[str, object]:
    """Any one of few documents."""
    kind, id_ = rng.random(), rng.choice(IDS)
    if kind < 0.2:
        return {"method": "remove", "collection": "c", "id": id_}
    value = {"n": rng.randint(0, 3)} | ({"s": rng.choice("xy")} if rng.random() < 0.5 else {})
    return {"method": "upsert" if kind < 0.7 else "replace", "collection": "c", "id": id_, "value": value}


def _sink(world: World, number: int) -> Steps:
    return Sink(world, number).run()
