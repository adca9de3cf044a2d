"""Replays through the API, process by process: all that was asked for comes, whoever is killed meanwhile."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from tests.chaos.checker import Webhook, check
from tests.integration.cluster import wait_until
from tests.integration.recorder import arrival_of

ARRIVE_S = 90.0
ANSWER_S = 60.0
DOCUMENTS = 40

pytestmark = pytest.mark.timeout(300)  # the first test of the file waits for Kafka and five processes


def asked(cluster, method, path, body=None, *, status=range(200, 300)) -> Any:
    """The API's answer."""
    answer = httpx.request(method, cluster.api.url + path, json=body, timeout=ANSWER_S, trust_env=False)
    assert answer.status_code in status, answer.text
    return answer.json()


def write(writer, name, first, count):
    """The documents in turn, each with a number that grows."""
    for number in range(first, first + count):
        writer.write(f"{name}/d{number % DOCUMENTS}", "upsert", {"_id": f"d{number % DOCUMENTS}", "n": number})


def until_done(cluster, id_):
    wait_until(lambda: asked(cluster, "GET", f"/v1/replays/{id_}")["state"] == "done", ARRIVE_S, "the replay is not done")


def test_a_rewind_by_time_while_the_sink_is_killed_and_mutations_go_on(cluster, recorder, writer, name):
    """Everything from then on comes again under its id, in order for each document; nothing is lost or comes out of order."""
    cluster.put_webhook(name, collections=[name], url=recorder.url)
    write(writer, name, 0, 400)
    writer.flush()
    recorder.wait_for(lambda calls: len(calls) >= 400, ARRIVE_S)
    moment = datetime.now(UTC).isoformat()
    write(writer, name, 400, 2_000)
    writer.flush()
    recorder.wait_for(lambda calls: len(calls) >= 2_400, ARRIVE_S)

    counted = asked(cluster, "POST", f"/v1/webhooks/{name}/replay", {"from": {"time": moment}, "dryRun": True})
    assert (None, 2_000, 400, 2_400) == (counted["id"], counted["deliveries"], counted["from"]["offset"], counted["until"]["offset"])
    before = len(recorder.calls)
    replay = asked(cluster, "POST", f"/v1/webhooks/{name}/replay", {"from": {"time": moment}}, status=[202])
    recorder.wait_for(lambda calls: len(calls) >= before + 100, ARRIVE_S)
    cluster.sinks[0].kill()
    write(writer, name, 2_400, 400)
    writer.flush()
    cluster.sinks[0].start()
    until_done(cluster, replay["id"])
    recorder.wait_for(lambda calls: any(call.headers["livehook-offset"] == "2799" for call in calls), ARRIVE_S)
    recorder.wait_quiet(1.0, ARRIVE_S)

    calls = recorder.calls
    again = {int(call.headers["livehook-offset"]) for call in calls if call.headers.get("livehook-replay") == replay["id"]}
    assert {*range(400, 2_400)} == again
    report = check(writer.operations, [arrival_of(call) for call in calls], [Webhook(name, lambda document: document is not None)])
    assert not report.violations, str(report)
    assert 2_800 == len({call.headers["webhook-id"] for call in calls})
    shown = asked(cluster, "GET", f"/v1/replays/{replay['id']}")
    assert (2_000, 2_000, True) == (shown["deliveries"], shown["delivered"], shown["endedAt"] is not None)


def test_a_selection_while_the_api_is_killed(cluster, recorder, writer, name):
    """What the query selects comes once more, once each as far as one API copies it, and everything new besides."""
    cluster.put_webhook(name, collections=[name], url=recorder.url)
    write(writer, name, 0, 1_000)
    writer.flush()
    recorder.wait_for(lambda calls: len(calls) >= 1_000, ARRIVE_S)
    body = {"from": {"beginning": True}, "query": "n >= 200", "ids": ["d1", "d2", "d3"]}
    replay = asked(cluster, "POST", f"/v1/webhooks/{name}/replay", body, status=[202])
    cluster.api.kill()
    write(writer, name, 1_000, 200)
    writer.flush()
    cluster.api.start()
    cluster.api.wait_ready()
    until_done(cluster, replay["id"])
    recorder.wait_for(lambda calls: len({call.headers["webhook-id"] for call in calls}) >= 1_200, ARRIVE_S)
    recorder.wait_quiet(1.0, ARRIVE_S)

    copies = [arrival_of(call) for call in recorder.calls if call.headers.get("livehook-replay") == replay["id"]]
    expected = sorted((f"{name}/d{n % DOCUMENTS}", n // DOCUMENTS + 1) for n in range(200, 1_000) if n % DOCUMENTS in (1, 2, 3))
    assert expected == sorted((copy.key, copy.version) for copy in copies)
    assert replay["deliveries"] == len(expected)
    for key in {copy.key for copy in copies}:
        found = [copy.version for copy in copies if copy.key == key]
        assert sorted(found) == found
