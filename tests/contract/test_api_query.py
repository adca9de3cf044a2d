"""``/v1/query/check``, ``explain`` and ``dry-run``, as docs/reference/http-api.md has them. On a fake Kafka."""

import httpx
import pytest
from fastapi import FastAPI

from livehook.api import problems
from livehook.api.query import Queries
from livehook.api.testing import NOW_US
from schemas.changes import Change
from schemas.positions import Origin
from tests.api import problem


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
