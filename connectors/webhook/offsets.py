"""
How far one partition of a lane is done, and what of that must survive a crash: a commit offset and at most 4,095 characters beside it.

The commit is the lowest unfinished offset. Its metadata holds which offsets above it are finished (a bitmap) and, for each partition of
``mutations``, the last origin *below the commit* (the origin vector). A restart reads again from the commit and so comes to the same
decisions about duplicates as the first reading did, because they depend on nothing but the log and that vector.
Pure. Called by lanes.py for every delivery, and by slots.py when a lane is taken over.
Source: docs/explanation/lanes.md; Kafka's ``offset.metadata.max.bytes`` (4,096 by default).
"""

from __future__ import annotations

import zlib
from base64 import b64decode, b64encode
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from enum import Enum, auto

import msgspec

from schemas.positions import Origin

METADATA_CHARS_MAX = 4_095
NAME_BYTES_MAX = 64
SPAN_MAX = 8_192

VERSION = "1"
BYTES_MAX = (METADATA_CHARS_MAX - len(VERSION)) // 4 * 3
HEAD_BYTES_MAX = 1 + NAME_BYTES_MAX + 9 + 3 + 1  # webhook uid, rewind, count of the vector, kind of the bitmap
ORIGIN_BYTES_MAX = 3 + 5 + 9  # partition, epoch and offset as varints of 21, 35 and 63 bits

Vector = Mapping[int, Origin]
"""The last origin from each partition of ``mutations``."""


class BadMetadata(ValueError):
    """The metadata of a commit cannot be read; the message says why."""


class Entry:
    """
    A delivery that was read: the part of it that offsets need. ``origin`` None: it stands in no vector, as replays do.

    Mutable, and the base of the lane's own record of a delivery, because there is one for each delivery on the way.
    """

    __slots__ = ("finished", "offset", "origin")

    def __init__(self, offset: int, origin: Origin | None) -> None:
        self.offset = offset
        self.origin = origin
        self.finished = False


class Seen(Enum):
    """What reading a delivery showed."""

    NEW = auto()
    DUPLICATE = auto()  # its origin is not above the last one of its partition: another writer, or a repeated match
    FINISHED = auto()  # finished before the last restart


class Start(msgspec.Struct, frozen=True):
    """
    Where a lane partition goes on.

    rewind:  the number of the last jump (see ownership.py) that was carried out. moved: it was now, and is not committed yet.
    """

    offset: int = 0
    finished: frozenset[int] = frozenset()
    vector: Vector = {}
    rewind: int = 0
    moved: bool = False


class Offsets:
    """
    One partition of a lane from ``start`` on: feed it what is read, in order, and tell it what is finished, in any order.

    Guarantees:  ``commit`` never passes an unfinished entry; offsets missing in the topic hold nothing up; each call is O(1) amortised.
    """

    def __init__(self, start: Start) -> None:
        self.position = start.offset
        self.rewind = start.rewind
        self.version = int(start.moved)  # grows whenever there may be something new to commit
        self.unfinished = 0
        self._finished = set(start.finished)
        self._below = dict(start.vector)  # the vector as of the commit
        self._seen = dict(start.vector)  # the vector as of the position
        self._window: deque[Entry] = deque()

    @property
    def commit(self) -> int:
        """The lowest unfinished offset; all below are finished."""
        return self._window[0].offset if self._window else self.position

    @property
    def span(self) -> int:
        """How many offsets the metadata's bitmap must cover; to be kept below :func:`span_max`."""
        return self.position - self.commit

    @property
    def window(self) -> Iterable[Entry]:
        """What was read and may hold the commit up, in order; finished ones are among them."""
        return self._window

    def read(self, entry: Entry) -> Seen:
        """
        Take in the next delivery of the log.

        An offset below the position means that the log was cut (the topic lost records): what is there now is read as new, under the
        vector as it is.
        """
        if entry.offset < self.position:
            for lost in self._window:
                lost.finished = True
            self._window.clear()
            self._finished.clear()
            self.unfinished = 0
            self._below = dict(self._seen)
        self.position = entry.offset + 1
        origin = entry.origin
        if origin is not None:
            last = self._seen.get(origin.partition)
            if last is not None and origin <= last:
                self.version += 1
                return Seen.DUPLICATE
            self._seen[origin.partition] = origin
        if self._finished and entry.offset in self._finished:
            self._finished.discard(entry.offset)
            self._append(entry)
            self.finish(entry)
            return Seen.FINISHED
        self._append(entry)
        return Seen.NEW

    @property
    def finished_ahead(self) -> AbstractSet[int]:
        """Offsets not below the position that were finished before the last restart."""
        return self._finished

    def skip_to(self, position: int) -> None:
        """What stands before this offset and was not read is not there any more, and nothing of it is missed."""
        if position > self.position:
            self.position = position
            self.version += 1

    def finish(self, entry: Entry) -> None:
        """The delivery needs nothing more: delivered, or in the dead letters."""
        if entry.finished:
            return  # of a log that was cut
        entry.finished = True
        self.version += 1
        self.unfinished -= 1
        window = self._window
        while window and window[0].finished:
            origin = window.popleft().origin
            if origin is not None:
                self._below[origin.partition] = origin

    def _append(self, entry: Entry) -> None:
        self._window.append(entry)
        self.unfinished += 1

    def metadata(self, webhook_uid: str) -> str:
        """What is committed beside ``commit``; at most METADATA_CHARS_MAX characters as long as span was kept below :func:`span_max`."""
        return encode(webhook_uid, Start(self.commit, frozenset(self._finished_above()), self._below, self.rewind))

    def _finished_above(self) -> Iterator[int]:
        # Finished before the restart and not read again yet: these are still finished.
        yield from self._finished
        for entry in self._window:
            if entry.finished:
                yield entry.offset


