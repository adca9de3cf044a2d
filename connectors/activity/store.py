"""
The activity log itself: takes in what topics say, answers what is asked, forgets what is old. The same on every database.

Each batch is written in one transaction together with the positions that it was read to, and what is below the positions on record is left
out: a repeat, or another process that projects into the same database, adds nothing. Threads may share it; every method blocks and raises
ActivityUnavailable.
"""

from __future__ import annotations

from typing import Any

import msgspec

from connectors.activity.database import Database, Session
from connectors.activity.inserts import insert
from connectors.activity.model import (
    AttemptFilters,
    AttemptPage,
    Batch,
    Letter,
    LetterFilters,
    LetterPage,
    Page,
    Place,
    Progress,
)
from connectors.activity.ranks import HOUR_US, PLACES, first_rank, rank_of, started_us
from connectors.activity.statements import LETTER_BYTES_SHOWN, PROGRESS, UNDELIVERED, AttemptQuery, letter, letters
from schemas.attempts import Attempt
from schemas.dead_letters import Claim
from schemas.positions import Position
from schemas.records import decode_attempt
from schemas.resends import Resend

TRIMMED_MAX = 10_000  # at once, so that the projector never waits long
LETTERS_KEPT_US = 30 * 24 * HOUR_US  # as the topic keeps them


