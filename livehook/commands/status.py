"""``livehook status``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from livehook.client import Client
from livehook.commands.common import REMOTE, Remote, table


def status(*, remote: Remote = REMOTE) -> None:
    """Show how far each lane is and what it is doing, the topics and the roles."""
    with Client(remote.api, config=remote.config, as_json=remote.is_json) as client:
        answer = client.call("GET", "/v1/status")
    remote.print(answer, text_of(answer))


def text_of(answer: Mapping[str, Any]) -> str:
    """The status for people: three tables."""
    lanes = table(("WEBHOOK", "STATE", "LAG", "IN FLIGHT", "PARKED", "LAST DELIVERED", "LAST ERROR"), map(_lane, answer["lanes"]))
    topics = table(("TOPIC", "PARTITIONS", "RECORDS"), ((one["name"], one["partitions"], one["records"]) for one in answer["topics"]))
    roles = table(("ROLE", "STATUS", "ADDRESS"), ((one["role"], _health(one), one["worker"]) for one in answer["roles"]))
    return f"{lanes}\n\n{topics}\n\n{roles}"


def _lane(lane: Mapping[str, Any]) -> tuple[Any, ...]:
    name = lane["webhook"] if not lane["partition"] else f"{lane['webhook']}/{lane['partition']}"
    error = lane["lastError"]
    last = None if error is None else f"{error['code']}: {error['detail']}"
    return name, lane["state"], lane["lag"], lane["inFlight"], lane["parked"], lane["lastDeliveredAt"], last


def _health(role: Mapping[str, Any]) -> str:
    wrong = [f"{name}: {why}" for name, why in role["checks"].items() if why != "ok"]
    return str(role["status"]) if not wrong else f"{role['status']} ({'; '.join(wrong)})"
