"""The API of the query language: compiling, binding, explaining, printing, and what bounds an evaluation."""

import time
from typing import Any

import msgspec
import pytest

from streams.query import Explained, QueryError, compile_query, explain, to_text
from streams.query.ast import And, Comparison, Field, Is, Path, Text
from streams.query.limits import STRING_CHARS_MAX

A = Path(None, (Field("a"),))


@pytest.mark.parametrize(
    "text",
    [
        "a = 1", "a <> 1", "a == 1 AND b", "a or b", "NOT a", "a xor b", "a IN (1)", "a IS NULL", "a BETWEEN 1 AND 2",
        "a LIKE 'x'", "a ILIKE 'x'", "a SIMILAR TO 'x'", "SELECT * FROM people", "concat(a) == 'x'", "CONCAT (a) == 'x'", "a == :x",
    ],
)  # fmt: skip
def test_a_sign_or_word_that_only_dql_has_makes_a_query_dql(text: str) -> None:
    """The list of the contract, in any case."""
    assert "dql" == compile_query(text, {"x": 1}).dialect


@pytest.mark.parametrize(
    "text",
    [
        "a == 1", "a != 1 && !b || c", "a == 'x = y OR z'", 'a == "NOT"', "a.and == 1", "a['in'] == 1", "`or` == 1", "concat == 1",
        "a == 1 -- = OR", "a /* LIKE */ == 1", "a == $args.x", "a == {in: 1, or: 2}", "(a) == {x:b}", "a.concat == 1",
        "coalesce(a, 1) == 1", "a + 1 >> 2 == 3", "SELECTED == 1", "length(a[? b == 1]) == 1", "a == {x: [{y:z, not: b}]}",
    ],
)  # fmt: skip
def test_every_other_query_is_legacy(text: str) -> None:
    """Words in strings, comments, backticks, after dots and as keys are not words of the language."""
    assert "legacy" == compile_query(text, {"x": 1}).dialect


def test_both_dialects_give_the_same_tree() -> None:
    """After parsing nobody needs to know how a query was spelled."""
    legacy = compile_query("age >= 18 && !(name == 'Frank') && tag != $args.t", {"t": "x"})
    dql = compile_query("SELECT * FROM people WHERE age >= 18 AND NOT name = 'Frank' AND tag <> :t", {"t": "x"})
    assert legacy.ast == dql.ast
    assert "age >= 18 AND NOT name = 'Frank' AND tag <> 'x'" == to_text(legacy.ast)


def test_the_tree_holds_bound_literals_for_the_index() -> None:
    """An index of standing queries reads paths and literals off the tree; arguments are literals there."""
    query = compile_query("a == $args.x && a != null", {"x": "y"})
    assert And((Comparison("=", A, Text("y")), compile_query("a != null").ast)) == query.ast
    assert Is("UNKNOWN", A) == compile_query("a == null").ast


def test_one_and_true_are_different_literals() -> None:
    """Python takes them for equal; trees that share evaluations must not."""
    assert compile_query("a == 1").ast != compile_query("a == true").ast
    assert compile_query("a == 1").ast == compile_query("a == 1.0").ast
    assert hash(compile_query("a == 1 -- x").ast) == hash(compile_query("   a == 1").ast)


def test_select_must_name_the_only_collection() -> None:
    """A query over one collection cannot stand for a webhook over others."""
    text = "SELECT * FROM people WHERE age = 1"
    assert "people" == compile_query(text).collection
    assert "people" == compile_query(text, collections=["people"]).collection
    assert compile_query("age = 1", collections=["a", "b"]).collection is None
    for collections in (["cars"], ["people", "cars"], []):
        with pytest.raises(QueryError, match="selects from people") as caught:
            compile_query(text, collections=collections)
        assert (1, 15) == (caught.value.line, caught.value.column)


def test_a_null_that_an_argument_brings_is_no_null_test() -> None:
    """Only the word null makes `==` a test for absence (contract, section 7)."""
    assert compile_query("a == null").matches({}) is True
    assert compile_query("a == $args.x", {"x": None}).matches({}) is False


def test_arguments_cannot_change_a_query() -> None:
    """An argument is a value whatever is written in it."""
    query = compile_query("name == $args.x", {"x": "' || true || '"})
    assert query.matches({"name": "Frank"}) is False
    assert query.matches({"name": "' || true || '"}) is True


def test_unused_arguments_are_ignored() -> None:
    """A webhook's args may serve several triggers."""
    assert compile_query("a == 1", {"other": object()}).matches({"a": 1})


def test_a_tree_is_printed_with_as_few_brackets_as_possible() -> None:
    """What `explain` shows reads like what people write."""
    for text in (
        "a OR b AND NOT c = 1 XOR d",
        "(a OR b) AND NOT (c = 1 AND d)",
        "a - (b - c) * -d / 2",
        "-(-a) = -5",
        "`in`.x['']['y z'][0][*][? b > 1][] IS NULL".replace("['y z']", ".`y z`"),
        "(a[*].b)[0] IN [1, 'it''s', null, true, {'k': [2.5]}]",
        "NOT a LIKE '\\\\%' AND b BETWEEN 1 AND 2 AND c IS MISSING",
    ):
        assert text == to_text(compile_query(text).ast)


def lines(part: Explained, depth: int = 0) -> list[str]:
    """An explanation as people would print it."""
    value = "missing" if part.missing else msgspec.json.encode(part.value).decode()
    return [f"{'  ' * depth}{part.text} -> {value}", *(line for child in part.children for line in lines(child, depth + 1))]


