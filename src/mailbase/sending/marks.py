"""The mark ``handing_over``: the one promise, committed for a whole batch before any of its content goes out.

Everything that can hold a letter back is looked at in that same statement, so it holds from that moment on: is the letter
still ours? is its campaign still sending, and in time? is the person still active, at this address, and not suppressed? has
the domain's allowance room? What fails the look goes back to the queue, or is skipped with the reason.
"""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from asyncpg import Record
from msgspec import Struct

from mailbase.db import Connection
from mailbase.sending import counters, warmup
from mailbase.sending.deliveries import moved
from mailbase.sending.warmup import Preset


class Marked(Struct):
    """Which letters may go out now. ``bucket``: where a cap counted them, None where nothing is held."""

    ids: set[int]
    bucket: datetime | None = None
    held: bool = False
    """Whether some went back to the queue for want of allowance."""


# Each letter is to be found by its id: `state::text` keeps the planner from the index of all leased letters, and a join with
# the campaign would lead it through all of the campaign's. A fence belongs to one campaign, so nothing needs comparing there.
MARK_CAMPAIGN = """
WITH campaign AS MATERIALIZED (
    SELECT FROM campaigns
    WHERE id = $4 AND status = 'sending' AND (send_until IS NULL OR send_until > COALESCE($5, now()))
      AND ($6 OR COALESCE((SELECT preset FROM warmups WHERE warmups.domain_id = campaigns.domain_id), $7) = 'none')
)
UPDATE deliveries AS delivery SET state = 'handing_over', attempts = delivery.attempts + 1
FROM unnest($1::bigint[], $2::text[]) AS letter (id, email), subscribers AS subscriber
WHERE EXISTS (SELECT FROM campaign) AND delivery.id = letter.id AND delivery.fence = $3
  AND delivery.state::text = 'leased' AND delivery.lease_until > COALESCE($5, now())
  AND subscriber.id = delivery.subscriber_id AND subscriber.status = 'active' AND subscriber.email = letter.email
  AND NOT EXISTS (SELECT FROM suppressions WHERE suppressions.value = subscriber.email_key)
  AND NOT EXISTS (SELECT FROM suppressions WHERE suppressions.value = subscriber.domain)
RETURNING delivery.id
"""

JUDGE_CAMPAIGN = """
SELECT delivery.id, delivery.campaign_id, delivery.provider, CASE
    WHEN campaign.status = 'cancelled' THEN 'cancelled'
    WHEN campaign.status <> 'sending' THEN NULL
    WHEN campaign.send_until <= COALESCE($4, now()) THEN 'expired'
    WHEN subscriber.id IS NULL THEN 'erased'
    WHEN subscriber.status <> 'active' THEN subscriber.status
    WHEN EXISTS (SELECT FROM suppressions WHERE suppressions.value IN (subscriber.email_key, subscriber.domain)) THEN 'suppressed'
END AS reason
FROM deliveries AS delivery
JOIN campaigns AS campaign ON campaign.id = $3
LEFT JOIN subscribers AS subscriber ON subscriber.id = delivery.subscriber_id
WHERE delivery.id = ANY($1::bigint[]) AND delivery.fence = $2 AND delivery.campaign_id = $3 AND delivery.state = 'leased'
ORDER BY delivery.id
FOR UPDATE OF delivery
"""

SEND_BACK = """
UPDATE deliveries AS delivery
SET state = (CASE WHEN verdict.reason IS NULL THEN 'queued' ELSE 'skipped' END)::delivery_state,
    reason = verdict.reason, lease_until = NULL
FROM unnest($1::bigint[], $2::text[]) AS verdict (id, reason) WHERE delivery.id = verdict.id
"""


