"""
Many seeds, each a world of its own: mutations, webhooks edited meanwhile, crashes between any two effects, two owners at once, lanes that
change hands, lost stores, compaction, receivers that fail and lie, and clocks that move between two looks.

At the end every webhook has received exactly what its query wants of the changes that a world without faults would have made, first
arrivals in order, and nothing is left to do. ``LIVEHOOK_SIM_SEEDS=20000`` tries more than the 500, or 2,000 where CI is set;
``LIVEHOOK_SIM_SEED=7`` begins there.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor

import pytest

from tests.conftest import Say
from tests.simulation.seeds import COUNT, FIRST
from tests.simulation.storm import broken, run

BLOCK = 25
SHOWN_MAX = 3
VIOLATIONS_SHOWN_MAX = 5


@pytest.mark.timeout(60 + COUNT)
def test_no_seed_breaks_a_promise(say: Say):
    """Whatever crashes, whenever, whoever owns what for a while, and however receivers behave: delivered or dead-lettered, in order."""
    say(f"LIVEHOOK_SIM_SEED={FIRST} LIVEHOOK_SIM_SEEDS={COUNT}")
    found = list(failures(range(FIRST, FIRST + COUNT)))
    shown = "\n\n".join(report(seed, violations) for seed, violations in found[:SHOWN_MAX])
    assert not found, f"{len(found)} of {COUNT} seeds break a promise\n\n{shown}"


def failures(seeds: range) -> Iterator[tuple[int, list[str]]]:
    """The seeds that break something, on all cores; on one where other tests run beside it."""
    blocks = [seeds[at : at + BLOCK] for at in range(0, len(seeds), BLOCK)]
    processes = 1 if "PYTEST_XDIST_WORKER" in os.environ else os.cpu_count()
    # Not forked: this process has threads.
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        for broken_seeds in pool.map(failures_in, blocks):
            yield from broken_seeds


def failures_in(seeds: Sequence[int]) -> list[tuple[int, list[str]]]:
    """Of a few seeds, in this process."""
    logging.disable(logging.CRITICAL)
    found = ((seed, broken(seed)[1]) for seed in seeds)
    return [(seed, violations) for seed, violations in found if violations]


def report(seed: int, violations: Sequence[str]) -> str:
    """What a seed has broken and all that happened in it, and how to see it again."""
    world, _ = broken(seed)
    trace = ["it did not come to its end"] if world is None else world.trace
    shown = [*violations[:VIOLATIONS_SHOWN_MAX], f"and {len(violations) - VIOLATIONS_SHOWN_MAX} more"][: len(violations)]
    return "\n  ".join([f"LIVEHOOK_SIM_SEED={seed} LIVEHOOK_SIM_SEEDS=1: {len(violations)} violations", *shown, "", *trace])


def test_a_seed_is_one_world():
    """Whoever repeats a seed sees the same."""
    [once, again] = [run(11) for _ in range(2)]
    assert (once.trace, once.receivers.settled) == (again.trace, again.receivers.settled)


def test_the_world_is_not_idle():
    """A simulation without deliveries, crashes or repeats would show nothing."""
    worlds = [run(seed) for seed in range(1, 81)]
    arrivals = [arrival for world in worlds for arrival in world.receivers.arrivals]
    told = [line for world in worlds for line in world.trace]
    assert len(arrivals) > 2_700
    assert len({arrival.webhook_id for arrival in arrivals}) < len(arrivals)
    assert sum(world.receivers.dead for world in worlds) > 5
    assert sum(world.receivers.refused for world in worlds) > 100
    assert sum(world.pointers for world in worlds) > 500
    assert sum(world.backfilled for world in worlds) > 200
    assert sum(arrival.match == "initial" for arrival in arrivals) > 20
    assert any(None in log.records for world in worlds for log in world.changes)
    assert sum(len(world.sent(rewind)) for world in worlds for rewind in world.rewinds if rewind.is_running) > 50
    assert sum(not rewind.is_running for world in worlds for rewind in world.rewinds) > 2
    for happened in ("kill -9 sink", "kill -9 documents", "kill -9 matching", "freeze sink", "goes to sink", "is paused"):
        assert any(happened in line for line in told), happened
