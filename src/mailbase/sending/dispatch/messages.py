"""Messages: letters to one person that are not a campaign's: transactional, confirmations, tests of a campaign.

A message is rendered when it is accepted and stored whole, with its delivery, in one transaction; the transactional lane
takes it from there. Its status is its delivery's state. Whether the address is suppressed is the caller's question; it is
looked at once more when the letter is handed over.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

from asyncpg import Record
from msgspec import Struct, field

from mailbase.audience.addresses import Address
from mailbase.db import Connection
from mailbase.errors import NotFound
from mailbase.letters.content import Attachment, Sender

CHANNEL = "mailbase_sending"
ALONE = "message"
"""What is said on the channel where nothing of a campaign has changed."""

Kind = Literal["transactional", "confirmation", "test"]


class NewMessage(Struct, kw_only=True):
    """A finished letter and whom it is for. Without ``html`` it is a letter of text alone."""

    kind: Kind
    from_: Sender
    to: Address
    subject: str
    html: str | None = None
    text: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    reply_to: str | None = None
    attachments: Sequence[Attachment] = ()
    subscriber_id: int | None = None


class Message(Struct, kw_only=True):
    """What is told about a message; ``status`` is its delivery's, the first three states shown as ``queued``."""

    id: int
    delivery_id: int
    kind: Kind
    status: str
    from_: Sender = field(name="from")
    to: str
    subject: str
    reason: str | None
    attempts: int
    last_reply: str | None
    next_attempt_at: datetime | None
    created_at: datetime
    sent_at: datetime | None


HAS_DOMAIN = """
SELECT EXISTS (SELECT FROM domains WHERE name = $1)
"""


async def has_domain(db: Connection, name: str) -> bool:
    """Return whether a domain is set up; letters from any other go out unsigned."""
    found: bool = await db.fetchval(HAS_DOMAIN, name)
    return found


CREATE = """
WITH message AS (
    INSERT INTO messages (kind, domain_id, subscriber_id, from_name, from_email, reply_to, email, email_key, subject, html, text, headers)
    VALUES ($1, (SELECT id FROM domains WHERE name = $2), $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
    RETURNING id, domain_id
), delivery AS (
    INSERT INTO deliveries (message_id, subscriber_id, domain_id, provider)
    SELECT id, $3, domain_id, COALESCE((SELECT provider FROM recipient_domains WHERE domain = $13), 'other') FROM message
    RETURNING id, message_id
), arrived AS (
    INSERT INTO arrived_domains (domain)
    SELECT $13 WHERE NOT EXISTS (SELECT FROM recipient_domains WHERE domain = $13 AND due_at IS NOT NULL)
)
SELECT message_id, id AS delivery_id, CASE WHEN $14 THEN pg_notify('mailbase_sending', 'message') END FROM delivery
"""

WAKE = """
SELECT pg_notify('mailbase_sending', 'message')
"""


async def wake(db: Connection) -> None:
    """Wake a worker for what was stored without notice."""
    await db.execute(WAKE)


ATTACH = """
INSERT INTO message_attachments (message_id, seq, filename, content_type, content) VALUES ($1, $2, $3, $4, $5)
"""


async def create(db: Connection, message: NewMessage, *, notify: bool = True) -> tuple[int, int]:
    """Store a message with its delivery and wake a worker; return (message id, delivery id).

    Runs in the caller's transaction: the worker is woken when that commits. Transactions that notify commit one after the other, each
    waiting for the disk: who stores many messages a second says ``notify=False`` and calls :func:`wake` now and then.
    """
    row = await db.fetchrow(
        CREATE,
        message.kind,
        message.from_.email.rpartition("@")[2],
        message.subscriber_id,
        message.from_.name,
        message.from_.email,
        message.reply_to,
        message.to.email,
        message.to.key,
        message.subject,
        message.html,
        message.text,
        message.headers,
        message.to.domain,
        notify,
    )
    assert row is not None  # noqa: S101  (an INSERT … RETURNING of one row)
    if message.attachments:
        await db.executemany(
            ATTACH,
            [
                (row["message_id"], seq, attachment.filename, attachment.content_type, attachment.content)
                for seq, attachment in enumerate(message.attachments)
            ],
        )
    return row["message_id"], row["delivery_id"]


GET = """
SELECT message.id, delivery.id AS delivery_id, kind, state::text, from_name, from_email, email, subject, reason, attempts, last_reply,
    CASE WHEN state IN ('queued', 'deferred') THEN due_at END AS next_attempt_at, message.created_at, sent_at
FROM messages AS message JOIN deliveries AS delivery ON delivery.message_id = message.id
WHERE message.id = $1
"""


async def get(db: Connection, message_id: int) -> Message:
    """Return a message.

    Raises:
        NotFound: there is none with this id.

    """
    rows = await db.fetch(GET, message_id)
    if not rows:
        raise NotFound("There is no such message.")
    return _message(rows[0])


LIST = """
SELECT message.id, delivery.id AS delivery_id, kind, state::text, from_name, from_email, email, subject, reason, attempts, last_reply,
    CASE WHEN state IN ('queued', 'deferred') THEN due_at END AS next_attempt_at, message.created_at, sent_at
FROM messages AS message JOIN deliveries AS delivery ON delivery.message_id = message.id
WHERE message.id < $1
ORDER BY message.id DESC LIMIT $2
"""


async def page(db: Connection, *, before: int, limit: int) -> list[Message]:
    """Return messages with an id below ``before``, newest first."""
    return [_message(row) for row in await db.fetch(LIST, before, limit)]


COUNT = """
SELECT count(*) FROM messages
"""


async def count(db: Connection) -> int:
    """Return how many messages there are."""
    total: int = await db.fetchval(COUNT)
    return total


def _message(row: Record) -> Message:
    return Message(
        id=row["id"],
        delivery_id=row["delivery_id"],
        kind=row["kind"],
        status=row["state"],
        from_=Sender(row["from_name"], row["from_email"]),
        to=row["email"],
        subject=row["subject"],
        reason=row["reason"],
        attempts=row["attempts"],
        last_reply=row["last_reply"],
        next_attempt_at=row["next_attempt_at"],
        created_at=row["created_at"],
        sent_at=row["sent_at"],
    )
