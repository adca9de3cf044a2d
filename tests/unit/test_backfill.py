"""What a change from before a webhook's live flow is to it, and in what state a backfill leaves its lane."""

import asyncio
from typing import cast

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from livehook.api.revisions import edited, with_replay
from schemas.backfills import BackfillEnd, BackfillReady, encode_backfill
from schemas.changes import Change, PassedMark
from schemas.deliveries import Match
from schemas.errors import Unavailable
from schemas.markers import marker_of
from schemas.mutations import MARK_KEY, Mark
from schemas.positions import Origin
from schemas.records import decode_delivery, decode_mutation, encode_change, encode_passed_mark, encode_revision, encode_since
from schemas.replays import Replay, ReplayState, encode_replay
from schemas.topics import Topics
from schemas.webhooks import PastReplay, WebhookRevision, WebhookSince, WebhookSpec
from streams import asking, backfill_run
from streams.backfill import WINDOW_US, Repeats, backfilled
from streams.backfilling import Backfills
from streams.matching import match
from streams.metrics import StreamsMetrics
from streams.ports import Log
from streams.subscriptions import Subscriptions

TOPICS = Topics("test.", 1)
MADE_US = WINDOW_US + 1_000
OLD, RECENT = 999, 1_000
N1, N2 = b'{"_id":"a","n":1}', b'{"_id":"a","n":2}'


def change(offset, old, new, appended_us=RECENT):
    return Change("c", "a", 1_000 + offset, offset, old, new, Origin(0, 0, offset), appended_us)


def revision(number=1, *, start="beginning", since=10, query="n == 2", events=("update",)):
    spec = WebhookSpec("w", "http://x", collections=("c",), query=query, events=events, start=start)
    return WebhookRevision("u", "w", number, number, spec, [], MADE_US, MADE_US, [Origin(0, 0, since)])


def known(*revisions):
    subscriptions = Subscriptions(TOPICS)
    for offset, one in enumerate(revisions):
        subscriptions.apply(one.key.encode(), encode_revision(one), offset)
    return subscriptions


def found(change, *revisions):
    plan = known(*revisions).plan("w")
    assert plan is not None
    delivery = backfilled(plan, change, {})
    return delivery and (delivery.match.value, delivery.snapshot, delivery.change.old, delivery.revision)


@pytest.mark.parametrize(
    ("old", "new", "appended_us", "expected"),
    [
        (N2, N2, RECENT, ("update", 0, N2, 1)),
        (None, N2, RECENT, None),  # create is not asked for
        (None, N2, OLD, ("initial", 1, None, 1)),
        (N1, N2, OLD, ("initial", 1, None, 1)),
        (N1, N1, OLD, None),
        (N2, N1, OLD, None),  # leave is not asked for
    ],
)
def test_what_may_be_compacted_is_a_snapshot(old, new, appended_us, expected):
    """There the events of a webhook choose among leave and remove alone; everything that matches is initial."""
    assert expected == found(change(3, old, new, appended_us), revision())


def test_a_snapshot_tells_what_is_gone():
    """Who was sent the document before compaction came by must hear that it is not there any more."""
    assert ("leave", 1, N2, 1) == found(change(3, N2, N1, OLD), revision(events=("leave", "remove")))
    assert ("remove", 1, N2, 1) == found(change(3, N2, None, OLD), revision(events=("leave", "remove")))


def test_the_first_revision_serves_all_before_it_and_an_edit_holds_from_its_mark():
    """Also while the backfill is under way."""
    edited = revision(2, since=20, query="true")
    assert ("update", 0, N2, 1) == found(change(3, N2, N2), revision(), edited)
    assert found(change(19, N1, N1), revision(), edited) is None
    assert ("update", 0, N1, 2) == found(change(20, N1, N1), revision(), edited)


def test_a_start_leaves_out_what_was_before():
    """``txn:N`` is the first that comes."""
    assert found(change(2, N2, N2), revision(start="txn:1003")) is None
    assert found(change(3, N2, N2), revision(start="txn:1003")) is not None
    assert known(revision(start="now")).plan("w") is None


