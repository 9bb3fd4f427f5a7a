"""How far a campaign has come, read from its counters: the same cost for a thousand letters and for ten million."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from msgspec import Struct

from mailbase.campaigns import limits, plan
from mailbase.campaigns.campaigns import Held
from mailbase.campaigns.limits import Lane
from mailbase.db import Connection
from mailbase.sending.providers import domain_stops
from mailbase.sending.relays import egress
from mailbase.sending.relays.egress import WayOut
from mailbase.sending.warmup import turns, warmup


class Progress(Struct):
    """``done`` of ``total`` letters are final.

    ``rate``: letters a second since the start. ``limited_by``: what holds the rest: ``paused``, ``domain`` (it is stopped),
    ``warmup``, ``relay`` (a way out takes no letters), ``provider:NAME`` (it is suspended, turned us away, or has no room),
    ``retries`` (each was refused for itself and waits for its next try). ``reason``: why the campaign was paused by itself, why its
    domain is stopped, or what the way out or the provider said. ``finishes_at``: None where nothing can leave until somebody else
    has changed their mind.
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
SELECT max(last.due_at) FROM campaign_lanes AS lane, LATERAL (
    SELECT due_at FROM deliveries WHERE campaign_id = $1 AND provider = lane.provider AND state = 'deferred' ORDER BY due_at DESC LIMIT 1
) AS last
WHERE lane.campaign_id = $1
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
    now: datetime = await db.fetchval("SELECT now()")
    rate = (counted.total - counted.left) / max((now - campaign.started_at).total_seconds(), 1.0)
    stop = await domain_stops.get(db, held.domain_id)
    ways = await egress.ways_out(db, to_outbox=to_outbox)
    stopped = [way for way in ways if way.stopped_reason is not None]
    lanes = await limits.lanes(db, campaign.id, [way.name for way in ways]) if counted.left else []
    narrow = [lane for lane in lanes if lane.narrow][: limits.NAMED]
    moves = not held.fanned_out or await limits.anything_moves(db, campaign.id, lanes)
    limited_by = ["paused"] if campaign.status == "paused" else []
    limited_by += ["domain"] if stop is not None else []
    if counted.left and await _warming(db, held, lanes, to_outbox=to_outbox):
        limited_by.append("warmup")
    limited_by += ["relay"] if stopped else []
    limited_by += [f"provider:{lane.provider}" for lane in narrow]
    if counted.left and not moves and not limited_by:
        limited_by.append("retries")
    finishes_at = None
    nowhere = len(stopped) == len(ways) or (not moves and any(lane.closed for lane in lanes))
    if counted.left and campaign.status == "sending" and stop is None and not nowhere:
        finishes_at = await _finishes_at(db, held, counted.left, now, rate if moves else 0.0, to_outbox=to_outbox)
    reasons = [
        campaign.stopped_reason,
        stop.reason if stop is not None else None,
        *(_words(way, ways) for way in stopped),
    ]
    reasons += [lane.words for lane in narrow]
    reason = next((one for one in reasons if one), None)
    return Progress(counted.total - counted.left, counted.total, round(rate, 2), finishes_at, limited_by, reason)


async def _warming(db: Connection, held: Held, lanes: Sequence[Lane], *, to_outbox: bool) -> bool:
    """Return whether the warm-up lets nothing go just now of what else might."""
    if await warmup.remaining(db, held.domain_id, to_outbox=to_outbox) == 0:
        return True
    due = [lane.provider for lane in lanes if lane.due and not lane.closed]
    return bool(due) and not await warmup.with_room(db, held.domain_id, due, to_outbox=to_outbox)


async def _finishes_at(
    db: Connection, held: Held, left: int, now: datetime, rate: float, *, to_outbox: bool
) -> datetime | None:
    """Return when the last letter leaves, as far as caps, the pace so far and the times of the next tries tell."""
    allowance = await plan.allowance_of(db, held.domain_id, to_outbox=to_outbox)
    _, at = plan.plan(left, now, allowance)
    by_provider = await plan.last_of(
        db, held.domain_id, await _waiting(db, held.campaign.id, left), now, to_outbox=to_outbox
    )
    if at is None or by_provider is None:
        return None
    at = max(at, by_provider)
    if rate > 0:
        at = max(at, now + timedelta(seconds=left / rate))
    last: datetime | None = await db.fetchval(LAST_TRY, held.campaign.id)
    return at if last is None else max(at, last)


async def _waiting(db: Connection, campaign_id: int, left: int) -> dict[str, int]:
    """Return about how many letters wait for each of the providers with most of them: counting them would read them all."""
    found = await turns.of_campaign(db, campaign_id)
    waiting = {provider: max(turn.letters - turn.gone, 0) for provider, turn in found.items()}
    whole = sum(waiting.values())
    largest = sorted(waiting, key=lambda provider: -waiting[provider])[: limits.MOST]
    return {provider: n for provider in largest if (n := waiting[provider] * left // max(whole, 1))}


def _words(way: WayOut, ways: Sequence[WayOut]) -> str | None:
    """Return what a way out said, with its name where there are several."""
    return f"{way.name}: {way.stopped_reason}" if len(ways) > 1 else way.stopped_reason
