"""The mark ``handing_over``: the one promise, committed for a whole batch before any of its content goes out.

Everything that can hold a letter back is looked at in that same statement, so it holds from that moment on: is the letter
still ours? is its campaign still sending, and in time? is the person still active, at this address, not suppressed, and not
pausing or had one too lately? has the domain's allowance room? What fails the look goes back to the queue, or is skipped with the reason.
"""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from asyncpg import Record
from msgspec import Struct

from mailbase.db import Connection
from mailbase.sending import counters, warmup_take
from mailbase.sending.deliveries import moved
from mailbase.sending.warmup_rules import Preset


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
    held: bool = False
    """Whether some went back to the queue for want of allowance."""


# Each letter is to be found by its id: `state::text` keeps the planner from the index of all leased letters, and a join with
# the campaign would lead it through all of the campaign's. A fence belongs to one campaign, so nothing needs comparing there.
MARK_CAMPAIGN = """
WITH campaign AS MATERIALIZED (
    SELECT FROM campaigns
    WHERE id = $4 AND status = 'sending' AND (send_until IS NULL OR send_until > COALESCE($5, now()))
      AND (SELECT stopped_at FROM domains WHERE domains.id = campaigns.domain_id) IS NULL
      AND ($6 OR COALESCE((
        SELECT CASE WHEN restricted THEN 'held' ELSE preset END FROM warmups WHERE warmups.domain_id = campaigns.domain_id
      ), $7) = 'none')
)
UPDATE deliveries AS delivery SET state = 'handing_over', attempts = delivery.attempts + 1, egress = $8
FROM unnest($1::bigint[], $2::text[]) AS letter (id, email), subscribers AS subscriber
WHERE EXISTS (SELECT FROM campaign) AND delivery.id = letter.id AND delivery.fence = $3
  AND delivery.state::text = 'leased' AND delivery.lease_until > COALESCE($5, now())
  AND subscriber.id = delivery.subscriber_id AND subscriber.status = 'active' AND subscriber.email = letter.email
  AND (subscriber.paused_until IS NULL OR subscriber.paused_until <= COALESCE($5, now()))
  AND (subscriber.frequency = 'all' OR NOT EXISTS (
    SELECT FROM deliveries AS earlier
    WHERE earlier.subscriber_id = subscriber.id AND earlier.campaign_id <> $4
      AND (earlier.state::text = 'handing_over' OR earlier.state::text IN ('sent', 'unknown')
        AND COALESCE(earlier.sent_at, earlier.due_at) > COALESCE($5, now())
          - CASE subscriber.frequency WHEN 'weekly' THEN interval '6 days 12 hours' ELSE interval '27 days' END)))
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
    WHEN subscriber.paused_until > COALESCE($4, now()) THEN 'paused'
    WHEN subscriber.frequency <> 'all' AND EXISTS (
        SELECT FROM deliveries AS earlier
        WHERE earlier.subscriber_id = subscriber.id AND earlier.campaign_id <> $3
            AND (earlier.state::text = 'handing_over' OR earlier.state::text IN ('sent', 'unknown')
                AND COALESCE(earlier.sent_at, earlier.due_at) > COALESCE($4, now())
                    - CASE subscriber.frequency WHEN 'weekly' THEN interval '6 days 12 hours' ELSE interval '27 days' END)
    ) THEN 'frequency'
END AS reason
FROM deliveries AS delivery
JOIN campaigns AS campaign ON campaign.id = $3
LEFT JOIN subscribers AS subscriber ON subscriber.id = delivery.subscriber_id
WHERE delivery.id = ANY($1::bigint[]) AND delivery.fence = $2 AND delivery.campaign_id = $3 AND delivery.state::text = 'leased'
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
    letters: Sequence[Pair],
    *,
    egress: str,
    to_outbox: bool,
    slot: int,
    capped: bool | None = None,
    now: datetime | None = None,
) -> Marked:
    """Mark a batch of one lease for a way out; commits by itself.

    ``capped``: whether the domain is thought to have a cap; what is thought wrongly costs a second try, nothing else.
    """
    default: Preset = "none" if to_outbox else "cautious"
    marked: set[int] = set()
    if not capped:
        rows = await db.fetch(MARK_CAMPAIGN, *_columns(letters), fence, campaign_id, now, False, default, egress)
        marked = {row["id"] for row in rows}
        if len(marked) == len(letters):
            return Marked(marked)
    rest = [letter for letter in letters if letter.id not in marked]
    async with db.transaction():
        wanted: dict[str, list[int]] = {}
        for letter in rest:
            wanted.setdefault(letter.provider, []).append(letter.tier)
        grants = await warmup_take.take(db, domain_id, egress, wanted, to_outbox=to_outbox, now=now)
        going = _granted(rest, grants.granted)
        if going:
            rows = await db.fetch(MARK_CAMPAIGN, *_columns(going), fence, campaign_id, now, True, default, egress)
            went = {row["id"] for row in rows}
            marked |= went
            if grants.bucket is not None:
                stayed = Counter(letter.provider for letter in going if letter.id not in went)
                for provider, n in sorted(stayed.items()):
                    await warmup_take.give_back(db, domain_id, egress, provider, grants.bucket, n)
        judged = await db.fetch(
            JUDGE_CAMPAIGN, [one.id for one in rest if one.id not in marked], fence, campaign_id, now
        )
        await _send_back(db, judged, slot=slot)
    return Marked(marked, grants.bucket, held=len(going) < len(rest))


def _granted(letters: Sequence[Pair], granted: dict[str, int]) -> list[Pair]:
    """Return the first letters of each provider, as many as it was granted."""
    left = dict(granted)
    going = []
    for letter in letters:
        if left[letter.provider]:
            left[letter.provider] -= 1
            going.append(letter)
    return going


def _columns(letters: Sequence[Pair]) -> tuple[list[int], list[str]]:
    return [letter[0] for letter in letters], [letter[1] for letter in letters]


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


# $6: domains that hold messages, too, and have allowed these.
MARK_MESSAGES = """
UPDATE deliveries AS delivery SET state = 'handing_over', attempts = delivery.attempts + 1, egress = $5
FROM unnest($1::bigint[], $2::text[]) AS letter (id, erased), messages AS message
WHERE delivery.id = letter.id AND delivery.fence = $3
  AND delivery.state::text = 'leased' AND delivery.lease_until > COALESCE($4, now())
  AND message.id = delivery.message_id
  AND NOT EXISTS (
    SELECT FROM suppressions
    WHERE suppressions.value IN (message.email_key, substring(message.email_key FROM '@([^@]*)$'), letter.erased)
      AND (message.kind <> 'confirmation' OR suppressions.reason = 'manual')
  )
  AND ($6 OR NOT EXISTS (SELECT FROM warmups WHERE warmups.domain_id = delivery.domain_id AND NOT exempt))
