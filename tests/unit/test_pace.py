"""How much of the event loop backfills take."""

import pytest

from streams.pace import SHARE_MAX, SHARE_MIN, URGED_MAX, URGED_S, Pace, Urgency


@pytest.mark.parametrize(("live", "share"), [(0.0, SHARE_MAX), (0.5, SHARE_MAX - 0.5), (1.0, SHARE_MIN)])
def test_backfills_take_what_is_left_and_a_tenth_at_least(live, share):
    """A busy loop gives little, an idle one nearly all."""
    now, busy = iter([0.0, 10.0]), iter([0.0, 10.0 * live + 0.01])
    pace = Pace(now=lambda: next(now), busy=lambda: next(busy))
    assert pytest.approx(0.01 * (1 - share) / share) == pace.rest_s(0.01)


def test_a_backfill_that_does_not_come_nearer_to_its_end_gets_more_of_the_loop():
    """Half of it at most; one that comes nearer has no more than before."""
    urgency = Urgency()
    assert [SHARE_MIN] * 3 == [urgency.share(left, now_s) for left, now_s in ((100, 0.0), (100, URGED_S / 2), (99, URGED_S))]
    later = [urgency.share(100 + more, URGED_S * (more + 2)) for more in range(9)]
    assert later == sorted(later)
    assert pytest.approx(SHARE_MIN * 1.5) == later[0]
    assert URGED_MAX == later[-1]
    pace = Pace(now=iter([0.0, 10.0]).__next__, busy=iter([0.0, 10.01]).__next__)
    assert pytest.approx(0.01) == pace.rest_s(0.01, URGED_MAX)
