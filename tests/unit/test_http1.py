"""Rules of the engine that tests/contract/test_sender.py cannot ask of every engine: when it repeats, what it keeps, how it counts time."""

import asyncio
import contextlib
import gc
import socket
import ssl
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvloop

from connectors.webhook.calls import Failure, Request, Response, request_of
from connectors.webhook.dial import Dialler
from connectors.webhook.egress import Rules
from connectors.webhook.http1 import Http1Sender
from connectors.webhook.http1_wire import Origin, Unsendable, encoded
from connectors.webhook.testing import Answer, Receiver
from connectors.webhook.tls import Trust
from schemas.attempts import ErrorCode

TRUSTED = Path(__file__).parents[1] / "contract/trusted.pem"
LOOPS = pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


def trust() -> Trust:
    found = Trust()
    found.load_verify_locations(TRUSTED)
    return found


def sender_(**options) -> Http1Sender:
    return Http1Sender(Dialler(Rules(allow_private=True)), tls=options.pop("tls", None) or trust(), **options)


def post(url: str, body: bytes = b"{}", headers: tuple[tuple[str, str], ...] = ()) -> Request:
    return request_of("POST", url, headers, body)


class Threaded:
    """A receiver in a thread of its own: it goes on while the loop is held up. Each connection is served by ``script``."""

    def __init__(self, script) -> None:
        self.connections = 0
        self.requests: list[bytes] = []
        self._script = script
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/"
        self._thread = threading.Thread(target=self._run, daemon=True)

    @contextmanager
    def running(self):
        self._thread.start()
        try:
            yield self
        finally:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._thread.join(5)

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(5)
                self.connections += 1
                self._script(self, connection)


def answer_once(receiver: Threaded, connection: socket.socket) -> None:
    receiver.requests.append(connection.recv(65_536))
    connection.sendall(OK)


def answer_once_and_vanish_at_the_next(receiver: Threaded, connection: socket.socket) -> None:
    answer_once(receiver, connection)
    receiver.requests.append(connection.recv(65_536))


async def test_a_connection_closed_while_the_loop_was_busy_costs_no_attempt():
    """The end is on the way into the loop when the connection is taken: it is looked at once more, and another one is made."""
    sender = sender_()
    with Threaded(answer_once).running() as receiver:
        for _ in range(3):
            assert Response(200, (("content-length", "2"),), b"ok") == await sender.send(post(receiver.url), timeout_s=5)
            time.sleep(0.02)  # noqa: ASYNC251 - the loop must not come to see the end
        assert 3 == receiver.connections
    await sender.close()


async def test_a_request_that_may_have_been_processed_is_never_repeated():
    """The receiver read it and closed: a reset, and not one more request."""
    sender = sender_()
    with Threaded(answer_once_and_vanish_at_the_next).running() as receiver:
        await sender.send(post(receiver.url), timeout_s=5)
        found = await sender.send(post(receiver.url), timeout_s=5)
        assert isinstance(found, Failure)
        assert (ErrorCode.RESET, 1, 2) == (found.code, receiver.connections, len(receiver.requests))
    await sender.close()


async def test_each_call_on_a_connection_has_its_own_time():
    """A short one after a long one, and the other way round; the failure says what was missing."""

    def slowly(call):
        return Answer(hang=True) if call.body == b"hang" else Answer()

    async with Receiver(slowly) as receiver:
        sender = sender_()
        assert isinstance(await sender.send(post(receiver.url), timeout_s=60), Response)
        began = time.monotonic()
        found = await sender.send(post(receiver.url, b"hang"), timeout_s=0.05)
        assert Failure(ErrorCode.TIMEOUT, "the first byte of the answer did not come in time") == found
        assert time.monotonic() - began < 2
        assert isinstance(await sender.send(post(receiver.url), timeout_s=0.05), Response)
        await asyncio.sleep(0.06)  # the timer of the last call rings while nobody calls
        assert isinstance(await sender.send(post(receiver.url), timeout_s=60), Response)
        await sender.close()


async def test_idle_connections_are_bounded():
    """After a burst as many are kept as are allowed, and none for longer than allowed."""
    async with Receiver(lambda call: Answer(delay_s=0.05)) as receiver:
        sender = sender_(idle_max=3, idle_s_max=0.05)
        await asyncio.gather(*(sender.send(post(receiver.url), timeout_s=5) for _ in range(20)))
        await asyncio.sleep(0.02)
        assert 3 == len(receiver.open)
        for _ in range(500):
            if receiver.open:
                await asyncio.sleep(0.01)
        assert set() == receiver.open
        await sender.close()


async def test_the_connection_used_last_goes_first():
    """So the others grow old and are closed: a quiet webhook keeps few."""
    callers, ends = [], asyncio.Semaphore(0)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not reader.at_eof():
            with contextlib.suppress(asyncio.IncompleteReadError):
                await reader.readuntil(b"{}")
                callers.append(writer.get_extra_info("peername"))
                await asyncio.sleep(0.02)
                writer.write(OK)
        writer.close()
        ends.release()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    sender = sender_()
    await asyncio.gather(*(sender.send(post(url), timeout_s=5) for _ in range(5)))
    for _ in range(5):
        await sender.send(post(url), timeout_s=5)
    await sender.close()
    for _ in range(5):
        await ends.acquire()
    server.close()
    assert (5, 1) == (len(set(callers[:5])), len(set(callers[5:])))


