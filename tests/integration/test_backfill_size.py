"""
A start in the past, and then a rewind, at a size that takes minutes.

Run: ``LIVEHOOK_DOCUMENTS=100000 pytest -s tests/integration/test_backfill_size.py``
``LIVEHOOK_RATE`` mutations a second (2,000) go on all the while; the streams workers are killed twice during the backfill, the sink during
the rewind. Without ``LIVEHOOK_DOCUMENTS`` it is skipped.
"""

from __future__ import annotations

import json
import os
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from schemas.times import rfc3339
from tests.chaos.checker import Webhook, check
from tests.conftest import Say
from tests.integration.cluster import Cluster, wait_until
from tests.integration.recorder import Recorder, Writer, arrival_of

DOCUMENTS = int(os.environ.get("LIVEHOOK_DOCUMENTS", "0"))
RATE = int(os.environ.get("LIVEHOOK_RATE", "2000"))
ARRIVE_S = 200.0
FLOWS_S = 12.0
TICK_S = 0.05
BATCH = 10_000
ANSWER_S = 60.0

pytestmark = [
    pytest.mark.skipif(not DOCUMENTS, reason="takes minutes: set LIVEHOOK_DOCUMENTS"),
    pytest.mark.timeout(600),
]


class Flow:
    """Mutations of documents in turn, each with a number that grows."""

    def __init__(self, writer: Writer, name: str) -> None:
        self._writer, self._name, self.count = writer, name, 0

    def write(self, count: int) -> None:
        """So many, as fast as they go."""
        for number in range(self.count, self.count + count):
            self._writer.write(f"{self._name}/d{number % DOCUMENTS}", "upsert", {"_id": f"d{number % DOCUMENTS}", "n": number})
        self.count += count

    def go_on(self, seconds: float, holds: Callable[[], bool] = lambda: False) -> None:
        """At the steady rate, for so long or until it holds."""
        begun, first = time.monotonic(), self.count
        while (passed := time.monotonic() - begun) < seconds and not holds():
            self.write(max(int(passed * RATE) - (self.count - first), 0))
            time.sleep(TICK_S)


def test_a_hundred_thousand_documents_from_the_beginning_and_back(
    cluster: Cluster, recorder: Recorder, writer: Writer, name: str, say: Say
) -> None:
    """Nothing is lost or out of order, whoever is killed; the rewind goes over exactly what stands in the lane from the time on."""
    flow = Flow(writer, name)
    while flow.count < DOCUMENTS:
        flow.write(min(BATCH, DOCUMENTS - flow.count))
        writer.flush()
    wait_until(lambda: cluster.metric("livehook_stream_lag") == 0, ARRIVE_S, "the documents are not applied")

    begun = time.monotonic()
    cluster.put_webhook(name, collections=[name], url=recorder.url, start="beginning")
    for _ in range(2):
        flow.go_on(FLOWS_S / 2)
        for role in cluster.streams:
            role.kill()
            role.start()
    flow.go_on(FLOWS_S)
    moment = rfc3339(time.time_ns() // 1_000)
    flow.go_on(FLOWS_S)
    writer.flush()
    wait_until(lambda: cluster.lanes()[name]["state"] == "running", ARRIVE_S, "the backfill does not end")
    ready_s = time.monotonic() - begun
    wait_until(lambda: cluster.lanes()[name]["lag"] == 0 and len({*ids(recorder)}) >= flow.count, ARRIVE_S, "not all arrive")
    all_s = time.monotonic() - begun
    say(f"{DOCUMENTS:,} documents, {flow.count:,} changes: backfilled after {ready_s:.0f} s, all delivered after {all_s:.0f} s")

    before = len(recorder.calls)
    begun = time.monotonic()
    counted = asked(cluster, "POST", f"/v1/webhooks/{name}/replay", {"from": {"time": moment}, "dryRun": True})
    count_s = time.monotonic() - begun
    replay = asked(cluster, "POST", f"/v1/webhooks/{name}/replay", {"from": {"time": moment}})
    recorder.wait_for(lambda calls: len(calls) > before + counted["deliveries"] // 3, ARRIVE_S)
    cluster.sinks[0].kill()
    cluster.sinks[0].start()
    flow.go_on(FLOWS_S / 4)
    writer.flush()
    wait_until(lambda: "done" == asked(cluster, "GET", f"/v1/replays/{replay['id']}")["state"], ARRIVE_S, "the rewind is not done")
    say(f"rewind over {counted['deliveries']:,}, counted in {count_s:.1f} s: done after {time.monotonic() - begun:.0f} s")
    wait_until(lambda: cluster.lanes()[name]["lag"] == 0 and len({*ids(recorder)}) >= flow.count, ARRIVE_S, "not all arrive")

    again = [call for call in recorder.calls if call.headers.get("livehook-replay") == replay["id"]]
    assert counted["deliveries"] == len({call.headers["livehook-offset"] for call in again})
    report = check(writer.operations, [arrival_of(call) for call in recorder.calls], [Webhook(name, lambda document: document is not None)])
    assert not report.violations, str(report)
    newest: dict[str, int] = defaultdict(int)
    for call in recorder.calls:
        newest[call.headers["livehook-document"]] = json.loads(call.body)["change"]["newValue"]["n"]
    assert {n % DOCUMENTS for n in newest.values()} == {*range(DOCUMENTS)}
    say(f"{len(recorder.calls):,} calls, {len(recorder.calls) - flow.count - len(again):,} repeats: nothing lost, nothing out of order")


def ids(recorder: Recorder) -> list[str]:
    return [call.headers["webhook-id"] for call in recorder.calls]


def asked(cluster: Cluster, method: str, path: str, body: Any = None) -> Any:
    """The API's answer."""
    answer = httpx.request(method, cluster.api.url + path, json=body, timeout=ANSWER_S, trust_env=False)
    assert answer.status_code in range(200, 300), answer.text
    return answer.json()
