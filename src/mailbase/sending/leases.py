"""Leases: letters a worker has taken into its hands to prepare. Cheap, and a promise of nothing.

Each batch has a number of its own from the sequence ``fences``; whoever writes about a delivery names the number, so a worker
that lost its lease (frozen, cut off) writes nothing more. A lease that runs out is taken back by :func:`expire`:

    leased ─▶ queued                                                           nothing had gone out
    handing_over ─▶ unknown      campaigns that promise *at most once*         nobody can tell
    handing_over ─▶ queued       campaigns *at least once*, and messages       the same Message-ID goes out again
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from msgspec import Struct

from mailbase.db import Connection
from mailbase.sending import counters
from mailbase.sending.deliveries import moved

LEASE: Final = timedelta(seconds=15)


class Due(Struct, kw_only=True):
    """A campaign with letters that are due, and what the dispatcher must know of its domain."""

    campaign_id: int
    domain_id: int
    key_id: int | None
    """The active DKIM key; None: the domain leaves signing to the relay."""


class CampaignLetter(Struct, kw_only=True):
    """A leased letter of a campaign. ``email`` is None when the person is gone."""

    id: int
    subscriber_id: int | None
    attempts: int
    provider: str
    created_at: datetime
    email: str | None
    attributes: dict[str, Any] | None
    tags: list[str] | None
    interests: list[int] | None
    locale: str | None
    timezone: str | None


class MessageLetter(Struct, kw_only=True):
    """A leased message."""

    id: int
    subscriber_id: int | None
    attempts: int
    provider: str
    created_at: datetime
    domain_id: int | None
    key_id: int | None
    message_id: int
    kind: str
    from_name: str
    from_email: str
    reply_to: str | None
    email: str
    email_key: str
    subject: str
    html: str | None
    text: str | None
    headers: dict[str, str]
    attachments: int


DUE = """
SELECT campaign.id AS campaign_id, campaign.domain_id, CASE WHEN domain.signing THEN key.id END AS key_id
FROM campaigns AS campaign
JOIN domains AS domain ON domain.id = campaign.domain_id
LEFT JOIN dkim_keys AS key ON key.domain_id = domain.id AND key.state = 'active'
WHERE campaign.status = 'sending' AND campaign.finished_at IS NULL AND EXISTS (
    SELECT FROM deliveries
    WHERE deliveries.campaign_id = campaign.id AND deliveries.state IN ('queued', 'deferred') AND deliveries.due_at <= COALESCE($1, now())
)
ORDER BY campaign.id
"""


async def due(db: Connection, *, now: datetime | None = None) -> list[Due]:
    """Return the campaigns that have something to send now."""
    return [Due(**row) for row in await db.fetch(DUE, now)]


LEASE_CAMPAIGN = """
WITH lease AS MATERIALIZED (
    SELECT nextval('fences') AS fence, COALESCE($4, now()) AS now
), picked AS (
    SELECT delivery.id, delivery.state
    FROM deliveries AS delivery
    WHERE delivery.campaign_id = $1 AND delivery.state IN ('queued', 'deferred') AND delivery.due_at <= COALESCE($4, now())
      AND EXISTS (SELECT FROM campaigns WHERE campaigns.id = $1 AND campaigns.status = 'sending')
    ORDER BY delivery.due_at, delivery.id
    LIMIT $2
    FOR UPDATE SKIP LOCKED
), leased AS (
    UPDATE deliveries AS delivery
    SET state = 'leased', fence = lease.fence, lease_until = lease.now + $3
    FROM picked, lease WHERE delivery.id = picked.id
    RETURNING delivery.id, delivery.subscriber_id, delivery.attempts, delivery.provider, delivery.created_at, delivery.fence, picked.state
)
SELECT leased.id, leased.subscriber_id, leased.attempts, leased.provider, leased.created_at, leased.fence, leased.state::text,
    subscriber.email, subscriber.attributes, subscriber.tags, subscriber.interests, subscriber.locale, subscriber.timezone
