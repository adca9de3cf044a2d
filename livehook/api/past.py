"""
What ``changes`` keeps of a webhook's deliveries, for a replay of what its lane does not keep any more. Shell around streams/backfill.py.

Source: docs/explanation/replay.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from livehook.api.ports import LogRecord, Logs, WebhooksView
from livehook.api.replay_places import CLOCKS_US_MAX
from schemas.changes import Change
from schemas.deliveries import Delivery
from schemas.records import decode_change
from schemas.registry import Webhook
from schemas.topics import Topics
from schemas.webhooks import PastReplay
from streams.backfill import Plan, Repeats, backfilled, is_of, replayed
from streams.matching import standing_of


class Past:
    """Args: logs: of ``changes``."""

    def __init__(self, topics: Topics, logs: Logs, view: WebhooksView) -> None:
        self._topics, self._logs, self._view = topics, logs, view

    async def deliveries(self, webhook: Webhook, first_txn: int, now_us: int) -> AsyncIterator[list[Delivery]]:
        """
        What a replay from a ``txnId`` on would send of what has happened until now, in batches, partition by partition of ``changes``.

        Raises:  KafkaUnavailable, KafkaRefused. BadRecord: another program has written to ``changes``.
        """
        plan = self._plan(webhook, first_txn, now_us)
        if plan is None:
            return
        topic = self._topics.changes
        places = [(topic.name, partition) for partition in range(topic.partitions)]
        begin = await self._logs.offsets_at(places, max(plan.first_txn - CLOCKS_US_MAX, 0))
        for place, (first, end) in (await self._logs.ends(places)).items():
            repeats, collections = Repeats(plan.is_snapshot), plan.collections
            async for records in self._logs.read(*place, max(first, begin[place]), end):
                yield _found(plan, collections, repeats, records)
                await asyncio.sleep(0)  # a million of them keep nobody else waiting

    def _plan(self, webhook: Webhook, first_txn: int, now_us: int) -> Plan | None:
        """With which nothing can be sent."""
        registry, current = self._view.registry, webhook.current
        made = [one for one in registry.revisions(current.name) if one.uid == current.uid]
        lane = self._topics.lane(current.name).name
        standings = [standing_of(one, lane, registry.since(one)) for one in made]
        return replayed(PastReplay("", now_us, first_txn, -1, current.snapshot), made, standings)


def _found(plan: Plan, collections: frozenset[str] | None, repeats: Repeats, records: Sequence[LogRecord]) -> list[Delivery]:
    found: list[Delivery] = []
    for record in records:
        if record.value is None or not is_of(record.key, collections):
            continue
        change = decode_change(record.value)
        if isinstance(change, Change) and not repeats.is_repeat(change) and (delivery := backfilled(plan, change, {})) is not None:
            found.append(delivery)
    return found
