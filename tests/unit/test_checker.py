"""The checker of the crash tests finds what is planted, each thing under its name, and nothing in a run without faults."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.chaos.checker import Arrival, Document, Operation, Webhook, check, event, folded
from tests.chaos.report import Kind, Outcome

ADULTS = Webhook("adults", lambda document: document.get("age", 0) >= 18)
ALL = Webhook("all", lambda document: True)
WEBHOOKS = [ADULTS, ALL]


def upsert(key: str, outcome: Outcome = Outcome.OK, **value: object) -> Operation:
    return Operation(key, "upsert", {"_id": key.partition("/")[2], **value}, outcome)


def replacement(key: str, outcome: Outcome = Outcome.OK, **value: object) -> Operation:
    return replace(upsert(key, outcome, **value), method="replace")


def remove(key: str, outcome: Outcome = Outcome.OK) -> Operation:
    return Operation(key, "remove", None, outcome)


LIFE = [
    upsert("people/a", age=17, name="Ann"),
    upsert("people/b", age=40),
    upsert("people/a", age=18),
    upsert("people/a", age=18),
    upsert("people/a", age=19),
    replacement("people/a", age=3),
    upsert("people/a", age=20),
    remove("people/b"),
    remove("people/a"),
    remove("people/a"),
    upsert("people/a", age=50),
]


def delivered(operations: list[Operation]) -> list[Arrival]:
    """What receivers get of these when nothing fails: each change at once, to every webhook that wants it."""
    arrivals = []
    values: dict[str, Document | None] = {}
    versions: dict[str, int] = {}
    for number, operation in enumerate(operations):
        key = operation.key
        old = values.get(key)
        new = values[key] = folded(old, operation)
        if old == new:
            continue
        versions[key] = versions.get(key, 0) + 1
        for webhook in WEBHOOKS:
            if (match := event(webhook, old, new)) is not None:
                id_ = f"msg_{webhook.name}_{number}"
                arrivals.append(Arrival(webhook.name, key, versions[key], id_, match, 1000 + number, old, new))
    return arrivals


def kinds(operations: list[Operation], arrivals: list[Arrival]) -> list[tuple[Kind, str, str, int]]:
    return [(one.kind, one.webhook, one.key, one.version) for one in check(operations, arrivals, WEBHOOKS).violations]


def place(arrivals: list[Arrival], webhook: str, key: str, version: int) -> int:
    return next(i for i, one in enumerate(arrivals) if (one.webhook, one.key, one.version) == (webhook, key, version))


def changed(arrivals: list[Arrival], webhook: str, key: str, version: int, **fields: Any) -> list[Arrival]:
    at = place(arrivals, webhook, key, version)
    return [*arrivals[:at], replace(arrivals[at], **fields), *arrivals[at + 1 :]]


def test_a_run_without_faults_has_no_violation():
    """Create, enter, update, leave, remove, writes that change nothing, a document that comes back."""
    report = check(LIFE, delivered(LIFE), WEBHOOKS)
    assert [] == list(report.violations)
    assert {Outcome.OK: 11} == report.operations
    assert (17, 0) == (report.deliveries, report.repeats)
    assert "no violation" == str(report)


def test_the_five_events_are_told_apart():
    """The oracle of events says what docs/reference/receiver.md says."""
    young, old = {"age": 17}, {"age": 18}
    cases = [(None, old), (young, old), (old, old), (old, young), (old, None), (None, young), (young, young), (young, None)]
    assert ["create", "enter", "update", "leave", "remove", None, None, None] == [event(ADULTS, *case) for case in cases]


@pytest.mark.parametrize("webhook", ["adults", "all"])
@pytest.mark.parametrize("version", [2, 4, 7])
def test_a_delivery_that_is_missing_is_lost(webhook, version):
    """Wherever in a document's life it is, the end included."""
    arrivals = delivered(LIFE)
    del arrivals[place(arrivals, webhook, "people/a", version)]
    assert [(Kind.LOST, webhook, "people/a", version)] == kinds(LIFE, arrivals)


def test_a_document_that_never_arrives_is_lost():
    """Nothing of it at all is no excuse."""
    arrivals = [arrival for arrival in delivered(LIFE) if arrival.key != "people/b"]
    lost = [(Kind.LOST, webhook, "people/b", version) for version in (1, 2) for webhook in ("adults", "all")]
    assert lost == kinds(LIFE, arrivals)


def test_an_older_version_after_a_newer_one_is_reordered():
    """It is the late one that is named."""
    arrivals = delivered(LIFE)
    late = arrivals.pop(place(arrivals, "all", "people/a", 2))
    arrivals.insert(place(arrivals, "all", "people/a", 3) + 1, late)
    assert [(Kind.REORDERED, "all", "people/a", 2)] == kinds(LIFE, arrivals)


