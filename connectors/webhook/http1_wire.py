"""
HTTP/1.1 as bytes, without any I/O: a request goes out as :func:`encoded`, an answer comes in through an :class:`AnswerReader`.

Used by http1.py for every call, so what does not change from call to call is kept: the request line of a URL, the checks of header names.
Source: RFC 9112; RFC 9110.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple
from urllib.parse import urlsplit

import httptools

from connectors.webhook.calls import Failure, Request, Response, unsendable
from connectors.webhook.http import READ_BYTES_MAX, text_of
from connectors.webhook.tls import Trust
from schemas.attempts import BODY_BYTES_MAX, ErrorCode
from schemas.kept import kept

HEAD_BYTES_MAX = 64 * 1024
INFORMATIONAL_MAX = 16
# With the framing and trailers that count for no body: chunks of one byte take six.
WIRE_BYTES_MAX = 16 * READ_BYTES_MAX
URLS_KEPT = 4_096
URL_CHARS_KEPT = 1_024
ANSWERS_KEPT = 64
ANSWER_BYTES_KEPT = 1_024
PORTS = {"http": 80, "https": 443}

# A line break in a header would be a second request; a tab is the one control character that may stand there (RFC 9110, 5.5).
_CONTROLS = bytes({*range(0x20), 0x7F} - {0x09})


class Unsendable(ValueError):
    """Nobody could send this request; the message shows nothing of its values."""


class Origin(NamedTuple):
    """Where connections lead to, and as whom; one made for an origin serves every URL of it."""

    scheme: str
    host: str
    port: int
    identity: Trust | None = None

    @property
    def is_tls(self) -> bool:
        """Whether its connections are encrypted."""
        return self.scheme == "https"


def encoded(request: Request) -> tuple[Origin, bytes]:
    """
    Where a request goes, and its head, up to the empty line.

    Raises:  Unsendable.
    """
    if request.refusal is not None:
        raise Unsendable(request.refusal)
    origin, start = _line(request.method, request.url)
    if request.identity is not None:
        origin = origin._replace(identity=request.identity)
    template, breaks = _template(request.names)
    try:
        lines = (template % (*request.values, len(request.body))).encode("ascii")
    except UnicodeEncodeError:
        raise Unsendable("a header is not one line of ASCII") from None
    # Exactly the line breaks of the template: no header has brought one along.
    if len(lines.translate(None, _CONTROLS)) != len(lines) - 2 * breaks:
        raise Unsendable("a header is not one line of ASCII")
    return origin, start + lines


@kept(URLS_KEPT, lambda method, url: len(url) <= URL_CHARS_KEPT)  # of a template, the URL is of a document
def _line(method: str, url: str) -> tuple[Origin, bytes]:
    """The origin of a URL, and the request line with the Host header; raises Unsendable."""
    if (why := unsendable(Request(method, url, (), (), b""))) is not None:
        raise Unsendable(why)
    parts = urlsplit(url)
    if not (method.isascii() and method.isalpha()) or "@" in parts.netloc:
        raise Unsendable("the method is none, or the URL holds a user")
    host = (parts.hostname or "").replace("%25", "%")  # the zone of an IPv6 address: RFC 6874
    usual = PORTS[parts.scheme]
    origin = Origin(parts.scheme, host, parts.port or usual)
    shown = host.partition("%")[0]
    shown = f"[{shown}]" if ":" in shown else shown
    port = "" if origin.port == usual else f":{origin.port}"
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return origin, f"{method} {target} HTTP/1.1\r\nhost: {shown}{port}\r\n".encode("ascii")


@lru_cache(maxsize=URLS_KEPT)
def _template(names: tuple[str, ...]) -> tuple[str, int]:
    """
    What follows on the request line and Host, with %s and %d for the values and the length of the body; and its line breaks.

    Raises:  Unsendable: one of them is no name.
    """
    if (why := unsendable(Request("POST", "http://x", names, ("",) * len(names), b""))) is not None:
        raise Unsendable(why)
    given = {name.lower() for name in names}
    defaults = (("accept", "*/*"), ("accept-encoding", "identity"))
    lines = [f"{name.replace('%', '%%')}: %s" for name in names]
    lines += [f"{name}: {value}" for name, value in defaults if name not in given]
    lines += ["content-length: %d", ""]
    return "\r\n".join(lines) + "\r\n", len(lines)


class AnswerReader:
    """
    Reads the answers of one connection, one after the other, from pieces as the network divides them.

    answer:       the present one, once it is known; a failure when what came is none.
    is_reusable:  that answer was whole, nothing came after it, and the receiver does not close.
    has_begun:    a byte of it has come.

    Guarantees:  holds at most HEAD_BYTES_MAX and BODY_BYTES_MAX, and one piece; a body is kept as it came, not unpacked.
    """

    __slots__ = (
        "_body",
        "_body_bytes",
        "_headers",
        "_in_body",
        "_informational",
        "_kept_bytes",
        "_parser",
        "_status",
        "_wire_bytes",
        "answer",
        "is_reusable",
    )

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self.begin()

    def begin(self) -> None:
        """The next answer is to come; only after one that is reusable."""
        self._headers: list[tuple[bytes, bytes]] = []
        self._body: list[bytes] = []
        self._kept_bytes = self._body_bytes = self._wire_bytes = self._informational = self._status = 0
        self._in_body = False
        self.answer: Response | Failure | None = None
        self.is_reusable = False

    @property
    def has_begun(self) -> bool:
        """A byte of the present answer has come."""
        return self._wire_bytes > 0

    def feed(self, data: bytes) -> Response | Failure | None:
        """Take in a piece; the answer as soon as it is known."""
        is_first = self._wire_bytes == 0
        self._wire_bytes += len(data)
        if is_first and (known := _ANSWERS.get(data)) is not None:
            self.answer, self.is_reusable = known, True
            return known
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._fail(ErrorCode.PROTOCOL, f"what came is no HTTP: {text_of(error)}")
        if self.answer is None:
            self._check_size()
        elif is_first and self.is_reusable and len(data) <= ANSWER_BYTES_KEPT:
            _keep(data, self.answer)
        return self.answer

    def end(self) -> Response | Failure:
        """The connection has ended, and was not lost: for a body without a length this is how it ends (RFC 9112, 6.3)."""
        if self.answer is None and self._in_body and self._lasts_until_end():
            self._complete()
        if self.answer is None:
            begun = "was whole" if self.has_begun else "began"
            self._fail(ErrorCode.RESET, f"the connection ended before the answer {begun}")
        self.is_reusable = False
        assert self.answer is not None  # noqa: S101
        return self.answer

    def release(self) -> None:
        """No answer is to come any more: let go of the parser, which holds this reader."""
        del self._parser

    # What httptools calls. It goes on with what follows an answer, which is nobody's.

    def on_message_begin(self) -> None:
        if self.answer is not None:
            self.is_reusable = False

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_body:  # then it is a trailer
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        if self.answer is not None:
            return
        self._status = status = self._parser.get_status_code()
        if self._wire_bytes > HEAD_BYTES_MAX and sum([len(name) + len(value) for name, value in self._headers]) > HEAD_BYTES_MAX:
            self._fail(ErrorCode.TOO_LARGE, "the head of the answer is too large")
        elif status == 101:
            self._fail(ErrorCode.PROTOCOL, "the receiver wants to change the protocol, which nobody asked for")
        elif status < 100:
            self._fail(ErrorCode.PROTOCOL, f"{status} is no status")
        self._in_body = True

    def on_body(self, body: bytes) -> None:
        if self.answer is not None:
            return
        self._body_bytes += len(body)
        if self._kept_bytes < BODY_BYTES_MAX:
            self._body.append(body[: BODY_BYTES_MAX - self._kept_bytes])
            self._kept_bytes += len(self._body[-1])
        if self._body_bytes > READ_BYTES_MAX:
            self._complete()

    def on_message_complete(self) -> None:
        if self.answer is not None:
            return
        if self._status >= 200:
            self._complete()
            self.is_reusable = self._parser.should_keep_alive()
            return
        self._informational += 1
        self._headers, self._in_body = [], False
        if self._informational > INFORMATIONAL_MAX:
            self._fail(ErrorCode.PROTOCOL, f"more than {INFORMATIONAL_MAX} informational answers came")

    def _complete(self) -> None:
        headers = tuple([(name.decode("latin-1"), value.decode("latin-1")) for name, value in self._headers])
        self.answer = Response(self._status, headers, b"".join(self._body), self._body_bytes > self._kept_bytes)

    def _fail(self, code: ErrorCode, detail: str) -> None:
        self.is_reusable = False
        if self.answer is None:
            self.answer = Failure(code, detail)

    def _check_size(self) -> None:
        if not self._in_body and self._wire_bytes > HEAD_BYTES_MAX:
            self._fail(ErrorCode.TOO_LARGE, "the head of the answer is too large")
        elif self._wire_bytes > WIRE_BYTES_MAX:
            self._body_bytes += 1  # whatever there is in it, its end was not seen
            self._complete()

    def _lasts_until_end(self) -> bool:
        headers = {name.lower(): value for name, value in self._headers}
        coding = headers.get(b"transfer-encoding")
        if coding is not None:
            return not coding.rstrip().lower().endswith(b"chunked")
        return b"content-length" not in headers


_ANSWERS: dict[bytes, Response] = {}
"""Whole answers that came in one piece and left their connection reusable: what a receiver says a thousand times is read once."""


def _keep(data: bytes, answer: Response | Failure) -> None:
    if isinstance(answer, Response):
        if len(_ANSWERS) >= ANSWERS_KEPT:
            del _ANSWERS[next(iter(_ANSWERS))]
        _ANSWERS[data] = answer
