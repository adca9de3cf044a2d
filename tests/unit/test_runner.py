"""Rules of a lane at work, with a sender, a producer and a consumer that do what the test says."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Collection, Sequence
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
import standardwebhooks
from prometheus_client import CollectorRegistry

from connectors.webhook.calls import Failure, Request, Response
from connectors.webhook.lease import Lease, uptime_s
from connectors.webhook.metrics import SinkMetrics
from connectors.webhook.offsets import Start, decode
from connectors.webhook.ownership import Jump, KnownLane, LaneRecord, Taken
from connectors.webhook.parked import Bodies, Troubles
from connectors.webhook.rates import Share
from connectors.webhook.runner import LaneRunner
from connectors.webhook.shared import Shared
from schemas.attempts import ErrorCode
from schemas.changes import Change
from schemas.deliveries import Delivery, Match
from schemas.gaps import Gap
from schemas.markers import marker_of
from schemas.notices import Notice, NoticeKind
from schemas.parked import Down, Parked
from schemas.positions import Origin
from schemas.records import decode_activity, decode_attempt, decode_parked, decode_webhooks, encode_delivery
from schemas.registry import Webhook
from schemas.signing import new_secret
from schemas.topics import Record, Topics
from schemas.webhooks import DeliverySettings, Payload, Retry, Secret, State, WebhookRevision, WebhookSpec, WebhookStatus

TOPIC = "livehook.deliveries.one"
NO_TROUBLES = Troubles()
PARKED = Topics().parked.name


class World:
    """Everything around one or more lanes."""

    def __init__(self, *, calls: int = 100, held_bytes: int = 10_000_000, parked_max: int = 1_000) -> None:
        self.calls: list[Request] = []
        self.called = asyncio.Event()
        self.open: list[tuple[Request, asyncio.Future[Response | Failure]]] = []
        self.written: list[Record] = []
        self.attempts: list[Record] = []
        self.writing = asyncio.Event()
        self.writing.set()
        self.stopped: list[str] = []
        self.log: dict[int, LaneRecord] = {}
        self.read_back: list[list[int]] = []
        self.failures: list[BaseException] = []
        self.lease = Lease(15.0)
        self.lease.renewed(uptime_s())
        self.now = 1_790_000_000.0
        self.registry = CollectorRegistry()
        self.shared = Shared(
            sender=self, producer=Producing(self), attempts=self, reading=self, records=self, metrics=SinkMetrics(self.registry),
            lease=self.lease, calls=Share(calls), held_bytes=Share(held_bytes), failed=self.failures.append, attempts_topic="attempts",
            dead_letters_topic="dead-letters", webhooks_topic="webhooks", parked_topic=Topics().parked, parked_max=parked_max,
            origin_partitions=8, user_agent="livehook/1", worker="http://a", now=lambda: self.now, rng=random.Random(1),
        )  # fmt: skip

    # The sender: calls stay open until the test answers them.

    async def send(self, request: Request, *, timeout_s: float) -> Response | Failure:
        future = asyncio.get_running_loop().create_future()
        self.calls.append(request)
        self.called.set()
        self.open.append((request, future))
        found: Response | Failure = await future
        return found

    async def close(self) -> None:
        return None

    async def answer(self, *results: Response | Failure | int) -> None:
        """Answer the oldest open calls, one each, and let the lane go on."""
        for result in results:
            if not self.open:
                await self.settle()
            _, future = self.open.pop(0)
            future.set_result(Response(result) if isinstance(result, int) else result)
        await self.settle()

    async def settle(self) -> None:
        for _ in range(10):
            await asyncio.sleep(0)

    # The producers and the consumer.

    async def send_records(self, records: Sequence[Record]) -> list[int]:
        await self.writing.wait()
        self.written += records
        return [0 for _ in records]

    def send_soon(self, record: Record) -> bool:
        self.attempts.append(record)
        return True

    async def bodies(self, topic: str, partition: int, wanted: Collection[int]) -> Bodies:
        self.read_back.append(sorted(wanted))
        kept = {offset: self.log[offset] for offset in wanted if offset in self.log}
        return Bodies(kept, frozenset(wanted) - kept.keys())

    def pause(self, places) -> None:
        self.stopped += [topic for topic, _ in places]

    def resume(self, places) -> None:
        for topic, _ in places:
            self.stopped.remove(topic)

    def runner(self, name: str = "one", starts: dict[int, Start] | None = None, troubles: Troubles = NO_TROUBLES, **spec) -> LaneRunner:
        lane = KnownLane(name, "uid", TOPIC.replace("one", name), 1)
        runner = LaneRunner(Taken(lane, starts or {0: Start()}), webhook(name, **spec), self.shared)
        runner.restore(troubles)
        return runner

    def asked(self) -> list[tuple[str, str]]:
        """Document and attempt of every call so far."""
        found = [dict(call.headers) for call in self.calls]
        return [(headers["livehook-document"].removeprefix("c/"), headers["livehook-attempt"]) for headers in found]


class Producing:
    """The producer of status and dead letters; waits while ``writing`` is not set."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def send(self, records: Sequence[Record]) -> list[int]:
        return await self._world.send_records(records)


def webhook(name: str = "one", *, edit: int = 1, status: WebhookStatus | None = None, **spec) -> Webhook:
    fields: dict[str, Any] = {"name": name, "url": "https://example.com/", "collections": ("c",), "retry": Retry(("0s", "10s"), 0.0)}
    revision = WebhookRevision("uid", name, 1, edit, WebhookSpec(**(fields | spec)), [Secret(new_secret())], 0, 0, since=[])
    return Webhook(revision, status)


