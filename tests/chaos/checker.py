"""
Says what went wrong on the way from mutations to receivers, from the two ends alone: what was asked, and what arrived.

In: every operation on every document in the order it was written, and every call in the order receivers took it. Out: a :class:`Report`.
Knows nothing of how Livehook works and imports nothing of it, so that it cannot share its mistakes: the fold and the five events are
written here again, from docs/reference/mutations.md and docs/reference/receiver.md. Pure. Called by the crash tests.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.report import Kind, Outcome, Report, Violation

Document = Mapping[str, Any]

BEHIND_MAX = 50


@dataclass(frozen=True, slots=True)
class Operation:
    """
    One mutation as its writer sees it.

    method:   upsert, replace or remove.
    value:    the properties given, with ``_id``; None for a remove. No number with a fraction: 1 and 1.0 are the same only to Livehook.
    outcome:  ok: it is in the log. failed: it is not. unknown: it may be, and then before everything that was written after it.
    """

    key: str
    method: str
    value: Document | None
    outcome: Outcome = Outcome.OK


@dataclass(frozen=True, slots=True)
class Arrival:
    """One call as a receiver took it; ``old`` and ``new`` are the documents, None where there is none."""

    webhook: str
    key: str
    version: int
    webhook_id: str
    match: str
    txn_id: int
    old: Document | None
    new: Document | None


@dataclass(frozen=True, slots=True)
class Webhook:
    """A standing query over all documents written; it was there before the first of them."""

    name: str
    matches: Callable[[Document], bool]


@dataclass(frozen=True, slots=True)
class _State:
    """A document, or that there is none; ``text`` is the same for equal ones. Texts are compared all the time, and made once."""

    value: Document | None
    text: str


@dataclass(frozen=True, slots=True)
class _Change:
    """One step of a document's history."""

    version: int
    old: _State
    new: _State


@dataclass(frozen=True, slots=True)
class _History:
    """
    A way in which a document may have come to be; unknown operations make several.

    cost:  how many violations it would take to explain what arrived.
    """

    version: int = 0
    state: _State = _State(None, "null")
    cost: int = 0
    last: _Change | None = None
    before: _History | None = None

    def changes(self) -> list[_Change]:
        """Every step, oldest first."""
        found: list[_Change] = []
        history: _History | None = self
        while history is not None and history.last is not None:
            found.append(history.last)
            history = history.before
        return found[::-1]


@dataclass(frozen=True, slots=True)
class _First:
    """A first arrival."""

    arrival: Arrival
    old: _State
    new: _State


@dataclass(slots=True)
class _Arrived:
    """What arrived of one document: for each webhook the first arrival of each version."""

    of: dict[str, dict[int, _First]] = field(default_factory=dict)

    def put(self, arrival: Arrival) -> Arrival | None:
        """Note a first arrival; gives the one that has its version already."""
        versions = self.of.setdefault(arrival.webhook, {})
        known = versions.get(arrival.version)
        if known is not None:
            return known.arrival
        versions[arrival.version] = _First(arrival, _state(arrival.old), _state(arrival.new))
        return None

    def get(self, webhook: str, version: int) -> _First | None:
        return self.of.get(webhook, {}).get(version)

    def all(self) -> list[Arrival]:
        return [first.arrival for versions in self.of.values() for first in versions.values()]


def check(operations: Iterable[Operation], arrivals: Iterable[Arrival], webhooks: Sequence[Webhook]) -> Report:
    """
    Compare what arrived with what had to.

    Args:     operations: in the order they were written, at least within each document. arrivals: in the order they came in.
    Returns:  every violation; when unknown operations leave several histories possible, those of the history that explains most.
    """
    violations: list[Violation] = []
    written: dict[str, list[Operation]] = defaultdict(list)
    for operation in operations:
        written[operation.key].append(operation)
    first, repeats = _first_arrivals(arrivals, violations)
    arrived: dict[str, _Arrived] = defaultdict(_Arrived)
    _check_order(first, arrived, violations)
    for key in written.keys() | arrived.keys():
        _check_txn_ids(key, arrived[key], violations)
        changes = _history(written[key], arrived[key], webhooks)
        _check_changes(key, changes, arrived[key], webhooks, violations)
    counted = Counter(operation.outcome for many in written.values() for operation in many)
    return Report(counted, len(first), repeats, sorted(violations, key=lambda one: (one.key, one.version, one.webhook)))


def event(webhook: Webhook, old: Document | None, new: Document | None) -> str | None:
    """What a change is to a webhook; None: it does not want it."""
    before = old is not None and webhook.matches(old)
    after = new is not None and webhook.matches(new)
    if new is None:
        return "remove" if before else None
    if old is None:
        return "create" if after else None
    return {(True, True): "update", (False, True): "enter", (True, False): "leave", (False, False): None}[before, after]


def _first_arrivals(arrivals: Iterable[Arrival], violations: list[Violation]) -> tuple[list[Arrival], int]:
    """Arrivals without those of an id that was seen, and how many these are."""
    seen: dict[str, Arrival] = {}
    repeats = 0
    for arrival in arrivals:
        known = seen.get(arrival.webhook_id)
        if known is None:
            seen[arrival.webhook_id] = arrival
            continue
        repeats += 1
        if known != arrival:
            violations.append(_violation(Kind.REPEAT, arrival, f"{arrival.webhook_id} was {_short(known)}, then {_short(arrival)}"))
    return list(seen.values()), repeats


