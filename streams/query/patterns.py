"""
LIKE, ILIKE, SIMILAR TO and regular expressions: a pattern in, a matcher out.

All run on RE2: the time is linear in the string whatever the pattern, and a pattern's program is bounded in memory. LIKE
patterns that hold no more than a prefix, a suffix or a part use the methods of str instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import Enum
from functools import lru_cache
from typing import Final, TypeAlias

import re2  # type: ignore[import-untyped]  # google-re2 has no type information

from streams.query.ast import PatternKind
from streams.query.javascript import PatternError, quote, to_re2
from streams.query.limits import PATTERN_CHARS_MAX, PATTERN_WORK_MAX
from streams.query.values import Truth

Matcher: TypeAlias = Callable[[object], Truth]  # null for what is not a string

_PROGRAM_BYTES_MAX: Final = 1 << 20  # RE2's budget for a pattern: compiling takes some milliseconds at the most
_SIMILAR_SIGNS: Final = {"%": "(?s:.*)", "_": "(?s:.)"} | {sign: sign for sign in "|*+?{}()"}
_FLAGS: Final = frozenset("cimsx")


class Wildcard(Enum):
    """The two signs of LIKE that stand for something else."""

    ANY = "%"
    ONE = "_"


def like_parts(pattern: str) -> list[str | Wildcard]:
    """
    The texts and wildcards of a LIKE pattern, texts as long as possible; the index reads prefixes off it.

    A backslash makes the next character an ordinary one. Raises PatternError if there is none.
    """
    parts: list[str | Wildcard] = []
    escaped = False
    for char in pattern:
        if char == "\\" and not escaped:
            escaped = True
            continue
        last = parts[-1] if parts else None
        if char in "%_" and not escaped:
            parts.append(Wildcard(char))
        elif isinstance(last, str):
            parts[-1] = last + char
        else:
            parts.append(char)
        escaped = False
    if escaped:
        raise PatternError("the pattern ends with a backslash")
    return parts


def pattern_matcher(kind: PatternKind, pattern: str) -> Matcher:
    """The matcher of a LIKE, ILIKE or SIMILAR TO; it covers the whole string. Raises PatternError."""
    _check_length(pattern)
    if kind == "SIMILAR TO":
        return _program(f"\\A(?:{_similar_to_re2(pattern)})\\z", ignore_case=False)
    parts = like_parts(pattern)
    if kind == "LIKE" and (simple := _simple_like(parts)):
        return simple
    body = "".join(quote(part) if isinstance(part, str) else _SIMILAR_SIGNS[part.value] for part in parts)
    return _program(f"\\A{body}\\z", ignore_case=kind == "ILIKE")


def regexp_matcher(pattern: str, *flags: str) -> Matcher:
    """
    The matcher of a JavaScript regular expression; it may match anywhere in the string.

    Args:    flags: any of `i` ignore case, `c` mind it (the default; the last of the two counts), `m` ^ and $ at line ends,
             `s` . matches line ends, `x` ignore white space in the pattern.
    Raises:  PatternError: the pattern or a flag is not valid, or needs what the engine cannot do.
    """
    _check_length(pattern)
    letters = "".join(flags)
    if unknown := sorted(set(letters) - _FLAGS):
        raise PatternError(f"{unknown[0]} is not a flag (c, i, m, s or x)")
    translated = to_re2(pattern, dot_all="s" in letters, free_spacing="x" in letters)
    return _program(("(?m)" if "m" in letters else "") + translated, ignore_case=letters.rfind("i") > letters.rfind("c"))


def match_pattern(kind: PatternKind, value: object, pattern: object) -> Truth:
    """LIKE and its kin with a pattern that is known only now; null if it is not valid."""
    matcher = _cached_pattern(kind, pattern) if isinstance(pattern, str) else None
    return matcher(value) if matcher else None


def match_regexp(value: object, pattern: object, *flags: object) -> Truth:
    """A regular expression that is known only now; null if it is not valid."""
    if not isinstance(pattern, str) or not all(isinstance(flag, str) for flag in flags):
        return None
    matcher = _cached_regexp(pattern, "".join(map(str, flags)))
    return matcher(value) if matcher else None


# Small: a program may hold a megabyte, and a document rarely brings more than one pattern.
@lru_cache(maxsize=16)
def _cached_pattern(kind: PatternKind, pattern: str) -> Matcher | None:
    try:
        return pattern_matcher(kind, pattern)
    except PatternError:
        return None


@lru_cache(maxsize=16)
def _cached_regexp(pattern: str, flags: str) -> Matcher | None:
    try:
        return regexp_matcher(pattern, flags)
    except PatternError:
        return None


def _check_length(pattern: str) -> None:
    if len(pattern) > PATTERN_CHARS_MAX:
        raise PatternError(f"the pattern is longer than {PATTERN_CHARS_MAX:,} characters")


def _simple_like(parts: list[str | Wildcard]) -> Matcher | None:
    """A matcher without RE2, for the patterns people write most."""
    match parts:
        case []:
            return lambda value: value == "" if isinstance(value, str) else None
        case [str() as text]:
            return lambda value: value == text if isinstance(value, str) else None
        case [str() as text, Wildcard.ANY]:
            return lambda value: value.startswith(text) if isinstance(value, str) else None
        case [Wildcard.ANY, str() as text]:
            return lambda value: value.endswith(text) if isinstance(value, str) else None
        case [Wildcard.ANY, str() as text, Wildcard.ANY]:
            return lambda value: text in value if isinstance(value, str) else None
    return None


def _similar_to_re2(pattern: str) -> str:
    """SQL's own regular expressions: `%`, `_`, `|`, repetition, brackets, classes; a backslash makes a sign ordinary."""
    chars = iter(pattern)
    parts: list[str] = []
    for char in chars:
        if char == "\\":
            parts.append(quote(_after_backslash(chars)))
        elif char == "[":
            parts.append(_similar_class(chars))
        elif char == "?" and parts[-1:] == ["("]:
            raise PatternError("(? does not begin a group in SIMILAR TO")
        else:
            parts.append(_SIMILAR_SIGNS.get(char) or quote(char))
    return "".join(parts)


