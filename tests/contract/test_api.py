"""The HTTP API as docs/reference/http-api.md has it: statuses, fields, headers. On a fake Kafka; tests/integration has the real one."""

import asyncio
import gzip
import itertools
import json
import re

import httpx
import msgspec
import pytest
from fastapi import FastAPI

from livehook.api import documents, problems
from livehook.api.app import create_app
from livehook.api.finishing import Finishing
from livehook.api.problems import Problem
from livehook.api.query import Queries
from livehook.api.register import UNDER_WAY_US
from livehook.api.testing import NOW_US, FakeKafka, fake_services
from schemas.changes import Change
from schemas.mutations import MARK_KEY, Method, Mutation
from schemas.positions import Origin
from schemas.records import decode_mutation, decode_webhooks, encode_revision
from schemas.signing import public_key_of
from schemas.topics import Record, Topics
from schemas.webhooks import State, WebhookRevision, WebhookStatus

TOPICS = Topics(partitions=4)
WEBHOOK = {"collection": "people", "query": "age >= 18", "url": "https://example.com/hook"}
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
DOCUMENTS = "/v1/collections/people/documents"
LANE = TOPICS.lane("adults").name


@pytest.fixture
def kafka():
    return FakeKafka(TOPICS)


@pytest.fixture
async def api(kafka):
    async with client(kafka) as connected:
        yield connected


