"""Processes of the simulation: what runs, crashes and is started again, one effect at a time."""

from __future__ import annotations

import random
from collections.abc import Callable, Generator
from typing import Any

IDLE = True
Steps = Generator[Any, None, None]
"""What a process does, an effect at a time; IDLE where there was nothing to do."""
EFFECTS_MAX = 5


class Died(Exception):
    """A process ends itself: what it saw is not safe to go on with."""


class Process:
    """Something that runs, crashes and is started again; a zombie runs on beside its successor."""

    def __init__(self, name: str, start: Callable[[], Steps]) -> None:
        self.name = name
        self._start = start
        self._running: list[Steps] = [start()]
        self.crashes = 0

    def step(self, rng: random.Random) -> None:
        """A few effects of one of those that run."""
        running = rng.choice(self._running)
        try:
            for _ in range(rng.randint(1, EFFECTS_MAX)):
                if next(running) is IDLE:
                    return
        except Died:
            self._replace(running)
        except StopIteration:
            self._replace(running)

    def crash(self) -> None:
        """All of it ends, between two effects, and is started again."""
        self.crashes += 1
        self.close()
        self._running = [self._start()]

    def freeze(self) -> None:
        """Another owner takes over while this one is not gone; at most two at a time."""
        if len(self._running) < 2:
            self._running.append(self._start())

    def heal(self) -> None:
        """Only the last owner is left."""
        for running in self._running[:-1]:
            running.close()
        self._running = self._running[-1:]

    def close(self) -> None:
        """The end of it."""
        for running in self._running:
            running.close()

    def _replace(self, running: Steps) -> None:
        self._running.remove(running)
        self._running.append(self._start())
