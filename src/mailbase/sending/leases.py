"""Leases: letters a worker has taken into its hands to prepare. Cheap, and a promise of nothing.

Each batch has a number of its own from the sequence ``fences``; whoever writes about a delivery names the number, so a worker
that lost its lease (frozen, cut off) writes nothing more. A lease that runs out is taken back by :func:`expire`:

    leased ─▶ queued                                                           nothing had gone out
    handing_over ─▶ unknown      campaigns that promise *at most once*         nobody can tell
    handing_over ─▶ queued       campaigns *at least once*, and messages       the same Message-ID goes out again
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Any, Final

from msgspec import Struct

from mailbase.db import Connection
from mailbase.sending import counters, waiting
from mailbase.sending.deliveries import moved
from mailbase.sending.relay_shares import Interval
from mailbase.sending.waiting import Lane
from mailbase.sending.warmup_rules import TIER_BITS

LEASE: Final = timedelta(seconds=15)
LONGEST: Final = timedelta(minutes=5)
"""No lease is given for longer."""


class CampaignLetter(Struct, kw_only=True, gc=False):
    """A leased letter of a campaign. ``email`` is None when the person is gone."""

    id: int
    subscriber_id: int | None
    attempts: int
    provider: str
    created_at: datetime
    tier: int
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
    returns: str | None = None
    """The sending domain, where letters come back to an address of our own under it."""


# A lane's letters that come again first, then fresh ones, the most engaged people's first. $8 and $9: where the letters are shared
# among several ways out, the ends of this one's slots (relay_shares.slot).
LEASE_CAMPAIGN = """
WITH lease AS MATERIALIZED (
    SELECT nextval('fences') AS fence, COALESCE($5, now()) AS now
), picked AS (
    SELECT letter.id, letter.state
    FROM unnest($2::text[], $3::int[], $6::int[], $7::int[]) AS lane (provider, most, low, high)
    CROSS JOIN LATERAL (
        SELECT again.id, again.state FROM (
            SELECT id, state FROM deliveries
            WHERE campaign_id = $1 AND provider = lane.provider AND state = 'deferred' AND due_at <= COALESCE($5, now()) AND lane.low = 0
              AND ($8::int[] IS NULL OR EXISTS (
                SELECT FROM unnest($8, $9::int[]) AS own (low, high)
                WHERE (id & 65535) * 40503 & 65535 >= own.low AND (id & 65535) * 40503 & 65535 < own.high))
            ORDER BY due_at LIMIT lane.most FOR UPDATE SKIP LOCKED
        ) AS again
        UNION ALL
        SELECT fresh.id, fresh.state FROM (
            SELECT id, state FROM deliveries
            WHERE campaign_id = $1 AND provider = lane.provider AND state = 'queued' AND rank >= lane.low AND rank < lane.high
              AND due_at <= COALESCE($5, now())
              AND ($8::int[] IS NULL OR EXISTS (
                SELECT FROM unnest($8, $9::int[]) AS own (low, high)
                WHERE (id & 65535) * 40503 & 65535 >= own.low AND (id & 65535) * 40503 & 65535 < own.high))
            ORDER BY rank LIMIT lane.most FOR UPDATE SKIP LOCKED
        ) AS fresh
        LIMIT lane.most
    ) AS letter
    WHERE EXISTS (SELECT FROM campaigns WHERE campaigns.id = $1 AND campaigns.status = 'sending')
), leased AS (
    UPDATE deliveries AS delivery
    SET state = 'leased', fence = lease.fence, lease_until = lease.now + $4
    FROM picked, lease WHERE delivery.id = picked.id
    RETURNING delivery.id, delivery.subscriber_id, delivery.attempts, delivery.provider, delivery.created_at, delivery.rank,
        delivery.fence, picked.state
)
SELECT leased.id, leased.subscriber_id, leased.attempts, leased.provider, leased.created_at, leased.rank, leased.fence, leased.state::text,
    subscriber.email, subscriber.attributes, subscriber.tags, subscriber.interests, subscriber.locale, subscriber.timezone
