"""Rules of the schema registry's client, against its HTTP interface."""

import json

import httpx
import pytest

from connectors.kafka.errors import KafkaRefused, KafkaUnavailable
from connectors.kafka.registry import SchemaRegistry
from schemas import records
from schemas.mutations import Method, Mutation

UPSERT = Mutation(Method.UPSERT, "people", "1", b'{"_id":"1"}')


class Registry:
    """A registry in memory."""

    def __init__(self):
        self.schemas = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            schema = json.loads(request.content)["schema"]
            if schema not in self.schemas:
                self.schemas.append(schema)
            return httpx.Response(200, json={"id": self.schemas.index(schema) + 1})
        id_ = int(request.url.path.rsplit("/", 1)[1])
        if not 0 < id_ <= len(self.schemas):
            return httpx.Response(404, json={"error_code": 40403})
        return httpx.Response(200, json={"schema": self.schemas[id_ - 1]})


def client(answer):
    return SchemaRegistry("http://registry", transport=httpx.MockTransport(answer))


def test_a_producers_schema_is_found_by_its_id():
    """Written with another schema that has the same fields, read with ours."""
    source = {**records.MUTATION.sources[-1], "doc": "a producer's own"}
    registry = Registry()
    registry.schemas.append(json.dumps(source))
    data = b"\x00\x00\x00\x00\x01" + records.encode_mutation(UPSERT)[10:]
    assert UPSERT == records.decode_mutation(None, data, client(registry).schema_by_id)


def test_an_id_that_nobody_knows_is_no_outage():
    """404 is an answer."""
    with pytest.raises(LookupError):
        client(Registry()).schema_by_id(7)


def test_an_outage_concludes_nothing():
    """A record must not be dead-lettered because the registry is down."""

    def down(_):
        raise httpx.ConnectError("refused")

    for answer in (down, lambda _: httpx.Response(500)):
        with pytest.raises(KafkaUnavailable):
            client(answer).schema_by_id(7)
    with pytest.raises(KafkaRefused):
        client(lambda _: httpx.Response(409, text="incompatible")).register(records.MUTATION)


def test_with_a_registry_records_are_written_in_wire_format_and_both_are_read():
    """What was written before the registry was set up stays readable, and so does what was written with it."""
    plain = records.encode_mutation(UPSERT)
    registry = client(Registry())
    try:
        records.MUTATION.adopt(registry.register(records.MUTATION))
        wire = records.encode_mutation(UPSERT)
        assert b"\x00\x00\x00\x00\x01" == wire[:5]
        assert [UPSERT, UPSERT] == [records.decode_mutation(None, data) for data in (plain, wire)]
    finally:
        records.MUTATION.adopt(None)
    assert plain == records.encode_mutation(UPSERT)
