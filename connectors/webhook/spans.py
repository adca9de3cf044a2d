"""
JSON values as the bytes that they were written with: opened only where somebody looks inside, put out as they came.

A document is never encoded again, so that a number leaves digit for digit as it arrived. For templates and projections. Pure.
"""

from __future__ import annotations

import re

import msgspec

_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_items = msgspec.json.Decoder(list[msgspec.Raw]).decode
_ZERO = re.compile(rb"-?0(\.0+)?([eE].*)?")
_EMPTY = frozenset({b"null", b"false", b'""', b"[]"})


class Span:
    """
    One value.

    Args:  raw: normalised JSON (see schemas/strict_json.py).
    """

    __slots__ = ("_inner", "_items", "raw")

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self._inner: dict[str, Span | msgspec.Raw] | None = None
        self._items: list[Span] | None = None

    @classmethod
    def of(cls, members: dict[str, bytes]) -> Span:
        """An object of these members, which nobody asks for as a whole."""
        span = cls(b"{}")
        span._inner = {name: cls(raw) for name, raw in members.items()}
        return span

    def get(self, name: str) -> Span | None:
        """The member of that name; None when it is no object or has none."""
        if self._inner is None:
            if not self.raw.startswith(b"{"):
                return None
            self._inner = dict(_members(self.raw))
        found = self._inner.get(name)
        if found is None or isinstance(found, Span):
            return found
        span = self._inner[name] = Span(bytes(found))
        return span

    def items(self) -> list[Span] | None:
        """The elements of a list; None when it is none."""
        if self._items is None and self.raw.startswith(b"["):
            self._items = [Span(bytes(item)) for item in _items(self.raw)]
        return self._items

    @property
    def is_text(self) -> bool:
        """Whether it is a string."""
        return self.raw.startswith(b'"')

    @property
    def is_empty(self) -> bool:
        """Whether a section of it is left out: null, false, 0, an empty string or list."""
        return self.raw in _EMPTY or _ZERO.fullmatch(self.raw) is not None

    def text(self) -> str:
        """The value as text: a string as it reads, null as nothing, all else as JSON."""
        if self.is_text:
            return str(msgspec.json.decode(self.raw))
        return "" if self.raw == b"null" else self.raw.decode()
