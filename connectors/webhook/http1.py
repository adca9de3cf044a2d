"""
The engine of the hot path: HTTP/1.1 on asyncio, a pool of connections for each origin, answers parsed by llhttp (httptools).

A call takes an idle connection or makes one, writes the request in one piece, with the others of the loop's turn, and its answer comes to
a callback: no task, no future, no lock and, on a connection in use, no timer of its own. A request is repeated on another connection only
when no byte of it can have been taken; whatever happens later is an outcome, and the next attempt is the schedule's.

In one direction: http1 -> dial -> http1_connection -> http1_wire. Source: docs/explanation/engine.md.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from functools import partial

from connectors.webhook.calls import Failure, Request, Response
from connectors.webhook.dial import Dialler, Refused
from connectors.webhook.http import IDLE_S_MAX, text_of
from connectors.webhook.http1_connection import Connection, Pool
from connectors.webhook.http1_wire import Origin, Unsendable, encoded
from connectors.webhook.starting import Call, Done, Failed
from connectors.webhook.tls import Trust, trusted
from schemas.attempts import ErrorCode

IDLE_MAX = 1_024
# A receiver that takes longer for its handshake is down; the rest of the call's time is of no use to it.
CONNECT_S_MAX = 10.0


class Http1Sender:
    """
    The sender that everything uses.

    Args:  dialler: makes the connections, and decides which addresses may be called; closed with the sender.
           tls: None: this machine's authorities.
           idle_max: connections that wait for their next call, over all origins; as many as there are calls at a time, or a burst of
               answers closes what the next calls need. idle_s_max: how long they wait.
    """

    def __init__(self, dialler: Dialler, *, tls: Trust | None = None, idle_max: int = IDLE_MAX, idle_s_max: float = IDLE_S_MAX) -> None:
        self._dialler = dialler
        self._trust = trusted() if tls is None else tls
        self.pool = Pool(idle_max, idle_s_max)

    async def send(self, request: Request, *, timeout_s: float) -> Response | Failure:
        """Send it once and wait for the whole answer."""
        waiter: asyncio.Future[Response | Failure] = asyncio.get_running_loop().create_future()
        call = self.start(request, timeout_s=timeout_s, done=partial(_tell, waiter.set_result, waiter), failed=waiter.set_exception)
        try:
            return await waiter
        except asyncio.CancelledError:
            if (dialling := call.cancel()) is not None:
                await asyncio.wait([dialling])
            raise

    def start(self, request: Request, *, timeout_s: float, done: Done, failed: Failed) -> Call:
        """See :class:`starting.Starter`."""
        loop = asyncio.get_running_loop()
        try:
            origin, head = encoded(request)
        except Unsendable as why:
            return _Refused(loop.call_soon(done, Failure(ErrorCode.TEMPLATE, str(why))))
        call = _Call(self, origin, head, request.body, loop.time() + timeout_s, done, failed)
        call.go()
        return call

    async def close(self) -> None:
        """Close the connections that are idle."""
        self.pool.close()
        self._dialler.close()
        await asyncio.sleep(0)  # asyncio closes the sockets in the loop's next round

    async def open(self, origin: Origin, timeout_s: float) -> Connection | Failure:
        """A connection that is ready for its first request."""
        connect_s = min(timeout_s, CONNECT_S_MAX)
        try:
            async with asyncio.timeout(connect_s):
                sock = await self._dialler.dial(origin)
                return await self._wrapped(origin, sock)
        except Refused as why:
            return Failure(ErrorCode.EGRESS, str(why))
        except TimeoutError:
            return Failure(ErrorCode.TIMEOUT, f"no connection within {connect_s:.3g} s")
        except ssl.SSLError as error:
            return Failure(ErrorCode.TLS, text_of(error))
        except (socket.gaierror, UnicodeError) as error:  # UnicodeError: a part of the name is empty or too long
            return Failure(ErrorCode.DNS, text_of(error))
        except OSError as error:
            return Failure(ErrorCode.CONNECT, text_of(error))

    async def _wrapped(self, origin: Origin, sock: socket.socket) -> Connection:
        loop = asyncio.get_running_loop()
        trust = (origin.identity or self._trust) if origin.is_tls else None
        connection = Connection(origin, self.pool, sock, trust)
        name = origin.host.partition("%")[0].rstrip(".") if origin.is_tls else None
        try:
            await loop.create_connection(lambda: connection, sock=sock, ssl=trust, server_hostname=name)
        except BaseException as error:
            sock.close()
            if trust is not None and isinstance(error, OSError) and not isinstance(error, TimeoutError | ssl.SSLError):
                raise ssl.SSLError(f"the connection ended in the TLS handshake: {text_of(error)}") from error
            raise
        return connection


class _Call:
    """A call on its way: over an idle connection, over the next one when that turns out to be closed, over a new one in the end."""

    __slots__ = ("_connection", "_dialling", "_done", "_failed", "_sender", "body", "due", "head", "origin")

    def __init__(self, sender: Http1Sender, origin: Origin, head: bytes, body: bytes, due: float, done: Done, failed: Failed) -> None:
        self._sender, self._done, self._failed = sender, done, failed
        self.origin, self.head, self.body, self.due = origin, head, body, due
        self._connection: Connection | None = None
        self._dialling: asyncio.Task[None] | None = None

    def go(self) -> None:
        """Over an idle connection if there is one."""
        self._connection = connection = self._sender.pool.take(self.origin)
        if connection is None:
            self._dialling = asyncio.get_running_loop().create_task(self._dial())
        else:
            connection.ask(self)

    def answered(self, answer: Response | Failure | None) -> None:
        """None: the connection turned out to be closed, and not a byte was sent."""
        self._connection = None
        if answer is not None:
            self._done(answer)
        elif self._dialling is None:
            self.go()
        else:
            self._done(Failure(ErrorCode.RESET, "the connection ended before the request was sent"))

    def cancel(self) -> asyncio.Task[None] | None:
        """See :class:`starting.Call`."""
        if self._connection is not None:
            self._connection.give_up(self)
        if self._dialling is None or self._dialling.done():
            return None
        self._dialling.cancel()
        return self._dialling

    async def _dial(self) -> None:
        try:
            opened = await self._sender.open(self.origin, self.due - asyncio.get_running_loop().time())
        except Exception as error:  # noqa: BLE001 - whatever it is, whoever has started the call is told
            self._failed(error)
            return
        if isinstance(opened, Failure):
            self._done(opened)
        else:
            self._connection = opened
            opened.ask(self)


class _Refused:
    """A call that cannot be sent, which is told in the loop's next turn."""

    def __init__(self, telling: asyncio.Handle) -> None:
        self._telling = telling

    def cancel(self) -> None:
        """See :class:`starting.Call`."""
        self._telling.cancel()


def _tell(tell: Done, waiter: asyncio.Future[Response | Failure], result: Response | Failure) -> None:
    if not waiter.done():
        tell(result)
