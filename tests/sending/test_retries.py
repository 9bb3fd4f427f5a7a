"""When a letter that was refused for now is tried again."""

from datetime import timedelta
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailbase.sending.deliveries import retries
from mailbase.sending.outcomes import Outcome

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)


def refused(reply="4.3.0 try again later", *, code=451, phase="rcpt", retry_after=None):
    return Outcome(1, "deferred", code, None, reply, phase, retry_after=retry_after)


def after(outcome, *, attempts=1, since=timedelta(), seed=1, **more):
    return retries.after(outcome, attempts=attempts, since=since, random=Random(seed), **more)


@pytest.mark.parametrize(
    "reply",
    [
        "4.2.0 <a@b.example>: Recipient address rejected: Greylisted, see http://postgrey.schweikert.ch/help/b.example.html",
        "4.7.1 Greylisting in action, please come back later",
        "Graylisted - try again in a bit",
    ],
)
@given(st.integers())
def test_greylisting_comes_back_first_after_five_to_six_minutes(reply, seed):
    """A greylisted letter is tried again 5 to 6 minutes later."""
    retry = after(refused(reply), seed=seed)
    assert 5 * MINUTE <= retry.wait <= 6 * MINUTE
    assert retry.burnt


def test_greylisting_that_goes_on_follows_the_schedule():
    """A second greylisting waits longer."""
    assert after(refused("greylisted"), attempts=2).wait >= 8 * MINUTE


@given(st.integers(1, 200_000), st.integers(1, 30), st.integers())
def test_a_named_time_is_honoured(seconds, attempts, seed):
    """Nothing comes back before the time the other side named, up to a day, and the first ten times not much later."""
    wait = after(refused(retry_after=seconds), attempts=attempts, seed=seed).wait
    asked = min(max(timedelta(seconds=seconds), timedelta(seconds=30)), timedelta(days=1))
    assert asked <= wait
    if attempts <= 10:
        assert wait <= asked * 1.2


@pytest.mark.parametrize("phase", ["rcpt", "greeting"])
@pytest.mark.parametrize("rate", [False, True])
def test_in_a_minute_every_time_is_honoured_ten_times(phase, rate):
    """Whoever says "in a minute" every time is asked ten times like that, then by the schedule: some thirty times in two days."""
    random, since, attempts, waits = Random(1), timedelta(), 1, []
    said = refused("try again in 1 minute", retry_after=60, phase=phase)
    while (retry := retries.after(said, attempts=attempts, since=since, random=random, rate=rate)).wait is not None:
        waits.append(retry.wait)
        since += retry.wait
        attempts += retry.burnt
    early = sum(wait <= 1.2 * MINUTE for wait in waits[:-1])
    assert 8 <= early <= 10
    assert len(waits) <= 40


@given(st.integers(1, 40), st.integers())
def test_the_schedule(attempts, seed):
    """5, 10, 20, 40, 80 minutes, then every four hours, each spread by a fifth."""
    wait = after(refused(), attempts=attempts, seed=seed).wait
    planned = ([5, 10, 20, 40, 80] + [240] * 40)[attempts - 1] * MINUTE
    assert planned * 0.8 <= wait <= planned * 1.2


def test_a_recipient_who_gets_too_much_waits_alone():
    """Gmail's 4.2.1 holds this letter half an hour or more, even where a rule would take it for the provider's pace."""
    reply = "4.2.1 The user you are trying to contact is receiving mail at a rate that prevents additional messages from being delivered."
    for rate in (False, True):
        retry = after(refused(reply, code=450), rate=rate, held=None)
        assert retry.wait >= 30 * MINUTE
        assert retry.burnt


@given(st.floats(1, 20_000), st.integers(1, 40), st.integers())
def test_a_provider_held_back_burns_nothing(seconds, attempts, seed):
    """A letter refused for the provider's pace comes back when its override is over, soon after, at no cost."""
    held = timedelta(seconds=seconds)
    retry = after(refused("4.7.28 unusual rate", code=421), attempts=attempts, rate=True, held=held, seed=seed)
    assert held < retry.wait <= held + min(held / 5, 10 * MINUTE) + timedelta(seconds=10)
    assert not retry.burnt


def test_a_rate_refusal_before_any_override():
    """While a rule only counts, its letters wait a few minutes, at no cost, and longer the longer they have waited."""
    first, late = after(refused(), rate=True), after(refused(), rate=True, since=6 * HOUR)
    assert (first.burnt, late.burnt) == (False, False)
    assert first.wait <= 6 * MINUTE
    assert late.wait >= 2 * HOUR


def test_no_letter_ends_while_it_waits_for_its_turn():
    """What was refused once, two days ago, and has waited for room since is tried again; where they turn everybody away it ends."""
    waits = Outcome(1, "deferred", 0, None, "no room", "connect", retry_after=60, free=True)
    assert after(waits, since=60 * HOUR).wait >= MINUTE
    turned_away = Outcome(1, "deferred", 421, None, "not now", "connect", retry_after=60, free=True)
    assert after(turned_away, since=60 * HOUR).wait is None


def test_a_host_that_greets_with_a_refusal():
    """A refusal before a recipient was named is nobody's attempt."""
    retry = after(refused("4.3.2 not now", code=421, phase="greeting"))
    assert not retry.burnt


@given(
    st.sampled_from(["greylisted", "4.3.0 later", "user is receiving mail too quickly"]),
    st.booleans(),
    st.one_of(st.none(), st.integers(1, 90_000)),
    st.integers(),
)
def test_an_end_after_48_hours(reply, rate, retry_after, seed):
    """Whatever is said each time, the last attempt is within 48 hours of the first refusal, and near its end."""
    random, since, attempts, tries = Random(seed), timedelta(), 1, 0
    while True:
        retry = retries.after(
            refused(reply, retry_after=retry_after), attempts=attempts, since=since, random=random, rate=rate
        )
        if retry.wait is None:
            break
        assert retry.wait >= timedelta(seconds=30)
        since += retry.wait
        attempts += retry.burnt
        tries += 1
        assert tries < 10_000
    assert 48 * HOUR <= since <= 48 * HOUR + MINUTE