FROM leased LEFT JOIN subscribers AS subscriber ON subscriber.id = leased.subscriber_id
"""


async def lease_campaign(
    db: Connection, campaign_id: int, limit: int, *, slot: int, now: datetime | None = None, lease: timedelta = LEASE
) -> tuple[int, list[CampaignLetter]]:
    """Lease up to ``limit`` letters of a campaign; return (fence, letters)."""
    async with db.transaction():
        rows = await db.fetch(LEASE_CAMPAIGN, campaign_id, limit, lease, now)
        again = [row for row in rows if row["state"] == "deferred"]
        await counters.add(
            db,
            (change for row in again for change in moved(campaign_id, row["provider"], "deferred", "leased")),
            slot=slot,
        )
    letters = [
        CampaignLetter(
            id=id,
            subscriber_id=subscriber_id,
            attempts=attempts,
            provider=provider,
            created_at=created_at,
            email=email,
            attributes=attributes,
            tags=tags,
            interests=interests,
            locale=locale,
            timezone=timezone,
        )
        for id, subscriber_id, attempts, provider, created_at, _, _, email, attributes, tags, interests, locale, timezone in rows
    ]
    return (rows[0]["fence"] if rows else 0), letters


LEASE_MESSAGES = """
WITH lease AS MATERIALIZED (
    SELECT nextval('fences') AS fence, COALESCE($3, now()) AS now
), picked AS (
    SELECT id FROM deliveries
    WHERE message_id IS NOT NULL AND state IN ('queued', 'deferred') AND due_at <= COALESCE($3, now())
    ORDER BY due_at, id
    LIMIT $1
    FOR UPDATE SKIP LOCKED
), leased AS (
    UPDATE deliveries AS delivery
    SET state = 'leased', fence = lease.fence, lease_until = lease.now + $2
    FROM picked, lease WHERE delivery.id = picked.id
    RETURNING delivery.id, delivery.subscriber_id, delivery.attempts, delivery.provider, delivery.created_at, delivery.fence, delivery.message_id
)
SELECT leased.id, leased.subscriber_id, leased.attempts, leased.provider, leased.created_at, leased.fence, leased.message_id,
    message.domain_id, CASE WHEN domain.signing THEN key.id END AS key_id,
    message.kind, message.from_name, message.from_email, message.reply_to, message.email, message.email_key, message.subject,
    message.html, message.text, message.headers,
    (SELECT count(*) FROM message_attachments WHERE message_attachments.message_id = message.id) AS attachments
FROM leased
JOIN messages AS message ON message.id = leased.message_id
LEFT JOIN domains AS domain ON domain.id = message.domain_id
LEFT JOIN dkim_keys AS key ON key.domain_id = domain.id AND key.state = 'active'
ORDER BY leased.id
"""


async def lease_messages(
    db: Connection, limit: int, *, now: datetime | None = None, lease: timedelta = LEASE
) -> tuple[int, list[MessageLetter]]:
    """Lease up to ``limit`` messages; return (fence, letters)."""
    rows = [dict(row) for row in await db.fetch(LEASE_MESSAGES, limit, lease, now)]
    fences = [row.pop("fence") for row in rows]
    return (fences[0] if fences else 0), [MessageLetter(**row) for row in rows]


# What a mark or a record is writing just now is left to the next time: waiting for it could deadlock.
RENEW = """
WITH mine AS (
    SELECT id FROM deliveries
    WHERE state IN ('leased', 'handing_over') AND lease_until > COALESCE($3, now()) AND fence = ANY($1::bigint[])
    FOR UPDATE SKIP LOCKED
)
UPDATE deliveries AS delivery SET lease_until = COALESCE($3, now()) + $2 FROM mine WHERE delivery.id = mine.id
"""

HELD = """
SELECT fence, extract(epoch FROM min(lease_until) - COALESCE($2, clock_timestamp()))::float8 AS seconds
FROM deliveries WHERE state IN ('leased', 'handing_over') AND fence = ANY($1::bigint[])
GROUP BY fence
"""


async def renew(
    db: Connection, fences: Sequence[int], *, now: datetime | None = None, lease: timedelta = LEASE
) -> dict[int, float]:
    """Prolong what is still ours; return for how many seconds each fence that holds anything still does."""
    await db.execute(RENEW, fences, lease, now)
    return {row["fence"]: row["seconds"] for row in await db.fetch(HELD, fences, now)}


RELEASE = """
UPDATE deliveries SET state = 'queued', lease_until = NULL
WHERE id = ANY($1::bigint[]) AND fence = $2 AND state = 'leased'
"""


async def release(db: Connection, ids: Sequence[int], fence: int) -> None:
    """Give leased letters back to the queue."""
    await db.execute(RELEASE, ids, fence)


EXPIRE = """
WITH late AS (
    SELECT delivery.id, delivery.state,
        CASE
            WHEN delivery.state = 'handing_over' AND campaign.on_crash = 'at_most_once' THEN 'unknown'
            ELSE 'queued'
        END::delivery_state AS next
    FROM deliveries AS delivery LEFT JOIN campaigns AS campaign ON campaign.id = delivery.campaign_id
    WHERE delivery.state IN ('leased', 'handing_over') AND delivery.lease_until <= COALESCE($1, now())
    ORDER BY delivery.id LIMIT $2
    FOR UPDATE OF delivery SKIP LOCKED
), taken_back AS (
    UPDATE deliveries AS delivery
    SET state = late.next, lease_until = NULL, reason = CASE WHEN late.next = 'unknown' THEN 'worker_died' ELSE delivery.reason END
    FROM late WHERE delivery.id = late.id
    RETURNING delivery.campaign_id, delivery.provider, late.state, late.next
)
SELECT campaign_id, provider, state::text, next::text, count(*) FROM taken_back GROUP BY campaign_id, provider, state, next
"""


async def expire(db: Connection, *, slot: int, now: datetime | None = None, limit: int = 1000) -> int:
    """Take back what dead workers held; return how many letters. The fence stays: a late answer may still be recorded."""
    async with db.transaction():
        rows = await db.fetch(EXPIRE, now, limit)
        changes = [
            change
            for row in rows
            if row["campaign_id"] is not None
            for change in moved(row["campaign_id"], row["provider"], row["state"], row["next"], row["count"])
        ]
        await counters.add(db, changes, slot=slot)
    return sum(row["count"] for row in rows)
