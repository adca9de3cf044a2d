"""The simulated partition keeps the rules of a partition."""

from __future__ import annotations

import pytest

from tests.simulation.partition_rules import Headers, Partition, PartitionRules, Row
from tests.simulation.topics import Log
from tests.simulation.world import World

NAME = "one"


class SimulatedPartition(Partition):
    """A lane of a world."""

    def __init__(self) -> None:
        self._world = World(1)

    @property
    def _log(self) -> Log:
        return self._world.lanes[NAME]

    def append(self, key: bytes | None, value: bytes | None, headers: Headers = ()) -> int:
        return self._log.append(key, value, headers)

    def read(self, start: int = 0) -> list[Row]:
        return self._world.read(self._log, start)

    def bounds(self) -> tuple[int, int]:
        return self._log.start, len(self._log.records)

    def remove(self, before: int) -> None:
        self._log.remove(before)

    def compact(self) -> None:
        self._log.compact(len(self._log.records))

    def make_anew(self) -> None:
        self._world.lanes[NAME] = Log()

    def commit(self, offset: int, metadata: str) -> None:
        self._world.lane_commits[NAME] = offset, metadata

    def committed(self) -> tuple[int, str] | None:
        return self._world.lane_commits.get(NAME)


@pytest.fixture
def partition() -> Partition:
    """An empty one."""
    return SimulatedPartition()


class TestSimulated(PartitionRules):
    """In memory."""
