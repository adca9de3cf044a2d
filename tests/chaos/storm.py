"""
Load and faults at once: mutations at a steady pace, and meanwhile processes killed, frozen, added and removed, and networks that fail.

One seed gives one sequence of mutations, moments and victims; what happens in between is up to the machine. Called by the crash test.
"""

from __future__ import annotations

import heapq
import itertools
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from connectors.kafka.embedded import EmbeddedKafka
from tests.chaos.proxy import Proxy, Weather
from tests.integration.cluster import Cluster, Role
from tests.integration.recorder import Writer

TICK_S = 0.02
QUIET_BEFORE_S = 3.0
DOWN_S_MAX = 3.0
LONG_S = 13.0  # beyond the session timeout of streams workers: their partitions go to the others
LONG_SHARE = 0.2
FROZEN_S_MAX = 6.0
FELL_DOWN_S = 1.0
EXTRA_S = (6.0, 14.0)
STOP_S = 60.0
WEATHER_S = (1.0, 6.0)
BROKER_DOWN_S_MAX = 2.0
BROKER_START_S = 120.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Link:
    """A network, and how bad it may become."""

    name: str
    proxy: Proxy
    weathers: Sequence[Weather]


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """
    What a storm does.

    seconds:     how long it writes.
    rate_per_s:  mutations.
    faults:      of each kind, within that time: ``kill``, ``freeze`` or ``add`` and a role, ``kill broker``, ``weather`` and a link.
    """

    seconds: float
    faults: Mapping[str, int]
    rate_per_s: int
    documents: int = 200


@dataclass(slots=True)
class Damage:
    """
    What a storm has done: faults of each kind, the weather that there was, and processes that ended by themselves.

    told:  when (seconds since 1970) what happened, in order.
    """

    faults: Counter[str] = field(default_factory=Counter)
    weather: Counter[str] = field(default_factory=Counter)
    fell: list[str] = field(default_factory=list)
    told: list[tuple[float, str]] = field(default_factory=list)

    def tell(self, what: str) -> None:
        """It happens now."""
        self.told.append((time.time(), what))