def client(kafka, **services):
    """A client of an API on this Kafka."""
    transport = httpx.ASGITransport(create_app(fake_services(kafka, **services)), raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080")


def problem(answer, status, code):
    """The answer's problem document, once it has the shape of RFC 9457."""
    body = answer.json()
    assert (status, "application/problem+json") == (answer.status_code, answer.headers["content-type"])
    assert ("about:blank", status, code) == (body["type"], body["status"], body["code"])
    assert {"type", "title", "status", "code", "detail"} <= body.keys()
    return body


def mutations(kafka):
    """What was produced to ``mutations``, without marks."""
    decoded = [decode_mutation(record.key, record.value) for record in kafka.records("livehook.mutations")]
    return [mutation for mutation in decoded if isinstance(mutation, Mutation)]


def revisions(kafka):
    """What was written to ``webhooks``, in order."""
    decoded = [decode_webhooks(record.value) for record in kafka.records("livehook.webhooks")]
    return [revision for revision in decoded if isinstance(revision, WebhookRevision)]


class TestDocuments:
    """``/v1/collections/{c}/documents``."""

    async def test_one_document_is_an_upsert(self, api, kafka):
        """202 once the broker has it; the document is normalised."""
        answer = await api.post(DOCUMENTS, content=b'{ "_id": "6213", "age": 31.0 }', headers={"content-type": "application/json"})

        assert (202, {"accepted": 1, "ids": ["6213"]}) == (answer.status_code, answer.json())
        assert [Mutation(Method.UPSERT, "people", "6213", b'{"_id":"6213","age":31.0}')] == mutations(kafka)

    async def test_an_array_keeps_its_order(self, api, kafka):
        """Ids are answered as they were given; a missing one is made."""
        answer = await api.post(DOCUMENTS, json=[{"_id": "b"}, {"name": "Frank"}, {"_id": {"z": 1, "a": 2}}])

        assert {"accepted": 3, "ids": ["b", "id-1", {"z": 1, "a": 2}]} == answer.json()
        assert {"b", "id-1", '{"a":2,"z":1}'} == {mutation.id for mutation in mutations(kafka)}

    async def test_ndjson_is_a_document_a_line(self, api, kafka):
        """Blank lines and a missing last newline do not matter."""
        answer = await api.post(DOCUMENTS, content=b'{"_id":"a"}\r\n\n{"_id":"b"}', headers={"content-type": "application/x-ndjson"})

        assert {"accepted": 2, "ids": ["a", "b"]} == answer.json()

    async def test_an_empty_array_is_nothing(self, api):
        """Accepted, as nothing."""
        assert {"accepted": 0, "ids": []} == (await api.post(DOCUMENTS, json=[])).json()

    @pytest.mark.parametrize(
        ("path", "message"),
        [
            ("people/documents/%ff", "id is not UTF-8 once it is percent-decoded"),
            ("people/documents/%7B", "id begins with { and is no JSON object: it ends too early"),
            ("pe%ffople/documents/1", "collection is not UTF-8 once it is percent-decoded"),
        ],
    )
    async def test_a_path_that_cannot_be_read_names_its_part(self, api, path, message):
        """And says what is wrong with it."""
        answer = await api.patch(f"/v1/collections/{path}", json={})

        assert (422, message) == (answer.status_code, answer.json()["detail"])

    async def test_a_gzip_body_is_unpacked(self, api):
        """Content-Encoding: gzip."""
        headers = {"content-type": "application/json", "content-encoding": "gzip"}
        answer = await api.post(DOCUMENTS, content=gzip.compress(b'{"_id":"a"}'), headers=headers)

        assert {"accepted": 1, "ids": ["a"]} == answer.json()

    async def test_a_gzip_bomb_is_refused(self, api):
        """16 MiB unpacked is the bound, however small the body is."""
        headers = {"content-type": "application/json", "content-encoding": "gzip"}
        answer = await api.post(DOCUMENTS, content=gzip.compress(b" " * (17 * 1024 * 1024)), headers=headers)

        problem(answer, 413, "too-large")

    @pytest.mark.parametrize("body", [b"no gzip", gzip.compress(b"{}" * 100)[:-20]])
    async def test_a_broken_gzip_body_is_malformed(self, api, body):
        """Neither what is none, nor what is cut off."""
        headers = {"content-type": "application/json", "content-encoding": "gzip"}
        problem(await api.post(DOCUMENTS, content=body, headers=headers), 400, "malformed")

    async def test_more_than_16_mib_are_too_large(self, api):
        """Without a content length too."""

        async def chunks():
            for _ in range(17):
                yield b" " * 1024 * 1024

        problem(await api.post(DOCUMENTS, content=chunks(), headers={"content-type": "application/json"}), 413, "too-large")

    @pytest.mark.parametrize("ndjson", [True, False])
    async def test_more_than_10000_documents_are_too_large(self, api, kafka, ndjson):
        """Ten thousand are fine, one more is not."""
        kind = "application/x-ndjson" if ndjson else "application/json"

        async def post(count):
            body = b"\n".join([b"{}"] * count) if ndjson else b"[" + b",".join([b"{}"] * count) + b"]"
            return await api.post(DOCUMENTS, content=body, headers={"content-type": kind})

        assert 202 == (await post(10_000)).status_code
        produced = len(mutations(kafka))
        problem(await post(10_001), 413, "too-large")
        assert produced == len(mutations(kafka))

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"{",
            b"nope",
            b'{"a":NaN}',
            b'{"a":1,"a":2}',
            b'{"a":"\\ud800"}',
            b'{"a":"\xff"}',
            b'{"a":1e999}',
            b"[1",
            b'{"a":' * 200 + b"1" + b"}" * 200,
        ],
    )
    async def test_what_is_no_strict_json_is_malformed(self, api, kafka, body):
        """Not JSON, NaN, a key twice, a lone surrogate, no UTF-8, overflow, too deep."""
        problem(await api.post(DOCUMENTS, content=body, headers={"content-type": "application/json"}), 400, "malformed")
        assert [] == mutations(kafka)

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            (b"5", ""),
            (b'"text"', ""),
            (b'{"_id":5}', "_id"),
            (b'{"_id":""}', "_id"),
            (b'{"_id":"{x"}', "_id"),
            (b'{"_id":["a"]}', "_id"),
            (b'[{"_id":"a"},{"_id":"b"},{"_id":"c"},{"_id":7}]', "[3]._id"),
            (b'[{"_id":"a"},5]', "[1]."),
        ],
    )
    async def test_a_wrong_document_is_named_and_nothing_is_written(self, api, kafka, body, field):
        """In an array by its place; the good ones beside it are not written either."""
        answer = await api.post(DOCUMENTS, content=body, headers={"content-type": "application/json"})

        assert [field] == [error["field"] for error in problem(answer, 422, "invalid")["errors"]]
        assert [] == mutations(kafka)

    async def test_a_malformed_line_is_named(self, api, kafka):
        """By its place, as in an array."""
        answer = await api.post(DOCUMENTS, content=b'{"_id":"a"}\n{"b":\n', headers={"content-type": "application/x-ndjson"})

        assert ["[1]."] == [error["field"] for error in problem(answer, 400, "malformed")["errors"]]

    async def test_a_document_over_1_mib_is_too_large(self, api, kafka):
        """The document as it is kept is counted, without white space and with its id."""
        fits = {"_id": "a", "x": "y" * (1024 * 1024 - 18)}
        assert 1024 * 1024 == len(json.dumps(fits, separators=(",", ":")))

        assert 202 == (await api.post(DOCUMENTS, json=fits)).status_code
        answer = await api.post(DOCUMENTS, json=[{"_id": "b"}, fits | {"z": 1}])

        assert ["[1]."] == [error["field"] for error in problem(answer, 413, "too-large")["errors"]]
        assert 1 == len(mutations(kafka))

    @pytest.mark.parametrize("collection", ["9lives", "a b", "x" * 129, "%FF"])
    async def test_a_bad_collection_is_invalid(self, api, collection):
        """[A-Za-z_][A-Za-z0-9_.-]{0,127}."""
        answer = await api.post(f"/v1/collections/{collection}/documents", json={"_id": "a"})

        assert ["collection"] == [error["field"] for error in problem(answer, 422, "invalid")["errors"]]

    @pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin-1", ""])
    async def test_other_types_are_unsupported(self, api, kind):
        """A missing type too: a foreign page can post one without asking."""
        problem(await api.post(DOCUMENTS, content=b"{}", headers={"content-type": kind}), 415, "unsupported-type")

    async def test_other_encodings_are_unsupported(self, api):
        """gzip alone."""
        headers = {"content-type": "application/json", "content-encoding": "br"}
        problem(await api.post(DOCUMENTS, content=b"{}", headers=headers), 415, "unsupported-type")

    @pytest.mark.parametrize(("method", "expected"), [("PATCH", Method.UPSERT), ("PUT", Method.REPLACE)])
    async def test_one_document_by_its_id(self, api, kafka, method, expected):
        """PATCH is an upsert, PUT a replace; the id may be left out of the body."""
        answer = await api.request(method, f"{DOCUMENTS}/6213", json={"age": 31})

        assert (202, {"accepted": 1, "ids": ["6213"]}) == (answer.status_code, answer.json())
        assert [Mutation(expected, "people", "6213", b'{"_id":"6213","age":31}')] == mutations(kafka)

    async def test_a_document_is_removed(self, api, kafka):
        """DELETE."""
        answer = await api.delete(f"{DOCUMENTS}/6213")

        assert (202, {"accepted": 1, "ids": ["6213"]}) == (answer.status_code, answer.json())
        assert [Mutation(Method.REMOVE, "people", "6213")] == mutations(kafka)

    @pytest.mark.parametrize(
        ("path", "id_"),
        [
            ("a%2Fb", "a/b"),
            ("a/b", "a/b"),
            ("%E2%82%AC", "€"),
            ("a%25b", "a%b"),
            ("%7B%22a%22%3A1%7D", {"a": 1}),
            ("%7B%22b%22%3A1%2C%20%22a%22%3A2%7D", {"b": 1, "a": 2}),
        ],
    )
    async def test_ids_in_paths(self, api, kafka, path, id_):
        """Percent-encoded; an object id as JSON."""
        assert {"accepted": 1, "ids": [id_]} == (await api.delete(f"{DOCUMENTS}/{path}")).json()

    @pytest.mark.parametrize("path", ["%FF", "%7Bnope", "x" * 1025, "%22a"])
    async def test_bad_ids_in_paths(self, api, path):
        """No UTF-8, no JSON, too long, or what no string id may begin with."""
        answer = await api.delete(f"{DOCUMENTS}/{path}")

        assert ["id"] == [error["field"] for error in problem(answer, 422, "invalid")["errors"]]

    async def test_the_body_may_repeat_the_id_but_not_differ(self, api, kafka):
        """The same object id in another order is the same."""
        assert 202 == (await api.put(f"{DOCUMENTS}/%7B%22a%22:1,%22b%22:2%7D", json={"_id": {"b": 2, "a": 1}})).status_code
        answer = await api.put(f"{DOCUMENTS}/a", json={"_id": "b"})

        assert ["_id"] == [error["field"] for error in problem(answer, 422, "invalid")["errors"]]

    async def test_without_an_acknowledgement_the_outcome_is_unknown(self, api, kafka):
        """503, and the answer says to send it again."""
        kafka.is_down = True

        assert "send it again" in problem(await api.post(DOCUMENTS, json={"_id": "a"}), 503, "unavailable")["detail"]

    def test_an_array_is_counted_before_memory_is_spent(self):
        """Reading stops at the first element that is too many, or no document."""
        with pytest.raises(Problem) as refused:
            documents.split_documents(b"[" + b"{}," * 1_000_000 + b"{}]", ndjson=False)
        assert "too-large" == refused.value.code


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