def test_second_copies_are_passed_over_where_nothing_is_compacted():
    """Elsewhere a second copy may be the only one."""
    repeats = Repeats(lambda change: change.appended_us < RECENT)
    assert [False, True, False] == [repeats.is_repeat(change(offset, None, N1)) for offset in (5, 4, 6)]
    assert not repeats.is_repeat(change(3, None, N1, OLD))


class World:
    """Topics in memory, as the ports show them; what is produced to ``mutations`` comes out in ``changes``, if it is a mark."""

    def __init__(self, changes, subscriptions):
        self.changes, self.subscriptions = list(changes), subscriptions
        self.webhooks = subscriptions.position
        self.lane = []
        self.is_ready = asyncio.Event()
        self.away = 0  # so many questions are not answered
        self.lost_marks = 0  # so many marks are removed before anybody has read them
        self.held: asyncio.Event | None = None  # deliveries are not acknowledged before

    async def send(self, records, *, gone_ok=False):
        if self.held is not None and records[0].topic == TOPICS.lane("w").name:
            await self.held.wait()
        return [self.append(record) for record in records]

    def append(self, record):
        if record.topic == TOPICS.webhooks.name:
            self.subscriptions.apply(record.key, record.value, self.webhooks)
            self.webhooks += 1
            if record.key.endswith(b"/ready"):
                self.is_ready.set()
            return self.webhooks - 1
        if record.topic == TOPICS.mutations.name:
            mark = decode_mutation(record.key, record.value)
            assert isinstance(mark, Mark)
            if self.lost_marks:
                self.lost_marks -= 1
                return 98
            self.changes.append((MARK_KEY, encode_passed_mark(PassedMark(mark.webhooks, Origin(0, 0, 99), mark.ends))))
            return 99
        self.lane.append(decode_delivery(record.value))
        return len(self.lane) - 1

    def offsets(self, topic, partition):
        if self.away:
            self.away -= 1
            raise Unavailable("the broker does not answer")
        return 99 if topic == TOPICS.mutations.name else 0, {
            TOPICS.webhooks.name: self.webhooks,
            TOPICS.changes.name: len(self.changes),
        }.get(topic, len(self.lane))

    def follow(self, topic, partition, start):
        return Following(self, start)


class Following:
    """A reader of ``changes``, two records at a time."""

    def __init__(self, world, position):
        self.world, self.position = world, position

    def read(self, timeout_s):
        first = self.position
        found = self.world.changes[first : first + 2]
        self.position += len(found)
        return [Item(first + at, key, value) for at, (key, value) in enumerate(found)]

    def close(self):
        """Nothing is open."""


class Item:
    def __init__(self, offset, key, value):
        self.offset, self.key, self.value = offset, key, value


def backfills_of(world, *, pace=None):
    """Of one worker, and what has made it end."""
    failed: list[BaseException] = []
    metrics = StreamsMetrics(CollectorRegistry())
    made = Backfills(
        topics=TOPICS,
        producer=world,
        log=cast(Log, world),
        subscriptions=world.subscriptions,
        metrics=metrics,
        fail=failed.append,
        pace=pace,
    )
    return made, failed


async def test_a_backfill_ends_at_its_mark_and_the_lane_says_so():
    """In order, and nothing from behind the mark; ready is on record once every partition has ended."""
    subscriptions = known(revision(query="true", events=("update", "ready")))
    world = World([(b"c/a", encode_change(change(offset, N1, N2))) for offset in range(5)], subscriptions)
    backfills, failed = backfills_of(world)
    backfills.assigned([0])
    await asyncio.wait_for(backfills.ended("w", "u", 0), 5)
    assert [0, 1, 2, 3, 4] == [delivery.change.version for delivery in world.lane]
    mark = PassedMark(world.webhooks - 1, Origin(0, 0, 99), "u")
    assert "w" == subscriptions.ending(mark)
    end = subscriptions.ended("w", mark)
    assert BackfillEnd("w", "u", Origin(0, 0, 99)) == end
    assert [] == subscriptions.owed(0)
    subscriptions.apply(end.key.encode(), encode_backfill(end), world.webhooks)
    world.webhooks += 1
    await asyncio.wait_for(world.is_ready.wait(), 5)
    assert "ready" == world.lane[-1].match.value
    assert BackfillReady("w", "u", (5,)) == subscriptions.registry.backfill(revision()).ready
    assert failed == []
    backfills.close()


