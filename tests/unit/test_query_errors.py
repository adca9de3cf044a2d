"""What a user reads about a query that cannot be used."""

from typing import Any

import pytest

from streams.query import QueryError, compile_query

# query, line, column, a part of the message, what was expected (None: not said; … at the end: and more)
ERRORS: list[tuple[str, int, int, str, list[str] | None]] = [
    ("", 1, 1, "the query is empty", ["a value"]),
    (" \n -- only a comment", 1, 1, "the query is empty", ["a value"]),
    ("age >=", 1, 7, "ends too early", ["a value"]),
    ("age >=\n  ", 1, 7, "ends too early", ["a value"]),
    ("age == 1 &&", 1, 12, "ends too early", ["a value", "NOT"]),
    ("a == 1\n  && b ==\n", 2, 10, "ends too early", ["a value"]),
    ("(a == 1", 1, 8, "ends too early", [")"]),
    ("a == 1)", 1, 7, ") cannot stand here", ["AND", "OR", "…"]),
    ("length(a", 1, 9, "ends too early", [")", ","]),
    ("a ==== 1", 1, 5, "== cannot stand here", ["a value"]),
    ("a.1", 1, 3, "1 cannot stand here", ["a name"]),
    ("a.", 1, 3, "ends too early", ["a name"]),
    ("a[-1] == 2", 1, 3, "- cannot stand here", ["a whole number", "…"]),
    ("a[1.5] == 2", 1, 3, "whole number", None),
    ("a[99999999999999]", 1, 3, "whole number", None),
    ("a b", 1, 3, "b cannot stand here", ["a comparison", "…"]),
    ("a == 'x\n and b = 1", 1, 6, "this string is not closed", ["'"]),
    ('a == "x', 1, 6, "this string is not closed", ['"']),
    ("`a == 1", 1, 1, "this name is not closed", ["`"]),
    ("a == 1 /* no end", 1, 8, "this comment is not closed", ["*/"]),
    ("a == 1 & b", 1, 8, "& is not an operator", ["&&"]),
    ("a == 1 | b", 1, 8, "| is not an operator", ["||"]),
    ("a == 1;", 1, 7, "without ;", ["the end of the query"]),
    ("a ~ 1", 1, 3, "~ has no meaning here", None),
    ("a == 1\u0007", 1, 7, "U+0007 has no meaning here", None),
    ("$name == 1", 1, 1, "only $args", ["$args.name"]),
    ("$args == 1", 1, 7, "== cannot stand here", [".", "["]),
    ("in == 1", 1, 1, "as a name write `in`", ["a value", "NOT"]),
    ("a == like", 1, 6, "as a name write `like`", ["a value"]),
    ("a NOT b", 1, 3, "NOT cannot stand here", ["a comparison", "…"]),
    ("a SIMILAR 'x'", 1, 11, "'x' cannot stand here", ["TO"]),
    ("a IS 1", 1, 6, "1 cannot stand here", ["MISSING", "NULL", "…"]),
    ("a BETWEEN 1 OR 2", 1, 13, "OR cannot stand here", ["AND", "…"]),
    ("a IN ()", 1, 7, ") cannot stand here", ["a value", "NOT"]),
    ("a = b = c", 1, 7, "comparisons do not chain", ["AND"]),
    ("1 < a < 2", 1, 7, "comparisons do not chain", ["AND"]),
    ("a == b == c", 1, 8, "comparisons do not chain", ["AND"]),
    ("a = 1 || b = 2", 1, 7, "for the logical or write OR", ["OR"]),
    ("a = (1 || b) = 2", 1, 8, "for the logical or write OR", ["OR"]),
    ("x AND (a = 1 || b LIKE 'x')", 1, 14, "for the logical or write OR", ["OR"]),
    ("a BETWEEN 1 AND 2 || b > 3", 1, 19, "for the logical or write OR", ["OR"]),
    ("a IS NULL || b = 1", 1, 11, "for the logical or write OR", ["OR"]),
    ("a || NOT b", 1, 6, "for the logical or write OR", ["OR"]),
    ("foo(1)", 1, 1, "there is no function foo", ["floor"]),
    ("zzzzzzzz(1)", 1, 1, "there is no function zzzzzzzz", None),
    ("a && lenght(b) > 1", 1, 6, "there is no function lenght", ["length"]),
    ("length()", 1, 1, "was given no arguments", ["length(x)"]),
    ("length(a, b)", 1, 1, "was given 2 arguments", ["length(x)"]),
    ("starts_with(a)", 1, 1, "was given 1 argument", ["starts_with(s, prefix)"]),
    ("a = 1e400", 1, 5, "out of range", None),
    ("a = " + "9" * 5000, 1, 5, "out of range", None),
    ("a == '\\ud800'", 1, 6, "surrogate", None),
    ("{a: 1, 'a': 2} = b", 1, 8, "the key a comes twice", None),
    ("a == :missing", 1, 6, "the argument missing is missing", None),
    ("a == $args.who", 1, 6, "the argument who is missing", None),
    ("regex(a, '(')", 1, 10, "the pattern is not valid: missing )", None),
    ("regex(a, '[b')", 1, 10, "a character class is not closed", None),
    ("regex(a, 'x(?=y)')", 1, 10, "lookahead", None),
    ("regex(a, '(?!y)')", 1, 10, "lookahead", None),
    ("regex(a, '(?<=y)x')", 1, 10, "lookbehind", None),
    ("regex(a, '(?<!y)x')", 1, 10, "lookbehind", None),
    ("regex(a, '(a)\\1')", 1, 10, "back references", None),
    ("regex(a, '(?<n>a)\\k<n>')", 1, 10, "back references", None),
    ("regex(a, '(?i)x')", 1, 10, "does not begin a group", None),
    ("regex(a, '\\A')", 1, 10, "\\A has no meaning", None),
    ("regex(a, 'a**')", 1, 10, "the pattern is not valid", None),
    ("regex(a, 'a\\\\')", 1, 10, "ends with a backslash", None),
    ("regex(a, '\\u{110000}')", 1, 10, "is not a character", None),
    ("regex(a, '(a{1000}){1000}')", 1, 10, "the pattern is not valid", None),
    ("regex(a, '" + "x" * 5000 + "')", 1, 10, "longer than 4,096 characters", None),
    ("regexp_like(a, 'x', 'g')", 1, 16, "g is not a flag", None),
    ("a LIKE 'x\\\\'", 1, 8, "ends with a backslash", None),
    ("a ILIKE 'x\\\\'", 1, 9, "ends with a backslash", None),
    ("a SIMILAR TO '(x'", 1, 14, "missing )", None),
    ("a SIMILAR TO '(?:x)'", 1, 14, "does not begin a group", None),
    ("a SIMILAR TO '[[:nix:]]'", 1, 14, "the pattern is not valid", None),
    ("a[? b LIKE '\\\\'] = c", 1, 12, "ends with a backslash", None),
    ("a LIKE concat('x', '\\\\')", 1, 8, "ends with a backslash", None),
    ("SELECT name FROM people", 1, 8, "only SELECT * FROM collection WHERE", ["*"]),
    ("SELECT * FROM people LIMIT 3", 1, 22, "only SELECT * FROM collection WHERE", ["WHERE", "the end of the query"]),
    ("SELECT * FROM people p WHERE a = 1", 1, 22, "only SELECT * FROM collection WHERE", ["WHERE", "…"]),
    ("SELECT * FROM people WHERE", 1, 27, "ends too early", ["a value", "NOT"]),
    ("SELECT * FROM people WHERE a = 1 ORDER BY b", 1, 34, "ORDER cannot stand here", ["AND", "…"]),
    ("a == 1\nor\nb == 'x\\'", 3, 6, "this string is not closed", ["'"]),
    ("a" + "[0]" * 65 + " == 1", 1, 192, "more than 64 levels", None),
]  # fmt: skip


