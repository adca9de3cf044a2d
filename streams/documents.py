"""
From mutations to changes: what one record of ``mutations`` does to its partition's documents.

Pure: no I/O, no clock, no randomness. Given the same documents, progress and record the result is the same bytes, in every process and
every version of the program; that is what stands in for transactions (docs/decisions/0002-determinism-instead-of-transactions.md). Called
by the documents agent, the simulation and the golden log.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgspec

from schemas import strict_json
from schemas.changes import Change, PassedMark
from schemas.codec import SchemaById
from schemas.errors import BadRecord, Reason
from schemas.keys import key_of, partition_of
from schemas.mutations import Mark, Method, Mutation, check_document_size
from schemas.positions import Origin, Position
from schemas.records import decode_mutation
from schemas.topics import PARTITIONS_MAX

VIA = "livehook-via"
_PLACE = re.compile(rb"([0-9]{1,9})/([0-9]{1,19})")


class Document(msgspec.Struct, frozen=True, gc=False):
    """A document as its last change left it; ``value`` None: removed, and only its version lives on."""

    version: int
    value: bytes | None


class Progress(msgspec.Struct, frozen=True):
    """
    How far a partition's fold has come; all of it is in the last change.

    origin:  of the last change or mark; nothing at or below it is applied again. None: nothing yet.
    via:     for each partition that forwarded records to this one, the highest offset applied.
    """

    origin: Origin | None = None
    txn_id: int = 0
    via: dict[int, int] = {}


class MutationRecord(msgspec.Struct, frozen=True, gc=False):
    """One record of ``mutations`` as the broker gave it; ``appended_us`` is the broker's clock, µs since 1970."""

    position: Position
    key: bytes | None
    value: bytes | None
    appended_us: int
    headers: Sequence[tuple[str, bytes | None]] = ()


class Changed(msgspec.Struct, frozen=True, gc=False):
    """The document has a new value."""

    change: Change


class Passed(msgspec.Struct, frozen=True, gc=False):
    """A mark goes on to ``changes``, in its place."""

    mark: PassedMark


class Forwarded(msgspec.Struct, frozen=True, gc=False):
    """The record belongs to another partition and is sent on there."""

    mutation: Mutation
    partition: int
    via: Position


class Dead(msgspec.Struct, frozen=True, gc=False):
    """The record cannot be applied, ever."""

    reason: Reason
    detail: str


class Unchanged:
    """Nothing is different: the same values again, or a remove of what is not there."""


class Duplicate:
    """Applied before: at or below the last origin, or forwarded twice."""


Outcome = Changed | Passed | Forwarded | Dead | Unchanged | Duplicate
UNCHANGED = Unchanged()
DUPLICATE = Duplicate()


def apply(
    record: MutationRecord,
    progress: Progress,
    document_of: Callable[[str], Document | None],
    *,
    epoch: int,
    partitions: int,
    schema_by_id: SchemaById | None = None,
) -> tuple[Outcome, Progress]:
    """
    What one record does.

    Args:     document_of: the document of a key as all records before this one left it; None: there never was one.
    Returns:  what came of it, and the progress after it.
    """
    position = record.position
    origin = Origin(epoch, position.partition, position.offset)
    if progress.origin is not None and origin <= progress.origin:
        return DUPLICATE, progress
    try:
        mutation = decode_mutation(record.key, record.value, schema_by_id)
        if isinstance(mutation, Mark):
            return Passed(PassedMark(mutation.webhooks, origin, mutation.ends)), msgspec.structs.replace(progress, origin=origin)
        key = key_of(mutation.collection, mutation.id)
        document = document_of(key)
        source = _source(record.headers, position.partition)
        # A document that is here belongs here: the hash is only for new ones.
        home = position.partition if document is not None else partition_of(key.encode(), partitions)
        if home != position.partition:
            if source is not None:
                raise BadRecord(Reason.MISROUTED, f"sent on from {source.partition}/{source.offset}, yet it belongs to partition {home}")
            return Forwarded(mutation, home, position), progress
        if source is not None:
            if progress.via.get(source.partition, -1) >= source.offset:
                return DUPLICATE, progress
            progress = msgspec.structs.replace(progress, via={**progress.via, source.partition: source.offset})
        return _change(mutation, document, progress, origin, record.appended_us, partitions)
    except BadRecord as error:
        return Dead(error.reason, error.detail), progress


