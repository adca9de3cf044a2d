"""The sink on a real Kafka: what stands in a lane comes out as calls, whoever dies, joins, pauses or fails."""

from __future__ import annotations

import asyncio
import time
import uuid

import msgspec
import pytest

from connectors.kafka.admin import delete_topic, ensure_topics
from connectors.webhook.testing import Answer, Call, Receiver
from schemas.attempts import ErrorCode, Outcome
from schemas.errors import Fatal
from schemas.positions import Origin
from schemas.signing import new_secret
from schemas.topics import Record
from schemas.webhooks import DeliverySettings, Retry, Secret, State, WebhookRevision, WebhookSpec
from tests.integration.installation import PARTITIONS, PATIENCE_S, SESSION_S, in_order, until, until_committed

pytestmark = pytest.mark.timeout(120)


async def test_what_stands_in_a_lane_comes_out_as_calls(home):
    """Each delivery once, each document in order, committed to the end, with an attempt for each on record."""
    async with Receiver() as receiver:
        await home.webhook("one", receiver.url)
        await home.producer.send([home.delivery("one", f"d{number % 17}") for number in range(300)])
        async with home.sink() as sink:
            calls = await receiver.wait_for(300, timeout_s=PATIENCE_S)
            await until_committed(home, "one", 300)
            (lane,) = sink.lanes()
        assert in_order(home, calls)
        assert 300 == len(calls) == len({call.headers["webhook-id"] for call in calls})
        assert {str(offset) for offset in range(300)} == {call.headers["livehook-offset"] for call in calls}
    assert ("running", 0, 300, 300) == (lane["state"], lane["lag"], lane["offset"]["committed"], lane["offset"]["end"])
    attempts = await home.attempts_made()
    assert (300, {Outcome.DELIVERED}) == (len(attempts), {attempt.outcome for attempt in attempts})
    assert 300 == home.metric("livehook_attempts_total", webhook="one", outcome="delivered")


async def test_a_webhook_made_while_the_sink_runs_needs_no_rebalance(home):
    """Its lane is read within moments, and the group's membership stays as it is."""
    async with Receiver() as receiver, home.sink() as sink:
        await until(lambda: sink.check == "ok", "the sink has joined")
        before = home.metric("livehook_rebalances_total", role="sink")
        for name in ("one", "two", "three"):
            await home.webhook(name, receiver.url)
            await home.producer.send([home.delivery(name, "d")])
        await receiver.wait_for(3, timeout_s=PATIENCE_S)
        assert before == home.metric("livehook_rebalances_total", role="sink")


async def test_an_abandoned_sink_loses_nothing(home):
    """A sink that ends in the middle, uncommitted, is followed by one that delivers the rest; repeats carry the same id."""
    async with Receiver(lambda call: Answer(delay_s=0.01)) as receiver:
        await home.webhook("one", receiver.url, delivery=DeliverySettings(concurrency=8))
        await home.producer.send([home.delivery("one", f"d{number % 23}") for number in range(400)])
        for life in range(3):
            sink, task, sender = home.started(f"life-{life}", commit_s=0.3)
            await receiver.wait_for(100 * (life + 1), timeout_s=PATIENCE_S)
            sink.failed(RuntimeError("killed by the test"))
            with pytest.raises(RuntimeError, match="killed by the test"):
                await task
            await sender.close()
        async with home.sink("last"):
            await until_committed(home, "one", 400)
        calls = list(receiver.calls)
    assert in_order(home, calls)
    assert 400 == len({call.headers["webhook-id"] for call in calls})