def later():
    """The time when what was begun before is under way no more."""
    return itertools.count(NOW_US + UNDER_WAY_US + 1_000)


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


def disable(kafka):
    """What a sink writes when a receiver is gone."""
    current = kafka.registry.webhook("adults").current
    kafka.status(WebhookStatus(current.uid, "adults", current.edit, State.DISABLED, "410 Gone", current.updated_us))


class TestQuery:
    """``/v1/query/check``."""

    async def test_a_query_is_valid_without_a_document(self, api):
        """No result then."""
        assert {"valid": True} == (await api.post("/v1/query/check", json={"query": "age >= 18"})).json()

    @pytest.mark.parametrize(("age", "expected"), [(18, True), (17, False), (None, None)])
    async def test_with_a_document_it_has_a_result(self, api, age, expected):
        """true, false or null."""
        answer = await api.post("/v1/query/check", json={"query": "age >= :min", "args": {"min": 18}, "doc": {"age": age}})

        assert {"valid": True, "result": expected} == answer.json()

    async def test_a_bad_query_has_its_place(self, api):
        """422 on ``query`` with line, column and what was expected."""
        body = problem(await api.post("/v1/query/check", json={"query": "age >="}), 422, "invalid")

        assert ("query", 1, 7, True) == (
            body["errors"][0]["field"],
            body["errors"][0]["line"],
            body["errors"][0]["column"],
            bool(body["errors"][0]["expected"]),
        )

    @pytest.mark.parametrize(
        ("body", "field"), [({}, "query"), ({"query": 5}, "query"), ({"query": "true", "doc": 5}, "doc"), ({"query": "true", "x": 1}, "x")]
    )
    async def test_a_wrong_body_is_invalid(self, api, body, field):
        """The field is named."""
        answer = await api.post("/v1/query/check", json=body)

        assert [field] == [error["field"] for error in problem(answer, 422, "invalid")["errors"]]