FROM leased LEFT JOIN subscribers AS subscriber ON subscriber.id = leased.subscriber_id
"""


async def lease_campaign(
    db: Connection,
    campaign_id: int,
    limit: int,
    *,
    slot: int,
    lanes: Sequence[Lane] | None = None,
    own: Sequence[Interval] | None = None,
    now: datetime | None = None,
    lease: timedelta = LEASE,
) -> tuple[int, list[CampaignLetter]]:
    """Lease letters of a campaign, as many from each lane as it says (None: up to ``limit`` of every lane in turn).

    ``own``: the slots of letters that go this way, where there are several. Return (fence, letters), the warmer ones first;
    ``limit`` bounds them all.
    """
    if lanes is None:
        lanes = await waiting.all_lanes(db, campaign_id, limit)
    if not lanes:
        return 0, []
    async with db.transaction():
        rows = await db.fetch(
            LEASE_CAMPAIGN, campaign_id, [lane.provider for lane in lanes], [lane.most for lane in lanes], lease, now,
            [lane.low << TIER_BITS for lane in lanes], [lane.high << TIER_BITS for lane in lanes],
            None if own is None else [low for low, _ in own], None if own is None else [high for _, high in own],
        )  # fmt: skip
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
            tier=rank >> TIER_BITS,
            email=email,
            attributes=attributes,
            tags=tags,
            interests=interests,
            locale=locale,
            timezone=timezone,
        )
        for id, subscriber_id, attempts, provider, created_at, rank, _, _, email, attributes, tags, interests, locale, timezone in rows
    ]
    letters.sort(key=_tier)
    return (rows[0]["fence"] if rows else 0), letters


_tier = attrgetter("tier")


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
    (SELECT count(*) FROM message_attachments WHERE message_attachments.message_id = message.id) AS attachments,
    CASE WHEN domain.verp THEN domain.name END AS returns
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


# `state::text` keeps the planner from walking through all leased letters: each is found by its id.
RELEASE = """
UPDATE deliveries SET state = 'queued', lease_until = NULL
WHERE id = ANY($1::bigint[]) AND fence = $2 AND state::text = 'leased'
"""


async def release(db: Connection, ids: Sequence[int], fence: int) -> None:
    """Give leased letters back to the queue."""
    await db.execute(RELEASE, ids, fence)


# A lease that ends so late was given before the server's clock was put back.
EXPIRE = """
WITH late AS (
    SELECT delivery.id, delivery.state,
        CASE
            WHEN delivery.state = 'handing_over' AND campaign.on_crash = 'at_most_once' THEN 'unknown'
            ELSE 'queued'
        END::delivery_state AS next
    FROM deliveries AS delivery LEFT JOIN campaigns AS campaign ON campaign.id = delivery.campaign_id
    WHERE delivery.state IN ('leased', 'handing_over')
      AND (delivery.lease_until <= COALESCE($1, now()) OR delivery.lease_until > COALESCE($1, now()) + $3)
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
        rows = await db.fetch(EXPIRE, now, limit, LONGEST)
        changes = [
            change
            for row in rows
            if row["campaign_id"] is not None
            for change in moved(row["campaign_id"], row["provider"], row["state"], row["next"], row["count"])
        ]
        await counters.add(db, changes, slot=slot)
    return sum(row["count"] for row in rows)


CATCH_UP = """
WITH ahead AS (
    SELECT id FROM deliveries
    WHERE state = 'queued' AND due_at > COALESCE($1, now()) AND created_at > COALESCE($1, now()) LIMIT $2
    FOR UPDATE SKIP LOCKED
)
UPDATE deliveries AS delivery SET due_at = COALESCE($1, now()) FROM ahead WHERE delivery.id = ahead.id
"""


async def catch_up(db: Connection, *, now: datetime | None = None, limit: int = 10_000) -> int:
    """Let letters leave that were made before the server's clock was put back; return how many. Reads the whole queue."""
    return int((await db.execute(CATCH_UP, now, limit)).rpartition(" ")[2])
