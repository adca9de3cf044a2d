"""
The whole way, process by process: what a client writes to Kafka, and what a receiver then gets, header by header.

``LIVEHOOK_TRIES=1000`` puts more webhooks under restarts of the streams workers.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import re
import shutil
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator

import msgspec
import pytest
from standardwebhooks import Webhook as Verifier

from connectors.webhook.testing import Call
from livehook import __version__
from schemas.keys import partition_of
from schemas.mutations import DOCUMENT_BYTES_MAX, METADATA_BYTES_MAX, Method, Mutation
from schemas.records import encode_mutation
from tests.broker import Broker
from tests.chaos.checker import Webhook, check
from tests.integration.cluster import Cluster, wait_until
from tests.integration.recorder import Recorder, Writer, arrival_of
from tests.integration.topics import headers_of, id_at, records

TRIES = int(os.environ.get("LIVEHOOK_TRIES", "100"))
ARRIVE_S = 60.0
QUIET_S = 1.0
RESTART_EVERY_S = 2.0
HTTPS_OWN = {"host", "content-length", "accept", "accept-encoding", "connection"}


@pytest.fixture(scope="module")
def cluster(kafka: Broker, tmp_path_factory: pytest.TempPathFactory, chance: random.Random) -> Iterator[Cluster]:
    """Two streams workers, a sink and an API, on topics of their own."""
    prefix = f"way-{uuid.uuid4().hex[:8]}."
    with Cluster(tmp_path_factory.mktemp("way"), kafka.bootstrap_servers, chance=chance, streams=2, prefix=prefix) as cluster:
        yield cluster


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    """A receiver that answers 200."""
    with Recorder() as recorder:
        yield recorder


@pytest.fixture
def writer(cluster: Cluster) -> Writer:
    """A client of Kafka with Java's partitioner."""
    return Writer(cluster.bootstrap_servers, cluster.topics.mutations.name)


@pytest.fixture
def name() -> str:
    """A webhook's name, and a collection's, that no other test uses."""
    return f"w{uuid.uuid4().hex[:10]}"


def test_the_three_events_come_out_exactly(cluster, recorder, writer, name):
    """Create, change and remove a person: bodies and headers as docs/reference/receiver.md shows them."""
    id_ = "6213e9c90012e4af0017cb9f"
    secret = cluster.put_webhook(name, collections=["people"], ids=[id_], url=f"{recorder.url}/hook")["secret"]
    begun = time.time()
    writer.write(f"people/{id_}", "upsert", {"_id": id_, "date": 1645472201, "name": "Susan", "age": 31})
    writer.write(f"people/{id_}", "upsert", {"_id": id_, "ownedCars": 0, "friends": [], "name": "Frank"})
    writer.write(f"people/{id_}", "remove", None)
    writer.flush()
    calls = recorder.wait_for(lambda calls: len(calls) >= 3, ARRIVE_S)

    susan = f'{{"_id":"{id_}","date":1645472201,"name":"Susan","age":31}}'
    frank = f'{{"_id":"{id_}","date":1645472201,"name":"Frank","age":31,"ownedCars":0,"friends":[]}}'
    changes = [
        ("create", f'{{"method":"upsert","oldValue":null,"newValue":{susan}}}'),
        ("update", f'{{"method":"upsert","oldValue":{susan},"newValue":{frank}}}'),
        ("remove", f'{{"method":"remove","value":{frank}}}'),
    ]
    txn_ids = [msgspec.json.decode(call.body)["txnId"] for call in calls]
    expected = [
        f'{{"txnId":{txn_id},"type":"documentChanged","collection":"people","match":"{match}","change":{change}}}'
        for txn_id, (match, change) in zip(txn_ids, changes, strict=True)
    ]
    assert expected == [call.body.decode() for call in calls]
    assert txn_ids == sorted(set(txn_ids))
    assert all(begun - 60 < txn_id / 1e6 < time.time() + 60 < 2**53 for txn_id in txn_ids)
    for number, (call, (match, _)) in enumerate(zip(calls, changes, strict=True)):
        assert ("POST", "/hook") == (call.method, call.target)
        assert headers_expected(name, f"people/{id_}", version=number + 1, offset=number, match=match) == ours(call)
        assert call.body.decode() == json.dumps(Verifier(secret).verify(call.body, call.headers), separators=(",", ":"))
    assert 3 == len({call.headers["webhook-id"] for call in calls})


