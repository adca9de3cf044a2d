"""Two processes that serve the API at once. On a fake Kafka."""

import asyncio
import itertools

import httpx
import msgspec
import pytest

from livehook.api.app import create_app
from livehook.api.finishing import Finishing
from livehook.api.register import UNDER_WAY_US
from livehook.api.testing import NOW_US, fake_services
from schemas.mutations import MARK_KEY
from schemas.positions import Origin
from schemas.records import encode_revision
from schemas.topics import Record
from tests.api import DOCUMENTS, LANE, TOPICS, WEBHOOK, client, later, problem


class TestTwoApis:
    """Several processes may serve the API."""

    async def test_a_put_does_not_drop_the_lane_that_another_api_has_just_made(self, api, kafka, monkeypatch):
        """What another API wrote while it looked for the lane of a former life is known before anything goes."""
        existing = kafka.existing

        async def slow(names):
            monkeypatch.setattr(kafka, "existing", existing)
            assert 201 == (await api.put("/v1/webhooks/adults", json=WEBHOOK)).status_code
            return await existing(names)

        monkeypatch.setattr(kafka, "existing", slow)
        async with client(kafka) as other:
            assert 200 == (await other.put("/v1/webhooks/adults", json=WEBHOOK)).status_code

        assert "delete livehook.deliveries.adults" not in kafka.calls

    async def test_the_since_that_was_answered_stays(self, api, kafka, monkeypatch):
        """An API that starts does not mark again what another one is just marking, even when its own marks come in later."""
        send, answered = kafka.send, asyncio.Event()
        starts: list[asyncio.Task[bool]] = []

        async def slow(records):
            is_marking = records[0].key == MARK_KEY
            if is_marking and starts:
                await answered.wait()
            offsets = await send(records)
            if is_marking and not starts:
                starts.append(asyncio.create_task(fake_services(kafka).register.finish()))
                await asyncio.sleep(0)
            return offsets

        monkeypatch.setattr(kafka, "send", slow)
        assert 201 == (await api.put("/v1/webhooks/adults", json=WEBHOOK)).status_code
        await api.post(DOCUMENTS, json={"_id": "accepted after the answer"})
        answered.set()
        await asyncio.gather(*starts)

        assert {0} == {origin.offset for origin in kafka.registry.webhook("adults").current.since}

    async def test_who_finishes_a_revision_late_leaves_the_since_that_was_answered(self, api, kafka, monkeypatch):
        """Its clock may be ahead: it looks again once it has its own marks."""
        kafka.fail_after = 1
        problem(await api.put("/v1/webhooks/adults", json=WEBHOOK), 503, "unavailable")
        kafka.fail_after = None
        since = [Origin(0, partition, 7) for partition in range(4)]
        send = kafka.send

        async def slow(records):
            offsets = await send(records)
            if records[0].key == MARK_KEY:
                answered = msgspec.structs.replace(kafka.registry.newest("adults"), since=since)
                await send([Record("livehook.webhooks", answered.key.encode(), encode_revision(answered), partition=0)])
            return offsets

        monkeypatch.setattr(kafka, "send", slow)
        assert await fake_services(kafka, ticks=later()).register.finish()

        assert since == kafka.registry.webhook("adults").current.since

    @pytest.mark.parametrize("is_fresh", [False, True])
    async def test_who_stood_still_for_a_minute_takes_nothing_for_left(self, api, kafka, monkeypatch, is_fresh):
        """Neither what another API was at before, nor what one has begun just now."""
        times = [NOW_US]
        register = fake_services(kafka, ticks=(times[-1] for _ in itertools.count())).register

        async def begin():
            kafka.fail_after = 1
            problem(await api.put("/v1/webhooks/adults", json=WEBHOOK), 503, "unavailable")
            kafka.fail_after = None
            revision = msgspec.structs.replace(kafka.registry.newest("adults"), updated_us=times[-1])
            await kafka.send([Record("livehook.webhooks", revision.key.encode(), encode_revision(revision), partition=0)])

        async def slow():
            if len(times) == 2:  # the look before it takes the webhook up
                times.append(NOW_US + UNDER_WAY_US + 1_000)
                if is_fresh:
                    await begin()
            else:
                times.append(times[-1])

        await begin()
        monkeypatch.setattr(kafka, "catch_up", slow)
        marks = len(kafka.records("livehook.mutations"))
        assert not await register.finish()
        assert times[:3] == [NOW_US, NOW_US, NOW_US + UNDER_WAY_US + 1_000]
        assert marks == len(kafka.records("livehook.mutations"))
        assert kafka.registry.webhook("adults") is None

    async def test_who_is_late_to_finish_does_not_undo_what_another_has_finished(self, api, kafka, monkeypatch):
        """Its marks do no harm, and the webhook is there all the time."""
        kafka.fail_after = 1
        problem(await api.put("/v1/webhooks/adults", json=WEBHOOK), 503, "unavailable")
        kafka.fail_after = None
        send, others, finished = kafka.send, iter([fake_services(kafka, ticks=later()).register]), False

        async def slow(records):
            nonlocal finished
            for other in others:
                finished = await other.finish()
            offsets = await send(records)
            assert not finished or kafka.registry.webhook("adults") is not None
            return offsets

        monkeypatch.setattr(kafka, "send", slow)
        assert await fake_services(kafka, ticks=later()).register.finish()
        assert finished
        assert [0, 0, 0, 0] == [origin.offset for origin in kafka.registry.webhook("adults").current.since]

    async def test_what_an_api_that_died_has_left_is_finished_when_it_is_old_enough(self, api, kafka):
        """By an API that started right after it: it looks again until nothing is left."""
        kafka.fail_after = 1
        problem(await api.put("/v1/webhooks/adults", json=WEBHOOK), 503, "unavailable")
        kafka.fail_after = None
        register = fake_services(kafka, ticks=itertools.count(NOW_US, UNDER_WAY_US // 5)).register
        assert not await register.finish()
        assert kafka.registry.webhook("adults") is None

        async with asyncio.timeout(5):
            await Finishing(register, lambda error: pytest.fail(str(error)), every_s=0).run()

        assert kafka.registry.webhook("adults") is not None

    async def test_a_start_does_not_delete_the_lane_of_a_webhook_that_was_just_made_again(self, api, kafka, monkeypatch):
        """What was deleted when the start looked may be there by the time its lane would go."""
        starting = fake_services(kafka).register
        await api.put("/v1/webhooks/adults", json=WEBHOOK)
        await api.delete("/v1/webhooks/adults")
        existing = kafka.existing

        async def slow(names):
            monkeypatch.setattr(kafka, "existing", existing)
            assert 201 == (await api.put("/v1/webhooks/adults", json=WEBHOOK)).status_code
            return await existing(names)

        monkeypatch.setattr(kafka, "existing", slow)
        await starting.finish()

        assert LANE in kafka.lanes

    async def test_a_start_does_not_delete_a_lane_before_its_webhook_is_on_record(self, api, kafka, monkeypatch):
        """Another API that starts between the first two writes of a creation knows already that the name is taken again."""
        await api.put("/v1/webhooks/adults", json=WEBHOOK)
        await api.delete("/v1/webhooks/adults")
        ensure = kafka.ensure

        async def interrupted(topic):
            monkeypatch.setattr(kafka, "ensure", ensure)
            await ensure(topic)
            await fake_services(kafka).register.finish()

        monkeypatch.setattr(kafka, "ensure", interrupted)
        opening = {"events": ["create", "initializing", "ready"]}
        assert 201 == (await api.put("/v1/webhooks/adults", json=WEBHOOK | opening)).status_code

        assert LANE in kafka.lanes
        assert ["initializing", "ready"] == [record.key.decode().partition("/")[2] for record in kafka.records(LANE)]

    async def test_markers_of_a_creation_that_was_cut_off_are_written_once(self, api, kafka):
        """Wherever between its writes the API has died: whoever finishes it writes what is missing, and a later PUT nothing twice."""
        for sends in range(6):
            name = f"w{sends}"
            kafka.fail_after = sends
            await api.put(f"/v1/webhooks/{name}", json=WEBHOOK | {"events": ["create", "initializing", "ready"]})
            kafka.fail_after = None
            await fake_services(kafka, ticks=later()).register.finish()
            assert (await api.put(f"/v1/webhooks/{name}", json=WEBHOOK | {"events": ["create", "initializing", "ready"]})).is_success
            assert 2 == len(kafka.records(TOPICS.lane(name).name))

    async def test_a_deletion_that_was_not_acknowledged_is_finished_though_nobody_asks_again(self, kafka):
        """The API that lives looks after it itself."""
        services = fake_services(kafka)
        woken = []
        services.register.on_unfinished = lambda: woken.append(1)
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(create_app(services), raise_app_exceptions=False), base_url="http://127.0.0.1:8080"
        ) as api:
            await api.put("/v1/webhooks/adults", json=WEBHOOK)
            kafka.fail_after = 1
            assert 503 == (await api.delete("/v1/webhooks/adults")).status_code
        assert [1] == woken

    async def test_what_is_left_of_a_deleted_webhook_goes_at_the_next_start(self, api, kafka):
        """The API that deleted it may have died before its lane went."""
        await api.put("/v1/webhooks/adults", json=WEBHOOK)
        lanes = dict(kafka.lanes)
        await api.delete("/v1/webhooks/adults")
        kafka.lanes = lanes
        await fake_services(kafka).register.finish()

        assert {} == kafka.lanes
