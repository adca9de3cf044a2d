"""
What a role says of itself when it has work and does not move, and how it ends then: a stall nobody hears of is the worst of all faults.

Two things are watched. The event loop, from a thread of its own: when it does not turn, nothing inside it could tell. And the role's work,
from inside the loop: a role names what is waiting, with how far that has come; what stays the same for too long has stalled. Both log the
stacks of all threads and tasks first, so that there is something to mend, and end the process; whoever supervises it starts it again.
"""

from __future__ import annotations

import asyncio
import faulthandler
import io
import logging
import os
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Hashable, Mapping

from livehook import exits
from schemas.errors import Fatal

logger = logging.getLogger(__name__)

STALLED_S = 60.0  # with work and without a step: `/livez` says so, and the stacks are logged
END_S = 90.0  # the process ends
LOOK_S = 2.0
_TURN_S = 5.0
_TURNS_MAX = 36  # three minutes: a role that starts may have long work in the loop, the webhooks of a large installation
_STACKS_CHARS_MAX = 60_000
_JUMP = 3.0  # a look that comes so many times later than it should: the process was frozen, not its work

Waiting = Mapping[str, Hashable]
"""What has work now, by name, each with how far it has come: anything that changes with every step."""


class Watch:
    """
    Which of what is waiting does not move. Pure.

    Args:  limit_s: for how long that is in order. every_s: how often :meth:`look` is called.
    """

    def __init__(self, *, limit_s: float = STALLED_S, every_s: float = LOOK_S) -> None:
        self._limit_s = limit_s
        self._every_s = every_s
        self._since: dict[str, tuple[Hashable, float]] = {}
        self._looked_at: float | None = None

    def look(self, now: float, waiting: Waiting) -> dict[str, float]:
        """By name, for how many seconds each that has stalled has not moved; ``now``: s, of a clock that only goes forward."""
        if self._looked_at is not None and now - self._looked_at > _JUMP * self._every_s:
            self.forgive()
        self._looked_at = now
        self._since = {name: self._last_step(name, progress, now) for name, progress in waiting.items()}
        return {name: now - since for name, (_, since) in self._since.items() if now - since >= self._limit_s}

    def waited(self, now: float) -> None:
        """The next look is later than it should be for what its caller waited for."""
        self._looked_at = now

    def forgive(self) -> None:
        """Begin anew: what stood still had a reason."""
        self._since = {}

    def _last_step(self, name: str, progress: Hashable, now: float) -> tuple[Hashable, float]:
        known = self._since.get(name)
        return known if known is not None and known[0] == progress else (progress, now)


class Watchdog:
    """
    Looks again and again at what a role has to do.

    Args:  waiting: what has work now. answers: whether Kafka answers: without it nothing has to move. fail: ends the process.
           clock: s, only forward.
    """

    def __init__(
        self,
        waiting: Callable[[], Waiting],
        answers: Callable[[], Awaitable[bool]],
        fail: Callable[[BaseException], None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._waiting, self._answers, self._fail, self._clock = waiting, answers, fail, clock
        self._watch = Watch()
        self._stalled: dict[str, float] = {}

    @property
    def check(self) -> str:
        """``ok``, or what does not move; for `/livez`."""
        return "ok" if not self._stalled else "; ".join(f"{name}: no step for {for_s:.0f} s" for name, for_s in self._stalled.items())

    async def run(self) -> None:
        """Until it is cancelled, or has told the process to end; also when it cannot watch."""
        try:
            while True:
                await asyncio.sleep(LOOK_S)
                if await self.look():
                    return
        except Exception as error:  # noqa: BLE001 - a role that nobody watches must not go on as if somebody did
            self._fail(error)

    async def look(self) -> bool:
        """Once; whether the process was told to end."""
        stalled = self._watch.look(self._clock(), self._waiting())
        if stalled:
            if not await self._answers():
                self._watch.forgive()
                stalled = {}
            self._watch.waited(self._clock())
        is_new, self._stalled = bool(stalled) and not self._stalled, stalled
        if is_new:
            log_stacks(self.check)
        if max(stalled.values(), default=0.0) < END_S:
            return False
        self._fail(Fatal(f"stalled, and ended to be started again: {self.check}"))
        return True


class LoopWatch:
    """
    Ends the process when its event loop does not turn for a minute.

    It counts its own turns, not the time: a process that was frozen and goes on has missed none.
    Args:  end: called, in the watching thread, when the loop stands still.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, *, turn_s: float = _TURN_S, end: Callable[[str], object] | None = None) -> None:
        self._loop = loop
        self._turn_s = turn_s
        self._end = end or _end_now
        self._turned = threading.Event()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def start(self) -> None:
        """Watch from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Watch no more."""
        self._stopped.set()

    def _run(self) -> None:
        missed = 0
        while not self._stopped.is_set():
            try:
                self._loop.call_soon_threadsafe(self._turned.set)
            except RuntimeError:  # it is closed: the process is ending
                return
            self._stopped.wait(self._turn_s)
            missed = 0 if self._turned.is_set() else missed + 1
            self._turned.clear()
            if missed == _TURNS_MAX and not self._stopped.is_set():
                self._end(f"the event loop has not turned for {missed * self._turn_s:.0f} s")
                return


def stacks() -> str:
    """Where every task of the running loop waits; bounded."""
    out = io.StringIO()
    for task in asyncio.all_tasks():
        task.print_stack(file=out, limit=12)
        if out.tell() > _STACKS_CHARS_MAX:
            break
    return out.getvalue()[:_STACKS_CHARS_MAX]


def log_stacks(why: str) -> None:
    """To the log, the tasks; to standard error, the threads: those cannot be had as text."""
    logger.error("stalled: %s", why, extra={"tasks": stacks()})
    faulthandler.dump_traceback(sys.stderr, all_threads=True)


def _end_now(why: str) -> None:
    sys.stderr.write(f"livehook: {why}, ending\n")
    faulthandler.dump_traceback(sys.stderr, all_threads=True)
    os._exit(exits.FAILED)
