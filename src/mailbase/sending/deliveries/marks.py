"""The mark: the one promise, committed for a whole batch before any of its content goes out.

It moves one number in the lease's row: so many of its letters, from the first, may be on their way. Everything that can hold a
letter back is looked at in that same statement or transaction, so it holds from that moment on: is the letter still ours? is its
campaign still sending, and in time? is the person still active, at this address, not suppressed, not pausing, and had no other too
lately? has the domain's allowance room? What fails the look is put aside: it waits in the queue again, or is skipped with the reason.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import NamedTuple

from asyncpg import Record
from msgspec import Struct

from mailbase.db import Connection
from mailbase.sending.deliveries import counters
from mailbase.sending.deliveries.deliveries import moved
from mailbase.sending.warmup import take as warmup_take
from mailbase.sending.warmup import turns
from mailbase.sending.warmup.rules import Preset


class Pair(NamedTuple):
    """A letter to mark: its delivery's id, the address it was written for, and where the warm-up counts it."""

    id: int
    email: str
    provider: str = "other"
    tier: int = 0


class Marked(Struct):
    """Which letters may go out now. ``bucket``: where a cap counted them, None where nothing is held."""

    ids: set[int]
    bucket: datetime | None = None
    cold: Collection[int] = ()
    """Which of them it counted as going to people of cold tiers."""
    held: bool = False
    """Whether some went back to the queue for want of allowance."""


# Fine is who may be written to. Each letter is to be found by its id: `state::text` keeps the planner from the indexes of the queue,
# and a join with the campaign would lead it through all of the campaign's; a claim belongs to one campaign anyway.
FINE = """
SELECT delivery.id
FROM unnest($1::bigint[], $2::text[]) AS letter (id, email), deliveries AS delivery, subscribers AS subscriber
WHERE delivery.id = letter.id AND delivery.state::text IN ('queued', 'deferred')
  AND subscriber.id = delivery.subscriber_id AND subscriber.status = 'active' AND subscriber.email = letter.email
  AND (subscriber.paused_until IS NULL OR subscriber.paused_until <= COALESCE($4, now()))
  AND (subscriber.frequency = 'all' OR NOT EXISTS (
    SELECT FROM deliveries AS earlier
    WHERE earlier.subscriber_id = subscriber.id AND earlier.campaign_id <> $3 AND earlier.campaign_id = ANY (ARRAY(
        SELECT id FROM campaigns WHERE status <> 'draft' AND (finished_at IS NULL OR finished_at > COALESCE($4, now()) - interval '28 days')))
      AND (earlier.state::text IN ('sent', 'unknown') AND COALESCE(earlier.sent_at, earlier.due_at) > COALESCE($4, now())
          - CASE subscriber.frequency WHEN 'weekly' THEN interval '6 days 12 hours' ELSE interval '27 days' END
        OR earlier.state::text IN ('queued', 'deferred') AND EXISTS (SELECT FROM claims AS other WHERE earlier.id = ANY (other.ids[:other.marked]) AND earlier.id <> ALL (other.aside)))))
  AND NOT EXISTS (SELECT FROM suppressions WHERE suppressions.value = subscriber.email_key)
  AND NOT EXISTS (SELECT FROM suppressions WHERE suppressions.value = subscriber.domain)
  AND EXISTS (
    SELECT FROM campaigns
    WHERE campaigns.id = $3 AND campaigns.status = 'sending' AND (send_until IS NULL OR send_until > COALESCE($4, now()))
      AND (SELECT stopped_at FROM domains WHERE domains.id = campaigns.domain_id) IS NULL
  )
"""

# Two marks at once do not see each other. So who asked for fewer and has another letter waiting, marked or not, is never marked by one
# statement: that takes a lock first, and looks then, with a snapshot younger than what the lock's last holder did.
_MARKED = " AND EXISTS (SELECT FROM claims AS other WHERE earlier.id = ANY (other.ids[:other.marked]) AND earlier.id <> ALL (other.aside))"
ALONE = FINE.replace(_MARKED, "")

TAKE_TURNS = """
SELECT pg_advisory_xact_lock(7236525) FROM (
  SELECT FROM deliveries AS delivery, subscribers AS subscriber
  WHERE delivery.id = ANY($1::bigint[]) AND subscriber.id = delivery.subscriber_id AND subscriber.frequency <> 'all' AND EXISTS (
    SELECT FROM deliveries AS earlier
    WHERE earlier.subscriber_id = subscriber.id AND earlier.campaign_id <> $2 AND earlier.state::text IN ('queued', 'deferred')
      AND earlier.campaign_id = ANY (ARRAY(SELECT id FROM campaigns WHERE status <> 'draft' AND finished_at IS NULL)))
  LIMIT 1) AS anybody
"""

