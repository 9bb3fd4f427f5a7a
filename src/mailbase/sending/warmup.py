"""Warm-up: how many letters a domain may send, growing by warm-up days, taken before a letter goes out.

A preset is a table of caps by *level* (days that used their cap, not calendar days); after its end the ladder goes on, three
days a step. Letters are counted in buckets of ten minutes, and a cap binds the sum over any sliding 24 hours (``fast``: any
sliding hour as well). Campaign letters never exceed it; messages are counted, but never held.

    warming ─▶ warm     and by hand: paused (campaigns send nothing)
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final, Literal

from msgspec import Struct

from mailbase.db import Connection
from mailbase.errors import Invalid

Preset = Literal["cautious", "standard", "fast", "custom", "none"]

CAUTIOUS: Final = tuple(int(50 * 1.26**day + 0.5) for day in range(21))
STANDARD: Final = (200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 40_000, 50_000, 75_000, 100_000)
FAST: Final = (
    20,
    28,
    39,
    55,
    77,
    108,
    151,
    211,
    295,
    413,
    579,
    810,
    1_000,
    1_587,
    2_222,
    3_111,
    4_356,
    6_098,
    8_583,
    11_953,
    16_734,
)
"""Letters an hour; the day's cap is 24 times that."""
LADDER: Final = ((50_000, 2.0), (100_000, 1.5), (250_000, 1.2))
LADDER_DAYS: Final = 3
BUCKET: Final = timedelta(minutes=10)
USED: Final = 0.8
"""The share of its cap a day must have used to count as a warm-up day."""
LARGEST: Final = 2_000_000_000


class Cap(Struct, frozen=True):
    """What a level allows. ``day``: in any 24 hours; ``hour``: in any hour, where the preset has such a limit."""

    day: int
    hour: int | None = None


class Warmup(Struct, kw_only=True):
    """A domain's warm-up as it stands. ``day`` is the level, from 1; caps are None where there are none."""

    preset: Preset
    schedule: list[int] | None
    day: int
    cap_today: int | None
    sent_today: int
    state: str
    reason: str | None


class Grant(Struct, frozen=True):
    """An allowance taken: how many letters may go, and where they were counted (None: nothing is held)."""

    granted: int
    bucket: datetime | None


def effective(preset: Preset | None, *, to_outbox: bool) -> Preset:
    """Return the preset that holds: the default is ``cautious``, or ``none`` while letters go to the outbox."""
    return preset or ("none" if to_outbox else "cautious")


def cap(preset: Preset, schedule: Sequence[int] | None, level: int) -> Cap | None:
    """Return what a level (from 1) of a preset allows, or None when nothing is held."""
    match preset:
        case "none":
            return None
        case "fast":
            hour = _step(FAST, level)
            return Cap(min(24 * hour, LARGEST), hour)
        case "custom":
            return Cap(_step(schedule or CAUTIOUS, level))
        case "standard":
            return Cap(_step(STANDARD, level))
        case _:
            return Cap(_step(CAUTIOUS, level))


def check(preset: Preset, schedule: Sequence[int] | None) -> None:
    """Refuse a schedule without ``custom``, and ``custom`` without one.

    Raises:
        Invalid: ``schedule_mismatch``.

    """
    if (preset == "custom") != bool(schedule):
        raise Invalid.field(
            "warmup.schedule", "schedule_mismatch", "A schedule belongs to the preset custom, and custom needs one."
        )


