"""The activity log of the API role: the database that the settings name, and the projector that fills it."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path

from connectors.activity.database import Database
from connectors.activity.projector import Projector
from connectors.activity.recent import Recent
from connectors.activity.sqlite import SqliteDatabase
from connectors.activity.store import Activity
from livehook.process import Fail
from livehook.settings import Settings
from schemas.durations import seconds
from schemas.errors import Fatal
from schemas.topics import Topics

FILE = "activity/attempts.sqlite3"
MIB = 1024 * 1024


def open_activity(settings: Settings, topics: Topics, folder: Path) -> Activity:
    """
    The activity log; nothing is opened before it is first used.

    Raises:  Fatal: PostgreSQL is wanted, and its driver is not installed.
    """
    return Activity(
        _database(settings.activity_url, folder),
        letters_topic=topics.dead_letters.name,
        keep_us=int(seconds(settings.activity_keep) * 1_000_000),
        bytes_max=settings.activity_mib_max * MIB,
    )


def _database(url: str | None, folder: Path) -> Database:
    if url is None:
        return SqliteDatabase(folder / FILE)
    try:
        from connectors.activity.postgres import PostgresDatabase
    except ImportError as error:
        raise Fatal(f"activity_url needs PostgreSQL's driver ({error}): pip install 'livehook[postgresql]'") from error
    return PostgresDatabase(url)


def new_recent() -> Recent:
    """A list of recent attempts, told from every other one."""
    return Recent(secrets.token_hex(4))


def new_projector(
    settings: Settings, topics: Topics, activity: Activity, recent: Recent, *, now_us: Callable[[], int], fail: Fail
) -> Projector:
    """What fills both."""
    return Projector(settings.kafka(), topics, activity, now_us=now_us, on_attempt=recent.add, fail=fail)
