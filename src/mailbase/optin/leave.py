"""Leaving everything: by the one-click header of a letter, its link's page, or the preference centre.

Twice is fine. It counts once, for the campaign whose letter it was.
"""

from mailbase.audience import subscribers
from mailbase.db import Connection
from mailbase.sending.deliveries import counters
from mailbase.sending.warmup import tally as warmup_tally

CAMPAIGN = """
SELECT campaign_id FROM deliveries WHERE id = $1 AND subscriber_id = $2
"""


async def leave(db: Connection, subscriber_id: int, *, delivery_id: int, source: str) -> bool:
    """Unsubscribe a person; True if that changed something. ``delivery_id`` 0: by no letter of ours."""
    campaign_id: int | None = await db.fetchval(CAMPAIGN, delivery_id, subscriber_id) if delivery_id else None
    if campaign_id is not None:
        await warmup_tally.heard(db, delivery_id, "unsubscribed")
    changed = await subscribers.unsubscribe(
        db, subscriber_id, campaign_id=campaign_id, delivery_id=delivery_id or None, source=source
    )
    if changed and campaign_id is not None:
        await counters.add(db, [(campaign_id, "unsubscribes", 1)], slot=counters.own_slot())
    return changed
