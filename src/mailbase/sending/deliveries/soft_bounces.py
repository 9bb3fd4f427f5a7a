"""Soft bounces: one says nothing about an address; five days of them with no success in between end it.

A letter's day is the day it was handed over, not the day its report came: five reports read in one morning may be of five
days, and five letters of one morning are of one. A letter that went out and did not come back, before the one reported now, is
the success that starts the count anew; those after it may still come back and count for nothing yet.
"""

from typing import Final

from mailbase.audience import subscribers
from mailbase.db import Connection

DAYS: Final = 5

COUNT = """
SELECT count(DISTINCT (COALESCE(delivery.sent_at, bounce.at) AT TIME ZONE 'UTC')::date)
FROM bounces AS bounce
LEFT JOIN deliveries AS delivery ON delivery.id = bounce.delivery_id
WHERE bounce.subscriber_id = $1 AND bounce.class = 'soft' AND bounce.delivery_id > COALESCE(
    (SELECT max(id) FROM deliveries WHERE subscriber_id = $1 AND id < $2 AND state = 'sent'), 0)
"""


async def judge(db: Connection, subscriber_id: int, *, delivery_id: int, campaign_id: int | None) -> bool:
    """End a person whose soft bounces, the one of this letter included, are of too many days; True if that was news.

    Called in the transaction that stored the bounce, with the letter's row held.
    """
    days: int = await db.fetchval(COUNT, subscriber_id, delivery_id)
    if days < DAYS:
        return False
    return await subscribers.mark_bounced(
        db, subscriber_id, delivery_id=delivery_id, campaign_id=campaign_id, reason="soft_bounces"
    )
