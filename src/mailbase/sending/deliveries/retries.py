"""When a letter that was refused for now is tried again, by what the refusal was about.

==================  ==================================================================  ================
what                when                                                                burns an attempt
==================  ==================================================================  ================
greylisted          5–6 minutes after the first time, then as the schedule has it       yes
recipient's rate    ("receiving mail too quickly") half an hour or more; nobody else    yes
provider's rate     when the provider's override ends, a little spread                  no
us, for good        (a 5xx a rule on replies takes for our matter) the same, an hour     no
                    or more, later each time
the relay           (it will not relay for us, it says) later each time, by the          no
                    letter's age
the session         (a host that greets with 4xx) later each time, by the letter's age  no
its turn            (the provider has no room for it now) when there will be            no
anything else       5, 10, 20, 40, 80 minutes, then every 4 hours                       yes
==================  ==================================================================  ================

A time the other side named is honoured: never earlier, and for ten times its own word alone; whoever says "in a minute" every time
is asked as the schedule has it from then on. Every delay is spread, so that what was refused together does not come
back together. A letter that is refused 48 hours after the first time, or later, is given up, whatever burnt.
"""

import re
from datetime import timedelta
from random import Random
from typing import Final, Literal

from msgspec import Struct

from mailbase.sending.outcomes import Outcome

About = Literal["turn", "greylisting", "recipient_rate", "rate", "blocked", "session", "other"]

MINUTES: Final = (5, 10, 20, 40, 80)
EVERY: Final = 240
SPREAD: Final = 0.2
SHORTEST: Final = timedelta(seconds=30)
LONGEST: Final = timedelta(hours=24)
LIFETIME: Final = timedelta(hours=48)
HONOURED: Final = 10
"""So often, or for so many times the time they named, their word is enough."""
MINUTE: Final = timedelta(minutes=1)
HALF_AN_HOUR: Final = timedelta(minutes=30)
HALF_A_DAY: Final = timedelta(hours=12)
LATEST_SPREAD: Final = timedelta(minutes=10)
BEFORE_RECIPIENT: Final = frozenset({"connect", "greeting", "ehlo", "starttls", "auth", "mail"})

_GREYLISTED: Final = re.compile(
    r"gr[ae]y[ -]?list|postgrey|milter-greylist|temporarily greylisted|first time sender", re.IGNORECASE
)
_RECIPIENT_RATE: Final = re.compile(
    r"(user|recipient|mailbox|account|you are trying to contact)\b.{0,60}\b(too quickly|too fast|too many (messages|mails|emails)|rate (limit|that))",
    re.IGNORECASE,
)


class Retry(Struct, frozen=True):
    """``wait`` None: it is given up. ``burnt``: whether the attempt counts."""

    wait: timedelta | None
    burnt: bool = True


def about(outcome: Outcome, *, rate: bool) -> About:
    """Return what a refusal to be tried again is about; ``rate``: a rule says that it is the provider's pace, or our set-up."""
    if outcome.free:
        return "turn"
    if outcome.kind == "refused" or outcome.denied:
        return "blocked"
    if _GREYLISTED.search(outcome.reply):
        return "greylisting"
    if _RECIPIENT_RATE.search(outcome.reply):
        return "recipient_rate"
    if rate:
        return "rate"
    return "session" if outcome.phase in BEFORE_RECIPIENT else "other"


def after(
    outcome: Outcome,
    *,
    attempts: int,
    since: timedelta,
    random: Random,
    rate: bool = False,
    held: timedelta | None = None,
) -> Retry:
    """Return when to try again a letter that was refused for now, or for good but not for its own sake.

    ``attempts``: those that counted, this one included. ``since``: how long it has been refused. ``rate``: a rule on replies
    took the refusal for the provider's pace; ``held``: how long the provider is held back still.
    """
    what = about(outcome, rate=rate)
    burnt = what not in {"turn", "rate", "blocked", "session"}
    # Who only waits for room was not refused now.
    if since >= LIFETIME and (what != "turn" or outcome.code):
        return Retry(None, burnt)
    if what == "turn":
        named = timedelta(seconds=outcome.retry_after) if outcome.retry_after is not None else MINUTE
        return Retry(max(named, held or named) * (1 + random.uniform(0, SPREAD)), burnt)
    wait = _wait(what, attempts, since, held, random)
    if outcome.retry_after is not None:
        asked = min(max(timedelta(seconds=outcome.retry_after), SHORTEST), LONGEST)
        # What a provider's override says beside it holds as well; and nobody's word holds for ever.
        often = attempts > HONOURED if burnt else since > HONOURED * asked
        floor = wait if often or (what == "rate" and held is not None) else timedelta()
        wait = max(asked * (1 + random.uniform(0, SPREAD)), floor)
    # The last time is at the end of its life, not beyond.
    return Retry(min(wait, max(LIFETIME - since, SHORTEST)), burnt)


def _wait(what: About, attempts: int, since: timedelta, held: timedelta | None, random: Random) -> timedelta:
    match what:
        case "greylisting" if attempts <= 1:
            return timedelta(minutes=random.uniform(5, 6))
        case "rate" if held is not None:
            return _until(held, random)
        case "blocked" if held is not None:
            # Who said it for good is not to hear the same letter every hour of two days, at the cost of others' turns.
            return max(_until(held, random), _slower(since, random, HALF_A_DAY))
        case "rate" | "blocked" | "session":  # the first of them without an override yet
            return _slower(since, random)
        case "recipient_rate":
            return max(_schedule(attempts, random), HALF_AN_HOUR * (1 + random.uniform(0, SPREAD)))
        case _:
            return _schedule(attempts, random)


def _until(held: timedelta, random: Random) -> timedelta:
    return held + min(held * SPREAD, LATEST_SPREAD) * random.random() + timedelta(seconds=random.uniform(1, 10))


def _slower(since: timedelta, random: Random, longest: timedelta = EVERY * MINUTE) -> timedelta:
    """What no attempt counts slows down by itself: half as long again as it has been refused."""
    return _spread(min(max(since / 2, MINUTES[0] * MINUTE), longest), random)


def _schedule(attempts: int, random: Random) -> timedelta:
    return _spread(timedelta(minutes=MINUTES[attempts - 1] if 1 <= attempts <= len(MINUTES) else EVERY), random)


def _spread(wait: timedelta, random: Random) -> timedelta:
    return wait * (1 + random.uniform(-SPREAD, SPREAD))