def record(offset: int, document: str, *, name: str = "one", uid: str = "uid", origin: int | None = None) -> LaneRecord:
    change = Change("c", document, 1, offset + 1, None, b"{}", Origin(0, 0, offset if origin is None else origin), 0)
    return LaneRecord(TOPIC.replace("one", name), 0, offset, change.key.encode(), encode_delivery(Delivery(uid, 1, Match.CREATE, change)))


async def read(runner: LaneRunner, *records: LaneRecord) -> None:
    for one in records:
        runner.read(one)
    runner.go_on()
    await asyncio.sleep(0)


@pytest.fixture
def world() -> World:
    return World()


async def test_one_call_a_document_and_others_at_once(world):
    """The second delivery of a document starts when the first is answered."""
    runner = world.runner()
    await read(runner, record(0, "a"), record(1, "a"), record(2, "b"))
    assert [("a", "1"), ("b", "1")] == world.asked()
    await world.answer(200)
    assert [("a", "1"), ("b", "1"), ("a", "1")] == world.asked()
    await world.answer(200, 200)
    (commit,) = runner.commits()
    assert (3, frozenset(), Origin(0, 0, 2)) == (
        commit.offset, decode(3, commit.metadata, "uid").finished, decode(3, commit.metadata, "uid").vector[0],
    )  # fmt: skip


async def test_no_more_calls_than_asked_for(world):
    """The webhook's concurrency, also when it is changed meanwhile."""
    runner = world.runner(delivery=DeliverySettings(concurrency=2))
    await read(runner, *[record(number, f"d{number}") for number in range(6)])
    assert 2 == len(world.open)
    runner.update(webhook(delivery=DeliverySettings(concurrency=4)))
    await world.settle()
    assert 4 == len(world.open)


async def test_what_is_missing_is_put_on_record_and_then_told(world):
    """Before what is behind it, which waits for the marker; and the commit passes the range."""
    runner = world.runner()
    world.writing.clear()
    await read(runner, record(0, "a"), record(5, "b"))
    await world.settle()
    assert [("a", "1")] == world.asked()
    await world.answer(200)
    world.writing.set()
    await world.settle()
    assert [(1, 5, 2)] == [(gap.begin, gap.until, gap.snapshot) for gap in gaps_written(world)]
    assert ["create", "requeryRequired"] == matches(world)
    await world.answer(200)
    assert ["create", "requeryRequired", "create"] == matches(world)
    await world.answer(200)
    assert [6] == [commit.offset for commit in runner.commits()]
    assert [] == world.stopped


async def test_a_paused_lane_misses_nothing_until_it_goes_on(world):
    """Nothing is put on record before, and nothing is sent."""
    paused = webhook(state=State.PAUSED)
    runner = LaneRunner(Taken(KnownLane("one", "uid", TOPIC, 1), {0: Start(3)}), paused, world.shared)
    runner.restore(NO_TROUBLES)
    runner.emptied(0, 9)
    await world.settle()
    assert [] == world.written
    runner.update(webhook(edit=2))
    await world.settle()
    assert [(3, 9)] == [(gap.begin, gap.until) for gap in gaps_written(world)]
    assert ["requeryRequired"] == matches(world)


async def test_a_lane_whose_past_was_removed_unread_is_not_backfilling_for_ever(world):
    """The gap is told, and then nothing of it is to come any more."""
    runner = LaneRunner(Taken(KnownLane("one", "uid", TOPIC, 1), {0: Start(3)}), webhook(), world.shared)
    runner.backfilled_to = (9,)
    runner.restore(NO_TROUBLES)
    runner.emptied(0, 9)
    await world.settle()
    assert "backfilling" == runner.state
    await world.answer(200)
    assert "running" == runner.state


async def test_a_lane_shows_nothing_before_it_knows_what_is_parked(world):
    """0 would be wrong, and nobody serves it yet."""
    runner = LaneRunner(Taken(KnownLane("one", "uid", TOPIC, 1), {0: Start(0)}), webhook(), world.shared)
    runner.show()
    shown = [world.registry.get_sample_value("livehook_lane_parked", {"webhook": "one"}), runner.items()]
    runner.restore(Troubles((Parked("uid", 0, 2, b"c/a", 1, 2**60),)))
    runner.show()
    assert [None, []] == shown
    assert (1.0, 1) == (world.registry.get_sample_value("livehook_lane_parked", {"webhook": "one"}), runner.items()[0]["parked"])


async def test_a_marker_that_the_receiver_refuses_is_parked_and_sent_again(world):
    """What follows does not wait for it any longer."""
    runner = world.runner(retry=Retry(("0s", "1h"), 0.0))
    await read(runner, record(4, "b"))
    await world.settle()
    await world.answer(500)
    await world.settle()
    assert ["requeryRequired", "create"] == matches(world)
    await world.answer(200)
    assert [5] == [commit.offset for commit in runner.commits()]
    world.now += 3_601
    runner.go_on()
    await world.settle()
    assert ["requeryRequired", "create", "requeryRequired"] == matches(world)
    first, _, again = (dict(call.headers) for call in world.calls)
    assert (first["webhook-id"], "2") == (again["webhook-id"], again["livehook-attempt"])


async def test_a_commit_is_renewed_before_kafka_forgets_it(world):
    """A lane without traffic would begin anew, and what it has sent would be missing."""
    runner = world.runner()
    assert [] == runner.commits()
    world.now += 6 * 3_600
    [commit] = runner.commits()
    runner.committed(commit)
    assert [] == runner.commits()
    world.now += 6 * 3_600
    assert [commit.offset] == [one.offset for one in runner.commits()]


