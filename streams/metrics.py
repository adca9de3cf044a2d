"""What a streams worker counts. Names and labels: docs/reference/metrics.md."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge

from schemas.deliveries import Match
from streams.documents import Applied


class StreamsMetrics:
    """The metrics of one worker, in a registry of their own."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._mutations = Counter("livehook_mutations", "Mutations by what came of them", ["outcome"], registry=registry)
        self._changes = Counter("livehook_changes", "Changes written", registry=registry)
        self._matches = Counter("livehook_matches", "Deliveries planned", ["webhook", "match"], registry=registry)
        self._documents = Gauge("livehook_documents", "Documents in the partitions of this worker", registry=registry)
        self._dead = Counter("livehook_dead_letters", "Records that could not be applied or delivered", ["reason"], registry=registry)
        self._lag = Gauge("livehook_stream_lag", "Records not processed yet", ["topic"], registry=registry)
        self._dropped = Counter("livehook_duplicates_dropped", "Records seen before", ["stage"], registry=registry)
        self._rebalances = Counter("livehook_rebalances", "Rebalances of the group", ["role"], registry=registry)
        self._scanned = Counter("livehook_backfill_changes", "Changes looked at for backfills", registry=registry)
        self._left = Gauge("livehook_backfill_left", "Changes that a backfill has not looked at", ["webhook"], registry=registry)
        self._left_of: dict[str, dict[int, int]] = {}
        self._matches_of: dict[tuple[str, Match], Counter] = {}  # finding a labelled counter costs more than counting
        self._documents_of: dict[int, int] = {}
        for outcome in ("applied", "unchanged", "forwarded", "duplicate", "dead"):
            self._mutations.labels(outcome)
        for stage in ("documents", "matching"):
            self._dropped.labels(stage)

    def applied(self, partition: int, changes: int, applied: Applied, documents: int) -> None:
        """A batch of mutations is durable; ``documents``: how many the partition has now."""
        count = self._mutations.labels
        count("applied").inc(changes)
        count("unchanged").inc(applied.unchanged)
        count("forwarded").inc(len(applied.forwarded))
        count("duplicate").inc(applied.duplicates)
        count("dead").inc(len(applied.dead))
        for _, dead in applied.dead:
            self._dead.labels(dead.reason.value).inc()
        self._changes.inc(changes)
        self._dropped.labels("documents").inc(applied.duplicates)
        self._documents_of[partition] = documents
        self._documents.set(sum(self._documents_of.values()))

    def matched(self, webhook: str, match: Match) -> None:
        """A delivery was planned."""
        counter = self._matches_of.get((webhook, match))
        if counter is None:
            counter = self._matches_of[webhook, match] = self._matches.labels(webhook, match.value)
        counter.inc()

    def forget(self, webhook: str) -> None:
        """The webhook was deleted: whoever makes and deletes many must not fill us with their names."""
        for match in Match:
            if self._matches_of.pop((webhook, match), None) is not None:
                self._matches.remove(webhook, match.value)

    def backfilled(self, changes: int) -> None:
        """A backfill has gone on."""
        self._scanned.inc(changes)

    def backfill_left(self, webhook: str, partition: int, changes: int) -> None:
        """How many changes of a partition lie before a backfill."""
        left = self._left_of.setdefault(webhook, {})
        left[partition] = changes
        self._left.labels(webhook).set(sum(left.values()))

    def backfill_over(self, webhook: str, partition: int) -> None:
        """A backfill has ended in a partition, or goes on elsewhere."""
        left = self._left_of.get(webhook, {})
        left.pop(partition, None)
        if left:
            self._left.labels(webhook).set(sum(left.values()))
        elif self._left_of.pop(webhook, None) is not None:
            self._left.remove(webhook)

    def repeated(self) -> None:
        """A change came a second time."""
        self._dropped.labels("matching").inc()

    def lag(self, topic: str, records: int) -> None:
        """How far behind the worker is; the topic without the prefix, so that a dashboard fits every installation."""
        self._lag.labels(topic).set(records)

    def rebalanced(self) -> None:
        """Partitions were given out anew."""
        self._documents_of.clear()
        self._rebalances.labels("streams").inc()
