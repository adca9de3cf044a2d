"""
The URL of a webhook, which may be a template behind host and port. Read for ``webhook_validation.py``. Pure.

Source: docs/reference/webhook.md; RFC 3986.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import SplitResult, urlsplit

from schemas.mustache import literals, parse, variables
from schemas.reader import as_text, shown
from schemas.webhook_checks import Checks, TargetCheck

URL_CHARS_MAX = 8_192


def check_url(value: Any, checks: Checks) -> str:
    """
    A URL that may be called, as far as the text tells.

    Raises:  ValueError.
    """
    text = as_text(value)
    if not 1 <= len(text) <= URL_CHARS_MAX:
        raise ValueError(f"has {len(text):,} characters, must have 1 to {URL_CHARS_MAX:,}")
    _check_fixed(_fixed_part(text) if "{{" in text else text, checks)
    return text


def _fixed_part(template: str) -> str:
    """The URL without its tags, which stand behind the host and port and write nothing that is not encoded."""
    nodes = parse(template)
    if not nodes or not isinstance(nodes[0], str) or not re.match(r"[A-Za-z]+://[^/?#]+[/?]", nodes[0]):
        raise ValueError("has {{…}} in its scheme, host or port: it may stand only behind them, after / or ?")
    if any(variable.is_raw for variable in variables(nodes)):
        raise ValueError("has {{{…}}} or {{&…}}: in a URL every value is percent-encoded, write {{…}}")
    return "".join(literals(nodes))


def _check_fixed(text: str, checks: Checks) -> None:
    if not re.fullmatch(r"[\x21-\x7e]+", text):
        raise ValueError("has a space, a control character or a sign beyond ASCII: percent-encode it")
    try:
        parts = urlsplit(text)
    except ValueError as error:
        raise ValueError("has an IPv6 address that is none, or without its brackets") from error
    schemes = ("https", "http") if checks.allow_private else ("https",)
    if parts.scheme not in schemes:
        raise ValueError("must begin with https://, or http:// where private targets are allowed (ALLOW_PRIVATE)")
    if "@" in parts.netloc:
        raise ValueError("holds a user or password: use auth.basic")
    if parts.fragment or text.endswith("#"):
        raise ValueError("has a fragment (#…), which no receiver ever sees")
    _check_host(parts, checks.target)


def is_callable_port(port: int) -> bool:
    """Whether webhooks may be sent to this port: below 1024 are services of other kinds. Holds for every call, too (egress.py)."""
    return port in (80, 443) or port >= 1024


def _check_host(parts: SplitResult, check_target: TargetCheck) -> None:
    if not parts.hostname or not re.fullmatch(r"[a-z0-9_.-]+|[0-9a-f:.]+(%[\w.-]+)?", parts.hostname):
        raise ValueError("has no host name that could be called")
    port = _port(parts)
    if not is_callable_port(port):
        raise ValueError(f"has port {port}, must be 80, 443 or from 1024")
    if (why := check_target(parts.hostname, port)) is not None:
        raise ValueError(why)


def _port(parts: SplitResult) -> int:
    try:
        return {"https": 443, "http": 80}[parts.scheme] if parts.port is None else parts.port
    except ValueError:
        raise ValueError(f"has the port {shown(parts.netloc.rpartition(':')[2])}, must be 80, 443 or a number from 1024 to 65535") from None
