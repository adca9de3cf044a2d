"""
A receiver of webhooks that does what a test tells it, fast enough not to be what a benchmark measures.

Used by our own tests and benchmarks, by the demo of ``livehook dev``, and free to be used in yours::

    async with Receiver(lambda call: Answer(503, delay_s=0.1) if call.header("livehook-attempt") == "1" else Answer()) as receiver:
        ...                                                 # have something delivered to receiver.url
        calls = await receiver.wait_for(3, timeout_s=5)
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import httptools
import msgspec

from connectors.webhook.dial import Dialler
from connectors.webhook.egress import Rules
from connectors.webhook.http1 import Http1Sender
from connectors.webhook.tls import Trust

KEPT_MAX = 100_000


class Call(msgspec.Struct, frozen=True, gc=False):
    """A request as it came in; ``at`` is when it was whole, in seconds since 1970. Header names are in lower case."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    at: float

    def header(self, name: str) -> str | None:
        """The header of that lower-case name."""
        return self.headers.get(name)


class Answer(msgspec.Struct, frozen=True, gc=False):
    """
    What to answer, and how.

    delay_s:  wait so long before answering.
    hang:     never answer.
    close:    end the connection, after the answer, or instead of it when ``status`` is 0.
    """

    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    delay_s: float = 0.0
    hang: bool = False
    close: bool = False


def sender_here(*, tls: Trust | None = None) -> Http1Sender:
    """The engine, allowed to call this machine, where receivers of tests are."""
    return Http1Sender(Dialler(Rules(allow_private=True)), tls=tls)


Answering = Callable[[Call], Answer]
OK = Answer()


def ok(call: Call) -> Answer:
    """Answer 200 to everything."""
    return OK


class Receiver:
    """
    An HTTP/1.1 server on ``host``.

    Args:  answer: asked for every call, must not block.
           on_call: told of every call and its answer.
           keep: how many calls are kept in ``calls``; older ones are forgotten.
           tls: speak https, with this certificate; the context may ask for one of the client too.
    """

    def __init__(
        self,
        answer: Answering = ok,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        keep: int = KEPT_MAX,
        tls: ssl.SSLContext | None = None,
        on_call: Callable[[Call, Answer], None] | None = None,
    ) -> None:
        self.answer = answer
        self.calls: deque[Call] = deque(maxlen=keep)
        self.count = 0
        self.open: set[_Connection] = set()
        self._host, self._port = host, port
        self._on_call = on_call
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._changed: asyncio.Event | None = None

    @property
    def url(self) -> str:
        """Its address, ``http://host:port``, once it was started."""
        return f"{'https' if self._tls else 'http'}://{self._host}:{self._port}"

    async def start(self) -> None:
        """Listen; a port of 0 becomes a free one."""
        self._changed = asyncio.Event()
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), self._host, self._port, backlog=1_024, ssl=self._tls)
        self._port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening and drop every connection."""
        if self._server is not None:
            self._server.close()
            for connection in list(self.open):
                connection.abort()
            await self._server.wait_closed()

    async def wait_for(self, count: int, *, timeout_s: float = 10.0) -> list[Call]:
        """Wait until that many calls have come in all; raises TimeoutError and says how many did."""
        assert self._changed is not None, "the receiver was not started"  # noqa: S101
        try:
            async with asyncio.timeout(timeout_s):
                while self.count < count:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise TimeoutError(f"{self.count} of {count} calls came within {timeout_s:g} s") from None
        return list(self.calls)

    def took(self, call: Call) -> Answer:
        """Take in a call and say what to answer."""
        self.count += 1
        self.calls.append(call)
        if self._changed is not None:
            self._changed.set()
        answer = self.answer(call)
        if self._on_call is not None:
            self._on_call(call, answer)
        return answer

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.stop()


class _Connection(asyncio.Protocol):
    """One connection; calls on it are answered in the order they came."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._loop = asyncio.get_running_loop()
        self._transport: Any = None
        self._parser = httptools.HttpRequestParser(self)
        self._timers: set[asyncio.TimerHandle] = set()
        self._target = b""
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._receiver.open.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._receiver.open.discard(self)
        for timer in self._timers:
            timer.cancel()

    def abort(self) -> None:
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            self._transport.close()

    # What httptools calls.

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        method = self._parser.get_method().decode()
        call = Call(method, self._target.decode("latin-1"), self._headers, b"".join(self._body), time.time())
        self._target, self._headers, self._body = b"", {}, []
        answer = self._receiver.took(call)
        if answer.hang:
            return
        if answer.delay_s:
            self._timers.add(self._loop.call_later(answer.delay_s, self._reply, answer))
        else:
            self._reply(answer)

    def _reply(self, answer: Answer) -> None:
        if answer is OK:
            self._transport.write(_OK)
        elif answer.status:
            self._transport.write(_wire(answer))
        if answer.close:
            self._transport.close()


def _wire(answer: Answer) -> bytes:
    lines = [f"HTTP/1.1 {answer.status} ", f"content-length: {len(answer.body)}"]
    lines += [f"{name}: {value}" for name, value in answer.headers]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + answer.body


_OK = _wire(OK)
