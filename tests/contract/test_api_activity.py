"""Attempts, resends and dead letters as docs/reference/http-api.md has them. On a fake Kafka and a real SQLite."""

from __future__ import annotations

import itertools
import json
import tracemalloc

import httpx
import msgspec
import pytest

from livehook.api import resend
from livehook.api.app import create_app
from livehook.api.testing import NOW_US, FakeKafka, fake_services
from schemas.attempts import Outcome
from schemas.changes import Change
from schemas.dead_letters import CONTROL_KEY, Claim, Settled, encode_control
from schemas.deliveries import Delivery, Match
from schemas.markers import marker_of
from schemas.mutations import Method, Mutation
from schemas.positions import Origin
from schemas.records import decode_delivery, encode_attempt, encode_delivery, encode_mutation
from schemas.topics import Record, Topics
from tests.activity import START_US, attempt

TOPICS = Topics(partitions=4)
LANE = TOPICS.lane("adults").name
KEY = b"people/a"


class Home:
    """A fake Kafka with the webhook ``adults``, an API on it, and hands to write what the roles would write."""

    def __init__(self, kafka, client):
        self.kafka, self.client = kafka, client

    async def append(self, topic, key, value, headers=(), partition=0):
        [offset] = await self.kafka.send([Record(topic, key, value, headers, partition=partition)])
        return offset

    async def delivered(self, version, *, document="a", outcome=Outcome.DELIVERED, replay=None, uid="whk_1"):
        """A delivery in the lane, and the attempt for it."""
        key = f"people/{document}"
        change = Change("people", document, version, version, None, b'{"n":%d}' % version, Origin(0, 0, version), 1)
        made = Delivery(uid, 1, Match.UPDATE, change, replay=replay)
        offset = await self.append(LANE, key.encode(), encode_delivery(made))
        tried = attempt(offset, document=key, version=version, outcome=outcome, delivery_id=made.webhook_id, replay=replay)
        await self.attempted(tried)
        return tried

    async def attempted(self, *attempts):
        for one in attempts:
            await self.append(TOPICS.attempts.name, one.webhook.encode(), encode_attempt(one))

    async def dead(self, value, *, key=KEY, source="livehook.mutations/1/7", reason="invalid"):
        """A dead letter; its id."""
        headers = [("reason", reason.encode()), ("detail", b"it was wrong"), ("source", source.encode())]
        return f"0-{await self.append(TOPICS.dead_letters.name, key, value, headers)}"

    def copies(self):
        """Document, version and replay of what was appended to the lane as a copy."""
        deliveries = [decode_delivery(record.value) for record in self.kafka.records(LANE)]
        return [(one.change.id, one.change.version, one.replay) for one in deliveries if one.replay is not None]

    def lane_goes_after(self, looks, monkeypatch):
        """Somebody deletes the webhook when the ends of its lane were asked for so often."""
        ends, asked = self.kafka.ends, itertools.count(1)

        async def going(partitions):
            return await ends(partitions) if next(asked) <= looks else {}

        monkeypatch.setattr(self.kafka, "ends", going)

    async def post(self, path, body=None):
        return await self.client.post(path, json={} if body is None else body)


