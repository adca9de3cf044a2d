"""Replays of what the lane does not keep any more, as docs/reference/http-api.md has them. On a fake Kafka and a real SQLite."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from connectors.webhook.offsets import Start, encode
from connectors.webhook.ownership import jumps_of
from livehook.api.app import create_app
from livehook.api.finishing import Finishing
from livehook.api.snapshots import Snapshots
from livehook.api.testing import NOW_US, FakeKafka, fake_services
from schemas.backfills import BackfillReady, encode_backfill
from schemas.changes import Change
from schemas.deliveries import Delivery, Match
from schemas.positions import Origin
from schemas.records import decode_delivery, encode_change, encode_delivery
from schemas.replays import Replay, ReplayState
from schemas.times import rfc3339
from schemas.topics import Record, Topics
from schemas.webhooks import WebhookRevision
from tests.api import later

TOPICS = Topics(partitions=1)
LANE = TOPICS.lane("adults").name
PLACE = LANE, 0
MINUTE_US = 60_000_000
BEGUN_US = NOW_US - 60 * MINUTE_US


class Home:
    """The webhook ``adults`` (n >= 1), whose lane has lost the first of ten deliveries. Change n happened 60 - n minutes ago."""

    def __init__(self, kafka: FakeKafka, client: httpx.AsyncClient) -> None:
        self.kafka, self.client = kafka, client
        self.services = fake_services(kafka)
        self.backfills = Snapshots(self.services.register, kafka, kafka.failures.append)

    async def make(self, **fields: Any) -> None:
        body = {"collection": "people", "query": "n >= 1", "url": "https://example.com/hook", **fields}
        assert (await self.client.put("/v1/webhooks/adults", json=body)).status_code in (200, 201)

    def happen(self, count: int = 10, *, lost: int = 4) -> None:
        for number in range(count):
            at_us, origin = BEGUN_US + number * MINUTE_US, Origin(0, 0, number + 1)  # behind the mark of the webhook
            body = b'{"_id":"d%d","n":%d}' % (number % 3, number)
            change = Change("people", f"d{number % 3}", at_us, number // 3 + 1, None, body, origin, at_us)
            place = TOPICS.changes.name, 0
            self.kafka.written_us[*place, len(self.kafka.log.get(place, []))] = at_us
            self.kafka._append(Record(place[0], change.key.encode(), encode_change(change), partition=0))
            if number:  # the first one does not match
                self.kafka.written_us[*PLACE, len(self.kafka.log.get(PLACE, []))] = at_us
                value = encode_delivery(Delivery("whk_1", 1, Match.CREATE, change))
                self.kafka._append(Record(LANE, change.key.encode(), value, partition=0))
        self.kafka.removed[PLACE] = lost

    async def ask(self, begin: dict[str, Any], **body: Any) -> dict[str, Any]:
        answer = await self.client.post("/v1/webhooks/adults/replay", json={"from": begin, **body})
        assert (200 if body.get("dryRun") else 202) == answer.status_code, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def replay(self, id_: str) -> dict[str, Any]:
        found: dict[str, Any] = (await self.client.get(f"/v1/replays/{id_}")).json()
        return found

    @property
    def current(self) -> WebhookRevision:
        webhook = self.kafka.registry.webhook("adults")
        assert webhook is not None
        return webhook.current

    def on_record(self) -> list[Replay]:
        return self.kafka.registry.replays(self.current)

    async def settled(self) -> None:
        """Until nothing is copied any more."""
        while tasks := [*self.services.replaying._copies.values()]:
            await asyncio.wait(tasks)

    def copies(self) -> list[int]:
        """The numbers of the deliveries that were copied, in order; each with its id as at first."""
        found = [decode_delivery(record.value or b"") for record in self.kafka.records(LANE)]
        first = {one.change.txn_id: one.webhook_id for one in found if one.replay is None}
        assert all(first[one.change.txn_id] == one.webhook_id for one in found)
        return [(one.change.txn_id - BEGUN_US) // MINUTE_US for one in found if one.replay is not None]

    def written(self) -> None:
        """What the streams put on record once all of the backfill is in the lane."""
        ready = BackfillReady("adults", self.current.backfill or "", (len(self.kafka.log[PLACE]),))
        self.kafka._append(Record(TOPICS.webhooks.name, ready.key.encode(), encode_backfill(ready), partition=0))


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[Home]:
    kafka = FakeKafka(TOPICS, tmp_path / "log.sqlite3")
    services = fake_services(kafka)
    transport = httpx.ASGITransport(create_app(services), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080") as client:
        found = Home(kafka, client)
        found.services, found.backfills = services, Snapshots(services.register, kafka, kafka.failures.append)
        yield found
    kafka.fed.activity.close()


@pytest.mark.parametrize(
    ("begin", "deliveries", "first"),
    [
        ({"beginning": True}, 9, 1),
        ({"time": rfc3339(BEGUN_US)}, 9, 1),
        ({"time": rfc3339(BEGUN_US + 3 * MINUTE_US)}, 7, 3),
        ({"txnId": BEGUN_US + 3 * MINUTE_US + 1}, 6, 4),
    ],
)
async def test_what_the_lane_has_lost_is_counted_in_changes(home, begin, deliveries, first):
    """As the webhook's query sees it; ``from`` is the first delivery of the replay."""
    await home.make()
    home.happen()
    expected = {"id": None, "deliveries": deliveries, "from": {"txnId": BEGUN_US + first * MINUTE_US}, "until": {"offset": 9}}
    assert expected == await home.ask(begin, dryRun=True)
    assert [] == home.on_record()


