"""
Every function of the language: name, arguments, what it does, and an example that the reference page shows and a test runs.

To add one, add an entry to `_TABLE` and a row to docs/reference/query-language.md. Implementations take decoded JSON values
(a missing argument arrives as None, except where `sees_missing`), return such a value, and never raise.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec

from streams.query.limits import STRING_CHARS_MAX
from streams.query.patterns import match_regexp
from streams.query.values import Truth, add, equal, in_range, is_number, same


@dataclass(frozen=True, slots=True)
class Function:
    """
    One function.

    Attributes:  signature: as the reference shows it. arguments_max: None if there is no end. names: older or longer
                 spellings of `name`. example: a query and its value on the reference page's document.
    """

    name: str
    signature: str
    call: Callable[..., object]
    arguments_min: int
    arguments_max: int | None
    meaning: str
    example: tuple[str, object]
    names: tuple[str, ...] = ()
    sees_missing: bool = False


# Numbers


def absolute(value: object) -> int | float | None:
    return abs(value) if is_number(value) and in_range(value) else None


def ceiling(value: object) -> int | None:
    return math.ceil(value) if is_number(value) and in_range(value) else None


def floor(value: object) -> int | None:
    return math.floor(value) if is_number(value) and in_range(value) else None


def total(values: object) -> object:
    """The sum of an array of numbers; one element that is no number makes it null."""
    if not isinstance(values, list):
        return None
    result: object = 0
    for value in values:
        result = add(result, value)
        if result is None:
            return None
    return result


# Strings


def concat(*texts: object) -> str | None:
    strings = [text for text in texts if isinstance(text, str)]
    if len(strings) != len(texts) or sum(map(len, strings)) > STRING_CHARS_MAX:
        return None
    return "".join(strings)


def contains(whole: object, part: object) -> Truth:
    """A part of a string, or an element of an array; elements are compared as wholes, so the answer is never null for one."""
    if isinstance(whole, str):
        return part in whole if isinstance(part, str) else None
    return array_contains(whole, part)


def starts_with(text: object, prefix: object) -> Truth:
    return text.startswith(prefix) if isinstance(text, str) and isinstance(prefix, str) else None


def ends_with(text: object, suffix: object) -> Truth:
    return text.endswith(suffix) if isinstance(text, str) and isinstance(suffix, str) else None


def byte_length(text: object) -> int | None:
    return len(text.encode("utf-8", "surrogatepass")) if isinstance(text, str) else None


def char_length(text: object) -> int | None:
    return len(text) if isinstance(text, str) else None


# Types


def is_boolean(value: object) -> Truth:
    return None if value is None else isinstance(value, bool)


def is_number_type(value: object) -> Truth:
    return None if value is None else is_number(value)


def is_string(value: object) -> Truth:
    return None if value is None else isinstance(value, str)


_TYPE_NAMES: Final[dict[type, str]] = {
    type(None): "null",
    bool: "boolean",
    int: "number",
    float: "number",
    str: "string",
    list: "array",
    dict: "object",
}


def type_name(value: object) -> str | None:
    return _TYPE_NAMES.get(type(value))


def deserialize_json(text: object) -> object:
    if not isinstance(text, str):
        return None
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None


# Arrays and objects


def length(value: object) -> int | None:
    return len(value) if isinstance(value, list | str | dict) else None


def array_contains(values: object, value: object) -> Truth:
    if not isinstance(values, list) or value is None:
        return None
    if isinstance(value, str):
        return value in values  # the same answer, at a tenth of the cost: no value of another type equals a string
    return any(same(item, value) for item in values)


def array_contains_null(values: object) -> Truth:
    return any(item is None for item in values) if isinstance(values, list) else None


def array_length(values: object) -> int | None:
    return len(values) if isinstance(values, list) else None


def object_length(value: object) -> int | None:
    return len(value) if isinstance(value, dict) else None


def object_keys(value: object) -> list[str] | None:
    return sorted(value) if isinstance(value, dict) else None


def object_values(value: object) -> list[object] | None:
    return [value[key] for key in sorted(value)] if isinstance(value, dict) else None


# Choices


def coalesce(*values: object) -> object:
    return next((value for value in values if value is not None), None)


def decode(value: object, *cases: object) -> object:
    """`cases`: search, result, search, result, …, and one more for the rest."""
    for position in range(0, len(cases) - 1, 2):
        search = cases[position]
        if equal(value, search) is True or (value is None and search is None):
            return cases[position + 1]
    return cases[-1] if len(cases) % 2 else None


_TABLE: Final = (
    Function("abs", "abs(n)", absolute, 1, 1, "the number without its sign", ("abs(balance)", 12.5)),
    Function("ceil", "ceil(n)", ceiling, 1, 1, "the next whole number", ("ceil(balance)", -12)),
    Function("floor", "floor(n)", floor, 1, 1, "the previous whole number", ("floor(balance)", -13)),
    Function(
        "sum", "sum(array)", total, 1, 1, "the sum of numbers; 0 of none, null if an element is no number", ("sum(orders[*].total)", 55)
    ),
    Function("concat", "concat(s, …)", concat, 1, None, "strings joined; the same as `||` in DQL", ("concat(name, '!')", "Frank!")),
    Function(
        "contains",
        "contains(s, part), contains(array, value)",
        contains,
        2,
        2,
        "whether a string holds a part, or an array a value",
        ("contains(tags, 'vip')", True),
    ),
    Function(
        "starts_with",
        "starts_with(s, prefix)",
        starts_with,
        2,
        2,
        "whether a string begins so",
        ("starts_with(name, 'Fr')", True),
        ("beginsWith",),
    ),
    Function(
        "ends_with", "ends_with(s, suffix)", ends_with, 2, 2, "whether a string ends so", ("ends_with(name, 'nk')", True), ("endsWith",)
    ),
    Function(
        "regexp_like",
        "regexp_like(s, pattern [, flags])",
        match_regexp,
        2,
        5,
        "whether a JavaScript regular expression matches somewhere in a string",
        ("regexp_like(name, '^fr', 'i')", True),
        ("regex",),
    ),
    Function("byte_length", "byte_length(s)", byte_length, 1, 1, "bytes of a string in UTF-8", ("byte_length(city)", 7)),
    Function("char_length", "char_length(s)", char_length, 1, 1, "characters of a string", ("char_length(city)", 6), ("character_length",)),
    Function("is_boolean", "is_boolean(x)", is_boolean, 1, 1, "whether it is true or false", ("is_boolean(active)", True)),
    Function("is_number", "is_number(x)", is_number_type, 1, 1, "whether it is a number", ("is_number(name)", False)),
    Function("is_string", "is_string(x)", is_string, 1, 1, "whether it is a string", ("is_string(name)", True)),
    Function(
        "type",
        "type(x)",
        type_name,
        1,
        1,
        "`null`, `boolean`, `number`, `string`, `array` or `object`; null if it is missing",
        ("type(nickname)", "null"),
        sees_missing=True,
    ),
    Function(
        "deserialize_json",
        "deserialize_json(s)",
        deserialize_json,
        1,
        1,
        "the value of a JSON text",
        ("deserialize_json('[1, 2]')", [1, 2]),
    ),
    Function("length", "length(x)", length, 1, 1, "elements of an array, characters of a string, keys of an object", ("length(tags)", 2)),
    Function(
        "array_contains",
        "array_contains(array, value)",
        array_contains,
        2,
        2,
        "whether an array holds a value",
        ("array_contains(tags, 'new')", True),
    ),
    Function(
        "array_contains_null",
        "array_contains_null(array)",
        array_contains_null,
        1,
        1,
        "whether an array holds null",
        ("array_contains_null(tags)", False),
    ),
    Function("array_length", "array_length(array)", array_length, 1, 1, "elements of an array", ("array_length(orders)", 2)),
    Function("object_length", "object_length(object)", object_length, 1, 1, "keys of an object", ("object_length(work)", 2)),
    Function(
        "object_keys",
        "object_keys(object)",
        object_keys,
        1,
        1,
        "the keys of an object, sorted",
        ("object_keys(work)", ["city", "street-line"]),
    ),
    Function(
        "object_values",
        "object_values(object)",
        object_values,
        1,
        1,
        "the values of an object, in the order of its sorted keys",
        ("object_values(work)", ["Oslo", "Havnegata 1"]),
    ),
    Function(
        "coalesce", "coalesce(x, …)", coalesce, 1, None, "the first that is not null and not missing", ("coalesce(nickname, name)", "Frank")
    ),
    Function("nvl", "nvl(x, instead)", coalesce, 2, 2, "`coalesce` of two", ("nvl(age, 0)", 31)),
    Function(
        "decode",
        "decode(x, value, result, … [, otherwise])",
        decode,
        3,
        None,
        "the result beside the value that equals x (null equals null), else otherwise or null",
        ("decode(city, 'Tromsø', 'N', 'Oslo', 'S')", "N"),
    ),
)
FUNCTIONS: Final[dict[str, Function]] = {function.name: function for function in _TABLE}
_BY_SPELLING: Final[dict[str, Function]] = {
    spelling.lower(): function for function in _TABLE for spelling in (function.name, *function.names)
}
SPELLINGS: Final = tuple(_BY_SPELLING)


def function_named(spelling: str) -> Function | None:
    """The function of a name in any case and any of its spellings; None if there is none."""
    return _BY_SPELLING.get(spelling.lower())
