"""Invariants of apply and of the fold over changes, for random histories."""

import json
import random

from hypothesis import given
from hypothesis import strategies as st

from schemas import strict_json
from schemas.changes import Change
from schemas.keys import partition_of
from schemas.mutations import Mark
from schemas.positions import Position
from schemas.records import decode_change, encode_change, encode_mark, encode_passed_mark
from streams.documents import Document, MutationRecord, Progress, apply_all

KEYS = ["a", "b", "c"]
values = st.dictionaries(
    st.sampled_from("xyz"), st.one_of(st.none(), st.integers(0, 3), st.booleans(), st.sampled_from([1.0, 2.5])), max_size=3
)
mutations = st.one_of(
    st.builds(lambda key, value: {"method": "upsert", "collection": "c", "id": key, "value": value}, st.sampled_from(KEYS), values),
    st.builds(lambda key, value: {"method": "replace", "collection": "c", "id": key, "value": value}, st.sampled_from(KEYS), values),
    st.builds(lambda key: {"method": "remove", "collection": "c", "id": key}, st.sampled_from(KEYS)),
    st.builds(
        lambda key, version: {"method": "upsert", "collection": "c", "id": key, "value": {"x": 9}, "ifVersion": version},
        st.sampled_from(KEYS),
        st.integers(0, 4),
    ),
    st.just({"method": "nonsense"}),
    st.integers(0, 9).map(Mark),
)
histories = st.lists(mutations, max_size=30)


def log_of(history):
    def value(mutation):
        return encode_mark(mutation) if isinstance(mutation, Mark) else json.dumps(mutation).encode()

    return [MutationRecord(Position(0, offset), None, value(mutation), 1000 + 3 * offset) for offset, mutation in enumerate(history)]


class Partition:
    """One partition's fold in memory: what the document store and ``changes`` hold."""

    def __init__(self):
        self.documents, self.progress, self.changes = {}, Progress(), []

    def apply(self, records):
        applied = apply_all(records, self.progress, self.documents.get, epoch=0, partitions=1)
        for change in applied.changes:
            if isinstance(change, Change):
                self.documents[change.key] = Document(change.version, change.new)
            self.changes.append(encode_change(change) if isinstance(change, Change) else encode_passed_mark(change))
        self.progress = applied.progress
        return applied

    def fold(self, changes):
        """Catch up from ``changes`` as a new owner does."""
        for data in changes:
            change = decode_change(data)
            origin = max(self.progress.origin, change.origin) if self.progress.origin else change.origin
            if not isinstance(change, Change):
                self.progress = Progress(origin, self.progress.txn_id, self.progress.via)
                continue
            self.progress = Progress(origin, max(self.progress.txn_id, change.txn_id), self.progress.via)
            if change.key not in self.documents or self.documents[change.key].version <= change.version:
                self.documents[change.key] = Document(change.version, change.new)


@given(histories, st.randoms(use_true_random=False))
def test_batches_do_not_matter(history, rng: random.Random):
    """However a log is cut into batches, the changes are the same bytes."""
    records = log_of(history)
    whole, cut = Partition(), Partition()
    whole.apply(records)
    while records:
        size = rng.randint(1, 5)
        cut.apply(records[:size])
        records = records[size:]
    assert whole.changes == cut.changes
    assert whole.documents == cut.documents


@given(histories, st.data())
def test_a_crash_anywhere_changes_nothing(history, data):
    """A new owner folds the changes that were written, applies the log again from any commit before, and writes just what was missing."""
    records = log_of(history)
    whole = Partition()
    whole.apply(records)
    written = data.draw(st.integers(0, len(whole.changes)), label="changes written before the crash")
    crashed = Partition()
    crashed.fold(whole.changes[:written])
    done = crashed.progress.origin.offset + 1 if crashed.progress.origin else 0
    committed = data.draw(st.integers(0, done), label="offset committed before the crash")
    crashed.apply(records[committed:])
    assert whole.changes == whole.changes[:written] + crashed.changes
    assert whole.documents == crashed.documents


@given(histories, st.data())
def test_two_owners_leave_the_same_documents(history, data):
    """Whatever order the identical records of two owners get in, whoever folds by version ends at the same documents."""
    whole = Partition()
    whole.apply(log_of(history))
    again = data.draw(st.integers(0, len(whole.changes)), label="where the late owner goes on")
    interleaved, late = [], whole.changes[again:]
    for change in whole.changes[again:]:
        while late and data.draw(st.booleans()):
            interleaved.append(late.pop(0))
        interleaved.append(change)
    folded = Partition()
    folded.fold(whole.changes[:again] + interleaved + late)
    assert whole.documents == folded.documents


@given(histories)
def test_versions_and_txn_ids_only_grow(history):
    """Versions count 1, 2, 3 for each document; each old value is the new value before; txnIds grow in the partition."""
    partition = Partition()
    partition.apply(log_of(history))
    values: dict[str, bytes | None] = {}
    versions: dict[str, int] = {}
    txn_id = 0
    for change in map(decode_change, partition.changes):
        if isinstance(change, Change):
            assert versions.get(change.key, 0) + 1 == change.version
            assert values.get(change.key) == change.old
            assert change.old is None or change.new is None or not strict_json.equal(change.old, change.new)
            assert txn_id < change.txn_id
            versions[change.key], values[change.key], txn_id = change.version, change.new, change.txn_id


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(), inner, max_size=4)),
    max_leaves=20,
)


@given(json_values.filter(lambda value: "\\ud" not in json.dumps(value)), st.sampled_from([None, 2]))
def test_normalising_keeps_the_value_and_is_done_once(value, indent):
    """The same value, no white space, and nothing left to do the second time."""
    data = json.dumps(value, indent=indent).encode()
    normal = strict_json.normalise(data)
    assert json.loads(data) == json.loads(normal)
    assert normal == strict_json.normalise(normal)
    assert strict_json.equal(normal, strict_json.encode(value))


@given(st.binary(max_size=60))
def test_no_bytes_make_decoding_raise_anything_else(data):
    """Anything at all as a mutation is applied, dead or a remove."""
    applied = apply_all([MutationRecord(Position(0, 0), b"c/1", data, 1)], Progress(), lambda _: None, epoch=0, partitions=1)
    assert 1 == len(applied.dead) + len(applied.changes) + applied.unchanged


@given(st.text(min_size=1, max_size=20).filter(lambda text: text[0] not in '{"'), st.integers(1, 64))
def test_partitions_are_those_of_librdkafka(text, partitions):
    """In range, and the same for the same key."""
    assert 0 <= partition_of(text.encode(), partitions) < partitions
