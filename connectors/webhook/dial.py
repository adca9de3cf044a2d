"""From a host and a port to a TCP connection: look the name up, then race the addresses of both families. Used by http1.py."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from typing import Protocol

import aiohappyeyeballs
from aiohappyeyeballs import AddrInfoType

ADDRESSES_MAX = 16
LOOKUPS_MAX = 64
# RFC 8305, section 5: how long the first address may be silent before the next one is tried beside it.
NEXT_ADDRESS_S = 0.25


class Dial(Protocol):
    """
    Connects.

    Raises:  OSError; socket.gaierror (an OSError) when the name has no address.
    """

    async def __call__(self, host: str, port: int) -> socket.socket:
        """A connected socket; the caller closes it, and bounds the time."""
        ...


async def connect(addresses: Sequence[AddrInfoType]) -> socket.socket:
    """
    The first of these addresses that answers.

    Raises:  OSError: none did.
    """
    try:
        return await aiohappyeyeballs.start_connection(addresses, happy_eyeballs_delay=NEXT_ADDRESS_S)
    except RuntimeError as error:  # uvloop
        raise OSError(str(error)) from error


async def dial(host: str, port: int) -> socket.socket:
    """
    Connect to any address of a name.

    Raises:  OSError; socket.gaierror.
    """
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return await connect(found[:ADDRESSES_MAX])
