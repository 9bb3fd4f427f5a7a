"""What proves a form's consents: who agreed to which words, when, from where, and by which act it was confirmed.

One line a consent that was given; confirming and withdrawing it are columns. Read in batches by id, so that memory and transactions stay small.
"""

from collections.abc import AsyncGenerator
from typing import Any, Final

from mailbase.audience.consents import Consent
from mailbase.db import Connection, Pool

BATCH: Final = 2000
COLUMNS: Final = (
    "id", "subscriber_id", "email", "purpose", "text", "version", "policy_url", "source", "page", "given_at", "given_ip", "given_user_agent",
    "confirmation_id", "letter_id", "letter_at", "confirmed_at", "confirmed_ip", "confirmed_user_agent", "withdrawn_at", "withdrawn_by",
)  # fmt: skip

BATCH_OF = """
SELECT given.id, given.subscriber_id, subscriber.email, given.purpose, given.text, encode(given.text_hash, 'hex') AS version, given.policy_url,
    given.source, given.page, given.at AS given_at, host(given.ip) AS given_ip, given.user_agent AS given_user_agent, given.confirmation_id,
    confirmation.message_id AS letter_id, confirmation.created_at AS letter_at, answer.at AS confirmed_at, host(answer.ip) AS confirmed_ip,
    answer.user_agent AS confirmed_user_agent, gone.at AS withdrawn_at, gone.source AS withdrawn_by
FROM consents AS given
JOIN subscribers AS subscriber ON subscriber.id = given.subscriber_id
LEFT JOIN confirmations AS confirmation ON confirmation.id = given.confirmation_id
LEFT JOIN LATERAL (
    SELECT at, ip, user_agent FROM consents AS answer
    WHERE answer.subscriber_id = given.subscriber_id AND answer.act = 'confirmed' AND answer.confirmation_id = given.confirmation_id
        AND answer.purpose = given.purpose AND answer.text_hash = given.text_hash
    ORDER BY id LIMIT 1) AS answer ON true
LEFT JOIN LATERAL (
    SELECT at, source FROM consents AS gone
    WHERE gone.subscriber_id = given.subscriber_id AND gone.act = 'withdrawn' AND gone.purpose = given.purpose AND gone.id > given.id
    ORDER BY id LIMIT 1) AS gone ON true
WHERE given.form_id = $1 AND given.act = 'given' AND given.id > $2
ORDER BY given.id LIMIT $3
"""


async def lines(pool: Pool, form_id: int) -> AsyncGenerator[list[list[Any]]]:
    """Give out batches of lines, oldest first; a connection is held for one batch at a time."""
    after = 0
    while True:
        async with pool.acquire() as db:
            rows = await db.fetch(BATCH_OF, form_id, after, BATCH, timeout=600)
        if not rows:
            return
        after = rows[-1]["id"]
        yield [[_cell(row[name]) for name in COLUMNS] for row in rows]


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    return value.strftime("%Y-%m-%dT%H:%M:%SZ") if hasattr(value, "strftime") else value


LETTERS = """
SELECT confirmation.id, confirmation.created_at, form.name AS form, message.id AS message_id, message.subject, message.email,
    message.from_email, delivery.sent_at, delivery.last_reply
FROM confirmations AS confirmation
LEFT JOIN forms AS form ON form.id = confirmation.form_id
LEFT JOIN messages AS message ON message.id = confirmation.message_id
LEFT JOIN deliveries AS delivery ON delivery.message_id = message.id
WHERE confirmation.subscriber_id = $1 AND confirmation.id = ANY ($2::bigint[])
"""

FORMS = """
SELECT id, name FROM forms WHERE id = ANY ($1::bigint[])
"""


async def letters(db: Connection, subscriber_id: int, ledger: list[Consent]) -> dict[int, dict[str, Any]]:
    """Return the confirmation letters that a ledger's lines name, by the confirmation's id."""
    wanted = sorted({line.confirmation_id for line in ledger if line.confirmation_id is not None})
    return {row["id"]: dict(row) for row in await db.fetch(LETTERS, subscriber_id, wanted)}


async def form_names(db: Connection, ledger: list[Consent]) -> dict[int, str]:
    """Return the names of the forms a ledger's lines came through."""
    wanted = sorted({line.form_id for line in ledger if line.form_id is not None})
    return {row["id"]: row["name"] for row in await db.fetch(FORMS, wanted)}
