"""Feedback: what came back about a letter, by mail or by a relay's webhook, applied once.

    bounce       hard: the letter is bounced, the person ends, the address is suppressed
                 soft: the letter is bounced; five days of them without a success end the person
                 block: the letter is bounced, the person is never touched: the cause was the sender
    complaint    the person leaves everything at once, and the address is suppressed
    unsubscribe  the person leaves everything
    delivered    a letter in doubt was sent after all
    deferred, not_spam   change nothing

A letter that was sent and bounces later becomes ``bounced``; its counters move in the same transaction. A second report of the
same bounce moves nothing; one that says ``hard`` makes it hard.
"""

from datetime import datetime, timedelta
from typing import Final, Literal

from msgspec import Struct

from mailbase.audience import addresses, subscribers, suppressions
from mailbase.audience.addresses import Address
from mailbase.db import Connection
from mailbase.sending.deliveries import counters, soft_bounces
from mailbase.sending.deliveries.deliveries import State, moved
from mailbase.sending.warmup import tally as warmup_tally

Kind = Literal["bounce", "complaint", "unsubscribe", "delivered", "deferred", "not_spam"]
Class = Literal["hard", "soft", "block"]

LONGEST: Final = 500
"""Characters of a reply, a reason or a host's name that are kept."""
SLACK: Final = timedelta(minutes=10)
"""How far a reporter's clock may be behind ours."""
BELIEVED: Final = timedelta(days=7)
"""Nobody tries to report for longer: a time further back is one of a sample, or of a clock that is wrong, and says nothing of which letter."""
OUT: Final = frozenset({"sent", "deferred", "failed", "unknown"})
"""States of a letter that may have left, and so may come back; so may one that waits no longer, but whose answer is not recorded."""


class Feedback(Struct, kw_only=True):
    """One report about one letter to one address."""

    kind: Kind
    source: str
    """Who told it: ``inbound``, ``ses``, ``sendgrid``, …"""
    delivery_id: int | None = None
    """When a token, our Message-ID or our reference told it."""
    email: str | None = None
    """Else the newest letter to this address, if any; a complaint without a letter still ends the subscriber."""
    cls: Class | None = None
    """Of bounces; None counts as soft."""
    reason: str = ""
    status: str | None = None
    """RFC 3463, such as ``5.1.1``."""
    reply: str | None = None
    reporting_mta: str | None = None
    at: datetime | None = None
    """When it happened, if that is known; never later than now."""


class _Letter(Struct):
    id: int
    campaign_id: int | None
    subscriber_id: int | None
    state: State
    provider: str
    bounce_class: Class | None
    email: str | None
    email_key: str | None
    moved: bool
    """Whether the person has another address since: what this one does is no longer about them."""
    on_its_way: bool
    """Whether a worker has marked it and not recorded yet what became of it."""


LETTER = """
SELECT delivery.id, delivery.campaign_id, COALESCE(delivery.subscriber_id, message.subscriber_id, namesake.id) AS subscriber_id,
       delivery.state::text, delivery.provider, delivery.bounce_class,
       COALESCE(message.email, change.old_email, person.email) AS email,
       COALESCE(message.email_key, change.old_key, person.email_key) AS email_key, change.old_key IS NOT NULL AS moved,
       delivery.state = 'queued' AND EXISTS (
           SELECT FROM claims WHERE delivery.id = ANY (ids[:marked]) AND delivery.id <> ALL (aside)
       ) AS on_its_way
FROM deliveries AS delivery
LEFT JOIN messages AS message ON message.id = delivery.message_id
LEFT JOIN subscribers AS person ON person.id = delivery.subscriber_id
LEFT JOIN subscribers AS namesake ON namesake.email_key = message.email_key
LEFT JOIN LATERAL (
    SELECT old_email, old_key FROM address_changes
    WHERE address_changes.subscriber_id = delivery.subscriber_id AND confirmed_at > COALESCE(delivery.sent_at, delivery.created_at)
    ORDER BY confirmed_at LIMIT 1
) AS change ON true
WHERE delivery.id = $1
FOR UPDATE OF delivery
"""

# The newest letter to an address that had left by the time of the report: one written since is not what it speaks of.
NEWEST = """
SELECT id FROM (
    (SELECT delivery.id FROM subscribers AS person JOIN deliveries AS delivery ON delivery.subscriber_id = person.id
     WHERE person.email_key = $1 AND delivery.state::text = ANY($4::text[]) AND COALESCE(delivery.sent_at, delivery.created_at) <= $2::timestamptz + $3::interval
     ORDER BY delivery.id DESC LIMIT 1)
    UNION ALL
    (SELECT delivery.id FROM messages AS message JOIN deliveries AS delivery ON delivery.message_id = message.id
     WHERE message.email_key = $1 AND delivery.state::text = ANY($4::text[]) AND COALESCE(delivery.sent_at, delivery.created_at) <= $2::timestamptz + $3::interval
     ORDER BY delivery.id DESC LIMIT 1)
) AS found ORDER BY id DESC LIMIT 1
"""

NOW = """
SELECT now()
"""

PERSON = """
SELECT id FROM subscribers WHERE email_key = $1
"""


