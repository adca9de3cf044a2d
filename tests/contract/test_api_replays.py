"""Replays as docs/reference/http-api.md has them. On a fake Kafka and a real SQLite."""

from __future__ import annotations

import asyncio
import time

import httpx
import pytest

from connectors.webhook.offsets import Start, encode
from connectors.webhook.ownership import jumps_of
from livehook.api.app import create_app
from livehook.api.replaying import COPYING_MAX
from livehook.api.selecting import Selection
from livehook.api.testing import NOW_US, FakeKafka, fake_services
from schemas.attempts import Outcome, attempt_id
from schemas.changes import Change
from schemas.deliveries import Delivery, Match
from schemas.markers import marker_of
from schemas.positions import Origin
from schemas.records import decode_delivery, encode_attempt, encode_delivery
from schemas.replays import ReplayState, Selected
from schemas.times import rfc3339
from schemas.topics import Record, Topics
from tests.activity import attempt

TOPICS = Topics(partitions=4)
LANE = TOPICS.lane("adults").name
PLACE = LANE, 0
PATH = "/v1/webhooks/adults/replay"
MINUTE_US = 60_000_000


class Home:
    """The webhook ``adults`` on a fake Kafka, and an API on it. Delivery n has txnId 100 + 10 n and came 60 - n minutes ago."""

    def __init__(self, kafka: FakeKafka, client: httpx.AsyncClient) -> None:
        self.kafka, self.client = kafka, client
        self.services = fake_services(kafka)

    def deliver(self, count: int, *, uid: str = "whk_1", origin: int | None = None, replay: str | None = None) -> list[Delivery]:
        made = []
        for _ in range(count):
            number = len(self.kafka.log.get(PLACE, []))
            at = Origin(0, 0, number if origin is None else origin)
            change = Change("people", f"d{number % 3}", 100 + 10 * number, 1, None, b'{"n":%d}' % number, at, 1)
            made.append(Delivery(uid, 1, Match.CREATE, change, replay=replay))
            self.kafka.written_us[*PLACE, number] = NOW_US - 60 * MINUTE_US + number * MINUTE_US
            self.kafka._append(Record(LANE, change.key.encode(), encode_delivery(made[-1]), partition=0))
        return made

    def commits(self, offset: int, number: int = 0) -> None:
        self.kafka.committed[PLACE] = offset, encode("whk_1", Start(offset, rewind=number))

    async def ask(self, **body):
        return await self.client.post(PATH, json={name.rstrip("_"): value for name, value in body.items()})

    async def asked(self, **body):
        answer = await self.ask(**body)
        assert answer.status_code in (200, 202), answer.text
        return answer.json()

    async def refused(self, **body):
        """Field and message of what is wrong."""
        answer = await self.ask(**body)
        problem = answer.json()
        assert (422, "invalid") == (answer.status_code, problem["code"]), problem
        return {error["field"]: error["message"] for error in problem["errors"]}

    async def replay(self, id_):
        return (await self.client.get(f"/v1/replays/{id_}")).json()

    def copies(self) -> list[int]:
        """The numbers of the deliveries that were copied, in order; each with its id as at first."""
        found = [decode_delivery(record.value or b"") for record in self.kafka.records(LANE)]
        first = {one.change.txn_id: one.webhook_id for one in found if one.replay is None}
        assert all(first[one.change.txn_id] == one.webhook_id for one in found)
        return [(one.change.txn_id - 100) // 10 for one in found if one.replay is not None]

    async def other(self, name: str, count: int) -> None:
        """Another webhook, with so many deliveries in its lane, which does not move."""
        await self.client.put(f"/v1/webhooks/{name}", json={"collection": "people", "url": "https://example.com/hook"})
        webhook = self.kafka.registry.webhook(name)
        assert webhook is not None
        for number in range(count):
            change = Change("people", f"d{number}", 100 + number, 1, None, b"{}", Origin(0, 0, number), 1)
            value = encode_delivery(Delivery(webhook.current.uid, 1, Match.CREATE, change))
            self.kafka._append(Record(TOPICS.lane(name).name, change.key.encode(), value, partition=0))

    async def ask_other(self, name: str) -> None:
        answer = await self.client.post(f"/v1/webhooks/{name}/replay", json={"from": {"beginning": True}, "query": "true"})
        assert 202 == answer.status_code, answer.text

    def copies_of(self, name: str) -> int:
        return sum(decode_delivery(record.value or b"").replay is not None for record in self.kafka.records(TOPICS.lane(name).name))

    async def until_copied(self, count: int) -> None:
        deadline = time.monotonic() + 10
        while len(self.copies()) < count:
            assert time.monotonic() < deadline, f"{len(self.copies())} copies, not {count}"
            await asyncio.sleep(0.01)

    async def settled(self) -> None:
        """Until nothing is copied any more."""
        while tasks := [*self.services.replaying._copies.values()]:
            await asyncio.wait(tasks)

    def on_record(self):
        webhook = self.kafka.registry.webhook("adults")
        assert webhook is not None
        return self.kafka.registry.replays(webhook.current)


@pytest.fixture
async def home(tmp_path):
    kafka = FakeKafka(TOPICS, tmp_path / "log.sqlite3")
    services = fake_services(kafka)
    transport = httpx.ASGITransport(create_app(services), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080") as client:
        await client.put("/v1/webhooks/adults", json={"collection": "people", "url": "https://example.com/hook"})
        found = Home(kafka, client)
        found.services = services
        services.replaying.start()
        yield found
        await services.replaying.stop()
    kafka.fed.activity.close()


class TestFrom:
    """Where a replay begins."""

    @pytest.mark.parametrize(
        ("begin", "offset"),
        [
            ({"beginning": True}, 0),
            ({"offset": 4}, 4),
            ({"offset": "4"}, 4),
            ({"offset": 9}, 9),
            ({"txnId": 140}, 4),
            ({"txnId": 141}, 5),
            ({"txnId": 1}, 0),
            ({"time": rfc3339(NOW_US - 56 * MINUTE_US)}, 4),
            ({"time": rfc3339(NOW_US - 56 * MINUTE_US + 1)}, 5),
            ({"time": "1999-12-31T23:59:59+01:00"}, 0),
        ],
    )
    async def test_every_form_names_the_first_delivery_at_or_after_it(self, home, begin, offset):
        """And the answer names the offset that it comes to."""
        home.deliver(10)
        expected = {"id": None, "deliveries": 10 - offset, "from": {"offset": offset}, "until": {"offset": 10}}
        assert expected == await home.asked(from_=begin, dryRun=True)

    @pytest.mark.parametrize(
        ("begin", "field", "part"),
        [
            (None, "from", "is missing"),
            ({}, "from", "none of them"),
            ({"offset": 1, "txnId": 100}, "from", "has offset and txnId"),
            ({"offset": 10}, "from.offset", "must be 2 to 9"),
            ({"offset": 1}, "from.offset", "must be 2 to 9"),
            ({"offset": -1}, "from.offset", "a whole number"),
            ({"offset": "0:x"}, "from.offset", "a whole number"),
            ({"offset": "1:4"}, "from.offset", "names partition 1"),
            ({"txnId": 191}, "from.txnId", "the last one is 190"),
            ({"txnId": "x"}, "from.txnId", "must be a txnId"),
            ({"time": rfc3339(NOW_US + MINUTE_US)}, "from.time", "in the future"),
            ({"time": "yesterday"}, "from.time", "RFC 3339"),
            ({"beginning": False}, "from.beginning", "must be true"),
            ({"ofset": 3}, "from.ofset", "did you mean offset?"),
        ],
    )
    async def test_what_is_outside_is_refused(self, home, begin, field, part):
        """With the field, and what would be right."""
        home.deliver(10)
        home.kafka.removed[PLACE] = 2
        errors = await home.refused(**({} if begin is None else {"from_": begin}))
        assert part in errors[field], errors
        assert [] == home.on_record()

    async def test_what_is_wrong_is_said_once(self, home):
        """A list of errors is for people."""
        wrong = (await home.ask(from_=5, foo=1)).json()["errors"]
        assert [("from", "is 5, must be an object"), ("foo", "is no field here")] == [(one["field"], one["message"]) for one in wrong]

    async def test_an_empty_lane_has_nothing_to_replay(self, home):
        """From its beginning that is no error; an offset of it is."""
        expected = {"id": None, "deliveries": 0, "from": {"offset": 0}, "until": {"offset": 0}}
        assert expected == await home.asked(from_={"beginning": True})
        assert {"from.offset": "is 0, and the lane is empty"} == await home.refused(from_={"offset": 0})

    async def test_the_count_is_what_the_lane_would_send(self, home):
        """Neither repeats of another writer, nor what an earlier webhook of the name has left, nor what cannot be read."""
        home.deliver(3)
        home.deliver(1, uid="whk_0")
        home.deliver(2, origin=1)
        home.kafka._append(Record(LANE, b"people/a", b"?", partition=0))
        home.deliver(1, origin=1, replay="rpl_9")
        assert 4 == (await home.asked(from_={"beginning": True}, dryRun=True))["deliveries"]

    async def test_an_unknown_webhook_is_not_there(self, home):
        """404, before anything is looked at."""
        answer = await home.client.post("/v1/webhooks/nobody/replay", json={"from": {"beginning": True}})
        assert (404, "the webhook nobody is not there") == (answer.status_code, answer.json()["detail"])


class TestRewind:
    """A replay with nothing but ``from``."""

    async def test_it_is_on_record_when_it_is_answered(self, home):
        """With the place that the lane had come to, and nothing of a dry run."""
        home.deliver(10)
        home.commits(7)
        await home.asked(from_={"offset": 4}, dryRun=True)
        answer = await home.asked(from_={"offset": 4})
        [replay] = home.on_record()
        assert {"id": replay.id, "deliveries": 6, "from": {"offset": 4}, "until": {"offset": 10}} == answer
        assert ((4,), (10,), (7,)) == (replay.begin, replay.until, replay.committed)

    async def test_its_progress_is_that_of_the_lane(self, home):
        """Nothing while no sink has taken it up, whatever is committed; done once the lane is where it ended."""
        home.deliver(10)
        home.commits(10)
        id_ = (await home.asked(from_={"offset": 4}))["id"]
        [replay] = home.on_record()
        for offset, number, delivered in ((10, 0, 0), (6, replay.number, 2), (9, replay.number + 5, 5)):
            home.commits(offset, number)
            found = await home.replay(id_)
            assert ("running", 6, delivered, None) == (found["state"], found["deliveries"], found["delivered"], found["endedAt"])

    async def test_who_cannot_look_after_replays_any_more_says_so(self, home, monkeypatch):
        """Nothing would ever be done again, and nobody would see why."""
        error, told = ValueError("a fault of ours"), asyncio.Event()

        def broken():
            told.set()
            raise error

        await home.services.replaying.stop()
        monkeypatch.setattr("livehook.api.replaying.WATCH_EVERY_S", 0)
        monkeypatch.setattr(home.services.replaying._records, "running", broken)
        home.services.replaying.start()
        await asyncio.wait_for(told.wait(), 5)
        await home.services.replaying.stop()
        assert error in home.kafka.failures

    async def test_it_is_done_for_good(self, home):
        """Also when the lane goes back again later."""
        home.deliver(10)
        id_ = (await home.asked(from_={"offset": 4}))["id"]
        home.commits(10, home.on_record()[0].number)
        await home.services.replaying.look()
        assert ReplayState.DONE is home.on_record()[0].state
        home.commits(4, home.on_record()[0].number + 1)
        found = await home.replay(id_)
        assert ("done", 6, True) == (found["state"], found["delivered"], found["endedAt"] is not None)
        assert 409 == (await home.client.delete(f"/v1/replays/{id_}")).status_code

    async def test_a_cancelled_one_has_a_number_of_its_own(self, home):
        """For the sinks it is another jump, after all others; cancelling again changes nothing."""
        home.deliver(10)
        id_ = (await home.asked(from_={"offset": 4}))["id"]
        answers = [await home.client.delete(f"/v1/replays/{id_}") for _ in range(2)]
        assert [200, 200] == [answer.status_code for answer in answers]
        assert ("cancelled", answers[0].json()["endedAt"]) == (answers[1].json()["state"], answers[1].json()["endedAt"])
        [replay] = home.on_record()
        assert replay.cancelled > replay.number

    async def test_a_cancelled_one_stays_as_far_as_it_came(self, home):
        """The lane is back where it was, beyond all of the replay: what was answered with 2xx counts."""
        made = home.deliver(10)
        id_ = (await home.asked(from_={"offset": 4}))["id"]
        await home.client.delete(f"/v1/replays/{id_}")
        called = attempt(0, delivery_id=made[4].webhook_id, replay=id_)
        home.kafka._append(Record(TOPICS.attempts.name, b"adults", encode_attempt(called), partition=0))
        home.commits(10, home.on_record()[0].cancelled)
        found = await home.replay(id_)
        assert ("cancelled", 6, 1) == (found["state"], found["deliveries"], found["delivered"])

    async def test_of_several_only_the_last_cancel_leads_on(self, home):
        """Until then the lane still has to go through what the others asked for; then it goes on where it was before the first."""
        home.deliver(10)
        home.commits(9)
        first = (await home.asked(from_={"offset": 4}))["id"]
        home.commits(5)
        second = (await home.asked(from_={"offset": 3}))["id"]
        for id_ in (first, second):
            await home.client.delete(f"/v1/replays/{id_}")
        assert [(0, (9,)), (True, (9,))] == [(one.cancelled and one.cancelled > one.number, one.committed) for one in home.on_record()]

    async def test_nobody_knows_a_replay_that_never_was(self, home):
        """404, for reading and for ending it."""
        assert 404 == (await home.client.get("/v1/replays/rpl_x")).status_code
        assert 404 == (await home.client.delete("/v1/replays/rpl_x")).status_code

    async def test_a_deleted_webhook_takes_its_replays_along(self, home):
        """A webhook of its name later does not go back because of them."""
        home.deliver(10)
        id_ = (await home.asked(from_={"offset": 4}))["id"]
        await home.client.delete("/v1/webhooks/adults")
        assert 404 == (await home.client.get(f"/v1/replays/{id_}")).status_code

    async def test_old_ones_are_forgotten(self, home, monkeypatch):
        """So many that the topic of webhooks stays small; never one that is running."""
        monkeypatch.setattr("livehook.api.replay_records.KEPT_MAX", 3)
        home.deliver(10)
        for number in range(6):
            id_ = (await home.asked(from_={"offset": number}))["id"]
            if number:
                await home.client.delete(f"/v1/replays/{id_}")
        assert [0, 4, 5] == [replay.begin[0] for replay in home.on_record()]

    async def test_nothing_is_answered_before_kafka_has_it(self, home):
        """503: whether it has begun is unknown."""
        home.deliver(10)
        home.kafka.fail_after = 0
        assert 503 == (await home.ask(from_={"offset": 4})).status_code


class TestSelection:
    """A replay with ``until``, ``query``, ``ids`` or ``failed``."""

    @pytest.mark.parametrize(
        ("asked", "numbers"),
        [
            ({"until": {"offset": 3}}, [0, 1, 2]),
            ({"until": {"txnId": 121}}, [0, 1, 2]),
            ({"until": {"time": rfc3339(NOW_US - 57 * MINUTE_US)}}, [0, 1, 2]),
            ({"query": "n >= 8"}, [8, 9]),
            ({"ids": ["d0"]}, [0, 3, 6, 9]),
            ({"ids": ["d0", "d1"], "query": "n > 2", "until": {"offset": 7}}, [3, 4, 6]),
        ],
    )
    async def test_only_those_are_copied_behind_the_lane(self, home, asked, numbers):
        """In order, as many as were counted; the lane itself stays where it is."""
        home.deliver(10)
        home.commits(10)
        counted = await home.asked(from_={"beginning": True}, dryRun=True, **asked)
        answer = await home.asked(from_={"beginning": True}, **asked)
        await home.settled()
        assert (len(numbers), numbers) == (counted["deliveries"], home.copies())
        assert {**counted, "id": answer["id"]} == answer
        assert () == jumps_of(home.on_record())

    async def test_failed_are_those_whose_newest_attempt_has_failed(self, home):
        """Not those that were delivered in the end, nor those that nobody has called for yet."""
        made = home.deliver(4)
        for number, outcome in ((0, Outcome.RETRY), (0, Outcome.DELIVERED), (1, Outcome.DEAD), (2, Outcome.DELIVERED), (2, Outcome.RETRY)):
            at_us = NOW_US - 60_000_000 + len(home.kafka.records(TOPICS.attempts.name))
            tried = attempt(0, outcome=outcome, id=attempt_id(at_us, 1), started_us=at_us, delivery_id=made[number].webhook_id)
            home.kafka._append(Record(TOPICS.attempts.name, b"adults", encode_attempt(tried), partition=0))
        await home.asked(from_={"beginning": True}, failed=True)
        await home.settled()
        assert [1, 2] == home.copies()

    async def test_a_marker_is_not_selected(self, home):
        """It tells of no document."""
        marker = marker_of(home.kafka.registry.webhook("adults").current, Match.INITIALIZING)
        assert not Selection(Selected(), set()).wants(marker)

    async def test_copies_are_not_copied_again(self, home):
        """A second replay of the same range has as many deliveries as the first."""
        home.deliver(5)
        for _ in range(2):
            assert 5 == (await home.asked(from_={"beginning": True}, query="true"))["deliveries"]
            await home.settled()
        assert [*range(5)] * 2 == home.copies()

    @pytest.mark.parametrize("written", range(6))
    async def test_a_job_that_was_cut_off_goes_on(self, home, written):
        """Whatever of it had been written: each delivery has one copy, in order."""
        home.deliver(5)
        home.commits(5)
        home.kafka.fail_after = 1 + written  # the record of the replay, and so many copies
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("livehook.api.selecting.AHEAD_MAX", 1)
            home.kafka.committed[PLACE] = 99, ""
            await home.asked(from_={"beginning": True}, query="true")
            await home.settled()
            assert min(written, 5) == len(home.copies())
            home.kafka.fail_after = None
            await home.services.replaying.look()
            await home.settled()
        assert [*range(5)] == home.copies()
        assert (10,) == home.on_record()[0].committed

    async def test_it_waits_for_the_lane(self, home, monkeypatch):
        """So that what is new does not wait behind all of it; and then a cancel ends it."""
        monkeypatch.setattr("livehook.api.selecting.AHEAD_MAX", 2)
        home.deliver(9)
        home.commits(9)
        id_ = (await home.asked(from_={"beginning": True}, query="true"))["id"]
        await home.until_copied(2)
        home.commits(12)
        await home.until_copied(6)
        cancelled = (await home.client.delete(f"/v1/replays/{id_}")).json()
        await home.settled()
        assert ("cancelled", 6) == (cancelled["state"], len(home.copies()))
        home.commits(15)
        await home.services.replaying.look()
        assert 6 == len(home.copies())

    async def test_lanes_that_do_not_move_do_not_hold_up_the_others(self, home, monkeypatch):
        """Their selections give their places up, and go on when they do move."""
        monkeypatch.setattr("livehook.api.selecting.AHEAD_MAX", 1)
        monkeypatch.setattr("livehook.api.selecting.LOOK_AGAIN_S", 0)
        stalled = [f"a{number}" for number in range(COPYING_MAX)]
        for name in stalled:
            await home.other(name, 3)
        for name in stalled:
            await home.ask_other(name)
        home.deliver(3)
        home.kafka.committed[PLACE] = 99, ""
        await home.asked(from_={"beginning": True}, query="true")
        await home.settled()
        assert ([], [1] * COPYING_MAX) == (home.copies(), [home.copies_of(name) for name in stalled])

        await home.services.replaying.look()
        await home.settled()
        assert ([0, 1, 2], [1] * COPYING_MAX) == (home.copies(), [home.copies_of(name) for name in stalled])

        home.kafka.committed[TOPICS.lane("a0").name, 0] = 99, ""
        for _ in range(2):  # two turns at most until everybody had one
            await home.services.replaying.look()
            await home.settled()
        assert [3, *[1] * (COPYING_MAX - 1)] == [home.copies_of(name) for name in stalled]

    async def test_it_is_done_when_the_lane_has_passed_the_copies(self, home):
        """delivered counts what was answered with 2xx."""
        made = home.deliver(3)
        home.commits(3)
        id_ = (await home.asked(from_={"beginning": True}, ids=["d0", "d1"]))["id"]
        await home.settled()
        tried = attempt(0, delivery_id=made[0].webhook_id, replay=id_)
        home.kafka._append(Record(TOPICS.attempts.name, b"adults", encode_attempt(tried), partition=0))
        assert ("running", 1) == (lambda found: (found["state"], found["delivered"]))(await home.replay(id_))
        home.commits(5)
        await home.services.replaying.look()
        found = await home.replay(id_)
        assert ("done", 2) == (found["state"], found["deliveries"])

    @pytest.mark.parametrize(
        ("asked", "field", "part"),
        [
            ({"until": {"beginning": True}}, "until.beginning", "selects nothing"),
            ({"until": {"offset": 2}}, "until.offset", "lies before from"),
            ({"until": {"offset": 11}}, "until.offset", "must be 0 to 10"),
            ({"until": {"txnId": 999}}, "until.txnId", "the last one is 190"),
            ({"until": {}}, "until", "none of them"),
            ({"query": "n >"}, "query", ""),
            ({"ids": []}, "ids", "is empty"),
            ({"ids": [7]}, "ids[0]", "string"),
            ({"failed": "yes"}, "failed", "true or false"),
            ({"everything": True}, "everything", "no field here"),
        ],
    )
    async def test_what_is_wrong_is_named(self, home, asked, field, part):
        """With what would be right."""
        home.deliver(10)
        errors = await home.refused(from_={"offset": 4}, **asked)
        assert part in errors[field], errors