def gaps_written(world: World) -> list[Gap]:
    found = [decode_webhooks(one.value or b"") for one in world.written if one.topic == "webhooks"]
    return [one for one in found if isinstance(one, Gap)]


def matches(world: World) -> list[str]:
    return [dict(call.headers)["livehook-match"] for call in world.calls]


async def test_without_a_lease_nothing_starts(world):
    """What is under way ends; nothing new begins until a commit is acknowledged."""
    runner = world.runner()
    world.lease.lost()
    await read(runner, record(0, "a"))
    assert [] == world.calls
    world.lease.renewed(uptime_s())
    runner.go_on()
    await world.settle()
    assert [("a", "1")] == world.asked()


async def test_a_retry_waits_for_its_time(world):
    """The lane wakes itself; the attempt says when that will be."""
    runner = world.runner(retry=Retry(("0s", "20ms"), 0.0))
    await read(runner, record(0, "a"))
    await world.answer(500)
    attempt = decode_attempt(world.attempts[0].value or b"")
    assert attempt.next_attempt_us is not None
    assert 20_000 <= attempt.next_attempt_us - attempt.started_us < 120_000
    assert [("a", "1")] == world.asked()
    world.now += 1
    world.called.clear()
    async with asyncio.timeout(5):
        await world.called.wait()
    assert [("a", "1"), ("a", "2")] == world.asked()


@pytest.mark.parametrize("seed", range(12))
async def test_a_clock_that_goes_on_while_the_lane_looks_stops_nothing(world, seed):
    """Whenever a retry comes due, between whichever two looks at the clock: it is sent."""
    rng = random.Random(seed)

    def ticking() -> float:
        now: float = world.now + rng.choice((0.0001, 0.001, 0.004, 0.008))
        world.now = now
        return now

    world.shared.now = ticking
    runner = world.runner(retry=Retry(("0s", *["10ms"] * 40), 0.0))
    await read(runner, record(0, "a"), record(1, "b"))
    async with asyncio.timeout(5):
        for result in [500] * 60 + [200] * 2:
            while not world.open:
                world.called.clear()
                await world.called.wait()
            await world.answer(result)
    assert 2 == runner.commits()[0].offset


async def test_a_lane_that_could_send_and_does_not_is_seen(world):
    """By the watchdog; not one that waits for an answer, for a time, for its pace, or for a lease."""
    runner = world.runner(retry=Retry(("0s", "5s"), 0.0))
    assert runner.waiting is None
    await read(runner, record(0, "a"))
    assert runner.waiting is None
    await world.answer(500)
    assert runner.waiting is None
    world.now += 6
    assert 1 == runner.waiting
    world.lease.lost()
    assert runner.waiting is None
    world.lease.renewed(uptime_s())
    runner.go_on()
    await world.settle()
    assert runner.waiting is None
    await world.answer(Response(429, (("retry-after", "3"),)))
    assert (None, []) == (runner.waiting, world.failures)


async def test_a_retry_is_signed_anew(world):
    """The same webhook-id, the timestamp of this attempt, and a signature over both (Standard Webhooks 1.0)."""
    runner = world.runner()
    world.now = time.time()
    await read(runner, record(0, "a"))
    await world.answer(500)
    world.now += 11
    runner.go_on()
    await world.settle()
    first, second = (dict(call.headers) for call in world.calls)
    assert first["webhook-id"] == second["webhook-id"]
    assert 11 == int(second["webhook-timestamp"]) - int(first["webhook-timestamp"])
    secret = standardwebhooks.Webhook(runner.webhook.current.secrets[0].value)
    for call in world.calls:
        secret.verify(call.body, dict(call.headers), json_parse=False)


async def test_the_commit_waits_for_the_dead_letter(world):
    """Nothing is passed before it is safe where it was put: neither the commit nor the document goes on."""
    runner = world.runner(retry=Retry(("0s",), 0.0))
    await read(runner, record(0, "a"), record(1, "a"))
    world.writing.clear()
    await world.answer(500)
    assert ([], 0, 1) == ([one.topic for one in world.written], runner.items()[0]["offset"]["committed"], len(world.calls))
    world.writing.set()
    await world.settle()
    assert (["dead-letters"], 1, 2) == ([one.topic for one in world.written], runner.items()[0]["offset"]["committed"], len(world.calls))


async def test_a_dead_letter_that_cannot_be_written_ends_the_process(world):
    """It is not skipped: whoever starts it again finds the delivery uncommitted."""

    class Broken:
        async def send(self, records):
            raise OSError("no broker")

    runner = world.runner(retry=Retry(("0s",), 0.0))
    world.shared.producer = Broken()
    await read(runner, record(0, "a"))
    await world.answer(500)
    assert ["no broker"] == [str(error) for error in world.failures]
    assert [] == runner.commits()


async def test_gone_disables_here_and_on_record(world):
    """One status record, although several calls are answered 410; the deliveries stay, uncounted; a later edit makes it go on."""
    runner = world.runner()
    await read(runner, record(0, "a"), record(1, "b"), record(2, "c"))
    await world.answer(410, 410)
    (written,) = world.written
    status = decode_webhooks(written.value or b"")
    assert isinstance(status, WebhookStatus)
    assert (b"one/status", State.DISABLED, 1, True) == (written.key, status.state, status.edit, "410" in status.reason)
    await world.answer(200)
    item = runner.items()[0]
    assert ("disabled", 0, 2, 0) == (item["state"], item["offset"]["committed"], item["queued"], item["inFlight"])
    runner.update(webhook(edit=2))
    await world.settle()
    assert {("a", "1"), ("b", "1")} == set(world.asked()[3:])


