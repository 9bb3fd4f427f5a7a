"""Batches: hits become rows, counters and revised verdicts in one transaction.

Hit ─▶ open ──▶ opens.store ───▶ signals, engaged, engagements, counters
   └─▶ click ─▶ clicks.store ──▶ the same
"""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from mailbase.db import Connection
from mailbase.signals import clicks, opens
from mailbase.signals.hits import Hit, Place, Written
from mailbase.signals.opens import Open
from mailbase.signals.verdicts import EARLY


async def write(
    db: Connection,
    hits: Sequence[Hit],
    *,
    clock: Callable[[], float],
    slot: int,
    early: timedelta = EARLY,
    now: datetime | None = None,
    mark: int | None = None,
) -> Written:
    """Record a batch: clicks inside the caller's transaction, opens in one statement, which needs none.

    Args:
        db: in a transaction, for clicks.
        hits: opens or clicks, one or more, of any letters. Both in one transaction would hold locks in two orders.
        clock: the monotonic clock the hits' arrivals were read from; a hit happened as long before ``now`` as it is old.
        slot: this process's slot of the counters.
        early: how soon after a letter left nobody can have read it; zero where its leaving says nothing of that.
        now: PostgreSQL's time unless given.
        mark: of opens; a batch that is sent again under the same mark is refused if it was stored (``UniqueViolationError``).
    """
    asked = clock()
    if hits[0].link:
        return await clicks.store(db, hits, asked=asked, slot=slot, early=early, now=now)
    batch = [_open(n, hit, asked) for n, hit in enumerate(hits)]
    return Written(_places(len(hits), await opens.store(db, batch, slot=slot, early=early, now=now, mark=mark)))


async def places(db: Connection, hits: Sequence[Hit]) -> list[Place | None]:
    """Return the places of opens that are stored already."""
    return _places(len(hits), await opens.find(db, [hit.delivery_id for hit in hits]))


def _places(count: int, found: opens.Found) -> list[Place | None]:
    places: list[Place | None] = [None] * count
    for n, campaign_id, subscriber_id in found:
        places[n] = Place(campaign_id, subscriber_id, None)
    return places


def _open(n: int, hit: Hit, asked: float) -> Open:
    verdict, reason, early = hit.judgement
    ip = str(hit.address) if hit.address else None
    return Open(n, hit.delivery_id, "proxied" if early else verdict, reason, ip, hit.user_agent, asked - hit.arrived)
