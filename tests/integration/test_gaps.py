"""What was removed from a lane before it was sent, on a real Kafka: one marker with the exact range, where it belongs, whoever dies."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from connectors.webhook.testing import Answer, Call, Receiver
from schemas.deliveries import Match
from schemas.gaps import Gap
from schemas.records import decode_webhooks
from schemas.webhooks import DeliverySettings, State
from tests.integration.installation import PATIENCE_S, Installation, until, until_committed
from tests.integration.test_replays import reset

pytestmark = pytest.mark.timeout(120)

DELIVERED, COUNT = 50, 100


async def remove(home: Installation, webhook: str, offset: int) -> None:
    """What ``kafka-delete-records.sh`` does, and retention: nothing before this offset is kept."""
    place = TopicPartition(home.topics.lane(webhook).name, 0, offset)
    client = AdminClient(home.kafka.librdkafka())
    futures = client.delete_records([place])
    await asyncio.to_thread(lambda: [future.result(30) for future in futures.values()])


async def fill(home: Installation, count: int) -> None:
    await home.producer.send([home.delivery("one", f"d{number % 10}") for number in range(count)])


async def half_delivered(home: Installation, url: str, **spec: Any) -> None:
    """A lane of COUNT deliveries of which the first DELIVERED were sent, and no sink."""
    await home.webhook("one", url, delivery=DeliverySettings(concurrency=16), **spec)
    await fill(home, DELIVERED)
    async with home.sink():
        await until_committed(home, "one", DELIVERED)
    await fill(home, COUNT - DELIVERED)


def is_marker(call: Call) -> bool:
    return Match.REQUERY_REQUIRED.value == call.headers["livehook-match"]


def markers(calls) -> list[dict[str, Any]]:
    """The markers among calls, each once."""
    found = {call.headers["webhook-id"]: json.loads(call.body) for call in calls if is_marker(call)}
    return list(found.values())


def offsets(calls) -> list[int]:
    return [int(call.headers["livehook-offset"]) for call in calls]


async def gaps_on_record(home: Installation) -> list[Gap]:
    records = [decode_webhooks(record.value or b"") for record in await home.read(home.topics.webhooks.name)]
    return [one for one in records if isinstance(one, Gap)]


async def test_what_was_removed_is_told_before_what_follows(home):
    """One marker with the exact range, between what was sent before and what is left."""
    async with Receiver() as receiver:
        await half_delivered(home, receiver.url)
        await remove(home, "one", 70)
        async with home.sink("b"):
            await until_committed(home, "one", COUNT)
        calls = list(receiver.calls)[DELIVERED:]
        assert [True, *[False] * 30] == [is_marker(call) for call in calls]
        assert [69, *range(70, 100)] == [offsets(calls)[0], *sorted(offsets(calls)[1:])]
        [marker] = markers(calls)
        expected = {"afterTxnId": None, "beforeTxnId": 1, "offsets": {"from": 50, "until": 70}}
        assert {"type": "requeryRequired", "collections": ["c"], "range": expected} == {
            name: value for name, value in marker.items() if name != "txnId"
        }
        async with home.sink("c"):  # and never again
            await fill(home, 1)
            await until_committed(home, "one", COUNT + 1)
        assert 1 == sum(map(is_marker, receiver.calls))
        assert 1 == home.metric("livehook_gaps_total", webhook="one")


async def test_a_lane_of_which_nothing_is_left_says_so_at_once(home):
    """Without waiting for a delivery that may never come."""
    async with Receiver() as receiver:
        await half_delivered(home, receiver.url)
        await remove(home, "one", COUNT)
        async with home.sink("b"):
            await receiver.wait_for(DELIVERED + 1, timeout_s=PATIENCE_S)
            await until_committed(home, "one", COUNT)
        [marker] = markers(receiver.calls)
        assert {"from": 50, "until": 100} == marker["range"]["offsets"]
        assert marker["range"]["beforeTxnId"] is None


async def test_a_kill_between_any_two_steps_leads_to_the_same_marker(home):
    """Killed while the marker is under way, again while the log loses more, and after it has arrived and before the commit."""
    answers = [Answer(hang=True)]
    async with Receiver(lambda call: answers[0] if is_marker(call) else Answer()) as receiver:
        await half_delivered(home, receiver.url)
        await remove(home, "one", 70)
        await killed(home, receiver, 1)
        await killed(home, receiver, 2)
        await remove(home, "one", 80)  # of what was missing nobody knows more now, and ten more are
        answers[0] = Answer()
        async with home.sink("last"):
            await until_committed(home, "one", COUNT)
        first, second = markers(receiver.calls)
        assert ({"from": 50, "until": 70}, {"from": 70, "until": 80}) == (first["range"]["offsets"], second["range"]["offsets"])
        calls = list(receiver.calls)[DELIVERED:]
        assert [69, 69, 69, 79] == offsets(calls)[:4]
        assert list(range(80, 100)) == sorted(offsets(calls)[4:])
        assert 2 == len(await gaps_on_record(home))


async def killed(home: Installation, receiver: Receiver, markers_before: int) -> None:
    """A sink's life that ends, without a last commit, once so many markers have come in."""
    sink, task, sender = home.started(f"killed-{markers_before}")
    await until(lambda: sum(map(is_marker, receiver.calls)) >= markers_before, "the marker has come")
    sink.failed(RuntimeError("killed by the test"))
    with pytest.raises(RuntimeError, match="killed by the test"):
        await task
    await sender.close()


async def test_a_lane_that_never_committed_and_one_that_is_moved_forward(home):
    """The first misses what is gone, the second goes where an operator has put it and misses nothing."""
    async with Receiver() as receiver:
        webhook = await home.webhook("one", receiver.url, state=State.PAUSED)
        await fill(home, 10)
        await remove(home, "one", 4)
        async with home.sink():
            await home.edit(webhook, state=State.ACTIVE)
            await until_committed(home, "one", 10)
        assert [{"from": 0, "until": 4}] == [one["range"]["offsets"] for one in markers(receiver.calls)]
        await fill(home, 10)
        await asyncio.to_thread(reset, home, 15)
        await remove(home, "one", 15)
        async with home.sink("b"):
            await until_committed(home, "one", 20)
        assert 1 == sum(map(is_marker, receiver.calls))
        assert list(range(15, 20)) == sorted(offsets(list(receiver.calls)[7:]))
