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
) -> Written:
    """Record a batch inside the caller's transaction.

    Args:
        db: in a transaction.
        hits: opens or clicks, one or more, of any letters. Both in one transaction would hold locks in two orders.
        clock: the monotonic clock the hits' arrivals were read from; a hit happened as long before ``now`` as it is old.
        slot: this process's slot of the counters.
        early: how soon after a letter left nobody can have read it; zero where its leaving says nothing of that.
        now: PostgreSQL's time unless given.
    """
    asked = clock()
    if hits[0].link:
        return await clicks.store(db, hits, asked=asked, slot=slot, early=early, now=now)
    stored = await opens.store(
        db, [_open(n, hit, asked) for n, hit in enumerate(hits)], slot=slot, early=early, now=now
    )
    written = Written([None] * len(hits), stored.xid)
    for n, campaign_id, subscriber_id in stored.found:
        written.places[n] = Place(campaign_id, subscriber_id, None)
    return written


def _open(n: int, hit: Hit, asked: float) -> Open:
    verdict, reason, early = hit.judgement
    ip = str(hit.address) if hit.address else None
    return Open(n, hit.delivery_id, "proxied" if early else verdict, reason, ip, hit.user_agent, asked - hit.arrived)
