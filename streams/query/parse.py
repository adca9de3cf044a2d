"""Text to tree: tokens through the grammar to the builder; a syntax error becomes words about what was expected."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Final, cast

from lark import Lark, Token, UnexpectedToken
from lark.lexer import Lexer

from streams.query.ast import Boolean, Expression, levels
from streams.query.builder import Builder, Statement
from streams.query.errors import Refused
from streams.query.limits import LEVELS_MAX
from streams.query.tokens import COMPARISONS, KEYWORDS, WRITE_OR, Dialect, lex

_VALUE: Final = frozenset(("NAME", "NUMBER", "STRING", "OPEN"))  # where these are welcome, so is every other value
_ARITHMETIC: Final = frozenset(("PLUS", "MINUS", "STAR", "SLASH", "PERCENT", "SHIFT_LEFT", "SHIFT_RIGHT", "CONCAT"))
_STEPS: Final = frozenset(("DOT", "OPEN_ARRAY"))
_OF_A_VALUE: Final = frozenset(("QUOTED_NAME", "PARAMETER", "ARGS", "TRUE", "FALSE", "NULL", "OPEN_ARRAY", "OPEN_OBJECT", "MINUS", *_VALUE))
_SHOWN: Final = {
    "$END": "the end of the query", "NAME": "a name", "STRING": "a string", "NUMBER": "a whole number", "DOT": ".",
    "COMMA": ",", "COLON": ":", "ANY": "?", "OPEN": "(", "CLOSE": ")", "OPEN_ARRAY": "[", "CLOSE_ARRAY": "]",
    "OPEN_OBJECT": "{", "CLOSE_OBJECT": "}", "STAR": "*",
}  # fmt: skip
_SHOWN_CHARS_MAX: Final = 40
_UNSAID: Final = frozenset(("QUOTED_NAME", "NOT_RANGE", "NOT_PATTERN", "NOT_OPERAND", "SELECT"))  # other spellings of what is said


@dataclass(frozen=True, slots=True)
class Parsed:
    """A query as a tree; parameters are still in it. `collection` is what SELECT names, at `collection_offset`."""

    tree: Expression
    dialect: Dialect
    collection: str | None
    collection_offset: int


class _TokenLexer(Lexer):
    """Hands the parser the tokens that tokens.py made; lark's own lexers cannot know a word by what stands before it."""

    def __init__(self, _conf: object) -> None:
        pass

    def lex(self, tokens: Any, _parser_state: object = None) -> Iterator[Token]:
        yield from tokens


@cache
def _parser() -> Lark:
    """The LALR tables: about 50 ms, once a process, at the first query."""
    grammar = files("streams.query").joinpath("grammar.lark").read_text("utf-8")
    return Lark(grammar, parser="lalr", lexer=_TokenLexer, transformer=Builder(), maybe_placeholders=False)


def parse(text: str) -> Parsed:
    """
    Read a query of either dialect.

    Raises:      Refused: it is not a query, or over a limit.
    Guarantees:  the tree has at most LEVELS_MAX levels: whoever walks it may recurse.
    """
    lexed = lex(text)
    if not lexed.tokens:
        raise Refused("the query is empty; the word true selects every document", 0, ["a value"])
    try:
        statement = cast("Statement", _parser().parse(cast("Any", lexed.tokens)))
    except UnexpectedToken as error:
        raise _unexpected(error, lexed.tokens, len(text.rstrip())) from None
    tree = statement.where if statement.where is not None else Boolean(value=True)
    if levels(tree) > LEVELS_MAX:
        raise Refused(f"the query is nested more than {LEVELS_MAX} levels deep", 0)
    return Parsed(tree, lexed.dialect, statement.collection, statement.collection_offset)


def _unexpected(error: UnexpectedToken, tokens: list[Token], end: int) -> Refused:
    """Say what stands in the wrong place, and what could have stood there."""
    token = error.token
    if token.type == "$END":
        return Refused("the query ends too early", end, _in_words(error.accepts or error.expected))
    offset = token.start_pos or 0
    before = [other for other in tokens if (other.start_pos or 0) < offset]
    expected = _in_words(_accepted_after(before))
    if token.type == "CONCAT" or (token.type == "NOT" and [other.type for other in before[-1:]] == ["CONCAT"]):
        return Refused(WRITE_OR, offset, ["OR"])
    if token.type in COMPARISONS and "a comparison" not in expected and "AND" in expected:
        if (joined := _joined_since_comparison(before)) is not None:
            return Refused(WRITE_OR, joined.start_pos or 0, ["OR"])
        return Refused("comparisons do not chain; join two with AND", offset, ["AND"])
    if tokens[0].type == "SELECT" and any(token is word for word in tokens[:5]):
        return Refused("of SELECT only SELECT * FROM collection WHERE … is accepted", offset, expected)
    if token.type in KEYWORDS and "a value" in expected and token.isalpha():
        return Refused(f"{token} is a word of the language; as a name write `{token}`", offset, expected)
    return Refused(f"{_shortened(token)} cannot stand here", offset, expected)


def _joined_since_comparison(tokens: list[Token]) -> Token | None:
    """The last ``||`` behind the last comparison: in ``a = (1 || b) = 2`` it was meant as the logical or."""
    for token in reversed(tokens):
        if token.type in COMPARISONS:
            return None
        if token.type == "CONCAT":
            return token
    return None


def _shortened(token: Token) -> str:
    return token if len(token) <= _SHOWN_CHARS_MAX else f"{token[:_SHOWN_CHARS_MAX]}…"


def _accepted_after(tokens: list[Token]) -> set[str]:
    """
    The types of the tokens that may follow some others.

    They are parsed once more: where the error was raised, the parser had already closed what the wrong token cannot continue.
    """
    state = _parser().parse_interactive()
    for token in tokens:
        state.feed_token(token)
    accepted: set[str] = state.accepts()  # type: ignore[no-untyped-call]
    return accepted


def _in_words(types: set[str]) -> list[str]:
    """Token types in the words of the reference page, most general first."""
    said: list[str] = []
    if types >= _VALUE:
        said.append("a value")
        types = types - _OF_A_VALUE
    if types & COMPARISONS:
        said.append("a comparison")
    if types >= {"PLUS", "STAR"}:
        said.append("an operator")
        types = types - _ARITHMETIC
    rest = sorted(types - COMPARISONS - _UNSAID, key=lambda name: (name in _SHOWN, name))
    return said + [_SHOWN.get(name, name) for name in rest]
