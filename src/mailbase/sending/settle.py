"""What becomes of the letters of a worker that died, by its journal: nobody has to guess about most of them.

Going by what the table says of a letter, and the journal::

    leased ─▶ queued
    handing_over ─┬─ its content never began ─▶ queued     the mark did not count; nobody saw anything of it
                  ├─ refused ─────────────────▶ queued     it will be refused again
                  ├─ taken ───────────────────▶ sent
                  └─ begun, no answer ────────▶ what the end of a lease makes of it (leases.expire), now
"""

import random
from collections import Counter
from pathlib import Path
from typing import Final

from mailbase.db import Connection
from mailbase.sending import records
from mailbase.sending.journal import Left, left_behind
from mailbase.sending.outcomes import Outcome
from mailbase.sending.records import Handed

HELD: Final = """
SELECT delivery.id, delivery.fence, delivery.state::text, delivery.campaign_id, COALESCE(campaign.domain_id, delivery.domain_id) AS domain_id,
    delivery.subscriber_id, delivery.provider, delivery.attempts, COALESCE(delivery.egress, 'relay') AS egress
FROM deliveries AS delivery LEFT JOIN campaigns AS campaign ON campaign.id = delivery.campaign_id
WHERE delivery.state IN ('leased', 'handing_over') AND delivery.fence = ANY($1::bigint[])
ORDER BY delivery.id
FOR UPDATE OF delivery
"""

TAKE_BACK: Final = """
UPDATE deliveries
SET attempts = GREATEST(attempts - (state::text = 'handing_over')::integer, 0), state = 'queued', lease_until = NULL
WHERE id = ANY($1::bigint[])
"""

LET_EXPIRE: Final = """
UPDATE deliveries SET lease_until = COALESCE($2, now()) WHERE id = ANY($1::bigint[])
"""

TAKEN: Final = "taken; the worker that heard it died before it was written down"


async def settle(db: Connection, folder: Path, *, slot: int) -> int:
    """Settle the letters of all workers of this machine that died and left a journal; return how many."""
    return sum([await _settle(db, left, slot=slot) for left in left_behind(folder)])


async def _settle(db: Connection, left: Left, *, slot: int) -> int:
    async with db.transaction():
        rows = await db.fetch(HELD, left.fences)
        known = {(row["id"], row["fence"]): row for row in rows}
        marked = {key for key, row in known.items() if row["state"] == "handing_over"}
        taken, begun = left.taken & marked, left.begun & marked
        await db.execute(TAKE_BACK, [id for id, _ in known.keys() - taken - begun])
        await db.execute(LET_EXPIRE, [id for id, _ in begun], None)
        by_way: dict[str, list[tuple[Handed, Outcome]]] = {}
        for key in sorted(taken):
            row = known[key]
            letter = Handed(
                row["id"], row["fence"], row["campaign_id"], row["domain_id"], row["subscriber_id"], row["provider"],
                "", None, row["attempts"], None, egress=row["egress"],
            )  # fmt: skip
            outcome = Outcome(letter.id, "sent", 250, None, TAKEN, "content")
            by_way.setdefault(letter.egress, []).append((letter, outcome))
        for results in by_way.values():
            # What the caps counted they counted in the mark.
            await records.record(db, results, slot=slot, random=random.Random(), uncapped=Counter())  # noqa: S311  (nothing to draw)
    return len(known)