@pytest.mark.parametrize("state", [State.PAUSED, State.DISABLED])
async def test_a_webhook_that_is_not_active_reads_but_does_not_call(world, state):
    """Its window fills; when it is active again, it goes on at once."""
    runner = world.runner(state=state)
    await read(runner, record(0, "a"))
    assert ([], state.value, 1) == (world.calls, runner.items()[0]["state"], runner.items()[0]["queued"])
    runner.update(webhook())
    await world.settle()
    assert 1 == len(world.calls)


async def test_a_webhook_of_a_newer_version_is_left_alone(world):
    """What this program cannot render it does not send in another form; other lanes are not touched by it."""
    runner = world.runner(payload=Payload(format="from-the-future"))
    await read(runner, record(0, "a"))
    item = runner.items()[0]
    assert ([], "disabled", "template") == (world.calls, item["state"], item["lastError"]["code"])


async def test_drained_lanes_start_nothing_and_say_what_to_commit(world):
    """What is under way is waited for; what came too late is abandoned, and stays below the commit."""
    runner = world.runner(delivery=DeliverySettings(concurrency=2))
    await read(runner, record(0, "slow"), record(1, "b"), record(2, "c"))
    draining = asyncio.create_task(runner.drain(0.05))
    await world.settle()
    world.open[1][1].set_result(Response(200))
    (commit,) = await draining
    start = decode(commit.offset, commit.metadata, "uid")
    assert (0, frozenset({1}), 2) == (commit.offset, start.finished, len(world.calls))
    await read(runner, record(3, "d"))
    runner.halt()
    await runner.halted()
    assert (2, 0, 0) == (len(world.calls), world.shared.calls.used, world.shared.held_bytes.used)


async def test_what_was_finished_before_is_not_sent_again(world):
    """The bitmap of the last commit, and its vector: finished ones and repeats are passed over."""
    starts = {0: Start(5, frozenset({6}), {0: Origin(0, 0, 4)})}
    runner = world.runner(starts=starts)
    await read(runner, record(5, "e"), record(6, "f"), record(7, "old", origin=3), record(8, "g"))
    assert [("e", "1"), ("g", "1")] == world.asked()
    assert 1.0 == world.registry.get_sample_value("livehook_duplicates_dropped_total", {"stage": "lane"})


async def test_deliveries_of_a_deleted_webhook_are_passed_over(world):
    """Matched before the webhook was deleted and made again: nobody waits for them."""
    runner = world.runner()
    await read(runner, record(0, "a", uid="before"), record(1, "b"))
    assert [("b", "1")] == world.asked()
    await world.answer(200)
    assert 2 == runner.commits()[0].offset


async def test_a_full_lane_is_not_read_on_and_loses_nothing(world):
    """What came before the consumer stopped waits in order; with room it is taken and the consumer goes on."""
    world.shared.held_bytes.limit = 20_000
    runner = world.runner(delivery=DeliverySettings(concurrency=1))
    count = 60
    await read(runner, *[record(number, f"d{number % 7}") for number in range(count)])
    assert [TOPIC] == world.stopped
    assert world.shared.held_bytes.used < 2 * 20_000
    for _ in range(count):
        await world.answer(200)
    assert (count, [], count) == (len(world.calls), world.stopped, runner.commits()[0].offset)


async def test_one_lane_cannot_take_all_calls(world):
    """When all calls there may be are under way in one lane, another one still gets its share, and what is freed goes round."""
    world.shared.calls.limit = 4
    greedy, late = world.runner("greedy"), world.runner("late")
    await read(greedy, *[record(number, f"g{number}", name="greedy") for number in range(20)])
    assert 4 == len(world.open)
    await read(late, *[record(number, f"l{number}", name="late") for number in range(3)])
    assert ["l0", "l1"] == [document for document, _ in world.asked()[4:]]
    for _ in range(23):
        await world.answer(200)
        assert world.shared.calls.used <= 6
    assert (23, 0) == (len(world.calls), world.shared.calls.used)


async def test_a_rate_is_kept(world):
    """Twenty a second are two at once and then one every 50 ms, whatever the concurrency."""
    runner = world.runner(delivery=DeliverySettings(rate_limit=20))
    await read(runner, *[record(number, f"d{number}") for number in range(4)])
    assert 2 == len(world.calls)
    world.now += 0.05
    runner.go_on()
    await world.settle()
    assert 3 == len(world.calls)


async def test_the_first_wait_of_the_schedule_is_kept(world):
    """An entry before the first attempt delays it, too."""
    runner = world.runner(retry=Retry(("2s", "10s"), 0.0))
    await read(runner, record(0, "a"))
    assert [] == world.calls
    world.now += 2.1
    runner.go_on()
    await world.settle()
    assert [("a", "1")] == world.asked()


async def test_what_is_seen_of_a_lane(world):
    """State, lag, calls, queue and the last error, as in the reference."""
    runner = world.runner(delivery=DeliverySettings(concurrency=2))
    await read(runner, *[record(number, f"d{number}") for number in range(5)])
    runner.ends_at(0, 9)
    await world.answer(200, Failure(ErrorCode.CONNECT, "refused"))
    item = runner.items()[0]
    assert ("one", 0, "running", 8, {"committed": 1, "end": 9}, 2, 2) == tuple(
        item[name] for name in ("webhook", "partition", "state", "lag", "offset", "inFlight", "queued")
    )
    assert ("connect", "refused", "http://a") == (item["lastError"]["code"], item["lastError"]["detail"], item["worker"])
    runner.show()
    assert 8.0 == world.registry.get_sample_value("livehook_lane_lag", {"webhook": "one"})
    assert 1.0 == world.registry.get_sample_value("livehook_lane_state", {"webhook": "one", "state": "running"})


