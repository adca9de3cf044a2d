"""Who may import whom: the house stays one in which streams and connectors meet only in topics."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAY_IMPORT: dict[str, set[str]] = {
    "schemas": set(),
    "streams": {"schemas"},
    "connectors": {"schemas"},
    "livehook": {"schemas", "streams", "connectors"},
}
NOT_SHIPPED = {"tests", "bench", "examples", "tools"}


def imported(source: str) -> set[str]:
    """The top-level packages that a file imports, inside functions and under TYPE_CHECKING too; "." is a relative import."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import():
                found |= {alias.name.split(".")[0] for alias in node.names}
            case ast.ImportFrom():
                found.add("." if node.level else str(node.module).split(".")[0])
            case _:
                pass
    return found


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import streams.query as q", {"streams"}),
        ("from connectors.kafka import admin", {"connectors"}),
        ("def f():\n    from livehook import settings", {"livehook"}),
        ("from .records import Change", {"."}),
        ("x = 'import streams'  # import livehook", set()),
    ],
)
def test_imports_are_found_wherever_they_stand(source, expected):
    """The rules below see an import in any of its forms, and nothing that only looks like one."""
    assert expected == imported(source)


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_room_imports_only_what_it_may(room):
    """schemas imports none of ours, streams and connectors only schemas; what is shipped imports nothing that is not."""
    forbidden = set(MAY_IMPORT) - MAY_IMPORT[room] - {room} | NOT_SHIPPED | {"."}
    files = sorted((ROOT / room).rglob("*.py"))
    assert files
    wrong = {str(file.relative_to(ROOT)): sorted(names) for file in files if (names := imported(file.read_text()) & forbidden)}
    assert {} == wrong
