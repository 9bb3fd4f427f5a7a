"""How far a campaign has come, read from its counters: the same cost for a thousand letters and for ten million."""

from datetime import datetime, timedelta

from msgspec import Struct

from mailbase.campaigns import plan
from mailbase.campaigns.campaigns import Held
from mailbase.db import Connection
from mailbase.sending.providers import domain_stops
from mailbase.sending.relays import egress
from mailbase.sending.warmup import warmup


class Progress(Struct):
    """``done`` of ``total`` letters are final.

    ``rate``: letters a second since the start. ``limited_by``: what holds the rest: ``paused``, ``domain`` (it is stopped),
    ``warmup``, ``relay``; ``reason``: why the campaign was paused by itself, why its domain is stopped, or what the relay says.
    """

    done: int
    total: int
    rate: float
    finishes_at: datetime | None
    limited_by: list[str]
    reason: str | None = None


class Count(Struct, frozen=True):
    """Letters of a campaign: all of them, and those still to go."""

    total: int
    left: int


COUNT = """
SELECT COALESCE(sum(n), 0)::bigint AS total,
    COALESCE(sum(n) FILTER (WHERE key IN ('delivery.queued', 'delivery.deferred')), 0)::bigint AS left
FROM counters
WHERE campaign_id = $1
    AND key IN ('delivery.queued', 'delivery.sent', 'delivery.deferred', 'delivery.failed', 'delivery.bounced', 'delivery.unknown', 'delivery.skipped')
"""


LAST_TRY = """
SELECT max(last.due_at) FROM providers, LATERAL (
    SELECT due_at FROM deliveries WHERE campaign_id = $1 AND provider = providers.name AND state = 'deferred' ORDER BY due_at DESC LIMIT 1
) AS last
"""


async def count(db: Connection, held: Held) -> Count:
    """Count a launched campaign's letters; until its fan-out is done, those expected at the launch are still to go."""
    row = (await db.fetch(COUNT, held.campaign.id))[0]
    open_ended = not held.fanned_out and held.campaign.status in {"sending", "paused"}
    total = max(held.expected or 0, row["total"]) if open_ended else row["total"]
    return Count(total, row["left"] + total - row["total"])


async def progress(db: Connection, held: Held, *, to_outbox: bool) -> Progress | None:
    """Return a campaign's progress while it is sending, or paused in it; else None."""
    campaign = held.campaign
    if campaign.started_at is None or campaign.status not in {"sending", "paused"}:
        return None
    counted = await count(db, held)
    done = counted.total - counted.left
    now: datetime = await db.fetchval("SELECT now()")
    elapsed = max((now - campaign.started_at).total_seconds(), 1.0)
    rate = done / elapsed
    limited_by = []
    if campaign.status == "paused":
        limited_by.append("paused")
    stop = await domain_stops.get(db, held.domain_id)
    if stop is not None:
        limited_by.append("domain")
    if counted.left and await warmup.remaining(db, held.domain_id, to_outbox=to_outbox) == 0:
        limited_by.append("warmup")
    way_out = await egress.get(db, "outbox" if to_outbox else "relay")
    if way_out.failures:
        limited_by.append("relay")
    finishes_at = None
    if counted.left and campaign.status == "sending" and stop is None and not way_out.failures:
        allowance = await plan.allowance_of(db, held.domain_id, to_outbox=to_outbox)
        _, finishes_at = plan.plan(counted.left, now, allowance)
        if finishes_at is not None and done:
            finishes_at = max(finishes_at, now + timedelta(seconds=counted.left / rate))
        if finishes_at is not None and (last := await db.fetchval(LAST_TRY, campaign.id)) is not None:
            finishes_at = max(finishes_at, last)
    reason = campaign.stopped_reason or (stop.reason if stop is not None else way_out.reason)
    return Progress(done, counted.total, round(rate, 2), finishes_at, limited_by, reason)
