"""Judging the keys of the warm-up: every few minutes for signs of trouble, and once a UTC day for the level.

A day that used its cap, in good health, raises the level; a quiet one never does. A sign of trouble holds the level, takes one
back and halves the rate for a day, suspends a provider for hours, or stops the key: then a day's rest, a probe, and half the
last good level. What a key was taken back or stopped for is not held against it again, and what was known when a person let it go
on never is. Every decision is written down with its reason.
"""

from datetime import date, datetime, timedelta
from typing import Any, Final

from asyncpg import Record
from msgspec import Struct

from mailbase.db import Connection
from mailbase.sending.warmup import engagement as warmup_engagement
from mailbase.sending.warmup import health as warmup_health
from mailbase.sending.warmup import history as warmup_history
from mailbase.sending.warmup import keys as warmup_keys
from mailbase.sending.warmup import rules as warmup_rules
from mailbase.sending.warmup import take as warmup_take
from mailbase.sending.warmup.health import Counts, Finding
from mailbase.sending.warmup.history import Entry
from mailbase.sending.warmup.keys import Chosen, Key, State
from mailbase.sending.warmup.rules import UNKNOWN, Rules

EVERY: Final = timedelta(minutes=5)

# One worker at a time; the others find it done.
ALONE = """
SELECT pg_try_advisory_xact_lock(hashtextextended('warm-up', 1))
"""

WAITING = """
SELECT warmups.domain_id, COALESCE($1, now()) AS now FROM warmups
WHERE (watched_at IS NULL OR watched_at <= COALESCE($1, now()) - $2::interval OR watched_at > COALESCE($1, now()))
    AND EXISTS (SELECT FROM warmup_keys WHERE warmup_keys.domain_id = warmups.domain_id)
ORDER BY warmups.domain_id
"""

# The last letters of a key stay: they say how long it has been silent.
FORGET = """
DELETE FROM allowances AS old WHERE bucket < COALESCE($1, now()) - interval '40 days' AND EXISTS (
    SELECT FROM allowances AS later WHERE later.domain_id = old.domain_id AND later.provider = old.provider AND later.egress = old.egress
        AND later.bucket > old.bucket AND later.taken > 0
)
"""


async def judge(db: Connection, *, to_outbox: bool, now: datetime | None = None) -> int:
    """Judge every domain whose turn it is; return how many decisions were taken. Any number of workers may call it."""
    async with db.transaction():
        if not await db.fetchval(ALONE):
            return 0
        rows = await db.fetch(WAITING, now, EVERY)
    decisions = 0
    for row in rows:
        async with db.transaction():
            decisions += await _judge_domain(db, row["domain_id"], row["now"], to_outbox=to_outbox)
    if rows:
        await db.execute(FORGET, now)
    return decisions


