"""The lines that `livehook dev` prints."""

import pytest

from livehook.demonstration import delivery_line
from schemas.attempts import Attempt, AttemptError, ErrorCode, Exchanged, Outcome

NOTHING = Exchanged({}, b"", body_truncated=False)


def attempt(document="airports/KSFO", outcome=Outcome.DELIVERED, status=200, error=None):
    response = None if status is None else Exchanged({}, b"", body_truncated=False, status=status)
    return Attempt("att", "demo", "msg", "airports", document, "create", 1, 1, "0", 1, 1_000_000, 2_600, outcome, NOTHING, response, error)


def failed(outcome, status, code):
    return attempt(outcome=outcome, status=status, error=AttemptError(code, "why"))


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (attempt(), "12:00:01.123  delivered  create  airports/KSFO -> demo  200  3 ms"),
        (failed(Outcome.RETRY, 503, ErrorCode.STATUS), "12:00:01.123  retry  create  airports/KSFO -> demo  503  3 ms"),
        (failed(Outcome.DEAD, None, ErrorCode.CONNECT), "12:00:01.123  dead  create  airports/KSFO -> demo  connect  3 ms"),
        (attempt("airports/\x1b[31m"), "12:00:01.123  delivered  create  airports/?[31m -> demo  200  3 ms"),
    ],
)
def test_a_delivery_is_a_line(shown, expected):
    """Time, outcome, match, document, webhook, status or error, duration; nothing in it can steer a terminal."""
    assert expected == delivery_line(shown, lambda us: {1_002_600: "12:00:01.123"}[us])
