"""What holds for every query and every document."""

from __future__ import annotations

import contextlib
from typing import Any

from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from streams.query import Query, QueryError, compile_query, explain
from streams.query.ast import (
    And,
    ArrayOf,
    Call,
    Comparison,
    Expression,
    Negative,
    Not,
    Null,
    Number,
    Or,
    Path,
    Text,
)
from streams.query.compile import compile_tree
from streams.query.fold import fold
from streams.query.interpret import evaluate
from streams.query.javascript import PatternError
from streams.query.parse import parse
from streams.query.patterns import pattern_matcher, regexp_matcher
from streams.query.printer import to_text
from streams.query.steps import Budget
from streams.query.values import COMPARE, negated, truth
from tests.property.query_strategies import (
    comparisons,
    documents,
    expressions,
    json_values,
    leaves,
    literals,
    plain_paths,
    some,
)

SETTINGS = settings(suppress_health_check=[HealthCheck.too_slow])


@SETTINGS
@given(expressions())
def test_a_printed_tree_parses_to_the_same_tree(tree: Expression) -> None:
    """Every node can be written down, with brackets where they are needed."""
    assert tree == parse(to_text(tree)).tree


@SETTINGS
@given(expressions(), documents)
def test_compiled_code_says_what_the_interpreter_says(tree: Expression, document: dict[str, Any]) -> None:
    """True, false and null, for every tree and every document."""
    expected = truth(evaluate(tree, document, Budget()))
    assert (expected is True) is compile_tree(tree)(document)
    assert (expected is False) is compile_tree(Not(tree))(document)


@SETTINGS
@given(expressions(), documents)
def test_folding_constants_changes_no_value(tree: Expression, document: dict[str, Any]) -> None:
    """What is computed beforehand is what would be computed later."""
    expected = truth(evaluate(tree, document, Budget()))
    assert expected is truth(evaluate(fold(tree), document, Budget()))


@SETTINGS
@given(expressions(), documents)
def test_explain_agrees_with_the_query(tree: Expression, document: dict[str, Any]) -> None:
    """The root of the explanation has the value of the query."""
    query = compile_query(to_text(tree))
    assert query.value(document) is truth(explain(query, document).value)


# Both spellings

_simple = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(And, some(inner)),
        st.builds(Or, some(inner)),
        st.builds(Not, inner),
        comparisons(inner),
        st.builds(
            lambda name, operands: Call(name, operands), st.sampled_from(["contains", "starts_with", "ends_with"]), some(inner, 2, 2)
        ),
        st.builds(lambda operand: Call("length", (operand,)), plain_paths),
        st.builds(ArrayOf, some(literals, 0, 3)),
    ),
    max_leaves=8,
)


@st.composite
def simple_trees(draw: st.DrawFn) -> Expression:
    """Trees of what both dialects can spell; null tests apart."""
    tree = draw(_simple)
    assume(not is_null_test(tree))
    return tree


LEGACY_SIGNS = {"=": "==", "<>": "!="}
LEGACY_NAMES = {"starts_with": "beginsWith", "ends_with": "endsWith"}


def legacy(node: Expression) -> str:
    """A tree in the spelling of the legacy dialect; brackets everywhere."""
    match node:
        case And(operands):
            return "(" + " && ".join(map(legacy, operands)) + ")"
        case Or(operands):
            return "(" + " || ".join(map(legacy, operands)) + ")"
        case Not(operand):
            return f"(!{legacy(operand)})"
        case Comparison(sign, left, right):
            return f"({legacy(left)} {LEGACY_SIGNS.get(sign, sign)} {legacy(right)})"
        case Call(name, operands):
            return f"{LEGACY_NAMES.get(name, name)}({', '.join(map(legacy, operands))})"
        case ArrayOf(items):
            return f"[{', '.join(map(legacy, items))}]"
    return to_text(node)


def is_null_test(node: Expression) -> bool:
    """Whether a tree compares with the word null, which the dialects read otherwise."""
    match node:
        case Comparison("=" | "<>", left, right):
            return isinstance(left, Null) or isinstance(right, Null) or is_null_test(left) or is_null_test(right)
        case Comparison(_, left, right):
            return is_null_test(left) or is_null_test(right)
        case And(operands) | Or(operands) | Call(_, operands):
            return any(map(is_null_test, operands))
        case Not(operand):
            return is_null_test(operand)
    return False


@SETTINGS
@given(simple_trees(), documents)
def test_both_spellings_of_an_expression_agree(tree: Expression, document: dict[str, Any]) -> None:
    """`&& || ! == !=` and `AND OR NOT = <>` are the same language; null tests apart."""
    one, other = compile_query(legacy(tree)), compile_query(f"SELECT * FROM people WHERE {to_text(tree)}")  # noqa: S608 - no SQL
    assert ("legacy", "dql") == (one.dialect, other.dialect)
    assert one.ast == other.ast
    assert one.value(document) is other.value(document)


# Laws of values