async def test_what_is_passed_over_by_its_bytes_is_all_that_does_not_match():
    """What holds the string elsewhere is looked at; the mark is found all the same."""
    documents = [b'{"_id":"a","s":"%b","t":"%b"}' % pair for pair in [(b"x", b"y"), (b"y", b"y"), (b"y", b"x"), (b"\\u0078", b"y")]]
    records = [(b"c/a", encode_change(change(offset, None, document))) for offset, document in enumerate(documents)]
    world = World(records, known(revision(query="s = 'x'", events=("create",))))
    backfills, failed = backfills_of(world)
    backfills.assigned([0])
    await asyncio.wait_for(backfills.ended("w", "u", 0), 5)
    assert [0, 3] == [delivery.change.version for delivery in world.lane]
    assert failed == []
    backfills.close()


async def test_a_broker_that_is_away_is_waited_for(monkeypatch):
    """A backfill asks Kafka more than the live flow does; that is no reason to end the worker."""
    monkeypatch.setattr(asking, "AGAIN_S", 0.0)
    world = World([(b"c/a", encode_change(change(offset, N1, N2))) for offset in range(3)], known(revision(query="true")))
    world.away = 3
    backfills, failed = backfills_of(world)
    backfills.assigned([0])
    await asyncio.wait_for(backfills.ended("w", "u", 0), 5)
    assert ([], 0, 3) == (failed, world.away, len(world.lane))
    backfills.close()


async def test_a_mark_that_was_removed_before_it_was_read_is_written_again(monkeypatch):
    """Else the live flow would never begin."""
    monkeypatch.setattr(backfill_run, "PROGRESS_S", 0.0)
    world = World([(b"c/a", encode_change(change(0, N1, N2)))], known(revision(query="true")))
    world.lost_marks = 1
    backfills, failed = backfills_of(world)
    backfills.assigned([0])
    await asyncio.wait_for(backfills.ended("w", "u", 0), 5)
    assert ([], 0) == (failed, world.lost_marks)
    backfills.close()


async def test_who_waits_for_kafka_does_not_keep_its_turn():
    """Another backfill goes on; and what has something to read is seen, with how far it is."""
    other = msgspec.structs.replace(revision(query="true"), name="v", uid="v", spec=WebhookSpec("v", "http://x", ("c",), start="beginning"))
    subscriptions = known(revision(query="true"), other)
    world = World([(b"c/a", encode_change(change(offset, N1, N2))) for offset in range(3)], subscriptions)
    world.held = asyncio.Event()
    backfills, failed = backfills_of(world)
    backfills.assigned([0])
    await asyncio.wait_for(backfills.ended("v", "v", 0), 5)
    assert {"v"} == {one.webhook_uid for one in world.lane}
    world.held.set()
    await asyncio.wait_for(backfills.ended("w", "u", 0), 5)
    assert ([], {}) == (failed, backfills.waiting())
    backfills.close()


def test_ready_is_said_for_the_webhook_as_it_was_made():
    """Edited meanwhile or not, so that a second copy of the marker says what the first one said."""
    subscriptions = known(revision(), revision(2, since=20, query="true"))
    end = BackfillEnd("w", "u", Origin(0, 0, 99))
    subscriptions.apply(end.key.encode(), encode_backfill(end), 2)
    assert [1] == [made.revision for made in subscriptions.unready()]


async def test_what_was_made_anew_owes_a_backfill_of_its_own():
    """Records of a webhook of the same name that was deleted do not count."""
    subscriptions = known(revision())
    end = BackfillEnd("w", "another", Origin(0, 0, 99))
    subscriptions.apply(end.key.encode(), encode_backfill(end), 1)
    assert ["w"] == subscriptions.owed(0)