def _similar_class(chars: Iterator[str]) -> str:
    """A class such as `[a-z]`, `[^0-9]`, `[[:alpha:]_]`, after its first bracket."""
    parts = ["["]
    for char in chars:
        if char == "]" and len(parts) > 1 and parts != ["[", "^"]:
            return "".join([*parts, "]"])
        if char == "[":
            parts.append(_named_class(chars))
        elif char == "-" or (char == "^" and len(parts) == 1):
            parts.append(char)
        else:
            parts.append(quote(_after_backslash(chars) if char == "\\" else char))
    raise PatternError("a character class is not closed")


def _named_class(chars: Iterator[str]) -> str:
    """`[:alpha:]` inside a class, after its first bracket; RE2 refuses the names it does not know."""
    name = ""
    for char in chars:
        name += char
        if name.endswith(":]"):
            return f"[{name}"
        if not (char.isalpha() or char in ":^"):
            break
    raise PatternError("[ in a character class is written \\[")


def _after_backslash(chars: Iterator[str]) -> str:
    char = next(chars, "")
    if not char:
        raise PatternError("the pattern ends with a backslash")
    return char


def _program(pattern: str, *, ignore_case: bool) -> Matcher:
    """Compile with RE2 and bound what one match may cost."""
    options = re2.Options()
    options.max_mem = _PROGRAM_BYTES_MAX
    options.never_capture = True
    options.log_errors = False
    options.case_sensitive = not ignore_case
    try:
        program = re2.compile(pattern, options)
    except re2.error as error:
        raise PatternError(_reason(error, pattern)) from None
    re2.purge()  # its cache of 128 programs lives as long as the process; ours belong to their queries
    search = program.search
    bytes_max = PATTERN_WORK_MAX // max(program.programsize, 1)

    def matches(value: object) -> Truth:
        if not isinstance(value, str):
            return None
        encoded = value.encode("utf-8", "surrogatepass")  # given bytes, RE2's wrapper does not compute offsets in characters
        return search(encoded) is not None if len(encoded) <= bytes_max else None

    return matches


def _reason(error: Exception, pattern: str) -> str:
    """RE2's own words, which are bytes; without the whole pattern, since it is not the one the user wrote."""
    reason = error.args[0] if error.args else ""
    text = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
    return text.removesuffix(f": {pattern}")