async def test_a_sink_that_stops_in_order_repeats_nothing(home):
    """What is under way is finished and committed, above the commit in the bitmap too; the next one sends only the rest."""
    slow = {"livehook-document": "c/slow"}

    def answer(call: Call) -> Answer:
        return Answer(hang=True) if slow.items() <= call.headers.items() else Answer(delay_s=0.005)

    async with Receiver(answer) as receiver:
        await home.webhook("one", receiver.url)
        await home.producer.send([home.delivery("one", "slow"), *[home.delivery("one", f"d{number}") for number in range(200)]])
        async with home.sink("first"):
            await receiver.wait_for(100, timeout_s=PATIENCE_S)
        assert 0 == await home.committed("one")
        receiver.answer = lambda call: Answer()
        async with home.sink("second"):
            await until_committed(home, "one", 201)
        calls = list(receiver.calls)
    ids = [call.headers["webhook-id"] for call in calls if call.headers["livehook-document"] != "c/slow"]
    assert (200, 200) == (len(ids), len(set(ids)))


async def test_two_sinks_share_the_lanes(home):
    """The second one takes over a part of them while they are busy; nothing is lost, all stays in order."""
    names = [f"w{number}" for number in range(8)]
    async with Receiver(lambda call: Answer(delay_s=0.002)) as receiver:
        for name in names:
            await home.webhook(name, receiver.url)
        async with home.sink("a") as first:
            await until(lambda: len(first.lanes()) == 8, "the first one has all")
            for number in range(60):
                await home.producer.send([home.delivery(name, f"{name}-{number % 5}") for name in names])
                if number == 20:
                    second, task, sender = home.started("b")
            await until(lambda: len(first.lanes()) < 8 and len(first.lanes()) + len(second.lanes()) == 8, "the second one has some")
            for number in range(60):
                await home.producer.send([home.delivery(name, f"{name}-{number % 5}") for name in names])
            second.stop()
            await task
            await sender.close()
            await until(lambda: len(first.lanes()) == 8, "the first one has all again")
            await home.producer.send([home.delivery(name, f"{name}-x") for name in names])
            for name in names:
                await until_committed(home, name, 121)
        calls = list(receiver.calls)
    assert in_order(home, calls)
    assert len(calls) == 8 * 121


async def test_a_retry_goes_before_what_is_behind_it(home):
    """A document that fails waits in order; the others do not wait for it."""
    failing = {"c/poor": 2}

    def answer(call: Call) -> Answer:
        document = call.headers["livehook-document"]
        if failing.get(document, 0) and call.headers["livehook-version"] == "1":
            failing[document] -= 1
            return Answer(500)
        return Answer()

    async with Receiver(answer) as receiver:
        await home.webhook("one", receiver.url, retry=Retry(("0s", "500ms", "500ms", "1s"), 0.0))
        await home.producer.send([home.delivery("one", "poor" if number % 4 == 0 else f"d{number}") for number in range(40)])
        async with home.sink():
            calls = await receiver.wait_for(42, timeout_s=PATIENCE_S)
            await until_committed(home, "one", 40)
    poor = [
        (call.headers["livehook-version"], call.headers["livehook-attempt"])
        for call in calls
        if "poor" in call.headers["livehook-document"]
    ]
    assert [("1", "1"), ("1", "2"), ("1", "3"), *[(str(version), "1") for version in range(2, 11)]] == poor
    last_of_others = max(index for index, call in enumerate(calls) if "poor" not in call.headers["livehook-document"])
    second_attempt = next(index for index, call in enumerate(calls) if call.headers["livehook-attempt"] == "2")
    assert last_of_others < second_attempt


async def test_the_end_of_the_schedule_is_a_dead_letter(home):
    """Key and value as they stood in the lane, with reason, detail and source; then the document goes on."""

    def answer(call: Call) -> Answer:
        return Answer(422 if call.headers["livehook-version"] == "1" else 200)

    async with Receiver(answer) as receiver:
        await home.webhook("one", receiver.url, retry=Retry(("0s", "100ms"), 0.0))
        sent = [home.delivery("one", "d"), home.delivery("one", "d")]
        await home.producer.send(sent)
        async with home.sink():
            calls = await receiver.wait_for(3, timeout_s=PATIENCE_S)
            await until_committed(home, "one", 2)
    assert ["1", "1", "2"] == [call.headers["livehook-version"] for call in calls]
    (dead,) = await home.read(home.topics.dead_letters.name)
    assert (sent[0].key, sent[0].value) == (dead.key, dead.value)
    source = f"{home.topics.lane('one').name}/0/0".encode()
    assert {"reason": b"exhausted", "detail": b"attempt 2 of 2 failed: status 422", "source": source} == dict(dead.headers)
    outcomes = [(attempt.attempt, attempt.outcome, attempt.error and attempt.error.code) for attempt in await home.attempts_made()]
    assert [(1, Outcome.RETRY, ErrorCode.STATUS), (2, Outcome.DEAD, ErrorCode.STATUS), (1, Outcome.DELIVERED, None)] == outcomes