async def test_nothing_is_left_of_calls_that_were_made():
    """No connection waits for the garbage collector: each lets go of its parser, which holds it."""
    async with Receiver(lambda call: Answer(close=True)) as receiver:
        sender = sender_()
        await sender.send(post(receiver.url), timeout_s=5)
        gc.collect()
        gc.disable()
        try:
            for _ in range(20):
                await sender.send(post(receiver.url), timeout_s=5)
            await asyncio.sleep(0.01)
            left = [found for found in gc.get_objects() if type(found).__name__ == "AnswerReader"]
        finally:
            gc.enable()
        await sender.close()
        assert len(left) <= 1


@LOOPS
def test_a_handshake_that_stalls_leaves_no_connection(loop):
    """The call has ended, and so has its socket."""

    async def stall() -> tuple[ErrorCode, bytes]:
        read: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            read.set_result(await reader.read())
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        sender = sender_()
        found = await sender.send(post(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/"), timeout_s=0.05)
        assert isinstance(found, Failure)
        async with asyncio.timeout(5):
            hello = await read
        await sender.close()
        server.close()
        return found.code, hello[:1]

    with asyncio.Runner(loop_factory=loop) as runner:
        assert (ErrorCode.TIMEOUT, b"\x16") == runner.run(stall())


@LOOPS
def test_tls_sessions_are_resumed(loop):
    """The second connection to a host is a shortened handshake; another trust knows nothing of it."""
    with asyncio.Runner(loop_factory=loop) as runner:
        assert [False, True, False] == runner.run(resumptions())


async def resumptions() -> list[bool]:
    """Of three connections, two of them by one sender."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(TRUSTED)
    resumed: list[bool] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        resumed.append(writer.get_extra_info("ssl_object").session_reused)
        await reader.readuntil(b"\r\n\r\n{}")
        writer.write(OK.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    url = f"https://localhost:{server.sockets[0].getsockname()[1]}/"
    first, second = sender_(), sender_()
    for sender in (first, first, second):
        assert isinstance(await sender.send(post(url), timeout_s=5), Response)
    for sender in (first, second):
        await sender.close()
    server.close()
    return resumed


@pytest.mark.parametrize(
    ("url", "origin", "head"),
    [
        ("http://a.example", Origin("http", "a.example", 80), b"POST / HTTP/1.1\r\nhost: a.example\r\n"),
        ("https://A.example:443/x?y=z", Origin("https", "a.example", 443), b"POST /x?y=z HTTP/1.1\r\nhost: a.example\r\n"),
        ("https://a.example:8443?y", Origin("https", "a.example", 8443), b"POST /?y HTTP/1.1\r\nhost: a.example:8443\r\n"),
        ("http://[::1]:8080/", Origin("http", "::1", 8080), b"POST / HTTP/1.1\r\nhost: [::1]:8080\r\n"),
        ("http://[fe80::1%25eth0]/", Origin("http", "fe80::1%eth0", 80), b"POST / HTTP/1.1\r\nhost: [fe80::1]\r\n"),
        ("HTTP://a.example/a#b", Origin("http", "a.example", 80), b"POST /a HTTP/1.1\r\nhost: a.example\r\n"),
    ],
)
def test_a_url_says_where_and_what(url, origin, head):
    """Host without the usual port and without a zone; the fragment stays at home."""
    found, wire = encoded(post(url))
    assert (origin, head) == (found, wire[: len(head)])
    assert b"accept: */*\r\naccept-encoding: identity\r\ncontent-length: 2\r\n\r\n" == wire[len(head) :]


def test_a_header_of_the_users_is_not_doubled():
    """What is sent by default gives way."""
    _, wire = encoded(post("http://a.example", headers=(("Accept", "x/y"), ("accept-encoding", "br"), ("tab", "a\tb"))))
    assert (1, 1, True) == (wire.lower().count(b"accept:"), wire.count(b"accept-encoding:"), b"tab: a\tb\r\n" in wire)


@pytest.mark.parametrize("control", [*range(9), *range(10, 32), 127])
@pytest.mark.parametrize("value", ["t0ps{}ecret", "{}", "t0psecret{}"])
def test_no_control_character_gets_into_a_head(control, value):
    """Anywhere in a value or a name; the reason does not show it."""
    for header in (("x", value.format(chr(control))), (f"x{chr(control)}", "t0psecret")):
        with pytest.raises(Unsendable) as why:
            encoded(post("http://a.example", headers=(("a", "b"), header)))
        assert "t0ps" not in str(why.value)


@pytest.mark.parametrize("request_", [post("http://user:t0psecret@a.example"), request_of("PO ST", "http://a.example", (), b"")])
def test_a_user_in_a_url_and_a_strange_method_are_not_sent(request_):
    """Credentials belong to auth."""
    with pytest.raises(Unsendable):
        encoded(request_)
