"""What every engine behind the Sender seam must do, against receivers that do not mean well. Run for each engine in SENDERS."""

from __future__ import annotations

import asyncio
import gzip
import os
import random
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from connectors.webhook.calls import Failure, Request, Response, request_of
from connectors.webhook.http import READ_BYTES_MAX, Sender
from connectors.webhook.http_httpx import HttpxSender
from connectors.webhook.testing import Answer, Receiver, sender_here
from connectors.webhook.tls import Trust, trusted
from schemas.attempts import BODY_BYTES_MAX, ErrorCode

SENDERS: dict[str, Callable[..., Sender]] = {"http1": sender_here, "httpx": HttpxSender}

TRUST = trusted()  # reading the authorities takes longer than most tests
SELF_SIGNED = Path(__file__).with_name("self-signed.pem")  # key and certificate of CN=localhost, good for a hundred years
TRUSTED = SELF_SIGNED.with_name("trusted.pem")  # the same for the name localhost, fit to be an authority
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


@pytest.fixture(params=SENDERS)
async def sender(request) -> AsyncIterator[Sender]:
    found = SENDERS[request.param](tls=TRUST)
    yield found
    await found.close()


class Raw:
    """A receiver that writes exactly the bytes of its script, one piece after the other, and notes how each connection ended."""

    def __init__(self, *pieces: bytes, end: str = "wait", pause_s: float = 0.0) -> None:
        self.pieces, self.end, self.pause_s = pieces, end, pause_s
        self.requests: list[bytes] = []
        self.connections = 0
        self.asked, self.ended = asyncio.Event(), asyncio.Event()
        self.url = ""
        self._serving: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def running(self, tls: ssl.SSLContext | None = None) -> AsyncIterator[Raw]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=tls)
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
        async with server:
            yield self
            for task in self._serving:
                task.cancel()
            await asyncio.gather(*self._serving, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        try:
            while head := await self._request(reader):
                self.requests.append(head)
                self.asked.set()
                for piece in self.pieces:
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(self.pause_s)
                if self.end == "reset":
                    linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"
                    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                if self.end != "wait":
                    break
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the sender has hung up, or the test is over
        finally:
            self.ended.set()
            writer.close()

    async def _request(self, reader: asyncio.StreamReader) -> bytes:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            if not (line := await reader.readline()):
                return b""
            head += line
        length = next((int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0)
        return head + await reader.readexactly(length)


def call(url: str, body: bytes = b'{"a":1}', headers: tuple[tuple[str, str], ...] = (("x-team", "crm"),), method: str = "POST") -> Request:
    return request_of(method, url, headers, body)


async def answer_to(sender: Sender, *pieces: bytes, end: str = "wait", pause_s: float = 0.0, timeout_s: float = 5.0) -> Response | Failure:
    async with Raw(*pieces, end=end, pause_s=pause_s).running() as receiver:
        return await sender.send(call(receiver.url), timeout_s=timeout_s)


def answered(found: Response | Failure) -> Response:
    """The outcome, which must be an answer."""
    assert isinstance(found, Response), found
    return found


def failed(found: Response | Failure) -> Failure:
    """The outcome, which must be a failure."""
    assert isinstance(found, Failure), found
    return found


async def test_what_is_asked_is_sent(sender):
    """Method, target, Host, headers and body arrive as given, with the body's length; nothing tells that the answer may be packed."""
    async with Raw(OK).running() as receiver:
        await sender.send(call(receiver.url + "?a=b%20c", b"\x00\xff", method="PUT"), timeout_s=5)
    head, _, body = receiver.requests[0].partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    headers = dict(line.lower().split(b": ", 1) for line in lines[1:])
    assert (b"PUT /hook?a=b%20c HTTP/1.1", b"\x00\xff") == (lines[0], body)
    assert (receiver.url.split("/")[2].encode(), b"crm", b"2") == tuple(headers[name] for name in (b"host", b"x-team", b"content-length"))
    assert (b"identity", False, False) == (headers.get(b"accept-encoding"), b"cookie" in headers, b"transfer-encoding" in headers)


async def test_the_answer_comes_back_whole(sender):
    """Status, every header in order, and the body."""
    head = b"HTTP/1.1 418 I'm a teapot\r\nX-A: 1\r\nset-cookie: a=b\r\nSet-Cookie: c=d\r\ncontent-length: 5\r\n\r\n"
    found = answered(await answer_to(sender, head + b"short"))
    assert (418, b"short", False) == (found.status, found.body, found.body_truncated)
    assert ["1", "a=b", "c=d", "5"] == [value for _, value in found.headers]


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n3;x=y\r\n!!!\r\n0\r\nx: y\r\n\r\n", b"ok!!!"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + OK, b"ok"),
        (b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok", b"ok"),
    ],
    ids=["chunked", "no-body", "informational", "1.0"],
)
async def test_every_way_to_answer(sender, answer, body):
    """Chunks, no body at all, informational answers before the real one, and HTTP/1.0."""
    found = answered(await answer_to(sender, answer))
    assert (True, body) == (200 <= found.status < 300, found.body)


async def test_a_body_may_end_with_the_connection(sender):
    """Without a length the body is what came until the end."""
    found = answered(await answer_to(sender, b"HTTP/1.1 200 OK\r\n\r\nok", end="close"))
    assert (200, b"ok") == (found.status, found.body)


async def test_a_long_body_is_cut(sender):
    """Its beginning is kept, and that it was cut; the connection is used again."""
    body = b"x" * (BODY_BYTES_MAX + 1)
    async with Raw(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body).running() as receiver:
        for _ in range(2):
            found = answered(await sender.send(call(receiver.url), timeout_s=5))
            assert (200, BODY_BYTES_MAX, True) == (found.status, len(found.body), found.body_truncated)
    assert 1 == receiver.connections


@pytest.mark.parametrize("head", [b"content-length: 1000000000", b"transfer-encoding: chunked", b"x: y"])
async def test_an_endless_body_is_dropped(sender, head):
    """Beyond the cap the connection is closed; the status counts."""
    piece = b"x" * 4_096
    if b"chunked" in head:
        piece = b"1000\r\n" + piece + b"\r\n"
    raw = Raw(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n", *[piece] * (100 * READ_BYTES_MAX // 4_096))
    async with raw.running() as receiver:
        found = answered(await sender.send(call(receiver.url), timeout_s=5))
        assert (200, BODY_BYTES_MAX, True) == (found.status, len(found.body), found.body_truncated)
        async with asyncio.timeout(5):
            await receiver.ended.wait()


async def test_a_packed_body_is_not_unpacked(sender):
    """A bomb stays as small as it came."""
    found = answered(await answer_to(sender, b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 4\r\n\r\n\x1f\x8b\x08\x00"))
    assert (200, b"\x1f\x8b\x08\x00") == (found.status, found.body)


async def test_a_gzip_bomb_stays_packed(sender):
    """What would be 10 MB when unpacked is kept as the 10 kB that came."""
    bomb = gzip.compress(bytes(10_000_000))
    found = answered(await answer_to(sender, b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(bomb) + bomb))
    assert (200, bomb, False) == (found.status, found.body, found.body_truncated)


@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 1_000),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5", b";x=" + b"y" * 8_000),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n", b"x: " + b"y" * 8_000 + b"\r\n"),
        (b"HTTP/1.1 200 OK\r\nx: ", b"y" * 8_000),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
        (b"", b"\r\n" * 4_000),
    ],
    ids=["small-chunks", "chunk-extension", "trailers", "header", "informational", "blank-lines"],
)
async def test_nothing_is_read_for_ever(sender, head, piece):
    """Whatever part of the answer does not end: the call does, and its connection is dropped."""
    raw = Raw(head, *[piece] * 1_000)
    async with raw.running() as receiver:
        found = await sender.send(call(receiver.url), timeout_s=0.5)
        assert isinstance(found, Response) or found.code in OF_THE_WAY
        async with asyncio.timeout(5):
            await receiver.ended.wait()