class TestExplain:
    """``/v1/query/explain``."""

    async def test_every_part_has_its_value(self, api):
        """A tree of text, value and children; the event; what the index found."""
        body = {"query": "age >= :min && work.city == 'Oslo'", "args": {"min": 18}, "doc": {"age": 31, "work": {"city": "Oslo"}}, "old": {}}
        answer = await api.post("/v1/query/explain", json=body)

        assert 200 == answer.status_code
        assert {
            "result": True,
            "event": "enter",
            "tree": {
                "text": "age >= 18 AND work.city = 'Oslo'",
                "value": True,
                "children": [
                    {"text": "age >= 18", "value": True, "children": [{"text": "age", "value": 31, "children": []}]},
                    {"text": "work.city = 'Oslo'", "value": True, "children": [{"text": "work.city", "value": "Oslo", "children": []}]},
                ],
            },
            "index": {"found": True, "by": "work.city = 'Oslo'"},
        } == answer.json()

    @pytest.mark.parametrize(
        ("doc", "old", "event"),
        [({"a": 1}, None, "create"), ({"a": 1}, {"a": 1}, "update"), ({"a": 2}, {"a": 1}, "leave"), ({"a": 2}, None, None), ({}, {}, None)],
    )
    async def test_the_event_is_that_of_the_change(self, api, doc, old, event):
        """From the document before, if there is one, to this one."""
        answer = await api.post("/v1/query/explain", json={"query": "a = 1", "doc": doc, "old": old})

        assert event == answer.json()["event"]

    @pytest.mark.parametrize(
        ("body", "field"),
        [({"doc": {}}, "query"), ({"query": "true"}, "doc"), ({"query": "a =", "doc": {}}, "query"), ({"query": "a", "doc": 5}, "doc")],
    )
    async def test_a_wrong_body_is_invalid(self, api, body, field):
        """The field is named."""
        answer = await api.post("/v1/query/explain", json=body)

        assert [field] == [error["field"] for error in problem(answer, 422, "invalid")["errors"]]


