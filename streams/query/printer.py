"""Tree to text: DQL's spelling, as few brackets as possible. Parsing it gives the same tree, whatever dialect it came from."""

from __future__ import annotations

import re
from typing import Final

from streams.query.ast import (
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
    Parameter,
    Path,
    Step,
    Text,
    Xor,
)
from streams.query.tokens import KEYWORDS

# How tightly an operator binds, in the order of grammar.lark. `||` is printed as concat(), which means the same everywhere.
_OR, _XOR, _AND, _NOT, _IS, _LIKE, _COMPARE, _JOIN, _SHIFT, _SUM, _PRODUCT, _SIGN, _ATOM = range(13)
_ARITHMETIC: Final = {"<<": _SHIFT, ">>": _SHIFT, "+": _SUM, "-": _SUM, "*": _PRODUCT, "/": _PRODUCT, "%": _PRODUCT}
_PLAIN_NAME: Final = re.compile(r"[^\W\d]\w*")
_ESCAPES: Final = {"\\": "\\\\", "'": "''", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def to_text(node: Expression) -> str:
    """The expression as a query."""
    return _text(node)[0]


def _text(node: Expression) -> tuple[str, int]:
    """The text of a node and how tightly it binds."""
    match node:
        case Or(operands):
            return " OR ".join(_inside(part, _XOR) for part in operands), _OR
        case Xor(left, right):
            return f"{_inside(left, _XOR)} XOR {_inside(right, _AND)}", _XOR
        case And(operands):
            return " AND ".join(_inside(part, _NOT) for part in operands), _AND
        case Not(operand):
            return f"NOT {_inside(operand, _NOT)}", _NOT
        case Is(kind, operand):
            return f"{_inside(operand, _IS)} IS {kind}", _IS
        case Like(kind, operand, pattern):
            return f"{_inside(operand, _LIKE)} {kind} {_inside(pattern, _COMPARE)}", _LIKE
        case Comparison(sign, left, right):
            return f"{_inside(left, _JOIN)} {sign} {_inside(right, _JOIN)}", _COMPARE
        case Between(operand, low, high):
            return f"{_inside(operand, _JOIN)} BETWEEN {_inside(low, _JOIN)} AND {_inside(high, _JOIN)}", _COMPARE
        case In(operand, items):
            return f"{_inside(operand, _JOIN)} IN {_inside(items, _JOIN)}", _COMPARE
        case Arithmetic(sign, left, right):
            level = _ARITHMETIC[sign]
            return f"{_inside(left, level)} {sign} {_inside(right, level + 1)}", level
        case Negative(operand):
            text = _inside(operand, _SIGN)
            return (f"-({text})" if text.startswith("-") else f"-{text}"), _SIGN  # -- would begin a comment
        case _:
            return _atom(node), _ATOM


def _inside(node: Expression, level: int) -> str:
    """The text of an operand, in brackets if it binds more loosely than `level`."""
    text, own = _text(node)
    return f"({text})" if own < level else text


def _atom(node: Expression) -> str:
    match node:
        case Null():
            return "null"
        case Boolean(value):
            return "true" if value else "false"
        case Number(value):
            return repr(value)
        case Text(value):
            return _quoted(value)
        case ArrayOf(items):
            return f"[{', '.join(map(to_text, items))}]"
        case ObjectOf(entries):
            return f"{{{', '.join(f'{_quoted(key)}: {to_text(value)}' for key, value in entries)}}}"
        case Parameter(name):
            return f":{name}" if _PLAIN_NAME.fullmatch(name) else f"$args[{_quoted(name)}]"
        case Call(name, arguments):
            return f"{name}({', '.join(map(to_text, arguments))})"
        case Path(None, (Field(name), *steps)):
            return _name(name, first=True) + "".join(map(_step, steps))
        case Path(base, steps) if base is not None:
            return f"({to_text(base)})" + "".join(map(_step, steps))
    raise TypeError(f"{type(node).__name__} is no expression")


def _step(step: Step) -> str:
    match step:
        case Field(name):
            return f".{_name(name)}" if name else "['']"
        case Index(position):
            return f"[{position}]"
        case Each():
            return "[*]"
        case Filter(predicate):
            return f"[? {to_text(predicate)}]"
        case Flatten():
            return "[]"


def _name(name: str, *, first: bool = False) -> str:
    """A property's name, in backticks where it is no plain word or would be read as a word of the language."""
    is_word = first and name.upper() in (*KEYWORDS, "SELECT")
    return name if _PLAIN_NAME.fullmatch(name) and not is_word else "`" + name.replace("`", "``") + "`"


def _quoted(text: str) -> str:
    return "'" + "".join(_ESCAPES.get(char, char) for char in text) + "'"
