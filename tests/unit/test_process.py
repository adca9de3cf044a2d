"""A role as a process: how it ends, and with which exit code. Each in a real process, since signals and pipes are all there is to it."""

import os
import signal
import subprocess
import sys
import textwrap

import httpx
import pytest

from livehook.process import PARENT_PIPE

ROLE = """
import sys
from connectors.kafka.errors import KafkaUnavailable
from livehook import health, process
from schemas.errors import Fatal

class Role:
    def __init__(self, fail):
        self.fail = fail
    async def start(self):
        {start}
        print("started", flush=True)
    async def stop(self):
        print("drained", flush=True)

async def make(address, fail):
    print(address, flush=True)
    return Role(fail), health.app({{}})

sys.exit(process.run(make, health.listen("127.0.0.1", 0), kafka="127.0.0.1:9"))
"""


def role(start="pass", **more):
    """A process with a role that starts like this."""
    code = textwrap.dedent(ROLE).format(start=start)
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more)


def ended(process):
    """Exit code, and what it said."""
    out, err = process.communicate(timeout=30)
    return process.returncode, out.split(), err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_drains(number, code):
    """SIGTERM is an end in order, Ctrl-C is told apart from it."""
    process = role()
    assert ["http", "started\n"] == [process.stdout.readline()[:4], process.stdout.readline()]
    process.send_signal(number)

    assert (code, ["drained"]) == ended(process)[:2]


def test_the_end_of_the_parent_drains():
    """Whatever ended it: the pipe tells."""
    reading, writing = os.pipe()
    process = role(pass_fds=(reading,), env=os.environ | {PARENT_PIPE: str(reading)})
    os.close(reading)
    assert "started\n" == [process.stdout.readline(), process.stdout.readline()][1]
    os.close(writing)

    assert (0, ["drained"]) == ended(process)[:2]


@pytest.mark.parametrize(
    ("start", "code", "said"),
    [
        ("raise Fatal('the topic differs')", 1, "the topic differs"),
        ("raise ValueError('a fault')", 1, "a fault"),
        ("self.fail(Fatal('not safe'))", 1, "not safe"),
    ],
)
def test_what_cannot_go_on_ends_with_its_reason(start, code, said):
    """The role is stopped in order all the same."""
    found, out, err = ended(role(start))

    assert (code, "drained") == (found, out[-1])
    assert said in err


def test_a_kafka_that_does_not_answer_is_waited_for():
    """The role in the middle of its start is stopped and another one made; meanwhile health says why, and SIGTERM ends it."""
    process = role("raise KafkaUnavailable('nobody answers')")
    address = process.stdout.readline().strip()
    assert ["drained\n", f"{address}\n"] == [process.stdout.readline(), process.stdout.readline()]
    live, ready = httpx.get(f"{address}/livez"), httpx.get(f"{address}/readyz")
    process.send_signal(signal.SIGTERM)

    code, _, err = ended(process)
    assert (200, 503) == (live.status_code, ready.status_code)
    assert {"kafka": "waiting for Kafka at 127.0.0.1:9: nobody answers"} == ready.json()["checks"]
    assert (0, 1) == (code, err.count("waiting for Kafka"))


def test_a_role_that_is_still_being_imported_ends_in_order():
    """The first lines of the program take SIGTERM as an end in order."""
    code = "import os, signal, sys; sys.argv = ['livehook', 'sink']; from livehook import __main__; "
    code += "sys.modules['livehook.cli'] = type('', (), {'main': lambda: os.kill(os.getpid(), signal.SIGTERM)}); "
    code += "import livehook; livehook.cli = sys.modules['livehook.cli']; sys.exit(__main__.main())"

    assert 0 == subprocess.run([sys.executable, "-c", code], check=False, timeout=30).returncode


def test_a_start_that_hangs_can_be_ended():
    """A signal does not wait for it."""
    process = role("import asyncio; print('hangs', flush=True); await asyncio.sleep(60)")
    assert "hangs\n" == [process.stdout.readline(), process.stdout.readline()][1]
    process.send_signal(signal.SIGTERM)

    assert (0, ["drained"]) == ended(process)[:2]