def parked_notes(world: World) -> dict[bytes, Parked | Down | None]:
    """What ``parked`` holds in the end."""
    return {one.key or b"": None if one.value is None else decode_parked(one.value) for one in world.written if one.topic == PARKED}


def notices(world: World) -> list[NoticeKind]:
    found = [decode_activity(one.value or b"") for one in world.attempts]
    return [one.kind for one in found if isinstance(one, Notice)]


async def test_a_document_that_fails_is_parked_and_the_commit_goes_on(world):
    """Waits over 10 s park the document with all that stands behind it; others go on, and so does what comes later for it, in order."""
    runner = world.runner(retry=Retry(("0s", "60s", "60s"), 0.0))
    world.log = {offset: record(offset, document) for offset, document in enumerate("aaba")}
    await read(runner, *world.log.values())
    await world.answer(400, 200)
    found = parked_notes(world)
    assert {b"one/1": Parked("uid", 0, 1, b"c/a"), b"one/3": Parked("uid", 0, 3, b"c/a")} == {
        key: found[key] for key in (b"one/1", b"one/3")
    }
    head = found[b"one/0"]
    assert isinstance(head, Parked)
    assert 60_000_000 <= head.due_us - world.now * 1_000_000 < 61_000_000
    assert msgspec.structs.replace(head, due_us=0) == Parked("uid", 0, 0, b"c/a", 1)
    item = runner.items()[0]
    assert (4, 0, 3, 3) == (item["offset"]["committed"], item["queued"], item["parked"], item["lag"])
    assert ([NoticeKind.PARKED], 2, 0) == (notices(world), len(world.calls), world.shared.held_bytes.used)
    world.now += 61
    runner.go_on()
    await world.settle()
    assert ("a", "2") == world.asked()[-1]
    await world.answer(200, 200, 200)
    assert [("a", "2"), ("a", "1"), ("a", "1")] == world.asked()[2:]
    assert {None} == set(parked_notes(world).values())
    assert (0, 0, 0) == (runner.items()[0]["parked"], world.shared.held_bytes.used, world.shared.calls.used)


async def test_the_commit_waits_for_the_pointer(world):
    """What is parked is on record, once, before the commit passes it."""
    runner = world.runner(retry=Retry(("0s", "60s"), 0.0))
    await read(runner, record(0, "a"))
    world.writing.clear()
    world.open.pop()[1].set_result(Response(400))
    for _ in range(20):
        await asyncio.sleep(0)
        runner.go_on()
        runner.go_on()
    assert 0 == runner.items()[0]["offset"]["committed"]
    world.writing.set()
    await world.settle()
    assert (1, 1, 1) == (runner.items()[0]["offset"]["committed"], runner.items()[0]["parked"], len(world.written))


async def test_at_the_end_of_its_schedule_a_parked_document_goes_on(world):
    """A dead letter and a notice; then what waited behind."""
    runner = world.runner(retry=Retry(("0s", "60s"), 0.0))
    world.log = {offset: record(offset, "a") for offset in range(2)}
    await read(runner, *world.log.values())
    await world.answer(400)
    world.now += 61
    runner.go_on()
    await world.settle()
    await world.answer(400)
    assert [NoticeKind.PARKED, NoticeKind.DEAD] == notices(world)
    assert [("a", "1"), ("a", "2"), ("a", "1")] == world.asked()
    assert ["exhausted"] == [dict(one.headers)["reason"].decode() for one in world.written if one.topic == "dead-letters"]
    await world.answer(200)
    assert 0 == runner.items()[0]["parked"]


async def test_what_retention_took_is_dead_lettered_with_what_is_known(world):
    """Its key, its source and its attempts; then what waited behind."""
    runner = world.runner(retry=Retry(("0s", "60s"), 0.0))
    world.log = {offset: record(offset, "a") for offset in range(2)}
    await read(runner, *world.log.values())
    await world.answer(400)
    del world.log[0]
    world.now += 61
    runner.go_on()
    await world.settle()
    (dead,) = [one for one in world.written if one.topic == "dead-letters"]
    assert (b"c/a", None, b"expired", f"{TOPIC}/0/0".encode()) == (
        dead.key, dead.value, dict(dead.headers)["reason"], dict(dead.headers)["source"],
    )  # fmt: skip
    assert [("a", "1"), ("a", "1")] == world.asked()


async def test_parked_documents_outlive_the_sink(world):
    """The next owner knows the attempts that were made, keeps the order, and sends nothing that was parked from the lane."""
    log = [record(offset, "a") for offset in range(3)]
    world.log = dict(enumerate(log))
    due_us = int((world.now + 30) * 1_000_000)
    troubles = Troubles((Parked("uid", 0, 1, b"c/a"), Parked("uid", 0, 0, b"c/a", 1, due_us), Parked("gone", 0, 2, b"c/x")))
    runner = world.runner(starts={0: Start(1)}, troubles=troubles, retry=Retry(("0s", "60s", "60s"), 0.0))
    await read(runner, *log[1:])
    await world.settle()
    assert (3, 3, []) == (runner.items()[0]["offset"]["committed"], runner.items()[0]["parked"], world.calls)
    world.now += 31
    runner.go_on()
    await world.settle()
    await world.answer(200, 200, 200)
    assert [("a", "2"), ("a", "1"), ("a", "1")] == world.asked()
    assert ["1", "2", "3"] == [dict(call.headers)["livehook-version"] for call in world.calls]


