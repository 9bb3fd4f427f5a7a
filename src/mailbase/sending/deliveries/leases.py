"""Leases: letters a worker has taken into its hands to prepare. Cheap, and a promise of nothing.

A lease is one row of ``claims`` with a number of its own, the *fence*: it names the letters, and how many of them are marked.
The letters themselves stay as they are in the queue; who leases next leaves out what is claimed. Whoever writes about a letter
names the fence, so a worker that lost its lease (frozen, cut off) marks nothing more. A lease that runs out is ended by
:func:`expire`:

    claimed ─▶ free                                                            nothing had gone out
    marked  ─▶ unknown      campaigns that promise *at most once*              nobody can tell
    marked  ─▶ queued       campaigns *at least once*, and messages            the same Message-ID goes out again
"""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Any, Final

from msgspec import Struct

from mailbase.db import Connection
from mailbase.sending.deliveries import counters
from mailbase.sending.deliveries.deliveries import IN_TURN, moved
from mailbase.sending.relays.shares import Interval
from mailbase.sending.warmup import waiting
from mailbase.sending.warmup.rules import TIER_BITS
from mailbase.sending.warmup.waiting import Lane

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
    again: bool = False
    """Whether it was refused for now before."""


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


CLAIM = """
INSERT INTO claims (fence, campaign_id, egress, ids, until) VALUES (nextval('fences'), $1, $5, $2, COALESCE($4, now()) + $3) RETURNING fence
"""

# A lane's letters that come again first, then fresh ones, the most engaged people's first. $6 and $7: where the letters are shared
# among several ways out, the ends of this one's slots (relay_shares.slot).
LEASE_CAMPAIGN = """
WITH held AS MATERIALIZED (
    SELECT id FROM claims, unnest(ids) AS id WHERE campaign_id = $1 AND id <> ALL (aside)
)
SELECT letter.id, letter.subscriber_id, letter.attempts, letter.provider, letter.created_at, letter.rank, letter.again,
    subscriber.email, subscriber.attributes, subscriber.tags, subscriber.interests, subscriber.locale, subscriber.timezone
FROM unnest($2::text[], $3::int[], $4::int[], $5::int[]) AS lane (provider, most, low, high)
CROSS JOIN LATERAL (
    SELECT * FROM (
        SELECT id, subscriber_id, attempts, provider, created_at, rank, true AS again FROM deliveries
        WHERE campaign_id = $1 AND provider = lane.provider AND state = 'deferred' AND due_at <= COALESCE($8, now()) AND lane.low = 0
          AND id NOT IN (SELECT id FROM held)
          AND ($6::int[] IS NULL OR EXISTS (
            SELECT FROM unnest($6, $7::int[]) AS own (low, high)
            WHERE (id & 65535) * 40503 & 65535 >= own.low AND (id & 65535) * 40503 & 65535 < own.high))
        ORDER BY due_at LIMIT lane.most
    ) AS again
    UNION ALL
    SELECT * FROM (
        SELECT id, subscriber_id, attempts, provider, created_at, rank, false AS again FROM deliveries
        WHERE campaign_id = $1 AND provider = lane.provider AND state = 'queued' AND rank >= lane.low AND rank < lane.high
          AND due_at <= COALESCE($8, now())
          AND id NOT IN (SELECT id FROM held)
          AND ($6::int[] IS NULL OR EXISTS (
            SELECT FROM unnest($6, $7::int[]) AS own (low, high)
            WHERE (id & 65535) * 40503 & 65535 >= own.low AND (id & 65535) * 40503 & 65535 < own.high))
        ORDER BY rank LIMIT lane.most
    ) AS fresh
    LIMIT lane.most
) AS letter
LEFT JOIN subscribers AS subscriber ON subscriber.id = letter.subscriber_id
WHERE EXISTS (SELECT FROM campaigns WHERE campaigns.id = $1 AND campaigns.status = 'sending')
"""


