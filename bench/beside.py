"""
Benthos (or Redpanda Connect) doing what can be compared: every record of a topic one POST, at least once. It does not sign, keeps no record
of attempts, and knows order only by partition. Used by bench/sink.py where BENTHOS names its binary.

Ordered: ``checkpoint_limit`` 1, one record of a partition at a time, as its documentation asks for strict order. Source:
https://docs.redpanda.com/connect/components/inputs/kafka/, https://docs.redpanda.com/connect/components/outputs/http_client/.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from pathlib import Path

import psutil
from confluent_kafka import Consumer, TopicPartition

from bench.harness import prefix
from bench.sink_parts import DOCUMENT, PARTITIONS, receiver
from connectors.kafka.admin import ensure_topics
from connectors.kafka.config import KafkaConfig
from connectors.kafka.producer import Producer
from schemas.topics import Record, TopicSpec

BODY = (
    b'{"txnId":1790000000000001,"type":"documentChanged","collection":"c","match":"update",'
    b'"change":{"method":"upsert","oldValue":%b,"newValue":%b}}'
)
DONE_S_MAX = 240.0
LOOK_S = 0.2
COMMITTED_S_MAX = 10.0
TOPIC_S_MAX = 60.0


def config(servers: str, topic: str, url: str, *, concurrency: int, is_ordered: bool) -> str:
    """Its configuration, in JSON, which is YAML."""
    kafka = {
        "addresses": [servers], "topics": [topic], "consumer_group": topic, "start_from_oldest": True,
        "checkpoint_limit": 1 if is_ordered else 1_024, "commit_period": "1s",
    }  # fmt: skip
    output = {"url": url, "verb": "POST", "max_in_flight": concurrency, "timeout": "5s", "headers": {"content-type": "application/json"}}
    quiet = {"http": {"enabled": False}, "logger": {"level": "ERROR"}}
    return json.dumps({"input": {"kafka": kafka}, "output": {"http_client": output}} | quiet)


def command(binary: str, file: Path) -> list[str]:
    """How it is started: Redpanda Connect has a word for it."""
    return [binary, "-c", str(file)] if "benthos" in Path(binary).name else [binary, "run", str(file)]


async def run(binary: str, servers: str, *, deliveries: int, concurrency: int, latency_s: float, is_ordered: bool) -> dict[str, float]:
    """One run's figures, from the first call to the last as the receiver saw them."""
    topic, took = f"{prefix()}beside", list[tuple[str, float]]()
    await _fill(servers, topic, deliveries)
    with receiver(latency_s, took) as url, tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "benthos.yaml"
        file.write_text(config(servers, topic, url, concurrency=concurrency, is_ordered=is_ordered))
        process = psutil.Popen(command(binary, file))
        try:
            cpu_s = await asyncio.to_thread(_until_done, process, servers, topic, deliveries)
        finally:
            process.kill()
            process.wait()
    if len(took) < deliveries:
        raise SystemExit(f"Benthos has made {len(took)} of {deliveries} calls")
    return {"rate": (len(took) - 1) / (took[-1][1] - took[0][1]), "cpu_s": cpu_s / len(took) * 100_000}


async def _fill(servers: str, topic: str, deliveries: int) -> None:
    kafka = KafkaConfig(bootstrap_servers=servers)
    await asyncio.to_thread(ensure_topics, kafka, [TopicSpec(topic, PARTITIONS, {})], replication=1, timeout_s=TOPIC_S_MAX)
    producer = Producer(kafka, client_id="beside", message_timeout_s=120)
    producer.start()
    for first in range(0, deliveries, 1_000):
        keys = [b"d%d" % number for number in range(first, min(first + 1_000, deliveries))]
        await producer.send([Record(topic, key, BODY % (DOCUMENT % key, DOCUMENT % key)) for key in keys])
    await producer.stop(10)


def _until_done(process: psutil.Popen, servers: str, topic: str, deliveries: int) -> float:
    """CPU seconds when it has committed all of them."""
    consumer = Consumer(KafkaConfig(bootstrap_servers=servers).librdkafka() | {"group.id": topic})
    places = [TopicPartition(topic, partition) for partition in range(PARTITIONS)]
    deadline = time.monotonic() + DONE_S_MAX
    while time.monotonic() < deadline and process.is_running():
        if sum(max(at.offset, 0) for at in consumer.committed(places, timeout=COMMITTED_S_MAX)) >= deliveries:
            break
        time.sleep(LOOK_S)
    consumer.close()
    return float(sum(process.cpu_times()[:2]))