def test_what_ends_at_a_mark_is_told_again():
    """Whether it was written down the first time is not known; a second mark of the same partition ends nothing."""
    subscriptions = known(revision())
    first, second = (PassedMark(5, Origin(0, 0, offset), "u") for offset in (20, 30))
    assert "w" == subscriptions.ending(first)
    end = subscriptions.ended("w", first)
    assert ("w", end) == (subscriptions.ending(first), subscriptions.ended("w", first))
    assert subscriptions.ending(second) is None


def test_where_a_revision_begins_is_told_again():
    """For the same reason; a second mark of the same partition begins nothing."""
    made = WebhookRevision("u", "w", 1, 1, revision().spec, [], MADE_US, MADE_US, None)
    subscriptions = known(made)
    first, second = (PassedMark(0, Origin(0, 0, offset)) for offset in (20, 30))
    since = subscriptions.marked(first)
    assert since is not None
    assert (since, None) == (subscriptions.marked(first), subscriptions.marked(second))


def test_a_mark_that_was_passed_holds_whatever_is_answered_later():
    """Who finished the revision after a crash of the API may name a later one; what was matched in between is not matched anew."""
    made = WebhookRevision("u", "w", 1, 1, revision().spec, [], MADE_US, MADE_US, None)
    subscriptions = known(made)
    assert subscriptions.marked(PassedMark(0, Origin(0, 0, 20))) is not None
    answered = msgspec.structs.replace(made, since=[Origin(0, 0, 30)])
    subscriptions.apply(answered.key.encode(), encode_revision(answered), 1)
    standing = subscriptions.queries.get("w", 1)
    assert standing is not None
    assert {0: Origin(0, 0, 20)} == standing.since


def test_records_of_a_backfill_are_those_of_one_webhook():
    """One that is made again under the same name has keys of its own: what comes late of the first cannot hide the second's."""
    keys = {BackfillEnd("w", uid, Origin(0, 0, 1)).key for uid in ("u", "v")} | {BackfillReady("w", uid, (1,)).key for uid in ("u", "v")}
    assert {"w/backfill/u/0/end", "w/backfill/v/0/end", "w/backfill/u/ready", "w/backfill/v/ready"} == keys


def after_gap(number=2, *, since=20, snapshot=2, query="n == 2", events=("update", "leave")):
    return msgspec.structs.replace(revision(number, start="now", since=since, query=query, events=events), snapshot=snapshot)


@pytest.mark.parametrize(
    ("offset", "old", "new", "expected"),
    [
        (3, N1, N2, ("initial", 2, None, 2)),
        (3, None, N2, ("initial", 2, None, 2)),
        (3, N2, N1, ("leave", 2, N2, 2)),
        (3, N2, None, None),  # remove is not asked for
        (20, N2, N2, ("update", 0, N2, 2)),
        (20, None, N2, None),  # create is not asked for
    ],
)
def test_after_a_gap_all_before_its_revision_is_the_snapshot(offset, old, new, expected):
    """However recent it is; from the revision's marks on the changes come as they are."""
    assert expected == found(change(offset, old, new), revision(start="now"), after_gap())


def test_a_revision_that_is_edited_goes_on_with_its_snapshot():
    """The first that has it serves all before it, whichever came before the gap."""
    edited = after_gap(3, since=30, query="true", events=("update",))
    assert ("initial", 2, None, 2) == found(change(3, N1, N2), revision(), after_gap(), edited)
    assert ("update", 0, N1, 3) == found(change(30, N1, N1), revision(), after_gap(), edited)


def test_a_snapshot_begins_when_what_was_live_before_it_is_in_the_lane():
    """Else a document would go back. The live flow of before is not held up."""
    subscriptions = known(revision(start="now"), after_gap())
    assert [] == subscriptions.owed(0)
    since = subscriptions.marked(PassedMark(1, Origin(0, 0, 20)))
    assert WebhookSince("w", 2, Origin(0, 0, 20)) == since
    assert subscriptions.marked(PassedMark(1, Origin(0, 0, 21))) is None
    subscriptions.apply(since.key.encode(), encode_since(since), 2)
    assert ["w"] == subscriptions.owed(0)
    live = {offset: [one.match.value for _, one in match(subscriptions.queries, change(offset, N2, N2))] for offset in (19, 20)}
    assert {19: ["update"], 20: []} == live
    assert ["w"] == [subscriptions.ending(PassedMark(9, Origin(0, 0, 40), "u.2"))]
    subscriptions.ended("w", PassedMark(9, Origin(0, 0, 40), "u.2"))
    assert ["update"] == [one.match.value for _, one in match(subscriptions.queries, change(40, N2, N2))]


