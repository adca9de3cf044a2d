"""``start`` of a webhook: which changes it takes in, and what is refused."""

import re

import pytest

from schemas.starts import check_start, first_txn

NOW_US = 1_790_000_000_000_000


@pytest.mark.parametrize(
    ("start", "txn_id"),
    [("now", None), ("beginning", 0), ("txn:17", 17), ("1970-01-01T00:00:01Z", 1_000_000), ("1970-01-01T01:00:01.000002+01:00", 1_000_002)],
)
def test_a_start_is_a_number(start, txn_id):
    """Since a txnId is a time, every start is the lowest txnId that it takes in."""
    assert txn_id == first_txn(start)
    assert start == check_start(start, NOW_US)


@pytest.mark.parametrize(
    ("start", "message"),
    [
        ("9999-12-31T23:59:59-14:00", "is '9999-12-31T23:59:59-14:00', which is in the future: it is 2026-09-21T14:13:20.000000Z now"),
        ("2030-01-01T00:00:00Z", "is '2030-01-01T00:00:00Z', which is in the future: it is 2026-09-21T14:13:20.000000Z now"),
        ("txn:1790000000000001", "is txn:1790000000000001, and there is no such txnId yet: now would be txn:1790000000000000"),
        ("txn:12345678901234567", "is 'txn:12345678901234567', must be now, beginning, a time with an offset (RFC 3339) or txn:N"),
        ("", "is '', must be now, beginning, a time with an offset (RFC 3339) or txn:N"),
    ],
)
def test_what_is_no_start_is_refused(start, message):
    """A start that lies ahead, or is none, says what would be right."""
    with pytest.raises(ValueError, match=re.escape(message)):
        check_start(start, NOW_US)