def headers_expected(name: str, key: str, *, version: int, offset: int, match: str) -> dict[str, str]:
    """Those of a first attempt; the ones that are never the same twice are checked for their form."""
    return {
        "webhook-id": "msg_…",
        "webhook-timestamp": "seconds",
        "webhook-signature": "v1,…",
        "livehook-webhook": name,
        "livehook-offset": str(offset),
        "livehook-attempt": "1",
        "livehook-document": key,
        "livehook-version": str(version),
        "livehook-match": match,
        "content-type": "application/json",
        "user-agent": f"livehook/{__version__}",
    }


def ours(call: Call) -> dict[str, str]:
    """The headers that are not HTTP's own, with what differs from call to call replaced by its form."""
    found = {header: value for header, value in call.headers.items() if header not in HTTPS_OWN}
    forms = {
        "webhook-id": (r"msg_[0-9A-Za-z_-]+", "msg_…"),
        "webhook-timestamp": (rf"{str(int(call.at))[:-2]}\d\d", "seconds"),
        "webhook-signature": (r"v1,[0-9A-Za-z+/]+=*", "v1,…"),
    }
    return found | {header: shown for header, (form, shown) in forms.items() if re.fullmatch(form, found.get(header, ""))}


def test_a_query_sees_old_and_new_value(cluster, recorder, writer, name):
    """age >= 18: create, update, leave, enter, remove as the document changes; one that never matches is never heard of."""
    cluster.put_webhook(name, collections=[name], query="age >= 18", url=recorder.url)
    for age in (20, 21, 17, 16, 30):
        writer.write(f"{name}/a", "upsert", {"_id": "a", "age": age})
        writer.write(f"{name}/b", "replace", {"_id": "b", "age": age - 20})
    writer.write(f"{name}/a", "remove", None)
    writer.write(f"{name}/b", "remove", None)
    writer.flush()
    recorder.wait_for(lambda calls: len(calls) >= 5, ARRIVE_S)
    recorder.wait_quiet(QUIET_S, ARRIVE_S)
    assert ["create", "update", "leave", "enter", "remove"] == [call.headers["livehook-match"] for call in recorder.calls]
    report = check(writer.operations, map(arrival_of, recorder.calls), [Webhook(name, lambda document: document["age"] >= 18)])
    assert [] == list(report.violations)


@pytest.mark.timeout(300 + TRIES)
def test_what_is_sent_after_a_put_is_matched(cluster, recorder, writer, name, say, seed):
    """Always, with the query that was put, while streams workers are killed, stopped and started."""
    with restarting(cluster, random.Random(seed)) as restarts:
        for number in range(TRIES):
            webhook = f"{name}-{number % 10}"
            cluster.put_webhook(webhook, collections=[name], query=f"n == {number}", url=f"{recorder.url}/{number}")
            writer.write(f"{name}/{number}", "upsert", {"_id": str(number), "n": number})
            writer.flush()
    recorder.wait_for(lambda calls: len({call.headers["webhook-id"] for call in calls}) >= TRIES, ARRIVE_S)
    recorder.wait_quiet(QUIET_S, ARRIVE_S)
    say(f"{TRIES} webhooks put, {len(restarts)} restarts of streams workers meanwhile: {len(recorder.calls)} calls")
    found = {(call.headers["livehook-webhook"], msgspec.json.decode(call.body)["change"]["newValue"]["n"]) for call in recorder.calls}
    assert {(f"{name}-{number % 10}", number) for number in range(TRIES)} == found
    assert {"create"} == {call.headers["livehook-match"] for call in recorder.calls}


class restarting:  # noqa: N801 - used as a context manager
    """Restarts one streams worker after the other, killed or asked to end, until the block ends; then both run."""

    def __init__(self, cluster: Cluster, rng: random.Random) -> None:
        self._cluster = cluster
        self._rng = rng
        self._over = threading.Event()
        self._done: list[str] = []
        self._codes: list[int] = []
        self._thread = threading.Thread(target=self._run, name="restarting")

    def __enter__(self) -> list[str]:
        self._thread.start()
        return self._done

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        for role in self._cluster.streams:
            role.wait_ready()
        assert {0} >= set(self._codes), "a worker that was asked to end did not end with 0"

    def _run(self) -> None:
        for role in itertools.cycle(self._cluster.streams):
            if self._over.wait(self._rng.uniform(0, RESTART_EVERY_S)):
                return
            if self._rng.random() < 0.5 or not role.is_ready():  # until it has begun, SIGTERM is as good as SIGKILL
                role.kill()
            else:
                self._codes.append(role.stop())
            role.start()
            self._done.append(role.name)


