"""Properties of offsets: nothing unfinished is passed, nothing finished is sent again, whatever the log and the order."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.webhook.offsets import (
    METADATA_CHARS_MAX,
    NAME_BYTES_MAX,
    SPAN_MAX,
    BadMetadata,
    Entry,
    Offsets,
    Seen,
    Start,
    decode,
    encode,
    span_max,
)
from schemas.positions import Origin

UID = "whk_0123456789abcdef"


@st.composite
def logs(draw):
    """A lane's log: offsets with gaps; origins that grow, repeat and fall back, as several writers leave them; replays without one."""
    log, offset = [], draw(st.integers(0, 5))
    for _ in range(draw(st.integers(0, 40))):
        replay = draw(st.booleans()) and draw(st.booleans())
        origin = None if replay else Origin(draw(st.integers(0, 1)), draw(st.integers(0, 2)), draw(st.integers(0, 12)))
        log.append((offset, origin))
        offset += draw(st.sampled_from([1, 1, 1, 2, 7]))
    return log


def duplicates(log) -> set[int]:
    """The plain statement of the rule: not above the last one seen of its partition."""
    seen: dict[int, Origin] = {}
    found = set()
    for offset, origin in log:
        if origin is None:
            continue
        if origin.partition in seen and origin <= seen[origin.partition]:
            found.add(offset)
        else:
            seen[origin.partition] = origin
    return found


@given(logs(), st.randoms(use_true_random=False))
def test_commit_never_passes_an_unfinished_offset(log, rng):
    """Whatever is finished in whatever order, the commit stops at the first unfinished one, and gaps and duplicates hold nothing up."""
    offsets = Offsets(Start())
    unfinished: dict[int, Entry] = {}
    for offset, origin in log:
        entry = Entry(offset, origin)
        if offsets.read(entry) is Seen.NEW:
            unfinished[offset] = entry
        while unfinished and rng.random() < 0.5:
            offsets.finish(unfinished.pop(rng.choice(sorted(unfinished))))
        assert min(unfinished, default=offset + 1) == offsets.commit
        assert offset + 1 - offsets.commit == offsets.span


@given(logs(), st.randoms(use_true_random=False))
def test_a_restart_sends_what_was_unfinished_and_nothing_else(log, rng):
    """From any commit, each record of the log above it is judged as it was the first time; what was finished stays finished."""
    start, finished = Start(), set[int]()
    again = duplicates(log)
    for _ in range(4):  # lives of the process; each ends with a commit that may be older than its end
        offsets, entries, committed = Offsets(start), [], None
        for offset, origin in log:
            if offset < start.offset:
                assert offset in finished | again
                continue
            entry = Entry(offset, origin)
            expected = Seen.DUPLICATE if offset in again else Seen.FINISHED if offset in finished else Seen.NEW
            assert expected is offsets.read(entry)
            entries += [entry] if expected is Seen.NEW else []
            if entries and rng.random() < 0.3:
                offsets.finish(entries.pop(rng.randrange(len(entries))))
            if rng.random() < 0.2:
                left = {entry.offset for entry in entries}
                committed = (
                    offsets.commit,
                    offsets.metadata(UID),
                    {found for found, _ in log if found <= offset and found not in left | again} | finished,
                )
        if committed is not None:
            commit, metadata, finished = committed
            start = decode(commit, metadata, UID)


@given(
    st.integers(0, 2**63 - 1 - SPAN_MAX),
    st.frozensets(st.integers(0, SPAN_MAX - 1)),
    st.dictionaries(st.integers(0, 2**21 - 1), st.tuples(st.integers(0, 2**31 - 1), st.integers(0, 2**63 - 1)), max_size=40),
    st.integers(0, 2**63 - 1),
)
def test_metadata_reads_back(offset, finished, vector, rewind):
    """What is committed is what a restart starts with."""
    start = Start(
        offset,
        frozenset(offset + place for place in finished),
        {partition: Origin(epoch, partition, at) for partition, (epoch, at) in vector.items()},
        rewind,
    )
    assert start == decode(offset, encode(UID, start), UID)


def test_metadata_of_the_first_version_stays_readable():
    """Written once, kept here: a later program must go on from what this one committed."""
    start = Start(1_000, frozenset({1_001, 1_003, 1_040}), {0: Origin(0, 0, 77), 5: Origin(1, 5, 3_000_000_000)})
    assert start == decode(1_000, "1BXdoa18xAAIAAE0FAYC8wZYLAAoAAAAAAQ==", "whk_1")


@pytest.mark.parametrize("partitions", [1, 8, 32, 64, 128, 172])
def test_metadata_fits_whatever_is_finished(partitions):
    """The largest vector of so many partitions with the least compressible bitmap of the whole span stays within 4,095 characters."""
    span = span_max(partitions)
    rng = random.Random(partitions)
    offset = 2**62
    worst = Start(
        offset,
        frozenset(offset + place for place in range(span) if rng.random() < 0.5) | {offset + span - 1},
        {2**21 - 1 - place: Origin(2**31 - 1, 2**21 - 1 - place, 2**63 - 1) for place in range(partitions)},
        2**63 - 1,
    )
    metadata = encode("u" * NAME_BYTES_MAX, worst)
    assert len(metadata) <= METADATA_CHARS_MAX
    assert worst == decode(offset, metadata, "u" * NAME_BYTES_MAX)


def test_too_many_partitions_are_refused():
    """A vector that could not be committed is refused when the lane is made, not when it is full."""
    with pytest.raises(ValueError, match="at most"):
        span_max(1_000)


@given(st.text(max_size=60) | st.binary(max_size=60).map(lambda data: "1" + data.hex()))
def test_foreign_metadata_is_refused(metadata):
    """Whatever another program, or a newer version, wrote there: one error, nothing else."""
    with pytest.raises(BadMetadata):
        decode(7, metadata, UID)


@given(st.data())
def test_damaged_metadata_is_refused_or_reads(data):
    """A cut or changed commit never ends the process."""
    start = Start(7, frozenset({8, 9, 400}), {1: Origin(0, 1, 99)}, 300)
    whole = encode(UID, start)
    cut = whole[: data.draw(st.integers(0, len(whole)))]
    changed = cut[:5] + data.draw(st.characters()) + cut[6:]
    for metadata in (cut, changed):
        try:
            found = decode(7, metadata, UID)
        except BadMetadata:
            continue
        assert 7 == found.offset


def test_metadata_of_another_webhook_is_refused():
    """A webhook that was deleted and made again does not inherit what the old one had done."""
    with pytest.raises(BadMetadata, match="of webhook whk_old"):
        decode(7, encode("whk_old", Start(7)), UID)


def test_a_log_that_was_cut_is_read_as_new():
    """Offsets that come a second time are other records: they are judged by their origin alone."""
    offsets = Offsets(Start())
    for offset in range(3):
        entry = Entry(offset, Origin(0, 0, offset))
        offsets.read(entry)
        offsets.finish(entry)
    assert Seen.DUPLICATE is offsets.read(Entry(1, Origin(0, 0, 1)))
    assert Seen.NEW is offsets.read(Entry(2, Origin(0, 0, 3)))
    assert (2, 3) == (offsets.commit, offsets.position)
