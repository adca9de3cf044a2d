"""The checks of a webhook's input that only the composition root can bring together: the query language, and what may be called."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Mapping, Sequence
from typing import Any

from schemas.errors import FieldError
from schemas.webhook_request import TargetCheck
from schemas.webhook_validation import QueryFieldError
from streams.query import QueryError, compile_query


def check_query(text: str, args: Mapping[str, Any], collections: Sequence[str]) -> FieldError | None:
    """What is wrong with a query, with its place, or None."""
    try:
        compile_query(text, args, collections=collections)
    except QueryError as error:
        return query_field_error(error)
    return None


def query_field_error(error: QueryError) -> QueryFieldError:
    """A query's error as the field ``query``."""
    expected = None if error.expected is None else tuple(error.expected)
    return QueryFieldError("query", error.message, error.line, error.column, expected)


def target_check(*, allow_private: bool, egress_allow: Sequence[str]) -> TargetCheck:
    """
    Says which literal addresses may not be called: those that are not public, unless they are allowed. Names are left to the call itself.

    Args:  egress_allow: networks (CIDR) that may be called although they are private.
    """
    allowed = [ipaddress.ip_network(network) for network in egress_allow]

    def check(host: str, _: int) -> str | None:
        address = literal_address(host)
        if allow_private or address is None or any(address in network for network in allowed):
            return None
        if address.is_global and not address.is_multicast:
            return None
        return f"has the address {address}, which is not public: it may be allowed with EGRESS_ALLOW or ALLOW_PRIVATE"

    return check


def literal_address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that a host stands for without any look-up, in every spelling that a resolver takes (127.1, 0x7f000001); else None."""
    if host == "localhost" or host.endswith(".localhost"):  # RFC 6761, 6.3
        return ipaddress.IPv4Address("127.0.0.1")
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        try:
            return ipaddress.IPv4Address(socket.inet_aton(host))
        except (OSError, ValueError):
            return None
    return (address.ipv4_mapped or address) if isinstance(address, ipaddress.IPv6Address) else address