@pytest.mark.skipif(shutil.which("kcat") is None, reason="kcat is not installed")
def test_kcat_is_a_client_too(cluster, recorder, name):
    """A line of JSON on its standard input is a mutation."""
    cluster.put_webhook(name, collections=[name], url=recorder.url)
    line = json.dumps({"method": "upsert", "collection": name, "id": "a", "value": {"n": 1}})
    arguments = ["-P", "-b", cluster.bootstrap_servers, "-t", cluster.topics.mutations.name]
    subprocess.run(["kcat", *arguments], input=line.encode(), check=True, timeout=ARRIVE_S)
    [call] = recorder.wait_for(lambda calls: len(calls) >= 1, ARRIVE_S)
    assert {"_id": "a", "n": 1} == msgspec.json.decode(call.body)["change"]["newValue"]


def test_another_partitioner_is_put_right(cluster, recorder, name):
    """Records that librdkafka's default, CRC32, puts elsewhere arrive in order, and are counted as forwarded."""
    cluster.put_webhook(name, collections=[name], url=recorder.url)
    writer = Writer(cluster.bootstrap_servers, cluster.topics.mutations.name, partitioner="consistent_random")
    partitions = cluster.topics.partitions
    before = cluster.metric("livehook_mutations_total", outcome="forwarded")
    astray = 0
    for number, id_ in itertools.product(range(20), "abcdef"):
        value = json.dumps({"method": "upsert", "collection": name, "id": id_, "value": {"n": number}}).encode()
        key = f"{name}/{id_}".encode()
        partition, _ = writer.send(value, key)
        astray += partition != partition_of(key, partitions)
    recorder.wait_for(lambda calls: len(calls) >= 120, ARRIVE_S)
    assert astray > 0
    assert astray == cluster.metric("livehook_mutations_total", outcome="forwarded") - before
    for id_ in "abcdef":
        mine = [arrival_of(call) for call in recorder.calls if call.headers["livehook-document"] == f"{name}/{id_}"]
        assert [*range(20)] == [arrival.new["n"] for arrival in mine if arrival.new]
        assert [*range(1, 21)] == [arrival.version for arrival in mine]


def test_a_record_without_a_key_finds_its_document(cluster, recorder, writer, name):
    """Wherever it was put; so does one with the key of another document."""
    cluster.put_webhook(name, collections=[name], url=recorder.url)
    mutation = {"method": "upsert", "collection": name, "id": "a"}
    for number, (key, partition) in enumerate([(None, 0), (None, 1), (b"other/b", 2), (b"\xff", 3)]):
        writer.send(json.dumps(mutation | {"value": {"n": number}}).encode(), key, partition=partition)
    calls = recorder.wait_for(lambda calls: len(calls) >= 4, ARRIVE_S)
    assert {1, 2, 3, 4} == {arrival_of(call).version for call in calls}


def test_a_null_value_is_a_remove(cluster, recorder, writer, name):
    """As tombstones are everywhere in Kafka."""
    cluster.put_webhook(name, collections=[name], url=recorder.url)
    writer.write(f"{name}/a", "upsert", {"_id": "a"})
    writer.send(None, f"{name}/a".encode())
    calls = recorder.wait_for(lambda calls: len(calls) >= 2, ARRIVE_S)
    assert ["create", "remove"] == [call.headers["livehook-match"] for call in calls]


def test_a_document_of_one_mib_goes_all_the_way(cluster, recorder, writer, name):
    """To the byte; its next change carries two of them."""
    cluster.put_webhook(name, collections=[name], url=recorder.url)
    sizes = []
    for letter in "xy":
        value = {"_id": "a", "text": ""}
        value["text"] = letter * (DOCUMENT_BYTES_MAX - len(msgspec.json.encode(value)))
        sizes.append(len(msgspec.json.encode(value)))
        writer.write(f"{name}/a", "upsert", value)
    writer.flush()
    recorder.wait_for(lambda calls: len(calls) >= 2, ARRIVE_S)
    assert [DOCUMENT_BYTES_MAX] * 2 == sizes
    report = check(writer.operations, map(arrival_of, recorder.calls), [Webhook(name, lambda document: True)])
    assert [] == list(report.violations)


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
    place = writer.send(value, key, partition=wrong, headers=[("livehook-via", b"0/1")])
    source = f"{cluster.topics.mutations.name}/{place[0]}/{place[1]}"
    assert (key, value, "misrouted") == wait_for_dead_letters(cluster, {source})[source][:3]


@pytest.mark.timeout(180)
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
