"""
A role as a process: it serves its health, starts, works until it is told to end or cannot go on, drains, and ends.

SIGTERM and SIGINT drain. So does the end of the parent, of which a pipe tells: `livehook dev` may be killed without a word to its children.
Draining is bounded: a process that hangs in it ends all the same.

A Kafka that is not there while a role starts is waited for, however long: health says so, and the log once in a while.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

import uvloop
from starlette.types import ASGIApp

from connectors.kafka.errors import KafkaUnavailable
from livehook import exits, health
from livehook.watchdog import LoopWatch
from schemas.errors import Fatal

logger = logging.getLogger(__name__)

PARENT_PIPE = "LIVEHOOK_PARENT_FD"  # its other end is held by our parent and by nobody else
DRAIN_S_MAX = 25.0
AGAIN_S = 0.5
WAITING_EVERY_S = 10.0
OPEN_FILES = 65_536

Fail = Callable[[BaseException], None]


class Role(Protocol):
    """One role, made inside the running loop."""

    async def start(self) -> None:
        """Start to work. Raises Fatal; KafkaUnavailable: it is stopped, and another one is made and started."""
        ...

    async def stop(self) -> None:
        """Finish what is under way and end; also of what has only begun to start."""
        ...


MakeRole = Callable[[str, Fail], Awaitable[tuple[Role, ASGIApp]]]
"""Gets the address that the role is served at, and whom to tell that it cannot go on; gives the role and what it serves."""


class Ending:
    """Why and when the process is to end."""

    def __init__(self) -> None:
        self.error: BaseException | None = None
        self.signal: int | None = None
        self._wanted = asyncio.Event()

    def fail(self, error: BaseException) -> None:
        """It is not safe to go on; the first reason counts."""
        self.error = self.error or error
        self._wanted.set()

    def ask(self, signal_number: int) -> None:
        """Drain and end."""
        self.signal = self.signal or signal_number
        self._wanted.set()

    async def wait(self) -> None:
        """Until either."""
        await self._wanted.wait()


def run(make_role: MakeRole, sock: socket.socket, *, kafka: str) -> int:
    """
    Run a role until it ends.

    Args:     kafka: where Kafka is, for people.
    Returns:  the exit code: 0 after SIGTERM, 1 when it could not go on.
    """
    allow_open_files()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_run(make_role, sock, kafka))


async def _run(make_role: MakeRole, sock: socket.socket, kafka: str) -> int:
    ending = Ending()
    listen_for_signals(asyncio.get_running_loop(), ending.ask)
    LoopWatch(asyncio.get_running_loop()).start()
    life = _Life(sock, kafka)
    started = asyncio.create_task(life.begin(make_role, ending.fail), name="start")
    wanted = asyncio.create_task(ending.wait(), name="end")
    await asyncio.wait({started, wanted}, return_when=asyncio.FIRST_COMPLETED)
    if started.done() and started.exception() is None:
        await wanted
    end_within(DRAIN_S_MAX)
    ending.error = ending.error or (started.exception() if started.done() else None)
    for task in (started, wanted):
        task.cancel()
    await asyncio.wait({started, wanted})
    try:
        await life.end()
    except Exception as failure:  # noqa: BLE001 - the first reason is the one to tell; this one must not hide it
        ending.error = ending.error or failure
    return _told(ending)


class _Life:
    """A role and its server, from the first to the last."""

    def __init__(self, sock: socket.socket, kafka: str) -> None:
        self._address = health.address(sock)
        self._kafka = kafka
        self._gate = health.Gate()
        self._serving = health.Serving(self._gate, sock)
        self._role: Role | None = None
        self._told_at = -math.inf

    async def begin(self, make_role: MakeRole, fail: Fail) -> None:
        self._serving.start()
        while True:
            try:
                self._role, app = await make_role(self._address, fail)
                self._gate.show(app)
                await self._role.start()
                break
            except KafkaUnavailable as error:
                await self._wait(error)
        self._gate.open()
        logger.info("started")

    async def _wait(self, error: KafkaUnavailable) -> None:
        """Before the next try, with another role: one that was stopped in the middle of its start is not started again."""
        why = f"waiting for Kafka at {self._kafka}"
        self._gate.wait("kafka", f"{why}: {error}")
        if (now := time.monotonic()) - self._told_at >= WAITING_EVERY_S:
            self._told_at = now
            logger.warning("%s: %s", why, error)
        role, self._role = self._role, None
        if role is not None:
            await role.stop()
        await asyncio.sleep(AGAIN_S)

    async def end(self) -> None:
        try:
            if self._role is not None:
                await self._role.stop()
        finally:
            await self._serving.stop()


def _told(ending: Ending) -> int:
    """Say why it ends, in one line where that is enough, and give the exit code."""
    error = ending.error
    if error is None:
        logger.info("ended")
        return exits.INTERRUPTED if ending.signal == signal.SIGINT else exits.DONE
    if isinstance(error, Fatal | KafkaUnavailable):
        logger.error("%s", error)
    else:
        logger.error("unexpected", exc_info=error)
    return exits.FAILED


def allow_open_files() -> None:
    """As many open files as we may have, within reason: a sink has a connection for each call under way, and the usual limit is 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def listen_for_signals(loop: asyncio.AbstractEventLoop, ask: Callable[[int], None]) -> None:
    """Call ``ask`` in the loop at SIGTERM and SIGINT, and when the parent has ended."""
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ask, number)
    watch_parent(lambda: loop.call_soon_threadsafe(ask, signal.SIGTERM))


def watch_parent(ended: Callable[[], object], environment: Mapping[str, str] = os.environ) -> None:
    """Call ``ended``, from a thread, once the process at the other end of the pipe has ended; nothing without a pipe."""
    if (fd := environment.get(PARENT_PIPE)) is None:
        return

    def watch() -> None:
        os.read(int(fd), 1)  # nobody ever writes: it returns when the last holder of the other end has gone
        end_within(DRAIN_S_MAX)  # even when the loop does not get to it
        with contextlib.suppress(RuntimeError):  # the loop has ended by itself
            ended()

    threading.Thread(target=watch, name="parent", daemon=True).start()


def end_within(timeout_s: float) -> None:
    """End the process after so long, whatever it is doing."""

    def end() -> None:
        sys.stderr.write(f"livehook: not drained within {timeout_s:.0f} s, ending\n")
        os._exit(exits.FAILED)

    timer = threading.Timer(timeout_s, end)
    timer.daemon = True
    timer.start()
