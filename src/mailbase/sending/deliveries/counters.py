"""Counters: everything statistics read, moved in the transaction of the rows they count.

A row is (campaign, key, slot); the sum over slots is the number. Writers each have a slot, and always write in
(campaign, key) order, so that two of them neither wait for each other nor deadlock.

Keys: ``delivery.{queued,sent,deferred,failed,bounced,unknown,skipped}``,
``bounce.{hard,soft,block}``, ``provider.{name}.{sent,bounced,deferred}``, ``open.…``, ``click.…``, ``link.{n}.…``,
``hour.{epoch seconds}.…``, ``unsubscribes``, ``complaints``.
"""

import os
from collections.abc import Iterable
from datetime import datetime
from typing import Final

from mailbase.db import Connection

SLOTS: Final = 16

ADD = """
INSERT INTO counters (campaign_id, key, slot, n)
SELECT campaign_id, key, $4, n
FROM unnest($1::bigint[], $2::text[], $3::bigint[]) AS change (campaign_id, key, n)
ON CONFLICT (campaign_id, key, slot) DO UPDATE SET n = counters.n + excluded.n
"""


def own_slot() -> int:
    """Return this process's slot."""
    return os.getpid() % SLOTS


async def add(db: Connection, changes: Iterable[tuple[int, str, int]], *, slot: int) -> None:
    """Add each (campaign id, key, n), summed, in key order, in one statement. ``n`` may be negative."""
    sums: dict[tuple[int, str], int] = {}
    for campaign_id, key, n in changes:
        sums[campaign_id, key] = sums.get((campaign_id, key), 0) + n
    # The order of rows is the order of locks.
    moved = sorted((campaign_id, key, n) for (campaign_id, key), n in sums.items() if n)
    if moved:
        ids, keys, numbers = zip(*moved, strict=True)
        await db.execute(ADD, ids, keys, numbers, slot)


# Hours are nearly all of a campaign's counters. Nobody moves one any more once it is over, so this waits for no writer.
GATHER = """
WITH old AS (
    DELETE FROM counters
     WHERE key LIKE 'hour.%' AND slot <> 0 AND split_part(key, '.', 2)::bigint < extract(epoch FROM coalesce($1, now())) - 2 * 86400
    RETURNING campaign_id, key, n
)
INSERT INTO counters (campaign_id, key, slot, n)
SELECT campaign_id, key, 0, sum(n)::bigint FROM old GROUP BY campaign_id, key ORDER BY campaign_id, key COLLATE "C"
ON CONFLICT (campaign_id, key, slot) DO UPDATE SET n = counters.n + excluded.n
"""


async def gather(db: Connection, now: datetime | None = None) -> int:
    """Put the slots of hours that are over for a day or more together in one row each; return how many rows that makes."""
    return int((await db.execute(GATHER, now)).rpartition(" ")[2])
