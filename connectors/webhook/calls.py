"""One HTTP call as data: what is asked, and what came of it. Between render.py, http.py, retry.py and attempts.py."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

import msgspec

from connectors.webhook.tls import Trust
from schemas.attempts import ErrorCode

Headers = tuple[tuple[str, str], ...]


class OAuthClient(msgspec.Struct, frozen=True, gc=False):
    """Who asks for access tokens, and where: the OAuth 2.0 client credentials of a webhook."""

    token_url: str
    client_id: str
    client_secret: str
    scope: str = ""

    def __repr__(self) -> str:
        return f"OAuthClient({self.client_id!r})"


class Request(msgspec.Struct, frozen=True, gc=False):
    """
    A call to make; the sender adds Host, Content-Length and what the connection needs.

    names, values: of its headers. Names are the same from call to call, so that what follows from them can be kept.
    refusal:  why it must not be sent, when it could not be made as its webhook says.
    oauth:    whose access token goes with it; tokens.py adds that.
    identity: the certificate to show, and whom to trust instead of the usual authorities; connections are never shared with another one.
    delivery_id: the webhook-id among its headers.
    """

    method: str
    url: str
    names: tuple[str, ...]
    values: tuple[str, ...]
    body: bytes
    refusal: str | None = None
    oauth: OAuthClient | None = None
    identity: Trust | None = None
    delivery_id: str = ""

    @property
    def headers(self) -> Headers:
        """Names with their values."""
        return tuple(zip(self.names, self.values, strict=True))

    def with_header(self, name: str, value: str) -> Request:
        """The same with one header more."""
        return msgspec.structs.replace(self, names=(*self.names, name), values=(*self.values, value))

    def __repr__(self) -> str:
        return f"Request({self.method!r}, {len(self.body)} bytes)"  # url, headers and body may hold secrets


def request_of(method: str, url: str, headers: Headers, body: bytes, **others: Any) -> Request:
    """A request with its headers as pairs; ``others``: further fields."""
    return Request(method, url, tuple(name for name, _ in headers), tuple(value for _, value in headers), body, **others)


class Response(msgspec.Struct, frozen=True, gc=False):
    """An answer, whatever it says; ``body`` is its beginning, as it came (not unpacked)."""

    status: int
    headers: Headers = ()
    body: bytes = b""
    body_truncated: bool = False

    def header(self, name: str) -> str | None:
        """The first header of that lower-case name."""
        return next((value for found, value in self.headers if found.lower() == name), None)


class Failure(msgspec.Struct, frozen=True, gc=False):
    """No whole answer came; ``detail`` is for a person and holds no secrets."""

    code: ErrorCode
    detail: str


_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
_VALUE = re.compile(r"[\t\x20-\x7e]*", re.ASCII)
_TARGET = re.compile(r"https?://[\x21-\x7e]+", re.ASCII | re.IGNORECASE)


def unsendable(request: Request) -> str | None:
    """
    Why the request cannot be sent by anybody, or None; shows nothing of its values.

    Checked before a connection is made: a line break in a header would be a second request. Source: RFC 9110, 5.1 and 5.5.
    """
    if request.refusal is not None:
        return request.refusal
    for name, value in request.headers:
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            return "a header is not one line of ASCII"
    if not _TARGET.fullmatch(request.url):
        return "the URL is no http or https URL in ASCII"
    try:
        parts = urlsplit(request.url)
        return None if parts.hostname and parts.port != 0 else "the URL has no host that could be called"
    except ValueError:
        return "the URL cannot be read"
