"""What the benchmarks of the sink share: lanes that are filled without streams, a receiver and a sink in processes of their own."""

from __future__ import annotations

import asyncio
import multiprocessing
import resource
import signal
import ssl
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import ClassVar

import psutil
import uvloop

from connectors.kafka.admin import ensure_topics
from connectors.kafka.config import KafkaConfig
from connectors.kafka.producer import Producer
from connectors.webhook.calls import Failure, Request, Response
from connectors.webhook.config import SinkConfig
from connectors.webhook.sink import Sink
from connectors.webhook.starting import Call, Done, Failed
from connectors.webhook.testing import sender_here
from connectors.webhook.tls import Trust
from schemas.changes import Change
from schemas.deliveries import Delivery, Match
from schemas.keys import partition_of
from schemas.positions import Origin
from schemas.records import encode_delivery, encode_revision
from schemas.signing import new_secret
from schemas.topics import Record, Topics
from schemas.webhooks import DeliverySettings, Retry, Secret, WebhookRevision, WebhookSpec

PARTITIONS = 8
AUTHORITY = Path(__file__).parents[1] / "tests/contract/trusted.pem"
TOPICS_S_MAX = 120.0
READY_S_MAX = 60.0
STOP = None
DOCUMENT = b'{"_id":"%b","name":"Susan","age":31,"text":"' + b"x" * 400 + b'"}'
ANSWER = b"HTTP/1.1 %d X\r\ncontent-length: 2\r\n\r\nok"

_spawn = multiprocessing.get_context("spawn")


class Answering(asyncio.Protocol):
    """
    Answers every request after a while, by its path: /hang never, /404 with 404, others 200. It finds a request's end, and no more.

    Asked for /mend, it answers everything with 200 from then on.
    """

    delay_s = 0.0
    is_mended = False
    took: ClassVar[list[tuple[str, float]]] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.WriteTransport = transport  # type: ignore[assignment]
        self._data = b""

    def data_received(self, data: bytes) -> None:
        self._data += data
        while (end := self._data.find(b"\r\n\r\n")) >= 0:
            head = self._data[:end].lower()
            at = head.find(b"content-length:") + 15
            length = int(head[at : head.find(b"\r", at) if head.find(b"\r", at) > 0 else None])
            if len(self._data) < end + 4 + length:
                return
            self._data = self._data[end + 4 + length :]
            self._answer(head)

    def _answer(self, head: bytes) -> None:
        path = head[head.find(b" ") + 1 : head.find(b" ", head.find(b" ") + 1)]
        if path == b"/mend":
            Answering.is_mended = True
        if path == b"/hang" and not self.is_mended:
            return
        status = 404 if path == b"/404" and not self.is_mended else 200
        if status == 200:
            at = head.find(b"webhook-id: ") + 12
            self.took.append((head[at : at + 36].decode(), time.time()))
        answer = ANSWER % status
        if self.delay_s:
            asyncio.get_running_loop().call_later(self.delay_s, self._transport.write, answer)
        else:
            self._transport.write(answer)


def _receive(told: Connection, delay_s: float, is_tls: bool, port: int) -> None:
    async def serve() -> None:
        Answering.delay_s = delay_s
        loop = asyncio.get_running_loop()
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if is_tls else None
        if tls is not None:
            tls.load_cert_chain(AUTHORITY)
        server = await loop.create_server(Answering, "127.0.0.1", port, ssl=tls, backlog=4_096)
        told.send(server.sockets[0].getsockname()[1])
        await loop.run_in_executor(None, told.recv)
        told.send(Answering.took)

    _many_files()
    uvloop.run(serve())


@contextmanager
def receiver(delay_s: float, took: list[tuple[str, float]], *, is_tls: bool = False, port: int = 0) -> Iterator[str]:
    """The URL of a receiver; afterwards ``took`` has every call that it answered with 200: webhook-id and time."""
    ours, theirs = _spawn.Pipe()
    process = _spawn.Process(target=_receive, args=(theirs, delay_s, is_tls, port))
    process.start()
    try:
        yield f"{'https://localhost' if is_tls else 'http://127.0.0.1'}:{ours.recv()}"
        ours.send(None)
        took += ours.recv()
    finally:
        process.terminate()
        process.join()


class Lanes:
    """The topics of one run, and deliveries for its webhooks as the matching agent writes them."""

    def __init__(self, servers: str, prefix: str) -> None:
        self.kafka = KafkaConfig(bootstrap_servers=servers)
        self.topics = Topics(prefix, PARTITIONS)
        self.producer = Producer(self.kafka, client_id="bench", message_timeout_s=120)
        self._origins = [0] * PARTITIONS
        self._versions: dict[str, int] = {}

    async def make(self, urls: Mapping[str, str], *, concurrency: int, order: str = "document") -> None:
        """Webhooks by name, and all topics."""
        specs = [*self.topics.fixed(), *(self.topics.lane(name) for name in urls)]
        for first in range(0, len(specs), 100):
            await asyncio.to_thread(ensure_topics, self.kafka, specs[first : first + 100], replication=1, timeout_s=TOPICS_S_MAX)
        records = []
        for name, url in urls.items():
            delivery = DeliverySettings(concurrency=concurrency, order=order, timeout_seconds=5)
            spec = WebhookSpec(name, url, ("c",), delivery=delivery, retry=Retry())
            revision = WebhookRevision(f"whk_{name}", name, 1, 1, spec, [Secret(new_secret())], 0, 0, since=[])
            records.append(Record(self.topics.webhooks.name, revision.key.encode(), encode_revision(revision), partition=0))
        await self.producer.send(records)

    def delivery(self, webhook: str, document: str) -> tuple[str, Record]:
        """The next change of a document: its webhook-id and its record."""
        key = f"c/{document}".encode()
        partition = partition_of(key, PARTITIONS)
        self._origins[partition] += 1
        self._versions[document] = self._versions.get(document, 0) + 1
        value = DOCUMENT % document.encode()
        origin = Origin(0, partition, self._origins[partition])
        change = Change("c", document, origin.offset, self._versions[document], value, value, origin, int(time.time() * 1e6))
        delivery = Delivery(f"whk_{webhook}", 1, Match.UPDATE, change)
        return delivery.webhook_id, Record(self.topics.lane(webhook).name, key, encode_delivery(delivery), partition=0)


