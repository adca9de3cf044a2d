"""
The activity log in SQLite: attempts a second into it, and how long questions take among a million.

``python bench/activity.py [--attempts 1000000] [--runs 3] [--folder DIR]``. No Kafka: records are made beforehand and go the
projector's way from there, rows made in one thread, written in another.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from bench.harness import environment
from connectors.activity.model import FAILED, AttemptFilters, Batch, Place, Projected
from connectors.activity.projection import project_attempts
from connectors.activity.sqlite import SqliteDatabase
from connectors.activity.store import Activity
from connectors.kafka.following import BATCH_MAX
from schemas.attempts import Attempt, AttemptError, ErrorCode, Exchanged, Outcome, attempt_id
from schemas.records import encode_attempt

MADE_UP = 100_000  # records at once
START_US = 1_790_000_000_000_000
STEP_US = 50
PLACE: Place = ("bench.attempts", 0)
QUESTIONS = {
    "newest": AttemptFilters(),
    "one webhook": AttemptFilters(webhook="hook-3"),
    "failed": AttemptFilters(outcomes=FAILED),
    "one webhook, failed": AttemptFilters(webhook="hook-3", outcomes=FAILED),
    "dead": AttemptFilters(outcomes=frozenset({Outcome.DEAD})),
    "one document": AttemptFilters(document="people/77"),
    "status 503": AttemptFilters(status=503),
    "a time": AttemptFilters(since_us=START_US + 10_000_000, until_us=START_US + 11_000_000),
    "text, often there": AttemptFilters(q="example.com"),
    "text, not there": AttemptFilters(q="nowhere"),
    "one webhook, text, not there": AttemptFilters(webhook="hook-3", q="nowhere"),
}


def attempt(number: int, rng: random.Random) -> Attempt:
    """One of 20 webhooks and 100,000 documents; every 50th has failed. About 900 bytes as a record."""
    is_failed = number % 50 == 0
    started_us = START_US + number * STEP_US
    return Attempt(
        id=attempt_id(started_us, rng.getrandbits(64)),
        webhook=f"hook-{rng.randrange(20)}",
        delivery_id=f"msg_{rng.getrandbits(128):032x}",
        collection="people",
        document=f"people/{rng.randrange(100_000)}",
        match="update",
        txn_id=started_us,
        version=3,
        offset=str(number),
        attempt=1,
        started_us=started_us,
        duration_us=1_500,
        outcome=Outcome.RETRY if is_failed else Outcome.DELIVERED,
        request=Exchanged(
            {f"livehook-header-{n}": "about as long as a header" for n in range(12)}, b'{"name":"Susan","age":31}' * 10,
            body_truncated=False, method="POST", url="https://example.com/hook",
        ),
        response=Exchanged({"content-type": "text/plain"}, b"ok", body_truncated=False, status=503 if is_failed else 200),
        error=AttemptError(ErrorCode.STATUS, "503 Service Unavailable") if is_failed else None,
    )  # fmt: skip


def fill(activity: Activity, count: int) -> float:
    """Seconds that so many attempts take; making up the records is not counted, and nothing is written meanwhile."""
    rng = random.Random(1)
    taken = 0.0
    for first in range(0, count, MADE_UP):
        values = [encode_attempt(attempt(number, rng)) for number in range(first, min(first + MADE_UP, count))]
        begun = time.perf_counter()
        project(activity, values, first)
        taken += time.perf_counter() - begun
    return taken


def project(activity: Activity, values: Sequence[bytes], first: int) -> None:
    """As the projector does: rows are made of the next batch while one is written."""
    with ThreadPoolExecutor(1) as writer:
        writing: Future[int] | None = None
        for start in range(0, len(values), BATCH_MAX):
            part = enumerate(values[start : start + BATCH_MAX], first + start)
            items = [Projected(PLACE, offset, project_attempts(value)) for offset, value in part]
            if writing is not None:
                writing.result()
            writing = writer.submit(activity.add, Batch(items, {PLACE: items[-1].offset + 1}))
        if writing is not None:
            writing.result()


def ask(activity: Activity, filters: AttemptFilters, runs: int) -> list[float]:
    """Milliseconds for a page of 50, each run."""
    found = []
    for _ in range(runs):
        begun = time.perf_counter()
        activity.attempts(filters, limit=50)
        found.append((time.perf_counter() - begun) * 1_000)
    return found


def main() -> None:
    """Fill, then ask."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--attempts", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--folder", type=Path)
    arguments, _ = parser.parse_known_args()
    print(environment())
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        activity = Activity(SqliteDatabase(Path(folder) / "log.sqlite3"), letters_topic="none", keep_us=10**15, bytes_max=10**12)
        activity.begin(PLACE[0], "bench", 1)
        taken = fill(activity, arguments.attempts)
        print(f"{arguments.attempts / taken:,.0f} attempts/s into SQLite, {arguments.attempts:,} of them")
        for name, filters in QUESTIONS.items():
            times = ask(activity, filters, arguments.runs)
            print(f"{name:<34} {min(times):>8.1f} {statistics.median(times):>8.1f} {max(times):>8.1f}  ms")
        activity.close()


if __name__ == "__main__":
    main()
