"""Documents over the HTTP API: ``/v1/collections/{c}/documents``, as docs/reference/http-api.md has it. On a fake Kafka."""

import gzip
import json

import pytest

from livehook.api import documents
from livehook.api.problems import Problem
from schemas.mutations import Method, Mutation
from tests.api import DOCUMENTS, mutations, problem


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

    @pytest.mark.parametrize("body", [b"no gzip", gzip.compress(b"{}" * 100, mtime=0)[:-20]])
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