KEYS = """
SELECT
    key.egress, key.provider, key.level, key.state, key.until, key.good_level, key.probes, key.reason, key.judged_on, key.changed_at,
    COALESCE(named.warmup_multiplier, usual.warmup_multiplier) AS multiplier,
    CASE WHEN named.warmup_multiplier IS NULL THEN usual.warmup_least ELSE named.warmup_least END AS least,
    counted.*
FROM warmup_keys AS key
LEFT JOIN providers AS named ON named.name = key.provider
LEFT JOIN providers AS usual ON usual.name = 'other'
CROSS JOIN LATERAL (
    SELECT
        COALESCE(sum(sent + hard) FILTER (WHERE fresh AND bucket > $2::timestamptz - make_interval(hours => $3)), 0) AS hard_sent,
        COALESCE(sum(hard) FILTER (WHERE fresh AND bucket > $2::timestamptz - make_interval(hours => $3)), 0) AS hard,
        COALESCE(sum(sent + hard) FILTER (WHERE fresh), 0) AS ever_sent,
        COALESCE(sum(hard) FILTER (WHERE fresh), 0) AS ever_hard,
        COALESCE(sum(sent) FILTER (WHERE fresh AND bucket > $2::timestamptz - make_interval(hours => $4)), 0) AS complaints_sent,
        COALESCE(sum(complaints) FILTER (WHERE fresh AND bucket > $2::timestamptz - make_interval(hours => $4)), 0) AS complaints,
        COALESCE(sum(sent + hard + deferred + blocked) FILTER (WHERE since AND bucket > $2::timestamptz - make_interval(hours => $5)), 0) AS attempts,
        COALESCE(sum(deferred) FILTER (WHERE since AND bucket > $2::timestamptz - make_interval(hours => $5)), 0) AS deferred,
        COALESCE(sum(sent + hard + deferred + blocked) FILTER (
            WHERE since AND bucket > $2::timestamptz - make_interval(hours => 2 * $5) AND bucket <= $2::timestamptz - make_interval(hours => $5)), 0) AS attempts_before,
        COALESCE(sum(deferred) FILTER (
            WHERE since AND bucket > $2::timestamptz - make_interval(hours => 2 * $5) AND bucket <= $2::timestamptz - make_interval(hours => $5)), 0) AS deferred_before,
        COALESCE(sum(sent) FILTER (WHERE fresh AND bucket > $2::timestamptz - make_interval(hours => $6)), 0) AS unsubscribed_sent,
        COALESCE(sum(unsubscribed) FILTER (WHERE fresh AND bucket > $2::timestamptz - make_interval(hours => $6)), 0) AS unsubscribed,
        COALESCE(sum(blocked) FILTER (WHERE since AND bucket > $2::timestamptz - interval '1 hour'), 0) AS blocked_hour,
        COALESCE(sum(blocked) FILTER (WHERE since AND bucket > $2::timestamptz - interval '1 day'), 0) AS blocked_day,
        COALESCE(sum(taken) FILTER (WHERE (bucket AT TIME ZONE 'UTC')::date = key.judged_on), 0) AS used,
        max((bucket AT TIME ZONE 'UTC')::date) FILTER (WHERE taken > 0) AS last_sent,
        COALESCE(sum(sent + hard + blocked) FILTER (WHERE key.state = 'probing' AND bucket >= key.changed_at - interval '10 minutes'), 0) AS probed,
        COALESCE(sum(hard) FILTER (WHERE key.state = 'probing' AND bucket >= key.changed_at - interval '10 minutes'), 0) AS probed_hard,
        COALESCE(sum(blocked) FILTER (WHERE key.state = 'probing' AND bucket >= key.changed_at - interval '10 minutes'), 0) AS probed_blocked
    FROM allowances, LATERAL (
        SELECT bucket > COALESCE(key.blamed_at, '-infinity') AS fresh, bucket > COALESCE(key.resumed_at, '-infinity') AS since
    ) AS known
    WHERE allowances.domain_id = $1 AND allowances.provider = key.provider AND allowances.egress = key.egress
) AS counted
WHERE key.domain_id = $1
ORDER BY key.egress, key.provider
"""

BLOCKED_DAYS = """
SELECT egress, provider, (bucket AT TIME ZONE 'UTC')::date AS day FROM allowances JOIN warmup_keys AS key USING (domain_id, egress, provider)
WHERE domain_id = $1 AND blocked > 0 AND bucket > GREATEST($2::timestamptz - make_interval(days => $3 + 1), key.resumed_at)
GROUP BY egress, provider, day HAVING sum(blocked) >= $4
"""

MOVE = """
UPDATE warmup_keys SET level = $4, state = $5, until = $6, good_level = $7, probes = $8, reason = $9, judged_on = $10,
    changed_at = CASE WHEN state = $5 AND level = $4 THEN changed_at ELSE $11 END,
    blamed_at = CASE WHEN $12 THEN $11 ELSE blamed_at END
WHERE domain_id = $1 AND egress = $2 AND provider = $3
"""

WATCHED = """
UPDATE warmups SET watched_at = $2, version = version + $3::int WHERE domain_id = $1
"""


class Standing(Struct, kw_only=True):
    """A key while it is judged."""

    level: int
    state: State
    until: datetime | None
    good_level: int | None
    probes: int
    reason: str
    judged_on: date