async def test_an_answer_may_come_byte_by_byte(sender):
    """A receiver that dribbles is slow, not wrong."""
    for answer in ANSWERS[:3]:
        found = answered(await answer_to(sender, *[bytes([byte]) for byte in answer]))
        assert found.status in (200, 503)


@pytest.mark.parametrize("answer", range(3))
async def test_an_answer_cut_into_two_pieces_is_the_same(sender, answer):
    """Wherever the network divides it; with chunks and trailers, and with an informational answer before the real one."""
    whole = answered(await answer_to(sender, ANSWERS[answer]))
    for cut in range(1, len(ANSWERS[answer])):
        assert whole == await answer_to(sender, ANSWERS[answer][:cut], ANSWERS[answer][cut:])


async def test_an_early_close_anywhere_is_a_reset(sender):
    """At every position of the answer."""
    for cut in range(len(OK)):
        assert ErrorCode.RESET == failed(await answer_to(sender, OK[:cut], end="close")).code


async def test_a_change_of_protocol_is_refused(sender):
    """Nobody asked for one."""
    assert ErrorCode.PROTOCOL == failed(await answer_to(sender, ANSWERS[3])).code


async def test_redirects_are_not_followed(sender):
    """A 3xx is an answer like any other; nobody is asked a second time."""
    async with Raw(b"HTTP/1.1 307 Temporary Redirect\r\nlocation: /other\r\ncontent-length: 0\r\n\r\n").running() as receiver:
        found = answered(await sender.send(call(receiver.url), timeout_s=5))
    assert (307, 1) == (found.status, len(receiver.requests))


