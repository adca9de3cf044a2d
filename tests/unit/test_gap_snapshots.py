"""When the present documents follow a gap: what the API writes, and when it does not."""

from __future__ import annotations

import itertools

import msgspec
import pytest

from livehook.api.register import UNDER_WAY_US
from livehook.api.revisions import with_snapshot
from livehook.api.snapshots import Snapshots
from livehook.api.testing import NOW_US, FakeKafka, fake_services
from schemas.backfills import BackfillReady, encode_backfill
from schemas.gaps import Gap, encode_gap
from schemas.positions import Origin
from schemas.registry import Webhook
from schemas.topics import Record, Topics
from schemas.webhook_validation import Wanted
from schemas.webhooks import State, WebhookRevision, WebhookSpec, WebhookStatus

SPEC = WebhookSpec("w", "http://localhost/", ("people",))
CURRENT = WebhookRevision("whk_1", "w", 3, 7, SPEC, [], 1, 2, [Origin(0, 0, 5)])


def gap(snapshot=2, *, is_followed=True):
    return Gap("w", "whk_1", 3, 0, 5, 9, snapshot, is_followed, ("people",), 1)


def due(*gaps, current=CURRENT, newest=None, is_ready=False):
    return with_snapshot(Webhook(current), newest=newest or current, gaps=gaps, is_ready=is_ready)


def test_a_snapshot_is_a_revision_and_no_edit():
    """It needs marks; what a sink has found out about the webhook still holds."""
    found = due(gap(), gap(3))
    assert msgspec.structs.replace(CURRENT, revision=4, since=None, snapshot=3) == found
    assert "whk_1.3" == found.backfill


@pytest.mark.parametrize(
    ("gaps", "current", "newest"),
    [
        ([], CURRENT, None),
        ([gap(is_followed=False)], CURRENT, None),
        ([gap()], msgspec.structs.replace(CURRENT, snapshot=2), None),  # done
        ([gap()], CURRENT, msgspec.structs.replace(CURRENT, revision=4, since=None)),  # somebody makes another revision
        ([gap()], msgspec.structs.replace(CURRENT, spec=msgspec.structs.replace(SPEC, start="beginning")), None),
        ([gap(3)], msgspec.structs.replace(CURRENT, snapshot=2), None),  # the snapshot of before is not over
    ],
)
def test_when_no_snapshot_begins(gaps, current, newest):
    """Nothing is owed, or something else comes first."""
    assert due(*gaps, current=current, newest=newest) is None


def test_a_backfill_that_has_ended_is_followed_by_the_next():
    """One after the other."""
    started = msgspec.structs.replace(CURRENT, spec=msgspec.structs.replace(SPEC, start="beginning"))
    assert due(gap(), current=started, is_ready=True) is not None


@pytest.fixture
def kafka():
    return FakeKafka(Topics("t.", 2))


async def made(kafka, **fields):
    register = fake_services(kafka).register
    await register.write("w", lambda present: Wanted(msgspec.structs.replace(SPEC, **fields)))
    return register, Snapshots(register, kafka, kafka.failures.append)


async def put(kafka, record, value):
    await kafka.send([Record(kafka.topics.webhooks.name, record.key.encode(), value, partition=0)])


async def test_a_gap_on_record_begins_a_snapshot_once(kafka):
    """A disabled webhook stays disabled; the next gap waits until the snapshot is in the lane."""
    register, snapshots = await made(kafka)
    await snapshots.look()
    assert 0 == register.get("w").current.snapshot
    status = WebhookStatus("whk_1", "w", 1, State.DISABLED, "410", 3)
    kafka.status(status)
    await put(kafka, gap(), encode_gap(gap()))
    for _ in range(2):
        await snapshots.look()
        current = register.get("w").current
        assert (2, 2, 1) == (current.revision, current.snapshot, current.edit)
    assert State.DISABLED is register.get("w").state
    second = msgspec.structs.replace(gap(3), begin=20, until=30)
    await put(kafka, second, encode_gap(second))
    await snapshots.look()
    assert 2 == register.get("w").current.snapshot
    ready = BackfillReady("w", "whk_1.2", (9,))
    await put(kafka, ready, encode_backfill(ready))
    await snapshots.look()
    assert 3 == register.get("w").current.snapshot


async def test_a_kafka_that_is_away_is_asked_again(kafka):
    """What was cut off is finished, for marks of it may stand somewhere; after a crash by the next start."""
    register, snapshots = await made(kafka)
    await put(kafka, gap(), encode_gap(gap()))
    kafka.fail_after = 1  # the revision is on record, its marks are not
    await snapshots.look()
    kafka.fail_after = None
    await Snapshots(register, kafka, kafka.failures.append).look()
    assert 0 == register.get("w").current.snapshot  # another process may be at it
    await snapshots.look()
    assert (2, 2) == (register.get("w").current.revision, register.get("w").current.snapshot)
    await snapshots.look()
    assert 2 == register.get("w").current.revision


async def test_a_snapshot_that_a_crash_cut_off_is_finished_by_the_next_start(kafka):
    """Like any revision."""
    register, snapshots = await made(kafka)
    await put(kafka, gap(), encode_gap(gap()))
    kafka.fail_after = 1
    await snapshots.look()
    kafka.fail_after = None
    await fake_services(kafka, ticks=itertools.count(NOW_US + UNDER_WAY_US + 1_000)).register.finish()
    assert 2 == register.get("w").current.snapshot


async def test_gaps_go_with_their_webhook(kafka):
    """One of the same name that is made later has not had them."""
    register, snapshots = await made(kafka)
    await put(kafka, gap(), encode_gap(gap()))
    await register.delete("w")
    assert [] == kafka.registry.names_owed()
    await snapshots.look()
    assert kafka.registry.webhook("w") is None