def span_max(origin_partitions: int) -> int:
    """
    The span up to which metadata always fits, whatever is finished, with origins from that many partitions.

    Raises:  ValueError: so many partitions that the vector alone would not fit.
    """
    room = BYTES_MAX - HEAD_BYTES_MAX - ORIGIN_BYTES_MAX * origin_partitions
    if room < 1:
        raise ValueError(f"there are {origin_partitions} partitions of mutations, a lane can follow at most {_PARTITIONS_MAX}")
    return min(SPAN_MAX, 8 * room)


_PARTITIONS_MAX = (BYTES_MAX - HEAD_BYTES_MAX - 1) // ORIGIN_BYTES_MAX


def encode(webhook_uid: str, start: Start) -> str:
    """
    A start as the metadata of its commit.

    Finished offsets farther than SPAN_MAX above the commit are left out: such a delivery would be sent again, which is allowed, while
    a commit that is refused would hold up the lane.
    Raises:  ValueError: a uid of more than NAME_BYTES_MAX bytes.
    """
    out = bytearray()
    uid = webhook_uid.encode()
    if len(uid) > NAME_BYTES_MAX:
        raise ValueError(f"{webhook_uid!r} has {len(uid)} bytes, at most {NAME_BYTES_MAX} fit into a commit")
    out.append(len(uid))
    out += uid
    _write(out, start.rewind)
    _write(out, len(start.vector))
    for partition in sorted(start.vector):
        origin = start.vector[partition]
        for number in (partition, origin.epoch, origin.offset):
            _write(out, number)
    out += _bitmap(start.offset, start.finished)
    return VERSION + b64encode(out).decode()


def decode(offset: int, metadata: str, webhook_uid: str) -> Start:
    """
    Where to go on after the commit of ``offset`` with that metadata.

    Raises:  BadMetadata: not ours, damaged, of a newer version, or of another webhook (one of the same name that was deleted).
    """
    if not metadata.startswith(VERSION):
        raise BadMetadata(f"it begins with {metadata[:1]!r}, must be {VERSION!r}")
    try:
        source = memoryview(b64decode(metadata[len(VERSION) :], validate=True))
        uid, source = _name(source)
        rewind, source = _read(source)
        vector, source = _vector(source)
        finished = frozenset(_finished(offset, source))
    except (IndexError, ValueError, zlib.error) as error:  # ValueError: base64, UTF-8
        raise BadMetadata(f"it is damaged: {error}") from error
    if uid != webhook_uid:
        raise BadMetadata(f"it is of webhook {uid}, not of {webhook_uid}")
    return Start(offset, finished, vector, rewind)


RAW, DEFLATED = b"\x00", b"\x01"


def _bitmap(offset: int, finished: Iterable[int]) -> bytes:
    """Bit n: ``offset + n`` is finished."""
    near = [place for found in finished if 0 <= (place := found - offset) < SPAN_MAX]
    raw = bytearray(max(near, default=-1) // 8 + 1)
    for place in near:
        raw[place >> 3] |= 1 << (place & 7)
    deflated = zlib.compress(raw, 1) if raw else b""
    return DEFLATED + deflated if len(deflated) < len(raw) else RAW + bytes(raw)


def _finished(offset: int, source: memoryview) -> Iterator[int]:
    kind, rest = bytes(source[:1]), bytes(source[1:])
    if kind not in (RAW, DEFLATED):
        raise IndexError("no bitmap")
    raw = rest if kind == RAW else zlib.decompressobj().decompress(rest, SPAN_MAX // 8)
    for index, byte in enumerate(raw):
        for bit in range(8):
            if byte >> bit & 1:
                yield offset + index * 8 + bit


def _name(source: memoryview) -> tuple[str, memoryview]:
    end = 1 + source[0]
    if end > len(source):
        raise IndexError("it ends inside a name")
    return str(source[1:end], "utf-8"), source[end:]


def _vector(source: memoryview) -> tuple[dict[int, Origin], memoryview]:
    count, source = _read(source)
    vector = {}
    for _ in range(count):
        partition, source = _read(source)
        epoch, source = _read(source)
        place, source = _read(source)
        vector[partition] = Origin(epoch, partition, place)
    return vector, source


def _write(out: bytearray, number: int) -> None:
    """A varint: seven bits a byte, lowest first."""
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)


def _read(source: memoryview) -> tuple[int, memoryview]:
    number = shift = 0
    for used, byte in enumerate(source, 1):
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, source[used:]
        shift += 7
    raise IndexError("it ends inside a number")
