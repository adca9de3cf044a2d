"""What one mutation does to a document: the rules of apply."""

import json

import pytest

from schemas.changes import Change, PassedMark
from schemas.errors import Reason
from schemas.keys import partition_of
from schemas.mutations import Mark
from schemas.positions import Origin, Position
from schemas.records import encode_mark
from streams.documents import (
    VIA,
    Changed,
    Dead,
    Document,
    Duplicate,
    Forwarded,
    MutationRecord,
    Passed,
    Progress,
    Unchanged,
    apply,
    apply_all,
    next_txn_id,
)

TAKEN_US = 1_645_472_201_000_000
SUSAN = {"_id": "6213e9c90012e4af0017cb9f", "date": 1645472201, "name": "Susan", "age": 31}


def never(_):
    """No document was ever there."""


def record(mutation, *, offset=0, partition=0, headers=(), key=None):
    value = mutation if isinstance(mutation, bytes | None) else json.dumps(mutation).encode()
    return MutationRecord(Position(partition, offset), key, value, TAKEN_US, headers)


def run(*mutations, documents=None, partitions=1, progress=None):
    """Apply in one batch; give back what came of it."""
    records = [one if isinstance(one, MutationRecord) else record(one, offset=offset) for offset, one in enumerate(mutations)]
    return apply_all(records, progress or Progress(), (documents or {}).get, epoch=0, partitions=partitions)


def upsert(value, **more):
    return {"method": "upsert", "collection": "people", "value": value} | more


def test_the_three_events_of_dittos_text():
    """Create, merge, remove: old and new value, version and txnId as documented."""
    created, merged, removed = run(
        upsert(SUSAN),
        upsert({"ownedCars": 0, "friends": [], "name": "Frank"}, id=SUSAN["_id"]),
        {"method": "remove", "collection": "people", "id": SUSAN["_id"]},
    ).changes
    frank = SUSAN | {"name": "Frank", "ownedCars": 0, "friends": []}
    assert (None, SUSAN) == (created.old, json.loads(created.new))
    assert (SUSAN, frank) == (json.loads(merged.old), json.loads(merged.new))
    assert (frank, None) == (json.loads(removed.old), removed.new)
    assert [1, 2, 3] == [created.version, merged.version, removed.version]
    assert TAKEN_US == created.txn_id < merged.txn_id < removed.txn_id


def test_replace_takes_away_what_it_does_not_name():
    """Only replace removes a property."""
    change = run(upsert(SUSAN), {"method": "replace", "collection": "people", "id": SUSAN["_id"], "value": {"a": None}}).changes[1]
    assert {"_id": SUSAN["_id"], "a": None} == json.loads(change.new)


def test_a_version_goes_on_after_a_remove():
    """A document that comes back does not begin again at 1."""
    remove = {"method": "remove", "collection": "people", "id": SUSAN["_id"]}
    assert [1, 2, 3] == [change.version for change in run(upsert(SUSAN), remove, upsert(SUSAN)).changes]


@pytest.mark.parametrize(
    "second", [upsert(SUSAN), upsert({"age": 31.0}, id=SUSAN["_id"]), upsert({}, id=SUSAN["_id"]), upsert({"_id": SUSAN["_id"]})]
)
def test_a_write_that_changes_nothing_makes_no_change(second):
    """Equal values, not equal bytes."""
    applied = run(upsert(SUSAN), second)
    assert (1, 1) == (len(applied.changes), applied.unchanged)


def test_a_remove_of_what_is_not_there_makes_no_change():
    """Neither of a document that never was nor of one that was removed."""
    remove = {"method": "remove", "collection": "people", "id": SUSAN["_id"]}
    assert 2 == run(remove, upsert(SUSAN), remove, remove).unchanged


def test_a_record_without_a_value_is_a_remove():
    """The key names the document."""
    applied = run(upsert(SUSAN), record(None, offset=1, key=f"people/{SUSAN['_id']}".encode()))
    assert applied.changes[1].new is None


@pytest.mark.parametrize(
    ("before", "if_version", "ok"),
    [([], 0, True), ([upsert(SUSAN)], 0, False), ([upsert(SUSAN)], 1, True), ([upsert(SUSAN)], 2, False), ([], 1, False)],
)
def test_if_version_must_hold(before, if_version, ok):
    """0 means that there must be no document; a conflict is dead-lettered and changes nothing."""
    applied = run(*before, upsert({"x": 1}, id=SUSAN["_id"], ifVersion=if_version))
    assert ([] if ok else [Reason.CONFLICT]) == [dead.reason for _, dead in applied.dead]
    assert len(before) + ok == len(applied.changes)


