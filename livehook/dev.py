"""
``livehook dev``: everything on one machine, durable in one folder, each part a child process that is kept running.

The sockets of the HTTP roles are opened here, before anything starts, and handed down: an occupied port is told at once, a port that was
chosen stays the same when its role is started again, and who calls meanwhile waits instead of being refused.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import httpx
import msgspec

from connectors.kafka.config import KafkaConfig
from connectors.kafka.embedded_jars import default_cache, find_runtime, runtime_installed
from connectors.kafka.errors import EmbeddedKafkaError
from connectors.kafka.tail import Tail
from connectors.webhook.testing import Receiver
from livehook import exits, health
from livehook.client import tls_for
from livehook.demonstration import COLLECTION, Demonstration, delivery_line, start_receiver
from livehook.dev_ports import HOST, Ports, kafka_port, listening, listening_again
from livehook.exits import Failed
from livehook.folders import locked
from livehook.process import listen_for_signals
from livehook.settings import Settings
from livehook.supervisor import Child
from schemas.errors import BadRecord
from schemas.records import decode_attempt

ROLES = ("api", "streams", "sink")
READY_FILE = "ready.json"
READY_S_MAX = 180.0
ORPHANS_S_MAX = 30.0
ASK_EVERY_S = 0.1
FAILURES_MAX = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class DevConfig:
    """What ``livehook dev`` is told; port 0: any free one."""

    settings: Settings
    folder: Path
    config: Path | None
    api_port: int
    kafka_port: int
    demo: bool
    ready_file: Path | None


def run(config: DevConfig) -> int:
    """
    Run until Ctrl-C or SIGTERM; gives the exit code.

    Raises:  Failed: it cannot start, or a part of it cannot.
    """
    try:
        runtime_installed()
        with locked(config.folder), ExitStack() as stack:
            # Removed at every end in order: a run that was killed leaves it, and children that take a moment to end.
            patience_s = ORPHANS_S_MAX if (config.folder / READY_FILE).exists() else 0.0
            ports = Ports.read(config.folder)
            sockets = {
                "api": stack.enter_context(listening(config.api_port, patience_s)),
                "streams": stack.enter_context(listening_again(ports.streams)),
                "sink": stack.enter_context(listening_again(ports.sink)),
            }
            port = kafka_port(config.kafka_port, patience_s)
            _tell("starting Kafka, streams, sink and API ...")
            find_runtime(default_cache(os.environ, sys.platform), stderr=sys.stderr)  # downloads, where a person sees it
            return asyncio.run(_Dev(config, sockets, port, ports.receiver).run())
    except EmbeddedKafkaError as error:
        raise Failed(str(error)) from error


class _Dev:
    """One run, from the first child to the last."""

    def __init__(self, config: DevConfig, sockets: Mapping[str, socket.socket], port: int, receiver_port: int) -> None:
        self._config = config
        self._kafka = f"{HOST}:{port}"
        self._addresses = {role: health.address(sock) for role, sock in sockets.items()}
        self._children = [self._broker(port), *(self._role(role, sock) for role, sock in sockets.items())]
        self._signal: int | None = None
        self._is_ready = False
        self._end = asyncio.Event()
        token = config.settings.api_token
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        self._api = httpx.AsyncClient(
            base_url=self._addresses["api"], headers=headers, trust_env=False, timeout=30.0, verify=tls_for("http://")
        )
        self._receiver_port = receiver_port
        self._receiver: Receiver | None = None
        self._demonstration: Demonstration | None = None
        self._tail: Tail | None = None

    async def run(self) -> int:
        """Start everything, wait for the end, stop everything."""
        listen_for_signals(asyncio.get_running_loop(), self._ask)
        ready = self._config.folder / READY_FILE
        ready.unlink(missing_ok=True)
        ended = asyncio.create_task(self._end.wait())
        working = asyncio.create_task(self._work(ready))
        try:
            await asyncio.wait({working, ended}, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                working.result()
                await ended
        finally:
            working.cancel()
            ended.cancel()
            await asyncio.wait({working, ended})
            ready.unlink(missing_ok=True)
            await self._stop()
        return exits.INTERRUPTED if self._signal == signal.SIGINT else exits.DONE

    def _ask(self, number: int) -> None:
        self._signal = number
        self._end.set()

    async def _work(self, ready: Path) -> None:
        if self._config.demo:
            self._receiver = await start_receiver(self._receiver_port)
            self._receiver_port = _port_of(self._receiver.url)
        ports = Ports(_port_of(self._addresses["streams"]), _port_of(self._addresses["sink"]), self._receiver_port)
        ports.write(self._config.folder)
        for child in self._children:
            child.start()
        await self._wait_until_ready()
        await self._show_deliveries()
        self._is_ready = True
        self._write_ready(ready)
        print(self._greeting(), flush=True)
        if self._receiver is not None:
            self._demonstration = Demonstration(
                self._api, self._receiver.url, lambda: datetime.now().astimezone().isoformat("T", "milliseconds")
            )
            await self._demonstration.start()
        if self._config.ready_file is not None:
            self._write_ready(self._config.ready_file)

    async def _stop(self) -> None:
        if self._demonstration is not None:
            await self._demonstration.stop()
        broker, *roles = self._children
        await asyncio.gather(*(child.stop() for child in roles))  # they commit, so Kafka goes last
        if self._tail is not None:
            await asyncio.to_thread(self._tail.stop)
        await broker.stop()
        await self._api.aclose()
        if self._receiver is not None:
            await self._receiver.stop()

    def _broker(self, port: int) -> Child:
        arguments = ["broker", "--dir", str(self._config.folder), "--host", HOST, "--port", str(port)]
        return self._child("broker", arguments, {})

    def _role(self, role: str, sock: socket.socket) -> Child:
        arguments = [role, "--bootstrap-servers", self._kafka, "--dir", str(self._config.folder)]
        if self._config.config is not None:
            arguments += ["--config", str(self._config.config)]
        return self._child(role, arguments, {health.LISTEN_FD: str(sock.fileno())}, sock.fileno())

    def _child(self, name: str, arguments: list[str], environment: Mapping[str, str], *descriptors: int) -> Child:
        log = self._config.folder / "logs" / f"{name}.log"
        command = (sys.executable, "-m", "livehook", *arguments)
        return Child(name, command, environment=environment, descriptors=descriptors, log=log, tell=self._tell_if_ready)

    def _tell_if_ready(self, text: str) -> None:
        if self._is_ready:  # until then everybody waits for everybody, and says so
            _tell(text)

    async def _wait_until_ready(self) -> None:
        """
        Until every role says that it is ready.

        Raises:  Failed: one of them ended several times, or it took too long.
        """
        try:
            async with asyncio.timeout(READY_S_MAX):
                while (waiting := await self._not_ready()) is not None:
                    for child in self._children:
                        if child.failures >= FAILURES_MAX:
                            raise Failed(f"{child.name} does not start: {child.last_words}")
                    await asyncio.sleep(ASK_EVERY_S)
        except TimeoutError:
            raise Failed(f"{waiting} was not ready within {READY_S_MAX:.0f} s: see {self._config.folder / 'logs'}") from None

    async def _not_ready(self) -> str | None:
        """The first role that is not ready; None when all are."""
        for role in ROLES:
            try:
                answer = await self._api.get(f"{self._addresses[role]}/readyz", timeout=5.0)
            except httpx.HTTPError:
                return role
            if answer.status_code != 200:
                return role
        return None

    async def _show_deliveries(self) -> None:
        topic = self._config.settings.topics().attempts.name
        self._tail = await asyncio.to_thread(Tail, KafkaConfig(bootstrap_servers=self._kafka), topic, _show)
        self._tail.start()

    def _write_ready(self, path: Path) -> None:
        """Write the addresses, last and whole: who sees the file can rely on it."""
        ready = {
            "api": self._addresses["api"],
            "kafka": self._kafka,
            "pid": os.getpid(),
            "streams": self._addresses["streams"],
            "sink": self._addresses["sink"],
            "receiver": None if self._receiver is None else self._receiver.url,
        }
        part = path.with_name(f"{path.name}.part")
        part.write_bytes(msgspec.json.encode(ready))
        part.replace(path)

    def _greeting(self) -> str:
        receiver = "https://example.com" if self._receiver is None else self._receiver.url
        # The client finds the API by itself where .livehook is; elsewhere it must be told.
        where = "" if self._config.folder == Path(".livehook") else f" --api {self._addresses['api']}"
        lines = [
            "Livehook is ready. Ctrl-C stops it.",
            "",
            f"  API       {self._addresses['api']}",
            f"  docs      {self._addresses['api']}/docs",
            f"  Kafka     {self._kafka}",
            *([] if self._receiver is None else [f"  receiver  {self._receiver.url}   (answers 200 on any path)"]),
            "",
            "Try in a second terminal:",
            "",
            f"  .venv/bin/livehook webhook create adults --collection people --query 'age >= 18' --url {receiver}/adults{where}",
            f'  .venv/bin/livehook put people \'{{"_id": "6213", "name": "Susan", "age": 31}}\'{where}',
            f"  .venv/bin/livehook status{where}",
            "",
            *([] if self._receiver is None else [f"Deliveries of the collection {COLLECTION}, and of your own webhooks:", ""]),
        ]
        return "\n".join(lines)


def _port_of(address: str) -> int:
    return int(address.rpartition(":")[2])


def _show(value: bytes) -> None:
    try:
        attempt = decode_attempt(value)
    except BadRecord:
        return  # of another version; it is only shown here
    print(delivery_line(attempt, _clock), flush=True)


def _now() -> str:
    return datetime.now().astimezone().isoformat("T", "milliseconds")


def _clock(us: int) -> str:
    return datetime.fromtimestamp(us / 1_000_000).astimezone().isoformat("T", "milliseconds")[11:23]


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