@pytest.mark.parametrize(("text", "line", "column", "message", "expected"), ERRORS, ids=[text[:40] for text, *_ in ERRORS])
def test_an_error_names_the_place_and_what_was_expected(
    text: str, line: int, column: int, message: str, expected: list[str] | None
) -> None:
    """Line and column (from 1) point at what is wrong, and `expected` says what would be right, where that helps."""
    with pytest.raises(QueryError) as caught:
        compile_query(text)
    error = caught.value
    assert (line, column) == (error.line, error.column)
    assert message in error.message
    if expected is not None and "…" in expected:
        assert error.expected is not None
        assert set(expected) - {"…"} <= set(error.expected)
    elif expected is not None:
        assert sorted(expected) == sorted(error.expected or [])


def shown(text: str, **options: Any) -> str:
    with pytest.raises(QueryError) as caught:
        compile_query(text, **options)
    return caught.value.pretty()


def test_pretty_shows_the_line_a_caret_and_what_was_expected() -> None:
    """The caret stands under the first character that is wrong."""
    assert (
        "line 2, column 8: && cannot stand here\n"
        "  && b ==&& c\n"
        "         ^\n"
        "expected: a value"
    ) == shown("a == 1\n&& b ==&& c")  # fmt: skip


def test_pretty_keeps_tabs_so_that_the_caret_stands_right() -> None:
    """A tab before the place is a tab before the caret."""
    assert "line 1, column 7: ~ has no meaning here\n  \ta == ~\n  \t     ^" == shown("\ta == ~")


