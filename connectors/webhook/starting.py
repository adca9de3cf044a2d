"""
Calls that are begun here and end elsewhere: their results come to a callback, so that a call needs no task where its engine needs none.

Sits on :class:`http.Sender`; used by sending.py. http1.py and tokens.py start calls themselves, any other sender gets a task for each.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Protocol, runtime_checkable

from connectors.webhook.calls import Failure, Request, Response
from connectors.webhook.http import Sender

Done = Callable[[Response | Failure], None]
Failed = Callable[[BaseException], None]


class Call(Protocol):
    """A call that was started."""

    def cancel(self) -> asyncio.Task[None] | None:
        """Nobody waits for it any more, and nobody is told. Gives what is to be waited for until its connection is closed, if anything."""
        ...


@runtime_checkable
class Starter(Protocol):
    """Starts calls."""

    def start(self, request: Request, *, timeout_s: float, done: Done, failed: Failed) -> Call:
        """
        Start it.

        Args:  done: told the result, once, never before this has returned. failed: told instead what is a mistake of ours.
        """
        ...


class TaskCall:
    """A call in a task of its own; ``send`` makes the coroutine that is the call."""

    def __init__(self, send: Callable[[], Coroutine[Any, Any, Response | Failure]], done: Done, failed: Failed) -> None:
        self._send, self._done, self._failed = send, done, failed
        self._task = asyncio.get_running_loop().create_task(self._run())

    def cancel(self) -> asyncio.Task[None] | None:
        """See :class:`Call`."""
        self._task.cancel()
        return self._task

    async def _run(self) -> None:
        try:
            result = await self._send()
        except Exception as error:  # noqa: BLE001 - whatever it is, whoever has started the call is told
            self._failed(error)
        else:
            self._done(result)


class TaskStarter:
    """Starts calls of a sender that only sends."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender

    def start(self, request: Request, *, timeout_s: float, done: Done, failed: Failed) -> Call:
        """See :class:`Starter`."""
        return TaskCall(partial(self._sender.send, request, timeout_s=timeout_s), done, failed)


def starter_of(sender: Sender) -> Starter:
    """What starts calls of a sender: itself, if it can."""
    return sender if isinstance(sender, Starter) else TaskStarter(sender)
