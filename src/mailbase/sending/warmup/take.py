"""Allowances: letters counted by (domain, way out, provider) in buckets of ten minutes, before they go out.

A cap binds the sum over any sliding 24 hours, any hour and, where it is spread, any ten minutes. Provider ``*`` is the sum of
all; both must have room. Whoever takes holds the domain's row until its transaction ends, so parallel workers queue there:
crashes can under-use a cap, never exceed it.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec
from asyncpg import Record
from msgspec import Struct

from mailbase.db import Connection
from mailbase.sending.warmup import keys as warmup_keys
from mailbase.sending.warmup import rules as warmup_rules
from mailbase.sending.warmup import ways
from mailbase.sending.warmup.keys import Chosen, Key
from mailbase.sending.warmup.rules import TOTAL, Rules

NO_RULES: Final[Any] = {}


class Room(Struct, kw_only=True):
    """How many campaign letters may go now; a look, not a promise. ``total`` None: nothing is held."""

    total: int | None = None
    left: dict[str, int] = {}
    cold: dict[str, int] = {}
    """Of those, to people of cold tiers while warmer mail waits."""
    held_tier: int | None = None
    """The first tier that waits while warmer mail does."""
    cold_tier: int = 7
    wait: float | None = None
    """In how many seconds to look again, where there is no room."""


class Grants(Struct, kw_only=True):
    """Allowances taken, by provider. ``bucket`` None: nothing is held, and nothing was counted."""

    granted: dict[str, int]
    bucket: datetime | None = None
    wait: datetime | None = None
    cold_tier: int = 7
    """From which tier on they were counted as cold."""


def chosen_of(row: Record | Mapping[str, Any], *, to_outbox: bool) -> Chosen:
    """Read what the owner chose from a row of ``warmups``."""
    return Chosen(
        preset=row["preset"] or ("none" if to_outbox else "cautious"),
        schedule=row["schedule"],
        rules=msgspec.convert(row["rules"] or NO_RULES, Rules),
        paused=row["state"] == "paused",
        hold=row["hold"],
        exempt=row["exempt"],
        restricted=row["restricted"],
    )


READ = """
SELECT preset, schedule, state, rules, hold, exempt, restricted FROM warmups WHERE domain_id = $1
"""

OPEN = """
INSERT INTO warmups (domain_id) VALUES ($1) ON CONFLICT (domain_id) DO NOTHING
"""

LOCK = """
SELECT preset, schedule, state, rules, hold, exempt, restricted FROM warmups WHERE domain_id = $1 FOR UPDATE
"""


async def look(db: Connection, domain_id: int, *, to_outbox: bool) -> Chosen:
    """Return what the owner of a domain chose."""
    rows = await db.fetch(READ, domain_id)
    if not rows:
        return Chosen(preset="none" if to_outbox else "cautious")
    return chosen_of(rows[0], to_outbox=to_outbox)


async def hold(db: Connection, domain_id: int, *, to_outbox: bool) -> Chosen:
    """Return it, and keep others from taking until the transaction ends."""
    rows = await db.fetch(LOCK, domain_id)
    if not rows:
        await db.execute(OPEN, domain_id)
        rows = await db.fetch(LOCK, domain_id)
    return chosen_of(rows[0], to_outbox=to_outbox)


KEYS = """
WITH clock AS MATERIALIZED (SELECT COALESCE($4, clock_timestamp()) AS now)
SELECT
    clock.now, date_bin('10 minutes', clock.now, '2000-01-01 00:00:00+00') AS bucket,
    lane.provider, key.level, key.state, key.until, key.next_at, key.level IS NOT NULL AS known,
    CASE WHEN named.warmup_multiplier IS NULL THEN usual.warmup_multiplier ELSE named.warmup_multiplier END AS multiplier,
    CASE WHEN named.warmup_multiplier IS NULL THEN usual.warmup_least ELSE named.warmup_least END AS least,
    (SELECT (provider_caps ->> lane.provider)::bigint FROM domains WHERE domains.id = $1) AS ceiling,
    counted.*
