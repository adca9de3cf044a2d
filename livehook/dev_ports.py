"""
The ports of ``livehook dev``: opened before anything starts, so that an occupied one is told at once; remembered where nobody chose them.
"""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import msgspec

from connectors.kafka.embedded_checks import check_port, free_port
from connectors.kafka.errors import EmbeddedKafkaError
from livehook import health
from livehook.exits import Failed

T = TypeVar("T")

HOST = "127.0.0.1"
PORTS_FILE = "ports.json"
TRY_AGAIN_S = 0.1


class Ports(msgspec.Struct, frozen=True):
    """
    The ports of the last time, taken again where they are free: 0 any.

    What was left for the demo's receiver arrives then; and the group of streams knows a worker that comes back by its old address.
    """

    streams: int = 0
    sink: int = 0
    receiver: int = 0

    @classmethod
    def read(cls, folder: Path) -> Ports:
        """Those that were written there; any, when none were."""
        try:
            return msgspec.json.decode((folder / PORTS_FILE).read_bytes(), type=cls)
        except (OSError, msgspec.MsgspecError):
            return cls()

    def write(self, folder: Path) -> None:
        """Remember them for the next time."""
        (folder / PORTS_FILE).write_bytes(msgspec.json.encode(self))


@contextmanager
def listening_again(port: int) -> Iterator[socket.socket]:
    """A socket on this port, or on any when somebody else has it now."""
    try:
        sock = health.listen(HOST, port, environment={})
    except health.PortInUse:
        sock = health.listen(HOST, 0, environment={})
    with sock:
        yield sock


@contextmanager
def listening(port: int, patience_s: float) -> Iterator[socket.socket]:
    """
    A socket on this port, 0 any.

    Args:    patience_s: for somebody who may be ending.
    Raises:  Failed: the port is in use.
    """
    try:
        sock = _patiently(lambda: health.listen(HOST, port, environment={}), health.PortInUse, patience_s)
    except health.PortInUse as error:
        raise Failed(f'port {port} is in use: stop what uses it, or run make dev ARGS="--api-port 0"') from error
    except OSError as error:
        raise Failed(f"cannot listen on port {port}: {error.strerror}") from error
    with sock:
        yield sock


def kafka_port(wanted: int, patience_s: float) -> int:
    """
    A port that Kafka can have; ``wanted`` 0: any. ``patience_s`` as for :func:`listening`.

    Raises:  EmbeddedKafkaError: it is in use.
    """
    if wanted:
        _patiently(lambda: check_port(HOST, wanted), EmbeddedKafkaError, patience_s)
    return wanted or free_port(HOST, random.Random())


def _patiently(attempt: Callable[[], T], refusal: type[Exception], patience_s: float) -> T:
    """What ``attempt`` gives, tried for so long while it is refused."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            return attempt()
        except refusal:
            if time.monotonic() > deadline:
                raise
            time.sleep(TRY_AGAIN_S)