async def test_a_record_that_is_no_delivery_is_a_dead_letter(home):
    """It is kept with its reason, and what stands behind it is delivered."""
    async with Receiver() as receiver:
        await home.webhook("one", receiver.url)
        lane = home.topics.lane("one").name
        await home.producer.send(
            [Record(lane, b"k", b"no Avro", partition=0), Record(lane, None, None, partition=0), home.delivery("one", "d")]
        )
        async with home.sink():
            await receiver.wait_for(1, timeout_s=PATIENCE_S)
            await until_committed(home, "one", 3)
    dead = await home.read(home.topics.dead_letters.name)
    assert [(b"k", b"no Avro"), (None, None)] == [(record.key, record.value) for record in dead]
    assert {b"undecodable"} == {dict(record.headers)["reason"] for record in dead}


async def test_repeats_of_an_origin_are_dropped_and_counted(home):
    """Matched twice, written twice: sent once; but a replay is sent although its origin is old."""
    async with Receiver() as receiver:
        await home.webhook("one", receiver.url)
        first = [home.delivery("one", f"d{number}") for number in range(10)]
        again = home.delivery("one", "d0", replay="rpl_1", origin=Origin(0, 0, 0))
        await home.producer.send([*first, *first, again, home.delivery("one", "last")])
        async with home.sink():
            calls = await receiver.wait_for(12, timeout_s=PATIENCE_S)
            await until_committed(home, "one", 22)
        assert 12 == len(receiver.calls)
    assert 10 == home.metric("livehook_duplicates_dropped_total", stage="lane")
    assert ["rpl_1"] == [call.headers["livehook-replay"] for call in calls if "livehook-replay" in call.headers]


async def test_a_paused_webhook_is_not_called(home):
    """Within a second nothing is sent any more; its lag shows; resumed, it goes on where it was."""
    async with Receiver() as receiver, home.sink() as sink:
        revision = await home.webhook("one", receiver.url)
        await home.producer.send([home.delivery("one", "d")])
        await receiver.wait_for(1, timeout_s=PATIENCE_S)
        revision = await home.edit(revision, state=State.PAUSED)
        await until(lambda: sink.lanes()[0]["state"] == "paused", "it is paused", timeout_s=1)
        await home.producer.send([home.delivery("one", "d") for _ in range(5)])
        await until(lambda: sink.lanes()[0]["lag"] == 5, "its lag shows")
        assert 1 == receiver.count
        await home.edit(revision, state=State.ACTIVE)
        calls = await receiver.wait_for(6, timeout_s=PATIENCE_S)
    assert in_order(home, calls)


async def test_edits_hold_within_a_second(home):
    """What is in the lane goes to the new URL with the new headers."""
    async with Receiver() as old, Receiver() as new, home.sink() as sink:
        revision = await home.webhook("one", old.url, state=State.PAUSED)
        await home.producer.send([home.delivery("one", "d") for _ in range(3)])
        await until(lambda: bool(sink.lanes()) and sink.lanes()[0]["queued"] == 3, "it is read")
        await home.edit(revision, state=State.ACTIVE, url=new.url, headers={"x-team": "crm"})
        calls = await new.wait_for(3, timeout_s=1)
        assert ({"crm"}, 0) == ({call.headers["x-team"] for call in calls}, old.count)


