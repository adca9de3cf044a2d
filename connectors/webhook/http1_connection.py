"""One HTTP/1.1 connection, and the pool of those that wait for their next call. Used by http1.py; reads answers with http1_wire.py."""

from __future__ import annotations

import asyncio
import select
import socket
import ssl
from collections import OrderedDict
from collections.abc import Collection, Sequence
from typing import Any, Protocol

from connectors.webhook.calls import Failure, Response
from connectors.webhook.http import IDLE_S_MAX, text_of
from connectors.webhook.http1_wire import AnswerReader, Origin
from connectors.webhook.tls import Trust
from schemas.attempts import ErrorCode

JOINED_BYTES_MAX = 64 * 1024
# What a receiver did to a connection idle for less was not known to the loop either a moment ago.
FRESH_S_MAX = 0.001


class Asking(Protocol):
    """A call that a connection carries; ``due``: when its answer must be there, on the loop's clock."""

    @property
    def head(self) -> bytes: ...

    @property
    def body(self) -> bytes: ...

    @property
    def due(self) -> float: ...

    def answered(self, answer: Response | Failure | None) -> None:
        """The answer; None when the connection turned out to be closed and not a byte was sent: the request may go another way."""
        ...


class Connection(asyncio.Protocol):
    """
    Carries one call at a time, and gives itself back to the pool when its answer is whole.

    Its timer is set once and moved only when it rings: a call costs no timer of its own.
    """

    __slots__ = (
        "_call", "_due", "_is_unsent", "_loop", "_pool", "_reader", "_timer", "_timer_due", "_transport", "_trust", "fileno",
        "origin", "since",
    )  # fmt: skip

    def __init__(self, origin: Origin, pool: Pool, sock: socket.socket, trust: Trust | None) -> None:
        self.origin = origin
        self.since = 0.0  # when it became idle, on the loop's clock
        self._loop = asyncio.get_running_loop()
        self._pool = pool
        self.fileno = sock.fileno()
        self._trust = trust
        self._reader = AnswerReader()
        self._transport: Any = None
        self._call: Asking | None = None
        self._is_unsent = False
        self._timer: asyncio.TimerHandle | None = None
        self._due = self._timer_due = 0.0

    def ask(self, call: Asking) -> None:
        """Send a request with the others of the loop's turn, and tell the call what has come of it."""
        self._call, self._is_unsent = call, True
        self._expire_at(call.due)
        self._pool.outbox.add(self)

    def write(self, *, is_stale: bool) -> None:
        """Send what was asked, unless nobody waits for its answer any more."""
        call = self._call
        if call is None:
            return
        transport = self._transport
        if is_stale or transport is None or transport.is_closing():
            self._settle(None, is_reusable=False)
            return
        self._reader.begin()
        if len(call.body) > JOINED_BYTES_MAX:
            transport.writelines((call.head, call.body))
        else:
            transport.write(call.head + call.body)
        if transport.is_closing():  # asyncio has tried at once: the kernel took nothing
            self._settle(None, is_reusable=False)
        self._is_unsent = False

    def give_up(self, call: Asking) -> None:
        """Nobody waits for that answer any more; the connection may be on its next call already, which stays."""
        if self._call is call:
            self._call, self._is_unsent = None, False
            self.abort()

    def abort(self) -> None:
        """End it at once."""
        if self._transport is not None:
            self._transport.abort()

    @property
    def is_doubtful(self) -> bool:
        """Whether it was idle for so long that the receiver may have ended it, or said something, and the loop has not come to see it."""
        return self.since > 0 and self._loop.time() - self.since >= FRESH_S_MAX

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if self._call is None or self._is_unsent:  # nobody has asked
            self._settle(None, is_reusable=False)
            return
        reader = self._reader
        answer = reader.feed(data)
        if answer is not None:
            if self._trust is not None:
                self._trust.remember(self._transport.get_extra_info("ssl_object"))
                self._trust = None
            # An answer that overtakes its request leaves the rest of the request on the way.
            self._settle(answer, is_reusable=reader.is_reusable and not self._transport.get_write_buffer_size())

    def eof_received(self) -> None:
        if self._call is not None:
            self._settle(self._reader.end(), is_reusable=False)
        self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._pool.forget(self)
        if self._call is not None:
            self._settle(_lost(exc, self._reader), is_reusable=False)
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._transport = None
        self._reader.release()

    def _settle(self, answer: Response | Failure | None, *, is_reusable: bool) -> None:
        call, self._call = self._call, None
        if self._is_unsent:  # whatever has happened, it happened to no request
            answer, is_reusable, self._is_unsent = None, False, False
        if is_reusable and not self._transport.is_closing():
            self._pool.put(self)
        else:
            self.abort()
        if call is not None:
            call.answered(answer)

    def _expire_at(self, due: float) -> None:
        self._due = due
        if self._timer is not None and due < self._timer_due:
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            self._timer, self._timer_due = self._loop.call_at(due, self._ring), due

    def _ring(self) -> None:
        self._timer = None
        if self._call is None:
            return
        if self._timer_due < self._due:
            self._expire_at(self._due)
            return
        part = "the whole answer" if self._reader.has_begun else "the first byte of the answer"
        self._settle(Failure(ErrorCode.TIMEOUT, f"{part} did not come in time"), is_reusable=False)


