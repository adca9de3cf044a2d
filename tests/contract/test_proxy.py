"""Calls through a proxy: what is checked before it, what it is told, and what becomes of its refusals."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from connectors.webhook.calls import Failure, Request, Response, request_of
from connectors.webhook.egress import Class, Rules
from connectors.webhook.engines import GuardedSender, make_engine
from connectors.webhook.http_httpx import HttpxSender
from connectors.webhook.testing import Receiver
from connectors.webhook.tls import trusted
from livehook.settings import BadSettings, load
from schemas.attempts import ErrorCode

TRUST = trusted()
TRUSTED = Path(__file__).with_name("trusted.pem")  # key and certificate of the name localhost
HERE = Rules(allow_private=True)
REFUSING = b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n"


class Proxy:
    """An HTTP proxy (RFC 9110, 9.3.6): tunnels for https, requests in absolute form for http; every name leads to this machine."""

    def __init__(self, *, refuses: bool = False) -> None:
        self.refuses = refuses
        self.heads: list[bytes] = []
        self.url = ""
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Proxy]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with server:
            yield self
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            self.heads.append(head)
            if self.refuses:
                writer.write(REFUSING)
                return
            method, target = head.split(b" ")[:2]
            port = int(target.rpartition(b":")[2].partition(b"/")[0])
            there, out = await asyncio.open_connection("127.0.0.1", port)
            try:
                if method == b"CONNECT":
                    writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
                else:
                    out.write(head)  # any server takes the absolute form (RFC 9112, 3.2.2)
                await asyncio.gather(_copied(reader, out), _copied(there, writer))
            finally:
                out.close()
        finally:
            writer.close()


async def _copied(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while data := await source.read(65_536):
        sink.write(data)
        await sink.drain()
    sink.close()


def call(url: str) -> Request:
    return request_of("POST", url, (("x-team", "crm"),), b"{}")


@asynccontextmanager
async def sending(proxy: str, rules: Rules = HERE, tls: ssl.SSLContext = TRUST) -> AsyncIterator[GuardedSender]:
    sender = GuardedSender(HttpxSender(tls=tls, proxy=proxy), rules)
    yield sender
    await sender.close()


async def test_a_call_goes_through_the_proxy():
    """Twice over one connection; names are the proxy's to look up; what it is told to know us by goes to nobody else."""
    async with Receiver() as receiver, Proxy().running() as proxy:
        with_password = proxy.url.replace("//", "//us:planted@")
        async with sending(with_password) as sender:
            for _ in range(2):
                answer = await sender.send(call(receiver.url.replace("127.0.0.1", "nowhere.example") + "/hook"), timeout_s=5)
                assert isinstance(answer, Response), answer
                assert 200 == answer.status
    credentials = b"Basic " + base64.b64encode(b"us:planted")
    assert [True] == [credentials in head for head in proxy.heads]
    assert 2 == sum(one.target.endswith("nowhere.example" + receiver.url[16:] + "/hook") for one in receiver.calls)


async def test_https_is_tunnelled():
    """The proxy sees a host and a port; the certificate that counts is the receiver's."""
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(TRUSTED)
    ours = ssl.create_default_context(cafile=str(TRUSTED))
    async with Receiver(tls=tls) as receiver, Proxy().running() as proxy:
        url = receiver.url.replace("127.0.0.1", "localhost")
        async with sending(proxy.url, tls=ours) as sender:
            answer = await sender.send(call(url), timeout_s=5)
        async with sending(proxy.url) as sender:
            refused = await sender.send(call(url), timeout_s=5)
    assert isinstance(answer, Response), answer
    assert isinstance(refused, Failure), refused
    assert (200, ErrorCode.TLS) == (answer.status, refused.code)
    assert all(head.startswith(b"CONNECT localhost:") and b"x-team" not in head for head in proxy.heads)
    assert "crm" == receiver.calls[0].headers["x-team"]


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("https://169.254.169.254/", Class.METADATA),
        ("https://[::ffff:10.0.0.1]/", Class.PRIVATE),
        ("https://0x7f000001/", Class.LOOPBACK),
        ("https://user@127.1/", Class.LOOPBACK),
        ("https://localhost/", Class.LOOPBACK),
        ("https://example.com:22/", Class.PORT),
        ("http://example.com/", Class.SCHEME),
    ],
)
async def test_what_can_be_told_from_the_url_is_refused_before_the_proxy(url, found):
    """By its class, which is counted; the proxy hears nothing of it."""
    refused: list[Class] = []
    async with Proxy().running() as proxy:
        sender = make_engine(Rules(), proxy=proxy.url, refused=refused.append)
        answer = await sender.send(call(url), timeout_s=5)
        await sender.close()
    assert isinstance(answer, Failure), answer
    assert (ErrorCode.EGRESS, [found], []) == (answer.code, refused, proxy.heads)
    assert found.value in answer.detail


async def test_a_proxy_that_refuses_and_one_that_is_not_there_are_no_connection():
    """The delivery is tried again on its schedule; no password is told."""
    async with Proxy(refuses=True).running() as proxy, sending(proxy.url.replace("//", "//us:planted@")) as sender:
        refused = await sender.send(call("https://example.com/"), timeout_s=5)
    async with sending("http://us:planted@127.0.0.1:1") as sender:
        absent = await sender.send(call("https://example.com/"), timeout_s=5)
    for answer in (refused, absent):
        assert isinstance(answer, Failure), answer
        assert (ErrorCode.CONNECT, False) == (answer.code, "planted" in answer.detail)
    assert isinstance(refused, Failure)
    assert "the proxy does not connect: 403 Forbidden" == refused.detail


@pytest.mark.parametrize(
    "url", ["proxy:3128", "socks5://proxy:1080", "http://:80", "http://proxy:99999", "http://proxy/path", "http://proxy?a"]
)
def test_what_is_no_proxy_is_refused_at_the_start(url):
    """The message names the setting, and shows no part of the URL: it may hold a password."""
    with pytest.raises(BadSettings, match=r"^LIVEHOOK_EGRESS_PROXY must be") as caught:
        load({}, environment={"LIVEHOOK_EGRESS_PROXY": url})
    assert url not in str(caught.value)