def _check_order(first: Iterable[Arrival], arrived: dict[str, _Arrived], violations: list[Violation]) -> None:
    """First arrivals grow in version for each webhook and document. Fills ``arrived``."""
    highest: dict[tuple[str, str], int] = {}
    for arrival in first:
        lane = arrival.webhook, arrival.key
        known = arrived[arrival.key].put(arrival)
        if known is not None:
            violations.append(_violation(Kind.NOT_GROWING, arrival, f"came as {known.webhook_id} and as {arrival.webhook_id}"))
        elif arrival.version < highest.get(lane, 0):
            violations.append(_violation(Kind.REORDERED, arrival, f"came after version {highest[lane]}"))
        highest[lane] = max(arrival.version, highest.get(lane, 0))


def _check_txn_ids(key: str, arrived: _Arrived, violations: list[Violation]) -> None:
    """A version has one txnId, whatever the webhook, and a later one has a higher one."""
    version, txn_id = 0, 0
    for arrival in sorted(arrived.all(), key=lambda one: (one.version, one.txn_id)):
        grows = arrival.txn_id == txn_id if arrival.version == version else arrival.txn_id > txn_id
        if not grows:
            violations.append(_violation(Kind.NOT_GROWING, arrival, f"txnId {arrival.txn_id}, version {version} had {txn_id}"))
        version, txn_id = arrival.version, arrival.txn_id


def _history(operations: Sequence[Operation], arrived: _Arrived, webhooks: Sequence[Webhook]) -> list[_Change]:
    """
    The changes that the operations made; where unknown ones leave a choice, so that most of what arrived is explained.

    Unknown operations in a row make more histories than can be gone through. So of those that explain less than the best ones only some are
    kept. One that explains everything is never among them: whether there is a violation stays exact.
    """
    histories = {(0, "null"): _History()}
    for operation in operations:
        if operation.outcome is Outcome.FAILED:
            continue
        found: dict[tuple[int, str], _History] = {}
        for history in histories.values():
            _keep_cheapest(found, _applied(history, operation, arrived, webhooks))
            if operation.outcome is Outcome.UNKNOWN:
                _keep_cheapest(found, history)
        best = min(history.cost for history in found.values())
        behind = sorted((one for one in found.values() if one.cost > best), key=lambda one: one.cost)[:BEHIND_MAX]
        kept = [*(one for one in found.values() if one.cost == best), *behind]
        histories = {(one.version, one.state.text): one for one in kept}
    beyond = {number: sum(arrival.version > number for arrival in arrived.all()) for number in {one.version for one in histories.values()}}
    return min(histories.values(), key=lambda one: one.cost + beyond[one.version]).changes()


def _applied(history: _History, operation: Operation, arrived: _Arrived, webhooks: Sequence[Webhook]) -> _History:
    """The history after one more operation; the same when it changes nothing."""
    new = _state(folded(history.state.value, operation))
    if new.text == history.state.text:
        return history
    change = _Change(history.version + 1, history.state, new)
    cost = sum(_violation_of(webhook, change, arrived.get(webhook.name, change.version)) is not None for webhook in webhooks)
    return _History(change.version, new, history.cost + cost, change, history)


def folded(value: Document | None, operation: Operation) -> Document | None:
    """The document after an operation on it."""
    if operation.method == "remove":
        return None
    given = operation.value or {}
    return dict(given) if operation.method == "replace" or value is None else {**value, **given}


def _keep_cheapest(found: dict[tuple[int, str], _History], history: _History) -> None:
    identity = history.version, history.state.text
    if identity not in found or history.cost < found[identity].cost:
        found[identity] = history


def _check_changes(
    key: str, changes: Sequence[_Change], arrived: _Arrived, webhooks: Sequence[Webhook], violations: list[Violation]
) -> None:
    """Each change arrived where it was wanted and as it was; nothing else did."""
    for change in changes:
        for webhook in webhooks:
            problem = _violation_of(webhook, change, arrived.get(webhook.name, change.version))
            if problem is not None:
                violations.append(Violation(problem[0], webhook.name, key, change.version, problem[1]))
    known = {webhook.name for webhook in webhooks}
    for arrival in arrived.all():
        if arrival.version > len(changes) or arrival.version < 1:
            violations.append(_violation(Kind.PHANTOM, arrival, f"{_short(arrival)}, but there are {len(changes)} changes"))
        elif arrival.webhook not in known:
            violations.append(_violation(Kind.PHANTOM, arrival, "there is no such webhook"))


def _violation_of(webhook: Webhook, change: _Change, first: _First | None) -> tuple[Kind, str] | None:
    """What is wrong with the arrival, or its absence, of a change at a webhook."""
    expected = event(webhook, change.old.value, change.new.value)
    if first is None:
        return None if expected is None else (Kind.LOST, f"{expected} {change.old.text} -> {change.new.text}")
    if first.new.text != change.new.text:
        return Kind.PHANTOM, f"new value is {first.new.text}, must be {change.new.text}"
    if first.old.text != change.old.text:
        return Kind.TORN, f"old value is {first.old.text}, must be {change.old.text}"
    if first.arrival.match != expected:
        return Kind.WRONG_EVENT, f"came as {first.arrival.match}, is {expected or 'not wanted'}"
    return None


def _violation(kind: Kind, arrival: Arrival, detail: str) -> Violation:
    return Violation(kind, arrival.webhook, arrival.key, arrival.version, detail)


def _state(value: Document | None) -> _State:
    return _State(value, json.dumps(value, sort_keys=True))


def _short(arrival: Arrival) -> str:
    return f"{arrival.match} {_state(arrival.old).text} -> {_state(arrival.new).text}, txnId {arrival.txn_id}"