@pytest.mark.parametrize(
    ("begin", "lost", "offset"), [({"time": rfc3339(BEGUN_US + 6 * MINUTE_US)}, 4, 5), ({"beginning": True}, 0, 0), ({"offset": 4}, 4, 4)]
)
async def test_what_the_lane_keeps_comes_from_the_lane(home, begin, lost, offset):
    """As before."""
    await home.make()
    home.happen(lost=lost)
    assert {"offset": offset} == (await home.ask(begin))["from"]
    [jump] = jumps_of(home.on_record())
    assert (offset,) == jump.to


async def test_a_lane_that_has_lost_everything_is_served_from_changes(home):
    """Its end is no reason to find nothing."""
    await home.make()
    home.happen(lost=9)
    assert 2 == (await home.ask({"time": rfc3339(BEGUN_US + 8 * MINUTE_US)}, dryRun=True))["deliveries"]


async def test_a_webhook_is_sent_nothing_of_before_it(home):
    """A rewind sends again; what happened before ``start`` was never sent."""
    home.happen()
    begin = [Origin(0, 0, 5)]
    made = msgspec.structs.replace(await made_revision(home), since=begin)
    home.kafka._append(home.services.register._record(made))
    assert 6 == (await home.ask({"beginning": True}, dryRun=True))["deliveries"]


async def made_revision(home: Home) -> WebhookRevision:
    await home.make()
    return home.current


async def test_it_becomes_a_revision_that_begins_with_it(home):
    """The lane does not jump; the backfill's number is below 0, so that it is no gap's."""
    await home.make()
    home.happen()
    answer = await home.ask({"beginning": True})
    [replay] = home.on_record()
    assert (answer["id"], 0, ()) == (replay.id, replay.first_txn, replay.committed)
    assert () == jumps_of([replay])
    for _ in range(2):
        await home.backfills.look()
        current = home.current
        assert current.replay is not None
        assert (2, replay.id, "whk_1.-1") == (current.revision, current.replay.id, current.backfill)


async def test_it_is_done_when_the_lane_has_passed_what_was_written(home):
    """Running until the streams have put all of it into the lane, and the sink has gone over that."""
    await home.make()
    home.happen()
    id_ = (await home.ask({"beginning": True}))["id"]
    await home.backfills.look()
    home.kafka.committed[PLACE] = 99, encode("whk_1", Start(99))
    await home.services.replaying.look()
    found = await home.replay(id_)
    assert ("running", 9, 0) == (found["state"], found["deliveries"], found["delivered"])
    home.written()
    for _ in range(2):
        await home.services.replaying.look()
    assert "done" == (await home.replay(id_))["state"]


async def test_how_far_replays_are_is_a_metric(home):
    """As long as one is running."""
    await home.make()
    home.happen()
    ids = [(await home.ask(begin))["id"] for begin in ({"beginning": True}, {"offset": 5})]
    await home.services.replaying.look()
    labels = {"webhook": "adults"}

    def shown() -> list[float | None]:
        return [home.services.metrics.get_sample_value(f"livehook_replay_{name}", labels) for name in ("deliveries", "left")]

    assert [9 + 4, 9 + 4] == shown()
    home.kafka.committed[PLACE] = 7, encode("whk_1", Start(7, rewind=home.on_record()[1].number))
    await home.services.replaying.look()
    assert [9 + 4, 9 + 2] == shown()
    for id_ in ids:
        await home.client.delete(f"/v1/replays/{id_}")
    await home.services.replaying.look()
    assert [None, None] == shown()


async def test_a_second_one_waits_for_the_first(home):
    """Also one that is asked for while the first one is written; each begins with a revision and a number of its own."""
    await home.make()
    home.happen()
    ids = [(await home.ask({"beginning": True}))["id"] for _ in range(2)]
    for id_, backfill in zip(ids, ("whk_1.-1", "whk_1.-2"), strict=True):
        for _ in range(2):
            await home.backfills.look()
            assert home.current.replay is not None
            assert (id_, backfill) == (home.current.replay.id, home.current.backfill)
        home.written()


async def test_one_that_was_cancelled_before_it_began_never_begins(home):
    """Nor does it lead the lane anywhere."""
    await home.make()
    home.happen()
    id_ = (await home.ask({"beginning": True}))["id"]
    assert "cancelled" == (await home.client.delete(f"/v1/replays/{id_}")).json()["state"]
    await home.backfills.look()
    assert (1, None) == (home.current.revision, home.current.replay)
    assert ReplayState.CANCELLED is home.on_record()[0].state
    assert () == jumps_of(home.on_record())