RETURNING delivery.id, delivery.domain_id, delivery.provider
"""

JUDGE_MESSAGES = """
SELECT id, campaign_id, provider, 'suppressed' AS reason FROM deliveries
WHERE id = ANY($1::bigint[]) AND fence = $2 AND state::text = 'leased' AND lease_until > COALESCE($3, now())
ORDER BY id
FOR UPDATE
"""

HELD_MESSAGES = """
SELECT delivery.id, delivery.domain_id, delivery.provider
FROM deliveries AS delivery JOIN warmups ON warmups.domain_id = delivery.domain_id AND NOT warmups.exempt
WHERE delivery.id = ANY($1::bigint[]) AND fence = $2 AND delivery.state::text = 'leased'
ORDER BY delivery.domain_id, delivery.id
"""

POSTPONE = """
UPDATE deliveries SET state = 'queued', lease_until = NULL, due_at = $3 WHERE id = $1 AND fence = $2 AND state::text = 'leased'
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
    """Mark a batch of messages of one lease, as (delivery id, the address's hash as an erased one); commits by itself.

    Messages are counted in their domain's allowance and, unless the domain says otherwise, never held by it. A confirmation
    is what brings someone back who left, complained, bounced or was erased, so only the owner's own entries keep it from
    going out.
    """
    async with db.transaction():
        hashes = dict(letters)
        rows = await db.fetch(MARK_MESSAGES, list(hashes), list(hashes.values()), fence, now, egress, False)
        marked = {row["id"] for row in rows}
        counted: dict[int, Counter[str]] = {}
        for row in rows:
            if row["domain_id"] is not None:
                counted.setdefault(row["domain_id"], Counter())[row["provider"]] += 1
        for domain_id in sorted(counted):
            await warmup_take.note(db, domain_id, egress, counted[domain_id], now=now)
        if len(marked) < len(hashes):
            rest = [id for id in hashes if id not in marked]
            marked |= await _mark_held(db, fence, rest, hashes, egress=egress, to_outbox=to_outbox, now=now)
            judged = await db.fetch(JUDGE_MESSAGES, [id for id in rest if id not in marked], fence, now)
            await _send_back(db, judged, slot=0)
    return Marked(marked)


async def _mark_held(
    db: Connection,
    fence: int,
    ids: Sequence[int],
    hashes: dict[int, str],
    *,
    egress: str,
    to_outbox: bool,
    now: datetime | None,
) -> set[int]:
    """Mark messages of domains that hold messages, too, as far as there is room; the others wait until there is."""
    marked: set[int] = set()
    for row in await db.fetch(HELD_MESSAGES, ids, fence):
        wanted = {row["provider"]: [0]}
        grants = await warmup_take.take(db, row["domain_id"], egress, wanted, to_outbox=to_outbox, now=now)
        if not sum(grants.granted.values()):
            await db.execute(POSTPONE, row["id"], fence, grants.wait)
        elif await db.fetch(MARK_MESSAGES, [row["id"]], [hashes[row["id"]]], fence, now, egress, True):
            marked.add(row["id"])
        elif grants.bucket is not None:
            await warmup_take.give_back(db, row["domain_id"], egress, row["provider"], grants.bucket, 1)
    return marked
