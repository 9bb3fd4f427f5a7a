"""One confirmation letter a mailbox: ten minutes until the next, then twenty; never more than three in any 24 hours.

Across all forms, so that nobody's mailbox can be flooded through ours. Spellings that one mailbox answers to count as one. Addresses are kept
as keyed hashes only. A month of quiet forgets; the person's own confirmation does so at once, because only the mailbox's owner
can confirm.
"""

from datetime import datetime
from typing import Final

from mailbase.audience.addresses import Address
from mailbase.db import Connection
from mailbase.optin import mailboxes
from mailbase.vault import keyed_hash

MOST_A_DAY: Final = 3
MOST_VARIANTS_A_DAY: Final = 10
"""Letters to all of ``name+anything@`` at a host of which nobody knows whether it puts them into one mailbox."""

# Of the letters of the last 24 hours the one MOST back has to be a day old before the next.
TAKE = """
INSERT INTO confirmation_cooldowns AS known (address, letters, last_at, next_at, sent)
SELECT $1, 1, at, CASE WHEN $3 THEN at + interval '10 minutes' ELSE at END, ARRAY[at] FROM (SELECT COALESCE($4, now()) AS at) AS moment
ON CONFLICT (address) DO UPDATE SET
    letters = CASE WHEN known.last_at < excluded.last_at - interval '30 days' THEN 1 ELSE known.letters + 1 END,
    last_at = excluded.last_at,
    sent = ARRAY(SELECT at FROM unnest(known.sent || excluded.sent) AS at WHERE at > excluded.last_at - interval '24 hours' ORDER BY at),
    next_at = greatest(
        CASE WHEN $3 THEN excluded.last_at + least(interval '1 day', interval '10 minutes' * CASE
            WHEN known.last_at < excluded.last_at - interval '30 days' THEN 1 ELSE power(2, least(known.letters, 10)) END) ELSE excluded.last_at END,
        (SELECT at + interval '24 hours' FROM unnest(known.sent || excluded.sent) AS at WHERE at > excluded.last_at - interval '24 hours'
         ORDER BY at DESC OFFSET $2 - 1 LIMIT 1))
WHERE known.next_at <= excluded.last_at
RETURNING letters
"""


async def take(db: Connection, address: Address, erasure_key: bytes, *, now: datetime | None = None) -> bool:
    """Tell whether a letter may go now; if so, the next wait has begun."""
    mailbox = mailboxes.of(address)
    if await db.fetchval(TAKE, keyed_hash(erasure_key, mailbox.key), MOST_A_DAY, True, now) is None:
        return False
    if mailbox.family is None:
        return True
    family = keyed_hash(erasure_key, mailbox.family)
    return await db.fetchval(TAKE, family, MOST_VARIANTS_A_DAY, False, now) is not None


NEXT = """
SELECT max(next_at) FROM confirmation_cooldowns WHERE address = ANY($1::bytea[])
"""


async def next_at(db: Connection, address: Address, erasure_key: bytes) -> datetime | None:
    """Return when the next letter may go; None: now."""
    mailbox = mailboxes.of(address)
    keys = [keyed_hash(erasure_key, key) for key in (mailbox.key, mailbox.family) if key]
    at: datetime | None = await db.fetchval(NEXT, keys)
    return at


FORGET = """
DELETE FROM confirmation_cooldowns WHERE address = $1
"""


async def forget(db: Connection, address: Address, erasure_key: bytes) -> None:
    """Start afresh: the mailbox's owner has answered."""
    await db.execute(FORGET, keyed_hash(erasure_key, mailboxes.of(address).key))


SWEEP = """
DELETE FROM confirmation_cooldowns WHERE last_at < now() - interval '30 days'
"""


async def sweep(db: Connection) -> None:
    """Forget those that have been quiet for a month."""
    await db.execute(SWEEP)
