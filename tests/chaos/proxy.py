"""
A TCP proxy that can be told to be a bad network: late, slow, cut, half open, or one that answers for the other side, and badly.

Between roles and broker, and before receivers. Runs in a thread with a loop of its own; told what to be from any thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import threading
from collections.abc import Callable
from enum import StrEnum
from types import TracebackType
from typing import Any, Self

HOST = "127.0.0.1"
START_S = 10.0
CHUNK_BYTES = 64 * 1024
DELAY_S = 0.2  # of each chunk
SLOW_BYTES_PER_S = 20_000
ENDLESS_BYTES = 64 * 1024
ENDLESS_REST_S = 0.01
GOOD = b"HTTP/1.1 2"
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: the close sends RST


class Weather(StrEnum):
    """What the proxy does with connections; those that are open too."""

    FINE = "fine"
    DELAYED = "delayed"  # every chunk comes late
    SLOW = "slow"  # few bytes a second
    CUT = "cut"  # nobody gets through: reset at once
    HALF_OPEN = "half-open"  # nothing comes through and nobody is told; reset when it is over
    RESET = "reset"  # what is open is reset once; new connections are fine
    GARBAGE = "garbage"  # answers are noise
    ENDLESS = "endless"  # good answers never end; a refusal stays one, or the sender would take it for taken


TO_A_BROKER = (Weather.DELAYED, Weather.SLOW, Weather.CUT, Weather.HALF_OPEN, Weather.RESET)
TO_A_RECEIVER = (*TO_A_BROKER, Weather.GARBAGE, Weather.ENDLESS)


class Proxy:
    """
    Listens on a port of its own from ``with`` on.

    Args:  target: asked for the port to connect to. rng: for the noise.
    """

    def __init__(self, target: Callable[[], int], rng: random.Random) -> None:
        self.port = 0
        self.weather = Weather.FINE
        self._target, self._rng = target, rng
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._open: set[asyncio.StreamWriter] = set()
        self._fine = asyncio.Event()

    def turn(self, weather: Weather) -> None:
        """Be like this from now on."""
        self._call(self._turn(weather))

    async def _turn(self, weather: Weather) -> None:
        if weather in (Weather.CUT, Weather.RESET) or self.weather is Weather.HALF_OPEN:
            self._reset_all()
        self.weather = weather
        if weather is Weather.HALF_OPEN:
            self._fine.clear()
        else:
            self._fine.set()

    def _reset_all(self) -> None:
        for writer in self._open:
            _reset(writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._open.add(writer)
        there: asyncio.StreamWriter | None = None
        try:
            if self.weather is Weather.CUT:
                return _reset(writer)
            await self._fine.wait()
            answers, there = await asyncio.open_connection(HOST, self._target())
            self._open.add(there)
            await asyncio.gather(self._pump(reader, there), self._pump(answers, writer, is_answer=True))
        except (OSError, asyncio.IncompleteReadError):
            _reset(writer)  # who breaks off on one side is gone on the other
        finally:
            self._tasks.discard(task)
            for one in (writer, there):
                if one is not None:
                    self._open.discard(one)
                    one.close()

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, is_answer: bool = False) -> None:
        while data := await source.read(CHUNK_BYTES):
            await self._fine.wait()
            if is_answer and self.weather is Weather.GARBAGE:
                data = self._rng.randbytes(len(data))
            elif is_answer and self.weather is Weather.ENDLESS and data.startswith(GOOD):
                await self._drone(sink)
            elif self.weather is Weather.DELAYED:
                await asyncio.sleep(DELAY_S)
            elif self.weather is Weather.SLOW:
                await asyncio.sleep(len(data) / SLOW_BYTES_PER_S)
            sink.write(data)
            await sink.drain()
        with contextlib.suppress(OSError):
            sink.write_eof()

    async def _drone(self, sink: asyncio.StreamWriter) -> None:
        """200, and a body that goes on as long as anybody listens and the weather holds."""
        sink.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        while self.weather is Weather.ENDLESS and not sink.is_closing():
            sink.write(b"%x\r\n" % ENDLESS_BYTES + b"." * ENDLESS_BYTES + b"\r\n")
            await sink.drain()
            await asyncio.sleep(ENDLESS_REST_S)
        raise ConnectionResetError

    def __enter__(self) -> Self:
        self._thread.start()
        self._call(self._start())
        return self

    async def _start(self) -> None:
        self._fine.set()
        self._server = await asyncio.start_server(self._serve, HOST, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._call(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(START_S)
        self._loop.close()

    async def _stop(self) -> None:
        assert self._server is not None
        self._server.close()
        self._fine.set()
        self._reset_all()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _call(self, work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(START_S)


def _reset(writer: asyncio.StreamWriter) -> None:
    """End a connection the hard way."""
    found = writer.get_extra_info("socket")
    if found is not None:
        with contextlib.suppress(OSError):
            found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    writer.transport.abort()
