"""A child cannot outlive its parent, and leaves nothing behind when it ends before it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from connectors.kafka.embedded_process import TiedProcess
from tests.processes import PATIENCE_S, ends

# A parent that ties a child (the words after the file name) to itself, says both ids, and then waits to be killed.
PARENT = """
import sys, threading
from pathlib import Path
from connectors.kafka.embedded_process import TiedProcess
with open("/dev/null", "wb") as output:
    child = TiedProcess(sys.argv[1:], cwd=Path("/"), env={"PATH": "/usr/bin:/bin"}, output=output, grace_s=1)
print(child.pid, child.watcher_pid, flush=True)
threading.Event().wait()
"""


def tie(*command: str, grace_s: int = 1) -> TiedProcess:
    """A child of this process; its output goes nowhere."""
    with Path(os.devnull).open("wb") as output:
        return TiedProcess(command, cwd=Path("/"), env={"PATH": os.defpath}, output=output, grace_s=grace_s)


@pytest.fixture
def parent():
    """Starts a parent with a child; gives the parent, the child's id and the watcher's."""
    started = []

    def start(*command: str) -> tuple[subprocess.Popen[str], int, int]:
        process = subprocess.Popen([sys.executable, "-c", PARENT, *command], stdout=subprocess.PIPE, text=True, cwd=Path.cwd())
        started.append(process)
        assert process.stdout is not None
        child, watcher = process.stdout.readline().split()
        return process, int(child), int(watcher)

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_a_child_ends_when_its_parent_is_killed(parent):
    """kill -9 leaves the parent no time; the child ends all the same, and so does its watcher."""
    process, child, watcher = parent("sleep", "1000")
    process.kill()
    assert ends(child)
    assert ends(watcher)


def test_a_child_that_ignores_term_is_killed_after_the_grace(parent):
    """TERM first, then KILL."""
    process, child, _ = parent("sh", "-c", "trap '' TERM; while :; do sleep 1; done")
    process.kill()
    assert ends(child)


def test_ctrl_c_reaches_the_parent_alone(parent):
    """Child and watcher are no members of the terminal's process group."""
    process, child, watcher = parent("sleep", "1000")
    assert os.getpgid(process.pid) not in {os.getpgid(child), os.getpgid(watcher)}
    assert os.getsid(process.pid) not in {os.getsid(child), os.getsid(watcher)}


def test_the_end_of_a_child_is_seen_and_leaves_no_process():
    """The exit code is that of the child, the watcher is gone with it, and no zombie stays."""
    tied = tie("sh", "-c", "exit 7")
    assert 7 == tied.wait(PATIENCE_S)
    assert 7 == tied.poll()
    for pid in (tied.pid, tied.watcher_pid):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_the_signal_that_ended_a_child_is_seen():
    """As in subprocess: negative."""
    tied = tie("sleep", "1000")
    assert tied.wait(0) is None
    tied.send(signal.SIGKILL)
    assert -signal.SIGKILL == tied.wait(PATIENCE_S)


def test_a_watcher_that_was_killed_is_no_obstacle():
    """The child then only loses its guard."""
    tied = tie("sleep", "1000")
    os.kill(tied.watcher_pid, signal.SIGKILL)
    tied.send(signal.SIGTERM)
    assert -signal.SIGTERM == tied.wait(PATIENCE_S)


def test_a_plain_fork_does_not_keep_the_child_alive():
    """A copy of the parent, made by a fork and still there, must not hold the pipe open: the child ends with the original."""
    script = PARENT.replace("threading.Event().wait()", "import os\nif os.fork():\n    threading.Event().wait()\nsys.stdin.read()")
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", script, "sleep", "1000"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline().split()[0])
        process.kill()
        assert ends(child)


def test_a_command_that_does_not_exist_ends_like_any_other():
    """127, as a shell says it; nothing is left running."""
    assert 127 == tie("/no/such/program").wait(PATIENCE_S)