class Timed:
    """A sender that notes when calls begin and end."""

    def __init__(self, tls: Trust) -> None:
        self._sender = sender_here(tls=tls)
        self.calls: list[tuple[float, float]] = []

    async def send(self, request: Request, *, timeout_s: float) -> Response | Failure:
        """Send it."""
        began = time.perf_counter()
        try:
            return await self._sender.send(request, timeout_s=timeout_s)
        finally:
            self.calls.append((began, time.perf_counter()))

    def start(self, request: Request, *, timeout_s: float, done: Done, failed: Failed) -> Call:
        """Send it, and tell."""
        return self._sender.start(request, timeout_s=timeout_s, done=partial(self._ended, time.perf_counter(), done), failed=failed)

    def _ended(self, began: float, done: Done, result: Response | Failure) -> None:
        self.calls.append((began, time.perf_counter()))
        done(result)

    async def close(self) -> None:
        """Close what is idle."""
        await self._sender.close()


def _sink(told: Connection, servers: str, prefix: str, expected: int) -> None:
    async def work() -> None:
        kafka, topics = KafkaConfig(bootstrap_servers=servers), Topics(prefix, PARTITIONS)
        config = SinkConfig(kafka=kafka, topics=topics, worker="http://127.0.0.1/bench", version="bench")
        producer, sender = Producer(kafka, client_id="a"), Timed(_trust())
        attempts = Producer(kafka, client_id="b", message_timeout_s=30, linger_ms=20, is_idempotent=False)  # as livehook/sink_role.py does
        producer.start()
        attempts.start()
        sink = Sink(config, producer=producer, attempts=attempts, sender=sender)
        running = asyncio.create_task(sink.run())
        while sink.check != "ok" or not sink.lanes():  # noqa: ASYNC110 - what is measured must not be told
            await asyncio.sleep(0.01)
        told.send(len(sink.lanes()))
        asked = asyncio.get_running_loop().run_in_executor(None, told.recv)
        begun_cpu = time.process_time()
        while not 0 < expected <= len(sender.calls):
            if asked.done():
                if asked.result() is STOP:
                    break
                told.send(sum(item["lag"] for item in sink.lanes()))
                asked = asyncio.get_running_loop().run_in_executor(None, told.recv)
            await asyncio.sleep(0.005)
        cpu_s, lanes = time.process_time() - begun_cpu, sink.lanes()
        resident, resident_max = psutil.Process().memory_info().rss, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        sink.stop()
        await running
        await producer.stop(10)
        await attempts.stop(10)
        told.send((summary(sender.calls, cpu_s) | {"memory": resident, "memory_max": resident_max}, lanes))

    _many_files()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    uvloop.run(work())


def _trust() -> Trust:
    """Verifies, and trusts the authority of the tests."""
    tls = Trust()
    tls.load_verify_locations(AUTHORITY)
    return tls


def summary(calls: Sequence[tuple[float, float]], cpu_s: float) -> dict[str, float]:
    """The figures of the calls from the first to the last."""
    if not calls:
        return {"cpu_s": cpu_s}
    took_s = max(end for _, end in calls) - min(begin for begin, _ in calls)
    lengths = sorted((end - begin) * 1_000 for begin, end in calls)
    return {
        "rate": len(calls) / took_s,
        "cpu_s": cpu_s / len(calls) * 100_000,
        "in_flight": sum(lengths) / 1_000 / took_s,
        "p50": statistics.median(lengths),
        "p99": lengths[int(len(lengths) * 0.99)],
    }


class RunningSink:
    """A sink in a process of its own, started when this was made; ``expected``: it stops measuring after so many calls, 0: when told."""

    def __init__(self, lanes: Lanes, expected: int = 0) -> None:
        self._pipe, theirs = _spawn.Pipe()
        arguments = (theirs, lanes.kafka.bootstrap_servers, lanes.topics.prefix, expected)
        self._process = _spawn.Process(target=_sink, args=arguments)
        self._process.start()
        self._expected = expected

    def wait_ready(self) -> int:
        """Until it has its lanes; how many."""
        assert self._pipe.poll(READY_S_MAX), "the sink did not get its lanes"
        count: int = self._pipe.recv()
        return count

    def lag(self) -> int:
        """Deliveries that are still to be made, parked ones included."""
        self._pipe.send("lag")
        assert self._pipe.poll(READY_S_MAX), "the sink does not answer"
        lag: int = self._pipe.recv()
        return lag

    @property
    def memory(self) -> int:
        """Bytes resident."""
        return int(psutil.Process(self._process.pid).memory_info().rss)

    def result(self, timeout_s: float) -> tuple[dict[str, float], list[dict[str, object]]]:
        """Its figures, and its lanes as they were in the end."""
        if not self._expected:
            self._pipe.send(STOP)
        assert self._pipe.poll(timeout_s), f"the sink was not done within {timeout_s:g} s"
        found: tuple[dict[str, float], list[dict[str, object]]] = self._pipe.recv()
        self._pipe.send(None)
        self._process.join()
        return found

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.join()


def _many_files() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
