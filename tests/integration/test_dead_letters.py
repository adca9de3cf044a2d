"""Mutations that cannot be applied, of every kind: none is lost, none holds up the one behind it."""

from __future__ import annotations

import json
import random

import pytest

from schemas.keys import partition_of
from schemas.mutations import DOCUMENT_BYTES_MAX, METADATA_BYTES_MAX, Method, Mutation
from schemas.records import encode_mutation
from tests.chaos.checker import Webhook, check
from tests.integration.cluster import Cluster, wait_until
from tests.integration.recorder import arrival_of
from tests.integration.topics import headers_of, id_at, records

ARRIVE_S = 60.0

pytestmark = pytest.mark.timeout(300)  # the first test of the file waits for Kafka and four processes

AVRO = encode_mutation(Mutation(Method.UPSERT, "c", "bad", b'{"_id":"bad"}'))
HALF = "x" * (DOCUMENT_BYTES_MAX * 6 // 10)


def asked(**fields: object) -> bytes:
    """A mutation as JSON: valid but for what is given; COLLECTION stands for the test's collection."""
    mutation = {"method": "upsert", "collection": "COLLECTION", "id": "bad", "value": {"n": 1}} | fields
    return json.dumps({field: value for field, value in mutation.items() if value is not ...}).encode()


MALFORMED = {
    "cut off JSON": (b'{"method": "upsert"', "undecodable", "JSON"),
    "nothing at all": (b"", "undecodable", "JSON"),
    "no UTF-8": (b'{"method": "\xff"}', "undecodable", "UTF-8"),
    "NaN": (asked().replace(b"1}", b"NaN}"), "undecodable", "JSON"),
    "a number beyond a double": (asked().replace(b"1}", b"1e999}"), "undecodable", "range"),
    "a lone surrogate": (asked().replace(b"1}", b'"\\ud800"}'), "undecodable", "JSON"),
    "a key twice": (asked().replace(b"1}", b'1, "n": 2}'), "undecodable", "twice"),
    "too deep": (asked().replace(b"1}", b"[" * 200 + b"]" * 200 + b"}"), "undecodable", "levels"),
    "no object": (b"[1, 2]", "invalid", "object"),
    "no method": (asked(method=...), "invalid", "method"),
    "an unknown method": (asked(method="patch"), "invalid", "method"),
    "a bad collection": (asked(collection="no spaces"), "invalid", "collection"),
    "a collection of another type": (asked(collection=7), "invalid", "collection"),
    "no id": (asked(id=...), "invalid", "id"),
    "an id that is a number": (asked(id=7), "invalid", "id"),
    "an id that is too long": (asked(id="x" * 1025), "invalid", "id"),
    "two ids": (asked(value={"_id": "other"}), "invalid", "id"),
    "a value that is no object": (asked(value=[1]), "invalid", "value"),
    "no value": (asked(value=...), "invalid", "value"),
    "a field too many": (asked(extra=1), "invalid", "extra"),
    "an ifVersion that is a text": (asked(ifVersion="1"), "invalid", "ifVersion"),
    "an ifVersion that does not hold": (asked(ifVersion=7), "conflict", "ifVersion"),
    "metadata that is no object": (asked(metadata=[1]), "invalid", "metadata"),
    "too much metadata": (asked(metadata={"x": "x" * METADATA_BYTES_MAX}), "too-large", "metadata"),
    "a document over 1 MiB": (asked(value={"x": "x" * DOCUMENT_BYTES_MAX}), "too-large", "document"),
    "a document over 1 MiB after the merge": (asked(id="half", value={"y": HALF}), "too-large", "document"),
    "truncated Avro": (AVRO[:-3], "undecodable", "Avro"),
    "Avro with bytes too many": (AVRO + b"\x00", "undecodable", "Avro"),
    "Avro of an unknown schema": (AVRO[:2] + b"\x00" * 8 + AVRO[10:], "unknown-schema", "fingerprint"),
    "Confluent's format without a registry": (b"\x00\x00\x00\x00\x07" + AVRO[10:], "unknown-schema", "registry"),
    "a null value without a key": (None, "invalid", "key"),
}


def test_what_cannot_be_applied_ends_in_the_dead_letters(cluster, recorder, writer, name):
    """Key and value untouched, with reason, detail and source; the record behind it is processed."""
    cluster.put_webhook(name, collections=[name], query="good == true", url=recorder.url)
    topic, partitions = cluster.topics.mutations.name, cluster.topics.partitions
    writer.send(asked(id="half", value={"x": HALF}).replace(b"COLLECTION", name.encode()), f"{name}/half".encode())
    expected = {}
    for number, (value, reason, _) in enumerate(MALFORMED.values()):
        if value is not None:
            value = value.replace(b"COLLECTION", name.encode())
        key = None if value is None else f"{name}/{'half' if b'half' in value[:200] else 'bad'}".encode()
        place = writer.send(value, key, partition=-1 if key else 0)
        id_ = id_at(place[0], name, f"good{number}", partitions)
        writer.write(f"{name}/{id_}", "upsert", {"_id": id_, "good": True})
        expected[f"{topic}/{place[0]}/{place[1]}"] = (key, value, reason)
    writer.flush()
    recorder.wait_for(lambda calls: len({call.headers["webhook-id"] for call in calls}) >= len(MALFORMED), ARRIVE_S)

    found = dead_letters(cluster)
    assert expected == {source: found[source][:3] for source in expected if source in found}
    for source, (what, (_, _, word)) in zip(expected, MALFORMED.items(), strict=True):
        assert word.lower() in found[source][3].lower(), f"{what}: {found[source][3]}"


def test_a_record_that_is_sent_on_twice_is_misrouted(cluster, writer, name):
    """Whoever forwards it, a record wrong a second time goes round no more."""
    key = f"{name}/a".encode()
    wrong = (partition_of(key, cluster.topics.partitions) + 1) % cluster.topics.partitions
    value = json.dumps({"method": "upsert", "collection": name, "id": "a", "value": {}}).encode()
    via = f"{(wrong + 1) % cluster.topics.partitions}/1".encode()
    place = writer.send(value, key, partition=wrong, headers=[("livehook-via", via)])
    source = f"{cluster.topics.mutations.name}/{place[0]}/{place[1]}"
    assert (key, value, "misrouted") == wait_for_dead_letters(cluster, {source})[source][:3]


def test_no_dead_letter_is_lost_in_a_crash(cluster, recorder, writer, name, seed):
    """Good and bad ones in the same batches, workers killed meanwhile: each bad one is there, each good one is delivered."""
    cluster.put_webhook(name, collections=[name], url=recorder.url)
    rng = random.Random(seed)
    sources = set()
    for round_ in range(3):
        for number in range(1000):
            id_ = f"{round_}-{number}"
            writer.write(f"{name}/{id_}", "upsert", {"_id": id_})
        for number in range(20):
            place = writer.send(b"{" + str(number).encode(), None, partition=rng.randrange(cluster.topics.partitions))
            sources.add(f"{cluster.topics.mutations.name}/{place[0]}/{place[1]}")
        role = rng.choice(cluster.streams)
        role.kill()
        role.start()
    assert sources <= wait_for_dead_letters(cluster, sources).keys()
    recorder.wait_for(lambda calls: len({call.headers["webhook-id"] for call in calls}) >= 3000, ARRIVE_S)
    report = check(writer.operations, map(arrival_of, recorder.calls), [Webhook(name, lambda document: True)])
    assert [] == list(report.violations), str(report)


DeadLetter = tuple[bytes | None, bytes | None, str, str]
"""Key, value, reason, detail."""


def dead_letters(cluster: Cluster) -> dict[str, DeadLetter]:
    """All there are, by source."""
    found = {}
    for message in records(cluster.bootstrap_servers, cluster.topics.dead_letters.name):
        headers = headers_of(message)
        assert {"reason", "detail", "source"} == headers.keys()
        found[headers["source"]] = (message.key(), message.value(), headers["reason"], headers["detail"])
    return found


def wait_for_dead_letters(cluster: Cluster, sources: set[str]) -> dict[str, DeadLetter]:
    """All there are, once those are among them. Raises TimeoutError."""
    wait_until(lambda: sources <= dead_letters(cluster).keys(), ARRIVE_S, "some dead letters are missing")
    return dead_letters(cluster)
