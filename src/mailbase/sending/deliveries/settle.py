"""What becomes of the letters of a worker that died, by its journal: nobody has to guess about most of them.

Going by what the table says of a letter, and the journal::

    claimed, not marked ─▶ free
    marked ─┬─ its content never began ─▶ free       the mark did not count; nobody saw anything of it
            ├─ refused ─────────────────▶ free       it will be refused again
            ├─ taken ───────────────────▶ sent
            └─ begun, no answer ────────▶ what the end of a lease makes of it (leases.expire), now

The same where its lease ended before the journal was found, and the letter is in doubt for that: busy machines are late.
"""

import logging
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import asyncpg
from asyncpg import Record

from mailbase.db import CONNECTION_ERRORS, Connection
from mailbase.sending.deliveries import counters, journal, records
from mailbase.sending.deliveries.deliveries import moved
from mailbase.sending.deliveries.journal import Key, Left
from mailbase.sending.deliveries.records import Handed
from mailbase.sending.outcomes import Outcome

log = logging.getLogger(__name__)

HELD: Final = """
SELECT fence, egress, ids[:marked] AS marked, cardinality(ids) AS letters FROM claims WHERE fence = ANY($1::bigint[]) ORDER BY fence FOR UPDATE
"""

SEND_BACK: Final = """
UPDATE claims SET aside = aside || ARRAY(
    SELECT id FROM unnest(ids) AS id
    WHERE (id, fence) NOT IN (SELECT * FROM unnest($2::bigint[], $3::bigint[])))
WHERE fence = ANY($1::bigint[])
"""

TAKEN_ONES: Final = """
SELECT delivery.id, letter.fence, delivery.campaign_id, COALESCE(campaign.domain_id, delivery.domain_id) AS domain_id,
    delivery.subscriber_id, delivery.provider, delivery.attempts
FROM unnest($1::bigint[], $2::bigint[]) AS letter (id, fence)
JOIN deliveries AS delivery ON delivery.id = letter.id
LEFT JOIN campaigns AS campaign ON campaign.id = delivery.campaign_id
WHERE delivery.state::text IN ('queued', 'deferred')
ORDER BY delivery.id
FOR UPDATE OF delivery
"""

# Nothing comes back to the queue of a campaign that is over; none ends while this goes on. Before all else: that is the order of locks.
OPEN: Final = """
SELECT id FROM campaigns WHERE finished_at IS NULL AND id IN (
    SELECT campaign_id FROM deliveries WHERE state = 'unknown' AND reason = 'worker_died' AND fence = ANY($1::bigint[])
)
ORDER BY id
FOR SHARE
"""

DOUBTED: Final = """
SELECT delivery.id, delivery.fence, delivery.campaign_id, delivery.provider FROM deliveries AS delivery
WHERE delivery.state = 'unknown' AND delivery.reason = 'worker_died' AND delivery.fence = ANY($1::bigint[])
ORDER BY delivery.id
FOR UPDATE OF delivery
"""

DOUBT_NO_MORE: Final = """
UPDATE deliveries SET state = 'queued', reason = NULL, attempts = GREATEST(attempts - 1, 0) WHERE id = ANY($1::bigint[])
"""

LATE_ONES: Final = """
SELECT delivery.id, letter.fence, delivery.campaign_id, COALESCE(campaign.domain_id, delivery.domain_id) AS domain_id,
    delivery.subscriber_id, delivery.provider, delivery.attempts - 1 AS attempts, COALESCE(delivery.egress, 'relay') AS egress
FROM unnest($1::bigint[], $2::bigint[]) AS letter (id, fence)
JOIN deliveries AS delivery ON delivery.id = letter.id AND delivery.fence = letter.fence
LEFT JOIN campaigns AS campaign ON campaign.id = delivery.campaign_id
WHERE delivery.state::text IN ('unknown', 'queued')
ORDER BY delivery.id
FOR UPDATE OF delivery
"""

LET_EXPIRE: Final = """
UPDATE claims SET until = '-infinity' WHERE fence = ANY($1::bigint[])
"""

TAKEN: Final = "taken; the worker that heard it died before it was written down"


async def settle(db: Connection, folder: Path, *, slot: int) -> int:
    """Settle the letters of all workers of this machine that died and left a journal; return how many.

    A journal nobody can make sense of is put aside: the ends of its leases decide then.
    """
    letters = 0
    for path in journal.found(folder):
        try:
            with journal.left_behind(path) as left:
                if left is not None:
                    letters += await _settle(db, left, slot=slot)
        except (*CONNECTION_ERRORS, asyncpg.TransactionRollbackError, asyncpg.OperatorInterventionError):
            raise
        except Exception:
            log.exception("%s cannot be settled; its worker's leases end as without it", path.name)
            journal.set_aside(path)
    return letters


async def _settle(db: Connection, left: Left, *, slot: int) -> int:
    async with db.transaction():
        still_open = [row["id"] for row in await db.fetch(OPEN, left.fences)]
        held = await db.fetch(HELD, left.fences)
        marked = {(id, row["fence"]) for row in held for id in row["marked"]}
        taken, begun = left.taken & marked, left.begun & marked
        fences = [row["fence"] for row in held]
        await db.execute(SEND_BACK, fences, *_columns(taken | begun))
        ways = {row["fence"]: row["egress"] for row in held}
        heard = [(row, ways[row["fence"]]) for row in await db.fetch(TAKEN_ONES, *_columns(taken))]
        heard += [(row, row["egress"]) for row in await db.fetch(LATE_ONES, *_columns(left.taken - marked))]
        await _record(db, heard, slot=slot)
        doubted = await _doubt_no_more(db, left, still_open, slot=slot)
        await db.execute(LET_EXPIRE, fences)
    letters: int = sum(row["letters"] for row in held)
    return letters + doubted


async def _record(db: Connection, heard: Iterable[tuple[Record, str]], *, slot: int) -> None:
    """Record that letters were taken, as their worker would have."""
    by_way: dict[str, list[tuple[Handed, Outcome]]] = {}
    for row, egress in heard:
        letter = Handed(
            row["id"], row["fence"], row["campaign_id"], row["domain_id"], row["subscriber_id"], row["provider"],
            "", None, row["attempts"] + 1, None, egress=egress,
        )  # fmt: skip
        by_way.setdefault(egress, []).append((letter, Outcome(letter.id, "sent", 250, None, TAKEN, "content")))
    for results in by_way.values():
        # What the caps counted they counted in the mark.
        await records.record(db, results, slot=slot, random=random.Random(), uncapped=Counter())  # noqa: S311  (nothing to draw)


async def _doubt_no_more(db: Connection, left: Left, still_open: Sequence[int], *, slot: int) -> int:
    """Put letters back into the queue whose lease ended although their content never began; return how many."""
    rows = [
        row
        for row in await db.fetch(DOUBTED, left.fences)
        if row["campaign_id"] in still_open and (row["id"], row["fence"]) not in left.begun
    ]
    await db.execute(DOUBT_NO_MORE, [row["id"] for row in rows])
    changes = [change for row in rows for change in moved(row["campaign_id"], row["provider"], "unknown", "queued")]
    await counters.add(db, changes, slot=slot)
    return len(rows)


def _columns(keys: Iterable[Key]) -> tuple[list[int], list[int]]:
    ordered = sorted(keys)
    return [id for id, _ in ordered], [fence for _, fence in ordered]
