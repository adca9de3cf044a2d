"""
Rules of templates: the syntax and meaning of Mustache, and how values are written.

The specification's own cases run too where LIVEHOOK_MUSTACHE_SPEC names its folder ``specs``, or a copy as chevron-ng's sources have one.
"""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from connectors.webhook.spans import Span
from connectors.webhook.template import JSON, MARKUP, PLAIN, STEPS_MAX, Template, TemplateError, escaping_of
from schemas.mustache import CHARS_MAX, LEVELS_MAX, TAGS_MAX, BadTemplate, parse

CASES = yaml.safe_load((Path(__file__).parent / "mustache_cases.yaml").read_text())
SPECIFICATION = os.environ.get("LIVEHOOK_MUSTACHE_SPEC")


def span(value: Any) -> Span:
    return Span(json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode())


def rendered(text: str, value: Any, escaping=MARKUP) -> str:
    return Template(text, escaping).render(span(value)).decode()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_mustache(case):
    """Each rule of the specification's required parts, but for partials."""
    assert case["expected"] == rendered(case["template"], case["data"])


@pytest.mark.skipif(SPECIFICATION is None, reason="LIVEHOOK_MUSTACHE_SPEC is not set")
@pytest.mark.parametrize("part", ["comments", "delimiters", "interpolation", "inverted", "sections", "partials"])
def test_the_specifications_own_cases(part):
    """All that use no partial pass as they stand there; those that do are refused."""
    for case in json.loads((Path(str(SPECIFICATION)) / f"{part}.json").read_text())["tests"]:
        if "partials" in case:
            with pytest.raises(BadTemplate, match="partial"):
                parse(case["template"])
        else:
            assert case["expected"] == rendered(case["template"], case["data"]), case["name"]


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{a", "cannot be read: unclosed tag at line 1"),
        ("a {{", "ends with a tag that is not closed"),
        ("a\n{{b", "cannot be read: unclosed tag at line 2"),
        ("{{}}", "has a tag with nothing in it"),
        ("{{#a}}", 'cannot be read: Unexpected EOF the tag "a" was never closed was opened at line 1'),
        ("{{/a}}", 'cannot be read: Trying to close tag "a" Looks like it was not opened. line 1'),
        ("{{#a}}{{/b}}", 'cannot be read: Trying to close tag "b" last open tag is "a" line 1'),
        ("{{{a}}", "has {{{a, which does not end with }}}"),
        ("{{a..b}}", "has the name 'a..b': a dot has a name on both sides"),
        ("{{a. b}}", "has the name 'a. b': a dot has a name on both sides"),
        ("{{ }}", "has the name '': a dot has a name on both sides"),
        ("{{= =}}", "sets the delimiters '', must be two, without ="),
        ("{{=a b c=}}", "sets the delimiters 'a b c', must be two, without ="),
        ("{{>/etc/passwd}}", "has a partial, '/etc/passwd': a template stands alone, without partials, parents and blocks"),
        ("{{>*name}}", "has a partial, '*name': a template stands alone, without partials, parents and blocks"),
        ("{{<a}}{{/a}}", "has a parent, 'a': a template stands alone, without partials, parents and blocks"),
        ("{{$a}}{{/a}}", "has a block, 'a': a template stands alone, without partials, parents and blocks"),
        ("x" * (CHARS_MAX + 1), "has 65,537 characters, at most 65,536 are possible"),
        ("{{a}}" * (TAGS_MAX + 1), "has more than 1,000 tags"),
        ("{{#a}}" * (LEVELS_MAX + 1) + "{{/a}}" * (LEVELS_MAX + 1), "has sections nested deeper than 32"),
    ],
)
def test_what_is_no_template(template, message):
    """It is said with its line when it is registered, not when the first delivery fails."""
    with pytest.raises(BadTemplate) as refused:
        parse(template)
    assert message == str(refused.value)


VALUES = {"s": 'a"b\\c\n</p>&\u0001é', "n": 31, "t": True, "z": None, "o": {"k": 'v"'}, "l": [1, "x"]}


@pytest.mark.parametrize("name", [*VALUES, "nothing"])
def test_json_templates_give_json(name):
    """``{{x}}`` inside a string, ``{{{x}}}`` as a value of its own; null and what is not there are empty and null."""
    found = json.loads(rendered(f'{{"text": "<{{{{{name}}}}}>", "value": {{{{{{{name}}}}}}}}}', VALUES, JSON))
    value = VALUES.get(name)
    text = value if isinstance(value, str) else "" if value is None else json.dumps(value, separators=(",", ":"))
    assert {"text": f"<{text}>", "value": value} == found


def test_markup_is_escaped_and_holds_no_sign_that_xml_cannot():
    """Control characters have no way of being written in XML."""
    assert "a&quot;b\\c\n&lt;/p&gt;&amp;\ufffdé" == rendered("{{s}}", VALUES, MARKUP)
    assert VALUES["s"] == rendered("{{{s}}}", VALUES, MARKUP)


def test_plain_text_is_not_escaped():
    """A string as it reads, an object as JSON."""
    assert f'{VALUES["s"]} {{"k":"v\\""}} true ' == rendered("{{s}} {{o}} {{t}} {{z}}{{{z}}}", VALUES, PLAIN)


@pytest.mark.parametrize(
    ("content_type", "escaping"),
    [
        ("application/json", JSON),
        ("application/JSON; charset=utf-8", JSON),
        ("application/vnd.api+json", JSON),
        ("text/xml", MARKUP),
        ("application/soap+xml;charset=utf-8", MARKUP),
        ("text/html", MARKUP),
        ("application/xhtml+xml", MARKUP),
        ("text/plain", PLAIN),
        ("application/jsonlines", PLAIN),
    ],
)
def test_the_content_type_says_how_values_are_written(content_type, escaping):
    """JSON and XML in all their types; everything else is plain."""
    assert escaping is escaping_of(content_type)


def test_numbers_are_written_digit_for_digit():
    """As in the document's own bytes."""
    context = Span(b'{"a":1e2,"b":31.0,"c":123456789012345678901234567890}')
    assert b"1e2 31.0 123456789012345678901234567890" == Template("{{a}} {{{b}}} {{c}}", JSON).render(context)


def test_output_is_bounded():
    """Lists in lists multiply; neither the text nor the work does so without end."""
    data = {"l": [0] * 1_000, "s": "x" * 100_000}
    with pytest.raises(TemplateError, match=f"more than {STEPS_MAX:,} steps"):
        rendered("{{#l}}{{#l}}{{/l}}{{/l}}", data)
    with pytest.raises(TemplateError, match="too long"):
        rendered("{{#l}}{{s}}{{/l}}", data)


def test_nothing_of_python_shows():
    """Names are names of properties, never of attributes or methods."""
    assert "" == rendered("{{s.upper}}{{o.keys}}{{l.0}}{{s.__class__}}{{__doc__}}", VALUES)