async def lease_campaign(
    db: Connection,
    campaign_id: int,
    limit: int,
    *,
    egress: str = "relay",
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
        await db.execute(IN_TURN, campaign_id)
        rows = await db.fetch(
            LEASE_CAMPAIGN, campaign_id, [lane.provider for lane in lanes], [lane.most for lane in lanes],
            [lane.low << TIER_BITS for lane in lanes], [lane.high << TIER_BITS for lane in lanes],
            None if own is None else [low for low, _ in own], None if own is None else [high for _, high in own], now,
        )  # fmt: skip
        letters = [
            CampaignLetter(
                id=id,
                subscriber_id=subscriber_id,
                attempts=attempts,
                provider=provider,
                created_at=created_at,
                tier=rank >> TIER_BITS,
                again=again,
                email=email,
                attributes=attributes,
                tags=tags,
                interests=interests,
                locale=locale,
                timezone=timezone,
            )
            for id, subscriber_id, attempts, provider, created_at, rank, again, email, attributes, tags, interests, locale, timezone in rows
        ]
        letters.sort(key=_tier)
        if not letters:
            return 0, []
        fence: int = await db.fetchval(CLAIM, campaign_id, [letter.id for letter in letters], lease, now, egress)
    return fence, letters


_tier = attrgetter("tier")


# What is `other` as yet may turn out to be anybody's: a worker that may send to all comes first.
LEASE_MESSAGES = """
WITH held AS MATERIALIZED (
    SELECT id FROM claims, unnest(ids) AS id WHERE campaign_id IS NULL AND id <> ALL (aside)
), letter AS MATERIALIZED (
    SELECT id, subscriber_id, attempts, provider, created_at, message_id FROM deliveries
    WHERE message_id IS NOT NULL AND state IN ('queued', 'deferred') AND due_at <= COALESCE($2, now()) AND id NOT IN (SELECT id FROM held)
      AND provider <> ALL ($3::text[]) AND NOT ('other' = ANY ($3::text[]) AND provider LIKE 'site:%')
      AND (provider <> 'other' OR cardinality($3::text[]) = 0 OR due_at <= COALESCE($2, now()) - interval '0.5 seconds')
    ORDER BY due_at, id
    LIMIT $1
)
SELECT letter.id, letter.subscriber_id, letter.attempts, letter.provider, letter.created_at, letter.message_id,
    message.domain_id, CASE WHEN domain.signing THEN key.id END AS key_id,
    message.kind, message.from_name, message.from_email, message.reply_to, message.email, message.email_key, message.subject,
    message.html, message.text, message.headers,
    (SELECT count(*) FROM message_attachments WHERE message_attachments.message_id = message.id) AS attachments,
    CASE WHEN domain.verp THEN domain.name END AS returns
FROM letter
JOIN messages AS message ON message.id = letter.message_id
LEFT JOIN domains AS domain ON domain.id = message.domain_id
LEFT JOIN dkim_keys AS key ON key.domain_id = domain.id AND key.state = 'active'
ORDER BY letter.id
"""


async def lease_messages(
    db: Connection,
    limit: int,
    *,
    egress: str = "relay",
    full: Collection[str] = (),
    now: datetime | None = None,
    lease: timedelta = LEASE,
) -> tuple[int, list[MessageLetter]]:
    """Lease up to ``limit`` messages, none to the providers in ``full`` (``other``: nor to sites); return (fence, letters)."""
    async with db.transaction():
        await db.execute(IN_TURN, 0)
        letters = [MessageLetter(**row) for row in await db.fetch(LEASE_MESSAGES, limit, now, list(full))]
        if not letters:
            return 0, []
        fence: int = await db.fetchval(CLAIM, None, [letter.id for letter in letters], lease, now, egress)
    return fence, letters


# Whoever writes several claims takes them in the order of their fences.
RENEW = """
WITH ours AS MATERIALIZED (
    SELECT fence FROM claims WHERE fence = ANY ($1::bigint[]) AND until > COALESCE($3, now()) ORDER BY fence FOR UPDATE
)
UPDATE claims SET until = COALESCE($3, now()) + $2 FROM ours WHERE claims.fence = ours.fence
RETURNING claims.fence, extract(epoch FROM until - COALESCE($3, clock_timestamp()))::float8 AS seconds
"""


async def renew(
    db: Connection, fences: Sequence[int], *, now: datetime | None = None, lease: timedelta = LEASE
) -> dict[int, float]:
    """Prolong what is still ours; return for how many seconds each of these fences holds."""
    return {row["fence"]: row["seconds"] for row in await db.fetch(RENEW, fences, lease, now)}


RELEASE = """
UPDATE claims SET aside = aside || $1::bigint[] WHERE fence = $2
"""


async def release(db: Connection, ids: Sequence[int], fence: int) -> None:
    """Give letters of which nothing went out back to the queue."""
    await db.execute(RELEASE, ids, fence)


CLOSE = """
WITH ours AS MATERIALIZED (
    SELECT fence FROM claims WHERE fence = ANY ($1::bigint[]) ORDER BY fence FOR UPDATE
)
DELETE FROM claims USING ours WHERE claims.fence = ours.fence
"""


async def close(db: Connection, fences: Sequence[int]) -> None:
    """End leases of which every letter is recorded or given back."""
    await db.execute(CLOSE, fences)


# A lease that ends so late was given before the server's clock was put back.
EXPIRE = """
WITH late AS MATERIALIZED (
    SELECT claims.fence, claims.egress, claims.ids, claims.marked, claims.aside, COALESCE(campaign.on_crash, 'at_least_once') AS on_crash
    FROM claims LEFT JOIN campaigns AS campaign ON campaign.id = claims.campaign_id
    WHERE claims.until <= COALESCE($1, now()) OR claims.until > COALESCE($1, now()) + $3
    ORDER BY claims.fence LIMIT $2
    FOR UPDATE OF claims SKIP LOCKED
), held AS MATERIALIZED (
    SELECT letter.id, late.fence, late.egress, letter.n <= late.marked AS marked,
        CASE WHEN late.on_crash = 'at_most_once' THEN 'unknown' ELSE 'queued' END::delivery_state AS next
    FROM late, unnest(late.ids) WITH ORDINALITY AS letter (id, n) WHERE letter.id <> ALL (late.aside)
), in_doubt AS MATERIALIZED (
    SELECT delivery.id, delivery.state, held.fence, held.egress, held.next
    FROM held JOIN deliveries AS delivery ON delivery.id = held.id
    WHERE held.marked AND delivery.state::text IN ('queued', 'deferred')
    ORDER BY delivery.id
    FOR UPDATE OF delivery
), taken_back AS (
    UPDATE deliveries AS delivery
    SET state = in_doubt.next, fence = in_doubt.fence, egress = in_doubt.egress, attempts = delivery.attempts + 1,
        reason = CASE WHEN in_doubt.next = 'unknown' THEN 'worker_died' ELSE delivery.reason END
    FROM in_doubt WHERE delivery.id = in_doubt.id
    RETURNING delivery.campaign_id, delivery.provider, in_doubt.state, in_doubt.next
), gone AS (
    DELETE FROM claims USING late WHERE claims.fence = late.fence
)
SELECT campaign_id, provider, state::text, next::text, count(*) FROM taken_back GROUP BY campaign_id, provider, state, next
UNION ALL
SELECT NULL, NULL, NULL, NULL, count(*) FROM held JOIN deliveries AS delivery ON delivery.id = held.id
WHERE NOT held.marked AND delivery.state::text IN ('queued', 'deferred')
"""


async def expire(db: Connection, *, slot: int, now: datetime | None = None, limit: int = 20) -> int:
    """End up to ``limit`` leases of dead workers; return how many letters they held. A late answer may still be recorded."""
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