class TestDryRun:
    """``/v1/query/dry-run``."""

    async def test_history_is_counted_by_event(self, api, kafka):
        """Only the collection's; examples are the bodies that would have been sent."""
        young, old = b'{"_id":"1","age":3}', b'{"_id":"1","age":31}'
        for number, (before, after) in enumerate([(None, young), (None, old), (young, old), (old, old), (old, young), (old, None)]):
            kafka.history.changes.append((NOW_US - 1_000_000 * number, Change("people", "1", number, 1, before, after, Origin(0, 0, 0), 0)))
        kafka.history.changes.append((NOW_US, Change("orders", "1", 9, 1, None, old, Origin(0, 0, 0), 0)))
        answer = await api.post("/v1/query/dry-run", json={"query": "age >= 18", "collection": "people"})

        assert 200 == answer.status_code
        found = answer.json()
        assert (6, {"create": 1, "enter": 1, "update": 1, "leave": 1, "remove": 1}) == (found["scanned"], found["matches"])
        assert ["create", "enter", "update", "leave", "remove"] == [example["match"] for example in found["examples"]]
        assert {"method": "upsert", "oldValue": None, "newValue": {"_id": "1", "age": 31}} == found["examples"][0]["change"]

    async def test_examples_are_ten_at_most(self, api, kafka):
        """The first ones; all are counted."""
        kafka.history.changes = [(NOW_US, Change("people", "1", 1, 1, None, b"{}", Origin(0, 0, 0), 0))] * 12
        found = (await api.post("/v1/query/dry-run", json={"query": "true", "collection": "people"})).json()

        assert (12, 12, 10) == (found["scanned"], found["matches"]["create"], len(found["examples"]))

    @pytest.mark.parametrize(("since", "scanned"), [(None, 2), ("2h", 2), ("5m", 1), ("2026-09-21T12:00:00Z", 2), ("30d", 3)])
    async def test_since_is_a_duration_or_a_time(self, api, kafka, since, scanned):
        """A day, when it is left out."""
        for ago_s in (10 * 86_400, 3_600, 1):
            kafka.history.changes.append((NOW_US - ago_s * 1_000_000, Change("people", "1", 1, 1, None, b"{}", Origin(0, 0, 0), 0)))
        answer = await api.post("/v1/query/dry-run", json={"query": "true", "collection": "people", "since": since})

        assert scanned == answer.json()["scanned"]

    async def test_what_takes_too_long_is_given_up(self, kafka):
        """504 `timeout` with what to do, never half an answer."""
        kafka.history.changes = [(NOW_US, Change("people", "1", 1, 1, None, b"{}", Origin(0, 0, 0), 0))] * 3
        app = FastAPI()
        problems.install(app)
        app.include_router(Queries(kafka.history, lambda: NOW_US, seconds_max=0.0).router())
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as api:
            answer = await api.post("/v1/query/dry-run", json={"query": "true", "collection": "people"})

        assert "took all of 0 s" in problem(answer, 504, "timeout")["detail"]

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ({"query": "true"}, "collection"),
            ({"query": "true", "collection": "9"}, "collection"),
            ({"query": "true", "collection": "c", "since": "soon"}, "since"),
            ({"query": "SELECT * FROM people", "collection": "c"}, "query"),
            ({"query": "a =", "collection": "c"}, "query"),
        ],
    )
    async def test_a_wrong_body_is_invalid(self, api, body, field):
        """The field is named."""
        answer = await api.post("/v1/query/dry-run", json=body)

        assert [field] == [error["field"] for error in problem(answer, 422, "invalid")["errors"]]


