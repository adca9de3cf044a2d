"""A lane as people see it: the items of ``GET /v1/lanes``. Pure. Called by runner.py. Source: docs/reference/http-api.md."""

from __future__ import annotations

from typing import Any

import msgspec

from connectors.webhook.health import Health
from connectors.webhook.lanes import Lane
from connectors.webhook.metrics import LaneState
from connectors.webhook.offsets import Offsets
from schemas.attempts import AttemptError
from schemas.times import rfc3339


class Seen(msgspec.Struct):
    """What a lane remembers for people; times are seconds since 1970."""

    delivered_at: float | None = None
    failed_at: float = 0.0
    error: AttemptError | None = None

    def failed(self, at: float, error: AttemptError) -> None:
        """The last error."""
        self.failed_at, self.error = at, error


def lag_of(offsets: Offsets, end: int, parked: int) -> int:
    """Deliveries of a partition that are not finished, parked ones included; those that are being written down count once."""
    return end - offsets.position + offsets.unfinished + parked


def item_of(
    lane: Lane, partition: int, end: int, *, webhook: str, state: LaneState, health: Health, seen: Seen, worker: str, now: float
) -> dict[str, Any]:
    """The item of one partition."""
    offsets = lane.partitions[partition]
    under_way = sum(1 for held in lane.under_way if held.partition == partition)
    parked = lane.parking.count_in(partition)
    waiting = max(offsets.unfinished - under_way, 0)
    return {
        "webhook": webhook,
        "partition": partition,
        "state": state.value,
        "lag": lag_of(offsets, end, parked),
        "offset": {"committed": offsets.commit, "end": end},
        "inFlight": under_way,
        "queued": waiting,
        "parked": parked,
        "breaker": health.breaker.state.value,
        "nextProbeAt": time_of(health.next_call_at(now)),
        "lastDeliveredAt": time_of(seen.delivered_at),
        "lastError": None
        if seen.error is None
        else {"at": time_of(seen.failed_at), "code": seen.error.code.value, "detail": seen.error.detail},
        "worker": worker,
    }


def time_of(at: float | None) -> str | None:
    """A time as the API writes it."""
    return None if at is None else rfc3339(int(at * 1_000_000))