def _step(table: Sequence[int], level: int) -> int:
    if level <= len(table):
        return table[max(level, 1) - 1]
    value = table[-1]
    for _ in range((level - len(table) + LADDER_DAYS - 1) // LADDER_DAYS):
        value = int(value * next((factor for below, factor in LADDER if value < below), 1.1))
        if value >= LARGEST:
            return LARGEST
    return value


READ = """
SELECT warmups.preset, warmups.schedule, COALESCE(warmups.level, 1) AS level, COALESCE(warmups.state, 'warming') AS state, warmups.reason
FROM domains LEFT JOIN warmups ON warmups.domain_id = domains.id
WHERE domains.id = $1
"""

TODAY = """
SELECT COALESCE(sum(taken), 0) FROM allowances WHERE domain_id = $1 AND bucket >= date_trunc('day', COALESCE($2, now()), 'UTC')
"""


async def get(db: Connection, domain_id: int, *, to_outbox: bool, now: datetime | None = None) -> Warmup:
    """Return a domain's warm-up. The domain must exist."""
    row = (await db.fetch(READ, domain_id))[0]
    preset = effective(row["preset"], to_outbox=to_outbox)
    limit = cap(preset, row["schedule"], row["level"])
    if limit is not None and row["state"] == "paused":
        limit = Cap(0)
    return Warmup(
        preset=preset,
        schedule=row["schedule"],
        day=row["level"],
        cap_today=limit.day if limit else None,
        sent_today=await db.fetchval(TODAY, domain_id, now),
        state="warm" if limit is None else row["state"],
        reason=row["reason"],
    )


SET = """
INSERT INTO warmups (domain_id, preset, schedule) VALUES ($1, $2, $3)
ON CONFLICT (domain_id) DO UPDATE SET
    level = CASE WHEN warmups.preset IS DISTINCT FROM excluded.preset THEN 1 ELSE warmups.level END,
    preset = excluded.preset, schedule = excluded.schedule
"""


async def set_preset(db: Connection, domain_id: int, preset: Preset | None, schedule: Sequence[int] | None) -> None:
    """Choose a preset (None: the default); another one begins at its first level. ``schedule`` belongs to ``custom``."""
    await db.execute(SET, domain_id, preset, list(schedule) if schedule else None)


SET_STATE = """
INSERT INTO warmups (domain_id, state, reason) VALUES ($1, $2, $3)
ON CONFLICT (domain_id) DO UPDATE SET state = excluded.state, reason = excluded.reason
"""


async def set_state(db: Connection, domain_id: int, state: Literal["warming", "paused"], reason: str | None) -> None:
    """Pause a domain's campaigns, or let them go on."""
    await db.execute(SET_STATE, domain_id, state, reason)


# Twenty minutes more than a window: a bucket is as long as ten, and a letter may leave a while after it was counted.
TAKEN = """
SELECT
    date_bin('10 minutes', clock.now, '2000-01-01 00:00:00+00') AS bucket,
    COALESCE(sum(taken), 0) AS day,
    COALESCE(sum(taken) FILTER (WHERE bucket > clock.now - interval '80 minutes'), 0) AS hour
FROM (SELECT COALESCE($2, clock_timestamp()) AS now) AS clock
LEFT JOIN allowances ON domain_id = $1 AND bucket > clock.now - interval '24 hours 20 minutes'
GROUP BY clock.now
"""


async def remaining(db: Connection, domain_id: int, *, to_outbox: bool, now: datetime | None = None) -> int | None:
    """Return how many campaign letters may go just now, or None when nothing is held. A look, not a promise."""
    rows = await db.fetch(READ, domain_id)
    limit = (
        cap(effective(rows[0]["preset"], to_outbox=to_outbox), rows[0]["schedule"], rows[0]["level"]) if rows else None
    )
    if limit is None:
        return None
    if rows[0]["state"] == "paused":
        return 0
    taken = (await db.fetch(TAKEN, domain_id, now))[0]
    return _left(limit, taken["day"], taken["hour"])


def _left(limit: Cap, day: int, hour: int) -> int:
    left = limit.day - day
    return max(min(left, limit.hour - hour) if limit.hour is not None else left, 0)


OPEN = """
INSERT INTO warmups (domain_id) VALUES ($1) ON CONFLICT (domain_id) DO NOTHING
"""

LOCK = """
SELECT preset, schedule, level, state FROM warmups WHERE domain_id = $1 FOR UPDATE
"""

COUNT = """
INSERT INTO allowances (domain_id, bucket, taken) VALUES ($1, $2, $3)
ON CONFLICT (domain_id, bucket) DO UPDATE SET taken = allowances.taken + excluded.taken
"""


async def take(db: Connection, domain_id: int, wanted: int, *, to_outbox: bool, now: datetime | None = None) -> Grant:
    """Take up to ``wanted`` campaign letters from a domain's allowance, in the caller's transaction, which must be short.

    The domain's row stays locked until its end, so parallel workers queue here. Where nothing is held nothing is counted.
    """
    # The lock comes first and alone: a statement that waited for it would still count with its older snapshot.
    rows = await db.fetch(LOCK, domain_id)
    if not rows:
        await db.execute(OPEN, domain_id)
        rows = await db.fetch(LOCK, domain_id)
    row = rows[0]
    limit = cap(effective(row["preset"], to_outbox=to_outbox), row["schedule"], row["level"])
    if limit is None:
        return Grant(wanted, None)
    taken = (await db.fetch(TAKEN, domain_id, now))[0]
    granted = 0 if row["state"] == "paused" else min(wanted, _left(limit, taken["day"], taken["hour"]))
    if granted:
        await db.execute(COUNT, domain_id, taken["bucket"], granted)
    return Grant(granted, taken["bucket"])


GIVE_BACK = """
UPDATE allowances SET taken = GREATEST(taken - $3, 0) WHERE domain_id = $1 AND bucket = $2
"""


async def give_back(db: Connection, domain_id: int, bucket: datetime, n: int) -> None:
    """Give back letters that were counted in ``bucket`` and never went out."""
    await db.execute(GIVE_BACK, domain_id, bucket, n)


NOTE = """
INSERT INTO allowances (domain_id, bucket, taken)
VALUES ($1, date_bin('10 minutes', COALESCE($3, clock_timestamp()), '2000-01-01 00:00:00+00'), $2)
ON CONFLICT (domain_id, bucket) DO UPDATE SET taken = allowances.taken + excluded.taken
"""


async def note(db: Connection, domain_id: int, n: int, *, now: datetime | None = None) -> None:
    """Count letters that nothing holds (messages; domains without a cap)."""
    await db.execute(NOTE, domain_id, n, now)


JUDGE = """
SELECT domain_id, preset, schedule, level, day, today,
    (SELECT COALESCE(sum(taken), 0) FROM allowances
     WHERE allowances.domain_id = warmups.domain_id AND (bucket AT TIME ZONE 'UTC')::date = day) AS used,
    (SELECT max((bucket AT TIME ZONE 'UTC')::date) FROM allowances WHERE allowances.domain_id = warmups.domain_id AND taken > 0) AS last
FROM warmups, (SELECT (COALESCE($1, now()) AT TIME ZONE 'UTC')::date AS today) AS clock
WHERE day IS NULL OR day < today
ORDER BY domain_id
FOR UPDATE OF warmups SKIP LOCKED
"""

MOVE = """
UPDATE warmups SET level = $2, day = $3 WHERE domain_id = $1
"""

FORGET = """
DELETE FROM allowances WHERE bucket < COALESCE($1, now()) - interval '40 days'
"""


async def advance(db: Connection, *, to_outbox: bool, now: datetime | None = None) -> None:
    """Judge each domain's finished day, once: a day that used its cap raises the level; a quiet one never does.

    A domain that has been silent for a week steps back one level for each week, after thirty days to the first.
    """
    async with db.transaction():
        for row in await db.fetch(JUDGE, now):
            level: int = row["level"]
            limit = cap(effective(row["preset"], to_outbox=to_outbox), row["schedule"], level)
            idle = (row["today"] - row["last"]).days if row["last"] else 0
            if limit is not None and row["day"] is not None and row["used"] >= USED * limit.day:
                level += 1
            elif idle > 30:
                level = 1
            elif idle > 7 and idle % 7 == 1:
                level = max(level - 1, 1)
            await db.execute(MOVE, row["domain_id"], level, row["today"])
        await db.execute(FORGET, now)
