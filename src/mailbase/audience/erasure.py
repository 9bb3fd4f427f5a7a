"""Erasure: everything personal goes, in one transaction; a keyed hash stays, so that nobody writes to the person again.

What is counted stays counted: deliveries, opens and clicks keep their rows without a person. Letters of a campaign that still wait
find nobody to be written to and are skipped. Letters the outbox wrote to files are the operator's to delete.
"""

from collections.abc import Sequence
from typing import Final

from mailbase.audience import suppressions
from mailbase.db import Connection
from mailbase.errors import NotFound

# The recorder of outcomes holds letters before it comes to their person; so does erasing, or each would wait for the other.
LOCK_LETTERS = """
SELECT FROM deliveries WHERE subscriber_id = $1 ORDER BY id FOR UPDATE
"""

LOCK = """
SELECT email, email_key FROM subscribers WHERE id = $1 FOR UPDATE
"""

BY_PERSON: Final = (
    "UPDATE deliveries SET subscriber_id = NULL, last_reply = NULL WHERE subscriber_id = ANY ($1::bigint[])",
    "UPDATE signals SET subscriber_id = NULL, ip = NULL, user_agent = NULL WHERE subscriber_id = ANY ($1::bigint[])",
    "UPDATE bounces SET subscriber_id = NULL, email = NULL, reply = NULL WHERE subscriber_id = ANY ($1::bigint[])",
    "DELETE FROM submissions WHERE subscriber_id = ANY ($1::bigint[])",
    "DELETE FROM messages WHERE subscriber_id = ANY ($1::bigint[])",
    "DELETE FROM subscribers WHERE id = ANY ($1::bigint[])",
)
BY_ADDRESS: Final = (
    "DELETE FROM messages WHERE email_key = ANY ($1::text[])",
    "DELETE FROM submissions WHERE email_key = ANY ($1::text[])",
    "DELETE FROM suppressions WHERE kind = 'email' AND value = ANY ($1::text[])",
    "UPDATE job_rejects SET email = NULL WHERE lower(email) = ANY ($1::text[])",
    "UPDATE bounces SET email = NULL, reply = NULL WHERE lower(email) = ANY ($1::text[])",
)

ANSWERS = """
DELETE FROM idempotency WHERE EXISTS (SELECT FROM unnest($1::text[]) AS address WHERE position(convert_to(address, 'UTF8') IN body) > 0)
"""

# A mail that came in and could not be understood may name the person; of what was understood nothing is kept but the outcome.
INCOMING = """
UPDATE incoming SET raw = NULL, mail_from = NULL, recipients = '{}' WHERE raw IS NOT NULL AND state <> 'waiting'
AND EXISTS (SELECT FROM unnest($1::text[]) AS address WHERE position(convert_to(address, 'UTF8') IN raw) > 0)
"""

REMEMBER = """
INSERT INTO suppressions (kind, value, reason) SELECT 'erased', value, 'erased' FROM unnest($1::text[]) AS value ON CONFLICT (value) DO NOTHING
"""


# An address that was the person's before a change, and is nobody's now; an old list of the owner's may still hold it.
EARLIER = """
SELECT DISTINCT old_email, old_key FROM address_changes
 WHERE subscriber_id = ANY ($1::bigint[]) AND confirmed_at IS NOT NULL AND NOT EXISTS (SELECT FROM subscribers WHERE email_key = old_key)
"""


async def erase(db: Connection, subscriber_id: int, erasure_key: bytes) -> None:
    """Erase one person.

    Raises:
        NotFound: there is none of this id.

    """
    await db.execute(LOCK_LETTERS, subscriber_id)
    row = await db.fetchrow(LOCK, subscriber_id)
    if row is None:
        raise NotFound("There is no such subscriber.")
    await erase_many(db, [subscriber_id], [(row["email"], row["email_key"])], erasure_key)


async def erase_many(
    db: Connection, subscriber_ids: Sequence[int], addresses: Sequence[tuple[str, str]], erasure_key: bytes
) -> None:
    """Erase people whose rows this transaction has locked; ``addresses`` are their (address, key)."""
    earlier = [(row["old_email"], row["old_key"]) for row in await db.fetch(EARLIER, list(subscriber_ids))]
    theirs = [*addresses, *earlier]
    keys = [key for _, key in theirs]
    await db.execute(REMEMBER, [suppressions.erased_value(key, erasure_key) for key in keys])
    for statement in BY_PERSON:
        await db.execute(statement, list(subscriber_ids))
    for statement in BY_ADDRESS:
        await db.execute(statement, keys)
    spellings = sorted({spelling for pair in theirs for spelling in pair})
    await db.execute(ANSWERS, spellings)
    await db.execute(INCOMING, spellings)
