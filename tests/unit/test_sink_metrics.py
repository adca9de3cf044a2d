"""Rules of what a sink counts."""

import pytest
from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.exposition import generate_latest

from connectors.webhook.metrics import END_TO_END_SECONDS, SecondsByWebhook


@pytest.mark.parametrize("found", [(), (0.0,), (0.0025, 0.0026, 86_400.0, 86_401.0), (0.25,) * 7])
def test_a_histogram_of_ours_reads_like_one_of_the_librarys(found):
    """Bounds are part of their buckets, and what is above all of them is counted, too."""
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    one = SecondsByWebhook("a_seconds", "How long", END_TO_END_SECONDS, ours).of("one")
    other = Histogram("a_seconds", "How long", ["webhook"], buckets=END_TO_END_SECONDS, registry=theirs).labels("one")
    for seconds in found:
        one.observe(seconds)
        other.observe(seconds)
    # The library tells besides when it began to count.
    expected = [line for line in generate_latest(theirs).decode().splitlines() if "_created" not in line]
    assert expected == generate_latest(ours).decode().splitlines()


def test_two_lanes_of_a_webhook_count_together():
    """One that is taken over again goes on: a rate must not fall."""
    seconds = SecondsByWebhook("a_seconds", "How long", END_TO_END_SECONDS, CollectorRegistry())
    assert seconds.of("one") is seconds.of("one")
