"""Rules of durations."""

import pytest

from schemas.durations import BadDuration, seconds


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0s", 0), ("100ms", 0.1), ("5s", 5), ("1.5s", 1.5), ("5m", 300), ("2h", 7_200), ("5d", 432_000), ("365d", 31_536_000)],
)
def test_a_duration_is_a_number_and_a_unit(text, expected):
    """The five units of the reference."""
    assert expected == seconds(text)


@pytest.mark.parametrize(
    "text", ["", "5", "s", "-5s", "5 s", "5S", "5w", "1e3s", "\u0665s", "5s\n", "inf", "366d", "9" * 400 + "d", 5, None]
)
def test_what_is_no_duration_is_refused(text):
    """Anything else is refused, and so is more than a year."""
    with pytest.raises(BadDuration):
        seconds(text)
