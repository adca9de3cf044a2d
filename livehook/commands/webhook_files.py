"""Webhooks in files: YAML or JSON in, with ``${NAME}`` filled from the environment; YAML out, with ``${NAME}`` where a secret stands."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import yaml

from livehook.exits import Wrong
from schemas import strict_json
from schemas.masking import name_secrets
from schemas.webhook_json import ANSWERED_ONLY, spec_json
from schemas.webhook_validation import check_name
from schemas.webhooks import State, WebhookSpec

SUFFIXES = (".yaml", ".yml", ".json")
FILE_BYTES_MAX = 64 * 1024 * 1024
VALUES_MAX = 1_000_000
LEVELS_MAX = strict_json.DEPTH_MAX
VARIABLE = re.compile(r"\$(\$\{|\{([A-Za-z_][A-Za-z0-9_]*)\})")
SYMBOLS = {"create": "+", "change": "~", "delete": "-", "none": "="}


class _Loader(yaml.SafeLoader):
    """YAML with JSON's types: a date stays the text it is, and a key stands once."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        for key in keys:
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} is no text: put it in quotes", node.start_mark)
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} comes twice", node.start_mark)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read(path: Path, environment: Mapping[str, str] = os.environ) -> dict[str, dict[str, Any]]:
    """
    The webhooks of a file, a folder of files, or stdin (``-``), by name.

    Raises:  Wrong: it cannot be read, is no webhook file or holds no webhook, a variable is not set, a name is missing or there twice.
    """
    found: dict[str, dict[str, Any]] = {}
    for source, content in _contents(path):
        for data in _webhooks(source, content):
            filled = fill(data, environment, source)
            name = filled.get("name")
            try:
                check_name(name)
            except ValueError as error:
                raise Wrong(f"{source}: name {error if name is not None else 'is missing'}") from error
            if name in found:
                raise Wrong(f"{source}: the webhook {name} is there twice")
            found[str(name)] = filled
    if not found:  # most likely the wrong folder, and with --prune every webhook would be deleted
        where = "stdin" if str(path) == "-" else path
        raise Wrong(f"{where} holds no webhook: give a YAML or JSON file with one, or a folder of such files")
    return found


def _contents(path: Path) -> Iterator[tuple[str, bytes]]:
    if str(path) == "-":
        yield "stdin", sys.stdin.buffer.read(FILE_BYTES_MAX)
        return
    try:
        files = sorted(file for file in path.iterdir() if file.suffix in SUFFIXES) if path.is_dir() else [path]
        for file in files:
            with file.open("rb") as opened:
                yield str(file), opened.read(FILE_BYTES_MAX)
    except OSError as error:
        raise Wrong(f"{path} cannot be read: {error.strerror}") from error


def _webhooks(source: str, content: bytes) -> list[dict[str, Any]]:
    try:
        if source.endswith(".json"):
            documents = [strict_json.decode(content)]
        else:
            documents = [document for document in yaml.load_all(content, _Loader) if document is not None]
            _measure(documents, source, {}, 0)
    except (yaml.YAMLError, strict_json.NotStrict, UnicodeDecodeError, RecursionError) as error:
        raise Wrong(f"{source}: {' '.join(str(error).split())}") from error
    webhooks = [webhook for document in documents for webhook in (document if isinstance(document, list) else [document])]
    for webhook in webhooks:
        if not isinstance(webhook, dict):
            raise Wrong(f"{source}: a webhook must be an object, or a list of them")
    return webhooks


def _measure(value: Any, source: str, known: dict[int, tuple[int, int]], level: int) -> tuple[int, int]:
    """
    How many values it holds and on how many levels, every alias (``*name``) filled in; each list and object is looked at once.

    Raises:  Wrong: too many or too deep, as whatever holds itself is.
    """
    if not isinstance(value, dict | list):
        return 1, 0
    found = known.get(id(value))
    if found is None and level <= LEVELS_MAX:
        inner = [_measure(one, source, known, level + 1) for one in (value.values() if isinstance(value, dict) else value)]
        found = known[id(value)] = 1 + sum(count for count, _ in inner), 1 + max((levels for _, levels in inner), default=0)
    if found is None or level + found[1] > LEVELS_MAX + 1:  # the list of a file's documents is one
        raise Wrong(f"{source} is nested deeper than {LEVELS_MAX} levels")
    if found[0] > VALUES_MAX:
        raise Wrong(f"{source} has more than {VALUES_MAX:,} values")
    return found


def fill(value: Any, environment: Mapping[str, str], source: str) -> Any:
    """
    The value with ``${NAME}`` in every string filled in; ``$${`` stands for ``${``.

    Raises:  Wrong: a variable is not set.
    """
    if isinstance(value, dict):
        return {name: fill(inner, environment, source) for name, inner in value.items()}
    if isinstance(value, list):
        return [fill(inner, environment, source) for inner in value]
    if not isinstance(value, str):
        return value

    def filled(match: re.Match[str]) -> str:
        if match[2] is None:
            return "${"
        if match[2] not in environment:
            raise Wrong(f"{source}: ${{{match[2]}}} is not set in the environment")
        return environment[match[2]]

    return VARIABLE.sub(filled, value)


def exported(webhook: Mapping[str, Any]) -> dict[str, Any]:
    """An answer of the API as :func:`read` takes it: without what is the default anyway, and without secrets."""
    # Escaped first: what a user wrote as ${ must come back as ${, while the names of secrets are to be filled in.
    named = name_secrets(_escaped({name: value for name, value in webhook.items() if name not in ANSWERED_ONLY}))
    if named["state"] == State.DISABLED:
        del named["state"]
    defaults = spec_json(WebhookSpec(name="", url=""))
    return {name: inner for name, value in named.items() if (inner := _without_defaults(value, defaults.get(name))) is not None}


def _without_defaults(value: Any, default: Any) -> Any:
    if value == default:
        return None
    if isinstance(value, dict) and isinstance(default, dict) and default:
        return {name: inner for name, inner in value.items() if inner != default.get(name)}
    return value


def _escaped(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _escaped(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_escaped(inner) for inner in value]
    return value.replace("${", "$${") if isinstance(value, str) else value


def to_yaml(webhooks: Sequence[Mapping[str, Any]]) -> str:
    """YAML, a document a webhook."""
    return yaml.safe_dump_all(webhooks, sort_keys=False, allow_unicode=True, default_flow_style=None, width=140)


def text_of(plan: Mapping[str, Any]) -> str:
    """What apply does to one webhook, for people."""
    verb = {"create": "made", "change": "changed", "delete": "deleted", "none": "unchanged"}[plan["action"]]
    lines = [f"{SYMBOLS[plan['action']]} {plan['name']}: {verb}"]
    lines += [f"    {change['field']}: {_json(change['from'])} -> {_json(change['to'])}" for change in plan["changes"]]
    return "\n".join(lines)


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
