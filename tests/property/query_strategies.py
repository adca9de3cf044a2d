"""Random trees of the query language, and documents in which their paths lead somewhere."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from streams.query.ast import (
    PROJECTIONS,
    And,
    Arithmetic,
    ArrayOf,
    Between,
    Boolean,
    Call,
    Comparison,
    Each,
    Expression,
    Field,
    Filter,
    Flatten,
    In,
    Index,
    Is,
    Like,
    Negative,
    Not,
    Null,
    Number,
    ObjectOf,
    Or,
    Path,
    Step,
    Text,
    Xor,
    normal,
)
from streams.query.functions import FUNCTIONS

NAMES = ["a", "b", "c", "in", "x y", "_é`"]  # few, so that paths often lead somewhere; some need backticks
TEXTS = ["", "a", "ab", "Ab", "b%", "a\\b", "it's", "x\ny", "😀", "[1, {}]", "1"]
PATTERNS = ["", "%", "a%", "%b", "_b", "%\\%", "a|b", "(a|b)+"]  # valid for all that take patterns
EXPRESSIONS = ["^a", "b$", "[a-z]+", ".", "\\d", "(?:a|b)c?"]

numbers = st.one_of(
    st.integers(-3, 3),
    st.sampled_from([0.0, -0.0, 0.5, -1.5, 2.0, 1e300, 2**53, 2**53 + 1, 2**64, -(2**70), 10**400]),
    st.floats(allow_nan=False, allow_infinity=False),
)
texts = st.one_of(st.sampled_from(TEXTS), st.text(st.characters(exclude_categories=["Cs"]), max_size=4))
scalars = st.one_of(st.none(), st.booleans(), numbers, texts)
json_values: SearchStrategy[Any] = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.sampled_from(NAMES), inner, max_size=4)),
    max_leaves=12,
)
documents: SearchStrategy[dict[str, Any]] = st.dictionaries(st.sampled_from(NAMES), json_values, max_size=6)

literals: SearchStrategy[Expression] = st.one_of(
    st.builds(Null),
    st.builds(Boolean, st.booleans()),
    st.builds(Number, numbers.filter(lambda number: abs(number) < 2**1023)),
    st.builds(Text, texts),
)
places: SearchStrategy[Step] = st.one_of(st.builds(Field, st.sampled_from([*NAMES, ""])), st.builds(Index, st.integers(0, 2)))
plain_paths: SearchStrategy[Path] = st.builds(
    lambda first, rest: Path(None, (Field(first), *rest)), st.sampled_from(NAMES), st.lists(places, max_size=2)
)
leaves: SearchStrategy[Expression] = st.one_of(plain_paths, plain_paths, literals)


def some(inner: SearchStrategy[Expression], least: int = 2, most: int = 3) -> SearchStrategy[tuple[Expression, ...]]:
    return st.lists(inner, min_size=least, max_size=most).map(tuple)


def logic(inner: SearchStrategy[Expression]) -> SearchStrategy[Expression]:
    return st.one_of(st.builds(And, some(inner)), st.builds(Or, some(inner)), st.builds(Not, inner), st.builds(Xor, inner, inner))


def comparisons(inner: SearchStrategy[Expression]) -> SearchStrategy[Expression]:
    return st.builds(Comparison, st.sampled_from(["=", "<>", "<", "<=", ">", ">="]), inner, inner)


def tests_of_values(inner: SearchStrategy[Expression]) -> SearchStrategy[Expression]:
    # A constant that is no valid pattern is refused when the query is made, however it is computed; so no `inner` here.
    patterns = st.one_of(plain_paths, st.builds(Null), st.builds(Number, st.integers(0, 9)), st.builds(Text, st.sampled_from(PATTERNS)))
    return st.one_of(
        st.builds(Between, inner, inner, inner),
        st.builds(lambda operand, items: normal(In(operand, items)), inner, st.one_of(inner, st.builds(ArrayOf, some(inner, 0, 4)))),
        st.builds(Like, st.sampled_from(["LIKE", "ILIKE", "SIMILAR TO"]), inner, patterns),
        st.builds(Is, st.sampled_from(["NULL", "MISSING", "UNKNOWN"]), inner),
    )


def calculations(inner: SearchStrategy[Expression]) -> SearchStrategy[Expression]:
    signs = st.sampled_from(["+", "-", "*", "/", "%", "<<", ">>"])
    return st.one_of(st.builds(Arithmetic, signs, inner, inner), inner.map(lambda node: normal(Negative(node))))


@st.composite
def calls(draw: st.DrawFn, inner: SearchStrategy[Expression]) -> Expression:
    function = FUNCTIONS[draw(st.sampled_from(sorted(FUNCTIONS)))]
    most = function.arguments_max if function.arguments_max is not None else function.arguments_min + 2
    if function.name == "regexp_like":
        return Call(
            function.name, (draw(inner), Text(draw(st.sampled_from(EXPRESSIONS))), Text(draw(st.sampled_from(["", "i", "ms", "xc"]))))
        )
    return Call(function.name, draw(some(inner, function.arguments_min, most)))


def collections(inner: SearchStrategy[Expression]) -> SearchStrategy[Expression]:
    entries = st.dictionaries(st.sampled_from([*NAMES, ""]), inner, max_size=3).map(lambda found: tuple(found.items()))
    return st.one_of(st.builds(ArrayOf, some(inner, 0, 3)), st.builds(ObjectOf, entries))


def paths(inner: SearchStrategy[Expression]) -> SearchStrategy[Expression]:
    steps = st.one_of(places, st.just(Each()), st.just(Flatten()), st.builds(Filter, inner))
    return st.builds(_path, inner, st.lists(steps, min_size=1, max_size=3).map(tuple))


def _path(base: Expression, steps: tuple[Step, ...]) -> Expression:
    """A path as the parser makes it: brackets around a path without projections are gone."""
    if isinstance(base, Path) and not any(isinstance(step, PROJECTIONS) for step in base.steps):
        return Path(base.base, base.steps + steps)
    return Path(base, steps)


def _extended(inner: SearchStrategy[Expression]) -> SearchStrategy[Expression]:
    return st.one_of(
        logic(inner), comparisons(inner), tests_of_values(inner), calculations(inner), calls(inner), collections(inner), paths(inner)
    )


_trees: SearchStrategy[Expression] = st.recursive(leaves, _extended, max_leaves=8)


@st.composite
def expressions(draw: st.DrawFn) -> Expression:
    """Any tree; a composite strategy, since the text hypothesis would make of `_trees` is some 30 kB long."""
    return draw(_trees)
