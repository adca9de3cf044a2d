"""Rules of slots and leases that need no Kafka."""

import msgspec
from confluent_kafka import TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from connectors.webhook.lease import Lease, uptime_s
from connectors.webhook.offsets import Start, encode
from connectors.webhook.ownership import Jump, KnownLane, jumps_of, slot_of, start_of
from schemas.positions import Origin
from schemas.replays import Replay, ReplayState, Selected

LANE = KnownLane("one", "whk_1", "livehook.deliveries.one", 1)


def committed(offset: int, metadata: str = "") -> Start:
    return start_of(LANE, TopicPartition(LANE.topic, 0, offset, metadata))


def test_a_webhooks_slot_never_changes():
    """All processes, of every version, must come to the same one: these values are for ever."""
    assert [79, 160, 241, 199] == [slot_of(name, 256) for name in ("adults", "demo", "one", "a-rather-long-name-of-a-webhook")]


def test_a_lane_goes_on_from_its_commit():
    """With what was finished above it, and the origins below it."""
    start = Start(7, frozenset({9, 12}), {3: Origin(0, 3, 44)}, 5)
    assert start == committed(7, encode("whk_1", start))


def test_a_lane_without_a_commit_begins_at_its_beginning():
    """librdkafka gives -1001 where there is none."""
    assert Start() == committed(-1001)


def test_an_offset_set_by_hand_is_obeyed():
    """Kafka's own tools write no metadata: from there on all is sent."""
    assert Start(7) == committed(7)


def test_a_commit_that_cannot_be_trusted_skips_nothing():
    """Of a webhook of that name that was deleted, of a newer version, or damaged: from the beginning."""
    for metadata in (encode("whk_0", Start(7)), "2abc", "1!!!"):
        assert Start() == committed(7, metadata)


def test_a_lease_lasts_from_when_the_commit_was_sent():
    """Not from when it was acknowledged: the acknowledgement may have been read much later."""
    lease = Lease(15.0)
    assert not lease.held(0.0)
    lease.renewed(100.0)
    assert (True, False) == (lease.held(114.9), lease.held(115.0))


def test_a_late_acknowledgement_does_not_shorten_a_lease():
    """An older commit, acknowledged after a newer one."""
    lease = Lease(15.0)
    lease.renewed(100.0)
    lease.renewed(90.0)
    assert lease.held(114.0)


def test_a_lost_lease_is_lost_at_once():
    """Whatever was left of it."""
    lease = Lease(15.0)
    lease.renewed(100.0)
    lease.lost()
    assert not lease.held(100.0)


def test_the_clock_of_leases_goes_forward():
    """It is no wall clock."""
    assert uptime_s() <= uptime_s()


def back(number: int, to: int, until: int = 100) -> Jump:
    return Jump(number=number, replay=f"rpl_{number}", is_forward=False, to=(to,), until=(until,))


def forward(number: int, to: int) -> Jump:
    return Jump(number=number, replay=f"rpl_{number}", is_forward=True, to=(to,), until=())


def jumped(start: Start, *jumps: Jump) -> Start:
    """Where a lane with these jumps goes on after the commit of ``start``."""
    lane = msgspec.structs.replace(LANE, jumps=jumps)
    return start_of(lane, TopicPartition(LANE.topic, 0, start.offset, encode("whk_1", start)))


DONE = Start(50, frozenset({52, 70}), {0: Origin(0, 0, 44)})


def test_a_rewind_begins_with_nothing_seen():
    """What was finished above it, and the origins, belong to the place that it left."""
    assert Start(20, rewind=3, moved=True) == jumped(DONE, back(3, 20))


def test_a_jump_is_carried_out_once():
    """Its number is on record with the commit: a restart goes on from there."""
    after = Start(31, rewind=3)
    assert after == jumped(after, back(3, 20))
    assert Start(10, rewind=4, moved=True) == jumped(after, back(3, 20), back(4, 10))


def test_jumps_that_nobody_has_carried_out_yet_add_up():
    """Two rewinds while no sink ran: both ranges are sent."""
    assert 20 == jumped(DONE, back(3, 20), back(4, 40)).offset
    assert 20 == jumped(DONE, back(3, 40), back(4, 20)).offset


def test_a_rewind_jumps_over_nothing():
    """A lane that has not come to its begin yet goes on where it is; what was finished beyond the begin is sent again."""
    assert Start(50, frozenset({52}), DONE.vector, 3, moved=True) == jumped(DONE, back(3, 60))
    assert Start(50, rewind=3, moved=True) == jumped(DONE, back(3, 50))


def test_a_cancelled_rewind_goes_on_where_the_lane_was():
    """Over the rest of what had been sent before; a lane that is there already stays."""
    assert Start(60, frozenset({70}), DONE.vector, 3, moved=True) == jumped(DONE, forward(3, 60))
    assert msgspec.structs.replace(DONE, rewind=3, moved=True) == jumped(DONE, forward(3, 30))


def test_a_hand_overrules_the_rewinds_of_before():
    """Who sets an offset with Kafka's own tools gets it; a lane without a commit begins at its beginning."""
    lane = msgspec.structs.replace(LANE, jumps=(back(3, 20),))
    for offset, metadata, expected in ((70, "", 70), (-1001, "", 0), (70, "2abc", 0)):
        found = start_of(lane, TopicPartition(LANE.topic, 0, offset, metadata))
        assert Start(expected, rewind=3, moved=True) == found
    assert 5 == start_of(msgspec.structs.replace(lane, jumps=(back(3, 20), back(4, 5))), commit_of(70, Start(70, rewind=3))).offset


def commit_of(offset: int, start: Start) -> TopicPartition:
    return TopicPartition(LANE.topic, 0, offset, encode("whk_1", start))


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 99)), max_size=6), st.integers(0, 99), st.integers(0, 7))
def test_no_jump_leaves_out_what_was_never_sent(jumps, offset, applied):
    """However rewinds and cancels follow on one another: a lane only ever goes on below its commit, or where a cancelled rewind began."""
    made = [forward(number, to) if is_forward else back(number, to) for number, (is_forward, to) in enumerate(jumps, 1)]
    start = jumped(Start(offset, rewind=applied), *made)
    allowed = [jump.to[0] for jump in made if jump.is_forward and jump.number > applied]
    assert start.offset <= max([offset, *allowed])
    assert start.offset == jumped(start, *made).offset


def test_deliveries_of_a_rewind_name_it():
    """Those that stood in the lane when it was asked for; of several rewinds the newest."""
    lane = msgspec.structs.replace(LANE, jumps=(back(3, 20, 100), back(4, 60, 90), forward(5, 10)))
    assert [None, "rpl_3", "rpl_4", "rpl_3", None] == [lane.replay_at(0, offset) for offset in (19, 20, 60, 90, 100)]


def test_rewinds_become_jumps():
    """A cancelled one leads on to where the lane was, unless another one was under way; a selection moves nothing."""
    rewind = Replay("rpl_1", "one", "whk_1", 7, (20,), (100,), (100,), (80,), 80, 0)
    cancelled = msgspec.structs.replace(rewind, id="rpl_2", number=8, state=ReplayState.CANCELLED, cancelled=9)
    selection = msgspec.structs.replace(rewind, id="rpl_3", number=10, selected=Selected())
    beside = msgspec.structs.replace(rewind, id="rpl_4", number=11, state=ReplayState.CANCELLED)
    assert (
        Jump(number=7, replay="rpl_1", is_forward=False, to=(20,), until=(100,)),
        Jump(number=9, replay="rpl_2", is_forward=True, to=(80,), until=()),
    ) == jumps_of([beside, cancelled, selection, rewind])
