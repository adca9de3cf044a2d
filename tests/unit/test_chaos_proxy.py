"""The bad network of the crash test is as bad as it says, and fine again afterwards."""

from __future__ import annotations

import random
import socket
import threading
from collections.abc import Iterator

import pytest

from tests.chaos.proxy import HOST, Proxy, Weather

TIMEOUT_S = 5.0
SOON_S = 0.2


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    """Before a server that sends back what it gets."""
    with socket.create_server((HOST, 0)) as server, Proxy(lambda: server.getsockname()[1], random.Random(1)) as proxy:
        threading.Thread(target=_echo_all, args=(server,), daemon=True).start()
        yield proxy


def _echo_all(server: socket.socket) -> None:
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        threading.Thread(target=_echo, args=(connection,), daemon=True).start()


def _echo(connection: socket.socket) -> None:
    with connection:
        try:
            while data := connection.recv(1_000):
                connection.sendall(data)
        except OSError:
            return


def connect(proxy: Proxy) -> socket.socket:
    return socket.create_connection((HOST, proxy.port), TIMEOUT_S)


def read_from(proxy: Proxy) -> bytes:
    with connect(proxy) as connection:
        return connection.recv(1)


def echoed(connection: socket.socket, data: bytes = b"hello") -> bytes:
    connection.sendall(data)
    return connection.recv(1_000)


@pytest.mark.parametrize("weather", [Weather.FINE, Weather.DELAYED, Weather.SLOW])
def test_bytes_come_through_sooner_or_later(proxy, weather):
    """Late and slow is not lost."""
    proxy.turn(weather)
    with connect(proxy) as connection:
        assert b"hello" == echoed(connection)


@pytest.mark.parametrize("weather", [Weather.CUT, Weather.RESET])
def test_what_is_open_is_reset(proxy, weather):
    """As when a machine on the way forgets its connections; after that it is fine again."""
    with connect(proxy) as connection:
        echoed(connection)
        proxy.turn(weather)
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    proxy.turn(Weather.FINE)
    with connect(proxy) as connection:
        assert b"hello" == echoed(connection)


def test_nobody_gets_through_a_cut(proxy):
    """Each connection is reset before it can be used."""
    proxy.turn(Weather.CUT)
    with pytest.raises(ConnectionResetError):  # while it connects, or when it listens
        read_from(proxy)


def test_half_open_says_nothing_and_is_reset_when_it_is_over(proxy):
    """Neither an answer nor an error, as long as it lasts."""
    with connect(proxy) as connection:
        echoed(connection)
        proxy.turn(Weather.HALF_OPEN)
        connection.settimeout(SOON_S)
        with pytest.raises(TimeoutError):
            echoed(connection)
        connection.settimeout(TIMEOUT_S)
        proxy.turn(Weather.FINE)
        with pytest.raises(ConnectionResetError):
            connection.recv(1)


def test_answers_may_be_noise_or_never_end(proxy):
    """What the other side has said is not what is heard; but no refusal is heard as success: nobody could know of it."""
    proxy.turn(Weather.GARBAGE)
    with connect(proxy) as connection:
        assert b"hello" != echoed(connection)
    proxy.turn(Weather.ENDLESS)
    with connect(proxy) as connection:
        assert b"hello" == echoed(connection)
        connection.sendall(b"HTTP/1.1 200 OK")
        got = 0
        while got < 1_000_000:
            got += len(connection.recv(65_536))
