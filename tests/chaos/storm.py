"""
Load and kills at once: mutations at a steady pace, and meanwhile processes killed at random moments, each started again a little later.

One seed gives one sequence of mutations, moments and victims; what happens in between is up to the machine. Called by the crash test.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from connectors.kafka.embedded import EmbeddedKafka
from tests.integration.cluster import Cluster, Role
from tests.integration.recorder import Writer

TICK_S = 0.02
QUIET_BEFORE_S = 3.0
DOWN_S_MAX = 3.0
LONG_DOWN_S = 13.0  # beyond the session timeout of streams workers: their partitions go to the others
LONG_DOWN_SHARE = 0.2
FELL_DOWN_S = 1.0
BROKER_DOWN_S_MAX = 2.0
BROKER_START_S = 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """
    What a storm does.

    seconds:   how long it writes. kills: of each of ``streams``, ``sink`` and ``broker``, within that time.
    """

    seconds: float
    kills: Mapping[str, int]
    rate_per_s: int = 80
    documents: int = 200


@dataclass(slots=True)
class Damage:
    """What a storm has done: kills of each kind, and processes that ended by themselves."""

    kills: Counter[str] = field(default_factory=Counter)
    fell: list[str] = field(default_factory=list)


class Storm:
    """
    One run.

    Args:  cluster, kafka: running; all is running again when :meth:`run` returns.
    """

    def __init__(self, plan: Plan, cluster: Cluster, kafka: EmbeddedKafka, writer: Writer, rng: random.Random) -> None:
        self.damage = Damage()
        self._plan = plan
        self._kafka = kafka
        self._writer = writer
        self._rng = rng
        self._of_kind = {"streams": cluster.streams, "sink": cluster.sinks}
        self._due = _moments(plan, rng)
        self._restarts: dict[str, float] = {}
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
                self._kill(now, starter)
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
        return bool(self._restarts) or self._broker_back is not None or any(not role.is_running for role in self._roles())

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

    def _kill(self, now: float, starter: ThreadPoolExecutor) -> None:
        while self._due and self._due[0][0] <= now:
            at, kind = self._due.pop(0)
            if kind == "broker":
                is_done = self._kill_broker(starter)
            else:
                is_done = self._kill_one(kind, now)
            if not is_done:  # it lies already: as soon as it stands
                self._due.append((at, kind))
                return

    def _kill_one(self, kind: str, now: float) -> bool:
        standing = [role for role in self._of_kind[kind] if role.is_running]
        if not standing:
            return False
        victim = self._rng.choice(standing)
        victim.kill()
        self.damage.kills[kind] += 1
        is_long = self._rng.random() < LONG_DOWN_SHARE
        self._restarts[victim.name] = now + (LONG_DOWN_S if is_long else self._rng.uniform(0, DOWN_S_MAX))
        return True

    def _kill_broker(self, starter: ThreadPoolExecutor) -> bool:
        if self._broker_back is not None:
            return False
        self._kafka.kill()
        self.damage.kills["broker"] += 1
        self._broker_back = starter.submit(self._start_broker, self._rng.uniform(0, BROKER_DOWN_S_MAX))
        return True

    def _start_broker(self, delay_s: float) -> None:
        time.sleep(delay_s)  # how long it is down is part of the plan
        self._kafka.start(timeout_s=BROKER_START_S)

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
                role.start()

    def _roles(self) -> list[Role]:
        return [role for roles in self._of_kind.values() for role in roles]


def _moments(plan: Plan, rng: random.Random) -> list[tuple[float, str]]:
    """When to kill what, in order of time."""
    kinds = [kind for kind, count in sorted(plan.kills.items()) for _ in range(count)]
    return sorted((rng.uniform(QUIET_BEFORE_S, plan.seconds), kind) for kind in kinds)
