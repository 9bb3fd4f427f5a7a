"""One confirmation letter an address: ten minutes until the next, then twenty, then forty … at most a day.

Across all forms, so that nobody's mailbox can be flooded through ours. Addresses are kept as keyed hashes only. A month of
quiet forgets; the person's own confirmation does so at once, because only the mailbox's owner can confirm.
"""

from datetime import datetime

from mailbase.audience.addresses import Address
from mailbase.db import Connection
from mailbase.vault import keyed_hash

TAKE = """
INSERT INTO confirmation_cooldowns (address, letters, last_at, next_at) VALUES ($1, 1, now(), now() + interval '10 minutes')
ON CONFLICT (address) DO UPDATE SET
    letters = CASE WHEN confirmation_cooldowns.last_at < now() - interval '30 days' THEN 1 ELSE confirmation_cooldowns.letters + 1 END,
    last_at = now(),
    next_at = now() + least(interval '1 day', interval '10 minutes' * CASE
        WHEN confirmation_cooldowns.last_at < now() - interval '30 days' THEN 1 ELSE power(2, least(confirmation_cooldowns.letters, 10)) END)
WHERE confirmation_cooldowns.next_at <= now()
RETURNING letters
"""


async def take(db: Connection, address: Address, erasure_key: bytes) -> bool:
    """Tell whether a letter may go now; if so, the next wait has begun."""
    return await db.fetchval(TAKE, keyed_hash(erasure_key, address.key)) is not None


NEXT = """
SELECT next_at FROM confirmation_cooldowns WHERE address = $1
"""


async def next_at(db: Connection, address: Address, erasure_key: bytes) -> datetime | None:
    """Return when the next letter may go; None: now."""
    at: datetime | None = await db.fetchval(NEXT, keyed_hash(erasure_key, address.key))
    return at


FORGET = """
DELETE FROM confirmation_cooldowns WHERE address = $1
"""


async def forget(db: Connection, address: Address, erasure_key: bytes) -> None:
    """Start afresh: the mailbox's owner has answered."""
    await db.execute(FORGET, keyed_hash(erasure_key, address.key))


SWEEP = """
DELETE FROM confirmation_cooldowns WHERE last_at < now() - interval '30 days'
"""


async def sweep(db: Connection) -> None:
    """Forget those that have been quiet for a month."""
    await db.execute(SWEEP)
