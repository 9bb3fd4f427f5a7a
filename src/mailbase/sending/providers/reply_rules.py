"""Rules on replies: what a provider's refusals say about all of its letters, and what to do about it.

    a refusal ─ matches a rule ─▶ counted ─ so many within the window ─▶ an override, for a while    (or a stop of the domain)

A rule (:mod:`~mailbase.sending.providers.reply_rule_table`) names providers, or nobody: then it holds for all whose own rules do not match that reply. Patterns are PostgreSQL's, over
``421 4.7.0 the text``, and each rule has a sample beside it. Counts are rows, so it does not matter which worker hears what.
"""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from asyncpg import Record
from msgspec import Struct

from mailbase.db import Connection
from mailbase.sending.outcomes import Outcome
from mailbase.sending.providers import domain_stops, overrides

LONGEST: Final = 1000


class Refusal(Struct, frozen=True):
    """One letter's refusal: to whom it was, from which domain, and what was said."""

    provider: str
    domain_id: int | None
    outcome: Outcome


class Verdict(Struct, frozen=True):
    """What the rules make of one refusal."""

    rate: bool = False
    """It was about the provider's pace or the sender's set-up, not about this letter: it waits, and no attempt of its own is burnt."""
    until: datetime | None = None
    """When the provider's overrides end, where some are in force now."""
    held: timedelta | None = None
    """How long that is still; for what was refused for good, or stops domains, no less than the rule's window: by then this
    refusal counts no more, so one letter that comes back again and again never makes up a rule's number by itself."""
    set_up: bool = False
    """It was about the sender's set-up: a matter of DNS, over when that is put right, and no sign of anything else."""
    stopped: bool = False
    """The domain it came from is stopped for such refusals: it waits until the domain is resumed."""


# CASE keeps the pattern, the costly part, to the rules that are for this provider at all.
MATCH = """
WITH hit AS MATERIALIZED (
    SELECT refusal.n, rule.id, rule.providers <> '{}' AS own, rule.stop_domain, rule.window_seconds, rule.advice
    FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS refusal (provider, reply, n), reply_rules AS rule
    WHERE rule.enabled AND CASE WHEN rule.providers = '{}' OR refusal.provider = ANY (rule.providers)
        THEN refusal.reply ~* rule.pattern ELSE false END
)
SELECT n::int - 1 AS n, id, stop_domain, window_seconds, advice FROM hit
WHERE own OR NOT EXISTS (SELECT FROM hit AS closer WHERE closer.n = hit.n AND closer.own)
ORDER BY id, n
"""

NOTE = """
INSERT INTO reply_counts (rule_id, provider, scope, minute, n)
SELECT rule_id, provider, scope, date_trunc('minute', COALESCE($5, now())), n
FROM unnest($1::bigint[], $2::text[], $3::text[], $4::int[]) AS noted (rule_id, provider, scope, n)
ON CONFLICT (rule_id, provider, scope, minute) DO UPDATE SET n = reply_counts.n + excluded.n
"""

# A second statement, so that it sees what others counted while the first one waited for them.
REACHED = """
SELECT noted.rule_id, noted.provider, noted.scope
FROM unnest($1::bigint[], $2::text[], $3::text[]) AS noted (rule_id, provider, scope)
JOIN reply_rules AS rule ON rule.id = noted.rule_id
JOIN reply_counts AS counted USING (rule_id, provider, scope)
WHERE counted.minute > COALESCE($4, now()) - make_interval(secs => rule.window_seconds)
GROUP BY noted.rule_id, noted.provider, noted.scope, rule.threshold HAVING sum(counted.n) >= rule.threshold
ORDER BY noted.rule_id, noted.provider, noted.scope
"""

START_OVER = """
DELETE FROM reply_counts USING unnest($1::bigint[], $2::text[], $3::text[]) AS acted (rule_id, provider, scope)
WHERE reply_counts.rule_id = acted.rule_id AND reply_counts.provider = acted.provider AND reply_counts.scope = acted.scope
"""

ACT = """
INSERT INTO provider_overrides (provider, egress, rule_id, suspend, connections, letters_per_connection, letters_per_minute,
    connections_per_minute, reason, reply, created_at, expires_at)
SELECT acted.provider, $3, rule.id, rule.suspend, rule.connections, rule.letters_per_connection, rule.letters_per_minute,
    rule.connections_per_minute, rule.advice, acted.reply, COALESCE($5, now()), COALESCE($5, now()) + make_interval(secs => rule.duration_seconds)
FROM unnest($1::bigint[], $2::text[], $4::text[]) AS acted (rule_id, provider, reply) JOIN reply_rules AS rule ON rule.id = acted.rule_id
ORDER BY rule.id, acted.provider
ON CONFLICT (rule_id, provider, egress) DO UPDATE SET
    suspend = excluded.suspend, connections = excluded.connections, letters_per_connection = excluded.letters_per_connection,
    letters_per_minute = excluded.letters_per_minute, connections_per_minute = excluded.connections_per_minute,
    reason = excluded.reason, reply = excluded.reply, expires_at = GREATEST(provider_overrides.expires_at, excluded.expires_at),
    created_at = CASE WHEN provider_overrides.expires_at > excluded.created_at THEN provider_overrides.created_at ELSE excluded.created_at END
"""

