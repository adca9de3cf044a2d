"""What holds for every call of the HTTP API: statuses, headers, problems, tokens. On a fake Kafka; tests/integration has the real one."""

import json
import re

import pytest

from tests.api import DOCUMENTS, client, problem


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