async def apply(db: Connection, feedback: Feedback, *, slot: int, now: datetime | None = None) -> bool:
    """Apply one report in the caller's transaction; True if it changed something.

    One report a transaction: it locks the letter, then the person, then counters, and a second one would do so in the wrong
    order. Doing it again changes nothing.
    """
    if feedback.kind in {"deferred", "not_spam"}:
        return False
    moment: datetime = now or await db.fetchval(NOW)
    at = min(feedback.at or moment, moment)
    if feedback.delivery_id is None and at < moment - BELIEVED:
        at = moment
    letter, key = await _find(db, feedback, at)
    if feedback.kind == "delivered":
        return letter is not None and await _delivered(db, letter, at, slot)
    if feedback.kind == "bounce":
        return await _bounce(db, feedback, letter, key, at=at, slot=slot)
    person = letter.subscriber_id if letter else None
    if person is None and key is not None:
        person = await db.fetchval(PERSON, key)
    return await _end(db, feedback, letter, person, slot)


async def _find(db: Connection, feedback: Feedback, at: datetime) -> tuple[_Letter | None, str | None]:
    """Return the letter, locked, and the key of its address."""
    address = addresses.read(feedback.email) if feedback.email else None
    key = address.key if isinstance(address, Address) else None
    found = feedback.delivery_id
    if found is None and key is not None:
        found = await db.fetchval(NEWEST, key, at, SLACK, sorted({*OUT, "bounced"}))
    row = await db.fetchrow(LETTER, found) if found is not None else None
    if row is None:
        return None, key
    letter = _Letter(**row)
    return letter, letter.email_key or key


TO_SENT = """
UPDATE deliveries SET state = 'sent', reason = NULL, sent_at = $2 WHERE id = $1
"""


async def _delivered(db: Connection, letter: _Letter, at: datetime, slot: int) -> bool:
    if letter.state != "unknown":
        return False
    await db.execute(TO_SENT, letter.id, at)
    if letter.campaign_id is not None:
        await counters.add(db, moved(letter.campaign_id, letter.provider, "unknown", "sent"), slot=slot)
    return True


TO_BOUNCED = """
UPDATE deliveries SET state = 'bounced', bounce_class = $2, reason = $3, last_reply = COALESCE($4, last_reply) WHERE id = $1
"""

BOUNCE = """
INSERT INTO bounces (delivery_id, campaign_id, subscriber_id, email, class, reason, status, reply, reporting_mta, at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
"""


async def _bounce(
    db: Connection, feedback: Feedback, letter: _Letter | None, key: str | None, *, at: datetime, slot: int
) -> bool:
    cls: Class = feedback.cls or "soft"
    if letter is None:
        # Nothing of ours went there as far as we know: only a hard one says something of the address itself.
        person = await db.fetchval(PERSON, key) if key is not None else None
        return cls == "hard" and person is not None and await subscribers.mark_bounced(db, person)
    changes: list[tuple[int, str, int]] = []
    news = letter.state in OUT or letter.on_its_way
    worse = letter.state == "bounced" and letter.bounce_class != "hard" and cls == "hard"
    if news or worse:
        reason, reply = _cut(feedback.reason) or "unknown", _cut(feedback.reply)
        await db.execute(TO_BOUNCED, letter.id, cls, reason, reply)
        row = (
            letter.subscriber_id,
            letter.email,
            cls,
            reason,
            _cut(feedback.status),
            reply,
            _cut(feedback.reporting_mta),
        )
        await db.execute(BOUNCE, letter.id, letter.campaign_id, *row, at)
        if letter.campaign_id is not None:
            changes += moved(letter.campaign_id, letter.provider, letter.state, "bounced")
            changes.append((letter.campaign_id, f"bounce.{cls}", 1))
            if worse:
                changes.append((letter.campaign_id, f"bounce.{letter.bounce_class or 'soft'}", -1))
    if cls == "hard" and (news or worse):
        await warmup_tally.heard(db, letter.id, "hard")
    ended = await _ended_by(db, letter, cls)
    await counters.add(db, changes, slot=slot)
    return news or worse or ended


async def _ended_by(db: Connection, letter: _Letter, cls: Class) -> bool:
    """End the person behind a letter that came back, where it says so; True if that was news."""
    person = None if letter.moved else letter.subscriber_id
    if person is not None and cls == "hard":
        return await subscribers.mark_bounced(db, person, delivery_id=letter.id, campaign_id=letter.campaign_id)
    if person is not None and cls == "soft":
        return await soft_bounces.judge(db, person, delivery_id=letter.id, campaign_id=letter.campaign_id)
    if cls == "hard" and letter.email_key is not None:
        return await suppressions.add(db, "email", letter.email_key, reason="hard_bounce") is not None
    return False


async def _end(db: Connection, feedback: Feedback, letter: _Letter | None, person: int | None, slot: int) -> bool:
    """Let a person leave by their own wish, or because they complained."""
    delivery_id, campaign_id = (letter.id, letter.campaign_id) if letter else (None, None)
    if delivery_id is not None:
        await warmup_tally.heard(db, delivery_id, "unsubscribed" if feedback.kind == "unsubscribe" else "complaints")
    if feedback.kind == "unsubscribe":
        if person is None:
            return False
        changed = await subscribers.unsubscribe(
            db, person, campaign_id=campaign_id, delivery_id=delivery_id, source=feedback.source
        )
    elif person is not None:
        changed = await subscribers.mark_complained(db, person, delivery_id=delivery_id, campaign_id=campaign_id)
    else:
        key = letter.email_key if letter else None
        return key is not None and await suppressions.add(db, "email", key, reason="complaint") is not None
    if changed and campaign_id is not None:
        key = "unsubscribes" if feedback.kind == "unsubscribe" else "complaints"
        await counters.add(db, [(campaign_id, key, 1)], slot=slot)
    return changed


def _cut(text: str | None) -> str | None:
    """Return text PostgreSQL can store, not longer than is kept."""
    return None if text is None else text.replace("\0", "").encode(errors="replace").decode()[:LONGEST]
