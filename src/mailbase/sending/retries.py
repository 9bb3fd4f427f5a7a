"""When a letter that was refused for now is tried again.

Attempt 1 is followed after 5 minutes, then 10, 20, 40, 80 minutes, then every 4 hours; the seventeenth is the last one
within 48 hours. A time the other side named is honoured instead. Every delay is spread by ±20 %, so that what was refused
together does not come back together.
"""

from datetime import timedelta
from random import Random
from typing import Final

MINUTES: Final = (5, 10, 20, 40, 80)
EVERY: Final = 240
ATTEMPTS: Final = 17
SPREAD: Final = 0.2
SHORTEST: Final = timedelta(seconds=30)
LONGEST: Final = timedelta(hours=4)


def delay(attempts: int, *, retry_after: int | None, random: Random) -> timedelta | None:
    """Return how long to wait after this many attempts, or None when it was the last one.

    ``retry_after`` is in seconds; it is kept within half a minute and four hours, and only ever spread upwards.
    """
    if attempts >= ATTEMPTS:
        return None
    if retry_after is not None:
        asked = min(max(timedelta(seconds=retry_after), SHORTEST), LONGEST)
        return asked * (1 + random.uniform(0, SPREAD))
    minutes = MINUTES[attempts - 1] if 1 <= attempts <= len(MINUTES) else EVERY
    return timedelta(minutes=minutes) * (1 + random.uniform(-SPREAD, SPREAD))
