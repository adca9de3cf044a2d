"""What must hold before the embedded Kafka starts, and the line that says what to do when it does not."""

from __future__ import annotations

import random
import socket
import subprocess
import sys

import pytest

from connectors.kafka.embedded_checks import (
    DISK_MIB_MIN,
    FREE_PORTS,
    FolderLock,
    Holder,
    check_disk,
    check_host,
    check_memory,
    check_port,
    free_port,
    lock_problem,
    memory_available_mib,
)
from connectors.kafka.errors import EmbeddedKafkaError


@pytest.fixture
def listener():
    """A socket that listens on a port of this machine."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server


def test_an_occupied_port_is_said_in_the_line_the_readme_shows(listener):
    """The line names the port and the way around it."""
    port = listener.getsockname()[1]
    with pytest.raises(EmbeddedKafkaError) as problem:
        check_port("127.0.0.1", port)
    assert f'port {port} is in use: stop what uses it, or run make dev ARGS="--kafka-port 0"' == str(problem.value)


def test_an_address_of_another_machine_is_said(listener):
    """192.0.2.1 (RFC 5737) is nobody's."""
    with pytest.raises(EmbeddedKafkaError, match=r"cannot listen on 192\.0\.2\.1: .*use an address of this machine"):
        check_port("192.0.2.1", 9092)


@pytest.mark.parametrize("host", ["", "0.0.0.0", "::"])
def test_an_address_that_clients_could_not_use_is_refused(host):
    """Kafka tells its clients where to go: that cannot be "everywhere"."""
    with pytest.raises(EmbeddedKafkaError, match="give the one address that its clients will use"):
        check_host(host)


def test_a_free_port_is_one_that_no_outgoing_connection_is_given():
    """Between a kill and a restart on the same port nobody may come to own it by chance."""
    port = free_port("127.0.0.1", random.Random(1))
    assert port in FREE_PORTS
    check_port("127.0.0.1", port)


def test_too_little_disk_is_said(monkeypatch, tmp_path):
    """The line says how much there is and how much is needed."""
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 100 * 1024 * 1024}))
    with pytest.raises(EmbeddedKafkaError, match=f"only 100 MiB of disk are free .*needs {DISK_MIB_MIN}: make room, or choose .*--dir"):
        check_disk(tmp_path)


@pytest.mark.parametrize("available_mib", [None, 640, 100_000])
def test_enough_memory_or_an_unknown_amount_is_no_problem(available_mib):
    """Heap and what Java needs beside it."""
    check_memory(available_mib, heap_mib=512)


def test_too_little_memory_is_said():
    """The line says how much there is and how much is needed."""
    with pytest.raises(EmbeddedKafkaError, match="only 639 MiB of memory are free, Kafka needs 640: end other programs"):
        check_memory(639, heap_mib=512)


@pytest.mark.parametrize(
    ("cgroup", "expected"),
    [({}, 2000), ({"memory.max": "max"}, 2000), ({"memory.max": str(700 << 20), "memory.current": str(200 << 20)}, 500)],
)
def test_the_memory_of_a_container_is_what_its_limit_leaves(tmp_path, cgroup, expected):
    """The smaller of what the machine and what the container has left."""
    (tmp_path / "meminfo").write_text("MemTotal:       16000000 kB\nMemAvailable:    2048000 kB\n")
    for name, text in cgroup.items():
        (tmp_path / name).write_text(text + "\n")
    assert expected == memory_available_mib(proc=tmp_path, cgroup=tmp_path)


def test_where_the_system_does_not_say_memory_is_unknown(tmp_path):
    """As on macOS."""
    assert memory_available_mib(proc=tmp_path / "none") is None


def test_a_second_user_of_a_folder_is_told_who_has_it(tmp_path):
    """Even within one process; and at once, however long it would wait for an orphan."""
    first, second = FolderLock(tmp_path / "lock"), FolderLock(tmp_path / "lock")
    first.acquire(wait_s=0)
    with pytest.raises(EmbeddedKafkaError, match=r"is in use by process \d+: stop it, or choose another folder with --dir"):
        second.acquire(wait_s=60)
    first.release()
    second.acquire(wait_s=0)
    second.release()


@pytest.mark.parametrize("left", ["", "no json", '{"owner_pid": 1, "broker_pid": 2}'])
def test_a_lock_file_that_was_left_behind_means_nothing(tmp_path, left):
    """Only the system's lock counts, and that ended with its process."""
    (tmp_path / "lock").write_text(left)
    lock = FolderLock(tmp_path / "lock")
    lock.acquire(wait_s=0)
    lock.release()


def test_a_broker_that_is_ending_after_its_parent_is_waited_for(tmp_path):
    """It holds the lock that it inherited; once it has ended the folder is free."""
    lock = FolderLock(tmp_path / "lock")
    descriptor = lock.acquire(wait_s=0)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=[descriptor]) as broker:
        lock.write(Holder(_ended_pid(), broker.pid))
        lock.release()
        other = FolderLock(tmp_path / "lock")
        with pytest.raises(EmbeddedKafkaError, match=f"whose parent is gone: run kill -9 {broker.pid}, and start again"):
            other.acquire(wait_s=0)
        broker.communicate(b"\n")
        other.acquire(wait_s=30)
        other.release()


def test_a_folder_that_is_being_made_ready_has_no_broker_to_name(tmp_path):
    """Then the line says to wait."""
    assert (
        f"{tmp_path} is in use by a Kafka that is being made ready: wait a moment and start again, or choose another folder with --dir"
        == (lock_problem(tmp_path, Holder(0), owner_runs=False))
    )


def _ended_pid() -> int:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    return ended.pid
