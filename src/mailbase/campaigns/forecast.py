"""What will happen to a campaign, said before a single letter goes out: how many, on which days, done when, held by what."""

from datetime import datetime

from msgspec import Struct

from mailbase.audience import selection
from mailbase.campaigns import campaigns, plan, progress
from mailbase.campaigns.plan import Day
from mailbase.db import Connection


class Forecast(Struct):
    """``finishes_at`` is None where nothing may go out at all, or nobody is left."""

    recipients: int
    by_day: list[Day]
    finishes_at: datetime | None
    limited_by: list[str]


async def forecast(db: Connection, campaign_id: int, *, to_outbox: bool) -> Forecast:
    """Forecast a campaign: all of it while it is not launched, what is left of it afterwards.

    ``limited_by``: ``warmup`` (today's caps), ``send_until`` (the rest will not be sent).

    Raises:
        NotFound: there is no such campaign.

    """
    held = await campaigns.look(db, campaign_id)
    campaign = held.campaign
    now: datetime = await db.fetchval("SELECT now()")
    if campaign.started_at is None:
        recipients = left = await selection.count(db, held.rule, at=now)
        start = max(campaign.scheduled_at or now, now)
    else:
        counted = await progress.count(db, held)
        recipients, left, start = counted.total, counted.left, now
    if campaign.finished_at is not None:
        left = 0
    allowance = await plan.allowance_of(db, held.domain_id, to_outbox=to_outbox)
    by_day, finishes_at = plan.plan(left, start, allowance)
    limited_by = []
    if left > plan.free(allowance, left):
        limited_by.append("warmup")
    if campaign.send_until is not None and left and (finishes_at is None or finishes_at > campaign.send_until):
        limited_by.append("send_until")
    return Forecast(recipients, by_day, finishes_at, limited_by)
