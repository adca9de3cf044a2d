"""The activity log on a real Kafka, process by process: what was sent is found, sent again in order, and redriven."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import threading
import time

import httpx
import msgspec
import pytest

from connectors.kafka.admin import offsets
from connectors.kafka.config import KafkaConfig
from connectors.webhook.testing import Answer
from tests.integration.cluster import ROOT, wait_until
from tests.integration.recorder import Recorder, arrival_of

ARRIVE_S = 60.0
SEARCHABLE_S = 2.0
ANSWER_S = 60.0

pytestmark = pytest.mark.timeout(300)  # the first test of the file waits for Kafka and four processes


def asked(cluster, method, path, **arguments):
    """The API's answer."""
    answer = httpx.request(method, cluster.api.url + path, timeout=ANSWER_S, trust_env=False, **arguments)
    assert answer.is_success, answer.text
    return answer.json() if answer.content else None


def found(cluster, **filters):
    return asked(cluster, "GET", "/v1/attempts", params=filters)["items"]


def test_an_attempt_is_searchable_within_two_seconds(cluster, recorder, writer, name):
    """After the receiver has answered; in full, with secrets masked."""
    cluster.put_webhook(name, collections=[name], url=recorder.url, headers={"x-api-key": "hidden"})
    writer.write(f"{name}/a", "upsert", {"_id": "a", "n": 1})
    writer.flush()
    [call] = recorder.wait_for(lambda calls: len(calls) >= 1, ARRIVE_S)
    wait_until(lambda: bool(found(cluster, webhook=name)), SEARCHABLE_S, "the attempt is not there")
    [item] = found(cluster, webhook=name, since="1h", document=f"{name}/a", status=200, q="documentchanged")
    attempt = asked(cluster, "GET", f"/v1/attempts/{item['id']}")
    assert (call.headers["webhook-id"], "delivered", "0") == (attempt["deliveryId"], attempt["outcome"], attempt["offset"])
    assert (call.body.decode(), "****") == (attempt["request"]["body"], attempt["request"]["headers"]["x-api-key"])
    assert [] == found(cluster, webhook=name, outcome="failed")


def test_a_resend_ends_on_the_newest_value(cluster, recorder, writer, name):
    """While the document goes on changing: the last arrival is the newest version, and each webhook-id is the one it had."""
    cluster.put_webhook(name, collections=[name], url=recorder.url)
    for number in range(20):
        writer.write(f"{name}/a", "upsert", {"_id": "a", "n": number})
    writer.flush()
    recorder.wait_for(lambda calls: len(calls) >= 20, ARRIVE_S)
    wait_until(lambda: len(found(cluster, webhook=name)) == 20, SEARCHABLE_S, "the attempts are not there")
    fifth = next(item for item in found(cluster, webhook=name) if item["version"] == 5)

    stop = threading.Event()
    changing = threading.Thread(target=change_until, args=(stop, writer, name))
    changing.start()
    resent = asked(cluster, "POST", f"/v1/attempts/{fifth['id']}/resend", json={})
    stop.set()
    changing.join()
    writer.flush()
    wait_until(lambda: asked(cluster, "GET", f"/v1/replays/{resent['id']}")["state"] == "done", ARRIVE_S, "the resend is not done")
    recorder.wait_quiet(1.0, ARRIVE_S)

    calls = recorder.calls
    copies = [arrival_of(call).version for call in calls if call.headers.get("livehook-replay") == resent["id"]]
    assert list(range(5, 5 + len(copies))) == copies
    assert resent["deliveries"] == len(copies) >= 16
    assert max(arrival_of(call).version for call in calls) == arrival_of(calls[-1]).version
    ids = {(arrival_of(call).version, call.headers["webhook-id"]) for call in calls}
    assert len(ids) == len({version for version, _ in ids})


def change_until(stop, writer, name):
    for number in itertools.count(100):
        writer.write(f"{name}/a", "upsert", {"_id": "a", "n": number})
        writer.flush()
        if stop.wait(0.02):
            return


