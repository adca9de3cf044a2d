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

import msgspec
import pytest
from standardwebhooks import Webhook as Verifier

from connectors.webhook.testing import Call
from livehook import __version__
from schemas.keys import partition_of
from schemas.mutations import DOCUMENT_BYTES_MAX
from tests.chaos.checker import Webhook, check
from tests.integration.cluster import Cluster
from tests.integration.recorder import Writer, arrival_of

TRIES = int(os.environ.get("LIVEHOOK_TRIES", "100"))
ARRIVE_S = 60.0
QUIET_S = 1.0
RESTART_EVERY_S = 2.0
HTTPS_OWN = {"host", "content-length", "accept", "accept-encoding", "connection"}

pytestmark = pytest.mark.timeout(300)  # the first test of the file waits for Kafka and four processes


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
