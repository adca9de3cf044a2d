"""What the checker found: the violations, in the words of docs/explanation/delivery-guarantees.md, and how much there was to check."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

SHOWN_MAX = 8


class Outcome(StrEnum):
    """What the writer was told about an operation."""

    OK = "ok"
    FAILED = "failed"
    UNKNOWN = "unknown"


class Kind(StrEnum):
    """What can be wrong."""

    LOST = "lost"  # a change that the webhook wants did not arrive
    REORDERED = "reordered"  # a first arrival came after one with a higher version
    TORN = "torn"  # the old value is not the new value of the version before
    PHANTOM = "phantom"  # nothing that was written makes this change
    WRONG_EVENT = "wrong event"  # match is not what the query says about old and new value
    REPEAT = "repeat"  # the same webhook-id came with something else
    NOT_GROWING = "not growing"  # one version under two ids, or a txnId that does not grow with the version


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken promise, and where."""

    kind: Kind
    webhook: str
    key: str
    version: int
    detail: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.webhook} {self.key} version {self.version}: {self.detail}"


@dataclass(frozen=True, slots=True)
class Report:
    """
    What came of a run.

    deliveries:  arrivals of a webhook-id that was not seen before. repeats: all others.
    """

    operations: Mapping[Outcome, int]
    deliveries: int
    repeats: int
    violations: Sequence[Violation]

    def __str__(self) -> str:
        """The first violations, one a line, after how many there are of each kind."""
        counted = Counter(violation.kind for violation in self.violations)
        head = ", ".join(f"{count} {kind}" for kind, count in sorted(counted.items())) or "no violation"
        return "\n  ".join([head, *map(str, self.violations[:SHOWN_MAX])])
