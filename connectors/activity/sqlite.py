"""The activity log in a SQLite file: the default, for one API process or several on one machine."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from connectors.activity.database import READ_S_MAX
from connectors.activity.migrations import statements_after
from connectors.activity.model import ActivityUnavailable
from schemas.errors import Fatal

BUSY_S_MAX = 10.0
PAGE_BYTES = 8_192
CACHE_KIB = 64 * 1024
MAPPED_BYTES = 4 * 1024**3
# 128 MiB between two checkpoints: each batch touches most pages of the index on documents, and a checkpoint writes each of them once.
WAL_PAGES = 16_384
STEPS_BETWEEN_LOOKS = 10_000
WORDS = {"integer": "INTEGER", "key": "INTEGER PRIMARY KEY", "bytes": "BLOB"}


class SqliteSession:
    """See :class:`connectors.activity.database.Session`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """What a question finds."""
        return self._connection.execute(sql, values).fetchall()

    def run(self, sql: str, values: Sequence[Any] = ()) -> int:
        """Do one thing."""
        return self._connection.execute(sql, values).rowcount

    def run_each(self, sql: str, values: Sequence[Sequence[Any]]) -> int:
        """Do it for each of the values."""
        return self._connection.executemany(sql, values).rowcount


class SqliteDatabase:
    """
    See :class:`connectors.activity.database.Database`. One connection writes, another one reads: neither waits for the other (WAL).

    Args:  path: of the file; its folder is made.
    """

    for_update = ""  # the transaction holds the whole file anyway

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connections: dict[str, sqlite3.Connection] = {}
        self._locks = {"read": threading.Lock(), "write": threading.Lock()}

    @contextlib.contextmanager
    def writing(self) -> Iterator[SqliteSession]:
        """A transaction that is committed at the end of the block."""
        with self._locks["write"], _mapped():
            connection = self._connected("write")
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield SqliteSession(connection)
                connection.execute("COMMIT")
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")

    @contextlib.contextmanager
    def reading(self) -> Iterator[SqliteSession]:
        """A transaction that only reads."""
        with self._locks["read"], _mapped():
            connection = self._connected("read")
            until = time.monotonic() + READ_S_MAX
            connection.set_progress_handler(lambda: time.monotonic() > until, STEPS_BETWEEN_LOOKS)
            connection.execute("BEGIN")
            try:
                yield SqliteSession(connection)
            finally:
                connection.set_progress_handler(None, 0)
                connection.execute("ROLLBACK")

    def close(self) -> None:
        """Give up the connections."""
        for name, lock in self._locks.items():
            with lock:
                if (connection := self._connections.pop(name, None)) is not None:
                    connection.close()

    def _connected(self, name: str) -> sqlite3.Connection:
        if name not in self._connections:
            self._connections[name] = self._opened()
        return self._connections[name]

    def _opened(self) -> sqlite3.Connection:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ActivityUnavailable(f"{self._path.parent} cannot be made: {error.strerror}") from error
        connection = sqlite3.connect(self._path, timeout=BUSY_S_MAX, isolation_level=None, check_same_thread=False)
        try:
            for pragma in (
                f"page_size = {PAGE_BYTES}",
                "journal_mode = WAL",
                "synchronous = NORMAL",  # a power cut may take the last batches with it; their positions go with them
                f"cache_size = -{CACHE_KIB}",
                f"mmap_size = {MAPPED_BYTES}",
                f"wal_autocheckpoint = {WAL_PAGES}",
            ):
                connection.execute(f"PRAGMA {pragma}")
            _migrate(connection)
        except BaseException:
            connection.close()
            raise
        return connection


def _migrate(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        [version] = connection.execute("PRAGMA user_version").fetchone()
        for number, migration in enumerate(statements_after(version, WORDS), version + 1):
            for statement in migration:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {number}")
        connection.execute("COMMIT")
    except ValueError as error:
        raise Fatal(str(error)) from error
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


@contextlib.contextmanager
def _mapped() -> Iterator[None]:
    """SQLite's errors as ours; what is wrong in our own SQL stays what it is."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise ActivityUnavailable(f"the activity log cannot be used now: {error}") from error