def test_where_former_live_flows_began_is_known_after_a_restart():
    """What a worker matches again from before a snapshot is live as it was."""
    subscriptions = known(revision(), after_gap())
    end = BackfillEnd("w", "u", Origin(0, 0, 12))
    subscriptions.apply(end.key.encode(), encode_backfill(end), 2)
    live = [bool([*match(subscriptions.queries, change(offset, N2, N2))]) for offset in (11, 12, 19, 20)]
    assert [False, True, True, False] == live


async def test_present_documents_are_in_the_lane_before_what_follows():
    """Each once; and the lane says at the end that they are, under another id than at its start."""
    asked = after_gap(query="true", events=("update", "ready"), since=3)
    subscriptions = known(asked)
    since = WebhookSince("w", 2, Origin(0, 0, 3))
    subscriptions.apply(since.key.encode(), encode_since(since), subscriptions.position)
    world = World([(b"c/a", encode_change(change(offset, N1, N2))) for offset in range(5)], subscriptions)
    backfills, failed = backfills_of(world)
    backfills.assigned([0])
    await asyncio.wait_for(backfills.ended("w", "u.2", 0), 5)
    assert [("initial", 2), ("update", 3), ("update", 4)] == [(one.match.value, one.change.version) for one in world.lane]
    end = subscriptions.ended("w", PassedMark(world.webhooks - 1, Origin(0, 0, 99), "u.2"))
    subscriptions.apply(end.key.encode(), encode_backfill(end), world.webhooks)
    world.webhooks += 1
    await asyncio.wait_for(world.is_ready.wait(), 5)
    assert marker_of(asked, Match.READY).webhook_id == world.lane[-1].webhook_id != marker_of(revision(), Match.READY).webhook_id
    assert failed == []
    backfills.close()


RUNNING = Replay("rpl_1", "w", "u", 5, (0,), (0,), (0,), (), 1, 1, first_txn=0)


def going_back(number=2, *, since=20, first_txn=0, snapshot=-1, query="n == 2", start="now"):
    made = revision(number, start=start, since=since, query=query, events=("update", "leave"))
    return msgspec.structs.replace(made, replay=PastReplay("rpl_1", MADE_US, first_txn, snapshot, 0))


def sent(change, *revisions, replay=None):
    """The delivery of a backfill, and of the live flow."""
    subscriptions = known(*revisions)
    replay = RUNNING if replay is None else replay
    subscriptions.apply(replay.key.encode(), encode_replay(replay), subscriptions.position)
    plan = subscriptions.plan("w")
    assert plan is not None
    return backfilled(plan, change, {}), next((one for _, one in match(subscriptions.queries, change)), None)


def test_a_replay_sends_again_what_was_sent():
    """With the webhook-id of the first time, marked; each change to the revision that served it."""
    made = revision(start="now", since=2, events=("update", "leave"))
    edited = revision(2, start="now", since=12, query="true", events=("update", "leave"))
    going = going_back(3, query="true")
    for offset, number in ((3, 1), (11, 1), (12, 2), (19, 2)):
        again, first = sent(change(offset, N2, N2), made, edited, going)
        assert first is not None
        assert (number, first.webhook_id, "rpl_1", None) == (again.revision, again.webhook_id, again.replay, again.order)
    assert sent(change(3, N1, N1), made, edited, going)[0] is None


def test_behind_its_marks_a_replay_is_the_live_flow():
    """What happens while it is written comes for the first time, in its place behind it."""
    again, live = sent(change(20, N2, N2), revision(start="now", since=2), going_back())
    assert live is None
    assert (None, 2, Origin(0, 0, 20)) == (again.replay, again.revision, again.order)


