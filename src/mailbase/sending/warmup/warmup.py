"""Warm-up: a domain earns its name slowly, on each way out and with each provider by itself.

What the owner chose is one row a domain; where each (domain, way out, provider) stands is a key
(:mod:`~mailbase.sending.warmup.keys`); what may go just now is taken in the mark (:mod:`~mailbase.sending.warmup.take`); once a
day each key is judged (:mod:`~mailbase.sending.warmup.judge`). All numbers: :mod:`~mailbase.sending.warmup.rules`. This module
shows it and takes the owner's word.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Literal

import msgspec
from msgspec import Struct

from mailbase.db import Connection
from mailbase.errors import Invalid
from mailbase.sending.warmup import history as warmup_history
from mailbase.sending.warmup import keys as warmup_keys
from mailbase.sending.warmup import names as warmup_names
from mailbase.sending.warmup import rules as warmup_rules
from mailbase.sending.warmup import take as warmup_take
from mailbase.sending.warmup.history import Entry
from mailbase.sending.warmup.keys import Chosen, Key
from mailbase.sending.warmup.rules import TOTAL, Preset, Rules
from mailbase.sending.warmup.take import Grants, Room, give_back, note, room, take
from mailbase.sending.warmup.ways import taken, ways

__all__ = ["Grants", "Preset", "Room", "Warmup", "WarmupDetail", "give_back", "note", "room", "take"]

USUAL: Final = "Growing as planned."


class Warmup(Struct, kw_only=True):
    """A domain's warm-up as it stands. ``day``: warm-up days so far; caps are None where there are none."""

    preset: Preset
    schedule: list[int] | None
    day: int
    cap_today: int | None
    sent_today: int
    state: str
    reason: str | None


class ProviderWarmup(Struct, kw_only=True):
    """One key. ``used``: letters in the last 24 hours; ``sent_today``: since midnight UTC."""

    egress: str
    provider: str
    day: int
    level: int
    cap: int | None
    cap_hour: int | None
    used: int
    sent_today: int
    state: str
    until: datetime | None
    reason: str


class WarmupDetail(Warmup, kw_only=True):
    """All of it. ``providers`` begins with the totals, called ``*``."""

    hold: bool
    messages_held: bool
    rules: dict[str, Any]
    provider_caps: dict[str, int]
    providers: list[ProviderWarmup]


def effective(preset: Preset | None, *, to_outbox: bool) -> Preset:
    """Return the preset that holds: the default is ``cautious``, or ``none`` while letters go to the outbox."""
    return preset or ("none" if to_outbox else "cautious")


def check(preset: Preset, schedule: Sequence[int] | None, *, field: str = "warmup.schedule") -> None:
    """Refuse a schedule without ``custom``, and ``custom`` without one.

    Raises:
        Invalid: ``schedule_mismatch``.

    """
    if (preset == "custom") != bool(schedule):
        raise Invalid.field(
            field, "schedule_mismatch", "A schedule belongs to the preset custom, and custom needs one."
        )


TODAY = """
SELECT egress, provider, sum(taken)::bigint AS taken FROM allowances
WHERE domain_id = $1 AND bucket >= date_trunc('day', COALESCE($2, now()), 'UTC') AND provider = ANY($3::text[])
GROUP BY egress, provider
"""

REASON = """
SELECT reason FROM warmups WHERE domain_id = $1
"""


async def egresses(db: Connection, domain_id: int, *, to_outbox: bool) -> list[str]:
    """Return the ways out that a domain's letters take, and those they took."""
    return sorted({*await taken(db, domain_id), *await ways(db, domain_id, to_outbox=to_outbox)})


async def get(db: Connection, domain_id: int, *, to_outbox: bool, now: datetime | None = None) -> Warmup:
    """Return a domain's warm-up in short. The domain must exist."""
    chosen = await warmup_take.look(db, domain_id, to_outbox=to_outbox)
    totals: list[tuple[Key, datetime]] = []
    for egress in await ways(db, domain_id, to_outbox=to_outbox):
        found, at, _ = await warmup_take.keys(db, domain_id, egress, [], now=now)
        totals.append((found[TOTAL], at))
    sent: int = sum(row["taken"] for row in await db.fetch(TODAY, domain_id, now, [TOTAL]))
    return _short(chosen, totals, sent, await db.fetchval(REASON, domain_id))


def _short(chosen: Chosen, totals: Sequence[tuple[Key, datetime]], sent: int, reason: str | None) -> Warmup:
    caps = [warmup_keys.cap_of(chosen, key, at) for key, at in totals]
    limit = None if chosen.preset == "none" else sum(cap.day for cap in caps if cap is not None)
    key = max((key for key, _ in totals), key=lambda key: key.level)
    state = "warm" if chosen.preset == "none" else ("held" if chosen.hold else key.state)
    if chosen.paused:
        state, limit = "paused", 0
    return Warmup(
        preset=chosen.preset,
        schedule=chosen.schedule,
        day=key.level,
        cap_today=limit,
        sent_today=sent,
        state=state,
        reason=reason if chosen.paused else None,
    )


