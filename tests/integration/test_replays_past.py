"""A rewind to before what the lane keeps, whoever is killed: all comes again from ``changes``, in order, and then what is new."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import httpx
import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from connectors.webhook.testing import Call
from schemas.times import rfc3339
from tests.chaos.checker import Webhook, check
from tests.integration.cluster import Cluster, wait_until
from tests.integration.recorder import Recorder, Writer, arrival_of

ARRIVE_S = 150.0
ANSWER_S = 60.0
DOCUMENTS = 100
AGAIN = int(os.environ.get("LIVEHOOK_PAST_CHANGES", "4000"))
"""So many changes lie between the wanted time and the request."""
BEFORE = 300

pytestmark = pytest.mark.timeout(300)  # the first test of the file waits for Kafka and five processes


def asked(cluster: Cluster, method: str, path: str, body: Any = None) -> Any:
    """The API's answer."""
    answer = httpx.request(method, cluster.api.url + path, json=body, timeout=ANSWER_S, trust_env=False)
    assert answer.status_code in range(200, 300), answer.text
    return answer.json()


def write(writer: Writer, name: str, first: int, count: int) -> None:
    """The documents in turn, each with a number that grows; now and then one is removed."""
    for number in range(first, first + count):
        key = f"{name}/d{number % DOCUMENTS}"
        if number % 17 == 16:
            writer.write(key, "remove", None)
        else:
            writer.write(key, "upsert", {"_id": f"d{number % DOCUMENTS}", "n": number})
    writer.flush()


def cut(cluster: Cluster, name: str, left: int) -> None:
    """The lane loses all but its last deliveries."""
    lane = cluster.topics.lane(name).name
    end = cluster.lanes()[name]["offset"]["end"]
    client = AdminClient({"bootstrap.servers": cluster.bootstrap_servers})
    [future] = client.delete_records([TopicPartition(lane, 0, end - left)]).values()
    future.result(ANSWER_S)


def lag_is_gone(cluster: Cluster, name: str) -> bool:
    return bool(cluster.lanes()[name]["lag"] == 0)


def versions(calls: Sequence[Call]) -> dict[str, list[int]]:
    """Of each document, in the order in which each came for the first time among these."""
    found: dict[str, dict[int, None]] = defaultdict(dict)
    for call in calls:
        found[call.headers["livehook-document"]].setdefault(int(call.headers["livehook-version"]))
    return {key: [*seen] for key, seen in found.items()}


