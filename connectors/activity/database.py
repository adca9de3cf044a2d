"""The seam between the activity log and a database: what store.py needs of either. Every method raises ActivityUnavailable."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol


class Session(Protocol):
    """One transaction. Placeholders in SQL are ``?``."""

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """What a question finds; bytes come as bytes."""
        ...

    def run(self, sql: str, values: Sequence[Any] = ()) -> int:
        """Do one thing; the number of rows that it changed."""
        ...

    def run_each(self, sql: str, values: Sequence[Sequence[Any]]) -> int:
        """Do it for each of the values; the number of rows changed in all."""
        ...


class Database(Protocol):
    """Threads may share it; the tables are made when it is first used."""

    for_update: str  # what a SELECT ends with to hold its rows until the transaction ends

    def writing(self) -> AbstractContextManager[Session]:
        """A transaction that is committed at the end of the block, or undone when an exception leaves it."""
        ...

    def reading(self) -> AbstractContextManager[Session]:
        """A transaction that only reads, and ends after READ_S_MAX."""
        ...

    def close(self) -> None:
        """Give up the connections."""
        ...


READ_S_MAX = 5.0
