"""How a command ends when it does not succeed. Source: docs/reference/errors.md, "Command line"."""

from __future__ import annotations

DONE, FAILED, WRONG, UNREACHABLE, INTERRUPTED = 0, 1, 2, 3, 130


class Exit(Exception):
    """The command ends with ``code``; the message goes to stderr as it is."""

    code = FAILED


class Failed(Exit):
    """What was asked did not come about."""


class Wrong(Exit):
    """Wrong use or input: asked in the same way again, it fails again."""

    code = WRONG


class Unreachable(Exit):
    """The API or Kafka cannot be reached."""

    code = UNREACHABLE
