"""
The Kafka that tests run on, chosen by LIVEHOOK_TEST_BROKER.

``embedded`` (or unset): Kafka itself as a child process, in a folder of its own, on a free port. ``docker``: testcontainers' Kafka.
``HOST:PORT``: a broker that runs already; tests use topics of their own there and leave them behind.
"""

from __future__ import annotations

import contextlib
import gc
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import msgspec
import pytest

from connectors.kafka.config import KafkaConfig
from connectors.kafka.embedded import EmbeddedKafka
from connectors.kafka.embedded_files import MESSAGE_BYTES_MAX
from connectors.kafka.embedded_health import answers
from connectors.kafka.errors import EmbeddedKafkaError

DOCKER_IMAGE = "confluentinc/cp-kafka:7.9.0"  # the family of images that testcontainers can configure
DOCKER_START_S = 120
DOCKER_SETTINGS = {
    "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
    "KAFKA_MESSAGE_MAX_BYTES": str(MESSAGE_BYTES_MAX),
    "KAFKA_REPLICA_FETCH_MAX_BYTES": str(MESSAGE_BYTES_MAX),
    "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
    "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
}


class Broker(msgspec.Struct, frozen=True):
    """A Kafka that answers."""

    bootstrap_servers: str

    @property
    def config(self) -> KafkaConfig:
        """How our clients reach it."""
        return KafkaConfig(bootstrap_servers=self.bootstrap_servers)


class BrokerMissing(Exception):
    """There is no broker to test on; says why."""


def without_broker(reason: str) -> NoReturn:
    """End a test that has no Kafka: failed where CI is set, skipped elsewhere."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"no Kafka to test on: {reason}")
    pytest.skip(f"no Kafka to test on: {reason}")


@contextlib.contextmanager
def open_broker(choice: str, directory: Path) -> Iterator[Broker]:
    """
    The broker that ``choice`` (LIVEHOOK_TEST_BROKER) names, until the block ends.

    Raises:  BrokerMissing: it cannot be had.
    """
    with contextlib.ExitStack() as stack:
        if choice in ("", "embedded"):
            broker = stack.enter_context(_embedded(directory))
        elif choice == "docker":
            broker = stack.enter_context(_docker())
        else:
            broker = _running(choice)
        yield broker


@contextlib.contextmanager
def _embedded(directory: Path) -> Iterator[Broker]:
    kafka = EmbeddedKafka(directory)
    try:
        kafka.start()
    except EmbeddedKafkaError as error:
        raise BrokerMissing(f"embedded Kafka: {error}") from error
    with kafka:
        yield Broker(kafka.bootstrap_servers)


@contextlib.contextmanager
def _docker() -> Iterator[Broker]:
    with warnings.catch_warnings():
        # Its modules move from release to release, each with a warning; and a Docker that does not answer costs it a socket.
        warnings.simplefilter("ignore")
        from docker.errors import DockerException  # type: ignore[import-untyped]
        from testcontainers.kafka import KafkaContainer

        problem = ""
        try:
            container = KafkaContainer(DOCKER_IMAGE).with_kraft()
            for name, value in DOCKER_SETTINGS.items():
                container.with_env(name, value)
            container.start(timeout=DOCKER_START_S)
        except (DockerException, TimeoutError) as error:
            problem = f"Docker: {error}"
        gc.collect()
    if problem:
        raise BrokerMissing(problem)
    try:
        yield Broker(container.get_bootstrap_server())
    finally:
        container.stop()


def _running(address: str) -> Broker:
    broker = Broker(address)
    host, _, port = broker.config.bootstrap_servers.rpartition(":")
    if not answers(host.strip("[]"), int(port)):
        raise BrokerMissing(f"no Kafka answers at {address}")
    return broker
