"""The activity log in PostgreSQL: shared by several API processes, each of which may project."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import psycopg

from connectors.activity.database import READ_S_MAX
from connectors.activity.migrations import statements_after
from connectors.activity.model import ActivityUnavailable
from schemas.errors import Fatal

CONNECT_S_MAX = 10
WRITE_S_MAX = 60.0
MIGRATION_LOCK = 7_303_014_001  # any number that other programs on the same server are unlikely to use
WORDS = {"integer": "BIGINT", "key": "BIGINT PRIMARY KEY", "bytes": "BYTEA"}

Connection = psycopg.Connection[tuple[Any, ...]]


class PostgresSession:
    """See :class:`connectors.activity.database.Session`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """What a question finds."""
        return self._connection.execute(_translated(sql), values).fetchall()

    def run(self, sql: str, values: Sequence[Any] = ()) -> int:
        """Do one thing."""
        return self._connection.execute(_translated(sql), values).rowcount

    def run_each(self, sql: str, values: Sequence[Sequence[Any]]) -> int:
        """Do it for each of the values, in one round trip or few."""
        with self._connection.cursor() as cursor:
            cursor.executemany(_translated(sql), values)
            return cursor.rowcount


class PostgresDatabase:
    """
    See :class:`connectors.activity.database.Database`. A connection that was lost is opened again the next time.

    Args:  url: ``postgresql://…``; never shown.
    """

    for_update = " FOR UPDATE"

    def __init__(self, url: str) -> None:
        self._url = url
        self._connections: dict[str, Connection] = {}
        self._locks = {"read": threading.Lock(), "write": threading.Lock()}

    @contextlib.contextmanager
    def writing(self) -> Iterator[PostgresSession]:
        """A transaction that is committed at the end of the block."""
        with self._session("write", WRITE_S_MAX) as session:
            yield session

    @contextlib.contextmanager
    def reading(self) -> Iterator[PostgresSession]:
        """A transaction that only reads."""
        with self._session("read", READ_S_MAX) as session:
            yield session

    def close(self) -> None:
        """Give up the connections."""
        for name, lock in self._locks.items():
            with lock:
                self._forget(name)

    @contextlib.contextmanager
    def _session(self, name: str, timeout_s: float) -> Iterator[PostgresSession]:
        with self._locks[name]:
            try:
                connection = self._connected(name, timeout_s)
                with connection.transaction():
                    yield PostgresSession(connection)
            except (psycopg.OperationalError, psycopg.InterfaceError) as error:
                self._forget(name)
                raise ActivityUnavailable(f"the activity log cannot be used now: {_line(error)}") from error

    def _connected(self, name: str, timeout_s: float) -> Connection:
        if name not in self._connections:
            connection = psycopg.connect(self._url, autocommit=True, connect_timeout=CONNECT_S_MAX, application_name="livehook")
            try:
                connection.execute("SELECT set_config('statement_timeout', %s, false)", (f"{int(timeout_s * 1_000)}",))
                _migrate(connection)
            except BaseException:
                connection.close()
                raise
            self._connections[name] = connection
        return self._connections[name]

    def _forget(self, name: str) -> None:
        if (connection := self._connections.pop(name, None)) is not None:
            connection.close()


def _migrate(connection: Connection) -> None:
    with connection.transaction():
        connection.execute("SET LOCAL statement_timeout = 0")  # an index on all there is takes as long as it takes
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (MIGRATION_LOCK,))  # two processes may start at once
        connection.execute("CREATE TABLE IF NOT EXISTS livehook_migrations (version INTEGER PRIMARY KEY)")
        [(version,)] = connection.execute("SELECT coalesce(max(version), 0) FROM livehook_migrations").fetchall()
        try:
            migrations = statements_after(version, WORDS)
        except ValueError as error:
            raise Fatal(str(error)) from error
        for number, migration in enumerate(migrations, version + 1):
            for statement in migration:
                connection.execute(statement)
            connection.execute("INSERT INTO livehook_migrations VALUES (%s)", (number,))


def _translated(sql: str) -> str:
    return sql.replace("?", "%s").replace("instr(", "strpos(")


def _line(error: Exception) -> str:
    """The error without what it says of the address, which may hold a password."""
    return type(error).__name__ if isinstance(error, psycopg.OperationalError) and error.sqlstate is None else " ".join(str(error).split())
