"""``livehook streams``, ``sink``, ``api``, ``broker`` and ``dev``: what runs until it is told to end."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from livehook import exits
from livehook.folders import locked, writable
from livehook.settings import BadSettings, Settings, load
from schemas.topics import SLOTS_IN_DEV

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from livehook.process import Fail, Role

PREDECESSOR_S_MAX = 30.0  # a worker that was told to end may still be draining
ARCHIVE_AFTER_S = 15.0  # by then a broker has been used, and nobody is waiting for a first delivery
DEV = "LIVEHOOK_DEV"  # set for everything that belongs to a `livehook dev`
DEV_DEFAULTS = {"partitions": 4, "slot_count": SLOTS_IN_DEV, "allow_private": True}
PORTS = {"api": 8080, "streams": 8081, "sink": 8082, "kafka": 9092}


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Serving:
    """Where a role finds Kafka, its settings and its files, and where it answers."""

    bootstrap_servers: str | None = None
    """Kafka, HOST:PORT; several with commas between them [default: 127.0.0.1:9092]."""
    host: str = "127.0.0.1"
    """Address to listen on."""
    dir: Path = Path(".livehook")
    """Folder for what it keeps on disk."""
    config: Path | None = None
    """Settings file [default: ./livehook.toml]."""
    log_level: str | None = None
    """debug, info, warning or error [default: info]."""

    def settings(self) -> Settings:
        """
        The settings that hold.

        Raises:  Wrong.
        """
        flags = {"bootstrap_servers": self.bootstrap_servers, "log_level": self.log_level}
        return read_settings(flags, self.config)


SERVING = Serving()
Port = Annotated[int, Parameter(validator=lambda _, port: check_port(port))]


def check_port(port: int) -> None:
    """Raises ValueError: it is no port."""
    if not 0 <= port <= 65_535:
        raise ValueError("must be 0 to 65535; 0 takes any free one")


def read_settings(flags: dict[str, str | None], config: Path | None) -> Settings:
    """
    The settings, and logs as they say. The children of `dev` have its defaults.

    Raises:  Wrong.
    """
    from livehook import logs

    try:
        settings = load(flags, environment=os.environ, config=config, defaults=DEV_DEFAULTS if DEV in os.environ else None)
    except BadSettings as error:
        raise exits.Wrong(str(error)) from error
    logs.configure(settings.log_level)
    return settings


def api(*, port: Port = PORTS["api"], serving: Serving = SERVING) -> int:
    """Run the HTTP API. On another host than loopback it needs LIVEHOOK_API_TOKEN."""
    from livehook.api.guard import is_loopback
    from livehook.api_role import ApiRole

    settings = serving.settings()
    if not is_loopback(serving.host) and settings.api_token is None:
        raise exits.Wrong(f"--host {serving.host} is open to others: set LIVEHOOK_API_TOKEN, or listen on 127.0.0.1")
    if settings.activity_url is None:
        writable(serving.dir)

    def make(found: Settings, address: str, fail: Fail) -> tuple[Role, ASGIApp]:
        role = ApiRole(found, folder=serving.dir, address=address, fail=fail)
        return role, role.app

    return _run(settings, serving, port, make)


def streams(*, port: Port = PORTS["streams"], new_epoch: bool = False, serving: Serving = SERVING) -> int:
    """
    Run a streams worker: mutations to changes to deliveries.

    Parameters
    ----------
    new_epoch
        Take topics that were made anew as they are; once, after they were lost.
    """
    from prometheus_client import ProcessCollector

    from livehook.streams_role import StreamsRole

    folder = serving.dir / "streams"

    def make(found: Settings, address: str, fail: Fail) -> tuple[Role, ASGIApp]:
        role = StreamsRole(found, folder=folder, address=address, fail=fail, new_epoch=new_epoch)
        ProcessCollector(registry=role.registry)
        return role, role.app

    with locked(folder, wait_s=PREDECESSOR_S_MAX):
        return _run(serving.settings(), serving, port, make)


def sink(*, port: Port = PORTS["sink"], serving: Serving = SERVING) -> int:
    """Run a sink: deliveries to HTTP calls."""
    from livehook.sink_role import SinkRole

    folder = serving.dir / "sink"

    def make(found: Settings, address: str, fail: Fail) -> tuple[Role, ASGIApp]:
        role = SinkRole(found, folder=folder, address=address, fail=fail)
        return role, role.app

    with locked(folder, wait_s=PREDECESSOR_S_MAX):
        return _run(serving.settings(), serving, port, make)


def _run(
    settings: Settings,
    serving: Serving,
    port: int,
    make: Callable[[Settings, str, Fail], tuple[Role, ASGIApp]],
) -> int:
    """Serve and run a role until it ends; gives the exit code."""
    from livehook import health, process
    from livehook.roles import as_installed

    async def made(address: str, fail: Fail) -> tuple[Role, ASGIApp]:
        return make(await as_installed(settings), address, fail)

    try:
        sock = health.listen(serving.host, port)
    except health.PortInUse as error:
        raise exits.Failed(str(error)) from error
    except OSError as error:
        raise exits.Wrong(f"--host {serving.host}: {error.strerror}") from error
    return process.run(made, sock, kafka=settings.bootstrap_servers)


def broker(
    *,
    port: Port = PORTS["kafka"],
    host: str = "127.0.0.1",
    dir: Path = Path(".livehook"),  # noqa: A002 - it becomes --dir
    log_level: str | None = None,
) -> int:
    """
    Run Apache Kafka, one node, durable in a folder; its address is printed once it answers.

    Parameters
    ----------
    port
        Where clients reach it; 0 takes any free one.
    host
        Address to listen on.
    dir
        Folder for its data.
    log_level
        debug, info, warning or error [default: info].
    """
    from connectors.kafka.embedded import EmbeddedKafka
    from connectors.kafka.errors import EmbeddedKafkaError
    from livehook.process import watch_parent

    read_settings({"log_level": log_level}, None)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: also while it starts, it stops what it has started
    watch_parent(lambda: os.kill(os.getpid(), signal.SIGTERM))
    kafka = EmbeddedKafka(dir, host=host, port=port)
    try:
        kafka.start()
        print(kafka.bootstrap_servers, flush=True)
        if (code := kafka.wait(ARCHIVE_AFTER_S)) is None:
            kafka.archive_classes()
            code = kafka.wait()
    except EmbeddedKafkaError as error:
        raise exits.Failed(str(error)) from error
    except KeyboardInterrupt:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        kafka.stop()
        return exits.DONE
    raise exits.Failed(f"Kafka ended by itself with code {code}: see {kafka.logs}")


def dev(
    *,
    dir: Path = Path(".livehook"),  # noqa: A002 - it becomes --dir
    api_port: Port = PORTS["api"],
    kafka_port: Port = PORTS["kafka"],
    demo: bool = False,
    ready_file: Path | None = None,
    config: Path | None = None,
) -> int:
    """
    Run everything on this machine: Apache Kafka, streams, sink and API, durable in a folder.

    Parameters
    ----------
    dir
        Folder for data, logs and ready.json.
    api_port
        Where the API answers; 0 takes any free one.
    kafka_port
        Where Kafka answers; 0 takes any free one.
    demo
        Also run a receiver, and show sample data being delivered.
    ready_file
        Written, last and whole, once everything is ready: the addresses as JSON.
    config
        Settings file [default: ./livehook.toml].
    """
    from livehook import dev as development

    os.environ[DEV] = "1"
    settings = read_settings({"log_level": "warning"}, config)
    return development.run(
        development.DevConfig(
            settings=settings,
            folder=dir,
            config=config,
            api_port=api_port,
            kafka_port=kafka_port,
            demo=demo,
            ready_file=ready_file,
        )
    )