def test_a_removed_document_counts_as_absent_for_if_version():
    """ifVersion 0 recreates it; its last version does not."""
    remove = {"method": "remove", "collection": "people", "id": SUSAN["_id"]}
    applied = run(upsert(SUSAN), remove, upsert(SUSAN, ifVersion=2), upsert(SUSAN, ifVersion=0))
    assert [Reason.CONFLICT] == [dead.reason for _, dead in applied.dead]
    assert 3 == applied.changes[-1].version


MEBIBYTE = 1024 * 1024


@pytest.mark.parametrize(
    ("value", "reason", "detail"),
    [
        (b"{", Reason.UNDECODABLE, "JSON"),
        (b"", Reason.UNDECODABLE, "JSON"),
        (b'{"method":"upsert","collection":"people","value":{"_id":"1","a":NaN}}', Reason.UNDECODABLE, "JSON"),
        (b'{"method":"upsert","collection":"people","value":{"_id":"1","a":"\\ud800"}}', Reason.UNDECODABLE, "JSON"),
        (b'{"method":"upsert","collection":"people","value":{"_id":"1","a":1,"a":2}}', Reason.UNDECODABLE, "twice"),
        (b"\xc3\x01", Reason.UNKNOWN_SCHEMA, "fingerprint"),
        (b"\xc3\x01" + b"x" * 20, Reason.UNKNOWN_SCHEMA, "fingerprint"),
        (b"\x00\x00\x00\x00\x07rest", Reason.UNKNOWN_SCHEMA, "schema id 7"),
        (b"[]", Reason.INVALID, "object"),
        ({"collection": "people", "value": SUSAN}, Reason.INVALID, "method"),
        (upsert(SUSAN) | {"method": "delete"}, Reason.INVALID, "method"),
        (upsert(SUSAN) | {"method": 3}, Reason.INVALID, "method"),
        (upsert(SUSAN) | {"collection": "1people"}, Reason.INVALID, "collection"),
        (upsert(SUSAN) | {"collection": None}, Reason.INVALID, "collection"),
        (upsert([]), Reason.INVALID, "value"),
        (upsert(None), Reason.INVALID, "value"),
        (upsert({}), Reason.INVALID, "id"),
        (upsert({"_id": 3}), Reason.INVALID, "value._id"),
        (upsert(SUSAN, id="other"), Reason.INVALID, "differ"),
        (upsert(SUSAN, ifVersion=-1), Reason.INVALID, "ifVersion"),
        (upsert(SUSAN, ifVersion=True), Reason.INVALID, "ifVersion"),
        (upsert(SUSAN, metadata=[]), Reason.INVALID, "metadata"),
        (upsert(SUSAN, extra=1), Reason.INVALID, "extra"),
        (upsert(SUSAN, metadata={"a": "x" * 8192}), Reason.TOO_LARGE, "metadata"),
        (upsert({"_id": "1", "a": "x" * MEBIBYTE}), Reason.TOO_LARGE, "document"),
        (None, Reason.INVALID, "key"),
    ],
)
def test_a_bad_record_is_dead_and_the_next_one_is_applied(value, reason, detail):
    """The reason is one of the documented ones, the detail names what is wrong."""
    applied = run(value, upsert(SUSAN))
    assert [reason] == [dead.reason for _, dead in applied.dead]
    assert detail in applied.dead[0][1].detail
    assert 1 == len(applied.changes)


