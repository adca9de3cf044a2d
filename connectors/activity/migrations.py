"""
How the tables came to be: each entry is applied once, in order, and never changed afterwards; a change is a new entry at the end.

The words in braces differ between databases. The indexes on ``webhook`` and ``document`` end in the rank: SQLite adds it to every index by
itself, for it is the row's number there, PostgreSQL must be told.
"""

from __future__ import annotations

from collections.abc import Mapping

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE positions (
            topic TEXT NOT NULL, topic_partition INTEGER NOT NULL, topic_id TEXT NOT NULL, next_offset {integer} NOT NULL,
            PRIMARY KEY (topic, topic_partition))""",
        """CREATE TABLE attempts (
            rank {key}, id TEXT NOT NULL, webhook TEXT NOT NULL, document TEXT NOT NULL, outcome TEXT NOT NULL, status INTEGER,
            replay TEXT, delivery_id TEXT NOT NULL, ended_us {integer} NOT NULL, text TEXT NOT NULL, record {bytes} NOT NULL)""",
        "CREATE INDEX attempts_webhook ON attempts (webhook, rank)",
        "CREATE INDEX attempts_document ON attempts (document, rank)",
        "CREATE INDEX attempts_failed ON attempts (rank) WHERE outcome <> 'delivered'",
        "CREATE INDEX attempts_webhook_failed ON attempts (webhook, rank) WHERE outcome <> 'delivered'",
        "CREATE INDEX attempts_replay ON attempts (replay, delivery_id) WHERE replay IS NOT NULL",
        "CREATE TABLE hours (hour {key}, bytes {integer} NOT NULL)",
        "CREATE TABLE resends (id TEXT PRIMARY KEY, webhook TEXT, deliveries {integer} NOT NULL, started_us {integer} NOT NULL)",
        """CREATE TABLE dead_letters (
            place_partition INTEGER NOT NULL, place_offset {integer} NOT NULL, at_us {integer} NOT NULL, reason TEXT NOT NULL,
            detail TEXT NOT NULL, source TEXT NOT NULL, webhook TEXT, key {bytes}, value {bytes}, claim TEXT,
            PRIMARY KEY (place_offset, place_partition))""",
        "CREATE INDEX dead_letters_reason ON dead_letters (reason, place_offset)",
        "CREATE INDEX dead_letters_webhook ON dead_letters (webhook, place_offset)",
    ),
    (
        "CREATE INDEX attempts_dead ON attempts (rank) WHERE outcome = 'dead'",
        "CREATE INDEX attempts_webhook_dead ON attempts (webhook, rank) WHERE outcome = 'dead'",
    ),
)


def statements_after(version: int, words: Mapping[str, str]) -> list[list[str]]:
    """
    What is to be done to a database of that version, migration by migration.

    Raises:  ValueError: a newer Livehook has made it.
    """
    if version > len(MIGRATIONS):
        raise ValueError(f"the activity log is of version {version}, this Livehook knows {len(MIGRATIONS)}: use a newer one")
    return [[statement.format_map(words) for statement in migration] for migration in MIGRATIONS[version:]]
