"""Complaint senders: whose feedback reports are believed though they name only an address, once their signature holds (``trust``)."""

from datetime import datetime
from typing import Final

import asyncpg
from msgspec import Struct

from mailbase.db import Connection
from mailbase.errors import Conflict, NotFound


class ComplaintSender(Struct, kw_only=True):
    """``address``: in lower case; ``@domain`` is any address there."""

    id: int
    address: str
    note: str
    created_at: datetime


PAGE: Final = """
SELECT id, address, note, created_at FROM complaint_senders
WHERE $1::bigint IS NULL OR id < $1 ORDER BY id DESC LIMIT $2
"""


async def page(db: Connection, *, before: int | None, limit: int) -> list[ComplaintSender]:
    """Return senders, the newest first."""
    return [ComplaintSender(**row) for row in await db.fetch(PAGE, before, limit)]


COUNT: Final = """
SELECT count(*) FROM complaint_senders
"""


async def count(db: Connection) -> int:
    """Return how many there are."""
    return int(await db.fetchval(COUNT))


ADDRESSES: Final = """
SELECT address FROM complaint_senders
"""


async def addresses(db: Connection) -> frozenset[str]:
    """Return them all."""
    return frozenset(row["address"] for row in await db.fetch(ADDRESSES))


ADD: Final = """
INSERT INTO complaint_senders (address, note) VALUES (lower($1), $2) RETURNING id, address, note, created_at
"""


async def add(db: Connection, address: str, note: str) -> ComplaintSender:
    """Believe one more.

    Raises:
        Conflict: it is there already.

    """
    try:
        async with db.transaction():
            rows = await db.fetch(ADD, address, note)
    except asyncpg.UniqueViolationError:
        raise Conflict("This sender of complaints is there already.", code="already_exists") from None
    return ComplaintSender(**rows[0])


REMOVE: Final = """
DELETE FROM complaint_senders WHERE id = $1 RETURNING id
"""


async def remove(db: Connection, sender_id: int) -> None:
    """Believe one no longer.

    Raises:
        NotFound: there is no such sender.

    """
    if await db.fetchval(REMOVE, sender_id) is None:
        raise NotFound("There is no such sender of complaints.")
