"""When letters will be through at today's caps.

A cap binds a sliding window, so what was taken lately comes free piece by piece; then the same pieces come round again,
window after window, until everybody has their letter. Growth of the warm-up is left out: it is not earned yet. So is other
mail of the domain.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Final

from msgspec import Struct

from mailbase.db import Connection
from mailbase.sending.warmup import keys as warmup_keys
from mailbase.sending.warmup import rules as warmup_rules
from mailbase.sending.warmup import take as warmup_take
from mailbase.sending.warmup import warmup
from mailbase.sending.warmup.keys import Chosen, Key
from mailbase.sending.warmup.ways import ways

LETTERS_A_SECOND: Final = 100
"""What a relay usually takes over ten connections; only for the last few minutes of a forecast."""
DAY_WINDOW: Final = timedelta(hours=24, minutes=20)
HOUR_WINDOW: Final = timedelta(minutes=80)
"""As long as a letter counts against its cap: see ``warmup.TAKEN``."""
MOST: Final = 10**9
"""Letters a day where there is no cap."""
MAX_WINDOWS: Final = 20_000
"""So many windows are laid out by day; nobody waits fifty years for a newsletter."""


class Day(Struct, frozen=True):
    """Letters of one UTC day."""

    date: date
    count: int


class Allowance(Struct, frozen=True):
    """A cap as a sliding window, and what was taken in it: (when, how many), oldest first. ``limit`` None: no cap."""

    limit: int | None
    window: timedelta = DAY_WINDOW
    taken: Sequence[tuple[datetime, int]] = ()


def free(allowance: Allowance, wanted: int) -> int:
    """Return how many of the wanted letters may go at once."""
    if allowance.limit is None:
        return wanted
    return min(wanted, max(allowance.limit - sum(count for _, count in allowance.taken), 0))


def plan(letters: int, start: datetime, allowance: Allowance) -> tuple[list[Day], datetime | None]:
    """Return the days on which ``letters`` go out, and when the last one does."""
    if letters == 0 or allowance.limit == 0:
        return [], None
    if allowance.limit is None or free(allowance, letters) == letters:
        return [Day(start.date(), letters)], start + timedelta(seconds=letters / LETTERS_A_SECOND)
    openings = _openings(start, allowance)
    days: dict[date, int] = {}
    for at, count in _pieces(letters, openings, allowance):
        days[at.date()] = days.get(at.date(), 0) + count
    return [Day(day, count) for day, count in days.items() if count], _last(letters, openings, allowance)


def _openings(start: datetime, allowance: Allowance) -> list[tuple[datetime, int]]:
    """Return when within the first window how many letters may go: now, and whenever earlier ones stop counting."""
    limit = allowance.limit or 0
    used = sum(count for _, count in allowance.taken)
    given = max(limit - used, 0)
    openings = [(start, given)]
    for at, count in allowance.taken:
        used -= count
        more = max(limit - used, 0) - given
        if more > 0:
            openings.append((max(at + allowance.window, start), more))
            given += more
    return openings


def _pieces(letters: int, openings: list[tuple[datetime, int]], allowance: Allowance) -> Iterator[tuple[datetime, int]]:
    for turn in range(MAX_WINDOWS):
        for at, count in openings:
            if letters <= 0:
                return
            yield at + turn * allowance.window, min(count, letters)
            letters -= count


def _last(letters: int, openings: list[tuple[datetime, int]], allowance: Allowance) -> datetime | None:
    turns, rest = divmod(letters - 1, sum(count for _, count in openings))
    for at, count in openings:
        if rest < count:
            try:
                return at + turns * allowance.window
            except OverflowError:
                return None
        rest -= count
    return None


TAKEN = """
SELECT bucket, sum(taken)::bigint AS taken FROM allowances
WHERE domain_id = $1 AND provider = '*' AND bucket > now() - $2::interval AND taken > 0
GROUP BY bucket ORDER BY bucket
"""


async def allowance_of(db: Connection, domain_id: int, *, to_outbox: bool) -> Allowance:
    """Return a domain's cap of today with what was taken of it."""
    state = await warmup.get(db, domain_id, to_outbox=to_outbox)
    if state.cap_today is None:
        return Allowance(None)
    hourly = state.preset == "fast" and bool(state.cap_today)
    window = HOUR_WINDOW if hourly else DAY_WINDOW
    limit = warmup_rules.level_cap(state.preset, state.schedule, state.day) if hourly else state.cap_today
    return Allowance(limit, window, [(row["bucket"], row["taken"]) for row in await db.fetch(TAKEN, domain_id, window)])


TAKEN_THERE = """
SELECT provider, bucket, sum(taken)::bigint AS taken FROM allowances
WHERE domain_id = $1 AND provider = ANY ($2::text[]) AND bucket > now() - $3::interval AND taken > 0
GROUP BY provider, bucket ORDER BY bucket
"""


async def last_of(
    db: Connection, domain_id: int, letters: Mapping[str, int], start: datetime, *, to_outbox: bool
) -> datetime | None:
    """Return when the slowest of these providers has its letters at its own cap of today; None: one of them takes none at all."""
    chosen = await warmup_take.look(db, domain_id, to_outbox=to_outbox)
    if not chosen.capped:
        return start
    names = sorted(letters)
    limits: dict[str, int] = dict.fromkeys(names, 0)
    opens = dict.fromkeys(names, start)
    for egress in await ways(db, domain_id, to_outbox=to_outbox):
        found, at, _ = await warmup_take.keys(db, domain_id, egress, names)
        for name in names:
            key = found[name]
            limits[name] = _limit(chosen, key, at, limits[name])
            if warmup_keys.closed(key, at) and key.until is not None:
                opens[name] = max(opens[name], key.until)
    taken: dict[str, list[tuple[datetime, int]]] = {}
    for row in await db.fetch(TAKEN_THERE, domain_id, names, DAY_WINDOW):
        taken.setdefault(row["provider"], []).append((row["bucket"], row["taken"]))
    ends = [
        plan(letters[name], opens[name], Allowance(limits[name], DAY_WINDOW, taken.get(name, ())))[1] for name in names
    ]
    return None if None in ends else max([start, *(end for end in ends if end is not None)])


def _limit(chosen: Chosen, key: Key, at: datetime, before: int) -> int:
    """Return a provider's letters a day, one way out more; its ceiling holds over all of them."""
    cap = warmup_keys.cap_of(chosen, key, at)
    more = 0 if key.state == "paused" else MOST if cap is None else cap.day
    return min(before + more, MOST if key.ceiling is None else key.ceiling)
