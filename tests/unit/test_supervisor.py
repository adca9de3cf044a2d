"""Children that are kept running: on real processes, which is all that there is to them."""

import asyncio
import os
import signal
import sys

import pytest

from livehook.supervisor import Child, worth_a_look

READY = """import sys; print('{"event": "ready", "level": "warning"}', file=sys.stderr, flush=True);"""
SLEEP = "import time; time.sleep(60)"


class Told(asyncio.Queue[str]):
    """What a child told, to be waited for."""

    async def next(self):
        return await asyncio.wait_for(self.get(), 20)


@pytest.fixture
def told():
    return Told()


def child(tmp_path, code, told):
    """A child that runs this code."""
    return Child("role", [sys.executable, "-c", code], environment={}, log=tmp_path / "logs" / "role.log", tell=told.put_nowait)


async def test_a_child_that_ends_is_started_again(tmp_path, told):
    """Whatever ended it, and the reason is told."""
    one = child(tmp_path, READY + SLEEP, told)
    one.start()
    assert "role: ready" == await told.next()
    first = one.pid
    os.kill(first, signal.SIGKILL)

    assert "role ended (signal SIGKILL) and is started again: ready" == await told.next()
    assert "role: ready" == await told.next()
    assert first != one.pid
    await one.stop()


async def test_a_child_that_ends_at_once_is_counted(tmp_path, told):
    """So that whoever waits for it can give up."""
    one = child(tmp_path, "raise SystemExit('no disk')", told)
    one.start()
    for _ in range(2):
        assert "role ended (exit code 1) and is started again: no disk" == await told.next()
    assert 2 == one.failures
    await one.stop()


async def test_stopping_ends_it_in_order(tmp_path, told):
    """SIGTERM, and it is waited for."""
    done = tmp_path / "done"
    code = f"""
import pathlib, signal, sys
def end(*_):
    pathlib.Path({str(done)!r}).write_text("drained")
    sys.exit()
signal.signal(signal.SIGTERM, end)
{READY} {SLEEP}
"""
    one = child(tmp_path, code, told)
    one.start()
    await told.next()
    await one.stop()

    assert "drained" == done.read_text()


async def test_stopping_before_it_has_started_is_fine(tmp_path, told):
    """Ctrl-C can come at any moment."""
    one = child(tmp_path, SLEEP, told)
    one.start()
    await one.stop()

    assert told.empty()


async def test_what_it_logs_is_kept(tmp_path, told):
    """Every line, in a file."""
    one = child(tmp_path, READY + SLEEP, told)
    one.start()
    await told.next()
    await one.stop()

    assert b'{"event": "ready", "level": "warning"}\n' == (tmp_path / "logs" / "role.log").read_bytes()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b'{"event": "started", "level": "info"}\n', None),
        (b'{"event": "slow", "level": "warning"}\n', "slow"),
        (b'{"event": "failed", "level": "error", "exception": "Traceback\\n  line\\nValueError: no"}\n', "failed: ValueError: no"),
        (b"Traceback (most recent call last):\n", None),
        (b"5\n", None),
        (b"\n", None),
    ],
)
def test_what_is_worth_a_look(line, expected):
    """Warnings and errors, with the error behind them; everyday news is in the file."""
    assert expected == worth_a_look(line)
