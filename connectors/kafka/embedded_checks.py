"""
What must hold before the embedded Kafka starts: a free port, room on the disk, memory, and nobody else in the folder.

Each check raises EmbeddedKafkaError with one line that says what to do; the ones that decide take what they found as arguments.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import random
import shutil
import socket
import time
from pathlib import Path

import msgspec

from connectors.kafka.errors import EmbeddedKafkaError

MIB = 1024 * 1024
DISK_MIB_MIN = 512
# What Java needs beside its heap: code, threads, buffers. Measured: 325 MiB in all with a heap of 512.
MEMORY_MIB_BESIDE_HEAP = 128
# Below the ports that outgoing connections are given (Linux from 32768, macOS from 49152): between a kill and the restart on the same
# port no client can be given it, not even one that is trying to reach it and would meet itself.
FREE_PORTS = range(20_000, 32_000)
PORT_TRIES_MAX = 200
_LOCK_POLL_S = 0.05


def check_host(host: str) -> None:
    """Raises EmbeddedKafkaError: it stands for every address, and clients could not be told where to go."""
    if host in ("", "0.0.0.0", "::"):  # noqa: S104 - refused, not bound
        raise EmbeddedKafkaError(f"Kafka cannot listen on {host!r}: give the one address that its clients will use")


def check_port(host: str, port: int) -> None:
    """Raises EmbeddedKafkaError: something listens there, or the address is none of this machine's."""
    try:
        _bind(host, port)
    except OSError as error:
        raise EmbeddedKafkaError(port_problem(host, port, error)) from error


def port_problem(host: str, port: int, error: OSError) -> str:
    """What to say when ``host:port`` cannot be listened on."""
    if error.errno == errno.EADDRINUSE:
        return f'port {port} is in use: stop what uses it, or run make dev ARGS="--kafka-port 0"'
    if error.errno == errno.EACCES:
        return f"port {port} needs more rights than this user has: use one from 1024"
    return f"cannot listen on {host}: {error.strerror or error}: use an address of this machine, such as 127.0.0.1"


def free_port(host: str, chance: random.Random) -> int:
    """A port nobody listens on. Raises EmbeddedKafkaError: none was found, or the address is none of this machine's."""
    for port in chance.sample(FREE_PORTS, PORT_TRIES_MAX):
        try:
            _bind(host, port)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise EmbeddedKafkaError(port_problem(host, port, error)) from error
        else:
            return port
    raise EmbeddedKafkaError(f"no free port was found between {FREE_PORTS.start} and {FREE_PORTS.stop}: stop what uses them")


def check_disk(folder: Path) -> None:
    """Raises EmbeddedKafkaError: less than DISK_MIB_MIN is free."""
    free_mib = shutil.disk_usage(folder).free // MIB
    if free_mib < DISK_MIB_MIN:
        raise EmbeddedKafkaError(
            f"only {free_mib} MiB of disk are free at {folder}, Kafka needs {DISK_MIB_MIN}: make room, or choose another folder with --dir"
        )


def check_memory(available_mib: int | None, heap_mib: int) -> None:
    """``None``: unknown, nothing is checked. Raises EmbeddedKafkaError: too little."""
    needed_mib = heap_mib + MEMORY_MIB_BESIDE_HEAP
    if available_mib is not None and available_mib < needed_mib:
        raise EmbeddedKafkaError(
            f"only {available_mib} MiB of memory are free, Kafka needs {needed_mib}: end other programs and start again"
        )


def memory_available_mib(proc: Path = Path("/proc"), cgroup: Path = Path("/sys/fs/cgroup")) -> int | None:
    """What Linux (and its container's limit, cgroup v2) has left; None elsewhere: macOS compresses and swaps, nothing there says it."""
    try:
        lines = (proc / "meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    if "MemAvailable" not in fields:
        return None
    available_mib = int(fields["MemAvailable"].split()[0]) // 1024
    with contextlib.suppress(OSError, ValueError):  # no container, or "max": no limit
        limit = int((cgroup / "memory.max").read_text(encoding="ascii"))
        available_mib = min(available_mib, (limit - int((cgroup / "memory.current").read_text(encoding="ascii"))) // MIB)
    return available_mib


class Holder(msgspec.Struct, frozen=True):
    """What the lock file says: the process that uses the folder, and the broker it started (0: none yet)."""

    owner_pid: int
    broker_pid: int = 0


class FolderLock:
    """
    One user of a folder at a time.

    The lock is the system's (flock) on an open file that the broker inherits: it ends by itself when both are gone, whatever killed them,
    so a lock file that was left behind means nothing. As long as a broker outlives its parent, the folder stays locked.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def acquire(self, *, wait_s: float) -> int:
        """
        Take the lock and return its descriptor, for the broker to inherit.

        Args:    wait_s: how long to wait for a broker whose parent is gone already; for anybody else there is no waiting.
        Raises:  EmbeddedKafkaError: the folder is in use.
        """
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            self._wait(descriptor, time.monotonic() + wait_s)
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        self.write(Holder(os.getpid()))
        return descriptor

    def write(self, holder: Holder) -> None:
        """Say who uses the folder, for the message to the next one who wants it."""
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, msgspec.json.encode(holder), 0)

    def release(self) -> None:
        """Give it up; does nothing when it is not held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _wait(self, descriptor: int, deadline: float) -> None:
        while True:
            try:
                return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                holder = _read_holder(descriptor)
                if _runs(holder.owner_pid) or time.monotonic() > deadline:
                    raise EmbeddedKafkaError(lock_problem(self._path.parent, holder, owner_runs=_runs(holder.owner_pid))) from error
            time.sleep(_LOCK_POLL_S)


def lock_problem(folder: Path, holder: Holder, *, owner_runs: bool) -> str:
    """What to say when somebody else holds the folder."""
    if owner_runs:
        return f"{folder} is in use by process {holder.owner_pid}: stop it, or choose another folder with --dir"
    if holder.broker_pid:
        return f"{folder} is in use by a Kafka whose parent is gone: run kill -9 {holder.broker_pid}, and start again"
    return f"{folder} is in use by a Kafka that is being made ready: wait a moment and start again, or choose another folder with --dir"


def _read_holder(descriptor: int) -> Holder:
    try:
        return msgspec.json.decode(os.pread(descriptor, 1024, 0), type=Holder)
    except msgspec.DecodeError:  # between the other one's truncate and write
        return Holder(0)


def _runs(pid: int) -> bool:
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # somebody else's
    return True


def _bind(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Java does: connections of the past are no obstacle
        probe.bind((host, port))