def test_a_document_may_not_grow_too_large_by_merging():
    """Each half fits, both together do not."""
    half = {"_id": "1", "a": "x" * (MEBIBYTE // 2)}
    applied = run(upsert(half), upsert({"_id": "1", "b": "x" * (MEBIBYTE // 2)}))
    assert [Reason.TOO_LARGE] == [dead.reason for _, dead in applied.dead]


def test_a_document_of_one_mebibyte_fits():
    """The limit itself is allowed."""
    value = {"_id": "1", "a": ""}
    value["a"] = "x" * (MEBIBYTE - len(json.dumps(value, separators=(",", ":"))))
    assert MEBIBYTE == len(run(upsert(value)).changes[0].new)


def test_what_was_applied_is_not_applied_again():
    """At or below the last origin there is nothing new."""
    progress = Progress(Origin(0, 0, 5), 1, {})
    applied = run(record(upsert(SUSAN), offset=5), record(upsert(SUSAN), offset=6), progress=progress)
    assert (1, 1) == (applied.duplicates, len(applied.changes))


def test_a_new_epoch_is_above_every_origin_of_the_last():
    """Its offsets begin at 0 and count all the same."""
    progress = Progress(Origin(0, 0, 500), 1, {})
    outcome, _ = apply(record(upsert(SUSAN), offset=0), progress, never, epoch=1, partitions=1)
    assert isinstance(outcome, Changed)


def test_a_mark_goes_on_in_its_place():
    """With the origin where it stood."""
    outcome, progress = apply(record(encode_mark(Mark(7)), offset=3), Progress(), never, epoch=2, partitions=1)
    assert Passed(PassedMark(7, Origin(2, 0, 3))) == outcome
    assert Origin(2, 0, 3) == progress.origin


def elsewhere(partitions=8):
    home = partition_of(f"people/{SUSAN['_id']}".encode(), partitions)
    return home, (home + 1) % partitions


def test_a_mark_that_names_no_offset_is_dead():
    """Anybody can write one."""
    outcome, _ = apply(record(encode_mark(Mark(-1))), Progress(), never, epoch=0, partitions=1)
    assert isinstance(outcome, Dead)


def test_a_record_on_a_wrong_partition_is_sent_on():
    """With the place that it came from."""
    home, wrong = elsewhere()
    outcome, _ = apply(record(upsert(SUSAN), partition=wrong, offset=4), Progress(), never, epoch=0, partitions=8)
    assert isinstance(outcome, Forwarded)
    assert (home, Position(wrong, 4)) == (outcome.partition, outcome.via)


def test_a_record_that_is_wrong_a_second_time_is_dead():
    """It is not sent round and round."""
    _, wrong = elsewhere()
    outcome, _ = apply(record(upsert(SUSAN), partition=wrong, headers=[(VIA, b"3/4")]), Progress(), never, epoch=0, partitions=8)
    assert isinstance(outcome, Dead)
    assert Reason.MISROUTED == outcome.reason


def test_a_forwarded_record_that_a_crash_repeats_brings_no_old_value_back():
    """Only what is above the highest offset of its source partition counts, also when the first time changed nothing."""
    documents: dict[str, Document] = {}
    progress = Progress()
    outcomes = []
    for offset, (value, via) in enumerate([("new", b"1/5"), ("newer", None), ("new", b"1/5"), ("newest", b"1/6")]):
        headers = [] if via is None else [(VIA, via)]
        outcome, progress = apply(
            record(upsert({"_id": "1", "name": value}), offset=offset, headers=headers), progress, documents.get, epoch=0, partitions=1
        )
        outcomes.append(type(outcome))
        if isinstance(outcome, Changed):
            documents[outcome.change.key] = Document(outcome.change.version, outcome.change.new)
    assert [Changed, Changed, Duplicate, Changed] == outcomes
    assert {1: 6} == progress.via


def test_the_vector_of_forwarded_records_goes_into_every_later_change():
    """So the fold knows it again when the store is lost, also if the forwarded record itself made no change."""
    applied = run(upsert(SUSAN), record(upsert(SUSAN), offset=1, headers=[(VIA, b"1/9")]), record(upsert({"_id": "2"}), offset=2))
    assert 1 == applied.unchanged
    assert {1: 9} == applied.changes[-1].via


@pytest.mark.parametrize(
    "via",
    [
        None,
        b"99999999999999999999/1",
        b"1/99999999999999999999",
        b"0/1",
        b"",
        b"1",
        b"a/b",
        b"-1/3",
        b"1/2/3",
        b"9" * 50 + b"/1",
        b"\xff/1",
    ],
)
def test_a_forged_via_is_refused(via):
    """The header must be partition/offset."""
    applied = run(record(upsert(SUSAN), headers=[(VIA, via)]))
    assert [Reason.INVALID] == [dead.reason for _, dead in applied.dead]


@pytest.mark.parametrize(("last", "appended", "expected"), [(0, 16, 19), (0, 19, 19), (19, 5, 27), (26, 5, 27), (19, 100, 107)])
def test_txn_ids_grow_and_name_their_partition(last, appended, expected):
    """The smallest above the last, not before the broker's time, ≡ partition."""
    assert expected == next_txn_id(last, appended, 3, 8)


def test_a_batch_sees_its_own_writes():
    """Two upserts of one document in a batch build on each other."""
    changes = run(upsert({"_id": "1", "a": 1}), upsert({"_id": "1", "b": 2})).changes
    assert all(isinstance(change, Change) for change in changes)
    assert b'{"_id":"1","a":1,"b":2}' == changes[1].new


def test_nothing_is_done_for_an_unchanged_record():
    """The outcome says so."""
    outcome, progress = apply(
        record(upsert({"_id": "1"})), Progress(), {"people/1": Document(3, b'{"_id":"1"}')}.get, epoch=0, partitions=1
    )
    assert isinstance(outcome, Unchanged)
    assert Progress() == progress
