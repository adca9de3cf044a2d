"""The documentation holds together: links lead somewhere, examples can be read by what they are for."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md"), *(ROOT / "livehook").rglob("*.md")])
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def title(page: Path) -> str:
    return str(page.relative_to(ROOT))


def prose(page: Path) -> str:
    """The page without its examples and `code`."""
    return re.sub(r"`[^`\n]*`", "", FENCE.sub("", page.read_text()))


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(page: Path) -> Iterator[str]:
    return (link for link in LINK.findall(prose(page)) if not re.match(r"[a-z]+:", link))


def examples(language: str) -> list[Any]:
    found = [(page, text) for page in PAGES for name, text in FENCE.findall(page.read_text()) if name == language]
    return [pytest.param(text, id=f"{title(page)}-{number}") for number, (page, text) in enumerate(found)]


@pytest.mark.parametrize("page", PAGES, ids=title)
def test_links_lead_somewhere(page):
    """A relative link names a file that is there, and a heading in it."""
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def strict_json(text: str) -> Any:
    return json.loads(text, parse_constant=refuse)


def refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")


def compiled(text: str) -> Any:
    return compile(text, "example", "exec")


@pytest.mark.parametrize("text", examples("json"))
def test_json_examples_are_json(text):
    """What stands under `json` can be copied as it is."""
    assert strict_json(text)


@pytest.mark.parametrize(
    ("read", "text"),
    [
        pytest.param(read, *param.values, id=param.id)
        for language, read in {"yaml": yaml.safe_load, "toml": tomllib.loads, "python": compiled}.items()
        for param in examples(language)
    ],
)
def test_other_examples_can_be_read(read: Callable[[str], Any], text: str):
    """YAML, TOML and Python examples have no slip that a reader would have to mend."""
    assert read(text) is not None


def test_every_page_can_be_found():
    """docs/README.md leads to every page of the documentation."""
    index = ROOT / "docs/README.md"
    listed = {(index.parent / link.partition("#")[0]).resolve() for link in links(index)}
    assert set() == set((ROOT / "docs").rglob("*.md")) - listed - {index}


def test_every_example_names_its_language():
    """A fence without a language is not checked, so there is none; output and diagrams are `text`."""
    bare = [title(page) for page in PAGES for name, _ in FENCE.findall(page.read_text()) if not name]
    assert [] == bare


def test_no_gap_is_left_to_fill_in():
    """A number that is to be measured stands as @NAME@ until it is."""
    gaps = {title(page): found for page in PAGES if (found := re.findall(r"@[A-Z_]+@", page.read_text()))}
    assert {} == gaps