class Storm:
    """
    One run.

    Args:  cluster, kafka: running; all is running again, and every link is fine, when :meth:`run` returns.
    """

    def __init__(
        self, plan: Plan, cluster: Cluster, kafka: EmbeddedKafka, writer: Writer, links: Mapping[str, Link], rng: random.Random
    ) -> None:
        self.damage = Damage()
        self._plan, self._cluster, self._kafka, self._writer, self._links, self._rng = plan, cluster, kafka, writer, links, rng
        self._of_kind = {"streams": cluster.streams, "sink": cluster.sinks, "api": [cluster.api]}
        self._due = _moments(plan, rng)
        self._restarts: dict[str, float] = {}
        self._later: list[tuple[float, int, Callable[[float], None]]] = []
        self._number = itertools.count()
        self._frozen: set[str] = set()
        self._broker_back: Future[Any] | None = None
        self._counter = 0

    def run(self) -> None:
        """The storm, until its time is over and its last victim stands again."""
        with ThreadPoolExecutor(1) as starter:
            begin = time.monotonic()
            written = 0
            while (now := time.monotonic() - begin) < self._plan.seconds or self._due or self._is_hurt:
                while written < min(now, self._plan.seconds) * self._plan.rate_per_s:
                    self._writer.write(*self.mutation())
                    written += 1
                self._strike(now, starter)
                while self._later and self._later[0][0] <= now:
                    heapq.heappop(self._later)[2](now)
                self._restart(now)
                time.sleep(TICK_S)
        self._writer.flush()

    def tend(self) -> None:
        """After the storm: start again who has ended, as whoever supervises it does."""
        for role in self._roles():
            if not role.is_running:
                self.damage.fell.append(f"after the storm: {role.name}: {role.last_words()}")
                role.start()

    @property
    def _is_hurt(self) -> bool:
        return bool(self._restarts or self._later) or self._broker_back is not None or any(not role.is_running for role in self._roles())

    def mutation(self) -> tuple[str, str, Mapping[str, Any] | None]:
        """One more: key, method, value. Every value is another one, so that none can pass for its neighbour."""
        rng = self._rng
        id_ = f"d{rng.randrange(self._plan.documents)}"
        kind = rng.random()
        self._counter += 1
        if kind < 0.1:
            return f"people/{id_}", "remove", None
        value: dict[str, Any] = {"_id": id_, "n": self._counter}
        if kind < 0.9:
            value["age"] = rng.randrange(36)
        if kind > 0.5:
            value["name"] = rng.choice(["Ann", "Bob", "Čeněk"])
        return f"people/{id_}", "replace" if kind < 0.2 else "upsert", value

    # Faults.

    def _strike(self, now: float, starter: ThreadPoolExecutor) -> None:
        while self._due and self._due[0][0] <= now:
            at, fault = self._due.pop(0)
            kind, _, victim = fault.partition(" ")
            if fault == "kill broker":
                is_done = self._kill_broker(starter)
            elif kind == "weather":
                is_done = self._change_weather(self._links[victim], now)
            elif kind == "add":
                is_done = self._add(victim, now)
            else:
                is_done = self._strike_one(kind, victim, now)
            if not is_done:  # it lies already: as soon as it stands
                self._due.append((at, fault))
                return
            self.damage.faults[fault] += 1

    def _strike_one(self, kind: str, victim: str, now: float) -> bool:
        standing = [role for role in self._of_kind[victim] if role.is_running and role.name not in self._frozen]
        if not standing:
            return False
        role = self._rng.choice(standing)
        is_long = self._rng.random() < LONG_SHARE
        self.damage.tell(f"{kind} {role.name}")
        if kind == "kill":
            role.kill()
            self._restarts[role.name] = now + (LONG_S if is_long else self._rng.uniform(0, DOWN_S_MAX))
        else:
            role.freeze()
            self._frozen.add(role.name)
            self._at(now + (LONG_S if is_long else self._rng.uniform(0, FROZEN_S_MAX)), lambda _: self._thaw(role))
        return True

    def _thaw(self, role: Role) -> None:
        self._frozen.discard(role.name)
        self.damage.tell(f"thaw {role.name}")
        role.thaw()

    def _add(self, command: str, now: float) -> bool:
        """One more worker, which is taken away again."""
        role = self._cluster.add(f"{command}-extra-{next(self._number)}", command)
        role.start()
        self.damage.tell(f"add {role.name}")
        self._at(now + self._rng.uniform(*EXTRA_S), lambda now: self._remove(role, now))
        return True

    def _remove(self, role: Role, now: float) -> None:
        if not role.is_running:
            self.damage.fell.append(f"{now:.0f} s: {role.name}: {role.last_words()}")
            return
        role.ask_to_stop()
        self.damage.tell(f"stop {role.name}")
        self._at(now + TICK_S, lambda later: self._see_off(role, later, now + STOP_S))

    def _see_off(self, role: Role, now: float, patience: float) -> None:
        """It drains as long as it needs; who never ends is killed, and that is told."""
        if role.is_running and now < patience:
            self._at(now + TICK_S, lambda later: self._see_off(role, later, patience))
        elif role.is_running:
            self.damage.fell.append(f"{now:.0f} s: {role.name} does not stop within {STOP_S:.0f} s")
            role.kill()

    def _change_weather(self, link: Link, now: float) -> bool:
        if link.proxy.weather is not Weather.FINE:
            return False
        weather = self._rng.choice(link.weathers)
        self.damage.weather[weather] += 1
        self._turn(link, weather)
        self._at(now + self._rng.uniform(*WEATHER_S), lambda _: self._turn(link, Weather.FINE))
        return True

    def _turn(self, link: Link, weather: Weather) -> None:
        self.damage.tell(f"{weather} {link.name}")
        link.proxy.turn(weather)

    def _at(self, at: float, act: Callable[[float], None]) -> None:
        heapq.heappush(self._later, (at, next(self._number), act))

    # The broker, and restarts.

    def _kill_broker(self, starter: ThreadPoolExecutor) -> bool:
        if self._broker_back is not None:
            return False
        self.damage.tell("kill broker")
        self._kafka.kill()
        self._broker_back = starter.submit(self._start_broker, self._rng.uniform(0, BROKER_DOWN_S_MAX))
        return True

    def _start_broker(self, delay_s: float) -> None:
        time.sleep(delay_s)  # how long it is down is part of the plan
        self._kafka.start(timeout_s=BROKER_START_S)
        self.damage.tell("broker is back")

    def _restart(self, now: float) -> None:
        if self._broker_back is not None and self._broker_back.done():
            self._broker_back.result()
            self._broker_back = None
        for role in self._roles():
            if role.is_running:
                continue
            if role.name not in self._restarts:
                self.damage.fell.append(f"{now:.0f} s: {role.name}: {role.last_words()}")
                self._restarts[role.name] = now + FELL_DOWN_S
            elif self._restarts[role.name] <= now:
                del self._restarts[role.name]
                self.damage.tell(f"start {role.name}")
                role.start()

    def _roles(self) -> list[Role]:
        return [role for roles in self._of_kind.values() for role in roles]


def _moments(plan: Plan, rng: random.Random) -> list[tuple[float, str]]:
    """When to do what, in order of time."""
    kinds = [kind for kind, count in sorted(plan.faults.items()) for _ in range(count)]
    return sorted((rng.uniform(QUIET_BEFORE_S, plan.seconds), kind) for kind in kinds)