async def test_cookies_are_not_kept(sender):
    """What one answer sets does not travel with the next call."""
    async with Raw(b"HTTP/1.1 200 OK\r\nset-cookie: a=b\r\ncontent-length: 0\r\n\r\n").running() as receiver:
        for _ in range(2):
            await sender.send(call(receiver.url), timeout_s=5)
    assert b"cookie" not in receiver.requests[1].lower()


async def test_a_connection_is_used_again(sender):
    """One call after the other goes over the same connection, unless the receiver closes it."""
    async with Raw(OK).running() as receiver:
        for _ in range(5):
            await sender.send(call(receiver.url), timeout_s=5)
        assert 1 == receiver.connections
    async with Raw(OK.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"), end="close").running() as receiver:
        for _ in range(2):
            assert 200 == (await sender.send(call(receiver.url), timeout_s=5)).status
        assert 2 == receiver.connections


async def test_a_connection_closed_while_idle_costs_no_attempt(sender):
    """A receiver that closes after its answer, without a word, is simply called again."""
    async with Raw(OK, end="close").running() as receiver:
        assert 200 == (await sender.send(call(receiver.url), timeout_s=5)).status
        await receiver.ended.wait()
        await asyncio.sleep(0.02)  # its FIN is on the way
        assert 200 == (await sender.send(call(receiver.url), timeout_s=5)).status


async def test_bytes_after_the_answer_do_not_reach_the_next_call(sender):
    """An answer nobody asked for is not taken for that of the next call."""
    async with Raw(OK + OK.replace(b"200", b"500")).running() as receiver:
        for _ in range(3):
            found = answered(await sender.send(call(receiver.url), timeout_s=5))
            assert isinstance(found, Failure) or 200 == found.status
            await asyncio.sleep(0.01)  # the second answer is there before the next call


@pytest.mark.parametrize(
    ("pieces", "end", "codes"),
    [
        ((b"",), "close", {ErrorCode.RESET}),
        ((b"",), "reset", {ErrorCode.RESET}),
        ((b"HTTP/1.1 200 OK\r\nconte",), "close", {ErrorCode.RESET}),
        ((b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nok",), "close", {ErrorCode.RESET}),
        ((b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nok",), "reset", {ErrorCode.RESET}),
        ((b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nok",), "close", {ErrorCode.RESET}),
        ((b"hello\r\n\r\n",), "close", {ErrorCode.PROTOCOL}),
        ((b"HTTP/1.1 abc OK\r\n\r\n",), "close", {ErrorCode.PROTOCOL}),
        ((b"ICY 200 OK\r\n\r\n",), "close", {ErrorCode.PROTOCOL}),
        ((b"HTTP/1.1 1000 OK\r\n\r\n",), "close", {ErrorCode.PROTOCOL}),
        ((b"HTTP/1.1 20 OK\r\n\r\n",), "close", {ErrorCode.PROTOCOL}),
        ((b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999999\r\n\r\n",), "close", {ErrorCode.PROTOCOL, ErrorCode.RESET}),
        ((b"HTTP/1.1 200 OK\r\ncontent-length: -5\r\n\r\n",), "close", {ErrorCode.PROTOCOL}),
        ((b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nok",), "close", {ErrorCode.PROTOCOL}),
        ((b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nok",), "close", {ErrorCode.PROTOCOL}),
        ((b"HTTP/1.1 200 OK\r\n", *[b"x: " + b"y" * 8_000 + b"\r\n"] * 100), "close", {ErrorCode.TOO_LARGE}),
        ((b"HTTP/1.1 200 " + b"y" * 800_000,), "close", {ErrorCode.TOO_LARGE, ErrorCode.PROTOCOL}),
    ],
)
async def test_what_is_no_whole_answer_has_a_code(sender, pieces, end, codes):
    """Ends before the answer is whole, and bytes that are no HTTP."""
    found = failed(await answer_to(sender, *pieces, end=end))
    assert found.code in codes
    assert len(found.detail) <= 300


async def test_a_reset_anywhere_is_a_reset(sender):
    """At every position of the answer."""
    for cut in range(len(OK)):
        assert ErrorCode.RESET == failed(await answer_to(sender, OK[:cut], end="reset", pause_s=0.002)).code


@pytest.mark.parametrize(
    ("pieces", "pause_s"),
    [
        ((b"",), 0.0),
        ((b"HTTP/1.1 200 OK\r\n",), 0.0),
        ((b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nok",), 0.0),
        (tuple(bytes([byte]) for byte in OK), 0.02),
        ((b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n", *[b"x"] * 100), 0.01),
        (tuple([b"HTTP/1.1 100 Continue\r\n\r\n"] * 100), 0.015),
    ],
    ids=["silent", "head", "body", "slow-head", "slow-body", "only-informational"],
)
async def test_the_timeout_is_for_the_whole_call(sender, pieces, pause_s):
    """However the receiver stretches it, the call ends in time and says so."""
    started = time.monotonic()
    found = failed(await answer_to(sender, *pieces, pause_s=pause_s, timeout_s=0.1))
    assert ErrorCode.TIMEOUT == found.code
    assert 0.08 < time.monotonic() - started < 2


async def test_nobody_listens(sender):
    """A port without a listener."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        found = failed(await sender.send(call(f"http://127.0.0.1:{taken.getsockname()[1]}/"), timeout_s=5))
    assert ErrorCode.CONNECT == found.code


async def test_a_name_without_an_address(sender):
    """A name that no resolver knows."""
    assert ErrorCode.DNS == (await sender.send(call("http://no-such-host.invalid/"), timeout_s=20)).code


@pytest.mark.parametrize(
    "request_",
    [
        call("ftp://127.0.0.1/"),
        call("http://"),
        call("http://127.0.0.1:99999/"),
        call("http://127.0.0.1:1/", headers=(("x", "t0psecret\r\ny: z"),)),
        call("http://127.0.0.1:1/", headers=(("x y", "t0psecret"),)),
        call("http://127.0.0.1:1/", headers=(("x", "t0psecrét\u2603"),)),
    ],
    ids=["scheme", "no-host", "port", "value", "name", "not-latin"],
)
async def test_a_request_that_cannot_be_sent_is_ours_to_answer_for(sender, request_):
    """It has the one code that is never retried, and its detail does not show the user's headers."""
    found = failed(await sender.send(request_, timeout_s=5))
    assert (ErrorCode.TEMPLATE, False) == (found.code, "t0ps" in found.detail)


async def test_a_header_cannot_smuggle_another(sender):
    """Nothing is sent when a header's value holds a line break."""
    async with Raw(OK).running() as receiver:
        await sender.send(call(receiver.url, headers=(("x", "a\r\nhost: evil"),)), timeout_s=5)
    assert [] == receiver.requests


async def test_a_body_of_a_mebibyte_goes_all_the_way(sender):
    """Larger than any buffer on the way."""
    body = b"x" * 2_500_000
    async with Receiver() as receiver:
        found = answered(await sender.send(call(receiver.url, body), timeout_s=10))
        assert (200, body) == (found.status, receiver.calls[0].body)


async def test_an_early_answer_counts_although_the_request_was_not_read(sender):
    """A receiver that refuses before it has read everything, and hangs up, has either answered or reset; no exception gets out."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        found = await sender.send(call(url, b"x" * 5_000_000), timeout_s=5)
    assert 413 == found.status if isinstance(found, Response) else ErrorCode.RESET == found.code


async def test_many_calls_at_once_have_a_connection_each(sender):
    """A hundred slow calls take as long as one, and none gets the answer of another."""
    async with Receiver(lambda call: Answer(200, body=call.body, delay_s=0.2)) as receiver:
        started = time.monotonic()
        found = await asyncio.gather(*[sender.send(call(receiver.url, b"%d" % number), timeout_s=10) for number in range(100)])
        assert [b"%d" % number for number in range(100)] == [one.body for one in found]
        assert time.monotonic() - started < 5


async def test_a_cancelled_call_leaves_no_connection(sender):
    """Whoever gives up does not leave the receiver waiting."""
    async with Raw().running() as receiver:
        task = asyncio.create_task(sender.send(call(receiver.url), timeout_s=60))
        async with asyncio.timeout(5):
            await receiver.asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with asyncio.timeout(5):
            await receiver.ended.wait()


async def test_a_closed_sender_leaves_no_connection(sender):
    """Idle connections end with it."""
    async with Raw(OK).running() as receiver:
        await sender.send(call(receiver.url), timeout_s=5)
        await sender.close()
        async with asyncio.timeout(5):
            await receiver.ended.wait()


async def test_a_certificate_nobody_vouches_for_is_refused(sender):
    """TLS is verified: a self-signed certificate ends the call before anything is sent."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(SELF_SIGNED)
    async with Raw(OK).running(tls) as receiver:
        found = failed(await sender.send(call(receiver.url), timeout_s=5))
    assert (ErrorCode.TLS, []) == (found.code, receiver.requests)


@pytest.mark.parametrize(("host", "expected"), [("localhost", None), ("127.0.0.1", ErrorCode.TLS)])
async def test_a_certificate_holds_for_its_name_only(host, expected):
    """Whom an authority vouches for is called by the name that stands in the certificate, and by no other."""
    trust = Trust()
    trust.load_verify_locations(TRUSTED)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(TRUSTED)
    for make in SENDERS.values():
        sender = make(tls=trust)
        async with Raw(OK).running(tls) as receiver:
            found = await sender.send(call(receiver.url.replace("127.0.0.1", host)), timeout_s=5)
            await sender.close()
        assert expected == (None if isinstance(found, Response) else found.code)


async def test_a_receiver_without_tls_is_told_apart(sender):
    """Plain HTTP where TLS was asked for."""
    async with Receiver() as receiver:
        assert ErrorCode.TLS == failed(await sender.send(call(receiver.url.replace("http:", "https:")), timeout_s=5)).code


def garbled(rng: random.Random) -> bytes:
    """An answer with up to three things wrong: a byte changed, added, a few gone, a header that does not belong, or cut."""
    answer = bytearray(rng.choice(ANSWERS))
    for _ in range(rng.randrange(4)):
        at = rng.randrange(len(answer) + 1)
        match rng.randrange(5):
            case 0:
                answer[at : at + 1] = rng.randbytes(1)
            case 1:
                answer[at:at] = rng.randbytes(1)
            case 2:
                del answer[at : at + rng.randrange(1, 8)]
            case 3:
                answer[at:at] = rng.choice(
                    [b"\r\n", b"\0", b": ", b"content-length: 7\r\n", b"transfer-encoding: gzip, chunked\r\n", b"\xff\xfe"]
                )
            case _:
                del answer[at:]
    return bytes(answer)


CASES = int(os.environ.get("LIVEHOOK_HTTP_CASES", "200"))  # for each engine and loop
OF_THE_WAY = {ErrorCode.RESET, ErrorCode.PROTOCOL, ErrorCode.TIMEOUT, ErrorCode.TOO_LARGE}
ANSWERS = [
    OK,
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nx: y\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 503 X\r\nretry-after: 5\r\ncontent-length: 0\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n\x81\x01a",
]


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_comes_the_outcome_is_typed(sender, seed):
    """Answers with random damage, cut anywhere: an answer or a failure of the way, never an exception; no task and no socket is left."""
    rng = random.Random(seed)
    await answer_to(sender, OK, end="close")  # loops open files of their own when they are first used
    await asyncio.sleep(0.01)
    tasks, files = len(asyncio.all_tasks()), open_files()
    for _ in range(CASES // 4):
        answer = garbled(rng)
        cut = rng.randrange(len(answer) + 1)
        found = await answer_to(sender, answer[:cut], answer[cut:], end=rng.choice(["close", "reset"]), timeout_s=2)
        assert isinstance(found, Response) or found.code in OF_THE_WAY
    await sender.close()
    for _ in range(1_000):  # the loop closes sockets a little later
        if len(asyncio.all_tasks()) <= tasks and open_files() <= files:
            break
        await asyncio.sleep(0.001)
    assert len(asyncio.all_tasks()) <= tasks
    assert open_files() <= files  # fewer, where something of another test was still open in the beginning


def open_files() -> int:
    """How many files and sockets this process holds."""
    return len(os.listdir("/dev/fd"))  # noqa: PTH208 - pathlib would look each of them up
