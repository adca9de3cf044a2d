"""
What ``changes`` keeps of a webhook's deliveries, for a replay of what its lane does not keep any more. Shell around streams/backfill.py.

Source: docs/explanation/replay.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from livehook.api.ports import LogRecord, Logs, WebhooksView
from livehook.api.problems import invalid_field
from livehook.api.replay_input import AtOffset, AtTime, AtTxn, Moment
from livehook.api.replay_places import CLOCKS_US_MAX
from schemas.changes import Change
from schemas.deliveries import Delivery
from schemas.records import decode_change
from schemas.registry import Webhook
from schemas.topics import Topics
from schemas.webhooks import PastReplay
from streams.backfill import Plan, Repeats, backfilled, replayed
from streams.matching import standing_of
from streams.sieve import Sieve


class Past:
    """Args: logs: of ``changes``."""

    def __init__(self, topics: Topics, logs: Logs, view: WebhooksView) -> None:
        self._topics, self._logs, self._view = topics, logs, view

    async def deliveries(self, webhook: Webhook, first_txn: int, until_txn: int | None, now_us: int) -> AsyncIterator[list[Delivery]]:
        """
        What a replay from a ``txnId`` on would send of what has happened until now, in batches, partition by partition of ``changes``.

        Args:    until_txn: only what is before this one. now_us: when it was asked for; what may be compacted depends on it.
        Raises:  KafkaUnavailable, KafkaRefused. BadRecord: another program has written to ``changes``.
        """
        plan = self._plan(webhook, first_txn, now_us)
        if plan is None:
            return
        topic = self._topics.changes
        places = [(topic.name, partition) for partition in range(topic.partitions)]
        begin = await self._logs.offsets_at(places, max(plan.first_txn - CLOCKS_US_MAX, 0))
        for place, (first, end) in (await self._logs.ends(places)).items():
            repeats = Repeats(plan.is_snapshot)
            async for records in self._logs.read(*place, max(first, begin[place]), end):
                yield [one for one in _found(plan, repeats, records) if until_txn is None or one.change.txn_id < until_txn]
                await asyncio.sleep(0)  # a million of them keep nobody else waiting

    def _plan(self, webhook: Webhook, first_txn: int, now_us: int) -> Plan | None:
        """With which nothing can be sent."""
        registry, current = self._view.registry, webhook.current
        made = [one for one in registry.revisions(current.name) if one.uid == current.uid]
        lane = self._topics.lane(current.name).name
        standings = [standing_of(one, lane, registry.since(one)) for one in made]
        return replayed(PastReplay("", now_us, first_txn, -1, current.snapshot), made, standings)


def until_txn_of(moment: Moment | None, first_txn: int) -> int | None:
    """
    Before which ``txnId`` a replay ends that begins at ``first_txn``; None: with what has happened.

    Raises:  Problem: invalid: it does not say so, or lies before the begin.
    """
    match moment:
        case AtOffset():
            raise invalid_field("until.offset", "must be a time or a txnId, since from is before what the lane keeps")
        case AtTime(us):
            field, until_txn = "until.time", us
        case AtTxn(txn_id):
            field, until_txn = "until.txnId", txn_id
        case _:
            return None
    if until_txn < first_txn:
        raise invalid_field(field, "lies before from")
    return until_txn


def _found(plan: Plan, repeats: Repeats, records: Sequence[LogRecord]) -> list[Delivery]:
    found: list[Delivery] = []
    sieve = Sieve(plan)
    for record in records:
        if not sieve.passes(record.key, record.value):
            continue
        change = decode_change(record.value or b"")
        if isinstance(change, Change) and not repeats.is_repeat(change) and (delivery := backfilled(plan, change, {})) is not None:
            found.append(delivery)
    return found