def filled(cluster: Cluster, recorder: Recorder, writer: Writer, name: str) -> str:
    """A webhook that was sent what happened before and after a moment, and whose lane has lost nearly all of it. Returns the moment."""
    cluster.put_webhook(name, collections=[name], url=recorder.url)
    write(writer, name, 0, BEFORE)
    wait_until(lambda: lag_is_gone(cluster, name) and len(recorder.calls) > 0, ARRIVE_S, "the first do not come")
    moment = rfc3339(time.time_ns() // 1_000)
    write(writer, name, BEFORE, AGAIN)
    wait_until(lambda: cluster.metric("livehook_stream_lag") == 0 and lag_is_gone(cluster, name), ARRIVE_S, "the others do not come")
    cut(cluster, name, 100)
    return moment


def test_all_from_a_time_comes_again_while_everybody_is_killed(cluster: Cluster, recorder: Recorder, writer: Writer, name: str) -> None:
    """With the ids of the first time, in order for each document, and each ends on its newest value; the dry run had counted them."""
    moment = filled(cluster, recorder, writer, name)
    first = {call.headers["webhook-id"] for call in recorder.calls}
    counted = asked(cluster, "POST", f"/v1/webhooks/{name}/replay", {"from": {"time": moment}, "dryRun": True})
    assert (None, ["txnId"]) == (counted["id"], [*counted["from"]])
    again = {call.headers["webhook-id"] for call in recorder.calls if int(call_txn(call)) >= counted["from"]["txnId"]}
    assert len(again) == counted["deliveries"]

    replay = asked(cluster, "POST", f"/v1/webhooks/{name}/replay", {"from": {"time": moment}})
    cluster.api.kill()
    write(writer, name, BEFORE + AGAIN, 300)
    cluster.api.start()
    recorder.wait_for(lambda calls: len(marked(calls, replay["id"])) > 100, ARRIVE_S)
    for role in cluster.streams:
        role.kill()
    write(writer, name, BEFORE + AGAIN + 300, 300)
    for role in cluster.streams:
        role.start()
    recorder.wait_for(lambda calls: len(marked(calls, replay["id"])) > AGAIN // 2, ARRIVE_S)
    cluster.sinks[0].kill()
    cluster.streams[0].kill()
    cluster.sinks[0].start()
    cluster.streams[0].start()
    cluster.api.wait_ready()
    wait_until(lambda: "done" == asked(cluster, "GET", f"/v1/replays/{replay['id']}")["state"], ARRIVE_S, "the replay is not done")
    wait_until(lambda: lag_is_gone(cluster, name), ARRIVE_S, "the lane is not empty")
    recorder.wait_quiet(1.0, ARRIVE_S)

    copies = marked(recorder.calls, replay["id"])
    assert again <= {call.headers["webhook-id"] for call in copies}
    assert {call.headers["webhook-id"] for call in copies} - first <= {call.headers["webhook-id"] for call in recorder.calls}
    assert all(found == sorted(found) for found in versions(copies).values())
    ends = {call.headers["livehook-document"]: int(call.headers["livehook-version"]) for call in recorder.calls}
    assert {key: max(found) for key, found in versions(recorder.calls).items()} == ends
    report = check(writer.operations, [arrival_of(call) for call in recorder.calls], [Webhook(name, lambda document: document is not None)])
    assert not report.violations, str(report)
    shown = asked(cluster, "GET", f"/v1/replays/{replay['id']}")
    assert (counted["deliveries"], True) == (shown["delivered"], shown["endedAt"] is not None)


def test_one_that_is_cancelled_hands_over_to_the_live_flow(cluster: Cluster, recorder: Recorder, writer: Writer, name: str) -> None:
    """What is new comes, and another one may begin."""
    filled(cluster, recorder, writer, name)
    first = asked(cluster, "POST", f"/v1/webhooks/{name}/replay", {"from": {"beginning": True}})
    recorder.wait_for(lambda calls: len(marked(calls, first["id"])) > 10, ARRIVE_S)
    assert "cancelled" == asked(cluster, "DELETE", f"/v1/replays/{first['id']}")["state"]
    write(writer, name, BEFORE + AGAIN, 50)
    wait_until(lambda: cluster.lanes()[name]["state"] == "running", ARRIVE_S, "the backfill does not end")
    second = asked(cluster, "POST", f"/v1/webhooks/{name}/replay", {"from": {"beginning": True}})
    wait_until(lambda: "done" == asked(cluster, "GET", f"/v1/replays/{second['id']}")["state"], ARRIVE_S, "the replay is not done")
    recorder.wait_quiet(1.0, ARRIVE_S)

    assert second["deliveries"] == len({call.headers["webhook-id"] for call in recorder.calls})
    assert second["deliveries"] == len({call.headers["webhook-id"] for call in marked(recorder.calls, second["id"])})
    report = check(writer.operations, [arrival_of(call) for call in recorder.calls], [Webhook(name, lambda document: document is not None)])
    assert not report.violations, str(report)


def marked(calls: Sequence[Call], replay: str) -> list[Call]:
    """Those that came again because of a replay."""
    return [call for call in calls if call.headers.get("livehook-replay") == replay]


def call_txn(call: Call) -> int:
    """The ``txnId`` of a body."""
    return arrival_of(call).txn_id