def _change(
    mutation: Mutation, document: Document | None, progress: Progress, origin: Origin, appended_us: int, partitions: int
) -> tuple[Outcome, Progress]:
    old = None if document is None else document.value
    version = 0 if document is None else document.version
    _check_version(mutation, version if old is not None else 0)
    new = _new_value(mutation, old)
    if new == old:
        return UNCHANGED, progress
    txn_id = next_txn_id(progress.txn_id, appended_us, origin.partition, partitions)
    change = Change(mutation.collection, mutation.id, txn_id, version + 1, old, new, origin, appended_us, progress.via, mutation.metadata)
    return Changed(change), Progress(origin, txn_id, progress.via)


def _check_version(mutation: Mutation, version: int) -> None:
    wanted = mutation.if_version
    if wanted is not None and wanted != version:
        there = f"the document has version {version}" if version else "there is no document"
        raise BadRecord(Reason.CONFLICT, f"ifVersion is {wanted}, but {there}")


def _new_value(mutation: Mutation, old: bytes | None) -> bytes | None:
    """The document afterwards; the same object as ``old`` when no value is different."""
    if mutation.method is Method.REMOVE:
        return None
    given = mutation.value or b"{}"  # any method but remove has a value: schemas.mutations
    if old is None:
        return given
    if mutation.method is Method.REPLACE:
        return old if strict_json.equal(old, given) else given
    merged = strict_json.merge(old, given)
    if merged is None:
        return old
    check_document_size(merged)
    return merged


def next_txn_id(last: int, appended_us: int, partition: int, partitions: int) -> int:
    """
    The smallest number above ``last``, not below the broker's time, and ≡ partition (mod partitions).

    Guarantees:  unique over all partitions, growing in each, < 2^53 until the year 2255.
    """
    least = max(last + 1, appended_us)
    return least + (partition - least) % partitions


def _source(headers: Sequence[tuple[str, bytes | None]], own: int) -> Position | None:
    """Where a forwarded record came from; anybody can write the header, so nothing is believed that cannot be."""
    for name, value in headers or ():
        if name == VIA:
            match = _PLACE.fullmatch(value or b"")
            if match is None or int(match[1]) == own or int(match[1]) >= PARTITIONS_MAX or int(match[2]) >= 2**63:
                raise BadRecord(Reason.INVALID, f"header {VIA} is {(value or b'')[:40]!r}, must be another partition/offset")
            return Position(int(match[1]), int(match[2]))
    return None


@dataclass(slots=True)
class Applied:
    """What a batch of records of one partition comes to, in their order."""

    progress: Progress
    dead: list[tuple[MutationRecord, Dead]] = field(default_factory=list)
    forwarded: list[Forwarded] = field(default_factory=list)
    changes: list[Change | PassedMark] = field(default_factory=list)
    unchanged: int = 0
    duplicates: int = 0


def apply_all(
    records: Sequence[MutationRecord],
    progress: Progress,
    document_of: Callable[[str], Document | None],
    *,
    epoch: int,
    partitions: int,
    schema_by_id: SchemaById | None = None,
) -> Applied:
    """:func:`apply` for each record, each of which sees what those before it did."""
    applied = Applied(progress)
    written: dict[str, Document] = {}

    def latest(key: str) -> Document | None:
        return written.get(key) or document_of(key)

    for record in records:
        outcome, applied.progress = apply(record, applied.progress, latest, epoch=epoch, partitions=partitions, schema_by_id=schema_by_id)
        if isinstance(outcome, Changed):
            change = outcome.change
            written[change.key] = Document(change.version, change.new)
            applied.changes.append(change)
        elif isinstance(outcome, Unchanged):
            applied.unchanged += 1
        elif isinstance(outcome, Duplicate):
            applied.duplicates += 1
        elif isinstance(outcome, Forwarded):
            applied.forwarded.append(outcome)
        elif isinstance(outcome, Passed):
            applied.changes.append(outcome.mark)
        else:
            applied.dead.append((record, outcome))
    return applied
