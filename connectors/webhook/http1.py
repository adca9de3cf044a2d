"""
The engine of the hot path: HTTP/1.1 on asyncio, a pool of connections for each origin, answers parsed by llhttp (httptools).

A call takes an idle connection or makes one, writes the request in one piece, with the others of the loop's turn, and waits for one
future: no task, no lock and, on a connection in use, no timer of its own. A request is repeated on another connection only when no byte of
it can have been taken; whatever happens later is an outcome, and the next attempt is the schedule's.

In one direction: http1 -> dial -> http1_connection -> http1_wire. Source: docs/explanation/engine.md.
"""

from __future__ import annotations

import asyncio
import socket
import ssl

from connectors.webhook.calls import Failure, Request, Response
from connectors.webhook.dial import Dialler, Refused
from connectors.webhook.http import IDLE_S_MAX, text_of
from connectors.webhook.http1_connection import Connection, Pool
from connectors.webhook.http1_wire import Origin, Unsendable, encoded
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
        self._pool = Pool(idle_max, idle_s_max)

    async def send(self, request: Request, *, timeout_s: float) -> Response | Failure:
        """Send it once and wait for the whole answer."""
        try:
            origin, head = encoded(request)
        except Unsendable as why:
            return Failure(ErrorCode.TEMPLATE, str(why))
        due = asyncio.get_running_loop().time() + timeout_s
        while (connection := self._pool.take(origin)) is not None:
            if (answer := await _answer(connection, head, request.body, due)) is not None:
                return answer
        opened = await self._open(origin, timeout_s)
        if isinstance(opened, Failure):
            return opened
        answer = await _answer(opened, head, request.body, due)
        return answer or Failure(ErrorCode.RESET, "the connection ended before the request was sent")

    async def close(self) -> None:
        """Close the connections that are idle."""
        self._pool.close()
        self._dialler.close()
        await asyncio.sleep(0)  # asyncio closes the sockets in the loop's next round

    async def _open(self, origin: Origin, timeout_s: float) -> Connection | Failure:
        """A connection that is ready for its first request."""
        connect_s = min(timeout_s, CONNECT_S_MAX)
        try:
            async with asyncio.timeout(connect_s):
                sock = await self._dialler.dial(origin)
                return await self._wrapped(origin, sock)
        except Refused as why:
            return Failure(ErrorCode.EGRESS, str(why))
        except TimeoutError:
            return Failure(ErrorCode.TIMEOUT, f"no connection within {connect_s:g} s")
        except ssl.SSLError as error:
            return Failure(ErrorCode.TLS, text_of(error))
        except (socket.gaierror, UnicodeError) as error:  # UnicodeError: a part of the name is empty or too long
            return Failure(ErrorCode.DNS, text_of(error))
        except OSError as error:
            return Failure(ErrorCode.CONNECT, text_of(error))

    async def _wrapped(self, origin: Origin, sock: socket.socket) -> Connection:
        loop = asyncio.get_running_loop()
        trust = (origin.identity or self._trust) if origin.is_tls else None
        connection = Connection(origin, self._pool, sock, trust)
        name = origin.host.partition("%")[0].rstrip(".") if origin.is_tls else None
        try:
            await loop.create_connection(lambda: connection, sock=sock, ssl=trust, server_hostname=name)
        except BaseException as error:
            sock.close()
            if trust is not None and isinstance(error, OSError) and not isinstance(error, TimeoutError | ssl.SSLError):
                raise ssl.SSLError(f"the connection ended in the TLS handshake: {text_of(error)}") from error
            raise
        return connection


async def _answer(connection: Connection, head: bytes, body: bytes, due: float) -> Response | Failure | None:
    """The answer over that connection; None: it turned out to be closed, and not a byte was sent."""
    waiter = connection.ask(head, body, due)
    try:
        return await waiter
    except asyncio.CancelledError:
        connection.give_up(waiter)
        raise