@pytest.fixture
async def home(tmp_path):
    kafka = FakeKafka(TOPICS, tmp_path / "log.sqlite3")
    transport = httpx.ASGITransport(create_app(fake_services(kafka)), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080") as client:
        await client.put("/v1/webhooks/adults", json={"collection": "people", "url": "https://example.com/hook"})
        yield Home(kafka, client)
    kafka.fed.activity.close()


def problem(answer, status, code):
    body = answer.json()
    assert (status, code) == (answer.status_code, body["code"]), body
    return body


class TestAttempts:
    """``GET /v1/attempts``."""

    async def test_the_list_has_no_bodies_and_one_has_all(self, home):
        """Newest first; ``request`` and ``response`` in the single answer."""
        await home.attempted(attempt(0), attempt(1, outcome=Outcome.RETRY))
        listed = (await home.client.get("/v1/attempts")).json()
        assert [attempt(1).id, attempt(0).id] == [item["id"] for item in listed["items"]]
        assert (None, set()) == (listed["nextCursor"], {"request", "response"} & listed["items"][0].keys())

        one = (await home.client.get(f"/v1/attempts/{attempt(1).id}")).json()
        assert listed["items"][0] == {name: value for name, value in one.items() if name not in ("request", "response")}
        assert ("retry", 503, "status", "Busy") == (one["outcome"], one["status"], one["error"]["code"], one["response"]["body"])

    async def test_cursors_lead_through_all(self, home):
        """Each once, however small the pages are."""
        await home.attempted(*[attempt(number) for number in range(5)])
        ids: list[str] = []
        cursor = ""
        while cursor is not None:
            page = (await home.client.get("/v1/attempts", params={"limit": 2, "cursor": cursor})).json()
            ids, cursor = ids + [item["id"] for item in page["items"]], page["nextCursor"]
        assert [attempt(number).id for number in (4, 3, 2, 1, 0)] == ids

    @pytest.mark.parametrize(
        ("query", "expected"),
        [
            ("outcome=failed", {1, 2}),
            ("outcome=dead", {2}),
            ("webhook=cars", {2}),
            ("status=503", {1, 2}),
            ("document=people/3", {3}),
            ("q=BUSY", {1, 2}),
            ("since=2026-09-21T14:13:22Z", {2, 3}),
            ("until=2026-09-21T16:13:22%2B02:00", {0, 1}),
            ("since=1d", {0, 1, 2, 3}),
            ("since=365d&outcome=failed&webhook=adults", {1}),
        ],
    )
    async def test_filters(self, home, query, expected):
        """Times are RFC 3339 or how long ago."""
        made = [attempt(0), attempt(1, outcome=Outcome.RETRY), attempt(2, outcome=Outcome.DEAD, webhook="cars"), attempt(3)]
        await home.attempted(*made)
        listed = (await home.client.get(f"/v1/attempts?{query}")).json()
        assert {made[number].id for number in expected} == {item["id"] for item in listed["items"]}

    @pytest.mark.parametrize(
        ("query", "field"),
        [
            ("outcome=lost", "outcome"),
            ("since=yesterday", "since"),
            ("until=2026-01-01", "until"),
            ("document=people", "document"),
            ("status=teapot", "status"),
            ("webhook=Not a name", "webhook"),
            (f"q={'x' * 201}", "q"),
            ("limit=0", "limit"),
            ("cursor=nonsense", "cursor"),
            ("outcom=dead", "outcom"),
        ],
    )
    async def test_what_is_wrong_is_named(self, home, query, field):
        """422, with the field."""
        assert [field] == [error["field"] for error in problem(await home.client.get(f"/v1/attempts?{query}"), 422, "invalid")["errors"]]

    @pytest.mark.parametrize("id_", ["att_1", attempt(7).id, "nonsense"])
    async def test_an_unknown_one_is_not_found(self, home, id_):
        """404, also to resend it."""
        problem(await home.client.get(f"/v1/attempts/{id_}"), 404, "not-found")
        problem(await home.post(f"/v1/attempts/{id_}/resend"), 404, "not-found")

    async def test_following_shows_each_as_it_comes(self, home):
        """From now on, in the order in which they come; filters hold; the cursor of another process begins anew."""

        async def followed(cursor, **filters):
            page = (await home.client.get("/v1/attempts", params={"follow": cursor, **filters})).json()
            return [item["id"] for item in page["items"]], page["nextCursor"]

        await home.attempted(attempt(0))
        ids, cursor = await followed("now")
        assert [] == ids
        await home.attempted(attempt(9), attempt(3, outcome=Outcome.RETRY))
        assert ([attempt(9).id, attempt(3).id], True) == ((found := await followed(cursor))[0], found[1] != cursor)
        assert [attempt(3).id] == (await followed(cursor, outcome="failed"))[0]
        assert [] == (await followed(found[1]))[0] == (await followed("other.0"))[0]
        assert found[1] == (await followed(f"{cursor.partition('.')[0]}.{'9' * 5_000}"))[1]

    async def test_without_a_database_it_says_so(self):
        """503; the rest of the API works."""
        transport = httpx.ASGITransport(create_app(fake_services(FakeKafka(TOPICS))), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080") as client:
            problem(await client.get("/v1/attempts"), 503, "unavailable")
            assert 200 == (await client.get("/v1/webhooks")).status_code


class TestResend:
    """``POST /v1/attempts/{id}/resend`` and ``/v1/attempts/resend``."""

    async def test_all_later_ones_go_along(self, home):
        """In order, of this document alone; the lane's end is behind the copies."""
        tried = [await home.delivered(version) for version in (1, 2)]
        await home.delivered(1, document="b")
        await home.delivered(3)
        answer = await home.post(f"/v1/attempts/{tried[1].id}/resend")

        assert 202 == answer.status_code
        assert {"id": "rpl_1", "deliveries": 2, "from": {"offset": 1}, "until": {"offset": 4}} == answer.json()
        assert [("a", 2, "rpl_1"), ("a", 3, "rpl_1")] == home.copies()

    async def test_a_copy_has_the_same_webhook_id(self, home):
        """Only its replay is another."""
        tried = await home.delivered(1)
        await home.post(f"/v1/attempts/{tried.id}/resend")
        first, copy = [decode_delivery(record.value) for record in home.kafka.records(LANE)]
        assert msgspec.structs.replace(first, replay="rpl_1") == copy
        assert tried.delivery_id == copy.webhook_id

    async def test_only_the_one(self, home):
        """If that is asked for."""
        tried = [await home.delivered(version) for version in (1, 2)]
        answer = (await home.post(f"/v1/attempts/{tried[0].id}/resend", {"only": True})).json()
        assert (1, [("a", 1, "rpl_1")]) == (answer["deliveries"], home.copies())

    async def test_what_comes_meanwhile_is_copied_behind(self, home, monkeypatch):
        """A live delivery between the end that was read and the copies: the receiver must not end on an older one."""
        tried = await home.delivered(1)
        send, live = home.kafka.send, iter([2, 3])

        async def overtaken(records):
            if records[0].topic == LANE and (version := next(live, None)) is not None:
                monkeypatch.setattr(home.kafka, "send", send)
                await home.delivered(version)
                monkeypatch.setattr(home.kafka, "send", overtaken)
            return await send(records)

        monkeypatch.setattr(home.kafka, "send", overtaken)
        answer = (await home.post(f"/v1/attempts/{tried.id}/resend")).json()
        lane = [decode_delivery(record.value).change.version for record in home.kafka.records(LANE)]
        assert (3, [1, 2, 1, 3, 2, 3]) == (answer["deliveries"], lane)

    async def test_an_attempt_for_a_copy_finds_the_later_ones(self, home):
        """They may stand before the copy."""
        tried = [await home.delivered(version) for version in (1, 2)]
        await home.post(f"/v1/attempts/{tried[0].id}/resend", {"only": True})
        copied = attempt(9, document="people/a", version=1, offset="2", replay="rpl_1")
        await home.attempted(copied)
        answer = (await home.post(f"/v1/attempts/{copied.id}/resend")).json()
        assert (2, [("a", 1, "rpl_2"), ("a", 2, "rpl_2")]) == (answer["deliveries"], home.copies()[1:])

    async def test_many_by_filters(self, home):
        """Each delivery once, though several attempts for it were selected; a dry run only counts."""
        tried = [(1, "a", Outcome.DELIVERED), (1, "b", Outcome.DEAD), (2, "b", Outcome.RETRY), (1, "c", Outcome.RETRY)]
        for version, document, outcome in tried:
            await home.delivered(version, document=document, outcome=outcome)
        counted = await home.post("/v1/attempts/resend", {"outcome": "failed", "dryRun": True})
        assert (200, None, 3, []) == (counted.status_code, counted.json()["id"], counted.json()["deliveries"], home.copies())
        sent = await home.post("/v1/attempts/resend", {"outcome": "failed"})
        assert (202, 3) == (sent.status_code, sent.json()["deliveries"])
        assert ["b", "b", "c"] == [document for document, _, _ in home.copies()]

    async def test_nothing_selected_is_nothing_sent(self, home):
        """And has no id."""
        answer = await home.post("/v1/attempts/resend", {"webhook": "adults"})
        assert (202, None, 0) == (answer.status_code, answer.json()["id"], answer.json()["deliveries"])

    async def test_too_many_are_refused(self, home, monkeypatch):
        """With what to do."""
        monkeypatch.setattr(resend, "RESENT_MAX", 1)
        for version in (1, 2):
            await home.delivered(version)
        assert "since and until" in problem(await home.post("/v1/attempts/resend", {}), 422, "invalid")["detail"]

    @pytest.mark.parametrize(
        ("made", "why"),
        [
            (attempt(50, test=True, offset=""), "it was a test"),
            (attempt(50, offset="40"), "holds the delivery"),
            (attempt(50, offset="backwards"), "no place in the lane"),
        ],
    )
    async def test_what_cannot_be_resent_says_why(self, home, made, why):
        """409."""
        await home.attempted(made)
        assert why in problem(await home.post(f"/v1/attempts/{made.id}/resend"), 409, "conflict")["detail"]

    async def test_a_lane_that_goes_meanwhile_is_told(self, home, monkeypatch):
        """409, as when it had gone before."""
        tried = await home.delivered(1)
        home.lane_goes_after(1, monkeypatch)
        problem(await home.post(f"/v1/attempts/{tried.id}/resend"), 409, "conflict")

    async def test_deliveries_of_an_earlier_webhook_stay(self, home):
        """The same name was made again: its receiver may be another one."""
        tried = await home.delivered(1, uid="whk_0")
        problem(await home.post(f"/v1/attempts/{tried.id}/resend"), 409, "conflict")
        await home.client.delete("/v1/webhooks/adults")
        problem(await home.post(f"/v1/attempts/{tried.id}/resend"), 404, "not-found")

    async def test_its_progress(self, home):
        """Running until each delivery is delivered or given up."""
        tried = await home.delivered(1)
        id_ = (await home.post(f"/v1/attempts/{tried.id}/resend")).json()["id"]
        running = (await home.client.get(f"/v1/replays/{id_}")).json()
        await home.attempted(attempt(60, replay=id_, delivery_id=tried.delivery_id))
        done = (await home.client.get(f"/v1/replays/{id_}")).json()
        assert ("adults", "running", 1, 0, None) == tuple(
            running[name] for name in ("webhook", "state", "deliveries", "delivered", "endedAt")
        )
        assert ("done", 1, "2026-09-21T14:14:20.001500Z") == (done["state"], done["delivered"], done["endedAt"])
        problem(await home.client.get("/v1/replays/rpl_99"), 404, "not-found")


MUTATION = b'{"method":"insert"}'


class TestDeadLetters:
    """``/v1/dead-letters``."""

    async def test_list_and_show(self, home):
        """Key, value, reason, detail, source; a value that is no JSON in base64."""
        first = await home.dead(MUTATION)
        second = await home.dead(b"\xff\x00", reason="undecodable")
        listed = (await home.client.get("/v1/dead-letters")).json()
        assert [second, first] == [item["id"] for item in listed["items"]]
        expected = {
            "id": first,
            "at": "2026-09-21T14:13:20.000000Z", "reason": "invalid", "detail": "it was wrong", "source": "livehook.mutations/1/7",
            "webhook": None, "key": "people/a", "value": {"method": "insert"}, "valueTruncated": False,
        }  # fmt: skip
        assert expected == listed["items"][1] == (await home.client.get(f"/v1/dead-letters/{first}")).json()
        assert (None, "/wA=") == (listed["items"][0]["value"], listed["items"][0]["valueBase64"])

    async def test_avro_is_shown_as_json(self, home):
        """A mutation, and a delivery with the webhook that it was for."""
        await home.dead(encode_mutation(Mutation(Method.UPSERT, "people", "a", b'{"_id":"a"}')))
        change = Change("people", "a", 5, 2, None, b'{"_id":"a"}', Origin(0, 0, 1), 1)
        delivery = Delivery("whk_1", 1, Match.CREATE, change)
        await home.dead(encode_delivery(delivery), source=f"{LANE}/0/3", reason="exhausted")
        items = (await home.client.get("/v1/dead-letters")).json()["items"]
        assert {"method": "upsert", "collection": "people", "id": "a", "value": {"_id": "a"}} == items[1]["value"]
        shown = {"deliveryId": delivery.webhook_id, "match": "create", "txnId": 5, "version": 2, "oldValue": None, "newValue": {"_id": "a"}}
        assert ("adults", shown) == (items[0]["webhook"], items[0]["value"])

    @pytest.mark.parametrize(
        ("query", "field"), [("reason=bad", "reason"), ("since=x", "since"), ("cursor=x", "cursor"), ("source=x", "source")]
    )
    async def test_what_is_wrong_is_named(self, home, query, field):
        """422, with the field."""
        problem(await home.client.get(f"/v1/dead-letters?{query}"), 422, "invalid")
        assert field in (await home.client.get(f"/v1/dead-letters?{query}")).text

    async def test_discarded_is_gone(self, home):
        """204, then 404; the letter itself stays in its topic."""
        id_ = await home.dead(MUTATION)
        assert 204 == (await home.client.delete(f"/v1/dead-letters/{id_}")).status_code
        problem(await home.client.delete(f"/v1/dead-letters/{id_}"), 404, "not-found")
        assert MUTATION == home.kafka.records(TOPICS.dead_letters.name)[0].value

    async def test_a_mutation_goes_back(self, home):
        """Key and value untouched, to the partition of its key, naming the letter."""
        id_ = await home.dead(MUTATION)
        before = len(home.kafka.records(TOPICS.mutations.name))
        answer = await home.post(f"/v1/dead-letters/{id_}/redrive")
        assert (202, [id_]) == (answer.status_code, answer.json()["redriven"])
        [record] = [one for one in home.kafka.records(TOPICS.mutations.name) if one.headers]
        assert before + 1 == len(home.kafka.records(TOPICS.mutations.name))
        assert (KEY, MUTATION, [("livehook-redrive", id_.encode())]) == (record.key, record.value, list(record.headers))
        problem(await home.post(f"/v1/dead-letters/{id_}/redrive"), 404, "not-found")

    async def test_a_delivery_goes_to_its_lane_with_all_later_ones(self, home):
        """Also when the lane holds it no more."""
        change = Change("people", "a", 1, 1, None, b"{}", Origin(0, 0, 1), 1)
        id_ = await home.dead(encode_delivery(Delivery("whk_1", 1, Match.CREATE, change)), source=f"{LANE}/0/0", reason="exhausted")
        for version in (2, 3):
            await home.delivered(version)
        assert 202 == (await home.post(f"/v1/dead-letters/{id_}/redrive")).status_code
        assert [1, 2, 3] == [version for _, version, _ in home.copies()]
        assert 1 == len({replay for _, _, replay in home.copies()})

    async def test_a_marker_goes_to_its_lane(self, home):
        """It has no version to tell it by, and may stand in the lane no more."""
        marker = marker_of(home.kafka.registry.webhook("adults").current, Match.INITIALIZING)
        id_ = await home.dead(encode_delivery(marker), key=marker.change.key.encode(), source=f"{LANE}/0/0", reason="exhausted")
        assert 202 == (await home.post(f"/v1/dead-letters/{id_}/redrive")).status_code
        assert [("initializing", 0)] == [copy[:2] for copy in home.copies()]

    async def test_many_by_filters(self, home):
        """Oldest first; what cannot be redriven is told and left."""
        ids = [await home.dead(MUTATION), await home.dead(b"x", source="nowhere"), await home.dead(MUTATION, key=b"people/b")]
        answer = (await home.post("/v1/dead-letters/redrive", {"reason": "invalid"})).json()
        assert ([ids[0], ids[2]], [ids[1]], None) == (answer["redriven"], [one["id"] for one in answer["left"]], answer["nextCursor"])
        assert [ids[1]] == [item["id"] for item in (await home.client.get("/v1/dead-letters")).json()["items"]]

    async def test_many_are_not_held_in_memory_at_once(self, home):
        """Each may be as large as a record of Kafka."""
        size, count = 400_000, 8
        for _ in range(count):
            await home.dead(b"x" * size, source="nowhere")
        tracemalloc.start()
        try:
            answer = (await home.post("/v1/dead-letters/redrive", {"reason": "invalid"})).json()
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert count == len(answer["left"])
        assert peak < count * size / 2

    @pytest.mark.parametrize("steps", [0, 1, 2])
    async def test_a_crash_repeats_nothing(self, home, steps):
        """Between any two steps: within a minute nobody else begins, and whoever does later finds what was written."""
        id_ = await home.dead(MUTATION)
        home.kafka.fail_after = steps
        broken = await home.post(f"/v1/dead-letters/{id_}/redrive")
        assert 503 == broken.status_code
        home.kafka.fail_after = None
        if steps:
            assert "already" in problem(await home.post(f"/v1/dead-letters/{id_}/redrive"), 409, "conflict")["detail"]
            await self._age_claim(home, id_)
        assert 202 == (await home.post(f"/v1/dead-letters/{id_}/redrive")).status_code
        assert 1 == len([one for one in home.kafka.records(TOPICS.mutations.name) if one.headers])

    @pytest.mark.parametrize("steps", [1, 2, 3])
    async def test_a_crash_repeats_no_delivery(self, home, steps):
        """Copies that are in the lane already are not written again; the others are."""
        change = Change("people", "a", 1, 1, None, b"{}", Origin(0, 0, 1), 1)
        id_ = await home.dead(encode_delivery(Delivery("whk_1", 1, Match.CREATE, change)), source=f"{LANE}/0/0", reason="exhausted")
        for version in (2, 3):
            await home.delivered(version)
        home.kafka.fail_after = steps
        assert 503 == (await home.post(f"/v1/dead-letters/{id_}/redrive")).status_code
        home.kafka.fail_after = None
        await self._age_claim(home, id_)
        assert 202 == (await home.post(f"/v1/dead-letters/{id_}/redrive")).status_code
        assert [1, 2, 3] == [version for _, version, _ in home.copies()]

    @pytest.mark.parametrize("looks", [0, 1, 2])
    async def test_a_lane_that_goes_meanwhile_leaves_the_letter(self, home, monkeypatch, looks):
        """409, and it is listed."""
        change = Change("people", "a", 1, 1, None, b"{}", Origin(0, 0, 1), 1)
        id_ = await home.dead(encode_delivery(Delivery("whk_1", 1, Match.CREATE, change)), source=f"{LANE}/0/0", reason="exhausted")
        await home.delivered(2)
        home.lane_goes_after(looks, monkeypatch)
        assert "any more" in problem(await home.post(f"/v1/dead-letters/{id_}/redrive"), 409, "conflict")["detail"]
        assert 200 == (await home.client.get(f"/v1/dead-letters/{id_}")).status_code

    async def test_a_topic_that_is_gone_when_a_redrive_goes_on_leaves_the_letter(self, home, monkeypatch):
        """Whether the one that was cut off had written it is not to be found out."""
        id_ = await home.dead(MUTATION)
        home.kafka.fail_after = 2  # it is written, but not settled
        await home.post(f"/v1/dead-letters/{id_}/redrive")
        home.kafka.fail_after = None
        await self._age_claim(home, id_)
        home.lane_goes_after(1, monkeypatch)
        assert "any more" in problem(await home.post(f"/v1/dead-letters/{id_}/redrive"), 409, "conflict")["detail"]

    async def _age_claim(self, home, id_):
        """Make the claim on record two minutes older, as if that time had passed."""
        claims = [json.loads(record.value) for record in home.kafka.records(TOPICS.dead_letters.name) if record.key == CONTROL_KEY]
        first = next(claim for claim in claims if claim["type"] == "claim")
        with home.kafka.fed.activity._database.writing() as session:
            aged = msgspec.json.encode(msgspec.convert({**first, "atUs": first["atUs"] - 120_000_000}, Claim)).decode()
            session.run("UPDATE dead_letters SET claim = ? WHERE place_offset = ?", (aged, int(id_.split("-")[1])))

    async def test_who_is_not_first_leaves_it(self, home):
        """The claim of another process came before ours."""
        id_ = await home.dead(MUTATION)
        other = Claim(id_, "other", TOPICS.mutations.name, 0, 0, NOW_US)
        await home.append(TOPICS.dead_letters.name, CONTROL_KEY, encode_control(other))
        problem(await home.post(f"/v1/dead-letters/{id_}/redrive"), 409, "conflict")
        await home.append(TOPICS.dead_letters.name, CONTROL_KEY, encode_control(Settled(id_, "redriven", START_US)))
        problem(await home.post(f"/v1/dead-letters/{id_}/redrive"), 404, "not-found")
