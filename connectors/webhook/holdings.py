"""The lanes that this process has now, by webhook and by topic, and what is asked of all of them. Used by sink.py, in the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from connectors.kafka.admin import Offsets
from connectors.webhook.ownership import Commit, LaneRecord, Place
from connectors.webhook.runner import LaneRunner


class Holdings:
    """Of one sink; iterating gives the runners."""

    def __init__(self) -> None:
        self._runners: dict[str, LaneRunner] = {}
        self._by_topic: dict[str, LaneRunner] = {}

    def __iter__(self) -> Iterator[LaneRunner]:
        return iter(self._runners.values())

    def __len__(self) -> int:
        return len(self._runners)

    @property
    def names(self) -> list[str]:
        """The webhooks whose lanes these are."""
        return [*self._runners]

    def get(self, webhook: str) -> LaneRunner | None:
        """Its lane, if it is here."""
        return self._runners.get(webhook)

    def add(self, runner: LaneRunner) -> None:
        """It is ours from now on."""
        self._runners[runner.taken.lane.webhook] = self._by_topic[runner.taken.lane.topic] = runner

    def remove(self, webhook: str) -> LaneRunner | None:
        """It is not ours any more."""
        runner = self._runners.pop(webhook, None)
        if runner is not None:
            del self._by_topic[runner.taken.lane.topic]
        return runner

    def items(self) -> list[dict[str, Any]]:
        """As items of ``GET /v1/lanes``."""
        return [item for name in sorted(self._runners) for item in self._runners[name].items()]

    def waiting(self) -> dict[str, int]:
        """Lanes that have calls to make and make none, with how many they have made."""
        return {f"the lane of {name}": made for name, runner in self._runners.items() if (made := runner.waiting) is not None}

    def read(self, records: Sequence[LaneRecord]) -> None:
        """Hand them to their lanes; each goes on after its last one."""
        touched: dict[LaneRunner, None] = {}
        for record in records:
            runner = self._by_topic.get(record.topic)
            if runner is not None:
                runner.read(record)
                touched[runner] = None
        for runner in touched:
            runner.go_on()

    async def drain(self, webhooks: Sequence[str], timeout_s: float) -> list[Commit]:
        """Finish what is under way in these lanes and say what to commit."""
        drained = await asyncio.gather(*(self._runners[name].drain(timeout_s) for name in webhooks if name in self._runners))
        return [commit for commits in drained for commit in commits]

    def commits(self) -> list[Commit]:
        """What is to be committed now."""
        return [commit for runner in self for commit in runner.commits()]

    def committed(self, commits: Sequence[Commit]) -> None:
        """Acknowledged."""
        for commit in commits:
            if (runner := self._by_topic.get(commit.topic)) is not None:
                runner.committed(commit)

    def go_on(self) -> None:
        """Something that all of them need is there again."""
        for runner in self:
            runner.go_on()

    def reach(self, ends: Mapping[Place, int]) -> None:
        """How far the lanes reach; what people see of them is brought up to date."""
        for (topic, partition), end in ends.items():
            if (runner := self._by_topic.get(topic)) is not None:
                runner.ends_at(partition, end)
        for runner in self:
            runner.show()

    @property
    def stopped_places(self) -> list[Place]:
        """What is not read for now."""
        return [place for runner in self for place in runner.stopped_places]

    def emptied(self, logs: Mapping[Place, Offsets]) -> None:
        """What was removed with nothing left behind it would show only when something new comes."""
        for (topic, partition), at in logs.items():
            if at.log_start == at.end and (runner := self._by_topic.get(topic)) is not None:
                runner.emptied(partition, at.log_start)