async def _judge_domain(db: Connection, domain_id: int, now: datetime, *, to_outbox: bool) -> int:
    chosen = await warmup_take.hold(db, domain_id, to_outbox=to_outbox)
    entries: list[Entry] = []
    if chosen.preset != "none":
        rules = chosen.rules
        rows = await db.fetch(
            KEYS, domain_id, now, rules.hard.window_hours, rules.complaints.window_hours, rules.deferred.window_hours,
            rules.unsubscribed.window_hours,
        )  # fmt: skip
        blocked = await _blocked_days(db, domain_id, now, rules)
        # Once a day: what people open and click changes slowly.
        new_day = any(row["judged_on"] is not None and row["judged_on"] < now.date() for row in rows)
        fell = await warmup_engagement.fallen(db, domain_id, rules.engagement, now) if new_day else {}
        for row in rows:
            key = (row["egress"], row["provider"])
            before = Standing(
                **{field: row[field] for field in Standing.__struct_fields__[:-1]},
                judged_on=row["judged_on"] or now.date(),
            )
            after, made, blamed = _decide(
                chosen, row, before, now, blocked_days=blocked.get(key, 0), engaged=fell.get(row["provider"])
            )
            entries += made
            if after != before or row["judged_on"] is None:
                await db.execute(
                    MOVE, domain_id, *key, after.level, after.state, after.until, after.good_level, after.probes,
                    after.reason, after.judged_on, now, blamed,
                )  # fmt: skip
        await warmup_history.write(db, domain_id, entries, now=now)
    await db.execute(WATCHED, domain_id, now, bool(entries))
    return len(entries)


async def _blocked_days(db: Connection, domain_id: int, now: datetime, rules: Rules) -> dict[tuple[str, str], int]:
    days: dict[tuple[str, str], set[date]] = {}
    for row in await db.fetch(BLOCKED_DAYS, domain_id, now, rules.blocks.days_running, rules.blocks.an_hour):
        days.setdefault((row["egress"], row["provider"]), set()).add(row["day"])
    running = {}
    for key, found in days.items():
        n = 0
        while now.date() - timedelta(days=n) in found:
            n += 1
        running[key] = n
    return running


def _decide(
    chosen: Chosen, row: Record, before: Standing, now: datetime, *, blocked_days: int, engaged: float | None
) -> tuple[Standing, list[Entry], bool]:
    """Return where a key stands from now on, the decisions that led there, and whether what was counted so far had its consequence."""
    rules = chosen.rules
    entries: list[Entry] = []
    blamed = False
    standing = Standing(**{field: getattr(before, field) for field in Standing.__struct_fields__})
    fields = [field for field in Counts.__struct_fields__ if field in row.keys()]  # noqa: SIM118  (a record's values are what it contains)
    counts = Counts(**{field: row[field] for field in fields}, blocked_days=blocked_days, engaged=engaged)

    def decide(
        decision: str,
        reason: str,
        *,
        state: State,
        level: int | None = None,
        until: datetime | None = None,
        blames: bool = False,
    ) -> None:
        nonlocal blamed
        blamed = blamed or blames
        to = standing.level if level is None else level
        numbers: dict[str, Any] = {field: value for field in fields if (value := row[field])} | {"used": row["used"]}
        entries.append(
            Entry(
                decision=decision, reason=reason, egress=row["egress"], provider=row["provider"],
                level_before=standing.level, level_after=to, numbers=numbers,
            )
        )  # fmt: skip
        standing.level, standing.state, standing.until, standing.reason = to, state, until, reason

    _by_the_clock(chosen, row, standing, now, decide)
    if standing.state in {"warming", "held", "slowed", "warm"}:
        _by_health(warmup_health.examine(row["provider"], counts, rules), rules, standing, now, decide)
    if standing.judged_on < now.date():
        _by_the_day(chosen, row, standing, now, decide)
        standing.judged_on = now.date()
    return standing, entries, blamed


