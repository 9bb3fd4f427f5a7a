"""Deliveries: one row is one letter's fate, from the fan-out to the last word of the other side.

    queued ─────────────▶ sent | bounced | failed | unknown
      ▲   └─▶ deferred ──▶ (the same, when it is due again)
      └─────────┘ └──────▶ skipped

While a worker has it in hand a letter stays ``queued`` or ``deferred``: a *lease* (:mod:`~mailbase.sending.deliveries.leases`) is a row that
names it, cheap, and promises nothing; the *mark* (:mod:`~mailbase.sending.deliveries.marks`) is the only promise, committed in that row before
any content goes out; the *record* (:mod:`~mailbase.sending.deliveries.records`) is what became of it, and the only thing written to the letter.
Each change of a campaign's delivery moves the counters in the same transaction, by :func:`moved`.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final, Literal

from mailbase.db import Connection
from mailbase.sending.deliveries import counters
from mailbase.sending.providers.providers import counted_as
from mailbase.sending.warmup.rules import Rules

State = Literal["queued", "sent", "deferred", "failed", "bounced", "unknown", "skipped"]

BY_PROVIDER: Final = frozenset({"sent", "bounced", "deferred"})


def moved(campaign_id: int, provider: str, old: str | None, new: str, n: int = 1) -> Iterator[tuple[int, str, int]]:
    """Yield the counter changes of ``n`` deliveries that went from one state to another (``old`` None: they are new)."""
    if old == new:
        return
    provider = counted_as(provider)
    if old is not None:
        yield campaign_id, f"delivery.{old}", -n
        if old in BY_PROVIDER:
            yield campaign_id, f"provider.{provider}.{old}", -n
    yield campaign_id, f"delivery.{new}", n
    if new in BY_PROVIDER:
        yield campaign_id, f"provider.{provider}.{new}", n


# Tiers in one go over the slice; where nothing is held everybody's rank is 0, and letters leave in the order they were made in.
CREATE_SLICE = """
WITH held AS MATERIALIZED (
    SELECT COALESCE((SELECT preset IS DISTINCT FROM 'none' OR restricted FROM warmups WHERE domain_id = $2), true) AS so,
        COALESCE($4, now()) AS now
), created AS (
    INSERT INTO deliveries (campaign_id, subscriber_id, domain_id, provider, rank)
    SELECT $1, subscriber.id, $2, COALESCE(recipient_domains.provider, 'other'), CASE WHEN held.so THEN
        CASE
            WHEN subscriber.confirmed_at > held.now - make_interval(days => $5) THEN 0
            WHEN engaged.clicked_at > held.now - make_interval(days => $6) THEN 1
            WHEN engaged.at > held.now - make_interval(days => $6) THEN 2
            WHEN subscriber.created_at > held.now - make_interval(days => $6) AND subscriber.source IS DISTINCT FROM 'import'
                AND NOT EXISTS (
                    SELECT FROM deliveries AS past
                    WHERE past.subscriber_id = subscriber.id AND past.campaign_id <> $1
                ) THEN 3
            WHEN engaged.at > held.now - make_interval(days => $7) THEN 4
            WHEN engaged.at > held.now - make_interval(days => $8) THEN 5
            ELSE 6
        END << 27 | (hashint8extended(subscriber.id, $1) & 134217727)::integer
    ELSE 0 END
    FROM unnest($3::bigint[]) AS picked (id)
    JOIN subscribers AS subscriber ON subscriber.id = picked.id
        AND subscriber.id BETWEEN ($3::bigint[])[1] AND ($3::bigint[])[cardinality($3::bigint[])]
    CROSS JOIN held
    LEFT JOIN engaged ON held.so AND engaged.subscriber_id = subscriber.id
    LEFT JOIN recipient_domains ON recipient_domains.domain = subscriber.domain
    ORDER BY subscriber.id
    ON CONFLICT (campaign_id, subscriber_id) DO NOTHING
    RETURNING provider
), lanes AS (
    INSERT INTO campaign_lanes AS lane (campaign_id, provider, letters)
    SELECT $1, provider, count(*) FROM created GROUP BY provider ORDER BY provider
    ON CONFLICT (campaign_id, provider) DO UPDATE SET letters = lane.letters + excluded.letters
)
SELECT count(*), pg_notify('mailbase_sending', '') FROM created
"""


async def create_slice(
    db: Connection,
    campaign_id: int,
    domain_id: int,
    subscriber_ids: Sequence[int],
    *,
    slot: int,
    now: datetime | None = None,
    tier_days: tuple[int, int, int, int] = Rules().tier_days,
) -> int:
    """Queue a letter for each subscriber (ids ascending) that has none of this campaign yet; return how many were new.

    Runs in the caller's transaction (with the cursor of the fan-out); workers are woken when it commits.
    """
    created: int = await db.fetchval(CREATE_SLICE, campaign_id, domain_id, subscriber_ids, now, *tier_days)
    await counters.add(db, moved(campaign_id, "", None, "queued", created), slot=slot)
    return created


# One after the other for each campaign (0: messages), each with a snapshot younger than the last one's claim.
IN_TURN = """
SELECT pg_advisory_xact_lock(1128353101, ($1::bigint & 2147483647)::integer)
"""

# Two kinds of waiting, an index each, read in its order: only so much of it as is skipped now, not all of it for each slice.
SKIP_WAITING = """
WITH held AS MATERIALIZED (
    SELECT id FROM claims, unnest(ids) AS id WHERE campaign_id = $1 AND id <> ALL (aside)
), fresh AS (
    SELECT id, state FROM deliveries WHERE campaign_id = $1 AND state = 'queued' AND ($4::text[] IS NULL OR provider = ANY($4))
    ORDER BY provider, rank LIMIT $3 + (SELECT count(*) FROM held) FOR UPDATE
), again AS (
    SELECT id, state FROM deliveries WHERE campaign_id = $1 AND state = 'deferred' AND $4::text[] IS NULL
    ORDER BY provider, due_at LIMIT $3 + (SELECT count(*) FROM held) FOR UPDATE
), waiting AS (
    SELECT * FROM (SELECT * FROM fresh UNION ALL SELECT * FROM again) AS found WHERE id NOT IN (SELECT id FROM held) LIMIT $3
), skipped AS (
    UPDATE deliveries AS delivery SET state = 'skipped', reason = $2
    FROM waiting WHERE delivery.id = waiting.id
    RETURNING delivery.provider, waiting.state
)
SELECT provider, state::text, count(*) FROM skipped GROUP BY provider, state
"""


async def skip_waiting(
    db: Connection, campaign_id: int, reason: str, *, limit: int, slot: int, fresh_of: Sequence[str] | None = None
) -> int:
    """Skip up to ``limit`` letters that wait in a queue (cancelled, past ``send_until``); return how many. In a transaction.

    ``fresh_of``: only letters to these providers that were never tried. Letters that a worker holds are skipped by its mark, or
    come back to the queue and are skipped by the next call.
    """
    # Not while somebody leases: what is skipped here is in nobody's hands.
    await db.execute(IN_TURN, campaign_id)
    rows = await db.fetch(SKIP_WAITING, campaign_id, reason, limit, fresh_of)
    changes = [
        change for row in rows for change in moved(campaign_id, row["provider"], row["state"], "skipped", row["count"])
    ]
    await counters.add(db, changes, slot=slot)
    return sum(row["count"] for row in rows)