async def test_a_start_in_the_past_comes_first(home):
    """Its backfill has not ended: what follows would come before it."""
    await home.make(start="beginning")
    home.happen()
    await home.ask({"beginning": True})
    await home.backfills.look()
    assert 1 == home.current.revision
    home.written()
    await home.backfills.look()
    assert 2 == home.current.revision


async def test_an_edit_keeps_what_is_under_way(home):
    """The next revision has the same backfill."""
    await home.make()
    home.happen()
    await home.ask({"beginning": True})
    await home.backfills.look()
    await home.make(query="n >= 2")
    assert (3, "whk_1.-1") == (home.current.revision, home.current.backfill)


async def test_another_api_finishes_what_one_that_died_has_begun(home: Home) -> None:
    """Its marks may have ended the live flow, and no API may start for long."""
    await home.make()
    home.happen()
    await home.ask({"beginning": True})
    home.kafka.fail_after = 1  # the revision is on record, its marks are not
    await home.backfills.look()
    home.kafka.fail_after = None
    register = fake_services(home.kafka, ticks=later()).register
    told: list[bool] = []
    register.on_unfinished = lambda: told.append(True)
    await Snapshots(register, home.kafka, home.kafka.failures.append).look()
    assert [True] == told
    async with asyncio.timeout(5):
        await Finishing(register, home.kafka.failures.append, every_s=0).run()
    assert home.current.replaying is not None
    assert [] == home.kafka.failures


async def test_what_a_crash_cut_off_is_begun_by_the_next_api(home):
    """The record of the replay is all that has to survive."""
    await home.make()
    home.happen()
    await home.ask({"beginning": True})
    home.kafka.fail_after = 1  # the revision is on record, its marks are not
    await home.backfills.look()
    home.kafka.fail_after = None
    assert home.current.replay is None
    await home.backfills.look()
    assert home.current.replay is not None


@pytest.mark.parametrize(
    ("asked", "numbers"),
    [
        ({"query": "n >= 8"}, [8, 9]),
        ({"ids": ["d0"]}, [3, 6, 9]),
        ({"until": {"txnId": BEGUN_US + 3 * MINUTE_US}}, [1, 2]),
        ({"until": {"time": rfc3339(BEGUN_US + 5 * MINUTE_US)}, "query": "n > 2"}, [3, 4]),
    ],
)
async def test_a_selection_goes_back_as_far(home, asked, numbers):
    """Copied from ``changes``, with the ids of the first time, as many as were counted; no backfill is begun."""
    await home.make()
    home.happen()
    home.kafka.committed[PLACE] = 99, encode("whk_1", Start(99))
    counted = await home.ask({"beginning": True}, dryRun=True, **asked)
    answer = await home.ask({"beginning": True}, **asked)
    await home.settled()
    assert {**counted, "id": answer["id"]} == answer
    assert len(numbers) == counted["deliveries"]
    assert (BEGUN_US + numbers[0] * MINUTE_US, BEGUN_US + numbers[-1] * MINUTE_US) == (
        counted["from"]["txnId"], counted["until"]["txnId"] - 1
    )  # fmt: skip
    assert numbers == home.copies()
    await home.backfills.look()
    assert home.current.replay is None


@pytest.mark.parametrize("written", range(4))
async def test_a_selection_that_was_cut_off_goes_on(home, monkeypatch, written):
    """Whatever of it had been written: each delivery has one copy, in order."""
    monkeypatch.setattr("livehook.api.selecting.AHEAD_MAX", 1)
    await home.make()
    home.happen()
    home.kafka.committed[PLACE] = 99, encode("whk_1", Start(99))
    home.kafka.fail_after = 1 + written  # the record of the replay, and so many copies
    await home.ask({"beginning": True}, ids=["d0"])
    await home.settled()
    home.kafka.fail_after = None
    await home.services.replaying.look()
    await home.settled()
    assert [3, 6, 9] == home.copies()


@pytest.mark.parametrize(
    ("until", "field", "part"),
    [
        ({"offset": 7}, "until.offset", "must be a time or a txnId"),
        ({"txnId": BEGUN_US - 1}, "until.txnId", "lies before from"),
        ({"time": rfc3339(BEGUN_US - 1)}, "until.time", "lies before from"),
    ],
)
async def test_an_until_that_cannot_be_found_in_changes_is_refused(home, until, field, part):
    """An offset is a place of the lane alone."""
    await home.make()
    home.happen()
    body = {"from": {"time": rfc3339(BEGUN_US)}, "until": until}
    problem = (await home.client.post("/v1/webhooks/adults/replay", json=body)).json()
    assert (422, field) == (problem["status"], problem["errors"][0]["field"])
    assert part in problem["errors"][0]["message"]
