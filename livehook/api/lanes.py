"""
``GET /v1/lanes`` and ``GET /v1/status``: what the sinks and streams say of themselves, completed with what Kafka knows.

Every sink is a member of the group of sinks and names its address as client id; it is asked for the lanes that it holds. A lane that nobody
holds is told from its topic's end and the group's committed offset.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import httpx
import msgspec

from schemas.registry import Registry, Webhook
from schemas.topics import Topics
from schemas.webhooks import State

logger = logging.getLogger(__name__)

ASK_S_MAX = 2.0
ANSWER_BYTES_MAX = 16 * 1024 * 1024
WORKERS_MAX = 1_000


class Worker(msgspec.Struct, frozen=True):
    """A process of ours as its group knows it; ``url`` is where it answers."""

    role: str
    url: str


class GroupView(Protocol):
    """What Kafka knows of groups and topics. Raises KafkaUnavailable."""

    async def client_ids(self, group: str) -> list[str]:
        """The client id of every member."""
        ...

    async def committed(self, group: str, partitions: Sequence[tuple[str, int]]) -> dict[tuple[str, int], int]:
        """The committed offsets; partitions without one are left out."""
        ...

    async def ends(self, partitions: Sequence[tuple[str, int]]) -> dict[tuple[str, int], tuple[int, int]]:
        """First and end offset of each partition; those that are not there are left out."""
        ...


def worker_of(client_id: str) -> Worker | None:
    """``livehook-sink@http://10.0.0.7:8082`` as a worker; None when it is something else."""
    name, _, url = client_id.partition("@")
    role = name.removeprefix("livehook-")
    return Worker(role, url) if name != role and url.startswith("http://") else None


class LaneView:
    """What there is of lanes, topics and roles; see :class:`livehook.api.ports.Overview`."""

    def __init__(self, *, topics: Topics, registry: Registry, groups: GroupView, client: httpx.AsyncClient) -> None:
        self._topics = topics
        self._registry = registry
        self._groups = groups
        self._client = client

    async def lanes(self) -> list[dict[str, Any]]:
        """Every lane, by webhook and partition."""
        held = {(item["webhook"], item["partition"]): item for item in await self._held()}
        webhooks = list(self._registry)
        missing = [
            (webhook, partition)
            for webhook in webhooks
            for partition in range(webhook.current.spec.delivery.partitions)
            if (webhook.current.name, partition) not in held
        ]
        names = {webhook.current.name for webhook in webhooks}
        items = [item for (name, _), item in held.items() if name in names] + await self._unheld(missing)
        return sorted(items, key=lambda item: (item["webhook"], item["partition"]))

    async def workers(self) -> list[dict[str, Any]]:
        """Every process of the roles that are groups: where it is and whether it is ready."""
        ids = [id_ for group in (self._topics.group_streams, self._topics.group_sink) for id_ in await self._groups.client_ids(group)]
        found = sorted({worker for id_ in ids if (worker := worker_of(id_)) is not None}, key=lambda worker: (worker.role, worker.url))
        answers = await asyncio.gather(*(self._ask(worker, "/readyz") for worker in found))
        return [
            {"role": worker.role, "worker": worker.url, "status": answer.get("status", "failing"), "checks": answer.get("checks", {})}
            for worker, answer in zip(found, answers, strict=True)
        ]

    async def sizes(self) -> list[dict[str, Any]]:
        """Every fixed topic: its partitions, and the records in it that are not deleted or compacted yet, about."""
        topics = self._topics.fixed()
        ends = await self._groups.ends([(topic.name, partition) for topic in topics for partition in range(topic.partitions)])
        return [
            {
                "name": topic.name,
                "partitions": topic.partitions,
                "records": sum(end - first for (name, _), (first, end) in ends.items() if name == topic.name),
            }
            for topic in topics
        ]

    async def _held(self) -> list[dict[str, Any]]:
        ids = await self._groups.client_ids(self._topics.group_sink)
        workers = {worker for id_ in ids[:WORKERS_MAX] if (worker := worker_of(id_)) is not None}
        answers = await asyncio.gather(*(self._ask(worker, "/lanes") for worker in workers))
        return [item for answer in answers for item in answer.get("items", []) if _is_item(item)]

    async def _ask(self, worker: Worker, path: str) -> dict[str, Any]:
        """What a worker answers; nothing when it does not: its lanes are then shown as nobody's."""
        try:
            async with asyncio.timeout(ASK_S_MAX):
                answer = await self._client.get(worker.url + path)
            found = msgspec.json.decode(answer.content[:ANSWER_BYTES_MAX])
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, msgspec.MsgspecError) as error:
            logger.info("%s of %s did not answer: %s", path, worker.url, type(error).__name__)
            return {}
        return found if isinstance(found, dict) else {}

    async def _unheld(self, missing: Iterable[tuple[Webhook, int]]) -> list[dict[str, Any]]:
        wanted = [(webhook, (self._topics.lane(webhook.current.name).name, partition)) for webhook, partition in missing]
        if not wanted:
            return []
        places = [place for _, place in wanted]
        committed = await self._groups.committed(self._topics.group_sink, places)
        ends = await self._groups.ends(places)
        return [unheld_lane(webhook, place[1], committed.get(place), ends.get(place)) for webhook, place in wanted]


def unheld_lane(webhook: Webhook, partition: int, committed: int | None, kept: tuple[int, int] | None) -> dict[str, Any]:
    """The item of a lane that no sink holds; ``kept``: first and end offset of its topic's partition, None when it is not there."""
    first, end = kept or (0, 0)
    position = first if committed is None else max(first, committed)
    return {
        "webhook": webhook.current.name,
        "partition": partition,
        "state": "unassigned" if webhook.state is State.ACTIVE else webhook.state.value,
        "lag": max(end - position, 0),
        "offset": {"committed": position, "end": end},
        "inFlight": 0,
        "queued": 0,
        "parked": 0,
        "breaker": "closed",
        "nextProbeAt": None,
        "lastDeliveredAt": None,
        "lastError": None,
        "worker": None,
    }


def _is_item(item: Any) -> bool:
    return isinstance(item, Mapping) and isinstance(item.get("webhook"), str) and isinstance(item.get("partition"), int)