# The usual batch, in one statement that commits by itself: nothing holds the domain back, and every letter is fine.
MARK_ALL = f"""
UPDATE claims SET marked = marked + cardinality($1::bigint[])
WHERE fence = $5 AND until > COALESCE($4, now()) AND ids[marked + 1 : marked + cardinality($1::bigint[])] = $1::bigint[]
  AND COALESCE((
    SELECT CASE WHEN restricted THEN 'held' ELSE preset END
    FROM warmups WHERE domain_id = (SELECT domain_id FROM campaigns WHERE campaigns.id = $3)
  ), $6) = 'none'
  AND (SELECT count(*) FROM ({ALONE}) AS fine) = cardinality($1::bigint[])
RETURNING fence
"""  # noqa: S608  (both parts are ours)

OWN = """
SELECT FROM claims
WHERE fence = $1 AND until > COALESCE($3, now()) AND ids[marked + 1 : marked + cardinality($2::bigint[])] = $2::bigint[]
FOR UPDATE
"""

MARK_SOME = """
UPDATE claims SET marked = marked + $2, aside = aside || $3::bigint[] WHERE fence = $1
"""

JUDGE_CAMPAIGN = """
SELECT delivery.id, delivery.campaign_id, delivery.provider, delivery.state::text, CASE
    WHEN campaign.status = 'cancelled' THEN 'cancelled'
    WHEN campaign.status <> 'sending' THEN NULL
    WHEN campaign.send_until <= COALESCE($3, now()) THEN 'expired'
    WHEN subscriber.id IS NULL THEN 'erased'
    WHEN subscriber.status <> 'active' THEN subscriber.status
    WHEN EXISTS (SELECT FROM suppressions WHERE suppressions.value IN (subscriber.email_key, subscriber.domain)) THEN 'suppressed'
    WHEN subscriber.paused_until > COALESCE($3, now()) THEN 'paused'
    WHEN subscriber.frequency <> 'all' AND EXISTS (
        SELECT FROM deliveries AS earlier
        WHERE earlier.subscriber_id = subscriber.id AND earlier.campaign_id <> $2 AND earlier.campaign_id = ANY (ARRAY(
            SELECT id FROM campaigns WHERE status <> 'draft' AND (finished_at IS NULL OR finished_at > COALESCE($3, now()) - interval '28 days')))
            AND (earlier.state::text IN ('sent', 'unknown') AND COALESCE(earlier.sent_at, earlier.due_at) > COALESCE($3, now())
                    - CASE subscriber.frequency WHEN 'weekly' THEN interval '6 days 12 hours' ELSE interval '27 days' END
                OR earlier.state::text IN ('queued', 'deferred') AND EXISTS (SELECT FROM claims AS other WHERE earlier.id = ANY (other.ids[:other.marked]) AND earlier.id <> ALL (other.aside)))
    ) THEN 'frequency'
END AS reason
FROM deliveries AS delivery
JOIN campaigns AS campaign ON campaign.id = $2
LEFT JOIN subscribers AS subscriber ON subscriber.id = delivery.subscriber_id
WHERE delivery.id = ANY($1::bigint[]) AND delivery.state::text IN ('queued', 'deferred')
ORDER BY delivery.id
FOR UPDATE OF delivery
"""

SKIP = """
UPDATE deliveries AS delivery SET state = 'skipped', reason = verdict.reason
FROM unnest($1::bigint[], $2::text[]) AS verdict (id, reason) WHERE delivery.id = verdict.id
"""


async def mark_campaign(
    db: Connection,
    campaign_id: int,
    domain_id: int,
    fence: int,
    letters: Sequence[Pair],
    *,
    egress: str,
    to_outbox: bool,
    slot: int,
    capped: bool | None = None,
    closed: Collection[str] = (),
    now: datetime | None = None,
) -> Marked:
    """Mark the next letters of one lease, in its order, for a way out; commits by itself.

    ``capped``: whether the domain is thought to have a cap; what is thought wrongly costs a second try, nothing else.
    ``closed``: providers of which the way out takes no more; their letters go back to the queue.
    """
    default: Preset = "none" if to_outbox else "cautious"
    ids, emails = [letter[0] for letter in letters], [letter[1] for letter in letters]
    going = [letter for letter in letters if letter.provider not in closed]
    if (
        not capped
        and len(going) == len(ids)
        and await db.fetchval(MARK_ALL, ids, emails, campaign_id, now, fence, default) is not None
    ):
        return Marked(set(ids))
    async with db.transaction():
        if not await db.fetch(OWN, fence, ids, now):
            return Marked(set())
        await db.execute(TAKE_TURNS, ids, campaign_id)
        fine = {row["id"] for row in await db.fetch(FINE, ids, emails, campaign_id, now)}
        judged = await db.fetch(JUDGE_CAMPAIGN, [id for id in ids if id not in fine], campaign_id, now)
        wanted: dict[str, list[int]] = {}
        going = [letter for letter in going if letter.id in fine]
        for letter in going:
            wanted.setdefault(letter.provider, []).append(letter.tier)
        grants = await warmup_take.take(db, domain_id, egress, wanted, to_outbox=to_outbox, now=now)
        marked = _granted(going, grants.granted)
        await db.execute(MARK_SOME, fence, len(ids), [id for id in ids if id not in marked])
        if grants.bucket is not None:
            out = [letter.provider for letter in going if letter.id in marked]
            out += [row["provider"] for row in judged if row["reason"] is not None]
            await turns.gone(db, Counter((campaign_id, provider) for provider in out))
        await _skip(db, judged, slot=slot)
    cold = {letter.id for letter in going if letter.id in marked and letter.tier >= grants.cold_tier}
    return Marked(marked, grants.bucket, cold, held=len(marked) < len(going))


