"""The forecast's arithmetic: sliding caps, days, and the last letter."""

from datetime import UTC, date, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from mailbase.campaigns.plan import DAY_WINDOW, HOUR_WINDOW, Allowance, _openings, _pieces, plan

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)


def test_without_a_cap_everything_goes_today():
    """No cap: one day, and the time a relay takes."""
    days, done = plan(1000, NOON, Allowance(None))
    assert [(day.date, day.count) for day in days] == [(date(2026, 3, 10), 1000)]
    assert NOON < done < NOON + timedelta(minutes=1)


def test_a_cap_of_fifty_takes_twenty_days_for_a_thousand():
    """1,000 letters at 50 a day: 50 on the first day and 950 after it, done in nineteen windows."""
    days, done = plan(1000, NOON, Allowance(50))
    assert days[0].count == 50
    assert sum(day.count for day in days) == 1000
    assert max(day.count for day in days) == 50
    assert done == NOON + 19 * DAY_WINDOW


def test_what_was_taken_today_is_not_there_again():
    """Letters taken earlier come free only when their window is over."""
    taken = [(NOON - timedelta(hours=2), 30), (NOON - timedelta(hours=1), 20)]
    days, done = plan(60, NOON, Allowance(50, DAY_WINDOW, taken))
    assert [day.date for day in days] == [date(2026, 3, 11), date(2026, 3, 12)]
    assert done == NOON - timedelta(hours=2) + 2 * DAY_WINDOW
    assert days[0].count == 50


def test_nothing_may_go_or_nobody_is_left():
    """A paused domain has no days and no end; neither has an empty campaign."""
    assert plan(5, NOON, Allowance(0)) == ([], None)
    assert plan(0, NOON, Allowance(None)) == ([], None)


taken = st.lists(st.tuples(st.integers(0, 143), st.integers(1, 80)), max_size=12, unique_by=lambda pair: pair[0])


@given(st.integers(1, 400), st.integers(1, 120), taken, st.sampled_from([DAY_WINDOW, HOUR_WINDOW]))
def test_no_window_holds_more_than_its_cap_and_everyone_gets_a_letter(letters, limit, past, window):
    """However much was taken before, the plan sends everybody's letter, no sooner than the cap allows."""
    earlier = sorted((NOON - window + number * window / 144, count) for number, count in past)
    allowance = Allowance(limit, window, earlier)
    days, done = plan(letters, NOON, allowance)
    pieces = [(at, count) for at, count in _pieces(letters, _openings(NOON, allowance), allowance) if count > 0]
    assert sum(count for _, count in pieces) == letters == sum(day.count for day in days)
    assert [day.date for day in days] == sorted({day.date for day in days})
    assert done >= pieces[-1][0]
    everything = earlier + pieces
    for at, _ in pieces:
        inside = [(when, count) for when, count in everything if at - window < when <= at]
        fresh = sum(count for when, count in inside if when >= NOON)
        old = sum(count for when, count in inside if when < NOON)
        # An older, larger cap may have left more behind than today's allows; then nothing new is added to it.
        assert fresh + old <= limit or fresh == 0