FROM clock CROSS JOIN unnest($3::text[]) AS lane (provider)
LEFT JOIN warmup_keys AS key ON key.domain_id = $1 AND key.egress = $2 AND key.provider = lane.provider
LEFT JOIN providers AS named ON named.name = lane.provider
LEFT JOIN providers AS usual ON usual.name = 'other'
CROSS JOIN LATERAL (
    SELECT
        COALESCE(sum(taken) FILTER (WHERE egress = $2), 0) AS day,
        COALESCE(sum(taken) FILTER (WHERE egress = $2 AND bucket > clock.now - interval '80 minutes'), 0) AS hour,
        COALESCE(sum(taken) FILTER (WHERE egress = $2 AND bucket > clock.now - interval '10 minutes'), 0) AS now_taken,
        COALESCE(sum(cold) FILTER (WHERE egress = $2), 0) AS cold,
        COALESCE(sum(taken), 0) AS everywhere
    FROM allowances
    WHERE allowances.domain_id = $1 AND allowances.provider = lane.provider AND bucket > clock.now - interval '24 hours 20 minutes'
) AS counted
"""


async def keys(
    db: Connection, domain_id: int, egress: str, providers: Sequence[str], *, now: datetime | None = None
) -> tuple[dict[str, Key], datetime, datetime]:
    """Return the keys of these providers and of all together, the moment they were read, and its bucket."""
    rows = await db.fetch(KEYS, domain_id, egress, [TOTAL, *(name for name in providers if name != TOTAL)], now)
    found = {
        row["provider"]: Key(
            provider=row["provider"], level=row["level"] or 1, state=row["state"] or "warming", until=row["until"],
            next_at=row["next_at"], known=row["known"], multiplier=row["multiplier"], least=row["least"],
            ceiling=row["ceiling"], day=row["day"], hour=row["hour"], bucket=row["now_taken"], cold=row["cold"],
            everywhere=row["everywhere"],
        )
        for row in rows
    }  # fmt: skip
    return found, rows[0]["now"], rows[0]["bucket"]


async def room(
    db: Connection,
    domain_id: int,
    egress: str,
    providers: Sequence[str] = (),
    *,
    to_outbox: bool,
    now: datetime | None = None,
) -> Room:
    """Return what may go to each of these providers just now."""
    chosen = await look(db, domain_id, to_outbox=to_outbox)
    if not chosen.capped:
        return Room()
    found, at, _ = await keys(db, domain_id, egress, providers, now=now)
    name = f"{domain_id} {egress}"
    total = warmup_keys.left(chosen, found[TOTAL], name, at)
    lefts = {provider: warmup_keys.left(chosen, key, name, at) for provider, key in found.items() if provider != TOTAL}
    return Room(
        total=total,
        left=lefts,
        cold={provider: warmup_keys.cold_left(chosen, found[provider], at) for provider in lefts},
        held_tier=warmup_rules.held_tier(chosen.rules, found[TOTAL].level) if chosen.preset != "none" else None,
        cold_tier=chosen.rules.cold_tier if chosen.preset != "none" else 7,
        wait=(warmup_keys.wait(chosen, list(found.values()), at) - at).total_seconds(),
    )


async def without_room(
    db: Connection, domain_id: int, providers: Sequence[str], *, now: datetime | None = None
) -> list[str]:
    """Return the providers for which no way out that the domain's letters take has room just now."""
    taken = await ways.still_taken(db, domain_id)
    held = set(providers) if taken else set()
    for egress in taken:
        found = await room(db, domain_id, egress, providers, to_outbox=False, now=now)
        held &= {name for name in providers if found.total == 0 or found.left.get(name, 1) == 0}
    return sorted(held)


COUNT = """
INSERT INTO allowances (domain_id, egress, provider, bucket, taken, cold)
SELECT $1, $2, lane.provider, COALESCE($3, date_bin('10 minutes', COALESCE($7, clock_timestamp()), '2000-01-01 00:00:00+00')), lane.taken, lane.cold
FROM unnest($4::text[], $5::int[], $6::int[]) AS lane (provider, taken, cold)
ON CONFLICT (domain_id, provider, bucket, egress) DO UPDATE
SET taken = allowances.taken + excluded.taken, cold = allowances.cold + excluded.cold
"""