def _granted(letters: Sequence[Pair], granted: dict[str, int]) -> set[int]:
    """Return the first letters of each provider, as many as it was granted."""
    left = dict(granted)
    going = set()
    for letter in letters:
        if left[letter.provider]:
            left[letter.provider] -= 1
            going.add(letter.id)
    return going


async def _skip(db: Connection, judged: Sequence[Record], *, slot: int) -> None:
    """Skip what the look found a reason for; the rest waits in the queue."""
    found = [row for row in judged if row["reason"] is not None]
    if not found:
        return
    await db.execute(SKIP, [row["id"] for row in found], [row["reason"] for row in found])
    changes = [
        change
        for row in found
        if row["campaign_id"] is not None
        for change in moved(row["campaign_id"], row["provider"], row["state"], "skipped")
    ]
    await counters.add(db, changes, slot=slot)


FINE_MESSAGES = """
SELECT delivery.id, delivery.domain_id, delivery.provider,
    EXISTS (SELECT FROM warmups WHERE warmups.domain_id = delivery.domain_id AND NOT exempt) AS holds
FROM unnest($1::bigint[], $2::text[]) AS letter (id, erased)
JOIN deliveries AS delivery ON delivery.id = letter.id
JOIN messages AS message ON message.id = delivery.message_id
WHERE delivery.state::text IN ('queued', 'deferred')
  AND NOT EXISTS (
    SELECT FROM suppressions
    WHERE suppressions.value IN (message.email_key, substring(message.email_key FROM '@([^@]*)$'), letter.erased)
      AND (message.kind <> 'confirmation' OR suppressions.reason = 'manual')
  )
ORDER BY delivery.domain_id, delivery.id
"""

JUDGE_MESSAGES = """
SELECT id, campaign_id, provider, state::text, 'suppressed' AS reason FROM deliveries
WHERE id = ANY($1::bigint[]) AND state::text IN ('queued', 'deferred')
ORDER BY id
FOR UPDATE
"""

POSTPONE = """
UPDATE deliveries SET due_at = $2 WHERE id = $1 AND state::text IN ('queued', 'deferred')
"""


async def mark_messages(
    db: Connection,
    fence: int,
    letters: Sequence[tuple[int, str]],
    *,
    egress: str,
    to_outbox: bool = False,
    now: datetime | None = None,
) -> Marked:
    """Mark the next messages of one lease, as (delivery id, the address's hash as an erased one); commits by itself.

    Messages are counted in their domain's allowance and, unless the domain says otherwise, never held by it. A confirmation
    is what brings someone back who left, complained, bounced or was erased, so only the owner's own entries keep it from
    going out.
    """
    ids = [id for id, _ in letters]
    async with db.transaction():
        if not await db.fetch(OWN, fence, ids, now):
            return Marked(set())
        fine = await db.fetch(FINE_MESSAGES, ids, [erased for _, erased in letters])
        marked: set[int] = set()
        counted: dict[int, Counter[str]] = {}
        for row in fine:
            if row["holds"] and not await _room(db, row, egress=egress, to_outbox=to_outbox, now=now):
                continue
            marked.add(row["id"])
            if not row["holds"] and row["domain_id"] is not None:
                counted.setdefault(row["domain_id"], Counter())[row["provider"]] += 1
        for domain_id in sorted(counted):
            await warmup_take.note(db, domain_id, egress, counted[domain_id], now=now)
        await db.execute(MARK_SOME, fence, len(ids), [id for id in ids if id not in marked])
        known = {row["id"] for row in fine}
        if len(known) < len(ids):
            await _skip(db, await db.fetch(JUDGE_MESSAGES, [id for id in ids if id not in known]), slot=0)
    return Marked(marked)


async def _room(db: Connection, row: Record, *, egress: str, to_outbox: bool, now: datetime | None) -> bool:
    """Take room for a message of a domain that holds messages, too; without any it waits until there is."""
    wanted = {row["provider"]: [0]}
    grants = await warmup_take.take(db, row["domain_id"], egress, wanted, to_outbox=to_outbox, now=now)
    if sum(grants.granted.values()):
        return True
    await db.execute(POSTPONE, row["id"], grants.wait)
    return False