async def test_a_lane_with_too_much_parked_is_not_read_on(world):
    """It says so; with room again it goes on."""
    world = World(parked_max=3)
    runner = world.runner(retry=Retry(("0s", "60s", "60s"), 0.0))
    log = [record(offset, "a") for offset in range(8)]
    world.log = dict(enumerate(log))
    await read(runner, *log[:4])
    await world.answer(400)
    await read(runner, *log[4:])
    assert ([TOPIC], 4) == (world.stopped, runner.items()[0]["parked"])
    world.now += 61
    runner.go_on()
    await world.settle()
    for _ in log:
        await world.answer(200)
    assert ([], 9, 0) == (world.stopped, len(world.calls), runner.items()[0]["parked"])


async def test_an_endpoint_that_fails_for_everybody_is_down(world):
    """Whatever the status: nothing of it is counted or dead-lettered, it is probed one call at a time, and then all goes on."""
    runner = world.runner(retry=Retry(("0s", "60s"), 0.0))
    log = [record(offset, f"d{offset % 30}") for offset in range(60)]
    world.log = dict(enumerate(log))
    await read(runner, *log)
    await world.answer(*[404] * 30)
    item = runner.items()[0]
    assert ("down", "open", True, 0) == (item["state"], item["breaker"], item["nextProbeAt"] is not None, len(world.open))
    assert isinstance(parked_notes(world)[b"one/down"], Down)
    before = len(world.calls)
    for _ in range(5):
        world.now += 400
        runner.go_on()
        await world.settle()
        assert ("half-open", 1) == (runner.items()[0]["breaker"], len(world.open))
        await world.answer(503)
    assert before + 5 == len(world.calls)
    world.now += 400
    runner.go_on()
    await world.settle()
    while world.open:
        await world.answer(200)
    assert {"1"} == {attempt for _, attempt in world.asked()}
    versions: dict[str, list[int]] = {}
    for request in world.calls[before + 5 :]:
        headers = dict(request.headers)
        versions.setdefault(headers["livehook-document"], []).append(int(headers["livehook-version"]))
    assert all(found == sorted(set(found)) for found in versions.values())
    assert 60 == sum(map(len, versions.values()))
    assert [] == [one for one in world.written if one.topic == "dead-letters"]
    assert ("running", "closed", None) == (runner.items()[0]["state"], runner.items()[0]["breaker"], parked_notes(world)[b"one/down"])
    assert NoticeKind.DOWN in notices(world)
    assert NoticeKind.UP == notices(world)[-1]


async def test_an_endpoint_that_is_down_too_long_is_disabled(world):
    """With the reason on record and its lane kept; resumed, it goes on where it stood."""
    runner = world.runner(retry=Retry(("0s", *["1s"] * 9), 0.0, "1h"))
    await read(runner, record(0, "a"))
    for _ in range(5):
        await world.answer(Failure(ErrorCode.CONNECT, "refused"))
        world.now += 2
        runner.go_on()
        await world.settle()
    assert "down" == runner.items()[0]["state"]
    await world.answer(Failure(ErrorCode.CONNECT, "refused"))
    world.now += 3_601
    runner.go_on()
    await world.settle()
    await world.answer(Failure(ErrorCode.CONNECT, "refused"))
    (status,) = [decode_webhooks(one.value or b"") for one in world.written if one.topic == "webhooks"]
    assert isinstance(status, WebhookStatus)
    assert (State.DISABLED, "no call has succeeded for 1h; the last error: refused") == (status.state, status.reason)
    assert ("disabled", 0) == (runner.items()[0]["state"], runner.items()[0]["offset"]["committed"])
    runner.update(webhook(edit=2))
    await world.settle()
    await world.answer(200)
    assert ("running", 1) == (runner.items()[0]["state"], runner.items()[0]["offset"]["committed"])


async def test_an_endpoint_that_was_down_is_probed_by_its_next_owner(world):
    """No burst of calls after a restart: one, and the time it has been down goes on counting."""
    down = Down("uid", int((world.now - 7_200) * 1_000_000))
    runner = world.runner(troubles=Troubles((), down), retry=Retry(("0s", "1s"), 0.0, "1h"))
    await read(runner, *[record(offset, f"d{offset}") for offset in range(9)])
    assert ("down", 1) == (runner.items()[0]["state"], len(world.calls))
    await world.answer(500)
    assert "disabled" == runner.items()[0]["state"]


async def test_a_former_owner_says_nothing_about_the_endpoint(world):
    """It would stand on record for good, and one day disable the webhook; who has the lease again says it then."""
    runner = world.runner(retry=Retry(("0s", "60s"), 0.0))
    await read(runner, *[record(offset, f"d{offset}") for offset in range(30)])
    world.lease.lost()
    await world.answer(*[404] * len(world.open))
    assert ("down", False) == (runner.items()[0]["state"], b"one/down" in parked_notes(world))
    world.lease.renewed(uptime_s())
    runner.go_on()
    await world.settle()
    assert b"one/down" in parked_notes(world)