PROVIDERS = """
SELECT provider, egress FROM warmup_keys WHERE domain_id = $1
UNION SELECT key, $2 FROM domains, jsonb_object_keys(provider_caps) AS key WHERE domains.id = $1
ORDER BY provider, egress
"""

REASONS = """
SELECT egress, provider, reason FROM warmup_keys WHERE domain_id = $1
"""

CEILINGS = """
SELECT provider_caps FROM domains WHERE id = $1
"""


async def detail(db: Connection, domain_id: int, *, to_outbox: bool, now: datetime | None = None) -> WarmupDetail:
    """Return all of a domain's warm-up: the totals first, then each provider that was written to or has a ceiling."""
    chosen = await warmup_take.look(db, domain_id, to_outbox=to_outbox)
    now_taken = await ways(db, domain_id, to_outbox=to_outbox)
    pairs = await db.fetch(PROVIDERS, domain_id, next(iter(now_taken)))
    names = sorted({row["provider"] for row in pairs} | {TOTAL})
    today = {(row["egress"], row["provider"]): row["taken"] for row in await db.fetch(TODAY, domain_id, now, names)}
    reasons = {(row["egress"], row["provider"]): row["reason"] for row in await db.fetch(REASONS, domain_id)}
    listed = {(row["egress"], row["provider"]) for row in pairs} | {(egress, TOTAL) for egress in now_taken}
    totals: list[tuple[Key, datetime]] = []
    shown: list[ProviderWarmup] = []
    for egress in await egresses(db, domain_id, to_outbox=to_outbox):
        found, at, _ = await warmup_take.keys(db, domain_id, egress, names, now=now)
        if egress in now_taken:
            totals.append((found[TOTAL], at))
        shown += [
            _shown(
                chosen,
                found[name],
                egress=egress,
                today=today.get((egress, name), 0),
                reason=reasons.get((egress, name), ""),
                at=at,
            )
            for name in names
            if (egress, name) in listed
        ]
    shown.sort(key=lambda one: (one.provider != TOTAL, one.provider, one.egress))
    sent = sum(n for (_, provider), n in today.items() if provider == TOTAL)
    said = await db.fetchval(REASON, domain_id)
    short = _short(chosen, totals, sent, said)
    if chosen.paused:
        shown = [msgspec.structs.replace(one, reason=_sentence(said or "paused")) for one in shown]
    return WarmupDetail(
        **msgspec.structs.asdict(short),
        hold=chosen.hold,
        messages_held=not chosen.exempt,
        rules=msgspec.to_builtins(chosen.rules),
        provider_caps=await db.fetchval(CEILINGS, domain_id),
        providers=shown,
    )


def _sentence(words: str) -> str:
    return f"{words[0].upper()}{words[1:].rstrip('.')}."


def _shown(chosen: Chosen, key: Key, *, egress: str, today: int, reason: str, at: datetime) -> ProviderWarmup:
    cap = warmup_keys.cap_of(chosen, key, at)
    limits = [value for value in (cap.day if cap else None, key.ceiling) if value is not None]
    state: str = key.state
    if chosen.paused:
        state = "paused"
    elif chosen.preset == "none" and not warmup_keys.closed(key, at):
        state = "warm"
    elif chosen.hold and state == "warming":
        state, reason = "held", f"By hand: levels are held. {reason}".rstrip()
    return ProviderWarmup(
        egress=egress,
        provider=key.provider,
        day=key.level,
        level=warmup_rules.step_of(chosen.preset, chosen.schedule, key.level),
        cap=0 if chosen.paused or warmup_keys.closed(key, at) else min(limits, default=None),
        cap_hour=cap.hour if cap else None,
        used=key.day,
        sent_today=today,
        state=state,
        until=key.until if key.until is not None and key.until > at else None,
        reason=reason or (USUAL if chosen.preset != "none" else "Nothing is held."),
    )


async def remaining(db: Connection, domain_id: int, *, to_outbox: bool, now: datetime | None = None) -> int | None:
    """Return how many campaign letters may go just now over all ways out, or None when nothing is held."""
    chosen = await warmup_take.look(db, domain_id, to_outbox=to_outbox)
    if not chosen.capped:
        return None
    total = 0
    for egress in await ways(db, domain_id, to_outbox=to_outbox):
        found = await room(db, domain_id, egress, to_outbox=to_outbox, now=now)
        total += found.total or 0
    return total


