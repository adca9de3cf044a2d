"""What the activity log makes of records, and the attempts that came last."""

from __future__ import annotations

import pytest

from connectors.activity.model import Letter
from connectors.activity.projection import project_attempts, project_letters
from connectors.activity.projector import TRIM_S, trim_for_a_while
from connectors.activity.recent import KEPT_MAX, Recent
from livehook.api.activity_input import cursor_of, number_of
from schemas.dead_letters import CONTROL_KEY, Settled, encode_control
from schemas.errors import BadRecord, Invalid, Reason
from schemas.positions import Position
from schemas.records import encode_attempt
from schemas.resends import Resend, encode_resend
from schemas.topics import Topics
from tests.activity import attempt

PLACE = Position(0, 7)
HEADERS = {"reason": b"exhausted", "detail": b"500", "source": b"livehook.deliveries.adults/0/3"}


def test_a_resend_is_no_attempt():
    """It stands in the same topic."""
    resend = Resend("rpl_1", None, 2, 5)
    assert resend == project_attempts(encode_resend(resend))


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"\xc3\x01unknown!of another kind", Reason.UNKNOWN_SCHEMA),
        (b"{}", Reason.UNDECODABLE),
        (encode_attempt(attempt(1))[:-5], Reason.UNDECODABLE),
        (encode_attempt(attempt(1, id="att_1")), Reason.INVALID),
    ],
)
def test_what_is_neither_is_told(value, reason):
    """The projector counts it and goes on."""
    with pytest.raises(BadRecord) as caught:
        project_attempts(value)
    assert reason == caught.value.reason


def test_a_search_finds_what_a_database_can_keep():
    """NUL has no place in PostgreSQL's texts."""
    row = project_attempts(encode_attempt(attempt(1, document="people/\0A")))
    assert "people/ a" in getattr(row, "text", "")


def test_a_letter_names_its_webhook():
    """By the lane that it comes from."""
    expected = Letter(PLACE, 9, "exhausted", "500", "livehook.deliveries.adults/0/3", "adults", b"k", b"v")
    assert expected == project_letters(PLACE, b"k", b"v", HEADERS, 9, Topics())


def test_a_letter_may_have_the_key_of_control_records():
    """Only what has no reason is about another letter."""
    settled = Settled("0-1", "discarded", 5)
    value = encode_control(settled)
    assert settled == project_letters(PLACE, CONTROL_KEY, value, {}, 9, Topics())
    assert isinstance(project_letters(PLACE, CONTROL_KEY, value, HEADERS, 9, Topics()), Letter)


@pytest.mark.parametrize(("key", "value"), [(b"k", b"v"), (CONTROL_KEY, None), (CONTROL_KEY, b'{"type":"other"}')])
def test_other_records_among_letters_are_told(key, value):
    """As those among attempts."""
    with pytest.raises(BadRecord):
        project_letters(PLACE, key, value, {}, 9, Topics())


def test_what_came_last_is_bounded():
    """By number and bytes; who is behind goes on with the oldest one kept."""
    recent = Recent("a")
    for number in range(KEPT_MAX + 5):
        recent.add(b"%d" % number)
    assert [(5, b"5"), (6, b"6")] == recent.since(0, 2)
    assert [(KEPT_MAX + 4, b"%d" % (KEPT_MAX + 4))] == recent.since(KEPT_MAX + 4, 10)
    assert [] == recent.since(recent.end, 10)
    for _ in range(3):
        recent.add(b"x" * 20 * 1024 * 1024)
    assert 1 == len(recent.since(0, 10))


@pytest.mark.parametrize("number", [0, 1, 2**62])
def test_a_cursor_is_what_it_was_made_of(number):
    """There and back."""
    assert number == number_of(cursor_of(number))


@pytest.mark.parametrize("text", ["", "x", "é", "AAAA", "AAAAAAAAAAAAAAAA"])
def test_other_cursors_are_refused(text):
    """By name."""
    with pytest.raises(Invalid, match="cursor"):
        number_of(text)


@pytest.mark.parametrize(
    ("each_s", "there", "done", "is_more"), [(0.01, 3, 4, False), (TRIM_S, 3, 1, True), (TRIM_S / 2, 9, 2, True), (9.0, 0, 1, False)]
)
def test_what_is_old_goes_for_a_while(each_s, there, done, is_more):
    """Several small hours at once, and never so many that what comes in waits for them."""
    looks = []

    def trim():
        looks.append(each_s)
        return len(looks) <= there

    assert is_more == trim_for_a_while(trim, lambda: sum(looks))
    assert done == len(looks)
