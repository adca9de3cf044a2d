"""
From an origin to a TCP connection: look the name up, check every address of it, connect to one of exactly those. Used by http1.py.

What was checked is what is dialled: the connection is made to the address, and the name is only used for TLS and the Host header. So a name
that leads elsewhere a moment later (DNS rebinding) changes nothing; nor does it for a connection that waits for its next call.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import aiohappyeyeballs
from aiohappyeyeballs import AddrInfoType
from prometheus_client import CollectorRegistry, Counter

from connectors.webhook.egress import Address, Class, Rules, literal_address, unmapped
from connectors.webhook.http1_wire import Origin

ADDRESSES_MAX = 16
# Threads. One whose name servers are silent is taken for as long as the system's resolver is patient.
LOOKUPS_MAX = 64
LOOKUP_S_MAX = 5.0
# RFC 8305, section 5: how long the first address may be silent before the next one is tried beside it.
NEXT_ADDRESS_S = 0.25

Resolve = Callable[[str], Sequence[str]]
"""All addresses of a name, in the order to try them; blocks, and raises socket.gaierror or UnicodeError when it has none."""


class Refused(Exception):
    """The target may not be called. The message names the class, not the address: the owner of the name learns nothing of our network."""

    def __init__(self, found: Class) -> None:
        super().__init__(f"the target is refused: {found.value}")
        self.found = found


class Refusals:
    """How many targets were refused, for Prometheus."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._count = Counter("livehook_egress_refused", "Calls refused because of where they lead", ["class"], registry=registry)

    def __call__(self, found: Class) -> None:
        """Count one."""
        self._count.labels(found.value).inc()


class Dialler:
    """
    Makes connections, within the rules.

    Args:  refused: told of every refusal.
           resolve: what knows the addresses of names; each look-up of it has a thread, and there are at most LOOKUPS_MAX.
    """

    def __init__(self, rules: Rules, *, refused: Callable[[Class], None] = lambda found: None, resolve: Resolve | None = None) -> None:
        self._rules = rules
        self._refused = refused
        self._resolve = resolve or _system
        self._threads = ThreadPoolExecutor(LOOKUPS_MAX, thread_name_prefix="look-up")
        self._running: dict[str, asyncio.Future[Sequence[str]]] = {}

    async def dial(self, origin: Origin) -> socket.socket:
        """
        A connected socket; the caller closes it, and bounds the time.

        Raises:  Refused. OSError: nobody answered; socket.gaierror and UnicodeError: the name has no address.
        """
        if (found := self._rules.refused_call(is_tls=origin.is_tls, port=origin.port)) is not None:
            raise self._refusal(found)
        addresses = await self._addresses(origin.host)
        for address in addresses:
            if (found := self._check(address, origin.port)) is not None:
                raise self._refusal(found)
        return await _connect([_numeric(address, origin.port) for address in addresses[:ADDRESSES_MAX]])

    def close(self) -> None:
        """Let go of the threads; a look-up under way ends by itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _addresses(self, host: str) -> list[Address]:
        literal = literal_address(host)
        if literal is not None:
            return [unmapped(literal)]
        return [unmapped(ipaddress.ip_address(address)) for address in await self._look_up(host)]

    def _check(self, address: Address, port: int) -> Class | None:
        if port in self._rules.own_ports and _is_here(address):
            return Class.OWN
        return self._rules.refused_address(address)

    def _refusal(self, found: Class) -> Refused:
        self._refused(found)
        return Refused(found)

    async def _look_up(self, name: str) -> Sequence[str]:
        """Calls that want the same name at the same time share a look-up: a name whose servers are silent takes one thread."""
        found = self._running.get(name)
        if found is None:
            found = asyncio.get_running_loop().run_in_executor(self._threads, self._resolve, name)
            self._running[name] = found
            found.add_done_callback(lambda done: self._looked_up(name, done))
        try:
            async with asyncio.timeout(LOOKUP_S_MAX):
                return await asyncio.shield(found)
        except TimeoutError:
            raise socket.gaierror(socket.EAI_AGAIN, f"no name server answered within {LOOKUP_S_MAX:g} s") from None

    def _looked_up(self, name: str, done: asyncio.Future[Sequence[str]]) -> None:
        del self._running[name]
        if not done.cancelled():
            done.exception()  # seen, although perhaps nobody waits any more


def _system(name: str) -> list[str]:
    return list(dict.fromkeys(str(found[4][0]) for found in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)))


def _numeric(address: Address, port: int) -> AddrInfoType:
    """As sockets want it: no look-up, but the zone of an IPv6 address becomes a number."""
    return socket.getaddrinfo(str(address), port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV)[0]


def _is_here(address: Address) -> bool:
    """Whether an address is one of this machine's: only those can be bound to."""
    if address.is_loopback or address.is_unspecified:
        return True
    try:
        family, kind, protocol, _, place = _numeric(address, 0)
        with socket.socket(family, kind, protocol) as trial:
            trial.bind(place)
    except OSError:
        return False
    return True


async def _connect(addresses: Sequence[AddrInfoType]) -> socket.socket:
    """The first of these addresses that answers, of either family; raises OSError when none does."""
    try:
        return await aiohappyeyeballs.start_connection(addresses, happy_eyeballs_delay=NEXT_ADDRESS_S)
    except RuntimeError as error:  # uvloop's way to say so
        raise OSError(str(error)) from error