async def test_gone_disables_until_resumed(home):
    """410 stops the webhook, with a reason on record; the delivery stays and counts as not attempted when it goes on."""
    async with Receiver(lambda call: Answer(410)) as receiver:
        revision = await home.webhook("one", receiver.url, delivery=DeliverySettings(concurrency=1))
        await home.producer.send([home.delivery("one", f"d{number}") for number in range(5)])
        async with home.sink("first") as sink:
            await until(lambda: bool(sink.lanes()) and sink.lanes()[0]["state"] == "disabled", "it is disabled")
            assert "webhook status" in str(sink.lanes()[0]["lastError"]) or "410" in str(sink.lanes()[0]["lastError"])
        async with home.sink("second") as sink:
            await until(lambda: bool(sink.lanes()) and sink.lanes()[0]["queued"] == 5, "it is read")
            assert ("disabled", 1) == (sink.lanes()[0]["state"], receiver.count)
            receiver.answer = lambda call: Answer()
            await home.edit(revision)
            calls = await receiver.wait_for(6, timeout_s=PATIENCE_S)
    assert {"1"} == {call.headers["livehook-attempt"] for call in calls}
    assert 0 == len(await home.read(home.topics.dead_letters.name))


async def test_a_webhook_made_again_begins_anew(home):
    """Another uid is another lane: nothing is skipped because the old one had done it, and what was left for the old one is not sent."""
    async with Receiver() as receiver, home.sink() as sink:
        revision = await home.webhook("one", receiver.url, uid="whk_old")
        await home.producer.send([home.delivery("one", "d", uid="whk_old") for _ in range(3)])
        await receiver.wait_for(3, timeout_s=PATIENCE_S)
        await until_committed(home, "one", 3)
        await home.put(msgspec.structs.replace(revision, revision=2, edit=2, deleted=True))
        await until(lambda: sink.lanes() == [], "it is gone")
        await asyncio.to_thread(delete_topic, home.kafka, home.topics.lane("one").name, timeout_s=30)
        await home.webhook("one", receiver.url, uid="whk_new", edit=3)
        await home.producer.send([home.delivery("one", "d", uid="whk_old"), *[home.delivery("one", "e", uid="whk_new") for _ in range(2)]])
        calls = await receiver.wait_for(5, timeout_s=PATIENCE_S)
        await until_committed(home, "one", 3)
        assert ["c/e", "c/e"] == [call.headers["livehook-document"] for call in calls[3:]]
        assert 5 == receiver.count


async def test_a_full_lane_holds_up_no_other(home):
    """One whose endpoint hangs fills up and is not read on; the other one's deliveries go on, and what is not read shows as lag."""
    big = "x" * 200_000
    async with Receiver(lambda call: Answer(hang=True)) as hanging, Receiver() as receiver:
        await home.webhook("hangs", hanging.url)
        await home.webhook("well", receiver.url)
        async with home.sink(held_bytes_max=4_000_000) as sink:
            for number in range(40):
                await home.producer.send([home.delivery("hangs", f"{big[:900]}{number}") for _ in range(50)])
                await home.producer.send([home.delivery("well", f"w{number}")])
            await receiver.wait_for(40, timeout_s=PATIENCE_S)
            await until(lambda: {lane["webhook"]: lane["lag"] for lane in sink.lanes()} == {"hangs": 2_000, "well": 0}, "lag shows")


async def test_a_rate_is_kept(home):
    """Calls a second, whatever waits."""
    async with Receiver() as receiver:
        await home.webhook("one", receiver.url, delivery=DeliverySettings(rate_limit=20))
        await home.producer.send([home.delivery("one", f"d{number}") for number in range(21)])
        async with home.sink():
            calls = await receiver.wait_for(21, timeout_s=PATIENCE_S)
    assert 0.8 < calls[-1].at - calls[0].at < 3


