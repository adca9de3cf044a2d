"""Which predicates a query is found by: the fixed rule, case by case. tests/property/test_standing.py shows that none is missed."""

import pytest

from streams.query import compile_query
from streams.standing.conditions import Condition, condition_of


def shown(condition: Condition) -> str:
    """The branches of a condition, what stands behind one after an arrow."""
    if condition.branches is None:
        return "always" if condition.exact else "anything"
    parts = (branch.predicate.text() + ("" if branch.then is None else f" -> {shown(branch.then)}") for branch in condition.branches)
    return " | ".join(parts) or "never"


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("a = 1", "a = 1"),
        ("'x' == a.b[0]", "a.b[0] = 'x'"),
        ("a", "a = true"),
        ("!a", "a = false"),
        ("a == null", "a IS UNKNOWN"),
        ("a IS NOT NULL", "anything"),
        ("a LIKE 'x%'", "starts_with(a, 'x')"),
        ("a LIKE 'x'", "a = 'x'"),
        ("a LIKE '%x'", "is_string(a)"),
        ("a BETWEEN 1 AND 2", "a >= 1 AND a <= 2"),
        ("NOT a BETWEEN 1 AND 2", "a < 1 | a > 2"),
        ("a >= 1 AND a < 5 AND a < 3", "a >= 1 AND a < 3"),
        ("a > 5 AND a < 3", "never"),
        ("a IN (1, 'x')", "a = 1 | a = 'x'"),
        ("contains(tags, 'x')", "'x' IN tags | is_string(tags)"),
        ("contains(tags[*], 'x')", "'x' IN tags[*] | is_string(tags[*])"),
        ("contains(['x', 'y'], a)", "a = 'x' | a = 'y'"),
        ("a + 1 = 2", "anything"),
        ("a = b", "anything"),
        ("true", "always"),
        ("false", "never"),
        ("a = null AND true", "never"),
        ("a = 1 OR b + 1 = 2", "anything"),
        ("a = 1 OR b > 2", "a = 1 | b > 2"),
        ("a + 1 = 2 AND b > 2", "b > 2"),
        ("NOT (a = 1 OR b <> 2)", "b = 2 -> a < 1 | a > 1"),
        ("a XOR b", "a = true -> b = false | a = false -> b = true"),
    ],
)
def test_a_query_is_found_by(query: str, expected: str) -> None:
    """The condition of each kind of test, and of what joins them."""
    assert expected == shown(condition_of(compile_query(query).ast))


def test_of_an_and_the_most_telling_comes_first() -> None:
    """Equality, choice, prefix, range, half a range, absence, any value of a type; of equals the first in the query."""
    query = "is_string(g) AND f IS UNKNOWN AND e > 1 AND d BETWEEN 1 AND 2 AND starts_with(c, 'x') AND b IN (1, 2) AND a = 1"
    expected = "a = 1 -> b = 1 -> starts_with(c, 'x') -> d >= 1 AND d <= 2"
    assert expected == shown(condition_of(compile_query(query).ast)).split(" | ")[0]
    assert "b = 2 -> a = 1" == shown(condition_of(compile_query("b = 2 AND a = 1").ast))


def test_many_branches_behind_many_are_left_out() -> None:
    """Else a query of two long lists would stand in as many places as their product."""
    query = f"a IN ({', '.join(map(str, range(20)))}) AND b IN ({', '.join(map(str, range(20)))})"
    condition = condition_of(compile_query(query).ast)
    assert [None] * 20 == [branch.then for branch in condition.branches or ()]