def test_dead_letters_are_redriven(cluster, writer, name):
    """A delivery that was given up arrives, and what came after it once more; a mutation is tried again and comes back."""
    refuse = threading.Event()
    refuse.set()
    with Recorder(lambda call: Answer(500 if refuse.is_set() else 200)) as recorder:
        cluster.put_webhook(name, collections=[name], url=recorder.url, retry={"schedule": ["0s"]})
        writer.write(f"{name}/a", "upsert", {"_id": "a", "n": 1})
        writer.flush()
        wait_until(lambda: bool(letters(cluster, webhook=name)), ARRIVE_S, "the dead letter is not there")
        refuse.clear()
        writer.write(f"{name}/a", "upsert", {"_id": "a", "n": 2})
        writer.flush()
        recorder.wait_for(lambda calls: len(calls) >= 1, ARRIVE_S)
        [letter] = letters(cluster, webhook=name)
        assert ("exhausted", {"_id": "a", "n": 1}) == (letter["reason"], letter["value"]["newValue"])
        asked(cluster, "POST", f"/v1/dead-letters/{letter['id']}/redrive")
        calls = recorder.wait_for(lambda calls: len(calls) >= 3, ARRIVE_S)
        assert [2, 1, 2] == [arrival_of(call).version for call in calls]
        assert [] == letters(cluster, webhook=name)


def test_a_mutation_is_redriven_once(cluster, writer, name):
    """To the partition of its key; refused again, it is another dead letter."""
    key = f"{name}/bad".encode()
    writer.send(b'{"method":"insert"}', key)
    wait_until(lambda: bool(of_key(cluster, key)), ARRIVE_S, "the dead letter is not there")
    [letter] = of_key(cluster, key)
    before = written(cluster)
    assert [letter["id"]] == asked(cluster, "POST", f"/v1/dead-letters/{letter['id']}/redrive")["redriven"]
    assert before + 1 == written(cluster)
    wait_until(lambda: [one["id"] for one in of_key(cluster, key)] not in ([], [letter["id"]]), ARRIVE_S, "it did not come back")
    [again] = of_key(cluster, key)
    asked(cluster, "DELETE", f"/v1/dead-letters/{again['id']}")
    assert [] == of_key(cluster, key)


def letters(cluster, **filters):
    return asked(cluster, "GET", "/v1/dead-letters", params=filters)["items"]


def of_key(cluster, key):
    return [one for one in letters(cluster, reason="invalid") if one["key"] == key.decode()]


def written(cluster):
    """How many records mutations holds."""
    topic = cluster.topics.mutations
    places = [(topic.name, partition) for partition in range(cluster.topics.partitions)]
    return sum(log.end for log in offsets(KafkaConfig(bootstrap_servers=cluster.bootstrap_servers), places, timeout_s=10).values())


def test_follow_shows_each_attempt_as_it_is_made(cluster, recorder, writer, name):
    """On the command line, an object a line."""
    cluster.put_webhook(name, collections=[name], url=recorder.url)
    command = [sys.executable, "-m", "livehook", "attempts", name, "--follow", "--output", "json", "--api", cluster.api.url]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as following:
        lines: list[str] = []
        reading = threading.Thread(target=lambda: lines.extend(itertools.islice(following.stdout or (), 2)))
        reading.start()
        deadline = time.monotonic() + ARRIVE_S
        number = 0
        while reading.is_alive() and time.monotonic() < deadline:  # it follows from some moment on, which cannot be seen from here
            number += 1
            writer.write(f"{name}/a", "upsert", {"_id": "a", "n": number})
            writer.flush()
            reading.join(0.5)
        following.terminate()
    first, second = (json.loads(line)["version"] for line in lines)
    assert first + 1 == second


def test_the_log_goes_on_after_a_restart(cluster, recorder, writer, name):
    """The API is killed meanwhile: each attempt is there, once."""
    cluster.put_webhook(name, collections=[name], url=recorder.url)
    cluster.api.kill()
    for number in range(50):
        writer.write(f"{name}/{number % 5}", "upsert", {"_id": str(number % 5), "n": number})
    writer.flush()
    recorder.wait_for(lambda calls: len(calls) >= 50, ARRIVE_S)
    cluster.api.start()
    cluster.api.wait_ready()
    wait_until(lambda: len(found(cluster, webhook=name, limit=100)) >= 50, ARRIVE_S, "the attempts are not there")
    expected = sorted(call.headers["webhook-id"] for call in recorder.calls)
    assert expected == sorted(item["deliveryId"] for item in found(cluster, webhook=name, limit=100))
    assert msgspec.json.decode(recorder.calls[0].body)["collection"] == name
