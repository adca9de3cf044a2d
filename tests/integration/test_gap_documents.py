"""What follows a gap: the present documents, or just what is left, through processes that are killed."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from connectors.webhook.testing import Call
from tests.integration.cluster import Cluster, wait_until
from tests.integration.recorder import Recorder, Writer

ARRIVE_S = 120.0
DOCUMENTS = 300

pytestmark = pytest.mark.timeout(300)  # the first test of the file waits for Kafka and five processes


def write(writer: Writer, name: str, first: int, count: int) -> None:
    """The documents in turn, each with a number that grows; now and then one is removed, or leaves the query."""
    for number in range(first, first + count):
        key = f"{name}/d{number % DOCUMENTS}"
        if number % 17 == 16:
            writer.write(key, "remove", None)
        else:
            writer.write(key, "upsert", {"_id": f"d{number % DOCUMENTS}", "n": number, "wanted": number % 5 != 4})
    writer.flush()


def present(writer: Writer) -> dict[str, int]:
    """The number of each document that matches now, by key."""
    last = {one.key: one.value for one in writer.operations}
    return {key: value["n"] for key, value in last.items() if value is not None and value["wanted"]}


def deliveries(writer: Writer) -> int:
    """How many there are of all that was written."""
    wanted: dict[str, bool] = {}
    count = 0
    for one in writer.operations:
        before, wanted[one.key] = wanted.get(one.key, False), one.value is not None and one.value["wanted"]
        count += before or wanted[one.key]
    return count


def mirrored(calls: Sequence[Call]) -> dict[str, int]:
    """What a receiver has that keeps the last value of each document."""
    found: dict[str, int] = {}
    for call in calls:
        match, key = call.headers["livehook-match"], call.headers.get("livehook-document", "")
        if match in ("leave", "remove"):
            found.pop(key, None)
        elif key:
            found[key] = json.loads(call.body)["change"]["newValue"]["n"]
    return found


def numbers(calls: Sequence[Call], match: str) -> dict[str, int]:
    """The newest of each document that came as this match."""
    return {
        call.headers["livehook-document"]: json.loads(call.body)["change"]["newValue"]["n"]
        for call in calls
        if match == call.headers["livehook-match"]
    }


def is_in_order(calls: Sequence[Call]) -> bool:
    """Whether no document went back to an older version, repeats left out."""
    seen: set[str] = set()
    versions: dict[str, list[int]] = defaultdict(list)
    for call in calls:
        if call.headers["webhook-id"] not in seen and "livehook-version" in call.headers:
            versions[call.headers["livehook-document"]].append(int(call.headers["livehook-version"]))
        seen.add(call.headers["webhook-id"])
    return all(found == sorted(found) for found in versions.values())


def empty_lane(cluster: Cluster, name: str) -> int:
    """Remove all that the lane holds; where it ends."""
    client = AdminClient({"bootstrap.servers": cluster.bootstrap_servers})
    place = TopicPartition(cluster.topics.lane(name).name, 0, -1)  # to its end
    [future] = client.delete_records([place]).values()
    return int(future.result(30).low_watermark)


def lane_end(cluster: Cluster, name: str) -> int:
    return int(cluster.lanes()[name]["offset"]["end"])


def lose(cluster: Cluster, recorder: Recorder, writer: Writer, name: str, **spec: str) -> tuple[int, int]:
    """A webhook that has received a part; then its sink is gone, much happens, and the lane is emptied. What is missing."""
    cluster.put_webhook(name, collections=[name], url=recorder.url, query="wanted == true", **spec)
    write(writer, name, 0, 400)
    begin = deliveries(writer)
    wait_until(lambda: cluster.lanes()[name]["offset"]["committed"] == begin, ARRIVE_S, "the first part does not arrive")
    cluster.sinks[0].stop()
    write(writer, name, 400, 1_000)
    wait_until(lambda: lane_end(cluster, name) == deliveries(writer), ARRIVE_S, "the streams do not come to the end")
    until = empty_lane(cluster, name)
    assert until > begin + 500
    return begin, until


def test_the_present_documents_follow_whoever_is_killed(cluster, recorder, writer, name):
    """One marker with the exact range; then the receiver comes to hold what there is, and no document goes back."""
    begin, until = lose(cluster, recorder, writer, name)
    before = len(recorder.calls)
    cluster.sinks[0].start()
    recorder.wait_for(lambda calls: any(b"requeryRequired" in call.body for call in calls), ARRIVE_S)
    write(writer, name, 1_400, 300)
    cluster.api.kill()
    cluster.api.start()
    cluster.api.wait_ready()
    recorder.wait_for(lambda calls: any(b'"initial"' in call.body for call in calls), ARRIVE_S)
    for role in (*cluster.streams, cluster.sinks[0]):
        role.kill()
    write(writer, name, 1_700, 300)
    for role in (*cluster.streams, cluster.sinks[0]):
        role.start()
    recorder.wait_for(lambda calls: mirrored(calls) == present(writer), ARRIVE_S)
    write(writer, name, 2_000, 50)
    recorder.wait_for(lambda calls: mirrored(calls) == present(writer), ARRIVE_S)
    recorder.wait_quiet(2.0, ARRIVE_S)

    calls = recorder.calls[before:]
    markers = {call.headers["webhook-id"]: json.loads(call.body) for call in calls if b"requeryRequired" in call.body}
    [marker] = markers.values()
    assert {"from": begin, "until": until} == marker["range"]["offsets"]
    assert str(until - 1) == calls[0].headers["livehook-offset"]
    assert is_in_order(calls)
    assert mirrored(recorder.calls) == present(writer)
    wait_until(lambda: "running" == cluster.lanes()[name]["state"], ARRIVE_S, "the lane is not running")


def test_each_present_document_comes_once(cluster, recorder, writer, name):
    """However often it has changed; and what is gone is told too."""
    lose(cluster, recorder, writer, name)
    before = len(recorder.calls)
    wanted = present(writer)
    cluster.sinks[0].start()
    recorder.wait_for(lambda calls: mirrored(calls) == wanted, ARRIVE_S)
    recorder.wait_quiet(3.0, ARRIVE_S)
    calls = recorder.calls[before:]
    initial = [call.headers["livehook-document"] for call in calls if "initial" == call.headers["livehook-match"]]
    assert sorted(wanted) == sorted(initial)
    assert wanted == numbers(calls, "initial")
    assert {"requeryRequired", "initial", "leave", "remove"} >= {call.headers["livehook-match"] for call in calls}
    assert all(json.loads(call.body)["change"]["oldValue"] is None for call in calls if "initial" == call.headers["livehook-match"])


def test_just_what_is_left_follows_if_asked_for(cluster, recorder, writer, name):
    """With ``onGap: continue`` the marker is all that is sent of the past."""
    begin, until = lose(cluster, recorder, writer, name, onGap="continue")
    before = len(recorder.calls)
    cluster.sinks[0].start()
    write(writer, name, 1_400, 20)
    wait_until(lambda: cluster.lanes()[name]["offset"]["committed"] > until, ARRIVE_S, "the lane does not go on")
    recorder.wait_quiet(3.0, ARRIVE_S)
    first, *rest = recorder.calls[before:]
    assert {"from": begin, "until": until} == json.loads(first.body)["range"]["offsets"]
    assert rest
    assert not {"initial", "requeryRequired"} & {call.headers["livehook-match"] for call in rest}