def test_documents_and_webhooks_have_no_order_between_them():
    """All deliveries of one document, then of another, webhook by webhook, are in order."""
    arrivals = sorted(delivered(LIFE), key=lambda one: (one.webhook, one.key, one.version))
    assert [] == kinds(LIFE, arrivals)


def test_an_id_seen_before_is_a_repeat_however_late():
    """An old version after newer ones is no reordering when its id was seen, and counts as a repeat."""
    arrivals = delivered(LIFE)
    report = check(LIFE, [*arrivals, arrivals[0], arrivals[3], arrivals[0]], WEBHOOKS)
    assert ([], 17, 3) == (list(report.violations), report.deliveries, report.repeats)


@pytest.mark.parametrize(
    "fields", [{"new": {"_id": "a", "age": 99}}, {"txn_id": 5}, {"match": "update"}, {"version": 9}, {"webhook": "adults"}]
)
def test_a_repeat_with_another_body_is_a_violation(fields):
    """One webhook-id says one thing for ever."""
    arrivals = delivered(LIFE)
    first = arrivals[place(arrivals, "all", "people/a", 1)]
    assert [Kind.REPEAT] == [one[0] for one in kinds(LIFE, [*arrivals, replace(first, **fields)])]


def test_an_old_value_that_is_not_the_one_before_is_torn():
    """Each change begins where the one before ended."""
    arrivals = changed(delivered(LIFE), "all", "people/a", 3, old={"_id": "a", "age": 17, "name": "Ann"})
    assert [(Kind.TORN, "all", "people/a", 3)] == kinds(LIFE, arrivals)


def test_a_value_nobody_wrote_is_a_phantom():
    """The new value must be what the operations so far make of the document."""
    arrivals = changed(delivered(LIFE), "all", "people/a", 3, new={"_id": "a", "age": 77, "name": "Ann"})
    assert [(Kind.PHANTOM, "all", "people/a", 3)] == kinds(LIFE, arrivals)


def test_a_change_too_many_is_a_phantom():
    """A version beyond those that the operations made."""
    arrivals = delivered(LIFE)
    extra = replace(arrivals[-1], webhook_id="msg_x", version=8, txn_id=5000)
    assert [(Kind.PHANTOM, "all", "people/a", 8)] == kinds(LIFE, [*arrivals, extra])


def test_a_document_nobody_wrote_is_a_phantom():
    """So is a delivery that only a failed operation would explain."""
    arrival = Arrival("all", "people/z", 1, "msg_z", "create", 1, None, {"_id": "z"})
    assert [(Kind.PHANTOM, "all", "people/z", 1)] == kinds([], [arrival])
    assert [(Kind.PHANTOM, "all", "people/z", 1)] == kinds([upsert("people/z", Outcome.FAILED)], [arrival])


def test_a_webhook_nobody_made_is_a_phantom():
    """Whatever it was sent."""
    arrivals = delivered(LIFE)
    extra = replace(arrivals[place(arrivals, "all", "people/a", 1)], webhook="gone", webhook_id="msg_x")
    assert [(Kind.PHANTOM, "gone", "people/a", 1)] == kinds(LIFE, [*arrivals, extra])


@pytest.mark.parametrize(("version", "match"), [(2, "update"), (3, "enter"), (4, "remove"), (5, "create")])
def test_an_event_that_contradicts_the_query_is_wrong(version, match):
    """The class follows from the query on old and new value."""
    assert [(Kind.WRONG_EVENT, "adults", "people/a", version)] == kinds(
        LIFE, changed(delivered(LIFE), "adults", "people/a", version, match=match)
    )


def test_a_delivery_that_the_query_does_not_want_is_a_wrong_event():
    """Neither value matches."""
    arrivals = delivered(LIFE)
    young = arrivals[place(arrivals, "all", "people/a", 1)]
    arrivals.insert(0, replace(young, webhook="adults", webhook_id="msg_x"))
    assert [(Kind.WRONG_EVENT, "adults", "people/a", 1)] == kinds(LIFE, arrivals)


def test_one_change_under_two_ids_is_a_violation():
    """A change makes at most one delivery for each webhook."""
    arrivals = delivered(LIFE)
    again = replace(arrivals[place(arrivals, "all", "people/a", 2)], webhook_id="msg_x")
    assert [(Kind.NOT_GROWING, "all", "people/a", 2)] == kinds(LIFE, [*arrivals, again])