# Written where a key is new, and where letters go one at a time.
KEEP = """
INSERT INTO warmup_keys (domain_id, egress, provider, next_at)
SELECT $1, $2, lane.provider, lane.next_at FROM unnest($3::text[], $4::timestamptz[]) AS lane (provider, next_at)
ON CONFLICT (domain_id, egress, provider) DO UPDATE SET next_at = excluded.next_at
"""


async def take(
    db: Connection,
    domain_id: int,
    egress: str,
    wanted: Mapping[str, Sequence[int]],
    *,
    to_outbox: bool,
    now: datetime | None = None,
) -> Grants:
    """Take letters for each provider, ``wanted`` by the tiers of their recipients, in the caller's transaction, which must be short.

    What is granted are the first ones of each.
    """
    # The lock comes first and alone: a statement that waited for it would still count with its older snapshot.
    chosen = await hold(db, domain_id, to_outbox=to_outbox)
    if not chosen.capped:
        return Grants(granted={provider: len(tiers) for provider, tiers in wanted.items()})
    found, at, bucket = await keys(db, domain_id, egress, list(wanted), now=now)
    name = f"{domain_id} {egress}"
    lefts = {provider: warmup_keys.left(chosen, found[provider], name, at) for provider in wanted}
    counts = {provider: len(tiers) for provider, tiers in wanted.items()}
    granted = warmup_keys.share_out(counts, lefts, warmup_keys.left(chosen, found[TOTAL], name, at))
    taken = {provider: n for provider, n in granted.items() if n}
    if taken:
        cold = chosen.rules.cold_tier
        chilled = {provider: sum(tier >= cold for tier in wanted[provider][:n]) for provider, n in taken.items()}
        await _count(db, domain_id, egress, taken, cold=chilled, bucket=bucket)
        kept = {}
        for provider in (TOTAL, *taken):
            cap = warmup_keys.cap_of(chosen, found[provider], at)
            pause = warmup_keys.spacing_of(cap, found[provider], name, at, chosen.rules) if cap else None
            if pause is not None or not found[provider].known:
                kept[provider] = at + pause if pause is not None else None
        if kept:
            await db.execute(KEEP, domain_id, egress, list(kept), list(kept.values()))
    until = warmup_keys.wait(chosen, list(found.values()), at)
    return Grants(granted=granted, bucket=bucket, wait=until, cold_tier=chosen.rules.cold_tier)


async def _count(
    db: Connection,
    domain_id: int,
    egress: str,
    taken: Mapping[str, int],
    *,
    cold: Mapping[str, int] = {},
    bucket: datetime | None = None,
    now: datetime | None = None,
) -> None:
    rows = [(TOTAL, sum(taken.values()), sum(cold.values()))]
    rows += [(provider, n, cold.get(provider, 0)) for provider, n in sorted(taken.items()) if provider != TOTAL]
    names, counts, chilled = zip(*rows, strict=True)
    await db.execute(COUNT, domain_id, egress, bucket, names, counts, chilled, now)


GIVE_BACK = """
WITH held AS (
    SELECT domain_id, egress, provider, bucket FROM allowances
    WHERE domain_id = $1 AND egress = $2 AND provider IN ('*', $3) AND bucket = $4
    ORDER BY provider <> '*'
    FOR UPDATE
)
UPDATE allowances SET taken = GREATEST(taken - $5, 0), cold = GREATEST(cold - $6, 0) FROM held
WHERE (allowances.domain_id, allowances.egress, allowances.provider, allowances.bucket) = (held.domain_id, held.egress, held.provider, held.bucket)
"""


async def give_back(  # noqa: PLR0917  (the key, where it was counted, and how many)
    db: Connection, domain_id: int, egress: str, provider: str, bucket: datetime, n: int, *, cold: int = 0
) -> None:
    """Give back letters that were counted in ``bucket``, so many of them as cold, and never went out."""
    await db.execute(GIVE_BACK, domain_id, egress, provider, bucket, n, cold)


async def note(
    db: Connection, domain_id: int, egress: str, letters: Mapping[str, int], *, now: datetime | None = None
) -> None:
    """Count letters that nothing holds (messages; domains without a cap), by provider and in total."""
    if sum(letters.values()):
        await _count(db, domain_id, egress, letters, now=now)
