"""Whatever a receiver sends, and however it is divided: one answer, the same one, within bounds."""

import tracemalloc
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.webhook.calls import Failure, Response
from connectors.webhook.http import READ_BYTES_MAX
from connectors.webhook.http1_wire import HEAD_BYTES_MAX, AnswerReader
from schemas.attempts import BODY_BYTES_MAX, ErrorCode

NAMES = st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=12).map(lambda name: f"x-{name}")
VALUES = st.text([chr(code) for code in range(0x21, 0x7F)], max_size=30)
BODIES = st.binary(max_size=3_000)


@st.composite
def wholes(draw) -> tuple[bytes, Response]:
    """An answer, and what must come of it."""
    status = draw(st.integers(200, 599).filter(lambda status: status not in (204, 304)))
    headers = draw(st.lists(st.tuples(NAMES, VALUES), max_size=5))
    body = draw(BODIES)
    if draw(st.booleans()):
        headers.append(("content-length", str(len(body))))
        sent = body
    else:
        headers.append(("transfer-encoding", "chunked"))
        sizes = draw(st.lists(st.integers(1, 1_000), max_size=5))
        sent, rest = b"", body
        for size in [*sizes, len(body)]:
            piece, rest = rest[:size], rest[size:]
            sent += b"%x\r\n%b\r\n" % (len(piece), piece) if piece else b""
        sent += b"0\r\n" + draw(st.sampled_from([b"", b"x: y\r\n"])) + b"\r\n"
    informational = draw(st.sampled_from([b"", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\n" * 2]))
    head = f"HTTP/1.1 {status} X\r\n" + "".join(f"{name}: {value}\r\n" for name, value in headers) + "\r\n"
    return informational + head.encode() + sent, Response(status, tuple(headers), body)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:end] for start, end in pairwise(places)]


def read(reader: AnswerReader, parts: list[bytes]) -> Response | Failure:
    for part in parts:
        if (answer := reader.feed(part)) is not None:
            return answer
    return reader.end()


@given(st.lists(st.tuples(wholes(), st.lists(st.integers(0, 10_000), max_size=6)), min_size=1, max_size=3))
def test_answers_on_one_connection_are_read_as_they_were_sent(answers):
    """Wherever they are cut, one after the other, and each leaves nothing behind for the next."""
    reader = AnswerReader()
    for (data, expected), cuts in answers:
        reader.begin()
        assert expected == read(reader, pieces(data, cuts))
        assert reader.is_reusable


@given(wholes(), st.lists(st.integers(0, 10_000), max_size=6), st.data())
def test_damage_has_a_typed_outcome(whole, cuts, data):
    """Bytes changed, taken away and put in: an answer, or one of three failures; what is kept is bounded."""
    damaged = bytearray(whole[0])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(damaged)))
        damaged[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
    found = read(AnswerReader(), pieces(bytes(damaged), cuts))
    if isinstance(found, Failure):
        assert found.code in (ErrorCode.PROTOCOL, ErrorCode.RESET, ErrorCode.TOO_LARGE)
    else:
        assert (True, True) == (100 <= found.status <= 999, len(found.body) <= BODY_BYTES_MAX)


@given(wholes(), st.binary(min_size=1, max_size=100).filter(lambda surplus: surplus.strip(b"\r\n")), st.integers(0, 100))
def test_bytes_after_an_answer_are_nobodys(whole, surplus, cut):
    """The answer is the same, and the connection is not used again."""
    reader = AnswerReader()
    assert whole[1] == read(reader, [whole[0] + surplus])
    assert not reader.is_reusable


@settings(deadline=None)  # memory is traced
@given(st.sampled_from([b"x", b"x: y\r\n", b"\r\n", b"HTTP/1.1 100 Continue\r\n\r\n", b"1\r\nx\r\n", b";x=y", b"0\r\n"]), st.integers(0, 3))
def test_no_answer_takes_more_than_its_bounds(endless, start):
    """Whatever is repeated without an end: an outcome after at most so many bytes, and memory for no more."""
    starts = [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"]
    piece = endless * (4_096 // len(endless))
    reader, fed = AnswerReader(), len(starts[start])
    found = reader.feed(starts[start]) if starts[start] else None
    tracemalloc.start()
    try:
        while found is None:
            found = reader.feed(piece)
            fed += len(piece)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert fed <= 16 * READ_BYTES_MAX + HEAD_BYTES_MAX + len(piece)
    assert most < 4 * 1024 * 1024
