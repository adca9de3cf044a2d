"""
The engines side by side: calls a second and CPU a call, against a receiver in a process of its own that does nothing but answer 200.

    python -m bench.engine [--seconds 2] [--runs 3] [--connections 1 64 256] [--tls]
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import ssl
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import uvloop

from bench.harness import environment, row
from connectors.webhook.calls import Response, request_of
from connectors.webhook.http import Sender
from connectors.webhook.http_httpx import HttpxSender
from connectors.webhook.testing import sender_here
from connectors.webhook.tls import Trust

CERTIFICATE = Path(__file__).parents[1] / "tests/contract/self-signed.pem"
ENGINES: dict[str, Callable[..., Sender]] = {"http1": sender_here, "httpx": HttpxSender}
BODY = b'{"txnId":1790000000000001,"type":"documentChanged","change":"%b"}' % (b"x" * 530)
HEADERS = (
    *((f"livehook-{number}", "value") for number in range(6)),
    ("webhook-id", "msg_0123456789abcdef0123456789abcdef"),
    ("webhook-timestamp", "1790000000"),
    ("webhook-signature", "v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4="),
    ("content-type", "application/json"),
    ("user-agent", "livehook/0.1.0"),
)


class _Answering(asyncio.Protocol):
    """Answers 200 to every request, which it knows by its end: no parsing, so that the engine is what is measured."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.WriteTransport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        for _ in range(data.count(b'"}')):
            self._transport.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\nok")


def _receive(told: Connection, is_tls: bool) -> None:
    async def serve() -> None:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if is_tls else None
        if tls is not None:
            tls.load_cert_chain(CERTIFICATE)
        server = await asyncio.get_running_loop().create_server(_Answering, "127.0.0.1", 0, ssl=tls, backlog=1_024)
        told.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    uvloop.run(serve())


async def _measure(engine: str, url: str, connections: int, seconds: float, tls: Trust | None) -> dict[str, float]:
    sender = ENGINES[engine](tls=tls)
    request = request_of("POST", url, HEADERS, BODY)
    counts = [0]

    async def calls(until: float) -> None:
        while time.perf_counter() < until:
            answer = await sender.send(request, timeout_s=15)
            assert isinstance(answer, Response), answer
            counts[0] += 1

    async def all_calls(for_s: float) -> None:
        until = time.perf_counter() + for_s
        await asyncio.gather(*(calls(until) for _ in range(connections)))

    await all_calls(0.3)
    counts[0], began, cpu = 0, time.perf_counter(), time.process_time()
    await all_calls(seconds)
    took_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu
    await sender.close()
    return {"rate": counts[0] / took_s, "core": counts[0] / cpu_s, "cpu_us": cpu_s / counts[0] * 1e6}


def _trusting() -> Trust:
    tls = Trust()
    tls.check_hostname = False
    tls.verify_mode = ssl.CERT_NONE
    return tls


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 64, 256])
    parser.add_argument("--engines", nargs="+", default=[*ENGINES])
    parser.add_argument("--tls", action="store_true")
    options = parser.parse_args()
    print(environment())
    ours, theirs = multiprocessing.Pipe()
    receiver = multiprocessing.get_context("spawn").Process(target=_receive, args=(theirs, options.tls), daemon=True)
    receiver.start()
    url = f"{'https' if options.tls else 'http'}://127.0.0.1:{ours.recv()}/hook"
    tls = _trusting() if options.tls else None
    try:
        for engine in options.engines:
            for connections in options.connections:
                runs = [uvloop.run(_measure(engine, url, connections, options.seconds, tls)) for _ in range(options.runs)]
                for key, unit in (("rate", "calls/s"), ("core", "calls/s a core"), ("cpu_us", "µs CPU a call")):
                    row(f"{engine}, {connections} connections", runs, key, unit)
    finally:
        receiver.terminate()
        receiver.join(10)


if __name__ == "__main__":
    main()
