"""
What a batch adds to the tables, within the transaction that also moves the positions. Called by store.py.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec

from connectors.activity.database import Session
from connectors.activity.model import AttemptRow, Letter, Projected
from connectors.activity.ranks import HOUR_US, PLACES, next_rank, started_us
from schemas.dead_letters import Claim, Settled, holding, letter_place
from schemas.positions import Position
from schemas.resends import Resend

ROW_BYTES = 400  # an attempt's columns and its part of the indexes, beside text and record
ATTEMPT_VALUES = "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
INSERT_ATTEMPT = f"INSERT INTO attempts VALUES {ATTEMPT_VALUES} ON CONFLICT DO NOTHING"  # noqa: S608 - no values in it
# SQLite gives up the interpreter's lock once a statement: row by row, two threads would spend their time handing it over.
TOGETHER = 100
INSERT_ATTEMPTS = f"INSERT INTO attempts VALUES {', '.join([ATTEMPT_VALUES] * TOGETHER)} ON CONFLICT DO NOTHING"  # noqa: S608
OF_LETTER = "WHERE place_partition = ? AND place_offset = ?"


def insert(session: Session, fresh: Sequence[Projected]) -> None:
    """Attempts together, for there are many; the others one after the other, for a later one may be about an earlier one."""
    _insert_attempts(session, [one.item for one in fresh if isinstance(one.item, AttemptRow)])
    for one in fresh:
        match one.item:
            case Resend(id=id_, webhook=webhook, deliveries=deliveries, started_us=at_us):
                session.run("INSERT INTO resends VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING", (id_, webhook, deliveries, at_us))
            case Letter() as letter:
                _insert_letter(session, letter)
            case Claim() as claim:
                _claim(session, claim)
            case Settled(letter=id_):
                _settle(session, id_)


def _insert_attempts(session: Session, rows: Sequence[AttemptRow]) -> None:
    if not rows:
        return
    for first in range(0, len(rows), TOGETHER):
        group = rows[first : first + TOGETHER]
        if _insert_together(session, [msgspec.structs.astuple(row) for row in group]) < len(group):
            for row in group:
                _insert_again(session, row)
    sizes: Counter[int] = Counter()
    for row in rows:
        sizes[started_us(row.rank) // HOUR_US] += len(row.record) + len(row.text) + ROW_BYTES
    upsert = "INSERT INTO hours VALUES (?, ?) ON CONFLICT (hour) DO UPDATE SET bytes = hours.bytes + excluded.bytes"
    session.run_each(upsert, sorted(sizes.items()))


def _insert_together(session: Session, values: Sequence[tuple[Any, ...]]) -> int:
    """The number of rows that were not there yet."""
    if len(values) < TOGETHER:
        return session.run_each(INSERT_ATTEMPT, values)
    return session.run(INSERT_ATTEMPTS, list(itertools.chain.from_iterable(values)))


def _insert_again(session: Session, row: AttemptRow) -> None:
    """An attempt that may be missing because another one of its microsecond has its rank."""
    rank = row.rank
    for _ in range(PLACES):
        present = session.rows("SELECT id FROM attempts WHERE rank = ?", (rank,))
        if not present:
            session.run(INSERT_ATTEMPT, msgspec.structs.astuple(msgspec.structs.replace(row, rank=rank)))
            return
        if present[0][0] == row.id:
            return
        rank = next_rank(rank)


def _insert_letter(session: Session, letter: Letter) -> None:
    place = letter.place
    session.run(
        "INSERT INTO dead_letters VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, NULL) ON CONFLICT DO NOTHING",
        (
            place.partition,
            place.offset,
            letter.at_us,
            letter.reason,
            letter.detail,
            letter.source,
            letter.webhook,
            letter.key,
            letter.value,
        ),
    )


def _claim(session: Session, claim: Claim) -> None:
    place = _place(claim.letter)
    found = session.rows(f"SELECT claim FROM dead_letters {OF_LETTER}", place)  # noqa: S608 - no values in it
    if not found:
        return  # settled meanwhile
    present = None if found[0][0] is None else msgspec.json.decode(found[0][0], type=Claim)
    held = msgspec.json.encode(holding(present, claim)).decode()
    session.run(f"UPDATE dead_letters SET claim = ? {OF_LETTER}", (held, *place))  # noqa: S608 - no values in it


def _settle(session: Session, letter: str) -> None:
    session.run(f"DELETE FROM dead_letters {OF_LETTER}", _place(letter))  # noqa: S608 - no values in it


def _place(letter: str) -> tuple[int, int]:
    place = letter_place(letter) or Position(-1, -1)  # no id of a letter: there is none with this place
    return place.partition, place.offset
