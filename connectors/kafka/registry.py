"""
A schema registry with Confluent's HTTP interface: the schemas of producers by id, and ids for our own.

Source: Confluent Schema Registry API, ``GET /schemas/ids/{id}`` and ``POST /subjects/{subject}/versions``. Subjects are the records' full
names, for a topic of ours may hold several kinds of record.
"""

from __future__ import annotations

import json
from typing import Any

import httpx
from fastavro import parse_schema

from connectors.kafka.errors import KafkaRefused, KafkaUnavailable
from schemas.codec import Schema
from schemas.records import ALL

TIMEOUT_S = 5.0
KNOWN_MAX = 1_000


class SchemaRegistry:
    """
    Not for several threads at once. What it has read it keeps; schemas never change under their id.

    Raises:  KafkaUnavailable: it does not answer; nothing may be concluded from that. KafkaRefused: it refuses a schema of ours.
    """

    def __init__(self, url: str, *, transport: httpx.BaseTransport | None = None) -> None:
        self._http = httpx.Client(base_url=url.rstrip("/"), timeout=TIMEOUT_S, trust_env=False, transport=transport)
        self._known: dict[int, Any] = {}

    def schema_by_id(self, id_: int) -> Any:
        """
        The parsed Avro schema with this id.

        Raises:  LookupError: there is none, or it is no Avro schema.
        """
        if id_ not in self._known:
            answer = self._ask("GET", f"/schemas/ids/{id_}")
            if answer.status_code == httpx.codes.NOT_FOUND:
                raise LookupError(f"no schema has the id {id_}")
            body = self._body(answer)
            if body.get("schemaType", "AVRO") != "AVRO":
                raise LookupError(f"schema {id_} is {body['schemaType']}, must be AVRO")
            if len(self._known) >= KNOWN_MAX:
                self._known.pop(next(iter(self._known)))
            self._known[id_] = parse_schema(json.loads(body["schema"]))
        return self._known[id_]

    def register(self, schema: Schema) -> list[int]:
        """The ids of a record's schema versions, oldest first; those that are new to the registry are added."""
        subject = f"{schema.sources[0]['namespace']}.{schema.sources[0]['name']}"
        found = []
        for source in schema.sources:
            answer = self._ask("POST", f"/subjects/{subject}/versions", {"schema": json.dumps(source)})
            if answer.is_client_error:
                raise KafkaRefused(f"the schema registry refuses {subject}: {answer.text[:200]}")
            found.append(int(self._body(answer)["id"]))
        return found

    def adopt(self) -> None:
        """From now on this process writes every record in wire format, with this registry's ids."""
        for schema in ALL:
            schema.adopt(self.register(schema))

    def close(self) -> None:
        """Close its connections."""
        self._http.close()

    def _ask(self, method: str, path: str, body: Any = None) -> httpx.Response:
        try:
            return self._http.request(method, path, json=body)
        except httpx.HTTPError as error:
            raise KafkaUnavailable(f"the schema registry does not answer: {error}") from error

    def _body(self, answer: httpx.Response) -> dict[str, Any]:
        if not answer.is_success:
            raise KafkaUnavailable(f"the schema registry answers {answer.status_code}")
        found: dict[str, Any] = answer.json()
        return found
