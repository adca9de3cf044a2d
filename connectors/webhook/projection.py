"""
What leaves of a document: ``fields.include`` and ``fields.exclude`` of a webhook, on the bytes of the document.

A path names properties with dots between; it goes through lists, to each of their elements. What stays keeps its bytes and its place;
``_id`` stays in any case. Pure. Called by render.py. Source: docs/reference/webhook.md, "Fields".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias

import msgspec

from schemas.webhooks import Fields

Project = Callable[[bytes], bytes]
"""A normalised document in, what leaves of it out."""

_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_items = msgspec.json.Decoder(list[msgspec.Raw]).decode
_encode = msgspec.json.encode

Tree: TypeAlias = "dict[str, Tree]"
"""Paths by their first name; nothing below: the path ends here, the whole value is meant."""


def projection(fields: Fields) -> Project | None:
    """What the fields do to a document; None: nothing."""
    included, excluded = _tree(fields.include), _tree(fields.exclude)
    if not included and not excluded:
        return None
    if included:
        included["_id"] = {}
    excluded.pop("_id", None)

    def project(document: bytes) -> bytes:
        if included:
            document = _only(document, included) or b"{}"
        return _without(document, excluded) if excluded else document

    return project


def _tree(paths: Iterable[str]) -> Tree:
    root: Tree = {}
    for path in sorted(paths, key=lambda path: path.count(".")):
        *way, last = path.split(".")
        at = root
        for name in way:
            if at.get(name) == {}:  # a shorter path names the whole of it
                break
            at = at.setdefault(name, {})
        else:
            at[last] = {}
    return root


def _only(value: bytes, wanted: Tree) -> bytes | None:
    """What the paths name of a value; None when it has no properties, so that they name nothing of it."""
    if value.startswith(b"["):
        return _encode([msgspec.Raw(kept) for item in _items(value) if (kept := _only(bytes(item), wanted)) is not None])
    if not value.startswith(b"{"):
        return None
    found = {}
    for name, inner in _members(value).items():
        if name in wanted:
            below = wanted[name]
            kept = _only(bytes(inner), below) if below else bytes(inner)
            if kept is not None:
                found[name] = msgspec.Raw(kept)
    return _encode(found)


def _without(value: bytes, unwanted: Tree) -> bytes:
    """The value without what the paths name."""
    if value.startswith(b"["):
        return _encode([msgspec.Raw(_without(bytes(item), unwanted)) for item in _items(value)])
    if not value.startswith(b"{"):
        return value
    found = {}
    for name, inner in _members(value).items():
        below = unwanted.get(name)
        if below is None:
            found[name] = inner
        elif below:
            found[name] = msgspec.Raw(_without(bytes(inner), below))
    return _encode(found)
