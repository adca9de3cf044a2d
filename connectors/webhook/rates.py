"""
How much may start now: a webhook's calls a second, and every lane's fair share of what the process has. Pure; time is passed in.

Called by sink.py before it starts a call or reads on.
"""

from __future__ import annotations

BURST_S = 0.1
CLOCK_S = 1e-6  # how exactly a wall clock in seconds can be read: a call that is due must be allowed


class Rate:
    """
    A token bucket: ``per_s`` calls a second on average, at most a tenth of a second's worth (and at least one call) at once.

    Args:  per_s: above 0.
    """

    def __init__(self, per_s: float, now: float) -> None:
        self.per_s = per_s
        self._tokens = self._burst
        self._at = now

    @property
    def _burst(self) -> float:
        return max(1.0, self.per_s * BURST_S)

    def change(self, per_s: float, now: float) -> None:
        """Another rate from now on."""
        self.allowed(now)
        self.per_s = per_s

    def allowed(self, now: float) -> int:
        """How many calls may start now."""
        self._tokens = min(self._burst, self._tokens + max(now - self._at, 0.0) * self.per_s)
        self._at = now
        return int(self._tokens + CLOCK_S * self.per_s)

    def started(self, count: int) -> None:
        """So many did; no more than were allowed."""
        self._tokens -= count

    def due(self, now: float) -> float:
        """When the next call will be allowed."""
        missing = max(1.0 - self._tokens, 0.0)
        return max(now, self._at + missing / self.per_s)


class Share:
    """
    A budget over all lanes: while there is room everybody may take, and within its fair share each may always.

    So one lane can use what the others leave, and no lane starves another. In use are at most ``limit`` and one fair share more.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self.lanes = 0

    def allows(self, own: int) -> int:
        """How much more a lane may take that has ``own`` now; 0: it must wait."""
        return max(self.limit - self.used, self.limit // max(self.lanes, 1) - own, 0 if own else 1)
