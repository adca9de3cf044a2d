"""
The nodes of the tree, made while the parser reduces: each method is called by the rule or alias of its name in grammar.lark.

What the grammar cannot say is refused here: numbers out of range, unknown functions, keys that come twice.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import Final, TypeAlias, cast

from lark import Token, Transformer, v_args

from streams.query.ast import (
    PROJECTIONS,
    AbsenceKind,
    And,
    Arithmetic,
    ArithmeticSign,
    ArrayOf,
    Between,
    Boolean,
    Call,
    Comparison,
    ComparisonSign,
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
    Parameter,
    Path,
    PatternKind,
    Step,
    Text,
    Xor,
    normal,
)
from streams.query.errors import Refused
from streams.query.functions import SPELLINGS, function_named
from streams.query.limits import INTEGER_BITS_MAX, LEVELS_MAX
from streams.query.values import in_range

_NUMBER_CHARS_MAX: Final = 400  # no number in range is longer as an integer; int() refuses far longer ones only
_ELEMENTS_MAX: Final = 2**31
_SIGNS: Final[dict[str, ComparisonSign]] = {
    "EQ": "=",
    "NE": "<>",
    "LT": "<",
    "LE": "<=",
    "GT": ">",
    "GE": ">=",
    "SAME": "=",
    "NOT_SAME": "<>",
}
_ESCAPE: Final = re.compile(r"""\\(u[0-9a-fA-F]{4}|[\\'"`nrt])|''|\"\"""")
_ESCAPED: Final = {"n": "\n", "r": "\r", "t": "\t"}


@dataclass(frozen=True, slots=True)
class Statement:
    """A whole query: its condition (None for SELECT without WHERE) and the collection that SELECT names, and where."""

    where: Expression | None
    collection: str | None = None
    collection_offset: int = 0


@dataclass(frozen=True, slots=True)
class _Group:
    """An expression in brackets; a path in brackets ends there, even where steps follow."""

    inner: Expression


_Place: TypeAlias = Path | Call | Parameter | _Group


@v_args(inline=True)
class Builder(Transformer[Token, Statement]):
    """Gives the parser a node for each rule; tokens are passed as they stand in the rule, signs and brackets included."""

    # The whole

    def bare(self, where: Expression) -> Statement:
        return Statement(where)

    def select_all(self, _select: Token, _star: Token, _from: Token, collection: Token) -> Statement:
        return Statement(None, _name_of(collection), _place_of(collection))

    def select(self, _select: Token, _star: Token, _from: Token, collection: Token, _where: Token, where: Expression) -> Statement:
        return Statement(where, _name_of(collection), _place_of(collection))

    # Logic

    def any_of(self, *parts: Expression) -> Or:
        return Or(parts[::2])

    def one_of(self, left: Expression, _xor: Token, right: Expression) -> Xor:
        return Xor(left, right)

    def all_of(self, *parts: Expression) -> And:
        return And(parts[::2])

    def negated(self, _not: Token, operand: Expression) -> Not:
        return Not(operand)

    def absent(self, operand: Expression, _is: Token, kind: Token) -> Is:
        return Is(cast("AbsenceKind", kind.type), operand)

    def present(self, operand: Expression, _is: Token, _not: Token, kind: Token) -> Not:
        return Not(Is(cast("AbsenceKind", kind.type), operand))

    # Patterns

    def like(self, operand: Expression, kind: Token, pattern: Expression) -> Like:
        return Like(cast("PatternKind", kind.type), operand, pattern)

    def not_like(self, operand: Expression, _not: Token, kind: Token, pattern: Expression) -> Not:
        return Not(self.like(operand, kind, pattern))

    def similar(self, operand: Expression, _similar: Token, _to: Token, pattern: Expression) -> Like:
        return Like("SIMILAR TO", operand, pattern)

    def not_similar(self, operand: Expression, _not: Token, _similar: Token, _to: Token, pattern: Expression) -> Not:
        return Not(Like("SIMILAR TO", operand, pattern))

    # Comparisons

    def compared(self, left: Expression, sign: Token, right: Expression) -> Comparison:
        return Comparison(_SIGNS[sign.type], left, right)

    def same(self, left: Expression, sign: Token, right: Expression) -> Expression:
        """`==` and `!=` of the legacy dialect: with the word null a test for absent-or-null (contract, section 7)."""
        if not isinstance(left, Null) and not isinstance(right, Null):
            return Comparison(_SIGNS[sign.type], left, right)
        test = Is("UNKNOWN", left if isinstance(right, Null) else right)
        return test if sign.type == "SAME" else Not(test)

    def between(self, operand: Expression, _between: Token, low: Expression, _and: Token, high: Expression) -> Between:
        return Between(operand, low, high)

    def not_between(self, operand: Expression, _not: Token, between: Token, low: Expression, and_: Token, high: Expression) -> Not:
        return Not(self.between(operand, between, low, and_, high))

    def among(self, operand: Expression, _in: Token, items: Expression) -> Expression:
        """`IN ('a')` is a list of one; `IN (path)` and `IN (:parameter)` are what stands in the brackets."""
        return normal(In(operand, items))

    def not_among(self, operand: Expression, _not: Token, in_: Token, items: Expression) -> Not:
        return Not(self.among(operand, in_, items))

    def choices(self, _open: Token, *parts: Expression) -> ArrayOf:
        return ArrayOf(parts[:-1:2])

    # Arithmetic and strings

    def concat(self, *parts: Expression) -> Call:
        return Call("concat", parts[::2])

    def arithmetic(self, left: Expression, sign: Token, right: Expression) -> Arithmetic:
        return Arithmetic(cast("ArithmeticSign", str(sign)), left, right)

    def negative(self, minus: Token, operand: Expression) -> Expression:
        return normal(Negative(operand, offset=_place_of(minus)))

    # Literals

    def number(self, token: Token) -> Number:
        is_integer = token.isdigit()
        value = float(token) if not is_integer else int(token) if len(token) <= _NUMBER_CHARS_MAX else 1 << INTEGER_BITS_MAX
        if not in_range(value):
            raise Refused("this number is out of range (about ±1.8e308)", _place_of(token))
        return Number(value, offset=_place_of(token))

    def string(self, token: Token) -> Text:
        return Text(_unquoted(token), offset=_place_of(token))

    def true(self, token: Token) -> Boolean:
        return Boolean(value=True, offset=_place_of(token))

    def false(self, token: Token) -> Boolean:
        return Boolean(value=False, offset=_place_of(token))

    def null(self, token: Token) -> Null:
        return Null(offset=_place_of(token))

    def array(self, _open: Token, *parts: Expression) -> ArrayOf:
        return ArrayOf(parts[:-1:2])

    def object(self, _open: Token, *parts: tuple[Token, Expression]) -> ObjectOf:
        entries: dict[str, Expression] = {}
        for key, value in parts[:-1:2]:
            name = _name_of(key)
            if name in entries:
                raise Refused(f"the key {name} comes twice", _place_of(key))
            entries[name] = value
        return ObjectOf(tuple(entries.items()))

    def entry(self, key: Token, _colon: Token, value: Expression) -> tuple[Token, Expression]:
        return key, value

    # Places and steps

    def value(self, place: _Place) -> Expression:
        return place.inner if isinstance(place, _Group) else place

    def root(self, name: Token) -> Path:
        return Path(None, (Field(_name_of(name)),), offset=_place_of(name))

    def parameter(self, token: Token) -> Parameter:
        return Parameter(str(token), offset=_place_of(token))

    def argument(self, args: Token, _dot: Token, name: Token) -> Parameter:
        return Parameter(_name_of(name), offset=_place_of(args))

    def argument_key(self, args: Token, _open: Token, key: Token, _close: Token) -> Parameter:
        return Parameter(_name_of(key), offset=_place_of(args))

    def group(self, _open: Token, inner: Expression, _close: Token) -> _Group:
        return _Group(inner)

    def call(self, name: Token, _open: Token, *parts: Expression) -> Call:
        arguments = parts[:-1:2]
        function = function_named(name)
        if function is None:
            similar = difflib.get_close_matches(name.lower(), SPELLINGS, n=3)
            raise Refused(f"there is no function {name}", _place_of(name), similar or None)
        least, most, given = function.arguments_min, function.arguments_max, len(arguments)
        if given < least or (most is not None and given > most):
            raise Refused(f"{name} was given {_counted(given)}", _place_of(name), [function.signature])
        return Call(function.name, arguments, offset=_place_of(name))

    def field(self, place: _Place, _dot: Token, name: Token) -> Path:
        return _with_step(place, Field(_name_of(name)), name)

    def key(self, place: _Place, _open: Token, key: Token, _close: Token) -> Path:
        return _with_step(place, Field(_name_of(key)), key)

    def index(self, place: _Place, _open: Token, number: Token, _close: Token) -> Path:
        if not number.isdigit() or len(number) > len(str(_ELEMENTS_MAX)):
            raise Refused("the place in an array is a whole number from 0", _place_of(number))
        return _with_step(place, Index(int(number)), number)

    def each(self, place: _Place, open_: Token, _star: Token, _close: Token) -> Path:
        return _with_step(place, Each(), open_)

    def filtered(self, place: _Place, open_: Token, _any: Token, predicate: Expression, _close: Token) -> Path:
        return _with_step(place, Filter(predicate), open_)

    def flattened(self, place: _Place, open_: Token, _close: Token) -> Path:
        return _with_step(place, Flatten(), open_)


def _with_step(place: _Place, step: Step, token: Token) -> Path:
    """
    One step more.

    Steps after `[*]`, `[? …]` and `[]` are taken from each element, so brackets around such a path are kept as the base of
    a new one; brackets around any other path change nothing and are dropped.
    """
    inner = place.inner if isinstance(place, _Group) else place
    ends_here = isinstance(place, _Group) and isinstance(inner, Path) and any(isinstance(taken, PROJECTIONS) for taken in inner.steps)
    if not isinstance(inner, Path) or ends_here:
        return Path(inner, (step,), offset=inner.offset)
    if len(inner.steps) == LEVELS_MAX:
        raise Refused(f"the path has more than {LEVELS_MAX} levels", _place_of(token))
    return Path(inner.base, (*inner.steps, step), offset=inner.offset)


def _name_of(token: Token) -> str:
    """The property a token names: a word, a name in backticks, a string."""
    if token.type == "QUOTED_NAME":
        return token[1:-1].replace("``", "`")
    return _unquoted(token) if token.type == "STRING" else str(token)


def _unquoted(token: Token) -> str:
    """
    The text of a string token.

    A backslash before any other character than those of `_ESCAPE` stands for itself, so that patterns need no doubling:
    `'\\d+'`, `'50\\%'`. `\\b` is not an escape either: in a pattern it is a word boundary.
    """
    quote = token[0]
    text = _ESCAPE.sub(lambda found: _unescaped(found, quote), token[1:-1])
    try:
        return text.encode("utf-16", "surrogatepass").decode("utf-16")  # joins \\uD83D\\uDE00 to one character
    except UnicodeDecodeError:
        raise Refused("this string holds half of a surrogate pair", _place_of(token)) from None


def _unescaped(found: re.Match[str], quote: str) -> str:
    escape = found[1]
    if escape is None:
        return quote if found[0][0] == quote else found[0]
    return chr(int(escape[1:], 16)) if len(escape) > 1 else _ESCAPED.get(escape, escape)


def _counted(arguments: int) -> str:
    return f"{arguments or 'no'} argument{'' if arguments == 1 else 's'}"


def _place_of(token: Token) -> int:
    return token.start_pos or 0
