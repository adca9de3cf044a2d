"""The streams role put together: which readers, producers and agents a worker has, in which order they start, and when it is well."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import faust
from aiokafka.errors import KafkaError as AiokafkaError
from faust.types import TP
from prometheus_client import CollectorRegistry
from starlette.types import ASGIApp

from connectors.kafka.admin import readable_ends, topic_ids
from connectors.kafka.compacted import CompactedReader
from connectors.kafka.config import KafkaConfig
from connectors.kafka.errors import KafkaRefused, KafkaUnavailable
from connectors.kafka.fetching import Fetcher
from connectors.kafka.log import KafkaLog
from connectors.kafka.producer import Producer
from connectors.kafka.registry import SchemaRegistry
from livehook import health
from livehook.background import in_background
from livehook.folders import instance_id
from livehook.roles import ADMIN_S_MAX, READ_S_MAX, kafka_answers, prepare
from livehook.settings import Settings
from livehook.watchdog import Waiting, Watchdog
from schemas.records import encode_installation
from schemas.topics import Record
from schemas.webhooks import INSTALLATION_KEY, Installation
from streams import installation
from streams.app import StreamsWorker
from streams.backfilling import Backfills
from streams.documents_agent import DocumentsAgent
from streams.matching_agent import MatchingAgent
from streams.metrics import StreamsMetrics
from streams.subscriptions import Subscriptions

logger = logging.getLogger(__name__)

STOP_S = 10.0
MEASURE_S = 2.0
ENDS_S = 10.0

Fail = Callable[[BaseException], None]


class StreamsRole:
    """
    One streams worker.

    Args:  folder: for its document stores and its name in the group; no other process may use it.
           address: where its HTTP endpoints are, for the API to find.
           fail: called with what makes it unsafe to go on; it must end the process.
           new_epoch: an operator says that topics made anew are to be taken as they are.
    """

    def __init__(self, settings: Settings, *, folder: Path, address: str, fail: Fail, new_epoch: bool = False) -> None:
        self._settings = settings
        self._config = settings.kafka()
        self._folder = folder
        self._address = address
        self._fail = fail
        self._new_epoch = new_epoch
        self._topics = settings.topics()
        self._subscriptions = Subscriptions(self._topics)
        self._log = KafkaLog(self._config, self._topics.group_streams)
        self._worker: StreamsWorker | None = None
        self._backfills: Backfills | None = None
        self._watchdog = Watchdog(self._waiting, lambda: kafka_answers(settings, self._topics.group_streams), fail)
        self._ends: dict[TP, int] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self.registry = CollectorRegistry()
        self._metrics = StreamsMetrics(self.registry)
        client_id = f"livehook-streams@{address}"
        # Two producers: a spread over many lanes makes many small requests, which must not hold up the changes.
        self._changes = Producer(self._config, client_id=client_id)
        self._deliveries = Producer(self._config, client_id=client_id)
        self._fetcher: Fetcher | None = None
        self._reader: CompactedReader | None = None
        self._schemas: SchemaRegistry | None = None

    @property
    def app(self) -> ASGIApp:
        """What it serves."""
        return health.app(self.checks, registry=self.registry, alive={"work": lambda: self._watchdog.check})

    @property
    def checks(self) -> Mapping[str, Callable[[], str]]:
        """What must be well for the worker to be ready."""
        return {"webhooks": self._check_webhooks, "group": self._check_group}

    async def start(self) -> None:
        """
        Make topics that are missing, read the webhooks, join the group.

        Raises:  Fatal, KafkaUnavailable: it cannot start; nothing of it runs then that matters.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        self._schemas = await prepare(self._settings)
        self._changes.start()
        self._deliveries.start()
        await self._read_webhooks()
        found = await self._installation()
        self._fetcher = Fetcher(self._config, client_id=f"livehook-streams@{self._address}")
        self._fetcher.start()
        self._worker = StreamsWorker(
            topics=self._topics,
            bootstrap_servers=self._config.bootstrap_servers,
            client_id=f"livehook-streams@{self._address}",
            instance_id=instance_id(self._folder),
            folder=self._folder,
            fetcher=self._fetcher,
            agents=[self._documents(found), self._matching()],
            metrics=self._metrics,
            fail=self._fail,
            connection=connection(self._config),
        )
        try:
            await self._worker.start()
        except AiokafkaError as error:
            if error.retriable:
                raise KafkaUnavailable(f"cannot join the group: {error}") from error
            raise
        self._tasks = [
            in_background(self._measure(self._worker), name="measure lag", fail=self._fail),
            in_background(self._ask_ends(self._worker), name="ends of logs", fail=self._fail),
            asyncio.create_task(self._watchdog.run(), name="watchdog"),
        ]

    async def stop(self) -> None:
        """Finish the batches under way, commit, leave the group."""
        for task in self._tasks:
            task.cancel()
        if self._worker is not None:
            await self._worker.stop()
        if self._fetcher is not None:
            await self._fetcher.stop()
        await self._changes.stop(STOP_S)
        await self._deliveries.stop(STOP_S)
        if self._reader is not None:
            await asyncio.to_thread(self._reader.stop)

    def _documents(self, found: Installation) -> DocumentsAgent:
        return DocumentsAgent(
            topics=self._topics,
            folder=self._folder / "documents",
            producer=self._changes,
            log=self._log,
            epoch=found.epoch,
            changes_topic_id=found.changes_topic_id,
            metrics=self._metrics,
            schema_by_id=None if self._schemas is None else self._schemas.schema_by_id,
        )

    def _matching(self) -> MatchingAgent:
        self._backfills = Backfills(
            topics=self._topics,
            producer=self._deliveries,
            log=self._log,
            subscriptions=self._subscriptions,
            metrics=self._metrics,
            fail=self._fail,
        )
        return MatchingAgent(
            topics=self._topics,
            producer=self._deliveries,
            log=self._log,
            subscriptions=self._subscriptions,
            metrics=self._metrics,
            backfills=self._backfills,
        )

    async def _read_webhooks(self) -> None:
        """Fold the topic up to its present end before anything is matched, and from then on as it grows."""
        loop = asyncio.get_running_loop()

        def hand_over(key: bytes, value: bytes | None, offset: int) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended, and with it whoever wanted to know
                loop.call_soon_threadsafe(self._apply, key, value, offset)

        def failed(error: Exception) -> None:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._fail, error)

        self._reader = CompactedReader(self._config, self._topics.webhooks.name, hand_over, on_failure=failed)
        self._reader.start()
        # What was handed over before the wait ends is applied before this goes on: the loop takes its calls in order.
        await self._reader.wait_ready_async(READ_S_MAX)

    def _apply(self, key: bytes, value: bytes | None, offset: int) -> None:
        try:
            name = self._subscriptions.apply(key, value, offset)
            if name is not None and self._subscriptions.registry.webhook(name) is None:
                self._metrics.forget(name)
        except Exception as error:  # noqa: BLE001 - in a callback nobody else would see it
            self._fail(error)

    async def _installation(self) -> Installation:
        mutations, changes = self._topics.mutations.name, self._topics.changes.name
        ids = await asyncio.to_thread(topic_ids, self._config, [mutations, changes], timeout_s=ADMIN_S_MAX)
        known = self._subscriptions.registry.installation
        found = installation.check(
            known, self._topics, mutations_topic_id=ids[mutations], changes_topic_id=ids[changes], new_epoch=self._new_epoch
        )
        if found != known:
            await self._changes.send([Record(self._topics.webhooks.name, INSTALLATION_KEY, encode_installation(found), (), 0)])
        return found

    async def _measure(self, worker: StreamsWorker) -> None:
        while True:
            await asyncio.sleep(MEASURE_S)
            if (crash := worker.crash()) is not None:
                self._fail(crash)
                return
            worker.measure()

    async def _ask_ends(self, worker: StreamsWorker) -> None:
        """What the fetcher says of the logs it reads cannot show that it reads no more."""
        while True:
            await asyncio.sleep(ENDS_S)
            try:
                found = await asyncio.to_thread(readable_ends, self._config, worker.places(), timeout_s=ENDS_S)
            except (KafkaUnavailable, KafkaRefused) as error:
                logger.debug("the ends of the logs are not known: %s", error)
            else:
                self._ends = {TP(*place): end for place, end in found.items()}

    def _waiting(self) -> Waiting:
        if self._worker is None or self._backfills is None:
            return {}
        return {**self._worker.waiting(self._ends), **self._backfills.waiting()}

    def _check_webhooks(self) -> str:
        if self._reader is None:
            return "not read yet"
        return "ok" if self._reader.failed is None else f"cannot be read: {self._reader.failed}"

    def _check_group(self) -> str:
        return "ok" if self._worker is not None and self._worker.joined() else "joining the group"


def connection(config: KafkaConfig) -> dict[str, Any]:
    """How Faust reaches Kafka."""
    protocol = config.security_protocol.upper()
    context = None
    if protocol.endswith("SSL"):
        context = ssl.create_default_context(cafile=config.ssl_ca)
        if config.ssl_cert:
            context.load_cert_chain(config.ssl_cert, config.ssl_key)
    if protocol.startswith("SASL_"):
        mechanism = config.sasl_mechanism and config.sasl_mechanism.upper()
        return {
            "broker_credentials": faust.SASLCredentials(
                username=config.sasl_username, password=config.sasl_password, ssl_context=context, mechanism=mechanism
            )
        }
    return {} if context is None else {"broker_credentials": faust.SSLCredentials(context=context)}
