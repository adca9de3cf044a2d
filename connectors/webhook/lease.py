"""
Whether this process may still take itself for the owner of its lanes.

A process that was frozen does not know for how long. Kafka gives its lanes away one session timeout after its last heartbeat; so a call
starts only while the last acknowledged commit is younger than half of that. What is late then is at most a call that was under way.
Called by sink.py. Source: docs/explanation/lanes.md.
"""

from __future__ import annotations

import time

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def uptime_s() -> float:
    """A clock that never goes back and, where there is such a one, goes on while the machine sleeps."""
    return time.clock_gettime(_CLOCK)


class Lease:
    """Held from an acknowledged commit on for ``lasts_s``, counted from the moment the commit was sent. Pure; times by one clock."""

    def __init__(self, lasts_s: float) -> None:
        self.lasts_s = lasts_s
        self._until = float("-inf")

    def renewed(self, sent: float) -> None:
        """A commit that was sent then is acknowledged."""
        self._until = max(self._until, sent + self.lasts_s)

    def lost(self) -> None:
        """The group has given our lanes away."""
        self._until = float("-inf")

    def held(self, now: float) -> bool:
        """Whether a call may start."""
        return now < self._until
