"""The two documents of a change, for whoever asks queries of them."""

from __future__ import annotations

from typing import Any

import msgspec

from schemas.changes import Change

_decode = msgspec.json.decode
_encode = msgspec.json.encode
_NOTHING = object()


class Documents:
    """Old and new value of a change, decoded at most once and only if somebody asks; None where there is none."""

    __slots__ = ("_change", "_changed", "_new", "_old")

    def __init__(self, change: Change) -> None:
        self._change = change
        self._old: Any = None
        self._new: Any = None
        self._changed: set[str] | None = None

    def old(self) -> Any:
        """The old value, decoded."""
        if self._old is None and self._change.old is not None:
            self._old = _decode(self._change.old)
        return self._old

    def new(self) -> Any:
        """The new value, decoded."""
        if self._new is None and self._change.new is not None:
            self._new = _decode(self._change.new)
        return self._new

    def changed(self) -> set[str]:
        """The properties that are not the same in both, to the digit; there must be both."""
        if self._changed is None:
            self._changed = changed(self.old(), self.new())
        return self._changed


def changed(old: dict[str, Any], new: dict[str, Any]) -> set[str]:
    """The properties that are not the same in two documents, to the digit: 31 and 31.0 differ, as no query may take one for the other."""
    found = {
        name
        for name, value in new.items()
        if (before := old.get(name, _NOTHING)) != value
        or (kind := type(value)) is not type(before)
        or ((kind is list or kind is dict) and _encode(before) != _encode(value))  # because [1] == [1.0] == [true] in Python
    }
    return found if old.keys() <= new.keys() else found | (old.keys() - new.keys())
