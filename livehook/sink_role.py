"""The sink role put together: its producers, its sender, and the sink between them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
from prometheus_client import CollectorRegistry, ProcessCollector
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from connectors.kafka.producer import Producer
from connectors.webhook.config import SinkConfig
from connectors.webhook.dial import Refusals
from connectors.webhook.engines import make_engine
from connectors.webhook.sink import Sink
from connectors.webhook.tokens import AuthorizingSender
from livehook import __version__, health
from livehook.folders import instance_id
from livehook.process import Fail
from livehook.roles import kafka_answers, own_ports, prepare
from livehook.settings import Settings
from livehook.watchdog import Watchdog

STOP_S_MAX = 5.0
ATTEMPTS_S_MAX = 30.0
ATTEMPTS_LINGER_MS = 20  # nobody waits for them


class SinkRole:
    """
    One sink.

    Args:  folder: for its name in the group; it is there, and no other process uses it.
           address: where it is served, for the API to find.
           fail: called with what makes it unsafe to go on.
    """

    def __init__(self, settings: Settings, *, folder: Path, address: str, fail: Fail) -> None:
        self._settings = settings
        self._topics = settings.topics()
        self._fail = fail
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        config = SinkConfig(
            kafka=settings.kafka(), topics=self._topics, worker=address, version=__version__, instance_id=instance_id(folder)
        )
        self._producer = Producer(config.kafka, client_id=config.client_id)
        self._attempts = Producer(  # an attempt that is written twice is one to its readers: they know it by its id
            config.kafka,
            client_id=config.client_id,
            message_timeout_s=ATTEMPTS_S_MAX,
            linger_ms=ATTEMPTS_LINGER_MS,
            is_idempotent=False,
        )
        rules = settings.egress(own_ports=own_ports(address))
        engine = make_engine(rules, proxy=settings.egress_proxy, refused=Refusals(self._registry))
        self._sender = AuthorizingSender(engine, user_agent=f"livehook/{__version__}")
        self._sink = Sink(config, producer=self._producer, attempts=self._attempts, sender=self._sender, registry=self._registry)
        self._watchdog = Watchdog(self._sink.waiting, lambda: kafka_answers(settings, self._topics.group_sink), fail)
        self._watching: asyncio.Task[None] | None = None
        self._running: asyncio.Task[None] | None = None

    @property
    def app(self) -> ASGIApp:
        """Its health, and ``GET /lanes`` for the API."""

        async def lanes(_: Request) -> Response:
            return Response(msgspec.json.encode({"items": self._sink.lanes()}), media_type="application/json")

        checks, alive = {"sink": lambda: self._sink.check}, {"work": lambda: self._watchdog.check}
        return health.app(checks, [Route("/lanes", lanes)], self._registry, alive)

    async def start(self) -> None:
        """Make topics that are missing, and begin. Raises Fatal, KafkaUnavailable."""
        await prepare(self._settings)
        self._producer.start()
        self._attempts.start()
        self._running = asyncio.create_task(self._run(), name="sink")
        self._watching = asyncio.create_task(self._watchdog.run(), name="watchdog")

    async def stop(self) -> None:
        """Finish the calls under way, commit, leave the group."""
        if self._watching is not None:
            self._watching.cancel()
        self._sink.stop()
        if self._running is not None:
            await self._running
        await self._producer.stop(STOP_S_MAX)
        await self._attempts.stop(STOP_S_MAX)
        await self._sender.close()

    async def _run(self) -> None:
        try:
            await self._sink.run()
        except Exception as error:  # noqa: BLE001 - whatever it is, the process has to end and to say why
            self._fail(error)
