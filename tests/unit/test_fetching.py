"""Rules of what a fetcher holds of one partition."""

from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.kafka.fetching import HELD_BYTES_MAX, HELD_RECORDS_MAX, Held, Received
from schemas.topics import BATCH_BYTES_MAX, BATCH_RECORDS_MAX

BYTES = bytes(5 * 1024 * 1024)
CHUNKS = {size: BYTES[:size] for size in (0, 1, 10_000, 1024 * 1024, len(BYTES))}


def received(offset, size=10):
    return Received(0, offset, None, CHUNKS.get(size, BYTES[:size]), -1, ())


@settings(max_examples=30)
@given(st.lists(st.sampled_from(sorted(CHUNKS)), max_size=30), st.integers(0, 5_000))
def test_batches_are_bounded_and_hold_every_record_once(sizes, small):
    """By number and by bytes; a record that is larger alone than the bound goes alone."""
    held = Held()
    records = [received(offset, size) for offset, size in enumerate([*sizes, *[10] * small])]
    for record in records:
        held.put(record)
    batches = list(iter(held.take, []))
    assert records == [one for batch in batches for one in batch]
    for batch in batches:
        assert len(batch) <= BATCH_RECORDS_MAX
        assert len(batch) == 1 or sum(one.size for one in batch) <= BATCH_BYTES_MAX


def test_a_partition_is_full_by_number_and_by_bytes():
    """And there is room again only when half of it was taken."""
    many, large = Held(), Held()
    for offset in range(HELD_RECORDS_MAX):
        assert not many.full
        many.put(received(offset))
    assert many.full
    many.take()
    assert (False, False) == (many.full, many.thin)
    many.take()
    assert many.thin
    large.put(received(0, HELD_BYTES_MAX))
    assert (True, False) == (large.full, large.thin)
    large.take()
    assert large.thin