async def test_a_lane_whose_topic_comes_late_is_read(home):
    """A topic that is not there yet is waited for."""
    name = f"late-{uuid.uuid4().hex[:6]}"
    async with Receiver() as receiver, home.sink() as sink:
        spec = WebhookSpec(name=name, url=receiver.url, collections=("c",))
        await home.put(WebhookRevision(f"whk_{name}", name, 1, 1, spec, [Secret(new_secret())], 0, 0, since=[]))
        await until(lambda: len(sink.lanes()) == 1, "the lane is taken")
        await asyncio.to_thread(ensure_topics, home.kafka, [home.topics.lane(name)], replication=None, timeout_s=30)
        await home.producer.send([home.delivery(name, "d")])
        await receiver.wait_for(1, timeout_s=PATIENCE_S)


async def test_a_sink_with_a_lasting_name_goes_on_where_it_was_killed(home):
    """Its slots wait for it: it need not outlast the session of its former self, and no other sink was disturbed."""
    async with Receiver() as receiver:
        await home.webhook("one", receiver.url)
        sink, task, sender = home.started("a", instance_id="a")
        await home.producer.send([home.delivery("one", "d")])
        await receiver.wait_for(1, timeout_s=PATIENCE_S)
        sink.failed(RuntimeError("killed by the test"))
        with pytest.raises(RuntimeError, match="killed by the test"):
            await task
        begun = time.monotonic()
        async with home.sink("a", instance_id="a"):
            await home.producer.send([home.delivery("one", "e")])
            await until(lambda: any(call.headers["livehook-document"] == "c/e" for call in receiver.calls), "it goes on")
            took_s = time.monotonic() - begun
        await sender.close()
    assert took_s < SESSION_S / 2


async def test_of_two_sinks_with_one_name_the_older_ends(home):
    """A folder that was copied, or a process that was frozen until its successor came: it is told in one line, and calls nobody."""
    async with Receiver() as receiver:
        await home.webhook("one", receiver.url)
        sink, task, sender = home.started("a", instance_id="a")
        await until(lambda: sink.check == "ok", "the first one has joined")
        async with home.sink("b", instance_id="a") as second:
            with pytest.raises(Fatal, match="another process has joined the group under this sink's name"):
                await task
            await until(lambda: len(second.lanes()) == 1, "the second one has the lane")
            await home.producer.send([home.delivery("one", "d")])
            await receiver.wait_for(1, timeout_s=PATIENCE_S)
        await sender.close()
        assert 1 == receiver.count


async def test_a_sink_with_a_lasting_name_that_stops_keeps_its_slots_for_a_session(home):
    """It commits what it has done; another one gets its lanes only when it has not come back in time."""
    async with Receiver() as receiver:
        await home.webhook("one", receiver.url)
        async with home.sink("a", instance_id="a"):
            await home.producer.send([home.delivery("one", "d")])
            await until_committed(home, "one", 1)
        begun = time.monotonic()
        async with home.sink("b", instance_id="b") as second:
            await until(lambda: len(second.lanes()) == 1, "the other one takes over")
            waited_s = time.monotonic() - begun
        assert 1 == receiver.count
    assert SESSION_S / 2 < waited_s < 3 * SESSION_S