class Activity:
    """
    Args:  letters_topic: of the dead letters. keep_us: how long attempts are kept. bytes_max: how much of them.
    """

    def __init__(self, database: Database, *, letters_topic: str, keep_us: int, bytes_max: int) -> None:
        self._database = database
        self._letters_topic = letters_topic
        self._keep_us = keep_us
        self._bytes_max = bytes_max

    def close(self) -> None:
        """Give up the connections."""
        self._database.close()

    # What comes in.

    def begin(self, topic: str, topic_id: str, partitions: int) -> dict[Place, int]:
        """
        Where to read the topic on.

        A topic that was made anew is read from its start; dead letters of the one before are gone with it.
        """
        with self._database.writing() as session:
            known = {partition: (id_, offset) for partition, id_, offset in _positions(session, topic, self._database.for_update)}
            if any(id_ != topic_id for id_, _ in known.values()):
                session.run("DELETE FROM positions WHERE topic = ?", (topic,))
                if topic == self._letters_topic:
                    session.run("DELETE FROM dead_letters")
                known = {}
            missing = [(topic, partition, topic_id, 0) for partition in range(partitions) if partition not in known]
            session.run_each("INSERT INTO positions VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING", missing)
        return {(topic, partition): known.get(partition, ("", 0))[1] for partition in range(partitions)}

    def add(self, batch: Batch) -> int:
        """Take in a batch; the number of its items that were new."""
        with self._database.writing() as session:
            held: dict[Place, int] = {}
            for topic in sorted({topic for topic, _ in batch.next}):
                held |= {(topic, partition): offset for partition, _, offset in _positions(session, topic, self._database.for_update)}
            fresh = [one for one in batch.items if one.offset >= held.get(one.place, 0)]
            insert(session, fresh)
            moved = [(offset, *place) for place, offset in batch.next.items() if offset > held.get(place, 0)]
            session.run_each("UPDATE positions SET next_offset = ? WHERE topic = ? AND topic_partition = ?", moved)
        return len(fresh)

    def position(self, place: Place) -> int:
        """Everything of this partition below it has been taken in."""
        with self._database.reading() as session:
            found = session.rows("SELECT next_offset FROM positions WHERE topic = ? AND topic_partition = ?", place)
        return int(found[0][0]) if found else 0

    def trim(self, now_us: int) -> bool:
        """Forget some of what is too old or too much; whether there may be more of it."""
        with self._database.writing() as session:
            cut_us = now_us - LETTERS_KEPT_US
            session.run("DELETE FROM dead_letters WHERE at_us < ?", (cut_us,))
            session.run("DELETE FROM resends WHERE started_us < ?", (cut_us,))
            found = session.rows("SELECT min(hour), sum(bytes) FROM hours")
            oldest, size = found[0]
            if oldest is None or ((oldest + 1) * HOUR_US > now_us - self._keep_us and size <= self._bytes_max):
                return False
            below = first_rank((oldest + 1) * HOUR_US)
            gone = session.run(
                "DELETE FROM attempts WHERE rank IN (SELECT rank FROM attempts WHERE rank < ? ORDER BY rank LIMIT ?)", (below, TRIMMED_MAX)
            )
            if gone < TRIMMED_MAX:
                session.run("DELETE FROM hours WHERE hour = ?", (oldest,))
        return True

    # What is asked.

    def attempts(self, filters: AttemptFilters, *, limit: int, before: int | None = None) -> AttemptPage:
        """At most ``limit`` attempts, newest first. before: the cursor of the page before."""
        query = AttemptQuery(filters, before)
        with self._database.reading() as session:
            rows = session.rows(*query.page(limit + 1))
            cursor = rows[limit - 1][0] if len(rows) > limit else None
            if cursor is None and (scanned := query.scanned_to()) is not None and (end := session.rows(*scanned)):
                cursor = end[0][0]
        return Page([decode_attempt(record) for _, record in rows[:limit]], cursor)

    def attempt(self, id_: str) -> Attempt | None:
        """One attempt."""
        rank = rank_of(id_)
        if rank is None:
            return None
        first = first_rank(started_us(rank))
        with self._database.reading() as session:
            rows = session.rows("SELECT record FROM attempts WHERE rank >= ? AND rank < ? AND id = ?", (first, first + PLACES, id_))
        return decode_attempt(rows[0][0]) if rows else None

    def progress(self, id_: str) -> Progress | None:
        """How far a resend is."""
        with self._database.reading() as session:
            found = session.rows("SELECT id, webhook, deliveries, started_us FROM resends WHERE id = ?", (id_,))
            if not found:
                return None
            [(finished, delivered, ended_us)] = session.rows(PROGRESS, (id_,))
        return Progress(Resend(*found[0]), finished, delivered, ended_us)

    def undelivered(self, webhook: str, before_us: int) -> set[str]:
        """The ``webhook-id`` of each delivery whose newest attempt before that time (µs since 1970) was not answered with 2xx."""
        with self._database.reading() as session:
            return {row[0] for row in session.rows(UNDELIVERED, (webhook, first_rank(before_us)))}

    def replayed(self, id_: str) -> int:
        """How many deliveries of a replay were delivered."""
        with self._database.reading() as session:
            return int(session.rows(PROGRESS, (id_,))[0][1])

    def letters(self, filters: LetterFilters, *, limit: int, beyond: Position | None = None, oldest_first: bool = False) -> LetterPage:
        """At most ``limit`` dead letters, with the start of their values. beyond: the last one of the page before."""
        with self._database.reading() as session:
            rows = session.rows(*letters(filters, beyond, limit + 1, oldest_first=oldest_first))
        cursor = rows[limit - 1][1] if len(rows) > limit else None
        return Page([_letter(row) for row in rows[:limit]], cursor)

    def letter(self, place: Position) -> Letter | None:
        """One dead letter."""
        with self._database.reading() as session:
            rows = session.rows(*letter(place))
        return msgspec.structs.replace(_letter(rows[0]), truncated=False) if rows else None


def _positions(session: Session, topic: str, for_update: str) -> list[tuple[Any, ...]]:
    sql = f"SELECT topic_partition, topic_id, next_offset FROM positions WHERE topic = ? ORDER BY topic_partition{for_update}"  # noqa: S608
    return session.rows(sql, (topic,))


def _letter(row: tuple[Any, ...]) -> Letter:
    partition, offset, at_us, reason, detail, source, webhook, key, value, length, claim = row
    return Letter(
        Position(partition, offset), at_us, reason, detail, source, webhook, key, value,
        truncated=(length or 0) > LETTER_BYTES_SHOWN,
        claim=None if claim is None else msgspec.json.decode(claim, type=Claim),
    )  # fmt: skip
