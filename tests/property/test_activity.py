"""Ranks of attempts, and which copies a resend makes: rules that hold for whatever comes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from connectors.activity.copies import Copies, lane_place
from connectors.activity.ranks import START_US_MAX, first_rank, next_rank, rank_of, started_us
from schemas.attempts import attempt_id
from schemas.changes import Change
from schemas.deliveries import Delivery, Match
from schemas.positions import Origin, Position

starts = st.integers(0, START_US_MAX - 1)
bits = st.integers(0, 2**64 - 1)


def rank_at(us: int, found: int) -> int:
    rank = rank_of(attempt_id(us, found))
    assert rank is not None
    return rank


@given(starts, bits, starts, bits)
def test_ranks_are_in_the_order_of_starts(a_us, a, b_us, b):
    """And lie within the bounds that a time gives."""
    ranks = [rank_at(us, found) for us, found in ((a_us, a), (b_us, b))]
    assert [a_us, b_us] == [started_us(rank) for rank in ranks]
    assert first_rank(a_us) <= ranks[0] < first_rank(a_us + 1) <= 2**63
    assert a_us >= b_us or ranks[0] < ranks[1]


@given(starts, bits)
def test_the_next_rank_is_of_the_same_microsecond(us, found):
    """Another one, and after all of them the first again."""
    rank = rank_at(us, found)
    following = next_rank(rank)
    assert (us, True) == (started_us(following), following != rank)


@given(st.text(max_size=60))
def test_what_is_no_id_has_no_rank(text):
    """Whatever it is."""
    assert rank_of(text) is None or text.startswith("att_")


@given(st.integers(0, 31), st.integers(0, 2**62))
def test_places_in_lanes_are_read_as_they_are_written(partition, offset):
    """With and without a partition."""
    assert [Position(0, offset), Position(partition, offset)] == [lane_place(str(offset)), lane_place(f"{partition}:{offset}")]


def delivery(document: str, version: int) -> Delivery:
    return Delivery("whk_1", 1, Match.UPDATE, Change("people", document, version, version, None, b"{}", Origin(0, 0, version), 1))


@st.composite
def histories(draw):
    """Live deliveries of two documents as they come, split at the moments when a resend reads the end; and where it starts."""
    documents = draw(st.lists(st.sampled_from("ab"), min_size=1, max_size=12))
    versions = {"a": 0, "b": 0}
    live = []
    for document in documents:
        versions[document] += 1
        live.append(delivery(document, versions[document]))
    first = draw(st.integers(1, len(live)))
    rounds = draw(st.lists(st.integers(0, 3), max_size=6))
    asked = draw(st.integers(0, first - 1))
    return live, first, rounds, asked


@given(histories())
def test_a_resent_document_ends_on_its_newest_value(history):
    """Whatever is appended between copies: what follows the last older copy of a document is newer or nothing, and copies come in order."""
    live, first, rounds, asked = history
    lane, coming = live[:first], iter(live[first:])
    start = lane[asked]
    copies = Copies("whk_1", "rpl_1", {start.change.key.encode(): frozenset({start.change.version})}, only=False)
    position, pending = asked, [*rounds]
    while True:
        end = len(lane)
        found = [
            copy
            for one in lane[position:end]
            if copies.wants(key := one.change.key.encode()) and (copy := copies.take(key, one)) is not None
        ]
        position = end
        lane += [one for _, one in zip(range(pending.pop() if pending else 0), coming, strict=False)]  # come before the copies
        if not found:
            break
        lane += found
    mine = [one for one in lane if one.change.key == start.change.key]
    copied = [one.change.version for one in mine if one.replay == "rpl_1"]
    assert copied == sorted(set(copied))
    assert start.change.version == copied[0]
    assert mine[-1].change.version == max(one.change.version for one in mine)
