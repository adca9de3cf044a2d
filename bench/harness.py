"""What every benchmark shares: a broker, children that measure themselves, and a table of min, median and max."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from connectors.webhook.testing import Answer, Answering, Call, Receiver

CHILD_TIMEOUT_S = 300


@contextlib.contextmanager
def broker(given: str | None) -> Iterator[str]:
    """The address of a Kafka: the one that was given, or an embedded one for as long as the block lasts."""
    if given:
        yield given
        return
    from connectors.kafka.embedded import EmbeddedKafka

    with tempfile.TemporaryDirectory() as folder, EmbeddedKafka(Path(folder)) as kafka:
        yield kafka.bootstrap_servers


@contextlib.contextmanager
def receiving(took: Callable[[Call], None]) -> Iterator[str]:
    """The URL of a receiver that answers 200 and calls ``took`` for every call, in a thread of its own."""

    def answer(call: Call) -> Answer:
        took(call)
        return Answer()

    with answering(answer) as url:
        yield url


@contextlib.contextmanager
def answering(answer: Answering) -> Iterator[str]:
    """The URL of a receiver that answers as it is told, in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    receiver = Receiver(answer, keep=1)
    asyncio.run_coroutine_threadsafe(receiver.start(), loop).result(10)
    try:
        yield receiver.url
    finally:
        asyncio.run_coroutine_threadsafe(receiver.stop(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


def prefix() -> str:
    """A topic prefix of its own for one run."""
    return f"bench-{uuid.uuid4().hex[:8]}."


def child(file: str, *arguments: str) -> dict[str, float]:
    """Run a measured part in a process of its own; its last line on stdout is the JSON of what it measured."""
    done = subprocess.run(
        [sys.executable, file, *arguments],
        stdout=subprocess.PIPE,
        timeout=CHILD_TIMEOUT_S,
        check=True,
        env=os.environ | {"PYTHONPATH": str(Path(file).parents[1])},
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


class Meter:
    """Counts records from the first one on: what was before (start-up, joining the group) is not measured."""

    def __init__(self, expected: int) -> None:
        self.expected = expected
        self.seen = 0
        self._from: tuple[int, float, float] | None = None

    def count(self, records: int) -> bool:
        """Note that so many more are done; True when all are."""
        self.seen += records
        if self._from is None:
            self._from = (self.seen, time.perf_counter(), time.process_time())
        return self.seen >= self.expected

    def result(self) -> dict[str, float]:
        """Records a second and µs CPU a record, all threads of this process."""
        assert self._from is not None
        first, at, cpu = self._from
        records = self.seen - first
        return {"rate": records / (time.perf_counter() - at), "cpu_us": (time.process_time() - cpu) / records * 1e6}


def environment() -> str:
    """One line about where this was measured."""
    versions = subprocess.run([sys.executable, "-m", "pip", "list", "--format", "json"], capture_output=True, check=True, text=True).stdout
    wanted = {"confluent-kafka", "faust-streaming", "aiokafka", "fastavro", "msgspec", "rocksdict", "httpx", "uvloop"}
    found = " ".join(f"{one['name']} {one['version']}" for one in json.loads(versions) if one["name"] in wanted)
    return f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}, {found}"


def row(name: str, runs: Sequence[Mapping[str, float]], key: str, unit: str) -> None:
    """Print one figure's minimum, median and maximum over the runs."""
    values = [run[key] for run in runs]
    print(f"{name:<44} {min(values):>12,.1f} {statistics.median(values):>12,.1f} {max(values):>12,.1f}  {unit}", flush=True)


def median(runs: Sequence[Mapping[str, float]], key: str) -> float:
    """The median of one figure."""
    return statistics.median(run[key] for run in runs)