@SETTINGS
@given(json_values, json_values)
def test_comparisons_are_consistent(left: Any, right: Any) -> None:
    """Exactly one of <, = and > holds for what is ordered; none is false where another is null for ordered types."""
    below, equal, above = (COMPARE[sign](left, right) for sign in ("<", "=", ">"))
    if below is not None:
        assert [below, equal, above].count(True) == 1
        assert COMPARE["<="](left, right) is not above
        assert COMPARE[">="](left, right) is not below
    assert COMPARE["<>"](left, right) is negated(equal)
    assert equal is COMPARE["="](right, left)


@SETTINGS
@given(json_values)
def test_a_value_equals_itself_unless_it_is_null(value: Any) -> None:
    """Whatever its type and depth."""
    assert COMPARE["="](value, value) is (None if value is None else True)


@SETTINGS
@given(st.integers(), st.integers())
def test_integers_are_exact(left: int, right: int) -> None:
    """No result of integers is rounded, and remainder and quotient belong together as in C."""
    document = {"a": left, "b": right}
    assert compile_query(f"a + b = {left + right} AND a - b = {left - right} AND a * b = {left * right}").matches(document)
    if right:
        assert compile_query("(a - a % b) / b * b + a % b = a").matches(document)


# Nothing but the declared error

WORDS = """
    a b in `x-y` 'x' "y" 1 2.5 null true ( ) [ ] { } , . : ? * [*] [] [? && || ! == != = <> < <= > >= + - / % << >>
    AND OR NOT XOR IN IS NULL MISSING UNKNOWN BETWEEN LIKE ILIKE SIMILAR TO SELECT FROM WHERE
    concat( length( regex( decode( $args.x :x -- /* */ ' \\ ~
"""
words = st.sampled_from(WORDS.split())


@settings(SETTINGS, max_examples=3 * SETTINGS.max_examples)
@given(st.one_of(st.lists(words, max_size=25).map(" ".join), st.lists(words, max_size=12).map("".join), st.text(max_size=60)), documents)
@example("'\ud800'", {})
@example("a[?" * 100, {})
def test_any_text_is_a_query_or_a_query_error(text: str, document: dict[str, Any]) -> None:
    """No other exception leaves the compiler, whatever it is given; and what it accepts, evaluates."""
    query, error = attempt(text)
    if query is not None:
        assert query.matches(document) is (query.value(document) is True)
        assert query.ast == compile_query(to_text(query.ast)).ast
    elif error is not None:
        assert 1 <= error.line <= text.count("\n") + 1
        assert 1 <= error.column <= len(text) + 1
        assert error.pretty().startswith(str(error))


def attempt(text: str) -> tuple[Query | None, QueryError | None]:
    try:
        return compile_query(text, {"x": [1, "a"]}), None
    except QueryError as error:
        return None, error


@settings(SETTINGS, max_examples=2 * SETTINGS.max_examples)
@given(
    st.lists(st.sampled_from([*"ab01.*+?|()[]{}^$\\-,:=!<>#% _", "(?:", "(?<n>", "\\d", "\\s", "\\S", "\\u{1F600}", "\\x41", "[^", "{2}"])),
    st.text(max_size=20),
)
def test_any_pattern_is_matched_or_refused(parts: list[str], text: str) -> None:
    """A pattern is valid or raises PatternError; a valid one answers for every string."""
    pattern = "".join(parts)
    for make in (regexp_matcher, lambda p: regexp_matcher(p, "imsx"), lambda p: pattern_matcher("SIMILAR TO", p)):
        with contextlib.suppress(PatternError):
            assert make(pattern)(text) in (True, False)


@SETTINGS
@given(st.text(st.sampled_from("ab%_\\"), max_size=8), st.text(st.sampled_from("ab%_\\"), max_size=8))
def test_like_matches_what_its_definition_says(pattern: str, text: str) -> None:
    """Against the plainest matcher there is: % any text, _ one character, a backslash makes the next one ordinary."""

    def matches(pattern: str, text: str) -> bool:
        if not pattern:
            return not text
        if pattern[0] == "%":
            return any(matches(pattern[1:], text[start:]) for start in range(len(text) + 1))
        if pattern[0] == "\\":
            pattern = pattern[1:]
        elif pattern[0] == "_":
            return bool(text) and matches(pattern[1:], text[1:])
        return text[:1] == pattern[0] and matches(pattern[1:], text[1:])

    try:
        matcher = pattern_matcher("LIKE", pattern)
    except PatternError:
        assert (len(pattern) - len(pattern.rstrip("\\"))) % 2 == 1
    else:
        assert matches(pattern, text) is matcher(text)


@SETTINGS
@given(st.recursive(leaves, lambda inner: st.builds(Negative, inner.filter(lambda node: not isinstance(node, Number))), max_leaves=3))
def test_minus_signs_never_become_a_comment(tree: Expression) -> None:
    """`- -a` is written with brackets, since `--` begins a comment."""
    assert "--" not in to_text(tree) or isinstance(tree, Text | Path)
