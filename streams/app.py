"""
The streams worker: a Faust app that hands batches to agents, wired on one screen.

Faust gives membership, assignment, flow control and commits; the batches come through :mod:`streams.transport`; what happens to them is in
:mod:`streams.documents_agent` and :mod:`streams.matching_agent`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from faust.tables.manager import TableManager
from faust.types import TP, EventT
from mode import CrashingSupervisor

from schemas.errors import Fatal
from schemas.topics import Topics
from streams import transport
from streams.metrics import StreamsMetrics
from streams.ports import Agent, Fetcher

logger = logging.getLogger(__name__)

SESSION_TIMEOUT_S = 10.0
HEARTBEAT_S = 3.0
COMMIT_S = 1.0
REBALANCE_S = 30.0  # who does not join again for so long is left out; the others' watchdogs wait for longer
IN_FLIGHT_WAIT_S = 8.0  # less than the rebalance timeout: a batch under way is finished before its partition is given away

Fail = Callable[[BaseException], None]


class _NoTables(TableManager):
    """Faust's tables, of which we have none: the stock class waits a second at each start in case some are registered yet."""

    async def on_start(self) -> None:
        await self._update_channels()
        await self.recovery.start()


class StreamsWorker:
    """
    One worker process of the group.

    Args:  fail: called with what made a batch fail; no batch is worked on after that, and it must end the process.
           connection: further Faust settings (credentials, SSL context).
    """

    def __init__(
        self,
        *,
        topics: Topics,
        bootstrap_servers: str,
        client_id: str,
        instance_id: str,
        folder: Path,
        fetcher: Fetcher,
        agents: Sequence[Agent],
        metrics: StreamsMetrics,
        fail: Fail,
        connection: Mapping[str, Any] | None = None,
    ) -> None:
        transport.register()
        (folder / "faust").mkdir(parents=True, exist_ok=True)
        self._metrics = metrics
        self._fail = fail
        self._agents = agents
        self._prefix = topics.prefix
        self._turns: dict[TP, asyncio.Lock] = {}
        self._under_way: set[asyncio.Task[None]] = set()
        self._failed = False
        self._stopping = False
        self.app = transport.App(
            topics.group_streams,
            broker=[f"{transport.SCHEME}://{server}" for server in bootstrap_servers.split(",")],
            broker_client_id=client_id,
            consumer_group_instance_id=instance_id,
            datadir=str(folder / "faust"),
            store="memory://",
            autodiscover=False,
            web_enabled=False,
            topic_disable_leader=True,
            topic_allow_declare=False,
            agent_supervisor=CrashingSupervisor,
            TableManager=_NoTables,
            consumer_auto_offset_reset="earliest",
            stream_buffer_maxsize=4096,  # never reached: the transport bounds the batches under way
            stream_wait_empty=False,
            broker_session_timeout=SESSION_TIMEOUT_S,
            broker_heartbeat_interval=HEARTBEAT_S,
            broker_commit_interval=COMMIT_S,
            broker_rebalance_timeout=REBALANCE_S,
            broker_max_poll_interval=300.0,
            **(connection or {}),
        )
        self.app.fetcher = fetcher
        for agent in agents:
            self._add(agent)
        self.app.on_partitions_revoked.connect(self._on_revoked)
        self.app.on_partitions_assigned.connect(self._on_assigned)

    async def start(self) -> None:
        """Join the group and start to work."""
        await self.app.start()

    async def stop(self) -> None:
        """Finish the batches under way, commit, leave."""
        self._stopping = True  # what is fetched from now on is left to the next owner
        await self._settled()
        await self.app.consumer.commit()
        await self.app.stop()
        for agent in self._agents:
            agent.close()

    def crash(self) -> Exception | None:
        """
        What ended a part of Faust, if anything did; then nothing moves any more and the process must end.

        Faust only logs it: a record that its consumer cannot read ends the task that fetches, and the rest lives on.
        """
        for service in (self.app, self.app.consumer, self.app._fetcher):
            if service.crashed:
                return Fatal(f"{service.label} crashed: {service.crash_reason!r}")
        failure = self._consumer.failure()
        return None if failure is None else Fatal(f"the group's client cannot go on: {failure!r}")

    def joined(self) -> bool:
        """Whether the group has given this worker its partitions, which may be none."""
        return self.crash() is None and not self.app.rebalancing and self.app.consumer_generation_id > 0

    def places(self) -> set[TP]:
        """The partitions that this worker has now."""
        return self._consumer.assignment()

    def waiting(self, ends: Mapping[TP, int]) -> dict[str, Hashable]:
        """
        What has work now, by name, with how far it has come; that the group gives us partitions is work too.

        Args:  ends: where the logs of :meth:`places` end, asked a while ago.
        """
        if not self.joined():
            return {f"joining group {self.app.conf.id}": self.app.consumer_generation_id}
        agents = {agent.topic: agent for agent in self._agents}
        return {
            f"{tp.topic}/{tp.partition}": (done, agents[tp.topic].progress(tp.partition))
            for tp, done in self._consumer.waiting(ends).items()
        }

    def measure(self) -> None:
        """Note how far behind this worker's partitions are."""
        lag = {agent.topic: 0 for agent in self._agents}
        for tp in self.places():
            lag[tp.topic] += self._consumer.behind(tp)
        for topic, records in lag.items():
            self._metrics.lag(topic.removeprefix(self._prefix), records)

    @property
    def _consumer(self) -> transport.Consumer:
        return cast(transport.Consumer, self.app.consumer)

    def _add(self, agent: Agent) -> None:
        channel = self.app.topic(agent.topic, value_serializer="batch", value_type=None, key_serializer="raw", key_type=bytes)

        async def process(stream: Any) -> None:
            # Batches of a partition one after the other, those of different partitions side by side: most of a batch's time is waiting for
            # Kafka's acknowledgement. The transport bounds how many there are.
            async for event in stream.noack().events():
                task = asyncio.create_task(self._in_turn(agent, event))
                self._under_way.add(task)
                task.add_done_callback(self._under_way.discard)

        self.app.agent(channel, name=agent.topic, concurrency=1)(process)

    async def _in_turn(self, agent: Agent, event: EventT[Any]) -> None:
        async with self._turns.setdefault(event.message.tp, asyncio.Lock()):
            await self._process(agent, event)

    async def _process(self, agent: Agent, event: EventT[Any]) -> None:
        batch = cast(transport.Batch, event.value)
        if self._failed or self._stopping or batch.life != self._consumer.life:
            return  # not acknowledged: whoever owns the partition next reads it again from the commit
        try:
            await agent.process(batch.records)
        except Exception as error:  # noqa: BLE001 - whatever it is, the process ends with it
            # Nothing may be done behind a batch that was not: a later commit, or a later origin in `changes`, would pass over it.
            self._failed = True
            self._fail(error)
        else:
            event.ack()

    async def _on_assigned(self, *what: Any, **_: Any) -> None:
        assigned: set[TP] = what[1]  # behind the app, which sends it
        for agent in self._agents:
            agent.assigned({tp.partition for tp in assigned if tp.topic == agent.topic})

    async def _on_revoked(self, *_: Any, **__: Any) -> None:
        await self._settled()
        self._consumer.end_life()  # first: what an agent gives up now must not be followed by the batch behind it
        for agent in self._agents:
            agent.revoked()
        self._metrics.rebalanced()

    async def _settled(self) -> None:
        """Until no batch is under way; after a while on without, for the next owner's checks hold it all the same."""
        if self._under_way:
            _, left = await asyncio.wait(self._under_way, timeout=IN_FLIGHT_WAIT_S)
            if left:
                logger.warning("%d batches are still under way after %.0f s, their partitions are given away", len(left), IN_FLIGHT_WAIT_S)