async def test_one_document_is_no_endpoint(world):
    """A lane whose only traffic is one failing document is not down: the document fails."""
    runner = world.runner(retry=Retry(("0s", *["1s"] * 29), 0.0))
    await read(runner, record(0, "a"), record(1, "a"))
    for _ in range(30):
        await world.answer(500)
        world.now += 2
        runner.go_on()
        await world.settle()
    assert "running" == runner.items()[0]["state"]
    assert ["dead-letters"] == [one.topic for one in world.written]


async def test_a_slow_document_with_more_behind_it_than_the_window_holds_up_nobody(world):
    """It hangs, its followers fill the window: they are parked, and the others are read."""
    world = World(parked_max=100_000)
    runner = world.runner(delivery=DeliverySettings(concurrency=8))
    log = [record(offset, "poison") for offset in range(8_192)]
    world.log = dict(enumerate(log))
    await read(runner, *log, record(8_192, "other"))
    assert ([TOPIC], 1) == (world.stopped, len(world.calls))
    world.now += 6
    runner.show()
    for _ in range(20):
        await world.settle()
    assert ("other", "1") == world.asked()[-1]
    await world.answer(200)
    assert (8_191, []) == (runner.items()[0]["parked"], world.stopped)
    for _ in range(40):
        await world.answer(200)
    assert [str(version) for version in range(2, 40)] == [dict(call.headers)["livehook-version"] for call in world.calls[2:40]]


def opening_marker(offset: int = 0) -> LaneRecord:
    """As the API puts it into the lane of a webhook that starts in the past."""
    marker = marker_of(webhook(start="beginning", events=("create", "initializing")).current, Match.INITIALIZING, [0])
    return LaneRecord(TOPIC, 0, offset, marker.change.key.encode(), encode_delivery(marker))


async def test_after_the_opening_marker_all_go_at_once(world):
    """What was read while the marker was being sent is not sent one by one."""
    runner = world.runner(delivery=DeliverySettings(concurrency=64), start="beginning", events=("create", "initializing"))
    await read(runner, opening_marker(), *[record(number, f"d{number}") for number in range(1, 41)])
    assert 1 == len(world.open)
    await world.answer(200)
    assert 40 == len(world.open)


async def test_a_pace_that_recovers_is_used(world):
    """When the endpoint takes more calls at a time again, they are made, also while nothing new comes in."""
    runner = world.runner(delivery=DeliverySettings(concurrency=8), retry=Retry(("0s", "5s", "5s", "5s"), 0.0))
    await read(runner, *[record(number, f"d{number}") for number in range(4_000)])
    assert 8 == len(world.open)
    for _ in range(10):  # some are too much
        world.now += 1
        await world.answer(*([429, 200] * 4)[: len(world.open)])
    for second in range(200):  # from now on all is well, for longer than any retry waits
        world.now += 1
        await world.answer(*[200] * len(world.open))
        if second < 7:  # the timers of retries, of which the last is due by then
            runner.go_on()
            await world.settle()
    pace = runner._work.sending.health.pace
    assert runner._lane.has_ready
    assert (1.0, 8) == (pace.factor, len(world.open))


async def test_a_retry_is_not_forgotten_behind_parked_ones_that_are_due(world):
    """While parked documents are being read back, and more of them are due, a quick retry of another one still comes in time."""
    parked = tuple(Parked("uid", 0, offset, f"c/p{offset}".encode(), 1, 0) for offset in range(100))
    reading = asyncio.Event()

    async def bodies(topic, partition, wanted):
        await reading.wait()  # Kafka is slow

    world.shared.records = cast(Any, SimpleNamespace(bodies=bodies))
    runner = world.runner(
        starts={0: Start(100)},
        troubles=Troubles(parked),
        delivery=DeliverySettings(concurrency=256),
        retry=Retry(("0s", "20ms", "5s"), 0.0),
    )
    await read(runner, record(100, "fresh"))
    await world.answer(500)
    world.now += 1
    world.called.clear()
    async with asyncio.timeout(3):
        await world.called.wait()
    assert ("fresh", "2") in world.asked()


async def test_order_switched_off_and_on_again_loses_no_document(world):
    """A document that was parked meanwhile does not take the ones behind it along for good."""
    runner = world.runner(retry=Retry(("0s", "1h"), 0.0))
    await read(runner, record(0, "a"))
    runner.update(webhook(edit=2, delivery=DeliverySettings(order="none"), retry=Retry(("0s", "1h"), 0.0)))
    await world.answer(500)  # parked
    await world.settle()
    runner.update(webhook(edit=3, retry=Retry(("0s", "1h"), 0.0)))
    world.log[0] = record(0, "a")
    world.now += 3_700
    runner.go_on()
    await world.settle()
    await world.answer(200)
    await read(runner, record(1, "a"))
    await world.settle()
    assert [("a", "1"), ("a", "2"), ("a", "1")] == world.asked()


async def test_a_lane_that_waits_for_the_others_goes_on_when_one_is_given_up():
    """Its own call may hang for a minute: it is not what wakes it."""
    world = World(calls=10)
    first = world.runner("one", delivery=DeliverySettings(concurrency=64))
    await read(first, *[record(number, f"d{number}") for number in range(20)])
    assert 10 == len(world.open)
    second = world.runner("two", delivery=DeliverySettings(concurrency=64))
    await read(second, *[record(number, f"e{number}", name="two") for number in range(20)])
    first.halt()
    await first.halted()
    await world.settle()
    assert 10 == second.items()[0]["inFlight"]