async def test_a_parked_document_outlives_its_sink(home):
    """The commit passes it; the next sink reads its bodies back from the lane when it is due, with the attempts counted, in order."""

    def poison(call: Call) -> Answer:
        return Answer(400 if call.headers["livehook-document"] == "c/poor" else 200)

    async with Receiver(poison) as receiver:
        await home.webhook("one", receiver.url, retry=Retry(("0s", "11s", "11s"), 0.0))
        for number in range(40):
            await home.producer.send([home.delivery("one", f"d{number}"), home.delivery("one", "poor")])
        async with home.sink("first") as sink:
            await receiver.wait_for(41, timeout_s=PATIENCE_S)
            await until_committed(home, "one", 80)
            await until(lambda: sink.lanes()[0]["parked"] == 40, "all of the document is parked")
        sink, task, sender = home.started("killed")
        await until(lambda: bool(sink.lanes()) and sink.lanes()[0]["parked"] == 40, "the next one knows it")
        sink.failed(RuntimeError("killed by the test"))
        with pytest.raises(RuntimeError, match="killed by the test"):
            await task
        await sender.close()
        receiver.answer = lambda call: Answer()
        async with home.sink("last") as sink:
            calls = await receiver.wait_for(81, timeout_s=PATIENCE_S)
            await until(lambda: sink.lanes()[0]["parked"] == 0, "nothing is parked any more")
        assert 81 == receiver.count
    poor = [
        (call.headers["livehook-version"], call.headers["livehook-attempt"])
        for call in calls
        if call.headers["livehook-document"] == "c/poor"
    ]
    assert [("1", "1"), ("1", "2"), *[(str(version), "1") for version in range(2, 41)]] == poor
    assert in_order(home, calls)
    left = {record.key: record.value for record in await home.read(home.topics.parked.name, PARTITIONS)}
    assert (40, {None}) == (len(left), set(left.values()))


async def test_an_endpoint_that_was_down_gets_all_in_order(home):
    """Nothing listens, then it answers 404 to everything: nothing is dead-lettered, and when it is well again all goes on by itself."""
    async with Receiver(lambda call: Answer(404)) as receiver:
        await home.webhook("one", receiver.url, retry=Retry(("0s", "1s"), 0.0))
        await home.producer.send([home.delivery("one", f"d{number % 30}") for number in range(300)])
        async with home.sink() as sink:
            await until(lambda: bool(sink.lanes()) and sink.lanes()[0]["state"] == "down", "it is down")
            receiver.answer = lambda call: Answer()
            await until_committed(home, "one", 300)
            assert ("running", "closed") == (sink.lanes()[0]["state"], sink.lanes()[0]["breaker"])
        calls = list(receiver.calls)
    assert in_order(home, calls)
    assert {"1"} == {call.headers["livehook-attempt"] for call in calls}
    assert [] == await home.read(home.topics.dead_letters.name)


async def test_a_lane_may_have_several_partitions(home):
    """Places name theirs; order per document holds; each partition commits on its own; parked documents come back from theirs."""

    def answer(call: Call) -> Answer:
        is_first = call.headers["livehook-version"] == "1" and call.headers["livehook-attempt"] == "1"
        return Answer(400 if is_first and call.headers["livehook-document"] in ("c/d1", "c/d2") else 200)

    async with Receiver(answer) as receiver:
        await home.webhook("one", receiver.url, delivery=DeliverySettings(partitions=4), retry=Retry(("0s", "11s"), 0.0))
        await home.producer.send([home.delivery("one", f"d{number % 20}", partitions=4) for number in range(200)])
        async with home.sink() as sink:
            await until(lambda: sum(lane["parked"] for lane in sink.lanes()) == 20, "two documents are parked")
            calls = await receiver.wait_for(202, timeout_s=PATIENCE_S)
            await until(lambda: all((lane["lag"], lane["parked"]) == (0, 0) for lane in sink.lanes()), "all is delivered")
            lanes = sink.lanes()
    assert in_order(home, calls)
    assert [0, 1, 2, 3] == [lane["partition"] for lane in lanes]
    places = {call.headers["livehook-offset"] for call in calls}
    assert {f"{lane['partition']}:{offset}" for lane in lanes for offset in range(lane["offset"]["end"])} == places


async def test_without_order_nothing_waits(home):
    """All deliveries of one document at once, whatever becomes of the first."""
    async with Receiver(lambda call: Answer(hang=call.headers["livehook-version"] == "1")) as receiver:
        await home.webhook("one", receiver.url, delivery=DeliverySettings(order="none"))
        await home.producer.send([home.delivery("one", "d") for _ in range(20)])
        async with home.sink():
            calls = await receiver.wait_for(20, timeout_s=PATIENCE_S)
    assert {str(version) for version in range(1, 21)} == {call.headers["livehook-version"] for call in calls}
