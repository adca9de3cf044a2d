"""Places in topics. A position names one record for ever; an origin is the position of the mutation that a record comes from."""

from __future__ import annotations

import msgspec


class Position(msgspec.Struct, frozen=True, order=True, gc=False):
    """A record's place in a topic."""

    partition: int
    offset: int


class Origin(msgspec.Struct, frozen=True, order=True, gc=False):
    """
    The position in ``mutations`` that a change or delivery comes from.

    ``epoch`` grows when an operator declares the topic a new one, so that origins stay ordered although offsets begin again at 0.
    """

    epoch: int
    partition: int
    offset: int
