"""
The questions in SQL, as SQLite has it; postgres.py replaces ``?`` and ``instr``, so no literal holds these or ``%``. Pure.

An index answers a filter, or bounds the part that is looked through: at most SCAN_MAX attempts a page, newest first. That keeps every
question short whatever is asked; the next page goes on where this one has stopped looking.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from connectors.activity.model import FAILED, AttemptFilters, LetterFilters
from connectors.activity.ranks import first_rank
from schemas.attempts import Outcome
from schemas.positions import Position

SCAN_MAX = 10_000
LETTER_BYTES_SHOWN = 16 * 1024
OK_STATUSES = range(200, 300)


class Statement(NamedTuple):
    """SQL and its values."""

    sql: str
    values: tuple[Any, ...]


class _Conditions:
    """Conditions joined by AND."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.values: list[Any] = []

    def add(self, sql: str, *values: Any) -> None:
        self.parts.append(sql)
        self.values += values

    @property
    def where(self) -> str:
        return f" WHERE {' AND '.join(self.parts)}" if self.parts else ""


class AttemptQuery:
    """One page of attempts, newest first; ``before``: the rank that the page before has ended at."""

    def __init__(self, filters: AttemptFilters, before: int | None) -> None:
        self._indexed, self._looked_at = _Conditions(), _Conditions()
        self._bound(filters, before)
        self._select(filters)

    def page(self, limit: int) -> Statement:
        """Rank and record of at most ``limit`` attempts."""
        if not self._looked_at.parts:
            sql = f"SELECT rank, record FROM attempts{self._indexed.where} ORDER BY rank DESC LIMIT ?"  # noqa: S608 - no values in it
            return Statement(sql, (*self._indexed.values, limit))
        sql = (
            f"SELECT rank, record FROM (SELECT * FROM attempts{self._indexed.where} ORDER BY rank DESC LIMIT ?) AS newest"  # noqa: S608
            f"{self._looked_at.where} ORDER BY rank DESC LIMIT ?"
        )
        return Statement(sql, (*self._indexed.values, SCAN_MAX, *self._looked_at.values, limit))

    def scanned_to(self) -> Statement | None:
        """The rank that looking has stopped at, or no row when there was nothing more; None: nothing has to be looked at."""
        if not self._looked_at.parts:
            return None
        sql = f"SELECT rank FROM attempts{self._indexed.where} ORDER BY rank DESC LIMIT 1 OFFSET ?"  # noqa: S608 - no values in it
        return Statement(sql, (*self._indexed.values, SCAN_MAX - 1))

    def _bound(self, filters: AttemptFilters, before: int | None) -> None:
        if filters.since_us is not None:
            self._indexed.add("rank >= ?", first_rank(filters.since_us))
        uppers = [rank for rank in (before, None if filters.until_us is None else first_rank(filters.until_us)) if rank is not None]
        if uppers:
            self._indexed.add("rank < ?", min(uppers))

    def _select(self, filters: AttemptFilters) -> None:
        if filters.document is not None:
            self._indexed.add("document = ?", filters.document)
            if filters.webhook is not None:
                self._looked_at.add("webhook = ?", filters.webhook)
        elif filters.webhook is not None:
            self._indexed.add("webhook = ?", filters.webhook)
        self._select_outcomes(filters)
        if filters.status is not None:
            self._looked_at.add("status = ?", filters.status)
        if filters.q is not None:
            self._looked_at.add("instr(text, ?) > 0", filters.q.lower())

    def _select_outcomes(self, filters: AttemptFilters) -> None:
        # Failed attempts have an index of their own, for they are few and asked for most; so have those of them that were the last.
        has_index = filters.document is None
        is_failed = bool(filters.outcomes) and filters.outcomes <= FAILED
        if has_index and filters.outcomes == {Outcome.DEAD}:
            self._indexed.add(f"outcome = '{Outcome.DEAD}'")
            return
        if has_index and (is_failed or (filters.status is not None and filters.status not in OK_STATUSES)):
            self._indexed.add(f"outcome <> '{Outcome.DELIVERED}'")
            if filters.outcomes == FAILED:
                return
        if filters.outcomes and filters.outcomes != frozenset(Outcome):
            marks = ", ".join("?" * len(filters.outcomes))
            self._looked_at.add(f"outcome IN ({marks})", *sorted(filters.outcomes))


LETTER_COLUMNS = "place_partition, place_offset, at_us, reason, detail, source, webhook, key, {value}, length(value), claim"


def letters(filters: LetterFilters, beyond: Position | None, limit: int, *, oldest_first: bool) -> Statement:
    """At most ``limit`` dead letters in the order of their places, or against it, with the start of their values only."""
    order, is_beyond = ("ASC", ">") if oldest_first else ("DESC", "<")
    conditions = _Conditions()
    for column, value in (("reason", filters.reason), ("webhook", filters.webhook)):
        if value is not None:
            conditions.add(f"{column} = ?", value)
    if filters.since_us is not None:
        conditions.add("at_us >= ?", filters.since_us)
    if beyond is not None:
        conditions.add(f"(place_offset, place_partition) {is_beyond} (?, ?)", beyond.offset, beyond.partition)
    columns = LETTER_COLUMNS.format(value=f"substr(value, 1, {LETTER_BYTES_SHOWN})")
    sql = f"SELECT {columns} FROM dead_letters{conditions.where} ORDER BY place_offset {order}, place_partition {order} LIMIT ?"  # noqa: S608
    return Statement(sql, (*conditions.values, limit))


def letter(place: Position) -> Statement:
    """One dead letter, its value whole."""
    columns = LETTER_COLUMNS.format(value="value")
    sql = f"SELECT {columns} FROM dead_letters WHERE place_partition = ? AND place_offset = ?"  # noqa: S608 - no values in it
    return Statement(sql, (place.partition, place.offset))


UNDELIVERED = """
SELECT delivery_id FROM attempts WHERE webhook = ? AND rank < ? GROUP BY delivery_id
HAVING max(rank) > max(CASE WHEN outcome = 'delivered' THEN rank ELSE -1 END)
"""
PROGRESS = """
SELECT count(DISTINCT delivery_id), count(DISTINCT CASE WHEN outcome = 'delivered' THEN delivery_id END), max(ended_us)
FROM attempts WHERE replay = ? AND outcome <> 'retry'
"""
