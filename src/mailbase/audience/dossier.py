"""Everything held about one person, for that person to read (GDPR, articles 15 and 20)."""

from datetime import datetime
from typing import Any

import msgspec

from mailbase.audience import consents, subscribers, suppressions, timeline
from mailbase.audience.addresses import Address
from mailbase.audience.consents import Consent
from mailbase.audience.subscribers import Subscriber
from mailbase.audience.timeline import Event
from mailbase.db import Connection


class Dossier(msgspec.Struct):
    """What is stored, room by room."""

    subscriber: Subscriber
    frequency: str
    paused_until: datetime | None
    suppressed: str | None
    consents: list[Consent]
    events: list[Event]
    submissions: list[dict[str, Any]]
    confirmations: list[dict[str, Any]]
    messages: list[dict[str, Any]]
    deliveries: list[dict[str, Any]]
    opens_and_clicks: list[dict[str, Any]]
    bounces: list[dict[str, Any]]
    address_changes: list[dict[str, Any]]
    leaving_reasons: list[dict[str, Any]]


PERSON = """
SELECT email, email_key, domain, frequency, paused_until FROM subscribers WHERE id = $1
"""

SUBMISSIONS = """
SELECT form_id, outcome, fields, ARRAY(SELECT slug FROM interests AS i WHERE i.id = ANY (submissions.interests) ORDER BY slug) AS interests,
       page, host(ip) AS ip, user_agent, whence, at
  FROM submissions WHERE subscriber_id = $1 ORDER BY id
"""

CONFIRMATIONS = """
SELECT id, form_id, evidence, created_at, expires_at, confirmed_at FROM confirmations WHERE subscriber_id = $1 ORDER BY id
"""

MESSAGES = """
SELECT messages.id, kind, from_email, email, subject, html, text, created_at FROM messages WHERE email_key = $1 OR subscriber_id = $2 ORDER BY id
"""

DELIVERIES = """
SELECT id, campaign_id, message_id, state::text AS status, reason, last_reply, created_at, sent_at FROM deliveries WHERE subscriber_id = $1 ORDER BY id
"""

SIGNALS = """
SELECT kind, campaign_id, delivery_id, link, verdict, reason, host(ip) AS ip, user_agent, at FROM signals WHERE subscriber_id = $1 ORDER BY id
"""

BOUNCES = """
SELECT campaign_id, delivery_id, class, reason, status, reply, at FROM bounces WHERE subscriber_id = $1 ORDER BY id
"""

ADDRESS_CHANGES = """
SELECT old_email, email, created_at, expires_at, confirmed_at, stopped_at FROM address_changes WHERE subscriber_id = $1 ORDER BY id
"""

LEAVING_REASONS = """
SELECT campaign_id, reason, comment, at FROM leaving_reasons WHERE subscriber_id = $1 ORDER BY id
"""


async def read(db: Connection, subscriber_id: int, erasure_key: bytes) -> Dossier:
    """Return all of it.

    Raises:
        NotFound: there is nobody of this id.

    """
    subscriber = await subscribers.get(db, subscriber_id)
    person: Any = await db.fetchrow(PERSON, subscriber_id)
    address = Address(person["email"], person["email_key"], person["domain"])
    return Dossier(
        subscriber,
        person["frequency"],
        person["paused_until"],
        await suppressions.reason_for(db, address, erasure_key),
        await consents.page(db, subscriber_id),
        await timeline.page(db, subscriber_id),
        await _rows(db, SUBMISSIONS, subscriber_id),
        await _rows(db, CONFIRMATIONS, subscriber_id),
        await _rows(db, MESSAGES, address.key, subscriber_id),
        await _rows(db, DELIVERIES, subscriber_id),
        await _rows(db, SIGNALS, subscriber_id),
        await _rows(db, BOUNCES, subscriber_id),
        await _rows(db, ADDRESS_CHANGES, subscriber_id),
        await _rows(db, LEAVING_REASONS, subscriber_id),
    )


async def _rows(db: Connection, statement: str, *whose: int | str) -> list[dict[str, Any]]:
    return [dict(row) for row in await db.fetch(statement, *whose)]
