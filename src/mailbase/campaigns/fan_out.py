"""What happens to campaigns by itself, a slice at a time: any number of workers may run this at once.

    scheduled and due ─▶ sending (audience frozen) ─▶ deliveries in slices ─▶ fanned out ─▶ every delivery final: sent
    past send_until: waiting letters skipped (warmup, expired)      cancelled: waiting letters skipped (cancelled)

Each step is one transaction under the campaign's row lock, so a worker killed anywhere leaves either the whole slice, with the
cursor and the counters, or nothing of it.
"""

from datetime import datetime
from typing import Final

from mailbase.audience import selection
from mailbase.campaigns import lifecycle
from mailbase.campaigns.lifecycle import CANCELLED, SLICE
from mailbase.db import Connection, Pool
from mailbase.sending.deliveries import counters, deliveries
from mailbase.sending.warmup import take as warmup_take
from mailbase.sending.warmup import waiting

EXPIRED: Final = "expired"
WARMUP: Final = "warmup"
"""Past ``send_until`` as well, and it was the warm-up that held it."""


async def step(pool: Pool, *, now: datetime | None = None, size: int = SLICE) -> bool:
    """Do the next piece of each kind of work, ``size`` letters at most; True if there was any, so that more may be waiting."""
    worked = False
    async with pool.acquire() as db:
        for act in (_start_due, _create_slice, _expire, _clear_cancelled, _finish):
            async with db.transaction():
                worked |= await act(db, now, size)
    return worked


START_DUE = """
UPDATE campaigns SET status = 'sending', started_at = COALESCE($1, now()), audience_at = COALESCE($1, now()), updated_at = now(),
    audience_upper_id = (SELECT COALESCE(max(id), 0) FROM subscribers)
WHERE id = (
    SELECT id FROM campaigns
    WHERE status = 'scheduled' AND finished_at IS NULL AND scheduled_at <= COALESCE($1, now())
    ORDER BY scheduled_at, id LIMIT 1
    FOR NO KEY UPDATE SKIP LOCKED
)
RETURNING id
"""


async def _start_due(db: Connection, now: datetime | None, _size: int) -> bool:
    return await db.fetchval(START_DUE, now) is not None


# The least advanced first: a small campaign does not wait for a large one's last slice.
FANNING = """
SELECT id, domain_id, audience, audience_upper_id, audience_at, fan_out_after FROM campaigns
WHERE status = 'sending' AND finished_at IS NULL AND NOT fanned_out
ORDER BY fan_out_after, id LIMIT 1
FOR NO KEY UPDATE SKIP LOCKED
"""

ADVANCE = """
UPDATE campaigns SET fan_out_after = $2, fanned_out = $3 WHERE id = $1
"""


async def _create_slice(db: Connection, now: datetime | None, size: int) -> bool:
    row = await db.fetchrow(FANNING)
    if row is None:
        return False
    upper = row["audience_upper_id"]
    rule = selection.load(row["audience"])
    await selection.take_turns(db, after=row["fan_out_after"], upper=upper)
    ids = await selection.slice_of(
        db,
        rule,
        at=row["audience_at"],
        after=row["fan_out_after"],
        upper=upper,
        limit=size,
    )
    await deliveries.create_slice(db, row["id"], row["domain_id"], ids, slot=counters.own_slot(), now=now)
    done = len(ids) < size
    await db.execute(ADVANCE, row["id"], upper if done else ids[-1], done)
    return True


# One ordered look into the queue's index a campaign; an EXISTS may become a join that walks through every other one's queue. All of
# them: what is left of the first may be in the hands of a slow worker.
OVERDUE = """
SELECT id, domain_id FROM campaigns
WHERE status = 'sending' AND finished_at IS NULL AND fanned_out AND send_until <= COALESCE($1, now())
    AND COALESCE(
        (SELECT true FROM deliveries WHERE campaign_id = campaigns.id AND state = 'queued' ORDER BY provider, rank LIMIT 1),
        (SELECT true FROM deliveries WHERE campaign_id = campaigns.id AND state = 'deferred' ORDER BY provider, due_at LIMIT 1)
    )
ORDER BY id
FOR NO KEY UPDATE SKIP LOCKED
"""


async def _expire(db: Connection, now: datetime | None, size: int) -> bool:
    slot = counters.own_slot()
    for row in await db.fetch(OVERDUE, now):
        held = await warmup_take.without_room(db, row["domain_id"], list(await waiting.lanes(db, row["id"])), now=now)
        if held and await deliveries.skip_waiting(db, row["id"], WARMUP, limit=size, slot=slot, fresh_of=held):
            return True
        if await deliveries.skip_waiting(db, row["id"], EXPIRED, limit=size, slot=slot):
            return True
    return False


CLEARING = """
SELECT id FROM campaigns
WHERE status = 'cancelled' AND finished_at IS NULL
    AND COALESCE(
        (SELECT true FROM deliveries WHERE campaign_id = campaigns.id AND state = 'queued' ORDER BY provider, rank LIMIT 1),
        (SELECT true FROM deliveries WHERE campaign_id = campaigns.id AND state = 'deferred' ORDER BY provider, due_at LIMIT 1)
    )
ORDER BY id
FOR NO KEY UPDATE SKIP LOCKED
"""


async def _clear_cancelled(db: Connection, _now: datetime | None, size: int) -> bool:
    for row in await db.fetch(CLEARING):
        if await deliveries.skip_waiting(db, row["id"], CANCELLED, limit=size, slot=counters.own_slot()):
            return True
    return False


# Looked at twice: here to find candidates, then by `finish` with a snapshot that is younger than their locks.
FINISHING = """
SELECT id FROM campaigns
WHERE finished_at IS NULL AND (status = 'cancelled' OR status = 'sending' AND fanned_out)
    AND (SELECT true FROM deliveries WHERE campaign_id = campaigns.id AND state = 'queued' ORDER BY provider, rank LIMIT 1) IS NULL
    AND (SELECT true FROM deliveries WHERE campaign_id = campaigns.id AND state = 'deferred' ORDER BY provider, due_at LIMIT 1) IS NULL
ORDER BY id
FOR NO KEY UPDATE SKIP LOCKED
"""


async def _finish(db: Connection, _now: datetime | None, _size: int) -> bool:
    ids = [row["id"] for row in await db.fetch(FINISHING)]
    return bool(ids) and await lifecycle.finish(db, ids) > 0
