"""Results kept for those who ask the same again, of small questions only: others choose what is asked, and memory is bounded in bytes."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeVar

Result = TypeVar("Result")


class _Large(Exception):
    """What was asked is not kept."""


def kept(maxsize: int, is_small: Callable[..., bool]) -> Callable[[Callable[..., Result]], Callable[..., Result]]:
    """
    A decorator as :func:`functools.lru_cache`, for arguments by place.

    Args:  is_small: whether what is asked may be kept, with its result; looked at only when it is not.
    """

    def decorate(make: Callable[..., Result]) -> Callable[..., Result]:
        @lru_cache(maxsize)
        def known(*asked: Any) -> Result:
            if not is_small(*asked):
                raise _Large  # which lru_cache does not keep
            return make(*asked)

        def answer(*asked: Any) -> Result:
            try:
                return known(*asked)
            except _Large:
                return make(*asked)

        return answer

    return decorate
