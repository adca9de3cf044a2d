"""
Secrets in what is shown: masked in answers, kept when they come back masked, named as ``${…}`` in an export.

Pure; works on webhooks as JSON. Which headers count is the same for webhooks and for attempts.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

MASK = "****"
SECRET_HEADERS = frozenset({"authorization", "proxy-authorization", "cookie", "set-cookie"})
SECRET_WORDS = ("key", "token", "secret", "password")
SECRET_FIELDS = (
    ("secret",),
    ("auth", "basic", "password"),
    ("auth", "bearer", "token"),
    ("auth", "oauth2", "clientSecret"),
    ("auth", "mtls", "key"),
)

Path = tuple[str, ...]


def is_secret_header(name: str) -> bool:
    """Whether a header's value is never shown."""
    lower = name.lower()
    return lower in SECRET_HEADERS or any(word in lower for word in SECRET_WORDS)


def mask(webhook: Mapping[str, Any]) -> dict[str, Any]:
    """A webhook's JSON with every secret masked."""
    return _replaced(webhook, lambda path, value: MASK)


def keep_masked(wanted: Mapping[str, Any], present: Mapping[str, Any]) -> dict[str, Any]:
    """``wanted`` with every secret that came back masked taken from ``present``; one that ``present`` has not stays masked."""
    return _replaced(wanted, lambda path, value: (_at(present, path) or value) if value == MASK else value)


def name_secrets(webhook: Mapping[str, Any]) -> dict[str, Any]:
    """A webhook's JSON with ``${WEBHOOK_FIELD}`` where a secret stands, to be filled in from the environment."""
    return _replaced(webhook, lambda path, value: "${" + _variable(str(webhook.get("name", "")), path[-1]) + "}")


def _variable(*parts: str) -> str:
    # A variable's name may not begin with a digit; a webhook's may.
    return re.sub(r"^(?=\d)", "_", re.sub(r"[^A-Z0-9]+", "_", "_".join(parts).upper()))


def _replaced(webhook: Mapping[str, Any], replace: Callable[[Path, str], Any]) -> dict[str, Any]:
    found = copy.deepcopy(dict(webhook))
    for path in _secrets(found):
        parent = _at(found, path[:-1])
        parent[path[-1]] = replace(path, parent[path[-1]])
    return found


def _secrets(webhook: Mapping[str, Any]) -> Iterator[Path]:
    for path in SECRET_FIELDS:
        if isinstance(_at(webhook, path), str):
            yield path
    headers = webhook.get("headers")
    if isinstance(headers, Mapping):
        yield from [("headers", name) for name, value in headers.items() if isinstance(value, str) and is_secret_header(name)]


def _at(value: Any, path: Path) -> Any:
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value