def test_a_txn_id_grows_with_the_version():
    """A lower one, and one that another version had, are violations; so is a version with two."""
    same = [replace(one, txn_id=1000) if (one.key, one.version) == ("people/a", 2) else one for one in delivered(LIFE)]
    assert [(Kind.NOT_GROWING, "all", "people/a", 2)] == kinds(LIFE, same)
    two = changed(delivered(LIFE), "adults", "people/b", 2, txn_id=1500)
    assert [(Kind.NOT_GROWING, "adults", "people/b", 2)] == kinds(LIFE, two)
    lower = changed(delivered(LIFE), "adults", "people/a", 7, txn_id=1)
    assert (Kind.NOT_GROWING, "adults", "people/a", 7) in kinds(LIFE, lower)


UNSURE = [
    upsert("people/a", age=30),
    upsert("people/a", Outcome.UNKNOWN, age=31),
    upsert("people/a", age=32),
    remove("people/a", Outcome.UNKNOWN),
    upsert("people/a", age=33),
]


@pytest.mark.parametrize("written", range(4))
def test_an_unknown_operation_may_have_been_written_or_not(written):
    """Whichever it was, what follows from it is right."""
    became = {1: bool(written & 1), 3: bool(written & 2)}
    operations = [one for number, one in enumerate(UNSURE) if became.get(number, True)]
    assert [] == kinds(UNSURE, delivered(operations))


def test_an_unknown_operation_excuses_no_loss():
    """If a webhook saw it, the others must too; and what is acknowledged must arrive in any case."""
    arrivals = delivered(UNSURE)
    del arrivals[place(arrivals, "adults", "people/a", 2)]
    assert [(Kind.LOST, "adults", "people/a", 2)] == kinds(UNSURE, arrivals)
    arrivals = [one for one in delivered(UNSURE) if one.version < 5]
    assert {Kind.LOST} == {one[0] for one in kinds(UNSURE, arrivals)}


def test_the_final_value_is_the_fold_of_what_was_accepted():
    """A receiver that ends on an older value has lost the last change."""
    operations = [upsert("people/a", age=30), upsert("people/a", Outcome.UNKNOWN, age=31), upsert("people/a", age=32)]
    arrivals = [one for one in delivered(operations) if one.version < 3]
    assert {(Kind.LOST, "adults", "people/a", 3), (Kind.LOST, "all", "people/a", 3)} == set(kinds(operations, arrivals))


@pytest.mark.parametrize("seed", range(20))
def test_random_runs_without_faults_have_no_violation(seed):
    """Any operations, any outcome, any interleaving of documents and webhooks, any number of repeats."""
    rng = random.Random(seed)
    operations = [_operation(rng) for _ in range(200)]
    written = [one for one in operations if one.outcome is Outcome.OK or (one.outcome is Outcome.UNKNOWN and rng.random() < 0.5)]
    arrivals = _interleaved(rng, delivered(written))
    arrivals += rng.choices(arrivals, k=20)
    report = check(operations, arrivals, WEBHOOKS)
    assert [] == list(report.violations), f"seed {seed}: {report}"
    assert 20 == report.repeats


def _operation(rng: random.Random) -> Operation:
    key = f"people/{rng.choice('abcd')}"
    outcome = rng.choices([Outcome.OK, Outcome.FAILED, Outcome.UNKNOWN], [90, 5, 5])[0]
    make: Callable[[], Operation] = rng.choice(
        [
            lambda: upsert(key, outcome, age=rng.randint(10, 30)),
            lambda: upsert(key, outcome, name=rng.choice("xyz")),
            lambda: replacement(key, outcome, age=rng.randint(10, 30)),
            lambda: remove(key, outcome),
        ]
    )
    return make()


def _interleaved(rng: random.Random, arrivals: list[Arrival]) -> list[Arrival]:
    """Another order in which each webhook still gets each document's deliveries one after the other."""
    lanes: dict[tuple[str, str], list[Arrival]] = {}
    for arrival in arrivals:
        lanes.setdefault((arrival.webhook, arrival.key), []).append(arrival)
    turns = rng.sample([lane for lane, many in lanes.items() for _ in many], len(arrivals))
    return [lanes[lane].pop(0) for lane in turns]


@pytest.mark.parametrize("seed", range(3))
def test_many_unknown_operations_in_a_row_are_gone_through(seed):
    """As after a minute without a broker: sixty in a row could have made more histories than anybody can look at."""
    rng = random.Random(seed)
    fields = [{name: number for name in "bcdef" if rng.random() < 0.5} for number in range(60)]
    operations = [upsert("people/a", Outcome.UNKNOWN, n=number, **some) for number, some in enumerate(fields)]
    written = [one for one in operations if rng.random() < 0.5]
    assert not check([*operations, LIFE[0]], delivered([*written, LIFE[0]]), WEBHOOKS).violations
    lost = [arrival for arrival in delivered([*written, LIFE[0]]) if arrival.version != 7]
    assert check([*operations, LIFE[0]], lost, WEBHOOKS).violations
