"""What will happen to a campaign, said before a single letter goes out: how many, on which days, done when, held by what."""

from datetime import date, datetime

from msgspec import Struct

from mailbase.audience import selection
from mailbase.campaigns import campaigns, plan, progress
from mailbase.campaigns.campaigns import Held
from mailbase.campaigns.plan import Day
from mailbase.db import Connection
from mailbase.sending.warmup import turns
from mailbase.sending.warmup.outlook import outlook


class GrowingDay(Struct, frozen=True):
    """One UTC day as it goes if all is well. ``limited_by``: the providers whose caps hold letters back; ``*`` the total."""

    date: date
    count: int
    cap: int | None
    by_provider: dict[str, int]
    limited_by: list[str]


class Growing(Struct):
    """What happens if each day goes well, so that the caps rise as the warm-up has it."""

    by_day: list[GrowingDay]
    finishes_at: datetime | None


class Forecast(Struct):
    """``finishes_at`` is None where nothing may go out at all, or nobody is left. ``by_day`` is at today's caps."""

    recipients: int
    by_day: list[Day]
    finishes_at: datetime | None
    limited_by: list[str]
    growing: Growing


async def forecast(db: Connection, campaign_id: int, *, to_outbox: bool) -> Forecast:
    """Forecast a campaign: all of it while it is not launched, what is left of it afterwards.

    ``limited_by``: ``warmup`` (today's caps), ``send_until`` (the rest will not be sent).

    Raises:
        NotFound: there is no such campaign.

    """
    held = await campaigns.look(db, campaign_id)
    campaign = held.campaign
    now: datetime = await db.fetchval("SELECT now()")
    gone: dict[str, int] = {}
    if campaign.started_at is None:
        demand = await selection.count_by_provider(db, held.rule, at=now)
        recipients = left = sum(demand.values())
        start = max(campaign.scheduled_at or now, now)
    else:
        counted = await progress.count(db, held)
        recipients, left, start = counted.total, counted.left, now
        demand, gone = await _waiting(db, campaign_id, left)
    if campaign.finished_at is not None:
        left, demand = 0, {}
    allowance = await plan.allowance_of(db, held.domain_id, to_outbox=to_outbox)
    by_day, finishes_at = await _at_todays_caps(db, held, demand, start, allowance, to_outbox=to_outbox)
    growing = await outlook(db, held.domain_id, demand, start, to_outbox=to_outbox, grow=True, gone=gone)
    days = [GrowingDay(day.date, day.count, day.cap, day.by_provider, day.limited_by) for day in growing.days]
    limited_by = []
    if left > plan.free(allowance, left) or len(by_day) > 1 or any(day.limited_by for day in days):
        limited_by.append("warmup")
    if campaign.send_until is not None and left and (finishes_at is None or finishes_at > campaign.send_until):
        limited_by.append("send_until")
    return Forecast(recipients, by_day, finishes_at, limited_by, Growing(days, growing.finishes_at))


async def _waiting(db: Connection, campaign_id: int, left: int) -> tuple[dict[str, int], dict[str, int]]:
    """Return about how many letters wait for each provider, and how many are gone: counting them would read them all."""
    found = await turns.of_campaign(db, campaign_id)
    waiting = {provider: max(turn.letters - turn.gone, 0) for provider, turn in found.items()}
    whole = sum(waiting.values())
    if not left or not whole:
        return ({"other": left} if left else {}), {}
    demand = {provider: n * left // whole for provider, n in waiting.items()}
    largest = max(waiting, key=lambda provider: waiting[provider])
    demand[largest] += left - sum(demand.values())
    return demand, {provider: turn.gone for provider, turn in found.items()}


async def _at_todays_caps(
    db: Connection, held: Held, demand: dict[str, int], start: datetime, allowance: plan.Allowance, *, to_outbox: bool
) -> tuple[list[Day], datetime | None]:
    left = sum(demand.values())
    by_total = plan.plan(left, start, allowance)
    if not left or allowance.limit == 0:
        return by_total
    frozen = await outlook(db, held.domain_id, demand, start, to_outbox=to_outbox, grow=False, spread=False)
    days = [Day(day.date, day.count) for day in frozen.days]
    # Longer than is played by day, the total cap tells how long.
    return (days, frozen.finishes_at) if sum(day.count for day in days) == left else by_total