class TestEverywhere:
    """What holds for every call."""

    async def test_health(self, api, kafka):
        """200 while all is well; readiness says what is not."""
        assert {"status": "ok", "checks": {}} == (await api.get("/livez")).json()
        assert {"status": "ok", "checks": {"kafka": "ok"}} == (await api.get("/readyz")).json()
        kafka.is_down = True
        answer = await api.get("/readyz")

        assert (503, {"status": "failing", "checks": {"kafka": "the broker does not answer"}}) == (answer.status_code, answer.json())
        assert 200 == (await api.get("/livez")).status_code

    async def test_version_and_metrics(self, api):
        """For people and for Prometheus."""
        assert ["version"] == list((await api.get("/version")).json())
        assert (await api.get("/metrics")).headers["content-type"].startswith("text/plain")

    async def test_the_openapi_document_and_its_page(self, api):
        """Every call of the reference is in both; the page needs no network."""
        document = (await api.get("/openapi.json")).json()
        page = (await api.get("/docs")).text

        assert {"post"} == document["paths"]["/v1/collections/{collection}/documents"].keys()
        assert {"get", "put", "patch", "delete"} == document["paths"]["/v1/webhooks/{name}"].keys()
        assert {"200", "201"} < document["paths"]["/v1/webhooks/{name}"]["put"]["responses"].keys()
        assert "WebhookSpec" in document["components"]["schemas"]
        for path, method, endpoint in [(path, *one) for path, methods in document["paths"].items() for one in methods.items()]:
            named = [one["name"] for one in endpoint.get("parameters", []) if one["in"] == "path"]
            assert named == re.findall(r"{(\w+)}", path), f"{method} {path}: OpenAPI wants every parameter of the path described"
        assert all(path in page for path in document["paths"])
        assert "<script" not in page
        assert "http://" not in page.replace("http://127.0.0.1", "")

    async def test_the_framework_answers_problems_too(self, api):
        """404 and 405, which names what the path does have (RFC 9110, 15.5.6)."""
        problem(await api.get("/v1/nothing"), 404, "not-found")
        problem(await api.get(DOCUMENTS), 405, "method-not-allowed")
        assert "DELETE, GET, PATCH, PUT" == (await api.post("/v1/webhooks/demo")).headers["allow"]

    async def test_the_detail_is_a_sentence(self, api):
        """Also where the field is a query, and where it is a place in an array."""
        ndjson = {"content-type": "application/x-ndjson"}
        broken = await api.post(DOCUMENTS, content=b'{"_id":"a"}\n{', headers=ndjson)
        query = await api.post("/v1/query/check", json={"query": "age >="})
        body = await api.put("/v1/webhooks/demo", json=[1])

        assert "[1] is no strict JSON: it ends too early" == problem(broken, 400, "malformed")["detail"]
        assert "[1]." == broken.json()["errors"][0]["field"]
        assert "query, line 1, column 7: the query ends too early" == problem(query, 422, "invalid")["detail"]
        assert [{"field": "", "message": "is [1], must be an object"}] == problem(body, 422, "invalid")["errors"]

    async def test_lists_of_what_runs(self, api):
        """Lanes as a list; the status for `livehook status`."""
        assert {"items": [], "nextCursor": None} == (await api.get("/v1/lanes")).json()
        assert {"lanes": [], "topics": [], "roles": []} == (await api.get("/v1/status")).json()

    @pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "10.0.0.1:8080", "localhost.evil.example", ""])
    async def test_on_loopback_the_host_must_be_loopback(self, api, host):
        """DNS rebinding: another site's page that got our address."""
        problem(await api.get("/v1/webhooks", headers={"host": host}), 403, "forbidden")

    @pytest.mark.parametrize("host", ["localhost", "localhost:8080", "127.0.0.1", "127.1.2.3:1", "[::1]:8080", "LOCALHOST"])
    async def test_loopback_has_several_names(self, api, host):
        """All of them are fine."""
        assert 200 == (await api.get("/v1/webhooks", headers={"host": host})).status_code

    async def test_another_sites_page_may_not_write(self, api):
        """A browser says where a call comes from."""
        problem(await api.post("/v1/webhooks/adults/pause", headers={"origin": "https://evil.example"}), 403, "forbidden")
        problem(await api.post("/v1/webhooks/adults/pause", headers={"origin": "http://[no-url"}), 403, "forbidden")
        own = await api.post("/v1/webhooks/adults/pause", headers={"origin": "http://127.0.0.1:8080"})
        assert 404 == own.status_code

    @pytest.mark.parametrize(
        "header", [{}, {"authorization": "Bearer wrong"}, {"authorization": "Basic dG9rZW4="}, {"authorization": "token"}]
    )
    async def test_with_a_token_every_v1_call_needs_it(self, kafka, header):
        """401, and how to ask."""
        async with client(kafka, is_loopback=False, token="right") as api:
            answer = await api.get("/v1/webhooks", headers=header)

        problem(answer, 401, "unauthorized")
        assert "Bearer" == answer.headers["www-authenticate"]

    async def test_the_right_token_opens(self, kafka):
        """Health needs none; other hosts are fine then."""
        async with client(kafka, is_loopback=False, token="right") as api:
            assert 200 == (await api.get("/v1/webhooks", headers={"authorization": "Bearer right", "host": "api.example"})).status_code
            assert 200 == (await api.get("/livez")).status_code

    async def test_a_fault_of_ours_is_a_problem_without_its_insides(self, kafka):
        """500; what happened is in the log."""
        kafka.send = None
        async with client(kafka) as api:
            body = problem(await api.post(DOCUMENTS, json={"_id": "a"}), 500, "internal")
        assert "NoneType" not in json.dumps(body)