async def mark_campaign(
    db: Connection,
    campaign_id: int,
    domain_id: int,
    fence: int,
    letters: Sequence[tuple[int, str]],
    *,
    to_outbox: bool,
    slot: int,
    capped: bool | None = None,
    now: datetime | None = None,
) -> Marked:
    """Mark a batch of one lease, as (delivery id, the address it was written for); commits by itself.

    ``capped``: whether the domain is thought to have a cap; what is thought wrongly costs a second try, nothing else.
    """
    default: Preset = warmup.effective(None, to_outbox=to_outbox)
    marked: set[int] = set()
    if not capped:
        ids, emails = _columns(letters)
        marked = {
            row["id"] for row in await db.fetch(MARK_CAMPAIGN, ids, emails, fence, campaign_id, now, False, default)
        }
        if len(marked) == len(letters):
            return Marked(marked)
    rest = [letter for letter in letters if letter[0] not in marked]
    async with db.transaction():
        grant = await warmup.take(db, domain_id, len(rest), to_outbox=to_outbox, now=now)
        ids, emails = _columns(rest[: grant.granted])
        rows = await db.fetch(MARK_CAMPAIGN, ids, emails, fence, campaign_id, now, True, default) if ids else []
        if grant.bucket is not None and len(rows) < grant.granted:
            await warmup.give_back(db, domain_id, grant.bucket, grant.granted - len(rows))
        marked |= {row["id"] for row in rows}
        judged = await db.fetch(JUDGE_CAMPAIGN, [id for id, _ in rest if id not in marked], fence, campaign_id, now)
        await _send_back(db, judged, slot=slot)
    return Marked(marked, grant.bucket, held=grant.granted < len(rest))


def _columns(letters: Sequence[tuple[int, str]]) -> tuple[list[int], list[str]]:
    return [id for id, _ in letters], [email for _, email in letters]


async def _send_back(db: Connection, judged: Sequence[Record], *, slot: int) -> None:
    """Write what the look found: back to the queue, or skipped with the reason."""
    if not judged:
        return
    await db.execute(SEND_BACK, [row["id"] for row in judged], [row["reason"] for row in judged])
    changes = [
        change
        for row in judged
        if row["reason"] is not None and row["campaign_id"] is not None
        for change in moved(row["campaign_id"], row["provider"], "leased", "skipped")
    ]
    await counters.add(db, changes, slot=slot)


MARK_MESSAGES = """
UPDATE deliveries AS delivery SET state = 'handing_over', attempts = delivery.attempts + 1
FROM unnest($1::bigint[], $2::text[]) AS letter (id, erased), messages AS message
WHERE delivery.id = letter.id AND delivery.fence = $3
  AND delivery.state::text = 'leased' AND delivery.lease_until > COALESCE($4, now())
  AND message.id = delivery.message_id
  AND NOT EXISTS (
    SELECT FROM suppressions
    WHERE suppressions.value IN (message.email_key, substring(message.email_key FROM '@([^@]*)$'), letter.erased)
      AND (message.kind <> 'confirmation' OR suppressions.reason = 'manual')
  )
RETURNING delivery.id, delivery.domain_id
"""

JUDGE_MESSAGES = """
SELECT id, campaign_id, provider, 'suppressed' AS reason FROM deliveries
WHERE id = ANY($1::bigint[]) AND fence = $2 AND state = 'leased' AND lease_until > COALESCE($3, now())
ORDER BY id
FOR UPDATE
"""


async def mark_messages(
    db: Connection, fence: int, letters: Sequence[tuple[int, str]], *, now: datetime | None = None
) -> Marked:
    """Mark a batch of messages of one lease, as (delivery id, the address's hash as an erased one); commits by itself.

    Messages are counted in their domain's allowance and never held by it. A confirmation is what brings someone back who
    left, complained, bounced or was erased, so only the owner's own entries keep it from going out.
    """
    async with db.transaction():
        ids, hashes = _columns(letters)
        rows = await db.fetch(MARK_MESSAGES, ids, hashes, fence, now)
        marked = {row["id"] for row in rows}
        domains = Counter(row["domain_id"] for row in rows if row["domain_id"] is not None)
        for domain_id in sorted(domains):
            await warmup.note(db, domain_id, domains[domain_id], now=now)
        if len(marked) < len(ids):
            judged = await db.fetch(JUDGE_MESSAGES, [id for id in ids if id not in marked], fence, now)
            await _send_back(db, judged, slot=0)
    return Marked(marked)
