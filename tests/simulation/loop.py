"""
An event loop in the hands of a simulation: it runs one callback when told to, and its clock is the world's.

Nothing runs between two calls of :meth:`Loop.run_one` (to be made in ``with`` the loop), so that a process can be killed, frozen or
overtaken between any two callbacks.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any


class Loop(asyncio.AbstractEventLoop):
    """
    As much of a loop as coroutines without I/O need; callbacks run in the order in which they became due.

    Args:  clock: seconds, never going back; callbacks may find it later than the callback before.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.time = clock  # type: ignore[method-assign]
        self._ready: deque[asyncio.Handle] = deque()
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._count = itertools.count()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._error: BaseException | None = None

    def run_one(self) -> bool:
        """Run the next callback, if there is one; whether there was. Raises what nobody has caught in it."""
        while self._timers and self._timers[0][0] <= self.time():
            self._ready.append(heapq.heappop(self._timers)[2])
        while self._ready:
            handle = self._ready.popleft()
            if not handle.cancelled():
                handle._run()
                if self._error is not None:
                    raise self._error
                return True
        return False

    def __enter__(self) -> None:
        """What is done until :meth:`__exit__` is done in this loop."""
        asyncio._set_running_loop(self)

    def __exit__(self, *_: object) -> None:
        asyncio._set_running_loop(None)

    @property
    def next_due(self) -> float | None:
        """When the next timer goes off."""
        return self._timers[0][0] if self._timers else None

    def close(self) -> None:
        """The process has died: nothing goes on, and nothing is told about it."""
        self._ready.clear()
        self._timers.clear()
        for task in self._tasks:
            coroutine = task.get_coro()
            if coroutine is not None:
                coroutine.close()

    # What asyncio asks of a loop.

    def get_debug(self) -> bool:
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self._error = self._error or context.get("exception")  # without one it is about a task that nobody waits for any more

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(self.time() + delay, callback, args, self, context)
        heapq.heappush(self._timers, (handle.when(), next(self._count), handle))
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """A cancelled timer is passed over when it is due."""

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Coroutine[Any, Any, Any], *, name: str | None = None, **_: Any) -> asyncio.Task[Any]:  # type: ignore[override]
        task = _Task(coro, loop=self, name=name)
        task.number = next(self._count)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


class _Task(asyncio.Task[Any]):
    """One that has the same place in a set in every run: sets of tasks are iterated over."""

    number = 0

    def __hash__(self) -> int:
        return self.number