def test_explain_gives_the_value_of_every_part() -> None:
    """Operators, functions and paths, in the order they are written; literals speak for themselves."""
    query = compile_query("age >= 18 && !(name == 'Frank') && length(tags[? x > 1]) + 1 > 2 && email == null")
    assert [
        "age >= 18 AND NOT name = 'Frank' AND length(tags[? x > 1]) + 1 > 2 AND email IS UNKNOWN -> false",
        "  age >= 18 -> true",
        "    age -> 31",
        "  NOT name = 'Frank' -> true",
        "    name = 'Frank' -> false",
        '      name -> "Susan"',
        "  length(tags[? x > 1]) + 1 > 2 -> false",
        "    length(tags[? x > 1]) + 1 -> 2",
        "      length(tags[? x > 1]) -> 1",
        '        tags[? x > 1] -> [{"x":2}]',
        "  email IS UNKNOWN -> true",
        "    email -> missing",
    ] == lines(explain(query, {"age": 31, "name": "Susan", "tags": [{"x": 2}, 3]}))


def test_arguments_reach_into_filters() -> None:
    """Every part of a tree is bound."""
    assert compile_query("x[? a > 5].b = [1]").ast == compile_query("x[? a > :p].b = [:q]", {"p": 5, "q": 1}).ast


# What bounds an evaluation


def within(seconds: float, text: str, document: dict[str, Any]) -> bool | None:
    """The value of a query, which must not take longer; processor time, so that a busy machine does no harm."""
    query = compile_query(text)
    started = time.process_time()
    value = query.value(document)
    assert query.matches(document) is (value is True)
    assert time.process_time() - started < seconds
    return value


def nested(levels: int) -> Any:
    value: Any = [{"x": 1}]
    for _ in range(levels):
        value = [{"x": value}]
    return value


def test_filters_that_multiply_are_null_when_the_steps_are_spent() -> None:
    """Without a bound this takes 8 to the 15th visits."""
    text = "x == x"
    for _ in range(15):
        text = f"length((([x, x, x, x, x, x, x, x])[])[? {text}]) > 0"
    query = compile_query(text)
    started = time.process_time()
    assert query.matches({"x": nested(15)}) is False
    assert time.process_time() - started < 10


def test_a_large_document_has_steps_enough() -> None:
    """Filters over the largest document, a hundred thousand elements, are far from the bound."""
    document = {"a": [{"x": position} for position in range(100_000)]}
    assert compile_query("length(a[? x > 10 && x != 500 && (x < 90000 || x == 99999)].x) == 89989").matches(document)


def test_a_hostile_pattern_takes_linear_time() -> None:
    """Patterns that make backtracking engines hang; the string is as long as the largest document."""
    text = "a" * 1_000_000
    for pattern in ("(a+)+b", "(a|aa)+b", "(.*)(.*)(.*)(.*)b", "^(a?){30}a{30}b"):
        assert within(10, f"regex(s, '{pattern}')", {"s": text}) is False
    assert within(10, "s LIKE '%a%a%a%a%a%a%b'", {"s": text}) is False


def test_a_pattern_too_large_for_its_string_is_null() -> None:
    """The product of both is bounded."""
    query = "regex(s, '" + "(a?){900}" * 4 + "b')"
    assert within(10, query, {"s": "ab" * 300_000}) is None
    assert within(10, query, {"s": "ab"}) is True


def test_patterns_from_documents_are_paid_for() -> None:
    """Compiling a pattern for each of many elements would take minutes."""
    patterns = [{"p": f"(\\p{{L}}{{30}}){{{1 + n % 30}}}{n}"} for n in range(40_000)]
    assert within(20, "length(a[? regex('x', p)]) == 0", {"a": patterns}) is None


def test_numbers_stay_small() -> None:
    """Results outside the range of a double are null, so no product or shift eats memory."""
    huge = {"n": 10**4_000, "m": 10**200}
    assert within(1, "n * n IS NULL AND n + 1 IS NULL AND n << 1 IS NULL AND 1 << n IS NULL AND -n IS NULL", huge) is True
    assert within(1, "m * m IS NULL AND m + m IS NOT NULL AND abs(n) IS NULL AND sum([n, n]) IS NULL", huge) is True
    assert within(1, "n > m AND n = n AND n <> m", huge) is True


def test_strings_stay_small() -> None:
    """concat makes nothing longer than the largest document."""
    document = {"s": "x" * (STRING_CHARS_MAX // 2)}
    assert within(1, "char_length(s || s) = 1048576 AND (s || s || 'x') IS NULL", document) is True
    assert within(5, "'' || " + "||".join(["s"] * 5_000) + " IS NULL", document) is True


def test_deep_documents_do_no_harm() -> None:
    """Equality does not recurse, however deep two values are."""
    one: Any = []
    other: Any = []
    for _ in range(100_000):
        one, other = [one], [other]
    assert compile_query("a = b").matches({"a": one, "b": other})
    assert compile_query("deserialize_json(s) IS NULL").matches({"s": "[" * 100_000 + "]" * 100_000})


def test_what_json_cannot_hold_does_no_harm_either() -> None:
    """Documents are JSON; should one day something else slip in, it is compared with nothing and raises nothing."""
    document = {"a": float("nan"), "b": float("inf"), "c": "\ud800", "d": msgspec.UNSET, "e": (1, 2)}
    for text in (
        "ceil(a) = 1", "floor(b) = 1", "a + b > 0", "a % 2 = 1", "b % 2 = 1", "byte_length(c) = 3", "regex(c, '.')", "c LIKE '_'",
        "deserialize_json(c) = 1", "d = d", "e[0] = 1", "type(d) = 'x'", "length(e) = 2", "a << 1 = 2", "1 << b = 2", "a = a",
        "d || c = ''",
    ):  # fmt: skip
        compile_query(text).matches(document)
        compile_query(text).value(document)