async def with_room(
    db: Connection, domain_id: int, providers: Sequence[str], *, to_outbox: bool, now: datetime | None = None
) -> set[str]:
    """Return the providers to which a letter may go just now over any way out."""
    open_ones: set[str] = set()
    for egress in await ways(db, domain_id, to_outbox=to_outbox):
        found = await room(db, domain_id, egress, providers, to_outbox=to_outbox, now=now)
        open_ones.update(name for name in providers if found.total != 0 and found.left.get(name, 1) != 0)
    return open_ones


SET = """
INSERT INTO warmups (domain_id, preset, schedule, version) VALUES ($1, $2, $3, 1)
ON CONFLICT (domain_id) DO UPDATE SET preset = excluded.preset, schedule = excluded.schedule, version = warmups.version + 1
RETURNING (SELECT preset FROM warmups AS old WHERE old.domain_id = $1) AS before
"""

RESTART = """
UPDATE warmup_keys SET level = 1, state = 'warming', until = NULL, next_at = NULL, good_level = NULL, probes = 0, reason = '',
    changed_at = COALESCE($2, now()), blamed_at = COALESCE($2, now()), resumed_at = COALESCE($2, now())
WHERE domain_id = $1
"""


async def set_preset(
    db: Connection,
    domain_id: int,
    preset: Preset | None,
    schedule: Sequence[int] | None,
    *,
    now: datetime | None = None,
) -> None:
    """Choose a preset (None: the default); another one begins at its first level. ``schedule`` belongs to ``custom``."""
    before: Preset | None = await db.fetchval(SET, domain_id, preset, list(schedule) if schedule else None)
    if before != preset:
        await db.execute(RESTART, domain_id, now)
    what = preset or "the usual one"
    await warmup_history.write(
        db, domain_id, [Entry(decision="preset", reason=f"By hand: {what}.", numbers={"schedule": schedule})], now=now
    )


SET_STATE = """
INSERT INTO warmups (domain_id, state, reason, restricted, version) VALUES ($1, $2, $3, $2 = 'paused', 1)
ON CONFLICT (domain_id) DO UPDATE SET state = excluded.state, reason = excluded.reason, version = warmups.version + 1,
    restricted = excluded.state = 'paused' OR (SELECT provider_caps <> '{}' FROM domains WHERE domains.id = $1)
RETURNING pg_notify('mailbase_sending', '')
"""


async def set_state(
    db: Connection,
    domain_id: int,
    state: Literal["warming", "paused"],
    reason: str | None,
    *,
    now: datetime | None = None,
) -> None:
    """Pause a domain's campaigns, or let them go on."""
    await db.execute(SET_STATE, domain_id, state, reason)
    entry = Entry(decision="pause" if state == "paused" else "resume", reason=reason or "By hand.")
    await warmup_history.write(db, domain_id, [entry], now=now)


SET_CEILINGS = """
UPDATE domains SET provider_caps = $2 WHERE id = $1
"""

RESTRICT = """
INSERT INTO warmups (domain_id, restricted, version) VALUES ($1, $2, 1)
ON CONFLICT (domain_id) DO UPDATE SET restricted = warmups.state = 'paused' OR excluded.restricted, version = warmups.version + 1
"""


async def set_ceilings(db: Connection, domain_id: int, caps: Mapping[str, int], *, now: datetime | None = None) -> None:
    """Set absolute ceilings: letters a day to a provider, whatever the warm-up allows, over all ways out.

    Raises:
        Invalid: ``unknown_provider``.

    """
    caps = {warmup_names.called(provider): n for provider, n in caps.items()}
    await warmup_names.check(db, domain_id, caps, field="provider_caps")
    await db.execute(SET_CEILINGS, domain_id, dict(caps))
    await db.execute(RESTRICT, domain_id, bool(caps))
    said = ", ".join(f"{provider} {n}" for provider, n in sorted(caps.items())) or "none"
    entry = Entry(decision="ceilings", reason=f"By hand: {said} a day.", numbers=dict(caps))
    await warmup_history.write(db, domain_id, [entry], now=now)


SET_RULES = """
INSERT INTO warmups (domain_id, rules, hold, exempt, version) VALUES ($1, $2, $3, $4, 1)
ON CONFLICT (domain_id) DO UPDATE SET rules = excluded.rules, hold = excluded.hold, exempt = excluded.exempt, version = warmups.version + 1
"""


async def set_rules(
    db: Connection, domain_id: int, rules: Rules, *, hold: bool, exempt: bool, now: datetime | None = None
) -> None:
    """Set a domain's own numbers, whether levels are held, and whether messages are exempt from being held."""
    numbers = msgspec.to_builtins(rules)
    await db.execute(SET_RULES, domain_id, numbers, hold, exempt)
    said = f"By hand: levels are {'held' if hold else 'free to rise'}, messages are {'not ' if exempt else ''}held."
    await warmup_history.write(db, domain_id, [Entry(decision="rules", reason=said, numbers=numbers)], now=now)
