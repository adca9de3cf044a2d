"""What a sink counts, for Prometheus. Source: docs/reference/metrics.md. No document id and no URL is ever a label."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from enum import StrEnum
from itertools import accumulate

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector

from schemas.attempts import Outcome

ATTEMPT_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, 30, 60)
END_TO_END_SECONDS = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60, 300, 3_600, 86_400)


class LaneState(StrEnum):
    """What a lane is doing, as users see it."""

    RUNNING = "running"
    BACKFILLING = "backfilling"
    PAUSED = "paused"
    DOWN = "down"
    DISABLED = "disabled"
    UNASSIGNED = "unassigned"


class Seconds:
    """How long things of one webhook took: how many up to each bound, and their sum. For one thread, which spares what a lock costs."""

    __slots__ = ("_bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        """One more."""
        self.counts[bisect_left(self._bounds, seconds)] += 1
        self.total += seconds


class SecondsByWebhook(Collector):
    """A histogram with the label ``webhook``, put together when somebody asks for it."""

    def __init__(self, name: str, documentation: str, bounds: Sequence[float], registry: CollectorRegistry) -> None:
        self._name, self._documentation, self._bounds = name, documentation, bounds
        self._limits = [*(str(float(bound)) for bound in bounds), "+Inf"]
        self._webhooks: dict[str, Seconds] = {}
        registry.register(self)

    def of(self, webhook: str) -> Seconds:
        """Those of one webhook."""
        return self._webhooks.setdefault(webhook, Seconds(self._bounds))

    def forget(self, webhook: str) -> None:
        """The webhook was deleted."""
        self._webhooks.pop(webhook, None)

    def describe(self) -> Iterator[HistogramMetricFamily]:
        """What the registry checks names against."""
        yield HistogramMetricFamily(self._name, self._documentation, labels=["webhook"])

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """All of them."""
        family = HistogramMetricFamily(self._name, self._documentation, labels=["webhook"])
        for webhook, seconds in list(self._webhooks.items()):
            family.add_metric([webhook], list(zip(self._limits, accumulate(seconds.counts), strict=True)), seconds.total)
        yield family


class SinkMetrics:
    """Every metric of a sink, in a registry of the caller's."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.attempts = Counter("livehook_attempts", "HTTP calls, by what came of them", ["webhook", "outcome"], registry=registry)
        self.attempt_seconds = SecondsByWebhook("livehook_attempt_seconds", "How long a call took", ATTEMPT_SECONDS, registry)
        self.end_to_end_seconds = SecondsByWebhook(
            "livehook_end_to_end_seconds", "From the broker taking the mutation to a 2xx", END_TO_END_SECONDS, registry
        )
        self.lag = Gauge("livehook_lane_lag", "Deliveries that are not finished", ["webhook"], registry=registry)
        self.in_flight = Gauge("livehook_lane_in_flight", "Calls under way", ["webhook"], registry=registry)
        self.parked = Gauge("livehook_lane_parked", "Deliveries that were set aside", ["webhook"], registry=registry)
        self.state = Gauge("livehook_lane_state", "1 for the present state", ["webhook", "state"], registry=registry)
        self.dead_letters = Counter("livehook_dead_letters", "Records written to the dead letters", ["reason"], registry=registry)
        self.duplicates = Counter("livehook_duplicates_dropped", "Records recognised as repeats", ["stage"], registry=registry)
        self.gaps = Counter("livehook_gaps", "Ranges of a lane that were gone before they were sent", ["webhook"], registry=registry)
        self.rebalances = Counter(
            "livehook_rebalances", "Times that the group's partitions were given out anew", ["role"], registry=registry
        )
        self.duplicates.labels("lane")
        self.rebalances.labels("sink")

    def lane(self, webhook: str) -> LaneMetrics:
        """The metrics of one lane, looked up once."""
        return LaneMetrics(self, webhook)

    def forget(self, webhook: str) -> None:
        """The webhook was deleted: whoever makes and deletes many must not fill us with their names."""
        self.attempt_seconds.forget(webhook)
        self.end_to_end_seconds.forget(webhook)
        for counter, labels in ((self.gaps, (webhook,)), *((self.attempts, (webhook, outcome.value)) for outcome in Outcome)):
            counter.labels(*labels)  # some versions of the library cannot remove what is not there
            counter.remove(*labels)


class LaneMetrics:
    """The metrics of one lane."""

    def __init__(self, metrics: SinkMetrics, webhook: str) -> None:
        self._metrics, self._webhook = metrics, webhook
        self._outcomes = {outcome: metrics.attempts.labels(webhook, outcome.value) for outcome in Outcome}
        self._attempt_seconds = metrics.attempt_seconds.of(webhook)
        self._end_to_end_seconds = metrics.end_to_end_seconds.of(webhook)
        self._states = {state: metrics.state.labels(webhook, state.value) for state in LaneState}
        self._shown: tuple[LaneState, int, int, int] | None = None

    def attempted(self, outcome: Outcome, seconds: float) -> None:
        """A call has ended."""
        self._outcomes[outcome].inc()
        self._attempt_seconds.observe(seconds)

    def delivered(self, end_to_end_s: float) -> None:
        """A delivery has arrived."""
        self._end_to_end_seconds.observe(max(end_to_end_s, 0.0))

    def gap(self) -> None:
        """Something was gone before it was sent."""
        self._metrics.gaps.labels(self._webhook).inc()

    def shows(self, state: LaneState, *, lag: int, in_flight: int, parked: int) -> None:
        """How the lane is now; of a thousand lanes most are as they were a second ago."""
        shown = state, lag, in_flight, parked
        if shown == self._shown:
            return
        self._shown = shown
        for found, gauge in self._states.items():
            gauge.set(found is state)
        self._metrics.lag.labels(self._webhook).set(lag)
        self._metrics.in_flight.labels(self._webhook).set(in_flight)
        self._metrics.parked.labels(self._webhook).set(parked)

    def remove(self) -> None:
        """The lane is not ours any more: its gauges would stand still. Counters stay, or their rate would be wrong."""
        for gauge in (self._metrics.lag, self._metrics.in_flight, self._metrics.parked):
            gauge.remove(self._webhook)
        for state in LaneState:
            self._metrics.state.remove(self._webhook, state.value)
