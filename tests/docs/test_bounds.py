"""docs/explanation/bounds.md says what the code says: numbers, tests, and no queue, cache or pool beside it."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/explanation/bounds.md").read_text()
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line.startswith("| ") and line.count("|") == 5
]
FACTS = [row for row in ROWS if row[0] != "what"]
SHIPPED = ("schemas", "streams", "connectors", "livehook")
KEEPS = re.compile(r"\b(?:deque|OrderedDict|Queue|Semaphore|ThreadPoolExecutor|lru_cache)\(|@kept\(")
UNITS = {"KiB": 1024, "MiB": 1024**2}
OF_TESTS = "testing.py"
NUMBER = re.compile(r"([\d,]+)(?: (KiB|MiB))?[a-z ]* \(`([A-Z_]+)`\)")


def numbers(row: list[str]) -> list[tuple[int, str]]:
    """Each number that the page gives, and the constant that it is."""
    return [(int(value.replace(",", "")) * UNITS.get(unit, 1), name) for value, unit, name in NUMBER.findall(row[1])]


@pytest.mark.parametrize("row", FACTS, ids=lambda row: row[0])
def test_a_bound_is_the_one_of_the_code(row):
    """The file is there, and so are its constants, with these values."""
    modules = [importlib.import_module(path.removesuffix(".py").replace("/", ".")) for path in re.findall(r"`([\w/]+\.py)`", row[2])]
    assert modules
    for value, name in numbers(row):
        assert [value] == [getattr(module, name) for module in modules if hasattr(module, name)], name
    assert row[1].count("(`") == len(numbers(row))


@pytest.mark.parametrize("named", sorted({name for row in FACTS for name in re.findall(r"`(tests/[^`]+)`", row[3])}))
def test_a_flood_that_is_named_exists(named):
    """A test that was renamed is renamed here too."""
    path, _, test = named.partition("::")
    assert f"def {test}(" in (ROOT / path).read_text() if test else (ROOT / path).exists()


def test_nothing_is_kept_that_is_not_named():
    """Whoever adds a queue, a cache or a pool says here how large it may become."""
    files = [path for folder in SHIPPED for path in sorted((ROOT / folder).rglob("*.py")) if path.name != OF_TESTS]
    keeping = {str(path.relative_to(ROOT)) for path in files if KEEPS.search(path.read_text())}
    assert keeping
    assert set() == keeping - {path for row in FACTS for path in re.findall(r"`([\w/]+\.py)`", row[2])}


def test_no_cache_is_without_a_bound():
    """functools.cache is one, unless it keeps the one answer of a function without parameters; and so is lru_cache(None)."""
    endless = re.compile(r"@(functools\.)?cache\n(async )?def \w+\([^)]|lru_cache\((maxsize=)?None")
    found = {str(path) for folder in SHIPPED for path in (ROOT / folder).rglob("*.py") if endless.search(path.read_text())}
    assert set() == found
