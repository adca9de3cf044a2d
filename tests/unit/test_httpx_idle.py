"""The idle pools of the sender on httpx: bounded, however calls come and go meanwhile."""

import time
from typing import Any

from connectors.webhook.http import IDLE_S_MAX
from connectors.webhook.http_httpx import IDLE_MAX, _Idle

ORIGIN = ("https", "example.com", 443, None)


class Pool:
    """A pool that calls something while it is being closed, as other calls do."""

    def __init__(self, meanwhile=lambda: None):
        self.meanwhile = meanwhile
        self.is_closed = False

    async def aclose(self):
        self.is_closed = True
        self.meanwhile()


def pool(meanwhile=lambda: None) -> Any:
    """It need not be one of httpx."""
    return Pool(meanwhile)


def take_all(idle):
    """What many calls that begin at once do."""
    while idle.take(ORIGIN) is not None:
        pass


async def test_pools_that_are_taken_away_while_one_is_closed_are_not_missed():
    """The one that is put last closes the oldest; in that moment other calls take all the others."""
    idle = _Idle()
    oldest = pool(lambda: take_all(idle))
    for each in (oldest, *(pool() for _ in range(IDLE_MAX))):
        await idle.put(ORIGIN, each)

    assert oldest.is_closed
    assert idle.take(ORIGIN) is None


async def test_pools_that_are_taken_away_while_all_are_closed_are_not_missed():
    """The same at the end."""
    idle = _Idle()
    for each in (pool(lambda: take_all(idle)), pool(), pool()):
        await idle.put(ORIGIN, each)
    await idle.close()

    assert idle.take(ORIGIN) is None


async def test_too_old_pools_are_closed_when_another_one_comes(monkeypatch):
    """A server may have closed their connections; none is left to a later call."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    idle, old, new = _Idle(), pool(), pool()
    await idle.put(ORIGIN, old)
    now[0] = IDLE_S_MAX + 1
    await idle.put(ORIGIN, new)

    assert (True, False) == (old.is_closed, new.is_closed)
