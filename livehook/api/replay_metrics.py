"""How far replays are, for Prometheus. Source: docs/reference/metrics.md. Called by replaying.py."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Gauge

from schemas.replays import Replay


class ReplayMetrics:
    """Those of replays that are running, by webhook; nothing of a webhook that has none."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._deliveries = Gauge("livehook_replay_deliveries", "Deliveries of the replays under way", ["webhook"], registry=registry)
        self._left = Gauge("livehook_replay_left", "Deliveries of the replays under way not made yet", ["webhook"], registry=registry)
        self._running: dict[str, dict[str, Replay]] = {}
        self._delivered: dict[str, int] = {}

    def running(self, replays: Sequence[Replay]) -> None:
        """These are under way, and no others."""
        before = self._running
        self._running = {}
        for replay in replays:
            self._running.setdefault(replay.webhook, {})[replay.id] = replay
        self._delivered = {replay.id: self._delivered.get(replay.id, 0) for replay in replays}
        for webhook in before.keys() - self._running.keys():
            self._deliveries.remove(webhook)
            self._left.remove(webhook)
        for webhook in self._running:
            self._show(webhook)

    def delivered(self, replay: Replay, deliveries: int) -> None:
        """So many of one of them are done."""
        self._delivered[replay.id] = deliveries
        self._show(replay.webhook)

    def _show(self, webhook: str) -> None:
        replays = self._running[webhook].values()
        self._deliveries.labels(webhook).set(sum(one.deliveries for one in replays))
        self._left.labels(webhook).set(sum(max(one.deliveries - self._delivered[one.id], 0) for one in replays))
