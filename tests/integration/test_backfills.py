"""Webhooks that start in the past, through processes that are killed: no gap, no overlap, each document's changes in order."""

from __future__ import annotations

import json
import time

import pytest

from schemas.times import parse_rfc3339, rfc3339
from tests.chaos.checker import Webhook, check
from tests.integration.cluster import wait_until
from tests.integration.recorder import arrival_of

ARRIVE_S = 120.0
DOCUMENTS = 200

pytestmark = pytest.mark.timeout(300)  # the first test of the file waits for Kafka and five processes


def write(writer, name, first, count):
    """The documents in turn, each with a number that grows; now and then one is removed."""
    for number in range(first, first + count):
        key = f"{name}/d{number % DOCUMENTS}"
        if number % 17 == 16:
            writer.write(key, "remove", None)
        else:
            writer.write(key, "upsert", {"_id": f"d{number % DOCUMENTS}", "n": number, "even": number % 2 == 0})


def newest(writer):
    """The last value of each document."""
    return {one.key: one.value for one in writer.operations}


def all_came(writer):
    """Whether the last of each document that is there has arrived."""
    last = {key: value["n"] for key, value in newest(writer).items() if value is not None}

    def came(calls):
        if len(calls) < len(last):
            return False
        seen = {}
        for call in calls:
            value = json.loads(call.body)["change"].get("newValue")
            if value is not None:
                seen[call.headers["livehook-document"]] = value["n"]
        return all(seen.get(key) == number for key, number in last.items())

    return came


def test_from_the_beginning_while_workers_and_the_sink_are_killed(cluster, recorder, writer, name):
    """Every change of every document arrives for the first time in order, those of before the webhook too."""
    write(writer, name, 0, 6_000)
    writer.flush()
    cluster.put_webhook(name, collections=[name], url=recorder.url, start="beginning")
    write(writer, name, 6_000, 500)
    recorder.wait_for(lambda calls: len(calls) >= 200, ARRIVE_S)
    for role in cluster.streams:
        role.kill()
    write(writer, name, 6_500, 500)
    for role in cluster.streams:
        role.start()
    recorder.wait_for(lambda calls: len(calls) >= 1_500, ARRIVE_S)
    cluster.sinks[0].kill()
    cluster.streams[0].kill()
    write(writer, name, 7_000, 500)
    cluster.streams[0].start()
    cluster.sinks[0].start()
    write(writer, name, 7_500, 500)
    writer.flush()
    recorder.wait_for(all_came(writer), ARRIVE_S)
    recorder.wait_quiet(2.0, ARRIVE_S)

    report = check(writer.operations, [arrival_of(call) for call in recorder.calls], [Webhook(name, lambda document: document is not None)])
    assert not report.violations, str(report)


def test_from_a_time_with_a_query(cluster, recorder, writer, name):
    """Exactly what happened from then on, as the query sees it."""
    write(writer, name, 0, 300)
    writer.flush()
    moment = rfc3339(time.time_ns() // 1_000)
    wait_until(lambda: time.time_ns() // 1_000 > parse_rfc3339(moment) + 5_000, 1.0, "the clock stands still")
    write(writer, name, 300, 700)
    writer.flush()
    cluster.put_webhook(name, collections=[name], url=recorder.url, query="even == true", events=["update", "enter"], start=moment)
    recorder.wait_for(lambda calls: len(calls) > 100, ARRIVE_S)
    write(writer, name, 1_000, 200)
    writer.flush()
    recorder.wait_quiet(3.0, ARRIVE_S)
    numbers = [json.loads(call.body)["change"]["newValue"]["n"] for call in recorder.calls]
    present = {number for number in range(300, 1_200) if number % 2 == 0 and number % 17 != 16}
    created = {number for number in present if (number - DOCUMENTS) % 17 == 16}  # after a remove
    assert sorted(present - created) == sorted(numbers)


def test_markers_and_the_state_of_the_lane(cluster, recorder, writer, name):
    """What was before stands between initializing and ready; until then the lane is backfilling."""
    write(writer, name, 0, 200)
    writer.flush()
    events = ["create", "update", "remove", "initializing", "ready"]
    cluster.put_webhook(name, collections=[name], url=recorder.url, events=events, start="beginning", state="paused")
    cluster.put_webhook(f"{name}-now", collections=[name], url=recorder.url, events=events)
    write(writer, name, 200, 10)
    writer.flush()
    wait_until(lambda: cluster.lanes()[name]["lag"] > 200, ARRIVE_S, "the backfill does not come")
    assert "paused" == cluster.lanes()[name]["state"]
    cluster.put_webhook(name, collections=[name], url=recorder.url, events=events, start="now")
    recorder.wait_for(lambda calls: sum(b'"ready"' in call.body for call in calls) == 2, ARRIVE_S)
    wait_until(lambda: "running" == cluster.lanes()[name]["state"], ARRIVE_S, "the lane is not running")
    recorder.wait_quiet(1.0, ARRIVE_S)

    for webhook, before in ((name, 180), (f"{name}-now", 0)):
        calls = [call for call in recorder.calls if call.headers["livehook-webhook"] == webhook]
        first, last = calls[0], next(call for call in calls if b'"ready"' in call.body)
        assert before <= calls.index(last) - 1
        body = json.loads(first.body)
        assert {"txnId": body["txnId"], "type": "initializing", "collections": [name]} == body
        assert body | {"type": "ready"} == json.loads(last.body)
        assert "livehook-document" not in last.headers
        assert first.headers["webhook-id"] != last.headers["webhook-id"]
