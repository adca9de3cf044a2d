"""The activity log without a Kafka: fed record by record, for tests of what stands on it; and one that is never there."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import NoReturn

from connectors.activity.database import Session
from connectors.activity.model import ActivityUnavailable, Batch, Projected
from connectors.activity.projection import project_attempts, project_letters
from connectors.activity.recent import Recent
from connectors.activity.sqlite import SqliteDatabase
from connectors.activity.store import Activity
from schemas.positions import Position
from schemas.topics import Record, Topics

KEEP_US = 365 * 86_400_000_000
BYTES_MAX = 2**40


class NoDatabase:
    """A :class:`connectors.activity.database.Database` that cannot be reached."""

    for_update = ""

    def writing(self) -> AbstractContextManager[Session]:
        """Not possible."""
        self._fail()

    def reading(self) -> AbstractContextManager[Session]:
        """Not possible."""
        self._fail()

    def close(self) -> None:
        """Nothing is open."""

    def _fail(self) -> NoReturn:
        raise ActivityUnavailable("the activity log cannot be used now: it is not there")


class FedActivity:
    """
    An activity log in a file, and who projects into it.

    Args:  path: of the file; None: there is no database.
    """

    def __init__(self, topics: Topics, path: Path | None) -> None:
        database = NoDatabase() if path is None else SqliteDatabase(path)
        self.activity = Activity(database, letters_topic=topics.dead_letters.name, keep_us=KEEP_US, bytes_max=BYTES_MAX)
        self.recent = Recent("1")
        self._topics = topics
        self._is_there = path is not None
        for topic in (topics.attempts, topics.dead_letters) if self._is_there else ():
            self.activity.begin(topic.name, "id-1", topic.partitions)

    def feed(self, record: Record, partition: int, offset: int, at_us: int) -> None:
        """What the projector does with a record, at once; those of other topics are none of its business."""
        value = record.value or b""
        if not self._is_there or record.topic not in (self._topics.attempts.name, self._topics.dead_letters.name):
            return
        if record.topic == self._topics.attempts.name:
            item = project_attempts(value)
            self.recent.add(value)
        else:
            item = project_letters(Position(partition, offset), record.key, record.value, dict(record.headers), at_us, self._topics)
        place = (record.topic, partition)
        self.activity.add(Batch([Projected(place, offset, item)], {place: offset + 1}))
