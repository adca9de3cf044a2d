"""
Text to tokens: one pass of a regular expression, then the decisions that need no grammar.

Those are: which words are keywords (`a.in` and `{in: 1}` hold a name), which dialect the query is in, what `||`, `==` and
`!=` mean in it, and the limits that can be counted here. After this the grammar is the same for both dialects.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from lark import Token

from streams.query.errors import Refused
from streams.query.limits import LEVELS_MAX, LITERALS_MAX, TEXT_BYTES_MAX

Dialect: TypeAlias = Literal["legacy", "dql"]

# Possessive quantifiers: a string that is not closed costs one pass, not one pass for each place it might have ended.
_TOKEN: Final = re.compile(
    r"""
    (?P<SPACE> (?: \s | --[^\n]* | /\*.*?\*/ )++ )
  | (?P<NUMBER> [0-9]+ (?:\.[0-9]+)? (?:[eE][+-]?[0-9]+)? )
  | (?P<WORD> [^\W\d]\w* )
  | (?P<STRING> '(?: [^'\\] | \\. | '' )*+' | "(?: [^"\\] | \\. | "" )*+" )
  | (?P<QUOTED_NAME> `(?: [^`] | `` )++` )
  | (?P<ARGS> \$args\b )
  | (?P<SIGN> <= | >= | <> | == | != | << | >> | && | \|\| | [=<>!+\-*/%()\[\]{}.,?:] )
    """,
    re.VERBOSE | re.DOTALL,
)
_SIGNS: Final = {
    "=": "EQ", "<>": "NE", "<": "LT", "<=": "LE", ">": "GT", ">=": "GE", "==": "SAME", "!=": "NOT_SAME",
    "+": "PLUS", "-": "MINUS", "*": "STAR", "/": "SLASH", "%": "PERCENT", "<<": "SHIFT_LEFT", ">>": "SHIFT_RIGHT",
    "&&": "AND", "||": "BARS", "!": "NOT", ".": "DOT", ",": "COMMA", ":": "COLON", "?": "ANY",
    "(": "OPEN", ")": "CLOSE", "[": "OPEN_ARRAY", "]": "CLOSE_ARRAY", "{": "OPEN_OBJECT", "}": "CLOSE_OBJECT",
}  # fmt: skip
_OPENING: Final = frozenset(("OPEN", "OPEN_ARRAY", "OPEN_OBJECT"))
_CLOSING: Final = frozenset(("CLOSE", "CLOSE_ARRAY", "CLOSE_OBJECT"))
KEYWORDS: Final = frozenset(("TRUE", "FALSE", "NULL", "AND", "OR", "XOR", "NOT", "IN", "IS", "BETWEEN", "LIKE", "ILIKE", "SIMILAR"))
_DQL_WORDS: Final = frozenset(("AND", "OR", "XOR", "NOT", "IN", "IS", "BETWEEN", "LIKE", "ILIKE", "SIMILAR", "SELECT"))
_DQL_SIGNS: Final = frozenset(("EQ", "NE", "PARAMETER"))
_LITERALS: Final = frozenset(("NUMBER", "STRING", "TRUE", "FALSE", "NULL"))
_IN_DIALECT: Final[dict[Dialect, dict[str, str]]] = {
    "legacy": {"BARS": "OR"},
    "dql": {"BARS": "CONCAT", "SAME": "EQ", "NOT_SAME": "NE"},
}
COMPARISONS: Final = frozenset(("EQ", "NE", "LT", "LE", "GT", "GE", "SAME", "NOT_SAME"))
_COMPARING: Final = COMPARISONS | {"IN", "IS", "BETWEEN", "LIKE", "ILIKE", "SIMILAR"}
WRITE_OR: Final = "|| joins strings in a query with DQL words or signs; for the logical or write OR"


@dataclass(frozen=True, slots=True)
class Lexed:
    """What the parser reads: tokens of the grammar's types, each with its offset in `start_pos`."""

    tokens: list[Token]
    dialect: Dialect


def lex(text: str) -> Lexed:
    """
    Cut a query into tokens.

    Raises:  Refused: too long, too deep or too many literals; a character or an open string that no token begins with.
    """
    if len(text.encode("utf-8", "surrogatepass")) > TEXT_BYTES_MAX:
        raise Refused(f"the query is longer than {TEXT_BYTES_MAX // 1024} KiB", 0)
    tokens = _place_not(_name_words(list(_scan(text))))
    dialect = _dialect_of(tokens)
    types = _IN_DIALECT[dialect]
    tokens = [_retyped(token, types[token.type]) if token.type in types else token for token in tokens]
    _check_limits(tokens)
    if dialect == "dql":
        _check_joined_comparisons(tokens)
    return Lexed(tokens, dialect)


def _scan(text: str) -> Iterator[Token]:
    """Tokens by their look alone; space and comments are gone."""
    offset, end = 0, len(text)
    while offset < end:
        found = _TOKEN.match(text, offset)
        if found is None:
            raise _unreadable(text, offset)
        kind = found.lastgroup or ""
        if kind == "SIGN":
            if text.startswith("/*", offset):
                raise Refused("this comment is not closed", offset, ["*/"])
            kind = _SIGNS[found[0]]
        if kind != "SPACE":
            yield Token(kind, found[0], start_pos=offset)
        offset = found.end()


def _unreadable(text: str, offset: int) -> Refused:
    """Say what is wrong with a character that begins no token, and what was probably meant."""
    char = text[offset]
    match char:
        case "'" | '"':
            return Refused("this string is not closed", offset, [char])
        case "`":
            return Refused("this name is not closed", offset, [char])
        case "&" | "|":
            return Refused(f"{char} is not an operator", offset, [char * 2])
        case "$":
            return Refused("only $args may follow a $", offset, ["$args.name"])
        case ";":
            return Refused("a query is one expression, without ;", offset, ["the end of the query"])
    return Refused(f"{char if char.isprintable() else f'U+{ord(char):04X}'} has no meaning here", offset)


