"""Answers kept for 24 hours under a key's ``Idempotency-Key``, each written in the transaction of the work it answers."""

import msgspec

from mailbase.db import Connection


class Stored(msgspec.Struct, frozen=True):
    """An answer given before."""

    fingerprint: bytes
    status: int
    headers: list[tuple[str, str]]
    body: bytes


LOCK = """
SELECT pg_try_advisory_xact_lock(hashtextextended($2, $1))
"""

FIND = """
SELECT fingerprint, status, headers, body FROM idempotency
WHERE key_id = $1 AND key = $2 AND created_at > now() - interval '24 hours'
"""

STORE = """
INSERT INTO idempotency (key_id, key, fingerprint, status, headers, body) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (key_id, key) DO UPDATE SET fingerprint = $3, status = $4, headers = $5, body = $6, created_at = now()
"""

FORGET = """
DELETE FROM idempotency WHERE created_at < now() - interval '24 hours'
"""


async def lock(db: Connection, key_id: int, key: str) -> bool:
    """Take the key until the transaction ends; False: a twin holds it."""
    taken: bool = await db.fetchval(LOCK, key_id, key)
    return taken


async def find(db: Connection, key_id: int, key: str) -> Stored | None:
    """Return the answer stored under the key in the last 24 hours."""
    row = await db.fetchrow(FIND, key_id, key)
    return msgspec.convert(dict(row), Stored) if row else None


async def store(db: Connection, key_id: int, key: str, answer: Stored) -> None:
    """Keep an answer."""
    await db.execute(STORE, key_id, key, answer.fingerprint, answer.status, answer.headers, answer.body)


async def forget_old(db: Connection) -> int:
    """Delete what is older than 24 hours and return how many there were."""
    return int((await db.execute(FORGET)).rpartition(" ")[2])