async def test_two_opening_markers_in_a_window_do_not_stop_the_lane(world):
    """A replay of a selection copies the marker behind the lane's end: while the first one waits, nothing would be sent any more."""
    runner = world.runner(start="beginning", events=("create", "initializing"))
    await read(runner, opening_marker(), record(1, "a"), opening_marker(2))
    await world.answer(200)
    await world.answer(200, 200)
    assert (3, 3) == (len(world.calls), runner.commits()[0].offset)


async def test_what_the_old_url_asked_for_does_not_hold_for_the_new_one(world):
    """Retry-After of a day from two documents pauses the lane; the webhook is given another URL."""
    runner = world.runner()
    await read(runner, *[record(number, f"d{number}") for number in range(2)])
    await world.answer(*[Response(503, (("retry-after", "86400"),))] * 2)
    await read(runner, record(2, "new"))
    assert 2 == len(world.calls)
    runner.update(webhook(edit=2, url="https://other.example.com/"))
    await world.settle()
    assert 3 == len(world.calls)


async def test_a_pause_that_an_endpoint_asked_for_is_shown_and_ends_with_resume(world):
    """A day without a call does not look like a lane that is well; who has repaired the receiver pauses and resumes the webhook."""
    runner = world.runner()
    await read(runner, *[record(number, f"d{number}") for number in range(2)])
    assert runner.items()[0]["nextProbeAt"] is None
    await world.answer(*[Response(503, (("retry-after", "86400"),))] * 2)
    await read(runner, record(2, "new"))
    assert ("2026-09-22T14:13:20", 2) == (runner.items()[0]["nextProbeAt"][:19], len(world.calls))
    for edit, state in ((2, State.PAUSED), (3, State.ACTIVE)):
        runner.update(webhook(edit=edit, state=state))
    await world.settle()
    assert (None, 3) == (runner.items()[0]["nextProbeAt"], len(world.calls))


def rewound(until: int = 3) -> KnownLane:
    """The lane of webhook one, after a rewind to its beginning."""
    return KnownLane("one", "uid", TOPIC, 1, (Jump(number=7, replay="rpl_1", is_forward=False, to=(0,), until=(until,)),))


async def test_what_a_rewind_sends_again_says_so(world):
    """In its header and its attempt, with the webhook-id of the first time; what came into the lane later does not."""
    first = world.runner()
    await read(first, record(0, "a"))
    again = LaneRunner(Taken(rewound(until=1), {0: Start(rewind=7, moved=True)}), webhook(), world.shared)
    again.restore(NO_TROUBLES)
    await read(again, record(0, "a"), record(1, "b"))
    headers = [dict(call.headers) for call in world.calls]
    assert [None, "rpl_1", None] == [one.get("livehook-replay") for one in headers]
    assert headers[0]["webhook-id"] == headers[1]["webhook-id"]
    await world.answer(200, 200, 200)
    assert [None, "rpl_1", None] == [decode_attempt(one.value or b"").replay for one in world.attempts]


async def test_a_rewind_is_committed_before_anything_is_delivered(world):
    """Its number goes into the next commit, so that a restart does not carry it out again."""
    runner = LaneRunner(Taken(rewound(), {0: Start(rewind=7, moved=True)}), webhook(), world.shared)
    [commit] = runner.commits()
    assert (0, 7) == (commit.offset, decode(0, commit.metadata, "uid").rewind)
    assert [] == world.runner().commits()


async def test_what_is_parked_is_sent_when_a_rewind_comes_to_it(world):
    """Its wait is over, its attempts are forgotten; what is parked below the place stays as it is."""
    due_us = int((world.now + 1_000) * 1_000_000)
    parked = Troubles((Parked("uid", 0, 1, b"c/a", 4, due_us), Parked("uid", 0, 5, b"c/b", 4, due_us)))
    world.log = {offset: record(offset, "b" if offset == 5 else "x") for offset in range(4, 6)}
    runner = LaneRunner(Taken(rewound(9), {0: Start(4, rewind=7, moved=True)}), webhook(), world.shared)
    runner.restore(parked)
    await read(runner, record(4, "x"), record(5, "b"))
    await world.settle()
    assert [("x", "1"), ("b", "1")] == world.asked()
    assert "rpl_1" == dict(world.calls[1].headers)["livehook-replay"]


async def test_what_is_given_up_writes_nothing_more(world):
    """An answer that has come and was not dealt with is nobody's: the lane may have another owner, who knows better what is parked."""
    runner = world.runner(retry=Retry(("0s", "60s"), 0.0), delivery=DeliverySettings(concurrency=1))
    world.log = {0: record(0, "a")}
    await read(runner, world.log[0])
    await world.answer(400)
    world.now += 61
    runner.go_on()
    await world.settle()
    await read(runner, record(1, "b"))
    await world.answer(200)  # the pointer to a is to be deleted, when there is time
    written = len(world.written)
    _, future = world.open.pop()
    future.set_result(Response(200))
    await asyncio.sleep(0)  # b has ended, and is not dealt with
    runner.halt()
    await world.settle()
    assert ([("a", "1"), ("a", "2"), ("b", "1")], [], 0) == (world.asked(), world.written[written:], world.shared.calls.used)


async def test_who_is_gone_is_not_called_with_what_was_answered_beside_it(world):
    """Of two answers of one turn the first may be 410: the second makes no room for another call."""
    runner = world.runner(delivery=DeliverySettings(concurrency=2))
    await read(runner, *[record(number, f"d{number}") for number in range(6)])
    for status in (410, 200):
        _, future = world.open.pop(0)
        future.set_result(Response(status))
    await world.settle()
    assert (2, "disabled") == (len(world.calls), runner.items()[0]["state"])