@pytest.mark.parametrize(("first_txn", "offsets"), [(0, [2, 3, 9]), (1_003, [3, 9]), (1_010, [])])
def test_a_replay_begins_at_its_first_transaction_and_not_before_the_webhook(first_txn, offsets):
    """What happened before its ``start`` was never sent."""
    revisions = revision(start="now", since=2), going_back(since=10, first_txn=first_txn)
    assert offsets == [offset for offset in (1, 2, 3, 9) if sent(change(offset, N2, N2), *revisions)[0] is not None]


def test_what_may_be_compacted_comes_as_a_snapshot_of_the_replay():
    """Another body, so another id."""
    again, _ = sent(change(3, N1, N2, OLD), revision(start="now", since=2), going_back())
    assert ("initial", -1, None, "rpl_1") == (again.match.value, again.snapshot, again.change.old, again.replay)
    another, _ = sent(change(3, N1, N2, OLD), revision(start="now", since=2), going_back(snapshot=-2))
    assert again.webhook_id != another.webhook_id


def test_a_replay_that_is_cancelled_sends_nothing_again():
    """What comes for the first time does, for the live flow does not send it."""
    replay = msgspec.structs.replace(RUNNING, state=ReplayState.CANCELLED)
    revisions = revision(start="now", since=2), going_back()
    assert sent(change(3, N2, N2), *revisions, replay=replay)[0] is None
    assert sent(change(20, N2, N2), *revisions, replay=replay)[0] is not None


def test_a_gap_after_a_replay_has_its_own_backfill():
    """Numbers of gaps count up, those of replays down."""
    going = going_back()
    after = msgspec.structs.replace(going, revision=3, snapshot=1, since=[Origin(0, 0, 30)])
    assert ["u.-1", "u.1"] == [going.backfill, after.backfill]
    plan = known(revision(start="now", since=2), going, after).plan("w")
    assert plan is not None
    assert (True, "u.1") == (plan.is_after_gap, plan.id)


@pytest.mark.parametrize("state", ReplayState)
def test_what_a_revision_that_was_put_aside_has_cut_off_is_sent(state):
    """Its marks may have ended the live flow before a PUT came; whether its replay was cancelled or not, all from then on is new."""
    subscriptions = known(revision(start="now"))
    asked = Replay("rpl_1", "w", "u", 5_000_000, (0,), (0,), (0,), (), 1, 5_000_000, first_txn=1)
    webhook = subscriptions.registry.webhook("w")
    aside = webhook and with_replay(webhook, newest=webhook.current, replays=[asked], is_ready=False)
    assert webhook is not None
    assert aside is not None
    put = edited(webhook.current, msgspec.structs.replace(webhook.current.spec, url="http://y"), [], newest=aside, now_us=MADE_US)
    pass_mark(subscriptions, aside, 20)
    pass_mark(subscriptions, put, 30)
    answered = msgspec.structs.replace(put, since=[Origin(0, 0, 30)])
    ended = msgspec.structs.replace(asked, state=state)
    for key, value in ((answered.key, encode_revision(answered)), (ended.key, encode_replay(ended))):
        subscriptions.apply(key.encode(), value, subscriptions.position)
    plan = subscriptions.plan("w")
    assert plan is not None
    found = [backfilled(plan, change(offset, N2, N2), {}) for offset in (15, 25, 35)]
    again = None if state is ReplayState.CANCELLED else "rpl_1"
    assert [again is not None, True, True] == [one is not None for one in found]
    assert [None, None] == [one and one.replay for one in found[1:]]
    assert [1, 0, 0] == [len([*match(subscriptions.queries, change(offset, N2, N2))]) for offset in (15, 25, 35)]
    assert ["w"] == subscriptions.owed(0)


def pass_mark(subscriptions, unfinished, offset):
    """A revision is written, and its mark is passed there."""
    at = subscriptions.position
    subscriptions.apply(unfinished.key.encode(), encode_revision(unfinished), at)
    since = subscriptions.marked(PassedMark(at, Origin(0, 0, offset)))
    assert since is not None
    subscriptions.apply(since.key.encode(), encode_since(since), at + 1)
