"""Why people leave: asked afterwards, one answer a leaving, never needed for it."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, Literal, get_args

from msgspec import Struct

from mailbase.audience import timeline
from mailbase.db import Connection
from mailbase.errors import Invalid

Reason = Literal["too_many", "not_relevant", "never_asked", "not_expected", "moved", "other"]

REASONS: Final[tuple[Reason, ...]] = get_args(Reason)
LONGEST: Final = 500


class Given(Struct):
    """One answer; of an erased person nothing but the reason is kept."""

    id: int
    subscriber_id: int | None
    campaign_id: int | None
    reason: Reason
    comment: str | None
    at: datetime


class Count(Struct):
    """How often a reason was given."""

    reason: Reason
    count: int


LEFT = """
SELECT unsubscribed_at, (SELECT campaign_id FROM deliveries WHERE id = $2 AND deliveries.subscriber_id = $1) AS campaign_id,
    (SELECT id FROM leaving_reasons WHERE leaving_reasons.subscriber_id = $1 AND at >= unsubscribed_at ORDER BY id DESC LIMIT 1) AS given
FROM subscribers WHERE id = $1 AND status IN ('unsubscribed', 'complained') FOR NO KEY UPDATE
"""

GIVE = """
INSERT INTO leaving_reasons (subscriber_id, campaign_id, reason, comment) VALUES ($1, $2, $3, $4)
"""

CHANGE = """
UPDATE leaving_reasons SET reason = $2, comment = $3 WHERE id = $1
"""


async def give(db: Connection, subscriber_id: int, reason: str, comment: str | None, *, delivery_id: int) -> None:
    """Note why somebody left; said again, it replaces what was said before.

    Raises:
        Invalid: ``invalid_option``; ``too_long``; ``not_available``, the person has not left.

    """
    text = (comment or "").replace("\0", "").strip() or None
    if reason not in REASONS:
        raise Invalid.field("reason", "invalid_option", f"A reason is one of {', '.join(REASONS)}.")
    if text is not None and len(text) > LONGEST:
        raise Invalid.field("comment", "too_long", f"At most {LONGEST} characters are kept.")
    row = await db.fetchrow(LEFT, subscriber_id, delivery_id)
    if row is None:
        raise Invalid.field("action", "not_available", "Only who has left is asked why.")
    if row["given"] is not None:
        await db.execute(CHANGE, row["given"], reason, text)
        return
    await db.execute(GIVE, subscriber_id, row["campaign_id"], reason, text)
    await timeline.note(db, subscriber_id, "leaving_reason", campaign_id=row["campaign_id"], data={"reason": reason})


COUNTS = """
SELECT reason, count(*) FROM leaving_reasons WHERE $1::bigint IS NULL OR campaign_id = $1 GROUP BY reason
"""


async def counts(db: Connection, *, campaign_id: int | None = None) -> Sequence[Count]:
    """Return how often each reason was given, the most frequent first; all of them are named."""
    found = {row["reason"]: row["count"] for row in await db.fetch(COUNTS, campaign_id)}
    return sorted((Count(reason, found.get(reason, 0)) for reason in REASONS), key=lambda count: -count.count)


PAGE = """
SELECT id, subscriber_id, campaign_id, reason, comment, at FROM leaving_reasons
WHERE ($1::bigint IS NULL OR id < $1) AND ($3::bigint IS NULL OR campaign_id = $3) AND ($4::text IS NULL OR reason = $4)
ORDER BY id DESC LIMIT $2
"""


async def page(
    db: Connection,
    *,
    limit: int,
    before: int | None = None,
    campaign_id: int | None = None,
    reason: Reason | None = None,
) -> list[Given]:
    """Return answers, newest first."""
    return [Given(**row) for row in await db.fetch(PAGE, before, limit, campaign_id, reason)]


COUNT = """
SELECT count(*) FROM leaving_reasons WHERE ($1::bigint IS NULL OR campaign_id = $1) AND ($2::text IS NULL OR reason = $2)
"""


async def count(db: Connection, *, campaign_id: int | None = None, reason: Reason | None = None) -> int:
    """Return how many answers there are."""
    total: int = await db.fetchval(COUNT, campaign_id, reason)
    return total