def _name_words(tokens: list[Token]) -> list[Token]:
    """Make each word a keyword or a NAME by where it stands, and `:name` one PARAMETER."""
    named: list[Token] = []
    brackets: list[str] = []
    start = Token("START", "")
    for token in tokens:
        before = named[-1] if named else start
        if token.type in _OPENING:
            brackets.append(token.type)
        elif token.type in _CLOSING and brackets:
            brackets.pop()
        elif token.type == "WORD":
            if before.type == "COLON" and _end(before) == token.start_pos and not _ends_key(named, brackets):
                named.pop()
                token = Token("PARAMETER", str(token), start_pos=before.start_pos)
            else:
                token = _retyped(token, _word_type(token, named, in_object=brackets[-1:] == ["OPEN_OBJECT"]))
        named.append(token)
    return named


def _ends_key(named: list[Token], brackets: list[str]) -> bool:
    """Whether the colon that was just read stands after a key of an object literal; else it begins a parameter."""
    return brackets[-1:] == ["OPEN_OBJECT"] and [token.type for token in named[-3:-2]] in (["OPEN_OBJECT"], ["COMMA"])


def _word_type(word: Token, named: list[Token], *, in_object: bool) -> str:
    """The token type of a word after the tokens `named`; some words belong to the language in one place only."""
    upper = word.upper()
    before = named[-1].type if named else "START"
    if before == "DOT" or (in_object and before in ("OPEN_OBJECT", "COMMA")):
        return "NAME"
    if upper in ("MISSING", "UNKNOWN"):
        after_is = before == "IS" or [token.type for token in named[-2:]] == ["IS", "NOT"]
        return upper if after_is else "NAME"
    if upper == "TO":
        return "TO" if before == "SIMILAR" else "NAME"
    if upper in ("SELECT", "FROM", "WHERE"):
        position = {"SELECT": 0, "FROM": 2, "WHERE": 4}[upper]
        return upper if len(named) == position and (not named or named[0].type == "SELECT") else "NAME"
    return upper if upper in KEYWORDS else "NAME"


def _place_not(tokens: list[Token]) -> list[Token]:
    """
    Give the NOT of `a NOT IN b`, of `a NOT LIKE b` and of `a == !b` types of their own.

    With one token ahead the parser could not know at which level of precedence such a NOT belongs.
    """
    types = [token.type for token in tokens]
    around = zip(["", *types], tokens, [*types[1:], ""], strict=False)
    return [_retyped(token, _not_type(before, after)) if token.type == "NOT" else token for before, token, after in around]


def _not_type(before: str, after: str) -> str:
    if after in ("IN", "BETWEEN"):
        return "NOT_RANGE"
    if after in ("LIKE", "ILIKE", "SIMILAR"):
        return "NOT_PATTERN"
    return "NOT_OPERAND" if before in COMPARISONS else "NOT"


def _dialect_of(tokens: list[Token]) -> Dialect:
    """DQL if one sign or word is in the query that only DQL has, else legacy (contract, section 7)."""
    for position, token in enumerate(tokens):
        if token.type in _DQL_SIGNS or (token.upper() in _DQL_WORDS and token.type != "NAME"):
            return "dql"
        if token.type == "NAME" and token.lower() == "concat" and [after.type for after in tokens[position + 1 : position + 2]] == ["OPEN"]:
            return "dql"
    return "legacy"


def _check_limits(tokens: list[Token]) -> None:
    """Refuse what would make every later step slow; brackets that do not match are the parser's to report."""
    level = literals = 0
    for token in tokens:
        if token.type in _OPENING:
            level += 1
        elif token.type in _CLOSING:
            level -= 1
        elif token.type in _LITERALS:
            literals += 1
        if level > LEVELS_MAX:
            raise Refused(f"the query is nested more than {LEVELS_MAX} levels deep", token.start_pos or 0)
        if literals > LITERALS_MAX:
            raise Refused(f"the query has more than {LITERALS_MAX:,} literals", token.start_pos or 0)


def _check_joined_comparisons(tokens: list[Token]) -> None:
    """
    Refuse a `||` between two comparisons of a DQL query.

    `a = 1 || b = 2` would be `a = (1 || b) = 2` there. Whoever writes it means OR; and `a = 1 || b LIKE 'x'` would even
    parse, and never match.
    """
    brackets = [_Comparing()]
    for token in tokens:
        here = brackets[-1]
        if token.type in _OPENING:
            brackets.append(_Comparing())
        elif token.type in _CLOSING and len(brackets) > 1:
            brackets.pop()
        elif token.type in _COMPARING:
            if here.join is not None:
                raise Refused(WRITE_OR, here.join.start_pos or 0, ["OR"])
            here.compared, here.between = True, token.type == "BETWEEN"
        elif token.type == "CONCAT" and here.compared:
            here.join = token
        elif token.type == "AND" and here.between:
            here.between = False
        elif token.type in ("AND", "OR", "XOR", "COMMA"):
            here.compared, here.join = False, None


@dataclass(slots=True)
class _Comparing:
    """What was read inside one bracket since the last AND, OR, XOR or comma."""

    compared: bool = False
    between: bool = False  # the next AND belongs to a BETWEEN
    join: Token | None = None  # the `||` after the comparison


def _retyped(token: Token, kind: str) -> Token:
    return Token(kind, str(token), start_pos=token.start_pos)


def _end(token: Token) -> int:
    return (token.start_pos or 0) + len(token)
