"""
Webhooks that are made, edited, deleted and made again while APIs and workers die: what was answered holds, and no life of a webhook takes
anything from another. ``LIVEHOOK_SIM_SEED`` and ``LIVEHOOK_SIM_SEEDS`` as in test_simulation.py, of which a tenth is run here.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from livehook.api.register import Register
from schemas.registry import Registry
from tests.conftest import Say
from tests.simulation.lives import LivesWorld, broken, run
from tests.simulation.seeds import COUNT, FIRST

SEEDS = COUNT // 10 + 1
SEEDS_MAX = 1_000

Patch = pytest.MonkeyPatch


def found(seed: int) -> tuple[LivesWorld | None, list[str]]:
    """A run, and what it broke; whatever it raises is a broken promise too."""
    try:
        world = run(seed)
    except Exception as error:  # noqa: BLE001  a bug may show as anything
        return None, [f"ended: {error!r}"]
    return world, [*broken(world)]


@pytest.mark.timeout(60 + SEEDS)
def test_what_was_answered_holds_whoever_dies(say: Say) -> None:
    """The last PUT of a name holds from before the next mutation on, in a lane of its own; the last DELETE leaves nothing behind."""
    say(f"LIVEHOOK_SIM_SEED={FIRST} of the lives of webhooks")
    for seed in range(FIRST, FIRST + SEEDS):
        world, violations = found(seed)
        assert violations == [], f"seed {seed}\n" + "\n".join(world.trace if world is not None else [])


def claim_too_late(patch: Patch) -> None:
    """A webhook that is made again has a lane before it is on record: an API that starts takes the lane for one that was left over."""

    async def nothing(self, made):
        pass

    patch.setattr(Register, "_claim", nothing)


def mark_anew(patch: Patch) -> None:
    """Whoever finishes a revision says that it begins where its own marks stand, wherever others have begun to serve it."""
    patch.setattr(Registry, "since", lambda self, revision: revision.since or [])


def drop_whatever_is_there(patch: Patch) -> None:
    """An API that starts takes the lanes of deleted webhooks, without looking who has been made again."""
    drop = Register._drop_lanes

    async def dropped(self, ended):
        lanes = await self._admin.existing([self._topics.lane(name).name for name in ended])
        for lane, topic_id in lanes.items():
            await self._admin.delete(lane, topic_id)
        await drop(self, [])

    patch.setattr(Register, "_drop_lanes", dropped)


def leave_it_half_done(patch: Patch) -> None:
    """What an API that died has left is finished by nobody."""

    async def nothing(self):
        return True

    patch.setattr(Register, "finish", nothing)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("plant", [claim_too_late, mark_anew, drop_whatever_is_there, leave_it_half_done], ids=lambda plant: plant.__name__)
def test_a_planted_bug_is_found(plant: Callable[[Patch], None]) -> None:
    """Each kind breaks a promise in one of a thousand seeds."""
    for seed in range(1, SEEDS_MAX + 1):
        with pytest.MonkeyPatch.context() as patch:
            plant(patch)
            world, violations = found(seed)
        if world is None or violations:
            return
    pytest.fail(f"{SEEDS_MAX} seeds have not found it")


def test_the_world_is_not_idle() -> None:
    """Lives end and begin, markers stand in lanes of several partitions, and much is cut off."""
    worlds = [run(seed) for seed in range(1, 21)]
    told = [line for world in worlds for line in world.trace]
    assert sum(" is deleted, " in line for line in told) > 20
    assert sum("False, None" in line for line in told) > 10
    assert sum("kill -9 api" in line for line in told) > 40
    assert any(len(lane.logs) > 1 for world in worlds for lane in world.tops.values())
