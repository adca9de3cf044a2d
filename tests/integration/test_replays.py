"""Rewinds on a real Kafka: carried out once, whoever dies meanwhile; and Kafka's own tools do one too."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition

from connectors.webhook.offsets import decode
from connectors.webhook.testing import Call, Receiver
from livehook.api.kafka import KafkaLogs
from livehook.api.replay_progress import rewound
from schemas.replays import Replay, ReplayState, encode_replay
from schemas.topics import Record
from schemas.webhooks import DeliverySettings
from tests.integration.installation import PATIENCE_S, Installation, until, until_committed, versions

pytestmark = pytest.mark.timeout(120)

COUNT = 300


async def filled(home: Installation, url: str) -> None:
    """A lane with COUNT deliveries of ten documents."""
    await home.webhook("one", url, delivery=DeliverySettings(concurrency=16))
    await home.producer.send([home.delivery("one", f"d{number % 10}") for number in range(COUNT)])


async def rewind(home: Installation, number: int, begin: int, until: int, **fields: Any) -> Replay:
    """On record, as the API puts it there."""
    replay = Replay(f"rpl_{number}", "one", "whk_one", number, (begin,), (until,), (until,), (until,), until - begin, 0, **fields)
    await home.producer.send([Record(home.topics.webhooks.name, replay.key.encode(), encode_replay(replay), partition=0)])
    return replay


async def done(home: Installation, replay: Replay) -> None:
    """Until what is committed says so."""
    logs, place = KafkaLogs(home.kafka), (home.topics.lane("one").name, 0)
    async with asyncio.timeout(PATIENCE_S):
        while True:
            found = await logs.commits(home.topics.group_sink, [place])
            offset, metadata = found[place]
            if rewound(replay, [(offset, decode(offset, metadata, "whk_one").rewind)]).is_over:
                return
            await asyncio.sleep(0.1)


def reset(home: Installation, offset: int) -> None:
    """What ``kafka-consumer-groups.sh --reset-offsets`` does: a commit without metadata, by nobody who is a member of the group."""
    consumer = Consumer(home.kafka.librdkafka() | {"group.id": home.topics.group_sink, "enable.auto.commit": False})
    consumer.commit(offsets=[TopicPartition(home.topics.lane("one").name, 0, offset)], asynchronous=False)
    consumer.close()


def offsets_called(calls: Sequence[Call]) -> list[int]:
    return sorted(int(call.headers["livehook-offset"]) for call in calls)


async def test_a_rewind_while_the_sink_is_killed(home):
    """All from the place on comes again, in order for each document, marked, with the ids of the first time; and it comes to an end."""
    async with Receiver() as receiver:
        await filled(home, receiver.url)
        async with home.sink():
            await receiver.wait_for(COUNT, timeout_s=PATIENCE_S)
            await until_committed(home, "one", COUNT)
        first = list(receiver.calls)
        sink, task, sender = home.started("killed")
        replay = await rewind(home, 7, 100, COUNT)
        await until(lambda: receiver.count > COUNT + 40, "the rewind has begun")
        sink.failed(RuntimeError("killed by the test"))  # without a last commit
        with pytest.raises(RuntimeError, match="killed by the test"):
            await task
        await sender.close()
        killed_at = receiver.count
        async with home.sink("b"):
            await done(home, replay)
            await home.producer.send([home.delivery("one", "d0")])
            await until_committed(home, "one", COUNT + 1)
        again = list(receiver.calls)[COUNT:]
        assert set(range(100, COUNT + 1)) == set(offsets_called(again))
        ids = {call.headers["livehook-offset"]: call.headers["webhook-id"] for call in first}
        for call in again:
            is_live = call.headers["livehook-offset"] == str(COUNT)
            assert (None if is_live else "rpl_7") == call.headers.get("livehook-replay")
            assert is_live or ids[call.headers["livehook-offset"]] == call.headers["webhook-id"]
        for life in (again[: killed_at - COUNT], again[killed_at - COUNT :]):
            assert all(found == sorted(found) for found in versions(life).values())
        assert receiver.count > COUNT + 200


async def test_a_rewind_is_carried_out_once(home):
    """A sink that starts later, with all of it on record, goes on where the lane is."""
    async with Receiver() as receiver:
        await filled(home, receiver.url)
        async with home.sink():
            await until_committed(home, "one", COUNT)
            await done(home, await rewind(home, 7, 250, COUNT))
        assert COUNT + 50 == receiver.count
        async with home.sink("b"):
            await home.producer.send([home.delivery("one", "d0")])
            await until_committed(home, "one", COUNT + 1)
        assert COUNT + 51 == receiver.count


async def test_a_cancelled_rewind_goes_on_where_the_lane_was(home):
    """What was on its way may still come; the rest does not."""
    async with Receiver() as receiver:
        await filled(home, receiver.url)
        async with home.sink():
            await until_committed(home, "one", COUNT)
            await rewind(home, 7, 0, COUNT)
            await rewind(home, 7, 0, COUNT, state=ReplayState.CANCELLED, cancelled=8)
            await home.producer.send([home.delivery("one", "d0")])
            await until_committed(home, "one", COUNT + 1)
        assert COUNT in offsets_called(receiver.calls)


async def test_the_others_do_not_notice(home):
    """Another webhook on the same sink has its deliveries once."""
    async with Receiver() as receiver, Receiver() as other:
        await filled(home, receiver.url)
        await home.webhook("two", other.url)
        await home.producer.send([home.delivery("two", f"e{number % 10}") for number in range(100)])
        async with home.sink():
            await until_committed(home, "one", COUNT)
            await done(home, await rewind(home, 7, 0, COUNT))
            await until_committed(home, "two", 100)
        assert (2 * COUNT, 100) == (receiver.count, other.count)


async def test_kafkas_own_tools_do_a_rewind(home):
    """The offsets of the group are reset while no sink runs: the lane goes on there, and rewinds of before are over."""
    async with Receiver() as receiver:
        await filled(home, receiver.url)
        async with home.sink():
            await until_committed(home, "one", COUNT)
        await rewind(home, 7, 10, COUNT)
        await asyncio.to_thread(reset, home, 260)
        async with home.sink("b"):
            await receiver.wait_for(COUNT + 40, timeout_s=PATIENCE_S)
            await until_committed(home, "one", COUNT)
        assert list(range(260, COUNT)) == offsets_called(list(receiver.calls)[COUNT:])


async def test_the_offset_of_a_time(home):
    """The first record written then or later; the end when none was, and where the topic is empty."""
    await home.webhook("one", "http://127.0.0.1:1/")
    place = home.topics.lane("one").name, 0
    logs = KafkaLogs(home.kafka)
    assert {place: 0} == await logs.offsets_at([place], 0)
    await home.producer.send([home.delivery("one", "a") for _ in range(3)])
    assert ({place: 0}, {place: 3}) == (await logs.offsets_at([place], 1_000), await logs.offsets_at([place], 2**52))
