"""The deliveries of one campaign, one by one: what became of each letter."""

from datetime import datetime
from typing import Literal

from msgspec import Struct

from mailbase.db import Connection

Shown = Literal["queued", "sent", "deferred", "failed", "bounced", "unknown", "skipped"]


class Delivery(Struct, kw_only=True):
    """One letter's fate; ``queued`` is also what a worker holds just now. An erased person is not named any more."""

    id: int
    subscriber_id: int | None
    email: str | None
    status: Shown
    reason: str | None
    provider: str
    attempts: int
    last_reply: str | None
    next_attempt_at: datetime | None
    sent_at: datetime | None


LIST = """
SELECT delivery.id, subscriber_id, subscriber.email,
    state::text AS status,
    reason, provider, attempts, last_reply, CASE WHEN state IN ('queued', 'deferred') THEN due_at END AS next_attempt_at, sent_at
FROM deliveries AS delivery LEFT JOIN subscribers AS subscriber ON subscriber.id = delivery.subscriber_id
WHERE campaign_id = $1 AND delivery.id < $2
    AND ($3::text IS NULL OR state::text = $3)
ORDER BY delivery.id DESC LIMIT $4
"""


async def page(
    db: Connection, campaign_id: int, *, before: int, limit: int, status: Shown | None = None
) -> list[Delivery]:
    """Return a campaign's deliveries with an id below ``before``, newest first."""
    return [Delivery(**row) for row in await db.fetch(LIST, campaign_id, before, status, limit)]


COUNT = """
SELECT count(*) FROM deliveries
WHERE campaign_id = $1 AND ($2::text IS NULL OR state::text = $2)
"""


async def count(db: Connection, campaign_id: int, *, status: Shown | None = None) -> int:
    """Return how many there are."""
    total: int = await db.fetchval(COUNT, campaign_id, status)
    return total