def _by_the_clock(chosen: Chosen, row: Record, standing: Standing, now: datetime, decide: Any) -> None:
    """End what was to last for a while."""
    rules = chosen.rules
    if standing.until is None or standing.until > now:
        return
    match standing.state:
        case "slowed":
            decide("resume", "The day at half the rate is over.", state="warming")
        case "held":
            decide("resume", "A day has passed.", state="warming")
        case "suspended":
            until = now + timedelta(hours=rules.slow_hours)
            decide("resume", "The suspension is over; half the rate for a day.", state="slowed", until=until)
        case "stopped":
            until = now + timedelta(hours=rules.cooldown_hours)
            decide(
                "probe", "After a day's rest a few letters show whether it works again.", state="probing", until=until
            )
        case "probing":
            if not row["probed"]:
                return
            probed = Counts(
                hard_sent=row["probed"], hard=row["probed_hard"], blocked_day=row["probed_blocked"],
                complaints=row["complaints"], complaints_sent=row["complaints_sent"],
            )  # fmt: skip
            failed = warmup_health.probe_failed(probed, rules)
            if failed is None:
                level = max((standing.good_level or standing.level) // 2, 1)
                standing.probes = 0
                decide("resume", "The probe went well: on at half the last good level.", state="warming", level=level)
                return
            standing.probes += 1
            if standing.probes >= rules.probes:
                decide(
                    "pause", f"{failed} That was probe {standing.probes}: resume by hand.", state="paused", blames=True
                )
            else:
                until = now + timedelta(hours=rules.cooldown_hours)
                decide("stop", f"{failed} Another day's rest.", state="stopped", until=until, blames=True)
        case _:
            standing.until = None


def _by_health(finding: Finding, rules: Rules, standing: Standing, now: datetime, decide: Any) -> None:
    match finding.verdict:
        case "hold" if standing.state in {"warming", "warm"}:
            decide("hold", finding.reason, state="held", until=now + timedelta(days=1))
        case "step_back" if standing.state != "slowed":
            until = now + timedelta(hours=rules.slow_hours)
            level = max(standing.level - 1, 1)
            decide("step_back", finding.reason, state="slowed", level=level, until=until, blames=finding.blames)
        case "suspend":
            hours = rules.blocks.suspend_hours if "sake" in finding.reason else rules.suspend_hours
            decide("suspend", finding.reason, state="suspended", until=now + timedelta(hours=hours))
        case "stop":
            standing.probes = 0
            until = now + timedelta(hours=rules.cooldown_hours)
            decide("stop", finding.reason, state="stopped", until=until, blames=True)
        case "pause":
            decide("pause", finding.reason, state="paused", blames=True)


def _by_the_day(chosen: Chosen, row: Record, standing: Standing, now: datetime, decide: Any) -> None:
    """Judge the day that is over."""
    rules = chosen.rules
    key = Key(
        provider=row["provider"], level=standing.level, state=standing.state, until=standing.until,
        multiplier=row["multiplier"], least=row["least"],
    )  # fmt: skip
    cap = warmup_keys.cap_of(chosen, key, now - timedelta(hours=1))
    used: int = row["used"]
    last: date = row["last_sent"] or standing.judged_on
    idle, idle_before = (now.date() - last).days, max((standing.judged_on - last).days, 0)
    if idle > rules.restart_days and standing.level > 1:
        decide("restart", f"Nothing was sent for {idle} days.", state="warming", level=1)
    elif (weeks := _weeks(idle, rules) - _weeks(idle_before, rules)) > 0 and standing.level > 1:
        to = max(standing.level - weeks, 1)
        decide("step_back", f"Nothing was sent for {idle} days.", state=standing.state, level=to, until=standing.until)
    elif used and row["provider"] == UNKNOWN and standing.state == "warming" and not chosen.hold:
        # Held by the total alone; its level only says what a step back or a probe would be measured by.
        standing.good_level, standing.level = standing.level, standing.level + 1
    elif not used or cap is None:
        pass
    elif standing.state == "held":
        decide("stay", standing.reason, state="held", until=standing.until)
    elif standing.state not in {"warming", "warm"}:
        pass
    elif chosen.hold:
        decide("stay", f"{used} of {cap.day} letters went out; levels are held by hand.", state=standing.state)
    elif used < rules.used * warmup_rules.possible(cap):
        standing.good_level = standing.level
        decide("stay", f"{used} of {cap.day} letters went out: too few to go on.", state=standing.state)
    else:
        _advance(chosen, key, standing, decide, cap=cap.day, used=used, now=now)


def _advance(chosen: Chosen, key: Key, standing: Standing, decide: Any, *, cap: int, used: int, now: datetime) -> None:
    standing.good_level = standing.level
    key.level += 1
    following = warmup_keys.cap_of(chosen, key, now)
    said = f"{used} of {cap} letters went out in good health"
    if following is not None and chosen.rules.target is not None and following.day <= cap:
        if standing.state != "warm":
            decide("warm", f"{said}: the target is reached.", state="warm")
        return
    decide("advance", f"{said}.", state="warming", level=key.level)


def _weeks(idle: int, rules: Rules) -> int:
    return max(idle - 1, 0) // rules.quiet_days
