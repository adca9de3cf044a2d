"""
The webhook sink: brings what stands in lanes to the endpoints. Everything of it is put together here.

Two inputs: the ``webhooks`` topic says which webhooks there are and how they are to be served; slots.py says which of their lanes are ours
and what stands in them. Each lane works on its own (runner.py); commits of all go out together. Started by ``livehook sink``.

In one direction: sink -> runner -> lanes -> render -> signature -> http1 -> health -> offsets; documents that fail: parker -> parking.
Source: docs/explanation/lanes.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from prometheus_client import REGISTRY, CollectorRegistry

from connectors.kafka.admin import offsets
from connectors.kafka.compacted import CompactedReader
from connectors.kafka.errors import KafkaRefused, KafkaUnavailable
from connectors.webhook.background import Background, unless, while_away
from connectors.webhook.config import SinkConfig
from connectors.webhook.holdings import Holdings
from connectors.webhook.http import Sender
from connectors.webhook.lease import Lease, uptime_s
from connectors.webhook.metrics import SinkMetrics
from connectors.webhook.ownership import Commit, KnownLane, LaneRecord, Place, Taken, jumps_of
from connectors.webhook.parked import KafkaRecords
from connectors.webhook.rates import Share
from connectors.webhook.runner import LaneRunner
from connectors.webhook.shared import AttemptsProducer, Producer, Shared
from connectors.webhook.slots import Slots
from schemas.errors import BadRecord
from schemas.registry import Registry, Webhook

__all__ = ["Sink", "SinkConfig"]

logger = logging.getLogger(__name__)

READ_S_MAX = 60.0
ENDS_EVERY_S = 5.0


class Sink:
    """
    Delivers until it is stopped.

    Args:  producer, attempts, sender: started by the caller, and stopped by it after :meth:`run` has returned. The producer of attempts
               may lose records, and gives up after a time; the other one does not.
    """

    def __init__(
        self,
        config: SinkConfig,
        *,
        producer: Producer,
        attempts: AttemptsProducer,
        sender: Sender,
        registry: CollectorRegistry = REGISTRY,
        rng: random.Random | None = None,
    ) -> None:
        self._config = config
        self._producer, self._attempts, self._sender = producer, attempts, sender
        self._metrics = SinkMetrics(registry)
        self._rng = rng or random.Random()
        self._webhooks = Registry()
        self._changed: set[str] = set()
        self._known: dict[str, KnownLane] = {}
        self._held = Holdings()
        self._background = Background(self.failed)
        self._stopping = asyncio.Event()
        self._failure: BaseException | None = None
        self._problem = "it has not joined the group yet"
        self._lease = Lease(config.session_timeout_s / 2)
        self._rounds = 0  # of the thread that reads the lanes
        self._records = KafkaRecords(config.kafka, config.topics.parked)
        self._reader: CompactedReader
        self._slots: Slots
        self._shared: Shared

    @property
    def check(self) -> str:
        """``ok``, or why this process delivers nothing; for readiness."""
        return "ok" if self._lease.held(uptime_s()) else self._problem

    def lanes(self) -> list[dict[str, Any]]:
        """The lanes held here, as items of ``GET /v1/lanes``."""
        return self._held.items()

    def waiting(self) -> dict[str, int]:
        """What has to go on whatever the receivers do, with how far it has come; a lane, while it has calls to make and makes none."""
        if self._stopping.is_set():
            return {}
        lease = {} if self._lease.held(uptime_s()) or not self._held else {"the lease on the lanes": 0}
        return {"the reading of the lanes": self._rounds, **lease, **self._held.waiting()}

    def stop(self) -> None:
        """Finish what is under way, commit, leave; :meth:`run` returns when it is done."""
        self._stopping.set()

    async def run(self) -> None:
        """
        Deliver until :meth:`stop`.

        Raises:  whatever makes it unsafe to go on: the process must end then; another one, or its next life, goes on from the commits.
        """
        loop = asyncio.get_running_loop()
        reader = self._reader = CompactedReader(
            self._config.kafka,
            self._config.topics.webhooks.name,
            lambda key, value, _: _in(loop, self._registered, key, value),
            on_failure=lambda error: _in(loop, self.failed, error),
        )
        self._slots = self._make_slots()
        self._shared = self._make_shared(self._slots)
        regularly = [
            self._background.regularly(self._config.commit_s, self._commit),
            self._background.regularly(ENDS_EVERY_S, self._ask_ends),
        ]
        try:
            reader.start()
            if await unless(self._stopping, while_away(lambda: reader.wait_ready_async(READ_S_MAX))):
                self._slots.start()
                await self._stopping.wait()
        finally:
            for task in regularly:
                task.cancel()
            await self._slots.stop(drain=self._failure is None)
            await loop.run_in_executor(None, reader.stop)
            self._close(self._held.names)
            await self._background.end()
            await self._records.close()
        if self._failure is not None:
            raise self._failure

    # What webhooks there are.

    def _registered(self, key: bytes, value: bytes | None) -> None:
        try:
            name = self._webhooks.apply(key, value)
        except BadRecord as error:
            logger.error("a record of %s cannot be read: %s", self._config.topics.webhooks.name, error)
            return
        if name is None:
            return
        if not self._changed:
            asyncio.get_running_loop().call_soon(self._serve_changed)
        self._changed.add(name)

    def _serve_changed(self) -> None:
        """After many records as after one."""
        known = dict(self._known)
        for name in self._changed:
            webhook = self._webhooks.webhook(name)
            runner = self._held.get(name)
            if webhook is None:
                known.pop(name, None)
            else:
                current = webhook.current
                topic = self._config.topics.lane(name).name
                jumps = jumps_of(self._webhooks.replays(current))
                known[name] = KnownLane(name, current.uid, topic, current.spec.delivery.partitions, jumps)
            if runner is not None:
                if webhook is not None and known[name] == runner.taken.lane:
                    self._update(runner, webhook)
                else:
                    self._close([name], deleted=webhook is None or webhook.current.uid != runner.taken.lane.uid)
            if webhook is None:
                self._metrics.forget(name)
        self._changed.clear()
        if known != self._known:
            self._known = known
            self._slots.know(known)

    def _update(self, runner: LaneRunner, webhook: Webhook) -> None:
        current = webhook.current
        ready = self._webhooks.backfill(current).ready
        runner.backfilled_to = () if current.backfill is None else None if ready is None else ready.offsets
        if webhook != runner.webhook:  # how far its backfill is changes often
            runner.update(webhook)

    # What slots.py tells; see its Events.

    def rebalanced(self) -> None:
        """The group's slots were given out anew."""
        self._metrics.rebalances.labels("sink").inc()
        self._slots.commit([])  # a fresh lease does not wait for the next regular commit

    def taken(self, lanes: Sequence[Taken]) -> None:
        """These are ours from now on."""
        fresh: list[LaneRunner] = []
        for taken in lanes:
            name = taken.lane.webhook
            webhook = self._webhooks.webhook(name)
            if webhook is not None and webhook.current.uid == taken.lane.uid:  # else it was deleted since, and is given up in a moment
                runner = LaneRunner(taken, webhook, self._shared)
                self._held.add(runner)
                self._update(runner, webhook)
                self._slots.resume(taken.lane.places)  # a pause that was asked for in an earlier life of the lane may come only now
                fresh.append(runner)
        if fresh:
            self._background.run(self._restore(fresh))

    async def _restore(self, runners: Sequence[LaneRunner]) -> None:
        """Tell lanes what was parked before they were ours; those that are not ours any more need not know."""
        found = await self._records.troubles([runner.taken.lane.webhook for runner in runners])
        logs = await self._records.logs([place for runner in runners for place in runner.taken.lane.places])
        await self._caught_up()  # with what the owners before us have found missing
        for runner in runners:
            name = runner.taken.lane.webhook
            if self._held.get(name) is runner:
                runner.restore(found[name], self._webhooks.gaps(runner.webhook.current))
        self._held.emptied(logs)

    async def _caught_up(self) -> None:
        """Until all that is in ``webhooks`` now was read."""
        place = self._config.topics.webhooks.name, 0
        end = (await self._records.logs([place]))[place].end
        await unless(self._stopping, while_away(lambda: self._reader.wait_until_async(end, READ_S_MAX)))

    def records(self, records: Sequence[LaneRecord]) -> None:
        """Read from lanes."""
        self._held.read(records)
        self._slots.handled(records)

    async def drain(self, webhooks: Sequence[str], timeout_s: float) -> list[Commit]:
        """Finish what is under way in these lanes and say what to commit."""
        return await self._held.drain(webhooks, timeout_s)

    def given_up(self, webhooks: Sequence[str]) -> None:
        """These are not ours any more."""
        self._close(webhooks)

    def lost(self) -> None:
        """The group has gone on without us."""
        self._problem = "the group has given its lanes to others"
        self._lease.lost()
        self._close(self._held.names)

    def committed(self, commits: Sequence[Commit], sent: float) -> None:
        """Acknowledged: we are a member still."""
        was_held = self._lease.held(uptime_s())
        self._lease.renewed(sent)
        self._problem = "Kafka does not acknowledge its commits"
        self._held.committed(commits)
        if not was_held:
            self._held.go_on()

    def ends(self, ends: Mapping[Place, int]) -> None:
        """How far the lanes reach."""
        self._rounds += 1
        self._held.reach(ends)

    def failed(self, error: BaseException) -> None:
        """Something that nobody can deal with here: the process ends."""
        if self._failure is None:
            self._failure = error
        self._stopping.set()

    # The rest.

    async def _commit(self) -> None:
        self._slots.commit(self._held.commits())

    async def _ask_ends(self) -> None:
        """The consumer knows the ends of what it reads; those of lanes that are full must be asked for."""
        if not (places := self._held.stopped_places):
            return
        ask = partial(offsets, self._config.kafka, places, timeout_s=ENDS_EVERY_S)
        try:
            found = await asyncio.get_running_loop().run_in_executor(None, ask)
        except (KafkaUnavailable, KafkaRefused) as error:
            logger.info("the ends of the lanes are not known: %s", error)
            return
        self._held.reach({place: at.end for place, at in found.items()})
        self._held.emptied(found)

    def _close(self, webhooks: Sequence[str], *, deleted: bool = False) -> None:
        for name in webhooks:
            if (runner := self._held.remove(name)) is not None:
                runner.halt()
                self._background.run(_closed(runner, deleted=deleted))

    def _make_slots(self) -> Slots:
        config = self._config
        return Slots(
            config.kafka,
            self,
            group=config.topics.group_sink,
            slots_topic=config.topics.slots.name,
            slots=config.topics.slots.partitions,
            client_id=config.client_id,
            instance_id=config.instance_id,
            session_timeout_s=config.session_timeout_s,
            drain_s=config.drain_s,
        )

    def _make_shared(self, slots: Slots) -> Shared:
        config, topics = self._config, self._config.topics
        return Shared(
            sender=self._sender,
            producer=self._producer,
            attempts=self._attempts,
            reading=slots,
            records=self._records,
            metrics=self._metrics,
            lease=self._lease,
            calls=Share(config.in_flight_max),
            held_bytes=Share(config.held_bytes_max),
            failed=self.failed,
            attempts_topic=topics.attempts.name,
            dead_letters_topic=topics.dead_letters.name,
            webhooks_topic=topics.webhooks.name,
            parked_topic=topics.parked,
            parked_max=config.parked_max,
            origin_partitions=topics.partitions,
            user_agent=f"livehook/{config.version}",
            worker=config.worker,
            rng=self._rng,
        )


async def _closed(runner: LaneRunner, *, deleted: bool) -> None:
    await runner.halted()
    if deleted:
        await runner.forget()


def _in(loop: asyncio.AbstractEventLoop, act: Callable[..., None], *what: Any) -> None:
    """From another thread; a loop that is closed needs nothing any more."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(act, *what)
