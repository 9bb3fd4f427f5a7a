"""What happens to letters over the days to come if nothing goes wrong: the rules themselves, played in time. Pure.

It is not a second set of rules: how many letters may go is asked of :func:`~mailbase.sending.warmup.keys.left`, whose turn it is
of :func:`~mailbase.sending.warmup.turns.even`, and a day is judged by the same share of its cap.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from datetime import date, datetime, timedelta
from typing import Final

from msgspec import Struct

from mailbase.sending.warmup import keys as warmup_keys
from mailbase.sending.warmup import rules as warmup_rules
from mailbase.sending.warmup.keys import Chosen, Key
from mailbase.sending.warmup.rules import TOTAL, UNKNOWN
from mailbase.sending.warmup.turns import Turn, even

LONGEST: Final = timedelta(days=400)
"""So far is played; what is left then goes on as on the last day."""
A_SECOND: Final = 100.0
"""Letters a way out takes; only where no cap is slower."""
FULL: Final = 0.9
"""A key that used so much of its cap is what held letters back that day."""
SMALL: Final = 0.01
"""A group of mail hosts with no more of the letters is not held for its own sake: it may have five times as many."""
MANY: Final = 16
"""With more providers than so many time goes by ten minutes, not from letter to letter."""
BUCKET: Final = warmup_keys.BUCKET
DAY: Final = timedelta(hours=warmup_rules.WINDOW_HOURS)
HOUR: Final = timedelta(minutes=warmup_rules.HOUR_MINUTES)


class PlannedDay(Struct, frozen=True):
    """One UTC day. ``limited_by``: the keys whose caps held letters back, ``*`` the total."""

    date: date
    count: int
    cap: int | None
    by_provider: dict[str, int]
    limited_by: list[str]


class Plan(Struct, frozen=True):
    """The days on which letters go out, and when the last one does; None where that is never."""

    days: list[PlannedDay]
    finishes_at: datetime | None


class _Window:
    """What one key took, ten minutes by ten minutes."""

    __slots__ = ("counts", "day", "key", "recent", "used")

    def __init__(self, key: Key, counts: timedelta) -> None:
        self.key = key
        self.counts = counts
        self.day: deque[tuple[datetime, int]] = deque()
        self.recent: deque[tuple[datetime, int]] = deque()
        self.used = 0

    def move(self, now: datetime) -> None:
        key = self.key
        while self.day and self.day[0][0] <= now - self.counts:
            key.day -= self.day.popleft()[1]
        while self.recent and self.recent[0][0] <= now - HOUR:
            key.hour -= self.recent.popleft()[1]
        key.bucket = sum(n for at, n in self.recent if at > now - BUCKET)
        key.everywhere = key.day

    def take(self, bucket: datetime, n: int, *, used: int | None = None) -> None:
        self.key.day += n
        self.key.hour += n
        for entries in (self.day, self.recent):
            entries.append((bucket, n))
        self.used += n if used is None else used

    def expires(self) -> list[datetime]:
        """Return when the oldest that counts for a day, and for an hour, no longer does."""
        found = [self.day[0][0] + self.counts] if self.day else []
        return found + ([self.recent[0][0] + HOUR] if self.recent else [])


def bucket_start(now: datetime) -> datetime:
    """Return the beginning of the ten minutes."""
    return now - timedelta(seconds=now.timestamp() % BUCKET.total_seconds())


def gathered(demand: Mapping[str, int]) -> dict[str, int]:
    """Return the letters by provider; groups too small to be held for their own sake are taken together."""
    small = max(warmup_rules.ANY_LEAST, int(SMALL * sum(demand.values())))
    found: dict[str, int] = {}
    for provider, n in demand.items():
        name = UNKNOWN if provider.startswith("site:") and n <= small else provider
        found[name] = found.get(name, 0) + n
    return {provider: n for provider, n in found.items() if n > 0}


def play(
    chosen: Chosen,
    demand: Mapping[str, int],
    start: datetime,
    *,
    name: str,
    keys: Mapping[str, Key] | None = None,
    taken: Iterable[tuple[str, datetime, int]] = (),
    gone: Mapping[str, int] | None = None,
    grow: bool = True,
    counts: timedelta = DAY,
) -> Plan:
    """Play ``demand`` letters by provider from ``start`` on.

    ``keys``: where each provider and the total (``*``) stand, with nothing counted yet; ``taken``: what was taken lately, as
    (provider, bucket, letters), oldest first; ``gone``: how many letters of the campaign each had already. Without ``grow`` today's caps hold for ever.
    ``counts``: how long a letter counts against a day's cap.
    """
    left = gathered(demand)
    windows = {
        provider: _Window((keys or {}).get(provider) or Key(provider=provider), counts) for provider in (TOTAL, *left)
    }
    for provider, bucket, n in taken:
        if provider in windows:
            windows[provider].take(bucket, n, used=n if bucket.date() == start.date() else 0)
    whole = {provider: n + (gone or {}).get(provider, 0) for provider, n in left.items()}
    days: list[PlannedDay] = []
    today: dict[str, int] = {}
    now, last = start, None
    while left and now - start < LONGEST:
        moved = _send(chosen, windows, whole, left, name=name, now=now)
        for provider, n in moved.items():
            today[provider] = today.get(provider, 0) + n
        last = now + timedelta(seconds=sum(moved.values()) / A_SECOND) if moved else last
        following = _next(windows, now, sent=bool(moved))
        if not left or following is None or following.date() > now.date():
            days += _day(chosen, windows, now, today, start=start, waiting=left)
            today = {}
            if left and following is not None:
                # The judge comes at midnight, and nothing is taken before it has been.
                following = min(following, _midnight(now))
                if grow:
                    _judge(chosen, windows, following)
        if following is None:
            return Plan(days, None)
        now = following
    if left:
        return Plan(days, _far(days, sum(left.values()), now))
    return Plan(days, last)


def _send(
    chosen: Chosen,
    windows: Mapping[str, _Window],
    whole: Mapping[str, int],
    left: dict[str, int],
    *,
    name: str,
    now: datetime,
) -> dict[str, int]:
    for window in windows.values():
        window.move(now)
    lefts = {}
    for provider, waiting in left.items():
        lefts[provider] = min(warmup_keys.left(chosen, windows[provider].key, name, now), waiting)
    total = warmup_keys.left(chosen, windows[TOTAL].key, name, now)
    shares = even(total, {provider: Turn(whole[provider], whole[provider] - n) for provider, n in left.items()}, lefts)
    if not shares:
        return {}
    bucket = bucket_start(now)
    for provider, n in (*shares.items(), (TOTAL, sum(shares.values()))):
        window = windows[provider]
        window.take(bucket, n)
        cap = warmup_keys.cap_of(chosen, window.key, now)
        pause = warmup_keys.spacing_of(cap, window.key, name, now, chosen.rules) if cap else None
        window.key.next_at = now + pause if pause is not None else None
    for provider, n in shares.items():
        left[provider] -= n
        if not left[provider]:
            del left[provider]
    return shares


def _next(windows: Mapping[str, _Window], now: datetime, *, sent: bool) -> datetime | None:
    """Return when there may be room again; None: never."""
    moments = [window.key.next_at for window in windows.values() if window.key.next_at is not None]
    moments = [at for at in moments if at > now]
    for window in windows.values():
        if window.key.until is not None and window.key.until > now:
            moments.append(window.key.until)
    if sent:
        moments.append(bucket_start(now) + BUCKET)
    else:
        moments += [at for window in windows.values() for at in window.expires() if at > now]
        if windows[TOTAL].recent:
            moments.append(bucket_start(now) + BUCKET)
    first = min(moments, default=None)
    if first is None or len(windows) <= MANY or first == bucket_start(first):
        return first
    return bucket_start(first) + BUCKET


def _midnight(now: datetime) -> datetime:
    return now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)


def _day(
    chosen: Chosen,
    windows: Mapping[str, _Window],
    now: datetime,
    today: dict[str, int],
    *,
    start: datetime,
    waiting: Mapping[str, int],
) -> list[PlannedDay]:
    if not today:
        return []
    minutes = min((_midnight(now) - start).total_seconds() / 60, 24 * 60)
    caps = {provider: warmup_keys.cap_of(chosen, window.key, now) for provider, window in windows.items()}
    limited = [
        provider
        for provider, cap in sorted(caps.items())
        if cap is not None
        and (waiting if provider == TOTAL else waiting.get(provider))
        and windows[provider].used >= FULL * warmup_rules.possible(cap, minutes)
    ]
    total = caps[TOTAL]
    return [
        PlannedDay(now.date(), sum(today.values()), total.day if total else None, dict(sorted(today.items())), limited)
    ]


def _judge(chosen: Chosen, windows: Mapping[str, _Window], now: datetime) -> None:
    for window in windows.values():
        key = window.key
        cap = warmup_keys.cap_of(chosen, key, now - timedelta(hours=1))
        well = key.state in {"warming", "warm"} and not chosen.hold
        if cap is not None and well and window.used and window.used >= chosen.rules.used * warmup_rules.possible(cap):
            key.level += 1
        window.used = 0


def _far(days: list[PlannedDay], left: int, now: datetime) -> datetime | None:
    rate = sum(day.count for day in days[-7:]) / 7
    try:
        return now + timedelta(days=left / rate) if rate else None
    except OverflowError:
        return None