STOPPED = """
SELECT id FROM domains WHERE id = ANY($1::bigint[]) AND stopped_at IS NOT NULL
"""

Key = tuple[int, str, str]
"""Rule, provider, and the way out or the domain."""


async def notice(
    db: Connection,
    provider: str,
    egress: str,
    outcome: Outcome,
    *,
    domain_id: int | None = None,
    now: datetime | None = None,
) -> Verdict:
    """Count one refusal; see :func:`notice_all`."""
    return (await notice_all(db, egress, [Refusal(provider, domain_id, outcome)], now=now))[0]


async def notice_all(
    db: Connection, egress: str, refusals: Sequence[Refusal], *, now: datetime | None = None
) -> list[Verdict]:
    """Count refusals heard on one way out, act on the rules that have enough of them, and return what follows for each.

    In the caller's transaction, before it locks any letter. Costs one look at the rules where none matches.
    """
    nothing = [Verdict()] * len(refusals)
    if not refusals:
        return nothing
    replies = [said(refusal.outcome) for refusal in refusals]
    hits = await db.fetch(MATCH, [refusal.provider for refusal in refusals], replies)
    if not hits:
        return nothing
    await _count(db, egress, refusals, replies, hits, now=now)
    about_us = {hit["n"] for hit in hits}
    stopping = {hit["n"]: refusals[hit["n"]].domain_id for hit in hits if hit["stop_domain"]}
    stopped = (
        {row["id"] for row in await db.fetch(STOPPED, list(set(stopping.values()) - {None}))} if stopping else set()
    )
    ends = await overrides.until(db, sorted({refusals[n].provider for n in about_us}), egress, now=now)
    windows: dict[int, timedelta] = {}
    for hit in hits:
        if hit["stop_domain"] or refusals[hit["n"]].outcome.kind == "refused":
            windows[hit["n"]] = max(windows.get(hit["n"], timedelta()), timedelta(seconds=hit["window_seconds"]))
    verdicts = nothing
    for n in about_us:
        until, left = ends.get(refusals[n].provider, (None, None))
        held = max((wait for wait in (left, windows.get(n)) if wait is not None), default=None)
        verdicts[n] = Verdict(True, until, held, n in stopping, stopping.get(n) in stopped)
    return verdicts


async def _count(
    db: Connection,
    egress: str,
    refusals: Sequence[Refusal],
    replies: Sequence[str],
    hits: Sequence[Record],
    *,
    now: datetime | None,
) -> None:
    noted: Counter[Key] = Counter()
    last: dict[Key, Any] = {}
    for hit in hits:
        refusal = refusals[hit["n"]]
        if hit["stop_domain"] and refusal.domain_id is None:
            continue
        scope = f"domain:{refusal.domain_id}" if hit["stop_domain"] else egress
        key = (hit["id"], refusal.provider, scope)
        noted[key] += 1
        last[key] = hit
    if not noted:
        return
    keys = sorted(noted)
    await db.execute(NOTE, *_columns(keys), [noted[key] for key in keys], now)
    reached = [(row["rule_id"], row["provider"], row["scope"]) for row in await db.fetch(REACHED, *_columns(keys), now)]
    if not reached:
        return
    await db.execute(START_OVER, *_columns(reached))
    acted = [key for key in reached if not last[key]["stop_domain"]]
    if acted:
        rules, providers, _ = _columns(acted)
        await db.execute(ACT, rules, providers, egress, [replies[last[key]["n"]] for key in acted], now)
    stops = {
        refusals[last[key]["n"]].domain_id: f"{last[key]['advice']} {key[1]} said: {replies[last[key]['n']]}"
        for key in reached
        if last[key]["stop_domain"]
    }
    if stops:
        await domain_stops.stop(db, {id: reason for id, reason in stops.items() if id is not None}, now=now)


def _columns(keys: Sequence[Key]) -> tuple[list[int], list[str], list[str]]:
    return [key[0] for key in keys], [key[1] for key in keys], [key[2] for key in keys]


def said(outcome: Outcome) -> str:
    """Return a reply as the patterns read it: the code and the text, in which the status said again in every line is left out."""
    text = outcome.reply.replace("\0", "").encode(errors="replace").decode()[:LONGEST]
    if outcome.enhanced:
        before, status, after = text.partition(outcome.enhanced)
        text = before + status + after.replace(f" {outcome.enhanced} ", " ")
    return f"{outcome.code} {text}"
