"""Rules of the matching agent that the rounds of its producer follow."""

from typing import cast

import msgspec
from prometheus_client import CollectorRegistry

from connectors.kafka.fetching import Received
from schemas.changes import Change
from schemas.positions import Origin
from schemas.records import encode_change, encode_revision
from schemas.topics import Topics
from schemas.webhooks import WebhookRevision, WebhookSpec
from streams.backfilling import Backfills
from streams.matching_agent import ROUND_RECORDS_MAX, MatchingAgent
from streams.metrics import StreamsMetrics
from streams.ports import Log
from streams.subscriptions import Subscriptions

TOPICS = Topics("test.", 1)
WEBHOOKS = 100


class Rounds:
    """A producer that notes what each call was given."""

    def __init__(self):
        self.sent = []

    async def send(self, records, *, gone_ok=False):
        self.sent.append(list(records))
        return list(range(len(records)))


def subscriptions():
    """Webhooks that want every change."""
    known = Subscriptions(TOPICS)
    for number in range(WEBHOOKS):
        spec = WebhookSpec(f"w{number}", "http://localhost/", collections=("people",))
        revision = WebhookRevision(f"u{number}", spec.name, 1, 1, spec, [], 1, 1, [Origin(0, 0, 0)])
        known.apply(revision.key.encode(), encode_revision(revision), number)
    return known


def received(offset):
    """One new document."""
    change = Change("people", f"p{offset}", offset, 1, None, msgspec.json.encode({"n": offset}), Origin(0, 0, offset), 0)
    return Received(0, offset, change.key.encode(), encode_change(change), 0, ())


class Empty:
    """Of a log only this is asked: how far `webhooks` reaches."""

    def offsets(self, topic, partition):
        return 0, 0


def fail(error):
    raise error


async def test_a_batch_with_many_deliveries_is_produced_in_bounded_rounds():
    """In the order of the changes; a round ends with the change that fills it."""
    producer = Rounds()
    log = cast(Log, Empty())
    known, metrics = subscriptions(), StreamsMetrics(CollectorRegistry())
    backfills = Backfills(topics=TOPICS, producer=producer, log=log, subscriptions=known, metrics=metrics, fail=fail)
    agent = MatchingAgent(topics=TOPICS, producer=producer, log=log, subscriptions=known, metrics=metrics, backfills=backfills)
    changes = ROUND_RECORDS_MAX // WEBHOOKS + 3
    await agent.process([received(offset) for offset in range(changes)])
    rounds = [len(records) for records in producer.sent if records]
    assert [ROUND_RECORDS_MAX, 3 * WEBHOOKS] == rounds
    assert agent.progress(0) > agent.progress(1)  # so that whoever watches sees it move within the batch
    keys = [record.key for records in producer.sent for record in records if record.topic == TOPICS.lane("w7").name]
    assert [f"people/p{offset}".encode() for offset in range(changes)] == keys


async def test_a_lane_that_is_gone_before_the_deletion_was_read_is_no_error(monkeypatch):
    """The API waits until *it* has read the deletion, then drops the lane; this worker's reader may be a moment behind."""
    known = subscriptions()
    webhook = known.registry.webhook("w7")
    assert webhook is not None
    deleted = msgspec.structs.replace(webhook.current, revision=2, edit=2, since=None, deleted=True, secrets=[])

    class Dropped(Rounds):
        async def send(self, records, *, gone_ok=False):
            await super().send(records)
            return [-1 if record.topic == TOPICS.lane("w7").name else 0 for record in records]

    class Ahead:
        """`webhooks` holds the deletion already; it is read as soon as somebody waits for it."""

        def offsets(self, topic, partition):
            return 0, 101

    async def read(offset):
        known.apply(deleted.key.encode(), encode_revision(deleted), offset)

    monkeypatch.setattr(known, "wait_until", read)
    producer, metrics = Dropped(), StreamsMetrics(CollectorRegistry())
    log = cast(Log, Ahead())
    backfills = Backfills(topics=TOPICS, producer=producer, log=log, subscriptions=known, metrics=metrics, fail=fail)
    agent = MatchingAgent(topics=TOPICS, producer=producer, log=log, subscriptions=known, metrics=metrics, backfills=backfills)
    agent._current.add(0)
    await agent.process([received(0)])
    assert known.registry.webhook("w7") is None
