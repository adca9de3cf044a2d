"""
Which addresses may be called: the decision, without a look-up. Used by dial.py for every connection, and when a webhook is registered.

A webhook's URL is its owner's; the network that the sink stands in is not. Every address belongs to at most one :class:`Class`; what
belongs to none is public. An IPv4 address inside an IPv6 address counts as what it is, because something on the way unwraps it.
Source: the IANA registries of special-purpose addresses (RFC 6890); docs/howto/run-in-production.md, "What may be called".
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from schemas.webhook_url import is_callable_port

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Class(StrEnum):
    """Why a target is refused; the label of ``livehook_egress_refused_total``."""

    UNSPECIFIED = "unspecified"
    LOOPBACK = "loopback"
    METADATA = "metadata"
    LINK_LOCAL = "link-local"
    PRIVATE = "private"
    SHARED = "carrier-nat"
    SITE_LOCAL = "site-local"
    MULTICAST = "multicast"
    BROADCAST = "broadcast"
    DOCUMENTATION = "documentation"
    BENCHMARK = "benchmark"
    RESERVED = "reserved"
    OWN = "own-socket"
    PORT = "port"
    SCHEME = "plain-http"


OPENED_BY_ALLOW_PRIVATE = frozenset({Class.PRIVATE, Class.LOOPBACK})

_NETWORKS: dict[Class, Sequence[str]] = {
    # Where clouds answer their guests: AWS (also ECS, EKS) and most others, Alibaba, Azure, Oracle, Google, Scaleway.
    Class.METADATA: (
        "169.254.169.254", "169.254.169.253", "169.254.170.2", "169.254.170.23", "100.100.100.200", "168.63.129.16", "192.0.0.192",
        "169.254.42.42", "fd00:ec2::/32", "fd20:ce::254", "fd00:42::42", "fe80::a9fe:a9fe",
    ),
    Class.BROADCAST: ("255.255.255.255",),
    Class.UNSPECIFIED: ("0.0.0.0/8", "::"),
    Class.LOOPBACK: ("127.0.0.0/8", "::1"),
    Class.LINK_LOCAL: ("169.254.0.0/16", "fe80::/10"),
    Class.PRIVATE: ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"),
    Class.SHARED: ("100.64.0.0/10",),
    Class.SITE_LOCAL: ("fec0::/10",),
    Class.MULTICAST: ("224.0.0.0/4", "ff00::/8"),
    Class.DOCUMENTATION: ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32", "3fff::/20"),
    Class.BENCHMARK: ("198.18.0.0/15", "2001:2::/48"),
    Class.RESERVED: ("192.0.0.0/24", "192.88.99.0/24", "240.0.0.0/4", "2001::/23"),
}  # fmt: skip
# Each class before those that hold it: metadata addresses are link-local or private ones, the broadcast address is a reserved one.
_CLASSES = [(found, [ipaddress.ip_network(network) for network in networks]) for found, networks in _NETWORKS.items()]
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
# NAT64 (RFC 6052): how machines without IPv4 reach all of it. The one of a site (RFC 8215) leads to where the site likes.
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
# The IPv4 address is in the last 32 bits: both NAT64, compatible (RFC 4291), translated (RFC 2765).
_LAST_32_BITS = [_NAT64, *(ipaddress.IPv6Network(text) for text in ("64:ff9b:1::/48", "::/96", "::ffff:0:0:0/96"))]


@dataclass(frozen=True, slots=True)
class Rules:
    """
    What an installation allows.

    allow_private: private and loopback addresses, and plain http.
    allowed:       networks that may be called whatever they are.
    own_ports:     where this process listens, on any of the machine's addresses.
    """

    allow_private: bool = False
    allowed: tuple[Network, ...] = ()
    own_ports: frozenset[int] = frozenset()

    def refused_call(self, *, is_tls: bool, port: int) -> Class | None:
        """What is wrong with the call itself, wherever it leads."""
        if not is_callable_port(port):
            return Class.PORT
        return None if is_tls or self.allow_private else Class.SCHEME

    def refused_address(self, address: Address) -> Class | None:
        """The class for which an address may not be called, or None."""
        address = unmapped(address)
        if any(address in network for network in self.allowed):
            return None
        found = class_of(address)
        return None if self.allow_private and found in OPENED_BY_ALLOW_PRIVATE else found

    def refused_host(self, host: str) -> Class | None:
        """The class for which a host may not be called, as far as its text tells; a name is not looked up."""
        is_localhost = host.rstrip(".") == "localhost" or host.rstrip(".").endswith(".localhost")  # RFC 6761, 6.3
        address = ipaddress.IPv4Address("127.0.0.1") if is_localhost else literal_address(host)
        return None if address is None else self.refused_address(address)


def rules(*, allow_private: bool, egress_allow: Sequence[str], own_ports: frozenset[int] = frozenset()) -> Rules:
    """
    The rules as the settings have them.

    Raises:  ValueError: what is allowed is no network.
    """
    return Rules(allow_private, tuple(ipaddress.ip_network(network) for network in egress_allow), own_ports)


def unmapped(address: Address) -> Address:
    """An IPv4 address that is only written as an IPv6 one (RFC 4291, 2.5.5.2) as itself; every other one unchanged."""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def class_of(address: Address) -> Class | None:
    """
    The class of an address that is not public, or None.

    Guarantees:  pure, for every address; an IPv6 address that holds an IPv4 address which is not public has the class of that one.
    """
    address = unmapped(address)
    found = _listed(address)
    if isinstance(address, ipaddress.IPv4Address) or found not in (None, Class.RESERVED):
        return found
    inside = next((embedded for each in _embedded(address) if (embedded := _listed(each)) is not None), None)
    if inside is None and found is None and address not in _GLOBAL_UNICAST and address not in _NAT64:
        return Class.RESERVED
    return inside or found


def _listed(address: Address) -> Class | None:
    return next((found for found, networks in _CLASSES if any(address in network for network in networks)), None)


def _embedded(address: ipaddress.IPv6Address) -> Iterator[ipaddress.IPv4Address]:
    """The IPv4 addresses that a packet to this address may end at."""
    if any(address in network for network in _LAST_32_BITS):
        yield ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    if address.sixtofour is not None:
        yield address.sixtofour
    if address.teredo is not None:
        yield from address.teredo


def literal_address(host: str) -> Address | None:
    """
    The address that a host is in any spelling that a resolver takes without a look-up (127.1, 0x7f000001, 017700000001), else None.

    Args:  host: without brackets; the zone of an IPv6 address is kept.
    """
    for read in (ipaddress.ip_address, _inet_aton):
        with contextlib.suppress(OSError, ValueError):  # not in this spelling
            return read(host)
    return None


def _inet_aton(host: str) -> Address:
    return ipaddress.IPv4Address(socket.inet_aton(host))
