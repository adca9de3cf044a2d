"""The index of standing queries agrees with the oracle that asks everyone, for random queries, changes and histories."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from schemas.changes import Change
from schemas.deliveries import Match
from schemas.positions import Origin
from schemas.strict_json import normalise
from streams.matching import SimpleStandingQueries, Standing, StandingQuery
from streams.query import compile_query, to_text
from streams.query.ast import (
    And,
    ArrayOf,
    Between,
    Call,
    Comparison,
    Each,
    Expression,
    Field,
    In,
    Index,
    Is,
    Like,
    Not,
    Number,
    Or,
    Path,
    Text,
    Xor,
)
from streams.query.compile import compile_tree
from streams.standing.conditions import Condition, condition_of
from streams.standing.documents import changed
from streams.standing.found import Found
from streams.standing.index import IndexedStandingQueries
from streams.standing.levels import Level
from streams.standing.needles import may_hold, needles_of
from streams.standing.places import Places
from streams.standing.predicates import Absent, Element, Equals, Flag, Interval, Predicate, Prefix, value_at
from streams.standing.selection import selection_of
from tests.property.query_strategies import documents, expressions

SETTINGS = settings(suppress_health_check=[HealthCheck.too_slow])

# Values that meet: the same few in queries and in documents, with every kind of neighbour that a comparison may confuse.
NUMBERS = [-1, 0, 1, 1.0, 1.5, 2, 31, 31.0, 2**53, 2**53 + 1, float(2**53), 10**30, -0.0, 1e308, 5e-324]
TEXTS = ["", "a", "ab", "abc", "b", "ab%", "2013-01-01T05", "2013-01-01T06", "z" * 40, "z" * 41, "😀"]
NAMES = ["a", "b", "c"]

values: SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from(NUMBERS),
    st.sampled_from(TEXTS),
    st.lists(st.sampled_from([1, "a", None, True, [1]]), max_size=3),
)
nested: SearchStrategy[Any] = st.one_of(values, st.dictionaries(st.sampled_from(NAMES), values, max_size=2))
plain_documents: SearchStrategy[dict[str, Any]] = st.dictionaries(st.sampled_from(NAMES), nested, max_size=3)

paths: SearchStrategy[Expression] = st.builds(
    lambda name, rest: Path(None, (Field(name), *rest)), st.sampled_from(NAMES), st.sampled_from([(), (), (Field("a"),), (Index(0),)])
)
many: SearchStrategy[Expression] = st.builds(lambda name: Path(None, (Field(name), Each())), st.sampled_from(NAMES))
numbers: SearchStrategy[Expression] = st.sampled_from(NUMBERS).map(Number)
texts: SearchStrategy[Expression] = st.sampled_from(TEXTS).map(Text)
scalars = st.one_of(numbers, texts)
signs = st.sampled_from(["=", "<>", "<", "<=", ">", ">="])
tests: SearchStrategy[Expression] = st.one_of(
    paths,
    st.builds(Comparison, signs, paths, scalars),
    st.builds(Comparison, signs, scalars, paths),
    st.builds(Between, paths, numbers, numbers),
    st.builds(Between, paths, texts, texts),
    st.builds(In, paths, st.lists(scalars, max_size=4).map(lambda items: ArrayOf(tuple(items)))),
    st.builds(In, scalars, st.one_of(paths, many)),
    st.builds(Like, st.sampled_from(["LIKE", "ILIKE"]), paths, st.sampled_from(["a%", "%a", "ab", "", "a_c", "%", "ab\\%"]).map(Text)),
    st.builds(Is, st.sampled_from(["NULL", "MISSING", "UNKNOWN"]), paths),
    st.builds(
        lambda name, path, item: Call(name, (path, item)),
        st.sampled_from(["starts_with", "ends_with", "contains", "array_contains"]),
        st.one_of(paths, many),
        scalars,
    ),
    st.builds(lambda name, path: Call(name, (path,)), st.sampled_from(["is_string", "is_number", "is_boolean"]), paths),
)


def _joined(inner: SearchStrategy[Expression]) -> SearchStrategy[Expression]:
    several = st.lists(inner, min_size=2, max_size=3).map(tuple)
    return st.one_of(
        st.builds(And, several), st.builds(And, several), st.builds(Or, several), st.builds(Not, inner), st.builds(Xor, inner, inner)
    )


indexable: SearchStrategy[Expression] = st.recursive(tests, _joined, max_leaves=5)
trees = st.one_of(indexable, indexable, indexable, expressions())


def met(condition: Condition | None, document: dict[str, Any]) -> bool:
    """Whether a condition holds for a document."""
    if condition is None or condition.branches is None:
        return True
    return any(
        branch.predicate.holds(value_at(branch.predicate.place, document)) and met(branch.then, document) for branch in condition.branches
    )


@SETTINGS
@given(trees, st.one_of(plain_documents, documents))
def test_a_query_that_matches_meets_its_condition(tree: Expression, document: dict[str, Any]) -> None:
    """A branch holds for a document that matches, with all that must hold behind it; if the condition is exact, for no other."""
    condition = condition_of(tree)
    matches = compile_tree(tree)(document)
    holds = met(condition, document)
    assert holds or not matches
    if condition.exact:
        assert matches is holds


@SETTINGS
@given(trees, st.one_of(plain_documents, documents), st.booleans())
@example(tree=compile_query("a = '😀'").ast, document={"a": "😀"}, is_escaped=True)
def test_a_document_that_matches_is_not_passed_over(tree: Expression, document: dict[str, Any], is_escaped: bool) -> None:
    """However its strings were written: a backfill decodes it."""
    needles = needles_of(condition_of(tree))
    data = normalise(json.dumps(document, ensure_ascii=is_escaped).encode())
    if compile_tree(tree)(document):
        assert needles is None or may_hold(data, needles)


bounds = st.one_of(st.sampled_from(NUMBERS), st.integers(-(2**1023), 2**1023), st.floats(allow_nan=False, allow_infinity=False))
strings = st.one_of(st.sampled_from(TEXTS), st.text(st.characters(), max_size=40))
places = st.sampled_from([("a",), ("a", "b"), ("b", 0)])


def _interval(kind: Any, one: Any, other: Any, opens: tuple[bool, bool], left_out: int) -> Any:
    low, high = sorted((one, other))
    given = (low if left_out != 1 else None, high if left_out != 2 else None)
    is_empty = low == high and any(opens) and left_out not in (1, 2)
    return lambda place: Interval(place, kind, *given, *((False, False) if is_empty else opens))


intervals = st.one_of(
    st.builds(_interval, st.just("number"), bounds, bounds, st.tuples(st.booleans(), st.booleans()), st.integers(0, 5)),
    st.builds(_interval, st.just("text"), strings, strings, st.tuples(st.booleans(), st.booleans()), st.integers(0, 5)),
)
predicates: SearchStrategy[Predicate] = st.one_of(
    st.builds(Equals, places, st.one_of(bounds, strings)),
    st.builds(Element, places, st.one_of(bounds, strings)),
    st.builds(Flag, places, st.booleans()),
    st.builds(Prefix, places, strings),
    st.builds(lambda place, make: make(place), places, intervals),
    st.builds(lambda place, kind: Interval(place, kind), places, st.sampled_from(["number", "text"])),
    st.builds(Absent, places),
)
leaves = st.one_of(st.none(), st.booleans(), bounds, st.integers(-(10**400), 10**400), strings)
looked_up = st.fixed_dictionaries(
    {},
    optional={
        "a": st.one_of(leaves, st.lists(leaves, max_size=3), st.fixed_dictionaries({"b": leaves})),
        "b": st.one_of(leaves, st.lists(leaves, max_size=3)),
    },
)


@SETTINGS
@given(st.lists(predicates, max_size=30), st.lists(st.integers(0, 29), max_size=30), st.lists(looked_up, min_size=1, max_size=4))
@example([Interval(("a",), "number", 5e-324, 1e308)], [], [{"a": 1}])
@example([Interval(("a",), "number", -1e308, 1e308, low_open=True, high_open=True)], [], [{"a": 10**400}, {"a": 1e308}])
def test_stores_find_what_holds_and_nothing_else(added: list[Predicate], taken: list[int], asked: list[dict[str, Any]]) -> None:
    """Whatever was added and removed before; and an empty store is as new."""
    stores: Places[int] = Places(remembers=True)
    kept = dict(enumerate(dict.fromkeys(added)))
    for number, predicate in kept.items():
        stores.add(predicate, number)
    for number in taken:
        if number in kept:
            stores.remove(kept.pop(number))
    for document in asked:
        found: list[int] = []
        stores.find(document, found)
        assert {number for number, one in kept.items() if one.holds(value_at(one.place, document))} == set(found)
    for predicate in kept.values():
        stores.remove(predicate)
    assert not stores


@SETTINGS
@given(st.lists(predicates, max_size=20), looked_up, looked_up)
def test_looking_up_two_documents_at_once_finds_what_each_finds(added: list[Predicate], old: dict[str, Any], new: dict[str, Any]) -> None:
    """What is the same in both is looked up once, and found for both."""
    stores: Places[int] = Places(remembers=True)
    for number, predicate in enumerate(dict.fromkeys(added)):
        stores.add(predicate, number)
    found: Found[int] = Found()
    stores.find_both(old, new, changed(old, new), found)
    by_old: list[int] = []
    by_new: list[int] = []
    stores.find(old, by_old)
    stores.find(new, by_new)
    assert (set(by_old), set(by_new)) == ({*found.old, *found.both}, {*found.new, *found.both})


joined = st.builds(
    And, st.lists(st.builds(Comparison, signs, paths, st.sampled_from([Number(1), Text("a")])), min_size=2, max_size=4).map(tuple)
)
conditions = st.one_of(joined, joined, indexable).map(condition_of).filter(lambda condition: condition.branches is not None)


@SETTINGS
@given(st.lists(conditions, max_size=40), st.sets(st.integers(0, 39)), plain_documents, plain_documents)
def test_levels_find_every_condition_that_holds(added: list[Condition], taken: set[int], old: dict[str, Any], new: dict[str, Any]) -> None:
    """Also where so many begin with one predicate that they are told apart by the next; whatever was removed before."""
    level: Level[int] = Level()
    for number, condition in enumerate(added):
        level.add(condition, number)
    kept = {number: condition for number, condition in enumerate(added) if number not in taken}
    for number in taken & set(range(len(added))):
        level.remove(added[number], number)
    found: Found[int] = Found()
    level.find_both(old, new, changed(old, new), found)
    for document, side in ((old, {*found.old, *found.both}), (new, {*found.new, *found.both})):
        asked: list[int] = []
        level.find(document, asked)
        alone = set(asked)
        assert {number for number, condition in kept.items() if met(condition, document)} <= alone <= kept.keys()
        assert alone == side
    for number, condition in kept.items():
        level.remove(condition, number)
    assert not level


# Whole sets of webhooks

COLLECTIONS = ["people", "orders", "*"]
IDS = ["1", "2", "3"]
PARTITIONS = 2
origins = st.builds(Origin, st.just(0), st.integers(0, 1), st.integers(0, 5))


@st.composite
def standings(draw: st.DrawFn) -> Standing:
    """A revision with up to three triggers, some of them deleted, some not begun everywhere."""
    is_deleted = draw(st.integers(0, 9)) == 0
    return Standing(
        name=draw(st.sampled_from(["w1", "w2", "w3", "w4"])),
        uid=draw(st.sampled_from(["u1", "u1", "u1", "u2"])),
        revision=draw(st.integers(1, 3)),
        lane="lane",
        lane_partition=0,
        queries=() if is_deleted else tuple(draw(st.lists(standing_queries(), min_size=1, max_size=3))),
        deleted=is_deleted,
        since={origin.partition: origin for origin in draw(st.lists(origins, max_size=3))},
    )


@st.composite
def standing_queries(draw: st.DrawFn) -> StandingQuery:
    text = draw(st.one_of(st.just("true"), st.just("a = 1"), trees.map(to_text)))
    return StandingQuery(
        collections=frozenset(draw(st.lists(st.sampled_from(COLLECTIONS), min_size=1, max_size=2))),
        selection=selection_of(text, {}),
        ids=draw(st.one_of(st.none(), st.none(), st.frozensets(st.sampled_from(IDS), min_size=1))),
        events=tuple(draw(st.lists(st.sampled_from(list(Match)), unique=True, max_size=5))),
    )


@st.composite
def changes(draw: st.DrawFn) -> Change:
    old, new = draw(
        st.tuples(st.one_of(st.none(), plain_documents), st.one_of(st.none(), plain_documents)).filter(lambda pair: pair != (None, None))
    )
    if old is not None and new is not None:
        new = {**old, **new} if draw(st.booleans()) else new  # most changes leave most of a document as it was
    return Change(
        collection=draw(st.sampled_from(["people", "orders", "other"])),
        id=draw(st.sampled_from(IDS)),
        txn_id=1,
        version=1,
        old=None if old is None else msgspec.json.encode(old),
        new=None if new is None else msgspec.json.encode(new),
        origin=draw(origins),
        appended_us=0,
    )


steps = st.one_of(standings(), standings(), standings(), st.tuples(st.sampled_from(["w1", "w2", "w3", "w4"]), st.integers(1, 3)))


@SETTINGS
@given(st.lists(steps, max_size=12), st.lists(changes(), min_size=1, max_size=4))
def test_the_index_says_what_asking_everyone_says(history: list[Any], asked: list[Change]) -> None:
    """At any moment of a history of webhooks put, put again and removed; and whoever wants a change was among the candidates."""
    simple, index = SimpleStandingQueries(), IndexedStandingQueries(PARTITIONS)
    for step in history:
        for queries in (simple, index):
            queries.put(step) if isinstance(step, Standing) else queries.remove(*step)
        for change in asked:  # after each step, for what was found before is remembered
            expected = [(one.name, one.revision, match, trigger) for one, match, trigger in simple.matching(change)]
            assert expected == [(one.name, one.revision, match, trigger) for one, match, trigger in index.matching(change)]
            assert {(name, revision) for name, revision, _, _ in expected} <= index.candidates(change)


@SETTINGS
@given(st.lists(steps, max_size=12), st.lists(changes(), min_size=1, max_size=4))
def test_an_index_that_grew_is_one_built_at_once(history: list[Any], asked: list[Change]) -> None:
    """The same answers, and nothing left behind when all are gone."""
    grown, built = IndexedStandingQueries(PARTITIONS), IndexedStandingQueries(PARTITIONS)
    last: dict[tuple[str, int], Standing] = {}
    for step in history:
        if isinstance(step, Standing):
            grown.put(step)
            last[step.name, step.revision] = step
        else:
            grown.remove(*step)
            last.pop(step, None)
    for standing in last.values():
        built.put(standing)
    for change in asked:
        assert built.matching(change) == grown.matching(change)
    for name, revision in last:
        grown.remove(name, revision)
    assert grown.is_empty()


def test_equal_queries_share_what_they_cost() -> None:
    """The same text with the same arguments is compiled once, and is one entry."""
    assert selection_of("a = :x", {"x": 1}) is selection_of("a = :x", {"x": 1})
    assert selection_of("a = :x", {"x": 1}) is not selection_of("a = :x", {"x": True})
