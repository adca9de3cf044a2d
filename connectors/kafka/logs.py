"""
Log lines of Kafka's clients as ours: at our level, and not the same one again and again.

A broker that is down makes every connection of every client say so several times a second; what a person needs is one line now and then.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

EVERY_S = 10.0
KNOWN_MAX = 100
# Said at every start; we know (docs/decisions/0002), and the crash tests hold it.
EXPECTED = "enable.gapless.guarantee is experimental"


class Seldom(logging.Filter):
    """Passes a kind of line (a logger's text before its values are filled in) once every ``EVERY_S``."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._said: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is logged."""
        kind, now = self.kind(record), self._clock()
        if now - self._said.get(kind, float("-inf")) < EVERY_S:
            return False
        if len(self._said) >= KNOWN_MAX:
            self._said.clear()
        self._said[kind] = now
        return True

    def kind(self, record: logging.LogRecord) -> str:
        """Lines of one kind say the same."""
        return f"{record.name} {record.msg}"


class Once(Seldom):
    """
    The same for librdkafka, whose kinds are its first words (FAIL, GETPID, …), and no error above WARNING.

    librdkafka tries again by itself; what is final reaches the caller as an exception.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is logged."""
        if EXPECTED in record.getMessage() or not super().filter(record):
            return False
        if record.levelno > logging.WARNING:
            record.levelno, record.levelname = logging.WARNING, "WARNING"
        return True

    def kind(self, record: logging.LogRecord) -> str:
        """librdkafka's first word."""
        return record.getMessage().partition(" ")[0]


def librdkafka_logger(name: str) -> logging.Logger:
    """A logger for one kind of client."""
    logger = logging.getLogger(f"librdkafka.{name}")
    if not logger.filters:
        logger.addFilter(Once())
    return logger
