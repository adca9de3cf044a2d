"""Rules of slots and leases that need no Kafka."""

from confluent_kafka import TopicPartition

from connectors.webhook.lease import Lease, uptime_s
from connectors.webhook.offsets import Start, encode
from connectors.webhook.ownership import KnownLane, slot_of, start_of
from schemas.positions import Origin

LANE = KnownLane("one", "whk_1", "livehook.deliveries.one", 1)


def committed(offset: int, metadata: str = "") -> Start:
    return start_of(LANE, TopicPartition(LANE.topic, 0, offset, metadata))


def test_a_webhooks_slot_never_changes():
    """All processes, of every version, must come to the same one: these values are for ever."""
    assert [79, 160, 241, 199] == [slot_of(name, 256) for name in ("adults", "demo", "one", "a-rather-long-name-of-a-webhook")]


def test_a_lane_goes_on_from_its_commit():
    """With what was finished above it, and the origins below it."""
    start = Start(7, frozenset({9, 12}), {3: Origin(0, 3, 44)}, "rpl_1")
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
