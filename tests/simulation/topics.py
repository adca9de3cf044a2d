"""What outlives a process in the simulation: partitions, and the store of documents."""

from __future__ import annotations

from dataclasses import dataclass, field

from streams.documents import Document, Progress
from streams.state import Meta, Stored

DEAD_LETTERS = "dead-letters"
Record = tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]


@dataclass
class Log:
    """One partition: (key, value, headers), and whatever compaction took away as None."""

    records: list[tuple[bytes | None, bytes | None, list[tuple[str, bytes]]] | None] = field(default_factory=list)

    start: int = 0
    removed: dict[int, tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]] = field(default_factory=dict)

    def remove(self, before: int) -> None:
        """What retention does: nothing before this offset is kept."""
        for offset in range(self.start, before):
            record = self.records[offset]
            if record is not None:
                self.removed[offset] = record
            self.records[offset] = None
        self.start = max(self.start, before)

    def append(self, key, value, headers=()) -> int:
        self.records.append((key, value, list(headers)))
        return len(self.records) - 1

    def compact(self, keep_from: int) -> None:
        """Keep only the last record of each key below ``keep_from``; what is above is too young to be looked at."""
        old = enumerate(self.records[:keep_from])
        last = {record[0]: offset for offset, record in old if record is not None}
        for offset in range(min(keep_from, len(self.records))):
            record = self.records[offset]
            if record is not None and last[record[0]] != offset:
                self.records[offset] = None


class MemoryDocuments:
    """The document store's fold in a dictionary; what survives a crash is a copy."""

    def __init__(self) -> None:
        self.rows: dict[str, Stored] = {}
        self.meta = Meta("topic")

    def document(self, key: str) -> Document | None:
        row = self.rows.get(key)
        return None if row is None else row.document

    def stored(self, key: str) -> Stored | None:
        return self.rows.get(key)

    def write(self, changes, progress: Progress, position: int) -> None:
        for change, offset in changes:
            self.rows[change.key] = Stored(Document(change.version, change.new), offset)
        self.meta = Meta("topic", position=position, progress=progress)

    fold = write

    def copy(self) -> MemoryDocuments:
        """What another process finds."""
        copy = MemoryDocuments()
        copy.rows, copy.meta = dict(self.rows), self.meta
        return copy
