"""The API role put together: what the HTTP API stands on, on the real Kafka."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
from prometheus_client import CollectorRegistry, ProcessCollector
from starlette.types import ASGIApp

from connectors.kafka.admin import partitions_of
from connectors.kafka.config import KafkaConfig
from connectors.kafka.errors import KafkaRefused, KafkaUnavailable
from connectors.kafka.history import TopicHistory
from connectors.kafka.producer import Producer
from connectors.webhook.attempts import attempt_record
from connectors.webhook.dial import Refusals
from connectors.webhook.engines import make_engine
from connectors.webhook.tokens import AuthorizingSender
from connectors.webhook.trial import send_test
from livehook import __version__
from livehook.activity import new_projector, new_recent, open_activity
from livehook.api.app import Services, create_app
from livehook.api.finishing import Finishing
from livehook.api.guard import host_of, is_loopback
from livehook.api.kafka import KafkaGroups, KafkaLogs, KafkaTopics, WebhooksFold
from livehook.api.lane_copies import LaneCopies
from livehook.api.lanes import LaneView
from livehook.api.past import Past
from livehook.api.redrive import Redrives
from livehook.api.register import Register
from livehook.api.replay_metrics import ReplayMetrics
from livehook.api.replay_records import ReplayRecords
from livehook.api.replaying import Replaying
from livehook.api.resend import Resends
from livehook.api.snapshots import Snapshots
from livehook.background import in_background
from livehook.checks import check_identity, check_query, target_check
from livehook.process import Fail
from livehook.roles import READ_S_MAX, own_ports, prepare
from livehook.settings import Settings
from schemas.attempts import Attempt
from schemas.signing import new_secret
from schemas.webhook_checks import Checks
from schemas.webhooks import WebhookRevision

PRODUCE_S_MAX = 10.0
STOP_S_MAX = 5.0
PING_S = 5.0
USER_AGENT = f"livehook/{__version__}"


class KafkaPing:
    """
    Whether Kafka answers, asked in the background so that readiness never waits.

    Args:  fail: called with what nobody has thought of.
    """

    def __init__(self, config: KafkaConfig, topic: str, fail: Fail) -> None:
        self._config = config
        self._topic = topic
        self._fail = fail
        self._answer = "not asked yet"
        self._task: asyncio.Task[None] | None = None

    def check(self) -> str:
        """``ok``, or why not."""
        return self._answer

    def start(self) -> None:
        """Start to ask."""
        self._task = in_background(self._ask(), name="ping Kafka", fail=self._fail)

    def stop(self) -> None:
        """Stop asking."""
        if self._task is not None:
            self._task.cancel()

    async def _ask(self) -> None:
        while True:
            try:
                await asyncio.to_thread(partitions_of, self._config, self._topic, timeout_s=PING_S)
                self._answer = "ok"
            except (KafkaUnavailable, KafkaRefused) as error:
                self._answer = str(error)
            await asyncio.sleep(PING_S)


class ApiRole:
    """The HTTP API."""

    def __init__(self, settings: Settings, *, folder: Path, address: str, fail: Fail) -> None:
        """``folder``: for the activity log, when that is in SQLite."""
        self._settings = settings
        self._config = settings.kafka()
        self._topics = settings.topics()
        self._producer = Producer(self._config, client_id=f"livehook-api@{address}", message_timeout_s=PRODUCE_S_MAX)
        self._fold = WebhooksFold(self._config, self._topics.webhooks.name, fail)
        self._ping = KafkaPing(self._config, self._topics.webhooks.name, fail)
        self._http = httpx.AsyncClient(trust_env=False, follow_redirects=False)
        self._metrics = CollectorRegistry()
        ProcessCollector(registry=self._metrics)
        rules = settings.egress(own_ports=own_ports(address))
        engine = make_engine(rules, proxy=settings.egress_proxy, refused=Refusals(self._metrics))
        self._sender = AuthorizingSender(engine, user_agent=USER_AGENT)
        self._register = Register(
            topics=self._topics,
            producer=self._producer,
            admin=KafkaTopics(self._config, settings.replication),
            view=self._fold,
            now_us=now_us,
            new_uid=new_uid,
            new_secret=new_secret,
        )
        self._activity = open_activity(settings, self._topics, folder)
        self._recent = new_recent()
        self._projector = new_projector(settings, self._topics, self._activity, self._recent, now_us=now_us, fail=fail)
        self._replaying = self._make_replaying(fail)
        self._snapshots = Snapshots(self._register, self._fold, fail)
        self._finishing = Finishing(self._register, fail)
        self._register.on_unfinished = self._finishing.start
        self._app = create_app(self._services(address))

    @property
    def app(self) -> ASGIApp:
        """What it serves."""
        return self._app

    async def start(self) -> None:
        """Make topics that are missing, read the webhooks, finish what a crash left unfinished."""
        await prepare(self._settings)
        self._producer.start()
        await self._fold.start(READ_S_MAX)
        if not await self._register.finish():
            self._finishing.start()
        self._ping.start()
        self._projector.start()
        self._replaying.start()
        self._snapshots.start()

    async def stop(self) -> None:
        """End; requests under way are finished by the server."""
        self._ping.stop()
        await self._finishing.stop()
        await self._snapshots.stop()
        await self._replaying.stop()
        await asyncio.to_thread(self._projector.stop)
        await self._producer.stop(STOP_S_MAX)
        await self._http.aclose()
        await self._sender.close()
        await asyncio.to_thread(self._fold.stop)
        await asyncio.to_thread(self._activity.close)

    def _make_replaying(self, fail: Fail) -> Replaying:
        logs = KafkaLogs(self._config)
        shared: dict[str, Any] = {"topics": self._topics, "register": self._register, "now_us": now_us}
        records = ReplayRecords(**shared, producer=self._producer, view=self._fold)
        return Replaying(
            **shared,
            records=records,
            past=Past(self._topics, logs, self._fold),
            metrics=ReplayMetrics(self._metrics),
            activity=self._activity,
            producer=self._producer,
            logs=logs,
            commits=logs,
            new_id=new_replay_id,
            fail=fail,
        )

    def _services(self, address: str) -> Services:
        overview = LaneView(topics=self._topics, registry=self._fold.registry, groups=KafkaGroups(self._config), client=self._http)
        logs = KafkaLogs(self._config)
        copies = LaneCopies(logs, self._producer)
        shared: dict[str, Any] = {
            "topics": self._topics,
            "register": self._register,
            "activity": self._activity,
            "producer": self._producer,
            "copies": copies,
            "now_us": now_us,
        }
        return Services(
            producer=self._producer,
            mutations=self._topics.mutations.name,
            register=self._register,
            overview=overview,
            activity=self._activity,
            recent=self._recent,
            resends=Resends(**shared, new_id=new_replay_id),
            redrives=Redrives(**shared, logs=logs, new_token=new_replay_id),
            history=TopicHistory(self._config, self._topics.changes.name),
            replaying=self._replaying,
            test_call=self._test,
            checks=self._checks(),
            health={"kafka": self._ping.check},
            new_id=lambda: str(uuid.uuid4()),
            now_us=now_us,
            is_loopback=is_loopback(host_of(address.removeprefix("http://"))),
            token=self._settings.api_token,
            metrics=self._metrics,
        )

    async def _test(self, revision: WebhookRevision, doc: Mapping[str, Any], old: Mapping[str, Any] | None) -> Attempt:
        attempt = await send_test(revision, doc, old, sender=self._sender, user_agent=USER_AGENT)
        self._producer.send_soon(attempt_record(attempt, self._topics.attempts.name))
        return attempt

    def _checks(self) -> Checks:
        return Checks(check_query, target_check(self._settings.egress()), check_identity, allow_private=self._settings.allow_private)


def now_us() -> int:
    """Microseconds since 1970."""
    return time.time_ns() // 1_000


def new_uid() -> str:
    """A webhook's uid."""
    return f"whk_{uuid.uuid4().hex}"


def new_replay_id() -> str:
    """A replay's id."""
    return f"rpl_{uuid.uuid4().hex}"
