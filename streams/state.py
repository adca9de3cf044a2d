"""
The document store: a folder a partition, in RocksDB, and only a cache of a fold over ``changes``.

The fold keeps, for each document, the change with the highest version; so whoever reads ``changes`` from the start, in whatever way two
owners interleaved, ends with the same documents. Losing a folder costs the time to read the topic again, nothing else. Written and read
by the documents agent alone.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection
from pathlib import Path
from struct import Struct

import msgspec
from rocksdict import AccessType, BlockBasedOptions, Cache, DBCompressionType, Options, Rdict, WriteBatch, WriteBufferManager

from schemas.changes import Change, PassedMark
from schemas.errors import Fatal
from streams.documents import Document, Progress

FORMAT = 1
META = b"\x00meta"
_HEAD = Struct("<BQQ")  # 1: there is a value; version; offset of its change in `changes`

WRITE_BUFFER_BYTES = 4 * 1024 * 1024
WRITE_BUFFERS_BYTES_MAX = 24 * 1024 * 1024  # of all partitions of a process
CACHE_BYTES = 32 * 1024 * 1024

_cache = Cache(CACHE_BYTES)
_write_buffers = WriteBufferManager(WRITE_BUFFERS_BYTES_MAX, allow_stall=False)


class Meta(msgspec.Struct, frozen=True):
    """
    What a folder knows of itself.

    topic_id:   of the ``changes`` topic that it is a fold of.
    position:   the offset in ``changes`` up to which it is folded.
    documents:  how many there are.
    """

    topic_id: str
    format: int = FORMAT
    position: int = 0
    progress: Progress = Progress()
    documents: int = 0


class Stored(msgspec.Struct, frozen=True, gc=False):
    """A document, and where its newest change stands in ``changes``."""

    document: Document
    offset: int


class Documents:
    """
    The documents of one partition.

    Raises:  Fatal: another process has the folder open.
    """

    def __init__(self, folder: Path, topic_id: str) -> None:
        self._folder = folder
        self._rows = _open(folder)
        self.meta = self._read_meta(topic_id)
        if self.meta.topic_id != topic_id or self.meta.format != FORMAT:
            self._clear(topic_id)

    def document(self, key: str) -> Document | None:
        """The document of a key; None: there never was one."""
        row = self._rows.get(key.encode())
        return None if row is None else _document(row)

    def stored(self, key: str) -> Stored | None:
        """The document of a key and the place of its newest change."""
        row = self._rows.get(key.encode())
        return None if row is None else Stored(_document(row), _HEAD.unpack_from(row)[2])

    def write(self, changes: Collection[tuple[Change, int]], progress: Progress, position: int) -> None:
        """
        Take in the changes that this partition's owner made, with their offsets, all or none.

        Args:  changes: in the order of the topic; each one's old value is the document that is here.
        """
        grown = sum((change.new is not None) - (change.old is not None) for change, _ in changes)
        self._put(changes, progress, position, self.meta.documents + grown)

    def fold(self, changes: Collection[tuple[Change, int]], progress: Progress, position: int) -> None:
        """Take in changes that were read from the topic, one a document: the one before may be another than its old value."""
        grown = sum((change.new is not None) - self._is_there(change.key) for change, _ in changes)
        self._put(changes, progress, position, self.meta.documents + grown)

    def _put(self, changes: Collection[tuple[Change, int]], progress: Progress, position: int, documents: int) -> None:
        batch = WriteBatch(raw_mode=True)
        for change, offset in changes:
            row = _HEAD.pack(change.new is not None, change.version, offset)
            batch.put(change.key.encode(), row if change.new is None else row + change.new)
        meta = Meta(self.meta.topic_id, FORMAT, position, progress, documents)
        batch.put(META, msgspec.msgpack.encode(meta))
        self._rows.write(batch)
        self.meta = meta

    def _is_there(self, key: str) -> bool:
        document = self.document(key)
        return document is not None and document.value is not None

    def close(self) -> None:
        """Flush and let go of the folder."""
        self._rows.close()

    def _read_meta(self, topic_id: str) -> Meta:
        row = self._rows.get(META)
        if row is None:
            return Meta(topic_id)
        try:
            return msgspec.msgpack.decode(row, type=Meta)
        except msgspec.MsgspecError:
            return Meta(topic_id="", format=0)  # written by another version: fold again

    def _clear(self, topic_id: str) -> None:
        self._rows.close()
        shutil.rmtree(self._folder)
        self._rows = _open(self._folder)
        self.meta = Meta(topic_id)


def _open(folder: Path) -> Rdict:
    folder.mkdir(parents=True, exist_ok=True)
    try:
        return Rdict(str(folder), _options(), access_type=AccessType.read_write())
    except Exception as error:  # rocksdict raises a bare Exception
        raise Fatal(f"the document store {folder} cannot be opened: {error}. Does another streams process use the same --dir?") from error


def _options() -> Options:
    options = Options(raw_mode=True)
    options.create_if_missing(create_if_missing=True)
    options.set_write_buffer_size(WRITE_BUFFER_BYTES)
    options.set_write_buffer_manager(_write_buffers)
    options.set_max_write_buffer_number(2)
    options.set_max_background_jobs(1)
    options.set_max_open_files(64)
    options.set_keep_log_file_num(2)
    options.set_max_log_file_size(1024 * 1024)
    options.set_compression_type(DBCompressionType.lz4())
    table = BlockBasedOptions()
    table.set_block_cache(_cache)
    table.set_bloom_filter(10, block_based=False)
    options.set_block_based_table_factory(table)
    return options


def _document(row: bytes) -> Document:
    there, version, _ = _HEAD.unpack_from(row)
    return Document(version, row[_HEAD.size :] if there else None)


class Fold:
    """
    Brings a store up to date from ``changes``; finds what has to be written again so that compaction keeps the newest.

    A change that stands *behind* a newer one of its document (a former owner's late write) would survive compaction in its place.
    """

    def __init__(self, documents: Documents) -> None:
        self._documents = documents
        self._progress = documents.meta.progress
        self._fresh: dict[str, tuple[Change, int]] = {}
        self.behind: dict[str, int] = {}
        """Documents whose newest change is followed by an older copy, with the offset of the newest."""
        self._copies: dict[str, int] = {}

    def take(self, record: Change | PassedMark, offset: int) -> None:
        """One record of ``changes``, in the order of the topic."""
        before = self._progress
        origin = record.origin if before.origin is None else max(before.origin, record.origin)
        if isinstance(record, PassedMark):
            self._progress = msgspec.structs.replace(before, origin=origin)
            return
        via = before.via
        if record.via:
            via = dict(via)
            for partition, forwarded in record.via.items():
                via[partition] = max(via.get(partition, -1), forwarded)
        self._progress = Progress(origin, max(before.txn_id, record.txn_id), via)
        self._keep_newest(record, offset)

    def _keep_newest(self, change: Change, offset: int) -> None:
        key = change.key
        version, at = self._known(key)
        if change.version < version:
            self.behind[key] = at
            self._copies.setdefault(key, offset)
            return
        self.behind.pop(key, None)
        self._copies.pop(key, None)
        self._fresh[key] = (change, offset)

    def _known(self, key: str) -> tuple[int, int]:
        if key in self._fresh:
            change, offset = self._fresh[key]
            return change.version, offset
        stored = self._documents.stored(key)
        return (0, -1) if stored is None else (stored.document.version, stored.offset)

    def write(self, position: int) -> None:
        """
        Put into the store what was taken so far; ``position``: the next offset to read.

        The store itself goes no further than the first older copy: who dies before the newest was written again finds it again.
        """
        self._documents.fold(self._fresh.values(), self._progress, min([position, *self._copies.values()]))
        self._fresh.clear()
