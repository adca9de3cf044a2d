"""
Where an attempt stands among all: a number that grows with its start.

A rank is the start in µs times 2,048, plus a place among those of the same microsecond: at first 11 bits of the id, the next free one when
they are taken. So one integer orders attempts, names them, is a bound for times, and finds an id without an index of its own. Pure.
"""

from __future__ import annotations

from schemas.attempts import started_of

HOUR_US = 3_600_000_000
PLACES = 2_048
RANK_MAX = 2**63 - 1
START_US_MAX = RANK_MAX // PLACES


def rank_of(id_: str) -> int | None:
    """The rank of an attempt at first; None when this is no attempt's id, or of a time beyond 2112."""
    started_us = started_of(id_)
    if started_us is None or started_us >= START_US_MAX:
        return None
    return first_rank(started_us) + int(id_[-3:], 16) % PLACES


def first_rank(us: int) -> int:
    """No attempt that was started at or after this time has a lower one."""
    return min(max(us, 0), START_US_MAX) * PLACES


def next_rank(rank: int) -> int:
    """Another one of the same microsecond."""
    first = rank // PLACES * PLACES
    return first + (rank - first + 1) % PLACES


def started_us(rank: int) -> int:
    """When the attempt was started."""
    return rank // PLACES
