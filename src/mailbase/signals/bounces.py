"""Bounces: what the recipients' side reported of letters it refused for good, as a list to read."""

from datetime import datetime
from typing import Literal

import msgspec
from msgspec import Struct, field

from mailbase.db import Connection

Class = Literal["hard", "soft", "block"]


class Bounce(Struct):
    """One report. ``status`` is the enhanced code of RFC 3463, ``reply`` what the server said."""

    id: int
    delivery_id: int
    campaign_id: int | None
    subscriber_id: int | None
    email: str | None
    class_: Class = field(name="class")
    reason: str
    status: str | None
    reply: str | None
    reporting_mta: str | None
    at: datetime


PAGE = """
SELECT id, delivery_id, campaign_id, subscriber_id, email, class, reason, status, reply, reporting_mta, at
FROM bounces
WHERE id < $1 AND ($2::bigint IS NULL OR campaign_id = $2) AND ($3::text IS NULL OR class = $3)
ORDER BY id DESC LIMIT $4
"""


async def page(
    db: Connection, *, before: int, limit: int, campaign_id: int | None = None, class_: Class | None = None
) -> list[Bounce]:
    """Return bounces with smaller ids, newest first."""
    rows = await db.fetch(PAGE, before, campaign_id, class_, limit)
    return [msgspec.convert(dict(row), Bounce) for row in rows]


COUNT = """
SELECT count(*) FROM bounces WHERE ($1::bigint IS NULL OR campaign_id = $1) AND ($2::text IS NULL OR class = $2)
"""


async def count(db: Connection, *, campaign_id: int | None = None, class_: Class | None = None) -> int:
    """Count them."""
    counted: int = await db.fetchval(COUNT, campaign_id, class_)
    return counted
