"""Webhooks over the HTTP API: ``/v1/webhooks``, as docs/reference/http-api.md has it. On a fake Kafka."""

import httpx
import pytest

from livehook.api.app import create_app
from livehook.api.testing import fake_services
from schemas.positions import Origin
from schemas.signing import public_key_of
from tests.api import DOCUMENTS, SECRET, WEBHOOK, disable, later, problem, revisions


class TestWebhooks:
    """``/v1/webhooks``."""

    async def test_put_makes_it_and_shows_the_secret_once(self, api):
        """201 with every default; later answers are masked."""
        made = await api.put("/v1/webhooks/adults", json=WEBHOOK)
        read = await api.get("/v1/webhooks/adults")

        assert (201, 200) == (made.status_code, read.status_code)
        assert made.json()["secret"].startswith("whsec_")
        assert made.json() | {"secret": "****"} == read.json()
        assert {
            "name": "adults",
            "collections": ["people"],
            "delivery": {"concurrency": 64, "timeoutSeconds": 15, "rateLimit": None, "order": "document", "partitions": 1},
            "state": "active",
            "reason": None,
        }.items() <= read.json().items()
        assert {"createdAt", "updatedAt"} <= read.json().keys()

    async def test_a_revision_is_marked_before_it_is_answered(self, api, kafka):
        """A claim, lane, revision, a mark in each partition of mutations, the revision again with where the marks stand."""
        await api.post(DOCUMENTS, json={"_id": "before"})
        kafka.calls.clear()
        await api.put("/v1/webhooks/adults", json=WEBHOOK)

        assert [
            "livehook.webhooks",
            "ensure livehook.deliveries.adults",
            "livehook.webhooks",
            *["livehook.mutations"] * 4,
            "livehook.webhooks",
        ] == kafka.calls
        claim, first, second = revisions(kafka)
        before = [len(kafka.log["livehook.mutations", partition]) - 1 for partition in range(4)]
        assert (first, None) == (claim, first.since)
        assert [Origin(0, partition, offset) for partition, offset in enumerate(before)] == second.since

    async def test_put_again_changes_it(self, api, kafka):
        """200; an edit that selects the same needs no marks, one that selects otherwise does."""
        await api.put("/v1/webhooks/adults", json=WEBHOOK)
        kafka.calls.clear()
        edited = await api.put("/v1/webhooks/adults", json=WEBHOOK | {"url": "https://example.com/other"})
        assert (200, "****", ["ensure livehook.deliveries.adults", "livehook.webhooks"]) == (
            edited.status_code,
            edited.json()["secret"],
            kafka.calls,
        )

        kafka.calls.clear()
        await api.put("/v1/webhooks/adults", json=WEBHOOK | {"query": "age >= 21"})
        assert 4 == kafka.calls.count("livehook.mutations")

    async def test_start_is_read_when_the_webhook_is_made_and_ignored_later(self, api):
        """A file that says where to begin may be applied again."""
        await api.put("/v1/webhooks/adults", json=WEBHOOK)
        again = await api.put("/v1/webhooks/adults", json=WEBHOOK | {"start": "beginning"})
        assert (200, "now") == (again.status_code, again.json()["start"])

    @pytest.mark.parametrize(
        ("start", "message"),
        [
            ("2999-01-01T00:00:00Z", "is '2999-01-01T00:00:00Z', which is in the future"),
            ("txn:9007199254740991", "is txn:9007199254740991, and there is no such txnId yet"),
            ("yesterday", "is 'yesterday', must be now, beginning, a time with an offset (RFC 3339) or txn:N"),
        ],
    )
    async def test_a_start_that_lies_ahead_is_refused_by_name(self, api, start, message):
        """With what would be right."""
        answer = await api.put("/v1/webhooks/adults", json=WEBHOOK | {"start": start})
        [error] = answer.json()["errors"]
        assert (422, "start", True) == (answer.status_code, error["field"], error["message"].startswith(message))

    @pytest.mark.parametrize("start", ["beginning", "2026-01-31T12:00:00+01:00", "txn:17"])
    async def test_a_start_is_kept_through_every_edit(self, api, start):
        """An edit may leave it out, and one that names another changes nothing."""
        made = await api.put("/v1/webhooks/adults", json=WEBHOOK | {"start": start})
        assert (201, start) == (made.status_code, made.json()["start"])
        for body in (WEBHOOK, WEBHOOK | {"start": "now"}, WEBHOOK | {"start": "2999-01-01T00:00:00Z"}):
            again = await api.put("/v1/webhooks/adults", json=body | {"query": "n > 1"})
            assert (200, start) == (again.status_code, again.json()["start"])

    async def test_the_same_put_again_writes_nothing(self, api, kafka):
        """So that a file can be applied as often as one likes."""
        await api.put("/v1/webhooks/adults", json=WEBHOOK)
        kafka.calls.clear()
        answer = await api.put("/v1/webhooks/adults", json=(await api.get("/v1/webhooks/adults")).json())

        assert (200, []) == (answer.status_code, kafka.calls)

    async def test_masked_secrets_are_kept(self, api, kafka):
        """Everything that is answered as **** may be sent back as ****."""
        secrets = {"secret": SECRET, "auth": {"basic": {"username": "u", "password": "p"}}, "headers": {"x-api-key": "k", "x-team": "crm"}}
        await api.put("/v1/webhooks/adults", json=WEBHOOK | secrets)
        answer = (await api.get("/v1/webhooks/adults")).json()
        assert ("****", {"basic": {"username": "u", "password": "****"}}, {"x-api-key": "****", "x-team": "crm"}) == (
            answer["secret"],
            answer["auth"],
            answer["headers"],
        )

        await api.put("/v1/webhooks/adults", json=answer | {"method": "PUT"})

        current = kafka.registry.webhook("adults").current
        assert ("p", "k", SECRET) == (current.spec.auth["basic"]["password"], current.spec.headers["x-api-key"], current.secrets[0].value)

    async def test_a_mask_without_a_secret_behind_it_is_refused(self, api):
        """**** is no secret."""
        answer = await api.put("/v1/webhooks/adults", json=WEBHOOK | {"headers": {"x-api-key": "****"}})

        assert ["headers.x-api-key"] == [error["field"] for error in problem(answer, 422, "invalid")["errors"]]

    async def test_a_wrong_webhook_names_every_field(self, api, kafka):
        """As RFC 9457 with our errors; nothing is written."""
        answer = await api.put("/v1/webhooks/adults", json=WEBHOOK | {"delivery": {"concurrency": 0}, "query": "age >="})

        body = problem(answer, 422, "invalid")
        assert "Invalid webhook" == body["title"]
        assert {"field": "delivery.concurrency", "message": "is 0, must be 1 to 4096"} in body["errors"]
        assert {"field", "message", "line", "column"} <= body["errors"][0].keys()
        assert [] == kafka.calls

    async def test_patch_is_a_merge_patch(self, api):
        """Objects are merged, null takes away."""
        await api.put("/v1/webhooks/adults", json=WEBHOOK | {"headers": {"x-team": "crm", "x-token": "t"}})
        answer = await api.patch("/v1/webhooks/adults", json={"headers": {"x-team": None, "x-b": "2"}, "query": None})

        assert (200, {"x-token": "****", "x-b": "2"}, "true") == (answer.status_code, answer.json()["headers"], answer.json()["query"])

    async def test_signing_with_ed25519(self, api):
        """The public key is in every answer, the secret in the one that made it; an answer may be sent back."""
        made = (await api.put("/v1/webhooks/adults", json=WEBHOOK | {"signing": "v1a"})).json()
        found = (await api.get("/v1/webhooks/adults")).json()
        assert (made["publicKey"], made["publicKey"]) == (public_key_of(made["secret"]), found["publicKey"])
        assert "****" == found["secret"]
        assert 200 == (await api.put("/v1/webhooks/adults", json=found)).status_code
        rotated = (await api.post("/v1/webhooks/adults/rotate-secret")).json()
        assert (rotated["publicKey"], True) == (public_key_of(rotated["secret"]), rotated["publicKey"] != made["publicKey"])
        refused = await api.post("/v1/webhooks/adults/rotate-secret", json={"secret": SECRET})
        assert ["secret"] == [error["field"] for error in problem(refused, 422, "invalid")["errors"]]

    async def test_another_scheme_of_signing_makes_another_secret(self, api, kafka):
        """It is shown once; for a day the one before signs too."""
        await api.put("/v1/webhooks/adults", json=WEBHOOK | {"secret": SECRET})
        answer = (await api.patch("/v1/webhooks/adults", json={"signing": "v1a"})).json()
        secrets = kafka.registry.webhook("adults").current.secrets
        assert [answer["secret"], SECRET] == [one.value for one in secrets]
        assert (None, True) == (secrets[0].until_us, answer["secret"].startswith("whsk_"))
        assert 86_400_000_000 > secrets[1].until_us - 1_790_000_000_000_000 - 86_400_000_000 >= 0

    async def test_patch_may_change_to_a_template_and_back(self, api):
        """Without setting the format, which an answer always has, to null."""
        await api.put("/v1/webhooks/adults", json=WEBHOOK | {"payload": {"format": "ditto", "contentType": "text/plain"}})
        there = await api.patch("/v1/webhooks/adults", json={"payload": {"template": "{{id}}"}})
        back = await api.patch("/v1/webhooks/adults", json={"payload": {"format": "entity"}})
        assert {"format": "template", "template": "{{id}}", "contentType": "text/plain"} == there.json()["payload"]
        assert {"format": "entity", "contentType": "text/plain"} == back.json()["payload"]

    async def test_templates_are_read_when_they_are_registered(self, api):
        """422 with the field, in a body as in a URL."""
        wrong = WEBHOOK | {"payload": {"template": "{{#a}}"}, "url": "https://example.com/{{/a}}"}
        errors = problem(await api.put("/v1/webhooks/adults", json=wrong), 422, "invalid")["errors"]
        assert ["url", "payload.template"] == [error["field"] for error in errors]

    async def test_patch_may_change_to_triggers_and_back(self, api):
        """What the other way of selecting had is taken away with it."""
        await api.put("/v1/webhooks/adults", json=WEBHOOK)
        there = await api.patch("/v1/webhooks/adults", json={"triggers": [{"collections": ["a"]}]})
        back = await api.patch("/v1/webhooks/adults", json={"collection": "b"})

        assert (200, 200, ["b"]) == (there.status_code, back.status_code, back.json()["collections"])
        assert "collections" not in there.json()

    async def test_patch_and_others_need_a_webhook_that_is_there(self, api):
        """404."""
        problem(await api.patch("/v1/webhooks/adults", json={}), 404, "not-found")
        problem(await api.get("/v1/webhooks/adults"), 404, "not-found")
        problem(await api.delete("/v1/webhooks/adults"), 404, "not-found")
        for action in ("test", "pause", "resume", "rotate-secret"):
            problem(await api.post(f"/v1/webhooks/adults/{action}"), 404, "not-found")

    async def test_delete_ends_it_and_drops_the_lane(self, api, kafka):
        """204 without a body; the end is a revision with marks, written before the lane goes."""
        await api.put("/v1/webhooks/adults", json=WEBHOOK)
        kafka.calls.clear()
        answer = await api.delete("/v1/webhooks/adults")

        assert (204, b"") == (answer.status_code, answer.content)
        assert "delete livehook.deliveries.adults" == kafka.calls[-1]
        assert 4 == kafka.calls.count("livehook.mutations")
        problem(await api.get("/v1/webhooks/adults"), 404, "not-found")

    async def test_made_again_it_is_another_webhook(self, api, kafka):
        """A new uid; revisions go on counting."""
        await api.put("/v1/webhooks/adults", json=WEBHOOK)
        first = kafka.registry.newest("adults")
        await api.delete("/v1/webhooks/adults")
        assert 201 == (await api.put("/v1/webhooks/adults", json=WEBHOOK)).status_code
        second = kafka.registry.newest("adults")

        assert (first.revision + 2, True) == (second.revision, first.uid != second.uid)

    async def test_pause_and_resume(self, api):
        """200 and the webhook."""
        await api.put("/v1/webhooks/adults", json=WEBHOOK)

        assert "paused" == (await api.post("/v1/webhooks/adults/pause")).json()["state"]
        assert "active" == (await api.post("/v1/webhooks/adults/resume")).json()["state"]

    async def test_a_disabled_webhook_says_why_until_it_is_resumed(self, api, kafka):
        """State and reason come from the sink."""
        await api.put("/v1/webhooks/adults", json=WEBHOOK)
        disable(kafka)
        answer = (await api.get("/v1/webhooks/adults")).json()
        assert ("disabled", "410 Gone") == (answer["state"], answer["reason"])

        resumed = (await api.post("/v1/webhooks/adults/resume")).json()
        assert ("active", None) == (resumed["state"], resumed["reason"])

    async def test_an_edit_does_not_wake_up_a_disabled_webhook(self, api, kafka):
        """Only its state does."""
        await api.put("/v1/webhooks/adults", json=WEBHOOK)
        disable(kafka)

        assert "disabled" == (await api.patch("/v1/webhooks/adults", json={"method": "PUT"})).json()["state"]
        assert "disabled" == (await api.post("/v1/webhooks/adults/rotate-secret")).json()["state"]

    async def test_rotating_keeps_the_old_secret_for_a_while(self, api, kafka):
        """The new one is shown in full; both sign meanwhile."""
        await api.put("/v1/webhooks/adults", json=WEBHOOK | {"secret": SECRET})
        answer = await api.post("/v1/webhooks/adults/rotate-secret", json={"overlapSeconds": 60})

        new, old = kafka.registry.webhook("adults").current.secrets
        assert (200, new.value) == (answer.status_code, answer.json()["secret"])
        assert (None, SECRET) == (new.until_us, old.value)
        assert 60_000_000 == old.until_us - kafka.registry.webhook("adults").current.updated_us

    async def test_rotating_without_an_overlap_forgets_the_old_secret(self, api, kafka):
        """As after a leak."""
        await api.put("/v1/webhooks/adults", json=WEBHOOK)
        await api.post("/v1/webhooks/adults/rotate-secret", json={"secret": SECRET, "overlapSeconds": 0})

        assert [SECRET] == [secret.value for secret in kafka.registry.webhook("adults").current.secrets]

    @pytest.mark.parametrize("body", [{"secret": "x"}, {"overlapSeconds": -1}, {"overlap": 1}])
    async def test_a_wrong_rotation_is_invalid(self, api, body):
        """The field is named."""
        await api.put("/v1/webhooks/adults", json=WEBHOOK)
        answer = await api.post("/v1/webhooks/adults/rotate-secret", json=body)

        assert list(body) == [error["field"] for error in problem(answer, 422, "invalid")["errors"]]

    async def test_rotations_that_overlap_are_bounded(self, api):
        """Each secret is a signature in every header."""
        await api.put("/v1/webhooks/adults", json=WEBHOOK)
        answers = [await api.post("/v1/webhooks/adults/rotate-secret") for _ in range(10)]

        problem(answers[-1], 409, "conflict")
        assert {200} == {answer.status_code for answer in answers[:-1]}

    async def test_a_test_is_one_attempt_now(self, api):
        """The attempt in full."""
        await api.put("/v1/webhooks/adults", json=WEBHOOK)
        attempt = (await api.post("/v1/webhooks/adults/test", json={"doc": {"_id": "a"}, "old": {}})).json()

        assert {
            "webhook": "adults",
            "document": "people/a",
            "match": "update",
            "outcome": "delivered",
            "status": 204,
            "error": None,
        }.items() <= attempt.items()
        assert {
            "id", "webhook", "deliveryId", "collection", "document", "match", "txnId", "version", "offset", "attempt", "startedAt",
            "durationMs", "outcome", "status", "error", "nextAttemptAt", "test", "replay", "request", "response",
        } == attempt.keys()  # fmt: skip
        assert {"method", "url", "headers", "body", "bodyTruncated"} == attempt["request"].keys()
        assert {"status", "headers", "body", "bodyTruncated"} == attempt["response"].keys()

    async def test_the_default_test_document(self, api):
        """{"_id": "test"}, with a body of {} or none."""
        await api.put("/v1/webhooks/adults", json=WEBHOOK)

        for answer in (await api.post("/v1/webhooks/adults/test", json={}), await api.post("/v1/webhooks/adults/test")):
            assert "people/test" == answer.json()["document"]

    @pytest.mark.parametrize(("body", "field"), [({"doc": 5}, "doc"), ({"doc": {"_id": 5}}, "doc._id"), ({"document": {}}, "document")])
    async def test_a_wrong_test_document_is_invalid(self, api, body, field):
        """The field is named."""
        await api.put("/v1/webhooks/adults", json=WEBHOOK)
        answer = await api.post("/v1/webhooks/adults/test", json=body)

        assert [field] == [error["field"] for error in problem(answer, 422, "invalid")["errors"]]

    async def test_lists_are_pages_by_name(self, api):
        """``nextCursor`` leads on, and is null at the end."""
        for name in ("c", "a", "b"):
            await api.put(f"/v1/webhooks/{name}", json=WEBHOOK)
        first = (await api.get("/v1/webhooks?limit=2")).json()
        second = (await api.get(f"/v1/webhooks?limit=2&cursor={first['nextCursor']}")).json()
        whole = (await api.get("/v1/webhooks?limit=3")).json()

        assert (["a", "b"], ["c"], None) == (
            [one["name"] for one in first["items"]],
            [one["name"] for one in second["items"]],
            second["nextCursor"],
        )
        assert whole["nextCursor"] is None
        assert {"****"} == {one["secret"] for one in first["items"]}

    @pytest.mark.parametrize("path", ["/v1/webhooks", "/v1/lanes"])
    async def test_an_unknown_parameter_is_invalid(self, api, path):
        """A filter that is not there must not answer everything."""
        answer = await api.get(path, params={"state": "paused"})

        assert ["state"] == [error["field"] for error in problem(answer, 422, "invalid")["errors"]]

    @pytest.mark.parametrize("limit", ["0", "1001", "-1", "x", "٣", "00000000199999999", "000000001" + "9" * 5_000])
    async def test_a_wrong_limit_is_invalid(self, api, limit):
        """1 to 1,000."""
        answer = await api.get("/v1/webhooks", params={"limit": limit})

        assert ["limit"] == [error["field"] for error in problem(answer, 422, "invalid")["errors"]]

    async def test_a_bad_name_is_invalid(self, api):
        """As in the body."""
        problem(await api.put("/v1/webhooks/Adults", json=WEBHOOK), 422, "invalid")

    async def test_a_dry_run_tells_what_a_put_would_change(self, api, kafka):
        """Field by field, secrets masked; nothing is written."""
        assert "create" == (await api.put("/v1/webhooks/adults?dryRun=true", json=WEBHOOK)).json()["action"]
        await api.put("/v1/webhooks/adults", json=WEBHOOK)
        kafka.calls.clear()
        wanted = WEBHOOK | {"delivery": {"concurrency": 1}, "secret": SECRET}

        assert {
            "name": "adults",
            "action": "change",
            "changes": [{"field": "delivery.concurrency", "from": 64, "to": 1}, {"field": "secret", "from": "****", "to": "****"}],
        } == (await api.put("/v1/webhooks/adults?dryRun=true", json=wanted)).json()
        assert "none" == (await api.put("/v1/webhooks/adults?dryRun=true", json=WEBHOOK)).json()["action"]
        assert [] == kafka.calls

    async def test_without_an_acknowledgement_it_is_finished_at_the_next_start(self, kafka):
        """A revision without its marks is not there; the next start writes them."""
        services = fake_services(kafka)
        transport = httpx.ASGITransport(create_app(services), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as api:
            kafka.fail_after = 1
            problem(await api.put("/v1/webhooks/adults", json=WEBHOOK), 503, "unavailable")
            problem(await api.get("/v1/webhooks/adults"), 404, "not-found")

            kafka.fail_after = None
            assert await fake_services(kafka, ticks=later()).register.finish()
            assert 200 == (await api.get("/v1/webhooks/adults")).status_code

    async def test_a_put_after_a_cut_off_one_is_the_same_webhook(self, api, kafka):
        """The streams may know its uid already."""
        kafka.fail_after = 1
        await api.put("/v1/webhooks/adults", json=WEBHOOK)
        first = kafka.registry.newest("adults")
        kafka.fail_after = None
        await api.put("/v1/webhooks/adults", json=WEBHOOK)
        second = kafka.registry.newest("adults")

        assert (first.uid, first.revision + 1) == (second.uid, second.revision)
