"""
JavaScript regular expressions (with the flag `u`, as MDN describes them) to RE2's syntax.

RE2 cannot be blown up by a hostile pattern, but reads some signs otherwise: `\\s`, `.`, `\\uXXXX`, `[^]`, `[` in a class,
`\\A`, `\\a`, `\\Q`. Each is written here so that RE2 does what JavaScript would. What RE2 cannot do at all (lookaround,
back references) is refused by name.
"""

from __future__ import annotations

import re
from typing import Final

# MDN, "Character classes": white space and line terminators.
_SPACES: Final = r"\t-\r \x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}\x{feff}"
_NOT_SPACES: Final = (
    r"\x{0}-\x{8}\x{e}-\x{1f}!-\x{9f}\x{a1}-\x{167f}\x{1681}-\x{1fff}\x{200b}-\x{2027}\x{202a}-\x{202e}"
    r"\x{2030}-\x{205e}\x{2060}-\x{2fff}\x{3001}-\x{fefe}\x{ff00}-\x{10ffff}"
)
_NOT_LINE_END: Final = r"[^\n\r\x{2028}\x{2029}]"
_ANY: Final = "(?s:.)"
_NEVER: Final = r"[^\x{0}-\x{10ffff}]"
_CONTROLS: Final = {"n": r"\n", "r": r"\r", "t": r"\t", "f": r"\f", "v": r"\x{b}"}
_GROUP: Final = re.compile(r"\(\?(?::|[im]*(?:-[im]+)?:|<[A-Za-z_]\w*>)", re.ASCII)
_CODE: Final = re.compile(r"x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|u\{([0-9a-fA-F]{1,6})\}|c([a-zA-Z])|(0)(?![0-9])")
_LOW_SURROGATE: Final = re.compile(r"\\u([dD][c-fC-F][0-9a-fA-F]{2})")
_PROPERTY: Final = re.compile(r"([pP])\{(?:(?:Script|sc|General_Category|gc)=)?([A-Za-z_]+)\}")


class PatternError(ValueError):
    """A pattern that is not valid, or that needs what the engine cannot do; the message says which."""


def quote(text: str) -> str:
    """A text as the RE2 pattern that matches it."""
    return "".join(char if char.isalnum() or not char.isascii() or char == "_" else f"\\x{{{ord(char):x}}}" for char in text)


def to_re2(pattern: str, *, dot_all: bool = False, free_spacing: bool = False) -> str:
    """
    Translate a pattern.

    Args:    dot_all: `.` matches line ends too (flag s). free_spacing: white space outside classes and `#` comments are
             not part of the pattern (flag x).
    Raises:  PatternError.
    """
    return _Translation(pattern, dot_all=dot_all, free_spacing=free_spacing).run()


class _Translation:
    """One pass over a pattern; `_at` is the place of the next character."""

    def __init__(self, pattern: str, *, dot_all: bool, free_spacing: bool) -> None:
        self._pattern = pattern
        self._dot = _ANY if dot_all else _NOT_LINE_END
        self._free_spacing = free_spacing
        self._at = 0

    def run(self) -> str:
        """Translate all of it."""
        parts: list[str] = []
        while self._at < len(self._pattern):
            parts.append(self._next())
        return "".join(parts)

    def _next(self) -> str:
        char = self._pattern[self._at]
        self._at += 1
        if char == "\\":
            return self._escape(in_class=False)
        if char == "[":
            return self._class()
        if char == "(":
            return self._group()
        if char == ".":
            return self._dot
        if self._free_spacing and char.isspace():
            return ""
        if self._free_spacing and char == "#":
            line_end = self._pattern.find("\n", self._at)
            self._at = len(self._pattern) if line_end < 0 else line_end + 1
            return ""
        return char

    def _group(self) -> str:
        """An opening bracket; groups that look around have no counterpart."""
        rest = self._pattern[self._at : self._at + 3]
        if rest.startswith(("?=", "?!")):
            raise PatternError(f"lookahead (({rest[:2]}…)) is not supported")
        if rest.startswith(("?<=", "?<!")):
            raise PatternError(f"lookbehind (({rest}…)) is not supported")
        if not rest.startswith("?"):
            return "("
        found = _GROUP.match(self._pattern, self._at - 1)
        if found is None:
            raise PatternError(f"({rest[:2]} does not begin a group")
        self._at = found.end()
        return found[0].replace("(?<", "(?P<")

    def _class(self) -> str:
        """A character class, after its `[`."""
        start = "["
        if self._pattern.startswith("^", self._at):
            start, self._at = "[^", self._at + 1
        parts: list[str] = []
        after_set = False
        while self._at < len(self._pattern):
            char = self._pattern[self._at]
            self._at += 1
            if char == "]":
                return start + "".join(parts) + "]" if parts else (_ANY if start == "[^" else _NEVER)
            is_set = char == "\\" and self._pattern[self._at : self._at + 1] in tuple("dDwWsSpP")
            if char == "\\":
                parts.append(self._escape(in_class=True))
            elif char == "-":
                # A range cannot begin with a set: JavaScript takes this hyphen for itself, RE2 would refuse it.
                parts.append(r"\-" if after_set else "-")
            else:
                parts.append(char if char.isalnum() else quote(char))
            after_set = is_set
        raise PatternError("a character class is not closed")

    def _escape(self, *, in_class: bool) -> str:
        """What stands after a backslash."""
        if self._at == len(self._pattern):
            raise PatternError("the pattern ends with a backslash")
        char = self._pattern[self._at]
        if char in "dDwW" or (char in "bB" and not in_class):
            self._at += 1
            return f"\\{char}"
        if char in "sS":
            self._at += 1
            return self._space(negated=char == "S", in_class=in_class)
        if char == "b":
            self._at += 1
            return r"\x{8}"
        if char in _CONTROLS:
            self._at += 1
            return _CONTROLS[char]
        if char in "123456789k":
            raise PatternError(f"back references (\\{char}) are not supported")
        if found := _PROPERTY.match(self._pattern, self._at):
            self._at = found.end()
            return f"\\{found[1]}{{{found[2]}}}"
        if found := _CODE.match(self._pattern, self._at):
            self._at = found.end()
            return self._code_point(found)
        if char.isalnum():
            raise PatternError(f"\\{char} has no meaning")
        self._at += 1
        return quote(char)

    @staticmethod
    def _space(*, negated: bool, in_class: bool) -> str:
        if in_class:
            return _NOT_SPACES if negated else _SPACES
        return f"[{'^' if negated else ''}{_SPACES}]"

    def _code_point(self, found: re.Match[str]) -> str:
        """`\\xHH`, `\\uHHHH` (two of them for a surrogate pair), `\\u{H…}`, `\\cX`, `\\0`."""
        if found[4]:
            return f"\\x{{{ord(found[4]) % 32:x}}}"
        code = int(found[1] or found[2] or found[3] or found[5], 16)
        low = _LOW_SURROGATE.match(self._pattern, self._at)
        if 0xD800 <= code < 0xDC00 and low:
            code, self._at = 0x10000 + (code - 0xD800) * 0x400 + int(low[1], 16) - 0xDC00, low.end()
        if 0xD800 <= code < 0xE000 or code > 0x10FFFF:
            raise PatternError(f"\\u{code:X} is not a character")
        return f"\\x{{{code:x}}}"