def _lost(error: Exception | None, reader: AnswerReader) -> Failure:
    if isinstance(error, ssl.SSLError):  # in TLS 1.3 a receiver refuses a client after the handshake
        return Failure(ErrorCode.TLS, text_of(error))
    begun = "was whole" if reader.has_begun else "began"
    return Failure(ErrorCode.RESET, f"the connection was lost before the answer {begun}: {text_of(error or 'closed')}")


class Outbox:
    """
    Requests of one turn of the loop, written together at its end.

    A receiver on the same machine is woken up once for all of them, and whether idle connections were closed meanwhile is one question.
    """

    def __init__(self) -> None:
        self._connections: list[Connection] = []

    def add(self, connection: Connection) -> None:
        """It has something to write."""
        if not self._connections:
            asyncio.get_running_loop().call_soon(self._write)
        self._connections.append(connection)

    def _write(self) -> None:
        connections, self._connections = self._connections, []
        readable = _readable([connection.fileno for connection in connections if connection.is_doubtful])
        for connection in connections:
            connection.write(is_stale=connection.fileno in readable)


def _readable(files: Sequence[int]) -> Collection[int]:
    """Those of the sockets that have bytes to read, or have ended."""
    if not files:
        return ()
    poll = select.poll()
    for file in files:
        poll.register(file, select.POLLIN)
    return [file for file, _ in poll.poll(0)]


class Pool:
    """Idle connections: of an origin the last one used goes first; the oldest of all is closed when there are too many or it is too old."""

    def __init__(self, idle_max: int, idle_s_max: float = IDLE_S_MAX) -> None:
        self.outbox = Outbox()
        self._idle_max, self._idle_s_max = idle_max, idle_s_max
        self._by_origin: dict[Origin, dict[Connection, None]] = {}
        self._oldest_first: OrderedDict[Connection, None] = OrderedDict()
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._oldest_first)

    def take(self, origin: Origin) -> Connection | None:
        """One for the next call to an origin."""
        connections = self._by_origin.get(origin)
        if connections is None:
            return None
        connection, _ = connections.popitem()
        if not connections:
            del self._by_origin[origin]
        del self._oldest_first[connection]
        return connection

    def put(self, connection: Connection) -> None:
        """Keep it for the next call."""
        loop = asyncio.get_running_loop()
        connection.since = loop.time()
        self._by_origin.setdefault(connection.origin, {})[connection] = None
        self._oldest_first[connection] = None
        if len(self._oldest_first) > self._idle_max:
            self._close_oldest()
        if self._timer is None:
            self._timer = loop.call_at(connection.since + self._idle_s_max, self._close_old)

    def forget(self, connection: Connection) -> None:
        """It has ended; it need not be idle."""
        if connection in self._oldest_first:
            del self._oldest_first[connection]
            connections = self._by_origin[connection.origin]
            del connections[connection]
            if not connections:
                del self._by_origin[connection.origin]

    def close(self) -> None:
        """Close all."""
        while self._oldest_first:
            self._close_oldest()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _close_oldest(self) -> None:
        connection = next(iter(self._oldest_first))
        self.forget(connection)
        connection.abort()

    def _close_old(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = None
        while self._oldest_first:
            since = next(iter(self._oldest_first)).since
            if since + self._idle_s_max > loop.time() + FRESH_S_MAX:
                self._timer = loop.call_at(since + self._idle_s_max, self._close_old)
                return
            self._close_oldest()