def test_pretty_cuts_long_lines_around_the_place() -> None:
    """A query of 16 KiB on one line does not fill the terminal."""
    lines = shown("a == '" + "x" * 1000 + "' && ~ " + "y" * 1000).split("\n")
    assert [line.index("~") if "~" in line else line.index("^") for line in lines[1:]] == [lines[1].index("~")] * 2
    assert all(len(line) < 130 for line in lines)


def test_a_carriage_return_is_not_part_of_the_line() -> None:
    """Text from Windows shows like any other."""
    assert "line 2, column 4: ~ has no meaning here\n  && ~\n     ^" == shown("a == 1\r\n&& ~\r\n")


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("a == '" + "x" * 16_384 + "'", "16 KiB"),
        ("a == '" + "ø" * 8_192 + "'", "16 KiB"),
        ("(" * 65 + "a" + ")" * 65, "64 levels"),
        ("[" * 65 + "]" * 65 + " = a", "64 levels"),
        ("NOT " * 64 + "a", "64 levels"),
        ("- " * 64 + "a", "64 levels"),
        ("a" + " + a" * 64, "64 levels"),
        ("a IN (" + ", ".join(["1"] * 1_001) + ")", "1,000 literals"),
        ("[" + ", ".join(["true", "null", "'x'", "2"] * 251) + "] = a", "1,000 literals"),
    ],
)
def test_what_is_over_a_limit_is_refused_by_its_name(text: str, limit: str) -> None:
    """The message names the limit of the contract."""
    with pytest.raises(QueryError, match=limit):
        compile_query(text)


@pytest.mark.parametrize(
    "text",
    [
        "a == '" + "x" * 16_377 + "'",
        "(" * 64 + "a" + ")" * 64,
        "[" * 63 + "]" * 63 + " = a",
        "NOT " * 63 + "a",
        "- " * 63 + "a",
        "a" + " + a" * 63,
        "a" + " XOR a" * 63,
        "a" + ".a" * 63,
        "a" + "[*]" * 63,
        "abs(" * 63 + "a" + ")" * 63,
        "(" * 31 + "a" + "[*])[0].b" * 31,
        "(" * 62 + "a" + "[*].b)[*]" * 62,
        "a" + "[? b" * 60 + "]" * 60,
        "a" + " IS NULL" * 63,
        "a" + " LIKE 'x%'" * 63,
        "[a, " * 62 + "a" + "]" * 62 + " = b",
        "{x: " * 62 + "a" + "}" * 62 + " = b",
        "(" * 62 + "a" + " = b)" * 62,
        "(" * 62 + "a" + " IN [c, d])" * 62,
        "(" * 62 + "a" + " BETWEEN b AND c)" * 62,
        "NOT (a AND " * 31 + "a" + ")" * 31,
        "a IN (" + ", ".join(["1"] * 1_000) + ")",
        " OR ".join(["a = 1"] * 1_000),
    ],
    ids=lambda text: text[:20],
)
def test_what_is_just_within_the_limits_compiles_and_evaluates(text: str) -> None:
    """Nothing between the parser and Python's own compiler is narrower than the limits."""
    query = compile_query(text)
    for document in ({}, {"a": [{"b": 1}], "b": True}):
        assert query.matches(document) is (query.value(document) is True)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"x": list(range(1_001))}, "1,000 literals"),
        ({"x": "y" * 70_000}, "64 KiB"),
        ({"x": 1 << 2000}, "x is out of range"),
        ({"x": float("nan")}, "x is out of range"),
        ({"x": {1: 2}}, "x has a key that is no string"),
        ({"x": {1, 2}}, "x is no JSON value but set"),
        ({"x": b"y"}, "x is no JSON value but bytes"),
        ({"y": 1}, "the argument x is missing"),
        ({"x": eval("[" * 70 + "]" * 70)}, "x is nested more than 64 levels deep"),  # noqa: S307 - the shortest way to write it
    ],
    ids=lambda value: str(value)[:30],
)
def test_arguments_that_cannot_be_used_are_refused_by_name(args: dict[str, Any], message: str) -> None:
    """An argument counts like the literal that could stand in its place, and points at that place."""
    with pytest.raises(QueryError) as caught:
        compile_query("a IN :x", args)
    assert message in caught.value.message
    assert caught.value.column in (1, 6)


def test_a_pattern_that_an_argument_brings_is_a_literal_pattern() -> None:
    """It is known when the query is made, so it must be valid then; the place is the argument's."""
    with pytest.raises(QueryError, match="lookahead") as caught:
        compile_query("regex(name, $args.pattern)", {"pattern": "(?=x)"})
    assert 13 == caught.value.column
