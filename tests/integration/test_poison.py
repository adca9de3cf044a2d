"""Documents that fail among a thousand that do not, on a real Kafka, while sinks are killed: nothing is lost, and their own order holds."""

from __future__ import annotations

import random

import pytest

from connectors.webhook.offsets import span_max
from connectors.webhook.testing import Answer, Call, Receiver
from schemas.webhooks import DeliverySettings, Retry
from tests.integration.installation import PARTITIONS, Installation, in_order, until, until_committed

pytestmark = pytest.mark.timeout(240)

OTHERS = 1_000
ROUNDS = 3
FOLLOWERS = {"refused": 300, "hanging": span_max(PARTITIONS) + 100}  # more than the window of the lane
POISON = {"c/refused": Answer(400), "c/hanging": Answer(hang=True)}
RETRY = Retry(("0s", "1s", "11s"), 0.0)
DELIVERY = DeliverySettings(timeout_seconds=1, concurrency=32)
LIVES = 3
PATIENCE_S = 120.0


async def test_poison_comes_to_its_dead_letter_and_what_waited_behind_it_goes_on(home: Installation, seed, say):
    """After its schedule and not before; the followers after that, in order."""
    rng, count = random.Random(seed), sum(FOLLOWERS.values()) + OTHERS * ROUNDS
    sent: set[str] = set()

    def answer(call: Call) -> Answer:
        sent.add(call.headers["webhook-id"])
        is_first = call.headers["livehook-version"] == "1"
        return POISON.get(call.headers["livehook-document"], Answer()) if is_first else Answer()

    async with Receiver(answer, keep=2 * count) as receiver:
        await home.webhook("one", receiver.url, retry=RETRY, delivery=DELIVERY)
        for document, followers in FOLLOWERS.items():
            await home.producer.send([home.delivery("one", document) for _ in range(followers)])
        await home.producer.send([home.delivery("one", f"d{number % OTHERS}") for number in range(OTHERS * ROUNDS)])
        killed_at = sorted(rng.randrange(1, count) for _ in range(LIVES))
        for life, calls in enumerate(killed_at):
            sink, task, sender = home.started(f"life-{life}")
            await receiver.wait_for(calls, timeout_s=PATIENCE_S)
            sink.failed(RuntimeError("killed by the test"))
            with pytest.raises(RuntimeError, match="killed by the test"):
                await task
            await sender.close()
        async with home.sink("last") as sink:
            await until(lambda: len(sent) == count, "all were sent", PATIENCE_S)
            await until_committed(home, "one", count)
            await until(lambda: sink.lanes()[0]["parked"] == 0, "nothing is parked any more")
        calls_made = list(receiver.calls)
    say(f"seed {seed}: killed after {killed_at} calls; {len(calls_made)} calls for {count} deliveries")
    dead = await home.read(home.topics.dead_letters.name)
    assert [(b"c/hanging", b"exhausted"), (b"c/refused", b"exhausted")] == sorted((one.key, dict(one.headers)["reason"]) for one in dead)
    assert in_order(home, calls_made)
    for document in POISON:
        of_it = [call.headers["livehook-version"] for call in calls_made if call.headers["livehook-document"] == document]
        assert set(of_it[of_it.index("2") :]) == {str(version) for version in range(2, home.versions[document.removeprefix("c/")] + 1)}
