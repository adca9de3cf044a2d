"""Rules of where calls may lead: decided on the address that is dialled, whatever its name and its spelling."""

import asyncio
import ipaddress
import json
import re
import socket
import threading
import time

import pytest
from prometheus_client import CollectorRegistry

from connectors.webhook.calls import Failure, Response, request_of
from connectors.webhook.dial import ADDRESSES_MAX, LOOKUPS_MAX, Dialler, Refusals, Refused
from connectors.webhook.egress import Class, class_of, literal_address, rules
from connectors.webhook.http1 import Http1Sender
from connectors.webhook.http1_wire import Origin
from connectors.webhook.testing import Receiver
from connectors.webhook.tls import trusted
from connectors.webhook.trial import send_test
from schemas.attempts import ErrorCode, Outcome
from schemas.signing import new_secret
from schemas.webhooks import Secret, WebhookRevision, WebhookSpec

STRICT = rules(allow_private=False, egress_allow=())
DEV = rules(allow_private=True, egress_allow=())
TRUST = trusted()

ROWS = [
    ("0.0.0.0", Class.UNSPECIFIED), ("0.1.2.3", Class.UNSPECIFIED), ("::", Class.UNSPECIFIED),
    ("127.0.0.1", Class.LOOPBACK), ("127.255.255.254", Class.LOOPBACK), ("::1", Class.LOOPBACK),
    ("169.254.169.254", Class.METADATA), ("169.254.170.2", Class.METADATA), ("169.254.170.23", Class.METADATA),
    ("169.254.169.253", Class.METADATA), ("169.254.42.42", Class.METADATA), ("100.100.100.200", Class.METADATA),
    ("168.63.129.16", Class.METADATA), ("192.0.0.192", Class.METADATA), ("fd00:ec2::254", Class.METADATA), ("fd00:ec2::23", Class.METADATA),
    ("fd20:ce::254", Class.METADATA), ("fd00:42::42", Class.METADATA), ("fe80::a9fe:a9fe", Class.METADATA),
    ("169.254.1.1", Class.LINK_LOCAL), ("fe80::1", Class.LINK_LOCAL), ("fe80::1%1", Class.LINK_LOCAL), ("febf::1", Class.LINK_LOCAL),
    ("10.0.0.1", Class.PRIVATE), ("172.16.0.1", Class.PRIVATE), ("172.31.255.255", Class.PRIVATE), ("192.168.1.1", Class.PRIVATE),
    ("fc00::1", Class.PRIVATE), ("fdff::1", Class.PRIVATE),
    ("100.64.0.1", Class.SHARED), ("100.127.255.255", Class.SHARED),
    ("fec0::1", Class.SITE_LOCAL), ("feff::1", Class.SITE_LOCAL),
    ("224.0.0.1", Class.MULTICAST), ("239.255.255.255", Class.MULTICAST), ("ff02::1", Class.MULTICAST),
    ("255.255.255.255", Class.BROADCAST),
    ("192.0.2.1", Class.DOCUMENTATION), ("198.51.100.1", Class.DOCUMENTATION), ("203.0.113.1", Class.DOCUMENTATION),
    ("2001:db8::1", Class.DOCUMENTATION), ("3fff::1", Class.DOCUMENTATION),
    ("198.18.0.1", Class.BENCHMARK), ("198.19.255.255", Class.BENCHMARK), ("2001:2::1", Class.BENCHMARK),
    ("192.0.0.1", Class.RESERVED), ("192.88.99.1", Class.RESERVED), ("240.0.0.1", Class.RESERVED), ("2001:10::1", Class.RESERVED),
    ("100::1", Class.RESERVED), ("5f00::1", Class.RESERVED), ("4000::1", Class.RESERVED),
    ("::ffff:127.0.0.1", Class.LOOPBACK), ("::ffff:10.0.0.1", Class.PRIVATE), ("::ffff:169.254.169.254", Class.METADATA),
    ("::127.0.0.1", Class.LOOPBACK), ("::8.8.8.8", Class.RESERVED), ("::ffff:0:10.0.0.1", Class.PRIVATE),
    ("::ffff:0:8.8.8.8", Class.RESERVED),
    ("64:ff9b::127.0.0.1", Class.LOOPBACK), ("64:ff9b::a9fe:a9fe", Class.METADATA), ("64:ff9b:1::10.0.0.1", Class.PRIVATE),
    ("64:ff9b:1::8.8.8.8", Class.RESERVED),
    ("2002:7f00:1::", Class.LOOPBACK), ("2002:a00:1::1", Class.PRIVATE), ("2002:a9fe:a9fe::1", Class.METADATA),
    ("2001:0:7f00:1::1", Class.LOOPBACK), ("2001:0:808:808:0:0:f5ff:fffe", Class.PRIVATE), ("2001:0:808:808:0:0:f7f7:f7f7", Class.RESERVED),
]  # fmt: skip
PUBLIC = ["8.8.8.8", "1.1.1.1", "172.15.0.1", "172.32.0.1", "100.63.0.1", "100.128.0.1", "192.0.1.1", "223.255.255.255",
          "2606:4700::1111", "2a00:1450::1", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2002:808:808::1"]  # fmt: skip
LOOPBACKS = ["127.0.0.1", "127.1", "127.0.1", "2130706433", "0x7f000001", "0x7f.1", "017700000001", "0177.0.0.1", "0x7f.0x0.0x0.0x1",
             "::1", "0:0:0:0:0:0:0:1", "::ffff:127.0.0.1", "::ffff:7f00:1", "::127.0.0.1"]  # fmt: skip


@pytest.mark.parametrize(("address", "expected"), ROWS)
async def test_an_address_is_refused_by_its_class(address, expected):
    """At dial time, also when a public name leads there: one row for each reserved network and each way to write IPv4 inside IPv6."""
    found: list[Class] = []
    dialler = Dialler(STRICT, resolve=lambda name: [address], refused=found.append)
    with pytest.raises(Refused, match=f"refused: {expected.value}$"):
        await dialler.dial(Origin("https", "innocent.example", 443))
    dialler.close()
    assert (expected, [expected]) == (class_of(ipaddress.ip_address(address)), found)


@pytest.mark.parametrize("address", PUBLIC)
def test_what_is_public_may_be_called(address):
    """Next to each refused network, and through NAT64."""
    assert class_of(ipaddress.ip_address(address)) is None


@pytest.mark.parametrize("host", LOOPBACKS)
async def test_no_spelling_of_loopback_is_dialled(host):
    """Decimal, octal, hexadecimal and shortened ones are read as a resolver reads them, and nothing is looked up."""

    def never(name):
        raise AssertionError(name)

    dialler = Dialler(STRICT, resolve=never)
    with pytest.raises(Refused):
        await dialler.dial(Origin("https", host, 8443))
    dialler.close()
    assert literal_address(host) is not None


@pytest.mark.parametrize("host", ["example.com", "127.0.0.1.example.com", "10", "1.2.3.4.5", "x::1"])
def test_a_name_is_no_address(host):
    """Except for bare numbers, which a resolver takes for one."""
    assert (host == "10") is (literal_address(host) is not None)


async def test_one_refused_address_refuses_the_name():
    """Whatever its place among the others, also beyond those that would be tried."""
    addresses = ["8.8.8.8"] * ADDRESSES_MAX + ["10.0.0.1"]
    dialler = Dialler(STRICT, resolve=lambda name: addresses)
    with pytest.raises(Refused, match="private"):
        await dialler.dial(Origin("https", "two-faced.example", 443))
    dialler.close()


@pytest.mark.parametrize(
    ("rules_", "origin", "expected"),
    [
        (STRICT, Origin("https", "8.8.8.8", 22), Class.PORT),
        (STRICT, Origin("https", "8.8.8.8", 1023), Class.PORT),
        (DEV, Origin("http", "127.0.0.1", 25), Class.PORT),
        (STRICT, Origin("http", "8.8.8.8", 80), Class.SCHEME),
        (rules(allow_private=False, egress_allow=("127.0.0.0/8",)), Origin("http", "127.0.0.1", 8080), Class.SCHEME),
        (DEV, Origin("http", "169.254.169.254", 80), Class.METADATA),
        (DEV, Origin("http", "100.64.0.1", 80), Class.SHARED),
        (DEV, Origin("http", "0.0.0.0", 8080), Class.UNSPECIFIED),
        (rules(allow_private=False, egress_allow=("10.1.0.0/16",)), Origin("https", "10.2.0.1", 443), Class.PRIVATE),
    ],
)
async def test_what_else_is_refused(rules_, origin, expected):
    """Ports of other services, plain HTTP, and what ALLOW_PRIVATE and EGRESS_ALLOW do not open."""
    dialler = Dialler(rules_)
    with pytest.raises(Refused) as refused:
        await dialler.dial(origin)
    dialler.close()
    assert expected == refused.value.found


@pytest.mark.parametrize(
    "rules_",
    [
        DEV,
        rules(allow_private=True, egress_allow=("127.0.0.0/8",)),
        rules(allow_private=True, egress_allow=(), own_ports=frozenset({1})),
    ],
)
async def test_what_is_allowed_is_called(rules_):
    """A receiver on this machine, by its address and by a name, mapped into IPv6 too."""
    async with Receiver() as receiver:
        port = int(receiver.url.rpartition(":")[2])
        for host in ("127.0.0.1", "127.1", "here.example", "::ffff:127.0.0.1"):
            dialler = Dialler(rules_, resolve=lambda name: ["127.0.0.1"])
            with await dialler.dial(Origin("http", host, port)) as sock:
                assert ("127.0.0.1", port) == sock.getpeername()
            dialler.close()


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.2"])
async def test_our_own_socket_is_refused_whatever_is_allowed(address):
    """On every address of this machine; the same port elsewhere is somebody else's."""
    dialler = Dialler(rules(allow_private=True, egress_allow=("0.0.0.0/0",), own_ports=frozenset({8082})))
    with pytest.raises(Refused, match="own-socket"):
        await dialler.dial(Origin("http", address, 8082))
    dialler.close()


async def test_the_checked_address_is_the_dialled_one():
    """A name that leads elsewhere at the second look-up (DNS rebinding) gains nothing: there is one look-up for a connection."""
    answers = iter([["127.0.0.1"], ["127.0.0.9"], ["127.0.0.1"]])
    looked_up = []

    def rebinding(name):
        looked_up.append(name)
        return next(answers)

    own = rules(allow_private=False, egress_allow=("127.0.0.1/32",))
    async with Receiver() as receiver:
        port = int(receiver.url.rpartition(":")[2])
        dialler = Dialler(own, resolve=rebinding)
        with await dialler.dial(Origin("https", "rebinding.example", port)) as sock:
            assert ("127.0.0.1", 1) == (sock.getpeername()[0], len(looked_up))
        with pytest.raises(Refused, match="loopback"):
            await dialler.dial(Origin("https", "rebinding.example", port))
        dialler.close()


async def planted() -> tuple[asyncio.Server, list[object], int]:
    """A listener that no call may reach, and who came."""
    came: list[object] = []

    def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.append(writer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    return server, came, server.sockets[0].getsockname()[1]


async def test_no_planted_listener_is_reached():
    """By no spelling, no name, with and without TLS: the attempt fails with ``egress``, which names the class, and is counted."""
    registry = CollectorRegistry()
    server, came, port = await planted()
    hosts = [*(f"[{host}]" if ":" in host else host for host in LOOPBACKS), "localhost", "a.localhost", "rebound.example"]
    sender = Http1Sender(Dialler(STRICT, resolve=lambda name: ["8.8.8.8", "127.0.0.1"], refused=Refusals(registry)), tls=TRUST)
    for host in hosts:
        found = await sender.send(request_of("POST", f"https://{host}:{port}/", (), b"{}"), timeout_s=5)
        assert isinstance(found, Failure)
        assert (ErrorCode.EGRESS, "the target is refused: loopback") == (found.code, found.detail)
    plain = await sender.send(request_of("POST", f"http://127.0.0.1:{port}/", (), b"{}"), timeout_s=5)
    assert isinstance(plain, Failure)
    assert ErrorCode.EGRESS == plain.code
    await sender.close()
    server.close()
    counted = {name: registry.get_sample_value("livehook_egress_refused_total", {"class": name}) for name in ("loopback", "plain-http")}
    assert ([], {"loopback": len(hosts), "plain-http": 1}) == (came, counted)


async def test_a_webhook_test_is_guarded_too():
    """It goes the way of deliveries."""
    server, came, port = await planted()
    sender = Http1Sender(Dialler(STRICT, resolve=lambda name: ["127.0.0.1"]), tls=TRUST)
    spec = WebhookSpec(name="adults", url=f"https://innocent.example:{port}/", collections=("people",))
    revision = WebhookRevision("uid", "adults", 1, 1, spec, [Secret(new_secret())], 0, 0)
    attempt = await send_test(revision, {"_id": "a"}, None, sender=sender, user_agent="livehook/1")
    await sender.close()
    server.close()
    assert attempt.error is not None
    assert (ErrorCode.EGRESS, Outcome.DEAD, []) == (attempt.error.code, attempt.outcome, came)


async def test_look_ups_are_bounded_and_shared():
    """Calls to one name share a look-up; those to many names wait for a thread."""
    asked, running, most = 0, 0, 0

    def slow(name):
        nonlocal asked, running, most
        asked += 1
        running += 1
        most = max(most, running)
        time.sleep(0.02)
        running -= 1
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    dialler = Dialler(STRICT, resolve=slow)
    names = [f"n{number % 200}.example" for number in range(600)]
    found = await asyncio.gather(*(dialler.dial(Origin("https", name, 443)) for name in names), return_exceptions=True)
    dialler.close()
    assert {socket.gaierror} == {type(one) for one in found}
    assert 1 < most <= LOOKUPS_MAX
    assert 200 == asked


async def test_either_family_will_do():
    """Where one address of a name does not answer, another one does."""
    async with Receiver() as receiver:
        port = int(receiver.url.rpartition(":")[2])
        dialler = Dialler(DEV, resolve=lambda name: ["::1", "127.0.0.9", "127.0.0.1"])
        with await dialler.dial(Origin("http", "both.example", port)) as sock:
            assert ("127.0.0.1", port) == sock.getpeername()
        dialler.close()


async def test_a_silent_name_server_takes_no_longer_than_the_call():
    """The call ends in time although the look-up cannot be ended."""
    is_over = threading.Event()

    def silent(name):
        is_over.wait()
        raise socket.gaierror(socket.EAI_AGAIN, "nobody answers")

    sender = Http1Sender(Dialler(STRICT, resolve=silent), tls=TRUST)
    try:
        found = await sender.send(request_of("POST", "https://silent.example/", (), b""), timeout_s=0.05)
    finally:
        is_over.set()
    await sender.close()
    assert isinstance(found, Failure)
    assert ErrorCode.TIMEOUT is found.code
    assert re.fullmatch(r"no connection within 0\.0\d+ s", found.detail)  # 0.05 without what went by before the look-up


async def test_a_cancelled_look_up_is_seen_to_its_end():
    """Nobody is left to take its error, and nothing is logged about that."""
    dialler = Dialler(STRICT, resolve=lambda name: (_ for _ in ()).throw(UnicodeError("label too long")))
    calls = [asyncio.create_task(dialler.dial(Origin("https", "a..b", 443))) for _ in range(3)]
    await asyncio.sleep(0)
    calls[0].cancel()
    found = await asyncio.gather(*calls, return_exceptions=True)
    dialler.close()
    assert [asyncio.CancelledError, UnicodeError, UnicodeError] == [type(one) for one in found]


async def test_an_allowed_target_gets_its_name():
    """The address is dialled; the Host header is the name's."""
    async with Receiver() as receiver:
        port = int(receiver.url.rpartition(":")[2])
        sender = Http1Sender(Dialler(DEV, resolve=lambda name: ["127.0.0.1"]), tls=TRUST)
        found = await sender.send(request_of("POST", f"http://Receiver.Example:{port}/a?b", (), json.dumps({}).encode()), timeout_s=5)
        await sender.close()
        assert isinstance(found, Response)
        assert f"receiver.example:{port}" == receiver.calls[0].header("host")
