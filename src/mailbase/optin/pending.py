"""People who never confirmed: what was written down about them goes away again."""

from typing import Final

from mailbase.db import Connection

BATCH: Final = 1000

# A confirmation that can still be answered keeps its person.
EXPIRE = """
WITH late AS (
    SELECT id FROM subscribers
    WHERE status = 'pending' AND created_at < now() - make_interval(days => (SELECT pending_days FROM settings))
        AND NOT EXISTS (SELECT FROM confirmations WHERE subscriber_id = subscribers.id AND expires_at > now()
            AND created_at > now() - make_interval(days => (SELECT pending_days FROM settings)))
    ORDER BY created_at LIMIT $1 FOR UPDATE SKIP LOCKED
), letters AS (
    DELETE FROM messages WHERE id IN (SELECT message_id FROM confirmations WHERE subscriber_id IN (SELECT id FROM late))
), submitted AS (
    DELETE FROM submissions WHERE subscriber_id IN (SELECT id FROM late)
)
DELETE FROM subscribers WHERE id IN (SELECT id FROM late)
"""


async def expire(db: Connection) -> int:
    """Delete pending subscribers older than the settings' ``pending_days``, with their submissions and letters; return how many."""
    done = await db.execute(EXPIRE, BATCH)
    return int(done.rpartition(" ")[2])
