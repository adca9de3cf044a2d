"""
Replays from being asked for to their end. Each is a record of ``webhooks``. A rewind is carried out by the sink that holds the lane; that
it has been is seen from the lane's commits. One to before what the lane keeps is a backfill of the streams, begun by snapshots.py. A
selection is copied by us, see selecting.py. Called by replays.py.

Whatever a crash cuts off is taken up again by :meth:`Replaying.start`. Source: docs/explanation/replay.md.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

import msgspec

from connectors.activity.model import ActivityUnavailable
from connectors.activity.store import Activity
from connectors.kafka.errors import KafkaRefused, KafkaUnavailable
from livehook.api.past import Past, until_txn_of
from livehook.api.ports import Commits, Logs, Producer
from livehook.api.problems import Problem
from livehook.api.register import Register
from livehook.api.replay_input import Asked
from livehook.api.replay_metrics import ReplayMetrics
from livehook.api.replay_places import Kept, Place, Places
from livehook.api.replay_progress import Progress, place_of, rewound
from livehook.api.replay_records import ReplayRecords
from livehook.api.selecting import Copying, LaneStalled, Selection
from livehook.background import in_background
from schemas.registry import Webhook
from schemas.replays import Replay, ReplayState, Selected
from schemas.starts import TXN_MAX
from schemas.topics import Topics, TopicSpec

logger = logging.getLogger(__name__)

WATCH_EVERY_S = 1.0
COPYING_MAX = 4  # selections at a time


class Found(msgspec.Struct, frozen=True):
    """
    What a replay comes to: in each partition of the lane, from where to before where, and how many deliveries.

    first_txn:  the first delivery, where ``changes`` serve it; None: the lane does. until_txn: then the one after the last, of a selection.
    """

    begin: tuple[int, ...]
    until: tuple[int, ...]
    deliveries: int
    first_txn: int | None = None
    until_txn: int | None = None


class Replaying:
    """
    Args:  new_id: makes a replay's id. now_us: µs since 1970. fail: called with what nobody has thought of.
    """

    def __init__(
        self,
        *,
        topics: Topics,
        register: Register,
        records: ReplayRecords,
        past: Past,
        metrics: ReplayMetrics,
        activity: Activity,
        producer: Producer,
        logs: Logs,
        commits: Commits,
        new_id: Callable[[], str],
        now_us: Callable[[], int],
        fail: Callable[[BaseException], None],
    ) -> None:
        self._topics, self._register, self._records, self._commits = topics, register, records, commits
        self._activity, self._past, self._metrics = activity, past, metrics
        self._places = Places(logs)
        self._copying = Copying(self._places, producer, self._finished)
        self._copies: dict[str, asyncio.Task[None]] = {}
        self._tried: dict[str, LaneStalled | None] = {}  # the selections that had a turn, the last one last, and what ended it
        self._new_id, self._now_us, self._fail = new_id, now_us, fail
        self._watching: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Look after the replays that are running, until :meth:`stop`."""
        self._watching = in_background(self._watch(), name="replays", fail=self._fail)

    async def stop(self) -> None:
        """What is running goes on in the sinks, and is looked after again after the next start."""
        tasks = {*self._copies.values()} | ({self._watching} if self._watching is not None else set())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def ask(self, name: str, asked: Asked) -> tuple[Replay | None, Found]:
        """
        Begin a replay, or only count; None: nothing is to be sent.

        Raises:  Problem: not-found, invalid, conflict. KafkaUnavailable: whether it has begun is unknown.
        """
        webhook = self._register.get(name)
        kept = await self._places.kept(self._lane(webhook))
        if (first_txn := await self._places.past(asked.begin, kept)) is not None:
            return await self._ask_past(webhook, asked, first_txn, kept)
        begin = await self._places.begin(asked.begin, kept)
        until = await self._places.until(asked.until, kept, begin)
        asked_us = self._now_us()
        selection = None if asked.selected is None else await self._selection(webhook, asked.selected, asked_us)
        found = Found(begin, until, await self._count(kept, begin, until, webhook.current.uid, selection))
        if asked.dry_run or not found.deliveries:
            return None, found
        committed = await self._committed(webhook) if selection is None else []
        resume = tuple(0 if commit is None else commit[0] for commit in committed)

        def make(number: int) -> Replay:
            uid, count = webhook.current.uid, found.deliveries
            made = Replay(self._new_id(), name, uid, number, begin, until, kept.end, resume, count, asked_us)
            return msgspec.structs.replace(made, selected=asked.selected)

        replay = await self._records.begin(webhook, make)
        if selection is not None:
            self._begin_copies(replay)
        return replay, found

    async def _ask_past(self, webhook: Webhook, asked: Asked, first_txn: int, kept: Kept) -> tuple[Replay | None, Found]:
        """The same, where ``changes`` have to serve it."""
        asked_us, until_txn = self._now_us(), until_txn_of(asked.until, first_txn)
        selection = None if asked.selected is None else await self._selection(webhook, asked.selected, asked_us)
        count, lowest, end_txn = 0, TXN_MAX, first_txn
        async for deliveries in self._past.deliveries(webhook, first_txn, until_txn, asked_us):
            txns = [delivery.change.txn_id for delivery in deliveries if selection is None or selection.wants(delivery)]
            count, lowest, end_txn = count + len(txns), min([lowest, *txns]), max([end_txn, *(txn + 1 for txn in txns)])
        selected = None if asked.selected is None else msgspec.structs.replace(asked.selected, until_txn=end_txn)
        found = Found(kept.end, kept.end, count, lowest if count else first_txn, None if selected is None else end_txn)
        if asked.dry_run or not count:
            return None, found

        def make(number: int) -> Replay:
            name, uid, end = webhook.current.name, webhook.current.uid, kept.end
            made = Replay(self._new_id(), name, uid, number, end, end, end, (), count, asked_us, first_txn=first_txn)
            return msgspec.structs.replace(made, selected=selected)

        replay = await self._records.begin(webhook, make)
        if selection is not None:
            self._begin_copies(replay)
        return replay, found

    def get(self, id_: str) -> Replay | None:
        """A replay of a webhook that is there."""
        return self._records.get(id_)

    async def cancel(self, replay: Replay) -> Replay:
        """
        End a replay before it is done; one that was cancelled stays so.

        Raises:  Problem: conflict: it is done. KafkaUnavailable.
        """
        ended = await self._records.end(replay, ReplayState.CANCELLED)
        if ended.state is ReplayState.DONE:
            raise Problem("conflict", f"the replay {replay.id} is done")
        return ended

    async def progress(self, replay: Replay) -> Progress:
        """How far it is. Raises KafkaUnavailable."""
        if replay.state is ReplayState.DONE:
            return Progress(replay.deliveries, is_over=True)
        committed = await self._committed(self._register.get(replay.webhook))
        if replay.is_jump and replay.state is ReplayState.RUNNING:  # the lane of a cancelled one is elsewhere
            return rewound(replay, committed)
        delivered = await asyncio.to_thread(self._activity.replayed, replay.id)
        places = [-1 if commit is None else commit[0] for commit in committed]
        is_over = bool(replay.committed) and all(place >= end for place, end in zip(places, replay.committed, strict=True))
        return Progress(min(delivered, replay.deliveries), is_over=is_over)

    async def _count(self, kept: Kept, begin: Sequence[int], until: Sequence[int], uid: str, selection: Selection | None) -> int:
        wants = None if selection is None else selection.wants
        spans = zip(kept.places, begin, until, strict=True)
        return sum([await self._places.count(place, first, end, uid, wants) for place, first, end in spans])

    async def _selection(self, webhook: Webhook, selected: Selected, asked_us: int) -> Selection:
        """The same whenever it is made: what has failed since does not count."""
        failed: set[str] = set()
        if selected.failed:
            failed = await asyncio.to_thread(self._activity.undelivered, webhook.current.name, asked_us)
        return Selection(selected, failed)

    def _begin_copies(self, replay: Replay) -> None:
        """Unless somebody does so already, or there is too much to do for now: then it is begun later."""
        if replay.id not in self._copies and len(self._copies) < COPYING_MAX:
            self._tried.pop(replay.id, None)
            self._tried[replay.id] = None
            task = self._copies[replay.id] = asyncio.create_task(self._copy(replay), name=f"copies of {replay.id}")
            task.add_done_callback(lambda task: self._ended(replay.id, task))

    def _ended(self, id_: str, task: asyncio.Task[None]) -> None:
        del self._copies[id_]
        if not task.cancelled() and (error := task.exception()) is not None:  # no reason to end the API: it can be cancelled there
            logger.error("the copies of replay %s have failed, and are tried again in their turn", id_, exc_info=error)

    async def _copy(self, replay: Replay) -> None:
        def is_running() -> bool:
            present = self._records.get(replay.id)
            return present is not None and present.state is ReplayState.RUNNING

        try:
            webhook = self._register.get(replay.webhook)
            lane = self._lane(webhook)
            selected, asked_us = replay.selected or Selected(), replay.started_us
            selection = await self._selection(webhook, selected, asked_us)
            if replay.first_txn is None:
                await self._copying.copy(lane.name, replay, selection, is_running=is_running)
            else:
                past = self._past.deliveries(webhook, replay.first_txn, selected.until_txn, asked_us)
                await self._copying.copy_past(lane, replay, past, selection, is_running=is_running)
            if is_running():
                await self._records.copied(replay, (await self._places.kept(lane)).end)
        except LaneStalled as stalled:
            self._tried[replay.id] = stalled
        except (KafkaUnavailable, KafkaRefused, ActivityUnavailable, TimeoutError, Problem) as error:
            logger.warning("the copies of replay %s are cut off, and gone on with in a moment: %s", replay.id, error)

    async def _finished(self, place: Place) -> int:
        """Up to where a partition of a lane is finished."""
        offset, _ = (await self._commits.commits(self._topics.group_sink, [place])).get(place, (0, ""))
        return offset

    async def _committed(self, webhook: Webhook) -> list[tuple[int, int] | None]:
        """For each partition of the lane the committed offset, and the number of the last jump; None: nothing is, of this webhook."""
        lane, uid = self._lane(webhook), webhook.current.uid
        places = [(lane.name, partition) for partition in range(lane.partitions)]
        commits = await self._commits.commits(self._topics.group_sink, places)
        return [place_of(commits[place], uid) if place in commits else None for place in places]

    def _lane(self, webhook: Webhook) -> TopicSpec:
        current = webhook.current
        return self._topics.lane(current.name, current.spec.delivery.partitions)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(WATCH_EVERY_S)
            await self.look()

    async def look(self) -> None:
        """Put on record which replays are done, go on with selections, and show how far they are."""
        running = self._records.running()
        self._metrics.running(running)
        uncopied = [replay for replay in running if replay.selected is not None and not replay.committed]
        for act, replays in ((self._look_at, running), (self._go_on, self._next(uncopied))):
            for replay in replays:
                try:
                    await act(replay)
                except (KafkaUnavailable, KafkaRefused, ActivityUnavailable, TimeoutError, Problem) as error:
                    logger.info("how far the replay %s is, is not known: %s", replay.id, error)

    async def _look_at(self, replay: Replay) -> None:
        progress = await self.progress(replay)
        self._metrics.delivered(replay, progress.delivered)
        if progress.is_over:
            await self._records.end(replay, ReplayState.DONE)
        elif replay.is_backfill and not replay.committed and (end := self._records.written(replay)) is not None:
            await self._records.copied(replay, end)

    def _next(self, uncopied: Sequence[Replay]) -> list[Replay]:
        """As many selections as there are places, those first whose turn is longest ago."""
        ids = {replay.id for replay in uncopied}
        self._tried = {id_: stalled for id_, stalled in self._tried.items() if id_ in ids or id_ in self._copies}
        turns = {id_: turn for turn, id_ in enumerate(self._tried)}
        waiting = [replay for replay in uncopied if replay.id not in self._copies]
        return sorted(waiting, key=lambda replay: turns.get(replay.id, -1))[: COPYING_MAX - len(self._copies)]

    async def _go_on(self, replay: Replay) -> None:
        stalled = self._tried.pop(replay.id, None)
        self._tried[replay.id] = stalled
        if stalled is None or await self._copying.has_moved(stalled):
            self._begin_copies(replay)
